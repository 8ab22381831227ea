//! Reads the credentials of a call: the certificate of its connection and its bearer token.

use std::sync::Arc;

use http::{HeaderMap, Request, header::AUTHORIZATION};

use super::{acceptor::Peer, tls::Tls};
use crate::{
    access::{
        Credentials, authentication_error::AuthenticationError, certificate::PeerCertificate,
        refusals::Kind,
    },
    service::{Shared, call_context::CallContext},
};

const CERTIFICATE_REFUSED: &str = "client certificate refused";

/// Returns the credentials of a request. Logs a refused certificate if the request has no token.
pub(super) fn credentials<B>(
    request: &Request<B>,
    tls: Option<&Tls>,
    shared: &Shared,
    call: &CallContext,
) -> Credentials {
    let peer = request.extensions().get::<Peer>();
    let certificate = peer.and_then(|peer| peer.certificate.clone());
    let token = bearer_token(request.headers());
    // The authorities that verified the certificate may have changed since the handshake.
    let check = |certificate: Arc<PeerCertificate>| {
        let checked = tls.map_or(Ok(()), |tls| tls.check(&certificate));
        checked.map(|()| certificate).map_err(|(cause, why)| {
            // If token issuers are configured, a token takes precedence over the certificate.
            if token.is_none() {
                log_refused_certificate(shared, call, cause.as_str(), &why);
            }
            cause
        })
    };
    Credentials {
        certificate: certificate.map(check),
        token,
    }
}

fn log_refused_certificate(shared: &Shared, call: &CallContext, cause: &'static str, why: &str) {
    let kind = Kind::logged(CERTIFICATE_REFUSED, cause);
    if shared
        .refusals
        .should_report(call.peer_address(), None, kind)
    {
        tracing::info!(
            request_id = &*call.request_id,
            peer = call.peer(),
            cause,
            error = why,
            "{CERTIFICATE_REFUSED}"
        );
    }
}

/// Returns the bearer token of the only `authorization` header (RFC 6750, section 2.1), or `None` without such a
/// header. Returns an error if there are several such headers, or if the header holds no bearer token.
fn bearer_token(headers: &HeaderMap) -> Option<Result<String, AuthenticationError>> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next()?;
    let token = value
        .to_str()
        .ok()
        .filter(|_| values.next().is_none())
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim().to_owned());
    Some(token.ok_or(AuthenticationError::NoBearerToken))
}
