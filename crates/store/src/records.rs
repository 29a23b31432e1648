//! What goes into a store and what comes out of it.
//!
//! Owns the plain values of the [`crate::Store`] trait's methods: no behaviour, no wire format. Must not know
//! how a store keeps them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hookfast_engine::delivery::{DeliveryKey, DeliveryState, Progress};
use hookfast_engine::dispatch::DestinationLimits;
use hookfast_engine::event::{Event, HeaderBlock};
use hookfast_engine::health::Gate;
use hookfast_engine::id::{
    ApplicationId, DeliveryId, DestinationId, EventId, NoticeId, QuarantineId, ReplayId, SourceId,
};
use hookfast_engine::outcome::Outcome;
use hookfast_engine::retry::Verdict;
use hookfast_engine::time::Timestamp;
use hookfast_engine::topology::{Destination, DestinationStatus};
use serde::{Deserialize, Serialize};

/// An event to be taken.
#[derive(Clone, Debug)]
pub struct NewEvent {
    /// The event.
    pub event: Arc<Event>,
    /// How repeats of it are recognised; without one there is no dedupe.
    pub dedupe: Option<Dedupe>,
    /// For how long a born-in-flight delivery is leased beyond its destination's timeout.
    pub lease_margin: Duration,
}

/// What makes two notifications the same event.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Dedupe {
    /// A hash of the source and the dedupe key.
    pub key: [u8; 16],
    /// A hash of the body, to tell a conflicting repeat.
    pub body: [u8; 8],
    /// Until when repeats are recognised.
    pub expires_at: Timestamp,
}

/// What became of an event.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Appended {
    /// It is stored, with this many deliveries.
    Accepted {
        /// How many destinations it was routed to; zero means unrouted.
        deliveries: u32,
    },
    /// It repeats an event that is stored.
    Repeat {
        /// The first one's id.
        first: EventId,
        /// The body differs from the first one's.
        conflicting: bool,
    },
}

/// The end of an attempt.
#[derive(Clone, Debug)]
pub struct AttemptEnd {
    /// The delivery.
    pub delivery: DeliveryId,
    /// The attempt's number, which proves that the caller still holds the claim.
    pub token: u32,
    /// When it ended.
    pub now: Timestamp,
    /// What is kept of it.
    pub attempt: Attempt,
}

/// One attempt, as it is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Attempt {
    /// Its number, from 1, over all rounds.
    pub number: u32,
    /// When it began.
    pub started_at: Timestamp,
    /// How long it took.
    pub duration: Duration,
    /// How it ended.
    pub outcome: Outcome,
    /// What failed, in words, where it was not an answer.
    pub error: Option<String>,
    /// The answer's headers.
    pub response_headers: HeaderBlock,
    /// The first 16 KiB of the answer's body.
    pub response_body: Bytes,
}

/// What a settlement led to.
#[derive(Clone, Debug, PartialEq)]
pub enum Settled {
    /// The delivery moved.
    Moved {
        /// Where to.
        verdict: Verdict,
        /// What the destination admits now.
        gate: Gate,
        /// The destination's retrying deliveries became due: its breaker closed.
        released: bool,
        /// The destination's new status, where the settlement changed it: the topology is another one then.
        status: Option<DestinationStatus>,
    },
    /// The token was old or the delivery not in flight: nothing changed.
    Stale,
}

/// Which deliveries are wanted.
#[derive(Clone, Copy, Debug)]
pub struct Claim {
    /// The destination; one that is not open gives nothing.
    pub destination: DestinationId,
    /// The time.
    pub now: Timestamp,
    /// Only deliveries that became due at or after this time.
    pub due_from: Option<Timestamp>,
    /// At most this many.
    pub limit: u32,
    /// No more bytes of bodies than this, but the first is given whatever its size.
    pub bytes: usize,
    /// How long each is leased.
    pub lease: Duration,
}

/// What a claim gave.
#[derive(Clone, Debug, Default)]
pub struct Claimed {
    /// The deliveries, each in flight.
    pub deliveries: Vec<ClaimedDelivery>,
    /// When the destination's next delivery is due that still waits, or whose lease ran out, without regard
    /// to `due_from` (in the past where the claim was cut short); `None` where there is none.
    pub next_due: Option<Timestamp>,
}

/// How a destination stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Standing {
    /// The destination.
    pub destination: DestinationId,
    /// As [`Claimed::next_due`].
    pub next_due: Option<Timestamp>,
    /// What its health admits.
    pub gate: Gate,
}

impl Standing {
    /// What a dispatcher is told of these destinations, where the store said so much of how they stand. One of which it
    /// said nothing may be tried, and a claim will tell what waits for it.
    #[must_use]
    pub fn limits<'a>(
        destinations: impl IntoIterator<Item = &'a Destination>,
        known: impl IntoIterator<Item = Self>,
    ) -> Vec<DestinationLimits> {
        let known: HashMap<_, _> = known.into_iter().map(|each| (each.destination, each)).collect();
        let limits = |destination: &Destination| {
            let standing = known.get(&destination.id);
            DestinationLimits {
                destination: destination.id,
                concurrency: destination.concurrency,
                rate: destination.rate_limit,
                gate: standing.map_or(Gate::Ready, |standing| standing.gate),
                next_due: standing.map_or(Some(Timestamp::EPOCH), |standing| standing.next_due),
            }
        };
        destinations.into_iter().map(limits).collect()
    }
}

/// A delivery in flight, with all that sending needs.
#[derive(Clone, Debug)]
pub struct ClaimedDelivery {
    /// The delivery.
    pub id: DeliveryId,
    /// Its destination.
    pub destination: DestinationId,
    /// The attempt's number and token.
    pub attempt: u32,
    /// Which attempt of its round it is, from 1, not counting those that the policy does not count.
    pub round_attempt: u32,
    /// The event.
    pub event: Arc<Event>,
    /// The replay that made it due, with the id to show instead of the event's where a new one was asked for.
    pub replay: Option<(ReplayId, Option<EventId>)>,
    /// Until when it is leased.
    pub lease_until: Timestamp,
}

/// A notification to be kept in quarantine.
#[derive(Clone, Debug)]
pub struct NewQuarantined {
    /// The notification.
    pub item: Quarantined,
    /// The source's bounds.
    pub bounds: QuarantineBounds,
}

/// How much quarantine one source may fill.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct QuarantineBounds {
    /// At most this many events.
    pub events: u64,
    /// At most this many bytes of bodies and headers.
    pub bytes: u64,
    /// At most this many of the events from one peer address.
    pub events_per_peer: u64,
}

/// What became of a notification for quarantine.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Quarantining {
    /// It is kept.
    Kept,
    /// The source's quarantine is full: it is refused and counted.
    Full,
    /// The peer has used up its share: it is refused and counted.
    PeerFull,
}

/// A notification in quarantine.
#[derive(Clone, Debug, PartialEq)]
pub struct Quarantined {
    /// Its id.
    pub id: QuarantineId,
    /// Where it came in.
    pub source: SourceId,
    /// When.
    pub received_at: Timestamp,
    /// Why it was refused.
    pub cause: String,
    /// Who sent it.
    pub peer: String,
    /// The request's method.
    pub method: String,
    /// The request's path and query.
    pub target: String,
    /// Its headers.
    pub headers: HeaderBlock,
    /// Its body.
    pub body: Bytes,
}

/// A notification in quarantine, without its content.
#[derive(Clone, Debug, PartialEq)]
pub struct QuarantinedSummary {
    /// Its id.
    pub id: QuarantineId,
    /// Where it came in.
    pub source: SourceId,
    /// When.
    pub received_at: Timestamp,
    /// Why it was refused.
    pub cause: String,
    /// Who sent it.
    pub peer: String,
    /// The size of its body in bytes.
    pub body_bytes: u64,
}

/// A request that the public listener refused.
#[derive(Clone, Debug, PartialEq)]
pub struct Rejected {
    /// When.
    pub at: Timestamp,
    /// The source, where one was named that exists.
    pub source: Option<SourceId>,
    /// The answer's status code.
    pub status: u16,
    /// Why, as a code of docs/errors.md.
    pub cause: String,
    /// More, in words, without bodies or secrets.
    pub detail: String,
    /// Who sent it.
    pub peer: String,
    /// The request's method.
    pub method: String,
    /// The request's path, at most 256 bytes.
    pub path: String,
    /// How many like it this row stands for.
    pub count: u64,
}

/// Which page of a list.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// At most this many, from 1 to 1,000.
    pub limit: u32,
    /// Where the page before ended. One that did not come from the same list begins at its start.
    pub cursor: Option<String>,
}

/// A page of a list.
#[derive(Clone, Debug)]
pub struct Listed<T> {
    /// The items.
    pub items: Vec<T>,
    /// Where the next page begins; `None` on the last.
    pub next_cursor: Option<String>,
}

/// Which events.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EventFilter {
    /// Of this application.
    pub application: Option<ApplicationId>,
    /// Of this source.
    pub source: Option<SourceId>,
    /// Of this type, or of a prefix such as `message.*`.
    pub event_type: Option<String>,
    /// With this provider id.
    pub provider_id: Option<String>,
    /// Accepted at or after.
    pub from: Option<Timestamp>,
    /// Accepted before.
    pub until: Option<Timestamp>,
    /// Only those that no destination took.
    pub unrouted: bool,
    /// Accepted after this one, oldest first: for following what comes. Where it is no longer stored, those
    /// accepted since it was made.
    pub after: Option<EventId>,
}

/// An event without its content.
#[derive(Clone, Debug, PartialEq)]
pub struct EventSummary {
    /// Its id.
    pub id: EventId,
    /// The tenant.
    pub application: ApplicationId,
    /// Where it came in.
    pub source: SourceId,
    /// The provider's id.
    pub provider_id: Option<String>,
    /// Its type.
    pub event_type: Option<String>,
    /// When the provider says that it happened.
    pub occurred_at: Option<Timestamp>,
    /// When it was accepted.
    pub accepted_at: Timestamp,
    /// The size of its body in bytes.
    pub body_bytes: u64,
    /// How often it was repeated.
    pub repeats: u64,
    /// How many of the repeats had another body.
    pub conflicting: u64,
}

/// An event, whole.
#[derive(Clone, Debug)]
pub struct StoredEvent {
    /// The event.
    pub event: Arc<Event>,
    /// How often it was repeated.
    pub repeats: u64,
    /// How many of the repeats had another body.
    pub conflicting: u64,
    /// Its deliveries.
    pub deliveries: Vec<DeliverySummary>,
}

/// Which deliveries.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DeliveryFilter {
    /// Of this application.
    pub application: Option<ApplicationId>,
    /// To this destination.
    pub destination: Option<DestinationId>,
    /// In this state.
    pub state: Option<DeliveryState>,
    /// Of events accepted at or after.
    pub from: Option<Timestamp>,
    /// Of events accepted before.
    pub until: Option<Timestamp>,
}

/// A delivery without its attempts.
#[derive(Clone, Debug, PartialEq)]
pub struct DeliverySummary {
    /// Its id.
    pub id: DeliveryId,
    /// Its key.
    pub key: DeliveryKey,
    /// Its event.
    pub event: EventId,
    /// The event's type.
    pub event_type: Option<String>,
    /// Its destination.
    pub destination: DestinationId,
    /// Its state, with `Held` where the destination takes nothing at present.
    pub state: DeliveryState,
    /// How far it has come.
    pub progress: Progress,
    /// When the event was accepted.
    pub accepted_at: Timestamp,
    /// When its next attempt is due, or its lease ends; `None` once settled.
    pub due_at: Option<Timestamp>,
    /// When it settled.
    pub settled_at: Option<Timestamp>,
    /// Why it was filtered or discarded, or what its last attempt met ([`crate::rules::attempt_cause`]).
    pub cause: Option<String>,
}

/// Which events a replay takes, and where to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReplaySelection {
    /// These events.
    pub events: EventFilter,
    /// This one event alone.
    pub event: Option<EventId>,
    /// Only where the event's delivery is in this state. With a destination, its delivery there is meant:
    /// an event that has none is then left out.
    pub state: Option<DeliveryState>,
    /// To this destination, whether or not it took them; without one, to those that have a delivery of it.
    pub destination: Option<DestinationId>,
}

/// A replay job to be started.
#[derive(Clone, Debug, PartialEq)]
pub struct NewReplay {
    /// Its id.
    pub id: ReplayId,
    /// The tenant whose events it takes.
    pub application: ApplicationId,
    /// What it takes.
    pub selection: ReplaySelection,
    /// At most this many events a second.
    pub rate: u32,
    /// Deliveries carry a new id instead of the event's.
    pub new_id: bool,
    /// When it was asked for. Events accepted later are not part of it.
    pub created_at: Timestamp,
}

/// A replay job.
#[derive(Clone, Debug, PartialEq)]
pub struct Replay {
    /// What was asked for.
    pub new: NewReplay,
    /// How it stands.
    pub state: ReplayState,
    /// Events looked at so far.
    pub looked_at: u64,
    /// Deliveries made due so far.
    pub replayed: u64,
    /// Deliveries that were waiting or in flight anyway.
    pub skipped: u64,
    /// How many events are to be looked at in all, as counted at the start.
    pub total: u64,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
}

/// How a replay job stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ReplayState {
    /// It goes on.
    Running,
    /// It is through.
    Done,
    /// Somebody cancelled it.
    Cancelled,
}

/// What a replay would touch.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ReplayCount {
    /// Events to be looked at.
    pub events: u64,
    /// Deliveries that would be made due.
    pub deliveries: u64,
    /// Deliveries that wait or are in flight anyway.
    pub skipped: u64,
}

/// Which source's.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SourceFilter {
    /// Of this source.
    pub source: Option<SourceId>,
    /// Of sources of this application.
    pub application: Option<ApplicationId>,
}

/// Counts over everything stored.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stats {
    /// Events stored.
    pub events: u64,
    /// Repeats absorbed since the store was made.
    pub repeats: u64,
    /// Deliveries by destination and stored state.
    pub deliveries: Vec<(DestinationId, DeliveryState, u64)>,
    /// For each destination with waiting deliveries (pending or retrying), when the oldest was accepted.
    pub oldest_waiting: Vec<(DestinationId, Timestamp)>,
    /// Events in quarantine, by source.
    pub quarantined: Vec<(SourceId, u64)>,
    /// Bytes of disk in use.
    pub disk_bytes: u64,
    /// Bytes of disk free for the store.
    pub disk_free_bytes: u64,
}

/// How long things are kept (SPEC P7).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Retention {
    /// Events and attempts, after their last delivery settled.
    pub settled: Duration,
    /// Events with a dead delivery.
    pub dead: Duration,
    /// Held and pull deliveries, after the last attempt; then they are discarded.
    pub waiting: Duration,
    /// Events in quarantine.
    pub quarantine: Duration,
}

/// What a pruning step removed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Pruned {
    /// Events, with their deliveries and attempts.
    pub events: u64,
    /// Dedupe marks.
    pub marks: u64,
    /// Events in quarantine.
    pub quarantined: u64,
    /// Deliveries given up as `discarded: retention`.
    pub discarded: u64,
    /// Whether this round over the stored events goes on.
    pub more: bool,
}

/// What people are owed by e-mail: a destination began to fail, has failed, or is back (SPEC O7). Enqueued in the
/// transaction of the change.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Notice {
    /// Its id: the same however often it is sent.
    pub id: NoticeId,
    /// The tenant.
    pub application: ApplicationId,
    /// The destination.
    pub destination: DestinationId,
    /// Its name at that time.
    pub destination_name: String,
    /// Its URL at that time; none where it is pulled from.
    pub url: Option<String>,
    /// When its status changed.
    pub at: Timestamp,
    /// What its status was.
    pub from: DestinationStatus,
    /// Since when.
    pub from_since: Timestamp,
    /// What it became.
    pub to: DestinationStatus,
    /// Why, in words.
    pub reason: Option<String>,
    /// Who is to be told, as e-mail addresses.
    pub recipients: Vec<String>,
}
