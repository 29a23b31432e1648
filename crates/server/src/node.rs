//! What every surface of the running server shares.
//!
//! Owns the handles to the store, the topology snapshot, the clock, the vault, the budgets and the metrics.
//! Must not know listeners or tasks: `app` puts those together.

use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use hookfast_engine::topology::TopologyChange;
use hookfast_store::Store;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::admin::Shared;
use crate::budget::Budget;
use crate::clock::Clock;
use crate::deliver::Deliveries;
use crate::deliver::resolve::Guard;
use crate::deliver::transport::{Transport, trusted_roots};
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
    /// Told when a destination's status changed by its attempts, so that people may be owed a notice.
    pub status_changed: Notify,
    transport: OnceLock<Arc<Transport>>,
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
            status_changed: Notify::new(),
            transport: OnceLock::new(),
            stopping: CancellationToken::new(),
            stopped: CancellationToken::new(),
        }
    }

    /// Gives the node its way out, once it is known where it listens itself.
    pub fn set_transport(&self, transport: Arc<Transport>) {
        // A second one would be of the same settings.
        drop(self.transport.set(transport));
    }

    /// The way to addresses that came from outside.
    pub fn transport(&self) -> &Arc<Transport> {
        self.transport.get_or_init(|| {
            let guard = Guard::of_settings(&self.settings.outbox, Vec::new());
            let roots = trusted_roots([]);
            Arc::new(Transport::new(&self.settings.delivery, guard, roots, self.clock))
        })
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
        // Where somebody reactivated a destination, people may be owed a notice.
        self.status_changed.notify_one();
        Ok(())
    }

    /// Makes the store's topology ready for use and tells who waits for it.
    pub fn refresh(&self) {
        let before = self.snapshot.load();
        let snapshot = before.after(self.store.topology(), &self.vault, self.clock.now());
        let version = snapshot.topology.version;
        self.snapshot.store(Arc::new(snapshot));
        self.snapshot_changed.send_replace(version);
    }
}
