//! What every surface of the running server shares.
//!
//! Owns the handles to the store, the topology snapshot, the clock, the vault, the budgets and the metrics.
//! Must not know listeners or tasks: `app` puts those together.

use std::sync::Arc;

use arc_swap::ArcSwap;
use hookfast_engine::topology::TopologyChange;
use hookfast_store::Store;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::admin::Shared;
use crate::budget::Budget;
use crate::clock::Clock;
use crate::deliver::Deliveries;
use crate::ingest::rejections::Rejections;
use crate::settings::Settings;
use crate::snapshot::Snapshot;
use crate::telemetry::Metrics;
use crate::vault::Vault;

/// The running server, as its surfaces see it.
pub struct Node {
    /// Time and chance.
    pub clock: Clock,
    /// What it remembers.
    pub store: Arc<dyn Store>,
    /// The delivery side: to be told where something may wait.
    pub deliveries: Arc<Deliveries>,
    /// The topology, ready for use; replaced as a whole.
    pub snapshot: ArcSwap<Snapshot>,
    /// Tells of a new snapshot.
    pub snapshot_changed: watch::Sender<u64>,
    /// The settings it was started with.
    pub settings: Settings,
    /// Seals and opens secrets.
    pub vault: Vault,
    /// Bytes of bodies on their way in.
    pub ingest_budget: Budget,
    /// Counts of everything.
    pub metrics: Metrics,
    /// Requests that were refused, on their way to the store.
    pub rejections: Rejections,
    /// What the admin surfaces share.
    pub admin: Shared,
    /// Cancelled when no new requests are to be taken.
    pub stopping: CancellationToken,
    /// Cancelled when everything in hand has ended: until then, who comes is told to come again.
    pub stopped: CancellationToken,
}

impl Node {
    /// A node on `store`, with what the store has set up made ready.
    #[must_use]
    pub fn new(
        clock: Clock,
        store: Arc<dyn Store>,
        deliveries: Arc<Deliveries>,
        settings: Settings,
        vault: Vault,
    ) -> Self {
        Self {
            clock,
            snapshot: ArcSwap::from_pointee(Snapshot::new(store.topology(), &vault, clock.now())),
            snapshot_changed: watch::Sender::new(0),
            // The other half is for deliveries.
            ingest_budget: Budget::new(settings.delivery.body_bytes / 2),
            store,
            deliveries,
            settings,
            vault,
            metrics: Metrics::new(),
            rejections: Rejections::default(),
            admin: Shared::new(clock),
            stopping: CancellationToken::new(),
            stopped: CancellationToken::new(),
        }
    }

    /// Changes the topology and makes the new one ready before it returns.
    ///
    /// # Errors
    /// Those of [`Store::change_topology`].
    pub async fn change_topology(
        &self,
        actor: &str,
        changes: Vec<TopologyChange>,
    ) -> hookfast_store::Result<()> {
        self.store
            .change_topology(self.clock.now(), actor.to_owned(), changes)
            .await?;
        self.refresh();
        Ok(())
    }

    /// Makes the store's topology ready for use and tells who waits for it.
    pub fn refresh(&self) {
        let snapshot = Snapshot::new(self.store.topology(), &self.vault, self.clock.now());
        let version = snapshot.topology.version;
        self.snapshot.store(Arc::new(snapshot));
        self.snapshot_changed.send_replace(version);
    }
}
