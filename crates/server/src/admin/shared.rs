//! What the requests of a node's admin surfaces share.
//!
//! Owns the node's own record (id, start, listeners), the bounds on what may be under way at once, and a short
//! memory of the store's counts. Must not know routes.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hookfast_engine::id::DestinationId;
use hookfast_engine::time::Timestamp;
use hookfast_store::{Stats, Store};
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};

use crate::clock::{Clock, Stopwatch};

/// Listeners to the stream at once.
const STREAMS: usize = 32;
/// Answers to pulls that are under way at once (their bodies are a part of what SPEC P5 allows).
const PULLS: usize = 8;
/// For how long counts are remembered.
const COUNTS_KEPT: Duration = Duration::from_millis(100);

/// What the admin surfaces share.
#[derive(Debug)]
pub struct Shared {
    /// The node's id, new with every start.
    pub(crate) id: String,
    pub(crate) started_at: Timestamp,
    pub(crate) running: Stopwatch,
    listeners: Mutex<BTreeMap<&'static str, SocketAddr>>,
    /// One permit for each listener to the stream.
    pub(super) streams: Arc<Semaphore>,
    /// One permit for each answer on its way to a puller.
    pub(super) pulls: Arc<Semaphore>,
    /// Held by whoever reads the topology to change it, so that no change undoes another.
    changing: tokio::sync::Mutex<()>,
    pollers: Mutex<HashMap<DestinationId, Arc<tokio::sync::Mutex<()>>>>,
    counts: tokio::sync::Mutex<Option<(Stopwatch, Arc<Stats>)>>,
    /// Told when a replay was started.
    pub(crate) replay_started: Notify,
}

impl Shared {
    /// Of a node that starts now.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self {
            id: format!("nod_{:032x}", clock.entropy()),
            started_at: clock.now(),
            running: clock.start(),
            listeners: Mutex::default(),
            streams: Arc::new(Semaphore::new(STREAMS)),
            pulls: Arc::new(Semaphore::new(PULLS)),
            changing: tokio::sync::Mutex::default(),
            pollers: Mutex::default(),
            counts: tokio::sync::Mutex::default(),
            replay_started: Notify::new(),
        }
    }

    /// Notes where the listener of that name accepts.
    pub fn register(&self, name: &'static str, address: SocketAddr) {
        self.listeners.lock().insert(name, address);
    }

    /// Where the node accepts.
    #[must_use]
    pub fn listeners(&self) -> Vec<(&'static str, SocketAddr)> {
        let listeners = self.listeners.lock();
        listeners
            .iter()
            .map(|(name, address)| (*name, *address))
            .collect()
    }

    /// The turn to read the topology, change it and store it.
    pub async fn turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.changing.lock().await
    }

    /// The store's counts, at most a moment old: however many ask, the store is asked now and then.
    pub(super) async fn stats(&self, store: &dyn Store, clock: Clock) -> hookfast_store::Result<Arc<Stats>> {
        let mut kept = self.counts.lock().await;
        if let Some((age, stats)) = &*kept
            && age.elapsed() < COUNTS_KEPT
        {
            return Ok(Arc::clone(stats));
        }
        let stats = Arc::new(store.stats().await?);
        *kept = Some((clock.start(), Arc::clone(&stats)));
        Ok(stats)
    }

    /// The turn to look for work of a destination: one puller at a time asks the store, the others wait.
    pub(super) fn poller(&self, destination: DestinationId) -> Arc<tokio::sync::Mutex<()>> {
        let mut pollers = self.pollers.lock();
        pollers.retain(|id, poller| *id == destination || Arc::strong_count(poller) > 1);
        Arc::clone(pollers.entry(destination).or_default())
    }
}
