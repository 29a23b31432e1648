//! What goes over the wire: the request line, the headers and the body (SPEC I9, O15).

use crate::receiver::{Receiver, Step, answer, ok};
use bytes::Bytes;
use hookfast::deliver::request::Outgoing;
use hookfast_engine::event::Event;
use hookfast_engine::id::{EventId, ReplayId};
use hookfast_signature::{Clock as SignatureClock, Request, Scheme, Secret, StandardWebhooks, Verifier};
use hookfast_store::ClaimedDelivery;
use http::{HeaderMap, Method};

use crate::setup::*;

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
