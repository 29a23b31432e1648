//! What is taken, and how it is answered.

use flate2::Compression;
use flate2::write::GzEncoder;
use hookfast_engine::topology::DedupeKey;
use std::io::Write;

use crate::support::{EVENT, SECRET, bare, post, seconds, serve, signature, signed};

#[tokio::test]
async fn a_signed_notification_is_stored_as_it_came_before_its_200() {
    let served = serve().await;
    let request = post(
        "/in/nylas?x=1",
        &[
            ("X-Nylas-Signature", &signature(EVENT)),
            ("X-Twice", "one"),
            ("X-Twice", "two"),
            ("X-Bytes", "\u{e9}"),
        ],
        EVENT,
    );
    let answer = served.ask(request).await;
    assert_eq!(
        (answer.status, answer.body.as_slice()),
        (200, &b""[..]),
        "{}",
        answer.head
    );
    let events = served.events().await;
    let event = &events[0].event;
    assert_eq!(
        answer.header("hookfast-event-id"),
        Some(event.id.to_string().as_str())
    );
    assert_eq!(event.body, EVENT);
    assert_eq!(event.provider_id.as_deref(), Some("n-1"));
    assert_eq!(event.event_type.as_deref(), Some("message.created"));
    assert_eq!(event.occurred_at.map(seconds), Some(1_700_000_000));
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let headers: Vec<_> = event
        .headers
        .iter()
        .map(|(name, value)| (text(name), text(value)))
        .collect();
    let expected = [
        ("host", "hookfast.test"),
        ("content-length", &EVENT.len().to_string()),
        ("x-nylas-signature", &signature(EVENT)),
        ("x-twice", "one"),
        ("x-twice", "two"),
        ("x-bytes", "\u{e9}"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(headers, expected);
    assert_eq!(served.received("nylas", "accepted"), 1);
    assert_eq!(served.node.ingest_budget.used(), 0);
}

#[tokio::test]
async fn a_repeat_is_answered_with_the_first_ones_id_and_stored_once() {
    let served = serve().await;
    let first = served.ask(signed("/in/nylas", EVENT)).await;
    let changed = String::from_utf8(EVENT.to_vec()).unwrap().replace("o-1", "o-2");
    let second = served.ask(signed("/in/nylas", changed.as_bytes())).await;
    assert_eq!((first.status, second.status), (200, 200));
    assert_eq!(
        first.header("hookfast-event-id"),
        second.header("hookfast-event-id")
    );
    let events = served.events().await;
    assert_eq!(events.len(), 1);
    assert_eq!((events[0].repeats, events[0].conflicting), (1, 1));
    assert_eq!(served.received("nylas", "repeat"), 1);
}

#[tokio::test]
async fn the_dedupe_key_comes_from_where_the_source_says() {
    let served = serve().await;
    let table = [
        (DedupeKey::Header("X-Key".into()), 2),
        (DedupeKey::JsonPath("data.id".into()), 2),
        (DedupeKey::BodyHash, 3),
        (DedupeKey::None, 4),
        (DedupeKey::Provider, 4),
    ];
    for (rule, expected) in table {
        let before = served.events().await.len();
        served
            .change("open", |_, source| source.dedupe_key = rule.clone())
            .await;
        let salt = format!("{rule:?}").replace('"', "'");
        let key = |key: &str| format!("{key}{salt}");
        let body = |id: &str, more: u32| format!(r#"{{"data":{{"id":"{id}{salt}"}},"more":{more}}}"#);
        for (header, body) in [
            (key("a"), body("a", 1)),
            (key("a"), body("a", 1)),
            (key("a"), body("a", 2)),
            (key("b"), body("b", 3)),
        ] {
            let request = post("/in/open", &[("x-key", &header)], body.as_bytes());
            assert_eq!(served.ask(request).await.status, 200);
        }
        let events = served.events().await;
        assert_eq!(events.len() - before, expected, "{rule:?}");
    }
}

#[tokio::test]
async fn a_body_that_is_not_json_is_kept_byte_for_byte() {
    let served = serve().await;
    let every_byte: Vec<u8> = (0..=255).cycle().take(1_000).collect();
    for body in [every_byte.as_slice(), b"", b"{\"id\":", b"\"text\"", b"[[[[["] {
        assert_eq!(served.ask(post("/in/open", &[], body)).await.status, 200);
        let stored = &served.events().await.pop().unwrap().event;
        assert_eq!(stored.body, body);
        assert_eq!((&stored.provider_id, &stored.event_type), (&None, &None));
    }
}

#[tokio::test]
async fn a_compressed_notification_is_verified_and_kept_compressed_and_read_inside() {
    let served = serve().await;
    let padded = format!(
        r#"{{"data":"{}","id":"late","type":"message.updated"}}"#,
        "x".repeat(300_000)
    );
    for (plain, id) in [(EVENT, "n-1"), (padded.as_bytes(), "late")] {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(plain).unwrap();
        let body = encoder.finish().unwrap();
        let headers = [
            ("Content-Encoding", "gzip"),
            ("X-Nylas-Signature", &*signature(&body)),
        ];
        assert_eq!(served.ask(post("/in/nylas", &headers, &body)).await.status, 200);
        let stored = served.events().await.pop().unwrap().event;
        assert_eq!(stored.body, body);
        assert_eq!(stored.provider_id.as_deref(), Some(id));
    }
    let headers = [
        ("Content-Encoding", "gzip"),
        ("X-Nylas-Signature", &*signature(b"not gzip")),
    ];
    assert_eq!(
        served.ask(post("/in/nylas", &headers, b"not gzip")).await.status,
        200
    );
}

#[tokio::test]
async fn a_chunked_body_is_put_together() {
    let served = serve().await;
    let (start, rest) = EVENT.split_at(7);
    let mut request = format!(
        "POST /in/nylas HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nX-Nylas-Signature: {}\r\n\r\n7\r\n",
        signature(EVENT)
    )
    .into_bytes();
    request.extend_from_slice(start);
    request.extend_from_slice(format!("\r\n{:x}\r\n", rest.len()).as_bytes());
    request.extend_from_slice(rest);
    request.extend_from_slice(b"\r\n0\r\nX-Trailer: ignored\r\n\r\n");
    assert_eq!(served.ask(request).await.status, 200);
    assert_eq!(served.events().await[0].event.body, EVENT);
}

#[tokio::test]
async fn a_sender_that_expects_a_continue_gets_it_before_it_sends_the_body() {
    let served = serve().await;
    let request = signed("/in/nylas", EVENT);
    let head = String::from_utf8(request[..request.len() - EVENT.len()].to_vec()).unwrap();
    let mut wire = served.connect().await;
    wire.send(head.replace("\r\n\r\n", "\r\nExpect: 100-continue\r\n\r\n"))
        .await;
    assert_eq!(wire.answer().await.unwrap().status, 100);
    wire.send(EVENT).await;
    assert_eq!(wire.answer().await.unwrap().status, 200);
    let refused = served
        .ask("POST /in/none HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n")
        .await;
    assert_eq!(refused.status, 404);
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_their_order() {
    let served = serve().await;
    let mut bytes = Vec::new();
    for number in 0..20 {
        let body = format!(r#"{{"id":"n-{number}"}}"#);
        bytes.extend_from_slice(&signed("/in/nylas", body.as_bytes()));
        bytes.extend_from_slice(bare("GET", &format!("/in/nylas?challenge=c{number}")).as_bytes());
    }
    let mut wire = served.connect().await;
    wire.send(&bytes).await;
    for number in 0..20 {
        assert_eq!(wire.answer().await.unwrap().status, 200);
        let challenge = wire.answer().await.unwrap();
        assert_eq!(challenge.body, format!("c{number}").into_bytes());
    }
    let ids: Vec<_> = served
        .events()
        .await
        .into_iter()
        .map(|stored| stored.event.provider_id.clone())
        .collect();
    let expected: Vec<_> = (0..20).map(|number| Some(format!("n-{number}"))).collect();
    assert_eq!(ids, expected);
}

#[tokio::test]
async fn a_sender_that_closes_its_half_still_gets_its_answer() {
    let served = serve().await;
    let mut wire = served.connect().await;
    wire.send(signed("/in/nylas", EVENT)).await;
    wire.finish_sending().await;
    assert_eq!(wire.answer().await.unwrap().status, 200);
    assert!(wire.ends().await);
}

#[tokio::test]
async fn a_challenge_is_given_back_exactly_with_its_length() {
    let served = serve().await;
    for source in ["nylas", "fresh"] {
        let answer = served
            .ask(bare(
                "GET",
                &format!("/in/{source}?a=b&challenge=6f1a%20%22%2B%3C%00-x"),
            ))
            .await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.body, b"6f1a \"+<\x00-x");
        assert_eq!(answer.header("content-length"), Some("11"));
        assert_eq!(answer.header("transfer-encoding"), None);
        assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    }
    assert_eq!(served.received("nylas", "handshake"), 1);
    let longest = served
        .ask(bare(
            "GET",
            &format!("/in/nylas?challenge={}", "%41".repeat(1_024)),
        ))
        .await;
    assert_eq!((longest.status, longest.body.len()), (200, 1_024));
    let longer = served
        .ask(bare(
            "GET",
            &format!("/in/nylas?challenge={}", "%41".repeat(1_025)),
        ))
        .await;
    assert_eq!(longer.status, 400);
    assert_eq!(served.ask(bare("GET", "/in/nylas?challenge=")).await.status, 400);
    assert_eq!(served.events().await.len(), 0);
}

#[tokio::test]
async fn a_visit_without_a_challenge_is_fine() {
    let served = serve().await;
    for source in ["nylas", "github", "open"] {
        let answer = served.ask(bare("GET", &format!("/in/{source}"))).await;
        assert_eq!((answer.status, answer.body.len()), (200, 0));
        assert_eq!(
            served.ask(bare("HEAD", &format!("/in/{source}"))).await.status,
            200
        );
        let options = served.ask(bare("OPTIONS", &format!("/in/{source}"))).await;
        assert_eq!(options.header("allow"), Some("post, get, head, options"));
    }
    // Only where the provider has it: otherwise this would be an echo service.
    assert_eq!(served.ask(bare("GET", "/in/github?challenge=x")).await.body, b"");
    assert_eq!(served.ask(bare("GET", "/healthz")).await.status, 200);
    assert_eq!(served.ask(bare("HEAD", "/healthz")).await.status, 200);
}

#[tokio::test]
async fn slacks_url_verification_is_answered_only_when_it_is_signed() {
    let served = serve().await;
    let body = br#"{"token":"t","challenge":"3eZbrw1aB","type":"url_verification"}"#;
    let now = served.node.clock.now().as_secs();
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, SECRET.as_bytes());
    let content = [format!("v0:{now}:").as_bytes(), body].concat();
    let tag = ring::hmac::sign(&key, &content);
    let tag: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let time = now.to_string();
    let good = post(
        "/in/slack",
        &[
            ("X-Slack-Signature", &format!("v0={tag}")),
            ("X-Slack-Request-Timestamp", &time),
        ],
        body,
    );
    let answer = served.ask(good).await;
    assert_eq!((answer.status, answer.body.as_slice()), (200, &b"3eZbrw1aB"[..]));
    let forged = post(
        "/in/slack",
        &[
            ("X-Slack-Signature", &format!("v0={}", "0".repeat(64))),
            ("X-Slack-Request-Timestamp", &time),
        ],
        body,
    );
    assert_eq!(served.ask(forged).await.status, 401);
    assert_eq!(served.events().await.len(), 0);
    assert_eq!(served.received("slack", "handshake"), 1);
}
