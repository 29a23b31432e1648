//! Several nodes on one memory model, as they are to share one database.
//!
//! Owns how a node joins and leaves, and how it comes by the clock that all nodes share. Must not know what is
//! remembered.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use hookfast_engine::mutant::{self, Mutant};
use hookfast_engine::time::Timestamp;

use super::MemoryStore;
use crate::Slots;

impl MemoryStore {
    /// Opens what this store remembers for another node, with its own delivery side and its own faults.
    #[must_use]
    pub fn join(&self, slots: Arc<dyn Slots>) -> Arc<Self> {
        Self::over(Arc::clone(&self.state), slots)
    }

    /// Stops this node's store as the node's death does: the others go on, and what it had claimed waits for the
    /// end of its lease (SPEC P3).
    pub fn leave(&self) {
        self.stop();
    }

    /// Notes how far this node's clock, which says `local`, is from the one that all nodes share, which says `shared`.
    pub fn heartbeat(&self, local: Timestamp, shared: Timestamp) {
        let ahead = local.as_micros().saturating_sub(shared.as_micros());
        self.clock_ahead.store(ahead, Ordering::Relaxed);
    }

    /// The time by the clock that all nodes share, which leases are judged by, where this node's clock says `local`.
    #[must_use]
    pub fn shared_time(&self, local: Timestamp) -> Timestamp {
        if mutant::is_active(Mutant::LeaseOnLocalClock) {
            return local;
        }
        let ahead = self.clock_ahead.load(Ordering::Relaxed);
        Timestamp::from_micros(local.as_micros().saturating_sub(ahead))
    }
}
