//! The public listener: takes webhooks in, durable before the 200 (SPEC I1 to I8, I19, I20).
//!
//! Owns everything from the socket to the store and the answer. Decides nothing about destinations: what an
//! event leads to is the store's and the engine's. The way of one request:
//!
//! `listener` (connections, limits, stop) → `route` (which source, which answer) → `body` (bytes within their
//! bounds) → `accept` (`verify`, `handshake`, `extract` by `scan`; then the store) → the answer.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use hookfast_engine::id::EventId;
use hookfast_signature::Answer;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use self::accept::Surroundings;
use self::cause::Cause;
use self::rate::RateLimits;
use crate::budget::Budget;
use crate::clock::Stopwatch;
use crate::node::Node;

pub mod accept;
pub mod body;
pub mod cause;
mod connection;
pub mod extract;
pub mod handshake;
pub mod listener;
pub mod meter;
pub mod peer;
pub mod rate;
pub mod rejections;
pub mod release;
mod route;
pub mod scan;
pub mod scheme;
pub mod verify;
mod watch;

pub use listener::serve;

/// What the connections of one listener share.
struct Ingest {
    node: Arc<Node>,
    around: Surroundings,
    rate_limits: RateLimits,
    /// Large bodies that are verified at once.
    large_bodies: Semaphore,
    /// Bytes on their way into quarantine: a flood of forged requests waits for the disk within these.
    quarantine_budget: Budget,
    /// One permit for each connection that may still be opened.
    room: Arc<Semaphore>,
    /// How many may be open.
    connections: usize,
    /// What the rate limits measure time from.
    started: Stopwatch,
    /// Set, before `halt` is cancelled, once no new requests are taken.
    halted: AtomicBool,
    halt: CancellationToken,
}

impl Ingest {
    fn new(node: Arc<Node>) -> Self {
        /// Half of the threads, so that the other half goes on answering.
        fn large_bodies() -> usize {
            std::thread::available_parallelism().map_or(1, |threads| (threads.get() / 2).max(1))
        }
        let connections = node.settings.ingest.connections.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            room: Arc::new(Semaphore::new(connections)),
            connections,
            around: surroundings(&node),
            rate_limits: RateLimits::default(),
            large_bodies: Semaphore::new(large_bodies()),
            quarantine_budget: Budget::new(node.ingest_budget.limit() / 4),
            started: node.clock.start(),
            halted: AtomicBool::new(false),
            halt: CancellationToken::new(),
            node,
        }
    }

    /// Whether nearly as many connections are open as may be.
    fn is_crowded(&self) -> bool {
        self.room.available_permits() <= self.connections / 8
    }
}

fn surroundings(node: &Node) -> Surroundings {
    Surroundings {
        clock: node.clock,
        server_url: node.settings.public_url.as_deref().map(Arc::from),
        lease_margin: node.settings.delivery.lease_margin,
    }
}

/// What became of a request.
#[derive(Debug)]
enum Outcome {
    /// The event with this id is on stable storage, by this request or by an earlier one.
    Accepted(EventId),
    /// A handshake, to be answered so.
    Handshake(Answer),
    /// 200 and nothing else, with the methods that are taken.
    Fine(Option<&'static str>),
    /// It is not taken.
    Refused(Refused),
}

/// A refusal with everything that its answer needs.
#[derive(Debug)]
struct Refused {
    cause: Cause,
    /// More, in words, without bodies or secrets.
    detail: Cow<'static, str>,
    retry_after: Option<Duration>,
    /// The methods that are taken here.
    allow: Option<&'static str>,
    /// It is in quarantine.
    quarantined: bool,
    /// It is in quarantine and answered 200: the source wants it so.
    answered_ok: bool,
}

impl Refused {
    fn new(cause: Cause) -> Self {
        Self {
            cause,
            detail: Cow::Borrowed(""),
            retry_after: None,
            allow: None,
            quarantined: false,
            answered_ok: false,
        }
    }

    fn detail(mut self, detail: impl Into<Cow<'static, str>>) -> Self {
        self.detail = detail.into();
        self
    }

    fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }
}
