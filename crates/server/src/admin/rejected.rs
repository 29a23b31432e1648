//! Requests that the public listener refused (SPEC I19).
//!
//! Owns this route. Must not show requests that named no source to anyone but administrators.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use hookfast_store::SourceFilter;
use serde::Deserialize;
use utoipa::IntoParams;

use super::auth::Reader;
use super::events::page;
use super::read::Query;
use super::{Answer, Api, convert, wire};

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct SourceQuery {
    /// Of this source, by name or id.
    pub(super) source: Option<String>,
    /// At most this many, from 1 to 1000; 50 by default.
    pub(super) limit: Option<u32>,
    /// Where the page begins: `next_cursor` of the one before.
    pub(super) cursor: Option<String>,
}

/// Refused requests, newest first. An admin key that names no application sees all of them.
#[utoipa::path(get, path = "/api/v1/rejected", tag = "quarantine", params(SourceQuery),
    responses((status = 200, body = wire::List<wire::Rejected>, description = "a page of refused requests")))]
pub(super) async fn list_rejected(
    Reader(caller): Reader,
    State(api): State<Arc<Api>>,
    Query(query): Query<SourceQuery>,
) -> Answer<wire::List<wire::Rejected>> {
    let page = page(query.limit, query.cursor)?;
    let source = query
        .source
        .map(|named| caller.source(&named).map(|source| source.id));
    let filter = SourceFilter {
        source: source.transpose()?,
        // Those that named no source are of no application.
        application: caller.application.filter(|_| caller.named || !caller.is_admin()),
    };
    let listed = api.node.store.rejected(filter, page).await?;
    Ok(Json(convert::list(listed, |each| {
        convert::rejected(&caller.topology, each)
    })))
}
