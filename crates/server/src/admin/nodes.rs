//! The nodes that are running.
//!
//! Owns this route. One node knows itself alone until the store keeps a list of them.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;

use super::auth::Administrator;
use super::{Api, wire};

/// The nodes.
#[utoipa::path(get, path = "/api/v1/nodes", tag = "node",
    responses((status = 200, body = wire::List<wire::Node>, description = "the nodes")))]
pub(super) async fn list_nodes(
    _: Administrator,
    State(api): State<Arc<Api>>,
) -> Json<wire::List<wire::Node>> {
    let own = &api.node.admin;
    let listeners = own.listeners().into_iter().map(|(name, address)| wire::Listener {
        name: name.to_owned(),
        address: address.to_string(),
    });
    let node = wire::Node {
        id: own.id.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started_at: wire::Time(own.started_at),
        uptime: wire::Span(own.running.elapsed()),
        listeners: listeners.collect(),
    };
    Json(wire::List {
        data: vec![node],
        next_cursor: None,
    })
}
