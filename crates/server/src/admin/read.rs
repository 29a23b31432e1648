//! Reading what is asked: JSON bodies and queries.
//!
//! Owns their limits and the words for what is wrong with them: an unknown field is named with the nearest
//! known one. Must not repeat values of a body: they may be secrets.

use std::time::Duration;

use axum::Json;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Request};
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;

use super::error::{Code, Fault};
use crate::nearest::nearest;

/// The largest body of a request, in bytes.
pub(super) const BODY_BYTES: usize = 1024 * 1024;
/// The longest that a body may take to arrive.
const BODY_PATIENCE: Duration = Duration::from_secs(30);

/// A JSON body.
#[derive(Clone, Copy, Debug)]
pub(super) struct Body<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Fault;

    async fn from_request(request: Request, _: &S) -> Result<Self, Fault> {
        let bytes = read(request).await?;
        parse(&bytes).map(Self)
    }
}

/// A JSON body that may be left out.
#[derive(Clone, Copy, Debug)]
pub(super) struct OptionalBody<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned + Default> FromRequest<S> for OptionalBody<T> {
    type Rejection = Fault;

    async fn from_request(request: Request, _: &S) -> Result<Self, Fault> {
        let nothing = request.headers().get(header::CONTENT_TYPE).is_none();
        let bytes = if nothing {
            read_any(request).await?
        } else {
            read(request).await?
        };
        if bytes.is_empty() {
            return Ok(Self(T::default()));
        }
        if nothing {
            return Err(media_type());
        }
        parse(&bytes).map(Self)
    }
}

/// A query.
#[derive(Clone, Copy, Debug)]
pub(super) struct Query<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Fault> {
        match axum::extract::Query::try_from_uri(&parts.uri) {
            Ok(axum::extract::Query(query)) => Ok(Self(query)),
            Err(rejection) => Err(query_fault(&rejection)),
        }
    }
}

async fn read(request: Request) -> Result<Bytes, Fault> {
    if is_json(request.headers()) {
        read_any(request).await
    } else {
        Err(media_type())
    }
}

fn media_type() -> Fault {
    Fault::new(
        Code::UnsupportedMediaType,
        "send the body as JSON, with `content-type: application/json`",
    )
}

fn is_json(headers: &HeaderMap) -> bool {
    let given = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let essence = given
        .and_then(|given| given.split(';').next())
        .unwrap_or_default();
    essence.trim().eq_ignore_ascii_case("application/json")
}

async fn read_any(request: Request) -> Result<Bytes, Fault> {
    let collecting = Limited::new(request.into_body(), BODY_BYTES).collect();
    match tokio::time::timeout(BODY_PATIENCE, collecting).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Fault::new(
            Code::RequestTooLarge,
            format!("the body is larger than {BODY_BYTES} bytes; send less at once"),
        )),
        Ok(Err(_)) => Err(Fault::new(Code::MalformedRequest, "the body ended too early")),
        Err(_) => Err(Fault::new(
            Code::TooSlow,
            format!("the body did not arrive within {} s", BODY_PATIENCE.as_secs()),
        )),
    }
}

fn parse<T: DeserializeOwned>(bytes: &Bytes) -> Result<T, Fault> {
    match Json::from_bytes(bytes) {
        Ok(Json(value)) => Ok(value),
        Err(JsonRejection::JsonDataError(error)) => Err(data_fault(&after_colon(&error.body_text()))),
        Err(JsonRejection::JsonSyntaxError(error)) => Err(Fault::new(
            Code::MalformedRequest,
            format!("the body is not JSON: {}", place(&error.body_text())),
        )),
        Err(rejection) => Err(Fault::new(Code::MalformedRequest, rejection.body_text())),
    }
}

fn query_fault(rejection: &QueryRejection) -> Fault {
    data_fault(&after_colon(&rejection.body_text()))
}

/// What follows axum's own beginning of the sentence.
fn after_colon(text: &str) -> String {
    text.split_once(": ").map_or(text, |(_, after)| after).to_owned()
}

/// Where it went wrong; the parser's own words may repeat what was sent.
fn place(text: &str) -> String {
    match text.rfind("at line ") {
        Some(start) => format!("look {}", &text[start..]),
        None => "it ends too early".to_owned(),
    }
}

/// The fault for data of the wrong shape, from serde's message.
fn data_fault(message: &str) -> Fault {
    let message = without_values(message);
    match unknown_field(&message) {
        Some(detail) => Fault::new(Code::UnknownField, detail),
        None => Fault::new(Code::InvalidField, message),
    }
}

/// `message` without the values that serde repeats: `string "…"` becomes `a string`.
fn without_values(message: &str) -> String {
    let Some((before, after)) = message.split_once("string \"") else {
        return message.to_owned();
    };
    // The text may hold quotes itself; what follows the value begins with the last one of these.
    let rest = after.rfind("\", expected ").map_or("", |end| &after[end + 1..]);
    format!("{before}string{rest}")
}

/// Names an unknown field and the nearest known one.
fn unknown_field(message: &str) -> Option<String> {
    let (path, rest) = message.split_once("unknown field `")?;
    let (name, rest) = rest.split_once('`')?;
    let known: Vec<&str> = rest.split('`').skip(1).step_by(2).collect();
    let path = path.trim_end().trim_end_matches(':');
    let place = if path.is_empty() || path == name {
        String::new()
    } else {
        format!("{path}: ")
    };
    let name: String = name.chars().take(80).collect();
    let advice = match nearest(&name, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`"),
        None if known.is_empty() => "it takes none; leave it out".to_owned(),
        None => format!("known are: {}", known.join(", ")),
    };
    Some(format!("{place}there is no field `{name}`; {advice}"))
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only how it is refused matters")]
    struct Given {
        name: String,
        #[serde(default)]
        secrets: Vec<String>,
        #[serde(default)]
        window: super::super::wire::Span,
    }

    fn refused(body: &'static str) -> Fault {
        parse::<Given>(&Bytes::from_static(body.as_bytes())).unwrap_err()
    }

    #[test]
    fn an_unknown_field_is_named_with_the_nearest_known_one() {
        let fault = refused(r#"{"name": "a", "secret": []}"#);
        assert_eq!(fault.code, Code::UnknownField);
        assert_eq!(fault.detail, "there is no field `secret`; did you mean `secrets`");
        let fault = refused(r#"{"zzz": 1}"#);
        assert_eq!(
            fault.detail,
            "there is no field `zzz`; known are: name, secrets, window"
        );
    }

    #[test]
    fn no_fault_repeats_a_value_of_the_body() {
        for body in [
            r#"{"name": "a", "secrets": "canary"}"#,
            r#"{"name": "a", "secrets": "canary\", expected canary"}"#,
            r#"{"name": "a", "secrets": ["canary", 3"#,
            r#""canary""#,
            "canary",
            r#"{"name": ["canary"]}"#,
        ] {
            let detail = refused(body).detail;
            assert!(!detail.contains("canary"), "{detail}");
        }
    }

    #[test]
    fn a_wrong_duration_says_what_is_expected_and_where() {
        let fault = refused(r#"{"name": "a", "window": "7 days"}"#);
        assert_eq!(fault.code, Code::InvalidField);
        assert!(
            fault.detail.starts_with("window: `7 days` is not a duration"),
            "{}",
            fault.detail
        );
    }
}
