//! Event types: the trigger types that an application may publish and its destinations may subscribe to (SPEC O9).
//!
//! Owns these routes. What comes with Hookfast stands in `outbox::catalogue` and cannot be changed here; what may be
//! said of an application's own stands in `outbox::own_type`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use hookfast_engine::id::ApplicationId;
use hookfast_engine::topology::{Origin, Topology, TopologyChange, TriggerType};
use http::StatusCode;
use serde_json::Value;

use super::auth::{Reader, Writer, not_found};
use super::error::{Code, Fault};
use super::read::{Body, Query};
use super::sources::{PageQuery, file_warning, page_of};
use super::{Answer, Api, guard, wire};
use crate::outbox::own_type::{self, TYPES_MOST};
use crate::outbox::{catalogue, mock};

fn own(trigger_type: &TriggerType) -> wire::EventType {
    let json = |text: &Option<String>| text.as_deref().and_then(|text| serde_json::from_str(text).ok());
    wire::EventType {
        name: trigger_type.name.clone(),
        description: trigger_type.description.clone(),
        subscribable: true,
        schema: json(&trigger_type.schema),
        example: json(&trigger_type.example),
        origin: match trigger_type.origin {
            Origin::File => wire::EventTypeOrigin::File,
            Origin::Api => wire::EventTypeOrigin::Api,
        },
        warnings: Vec::new(),
    }
}

fn preset(trigger_type: &catalogue::TriggerType) -> wire::EventType {
    wire::EventType {
        name: trigger_type.name.to_owned(),
        description: trigger_type.description.to_owned(),
        subscribable: trigger_type.subscribable,
        schema: None,
        example: None,
        origin: wire::EventTypeOrigin::Preset,
        warnings: Vec::new(),
    }
}

/// Every type that the application knows, by name.
fn all_of(topology: &Topology, application: ApplicationId) -> Vec<wire::EventType> {
    let settings = topology.applications.get(&application);
    let named = settings.and_then(|application| application.catalogue.preset.as_deref());
    let preset_types = match named {
        Some(catalogue::NYLAS) => catalogue::nylas(),
        Some(_) | None => &[],
    };
    let mut all: Vec<_> = topology.trigger_types_of(application).map(own).collect();
    all.extend(preset_types.iter().map(preset));
    all.sort_by(|one, other| one.name.cmp(&other.name));
    // One of the application's own stands before the preset's of that name.
    all.dedup_by(|next, before| next.name == before.name);
    all
}

/// Event types, by name: those of the preset and the application's own.
#[utoipa::path(get, path = "/api/v1/event-types", tag = "event types", params(PageQuery),
    responses((status = 200, body = wire::List<wire::EventType>, description = "a page of event types")))]
pub(super) async fn list_event_types(
    Reader(caller): Reader,
    Query(query): Query<PageQuery>,
) -> Answer<wire::List<wire::EventType>> {
    let all = all_of(&caller.topology, caller.one_application()?).into_iter();
    let all = all.map(|each| (each.name.clone(), each));
    page_of(all, query.limit, query.cursor.as_deref(), |each| each).map(Json)
}

/// One event type, with an example.
#[utoipa::path(get, path = "/api/v1/event-types/{name}", tag = "event types", params(("name" = String, Path, description = "its name")),
    responses((status = 200, body = wire::EventType, description = "the event type")))]
pub(super) async fn show_event_type(
    Reader(caller): Reader,
    State(api): State<Arc<Api>>,
    Path(name): Path<String>,
) -> Answer<wire::EventType> {
    let application = caller.one_application()?;
    let found = all_of(&caller.topology, application)
        .into_iter()
        .find(|each| each.name == name);
    let mut found = found.ok_or_else(|| not_found("event type", &name))?;
    if found.origin == wire::EventTypeOrigin::Preset {
        let now = api.node.clock.now();
        let payload = mock::payload(&name, &application.to_string(), now);
        found.example = payload.and_then(|mut payload| payload.get_mut("data").map(Value::take));
    }
    Ok(Json(found))
}

/// Makes an event type of the application's own.
#[utoipa::path(post, path = "/api/v1/event-types", tag = "event types", request_body = wire::EventTypeCreate,
    responses((status = 201, body = wire::EventType, description = "the event type")))]
pub(super) async fn create_event_type(
    Writer(caller): Writer,
    State(api): State<Arc<Api>>,
    Body(asked): Body<wire::EventTypeCreate>,
) -> Result<(StatusCode, Json<wire::EventType>), Fault> {
    let (caller, _turn) = caller.turn(&api).await;
    let application = caller.one_application()?;
    own_type::check_name(&asked.name).map_err(|reason| Fault::field("name", reason))?;
    let mut known = caller.topology.trigger_types_of(application);
    if known.any(|each| each.name == asked.name) {
        let detail = format!("there is already an event type `{}`; change that one", asked.name);
        return Err(Fault::new(Code::Conflict, detail));
    }
    if caller.topology.trigger_types_of(application).count() >= TYPES_MOST {
        let detail =
            format!("an application has at most {TYPES_MOST} event types; delete one, or make it open");
        return Err(Fault::new(Code::Conflict, detail));
    }
    let now = api.node.clock.now();
    let made = TriggerType {
        application,
        name: asked.name,
        description: check_description(asked.description)?,
        schema: document("schema", asked.schema.as_ref(), own_type::schema)?,
        example: document("example", asked.example.as_ref(), own_type::example)?,
        origin: Origin::Api,
        created_at: now,
        updated_at: now,
    };
    let answer = own(&made);
    let change = TopologyChange::PutTriggerType(made);
    api.node.change_topology(&caller.name, vec![change]).await?;
    Ok((StatusCode::CREATED, Json(answer)))
}

/// Changes an event type of the application's own.
#[utoipa::path(patch, path = "/api/v1/event-types/{name}", tag = "event types", params(("name" = String, Path, description = "its name")),
    request_body = wire::EventTypeUpdate,
    responses((status = 200, body = wire::EventType, description = "the event type")))]
pub(super) async fn update_event_type(
    Writer(caller): Writer,
    State(api): State<Arc<Api>>,
    Path(name): Path<String>,
    Body(asked): Body<wire::EventTypeUpdate>,
) -> Answer<wire::EventType> {
    let (caller, _turn) = caller.turn(&api).await;
    let mut changed = find(&caller.topology, caller.one_application()?, &name)?.clone();
    if let Some(description) = asked.description {
        changed.description = check_description(description)?;
    }
    if let Some(schema) = asked.schema {
        changed.schema = document("schema", schema.as_ref(), own_type::schema)?;
    }
    if let Some(example) = asked.example {
        changed.example = document("example", example.as_ref(), own_type::example)?;
    }
    changed.updated_at = api.node.clock.now();
    let mut answer = own(&changed);
    answer.warnings = file_warning(changed.origin, "event type", &name);
    let change = TopologyChange::PutTriggerType(changed);
    api.node.change_topology(&caller.name, vec![change]).await?;
    Ok(Json(answer))
}

/// Deletes an event type of the application's own. Destinations that list it keep it in their lists.
#[utoipa::path(delete, path = "/api/v1/event-types/{name}", tag = "event types", params(("name" = String, Path, description = "its name")),
    responses((status = 204, description = "it is gone")))]
pub(super) async fn delete_event_type(
    Writer(caller): Writer,
    State(api): State<Arc<Api>>,
    Path(name): Path<String>,
) -> Result<StatusCode, Fault> {
    let (caller, _turn) = caller.turn(&api).await;
    let application = caller.one_application()?;
    find(&caller.topology, application, &name)?;
    let change = TopologyChange::DeleteTriggerType(application, name);
    api.node.change_topology(&caller.name, vec![change]).await?;
    Ok(guard::NOTHING)
}

/// The application's own type of that name.
fn find<'a>(
    topology: &'a Topology,
    application: ApplicationId,
    name: &str,
) -> Result<&'a TriggerType, Fault> {
    let known = topology.trigger_types.get(&(application, name.to_owned()));
    known.ok_or_else(|| not_found("event type of its own", name))
}

/// A JSON document, as `kept` has it.
fn document(
    field: &str,
    given: Option<&Value>,
    kept: impl FnOnce(&Value) -> Result<String, String>,
) -> Result<Option<String>, Fault> {
    let kept = given.map(kept).transpose();
    kept.map_err(|reason| Fault::field(field, reason))
}

fn check_description(description: String) -> Result<String, Fault> {
    own_type::check_description(&description).map_err(|reason| Fault::field("description", reason))?;
    Ok(description)
}
