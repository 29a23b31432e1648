//! Upkeep: what must happen now and then whatever else happens.
//!
//! Owns the times at which retention is carried out, expired secrets leave the snapshot and a look for
//! forgotten deliveries is made. Must not know how any of it is done.

use std::sync::Arc;
use std::time::Duration;

use hookfast_store::StoreError;

use crate::node::Node;

/// Retention begins a round over everything stored this often.
const PRUNE_EVERY: Duration = Duration::from_secs(600);
/// Within a round, a step comes this long after the one before, so that others get in between.
const PRUNE_PAUSE: Duration = Duration::from_millis(20);
/// How many events a step of retention looks at.
const PRUNE_STEP: u32 = 500;
/// The snapshot is made anew this often, so that secrets whose overlap has ended stop working.
const REFRESH_EVERY: Duration = Duration::from_secs(60);

/// Runs until it is dropped.
pub async fn run(node: Arc<Node>) {
    tokio::join!(prune(&node), refresh(&node));
}

async fn prune(node: &Node) {
    loop {
        match node
            .store
            .prune(node.clock.now(), node.settings.retention, PRUNE_STEP)
            .await
        {
            Ok(pruned) if pruned.more => tokio::time::sleep(PRUNE_PAUSE).await,
            Ok(_) | Err(StoreError::Unavailable { .. }) => tokio::time::sleep(PRUNE_EVERY).await,
            Err(error) => {
                tracing::error!(error = %error, "retention could not be carried out");
                tokio::time::sleep(PRUNE_EVERY).await;
            }
        }
    }
}

async fn refresh(node: &Node) {
    loop {
        tokio::time::sleep(REFRESH_EVERY).await;
        node.refresh();
        // Nobody should have to be reminded of what is due; this bounds the harm if somebody forgot.
        node.deliveries.look_everywhere();
    }
}
