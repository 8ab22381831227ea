//! The layer that asks who calls, if there is room for a call. What it finds goes with the call, whose pipeline
//! decides. What never reaches a pipeline is decided here: health, reflection, and requests that the transport cannot
//! read, or whose message does not come.

use std::{
    future::Future,
    net::IpAddr,
    pin::{Pin, pin},
    sync::{Arc, Mutex, Weak},
    task::{Context, Poll},
    time::Duration,
};

use http::{Extensions, HeaderMap, Request, Response, header::AUTHORIZATION};
use http_body::Body;
use tokio::{sync::Semaphore, time::timeout};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tower::{Layer, Service};

use super::{
    acceptor::Peer, calls::Crowded, edge::Held, metadata::TooLarge, tls::Tls, waiting::Waiting,
};
use crate::{
    access::{Shown, certificate::PeerCertificate, refusals::Kind, unidentified::Unidentified},
    config::{Audience, Server as Settings},
    error::{
        Failure, Violation,
        status::{CallFacts, MAX_TEXT_BYTES, cut, status},
    },
    proto::ErrorReason,
    service::{
        Shared,
        meta::{BAD_TIMEOUT, CallMeta},
        rpcs, unreadable,
    },
};

const REFLECTION: &str = "/grpc.reflection.";
/// The message of the log line.
const CERTIFICATE_REFUSED: &str = "a client certificate was refused";
/// A unary call has its message right behind its headers.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(10);

/// Calls to reflection at a time: each holds all of the API, and none of them is in a hurry.
const REFLECTIONS: usize = 64;

/// Headers that must occur at most once. `grpc-timeout` is checked with the deadline.
const SINGULAR: [&str; 3] = ["authorization", "content-type", unreadable::ENCODING];

/// Returns whether a path is one of the reflection service. Only its methods take a stream of messages.
#[must_use]
pub fn is_reflection(path: &str) -> bool {
    path.starts_with(REFLECTION)
}

/// Returns the first rule that the metadata of a request violates.
fn violation<Q>(request: &Request<Q>) -> Option<Violation> {
    if request.extensions().get::<TooLarge>().is_some() {
        return Some(Violation {
            field: "metadata",
            description: "larger than this server accepts (max_metadata_bytes)",
        });
    }
    let headers = request.headers();
    let repeated = |name: &&str| headers.get_all(*name).iter().nth(1).is_some();
    let field = SINGULAR.into_iter().find(repeated)?;
    Some(Violation {
        field,
        description: "must occur at most once",
    })
}

/// Returns the violation of a request whose deadline cannot be read.
fn bad_timeout<Q>(request: &Request<Q>) -> Option<Violation> {
    let meta = request.extensions().get::<Arc<CallMeta>>()?;
    meta.deadline.is_none().then_some(BAD_TIMEOUT)
}

/// The layer.
#[derive(Clone)]
pub struct IdentifyLayer {
    shared: Arc<Shared>,
    tls: Option<Arc<Tls>>,
    health: Audience,
    reflection: Audience,
    reflections: Arc<Semaphore>,
    waiting: Arc<Mutex<Calls>>,
}

impl IdentifyLayer {
    /// For a server with these settings.
    pub fn new(shared: Arc<Shared>, tls: Option<Arc<Tls>>, settings: &Settings) -> Self {
        Self {
            shared,
            tls,
            health: settings.health,
            reflection: settings.reflection.unwrap_or(Audience::Identified),
            reflections: Arc::new(Semaphore::new(REFLECTIONS)),
            // As many may wait as may be in progress.
            waiting: Arc::new(Mutex::new(Waiting::new(
                settings.limits.max_concurrent_calls as usize,
                |call| call.strong_count() == 0,
            ))),
        }
    }

    /// A place for a call whose message is yet to come.
    fn wait(&self, peer: Option<&Peer>) -> Arc<CancellationToken> {
        let address = peer.map_or(IpAddr::from([0; 4]), |peer| peer.address.ip());
        let call = Arc::default();
        let leaves = crate::lock(&self.waiting).enter(address, Arc::downgrade(&call));
        if let Some(leaves) = leaves.and_then(|leaves| leaves.upgrade()) {
            leaves.cancel();
        }
        call
    }

    /// Who calls?
    async fn identify(&self, head: &Head, meta: &mut CallMeta) {
        let certificate = head.certificate.as_deref().map(|certificate| {
            let tls = self.tls.as_ref();
            let checked = tls.map_or(Ok(()), |tls| tls.check(certificate));
            checked.map(|()| certificate).map_err(|(cause, why)| {
                // A token decides, whatever the certificate is.
                if head.token.is_none() {
                    self.report(cause, &why, meta);
                }
                cause
            })
        });
        let token = head.token.as_ref().map(|token| {
            let token = token.as_ref().map(String::as_str);
            token.map_err(|unidentified| *unidentified)
        });
        let access = Arc::clone(&self.shared.access());
        let shown = Shown { certificate, token };
        meta.caller = access.identify(shown, meta.patience()).await;
        if let Err(unidentified) = meta.caller {
            self.shared.metrics.unidentified(unidentified.as_str());
        }
    }

    /// Logs why a certificate that was verified once is refused.
    fn report(&self, cause: Unidentified, why: &str, meta: &CallMeta) {
        let cause = cause.as_str();
        let kind = Kind::logged(CERTIFICATE_REFUSED, cause);
        if self.shared.refusals.admit(meta.peer_address(), None, kind) {
            tracing::info!(
                request_id = meta.request_id,
                peer = meta.peer,
                cause,
                why,
                "{CERTIFICATE_REFUSED}"
            );
        }
    }

    /// Room for a call to reflection, and none for any call of a crowd; others need none here.
    fn room_for(&self, path: &str, extensions: &Extensions) -> Result<Option<Held>, Status> {
        let full = || {
            let meta = CallMeta::of(extensions);
            let facts = CallFacts::of_request(meta.request_id.clone());
            let failure = Failure::new(ErrorReason::Overloaded, "streams");
            meta.ended(status(&failure, &facts), failure.reason)
        };
        if extensions.get::<Crowded>().is_some() {
            return Err(full());
        }
        if !is_reflection(path) {
            return Ok(None);
        }
        let room = Arc::clone(&self.reflections).try_acquire_owned();
        room.map(|room| Some(Held(Arc::new(room))))
            .map_err(|_| full())
    }

    /// To whom a service without a pipeline answers.
    fn audience(&self, path: &str) -> Option<Audience> {
        if path.starts_with("/grpc.health.") {
            Some(self.health)
        } else if is_reflection(path) {
            Some(self.reflection)
        } else {
            None
        }
    }
}

/// The room is taken for as long as the answer lasts.
fn holding<B>(mut answer: Response<B>, room: Option<Held>) -> Response<B> {
    if let Some(room) = room {
        answer.extensions_mut().insert(room);
    }
    answer
}

/// Returns the answer, or a refusal with details instead of the transport's own.
async fn with_details<B: Default>(
    shared: &Shared,
    path: &str,
    meta: &CallMeta,
    answer: Response<B>,
) -> Response<B> {
    let better = unreadable::answer(shared, path, meta, answer.headers()).await;
    better.map_or(answer, Status::into_http)
}

fn overloaded<B: Default>(shared: &Shared, path: &str, meta: &CallMeta) -> Response<B> {
    unreadable::overloaded(shared, path, meta).map_or_else(Response::default, Status::into_http)
}

/// The refusal of a call to health or reflection. One that was let in goes on to its end, whatever becomes of its
/// caller's identity meanwhile.
fn refusal(shared: &Shared, path: &str, meta: &CallMeta) -> Option<Status> {
    let cause = meta.caller.as_ref().err()?.as_str();
    let reason = ErrorReason::CallerUnauthenticated.as_str_name();
    let kind = Kind::logged("refused", reason);
    if shared.refusals.admit(meta.peer_address(), None, kind) {
        tracing::info!(
            request_id = meta.request_id,
            peer = meta.peer,
            path = cut(path, MAX_TEXT_BYTES),
            cause,
            "refused"
        );
    }
    let facts = CallFacts::of_request(meta.request_id.clone());
    Some(status(&Failure::unidentified(cause), &facts))
}

/// Calls whose message is yet to come; each is cancelled if it has to go.
type Calls = Waiting<Weak<CancellationToken>>;

/// Why a message is not waited for any more.
enum Silence {
    /// It should have come.
    TooLong,
    /// There are too many others.
    LeftOut,
}

/// Ends when this call has to go; never, where it has no place.
async fn left_out(place: Option<&Arc<CancellationToken>>) {
    match place {
        Some(place) => place.cancelled().await,
        None => std::future::pending().await,
    }
}

/// Ends when the message of a call should have come and has not. What was found of the caller is not believed for
/// longer than this, either.
async fn silence(meta: &CallMeta, place: Option<Arc<CancellationToken>>) -> Silence {
    let came = tokio::select! {
        biased;
        came = timeout(MESSAGE_TIMEOUT.min(meta.patience()), meta.read.cancelled()) => came,
        () = left_out(place.as_ref()) => return Silence::LeftOut,
    };
    drop(place);
    if came.is_ok() {
        std::future::pending::<()>().await;
    }
    Silence::TooLong
}

/// Returns the answer to a call, or a refusal if its message does not come.
async fn answer<B: Default, E>(
    answer: impl Future<Output = Result<Response<B>, E>>,
    shared: &Shared,
    path: &str,
    meta: &CallMeta,
    place: Option<Arc<CancellationToken>>,
) -> Result<Response<B>, E> {
    let mut answer = pin!(answer);
    let silence = tokio::select! {
        answer = &mut answer => return answer,
        silence = silence(meta, place) => silence,
    };
    match silence {
        Silence::LeftOut => Ok(overloaded(shared, path, meta)),
        Silence::TooLong => match unreadable::never_came(shared, path, meta).await {
            Some(refusal) => Ok(refusal.into_http()),
            None => answer.await,
        },
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
            layer: Arc::new(self.clone()),
        }
    }
}

/// The service that the layer makes.
#[derive(Clone)]
pub struct Identify<S> {
    inner: S,
    layer: Arc<IdentifyLayer>,
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
        let layer = Arc::clone(&self.layer);
        let path = request.uri().path().to_owned();
        let audience = layer.audience(&path);
        let room = match layer.room_for(&path, request.extensions()) {
            Ok(room) => room,
            Err(full) => return Box::pin(async move { Ok(full.into_http()) }),
        };
        let is_call = audience.is_none();
        if is_call && rpcs::rpc(&path).is_none() {
            return Box::pin(inner.call(request));
        }
        // The pipeline checks the deadline of a call itself, before the identity.
        let violation = violation(&request).or_else(|| audience.and(bad_timeout(&request)));
        Box::pin(async move {
            let shared = &layer.shared;
            if audience == Some(Audience::Everybody) {
                let meta = CallMeta::of(request.extensions());
                let answer = match unreadable::invalid(shared, &path, &meta, violation).await {
                    Some(refusal) => refusal.into_http(),
                    None => holding(inner.call(request).await?, room),
                };
                return Ok(with_details(shared, &path, &meta, answer).await);
            }
            if is_call && shared.room.available_permits() == 0 {
                let meta = CallMeta::of(request.extensions());
                return Ok(overloaded(shared, &path, &meta));
            }
            let peer = request.extensions().get::<Peer>();
            let head = Head {
                certificate: peer.and_then(|peer| peer.certificate.clone()),
                token: token(request.headers()),
            };
            // Nobody else has it yet.
            let extensions = request.extensions_mut();
            let meta = extensions.remove::<Arc<CallMeta>>();
            let mut meta = meta.map_or_else(CallMeta::default, Arc::unwrap_or_clone);
            let place = is_call.then(|| layer.wait(request.extensions().get()));
            tokio::select! {
                () = layer.identify(&head, &mut meta) => {}
                () = left_out(place.as_ref()) => return Ok(overloaded(shared, &path, &meta)),
            }
            if let Some(refusal) = audience.and_then(|_| refusal(shared, &path, &meta)) {
                return Ok(refusal.into_http());
            }
            if let Some(refusal) = unreadable::invalid(shared, &path, &meta, violation).await {
                return Ok(refusal.into_http());
            }
            let meta = Arc::new(meta);
            request.extensions_mut().insert(Arc::clone(&meta));
            let answer = answer(inner.call(request), shared, &path, &meta, place).await?;
            Ok(with_details(shared, &path, &meta, holding(answer, room)).await)
        })
    }
}
