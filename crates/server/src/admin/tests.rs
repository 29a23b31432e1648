//! Test events: one request to a destination, as a delivery would be, and what came back (SPEC O13).
//!
//! Owns this route. Nothing of a test is stored, and no health counts it.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use hookfast_engine::id::ApplicationId;
use hookfast_engine::outcome::Outcome;
use hookfast_engine::retry::{Meaning, meaning};
use hookfast_engine::topology::{Destination, DestinationKind, Topology};
use serde_json::{Value, json};

use super::auth::{Writer, not_found};
use super::error::Fault;
use super::read::OptionalBody;
use super::{Answer, Api, wire};
use crate::deliver::transport::Attempted;
use crate::outbox::mock;

/// The type of a test event where nothing says another.
pub(super) const TYPE_DEFAULT: &str = "message.created";

/// Sends a destination one test event, signed as its deliveries are, and shows how it was answered.
#[utoipa::path(post, path = "/api/v1/destinations/{destination}/test", tag = "destinations", params(("destination" = String, Path, description = "its name or id")),
    request_body = wire::TestAsked,
    responses((status = 200, body = wire::Tested, description = "how it was answered")))]
pub(super) async fn test_destination(
    Writer(caller): Writer,
    State(api): State<Arc<Api>>,
    Path(named): Path<String>,
    OptionalBody(asked): OptionalBody<wire::TestAsked>,
) -> Answer<wire::Tested> {
    let destination = caller.destination(&named)?;
    if destination.kind == DestinationKind::Pull {
        let reason = "it is pulled from; publish an event and pull it";
        return Err(Fault::field("destination", reason));
    }
    let trigger_type = asked.trigger_type.unwrap_or_else(|| first_type(destination));
    let event = event(&api, &caller.topology, destination.application, &trigger_type)?;
    let snapshot = api.node.snapshot.load_full();
    let ready = snapshot
        .destination(destination.id)
        .ok_or_else(|| not_found("destination", &named))?;
    let attempted = api.node.transport().test(ready, &event, api.node.clock).await;
    let success = meaning(&ready.policy, &attempted.outcome) == Meaning::Success;
    Ok(Json(tested(trigger_type, success, attempted)))
}

/// How a test went, in words.
pub(crate) fn tested(trigger_type: String, success: bool, attempted: Attempted) -> wire::Tested {
    wire::Tested {
        trigger_type,
        success,
        status: match attempted.outcome {
            Outcome::Answered { status, .. } => Some(status),
            Outcome::TimedOut
            | Outcome::Unreachable { .. }
            | Outcome::Acknowledged
            | Outcome::Returned { .. }
            | Outcome::Lost
            | Outcome::Released => None,
        },
        duration_ms: attempted.duration.as_secs_f64() * 1_000.0,
        error: attempted.error,
        response_body: String::from_utf8_lossy(&attempted.response_body).into_owned(),
    }
}

/// The first whole type that the destination lists.
fn first_type(destination: &Destination) -> String {
    let listed = destination.trigger_types.iter();
    let whole = listed.into_iter().find(|pattern| !pattern.contains('*'));
    whole.map_or_else(|| TYPE_DEFAULT.to_owned(), Clone::clone)
}

/// The event of a test: a mock payload of the preset, the example of an application's own type, or an empty one.
pub(super) fn event(
    api: &Api,
    topology: &Topology,
    application: ApplicationId,
    trigger_type: &str,
) -> Result<Value, Fault> {
    let now = api.node.clock.now();
    api.node
        .snapshot
        .load()
        .catalogue(application)
        .check_published(trigger_type)
        .map_err(|error| Fault::field("trigger_type", error))?;
    let known = topology
        .trigger_types
        .get(&(application, trigger_type.to_owned()));
    if let Some(payload) = mock::payload(trigger_type, &application.to_string(), now)
        && known.is_none()
    {
        return Ok(payload);
    }
    let example = known.and_then(|known| known.example.as_deref());
    let data = example.and_then(|text| serde_json::from_str(text).ok());
    Ok(json!({
        "specversion": "1.0",
        "type": trigger_type,
        "source": "/hookfast/test",
        "id": format!("test-{:032x}", api.node.clock.entropy()),
        "time": now.as_secs(),
        "data": data.unwrap_or_else(|| json!({})),
    }))
}
