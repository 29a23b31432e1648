//! API keys. Admin keys only.
//!
//! Owns these routes. A key is shown once, when it is made; what is stored is its hash.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use hookfast_engine::id::{DestinationId, KeyId};
use hookfast_engine::topology::{ApiKey, DEFAULT_APPLICATION, Scope, Topology, TopologyChange};
use http::StatusCode;

use super::auth::{ADMIN_KEY_FILE, Administrator, Caller, application_named, hash, new_key, not_found};
use super::error::Fault;
use super::events::path_id;
use super::read::{Body, Query};
use super::sources::{PageQuery, page_of};
use super::{Answer, Api, guard, wire};

/// The longest name of a key.
const NAME_BYTES: usize = 128;

fn shown(topology: &Topology, key: &ApiKey) -> wire::Key {
    let application_of = |id: &DestinationId| {
        topology
            .destinations
            .get(id)
            .map(|each| each.application.to_string())
    };
    let (scope, application, destination) = match &key.scope {
        Scope::Admin => (wire::KeyScope::Admin, None, None),
        Scope::Application(id) => (wire::KeyScope::Application, Some(id.to_string()), None),
        Scope::Read(id) => (wire::KeyScope::Read, Some(id.to_string()), None),
        Scope::Pull(id) => (wire::KeyScope::Pull, application_of(id), Some(id.to_string())),
    };
    wire::Key {
        id: key.id.to_string(),
        name: key.name.clone(),
        scope,
        application,
        destination,
        created_at: wire::Time(key.created_at),
        expires_at: key.expires_at.map(wire::Time),
        revoked_at: key.revoked_at.map(wire::Time),
        key: None,
    }
}

/// Keys, by id; revoked ones stay as a record.
#[utoipa::path(get, path = "/api/v1/keys", tag = "keys", params(PageQuery),
    responses((status = 200, body = wire::List<wire::Key>, description = "a page of keys")))]
pub(super) async fn list_keys(
    Administrator(caller): Administrator,
    Query(query): Query<PageQuery>,
) -> Answer<wire::List<wire::Key>> {
    let all = caller.topology.keys.values().map(|key| (key.id.to_string(), key));
    page_of(all, query.limit, query.cursor.as_deref(), |key| {
        shown(&caller.topology, key)
    })
    .map(Json)
}

fn find<'a>(caller: &'a Caller, text: &str) -> Result<&'a ApiKey, Fault> {
    let id: KeyId = path_id(text)?;
    caller
        .topology
        .keys
        .get(&id)
        .ok_or_else(|| not_found("key", text))
}

/// One key, without the key itself.
#[utoipa::path(get, path = "/api/v1/keys/{id}", tag = "keys", params(("id" = String, Path, description = "its id")),
    responses((status = 200, body = wire::Key, description = "the key")))]
pub(super) async fn show_key(
    Administrator(caller): Administrator,
    Path(id): Path<String>,
) -> Answer<wire::Key> {
    find(&caller, &id).map(|key| Json(shown(&caller.topology, key)))
}

/// Makes a key and shows it this once.
#[utoipa::path(post, path = "/api/v1/keys", tag = "keys", request_body = wire::KeyCreate,
    responses((status = 201, body = wire::Key, description = "the key")))]
pub(super) async fn create_key(
    Administrator(caller): Administrator,
    State(api): State<Arc<Api>>,
    Body(asked): Body<wire::KeyCreate>,
) -> Result<(StatusCode, Json<wire::Key>), Fault> {
    let printable = asked.name.chars().all(|each| !each.is_control());
    if asked.name.trim().is_empty() || asked.name.len() > NAME_BYTES || !printable {
        return Err(Fault::field(
            "name",
            format!("say what it is for, in at most {NAME_BYTES} bytes"),
        ));
    }
    if asked.name == ADMIN_KEY_FILE {
        return Err(Fault::field(
            "name",
            format!("`{ADMIN_KEY_FILE}` is the key that the server makes; take another name"),
        ));
    }
    if asked.expires_in.is_some_and(|span| span.0.is_zero()) {
        return Err(Fault::field("expires_in", "`0s` would be over at once"));
    }
    let now = api.node.clock.now();
    let text = new_key(api.node.clock);
    let key = ApiKey {
        id: KeyId::new(now, api.node.clock.entropy()),
        hash: hash(&text),
        scope: scope(&caller, &asked)?,
        name: asked.name,
        created_at: now,
        expires_at: asked.expires_in.map(|span| now.plus(span.0)),
        revoked_at: None,
    };
    let mut answer = shown(&caller.topology, &key);
    api.node
        .change_topology(&caller.name, vec![TopologyChange::PutKey(key)])
        .await?;
    answer.key = Some(text);
    Ok((StatusCode::CREATED, Json(answer)))
}

fn scope(caller: &Caller, asked: &wire::KeyCreate) -> Result<Scope, Fault> {
    let unused = |field: &str, given: bool| {
        if given {
            Err(Fault::field(field, "a key of this scope has none; leave it out"))
        } else {
            Ok(())
        }
    };
    let application = || {
        let named = asked.application.as_deref();
        let acted_on = caller
            .application
            .and_then(|id| caller.topology.applications.get(&id));
        let found = match (named, acted_on) {
            (None, Some(acted_on)) => Ok(acted_on),
            (named, _) => application_named(&caller.topology, named.unwrap_or(DEFAULT_APPLICATION)),
        };
        found
            .map(|found| found.id)
            .map_err(|fault| Fault::field("application", fault.detail))
    };
    match asked.scope {
        wire::KeyScope::Admin => {
            unused("application", asked.application.is_some())?;
            unused("destination", asked.destination.is_some())?;
            Ok(Scope::Admin)
        }
        wire::KeyScope::Application => {
            unused("destination", asked.destination.is_some())?;
            application().map(Scope::Application)
        }
        wire::KeyScope::Read => {
            unused("destination", asked.destination.is_some())?;
            application().map(Scope::Read)
        }
        wire::KeyScope::Pull => {
            let named = asked.destination.as_deref();
            let named = named.ok_or_else(|| Fault::field("destination", "a pull key needs one"))?;
            let of = Caller {
                application: Some(application()?),
                ..caller.clone()
            };
            let found = of
                .destination(named)
                .map_err(|fault| Fault::field("destination", fault.detail))?;
            Ok(Scope::Pull(found.id))
        }
    }
}

/// Revokes a key: it is worth nothing from now on.
#[utoipa::path(delete, path = "/api/v1/keys/{id}", tag = "keys", params(("id" = String, Path, description = "its id")),
    responses((status = 204, description = "it is revoked")))]
pub(super) async fn revoke_key(
    Administrator(caller): Administrator,
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
) -> Result<StatusCode, Fault> {
    let (caller, _turn) = caller.turn(&api).await;
    let mut key = find(&caller, &id)?.clone();
    if key.revoked_at.is_none() {
        key.revoked_at = Some(api.node.clock.now());
        api.node
            .change_topology(&caller.name, vec![TopologyChange::PutKey(key)])
            .await?;
    }
    Ok(guard::NOTHING)
}
