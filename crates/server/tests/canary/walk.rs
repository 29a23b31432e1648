//! Every operation that the documents of both listeners describe, asked for well and asked for badly: an operation that
//! is new is covered by being in the document.
//! It must not know what an operation does; it knows only how the ones that need a body are asked well.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};

use super::traffic::first_of;
use super::world::{
    AUTHORIZATION, BODY, COOKIE, FORGED, MISPLACED, QUERY_SECRET, URL_QUERY, WRONG_KEY, World, whsec,
};
use crate::support::api::text;
use crate::support::http::{self, Answer};
use crate::support::server::ADMIN_KEY;
use crate::support::time::now;

/// An operation of a document.
#[derive(Clone, Debug)]
struct Operation {
    id: String,
    method: String,
    path: String,
    /// The schema of its JSON body, where it takes one.
    body: Option<Value>,
}

/// What the operations are asked about.
struct Things {
    ids: Vec<(&'static str, String)>,
    receipts: Vec<String>,
    /// A URL that echoes challenges.
    receiver: String,
    /// A file that is not there yet.
    file: String,
}

/// Asks for every operation at both listeners.
pub(crate) fn both_documents(world: &mut World) {
    let admin = world.server.admin();
    let key = json!({"name": "canary", "scope": "application"});
    let scoped = world.ask_for_secret("create_key", ("POST", "/api/v1/keys"), Some(&key), "key");
    let read = json!({"name": "reader", "scope": "read"});
    let reader = world.ask_for_secret("create_key", ("POST", "/api/v1/keys"), Some(&read), "key");
    let listeners = [(admin, ADMIN_KEY.to_owned()), (world.api.address, scoped)];
    let mut described = Vec::new();
    for (to, key) in &listeners {
        let answer = world.ask_api("openapi_json", *to, key, ("GET", "/openapi.json"), None);
        world
            .record
            .hear_everyday("the description of the API", &answer.body);
        described.push(operations(&answer.json()));
    }
    assert!(described.iter().all(|each| each.len() > 30));
    let things = things(world);
    for ((to, key), operations) in listeners.iter().zip(&described) {
        for operation in operations {
            refused_for_its_key(world, *to, operation, &things, &reader);
            refused_for_what_it_says(world, *to, key, operation, &things);
        }
        paths_that_are_not_there(world, *to, key);
    }
    for ((to, key), operations) in listeners.iter().zip(&described) {
        publish_lines(world, *to, key);
        asked_well(world, *to, key, operations, &things);
    }
    let asked: Vec<_> = described[0]
        .iter()
        .filter(|operation| !world.record.operations.contains(&operation.id))
        .map(|operation| operation.id.as_str())
        .collect();
    // What needs a thing that this test does not make; a new one belongs into `good_body` or among `Things`.
    assert_eq!(
        asked,
        Vec::<&str>::new(),
        "operations that were never answered well"
    );
}

fn operations(document: &Value) -> Vec<Operation> {
    let mut found = Vec::new();
    for (path, item) in document["paths"].as_object().expect("a document has paths") {
        for (method, operation) in item.as_object().expect("a path has operations") {
            let Some(id) = operation["operationId"].as_str() else {
                continue;
            };
            let schema = operation.pointer("/requestBody/content/application~1json/schema");
            found.push(Operation {
                id: id.to_owned(),
                method: method.to_uppercase(),
                path: path.clone(),
                body: schema
                    .map(|schema| resolved(document, schema).clone())
                    .map(|schema| with_kinds(document, schema)),
            });
        }
    }
    found
}

/// What a schema refers to.
fn resolved<'d>(document: &'d Value, schema: &'d Value) -> &'d Value {
    let target = schema["$ref"]
        .as_str()
        .and_then(|target| target.strip_prefix('#'));
    target
        .and_then(|target| document.pointer(target))
        .unwrap_or(schema)
}

/// The schema with the properties that it refers to in their places.
fn with_kinds(document: &Value, mut schema: Value) -> Value {
    for property in schema["properties"]
        .as_object_mut()
        .into_iter()
        .flatten()
        .map(|(_, property)| property)
    {
        let parts = ["oneOf", "anyOf", "allOf"]
            .into_iter()
            .find_map(|key| property[key].as_array().cloned());
        let whole = parts.unwrap_or_else(|| vec![property.clone()]);
        let kinds: Vec<Value> = whole
            .iter()
            .map(|part| resolved(document, part)["type"].clone())
            .collect();
        property["kinds"] = kinds.into();
    }
    schema
}

fn things(world: &mut World) -> Things {
    let list = |world: &mut World, operation: &str, path: &str| {
        text(&first_of(world, operation, path)["id"]).to_owned()
    };
    let event = list(world, "list_events", "/api/v1/events?source=nylas");
    let delivery = list(
        world,
        "list_deliveries",
        "/api/v1/deliveries?destination=refusing",
    );
    let quarantined = list(world, "list_quarantined", "/api/v1/quarantine");
    let other = json!({"name": "other"});
    let other = world
        .admin(
            "create_application",
            ("POST", "/api/v1/applications"),
            Some(&other),
        )
        .json();
    let another = json!({"name": "to-be-revoked", "scope": "read"});
    world.ask_for_secret("create_key", ("POST", "/api/v1/keys"), Some(&another), "key");
    let key = world.admin("list_keys", ("GET", "/api/v1/keys"), None).json();
    let key = key["data"]
        .as_array()
        .and_then(|keys| keys.iter().find(|key| key["name"] == "to-be-revoked"))
        .cloned();
    let event_type = json!({"name": "canary.sung", "description": "it sang"});
    let path = "/api/v1/event-types";
    world.admin("create_event_type", ("POST", path), Some(&event_type));
    // It does not answer the challenge.
    let url = world.app.url();
    let unverified = json!({"name": "unverified", "url": url, "sources": ["outbox"], "allow_private": true});
    let path = "/api/v1/destinations";
    world.ask_for_secret("create_destination", ("POST", path), Some(&unverified), "secret");
    let replay = json!({"source": "github"});
    let replay = world
        .admin("create_replay", ("POST", "/api/v1/replays"), Some(&replay))
        .json();
    let asked = json!({"max": 4, "lease": "60s"});
    let pulled = world
        .admin("pull", ("POST", "/api/v1/destinations/queue/pull"), Some(&asked))
        .json();
    let receipts: Vec<String> = pulled["deliveries"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| text(&one["receipt"]).to_owned())
        .collect();
    assert_eq!(receipts.len(), 4, "{pulled}");
    let key = key.expect("the key is listed");
    let event_type = json!({"name": "canary.made"});
    world.admin(
        "create_event_type",
        ("POST", "/api/v1/event-types"),
        Some(&event_type),
    );
    let receiver = format!("{}?token={URL_QUERY}", world.receiver.url());
    let webhook = json!({"webhook_url": receiver, "trigger_types": ["message.created"]});
    let webhook = world.server.order("/v3/webhooks", &webhook);
    let secret = text(&webhook["data"]["webhook_secret"]);
    world
        .record
        .plant("a secret that was made", super::canaries::Kind::Secret, secret);
    let webhook = text(&webhook["data"]["id"]).to_owned();
    Things {
        ids: vec![
            ("events", event),
            ("deliveries", delivery),
            ("sources", "stripe".to_owned()),
            ("destinations", "app".to_owned()),
            ("applications", text(&other["id"]).to_owned()),
            ("keys", text(&key["id"]).to_owned()),
            ("replays", text(&replay["id"]).to_owned()),
            ("quarantine", quarantined),
            ("event-types", "canary.sung".to_owned()),
            ("webhooks", webhook.clone()),
            ("rotate-secret", webhook),
        ],
        receiver,
        receipts,
        file: world
            .server
            .data()
            .with_file_name("walk.db")
            .display()
            .to_string(),
    }
}

impl Operation {
    /// Its path about these things: what stands before a parameter says which thing it is.
    fn about(&self, things: &Things) -> String {
        let pulls = ["pull", "ack", "nack", "extend"]
            .iter()
            .any(|last| self.path.ends_with(&format!("/{last}")));
        let mut before = "";
        let mut path = String::new();
        for part in self.path.split('/').skip(1) {
            path.push('/');
            let thing = things.ids.iter().find(|(noun, _)| *noun == before);
            path += match thing {
                Some((noun, _)) if part.starts_with('{') && pulls && *noun == "destinations" => "queue",
                Some((_, id)) if part.starts_with('{') => id,
                Some(_) | None if part.starts_with('{') => "unknown-thing",
                Some(_) | None => part,
            };
            before = part;
        }
        path
    }

    /// A body that it takes, where it needs one.
    fn good_body(&self, things: &Things, listener: &str) -> Option<Value> {
        let name = format!("made-at-{listener}");
        let receipts = |range: std::ops::Range<usize>| json!({"receipts": things.receipts.get(range)});
        Some(match self.id.as_str() {
            "create_source" => json!({"name": name, "provider": "nylas", "secrets": [MISPLACED]}),
            "update_source" => json!({"secrets": [super::world::STRIPE]}),
            "create_destination" => {
                json!({"name": name, "sources": ["bare"], "secret": whsec(&MISPLACED.repeat(2))})
            }
            "update_destination" => json!({"timeout": "2s"}),
            "create_application" | "update_application" => {
                json!({"name": format!("{name}-{}", self.method.len())})
            }
            "create_key" => json!({"name": name, "scope": "read"}),
            "create_event_type" => json!({"name": format!("canary.{listener}")}),
            "publish_events" => published(listener, BODY),
            "create_webhook" => json!({"webhook_url": things.receiver, "trigger_types": ["grant.expired"]}),
            "send_test_event" => json!({"webhook_url": things.receiver}),
            "show_mock_payload" => json!({"trigger_type": "message.created"}),
            "create_backup" => json!({"file": things.file}),
            "create_replay" => json!({"source": "stripe", "rate": 1000}),
            "release_quarantined" => json!({"source": "stripe"}),
            "discard_quarantined" => json!({"source": "bare"}),
            "ack" => receipts(0..1),
            "nack" => receipts(1..2),
            "extend" => receipts(2..3),
            _ => return self.body.as_ref().map(|_| json!({})),
        })
    }
}

/// An event as an application publishes it.
fn published(id: &str, said: &str) -> Value {
    json!({"specversion": "1.0", "type": "canary.sung", "source": "/canary", "id": id, "data": {"said": said}})
}

/// Many events at once: a good one, a repeat of its id with other content, and lines that are no events.
fn publish_lines(world: &mut World, to: SocketAddr, key: &str) {
    let authorization = format!("Bearer {key}");
    let headers = [
        ("authorization", authorization.as_str()),
        ("content-type", "application/x-ndjson"),
    ];
    let lines = [
        published("lines", BODY).to_string(),
        published("lines", FORGED).to_string(),
        json!({"specversion": "1.0", "type": "canary.unheard-of", "data": BODY}).to_string(),
        format!("{{\"secret\": \"{MISPLACED}\""),
        format!("\"{MISPLACED}\""),
        format!("{{\"specversion\": 1, \"data\": \"{MISPLACED}\"}}"),
    ];
    let request = ("POST", "/api/v1/events");
    let answer = world.record.ask(
        "publish_events",
        to,
        request,
        &headers,
        lines.join("\n").as_bytes(),
    );
    assert_eq!(answer.status, 207, "{}", answer.text());
}

/// With no key, with keys that are none, and with one that may only read.
fn refused_for_its_key(
    world: &mut World,
    to: SocketAddr,
    operation: &Operation,
    things: &Things,
    reader: &str,
) {
    let path = operation.about(things);
    let secret = format!("{path}?token={QUERY_SECRET}&key={WRONG_KEY}");
    let bearer = format!("Bearer {WRONG_KEY}");
    let basic = format!("Basic {AUTHORIZATION}");
    let cookie = format!("session={COOKIE}; hookfast={WRONG_KEY}");
    let twice = format!("Bearer {reader}, Bearer {WRONG_KEY}");
    for headers in [
        vec![("cookie", cookie.as_str())],
        vec![("authorization", bearer.as_str())],
        vec![("authorization", basic.as_str()), ("x-api-key", WRONG_KEY)],
        vec![("authorization", WRONG_KEY)],
        vec![("authorization", twice.as_str())],
    ] {
        let request = (operation.method.as_str(), secret.as_str());
        world
            .record
            .ask(&operation.id, to, request, &headers, MISPLACED.as_bytes());
    }
    if operation.method != "GET" && to == world.api.address {
        world.ask_api(
            &operation.id,
            to,
            reader,
            (&operation.method, &path),
            Some(&json!({"name": MISPLACED})),
        );
    }
}

/// With a body or a query that cannot be read, each time with a canary in it.
fn refused_for_what_it_says(
    world: &mut World,
    to: SocketAddr,
    key: &str,
    operation: &Operation,
    things: &Things,
) {
    let path = operation.about(things);
    let authorization = format!("Bearer {key}");
    let mut ask = |path: &str, content_type: &str, body: &[u8]| {
        let headers = [
            ("authorization", authorization.as_str()),
            ("content-type", content_type),
        ];
        let answer = world
            .record
            .ask(&operation.id, to, (&operation.method, path), &headers, body);
        (answer.status, answer.text())
    };
    if operation.method == "GET" && operation.id != "stream" {
        ask(
            &format!("{path}?no_such_field={QUERY_SECRET}"),
            "application/json",
            b"",
        );
        ask(
            &format!("{path}?limit={QUERY_SECRET}&rate={QUERY_SECRET}"),
            "application/json",
            b"",
        );
    }
    let Some(schema) = &operation.body else { return };
    // What Nylas's API has no field for is passed over; nothing of it may show all the same.
    let passes_over = operation.path.starts_with("/v3/");
    for (content_type, body) in unreadable() {
        let (status, said) = ask(&path, content_type, &body);
        assert!(
            status >= 400 || passes_over,
            "{} takes {:?}: {said}",
            operation.id,
            String::from_utf8_lossy(&body[..body.len().min(80)])
        );
    }
    for body in misshapen(schema) {
        let (status, said) = ask(&path, "application/json", body.to_string().as_bytes());
        let taken = status < 400 && !passes_over;
        assert!(!taken, "{} takes {body}: {said}", operation.id);
    }
}

fn unreadable() -> Vec<(&'static str, Vec<u8>)> {
    let json = "application/json";
    vec![
        (json, format!("{{\"secret\": \"{MISPLACED}\"").into_bytes()),
        (json, format!("{{\"secret\": {MISPLACED}}}").into_bytes()),
        (json, format!("\"{MISPLACED}\"").into_bytes()),
        (json, format!("[\"{MISPLACED}\", 7]").into_bytes()),
        (
            json,
            [b"{\"secret\": \"", MISPLACED.as_bytes(), b"\xff\"}"].concat(),
        ),
        (
            "text/plain",
            format!("{{\"secret\": \"{MISPLACED}\"}}").into_bytes(),
        ),
        (
            json,
            format!("{{\"secret\": \"{}\"}}", MISPLACED.repeat(50_000)).into_bytes(),
        ),
    ]
}

/// For each property, values that it cannot have. Texts that are no secret may be repeated in a refusal, as names are,
/// so no canary stands where a text belongs that is not one by its name.
fn misshapen(schema: &Value) -> Vec<Value> {
    let mut bodies = vec![json!({"no_such_field": MISPLACED})];
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let kinds = property["kinds"].to_string();
        let takes_anything = !kinds.contains('"');
        if takes_anything {
            continue;
        }
        if kinds.contains("array") && ["secrets", "keys"].contains(&name.as_str()) {
            bodies.push(json!({name: MISPLACED}));
            bodies.push(json!({name: [{"x": MISPLACED}]}));
        }
        if ["integer", "number", "boolean"]
            .iter()
            .any(|kind| kinds.contains(kind))
        {
            bodies.push(json!({name: MISPLACED}));
        }
        if !kinds.contains("object") {
            bodies.push(json!({name: {"x": MISPLACED}}));
        }
        bodies.push(json!({name: [[MISPLACED]]}));
        if name.contains("secret") && kinds.contains("string") {
            bodies.push(json!({"name": "x", name: MISPLACED}));
        }
    }
    bodies
}

fn paths_that_are_not_there(world: &mut World, to: SocketAddr, key: &str) {
    for request in [
        ("GET", format!("/api/v1/nothing?token={QUERY_SECRET}")),
        ("PUT", format!("/api/v1/events?token={QUERY_SECRET}")),
        ("POST", format!("/metrics?token={QUERY_SECRET}")),
    ] {
        world.ask_api(
            "nothing",
            to,
            key,
            (request.0, &request.1),
            Some(&json!({"secret": MISPLACED})),
        );
    }
    let headers = [("host", "evil.example"), ("authorization", WRONG_KEY)];
    world
        .record
        .ask("nothing", to, ("GET", "/healthz"), &headers, b"");
    let raw = format!("GET /healthz HTTP/1.1\r\nhost: x\r\nauthorization {WRONG_KEY}\r\n\r\n");
    let said = http::raw(to, raw.as_bytes()).unwrap_or_default();
    world
        .record
        .hear_everyday("a malformed request to the API", &said);
}

/// As the document says, what removes something last.
fn asked_well(world: &mut World, to: SocketAddr, key: &str, operations: &[Operation], things: &Things) {
    let listener = if to == world.api.address { "api" } else { "admin" };
    let mut operations: Vec<&Operation> = operations.iter().collect();
    operations.sort_by_key(|operation| operation.method == "DELETE");
    for operation in operations {
        let path = operation.about(things);
        if operation.method == "DELETE" && listener == "admin" && !operation.path.contains("keys") {
            continue;
        }
        if operation.id == "stream" {
            follow(world, to, key, &path);
            continue;
        }
        let body = operation.good_body(things, listener);
        let authorization = format!("Bearer {key}");
        let mut headers = vec![("authorization", authorization.as_str())];
        if body.is_some() {
            headers.push(("content-type", "application/json"));
        }
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        let answer = http::request(to, &operation.method, &path, &headers, body.as_bytes());
        remember(world, operation, &path, &answer);
    }
}

/// Remembers an answer; a secret that it shows this once is a canary from now on.
fn remember(world: &mut World, operation: &Operation, path: &str, answer: &Answer) {
    let json = serde_json::from_slice::<Value>(&answer.body).unwrap_or_default();
    let made: Vec<&str> = ["/secret", "/key", "/data/webhook_secret"]
        .iter()
        .filter_map(|field| json.pointer(field)?.as_str())
        .collect();
    let makes = [
        "create_source",
        "create_destination",
        "rotate_destination_secret",
        "create_key",
        "create_webhook",
        "rotate_webhook_secret",
        "rotate_webhook_secret_as_python",
    ];
    let once: &[&str] = if makes.contains(&operation.id.as_str()) {
        &made
    } else {
        &[]
    };
    world.record.hear_answer(
        &operation.id,
        &format!("{} {path}", operation.method),
        answer,
        once,
    );
    for secret in once {
        world
            .record
            .plant("a secret that was made", super::canaries::Kind::Secret, secret);
    }
}

/// Follows the stream for a while, with something happening meanwhile.
fn follow(world: &mut World, to: SocketAddr, key: &str, path: &str) {
    let mut stream = TcpStream::connect(to).expect("the server accepts");
    stream
        .set_read_timeout(Some(Duration::from_millis(200)))
        .expect("a time limit can be set");
    let request = format!("GET {path} HTTP/1.1\r\nhost: {to}\r\nauthorization: Bearer {key}\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("it reads");
    super::traffic::one_more(world, &format!("followed-{}", to.port()));
    let end = now() + Duration::from_secs(2);
    let mut said = Vec::new();
    let mut part = [0; 16 * 1024];
    while now() < end {
        // A read that times out shows only that nothing happened meanwhile.
        let length = stream.read(&mut part).unwrap_or(0);
        said.extend(&part[..length]);
    }
    let head = String::from_utf8_lossy(&said).into_owned();
    assert!(
        head.starts_with("HTTP/1.1 200") && head.contains("event"),
        "{head}"
    );
    let answer = Answer {
        status: 200,
        headers: Vec::new(),
        body: said,
    };
    world.record.hear_answer("stream", path, &answer, &[]);
}
