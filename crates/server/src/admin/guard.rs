//! What holds for every request of these listeners, whatever its path.
//!
//! Owns the request's id, the check of its Host, headers that keep browsers from guessing, and turning panics
//! into answers. Must not know keys or routes.

use std::net::{IpAddr, SocketAddr};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::extract::{FromRequestParts, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt as _;
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderName, HeaderValue, StatusCode, header};

use super::Api;
use super::error::{Code, Fault, internal};
use super::nylas::shape::{Refusal, is_nylas};

/// The header that names a request in answers and in the log.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Where the connection of a request came in.
#[derive(Clone, Copy, Debug)]
pub(super) struct LocalAddress(pub(super) SocketAddr);

/// The id of a request, for those whose answers name it in the body.
#[derive(Clone, Debug)]
pub(super) struct RequestId(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for RequestId {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Fault> {
        // The outermost layer puts it there.
        parts.extensions.remove::<Self>().ok_or_else(internal)
    }
}

/// The outermost layer.
pub(super) async fn every_request(State(api): State<Arc<Api>>, mut request: Request, next: Next) -> Response {
    let request_id = format!("{:032x}", api.node.clock.entropy());
    request.extensions_mut().insert(RequestId(request_id.clone()));
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let mut response = match check_host(&api, &request) {
        Err(fault) => fault.into_response(),
        Ok(()) => match AssertUnwindSafe(next.run(request)).catch_unwind().await {
            Ok(response) => response,
            Err(_) => {
                tracing::error!(request.id = request_id, %method, path, "answering a request panicked");
                internal().into_response()
            }
        },
    };
    if let Some(said) = said(&mut response, &path, &request_id) {
        let kept = response.headers().clone();
        response = said;
        response
            .headers_mut()
            .extend(kept.into_iter().filter_map(|(name, value)| {
                name.filter(|name| *name != header::CONTENT_TYPE && *name != header::CONTENT_LENGTH)
                    .map(|name| (name, value))
            }));
    }
    let status = response.status();
    if status.is_server_error() {
        tracing::warn!(request.id = request_id, %method, path, status = status.as_u16(), "a request failed");
    }
    decorate(&mut response, &request_id);
    response
}

/// The answer to what was not done, in the shape that answers at this path have.
fn said(response: &mut Response, path: &str, request_id: &str) -> Option<Response> {
    let extensions = response.extensions_mut();
    if let Some(refusal) = extensions.remove::<Refusal>() {
        return Some(refusal.answer(request_id));
    }
    let fault = extensions.remove::<Fault>()?;
    if is_nylas(path) {
        return Some(Refusal::from(fault).answer(request_id));
    }
    Some(fault.answer(request_id))
}

fn decorate(response: &mut Response, request_id: &str) {
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::try_from(request_id) {
        headers.insert(REQUEST_ID, id);
    }
    let no_sniffing = HeaderValue::from_static("nosniff");
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, no_sniffing);
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
}

/// Refuses host names that are not this listener's own: a page of a stranger whose name was made to point here
/// would else be answered in its visitor's browser.
fn check_host(api: &Api, request: &Request) -> Result<(), Fault> {
    let from_header = || {
        let mut all = request.headers().get_all(header::HOST).iter();
        let only = all.next().filter(|_| all.next().is_none())?;
        only.to_str().ok()?.parse::<Authority>().ok()
    };
    let authority = request.uri().authority().cloned().or_else(from_header);
    let Some(authority) = authority else {
        return Err(Fault::new(
            Code::MalformedRequest,
            "the request needs one valid host header",
        ));
    };
    let local = request
        .extensions()
        .get::<LocalAddress>()
        .map(|local| local.0.ip());
    if host_allowed(authority.host(), local, &api.host_names) {
        return Ok(());
    }
    let host: String = authority.host().chars().take(80).collect();
    Err(Fault::new(
        Code::HostNotAllowed,
        format!("`{host}` is not a name of this listener: use its address, or add the name to server.hosts"),
    ))
}

fn host_allowed(host: &str, local: Option<IpAddr>, names: &[String]) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let literal = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(&host);
    match literal.parse::<IpAddr>() {
        Ok(address) if address.to_canonical().is_loopback() => true,
        Ok(address) if names.contains(&address.to_string()) => true,
        // An address cannot be rebound; on a listener that is reachable from elsewhere, the address that people
        // use may be that of a gateway before it.
        Ok(address) => local.is_some_and(|local| {
            let (address, local) = (address.to_canonical(), local.to_canonical());
            address == local || !local.is_loopback()
        }),
        Err(_) => host == "localhost" || host.ends_with(".localhost") || names.contains(&host),
    }
}

/// The answer to a path that nothing is at.
pub(super) async fn unknown_path() -> Fault {
    Fault::new(Code::UnknownPath, "openapi.json lists the paths there are")
}

/// The answer to a method that a path does not take; which ones it takes stands in `allow`.
pub(super) async fn wrong_method(request: Request) -> Fault {
    let method = request.method().as_str();
    let method: String = method.chars().take(20).collect();
    Fault::new(
        Code::WrongMethod,
        format!("{method} is not taken here; the allow header lists what is"),
    )
}

/// Answers 503 once the node stops: a connection that is kept open would else go on for ever.
pub(super) async fn not_while_stopping(
    State(api): State<Arc<Api>>,
    request: Request,
    next: Next,
) -> Response {
    let looks_on = matches!(request.uri().path(), "/healthz" | "/readyz");
    if api.node.stopping.is_cancelled() && !looks_on {
        let fault = Fault::new(Code::Stopping, "ask again once it is back");
        return fault.after(std::time::Duration::from_secs(5)).into_response();
    }
    next.run(request).await
}

/// The answer of a handler that has none to give.
pub(super) const NOTHING: StatusCode = StatusCode::NO_CONTENT;

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use axum::middleware::from_fn_with_state;
    use hookfast_store::NoSlots;
    use hookfast_store::memory::MemoryStore;
    use http_body_util::BodyExt as _;
    use hyper::service::Service as _;
    use hyper_util::service::TowerToHyperService;

    use super::*;
    use crate::admin::Surface;
    use crate::clock::Clock;
    use crate::config::{Config, Environment, Flags};
    use crate::deliver::Deliveries;
    use crate::node::Node;
    use crate::vault::Vault;

    #[tokio::test]
    async fn a_panic_becomes_an_answer_that_tells_nothing_of_it() {
        let settings = Config::read(&Flags::default(), &Environment::default())
            .unwrap()
            .settings;
        let (deliveries, _driver) = Deliveries::new(&settings.delivery, Clock);
        let store = MemoryStore::new(Arc::new(NoSlots));
        let node = Node::new(Clock, store, deliveries, settings, Vault::new([7; 32]));
        let api = Arc::new(Api {
            node: Arc::new(node),
            surface: Surface::Admin,
            host_names: Vec::new(),
            description: String::new(),
        });
        let panics = || async {
            if true {
                panic!("canary");
            }
        };
        let router: Router = Router::new()
            .route("/", axum::routing::get(panics))
            .layer(from_fn_with_state(api, every_request));
        let request = Request::builder()
            .header("host", "localhost")
            .body(Body::empty())
            .unwrap();
        let response = TowerToHyperService::new(router).call(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert!(response.headers().contains_key(REQUEST_ID));
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let text = String::from_utf8_lossy(&body);
        assert!(
            text.contains("internal-error") && !text.contains("canary"),
            "{text}"
        );
    }

    #[test]
    fn hosts_that_a_stranger_could_point_here_are_refused() {
        let names = ["hooks.example.com", "172.17.0.1", "2001:db8::5"].map(str::to_owned);
        let check = |host, local: &str| host_allowed(host, Some(local.parse().unwrap()), &names);
        for host in [
            "localhost",
            "LOCALHOST.",
            "127.0.0.1",
            "[::1]",
            "127.9.9.9",
            "hooks.example.com",
            "HOOKS.example.com.",
            "172.17.0.1",
            "[2001:db8::5]",
            "a.localhost",
        ] {
            assert!(check(host, "127.0.0.1"), "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "10.0.0.7",
            "[2001:db8::1]",
            "",
            "hooks.example.com.evil",
        ] {
            assert!(!check(host, "127.0.0.1"), "{host}");
        }
        assert!(check("10.0.0.7", "10.0.0.7"));
        assert!(check("192.0.2.1", "10.0.0.7"), "the address of a gateway");
        assert!(!check("evil.example", "10.0.0.7"));
        assert!(!host_allowed("10.0.0.7", None, &names));
    }
}
