//! The memory model: what a store is, as simply as it can be said.
//!
//! Owns nothing but maps behind one lock, so it is the oracle that other stores are compared with and the
//! store of the simulator, with faults that happen when asked for. Must not know clocks, threads or chance:
//! the same calls give the same results.

mod delivering;
mod keeping;
mod lists;
mod nodes;
mod state;

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use async_trait::async_trait;
use hookfast_engine::delivery::DeliveryState;
use hookfast_engine::health::Health;
use hookfast_engine::id::{DeliveryId, DestinationId, EventId, NoticeId, QuarantineId, ReplayId};
use hookfast_engine::mutant::{self, Mutant};
use hookfast_engine::time::Timestamp;
use hookfast_engine::topology::{Topology, TopologyChange};
use parking_lot::Mutex;
use tokio::sync::watch;

use self::state::{After, State};
use crate::{
    Appended, Attempt, AttemptEnd, Claim, Claimed, DeliveryFilter, DeliverySummary, EventFilter,
    EventSummary, Listed, NewEvent, NewQuarantined, NewReplay, Notice, Page, Pruned, Quarantined,
    QuarantinedSummary, Quarantining, Rejected, Replay, ReplayCount, ReplaySelection, Result, Retention,
    Settled, Slots, SourceFilter, Standing, Stats, Store, StoreError, StoredEvent, Unavailable,
};

/// What goes wrong with a write, when a test or the simulator asks for it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    /// It fails before it took effect, and the store goes on.
    Refuse(Unavailable),
    /// The sync failed and what was written is gone. The store is broken until it is opened again.
    Lose,
    /// The sync failed but what was written is there after a restart. The store is broken until it is
    /// opened again.
    Keep,
}

/// What a [`MemoryStore`] remembers, at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot(State);

/// The model of a store, as one node has it open.
pub struct MemoryStore {
    slots: Arc<dyn Slots>,
    state: Arc<Mutex<State>>,
    /// Locked before `state` is.
    own: Mutex<Own>,
    /// By how many microseconds this node's clock is ahead of the one that all nodes share.
    clock_ahead: AtomicI64,
    broken: watch::Sender<Option<StoreError>>,
}

/// What one node's store has for itself.
#[derive(Default)]
struct Own {
    faults: VecDeque<Fault>,
    stopped: Option<StoreError>,
}

impl std::fmt::Debug for MemoryStore {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("MemoryStore").finish_non_exhaustive()
    }
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new(slots: Arc<dyn Slots>) -> Arc<Self> {
        Self::from_snapshot(Snapshot(State::default()), slots)
    }

    /// A store that remembers what the snapshot does. Push claims in it stay: see [`MemoryStore::crash`].
    #[must_use]
    pub fn from_snapshot(snapshot: Snapshot, slots: Arc<dyn Slots>) -> Arc<Self> {
        Self::over(Arc::new(Mutex::new(snapshot.0)), slots)
    }

    fn over(state: Arc<Mutex<State>>, slots: Arc<dyn Slots>) -> Arc<Self> {
        Arc::new(Self {
            slots,
            state,
            own: Mutex::default(),
            clock_ahead: AtomicI64::new(0),
            broken: watch::Sender::new(None),
        })
    }

    /// What it remembers now.
    #[must_use]
    pub fn clone_state(&self) -> Snapshot {
        Snapshot(self.state.lock().clone())
    }

    /// Stops this store as a crash does and opens what it had on stable storage again at `now`: everything
    /// that was acknowledged. The push claims of the dead process are settled as lost; pull leases stay.
    #[must_use]
    pub fn crash(&self, slots: Arc<dyn Slots>, now: Timestamp) -> Arc<Self> {
        self.stop();
        let mut state = self.state.lock().clone();
        if mutant::is_active(Mutant::HealthNotPersisted) {
            state.health.clear();
        }
        state.settle_lost_push_claims(now);
        state.prune_from = None;
        Self::from_snapshot(Snapshot(state), slots)
    }

    /// Makes the next `times` writes meet `fault`, after those that were asked for earlier.
    pub fn fail_next(&self, fault: Fault, times: usize) {
        let faults = std::iter::repeat_n(fault, times);
        self.own.lock().faults.extend(faults);
    }

    /// Every broken promise, as [`Store::check`].
    #[must_use]
    pub fn audit(&self) -> Vec<String> {
        self.state.lock().audit()
    }

    /// Carries out a write, unless a fault is due, and then tells the delivery side.
    fn write<T>(&self, operation: impl FnOnce(&mut State, &mut After) -> Result<T>) -> Result<T> {
        let mut own = self.own.lock();
        if let Some(error) = &own.stopped {
            return Err(error.clone());
        }
        let mut state = self.state.lock();
        let mut after = After::default();
        let Some(fault) = own.faults.pop_front() else {
            let result = operation(&mut state, &mut after);
            drop((state, own));
            self.tell(after);
            return result;
        };
        let mut written = state.clone();
        let done = operation(&mut written, &mut after);
        if mutant::is_active(Mutant::DedupeMarkInItsOwnTransaction) {
            state.marks.clone_from(&written.marks);
        }
        let error = match fault {
            Fault::Refuse(reason) => unavailable(reason),
            Fault::Lose | Fault::Keep => {
                if fault == Fault::Keep && done.is_ok() {
                    *state = written;
                }
                let error = StoreError::Unknown {
                    detail: "a sync failed because a test asked for it".to_owned(),
                };
                own.stopped = Some(error.clone());
                self.broken.send_replace(Some(error.clone()));
                error
            }
        };
        drop((state, own));
        for claimed in after.claimed {
            self.slots
                .give_back(claimed.destination, claimed.event.body.len());
        }
        if mutant::is_active(Mutant::AcknowledgeBeforeCommit) {
            return done;
        }
        Err(error)
    }

    fn tell(&self, after: After) {
        if !after.claimed.is_empty() {
            self.slots.hand_over(after.claimed);
        }
        for (destination, due_at) in after.waiting {
            self.slots.waiting(destination, due_at);
        }
    }

    fn read<T>(&self, look: impl FnOnce(&State) -> T) -> Result<T> {
        match &self.own.lock().stopped {
            Some(error) => Err(error.clone()),
            None => Ok(look(&self.state.lock())),
        }
    }

    fn stop(&self) {
        self.own.lock().stopped.get_or_insert_with(stopping);
    }
}

fn unavailable(reason: Unavailable) -> StoreError {
    StoreError::Unavailable {
        reason,
        retry_after: Duration::from_secs(1),
    }
}

fn stopping() -> StoreError {
    unavailable(Unavailable::Stopping)
}

#[async_trait]
impl Store for MemoryStore {
    async fn append(&self, new: NewEvent) -> Result<Appended> {
        self.write(|state, after| Ok(state.append(&new, &*self.slots, after)))
    }

    async fn settle(&self, end: AttemptEnd) -> Result<Settled> {
        self.write(|state, after| Ok(state.settle(&end, after)))
    }

    async fn claim(&self, claim: Claim) -> Result<Claimed> {
        self.write(|state, _| Ok(state.claim(&claim)))
    }

    async fn extend(&self, delivery: DeliveryId, token: u32, until: Timestamp) -> Result<bool> {
        self.write(|state, _| Ok(state.extend(delivery, token, until)))
    }

    async fn quarantine(&self, item: NewQuarantined) -> Result<Quarantining> {
        self.write(|state, _| Ok(state.quarantine(item)))
    }

    async fn release(&self, id: QuarantineId, event: NewEvent) -> Result<Option<Appended>> {
        self.write(|state, after| {
            let there = state.unquarantine(id);
            if !there && mutant::is_active(Mutant::DedupeMarkFromQuarantine) {
                state.mark(&event);
            }
            Ok(there.then(|| state.append(&event, &*self.slots, after)))
        })
    }

    async fn discard_quarantined(&self, ids: Vec<QuarantineId>) -> Result<u64> {
        self.write(|state, _| Ok(ids.into_iter().filter(|id| state.unquarantine(*id)).count() as u64))
    }

    async fn record_rejected(&self, rejected: Vec<Rejected>) -> Result<()> {
        self.write(|state, _| {
            state.record_rejected(rejected);
            Ok(())
        })
    }

    fn topology(&self) -> Arc<Topology> {
        self.state.lock().topology.clone()
    }

    async fn change_topology(
        &self,
        now: Timestamp,
        actor: String,
        changes: Vec<TopologyChange>,
    ) -> Result<Arc<Topology>> {
        self.write(|state, after| state.change_topology(now, &actor, &changes, after))
    }

    async fn notices(&self, limit: u32) -> Result<Vec<Notice>> {
        self.read(|state| state.notices.values().take(limit as usize).cloned().collect())
    }

    async fn notice_done(&self, id: NoticeId) -> Result<()> {
        self.write(|state, _| {
            state.notices.retain(|_, notice| notice.id != id);
            Ok(())
        })
    }

    async fn standings(&self, destinations: Vec<DestinationId>, now: Timestamp) -> Result<Vec<Standing>> {
        self.read(|state| state.standings(&destinations, now))
    }

    async fn health(&self, destination: DestinationId) -> Result<Health> {
        self.read(|state| state.health_of(destination))
    }

    async fn retry(&self, delivery: DeliveryId, now: Timestamp) -> Result<Option<DeliveryState>> {
        self.write(|state, after| Ok(state.retry(delivery, now, after)))
    }

    async fn discard(
        &self,
        delivery: DeliveryId,
        now: Timestamp,
        by: String,
    ) -> Result<Option<DeliveryState>> {
        self.write(|state, _| Ok(state.discard(delivery, now, &by)))
    }

    async fn discard_waiting(
        &self,
        destination: DestinationId,
        now: Timestamp,
        by: String,
        limit: u32,
    ) -> Result<u64> {
        self.write(|state, _| Ok(state.discard_waiting(destination, now, &by, limit)))
    }

    async fn start_replay(&self, replay: NewReplay) -> Result<Replay> {
        self.write(|state, _| Ok(state.start_replay(replay)))
    }

    async fn step_replay(&self, id: ReplayId, now: Timestamp, limit: u32) -> Result<Option<Replay>> {
        self.write(|state, after| Ok(state.step_replay(id, now, limit, after)))
    }

    async fn cancel_replay(&self, id: ReplayId, now: Timestamp) -> Result<Option<Replay>> {
        self.write(|state, _| Ok(state.cancel_replay(id, now)))
    }

    async fn count_replay(&self, selection: ReplaySelection) -> Result<ReplayCount> {
        self.read(|state| state.count_replay(&selection))
    }

    async fn replays(&self, page: Page) -> Result<Listed<Replay>> {
        self.read(|state| state.list_replays(&page))
    }

    async fn replay(&self, id: ReplayId) -> Result<Option<Replay>> {
        self.read(|state| state.replay(id))
    }

    async fn events(&self, filter: EventFilter, page: Page) -> Result<Listed<EventSummary>> {
        self.read(|state| state.list_events(&filter, &page))
    }

    async fn event(&self, id: EventId) -> Result<Option<StoredEvent>> {
        self.read(|state| state.event(id))
    }

    async fn deliveries(&self, filter: DeliveryFilter, page: Page) -> Result<Listed<DeliverySummary>> {
        self.read(|state| state.list_deliveries(&filter, &page))
    }

    async fn delivery(&self, id: DeliveryId) -> Result<Option<(DeliverySummary, Vec<Attempt>)>> {
        self.read(|state| state.delivery(id))
    }

    async fn quarantined(&self, filter: SourceFilter, page: Page) -> Result<Listed<QuarantinedSummary>> {
        self.read(|state| state.list_quarantined(&filter, &page))
    }

    async fn quarantined_event(&self, id: QuarantineId) -> Result<Option<Quarantined>> {
        self.read(|state| state.quarantine.values().find(|item| item.id == id).cloned())
    }

    async fn rejected(&self, filter: SourceFilter, page: Page) -> Result<Listed<Rejected>> {
        self.read(|state| state.list_rejected(&filter, &page))
    }

    async fn stats(&self) -> Result<Stats> {
        self.read(State::stats)
    }

    async fn prune(&self, now: Timestamp, retention: Retention, limit: u32) -> Result<Pruned> {
        self.write(|state, _| Ok(state.prune(now, retention, limit)))
    }

    async fn check(&self) -> Result<Vec<String>> {
        self.read(State::audit)
    }

    async fn backup(&self, to: &Path) -> Result<()> {
        Err(StoreError::Refused {
            detail: format!("the memory model writes no files, so not {} either", to.display()),
        })
    }

    async fn broken(&self) -> StoreError {
        let mut broken = self.broken.subscribe();
        match broken.wait_for(Option::is_some).await.map(|error| error.clone()) {
            Ok(Some(error)) => error,
            Ok(None) | Err(_) => std::future::pending().await,
        }
    }

    async fn close(&self) {
        self.stop();
    }
}
