//! Following what happens, as server-sent events (SPEC D4: `hookfast tail`).
//!
//! Owns this route: new events, each once and in order, and changes of the newest deliveries. An `event` carries
//! its id as the stream's, so that a client that comes back with `Last-Event-ID` misses none; changes of
//! deliveries are a view and may be skipped. It asks the store while somebody listens; must not hold up anyone.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::stream::{Stream, unfold};
use hookfast_engine::delivery::DeliveryState;
use hookfast_engine::id::{DeliveryId, EventId, SourceId};
use hookfast_engine::time::Timestamp;
use hookfast_store::{DeliveryFilter, EventFilter, Page, Stats};
use http::HeaderMap;
use serde::Deserialize;
use tokio::sync::OwnedSemaphorePermit;
use utoipa::IntoParams;

use super::auth::{Caller, Reader};
use super::error::{Code, Fault};
use super::events::id;
use super::read::Query;
use super::{Api, convert};

/// How often the store is asked.
const PERIOD: Duration = Duration::from_millis(250);
/// Events that are taken at once.
const EVENTS_AT_ONCE: u32 = 200;
/// How many of the newest deliveries are watched.
const DELIVERIES_WATCHED: u32 = 200;
/// A quiet stream says that it is alive this often.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct StreamQuery {
    /// Only of this source, by name or id.
    source: Option<String>,
    /// Only events of this type, or of a prefix such as `message.*`.
    r#type: Option<String>,
    /// Begins after this event instead of now. The header `Last-Event-ID` comes before it.
    after: Option<String>,
    /// Leaves out changes of deliveries.
    #[serde(default)]
    events_only: bool,
}

/// New events (`event: event`) and changes of deliveries (`event: delivery`) as they happen.
#[utoipa::path(get, path = "/api/v1/stream", tag = "events", params(StreamQuery),
    responses((status = 200, body = String, description = "a stream of server-sent events", content_type = "text/event-stream")))]
pub(super) async fn stream(
    Reader(caller): Reader,
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    Query(query): Query<StreamQuery>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Fault> {
    let permit = Arc::clone(&api.node.admin.streams)
        .try_acquire_owned()
        .map_err(|_| {
            let detail = "as many listen to the stream as may; close one, or ask again later";
            Fault::new(Code::Busy, detail).after(Duration::from_secs(5))
        })?;
    let begun = api.node.clock.now();
    let last = headers.get("last-event-id").and_then(|value| value.to_str().ok());
    let named = last.or(query.after.as_deref()).filter(|after| !after.is_empty());
    let after = match named {
        Some(after) => id("after", after)?,
        // No event has this id: those count that are accepted from now on.
        None => EventId::new(begun, 0),
    };
    let begun = named.is_none().then_some(begun);
    let source = match &query.source {
        Some(named) => Some(caller.source(named)?.id),
        None => None,
    };
    let follower = Follower {
        api,
        caller,
        source,
        event_type: query.r#type,
        after,
        begun,
        deliveries: (!query.events_only).then(HashMap::new),
        stats: None,
        ready: VecDeque::new(),
        first: true,
        _permit: permit,
    };
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE);
    Ok(Sse::new(unfold(follower, Follower::next)).keep_alive(keep_alive))
}

/// What is remembered of a delivery that was shown.
type Seen = (DeliveryState, u32);

struct Follower {
    api: Arc<Api>,
    caller: Caller,
    source: Option<SourceId>,
    event_type: Option<String>,
    after: EventId,
    /// Where the stream begins with what is new: the time of it, which ids tell to the millisecond alone.
    begun: Option<Timestamp>,
    /// The newest deliveries as they were last seen, where changes are wanted.
    deliveries: Option<HashMap<DeliveryId, Seen>>,
    /// The counts when deliveries were last looked at: where they stand still, nothing changed.
    stats: Option<Arc<Stats>>,
    ready: VecDeque<Event>,
    first: bool,
    _permit: OwnedSemaphorePermit,
}

impl Follower {
    async fn next(mut self) -> Option<(Result<Event, Infallible>, Self)> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some((Ok(event), self));
            }
            if !self.first {
                tokio::select! {
                    () = self.api.node.stopping.cancelled() => return None,
                    () = tokio::time::sleep(PERIOD) => {}
                }
            }
            if !self.still_allowed() {
                return None;
            }
            // The first look tells the client at once that it is heard.
            if self.first {
                self.first = false;
                self.ready.push_back(Event::default().comment("listening"));
            }
            if let Err(error) = self.look().await {
                tracing::debug!(%error, "a stream could not be followed for now");
            }
        }
    }

    /// Whether the key may still do this: a stream outlives the request that was checked.
    fn still_allowed(&self) -> bool {
        let topology = &self.api.node.snapshot.load().topology;
        let now = self.api.node.clock.now();
        topology.keys.get(&self.caller.key).is_some_and(|key| {
            key.revoked_at.is_none() && key.expires_at.is_none_or(|expires_at| now < expires_at)
        })
    }

    async fn look(&mut self) -> hookfast_store::Result<()> {
        self.caller.topology = self.api.node.snapshot.load().topology.clone();
        let newest = self.newest().await?;
        let filter = EventFilter {
            application: self.caller.application,
            source: self.source,
            event_type: self.event_type.clone(),
            after: Some(self.after),
            ..EventFilter::default()
        };
        let page = Page {
            limit: EVENTS_AT_ONCE,
            cursor: None,
        };
        let found = self.api.node.store.events(filter, page).await?.items;
        // Where nothing matches, what was looked at need not be looked at again.
        let looked_at = found.last().map(|last| last.id).or(newest);
        self.after = looked_at.unwrap_or(self.after);
        for summary in found {
            if self.begun.is_some_and(|begun| summary.accepted_at < begun) {
                continue;
            }
            let event = convert::event(&self.caller.topology, summary);
            let told = Event::default().event("event").id(event.id.clone());
            self.ready.extend(told.json_data(&event).ok());
        }
        self.look_at_deliveries().await
    }

    /// The newest event there is, matching or not.
    async fn newest(&self) -> hookfast_store::Result<Option<EventId>> {
        let filter = EventFilter {
            application: self.caller.application,
            ..EventFilter::default()
        };
        let page = Page {
            limit: 1,
            cursor: None,
        };
        let listed = self.api.node.store.events(filter, page).await?;
        Ok(listed.items.first().map(|newest| newest.id))
    }

    async fn look_at_deliveries(&mut self) -> hookfast_store::Result<()> {
        let Some(seen) = &mut self.deliveries else {
            return Ok(());
        };
        let node = &self.api.node;
        let stats = node.admin.stats(&*node.store, node.clock).await?;
        let begins = self.stats.is_none();
        if self
            .stats
            .as_ref()
            .is_some_and(|before| before.deliveries == stats.deliveries)
        {
            return Ok(());
        }
        let filter = DeliveryFilter {
            application: self.caller.application,
            ..DeliveryFilter::default()
        };
        let page = Page {
            limit: DELIVERIES_WATCHED,
            cursor: None,
        };
        let listed = node.store.deliveries(filter, page).await?;
        self.stats = Some(stats);
        let mut now = HashMap::with_capacity(listed.items.len());
        for summary in listed.items.into_iter().rev() {
            let state: Seen = (summary.state, summary.progress.attempt);
            now.insert(summary.id, state);
            // What was there before the stream began is only told once it changes.
            if begins || seen.get(&summary.id) == Some(&state) {
                continue;
            }
            let delivery = convert::delivery(&self.caller.topology, summary);
            let told = Event::default().event("delivery");
            self.ready.extend(told.json_data(&delivery).ok());
        }
        *seen = now;
        Ok(())
    }
}
