//! What is sent: the request of one attempt (SPEC I9).
//!
//! Owns which of the provider's headers go on and which are ours. Must not know addresses, connections or what
//! becomes of it.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use hookfast_engine::event::HeaderBlock;
use hookfast_engine::time::Timestamp;
use hookfast_store::ClaimedDelivery;
use http::header::{CONNECTION, CONTENT_LENGTH, HOST};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use http_body_util::Full;

use super::resolve::Target;
use super::sign::Signer;

pub(super) const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
pub(super) const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
pub(super) const WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");
const HOOKFAST_EVENT_ID: HeaderName = HeaderName::from_static("hookfast-event-id");
const HOOKFAST_SOURCE: HeaderName = HeaderName::from_static("hookfast-source");
const HOOKFAST_ATTEMPT: HeaderName = HeaderName::from_static("hookfast-attempt");
const HOOKFAST_TYPE: HeaderName = HeaderName::from_static("hookfast-type");
pub(super) const HOOKFAST_REPLAY: HeaderName = HeaderName::from_static("hookfast-replay");

/// The longest provider's id that becomes `webhook-id`, in bytes.
const MAX_WEBHOOK_ID_BYTES: usize = 256;

/// A request to an address that came from outside.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// The method.
    pub method: Method,
    /// Where to.
    pub target: Target,
    /// The headers, in their order; `host` and `content-length` are added.
    pub headers: HeaderMap,
    /// The body, as it goes out.
    pub body: Bytes,
    /// The time from before the name is resolved to the end of the answer's head.
    pub timeout: Duration,
}

/// There are more headers than a request can hold.
#[derive(Debug, thiserror::Error)]
#[error("the event has more headers than a request can hold")]
pub struct TooManyHeaders(#[from] http::header::MaxSizeReached);

impl Outgoing {
    /// The request as it goes out, with its `host` and `content-length`.
    pub(super) fn to_request(&self) -> http::Request<Full<Bytes>> {
        let mut request = http::Request::new(Full::new(self.body.clone()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.target.path.clone().into();
        *request.headers_mut() = self.headers.clone();
        let headers = request.headers_mut();
        headers.insert(HOST, self.target.authority.clone());
        if !self.body.is_empty() || self.method == Method::POST {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(self.body.len()));
        }
        request
    }
}

/// The headers of a delivery: the provider's, as they came, and ours (SPEC I9).
///
/// A stored header that is not valid is passed over: it must not keep an event from being delivered.
///
/// # Errors
/// Where there are more headers than a request can hold.
pub fn delivery_headers(
    claimed: &ClaimedDelivery,
    source: &str,
    signer: &Signer,
    now: Timestamp,
) -> Result<HeaderMap, TooManyHeaders> {
    let event = &claimed.event;
    let mut headers = HeaderMap::with_capacity(32);
    // It keeps its place for the real one.
    headers.try_append(HOST, HeaderValue::from_static(""))?;
    append_provider_headers(&mut headers, &event.headers)?;

    let id = webhook_id(claimed);
    let seconds = now.as_secs();
    let mut append = |name: HeaderName, text: &str| match HeaderValue::from_str(text) {
        Ok(value) => headers.try_append(name, value).map(drop),
        Err(_) => Ok(()),
    };
    append(WEBHOOK_ID, &id)?;
    append(HOOKFAST_EVENT_ID, &event.id.to_string())?;
    append(HOOKFAST_SOURCE, source)?;
    if let Some(event_type) = &event.event_type {
        append(HOOKFAST_TYPE, event_type)?;
    }
    if let Some((job, _)) = claimed.replay {
        append(HOOKFAST_REPLAY, &job.to_string())?;
    }
    headers.try_append(HOOKFAST_ATTEMPT, HeaderValue::from(claimed.attempt))?;
    headers.try_append(WEBHOOK_TIMESTAMP, HeaderValue::from(seconds))?;
    if let Some(signature) = signer.sign(&id, seconds, &event.body) {
        headers.try_append(WEBHOOK_SIGNATURE, signature)?;
    }
    Ok(headers)
}

/// The new id of a replay that asked for one; else the provider's, where a receiver reads it as we signed it;
/// else the event's.
pub(super) fn webhook_id(claimed: &ClaimedDelivery) -> Cow<'_, str> {
    if let Some((_, Some(new))) = &claimed.replay {
        return Cow::Owned(new.to_string());
    }
    let provider_id = claimed.event.provider_id.as_deref();
    let fits = |id: &&str| {
        !id.is_empty() && id.len() <= MAX_WEBHOOK_ID_BYTES && id.bytes().all(|byte| byte.is_ascii_graphic())
    };
    match provider_id.filter(fits) {
        Some(id) => Cow::Borrowed(id),
        None => Cow::Owned(claimed.event.id.to_string()),
    }
}

fn append_provider_headers(headers: &mut HeaderMap, stored: &HeaderBlock) -> Result<(), TooManyHeaders> {
    let named_by_connection = named_by_connection(stored);
    for (name, value) in stored.iter() {
        let Ok(name) = HeaderName::from_bytes(name) else {
            continue;
        };
        if stays_here(name.as_str()) || named_by_connection.contains(&name) {
            continue;
        }
        // Shares the block's memory.
        let Ok(value) = HeaderValue::from_maybe_shared(stored.packed().slice_ref(value)) else {
            continue;
        };
        headers.try_append(name, value)?;
    }
    Ok(())
}

/// The headers that `Connection` names: they were meant for us (RFC 9110 section 7.6.1).
fn named_by_connection(stored: &HeaderBlock) -> Vec<HeaderName> {
    let values = stored
        .iter()
        .filter(|(name, _)| name.eq_ignore_ascii_case(CONNECTION.as_str().as_bytes()));
    let tokens = values.flat_map(|(_, value)| value.split(|byte| *byte == b','));
    tokens
        .filter_map(|token| HeaderName::from_bytes(token.trim_ascii()).ok())
        .collect()
}

/// Whether a header of the sender does not go on: those of its connection to us, those that are made anew, and
/// those that only we may set. An underscore counts as a dash, because many receivers take it for one.
fn stays_here(name: &str) -> bool {
    let name = if name.contains('_') {
        Cow::Owned(name.replace('_', "-"))
    } else {
        Cow::Borrowed(name)
    };
    matches!(
        &*name,
        "connection"
            | "content-length"
            | "expect"
            | "host"
            | "keep-alive"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
            | "webhook-id"
            | "webhook-signature"
            | "webhook-timestamp"
    ) || name.starts_with("proxy-")
        || name.starts_with("hookfast-")
}
