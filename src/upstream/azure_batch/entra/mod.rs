//! Microsoft Entra access tokens: obtained from a token endpoint through `azure_identity`, or from the Azure CLI.

mod azure_cli;
pub mod causes;
mod document;
mod endpoint;
mod federated;
mod on_behalf_of;
mod source;
mod token;
mod token_exchange;

pub use self::{
    on_behalf_of::{OnBehalfOf, PersonTokens},
    source::TokenSource,
    token::{TOKEN, Token},
};
