//! One attempt over HTTP: everything that can happen to it becomes an [`Outcome`].
//!
//! Owns the exchange of one request and answer, its time and its bounds (SPEC O3, I9). Must not know what an
//! outcome leads to, nor which attempt comes next.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use hookfast_engine::event::{Event, HeaderBlock};
use hookfast_engine::id::{DeliveryId, EventId, SourceId};
use hookfast_engine::outcome::{Failure, Outcome};
use hookfast_engine::time::Timestamp;
use hookfast_engine::topology::{DestinationKind, OUTBOX};
use hookfast_store::{Attempt, ClaimedDelivery};
use http::header::{CONNECTION, RETRY_AFTER};
use http::{HeaderMap, Method};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rustls::RootCertStore;

pub use super::connect::trusted_roots;
use super::connect::{Allowance, Dialer, Fault, in_words, io_failure, is_broken};
use super::pool::{Connection, Pool};
use super::published;
use super::request::{Outgoing, delivery_headers};
use super::resolve::{Guard, Target};
use crate::clock::Clock;
use crate::settings::DeliveryLimits;
use crate::snapshot::ReadyDestination;

/// The largest head of an answer that is read.
const MAX_HEAD_BYTES: usize = 64 * 1024;
/// The most that is kept of an answer's headers.
const MAX_KEPT_HEADER_BYTES: usize = 16 * 1024;
/// How long a connection may take to become free for the next request after an answer's end.
const SETTLE_TIME: Duration = Duration::from_millis(20);

/// Sends requests to addresses that came from outside.
pub struct Transport {
    dialer: Dialer,
    pool: Arc<Pool>,
    clock: Clock,
    read_bytes: usize,
    kept_bytes: usize,
}

/// How one attempt went.
#[derive(Clone, Debug, PartialEq)]
pub struct Attempted {
    /// When it began.
    pub started_at: Timestamp,
    /// From its beginning to the end of the answer's head, or to its failure.
    pub duration: Duration,
    /// How it ended.
    pub outcome: Outcome,
    /// What failed, in words, where there was no answer.
    pub error: Option<String>,
    /// The answer's headers, those that fit into 16 KiB.
    pub response_headers: HeaderBlock,
    /// The beginning of the answer's body.
    pub response_body: Bytes,
}

impl Attempted {
    /// The attempt as it is kept, with its number.
    #[must_use]
    pub fn into_attempt(self, number: u32) -> Attempt {
        Attempt {
            number,
            started_at: self.started_at,
            duration: self.duration,
            outcome: self.outcome,
            error: self.error,
            response_headers: self.response_headers,
            response_body: self.response_body,
        }
    }
}

/// What an attempt is busy with, to say where its time went.
#[derive(Default)]
struct Stage(AtomicU8);

impl Stage {
    const CONNECTING: u8 = 0;
    const WAITING: u8 = 1;

    fn set(&self, stage: u8) {
        self.0.store(stage, Ordering::Relaxed);
    }

    fn in_words(&self) -> &'static str {
        match self.0.load(Ordering::Relaxed) {
            Self::CONNECTING => "resolving the name and connecting",
            _ => "waiting for the answer",
        }
    }
}

type Answer = http::Response<Incoming>;

impl Transport {
    /// A transport with these limits, which asks `guard` before it connects and trusts `roots`.
    #[must_use]
    pub fn new(limits: &DeliveryLimits, guard: Guard, roots: RootCertStore, clock: Clock) -> Self {
        Self {
            dialer: Dialer::new(guard, roots),
            pool: Pool::new(limits.idle_connection, clock),
            clock,
            read_bytes: limits.response_read_bytes,
            kept_bytes: limits.response_kept_bytes,
        }
    }

    /// The guard, for checks of URLs that are not yet called.
    #[must_use]
    pub fn guard(&self) -> &Guard {
        &self.dialer.guard
    }

    /// Tries once to deliver `claimed`, an event of the source of that name, to `destination`.
    ///
    /// Whatever happens is in the outcome, even a panic.
    pub async fn attempt(
        &self,
        destination: &ReadyDestination,
        claimed: &ClaimedDelivery,
        source: &str,
    ) -> Attempted {
        let started_at = self.clock.now();
        let outgoing = match self.outgoing(destination, claimed, source, started_at) {
            Ok(outgoing) => outgoing,
            Err((failure, error)) => return failed(started_at, Duration::ZERO, failure, error),
        };
        self.send(outgoing).await
    }

    /// Sends any request whose address came from outside: a challenge, a test event (SPEC O11).
    ///
    /// Whatever happens is in the outcome, even a panic.
    pub async fn send(&self, outgoing: Outgoing) -> Attempted {
        let (started_at, since) = (self.clock.now(), self.clock.start());
        let allowance = Allowance {
            since,
            timeout: outgoing.timeout,
        };
        let caught = AssertUnwindSafe(self.send_once(outgoing, started_at, allowance))
            .catch_unwind()
            .await;
        caught.unwrap_or_else(|_| {
            let error = "hookfast itself failed while it sent; its log says more".to_owned();
            failed(started_at, since.elapsed(), Failure::Internal, error)
        })
    }

    fn outgoing(
        &self,
        destination: &ReadyDestination,
        claimed: &ClaimedDelivery,
        source: &str,
        now: Timestamp,
    ) -> Result<Outgoing, (Failure, String)> {
        let ReadyDestination {
            destination, signer, ..
        } = destination;
        let DestinationKind::Push { url } = &destination.kind else {
            let error = "the destination is pulled from and has no URL".to_owned();
            return Err((Failure::RequestInvalid, error));
        };
        let target = self
            .guard()
            .check_url(url, destination.allow_private)
            .map_err(|reason| (Failure::AddressBlocked, reason.to_string()))?;
        // What an application published, or Hookfast itself, is written anew for each attempt.
        let request = if claimed.event.source.publisher().is_some() {
            published::request(destination, claimed, signer, now)
        } else {
            let headers = delivery_headers(claimed, source, signer, now);
            headers
                .map(|headers| (headers, claimed.event.body.clone()))
                .map_err(|error| error.to_string())
        };
        let (headers, body) = request.map_err(|error| (Failure::RequestInvalid, error))?;
        Ok(Outgoing {
            method: Method::POST,
            target,
            headers,
            body,
            timeout: destination.timeout,
        })
    }

    /// Sends `destination` an event that was never published, as a delivery would be sent.
    pub async fn test(
        &self,
        destination: &ReadyDestination,
        event: &serde_json::Value,
        clock: Clock,
    ) -> Attempted {
        let now = clock.now();
        let application = destination.destination.application;
        let event = Event {
            id: EventId::new(now, clock.entropy()),
            application,
            source: SourceId::of_outbox(application),
            provider_id: event["id"].as_str().map(str::to_owned),
            event_type: event["type"].as_str().map(str::to_owned),
            occurred_at: None,
            accepted_at: now,
            headers: HeaderBlock::default(),
            body: Bytes::from(published::without_attempt(event).to_string()),
        };
        let claimed = ClaimedDelivery {
            id: DeliveryId::from_u128(0),
            destination: destination.destination.id,
            attempt: 1,
            round_attempt: 1,
            event: Arc::new(event),
            replay: None,
            lease_until: now,
        };
        self.attempt(destination, &claimed, OUTBOX).await
    }

    async fn send_once(&self, outgoing: Outgoing, started_at: Timestamp, allowance: Allowance) -> Attempted {
        let stage = Stage::default();
        let exchange = self.exchange(&outgoing, allowance, &stage);
        let answered = tokio::time::timeout(allowance.timeout, exchange).await;
        let duration = allowance.since.elapsed();
        let timed_out = |during: &str| Attempted {
            outcome: Outcome::TimedOut,
            error: Some(format!(
                "no answer within {:?}, while {during}",
                allowance.timeout
            )),
            ..failed(started_at, duration, Failure::Internal, String::new())
        };
        match answered {
            Err(_) => timed_out(stage.in_words()),
            Ok(Err(Fault::TimedOut(during))) => timed_out(&during),
            Ok(Err(Fault::Failed(failure, error))) => failed(started_at, duration, failure, error),
            Ok(Ok((connection, answer))) => {
                let status = answer.status().as_u16();
                let retry_after = retry_after(answer.headers(), self.clock.now());
                let response_headers = kept_headers(answer.headers());
                let response_body = self.finish(&outgoing.target, connection, answer, allowance).await;
                Attempted {
                    started_at,
                    duration,
                    outcome: Outcome::Answered { status, retry_after },
                    error: None,
                    response_headers,
                    response_body,
                }
            }
        }
    }

    /// Sends on a kept connection, or on a new one where there is none.
    ///
    /// A kept connection that the other side closed before it answered anything is the race that keep-alive
    /// brings along: the request is then sent once more, at once, on a new one. The receiver may see it twice.
    async fn exchange(
        &self,
        outgoing: &Outgoing,
        allowance: Allowance,
        stage: &Stage,
    ) -> Result<(Connection, Answer), Fault> {
        if let Some(mut connection) = self.pool.take(&outgoing.target.key) {
            stage.set(Stage::WAITING);
            match exchange_on(&mut connection, outgoing).await {
                Ok(answer) => return Ok((connection, answer)),
                Err(Unanswered {
                    sent_again_is_due: true,
                    ..
                }) => {}
                Err(Unanswered { fault, .. }) => return Err(fault),
            }
        }
        stage.set(Stage::CONNECTING);
        let mut connection = self.connect(&outgoing.target, allowance).await?;
        stage.set(Stage::WAITING);
        match exchange_on(&mut connection, outgoing).await {
            Ok(answer) => Ok((connection, answer)),
            Err(Unanswered { fault, .. }) => Err(fault),
        }
    }

    async fn connect(&self, target: &Target, allowance: Allowance) -> Result<Connection, Fault> {
        let stream = self.dialer.open(target, allowance).await?;
        let heard = Arc::clone(&stream.heard);
        let (sender, driver) = hyper::client::conn::http1::Builder::new()
            .max_buf_size(MAX_HEAD_BYTES)
            .ignore_invalid_headers_in_responses(true)
            .allow_obsolete_multiline_headers_in_responses(true)
            .handshake::<_, Full<Bytes>>(TokioIo::new(stream))
            .await
            .map_err(|error| fault_of(&error))?;
        // What it meets is told to the request that waits for it; without one it is of no interest.
        tokio::spawn(driver.map(drop));
        Ok(Connection::new(sender, heard, self.clock))
    }

    /// Reads the answer's body within its bounds and keeps the connection where it can serve again.
    ///
    /// What goes wrong here does not change the outcome: the head has said it.
    async fn finish(
        &self,
        target: &Target,
        mut connection: Connection,
        answer: Answer,
        allowance: Allowance,
    ) -> Bytes {
        let idle_hint = idle_hint(answer.headers());
        let closes = says_close(answer.headers());
        let mut kept = Vec::new();
        let read = self.read_body(answer.into_body(), &mut kept);
        let whole = tokio::time::timeout(allowance.left(), read).await;
        if whole == Ok(true) && !closes {
            let free = connection.sender.is_ready()
                || matches!(
                    tokio::time::timeout(SETTLE_TIME, connection.sender.ready()).await,
                    Ok(Ok(()))
                );
            if free {
                self.pool.put(&target.key, connection, idle_hint);
            }
        }
        Bytes::from(kept)
    }

    /// Whether the body ended within the bound.
    async fn read_body(&self, mut body: Incoming, kept: &mut Vec<u8>) -> bool {
        let mut read = 0_usize;
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else {
                return false;
            };
            let Some(data) = frame.data_ref() else {
                continue;
            };
            read = read.saturating_add(data.len());
            let room = self.kept_bytes.saturating_sub(kept.len());
            kept.extend_from_slice(&data[..data.len().min(room)]);
            if read > self.read_bytes {
                return false;
            }
        }
        true
    }
}

struct Unanswered {
    fault: Fault,
    /// Nothing of an answer came on a kept connection that the other side had closed.
    sent_again_is_due: bool,
}

async fn exchange_on(connection: &mut Connection, outgoing: &Outgoing) -> Result<Answer, Unanswered> {
    connection.heard.store(false, Ordering::Relaxed);
    let sent = connection.sender.try_send_request(outgoing.to_request()).await;
    sent.map_err(|mut error| {
        let never_sent = error.take_message().is_some();
        let heard = connection.heard.load(Ordering::Relaxed);
        let closed_unheard = !heard && is_closed_before_answer(error.error());
        Unanswered {
            fault: fault_of(error.error()),
            sent_again_is_due: connection.reused && (never_sent || closed_unheard),
        }
    })
}

/// Whether the other side ended the connection.
fn is_closed_before_answer(error: &hyper::Error) -> bool {
    error.is_incomplete_message()
        || error.is_canceled()
        || error.is_closed()
        || io_cause(error).is_some_and(|cause| is_broken(cause.kind()))
}

fn io_cause(error: &hyper::Error) -> Option<&std::io::Error> {
    std::error::Error::source(error)?.downcast_ref()
}

fn fault_of(error: &hyper::Error) -> Fault {
    let (failure, text) = if error.is_parse_too_large() {
        (
            Failure::NotHttp,
            "the answer's head is larger than 64 KiB or has more than 100 headers".to_owned(),
        )
    } else if error.is_parse() {
        (Failure::NotHttp, format!("the answer is not HTTP/1.1: {error}"))
    } else if let Some(cause) = io_cause(error) {
        (io_failure(cause), in_words(cause))
    } else if is_closed_before_answer(error) {
        (
            Failure::ConnectionReset,
            "the connection was closed before the answer was complete".to_owned(),
        )
    } else if error.is_user() {
        (Failure::Internal, error.to_string())
    } else {
        (Failure::ConnectionFailed, error.to_string())
    };
    Fault::Failed(failure, text)
}

fn failed(started_at: Timestamp, duration: Duration, failure: Failure, error: String) -> Attempted {
    Attempted {
        started_at,
        duration,
        outcome: Outcome::Unreachable { failure },
        error: Some(error),
        response_headers: HeaderBlock::default(),
        response_body: Bytes::new(),
    }
}

/// What `Retry-After` asks for, counted from `now`: seconds or a date (RFC 9110 section 10.2.3).
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // Longer than anybody waits; nobody's arithmetic overflows.
        const MOST: u64 = 10 * 365 * 86_400;
        return Some(Duration::from_secs(text.parse().unwrap_or(MOST).min(MOST)));
    }
    let since_epoch = httpdate::parse_http_date(text)
        .ok()?
        .duration_since(std::time::SystemTime::UNIX_EPOCH)
        .ok()?;
    Some(Timestamp::EPOCH.plus(since_epoch).since(now))
}

/// How long the other side says that it keeps the connection, less a second for the way (`Keep-Alive: timeout=5`).
fn idle_hint(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("keep-alive")?.to_str().ok()?;
    let timeout = text
        .split(',')
        .find_map(|part| part.trim().strip_prefix("timeout="))?;
    let seconds: u64 = timeout.trim().parse().ok()?;
    Some(Duration::from_secs(seconds.saturating_sub(1)))
}

fn says_close(headers: &HeaderMap) -> bool {
    let values = headers.get_all(CONNECTION).into_iter();
    values.filter_map(|value| value.to_str().ok()).any(|value| {
        value
            .split(',')
            .any(|token| token.trim().eq_ignore_ascii_case("close"))
    })
}

/// The headers that fit.
fn kept_headers(headers: &HeaderMap) -> HeaderBlock {
    let mut bytes = 0;
    let fitting = headers.iter().take_while(|(name, value)| {
        bytes += name.as_str().len() + value.len();
        bytes <= MAX_KEPT_HEADER_BYTES
    });
    HeaderBlock::pack(fitting.map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes())))
}
