//! What is sent of a published event: the request of one attempt (SPEC O2).
//!
//! Owns its headers and when it is compressed and signed: the signature is made over the bytes that go out. What the
//! body says stands in `outbox::envelope`. Must not know addresses, connections or what becomes of it.

use bytes::Bytes;
use hookfast_engine::time::Timestamp;
use hookfast_engine::topology::{Destination, Signing};
use hookfast_signature::NYLAS_HEADER;
use hookfast_store::ClaimedDelivery;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

use super::request::{HOOKFAST_REPLAY, WEBHOOK_ID, WEBHOOK_SIGNATURE, WEBHOOK_TIMESTAMP, webhook_id};
use super::sign::Signer;
use crate::outbox::challenge;
use crate::outbox::compress::gzip;
use crate::outbox::envelope::{self, Form};

/// The headers and the body of one attempt.
///
/// # Errors
/// Where the stored event cannot be read any more, in words.
pub(super) fn request(
    destination: &Destination,
    claimed: &ClaimedDelivery,
    signer: &Signer,
    now: Timestamp,
) -> Result<(HeaderMap, Bytes), String> {
    let event = &claimed.event;
    let (form, standard) = match destination.signing {
        Signing::Standard => (Form::Standard, true),
        Signing::Nylas => (Form::Nylas, false),
        Signing::Both => (Form::Nylas, true),
    };
    let new_id = claimed.replay.and_then(|(_, id)| id).map(|id| id.to_string());
    let notification = envelope::notification(
        &event.body,
        form,
        claimed.round_attempt,
        event.accepted_at,
        new_id.as_deref(),
    )
    .map_err(|error| format!("the stored event cannot be sent: {error}"))?;
    let body = if destination.compressed {
        gzip(&notification.body)
    } else {
        notification.body
    };
    let mut headers = HeaderMap::with_capacity(8);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(USER_AGENT, HeaderValue::from_static(challenge::USER_AGENT));
    if destination.compressed {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    if let Some(signature) = signer.sign_as_nylas(&body) {
        headers.insert(HeaderName::from_static(NYLAS_HEADER), signature);
    }
    if standard {
        sign_standard(&mut headers, claimed, signer, now, &body);
    }
    if let Some((job, _)) = claimed.replay
        && let Ok(job) = HeaderValue::try_from(job.to_string())
    {
        headers.insert(HOOKFAST_REPLAY, job);
    }
    Ok((headers, body))
}

fn sign_standard(
    headers: &mut HeaderMap,
    claimed: &ClaimedDelivery,
    signer: &Signer,
    now: Timestamp,
    body: &[u8],
) {
    let (id, seconds) = (webhook_id(claimed), now.as_secs());
    if let Ok(value) = HeaderValue::from_str(&id) {
        headers.insert(WEBHOOK_ID, value);
    }
    headers.insert(WEBHOOK_TIMESTAMP, HeaderValue::from(seconds));
    if let Some(signature) = signer.sign(&id, seconds, body) {
        headers.insert(WEBHOOK_SIGNATURE, signature);
    }
}

/// An event as it would have been published: the attempt's number is not the publisher's to say.
pub(super) fn without_attempt(event: &Value) -> Value {
    let mut event = event.clone();
    if let Some(attributes) = event.as_object_mut() {
        attributes.remove("webhook_delivery_attempt");
    }
    event
}
