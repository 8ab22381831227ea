//! The layer that authenticates the caller of each call, after the check of capacity and before the message is read.
//! The pipeline of an rpc decides about a caller without an identity; for health and reflection the layer does.

use std::{
    future::Future,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
};

use http::{HeaderMap, Request, Response, header::AUTHORIZATION};
use http_body::Body;
use tonic::Status;
use tower::{Layer, Service};

use super::{
    acceptor::Peer,
    load_shed::{LoadShed, Overloaded},
    message_timeout::{NoMessage, PendingMessages},
    metadata,
    method_kind::MethodKind,
    response_body::HeldPermit,
    tls::Tls,
};
use crate::{
    access::{
        Credentials, authentication_error::AuthenticationError, certificate::PeerCertificate,
        refusals::Kind,
    },
    config::{Audience, Server as Settings},
    error::Failure,
    service::{
        Shared,
        call_context::{BAD_TIMEOUT, CallContext},
        transport_errors,
    },
};

/// The message of the log line.
const CERTIFICATE_REFUSED: &str = "a client certificate was refused";

/// The layer.
#[derive(Clone)]
pub struct AuthenticationLayer(Arc<Authentication>);

struct Authentication {
    shared: Arc<Shared>,
    tls: Option<Arc<Tls>>,
    health: Audience,
    reflection: Audience,
    load_shed: LoadShed,
    pending: PendingMessages,
}

impl AuthenticationLayer {
    /// Creates the layer of a server with these settings.
    pub fn new(shared: Arc<Shared>, tls: Option<Arc<Tls>>, settings: &Settings) -> Self {
        Self(Arc::new(Authentication {
            shared,
            tls,
            health: settings.health,
            reflection: settings.reflection().unwrap_or(Audience::Identified),
            load_shed: LoadShed::default(),
            pending: PendingMessages::new(settings.limits.max_concurrent_calls as usize),
        }))
    }
}

impl<S> Layer<S> for AuthenticationLayer {
    type Service = AuthenticationService<S>;

    fn layer(&self, inner: S) -> AuthenticationService<S> {
        let authentication = Arc::clone(&self.0);
        AuthenticationService {
            inner,
            authentication,
        }
    }
}

/// The service that the layer creates.
#[derive(Clone)]
pub struct AuthenticationService<S> {
    inner: S,
    authentication: Arc<Authentication>,
}

impl<S, Q, B> Service<Request<Q>> for AuthenticationService<S>
where
    S: Service<Request<Q>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
    Q: Send + 'static,
    B: Body + Default + Send,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Q>) -> Self::Future {
        // `poll_ready` was called on this service and not on its clone.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let this = Arc::clone(&self.authentication);
        let path = request.uri().path().to_owned();
        let kind = MethodKind::of(&path);
        let admitted = this
            .load_shed
            .admit(kind, request.extensions(), &this.shared);
        if kind == MethodKind::Unknown && admitted.is_ok() {
            return Box::pin(inner.call(request));
        }
        Box::pin(async move {
            // No other part of the server holds a reference yet.
            let call = request.extensions_mut().remove::<Arc<CallContext>>();
            let call = call.map_or_else(CallContext::default, Arc::unwrap_or_clone);
            let permit = match admitted {
                Ok(permit) => permit,
                Err(Overloaded) => return Ok(overloaded(&this.shared, &path, &call)),
            };
            match kind {
                MethodKind::Health => {
                    let call = (call, this.health);
                    this.open_service(inner, request, &path, call, permit).await
                }
                MethodKind::Reflection => {
                    let call = (call, this.reflection);
                    this.open_service(inner, request, &path, call, permit).await
                }
                _ => this.rpc(inner, request, &path, call).await,
            }
        })
    }
}

impl Authentication {
    /// Calls an rpc with the identity of its caller, or refuses it if its message cannot be read.
    async fn rpc<S, Q, B>(
        &self,
        mut inner: S,
        mut request: Request<Q>,
        path: &str,
        mut call: CallContext,
    ) -> Result<Response<B>, S::Error>
    where
        S: Service<Request<Q>, Response = Response<B>>,
        B: Default,
    {
        let shared = &*self.shared;
        let violation = metadata::violation(&request);
        let credentials = self.credentials(&request, &call);
        let peer = request.extensions().get::<Peer>();
        let pending = self.pending.add(peer.map(|peer| peer.address.ip()));
        tokio::select! {
            () = self.authenticate(credentials, &mut call) => {}
            () = pending.evicted() => return Ok(overloaded(shared, path, &call)),
        }
        if let Some(violation) = violation {
            let refusal = transport_errors::invalid(shared, path, &call, violation).await;
            return Ok(refusal.into_http());
        }
        let call = Arc::new(call);
        request.extensions_mut().insert(Arc::clone(&call));
        let mut response = pin!(inner.call(request));
        let no_message = tokio::select! {
            response = &mut response => {
                return Ok(with_details(shared, path, &call, response?).await);
            }
            no_message = pending.missed(&call) => no_message,
        };
        Ok(match no_message {
            NoMessage::Evicted => overloaded(shared, path, &call),
            NoMessage::TimedOut => transport_errors::message_timed_out(shared, path, &call)
                .await
                .into_http(),
        })
    }

    /// Calls health or reflection, if the caller belongs to its audience. A call that was admitted continues to its
    /// end, even if the identity of its caller expires.
    async fn open_service<S, Q, B>(
        &self,
        mut inner: S,
        mut request: Request<Q>,
        path: &str,
        (mut call, audience): (CallContext, Audience),
        permit: Option<HeldPermit>,
    ) -> Result<Response<B>, S::Error>
    where
        S: Service<Request<Q>, Response = Response<B>>,
        B: Default,
    {
        let shared = &*self.shared;
        let violation = metadata::violation(&request);
        if audience == Audience::Identified {
            let credentials = self.credentials(&request, &call);
            self.authenticate(credentials, &mut call).await;
            if let Err(cause) = call.caller {
                let failure = Failure::unidentified(cause.as_str());
                let refusal =
                    transport_errors::refuse(shared, path, &call, failure, cause.as_str());
                return Ok(refusal.await.into_http());
            }
        }
        let bad_timeout = call.deadline.is_none().then_some(BAD_TIMEOUT);
        if let Some(violation) = violation.or(bad_timeout) {
            let refusal = transport_errors::invalid(shared, path, &call, violation).await;
            return Ok(refusal.into_http());
        }
        let call = Arc::new(call);
        request.extensions_mut().insert(Arc::clone(&call));
        let mut response = with_details(shared, path, &call, inner.call(request).await?).await;
        if let Some(permit) = permit {
            response.extensions_mut().insert(permit);
        }
        Ok(response)
    }

    /// Sets the identity of the caller, or the reason why there is none.
    async fn authenticate(&self, credentials: Credentials, call: &mut CallContext) {
        let access = Arc::clone(&self.shared.access());
        call.caller = access.authenticate(credentials, call.time_limit()).await;
        if let Err(cause) = call.caller {
            self.shared.metrics.unidentified(cause.as_str());
        }
    }

    /// Returns the credentials of the connection and of the request.
    fn credentials<Q>(&self, request: &Request<Q>, call: &CallContext) -> Credentials {
        let peer = request.extensions().get::<Peer>();
        let certificate = peer.and_then(|peer| peer.certificate.clone());
        let token = bearer_token(request.headers());
        // The authorities that verified the certificate may have changed since the handshake.
        let check = |certificate: Arc<PeerCertificate>| {
            let tls = self.tls.as_ref();
            let checked = tls.map_or(Ok(()), |tls| tls.check(&certificate));
            checked.map(|()| certificate).map_err(|(cause, why)| {
                // If there is a token, the certificate does not matter.
                if token.is_none() {
                    self.log_refused_certificate(cause, &why, call);
                }
                cause
            })
        };
        Credentials {
            certificate: certificate.map(check),
            token,
        }
    }

    fn log_refused_certificate(&self, cause: AuthenticationError, why: &str, call: &CallContext) {
        let cause = cause.as_str();
        let kind = Kind::logged(CERTIFICATE_REFUSED, cause);
        if self.shared.refusals.admit(call.peer_address(), None, kind) {
            tracing::info!(
                request_id = call.request_id,
                peer = call.peer.map(display),
                cause,
                why,
                "{CERTIFICATE_REFUSED}"
            );
        }
    }
}

/// Returns the response, or a refusal with details in place of one that the transport made.
async fn with_details<B: Default>(
    shared: &Shared,
    path: &str,
    call: &CallContext,
    response: Response<B>,
) -> Response<B> {
    let refusal = transport_errors::answer(shared, path, call, response.headers()).await;
    refusal.map_or(response, Status::into_http)
}

fn overloaded<B: Default>(shared: &Shared, path: &str, call: &CallContext) -> Response<B> {
    transport_errors::overloaded(shared, path, call).into_http()
}

/// Returns the bearer token of the only `authorization` header (RFC 6750, section 2.1), or `None` without such a header.
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
