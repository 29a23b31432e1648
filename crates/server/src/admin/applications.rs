//! Applications: the tenants. Admin keys only.
//!
//! Owns these routes. Must not touch what applications own.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use hookfast_engine::id::ApplicationId;
use hookfast_engine::topology::{Application, Catalogue, DEFAULT_APPLICATION, TopologyChange};
use http::StatusCode;

use super::auth::{Administrator, application_named};
use super::error::{Code, Fault};
use super::read::{Body, Query};
use super::sources::{PageQuery, check_name, page_of};
use super::{Answer, Api, wire};
use crate::outbox::catalogue as outbox;

fn shown(application: &Application) -> wire::Application {
    wire::Application {
        id: application.id.to_string(),
        name: application.name.clone(),
        created_at: wire::Time(application.created_at),
        preset: application.catalogue.preset.clone(),
        open: application.catalogue.open,
    }
}

/// Applications, by id.
#[utoipa::path(get, path = "/api/v1/applications", tag = "applications", params(PageQuery),
    responses((status = 200, body = wire::List<wire::Application>, description = "a page of applications")))]
pub(super) async fn list_applications(
    Administrator(caller): Administrator,
    Query(query): Query<PageQuery>,
) -> Answer<wire::List<wire::Application>> {
    let all = caller.topology.applications.values();
    let all = all.map(|application| (application.id.to_string(), application));
    page_of(all, query.limit, query.cursor.as_deref(), shown).map(Json)
}

/// One application.
#[utoipa::path(get, path = "/api/v1/applications/{application}", tag = "applications", params(("application" = String, Path, description = "its name or id")),
    responses((status = 200, body = wire::Application, description = "the application")))]
pub(super) async fn show_application(
    Administrator(caller): Administrator,
    Path(named): Path<String>,
) -> Answer<wire::Application> {
    application_named(&caller.topology, &named).map(|found| Json(shown(found)))
}

/// Makes an application.
#[utoipa::path(post, path = "/api/v1/applications", tag = "applications", request_body = wire::ApplicationPut,
    responses((status = 201, body = wire::Application, description = "the application")))]
pub(super) async fn create_application(
    Administrator(caller): Administrator,
    State(api): State<Arc<Api>>,
    Body(asked): Body<wire::ApplicationPut>,
) -> Result<(StatusCode, Json<wire::Application>), Fault> {
    check_name(&asked.name)?;
    let now = api.node.clock.now();
    let id = ApplicationId::new(now, api.node.clock.entropy());
    let mut application = Application::new(id, &asked.name, now);
    application.catalogue = api.node.settings.outbox.catalogue.clone();
    apply(&mut application.catalogue, asked.preset, asked.open)?;
    let answer = shown(&application);
    api.node
        .change_topology(&caller.name, vec![TopologyChange::PutApplication(application)])
        .await?;
    Ok((StatusCode::CREATED, Json(answer)))
}

fn apply(catalogue: &mut Catalogue, preset: Option<String>, open: Option<bool>) -> Result<(), Fault> {
    if let Some(preset) = preset {
        let preset = Some(preset).filter(|preset| !preset.is_empty());
        outbox::Catalogue::new(preset.as_deref(), [""; 0], false)
            .map_err(|error| Fault::field("preset", error))?;
        catalogue.preset = preset;
    }
    if let Some(open) = open {
        catalogue.open = open;
    }
    Ok(())
}

/// Changes an application.
#[utoipa::path(patch, path = "/api/v1/applications/{application}", tag = "applications", params(("application" = String, Path, description = "its name or id")),
    request_body = wire::ApplicationPut,
    responses((status = 200, body = wire::Application, description = "the application")))]
pub(super) async fn update_application(
    Administrator(caller): Administrator,
    State(api): State<Arc<Api>>,
    Path(named): Path<String>,
    Body(asked): Body<wire::ApplicationPut>,
) -> Answer<wire::Application> {
    let (caller, _turn) = caller.turn(&api).await;
    let mut application = application_named(&caller.topology, &named)?.clone();
    check_name(&asked.name)?;
    if application.name == DEFAULT_APPLICATION && asked.name != DEFAULT_APPLICATION {
        let detail = "application `default` keeps its name: what names no application means it";
        return Err(Fault::new(Code::Conflict, detail));
    }
    application.name = asked.name;
    apply(&mut application.catalogue, asked.preset, asked.open)?;
    let answer = shown(&application);
    api.node
        .change_topology(&caller.name, vec![TopologyChange::PutApplication(application)])
        .await?;
    Ok(Json(answer))
}
