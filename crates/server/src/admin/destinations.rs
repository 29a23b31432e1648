//! Destinations: where events go.
//!
//! Owns these routes and what a destination's state looks like. A signing secret is shown once, when it is
//! made. What may be set up at all is in `destination_rules`.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use hookfast_engine::delivery::DestinationNumber;
use hookfast_engine::health::{Gate, Health};
use hookfast_engine::id::DestinationId;
use hookfast_engine::time::Timestamp;
use hookfast_engine::topology::{
    Destination, DestinationKind, DestinationStatus, Origin, SealedSecret, TopologyChange,
};
use hookfast_signature::Secret;
use hookfast_store::Stats;
use http::StatusCode;

use super::auth::{Caller, Reader, Writer};
use super::destination_rules as rules;
use super::error::{Code, Fault};
use super::read::{Body, OptionalBody, Query};
use super::sources::{PageQuery, file_warning, page_of};
use super::{Answer, Api, convert, guard, wire};

/// For how long a replaced secret still signs (SPEC O15).
const OVERLAP: Duration = Duration::from_secs(86_400);
/// How many waiting deliveries are given up in one step.
const DISCARD_STEP: u32 = 1_000;

async fn shown(api: &Api, caller: &Caller, destination: &Destination) -> Result<wire::Destination, Fault> {
    let stats = api.node.admin.stats(&*api.node.store, api.node.clock).await?;
    let health = api.node.store.health(destination.id).await?;
    Ok(in_words(
        caller,
        destination,
        &stats,
        &health,
        api.node.clock.now(),
    ))
}

fn in_words(
    caller: &Caller,
    destination: &Destination,
    stats: &Stats,
    health: &Health,
    now: Timestamp,
) -> wire::Destination {
    let (kind, url) = match &destination.kind {
        DestinationKind::Push { url } => (wire::DestinationKind::Push, Some(url.clone())),
        DestinationKind::Pull => (wire::DestinationKind::Pull, None),
    };
    let sources = destination.sources.iter();
    let valid = |secret: &&SealedSecret| secret.expires_at.is_none_or(|expires_at| now < expires_at);
    wire::Destination {
        id: destination.id.to_string(),
        application: destination.application.to_string(),
        name: destination.name.clone(),
        kind,
        url,
        sources: sources
            .map(|id| convert::source_name(&caller.topology, *id))
            .collect(),
        trigger_types: destination.trigger_types.clone(),
        policy: destination.policy.clone(),
        timeout: wire::Span(destination.timeout),
        concurrency: destination.concurrency,
        rate_limit: destination.rate_limit,
        allow_private: destination.allow_private,
        secrets: destination.secrets.iter().filter(valid).count(),
        status: destination.status.into(),
        status_reason: destination.status_reason.clone(),
        status_changed_at: wire::Time(destination.status_changed_at),
        breaker: breaker(health),
        counts: convert::counts(stats, &caller.topology, destination.id),
        oldest_waiting_at: convert::oldest_waiting(stats, destination.id),
        origin: destination.origin.into(),
        created_at: wire::Time(destination.created_at),
        updated_at: wire::Time(destination.updated_at),
        secret: None,
        warnings: Vec::new(),
    }
}

fn breaker(health: &Health) -> wire::Breaker {
    let since = health.open_since();
    let next_probe_at = match health.gate() {
        Gate::Ready => None,
        Gate::ProbeAt(at) => Some(wire::Time(at)),
    };
    wire::Breaker {
        state: if since.is_some() {
            wire::BreakerState::Open
        } else {
            wire::BreakerState::Closed
        },
        since: since.map(wire::Time),
        next_probe_at,
        failures_in_a_row: health.failures_in_a_row,
        last_success_at: health.last_success_at.map(wire::Time),
        last_failure_at: health.last_failure_at.map(wire::Time),
    }
}

/// Destinations, by id.
#[utoipa::path(get, path = "/api/v1/destinations", tag = "destinations", params(PageQuery),
    responses((status = 200, body = wire::List<wire::Destination>, description = "a page of destinations")))]
pub(super) async fn list_destinations(
    Reader(caller): Reader,
    State(api): State<Arc<Api>>,
    Query(query): Query<PageQuery>,
) -> Answer<wire::List<wire::Destination>> {
    let all = caller.topology.destinations.values();
    let seen = all.filter(|each| each.deleted_at.is_none() && caller.sees(each.application));
    let seen = seen.map(|destination| (destination.id.to_string(), destination));
    let listed = page_of(seen, query.limit, query.cursor.as_deref(), |destination| {
        destination
    })?;
    let mut data = Vec::with_capacity(listed.data.len());
    for destination in listed.data {
        data.push(shown(&api, &caller, destination).await?);
    }
    Ok(Json(wire::List {
        data,
        next_cursor: listed.next_cursor,
    }))
}

/// One destination.
#[utoipa::path(get, path = "/api/v1/destinations/{destination}", tag = "destinations", params(("destination" = String, Path, description = "its name or id")),
    responses((status = 200, body = wire::Destination, description = "the destination")))]
pub(super) async fn show_destination(
    Reader(caller): Reader,
    State(api): State<Arc<Api>>,
    Path(named): Path<String>,
) -> Answer<wire::Destination> {
    let destination = caller.destination(&named)?;
    shown(&api, &caller, destination).await.map(Json)
}

/// Makes a destination. Its signing secret is shown this once.
#[utoipa::path(post, path = "/api/v1/destinations", tag = "destinations", request_body = wire::DestinationCreate,
    responses((status = 201, body = wire::Destination, description = "the destination, with its secret")))]
pub(super) async fn create_destination(
    Writer(caller): Writer,
    State(api): State<Arc<Api>>,
    Body(asked): Body<wire::DestinationCreate>,
) -> Result<(StatusCode, Json<wire::Destination>), Fault> {
    let now = api.node.clock.now();
    let application = caller.one_application()?;
    rules::check_allow_private(&caller, asked.allow_private)?;
    let id = DestinationId::new(now, api.node.clock.entropy());
    let secret = match asked.secret {
        Some(secret) => rules::check_secret(secret)?,
        None => Secret::generate_symmetric(&api.node.clock.entropy_bytes())
            .expose()
            .to_owned(),
    };
    let destination = Destination {
        id,
        number: DestinationNumber(0),
        application,
        name: asked.name,
        kind: rules::kind(asked.kind, asked.url, asked.allow_private)?,
        sources: rules::sources(&caller, &asked.sources, application)?,
        trigger_types: asked.trigger_types.unwrap_or_else(|| vec!["*".to_owned()]),
        policy: asked.policy.unwrap_or_else(|| rules::POLICY_DEFAULT.to_owned()),
        timeout: asked.timeout.map_or(rules::TIMEOUT_DEFAULT, |span| span.0),
        concurrency: asked.concurrency.unwrap_or(rules::CONCURRENCY_DEFAULT),
        rate_limit: asked.rate_limit,
        allow_private: asked.allow_private,
        secrets: vec![seal(&api, id, &secret, now)],
        status: DestinationStatus::Active,
        status_reason: None,
        status_changed_at: now,
        deleted_at: None,
        origin: Origin::Api,
        created_at: now,
        updated_at: now,
    };
    rules::check(&caller.topology, &destination)?;
    let change = TopologyChange::PutDestination(destination.clone());
    api.node.change_topology(&caller.name, vec![change]).await?;
    let mut answer = in_words(&caller, &destination, &Stats::default(), &Health::default(), now);
    answer.secret = Some(secret);
    if destination.sources.is_empty() {
        answer
            .warnings
            .push("it names no source, so nothing comes to it".to_owned());
    }
    Ok((StatusCode::CREATED, Json(answer)))
}

/// Changes a destination.
#[utoipa::path(patch, path = "/api/v1/destinations/{destination}", tag = "destinations", params(("destination" = String, Path, description = "its name or id")),
    request_body = wire::DestinationUpdate,
    responses((status = 200, body = wire::Destination, description = "the destination")))]
pub(super) async fn update_destination(
    Writer(caller): Writer,
    State(api): State<Arc<Api>>,
    Path(named): Path<String>,
    Body(asked): Body<wire::DestinationUpdate>,
) -> Answer<wire::Destination> {
    let (caller, _turn) = caller.turn(&api).await;
    let mut destination = caller.destination(&named)?.clone();
    apply(&caller, &mut destination, asked)?;
    rules::check(&caller.topology, &destination)?;
    put(&api, &caller, destination).await
}

fn apply(
    caller: &Caller,
    destination: &mut Destination,
    asked: wire::DestinationUpdate,
) -> Result<(), Fault> {
    if let Some(allow_private) = asked.allow_private {
        rules::check_allow_private(caller, allow_private)?;
        destination.allow_private = allow_private;
    }
    if let Some(url) = asked.url {
        // Where an administrator let this URL be private, nobody else may point it elsewhere.
        rules::check_allow_private(caller, destination.allow_private)?;
        rules::check_push(destination)?;
        destination.kind = DestinationKind::Push { url };
    }
    if let Some(name) = asked.name {
        destination.name = name;
    }
    if let Some(sources) = asked.sources {
        destination.sources = rules::sources(caller, &sources, destination.application)?;
    }
    if let Some(trigger_types) = asked.trigger_types {
        destination.trigger_types = trigger_types;
    }
    if let Some(policy) = asked.policy {
        destination.policy = policy;
    }
    if let Some(timeout) = asked.timeout {
        destination.timeout = timeout.0;
    }
    if let Some(concurrency) = asked.concurrency {
        destination.concurrency = concurrency;
    }
    if let Some(rate_limit) = asked.rate_limit {
        destination.rate_limit = rate_limit;
    }
    Ok(())
}

/// Stores a changed destination and shows it.
async fn put(api: &Api, caller: &Caller, mut destination: Destination) -> Answer<wire::Destination> {
    destination.updated_at = api.node.clock.now();
    let change = TopologyChange::PutDestination(destination.clone());
    api.node.change_topology(&caller.name, vec![change]).await?;
    let now = Caller {
        topology: api.node.snapshot.load().topology.clone(),
        ..caller.clone()
    };
    let mut answer = shown(api, &now, &destination).await?;
    answer.warnings = file_warning(destination.origin, "destination", &destination.name);
    Ok(Json(answer))
}

/// Deletes a destination: its unsettled deliveries are given up.
#[utoipa::path(delete, path = "/api/v1/destinations/{destination}", tag = "destinations", params(("destination" = String, Path, description = "its name or id")),
    responses((status = 204, description = "it is gone")))]
pub(super) async fn delete_destination(
    Writer(caller): Writer,
    State(api): State<Arc<Api>>,
    Path(named): Path<String>,
) -> Result<StatusCode, Fault> {
    let (caller, _turn) = caller.turn(&api).await;
    let now = api.node.clock.now();
    let mut destination = caller.destination(&named)?.clone();
    destination.deleted_at = Some(now);
    destination.updated_at = now;
    // What is deleted signs nothing any more.
    destination.secrets.clear();
    api.node
        .change_topology(&caller.name, vec![TopologyChange::PutDestination(destination)])
        .await?;
    Ok(guard::NOTHING)
}

/// Holds the deliveries of a destination until it is resumed.
#[utoipa::path(post, path = "/api/v1/destinations/{destination}/pause", tag = "destinations", params(("destination" = String, Path, description = "its name or id")),
    responses((status = 200, body = wire::Destination, description = "the destination")))]
pub(super) async fn pause_destination(
    Writer(caller): Writer,
    State(api): State<Arc<Api>>,
    Path(named): Path<String>,
) -> Answer<wire::Destination> {
    let (caller, _turn) = caller.turn(&api).await;
    let destination = caller.destination(&named)?.clone();
    let reason = format!("paused with key {}", caller.name);
    set_status(
        &api,
        &caller,
        destination,
        DestinationStatus::Paused,
        Some(reason),
    )
    .await
}

/// Lets a paused destination take deliveries again.
#[utoipa::path(post, path = "/api/v1/destinations/{destination}/resume", tag = "destinations", params(("destination" = String, Path, description = "its name or id")),
    request_body = wire::Resume,
    responses((status = 200, body = wire::Destination, description = "the destination")))]
pub(super) async fn resume_destination(
    Writer(caller): Writer,
    State(api): State<Arc<Api>>,
    Path(named): Path<String>,
    OptionalBody(asked): OptionalBody<wire::Resume>,
) -> Answer<wire::Destination> {
    let destination = caller.destination(&named)?;
    if destination.status == DestinationStatus::Unverified {
        let name = &destination.name;
        let detail = format!("destination `{name}` is unverified, not paused; reactivate it");
        return Err(Fault::new(Code::Conflict, detail));
    }
    open(&api, caller, &named, asked).await
}

/// Lets a destination take deliveries again, whatever stopped it.
#[utoipa::path(post, path = "/api/v1/destinations/{destination}/reactivate", tag = "destinations", params(("destination" = String, Path, description = "its name or id")),
    request_body = wire::Resume,
    responses((status = 200, body = wire::Destination, description = "the destination")))]
pub(super) async fn reactivate_destination(
    Writer(caller): Writer,
    State(api): State<Arc<Api>>,
    Path(named): Path<String>,
    OptionalBody(asked): OptionalBody<wire::Resume>,
) -> Answer<wire::Destination> {
    open(&api, caller, &named, asked).await
}

async fn open(api: &Api, caller: Caller, named: &str, asked: wire::Resume) -> Answer<wire::Destination> {
    if asked.discard {
        let id = caller.destination(named)?.id;
        let by = format!("key {}", caller.name);
        let discard = || {
            let now = api.node.clock.now();
            api.node.store.discard_waiting(id, now, by.clone(), DISCARD_STEP)
        };
        while discard().await? > 0 {}
    }
    let (caller, _turn) = caller.turn(api).await;
    let destination = caller.destination(named)?.clone();
    set_status(api, &caller, destination, DestinationStatus::Active, None).await
}

async fn set_status(
    api: &Api,
    caller: &Caller,
    mut destination: Destination,
    status: DestinationStatus,
    reason: Option<String>,
) -> Answer<wire::Destination> {
    if destination.status == status {
        return shown(api, caller, &destination).await.map(Json);
    }
    destination.status = status;
    destination.status_reason = reason;
    destination.status_changed_at = api.node.clock.now();
    let Json(mut answer) = put(api, caller, destination).await?;
    // A reload leaves the status alone.
    answer.warnings.clear();
    Ok(Json(answer))
}

/// Makes a new signing secret, shown this once. The old ones sign beside it for 24 hours.
#[utoipa::path(post, path = "/api/v1/destinations/{destination}/rotate-secret", tag = "destinations", params(("destination" = String, Path, description = "its name or id")),
    responses((status = 200, body = wire::Destination, description = "the destination, with its new secret")))]
pub(super) async fn rotate_destination_secret(
    Writer(caller): Writer,
    State(api): State<Arc<Api>>,
    Path(named): Path<String>,
) -> Answer<wire::Destination> {
    let (caller, _turn) = caller.turn(&api).await;
    let now = api.node.clock.now();
    let mut destination = caller.destination(&named)?.clone();
    let secret = Secret::generate_symmetric(&api.node.clock.entropy_bytes())
        .expose()
        .to_owned();
    let end = now.plus(OVERLAP);
    destination
        .secrets
        .retain(|old| old.expires_at.is_none_or(|expires_at| now < expires_at));
    for old in &mut destination.secrets {
        old.expires_at = Some(old.expires_at.map_or(end, |expires_at| expires_at.min(end)));
    }
    destination
        .secrets
        .insert(0, seal(&api, destination.id, &secret, now));
    // However often it is rotated, headers stay short.
    destination.secrets.truncate(rules::SECRETS_MOST);
    let Json(mut answer) = put(&api, &caller, destination).await?;
    answer.secret = Some(secret);
    Ok(Json(answer))
}

fn seal(api: &Api, owner: DestinationId, secret: &str, now: Timestamp) -> SealedSecret {
    SealedSecret {
        sealed: api
            .node
            .vault
            .seal(owner.as_u128(), secret.as_bytes(), api.node.clock),
        created_at: now,
        expires_at: None,
    }
}
