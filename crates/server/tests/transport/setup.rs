//! Destinations, events and transports for the tests of one attempt.

use std::sync::Arc;
use std::time::Duration;

use crate::receiver::Receiver;
use bytes::Bytes;
use hookfast::clock::Clock;
use hookfast::deliver::resolve::Guard;
use hookfast::deliver::sign::Signer;
use hookfast::deliver::transport::{Attempted, Transport};
use hookfast::settings::DeliveryLimits;
use hookfast::snapshot::ReadyDestination;
use hookfast_engine::event::{Event, HeaderBlock};
use hookfast_engine::id::{ApplicationId, DeliveryId, DestinationId, EventId, SourceId};
use hookfast_engine::outcome::{Failure, Outcome};
use hookfast_engine::retry::Policy;
use hookfast_engine::time::Timestamp;
use hookfast_engine::topology::{Destination, DestinationKind};
use hookfast_signature::Secret;
use hookfast_store::ClaimedDelivery;
use rustls::RootCertStore;

/// Long enough for what must happen, on a busy machine.
pub(crate) const PATIENT: Duration = Duration::from_secs(10);
/// Short enough for what must not happen.
pub(crate) const HASTY: Duration = Duration::from_millis(150);

pub(crate) fn limits() -> DeliveryLimits {
    DeliveryLimits {
        attempts: 64,
        body_bytes: 64 << 20,
        lease_margin: Duration::from_secs(5),
        response_read_bytes: 64 * 1024,
        response_kept_bytes: 16 * 1024,
        idle_connection: Duration::from_secs(60),
    }
}

pub(crate) fn transport() -> Transport {
    transport_with(Guard::new(Vec::new(), Vec::new()), RootCertStore::empty())
}

pub(crate) fn transport_with(guard: Guard, roots: RootCertStore) -> Transport {
    Transport::new(&limits(), guard, roots, Clock)
}

pub(crate) fn destination(url: &str, timeout: Duration) -> Destination {
    let kind = DestinationKind::Push { url: url.to_owned() };
    let (id, application) = (DestinationId::from_u128(7), ApplicationId::from_u128(1));
    Destination {
        timeout,
        allow_private: true,
        ..Destination::new(id, application, "app", kind, Timestamp::from_secs(1))
    }
}

pub(crate) fn ready(destination: Destination, secrets: &[Secret]) -> ReadyDestination {
    let secrets: Vec<Vec<u8>> = secrets
        .iter()
        .map(|secret| secret.expose().as_bytes().to_vec())
        .collect();
    ReadyDestination {
        signer: Signer::new(&destination, &secrets),
        policy: Policy::inbox(),
        destination,
    }
}

pub(crate) fn to(url: &str) -> ReadyDestination {
    ready(destination(url, PATIENT), &[])
}

pub(crate) fn event() -> Event {
    Event {
        id: EventId::from_u128(0x0195_0000_0000_7000_8000_0000_0000_0001),
        application: ApplicationId::from_u128(1),
        source: SourceId::from_u128(2),
        provider_id: Some("msg_42".to_owned()),
        event_type: Some("message.created".to_owned()),
        occurred_at: None,
        accepted_at: Timestamp::from_secs(1_700_000_000),
        headers: HeaderBlock::default(),
        body: Bytes::from_static(br#"{"id":"msg_42"}"#),
    }
}

pub(crate) fn claimed(event: Event) -> ClaimedDelivery {
    ClaimedDelivery {
        id: DeliveryId::from_u128(9),
        destination: DestinationId::from_u128(7),
        attempt: 3,
        round_attempt: 3,
        event: Arc::new(event),
        replay: None,
        lease_until: Timestamp::from_secs(1_700_000_100),
    }
}

pub(crate) async fn attempt(transport: &Transport, destination: &ReadyDestination) -> Attempted {
    transport.attempt(destination, &claimed(event()), "orders").await
}

pub(crate) fn answered(status: u16) -> Outcome {
    Outcome::Answered {
        status,
        retry_after: None,
    }
}

#[track_caller]
pub(crate) fn assert_failed(attempted: &Attempted, failure: Failure, words: &str) {
    assert_eq!(
        attempted.outcome,
        Outcome::Unreachable { failure },
        "{attempted:?}"
    );
    let error = attempted.error.as_deref().unwrap_or_default();
    assert!(error.contains(words), "`{error}` does not say `{words}`");
}

/// What came, in one text, with what changes from run to run taken out.
pub(crate) fn head_of(receiver: &Receiver, signature_too: bool) -> String {
    let lines = receiver.only().head;
    let lines = lines.lines().map(|line| match line.split_once(": ") {
        Some(("host", _)) => "host: HOST".to_owned(),
        Some(("webhook-timestamp", _)) => "webhook-timestamp: SECONDS".to_owned(),
        Some(("webhook-signature", _)) if signature_too => "webhook-signature: SIGNATURE".to_owned(),
        _ => line.to_owned(),
    });
    lines.collect::<Vec<_>>().join("\n")
}

pub(crate) fn with_headers(headers: &[(&str, &[u8])]) -> Event {
    Event {
        headers: HeaderBlock::pack(headers.iter().map(|(name, value)| (name.as_bytes(), *value))),
        ..event()
    }
}
