//! The admin and API listeners: the HTTP API and its description.
//!
//! Owns accepting connections, the router and what its surfaces share. Decides nothing about events and
//! deliveries: handlers ask the store and write topology changes. One file holds one noun; `wire` holds the JSON.

mod applications;
pub mod auth;
mod backups;
mod convert;
mod deliveries;
mod destination_rules;
mod destinations;
pub mod error;
mod event_types;
mod events;
mod guard;
mod health;
mod keys;
mod nodes;
mod nylas;
mod openapi;
mod publish;
mod pull;
mod quarantine;
mod read;
mod redact;
mod rejected;
mod replays;
mod serve;
mod shared;
mod sources;
mod stats;
mod stream;
mod tests;
mod text;
pub mod wire;

use std::sync::Arc;

use axum::middleware::{from_fn_with_state, map_request};
use axum::{Json, Router};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub use self::auth::ensure_admin_key;
pub use self::serve::serve;
pub use self::shared::Shared;
pub(crate) use self::tests::tested;
use crate::node::Node;

/// Which listener a request came in by.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Surface {
    /// Everything, for admin keys too.
    Admin,
    /// One application's things, for scoped keys alone.
    Api,
}

impl Surface {
    /// The name in settings and in the list of listeners.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Api => "api",
        }
    }
}

/// What handlers work with.
pub(crate) struct Api {
    pub(crate) node: Arc<Node>,
    pub(crate) surface: Surface,
    /// Host names and addresses, beside its own and loopback ones, that this listener answers to.
    host_names: Vec<String>,
    description: String,
}

/// Everything that both listeners serve.
fn application_routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::with_openapi(openapi::empty())
        .routes(routes!(health::healthz))
        .routes(routes!(health::readyz))
        .routes(routes!(events::list_events, publish::publish_events))
        .routes(routes!(events::show_event))
        .routes(routes!(events::event_body))
        .routes(routes!(events::replay_event))
        .routes(routes!(deliveries::list_deliveries))
        .routes(routes!(deliveries::show_delivery))
        .routes(routes!(deliveries::retry_delivery))
        .routes(routes!(deliveries::discard_delivery))
        .routes(routes!(sources::list_sources, sources::create_source))
        .routes(routes!(
            sources::show_source,
            sources::update_source,
            sources::delete_source
        ))
        .routes(routes!(sources::list_providers))
        .routes(routes!(
            destinations::list_destinations,
            destinations::create_destination
        ))
        .routes(routes!(
            destinations::show_destination,
            destinations::update_destination,
            destinations::delete_destination
        ))
        .routes(routes!(destinations::pause_destination))
        .routes(routes!(destinations::resume_destination))
        .routes(routes!(destinations::reactivate_destination))
        .routes(routes!(destinations::rotate_destination_secret))
        .routes(routes!(tests::test_destination))
        .routes(routes!(
            event_types::list_event_types,
            event_types::create_event_type
        ))
        .routes(routes!(
            event_types::show_event_type,
            event_types::update_event_type,
            event_types::delete_event_type
        ))
        .merge(nylas::routes())
        .routes(routes!(pull::pull))
        .routes(routes!(pull::ack))
        .routes(routes!(pull::nack))
        .routes(routes!(pull::extend))
        .routes(routes!(replays::list_replays, replays::create_replay))
        .routes(routes!(replays::show_replay))
        .routes(routes!(replays::cancel_replay))
        .routes(routes!(quarantine::list_quarantined))
        .routes(routes!(quarantine::show_quarantined))
        .routes(routes!(quarantine::release_quarantined))
        .routes(routes!(quarantine::discard_quarantined))
        .routes(routes!(rejected::list_rejected))
        .routes(routes!(stats::show_stats))
        .routes(routes!(stream::stream))
}

/// What the admin listener alone serves.
fn admin_routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::default()
        .routes(routes!(
            applications::list_applications,
            applications::create_application
        ))
        .routes(routes!(
            applications::show_application,
            applications::update_application
        ))
        .routes(routes!(keys::list_keys, keys::create_key))
        .routes(routes!(keys::show_key, keys::revoke_key))
        .routes(routes!(nodes::list_nodes))
        .routes(routes!(backups::create_backup))
        .routes(routes!(health::metrics))
}

/// The routes of a surface, and their description.
fn routes_of(surface: Surface) -> (Router<Arc<Api>>, utoipa::openapi::OpenApi) {
    let routes = match surface {
        Surface::Admin => application_routes().merge(admin_routes()),
        Surface::Api => application_routes(),
    };
    let (router, description) = routes.split_for_parts();
    (router, openapi::finish(description))
}

/// The description of a surface (`/openapi.json`).
#[must_use]
pub fn description(surface: Surface) -> utoipa::openapi::OpenApi {
    routes_of(surface).1
}

/// The whole service of a surface.
pub(crate) fn router(node: Arc<Node>, surface: Surface) -> Router {
    let (routes, description) = routes_of(surface);
    let public_host = node
        .settings
        .public_url
        .as_deref()
        .and_then(|url| url::Url::parse(url).ok());
    let public_host = public_host.and_then(|url| url.host_str().map(str::to_ascii_lowercase));
    let host_names = node.settings.hosts.iter().cloned().chain(public_host).collect();
    let api = Arc::new(Api {
        node,
        surface,
        host_names,
        description: serde_json::to_string_pretty(&description).unwrap_or_default(),
    });
    let routes = routes
        .route("/openapi.json", axum::routing::get(health::openapi_json))
        .route("/", axum::routing::get(health::front))
        .fallback(guard::unknown_path)
        .method_not_allowed_fallback(guard::wrong_method)
        .layer(from_fn_with_state(api.clone(), auth::require_key))
        .layer(from_fn_with_state(api.clone(), guard::not_while_stopping))
        .layer(from_fn_with_state(api.clone(), guard::every_request))
        .with_state(api);
    // Around the routes, so that they are found by what is left of the path.
    Router::new()
        .fallback_service(routes)
        .layer(map_request(nylas::shape::without_last_slash))
}

/// What a handler answers with JSON.
type Answer<T> = Result<Json<T>, error::Fault>;
