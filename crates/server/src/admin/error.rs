//! What the API answers when it does not do what was asked (RFC 9457).
//!
//! Owns the one table of codes and the step from an error of the store to one of them. Must not know routes.
//! Every code has a heading in `docs/errors.md`. No detail ever repeats a secret or a value that may be one.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use hookfast_store::StoreError;
use http::{HeaderValue, StatusCode, header};

use super::wire::Problem;

/// Where the codes are explained.
const DOCUMENTATION: &str = "https://hookfast.dev/errors";
/// The media type of a problem.
const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");

macro_rules! codes {
    ($($name:ident = $code:literal, $status:ident, $title:literal;)*) => {
        /// Why the API did not do what was asked.
        #[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
        pub enum Code {
            $(#[doc = $title] $name,)*
        }

        impl Code {
            /// Every code.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The text of the code, as in `docs/errors.md`.
            #[must_use]
            pub const fn code(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }

            /// The status it is answered with.
            #[must_use]
            pub const fn status(self) -> StatusCode {
                match self { $(Self::$name => StatusCode::$status,)* }
            }

            /// What it means, in a sentence without its end.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)* }
            }
        }
    };
}

codes! {
    MalformedRequest = "malformed-request", BAD_REQUEST, "the request cannot be read";
    KeyMissing = "key-missing", UNAUTHORIZED, "this needs a key";
    KeyUnknown = "key-unknown", UNAUTHORIZED, "there is no such key";
    KeyExpired = "key-expired", UNAUTHORIZED, "the key has expired";
    KeyRevoked = "key-revoked", UNAUTHORIZED, "the key was revoked";
    ScopeTooNarrow = "scope-too-narrow", FORBIDDEN, "the key's scope does not cover this";
    AdminKeyRefused = "admin-key-refused", FORBIDDEN, "admin keys are taken on the admin listener only";
    NotFound = "not-found", NOT_FOUND, "there is no such thing here";
    UnknownPath = "unknown-path", NOT_FOUND, "there is nothing at this path";
    WrongMethod = "wrong-method", METHOD_NOT_ALLOWED, "this path does not take the method";
    TooSlow = "too-slow", REQUEST_TIMEOUT, "the body arrived too slowly";
    Conflict = "conflict", CONFLICT, "the change contradicts what is set up";
    ChallengeFailed = "challenge-failed", CONFLICT, "the destination's URL does not answer the challenge";
    RequestTooLarge = "request-too-large", PAYLOAD_TOO_LARGE, "the body is larger than the API takes";
    UnsupportedMediaType = "unsupported-media-type", UNSUPPORTED_MEDIA_TYPE, "the body is not of a type that this takes";
    HostNotAllowed = "host-not-allowed", MISDIRECTED_REQUEST, "this listener does not answer to that host name";
    UnknownField = "unknown-field", UNPROCESSABLE_ENTITY, "a field is not known";
    InvalidField = "invalid-field", UNPROCESSABLE_ENTITY, "a field has a value that it cannot have";
    Internal = "internal-error", INTERNAL_SERVER_ERROR, "a fault of this server";
    StoreDamaged = "store-damaged", INTERNAL_SERVER_ERROR, "the store is damaged or of another version";
    StoreUnavailable = "store-unavailable", SERVICE_UNAVAILABLE, "the store takes nothing at present";
    StoreUnknown = "store-unknown", SERVICE_UNAVAILABLE, "it is not known whether the change was stored";
    Busy = "busy", SERVICE_UNAVAILABLE, "as much of this is under way as may be";
    Stopping = "server-stopping", SERVICE_UNAVAILABLE, "the server is stopping";
}

/// An answer that says why something was not done.
#[derive(Clone, Debug)]
pub struct Fault {
    /// Its code.
    pub code: Code,
    /// What happened here, and what to do about it.
    pub detail: String,
    /// When to ask again.
    pub retry_after: Option<Duration>,
}

impl Fault {
    /// A fault of this code, in these words.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            code,
            detail: detail.into(),
            retry_after: None,
        }
    }

    /// That `field` cannot have its value.
    pub fn field(field: &str, reason: impl std::fmt::Display) -> Self {
        Self::new(Code::InvalidField, format!("{field}: {reason}"))
    }

    /// That it may work after `delay`.
    #[must_use]
    pub fn after(self, delay: Duration) -> Self {
        Self {
            retry_after: Some(delay),
            ..self
        }
    }

    /// The answer, naming the request.
    pub(super) fn answer(&self, request_id: &str) -> Response {
        let (code, status) = (self.code.code(), self.code.status());
        let problem = Problem {
            r#type: format!("{DOCUMENTATION}#{code}"),
            title: self.code.title().to_owned(),
            status: status.as_u16(),
            code: code.to_owned(),
            detail: self.detail.clone(),
            request_id: Some(request_id.to_owned()),
        };
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        let mut response = (status, [(header::CONTENT_TYPE, PROBLEM_JSON)], body).into_response();
        add_hints(&mut response, self.retry_after);
        response
    }
}

/// Adds the headers that say how to ask better: with a key, or later.
pub(super) fn add_hints(response: &mut Response, retry_after: Option<Duration>) {
    let unauthorized = response.status() == StatusCode::UNAUTHORIZED;
    let headers = response.headers_mut();
    if unauthorized {
        let challenge = HeaderValue::from_static("Bearer realm=\"hookfast\"");
        headers.insert(header::WWW_AUTHENTICATE, challenge);
    }
    if let Some(delay) = retry_after {
        let seconds = delay.as_secs() + u64::from(delay.subsec_nanos() > 0);
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
    }
}

impl IntoResponse for Fault {
    /// Leaves the body to the outermost layer, which knows the request's id.
    fn into_response(self) -> Response {
        let mut response = self.code.status().into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        let detail = error.to_string();
        match error {
            StoreError::Unavailable { retry_after, .. } => {
                Self::new(Code::StoreUnavailable, detail).after(retry_after)
            }
            StoreError::Unknown { .. } => {
                tracing::error!(error = detail, "the store failed");
                let detail = "whether it was stored is not known; look before you ask again";
                Self::new(Code::StoreUnknown, detail).after(Duration::from_secs(5))
            }
            StoreError::Corrupt { .. } | StoreError::Incompatible { .. } => {
                tracing::error!(error = detail, "the store failed");
                Self::new(
                    Code::StoreDamaged,
                    "the store failed; the server's log says how, and `hookfast check` looks for the rest",
                )
            }
            StoreError::Refused { .. } => Self::new(Code::Conflict, detail),
        }
    }
}

/// The answer to what this server did wrong; the cause is in the log.
pub(super) fn internal() -> Fault {
    Fault::new(
        Code::Internal,
        "the server's log says more under this request's id",
    )
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use hookfast_store::Unavailable;

    use super::*;

    #[test]
    fn every_code_has_a_text_of_its_own_in_kebab_case() {
        let codes: HashSet<_> = Code::ALL.iter().map(|code| code.code()).collect();
        assert_eq!(codes.len(), Code::ALL.len());
        for code in Code::ALL {
            let plain = |byte: u8| byte.is_ascii_lowercase() || byte == b'-';
            assert!(code.code().bytes().all(plain), "{}", code.code());
            assert!(!code.title().ends_with('.'), "{}", code.title());
        }
    }

    #[test]
    fn a_store_that_is_busy_says_when_to_ask_again() {
        let error = StoreError::Unavailable {
            reason: Unavailable::Full,
            retry_after: Duration::from_millis(1_500),
        };
        let answer = Fault::from(error).answer("1");
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(answer.headers()[header::RETRY_AFTER], "2");
    }
}
