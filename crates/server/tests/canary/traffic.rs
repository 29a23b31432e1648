//! What senders do at the public listener: good notifications, every refusal, and what is in hand at a stop.
//! It must not judge what is said about it.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use serde_json::{Value, json};

use super::canaries::Kind;
use super::world::{
    AUTHORIZATION, BASIC, BEARER, BODY, CHALLENGE, COOKIE, FORGED, FORGED_SIGNATURE, GITHUB, HEADER, NYLAS,
    NYLAS_LATER, NYLAS_REPLACED, QUERY_SECRET, QUERY_TOKEN, STANDARD_KEY, STRIPE, TOKEN, World, now_text,
    raw,
};
use crate::support::api::text;
use crate::support::app::{Received, Reply};
use crate::support::http::{self, Answer, Connection};
use crate::support::nylas::sign;
use crate::support::server::ADMIN_KEY;
use crate::support::time::wait_for;

/// A request to a source: its path, and its headers beside the usual ones.
type Proven = (String, Vec<(&'static str, String)>);

/// The sources that can verify, each of another scheme.
pub(crate) const SOURCES: [&str; 8] = [
    "nylas", "stripe", "github", "standard", "token", "query", "basic", "bearer",
];

/// The body of a notification with that id and text.
pub(crate) fn body(id: &str, said: &str) -> Vec<u8> {
    let event = json!({"id": id, "type": "message.created", "data": {"text": said, "more": ["x", said]}});
    event.to_string().into_bytes()
}

fn mac(key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    hmac::sign(&key, &parts.concat()).as_ref().to_vec()
}

/// How the provider of a source proves that this body is its own.
fn proven(source: &str, id: &str, body: &[u8]) -> Proven {
    let now = now_text();
    let path = format!("/in/{source}");
    let hex = |secret: &str, body: &[u8]| sign(secret, body);
    let headers = match source {
        "stripe" => {
            let signed = [now.as_bytes(), b".", body].concat();
            vec![("stripe-signature", format!("t={now},v1={}", hex(STRIPE, &signed)))]
        }
        "github" => vec![
            ("x-github-delivery", id.to_owned()),
            ("x-github-event", "push".to_owned()),
            ("x-hub-signature-256", format!("sha256={}", hex(GITHUB, body))),
        ],
        "standard" => {
            let tag = mac(
                STANDARD_KEY.as_bytes(),
                &[id.as_bytes(), b".", now.as_bytes(), b".", body],
            );
            vec![
                ("webhook-id", id.to_owned()),
                ("webhook-timestamp", now),
                ("webhook-signature", format!("v1,{}", STANDARD.encode(tag))),
            ]
        }
        "token" => vec![("x-acme-token", TOKEN.to_owned())],
        "query" => {
            let query = url::form_urlencoded::Serializer::new(String::new())
                .append_pair("pass", QUERY_TOKEN)
                .append_pair("api_key", QUERY_SECRET)
                .finish();
            return (format!("{path}?{query}"), Vec::new());
        }
        "basic" => vec![("authorization", format!("Basic {}", STANDARD.encode(BASIC)))],
        "bearer" => vec![("authorization", format!("Bearer {BEARER}"))],
        _ => vec![("x-nylas-signature", hex(NYLAS, body))],
    };
    (path, headers)
}

/// Posts it with a canary of each kind beside what proves it, and notes the cause of a refusal.
fn post(world: &mut World, (path, headers): &Proven, body: &[u8]) -> Answer {
    let mut all: Vec<(&str, &str)> = vec![("content-type", "application/json"), ("x-canary", HEADER)];
    let (authorization, cookie) = (format!("Bearer {AUTHORIZATION}"), format!("session={COOKIE}"));
    if !headers.iter().any(|(name, _)| *name == "authorization") {
        all.push(("authorization", &authorization));
    }
    all.push(("cookie", &cookie));
    all.extend(headers.iter().map(|(name, value)| (*name, value.as_str())));
    let to = world.server.listen();
    let answer = world.record.ask("in", to, ("POST", path), &all, body);
    note_cause(world, &answer);
    answer
}

fn note_cause(world: &mut World, answer: &Answer) {
    if answer.status >= 400 {
        let said = answer.text();
        let code = said.split(':').next().unwrap_or_default();
        world.record.causes.insert(code.to_owned());
    }
}

/// A notification of each scheme, a repeat of each and one that contradicts it; handshakes; all delivered or given up.
pub(crate) fn good(world: &mut World) {
    for source in SOURCES {
        let id = format!("good-{source}");
        let whole = body(&id, BODY);
        let request = proven(source, &id, &whole);
        for (_, value) in &request.1 {
            if value.len() > 30 && !value.contains("Cnry") {
                world.record.plant("a signature", Kind::Content, value);
            }
        }
        let answer = post(world, &request, &whole);
        assert_eq!(answer.status, 200, "{source}: {}", answer.text());
        assert_eq!(post(world, &request, &whole).status, 200, "{source}");
        let other = body(&id, FORGED);
        post(world, &proven(source, &id, &other), &other);
    }
    let replaced = body("replaced", BODY);
    let signature = vec![("x-nylas-signature", sign(NYLAS_REPLACED, &replaced))];
    assert_eq!(
        post(world, &("/in/nylas".to_owned(), signature), &replaced).status,
        200
    );
    for path in [
        format!("/in/nylas?challenge={CHALLENGE}"),
        format!("/in/nylas?x={QUERY_SECRET}"),
        "/healthz".to_owned(),
    ] {
        let to = world.server.listen();
        world.record.ask("handshake", to, ("GET", &path), &[], b"");
    }
    world.app.wait_for(SOURCES.len() + 1);
    wait_for("the deliveries to be given up", || {
        let states = world.server.states();
        let count = |state: &str| states.get(state).copied().unwrap_or(0);
        // Those of the queue wait for a worker.
        let events = world.server.get("/api/v1/stats")["events"]["stored"].as_u64();
        (count("in_flight") + count("retrying") == 0 && Some(count("pending")) == events).then_some(())
    });
    let received = world.app.received();
    let with_canary = |one: &&Received| http::find(&one.body, BODY.as_bytes()).is_some();
    assert!(received.iter().filter(with_canary).count() > SOURCES.len());
    assert!(world.refusing.received().iter().filter(with_canary).count() > SOURCES.len());
}

/// Each cause for which the public listener refuses a request.
pub(crate) fn refused(world: &mut World) {
    unbelieved(world);
    not_taken(world);
    not_http(world);
}

fn unbelieved(world: &mut World) {
    let forged = body("forged", FORGED);
    let at = |source: &str, headers: &[(&'static str, &str)]| -> Proven {
        let headers = headers.iter().map(|(name, value)| (*name, (*value).to_owned()));
        (
            format!("/in/{source}?token={QUERY_SECRET}&access_token={QUERY_SECRET}"),
            headers.collect(),
        )
    };
    let long = FORGED_SIGNATURE.repeat(400);
    let signature = sign(NYLAS_LATER, &forged);
    world.record.plant("a signature", Kind::Content, &signature);
    let many = format!("v1,{} ", STANDARD.encode(FORGED_SIGNATURE)) + &"v1,AAAA ".repeat(100);
    let now = now_text();
    let at_time = |time: &str| {
        let signed = [time.as_bytes(), b".", &forged].concat();
        format!("t={time},v1={}", sign(STRIPE, &signed))
    };
    let far = (now.parse::<u64>().unwrap_or(0) + 100_000).to_string();
    let standard = |signature: &str| {
        vec![
            ("webhook-id", "forged".to_owned()),
            ("webhook-timestamp", now_text()),
            ("webhook-signature", signature.to_owned()),
        ]
    };
    let mut requests = vec![
        at("nylas", &[]),
        at("nylas", &[("x-nylas-signature", FORGED_SIGNATURE)]),
        at("nylas", &[("x-nylas-signature", &signature)]),
        at(
            "nylas",
            &[
                ("x-nylas-signature", &signature),
                ("x-nylas-signature", FORGED_SIGNATURE),
            ],
        ),
        at("nylas", &[("x-nylas-signature", &long)]),
        at("bare", &[("x-nylas-signature", &signature)]),
        at("stripe", &[("stripe-signature", &format!("v1={signature}"))]),
        at("stripe", &[("stripe-signature", &at_time(FORGED_SIGNATURE))]),
        at("stripe", &[("stripe-signature", &at_time("1000000"))]),
        at("stripe", &[("stripe-signature", &at_time(&far))]),
        at("token", &[("x-acme-token", AUTHORIZATION)]),
        at("bearer", &[("authorization", &format!("Bearer {AUTHORIZATION}"))]),
        at(
            "basic",
            &[(
                "authorization",
                &format!("Basic {}", STANDARD.encode(AUTHORIZATION)),
            )],
        ),
        at("basic", &[("authorization", &format!("Basic {AUTHORIZATION}"))]),
        (format!("/in/query?pass={QUERY_SECRET}"), Vec::new()),
        (format!("/in/query?pass={QUERY_SECRET}&pass=other"), Vec::new()),
    ];
    for value in [
        &*many,
        &format!("v9,{}", STANDARD.encode(FORGED_SIGNATURE)),
        FORGED_SIGNATURE,
    ] {
        requests.push(("/in/standard".to_owned(), standard(value)));
    }
    for request in requests {
        let answer = post(world, &request, &forged);
        assert_eq!(answer.status, 401, "{}: {}", request.0, answer.text());
    }
    for query in [
        "challenge=".to_owned(),
        format!("challenge={CHALLENGE}&challenge={QUERY_SECRET}"),
    ] {
        let to = world.server.listen();
        let answer = world
            .record
            .ask("handshake", to, ("GET", &format!("/in/nylas?{query}")), &[], b"");
        note_cause(world, &answer);
    }
}

fn not_taken(world: &mut World) {
    let whole = body("not-taken", BODY);
    let large = body("large", &BODY.repeat(100));
    for (source, body) in [
        ("limited", &whole),
        ("limited", &whole),
        ("limited", &whole),
        ("small", &large),
    ] {
        post(world, &proven(source, "x", body), body);
    }
    let signature = sign(NYLAS, &whole);
    let authorization = format!("Bearer {AUTHORIZATION}");
    let headers = [
        ("x-nylas-signature", signature.as_str()),
        ("authorization", authorization.as_str()),
    ];
    let long = format!("/in/nylas?token={}", QUERY_SECRET.repeat(500));
    for request in [
        ("POST", format!("/in/nobody?token={QUERY_SECRET}").as_str()),
        ("POST", format!("/elsewhere?token={QUERY_SECRET}").as_str()),
        ("PUT", format!("/in/nylas?token={QUERY_SECRET}").as_str()),
        ("DELETE", "/healthz"),
        ("POST", &long),
    ] {
        let to = world.server.listen();
        let answer = world.record.ask("in", to, request, &headers, &whole);
        note_cause(world, &answer);
    }
}

fn not_http(world: &mut World) {
    let said = String::from_utf8_lossy(&body("not-http", BODY)).into_owned();
    let host = "host: x\r\n";
    for (what, bytes) in [
        (
            "a line that is no header",
            format!("POST /in/nylas HTTP/1.1\r\n{host}{AUTHORIZATION}\r\n\r\n"),
        ),
        ("no request at all", format!("{AUTHORIZATION} {said}\r\n\r\n")),
        (
            "a header with a bad byte",
            format!("POST /in/nylas HTTP/1.1\r\n{host}authorization: {AUTHORIZATION}\u{1}\r\n\r\n"),
        ),
        (
            "a bad chunk",
            format!(
                "POST /in/nylas HTTP/1.1\r\n{host}cookie: {COOKIE}\r\ntransfer-encoding: chunked\r\n\r\n{AUTHORIZATION}\r\n{said}"
            ),
        ),
        (
            "a head that is too large",
            format!(
                "POST /in/nylas HTTP/1.1\r\n{host}x: {}\r\n\r\n",
                COOKIE.repeat(4_000)
            ),
        ),
        (
            "a version that is none",
            format!("POST /in/nylas?token={QUERY_SECRET} HTTP/9.9\r\n{host}\r\n{said}"),
        ),
    ] {
        raw(world, what, bytes.as_bytes());
    }
    for (what, bytes) in [
        (
            "a head that never ends",
            format!("POST /in/nylas HTTP/1.1\r\n{host}authorization: {AUTHORIZATION}\r\n"),
        ),
        (
            "a body that never ends",
            format!(
                "POST /in/nylas HTTP/1.1\r\n{host}cookie: {COOKIE}\r\ncontent-length: 90000\r\n\r\n{said}"
            ),
        ),
    ] {
        let mut connection = Connection::open(world.server.listen()).expect("the server accepts");
        connection.write_raw(bytes.as_bytes()).expect("it reads");
        let answer = connection
            .read_answer("POST")
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        world.record.hear_answer("in", what, &answer, &[]);
        note_cause(world, &answer);
    }
}

/// What waits in quarantine is verified again with another secret, which some pass and some do not.
pub(crate) fn replaced_in_quarantine(world: &mut World) {
    let held = world
        .admin("list_quarantined", ("GET", "/api/v1/quarantine?limit=1000"), None)
        .json();
    let held = held["data"].as_array().expect("a list").clone();
    assert!(held.len() >= 15, "{} in quarantine", held.len());
    for one in held.iter().take(20) {
        let path = format!("/api/v1/quarantine/{}", text(&one["id"]));
        world.admin("show_quarantined", ("GET", &path), None);
    }
    let update = json!({ "secrets": [NYLAS, NYLAS_LATER] });
    world.admin("update_source", ("PATCH", "/api/v1/sources/nylas"), Some(&update));
    let release = json!({"source": "nylas", "ignore_timestamp": true});
    let released = world
        .admin(
            "release_quarantined",
            ("POST", "/api/v1/quarantine/release"),
            Some(&release),
        )
        .json();
    assert!(released["released"].as_u64() > Some(0), "{released}");
}

/// Notes the causes in the list of what was refused: some answers have no body to name them.
fn listed_causes(world: &mut World) {
    let authorization = format!("Bearer {ADMIN_KEY}");
    // What names no source belongs to no application.
    let headers = [
        ("authorization", authorization.as_str()),
        ("hookfast-application", "*"),
    ];
    let (to, path) = (world.server.admin(), "/api/v1/rejected?limit=1000");
    let rejected = world
        .record
        .ask("list_rejected", to, ("GET", path), &headers, b"")
        .json();
    let rejected = rejected["data"].as_array().expect("a list").clone();
    world
        .record
        .causes
        .extend(rejected.iter().map(|one| text(&one["cause"]).to_owned()));
}

/// Notes what the last deliveries were signed with.
fn signatures_of_ours(world: &mut World) {
    let received = world.app.received();
    let signature = |one: &Received| {
        let headers = ["webhook-signature", "x-nylas-signature"];
        headers
            .iter()
            .find_map(|name| one.header(name).map(str::to_owned))
    };
    let signatures: Vec<String> = received.iter().rev().filter_map(signature).take(8).collect();
    assert_eq!(signatures.len(), 8);
    for signature in signatures {
        world
            .record
            .plant("a signature of ours", Kind::Secret, &signature);
    }
}

/// A stop while a delivery is under way: who comes then is refused.
pub(crate) fn while_stopping(world: &mut World) {
    listed_causes(world);
    signatures_of_ours(world);
    world
        .app
        .always(Reply::status(200).after(Duration::from_millis(900)));
    let last = body("last", BODY);
    assert_eq!(post(world, &proven("nylas", "last", &last), &last).status, 200);
    world.server.signal("TERM");
    let mut number = 0;
    wait_for("a refusal", || {
        number += 1;
        let late = body(&format!("late-{number}"), BODY);
        let refused = post(world, &proven("nylas", "late", &late), &late).status == 503;
        refused.then_some(())
    });
    assert_eq!(world.server.wait_for_end().code(), Some(0));
}

/// The ids of what there is, as the API lists them: the first of each list.
pub(crate) fn first_of(world: &mut World, operation: &str, path: &str) -> Value {
    let listed = world.admin(operation, ("GET", path), None).json();
    let first = listed["data"].as_array().and_then(|all| all.first()).cloned();
    first.unwrap_or_else(|| panic!("nothing in {path}: {listed}"))
}

/// One more good notification.
pub(crate) fn one_more(world: &mut World, id: &str) {
    let whole = body(id, BODY);
    let answer = post(world, &proven("github", id, &whole), &whole);
    assert_eq!(answer.status, 200, "{}", answer.text());
}
