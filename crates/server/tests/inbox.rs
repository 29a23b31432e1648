//! Owns the proof that the binary takes webhooks in as promised (SPEC I1, I3 to I9): handshake, bytes, signatures,
//! repeats, quarantine. It must not know how: it sees sockets, the API and the command line.

mod support;

use std::collections::BTreeSet;
use std::io::Write as _;
use std::sync::Barrier;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use serde_json::Value;

use support::api::text;
use support::app::{App, Received};
use support::http::{self, Connection};
use support::nylas::{self, PATH, SECRET, SIGNATURE_HEADER};
use support::server::Server;
use support::time::{now, wait_for};

/// A source that believes everything and takes nothing for a repeat, and where its events go.
fn open_source(url: &str) -> String {
    format!(
        "[[source]]\nname = \"any\"\nprovider = \"generic\"\nverify = \"none\"\n\n\
         [[destination]]\nname = \"app\"\nurl = \"{url}\"\nsources = [\"any\"]\nallow_private = true\n"
    )
}

/// The usual configuration with another secret, or none.
fn with_secrets(url: &str, secrets: &[&str]) -> String {
    let usual = format!("secrets = [\"{SECRET}\"]\n");
    let line = match secrets {
        [] => String::new(),
        secrets => format!("secrets = {secrets:?}\n"),
    };
    let config = nylas::config(url);
    assert!(config.contains(&usual), "{config}");
    config.replace(&usual, &line)
}

#[test]
fn a_challenge_is_answered_with_its_very_bytes_and_their_length() {
    let server = Server::with(&nylas::config("http://127.0.0.1:9/"));
    for (challenge, expected) in [
        (
            "bc609b38-c81f-47fb-a275-0aa4c08fe9f7",
            "bc609b38-c81f-47fb-a275-0aa4c08fe9f7",
        ),
        ("1", "1"),
        ("a%20%22b%22%3C/p%3E", "a \"b\"</p>"),
    ] {
        let request =
            format!("GET {PATH}?challenge={challenge} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        let answer = http::raw(server.listen(), request.as_bytes()).expect("it answers");
        let answer = String::from_utf8(answer).expect("the answer is text");
        let (head, body) = answer.split_once("\r\n\r\n").expect("the answer has a head");
        let head = head.to_ascii_lowercase();
        assert_eq!(body, expected);
        assert!(head.starts_with("http/1.1 200"), "{head}");
        assert!(
            head.contains(&format!("content-length: {}", body.len())),
            "{head}"
        );
        assert!(head.contains("content-type: text/plain"), "{head}");
        assert!(head.contains("x-content-type-options: nosniff"), "{head}");
        assert!(!head.contains("transfer-encoding"), "{head}");
    }
    assert_eq!(
        http::get(server.listen(), PATH).status,
        200,
        "without a challenge"
    );
    assert_eq!(server.get("/api/v1/stats")["events"]["stored"], 0);
}

#[test]
fn the_application_gets_what_was_posted_and_can_verify_who_delivers_it() {
    let app = App::start();
    let key = STANDARD.encode([7; 24]);
    let config = nylas::config(&app.url()) + &format!("secret = \"whsec_{key}\"\n");
    let server = Server::with(&config);
    // Spaces and escapes that a parser would not give back as they came.
    let body = br#"{ "specversion":"1.0", "type":"message.created", "id":"evt-1", "time":1790000000,
        "data":{"application_id":"app","object":{"subject":"gr\u00fc\u00DF\/e","n":1.0e2}} }"#;
    let signature = nylas::sign(SECRET, body);
    let headers = [
        ("content-type", "application/json; charset=utf-8"),
        ("user-agent", "Nylas/1.0"),
        ("x-several", "one"),
        ("x-several", "two"),
        (SIGNATURE_HEADER, &signature),
    ];
    let answer = http::request(server.listen(), "POST", PATH, &headers, body);
    assert_eq!((answer.status, answer.body.len()), (200, 0));

    let received = app.wait_for(1);
    let request = &received[0];
    assert_eq!(request.body, body);
    for (name, value) in headers {
        let found = request.headers.iter().any(|(n, v)| n == name && v == value);
        assert!(found, "{name}: {value} is not in {:?}", request.headers);
    }
    for (name, value) in [
        ("webhook-id", "evt-1"),
        ("hookfast-source", "nylas"),
        ("hookfast-type", "message.created"),
        ("hookfast-attempt", "1"),
        (
            "hookfast-event-id",
            answer.header("hookfast-event-id").expect("the id is answered"),
        ),
    ] {
        assert_eq!(request.header(name), Some(value), "{name}");
    }
    assert_eq!(request.header("hookfast-replay"), None);
    check_signature(request, &[7; 24]);
}

/// The signature as Standard Webhooks prescribes it.
fn check_signature(request: &Received, key: &[u8]) {
    let timestamp = request.header("webhook-timestamp").expect("it has a timestamp");
    let age = support::time::unix_seconds().abs_diff(timestamp.parse().expect("the timestamp is seconds"));
    assert!(age < 60, "{timestamp} is {age} s from now");
    let mut signed = format!("{}.{timestamp}.", request.webhook_id()).into_bytes();
    signed.extend(&request.body);
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), &signed);
    let expected = format!("v1,{}", STANDARD.encode(tag));
    let given = request.header("webhook-signature").expect("it is signed");
    assert!(
        given.split(' ').any(|one| one == expected),
        "{given} is not {expected}"
    );
}

#[test]
fn a_repeat_is_acknowledged_and_not_delivered_again() {
    let app = App::start();
    let server = Server::with(&nylas::config(&app.url()));
    let first = nylas::post(server.listen(), "same");
    let second = nylas::post(server.listen(), "same");
    let id = first.header("hookfast-event-id");
    assert_eq!((first.status, second.status), (200, 200));
    assert!(
        id.is_some() && second.header("hookfast-event-id") == id,
        "{first:?} {second:?}"
    );
    // The same id with another body is a repeat too, and counted as conflicting.
    let other = nylas::notification_of("message.created", "same", 7);
    assert_eq!(nylas::post_body(server.listen(), SECRET, &other).status, 200);

    nylas::deliver(server.listen(), "next");
    server.wait_for_delivered(2);
    let event = server.event("same");
    assert_eq!(
        (&event["repeats"], &event["conflicting"]),
        (&Value::from(2), &Value::from(1))
    );
    assert_eq!(app.counts()["same"], 1);
    assert_eq!(app.received().len(), 2);
}

#[test]
fn of_a_thousand_copies_at_once_all_are_acknowledged_and_one_is_delivered() {
    const CONNECTIONS: usize = 50;
    const EACH: usize = 20;
    let app = App::start();
    let server = Server::with(&nylas::config(&app.url()));
    let (body, to) = (nylas::notification("same"), server.listen());
    let signature = nylas::sign(SECRET, &body);
    let together = Barrier::new(CONNECTIONS);
    let send = || {
        let mut connection = Connection::open(to).expect("the server accepts");
        together.wait();
        let one = |_| {
            let headers = [(SIGNATURE_HEADER, signature.as_str())];
            let answer = connection
                .send("POST", PATH, &headers, &body)
                .expect("it answers");
            let id = answer.header("hookfast-event-id").unwrap_or_default().to_owned();
            (answer.status, id)
        };
        (0..EACH).map(one).collect::<Vec<_>>()
    };
    let answers: Vec<(u16, String)> = std::thread::scope(|scope| {
        let senders: Vec<_> = (0..CONNECTIONS).map(|_| scope.spawn(send)).collect();
        let answers = senders
            .into_iter()
            .map(|sender| sender.join().expect("a sender does not fail"));
        answers.flatten().collect()
    });
    assert_eq!(answers.len(), CONNECTIONS * EACH);
    let different: BTreeSet<_> = answers.iter().collect();
    assert_eq!(different.len(), 1, "{different:?}");
    assert_eq!(answers[0].0, 200);

    server.wait_for_delivered(1);
    assert_eq!(server.event("same")["repeats"], 999);
    assert_eq!(server.get("/api/v1/stats")["events"]["repeats"], 999);
    assert_eq!(app.received().len(), 1);
}

/// Releases the quarantine of the source by the command line until that many were accepted: the server may not
/// have read its configuration again yet.
fn release(server: &Server, count: u64) {
    let mut released = 0;
    wait_for(&format!("{count} to be released"), || {
        let output = server.cli(&["quarantine", "release", "--source", "nylas", "--json"]);
        let said = String::from_utf8_lossy(&output.stderr);
        let answer: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error} in the output; standard error: {said}"));
        released += answer["released"].as_u64().unwrap_or(0);
        (released == count).then_some(())
    });
}

#[test]
fn what_has_a_bad_signature_is_kept_and_delivered_once_the_secret_is_right() {
    let app = App::start();
    let mut server = Server::with(&with_secrets(&app.url(), &["the-wrong-secret"]));
    assert_eq!(nylas::post(server.listen(), "early").status, 401);
    let forged = nylas::post_body(
        server.listen(),
        "a-forger's-secret",
        &nylas::notification("forged"),
    );
    assert_eq!(forged.status, 401);
    let kept = server.list("/api/v1/quarantine");
    assert_eq!(kept.len(), 2, "{kept:?}");
    assert!(
        kept.iter()
            .all(|one| text(&one["cause"]).contains("signature-mismatch")),
        "{kept:?}"
    );
    assert_eq!(server.get("/api/v1/stats")["events"]["stored"], 0);

    server.configure(&with_secrets(&app.url(), &[SECRET]));
    server.hang_up();
    release(&server, 1);
    let received = app.wait_for(1);
    assert_eq!(received[0].body, nylas::notification("early"));
    assert_eq!(received[0].webhook_id(), "early");
    let kept = server.list("/api/v1/quarantine");
    assert_eq!(kept.len(), 1, "what is forged stays: {kept:?}");
    // The provider's own repeat comes after the release: it is one.
    nylas::deliver(server.listen(), "early");
    server.wait_for_delivered(1);
    assert_eq!(app.received().len(), 1);
}

#[test]
fn before_there_is_a_secret_the_challenge_is_answered_and_what_is_posted_is_kept() {
    let app = App::start();
    let mut server = Server::with(&with_secrets(&app.url(), &[]));
    let answer = http::get(server.listen(), &format!("{PATH}?challenge=first-contact"));
    assert_eq!((answer.status, answer.text().as_str()), (200, "first-contact"));
    for id in ["one", "two", "one"] {
        let status = nylas::post(server.listen(), id).status;
        assert_eq!(status, 401, "a sender repeats what was not acknowledged");
    }
    assert_eq!(server.list("/api/v1/quarantine").len(), 3);

    server.configure(&nylas::config(&app.url()));
    server.hang_up();
    release(&server, 2);
    server.wait_for_delivered(2);
    let counts: Vec<_> = app.counts().into_iter().collect();
    assert_eq!(counts, [("one".to_owned(), 1), ("two".to_owned(), 1)]);
    assert_eq!(server.list("/api/v1/quarantine").len(), 0);
}

#[test]
fn a_body_that_is_not_json_arrives_byte_for_byte() {
    let app = App::start();
    let server = Server::with(&open_source(&app.url()));
    let bytes: Vec<u8> = (0..=255).cycle().take(70_000).collect();
    let bodies: [&[u8]; 4] = [b"", b"{\"not\": \"whole", b"\xff\xfe\x00\r\n", &bytes];
    for body in bodies {
        let headers = [("content-type", "application/octet-stream")];
        let answer = http::request(server.listen(), "POST", "/in/any", &headers, body);
        assert_eq!(answer.status, 200);
        let id = answer
            .header("hookfast-event-id")
            .expect("the id is answered")
            .to_owned();
        let received = app.wait_until("its delivery", |all| all.iter().any(|one| one.webhook_id() == id));
        let request = received
            .iter()
            .find(|one| one.webhook_id() == id)
            .expect("it came");
        assert!(
            request.body == body,
            "{} bytes came of {}",
            request.body.len(),
            body.len()
        );
        let stored = server.call("GET", &format!("/api/v1/events/{id}/body"), None);
        assert!(stored.status == 200 && stored.body == body, "{}", stored.status);
    }
}

#[test]
fn a_compressed_body_is_verified_understood_and_delivered_as_it_came() {
    let app = App::start();
    let server = Server::with(&nylas::config(&app.url()));
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    let plain = nylas::notification_of("thread.replied", "packed", 5_000);
    encoder.write_all(&plain).expect("it can be compressed");
    let body = encoder.finish().expect("it can be compressed");
    let signature = nylas::sign(SECRET, &body);
    let headers = [
        ("content-encoding", "gzip"),
        (SIGNATURE_HEADER, signature.as_str()),
    ];
    for _ in 0..2 {
        let answer = http::request(server.listen(), "POST", PATH, &headers, &body);
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    server.wait_for_delivered(1);
    let received = app.received();
    assert_eq!(received.len(), 1, "the second was a repeat");
    let request = &received[0];
    assert_eq!(request.body, body);
    assert_eq!(request.header("content-encoding"), Some("gzip"));
    assert_eq!(request.webhook_id(), "packed");
    assert_eq!(request.header("hookfast-type"), Some("thread.replied"));
}

#[test]
fn an_idle_server_acknowledges_within_milliseconds() {
    let app = App::start();
    let server = Server::with(&nylas::config(&app.url()));
    let mut connection = Connection::open(server.listen()).expect("the server accepts");
    let mut took: Vec<Duration> = Vec::new();
    for number in 0..300 {
        let body = nylas::notification(&format!("idle-{number}"));
        let signature = nylas::sign(SECRET, &body);
        let start = now();
        let answer = connection.send("POST", PATH, &[(SIGNATURE_HEADER, &signature)], &body);
        took.push(start.elapsed());
        assert_eq!(answer.expect("it answers").status, 200);
    }
    took.sort_unstable();
    let (half, most) = (took[took.len() / 2], took[took.len() * 99 / 100]);
    println!("acknowledgements of an idle server: p50 {half:?}, p99 {most:?}");
    // A second is long, and a tenth of Nylas's patience: machines that test are busy.
    assert!(
        half < Duration::from_millis(50) && most < Duration::from_secs(1),
        "p50 {half:?}, p99 {most:?}"
    );
}
