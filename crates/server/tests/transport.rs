//! One attempt against real sockets: every way it can end, and what goes over the wire (SPEC I9, O3, O11, O15).

#![expect(clippy::unwrap_used, reason = "what a test sets up must succeed")]

#[path = "support/receiver.rs"]
mod receiver;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hookfast::clock::Clock;
use hookfast::deliver::request::Outgoing;
use hookfast::deliver::resolve::{BlockedReason, Guard, Lookup};
use hookfast::deliver::sign::Signer;
use hookfast::deliver::transport::{Attempted, Transport};
use hookfast::settings::DeliveryLimits;
use hookfast::snapshot::ReadyDestination;
use hookfast_engine::delivery::DestinationNumber;
use hookfast_engine::event::{Event, HeaderBlock};
use hookfast_engine::id::{ApplicationId, DeliveryId, DestinationId, EventId, ReplayId, SourceId};
use hookfast_engine::outcome::{Failure, Outcome};
use hookfast_engine::retry::Policy;
use hookfast_engine::time::Timestamp;
use hookfast_engine::topology::{Destination, DestinationKind, DestinationStatus, Origin};
use hookfast_signature::{Clock as SignatureClock, Request, Scheme, Secret, StandardWebhooks, Verifier};
use hookfast_store::ClaimedDelivery;
use http::{HeaderMap, Method};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use receiver::{Receiver, Step, answer, ok};
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;

/// Long enough for what must happen, on a busy machine.
const PATIENT: Duration = Duration::from_secs(10);
/// Short enough for what must not happen.
const HASTY: Duration = Duration::from_millis(150);

fn limits() -> DeliveryLimits {
    DeliveryLimits {
        attempts: 64,
        body_bytes: 64 << 20,
        lease_margin: Duration::from_secs(5),
        response_read_bytes: 64 * 1024,
        response_kept_bytes: 16 * 1024,
        idle_connection: Duration::from_secs(60),
    }
}

fn transport() -> Transport {
    transport_with(Guard::new(Vec::new(), Vec::new()), RootCertStore::empty())
}

fn transport_with(guard: Guard, roots: RootCertStore) -> Transport {
    Transport::new(&limits(), guard, roots, Clock)
}

fn destination(url: &str, timeout: Duration) -> Destination {
    let at = Timestamp::from_secs(1);
    Destination {
        id: DestinationId::from_u128(7),
        number: DestinationNumber(0),
        application: ApplicationId::from_u128(1),
        name: "app".to_owned(),
        kind: DestinationKind::Push { url: url.to_owned() },
        sources: Vec::new(),
        trigger_types: vec!["*".to_owned()],
        policy: "inbox".to_owned(),
        timeout,
        concurrency: 8,
        rate_limit: None,
        allow_private: true,
        secrets: Vec::new(),
        status: DestinationStatus::Active,
        status_reason: None,
        status_changed_at: at,
        deleted_at: None,
        origin: Origin::File,
        created_at: at,
        updated_at: at,
    }
}

fn ready(destination: Destination, secrets: &[Secret]) -> ReadyDestination {
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

fn to(url: &str) -> ReadyDestination {
    ready(destination(url, PATIENT), &[])
}

fn event() -> Event {
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

fn claimed(event: Event) -> ClaimedDelivery {
    ClaimedDelivery {
        id: DeliveryId::from_u128(9),
        destination: DestinationId::from_u128(7),
        attempt: 3,
        event: Arc::new(event),
        replay: None,
        lease_until: Timestamp::from_secs(1_700_000_100),
    }
}

async fn attempt(transport: &Transport, destination: &ReadyDestination) -> Attempted {
    transport.attempt(destination, &claimed(event()), "orders").await
}

fn answered(status: u16) -> Outcome {
    Outcome::Answered {
        status,
        retry_after: None,
    }
}

#[track_caller]
fn assert_failed(attempted: &Attempted, failure: Failure, words: &str) {
    assert_eq!(
        attempted.outcome,
        Outcome::Unreachable { failure },
        "{attempted:?}"
    );
    let error = attempted.error.as_deref().unwrap_or_default();
    assert!(error.contains(words), "`{error}` does not say `{words}`");
}

/// What came, in one text, with what changes from run to run taken out.
fn head_of(receiver: &Receiver, signature_too: bool) -> String {
    let lines = receiver.only().head;
    let lines = lines.lines().map(|line| match line.split_once(": ") {
        Some(("host", _)) => "host: HOST".to_owned(),
        Some(("webhook-timestamp", _)) => "webhook-timestamp: SECONDS".to_owned(),
        Some(("webhook-signature", _)) if signature_too => "webhook-signature: SIGNATURE".to_owned(),
        _ => line.to_owned(),
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn with_headers(headers: &[(&str, &[u8])]) -> Event {
    Event {
        headers: HeaderBlock::pack(headers.iter().map(|(name, value)| (name.as_bytes(), *value))),
        ..event()
    }
}

// What goes over the wire.

#[tokio::test]
async fn the_request_carries_the_providers_headers_and_ours_and_nothing_forged() {
    let receiver = Receiver::start(vec![ok()]).await;
    let event = with_headers(&[
        ("Host", b"hooks.example.com"),
        ("User-Agent", b"Nylas/1.0"),
        ("Content-Type", b"application/json"),
        ("X-Nylas-Signature", b"abc"),
        ("X-Trace", b"one"),
        ("X-Trace", b"two"),
        ("X-Latin", b"caf\xe9"),
        ("Content-Length", b"9999"),
        ("Transfer-Encoding", b"chunked"),
        ("Connection", b"keep-alive, X-Hop"),
        ("X-Hop", b"for the proxy only"),
        ("Keep-Alive", b"timeout=5"),
        ("Proxy-Authorization", b"Basic secret"),
        ("TE", b"trailers"),
        ("Trailer", b"X-Sum"),
        ("Upgrade", b"h2c"),
        ("Expect", b"100-continue"),
        ("Webhook-Id", b"forged"),
        ("webhook-timestamp", b"1"),
        ("webhook-signature", b"v1,forged"),
        ("Webhook_Signature", b"v1,forged"),
        ("Hookfast-Replay", b"forged"),
        ("hookfast_event_id", b"forged"),
        ("bad name", b"skipped"),
        ("X-Bad-Value", b"one\r\nX-Injected: yes"),
        ("X-Last", b"1"),
    ]);
    let destination = ready(
        destination(&receiver.url("/hooks?a=1"), PATIENT),
        &[Secret::generate_symmetric(&[1; 32])],
    );
    let attempted = transport().attempt(&destination, &claimed(event), "orders").await;
    assert_eq!(attempted.outcome, answered(200));
    insta::assert_snapshot!(head_of(&receiver, true), @r#"
    POST /hooks?a=1 HTTP/1.1
    host: HOST
    user-agent: Nylas/1.0
    content-type: application/json
    x-nylas-signature: abc
    x-trace: one
    x-trace: two
    x-latin: caf�
    x-last: 1
    webhook-id: msg_42
    hookfast-event-id: evt_01950000000070008000000000000001
    hookfast-source: orders
    hookfast-type: message.created
    hookfast-attempt: 3
    webhook-timestamp: SECONDS
    webhook-signature: SIGNATURE
    content-length: 15
    "#);
}

#[tokio::test]
async fn an_event_without_headers_id_or_type_goes_out_unsigned_with_the_events_id() {
    let receiver = Receiver::start(vec![ok()]).await;
    let event = Event {
        provider_id: Some("two words\n".to_owned()),
        event_type: None,
        body: Bytes::new(),
        ..event()
    };
    let attempted = transport()
        .attempt(&to(&receiver.url("")), &claimed(event), "orders")
        .await;
    assert_eq!(attempted.outcome, answered(200));
    insta::assert_snapshot!(head_of(&receiver, false), @r#"
    POST / HTTP/1.1
    host: HOST
    webhook-id: evt_01950000000070008000000000000001
    hookfast-event-id: evt_01950000000070008000000000000001
    hookfast-source: orders
    hookfast-attempt: 3
    webhook-timestamp: SECONDS
    content-length: 0
    "#);
}

#[tokio::test]
async fn a_replay_says_so_and_carries_the_new_id_where_one_was_asked_for() {
    let receiver = Receiver::start(vec![ok()]).await;
    let (job, new) = (ReplayId::from_u128(0x11), EventId::from_u128(0x22));
    let transport = transport();
    for id in [None, Some(new)] {
        let claimed = ClaimedDelivery {
            replay: Some((job, id)),
            ..claimed(event())
        };
        transport
            .attempt(&to(&receiver.url("/")), &claimed, "orders")
            .await;
    }
    let received = receiver.received();
    assert_eq!(received[0].values("webhook-id"), ["msg_42"]);
    assert_eq!(received[1].values("webhook-id"), [new.to_string()]);
    for request in received {
        assert_eq!(request.values("hookfast-replay"), [job.to_string()]);
        assert_eq!(request.values("hookfast-event-id"), [event().id.to_string()]);
    }
}

#[tokio::test]
async fn the_body_goes_out_byte_for_byte_and_every_valid_secret_signs_it() {
    let receiver = Receiver::start(vec![ok()]).await;
    let secrets = [
        Secret::generate_symmetric(&[1; 32]),
        Secret::generate_symmetric(&[2; 32]),
        Secret::generate_asymmetric(&[3; 32]).unwrap(),
    ];
    let body: Vec<u8> = (0..300_000_u32).map(|index| (index % 251) as u8).collect();
    let event = Event {
        body: Bytes::from(body.clone()),
        ..event()
    };
    let destination = ready(destination(&receiver.url("/"), PATIENT), &secrets);
    transport().attempt(&destination, &claimed(event), "orders").await;
    let request = receiver.only();
    assert_eq!(request.body, body);
    let timestamp: u64 = request.values("webhook-timestamp")[0].parse().unwrap();
    let names = ["webhook-id", "webhook-timestamp", "webhook-signature"];
    let headers = names.map(|name| (name, request.values(name)[0]));
    let public = secrets[2].public().unwrap();
    for secret in [&secrets[0], &secrets[1], &public] {
        let scheme = Scheme::StandardWebhooks(StandardWebhooks::SPECIFICATION);
        let verifier = Verifier::new(scheme, std::slice::from_ref(secret)).unwrap();
        let signed = Request {
            method: "POST",
            url: None,
            headers: &headers,
            body: &request.body,
        };
        assert!(
            verifier
                .verify(&signed, SignatureClock::at_seconds(timestamp))
                .is_ok()
        );
    }
}

#[tokio::test]
async fn a_secret_that_cannot_sign_does_not_silence_the_others() {
    let receiver = Receiver::start(vec![ok()]).await;
    let secrets = [Secret::new("whsec_short"), Secret::generate_symmetric(&[2; 32])];
    attempt(
        &transport(),
        &ready(destination(&receiver.url("/"), PATIENT), &secrets),
    )
    .await;
    let request = receiver.only();
    assert_eq!(request.values("webhook-signature")[0].split(' ').count(), 1);
}

#[tokio::test]
async fn the_path_and_the_query_go_out_exactly_as_written() {
    let receiver = Receiver::start(vec![ok()]).await;
    let transport = transport();
    let table = [
        ("", "/"),
        ("?a=b", "/?a=b"),
        (
            "/a//b/../c/./%2F%2f;x=1?q=%20+&&r=a/b?c",
            "/a//b/../c/./%2F%2f;x=1?q=%20+&&r=a/b?c",
        ),
        ("/h?", "/h?"),
        ("/h#fragment", "/h"),
        ("/h?a=b#c?d", "/h?a=b"),
        ("/ü", "/%C3%BC"),
    ];
    for (path, _) in table {
        let attempted = attempt(&transport, &to(&receiver.url(path))).await;
        assert_eq!(attempted.outcome, answered(200), "{path}");
    }
    let received = receiver.received();
    for ((_, expected), request) in table.iter().zip(received) {
        assert_eq!(
            request.head.lines().next().unwrap(),
            format!("POST {expected} HTTP/1.1")
        );
    }
}

#[tokio::test]
async fn other_requests_to_outside_addresses_go_the_same_way() {
    let receiver = Receiver::start(vec![Step::Reply(answer("200 OK", "", "xyz"))]).await;
    let transport = transport();
    let url = receiver.url("/hook?challenge=xyz");
    let attempted = transport
        .send(Outgoing {
            method: Method::GET,
            target: transport.guard().check_url(&url, true).unwrap(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
            timeout: PATIENT,
        })
        .await;
    assert_eq!(attempted.outcome, answered(200));
    assert_eq!(attempted.response_body, "xyz");
    let head = receiver.only().head;
    assert_eq!(
        head,
        format!(
            "GET /hook?challenge=xyz HTTP/1.1\r\nhost: {}\r\n\r\n",
            receiver.address
        )
    );
}

// Answers.

#[tokio::test]
async fn an_answer_is_kept_with_its_headers_and_body_whatever_its_status() {
    for status in [200_u16, 204, 301, 404, 410, 429, 500, 599] {
        let body = if status == 204 { "" } else { "why" };
        let bytes = format!(
            "HTTP/1.1 {status} Whatever\r\nX-One: 1\r\nx-one: 2\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let receiver = Receiver::start(vec![Step::Reply(bytes.into_bytes())]).await;
        let attempted = attempt(&transport(), &to(&receiver.url("/"))).await;
        assert_eq!(attempted.outcome, answered(status));
        assert_eq!(attempted.error, None);
        assert_eq!(attempted.response_body, body);
        assert_eq!(attempted.response_headers.get("x-one"), Some(&b"1"[..]));
        assert!(attempted.duration < PATIENT);
        let kept = attempted.clone().into_attempt(3);
        assert_eq!((kept.number, kept.outcome), (3, attempted.outcome));
    }
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_is_not_followed() {
    let elsewhere = Receiver::start(vec![ok()]).await;
    for location in [
        "http://169.254.169.254/latest/meta-data/".to_owned(),
        elsewhere.url("/"),
    ] {
        let headers = format!("location: {location}\r\n");
        let receiver = Receiver::start(vec![Step::Reply(answer("307 Moved", &headers, ""))]).await;
        let attempted = attempt(&transport(), &to(&receiver.url("/"))).await;
        assert_eq!(attempted.outcome, answered(307));
        assert_eq!(receiver.received().len(), 1);
    }
    assert_eq!(elsewhere.connections(), 0);
}

#[tokio::test]
async fn retry_after_is_read_in_seconds_and_as_a_date() {
    let in_two_minutes = Clock.now().plus(Duration::from_secs(120));
    let date = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(in_two_minutes.as_secs() as u64);
    let date = httpdate::fmt_http_date(date);
    let seconds = Duration::from_secs;
    let table = [
        ("7", Some(seconds(7)..=seconds(7))),
        (" 0 ", Some(seconds(0)..=seconds(0))),
        (date.as_str(), Some(seconds(90)..=seconds(120))),
        ("Wed, 21 Oct 2015 07:28:00 GMT", Some(seconds(0)..=seconds(0))),
        ("99999999999999999999999", Some(seconds(86_400)..=Duration::MAX)),
        ("-5", None),
        ("soon", None),
        ("", None),
    ];
    for (value, expected) in table {
        let headers = format!("retry-after: {value}\r\n");
        let receiver = Receiver::start(vec![Step::Reply(answer("503 Busy", &headers, ""))]).await;
        let attempted = attempt(&transport(), &to(&receiver.url("/"))).await;
        let Outcome::Answered {
            status: 503,
            retry_after,
        } = attempted.outcome
        else {
            panic!("{attempted:?}");
        };
        match (retry_after, expected) {
            (None, None) => {}
            (Some(found), Some(range)) => assert!(range.contains(&found), "{value}: {found:?}"),
            (found, expected) => panic!("{value}: {found:?}, expected {expected:?}"),
        }
    }
}

#[tokio::test]
async fn interim_answers_are_passed_over() {
    let bytes = [
        b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n".to_vec(),
        answer("200 OK", "", "done"),
    ]
    .concat();
    let receiver = Receiver::start(vec![Step::Reply(bytes)]).await;
    let attempted = attempt(&transport(), &to(&receiver.url("/"))).await;
    assert_eq!(
        (attempted.outcome, &*attempted.response_body),
        (answered(200), &b"done"[..])
    );
}

#[tokio::test]
async fn a_chunked_answer_and_one_that_ends_with_the_connection_are_read() {
    let chunked =
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n".to_vec();
    let until_close = b"HTTP/1.0 200 OK\r\n\r\nabc".to_vec();
    for step in [Step::Reply(chunked), Step::ReplyAndClose(until_close)] {
        let receiver = Receiver::start(vec![step]).await;
        let attempted = attempt(&transport(), &to(&receiver.url("/"))).await;
        assert_eq!(
            (attempted.outcome, &*attempted.response_body),
            (answered(200), &b"abc"[..])
        );
    }
}

#[tokio::test]
async fn at_most_16_kib_of_a_body_are_kept_and_64_kib_read() {
    // Up to 64 KiB the body is read to its end and the connection serves again; above it is dropped.
    for (length, connections) in [
        (16 * 1024, 1),
        (16 * 1024 + 1, 1),
        (64 * 1024, 1),
        (64 * 1024 + 1, 2),
    ] {
        let body = "x".repeat(length);
        let receiver = Receiver::start(vec![Step::Reply(answer("200 OK", "", &body))]).await;
        let transport = transport();
        for _ in 0..2 {
            let attempted = attempt(&transport, &to(&receiver.url("/"))).await;
            assert_eq!(attempted.outcome, answered(200));
            assert_eq!(attempted.response_body.len(), 16 * 1024);
        }
        assert_eq!(receiver.connections(), connections, "{length}");
    }
}

#[tokio::test]
async fn a_body_that_never_ends_does_not_undo_the_answer() {
    let head = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
    let receiver = Receiver::start(vec![Step::Endless(head, vec![b'x'; 4096])]).await;
    let attempted = attempt(&transport(), &to(&receiver.url("/"))).await;
    assert_eq!(attempted.outcome, answered(200));
    assert_eq!(attempted.response_body.len(), 16 * 1024);
    receiver.closed(1).await;
}

#[tokio::test]
async fn a_body_that_stalls_or_breaks_off_does_not_undo_the_answer() {
    let head = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nabc".to_vec();
    for step in [Step::Reply(head.clone()), Step::ReplyAndClose(head)] {
        let receiver = Receiver::start(vec![step]).await;
        let destination = ready(destination(&receiver.url("/"), HASTY), &[]);
        let attempted = attempt(&transport(), &destination).await;
        assert_eq!(attempted.outcome, answered(200));
        assert_eq!(attempted.response_body, "abc");
        assert!(attempted.duration < HASTY);
        receiver.closed(1).await;
    }
}

#[tokio::test]
async fn headers_that_never_end_are_not_http() {
    let receiver = Receiver::start(vec![Step::Endless(
        b"HTTP/1.1 200 OK\r\nx-endless: ".to_vec(),
        vec![b'x'; 4096],
    )])
    .await;
    let attempted = attempt(&transport(), &to(&receiver.url("/"))).await;
    assert_failed(&attempted, Failure::NotHttp, "larger than 64 KiB");
    receiver.closed(1).await;
    assert!(receiver.written() < 16 << 20);
}

#[tokio::test]
async fn large_response_headers_are_kept_up_to_16_kib() {
    let line = format!("x-large: {}\r\n", "y".repeat(5000));
    let receiver = Receiver::start(vec![Step::Reply(answer("200 OK", &line.repeat(8), ""))]).await;
    let attempted = attempt(&transport(), &to(&receiver.url("/"))).await;
    assert_eq!(attempted.outcome, answered(200));
    assert_eq!(attempted.response_headers.iter().count(), 3);
}

// Failures.

#[tokio::test]
async fn silence_is_a_timeout_that_says_what_was_waited_for() {
    for step in [
        Step::Hang,
        Step::Late(PATIENT, b"HTTP/1.1 200 OK\r\n\r\n".to_vec()),
        Step::Reply(b"HTTP/1.1 200 OK\r\nx-unfinished: ".to_vec()),
    ] {
        let receiver = Receiver::start(vec![step]).await;
        let destination = ready(destination(&receiver.url("/"), HASTY), &[]);
        let attempted = attempt(&transport(), &destination).await;
        assert_eq!(attempted.outcome, Outcome::TimedOut);
        assert_eq!(
            attempted.error.as_deref(),
            Some("no answer within 150ms, while waiting for the answer")
        );
        assert!(attempted.duration >= HASTY);
    }
}

#[tokio::test]
async fn a_name_that_takes_too_long_to_resolve_is_a_timeout() {
    let lookup: Lookup = Arc::new(|_, _| Box::pin(std::future::pending()));
    let transport = transport_with(
        Guard::new(vec![], vec![]).with_lookup(lookup),
        RootCertStore::empty(),
    );
    let attempted = attempt(
        &transport,
        &ready(destination("https://slow.example/", HASTY), &[]),
    )
    .await;
    assert_eq!(attempted.outcome, Outcome::TimedOut);
    assert_eq!(
        attempted.error.as_deref(),
        Some("no answer within 150ms, while resolving the name and connecting")
    );
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_told_apart() {
    let missing: Lookup = Arc::new(|_, _| Box::pin(async { Err(std::io::Error::other("no such host")) }));
    let empty: Lookup = Arc::new(|_, _| Box::pin(async { Ok(Vec::new()) }));
    for (lookup, words) in [(missing, "no such host"), (empty, "it has no address")] {
        let guard = Guard::new(vec![], vec![]).with_lookup(lookup);
        let transport = transport_with(guard, RootCertStore::empty());
        let attempted = attempt(&transport, &to("https://nowhere.example/")).await;
        assert_failed(&attempted, Failure::NameResolution, words);
    }
}

#[tokio::test]
async fn a_closed_port_is_a_refused_connection() {
    let closed = Receiver::start(vec![ok()]).await.address;
    tokio::task::yield_now().await;
    let attempted = attempt(&transport(), &to(&format!("http://{closed}/"))).await;
    assert_failed(&attempted, Failure::ConnectionRefused, "refused");
}

#[tokio::test]
async fn the_next_address_is_tried_when_one_refuses() {
    let receiver = Receiver::start(vec![ok()]).await;
    let addresses = vec![
        SocketAddr::new([127, 0, 0, 2].into(), receiver.address.port()),
        receiver.address,
    ];
    let lookup: Lookup = Arc::new(move |_, _| {
        let addresses = addresses.clone();
        Box::pin(async move { Ok(addresses) })
    });
    let transport = transport_with(
        Guard::new(vec![], vec![]).with_lookup(lookup),
        RootCertStore::empty(),
    );
    let attempted = attempt(&transport, &to("http://two.example/")).await;
    assert_eq!(attempted.outcome, answered(200));
    assert_eq!(receiver.only().values("host"), ["two.example"]);
}

#[tokio::test]
async fn a_connection_that_breaks_before_the_answer_is_a_reset() {
    for step in [
        Step::Close,
        Step::Reset,
        Step::ReplyAndClose(b"HTTP/1.1 200 OK\r\nx-unfin".to_vec()),
    ] {
        let receiver = Receiver::start(vec![step]).await;
        let attempted = attempt(&transport(), &to(&receiver.url("/"))).await;
        assert_failed(&attempted, Failure::ConnectionReset, "connection");
        assert_eq!(receiver.received().len(), 1, "not sent again on a new connection");
    }
}

#[tokio::test]
async fn what_is_not_http_is_told_apart() {
    for bytes in [
        &b"220 mail.example ESMTP\r\n\r\n"[..],
        b"\x15\x03\x01\x00\x02\x02\x46\x00\x00\x00\x00",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
    ] {
        let receiver = Receiver::start(vec![Step::ReplyAndClose(bytes.to_vec())]).await;
        let attempted = attempt(&transport(), &to(&receiver.url("/"))).await;
        assert_failed(&attempted, Failure::NotHttp, "not HTTP");
    }
}

#[tokio::test]
async fn a_pull_destination_is_not_pushed_to() {
    let pull = Destination {
        kind: DestinationKind::Pull,
        ..destination("", PATIENT)
    };
    let attempted = attempt(&transport(), &ready(pull, &[])).await;
    assert_failed(&attempted, Failure::RequestInvalid, "pulled");
}

#[tokio::test]
async fn a_panic_while_sending_is_a_fault_of_ours() {
    let lookup: Lookup = Arc::new(|_, _| panic!("a fault in a resolver"));
    let transport = transport_with(
        Guard::new(vec![], vec![]).with_lookup(lookup),
        RootCertStore::empty(),
    );
    let attempted = attempt(&transport, &to("https://example.com/")).await;
    assert_failed(&attempted, Failure::Internal, "hookfast itself");
}

// Connections.

#[tokio::test]
async fn one_connection_serves_request_after_request() {
    let receiver = Receiver::start(vec![Step::Reply(answer("200 OK", "", "hello"))]).await;
    let (transport, destination) = (transport(), to(&receiver.url("/")));
    for _ in 0..20 {
        assert_eq!(attempt(&transport, &destination).await.outcome, answered(200));
    }
    assert_eq!(receiver.connections(), 1);
    assert_eq!(receiver.received().len(), 20);
}

#[tokio::test]
async fn a_connection_that_is_to_be_closed_is_not_kept() {
    for headers in ["connection: close\r\n", "keep-alive: timeout=1\r\n"] {
        let receiver = Receiver::start(vec![Step::Reply(answer("200 OK", headers, ""))]).await;
        let (transport, destination) = (transport(), to(&receiver.url("/")));
        attempt(&transport, &destination).await;
        receiver.closed(1).await;
        attempt(&transport, &destination).await;
        assert_eq!(receiver.connections(), 2);
    }
}

#[tokio::test]
async fn an_unused_connection_is_closed_after_its_time() {
    let receiver = Receiver::start(vec![ok()]).await;
    let limits = DeliveryLimits {
        idle_connection: Duration::from_millis(50),
        ..limits()
    };
    let transport = Transport::new(&limits, Guard::new(vec![], vec![]), RootCertStore::empty(), Clock);
    attempt(&transport, &to(&receiver.url("/"))).await;
    tokio::time::timeout(PATIENT, receiver.closed(1)).await.unwrap();
}

#[tokio::test]
async fn destinations_with_other_permissions_never_share_a_connection() {
    let receiver = Receiver::start(vec![ok()]).await;
    let networks = vec!["127.0.0.0/8".parse().unwrap()];
    let transport = transport_with(Guard::new(networks, vec![]), RootCertStore::empty());
    for allow_private in [true, false] {
        let destination = Destination {
            allow_private,
            ..destination(&receiver.url("/"), PATIENT)
        };
        assert_eq!(
            attempt(&transport, &ready(destination, &[])).await.outcome,
            answered(200)
        );
    }
    assert_eq!(receiver.connections(), 2);
}

#[tokio::test]
async fn a_kept_connection_that_was_closed_meanwhile_costs_no_attempt() {
    for broken in [Step::Close, Step::Reset] {
        let receiver = Receiver::start(vec![ok(), broken, ok()]).await;
        let (transport, destination) = (transport(), to(&receiver.url("/")));
        assert_eq!(attempt(&transport, &destination).await.outcome, answered(200));
        // The receiver closes the connection upon the second request; it comes again on a new one.
        assert_eq!(attempt(&transport, &destination).await.outcome, answered(200));
        let connections: Vec<_> = receiver
            .received()
            .iter()
            .map(|request| request.connection)
            .collect();
        assert_eq!(connections, [0, 0, 1]);
    }
}

#[tokio::test]
async fn a_request_is_sent_again_only_once_and_only_if_nothing_of_an_answer_came() {
    let receiver = Receiver::start(vec![ok(), Step::Close]).await;
    let (transport_one, destination) = (transport(), to(&receiver.url("/")));
    attempt(&transport_one, &destination).await;
    let attempted = attempt(&transport_one, &destination).await;
    assert_failed(&attempted, Failure::ConnectionReset, "closed");
    assert_eq!(receiver.received().len(), 3);

    let receiver = Receiver::start(vec![ok(), Step::ReplyAndClose(b"HTTP/1.1 2".to_vec()), ok()]).await;
    let (transport_two, destination) = (transport(), to(&receiver.url("/")));
    attempt(&transport_two, &destination).await;
    let attempted = attempt(&transport_two, &destination).await;
    assert_failed(&attempted, Failure::ConnectionReset, "closed");
    assert_eq!(receiver.received().len(), 2);
}

// Addresses (SPEC O11).

#[tokio::test]
async fn a_private_address_is_refused_unless_it_is_allowed() {
    let receiver = Receiver::start(vec![ok()]).await;
    let not_allowed = ready(
        Destination {
            allow_private: false,
            ..destination(&receiver.url("/"), PATIENT)
        },
        &[],
    );
    let attempted = attempt(&transport(), &not_allowed).await;
    assert_failed(&attempted, Failure::AddressBlocked, "use https");
    assert_eq!(receiver.connections(), 0);

    let networks = vec!["127.0.0.0/8".parse().unwrap()];
    let transport = transport_with(Guard::new(networks, vec![]), RootCertStore::empty());
    assert_eq!(attempt(&transport, &not_allowed).await.outcome, answered(200));
}

#[tokio::test]
async fn a_url_in_disguise_is_refused_before_anything_is_resolved() {
    let guard = Guard::new(vec![], vec![]).with_blocked_hosts(vec!["ngrok.io".to_owned()]);
    let lines = [
        "https://127.0.0.1/",
        "https://2130706433/",
        "https://0x7f.0.0.1/",
        "https://0177.0.0.1/",
        "https://127.1/",
        "https://127.0.0.1./",
        "https://%31%32%37.0.0.1/",
        "https://１２７.0.0.1/",
        "https://8.8.2056/",
        "https://[::1]/",
        "https://[::ffff:127.0.0.1]/",
        "https://[::ffff:8.8.8.8]/",
        "https://[64:ff9b::10.0.0.1]/",
        "https://[64:ff9b::8.8.8.8]/",
        "https://[2002:7f00:1::]/",
        "https://169.254.169.254/",
        "https://user@example.com/",
        "https://user:secret@example.com/",
        "https://@example.com/",
        "https:///example.com/",
        "https:example.com/",
        "https:\\\\example.com\\",
        "https://example.com\\@127.0.0.1/",
        "https://exam\tple.com/",
        "https://example.com/a b",
        "http://example.com/",
        "ftp://example.com/",
        "file:///etc/passwd",
        "example.com",
        "",
        "https://a.ngrok.io/",
        "https://ngrok.io./",
        "https://notngrok.io/",
        "https://example.com./",
        "HTTPS://EXAMPLE.COM:8443/x",
        "https://8.8.8.8/",
        "https://[2606:4700::1111]/",
    ];
    let table = lines.map(|line| match guard.check_url(line, false) {
        Ok(target) => format!("{line:?}\n    calls {} port {}", target.host(), target.port()),
        Err(reason) => format!("{line:?}\n    {reason}"),
    });
    insta::assert_snapshot!(table.join("\n"), @r#"
    "https://127.0.0.1/"
        the address is not public: loopback; to call it, set allow_private for this destination or allowed_networks
    "https://2130706433/"
        the host `2130706433` is another way to write 127.0.0.1; write the address plainly
    "https://0x7f.0.0.1/"
        the host `0x7f.0.0.1` is another way to write 127.0.0.1; write the address plainly
    "https://0177.0.0.1/"
        the host `0177.0.0.1` is another way to write 127.0.0.1; write the address plainly
    "https://127.1/"
        the host `127.1` is another way to write 127.0.0.1; write the address plainly
    "https://127.0.0.1./"
        the host `127.0.0.1.` is another way to write 127.0.0.1; write the address plainly
    "https://%31%32%37.0.0.1/"
        the host `%31%32%37.0.0.1` is another way to write 127.0.0.1; write the address plainly
    "https://１２７.0.0.1/"
        the host `１２７.0.0.1` is another way to write 127.0.0.1; write the address plainly
    "https://8.8.2056/"
        the host `8.8.2056` is another way to write 8.8.8.8; write the address plainly
    "https://[::1]/"
        the address is not public: loopback; to call it, set allow_private for this destination or allowed_networks
    "https://[::ffff:127.0.0.1]/"
        the address is an IPv4 address inside an IPv6 address (IPv4-mapped); use the IPv4 address itself
    "https://[::ffff:8.8.8.8]/"
        the address is an IPv4 address inside an IPv6 address (IPv4-mapped); use the IPv4 address itself
    "https://[64:ff9b::10.0.0.1]/"
        the address is an IPv4 address inside an IPv6 address (NAT64); use the IPv4 address itself
    "https://[64:ff9b::8.8.8.8]/"
        the address is an IPv4 address inside an IPv6 address (NAT64); use the IPv4 address itself
    "https://[2002:7f00:1::]/"
        the address is an IPv4 address inside an IPv6 address (6to4); use the IPv4 address itself
    "https://169.254.169.254/"
        the address is that of a cloud's metadata service, which is never called
    "https://user@example.com/"
        the URL carries a user name or password; take out what is before the @
    "https://user:secret@example.com/"
        the URL carries a user name or password; take out what is before the @
    "https://@example.com/"
        the URL carries a user name or password; take out what is before the @
    "https:///example.com/"
        this is not a URL of the form https://host/path: its host does not follow right after ://
    "https:example.com/"
        this is not a URL of the form https://host/path: its host does not follow right after ://
    "https:\\\\example.com\\"
        this is not a URL of the form https://host/path: its host does not follow right after ://
    "https://example.com\\@127.0.0.1/"
        this is not a URL of the form https://host/path: it has a backslash in its host
    "https://exam\tple.com/"
        this is not a URL of the form https://host/path: it has spaces or control characters in it
    "https://example.com/a b"
        this is not a URL of the form https://host/path: it has spaces or control characters in it
    "http://example.com/"
        the URL is http; use https, or set allow_private for this destination
    "ftp://example.com/"
        the URL's scheme is `ftp`; only https is called
    "file:///etc/passwd"
        the URL's scheme is `file`; only https is called
    "example.com"
        this is not a URL of the form https://host/path: relative URL without a base
    ""
        this is not a URL of the form https://host/path: relative URL without a base
    "https://a.ngrok.io/"
        the host `a.ngrok.io` is on the blocklist
    "https://ngrok.io./"
        the host `ngrok.io` is on the blocklist
    "https://notngrok.io/"
        calls notngrok.io port 443
    "https://example.com./"
        calls example.com port 443
    "HTTPS://EXAMPLE.COM:8443/x"
        calls example.com port 8443
    "https://8.8.8.8/"
        calls 8.8.8.8 port 443
    "https://[2606:4700::1111]/"
        calls 2606:4700::1111 port 443
    "#);
}

#[tokio::test]
async fn names_of_this_machine_are_judged_by_what_they_resolve_to() {
    let receiver = Receiver::start(vec![ok()]).await;
    for host in ["localhost", "localhost.", "LOCALHOST"] {
        let url = format!("https://{host}:{}/", receiver.address.port());
        let destination = Destination {
            allow_private: false,
            ..destination(&url, PATIENT)
        };
        let attempted = attempt(&transport(), &ready(destination, &[])).await;
        assert_failed(&attempted, Failure::AddressBlocked, "not public: loopback");
    }
    assert_eq!(receiver.connections(), 0);
}

#[tokio::test]
async fn a_name_that_answers_differently_the_second_time_gains_nothing() {
    // 127.0.0.1 stands for a public address here: it is allowed. The second answer is not.
    let receiver = Receiver::start(vec![Step::Reply(answer("200 OK", "connection: close\r\n", ""))]).await;
    let inner = Receiver::listen(
        &format!("127.0.0.2:{}", receiver.address.port()),
        None,
        vec![ok()],
    )
    .await;
    let (outer_address, inner_address) = (receiver.address, inner.address);
    let asked = Arc::new(AtomicUsize::new(0));
    let lookup: Lookup = Arc::new(move |_, _| {
        let first = asked.fetch_add(1, Ordering::SeqCst) == 0;
        Box::pin(async move { Ok(vec![if first { outer_address } else { inner_address }]) })
    });
    let guard = Guard::new(vec!["127.0.0.1/32".parse().unwrap()], vec![]).with_lookup(lookup);
    let transport = transport_with(guard, RootCertStore::empty());
    let destination = ready(
        Destination {
            allow_private: false,
            ..destination("http://rebinding.example/", PATIENT)
        },
        &[],
    );
    assert_eq!(attempt(&transport, &destination).await.outcome, answered(200));
    let attempted = attempt(&transport, &destination).await;
    assert_failed(&attempted, Failure::AddressBlocked, "rebinding.example");
    assert!(
        !attempted.error.unwrap().contains("127.0.0.2"),
        "it must not tell how names resolve here"
    );
    assert_eq!(inner.connections(), 0);
}

#[tokio::test]
async fn of_several_addresses_only_those_that_are_allowed_are_tried() {
    let receiver = Receiver::start(vec![ok()]).await;
    let port = receiver.address.port();
    let inner = Receiver::listen(&format!("127.0.0.2:{port}"), None, vec![ok()]).await;
    let addresses = vec![inner.address, receiver.address];
    let lookup: Lookup = Arc::new(move |_, _| {
        let addresses = addresses.clone();
        Box::pin(async move { Ok(addresses) })
    });
    let guard = Guard::new(vec!["127.0.0.1/32".parse().unwrap()], vec![]).with_lookup(lookup);
    let transport = transport_with(guard, RootCertStore::empty());
    let destination = Destination {
        allow_private: false,
        ..destination("http://mixed.example/", PATIENT)
    };
    assert_eq!(
        attempt(&transport, &ready(destination, &[])).await.outcome,
        answered(200)
    );
    assert_eq!((receiver.connections(), inner.connections()), (1, 0));
}

#[tokio::test]
async fn our_own_listeners_are_never_called() {
    let own = Receiver::start(vec![ok()]).await;
    let wildcard = Receiver::listen("0.0.0.0:0", None, vec![ok()]).await;
    let networks = vec!["0.0.0.0/0".parse().unwrap()];
    let guard = Guard::new(networks, vec![own.address, wildcard.address]);
    let transport = transport_with(guard, RootCertStore::empty());
    let port = wildcard.address.port();
    for url in [
        own.url("/"),
        format!("http://127.0.0.1:{port}/"),
        format!("http://127.9.9.9:{port}/"),
        format!("http://localhost:{port}/"),
        format!("http://0.0.0.0:{port}/"),
    ] {
        let attempted = attempt(&transport, &to(&url)).await;
        assert_failed(&attempted, Failure::AddressBlocked, "own listeners");
    }
    assert_eq!((own.received().len(), wildcard.received().len()), (0, 0));
}

#[test]
fn a_connection_to_this_machine_does_not_reach_a_wildcard_listener() {
    let guard = Guard::new(vec![], vec!["0.0.0.0:8080".parse().unwrap()]);
    let address = |text: &str| text.parse::<SocketAddr>().unwrap();
    let (peer, other) = (address("192.0.2.7:8080"), address("192.0.2.8:8080"));
    assert_eq!(guard.confirm(peer, peer, address("192.0.2.9:5555")), Ok(()));
    assert_eq!(
        guard.confirm(peer, peer, address("192.0.2.7:5555")),
        Err(BlockedReason::OwnListener)
    );
    assert_eq!(
        guard.confirm(peer, other, address("192.0.2.9:5555")),
        Err(BlockedReason::OtherPeer)
    );
}

// TLS.

struct Authority {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

fn authority() -> Authority {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
        .distinguished_name
        .push(DnType::CommonName, "an authority of the tests");
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap().der().clone();
    Authority {
        certificate,
        issuer: Issuer::new(params, key),
    }
}

fn acceptor(certificate: CertificateDer<'static>, key: &KeyPair) -> TlsAcceptor {
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

/// One attempt to `host` over TLS, with a certificate made by `issue`.
async fn over_tls(
    host: &str,
    issue: impl FnOnce(&Authority, &KeyPair) -> CertificateDer<'static>,
) -> (Receiver, Attempted) {
    let authority = authority();
    let key = KeyPair::generate().unwrap();
    let certificate = issue(&authority, &key);
    let receiver = Receiver::start_tls(acceptor(certificate, &key), vec![ok()]).await;
    let mut roots = RootCertStore::empty();
    roots.add(authority.certificate.clone()).unwrap();
    let address = receiver.address;
    let lookup: Lookup = Arc::new(move |_, _| Box::pin(async move { Ok(vec![address]) }));
    let transport = transport_with(Guard::new(vec![], vec![]).with_lookup(lookup), roots);
    let destination = to(&format!("https://{host}:{}/hook", address.port()));
    let mut attempted = attempt(&transport, &destination).await;
    if attempted.outcome == answered(200) {
        attempted = attempt(&transport, &destination).await;
    }
    (receiver, attempted)
}

fn params(host: &str) -> CertificateParams {
    CertificateParams::new(vec![host.to_owned()]).unwrap()
}

#[tokio::test]
async fn a_trusted_certificate_of_the_right_host_is_spoken_to_on_one_connection() {
    for host in ["hooks.example.com", "127.0.0.1"] {
        let (receiver, attempted) = over_tls(host, |authority, key| {
            params(host)
                .signed_by(key, &authority.issuer)
                .unwrap()
                .der()
                .clone()
        })
        .await;
        assert_eq!(attempted.outcome, answered(200), "{attempted:?}");
        assert_eq!((receiver.connections(), receiver.received().len()), (1, 2));
    }
}

#[tokio::test]
async fn a_certificate_of_another_host_is_refused() {
    let (receiver, attempted) = over_tls("hooks.example.com", |authority, key| {
        params("other.example.com")
            .signed_by(key, &authority.issuer)
            .unwrap()
            .der()
            .clone()
    })
    .await;
    assert_failed(&attempted, Failure::TlsHandshake, "for another host");
    assert!(receiver.received().is_empty());
}

#[tokio::test]
async fn an_expired_certificate_is_refused() {
    let (_, attempted) = over_tls("hooks.example.com", |authority, key| {
        let mut params = params("hooks.example.com");
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
        params.signed_by(key, &authority.issuer).unwrap().der().clone()
    })
    .await;
    assert_failed(&attempted, Failure::TlsHandshake, "has expired");
}

#[tokio::test]
async fn a_self_signed_certificate_is_refused() {
    let (_, attempted) = over_tls("hooks.example.com", |_, key| {
        params("hooks.example.com")
            .self_signed(key)
            .unwrap()
            .der()
            .clone()
    })
    .await;
    assert_failed(&attempted, Failure::TlsHandshake, "self-signed");
}

#[tokio::test]
async fn clear_text_behind_an_https_url_is_a_failed_handshake() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream
            .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .await
            .unwrap();
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
    });
    let attempted = attempt(&transport(), &to(&format!("https://{address}/"))).await;
    assert_failed(&attempted, Failure::TlsHandshake, "does not speak TLS");
}
