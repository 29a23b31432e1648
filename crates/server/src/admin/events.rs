//! Events: list, show, body, replay of one.
//!
//! Owns these routes. Must not decide what a replay does: that is the store's and the engine's.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use hookfast_engine::id::{EventId, ReplayId};
use hookfast_store::{EventFilter, NewReplay, Page, ReplaySelection, StoredEvent};
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde::Deserialize;
use utoipa::IntoParams;

use super::auth::{Caller, Reader, Writer, not_found};
use super::error::Fault;
use super::read::{OptionalBody, Query};
use super::redact::Redactor;
use super::{Answer, Api, convert, wire};

/// How many items a page has where the query does not say.
const PAGE_DEFAULT: u32 = 50;

/// The page that a query asks for.
pub(super) fn page(limit: Option<u32>, cursor: Option<String>) -> Result<Page, Fault> {
    let limit = limit.unwrap_or(PAGE_DEFAULT);
    let most = hookfast_store::rules::PAGE_LIMIT;
    if limit == 0 || limit > most {
        return Err(Fault::field(
            "limit",
            format!("`{limit}` is not from 1 to {most}"),
        ));
    }
    Ok(Page { limit, cursor })
}

/// An id out of a query or a body.
pub(super) fn id<T: std::str::FromStr<Err = hookfast_engine::id::IdError>>(
    field: &str,
    text: &str,
) -> Result<T, Fault> {
    text.parse().map_err(|error| Fault::field(field, error))
}

/// An id out of a path: what is no id names nothing.
pub(super) fn path_id<T: std::str::FromStr<Err = hookfast_engine::id::IdError>>(
    text: &str,
) -> Result<T, Fault> {
    text.parse().map_err(|error: hookfast_engine::id::IdError| {
        Fault::new(super::error::Code::NotFound, error.to_string())
    })
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct EventQuery {
    /// Of this source, by name or id.
    source: Option<String>,
    /// Of this type, or of a prefix such as `message.*`.
    r#type: Option<String>,
    /// With this provider id.
    provider_id: Option<String>,
    /// Accepted at or after.
    from: Option<wire::Time>,
    /// Accepted before.
    until: Option<wire::Time>,
    /// Only those that no destination took.
    #[serde(default)]
    unrouted: bool,
    /// Accepted after this event, oldest first: for following what comes.
    after: Option<String>,
    /// At most this many, from 1 to 1000; 50 by default.
    limit: Option<u32>,
    /// Where the page begins: `next_cursor` of the one before.
    cursor: Option<String>,
}

/// Events, newest first.
#[utoipa::path(get, path = "/api/v1/events", tag = "events", params(EventQuery),
    responses((status = 200, body = wire::List<wire::Event>, description = "a page of events")))]
pub(super) async fn list_events(
    Reader(caller): Reader,
    State(api): State<Arc<Api>>,
    Query(query): Query<EventQuery>,
) -> Answer<wire::List<wire::Event>> {
    let page = page(query.limit, query.cursor)?;
    let filter = EventFilter {
        application: caller.application,
        source: query.source.map(|named| caller.source_id(&named)).transpose()?,
        event_type: query.r#type,
        provider_id: query.provider_id,
        from: query.from.map(|time| time.0),
        until: query.until.map(|time| time.0),
        unrouted: query.unrouted,
        after: query.after.map(|after| id("after", &after)).transpose()?,
    };
    let listed = api.node.store.events(filter, page).await?;
    Ok(Json(convert::list(listed, |event| {
        convert::event(&caller.topology, event)
    })))
}

/// The event of that id, as far as the caller may know of it.
async fn find(api: &Api, caller: &Caller, text: &str) -> Result<StoredEvent, Fault> {
    let id: EventId = path_id(text)?;
    let found = api.node.store.event(id).await?;
    found
        .filter(|stored| caller.sees(stored.event.application))
        .ok_or_else(|| not_found("event", text))
}

/// One event with its headers and deliveries.
#[utoipa::path(get, path = "/api/v1/events/{id}", tag = "events", params(("id" = String, Path, description = "its id")),
    responses((status = 200, body = wire::EventDetail, description = "the event")))]
pub(super) async fn show_event(
    Reader(caller): Reader,
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
) -> Answer<wire::EventDetail> {
    let stored = find(&api, &caller, &id).await?;
    let redactor = Redactor::of_source(&caller.topology, &api.node.vault, stored.event.source);
    Ok(Json(convert::event_detail(&caller.topology, &redactor, stored)))
}

/// The body of an event, byte for byte as it came.
#[utoipa::path(get, path = "/api/v1/events/{id}/body", tag = "events", params(("id" = String, Path, description = "its id")),
    responses((status = 200, body = Vec<u8>, description = "the body", content_type = "application/octet-stream")))]
pub(super) async fn event_body(
    Reader(caller): Reader,
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
) -> Result<Response, Fault> {
    let stored = find(&api, &caller, &id).await?;
    Ok(raw(&stored))
}

/// The body in an answer that no browser shows as a page of ours.
fn raw(stored: &StoredEvent) -> Response {
    let event = &stored.event;
    let header = |name: &str, or: &'static str| {
        let given = event
            .headers
            .get(name)
            .and_then(|value| HeaderValue::from_bytes(value).ok());
        given.unwrap_or(HeaderValue::from_static(or))
    };
    let mut response = event.body.clone().into_response();
    let headers = response.headers_mut();
    let octets = "application/octet-stream";
    headers.insert(header::CONTENT_TYPE, header("content-type", octets));
    // A body that came compressed is given as it came; naming the coding would make clients unpack it.
    if event.headers.get("content-encoding").is_some() {
        let coding = HeaderName::from_static("hookfast-content-encoding");
        headers.insert(coding, header("content-encoding", "identity"));
    }
    let attachment = format!("attachment; filename=\"{}\"", event.id);
    if let Ok(attachment) = HeaderValue::try_from(attachment) {
        headers.insert(header::CONTENT_DISPOSITION, attachment);
    }
    let sandbox = HeaderValue::from_static("default-src 'none'; sandbox");
    headers.insert(header::CONTENT_SECURITY_POLICY, sandbox);
    response
}

/// Delivers one event once more (SPEC I16).
#[utoipa::path(post, path = "/api/v1/events/{id}/replay", tag = "events", params(("id" = String, Path, description = "its id")),
    request_body = wire::EventReplay,
    responses((status = 202, body = wire::Replay, description = "the job that does it")))]
pub(super) async fn replay_event(
    Writer(caller): Writer,
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    OptionalBody(asked): OptionalBody<wire::EventReplay>,
) -> Result<(StatusCode, Json<wire::Replay>), Fault> {
    let stored = find(&api, &caller, &id).await?;
    let application = stored.event.application;
    let destination = match &asked.destination {
        Some(named) => Some(super::replays::destination_in(&caller, named, application)?),
        None => None,
    };
    let selection = ReplaySelection {
        events: EventFilter {
            application: Some(application),
            ..EventFilter::default()
        },
        event: Some(stored.event.id),
        state: None,
        destination,
    };
    let now = api.node.clock.now();
    let new = NewReplay {
        id: ReplayId::new(now, api.node.clock.entropy()),
        application,
        selection,
        rate: super::replays::RATE_DEFAULT,
        new_id: asked.new_id,
        created_at: now,
    };
    super::replays::start(&api, new).await
}
