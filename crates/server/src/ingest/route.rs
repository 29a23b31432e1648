//! From a request to its answer.
//!
//! Owns which source and method mean what, the limits of the request line, and the form of every answer. Must
//! not touch sockets. One refusal is counted, recorded and logged in one place, here.

use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use hookfast_engine::event::HeaderBlock;
use hookfast_engine::id::EventId;
use hookfast_signature::Answer;
use http::header::{ALLOW, CONNECTION, CONTENT_TYPE, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;

use super::body::{self, Bounds};
use super::cause::Cause;
use super::meter::counter;
use super::verify::Notification;
use super::{Ingest, Outcome, Refused, handshake, peer, rejections};
use crate::budget::Holder;
use crate::snapshot::ReadySource;

/// An answer of the public listener: always with a known length, never chunked.
pub(super) type Reply = Response<Full<Bytes>>;

/// The longest target (path and query) that is taken, in bytes. A challenge of 1 KiB fits in it, escaped too.
const MAX_TARGET_BYTES: usize = 8 * 1024;
const SOURCE_METHODS: &str = "POST, GET, HEAD, OPTIONS";
const HEALTH_METHODS: &str = "GET, HEAD";
const EVENT_ID: HeaderName = HeaderName::from_static("hookfast-event-id");
const PLAIN_TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const NO_SNIFF: HeaderValue = HeaderValue::from_static("nosniff");
/// What a sender waits where nothing better is known.
const RETRY_SOON: Duration = Duration::from_secs(1);

impl Ingest {
    /// Answers one request. A panic on the way is a 503, as every fault of ours (SPEC I6).
    pub(super) async fn answer(&self, request: Request<Incoming>, connection: IpAddr, full: bool) -> Reply {
        let (parts, body) = request.into_parts();
        let mut source = None;
        let working = AssertUnwindSafe(self.outcome(&parts, body, connection, full, &mut source));
        let outcome = match working.catch_unwind().await {
            Ok(outcome) => outcome,
            Err(_) => {
                tracing::error!(http.path = parts.uri.path(), "a request made its handler panic");
                Outcome::Refused(Refused::new(Cause::Internal))
            }
        };
        let refused = match outcome {
            Outcome::Accepted(id) => return accepted(id),
            Outcome::Fine(allow) => return fine(allow),
            Outcome::Handshake(answer) => {
                let name = source.as_ref().map_or("", |source| source.source.name.as_str());
                tracing::info!(source.name = name, "a handshake was answered");
                counter(&self.node.metrics, name, "handshake").inc();
                return shaken(answer);
            }
            Outcome::Refused(refused) => refused,
        };
        let from = peer::address(connection, &parts.headers, &self.node.settings.trusted_proxies);
        self.record(&refused, source.as_deref(), from, Some(&parts));
        refusal(&refused)
    }

    async fn outcome(
        &self,
        parts: &Parts,
        body: Incoming,
        connection: IpAddr,
        full: bool,
        found: &mut Option<Arc<ReadySource>>,
    ) -> Outcome {
        if self.halted.load(Ordering::Relaxed) || self.node.stopping.is_cancelled() {
            return Outcome::Refused(Refused::new(Cause::Stopping));
        }
        if full {
            return Outcome::Refused(Refused::new(Cause::TooManyConnections));
        }
        let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
        if target.len() > MAX_TARGET_BYTES {
            return Outcome::Refused(Refused::new(Cause::UriTooLong));
        }
        let path = parts.uri.path();
        if path == "/healthz" {
            return match parts.method {
                Method::GET | Method::HEAD => Outcome::Fine(None),
                _ => not_allowed(HEALTH_METHODS),
            };
        }
        let Some(name) = path.strip_prefix("/in/") else {
            return Outcome::Refused(Refused::new(Cause::UnknownPath));
        };
        let source = self.node.snapshot.load().source(name).map(Arc::clone);
        let Some(source) = source else {
            return Outcome::Refused(Refused::new(Cause::UnknownSource));
        };
        let source = &*found.insert(source);
        match parts.method {
            Method::POST => self.post(source, parts, body, connection, target).await,
            Method::GET | Method::HEAD | Method::OPTIONS => {
                let asked = self.notification(parts, connection, target, Bytes::new());
                match handshake::answer(&source.verifier, &asked, false) {
                    Some(Ok(answer)) => Outcome::Handshake(answer),
                    Some(Err(refusal)) => {
                        Outcome::Refused(Refused::new(Cause::BadChallenge).detail(refusal.to_string()))
                    }
                    None => Outcome::Fine((parts.method == Method::OPTIONS).then_some(SOURCE_METHODS)),
                }
            }
            _ => not_allowed(SOURCE_METHODS),
        }
    }

    async fn post(
        &self,
        source: &Arc<ReadySource>,
        parts: &Parts,
        incoming: Incoming,
        connection: IpAddr,
        target: &str,
    ) -> Outcome {
        if let Some(rate) = source.source.rate_limit {
            let now = self.started.elapsed();
            if let Err(wait) = self.rate_limits.take(source.source.id, rate, now) {
                return Outcome::Refused(Refused::new(Cause::RateLimited).retry_after(wait));
            }
        }
        let bounds = self.bounds(source);
        let holder = self.holder(source, parts, connection);
        let whole = match body::read(incoming, bounds, &self.node.ingest_budget, holder).await {
            Ok(whole) => whole,
            Err(Cause::BodyTooLarge) => {
                let detail = format!("more than {} bytes", bounds.bytes);
                return Outcome::Refused(Refused::new(Cause::BodyTooLarge).detail(detail));
            }
            Err(cause) => return Outcome::Refused(Refused::new(cause)),
        };
        let read = self.node.clock.start();
        let notification = self.notification(parts, connection, target, whole.bytes);
        let outcome = self.take(source, notification, whole.reservation).await;
        if matches!(outcome, Outcome::Accepted(_)) {
            self.node
                .metrics
                .ack_seconds
                .observe(read.elapsed().as_secs_f64());
        }
        outcome
    }

    /// Whose memory a body takes: that of its sender at its source, so that neither a source that floods nor
    /// who forges posts to one takes from others. An IPv6 network counts as one sender.
    fn holder(&self, source: &ReadySource, parts: &Parts, connection: IpAddr) -> Holder {
        let peer = peer::address(connection, &parts.headers, &self.node.settings.trusted_proxies);
        let network = match peer {
            IpAddr::V4(address) => u128::from(address.to_bits()),
            IpAddr::V6(address) => address.to_bits() >> 64,
        };
        self.node.ingest_budget.holder((source.source.id, network))
    }

    /// The bounds of a body: the source's own, else its provider's, else the server's; and never more than
    /// there can ever be room for, as repeating that would be of no use.
    fn bounds(&self, source: &ReadySource) -> Bounds {
        let limits = &self.node.settings.ingest;
        let preset = || {
            let limit = source.verifier.provider()?.body_limit;
            usize::try_from(limit).ok()
        };
        let own = source.source.body_limit;
        Bounds {
            bytes: own
                .or_else(preset)
                .unwrap_or(limits.body_bytes)
                .min(body::largest(self.node.ingest_budget.limit())),
            bytes_per_second: limits.body_bytes_per_second,
            grace: limits.head_timeout / 2,
        }
    }

    fn notification(&self, parts: &Parts, connection: IpAddr, target: &str, body: Bytes) -> Notification {
        let headers = parts
            .headers
            .iter()
            .map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()));
        Notification {
            method: parts.method.clone(),
            target: target.to_owned(),
            headers: HeaderBlock::pack(headers),
            body,
            received_at: self.node.clock.now(),
            peer: peer::address(connection, &parts.headers, &self.node.settings.trusted_proxies),
        }
    }

    /// Counts, records and logs a refusal (SPEC I19).
    pub(super) fn record(
        &self,
        refused: &Refused,
        source: Option<&ReadySource>,
        from: IpAddr,
        parts: Option<&Parts>,
    ) {
        let (code, status) = (refused.cause.code(), status_of(refused));
        let name = source.map_or("", |source| source.source.name.as_str());
        let result = if refused.quarantined { "quarantined" } else { code };
        counter(&self.node.metrics, name, result).inc();
        let (method, path) = parts.map_or(("", ""), |parts| (parts.method.as_str(), parts.uri.path()));
        tracing::debug!(
            source.name = name,
            refusal.cause = code,
            refusal.detail = %refused.detail,
            http.status = status.as_u16(),
            http.method = method,
            http.path = path,
            peer = %from,
            "a request was refused"
        );
        self.node.rejections.add(&rejections::Refused {
            at: self.node.clock.now(),
            source: source.map(|source| source.source.id),
            cause: refused.cause,
            status: status.as_u16(),
            detail: &refused.detail,
            peer: from,
            method,
            path,
        });
    }
}

fn not_allowed(methods: &'static str) -> Outcome {
    Outcome::Refused(Refused {
        allow: Some(methods),
        ..Refused::new(Cause::MethodNotAllowed)
    })
}

fn accepted(id: EventId) -> Reply {
    let mut reply = Response::new(Full::default());
    if let Ok(id) = HeaderValue::try_from(id.to_string()) {
        reply.headers_mut().insert(EVENT_ID, id);
    }
    reply
}

fn fine(allow: Option<&'static str>) -> Reply {
    let mut reply = Response::new(Full::default());
    if let Some(methods) = allow {
        reply
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static(methods));
    }
    reply
}

fn shaken(answer: Answer) -> Reply {
    let mut reply = Response::new(Full::new(Bytes::from(answer.body)));
    *reply.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::OK);
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(answer.content_type));
    headers.insert(X_CONTENT_TYPE_OPTIONS, NO_SNIFF);
    reply
}

fn status_of(refused: &Refused) -> StatusCode {
    if refused.answered_ok {
        StatusCode::OK
    } else {
        refused.cause.status()
    }
}

fn refusal(refused: &Refused) -> Reply {
    let status = status_of(refused);
    if refused.answered_ok {
        return Response::new(Full::default());
    }
    let mut reply = Response::new(Full::new(Bytes::from_static(refused.cause.text().as_bytes())));
    *reply.status_mut() = status;
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, PLAIN_TEXT);
    headers.insert(X_CONTENT_TYPE_OPTIONS, NO_SNIFF);
    if let Some(methods) = refused.allow {
        headers.insert(ALLOW, HeaderValue::from_static(methods));
    }
    if matches!(
        status,
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS
    ) {
        let wait = refused.retry_after.unwrap_or(RETRY_SOON);
        headers.insert(RETRY_AFTER, HeaderValue::from(whole_seconds(wait)));
    }
    if closes(refused.cause) {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    reply
}

/// Whole seconds, rounded up, at least one.
fn whole_seconds(wait: Duration) -> u64 {
    let up = u64::from(wait.subsec_nanos() > 0);
    wait.as_secs().saturating_add(up).max(1)
}

/// Whether the connection ends with the answer: because the rest of the request is not read, or because the
/// server takes no more.
fn closes(cause: Cause) -> bool {
    matches!(
        cause,
        Cause::MalformedBody
            | Cause::BodyTimeout
            | Cause::BodyTooLarge
            | Cause::OutOfMemory
            | Cause::TooManyConnections
            | Cause::Stopping
    )
}
