//! What Hookfast remembers.
//!
//! Owns the [`Store`] trait (each method one domain operation and one transaction), the memory model, the
//! embedded store and the suite that every store passes. Must not know HTTP, configuration, secrets in the
//! clear or the network; states are decided by the engine, inside the store's own transactions.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use hookfast_engine::delivery::{DeliveryKey, DeliveryState, Progress};
use hookfast_engine::event::{Event, HeaderBlock};
use hookfast_engine::health::{Gate, Health};
use hookfast_engine::id::{
    ApplicationId, DeliveryId, DestinationId, EventId, QuarantineId, ReplayId, SourceId,
};
use hookfast_engine::outcome::Outcome;
use hookfast_engine::retry::Verdict;
use hookfast_engine::time::Timestamp;
use hookfast_engine::topology::{Topology, TopologyChange};

pub mod conformance;
pub mod embedded;
mod error;
pub mod lanes;
pub mod memory;
pub mod rules;

pub use error::{StoreError, Unavailable};

/// What a store returns.
pub type Result<T> = std::result::Result<T, StoreError>;

/// A store of events and deliveries. Every method that writes returns only once what it wrote is on stable
/// storage, and everything it wrote, or nothing, survives a crash.
///
/// A delivery *waits* while it is pending or retrying, whatever its destination's status. Where a method
/// returns or filters by a state, it is the one that lists show: held where the destination is not open.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Takes one event: its dedupe mark, the event, and one delivery per destination that the engine routes
    /// it to, in one step. Many calls share one commit.
    ///
    /// A delivery for which [`Slots::reserve`] said yes is born in flight, with attempt 1, and given to
    /// [`Slots::hand_over`] after the commit. For the others of open push destinations [`Slots::waiting`]
    /// is called after the commit. A repeat is answered once its mark is known to be synced.
    ///
    /// The time of the call is the event's `accepted_at`: a mark counts until just before it expires, and
    /// the first attempt of a delivery born in flight begins then. Only open push destinations are asked for
    /// a slot. A repeat never moves the mark's expiry.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] where the lane or the disk is full; [`StoreError::Unknown`].
    async fn append(&self, new: NewEvent) -> Result<Appended>;

    /// Records the end of an attempt and moves its delivery as [`hookfast_engine::settle::settle`] says.
    /// A settlement whose token is not the delivery's current attempt, or whose delivery is not in flight,
    /// changes nothing and is [`Settled::Stale`]. A lease that ran out but that nobody claimed still counts.
    ///
    /// Where the breaker closed, the destination's retrying deliveries are due at the time their event was
    /// accepted. [`Slots::waiting`] is not called: the result says it all.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] where the disk is full: the caller keeps the end and asks again.
    async fn settle(&self, end: AttemptEnd) -> Result<Settled>;

    /// Claims due deliveries of one open destination, oldest due time first and then in acceptance order,
    /// each with its next attempt begun and leased until `now + lease`. A delivery in flight whose lease ran
    /// out is first settled as [`Outcome::Lost`]; its place in the order is the end of its lease.
    ///
    /// The destination's breaker and limits are the caller's business.
    ///
    /// # Errors
    /// As [`Store::settle`].
    async fn claim(&self, claim: Claim) -> Result<Claimed>;

    /// Extends the lease of the attempt `token` of a delivery in flight; false where it is no longer that.
    ///
    /// # Errors
    /// As [`Store::settle`].
    async fn extend(&self, delivery: DeliveryId, token: u32, until: Timestamp) -> Result<bool>;

    /// Keeps a notification that was refused, within its source's bounds. Never writes a dedupe mark.
    ///
    /// # Errors
    /// As [`Store::append`].
    async fn quarantine(&self, item: NewQuarantined) -> Result<Quarantining>;

    /// Takes an event out of quarantine and appends it, in one step. Once it is gone from quarantine the
    /// result is `None`, whoever released it.
    ///
    /// # Errors
    /// As [`Store::append`].
    async fn release(&self, id: QuarantineId, event: NewEvent) -> Result<Option<Appended>>;

    /// Removes events from quarantine; the number removed.
    ///
    /// # Errors
    /// As [`Store::settle`].
    async fn discard_quarantined(&self, ids: Vec<QuarantineId>) -> Result<u64>;

    /// Adds refused requests to the bounded list of them (the newest 10,000 are kept).
    ///
    /// # Errors
    /// As [`Store::settle`].
    async fn record_rejected(&self, rejected: Vec<Rejected>) -> Result<()>;

    /// The topology as it stands.
    fn topology(&self) -> Arc<Topology>;

    /// Makes all `changes` or none, with an audit row each, and returns the new topology, as
    /// [`rules::change_topology`] says. A new destination is matched with the unrouted events of its sources:
    /// those deliveries are due at the time their event was accepted. The unsettled deliveries of a deleted
    /// destination are given up, as [`rules::CAUSE_DESTINATION_DELETED`]: they read as discarded at once,
    /// though a store may write it down later. Of many, the first thousand are matched or
    /// given up in this step and the rest in steps that follow by themselves; the same holds where a breaker
    /// closes.
    ///
    /// Removing a source takes it out of its destinations' lists.
    ///
    /// # Errors
    /// [`StoreError::Refused`] for a name used twice, a reference to nothing, or too many destinations.
    async fn change_topology(
        &self,
        now: Timestamp,
        actor: String,
        changes: Vec<TopologyChange>,
    ) -> Result<Arc<Topology>>;

    /// Each push and pull destination's health.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    async fn health(&self, destination: DestinationId) -> Result<Health>;

    /// Makes a waiting, dead, rejected or discarded delivery due now, in a new round. Delivered, filtered and
    /// in-flight ones are left alone, and so are those of a deleted destination. The state it found, or
    /// `None` where there is no such delivery.
    ///
    /// # Errors
    /// As [`Store::settle`].
    async fn retry(&self, delivery: DeliveryId, now: Timestamp) -> Result<Option<DeliveryState>>;

    /// Gives up a delivery that is not settled (one in flight too: its settlement will be stale), recording
    /// `by` as its cause. The state it found, or `None` where there is no such delivery.
    ///
    /// # Errors
    /// As [`Store::settle`].
    async fn discard(
        &self,
        delivery: DeliveryId,
        now: Timestamp,
        by: String,
    ) -> Result<Option<DeliveryState>>;

    /// Gives up at most `limit` waiting deliveries of a destination, open or not; how many. Those in flight
    /// are left alone. Called again until zero.
    ///
    /// # Errors
    /// As [`Store::settle`].
    async fn discard_waiting(
        &self,
        destination: DestinationId,
        now: Timestamp,
        by: String,
        limit: u32,
    ) -> Result<u64>;

    /// Starts a replay job over the application's events that are stored now and were accepted at or before
    /// `created_at`, oldest first.
    ///
    /// # Errors
    /// As [`Store::settle`].
    async fn start_replay(&self, replay: NewReplay) -> Result<Replay>;

    /// Takes the job on by at most `limit` events: the deliveries are due and the job's cursor has moved, in
    /// one step, so that a restart goes on where it stopped. At the end of its events the job is `Done`. A job
    /// that ended is left as it is.
    ///
    /// A settled delivery begins a new round, pending and due at `now`; one that waits or is in flight is left
    /// alone and skipped; one of a deleted destination, or of a destination in another application, is
    /// neither. [`Slots::waiting`] is called as after an append.
    ///
    /// # Errors
    /// As [`Store::settle`].
    async fn step_replay(&self, id: ReplayId, now: Timestamp, limit: u32) -> Result<Option<Replay>>;

    /// Cancels a running job; what it already made due stays due.
    ///
    /// # Errors
    /// As [`Store::settle`].
    async fn cancel_replay(&self, id: ReplayId, now: Timestamp) -> Result<Option<Replay>>;

    /// How many events and deliveries a replay of `selection` would touch, were it started now. The
    /// application is the one that `selection.events` names; without one, events of every application count.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    async fn count_replay(&self, selection: ReplaySelection) -> Result<ReplayCount>;

    /// Replay jobs, newest first.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    async fn replays(&self, page: Page) -> Result<Listed<Replay>>;

    /// One replay job.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    async fn replay(&self, id: ReplayId) -> Result<Option<Replay>>;

    /// Events, newest first.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    async fn events(&self, filter: EventFilter, page: Page) -> Result<Listed<EventSummary>>;

    /// One event, whole, with its deliveries.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    async fn event(&self, id: EventId) -> Result<Option<StoredEvent>>;

    /// Deliveries, newest first.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    async fn deliveries(&self, filter: DeliveryFilter, page: Page) -> Result<Listed<DeliverySummary>>;

    /// One delivery with its attempts, oldest first.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    async fn delivery(&self, id: DeliveryId) -> Result<Option<(DeliverySummary, Vec<Attempt>)>>;

    /// What is in quarantine, newest first, without bodies.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    async fn quarantined(&self, filter: SourceFilter, page: Page) -> Result<Listed<QuarantinedSummary>>;

    /// One event in quarantine, whole.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    async fn quarantined_event(&self, id: QuarantineId) -> Result<Option<Quarantined>>;

    /// The refused requests that are kept, newest first.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    async fn rejected(&self, filter: SourceFilter, page: Page) -> Result<Listed<Rejected>>;

    /// Counts over everything stored. Cheap whatever is stored: counters are kept, not counted.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    async fn stats(&self) -> Result<Stats>;

    /// Removes a bounded amount of what retention no longer keeps: at most `limit` events looked at, oldest
    /// first, and at most `limit` marks and `limit` events in quarantine. Called again while [`Pruned::more`];
    /// the call after that begins a new round.
    ///
    /// An event is kept as [`rules::kept_until`] says, and as long as one of its deliveries is not settled. A
    /// waiting delivery of a pull destination or of one that is not open, and an expired lease of a puller,
    /// are given up as [`rules::CAUSE_RETENTION`] once their last attempt began `retention.waiting` ago
    /// (without one: their event was accepted, or their round began, that long ago). A mark goes once it
    /// expired: a repeat of an event that is gone already is still a repeat until then.
    ///
    /// # Errors
    /// As [`Store::settle`].
    async fn prune(&self, now: Timestamp, retention: Retention, limit: u32) -> Result<Pruned>;

    /// Reads everything and reports each broken promise: damaged files, an event without its deliveries, a
    /// delivery without its event, counters that do not add up.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    async fn check(&self) -> Result<Vec<String>>;

    /// Writes a consistent copy to the new file `to` while running.
    ///
    /// # Errors
    /// [`StoreError::Refused`] where the file exists or cannot be written.
    async fn backup(&self, to: &Path) -> Result<()>;

    /// Resolves with the reason once the store can no longer promise anything: the process must stop.
    async fn broken(&self) -> StoreError;

    /// Finishes what is queued and closes. Later calls are [`Unavailable::Stopping`].
    async fn close(&self);
}

/// The node's delivery side, as a store's writer sees it. None of the methods may block.
///
/// It is told after the commit, perhaps after the call returned, but before a later write returns.
pub trait Slots: Send + Sync + 'static {
    /// Whether a delivery of a body of `bytes` to `destination` may be attempted at once. A yes is used up
    /// by [`Slots::hand_over`] or given back by [`Slots::give_back`].
    fn reserve(&self, now: Timestamp, destination: DestinationId, bytes: usize) -> bool;

    /// Gives back a reservation: the commit failed.
    fn give_back(&self, destination: DestinationId, bytes: usize);

    /// Deliveries that were born in flight and are now on stable storage.
    fn hand_over(&self, claimed: Vec<ClaimedDelivery>);

    /// A delivery of an open push destination waits until `due_at` and is on stable storage: after an append,
    /// a release, a retry, a step of a replay, or the matching of unrouted events.
    fn waiting(&self, destination: DestinationId, due_at: Timestamp);
}

/// A [`Slots`] that attempts nothing: for stores opened without a delivery side.
#[derive(Clone, Copy, Debug)]
pub struct NoSlots;

impl Slots for NoSlots {
    fn reserve(&self, _: Timestamp, _: DestinationId, _: usize) -> bool {
        false
    }

    fn give_back(&self, _: DestinationId, _: usize) {}

    fn hand_over(&self, _: Vec<ClaimedDelivery>) {}

    fn waiting(&self, _: DestinationId, _: Timestamp) {}
}

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

/// A delivery in flight, with all that sending needs.
#[derive(Clone, Debug)]
pub struct ClaimedDelivery {
    /// The delivery.
    pub id: DeliveryId,
    /// Its destination.
    pub destination: DestinationId,
    /// The attempt's number and token.
    pub attempt: u32,
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
    /// Why it was filtered or discarded, or what its last attempt met ([`rules::attempt_cause`]).
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
