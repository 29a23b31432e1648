//! Webhooks as Nylas's API, version 3, has them, so that its SDKs work here unchanged (SPEC O12).
//!
//! Owns the routes under `/v3/webhooks` and what of a destination they show. What a destination is and what becomes of
//! it stand in `destinations`; the shape of what is not done in `shape`. Where this departs from Nylas on purpose
//! stands in `docs/nylas.md`.

pub(super) mod shape;

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{FromRequestParts, Path, State};
use hookfast_engine::id::{ApplicationId, DestinationId};
use hookfast_engine::outcome::Outcome;
use hookfast_engine::retry::Policy;
use hookfast_engine::topology::{Destination, DestinationKind, DestinationStatus, Signing, TopologyChange};
use http::StatusCode;
use http::request::Parts;
use serde_json::Value;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use self::shape::Refusal;
use super::auth::{Caller, Reader, Writer};
use super::destination_rules as rules;
use super::error::{Code, Fault};
use super::guard::RequestId;
use super::read::Body;
use super::{Api, destinations, tests, wire};
use crate::deliver::sign::Signer;
use crate::deliver::transport::Attempted;
use crate::snapshot::ReadyDestination;

/// What test events are signed with (Nylas's documentation of `send-test-event`).
const TEST_SECRET: &str = "mock-webhook-secret";

/// These routes, for both listeners.
pub(super) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::default()
        .routes(routes!(list_webhooks, create_webhook))
        .routes(routes!(show_webhook, update_webhook, delete_webhook))
        .routes(routes!(rotate_webhook_secret))
        .routes(routes!(rotate_webhook_secret_as_python))
        .routes(routes!(list_ip_addresses))
        .routes(routes!(show_mock_payload))
        .routes(routes!(send_test_event))
}

type Answer<T> = Result<Json<wire::NylasReply<T>>, Refusal>;

fn reply<T>(request_id: String, data: T) -> Answer<T> {
    Ok(Json(wire::NylasReply { request_id, data }))
}

/// The id in a path; nothing where it can be that of no webhook.
struct WebhookId(Option<DestinationId>);

impl<S: Send + Sync> FromRequestParts<S> for WebhookId {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let named = Path::<String>::from_request_parts(parts, state).await;
        Ok(Self(named.ok().and_then(|Path(named)| named.parse().ok())))
    }
}

/// Whether a destination, however it was made, is a webhook to Nylas's SDKs.
fn is_webhook(destination: &Destination) -> bool {
    destination.deleted_at.is_none()
        && destination.takes_published()
        && destinations::url_of(destination).is_some()
}

/// The webhook with that id, as far as the caller may know of it.
fn webhook(caller: &Caller, WebhookId(id): &WebhookId, missing: StatusCode) -> Result<Destination, Refusal> {
    let found = id.and_then(|id| caller.topology.destinations.get(&id));
    found
        .filter(|destination| is_webhook(destination) && caller.sees(destination.application))
        .cloned()
        .ok_or_else(|| Refusal::no_webhook(missing))
}

fn in_words(destination: &Destination, secret: Option<String>) -> wire::NylasWebhook {
    wire::NylasWebhook {
        id: destination.id.to_string(),
        description: destination.description.clone(),
        trigger_types: destination.trigger_types.clone(),
        webhook_url: destinations::url_of(destination).unwrap_or_default().to_owned(),
        webhook_secret: secret,
        status: match destination.status {
            DestinationStatus::Active => wire::NylasStatus::Active,
            DestinationStatus::Failing => wire::NylasStatus::Failing,
            DestinationStatus::Failed => wire::NylasStatus::Failed,
            DestinationStatus::Paused | DestinationStatus::Unverified => wire::NylasStatus::Pause,
        },
        notification_email_addresses: destination.notification_email_addresses.clone(),
        compressed_delivery: destination.compressed,
        status_updated_at: destination.status_changed_at.as_secs(),
        created_at: destination.created_at.as_secs(),
        updated_at: destination.updated_at.as_secs(),
    }
}

/// What is given: Nylas takes what is empty for what is left out.
fn given(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

fn given_list(list: Option<Vec<String>>) -> Option<Vec<String>> {
    list.filter(|list| !list.is_empty())
}

/// Says what is wrong with a webhook before it is kept. A URL that cannot be called cannot be verified.
fn check(api: &Api, caller: &Caller, destination: &Destination) -> Result<(), Refusal> {
    if let Some(url) = destinations::url_of(destination) {
        rules::judge_url(api.node.transport().guard(), url, destination.allow_private)
            .map_err(Refusal::not_verified)?;
    }
    Ok(destinations::check(api, caller, destination)?)
}

/// All webhooks of the application: every push destination that takes what it publishes.
#[utoipa::path(get, path = "/v3/webhooks", tag = "nylas",
    responses((status = 200, body = wire::NylasReply<Vec<wire::NylasWebhook>>, description = "the webhooks, by id")))]
async fn list_webhooks(
    Reader(caller): Reader,
    RequestId(request_id): RequestId,
) -> Answer<Vec<wire::NylasWebhook>> {
    let all = caller.topology.destinations.values();
    let seen = all.filter(|each| is_webhook(each) && caller.sees(each.application));
    reply(request_id, seen.map(|each| in_words(each, None)).collect())
}

/// One webhook.
#[utoipa::path(get, path = "/v3/webhooks/{id}", tag = "nylas", params(("id" = String, Path, description = "its id")),
    responses((status = 200, body = wire::NylasReply<wire::NylasWebhook>, description = "the webhook")))]
async fn show_webhook(
    Reader(caller): Reader,
    RequestId(request_id): RequestId,
    id: WebhookId,
) -> Answer<wire::NylasWebhook> {
    let destination = webhook(&caller, &id, StatusCode::NOT_FOUND)?;
    reply(request_id, in_words(&destination, None))
}

/// Makes a webhook, once its URL has echoed a challenge. Its secret is shown this once.
#[utoipa::path(post, path = "/v3/webhooks", tag = "nylas", request_body = wire::NylasWebhookCreate,
    responses((status = 200, body = wire::NylasReply<wire::NylasWebhook>, description = "the webhook, with its secret")))]
async fn create_webhook(
    Writer(caller): Writer,
    State(api): State<Arc<Api>>,
    RequestId(request_id): RequestId,
    Body(asked): Body<wire::NylasWebhookCreate>,
) -> Answer<wire::NylasWebhook> {
    let trigger_types = given_list(asked.trigger_types)
        .ok_or_else(|| Fault::field("trigger_types", "name at least one, such as message.created"))?;
    let url = given(asked.webhook_url).ok_or_else(|| Refusal::not_verified("input webhook url is empty"))?;
    let create = wire::DestinationCreate {
        url: Some(url),
        trigger_types: Some(trigger_types),
        description: asked.description,
        notification_email_addresses: asked.notification_email_addresses.unwrap_or_default(),
        compressed: asked.compressed_delivery.unwrap_or_default(),
        signing: Some(wire::Signing::Nylas),
        verify: Some(true),
        ..wire::DestinationCreate::default()
    };
    let (mut destination, secret) = destinations::new_destination(&api, &caller, create)?;
    destination.name = name(destination.id);
    check(&api, &caller, &destination)?;
    destinations::challenge(&api, &destination)
        .await
        .map_err(Refusal::not_verified)?;
    let change = TopologyChange::PutDestination(destination.clone());
    api.node
        .change_topology(&caller.name, vec![change])
        .await
        .map_err(Fault::from)?;
    reply(request_id, in_words(&destination, Some(secret)))
}

/// The name of a webhook, which Nylas's have none of. A name must not look like an id.
fn name(id: DestinationId) -> String {
    format!("webhook-{}", id.to_string().trim_start_matches("dst_"))
}

/// Changes a webhook: only what is given. Activating it again, or another URL, has the URL echo a challenge first; where
/// it does not, nothing changes. What was held meanwhile is given up, as Nylas does.
#[utoipa::path(put, path = "/v3/webhooks/{id}", tag = "nylas", params(("id" = String, Path, description = "its id")),
    request_body = wire::NylasWebhookUpdate,
    responses((status = 200, body = wire::NylasReply<wire::NylasWebhook>, description = "the webhook")))]
async fn update_webhook(
    Writer(caller): Writer,
    State(api): State<Arc<Api>>,
    RequestId(request_id): RequestId,
    id: WebhookId,
    Body(asked): Body<wire::NylasWebhookUpdate>,
) -> Answer<wire::NylasWebhook> {
    let wanted = given(asked.status.clone())
        .map(|text| wanted_status(&text))
        .transpose()?;
    let change = change_of(asked);
    let before = webhook(&caller, &id, StatusCode::BAD_REQUEST)?;
    let after = changed(&api, &caller, &before, &change)?;
    let moves = destinations::url_of(&after) != destinations::url_of(&before);
    let opens = match wanted {
        Some(Wanted::Active) => before.status != DestinationStatus::Active,
        Some(Wanted::Paused) => false,
        None => moves && before.status == DestinationStatus::Unverified,
    };
    if opens || moves {
        // Asked before the turn is taken: nobody else waits for a slow URL.
        let verdict = destinations::challenge(&api, &after).await;
        verdict.map_err(Refusal::not_verified)?;
    }
    if opens && !before.is_open() {
        destinations::discard_held(&api, &caller, before.id).await?;
    }
    let (caller, _turn) = caller.turn(&api).await;
    let current = webhook(&caller, &id, StatusCode::BAD_REQUEST)?;
    if destinations::url_of(&current) != destinations::url_of(&before) {
        let detail = "the webhook's URL was changed by somebody else meanwhile; look at it and ask again";
        return Err(Fault::new(Code::Conflict, detail).into());
    }
    let mut destination = changed(&api, &caller, &current, &change)?;
    let now = api.node.clock.now();
    if opens {
        destination.set_status(DestinationStatus::Active, None, now);
    } else if wanted == Some(Wanted::Paused) && current.status != DestinationStatus::Paused {
        let reason = format!("paused with key {}", caller.name);
        destination.set_status(DestinationStatus::Paused, Some(reason), now);
    }
    destinations::keep(&api, &caller, &mut destination).await?;
    reply(request_id, in_words(&destination, None))
}

/// The two statuses that can be asked for.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Wanted {
    Active,
    Paused,
}

/// Nylas's OpenAPI says `pause`, its guide and command line `inactive`, its Java SDK `paused`.
fn wanted_status(text: &str) -> Result<Wanted, Fault> {
    match text {
        "active" => Ok(Wanted::Active),
        "pause" | "paused" | "inactive" => Ok(Wanted::Paused),
        other => {
            let shown: String = other.chars().take(80).collect();
            let reason = format!("`{shown}` cannot be asked for; write active or pause");
            Err(Fault::field("status", reason))
        }
    }
}

fn change_of(asked: wire::NylasWebhookUpdate) -> wire::DestinationUpdate {
    wire::DestinationUpdate {
        url: given(asked.webhook_url),
        trigger_types: given_list(asked.trigger_types),
        description: given(asked.description),
        notification_email_addresses: given_list(asked.notification_email_addresses),
        compressed: asked.compressed_delivery,
        ..wire::DestinationUpdate::default()
    }
}

fn changed(
    api: &Api,
    caller: &Caller,
    destination: &Destination,
    change: &wire::DestinationUpdate,
) -> Result<Destination, Refusal> {
    let mut destination = destination.clone();
    // No secret is made anew by it: the signing stays.
    destinations::apply(api, caller, &mut destination, change.clone())?;
    check(api, caller, &destination)?;
    Ok(destination)
}

/// Deletes a webhook: its unsettled deliveries are given up. A body is not looked at.
#[utoipa::path(delete, path = "/v3/webhooks/{id}", tag = "nylas", params(("id" = String, Path, description = "its id")),
    responses((status = 200, body = wire::NylasReply<wire::NylasDeleted>, description = "it is gone")))]
async fn delete_webhook(
    Writer(caller): Writer,
    State(api): State<Arc<Api>>,
    RequestId(request_id): RequestId,
    id: WebhookId,
) -> Answer<wire::NylasDeleted> {
    let (caller, _turn) = caller.turn(&api).await;
    let destination = webhook(&caller, &id, StatusCode::BAD_REQUEST)?;
    destinations::remove(&api, &caller, destination).await?;
    let status = "success".to_owned();
    reply(request_id, wire::NylasDeleted { status })
}

/// Makes a new signing secret, shown this once, which signs at once. A body is not looked at.
#[utoipa::path(post, path = "/v3/webhooks/rotate-secret/{id}", tag = "nylas", params(("id" = String, Path, description = "the webhook's id")),
    responses((status = 200, body = wire::NylasReply<wire::NylasWebhook>, description = "the webhook, with its new secret")))]
async fn rotate_webhook_secret(
    Writer(caller): Writer,
    State(api): State<Arc<Api>>,
    RequestId(request_id): RequestId,
    id: WebhookId,
) -> Answer<wire::NylasWebhook> {
    let (caller, _turn) = caller.turn(&api).await;
    let mut destination = webhook(&caller, &id, StatusCode::BAD_REQUEST)?;
    let secret = destinations::renew_secret(&api, &mut destination, api.node.clock.now());
    destinations::keep(&api, &caller, &mut destination).await?;
    reply(request_id, in_words(&destination, Some(secret)))
}

/// The same, as Nylas's Python SDK asks for it (`Webhooks.rotate_secret` of its version 6).
#[utoipa::path(put, path = "/v3/webhooks/{id}/rotate-secret", tag = "nylas", params(("id" = String, Path, description = "the webhook's id")),
    responses((status = 200, body = wire::NylasReply<wire::NylasWebhook>, description = "the webhook, with its new secret")))]
async fn rotate_webhook_secret_as_python(
    writer: Writer,
    state: State<Arc<Api>>,
    request_id: RequestId,
    id: WebhookId,
) -> Answer<wire::NylasWebhook> {
    rotate_webhook_secret(writer, state, request_id, id).await
}

/// The addresses that notifications come from, as the settings list them.
#[utoipa::path(get, path = "/v3/webhooks/ip-addresses", tag = "nylas",
    responses((status = 200, body = wire::NylasReply<wire::NylasIpAddresses>, description = "the addresses")))]
async fn list_ip_addresses(
    _reader: Reader,
    State(api): State<Arc<Api>>,
    RequestId(request_id): RequestId,
) -> Answer<wire::NylasIpAddresses> {
    let listed = api.node.settings.outbox.ip_addresses.iter();
    let addresses = wire::NylasIpAddresses {
        ip_addresses: listed.map(ToString::to_string).collect(),
        // Settings are read at the start.
        updated_at: api.node.admin.started_at.as_secs(),
    };
    reply(request_id, addresses)
}

/// A whole notification of a trigger type, as it would be posted.
#[utoipa::path(post, path = "/v3/webhooks/mock-payload", tag = "nylas", request_body = wire::NylasMockAsked,
    responses((status = 200, body = wire::NylasReply<Value>, description = "the notification")))]
async fn show_mock_payload(
    Writer(caller): Writer,
    State(api): State<Arc<Api>>,
    RequestId(request_id): RequestId,
    Body(asked): Body<wire::NylasMockAsked>,
) -> Answer<Value> {
    let trigger_type = given(asked.trigger_type)
        .ok_or_else(|| Fault::field("trigger_type", "name one, such as message.created"))?;
    let application = caller.one_application()?;
    let payload = tests::event(&api, &caller.topology, application, &trigger_type)?;
    reply(request_id, payload)
}

/// Posts a mock notification to any URL, signed with `mock-webhook-secret`, and waits for its 200.
#[utoipa::path(post, path = "/v3/webhooks/send-test-event", tag = "nylas", request_body = wire::NylasMockAsked,
    responses((status = 200, body = wire::NylasReply<String>, description = "it was answered 200")))]
async fn send_test_event(
    Writer(caller): Writer,
    State(api): State<Arc<Api>>,
    RequestId(request_id): RequestId,
    Body(asked): Body<wire::NylasMockAsked>,
) -> Answer<String> {
    let url = given(asked.webhook_url)
        .ok_or_else(|| Fault::field("webhook_url", "name the URL that the event is sent to"))?;
    rules::judge_url(api.node.transport().guard(), &url, false)
        .map_err(|reason| Fault::field("webhook_url", reason))?;
    let trigger_type = given(asked.trigger_type).unwrap_or_else(|| tests::TYPE_DEFAULT.to_owned());
    let application = caller.one_application()?;
    let event = tests::event(&api, &caller.topology, application, &trigger_type)?;
    let receiver = test_receiver(&api, application, url);
    let attempted = api.node.transport().test(&receiver, &event, api.node.clock).await;
    // What Nylas answers here is not documented; it is one of this route's documented errors with our words.
    test_failure(&attempted).map_or(Ok(()), |message| Err(Refusal::invalid(message)))?;
    reply(request_id, "success".to_owned())
}

/// Whom a test event is sent to: nobody's destination, kept nowhere.
fn test_receiver(api: &Api, application: ApplicationId, url: String) -> ReadyDestination {
    let now = api.node.clock.now();
    let id = DestinationId::new(now, api.node.clock.entropy());
    let mut destination = Destination::new(id, application, "test", DestinationKind::Push { url }, now);
    destination.signing = Signing::Nylas;
    destination.timeout = rules::OUTBOX_TIMEOUT;
    ReadyDestination {
        signer: Signer::new(&destination, &[TEST_SECRET.as_bytes().to_vec()]),
        policy: Policy::nylas(),
        destination,
    }
}

/// Why a test event has not arrived; nothing where it was answered 200.
fn test_failure(attempted: &Attempted) -> Option<String> {
    let took = milliseconds(attempted.duration);
    match attempted.outcome {
        Outcome::Answered { status: 200, .. } => None,
        Outcome::Answered { status, .. } => Some(format!(
            "webhook_url: status is not ok, got {status} after {took}"
        )),
        Outcome::TimedOut
        | Outcome::Unreachable { .. }
        | Outcome::Acknowledged
        | Outcome::Returned { .. }
        | Outcome::Lost
        | Outcome::Released => {
            let error = attempted.error.as_deref().unwrap_or("no answer came");
            Some(format!("webhook_url: {error}, after {took}"))
        }
    }
}

fn milliseconds(span: Duration) -> String {
    format!("{} ms", span.as_millis())
}
