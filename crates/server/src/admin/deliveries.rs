//! Deliveries: list, show with attempts, retry, discard.
//!
//! Owns these routes. Must not decide which states may be retried: the store asks the engine.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use hookfast_engine::delivery::DeliveryState;
use hookfast_engine::id::DeliveryId;
use hookfast_store::{Attempt, DeliveryFilter, DeliverySummary};
use serde::Deserialize;
use utoipa::IntoParams;

use super::auth::{Caller, Reader, Writer, not_found};
use super::error::Fault;
use super::events::{page, path_id};
use super::read::Query;
use super::{Answer, Api, convert, wire};

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct DeliveryQuery {
    /// In this state.
    state: Option<wire::DeliveryState>,
    /// To this destination, by name or id.
    destination: Option<String>,
    /// Of events accepted at or after.
    from: Option<wire::Time>,
    /// Of events accepted before.
    until: Option<wire::Time>,
    /// At most this many, from 1 to 1000; 50 by default.
    limit: Option<u32>,
    /// Where the page begins: `next_cursor` of the one before.
    cursor: Option<String>,
}

/// Deliveries, newest first.
#[utoipa::path(get, path = "/api/v1/deliveries", tag = "deliveries", params(DeliveryQuery),
    responses((status = 200, body = wire::List<wire::Delivery>, description = "a page of deliveries")))]
pub(super) async fn list_deliveries(
    Reader(caller): Reader,
    State(api): State<Arc<Api>>,
    Query(query): Query<DeliveryQuery>,
) -> Answer<wire::List<wire::Delivery>> {
    let page = page(query.limit, query.cursor)?;
    let destination = query
        .destination
        .map(|named| caller.destination(&named).map(|found| found.id));
    let filter = DeliveryFilter {
        application: caller.application,
        destination: destination.transpose()?,
        state: query.state.map(Into::into),
        from: query.from.map(|time| time.0),
        until: query.until.map(|time| time.0),
    };
    let listed = api.node.store.deliveries(filter, page).await?;
    Ok(Json(convert::list(listed, |each| {
        convert::delivery(&caller.topology, each)
    })))
}

/// The delivery of that id, as far as the caller may know of it.
async fn find(api: &Api, caller: &Caller, text: &str) -> Result<(DeliverySummary, Vec<Attempt>), Fault> {
    let id: DeliveryId = path_id(text)?;
    let found = api.node.store.delivery(id).await?;
    found
        .filter(|(summary, _)| caller.sees_destination(summary.destination))
        .ok_or_else(|| not_found("delivery", text))
}

/// One delivery with its attempts.
#[utoipa::path(get, path = "/api/v1/deliveries/{id}", tag = "deliveries", params(("id" = String, Path, description = "its id")),
    responses((status = 200, body = wire::DeliveryDetail, description = "the delivery")))]
pub(super) async fn show_delivery(
    Reader(caller): Reader,
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
) -> Answer<wire::DeliveryDetail> {
    let (summary, attempts) = find(&api, &caller, &id).await?;
    Ok(Json(wire::DeliveryDetail {
        delivery: convert::delivery(&caller.topology, summary),
        attempt_log: attempts.into_iter().map(convert::attempt).collect(),
    }))
}

/// Makes a waiting, dead, rejected or discarded delivery due now.
#[utoipa::path(post, path = "/api/v1/deliveries/{id}/retry", tag = "deliveries", params(("id" = String, Path, description = "its id")),
    responses((status = 200, body = wire::DeliveryChanged, description = "what became of it")))]
pub(super) async fn retry_delivery(
    Writer(caller): Writer,
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
) -> Answer<wire::DeliveryChanged> {
    let (before, _) = find(&api, &caller, &id).await?;
    let was = api.node.store.retry(before.id, api.node.clock.now()).await?;
    let was = was.ok_or_else(|| not_found("delivery", &id))?;
    let gone = caller.topology.destinations.get(&before.destination);
    let there = gone.is_some_and(|destination| destination.deleted_at.is_none());
    let changed = there
        && match was {
            DeliveryState::Pending
            | DeliveryState::Retrying
            | DeliveryState::Held
            | DeliveryState::Dead
            | DeliveryState::Rejected
            | DeliveryState::Discarded => true,
            DeliveryState::InFlight | DeliveryState::Delivered | DeliveryState::Filtered => false,
        };
    changed_delivery(&api, &caller, &id, was, changed).await
}

/// Gives up a delivery that is not settled.
#[utoipa::path(post, path = "/api/v1/deliveries/{id}/discard", tag = "deliveries", params(("id" = String, Path, description = "its id")),
    responses((status = 200, body = wire::DeliveryChanged, description = "what became of it")))]
pub(super) async fn discard_delivery(
    Writer(caller): Writer,
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
) -> Answer<wire::DeliveryChanged> {
    let (before, _) = find(&api, &caller, &id).await?;
    let by = format!("key {}", caller.name);
    let was = api
        .node
        .store
        .discard(before.id, api.node.clock.now(), by)
        .await?;
    let was = was.ok_or_else(|| not_found("delivery", &id))?;
    changed_delivery(&api, &caller, &id, was, !was.is_settled()).await
}

async fn changed_delivery(
    api: &Api,
    caller: &Caller,
    id: &str,
    was: DeliveryState,
    changed: bool,
) -> Answer<wire::DeliveryChanged> {
    let (after, _) = find(api, caller, id).await?;
    Ok(Json(wire::DeliveryChanged {
        delivery: convert::delivery(&caller.topology, after),
        was: was.into(),
        changed,
    }))
}
