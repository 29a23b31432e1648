//! What Hookfast remembers.
//!
//! Owns the [`Store`] trait (each method one domain operation and one transaction), the memory model, the
//! embedded store and the suite that every store passes. Must not know HTTP, configuration, secrets in the
//! clear or the network; states are decided by the engine, inside the store's own transactions.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use hookfast_engine::delivery::DeliveryState;
use hookfast_engine::health::Health;
use hookfast_engine::id::{DeliveryId, DestinationId, EventId, NoticeId, QuarantineId, ReplayId};
use hookfast_engine::time::Timestamp;
use hookfast_engine::topology::{Topology, TopologyChange};

pub mod conformance;
pub mod embedded;
mod error;
pub mod lanes;
pub mod memory;
mod records;
pub mod rules;

pub use error::{StoreError, Unavailable};
pub use records::*;

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
    /// Where the engine changes the destination's status, and it is still what the change is from, the topology
    /// is changed in the same step, with what [`Store::change_topology`] says of a change of status.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] where the disk is full: the caller keeps the end and asks again.
    async fn settle(&self, end: AttemptEnd) -> Result<Settled>;

    /// Claims due deliveries of one open destination, oldest due time first and then in acceptance order,
    /// each with its next attempt begun and leased until `now + lease`. A delivery in flight whose lease ran
    /// out is first settled as `Outcome::Lost`; its place in the order is the end of its lease.
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
    /// Where a destination begins to fail, has failed, or is active again after either, [`rules::announcement`]
    /// is published as an event of [`hookfast_engine::id::SourceId::of_operations`], and a [`Notice`] is
    /// enqueued where the destination names somebody to be told. A destination that becomes active has its
    /// health begin anew.
    ///
    /// # Errors
    /// [`StoreError::Refused`] for a name used twice, a reference to nothing, or too many destinations.
    async fn change_topology(
        &self,
        now: Timestamp,
        actor: String,
        changes: Vec<TopologyChange>,
    ) -> Result<Arc<Topology>>;

    /// The notices that are owed, oldest first, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    async fn notices(&self, limit: u32) -> Result<Vec<Notice>>;

    /// Forgets a notice: it was sent, or cannot be. Nothing happens where it is gone already.
    ///
    /// # Errors
    /// As [`Store::settle`].
    async fn notice_done(&self, id: NoticeId) -> Result<()>;

    /// What a dispatcher must know of each of these destinations before it has tried them; those that are not there
    /// are left out. A read: it holds up nobody, however many there are.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    async fn standings(&self, destinations: Vec<DestinationId>, now: Timestamp) -> Result<Vec<Standing>>;

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
