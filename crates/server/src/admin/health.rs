//! Whether the node is alive and ready, its metrics, and the description of the API (SPEC D5).
//!
//! Owns these few answers. Must not know how any of it comes about.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt as _;
use http::{HeaderValue, header};

use super::Api;
use super::auth::{Administrator, Caller};
use super::error::{Code, Fault, internal};

/// Whether the process answers.
#[utoipa::path(get, path = "/healthz", tag = "node", security(()), responses((status = 200, body = String, description = "it does")))]
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// Whether events can be taken: 503 while the node stops or its store is broken.
#[utoipa::path(get, path = "/readyz", tag = "node", security(()), responses((status = 200, body = String, description = "they can")))]
pub(super) async fn readyz(State(api): State<Arc<Api>>) -> Result<&'static str, Fault> {
    if api.node.stopping.is_cancelled() {
        return Err(Fault::new(Code::Stopping, "the node takes no new requests"));
    }
    match api.node.store.broken().now_or_never() {
        Some(_) => Err(Fault::new(
            Code::StoreUnavailable,
            "the store is broken; the process must start again",
        )),
        None => Ok("ready\n"),
    }
}

/// The metrics of this node, for Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "node", responses((status = 200, body = String, description = "the metrics", content_type = "application/openmetrics-text")))]
pub(super) async fn metrics(_: Administrator, State(api): State<Arc<Api>>) -> Result<Response, Fault> {
    let text = api.node.metrics.encode().map_err(|_| internal())?;
    let form = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    Ok(([(header::CONTENT_TYPE, form)], text).into_response())
}

/// The description of the API.
pub(super) async fn openapi_json(
    State(api): State<Arc<Api>>,
    request: axum::extract::Request,
) -> Result<Response, Fault> {
    // Any key may read it.
    if request.extensions().get::<Caller>().is_none() {
        return Err(Fault::new(
            Code::KeyMissing,
            "send a key as `authorization: Bearer KEY`",
        ));
    }
    let json = HeaderValue::from_static("application/json");
    Ok(([(header::CONTENT_TYPE, json)], api.description.clone()).into_response())
}

/// What stands at the front until there is a dashboard.
pub(super) async fn front() -> &'static str {
    "This is Hookfast. The API is described in /openapi.json; every route needs a key.\n"
}
