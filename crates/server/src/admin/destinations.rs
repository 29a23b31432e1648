//! Destinations: where events go.
//!
//! Owns these routes and what a destination's state looks like. A signing secret is shown once, when it is
//! made. What may be set up at all is in `destination_rules`.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use hookfast_engine::health::{Gate, Health};
use hookfast_engine::id::DestinationId;
use hookfast_engine::time::Timestamp;
use hookfast_engine::topology::{
    Destination, DestinationKind, DestinationStatus, SealedSecret, Signing, TopologyChange,
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
use crate::deliver::sign;
use crate::outbox::challenge;

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
        description: destination.description.clone(),
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
        signing: destination.signing.into(),
        compressed: destination.compressed,
        verify: destination.verify,
        notification_email_addresses: destination.notification_email_addresses.clone(),
        secrets: destination.secrets.iter().filter(valid).count(),
        status: destination.status.into(),
        status_reason: destination.status_reason.clone(),
        status_changed_at: wire::Time(destination.status_changed_at),
        breaker: breaker(health),
        window: window(health, now),
        counts: convert::counts(stats, &caller.topology, destination.id),
        oldest_waiting_at: convert::oldest_waiting(stats, destination.id),
        origin: destination.origin.into(),
        created_at: wire::Time(destination.created_at),
        updated_at: wire::Time(destination.updated_at),
        secret: None,
        warnings: Vec::new(),
    }
}

fn window(health: &Health, now: Timestamp) -> wire::Window {
    let (good, bad) = health.window_counts(now);
    wire::Window { good, bad }
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
    let all = caller.topology.live_destinations();
    let seen = all.filter(|each| caller.sees(each.application));
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

/// Makes a destination. Its signing secret is shown this once. One that must answer a challenge and does not is
/// kept as `unverified`, with the reason.
#[utoipa::path(post, path = "/api/v1/destinations", tag = "destinations", request_body = wire::DestinationCreate,
    responses((status = 201, body = wire::Destination, description = "the destination, with its secret")))]
pub(super) async fn create_destination(
    Writer(caller): Writer,
    State(api): State<Arc<Api>>,
    Body(asked): Body<wire::DestinationCreate>,
) -> Result<(StatusCode, Json<wire::Destination>), Fault> {
    let (mut destination, secret) = new_destination(&api, &caller, asked)?;
    check(&api, &caller, &destination)?;
    if let Err(reason) = challenge(&api, &destination).await {
        destination.status = DestinationStatus::Unverified;
        destination.status_reason = Some(reason);
    }
    let now = destination.created_at;
    let change = TopologyChange::PutDestination(destination.clone());
    api.node.change_topology(&caller.name, vec![change]).await?;
    let mut answer = in_words(&caller, &destination, &Stats::default(), &Health::default(), now);
    answer.secret = Some(secret);
    answer.warnings = unverified_warning(&destination);
    Ok((StatusCode::CREATED, Json(answer)))
}

/// The destination that is asked for, with its secret in the clear.
pub(super) fn new_destination(
    api: &Api,
    caller: &Caller,
    asked: wire::DestinationCreate,
) -> Result<(Destination, String), Fault> {
    let now = api.node.clock.now();
    let application = caller.one_application()?;
    rules::check_allow_private(caller, asked.allow_private)?;
    let id = DestinationId::new(now, api.node.clock.entropy());
    let signing = asked.signing.unwrap_or_default().into();
    let secret = match asked.secret {
        Some(secret) => rules::check_secret(signing, secret)?,
        None => sign::new_secret(signing, api.node.clock).expose().to_owned(),
    };
    let kind = rules::kind(asked.kind, asked.url)?;
    let mut new = Destination::new(id, application, &asked.name, kind, now);
    new.description = asked.description.unwrap_or_default();
    new.sources = rules::sources(caller, &asked.sources, application)?;
    new.signing = signing;
    new.compressed = asked.compressed;
    new.allow_private = asked.allow_private;
    new.rate_limit = asked.rate_limit;
    new.notification_email_addresses = asked.notification_email_addresses;
    new.secrets = vec![seal(api, id, &secret, now)];
    if let Some(trigger_types) = asked.trigger_types {
        new.trigger_types = trigger_types;
    }
    if let Some(concurrency) = asked.concurrency {
        new.concurrency = concurrency;
    }
    new.policy = asked
        .policy
        .unwrap_or_else(|| rules::policy_default(&new).to_owned());
    let timeout_default = if new.takes_published() {
        rules::OUTBOX_TIMEOUT
    } else {
        new.timeout
    };
    new.timeout = asked.timeout.map_or(timeout_default, |span| span.0);
    new.verify = asked.verify.unwrap_or_else(|| new.takes_published()) && url_of(&new).is_some();
    Ok((new, secret))
}

/// Says what is wrong with a destination before it is kept.
pub(super) fn check(api: &Api, caller: &Caller, destination: &Destination) -> Result<(), Fault> {
    let catalogue = api.node.snapshot.load().catalogue(destination.application);
    rules::check(
        api.node.transport().guard(),
        &catalogue,
        &caller.topology,
        destination,
    )
}

pub(super) fn url_of(destination: &Destination) -> Option<&str> {
    match &destination.kind {
        DestinationKind::Push { url } => Some(url),
        DestinationKind::Pull => None,
    }
}

/// Has the destination's URL answer a challenge, where it must (SPEC O8).
pub(super) async fn challenge(api: &Api, destination: &Destination) -> Result<(), String> {
    let Some(url) = url_of(destination).filter(|_| destination.verify) else {
        return Ok(());
    };
    let (transport, clock) = (api.node.transport(), api.node.clock);
    challenge::ask(
        transport,
        clock,
        url,
        destination.allow_private,
        destination.signing,
    )
    .await
}

fn unverified_warning(destination: &Destination) -> Vec<String> {
    let reason = destination.status_reason.as_deref();
    let unverified = destination.status == DestinationStatus::Unverified;
    let warning = reason.filter(|_| unverified).map(|reason| {
        format!(
            "its URL did not answer the challenge ({reason}), so nothing is delivered; mend it and reactivate it"
        )
    });
    warning.into_iter().collect()
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
    let verdict = challenge_anew(&api, &caller, &named, &asked).await?;
    let (caller, _turn) = caller.turn(&api).await;
    let mut destination = caller.destination(&named)?.clone();
    let secret = apply(&api, &caller, &mut destination, asked)?;
    check(&api, &caller, &destination)?;
    if let Some(verdict) = verdict {
        verified(&mut destination, verdict, api.node.clock.now());
    }
    let Json(mut answer) = put(&api, &caller, destination).await?;
    answer.secret = secret;
    Ok(Json(answer))
}

/// Where a change asks for another URL, or for a challenge where none was, what came of it. Asked before the turn is
/// taken: nobody else waits for a slow URL.
async fn challenge_anew(
    api: &Api,
    caller: &Caller,
    named: &str,
    asked: &wire::DestinationUpdate,
) -> Result<Option<Result<(), String>>, Fault> {
    let before = caller.destination(named)?;
    let mut after = before.clone();
    apply(api, caller, &mut after, asked.clone())?;
    check(api, caller, &after)?;
    let anew = after.verify && (url_of(&after) != url_of(before) || !before.verify);
    if !anew {
        return Ok(None);
    }
    Ok(Some(challenge(api, &after).await))
}

/// What a challenge that a change led to makes of the status. A pause stays a pause where the URL is good.
fn verified(destination: &mut Destination, verdict: Result<(), String>, now: Timestamp) {
    let (status, reason) = match verdict {
        Ok(()) if destination.status == DestinationStatus::Unverified => (DestinationStatus::Active, None),
        Ok(()) => return,
        Err(reason) => (DestinationStatus::Unverified, Some(reason)),
    };
    destination.set_status(status, reason, now);
}

/// Applies what is asked; a new secret in the clear, where the new signing needs one.
pub(super) fn apply(
    api: &Api,
    caller: &Caller,
    destination: &mut Destination,
    asked: wire::DestinationUpdate,
) -> Result<Option<String>, Fault> {
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
    if let Some(description) = asked.description {
        destination.description = description;
    }
    if let Some(compressed) = asked.compressed {
        destination.compressed = compressed;
    }
    if let Some(verify) = asked.verify {
        destination.verify = verify && url_of(destination).is_some();
    }
    if let Some(addresses) = asked.notification_email_addresses {
        destination.notification_email_addresses = addresses;
    }
    Ok(asked
        .signing
        .and_then(|signing| sign_otherwise(api, destination, signing.into())))
}

/// Changes how a destination signs. Where its secret does not fit, it gets a new one, given in the clear.
fn sign_otherwise(api: &Api, destination: &mut Destination, signing: Signing) -> Option<String> {
    destination.signing = signing;
    let newest = destination.secrets.first();
    let opened = newest.and_then(|sealed| {
        let owner = destination.id.as_u128();
        let opened = api.node.vault.open_sealed(owner, &sealed.sealed)?;
        String::from_utf8(opened).ok().map(Secret::new)
    });
    if opened.is_some_and(|secret| sign::check_secret(signing, &secret).is_ok()) {
        return None;
    }
    let now = api.node.clock.now();
    let secret = sign::new_secret(signing, api.node.clock).expose().to_owned();
    destination.secrets = vec![seal(api, destination.id, &secret, now)];
    Some(secret)
}

/// Stores a changed destination.
pub(super) async fn keep(api: &Api, caller: &Caller, destination: &mut Destination) -> Result<(), Fault> {
    destination.updated_at = api.node.clock.now();
    let change = TopologyChange::PutDestination(destination.clone());
    Ok(api.node.change_topology(&caller.name, vec![change]).await?)
}

/// Stores a changed destination and shows it.
async fn put(api: &Api, caller: &Caller, mut destination: Destination) -> Answer<wire::Destination> {
    keep(api, caller, &mut destination).await?;
    let now = Caller {
        topology: api.node.snapshot.load().topology.clone(),
        ..caller.clone()
    };
    let mut answer = shown(api, &now, &destination).await?;
    answer.warnings = file_warning(destination.origin, "destination", &destination.name);
    answer.warnings.extend(unverified_warning(&destination));
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
    let destination = caller.destination(&named)?.clone();
    remove(&api, &caller, destination).await?;
    Ok(guard::NOTHING)
}

/// Deletes a destination.
pub(super) async fn remove(api: &Api, caller: &Caller, mut destination: Destination) -> Result<(), Fault> {
    destination.deleted_at = Some(api.node.clock.now());
    // What is deleted signs nothing any more.
    destination.secrets.clear();
    keep(api, caller, &mut destination).await
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
    if let status @ (DestinationStatus::Unverified | DestinationStatus::Failed) = destination.status {
        let (name, status) = (&destination.name, status.name());
        let detail = format!("destination `{name}` is {status}, not paused; reactivate it");
        return Err(Fault::new(Code::Conflict, detail));
    }
    open(&api, caller, &named, asked).await
}

/// Lets a destination take deliveries again, whatever stopped it, once its URL answers the challenge where it must.
/// What was held is delivered, or given up where `discard` is set.
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
    let destination = caller.destination(named)?;
    if let Err(reason) = challenge(api, destination).await {
        let name = &destination.name;
        let detail = format!("destination `{name}` stays as it is: {reason}");
        return Err(Fault::new(Code::ChallengeFailed, detail));
    }
    if asked.discard {
        discard_held(api, &caller, destination.id).await?;
    }
    let (caller, _turn) = caller.turn(api).await;
    let destination = caller.destination(named)?.clone();
    set_status(api, &caller, destination, DestinationStatus::Active, None).await
}

/// Gives up what was held while a destination took nothing.
pub(super) async fn discard_held(api: &Api, caller: &Caller, id: DestinationId) -> Result<(), Fault> {
    let by = format!("key {}", caller.name);
    let discard = || {
        let now = api.node.clock.now();
        api.node.store.discard_waiting(id, now, by.clone(), DISCARD_STEP)
    };
    while discard().await? > 0 {}
    Ok(())
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
    destination.set_status(status, reason, api.node.clock.now());
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
    let secret = renew_secret(&api, &mut destination, now);
    let Json(mut answer) = put(&api, &caller, destination).await?;
    answer.secret = Some(secret);
    Ok(Json(answer))
}

/// Gives a destination a new secret; the old ones stay valid beside it for a while.
pub(super) fn renew_secret(api: &Api, destination: &mut Destination, now: Timestamp) -> String {
    let secret = sign::new_secret(destination.signing, api.node.clock)
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
        .insert(0, seal(api, destination.id, &secret, now));
    // However often it is rotated, headers stay short.
    destination.secrets.truncate(rules::SECRETS_MOST);
    secret
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
