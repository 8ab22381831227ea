//! The layer that asks who calls, if there is room for a call. What it finds goes with the call, whose pipeline decides. What never reaches a
//! pipeline is decided here: health, reflection, and requests that the transport cannot read.

use std::{
    future::Future,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::{HeaderMap, Request, Response, header::AUTHORIZATION};
use http_body::Body;
use tokio::{sync::Semaphore, time::timeout};
use tonic::Status;
use tower::{Layer, Service};

use super::{acceptor::Peer, tls::Tls};
use crate::{
    access::{Shown, certificate::PeerCertificate, unidentified::Unidentified},
    config::{Audience, Server as Settings},
    error::{
        Failure,
        status::{CallFacts, status},
    },
    service::{Shared, meta::CallMeta, unreadable},
};

/// A unary call has its message right behind its headers.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(10);

/// The layer.
#[derive(Clone)]
pub struct IdentifyLayer {
    shared: Arc<Shared>,
    tls: Option<Arc<Tls>>,
    health: Audience,
    reflection: Audience,
    room: Arc<Semaphore>,
}

impl IdentifyLayer {
    /// For a server with these settings.
    pub fn new(shared: Arc<Shared>, tls: Option<Arc<Tls>>, settings: &Settings) -> Self {
        Self {
            shared,
            tls,
            health: settings.health,
            reflection: settings.reflection.unwrap_or(Audience::Identified),
            room: Arc::new(Semaphore::new(
                settings.limits.max_concurrent_calls as usize,
            )),
        }
    }

    /// Who calls?
    async fn identify(&self, head: &Head, meta: &mut CallMeta) {
        let certificate = head.certificate.as_deref().map(|certificate| {
            let tls = self.tls.as_ref();
            let checked = tls.map_or(Ok(()), |tls| tls.check(certificate));
            checked.map(|()| certificate)
        });
        let token = head.token.as_ref().map(|token| {
            let token = token.as_ref().map(String::as_str);
            token.map_err(|unidentified| *unidentified)
        });
        let access = Arc::clone(&self.shared.access());
        let shown = Shown { certificate, token };
        meta.caller = access.identify(shown, meta.remaining()).await;
        if let Err(unidentified) = meta.caller {
            self.shared.metrics.unidentified(unidentified.as_str());
        }
    }

    /// To whom a service without a pipeline answers.
    fn audience(&self, path: &str) -> Option<Audience> {
        if path.starts_with("/grpc.health.") {
            Some(self.health)
        } else if path.starts_with("/grpc.reflection.") {
            Some(self.reflection)
        } else {
            None
        }
    }
}

fn overloaded<B: Default>(path: &str, meta: &CallMeta) -> Response<B> {
    unreadable::overloaded(path, meta).map_or_else(Response::default, Status::into_http)
}

/// The refusal of a call to health or reflection. One that was let in goes on to its end, whatever becomes of its
/// caller's identity meanwhile.
fn refusal(path: &str, meta: &CallMeta) -> Option<Status> {
    let cause = meta.caller.as_ref().err()?.as_str();
    tracing::info!(
        request_id = meta.request_id,
        peer = meta.peer,
        path,
        cause,
        "refused"
    );
    let facts = CallFacts {
        request_id: meta.request_id.clone(),
        ..CallFacts::default()
    };
    Some(status(&Failure::unidentified(cause), &facts))
}

/// Ends when the message of a call should have come and has not. What was found of the caller is not believed for
/// longer than this, either.
async fn without_message(meta: &CallMeta) {
    let came = timeout(MESSAGE_TIMEOUT.min(meta.remaining()), meta.read.cancelled());
    if came.await.is_ok() {
        std::future::pending::<()>().await;
    }
}

/// What a request shows of its caller.
struct Head {
    certificate: Option<Arc<PeerCertificate>>,
    token: Option<Result<String, Unidentified>>,
}

/// The value of the one `authorization`: a bearer token (RFC 6750, section 2.1).
fn token(headers: &HeaderMap) -> Option<Result<String, Unidentified>> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next()?;
    let token = value
        .to_str()
        .ok()
        .filter(|_| values.next().is_none())
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim().to_owned());
    Some(token.ok_or(Unidentified::NoBearerToken))
}

impl<S> Layer<S> for IdentifyLayer {
    type Service = Identify<S>;

    fn layer(&self, inner: S) -> Identify<S> {
        Identify {
            inner,
            layer: self.clone(),
        }
    }
}

/// The service that the layer makes.
#[derive(Clone)]
pub struct Identify<S> {
    inner: S,
    layer: IdentifyLayer,
}

impl<S, Q, B> Service<Request<Q>> for Identify<S>
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
        // The one that is ready is the one that is called.
        let next = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, next);
        let layer = self.layer.clone();
        let path = request.uri().path().to_owned();
        let audience = layer.audience(&path);
        if audience == Some(Audience::Everybody) {
            return Box::pin(inner.call(request));
        }
        let is_call = audience.is_none();
        if is_call && unreadable::rpc(&path).is_none() {
            return Box::pin(inner.call(request));
        }
        Box::pin(async move {
            if is_call && layer.room.available_permits() == 0 {
                return Ok(overloaded(&path, &CallMeta::of(request.extensions())));
            }
            let peer = request.extensions().get::<Peer>();
            let head = Head {
                certificate: peer.and_then(|peer| peer.certificate.clone()),
                token: token(request.headers()),
            };
            let mut meta = CallMeta::of(request.extensions());
            layer.identify(&head, &mut meta).await;
            if let Some(refusal) = audience.and_then(|_| refusal(&path, &meta)) {
                return Ok(refusal.into_http());
            }
            // Held until the call has its answer; who is nobody takes none.
            let room = layer.room.try_acquire();
            if is_call && meta.caller.is_ok() && room.is_err() {
                return Ok(overloaded(&path, &meta));
            }
            let _room = room.ok().filter(|_| is_call && meta.caller.is_ok());
            request.extensions_mut().insert(meta.clone());
            let mut answer = pin!(inner.call(request));
            let came = tokio::select! {
                answer = &mut answer => Some(answer?),
                () = without_message(&meta) => None,
            };
            let answer = match came {
                Some(answer) => answer,
                None => match unreadable::never_came(&layer.shared, &path, &meta).await {
                    Some(refusal) => return Ok(refusal.into_http()),
                    None => answer.await?,
                },
            };
            let better = unreadable::answer(&layer.shared, &path, &meta, answer.headers()).await;
            Ok(better.map_or(answer, Status::into_http))
        })
    }
}
