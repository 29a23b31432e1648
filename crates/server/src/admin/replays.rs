//! Replay jobs (SPEC I16).
//!
//! Owns these routes. Must not step the jobs: the runner in `inbox::replay` does.

use std::ops::RangeInclusive;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use hookfast_engine::id::{ApplicationId, DestinationId, ReplayId};
use hookfast_store::{EventFilter, NewReplay, Replay, ReplaySelection};
use http::StatusCode;

use super::auth::{Caller, Reader, Writer, not_found};
use super::error::Fault;
use super::events::{id, page, path_id};
use super::read::{Body, Query};
use super::sources::PageQuery;
use super::{Answer, Api, convert, wire};

/// Events a second where nothing is said.
pub(super) const RATE_DEFAULT: u32 = 100;
const RATES: RangeInclusive<u32> = 1..=10_000;
/// How many pages of other applications' jobs are passed over at once.
const PAGES_AT_ONCE: usize = 20;

/// Stores the job and wakes the runner.
pub(super) async fn start(api: &Api, new: NewReplay) -> Result<(StatusCode, Json<wire::Replay>), Fault> {
    let replay = api.node.store.start_replay(new).await?;
    api.node.admin.replay_started.notify_one();
    Ok((StatusCode::ACCEPTED, Json(convert::replay(replay))))
}

/// The destination of that name or id in the application of the events.
pub(super) fn destination_in(
    caller: &Caller,
    named: &str,
    application: ApplicationId,
) -> Result<DestinationId, Fault> {
    let found = caller
        .destination(named)
        .ok()
        .filter(|found| found.application == application);
    found
        .map(|found| found.id)
        .ok_or_else(|| Fault::field("destination", not_found("destination", named).detail))
}

/// Replay jobs, newest first. A page may be shorter than asked for though others follow.
#[utoipa::path(get, path = "/api/v1/replays", tag = "replays", params(PageQuery),
    responses((status = 200, body = wire::List<wire::Replay>, description = "a page of jobs")))]
pub(super) async fn list_replays(
    Reader(caller): Reader,
    State(api): State<Arc<Api>>,
    Query(query): Query<PageQuery>,
) -> Answer<wire::List<wire::Replay>> {
    let mut asked = page(query.limit, query.cursor)?;
    let mut found = Vec::new();
    for _ in 0..PAGES_AT_ONCE {
        let listed = api.node.store.replays(asked.clone()).await?;
        let seen = listed
            .items
            .into_iter()
            .filter(|replay| caller.sees(replay.new.application));
        found.extend(seen.map(convert::replay));
        asked.cursor = listed.next_cursor;
        if asked.cursor.is_none() || !found.is_empty() {
            break;
        }
    }
    Ok(Json(wire::List {
        data: found,
        next_cursor: asked.cursor,
    }))
}

async fn find(api: &Api, caller: &Caller, text: &str) -> Result<Replay, Fault> {
    let id: ReplayId = path_id(text)?;
    let found = api.node.store.replay(id).await?;
    found
        .filter(|replay| caller.sees(replay.new.application))
        .ok_or_else(|| not_found("replay", text))
}

/// One replay job.
#[utoipa::path(get, path = "/api/v1/replays/{id}", tag = "replays", params(("id" = String, Path, description = "its id")),
    responses((status = 200, body = wire::Replay, description = "the job")))]
pub(super) async fn show_replay(
    Reader(caller): Reader,
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
) -> Answer<wire::Replay> {
    find(&api, &caller, &id)
        .await
        .map(|replay| Json(convert::replay(replay)))
}

/// Starts a replay job, or counts what it would touch.
#[utoipa::path(post, path = "/api/v1/replays", tag = "replays", request_body = wire::ReplayCreate,
    responses(
        (status = 202, body = wire::Replay, description = "the job"),
        (status = 200, body = wire::ReplayCount, description = "with `dry_run`: what it would touch"),
    ))]
pub(super) async fn create_replay(
    Writer(caller): Writer,
    State(api): State<Arc<Api>>,
    Body(asked): Body<wire::ReplayCreate>,
) -> Result<Response, Fault> {
    let application = caller.one_application()?;
    let selection = selection(&caller, &asked, application)?;
    let rate = asked.rate.unwrap_or(RATE_DEFAULT);
    if !RATES.contains(&rate) {
        return Err(Fault::field(
            "rate",
            format!("`{rate}` is not from 1 to {} a second", RATES.end()),
        ));
    }
    if asked.dry_run {
        let count = api.node.store.count_replay(selection).await?;
        return Ok(Json(wire::ReplayCount {
            events: count.events,
            deliveries: count.deliveries,
            skipped: count.skipped,
        })
        .into_response());
    }
    let now = api.node.clock.now();
    let new = NewReplay {
        id: ReplayId::new(now, api.node.clock.entropy()),
        application,
        selection,
        rate,
        new_id: asked.new_id,
        created_at: now,
    };
    start(&api, new).await.map(IntoResponse::into_response)
}

fn selection(
    caller: &Caller,
    asked: &wire::ReplayCreate,
    application: ApplicationId,
) -> Result<ReplaySelection, Fault> {
    let in_body = |fault: Fault| Fault::field("source", fault.detail);
    let source = match &asked.source {
        Some(named) => Some(caller.source(named).map_err(in_body)?.id),
        None => None,
    };
    if let (Some(from), Some(until)) = (asked.from, asked.until)
        && until <= from
    {
        return Err(Fault::field(
            "until",
            "it is not after from, so no event would be taken",
        ));
    }
    let events = EventFilter {
        application: Some(application),
        source,
        event_type: asked.r#type.clone(),
        provider_id: asked.provider_id.clone(),
        from: asked.from.map(|time| time.0),
        until: asked.until.map(|time| time.0),
        unrouted: asked.unrouted,
        after: None,
    };
    let destination = asked
        .destination
        .as_deref()
        .map(|named| destination_in(caller, named, application));
    Ok(ReplaySelection {
        events,
        event: asked
            .event
            .as_deref()
            .map(|event| id("event", event))
            .transpose()?,
        state: asked.state.map(Into::into),
        destination: destination.transpose()?,
    })
}

/// Cancels a running job; what it already made due stays due.
#[utoipa::path(post, path = "/api/v1/replays/{id}/cancel", tag = "replays", params(("id" = String, Path, description = "its id")),
    responses((status = 200, body = wire::Replay, description = "the job")))]
pub(super) async fn cancel_replay(
    Writer(caller): Writer,
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
) -> Answer<wire::Replay> {
    let replay = find(&api, &caller, &id).await?;
    let cancelled = api
        .node
        .store
        .cancel_replay(replay.new.id, api.node.clock.now())
        .await?;
    cancelled
        .map(|replay| Json(convert::replay(replay)))
        .ok_or_else(|| not_found("replay", &id))
}
