//! Reads the key sets of token issuers, with the HTTP client for upstreams.

use std::{sync::Arc, time::Duration};

use crate::{
    access::token::KeySource,
    client_tls::Trust,
    config::{Jwks, JwtIssuer},
    metrics::Metrics,
    upstream::{
        client::{Client, HTTP_2_OR_1},
        deadline::Deadline,
    },
};

const TIMEOUT: Duration = Duration::from_secs(5);

/// Returns the source of an issuer's keys. Fails if no client for its URL can be created.
pub(super) fn source(issuer: &JwtIssuer, metrics: &Metrics) -> Result<KeySource, String> {
    let (url, roots) = match &issuer.jwks {
        Jwks::File(path) => return Ok(KeySource::File(path.clone())),
        Jwks::Url { url, roots } => (url.clone(), roots),
    };
    let requests = metrics.upstreams.requests("jwks", &issuer.issuer);
    let client = Client::new(&url, Trust::AddToSystem, roots, HTTP_2_OR_1, requests)?;
    Ok(KeySource::Url(Arc::new(move || {
        let (client, url) = (client.clone(), url.clone());
        Box::pin(async move { client.document(&url, &Deadline::after(TIMEOUT)).await })
    })))
}
