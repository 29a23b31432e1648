//! The shape of Nylas's answers: which paths have it, and what is answered to what was not done.
//!
//! Owns the types of its errors and the step from a fault to one of them. Must not know what the routes do.
//!
//! Types that Nylas documents (in the OpenAPI of `/v3/webhooks` and its pages on errors) are used as they are: `70000`
//! and `70005`, `invalid_request_error`, `api.authentication_error`. For everything that it documents no type of, the
//! type is Hookfast's own code, which `docs/errors.md` explains.

use std::time::Duration;

use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use http::uri::PathAndQuery;
use http::{HeaderValue, StatusCode, Uri, header};

use crate::admin::error::{Code, Fault, add_hints};
use crate::admin::wire::{NylasError, NylasProblem};

/// Exactly this: the Ruby SDK reads nothing that has a charset beside it.
const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// Nylas documents it where a mock payload or a test event is asked for; here it stands for everything that cannot be
/// read or cannot be so.
const INVALID_REQUEST: &str = "invalid_request_error";
const AUTHENTICATION: &str = "api.authentication_error";
const NO_WEBHOOK: &str = "70000";
const NOT_VERIFIED: &str = "70005";

/// Whether what is answered at this path has Nylas's shape.
pub(in crate::admin) fn is_nylas(path: &str) -> bool {
    path == "/v3" || path.starts_with("/v3/")
}

/// Nylas's documentation writes these paths with and without a slash at the end; routes are without.
pub(in crate::admin) async fn without_last_slash(mut request: Request) -> Request {
    let uri = request.uri();
    let trimmed = uri.path().strip_suffix('/').filter(|path| is_nylas(path));
    let Some(path) = trimmed else { return request };
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let mut parts = uri.clone().into_parts();
    if let Ok(trimmed) = PathAndQuery::try_from(format!("{path}{query}")) {
        parts.path_and_query = Some(trimmed);
    }
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
    request
}

/// An answer, in Nylas's shape, that says why something was not done.
#[derive(Clone, Debug)]
pub(in crate::admin) struct Refusal {
    status: StatusCode,
    kind: &'static str,
    message: String,
    retry_after: Option<Duration>,
}

impl Refusal {
    fn new(status: StatusCode, kind: &'static str, message: String) -> Self {
        Self {
            status,
            kind,
            message,
            retry_after: None,
        }
    }

    /// That there is no such webhook. Nylas documents 400 where one is changed; where one is only looked at it
    /// documents nothing, and its command line expects 404.
    pub(super) fn no_webhook(status: StatusCode) -> Self {
        let message = "destination.id.not.found : record not found".to_owned();
        Self::new(status, NO_WEBHOOK, message)
    }

    /// That a URL does not answer its challenge, or cannot even be asked to.
    pub(super) fn not_verified(reason: impl std::fmt::Display) -> Self {
        let message = format!("unable.verify.webhook_url : {reason}");
        Self::new(StatusCode::BAD_REQUEST, NOT_VERIFIED, message)
    }

    /// That a request cannot be done as it is.
    pub(super) fn invalid(message: String) -> Self {
        Self::new(StatusCode::BAD_REQUEST, INVALID_REQUEST, message)
    }

    /// The answer, naming the request.
    pub(in crate::admin) fn answer(self, request_id: &str) -> Response {
        let problem = NylasProblem {
            request_id: request_id.to_owned(),
            error: NylasError {
                r#type: self.kind.to_owned(),
                message: self.message,
            },
        };
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        let mut response = (self.status, [(header::CONTENT_TYPE, JSON)], body).into_response();
        add_hints(&mut response, self.retry_after);
        response
    }
}

impl IntoResponse for Refusal {
    /// Leaves the body to the outermost layer, which knows the request's id.
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        let Fault {
            code,
            detail,
            retry_after,
        } = fault;
        let refusal = match code {
            Code::KeyMissing | Code::KeyUnknown | Code::KeyExpired | Code::KeyRevoked => {
                Self::new(code.status(), AUTHENTICATION, format!("Unauthorized : {detail}"))
            }
            Code::MalformedRequest => Self::invalid(format!("error parsing request body : {detail}")),
            Code::UnknownField | Code::InvalidField => Self::invalid(detail),
            Code::ChallengeFailed => Self::not_verified(detail),
            Code::ScopeTooNarrow
            | Code::AdminKeyRefused
            | Code::NotFound
            | Code::UnknownPath
            | Code::WrongMethod
            | Code::TooSlow
            | Code::Conflict
            | Code::RequestTooLarge
            | Code::UnsupportedMediaType
            | Code::HostNotAllowed
            | Code::Internal
            | Code::StoreDamaged
            | Code::StoreUnavailable
            | Code::StoreUnknown
            | Code::Busy
            | Code::Stopping => Self::new(code.status(), code.code(), detail),
        };
        Self {
            retry_after,
            ..refusal
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    #[tokio::test]
    async fn one_slash_at_the_end_of_a_path_of_nylas_is_taken_off_and_the_query_stays() {
        for (given, expected) in [
            ("/v3/webhooks/", "/v3/webhooks"),
            ("/v3/webhooks/?a=/", "/v3/webhooks?a=/"),
            ("/v3/webhooks", "/v3/webhooks"),
            ("/v3/webhooks//", "/v3/webhooks/"),
            ("/v3/", "/v3"),
            ("/", "/"),
            ("/api/v1/sources/", "/api/v1/sources/"),
            ("/v34/", "/v34/"),
        ] {
            let request = Request::builder().uri(given).body(Body::empty()).unwrap();
            let request = without_last_slash(request).await;
            assert_eq!(request.uri(), expected, "{given}");
        }
    }

    #[test]
    fn every_fault_is_a_client_or_a_server_error_to_nylas_sdks_too() {
        for code in Code::ALL {
            let refusal = Refusal::from(Fault::new(*code, "why").after(Duration::from_secs(3)));
            assert!(refusal.status.as_u16() >= 400, "{code:?}");
            assert_eq!(refusal.retry_after, Some(Duration::from_secs(3)));
            assert!(refusal.message.ends_with("why"), "{}", refusal.message);
        }
    }
}
