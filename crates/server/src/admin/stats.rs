//! Counts over what is stored.
//!
//! Owns this route and what of the counts a key may see. Must not count anything itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;

use super::auth::Reader;
use super::{Answer, Api, convert, wire};

/// Counts of events, deliveries, quarantine and disk.
#[utoipa::path(get, path = "/api/v1/stats", tag = "node",
    responses((status = 200, body = wire::Stats, description = "the counts")))]
pub(super) async fn show_stats(Reader(caller): Reader, State(api): State<Arc<Api>>) -> Answer<wire::Stats> {
    let stats = api.node.admin.stats(&*api.node.store, api.node.clock).await?;
    let mut deliveries: BTreeMap<wire::DeliveryState, u64> = BTreeMap::new();
    let mut destinations = Vec::new();
    let all = caller.topology.destinations.values();
    for destination in all.filter(|each| caller.sees(each.application)) {
        let counts = convert::counts(&stats, &caller.topology, destination.id);
        for (state, count) in &counts {
            *deliveries.entry(*state).or_default() += count;
        }
        if destination.deleted_at.is_none() {
            destinations.push(wire::DestinationStats {
                id: destination.id.to_string(),
                name: destination.name.clone(),
                counts,
                oldest_waiting_at: convert::oldest_waiting(&stats, destination.id),
            });
        }
    }
    let quarantined = stats.quarantined.iter().filter(|(id, _)| caller.sees_source(*id));
    let whole_server = caller.is_admin();
    Ok(Json(wire::Stats {
        events: whole_server.then_some(wire::EventStats {
            stored: stats.events,
            repeats: stats.repeats,
        }),
        deliveries,
        destinations,
        quarantine: quarantined
            .map(|(id, count)| (convert::source_name(&caller.topology, *id), *count))
            .collect(),
        disk: whole_server.then_some(wire::DiskStats {
            used_bytes: stats.disk_bytes,
            free_bytes: stats.disk_free_bytes,
        }),
    }))
}
