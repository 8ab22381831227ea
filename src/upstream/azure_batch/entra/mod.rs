//! Microsoft Entra access tokens: obtained from a token endpoint through `azure_identity`, or from the Azure CLI.

mod azure_cli;
pub mod causes;
mod document;
mod endpoint;
mod federated;
mod source;
mod token;

pub use self::{
    source::TokenSource,
    token::{TOKEN, Token},
};
