//! Quarantine (SPEC I7): list, show, release, discard.
//!
//! Owns these routes. Must not verify anything: `ingest::release` does.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use hookfast_engine::id::{QuarantineId, SourceId};
use hookfast_store::{Page, Quarantined, QuarantinedSummary, SourceFilter, rules};

use super::auth::{Caller, Reader, Writer, not_found};
use super::error::Fault;
use super::events::{id, page, path_id};
use super::read::{Body, Query};
use super::redact::Redactor;
use super::rejected::SourceQuery;
use super::{Answer, Api, convert, wire};
use crate::ingest::release::{self, Selection};

/// How many ids one request may name.
const IDS_MOST: usize = 1_000;
/// How many of those that stay are named in the answer.
const NAMED_MOST: usize = 100;

/// Notifications in quarantine, newest first.
#[utoipa::path(get, path = "/api/v1/quarantine", tag = "quarantine", params(SourceQuery),
    responses((status = 200, body = wire::List<wire::Quarantined>, description = "a page of notifications")))]
pub(super) async fn list_quarantined(
    Reader(caller): Reader,
    State(api): State<Arc<Api>>,
    Query(query): Query<SourceQuery>,
) -> Answer<wire::List<wire::Quarantined>> {
    let page = page(query.limit, query.cursor)?;
    let source = query
        .source
        .map(|named| caller.source(&named).map(|source| source.id));
    let filter = SourceFilter {
        source: source.transpose()?,
        application: caller.application,
    };
    let listed = api.node.store.quarantined(filter, page).await?;
    Ok(Json(convert::list(listed, |item| {
        convert::quarantined(&caller.topology, item)
    })))
}

async fn find(api: &Api, caller: &Caller, text: &str) -> Result<Quarantined, Fault> {
    let id: QuarantineId = path_id(text)?;
    let found = api.node.store.quarantined_event(id).await?;
    found
        .filter(|item| caller.sees_source(item.source))
        .ok_or_else(|| not_found("notification in quarantine", text))
}

/// One notification in quarantine, with its headers and body.
#[utoipa::path(get, path = "/api/v1/quarantine/{id}", tag = "quarantine", params(("id" = String, Path, description = "its id")),
    responses((status = 200, body = wire::QuarantinedDetail, description = "the notification")))]
pub(super) async fn show_quarantined(
    Reader(caller): Reader,
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
) -> Answer<wire::QuarantinedDetail> {
    let item = find(&api, &caller, &id).await?;
    let redactor = Redactor::of_source(&caller.topology, &api.node.vault, item.source);
    let summary = QuarantinedSummary {
        id: item.id,
        source: item.source,
        received_at: item.received_at,
        cause: item.cause,
        peer: item.peer,
        body_bytes: item.body.len() as u64,
    };
    Ok(Json(wire::QuarantinedDetail {
        item: convert::quarantined(&caller.topology, summary),
        method: item.method,
        target: redactor.target(&item.target),
        headers: redactor.headers(&item.headers),
        body_base64: convert::base64(&item.body),
    }))
}

/// What a request means: these, or all of a source.
enum Meant {
    Ids(Vec<QuarantineId>),
    Source(SourceId),
}

async fn meant(api: &Api, caller: &Caller, ids: &[String], source: Option<&str>) -> Result<Meant, Fault> {
    match source {
        Some(_) if !ids.is_empty() => Err(Fault::field("source", "give either ids or source")),
        Some(named) => {
            let found = caller
                .source(named)
                .map_err(|fault| Fault::field("source", fault.detail))?;
            Ok(Meant::Source(found.id))
        }
        None if ids.is_empty() => Err(Fault::field("ids", "give ids or source, to say what is meant")),
        None if ids.len() > IDS_MOST => Err(Fault::field("ids", format!("give at most {IDS_MOST} at once"))),
        None => {
            let mut seen = Vec::with_capacity(ids.len());
            for text in ids {
                let id = id("ids", text)?;
                // One that is gone is not refused: somebody else may have released it just now.
                let found = api.node.store.quarantined_event(id).await?;
                if found.is_some_and(|item| caller.sees_source(item.source)) {
                    seen.push(id);
                }
            }
            Ok(Meant::Ids(seen))
        }
    }
}

/// Verifies what is kept with the secrets as they are now, and accepts what passes.
#[utoipa::path(post, path = "/api/v1/quarantine/release", tag = "quarantine", request_body = wire::QuarantineRelease,
    responses((status = 200, body = wire::Released, description = "what became of them")))]
pub(super) async fn release_quarantined(
    Writer(caller): Writer,
    State(api): State<Arc<Api>>,
    Body(asked): Body<wire::QuarantineRelease>,
) -> Answer<wire::Released> {
    let selection = match meant(&api, &caller, &asked.ids, asked.source.as_deref()).await? {
        Meant::Ids(ids) => Selection::Ids(ids),
        Meant::Source(source) => Selection::All(SourceFilter {
            source: Some(source),
            application: None,
        }),
    };
    let report = release::release(&api.node, selection, asked.ignore_timestamp).await?;
    let named = report.still_invalid.iter().take(NAMED_MOST);
    Ok(Json(wire::Released {
        released: report.released,
        repeats: report.repeats,
        handshakes: report.handshakes,
        gone: report.gone,
        refused_count: report.still_invalid.len() as u64,
        refused: named
            .map(|(id, cause)| wire::NotReleased {
                id: id.to_string(),
                cause: cause.clone(),
            })
            .collect(),
    }))
}

/// Gives up notifications in quarantine.
#[utoipa::path(post, path = "/api/v1/quarantine/discard", tag = "quarantine", request_body = wire::QuarantineDiscard,
    responses((status = 200, body = wire::Discarded, description = "how many")))]
pub(super) async fn discard_quarantined(
    Writer(caller): Writer,
    State(api): State<Arc<Api>>,
    Body(asked): Body<wire::QuarantineDiscard>,
) -> Answer<wire::Discarded> {
    let store = &api.node.store;
    let mut discarded = 0;
    match meant(&api, &caller, &asked.ids, asked.source.as_deref()).await? {
        Meant::Ids(ids) => discarded = store.discard_quarantined(ids).await?,
        Meant::Source(source) => {
            let filter = SourceFilter {
                source: Some(source),
                application: None,
            };
            loop {
                let page = Page {
                    limit: rules::PAGE_LIMIT,
                    cursor: None,
                };
                let listed = store.quarantined(filter.clone(), page).await?;
                let removed = store
                    .discard_quarantined(listed.items.iter().map(|item| item.id).collect())
                    .await?;
                discarded += removed;
                if listed.next_cursor.is_none() || removed == 0 {
                    break;
                }
            }
        }
    }
    Ok(Json(wire::Discarded { discarded }))
}
