//! Owns the proof that Nylas's own clients, from npm and from PyPI and unchanged, set up webhooks here as they do at
//! Nylas, and that what is then published arrives as Nylas would send it (SPEC O12, O2, O8, O15). It must not know how
//! the clients ask.

mod support;

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use support::app::{App, Received, Reply};
use support::nylas::{SIGNATURE_HEADER, sign};
use support::server::{ADMIN_KEY, Server};
use support::time::unix_seconds;
use support::tools;

/// A client and how it is called.
#[derive(Clone, Copy)]
struct Sdk {
    name: &'static str,
    command: fn() -> Command,
    script: &'static str,
}

const NODE: Sdk = Sdk {
    name: "npm's nylas",
    command: tools::node,
    script: "sdk.js",
};
const PYTHON: Sdk = Sdk {
    name: "PyPI's nylas",
    command: tools::python,
    script: "sdk.py",
};

impl Sdk {
    /// Makes calls of `webhooks`, one after another, and gives what came of each.
    fn calls(&self, server: &Server, key: &str, calls: &Value) -> Vec<Value> {
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/nylas");
        let mut child = (self.command)()
            .arg(scripts.join(self.script))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the client's script starts");
        let given = json!({"uri": format!("http://{}", server.admin()), "key": key, "calls": calls});
        let mut stdin = child.stdin.take().expect("standard input is piped");
        stdin
            .write_all(given.to_string().as_bytes())
            .expect("the script reads");
        drop(stdin);
        let output = child.wait_with_output().expect("the script ends");
        assert!(output.status.success(), "{}: {}", self.name, output.status);
        serde_json::from_slice(&output.stdout).expect("the script prints JSON")
    }

    /// Makes one call.
    fn call(&self, server: &Server, call: &Value) -> Value {
        self.calls(server, ADMIN_KEY, &json!([call])).remove(0)
    }

    /// Makes one call that works; gives its data.
    fn data(&self, server: &Server, call: &Value) -> Value {
        let came = self.call(server, call);
        assert!(came["raised"].is_null(), "{}: {call} raised {came}", self.name);
        let id = came["request_id"].as_str().unwrap_or_default();
        assert_eq!(id.len(), 32, "{}: {came}", self.name);
        came["data"].clone()
    }
}

/// A server that may call receivers on this machine, by http.
fn server() -> Server {
    Server::with(
        "[outbox]\nallowed_networks = [\"127.0.0.0/8\"]\nip_addresses = [\"192.0.2.10\", \"2001:db8::1\"]\n",
    )
}

/// A receiver that echoes challenges, but at `/refuses`.
fn receiver() -> App {
    let app = App::start();
    app.answer(|request| {
        if request.method != "GET" {
            return Reply::status(200);
        }
        match request.path.split_once("challenge=") {
            Some((path, value)) if !path.starts_with("/refuses") => Reply::status(200).body(value),
            Some(_) | None => Reply::status(404),
        }
    });
    app
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

/// What each client sees of a webhook that it has just made.
fn check_made(sdk: Sdk, webhook: &Value, url: &str) {
    let name = sdk.name;
    for (member, expected) in [
        ("webhook_url", json!(url)),
        ("status", json!("active")),
        ("trigger_types", json!(["message.created", "grant.expired"])),
        ("description", json!("crm")),
        ("notification_email_addresses", json!(["ops@example.test"])),
    ] {
        assert_eq!(webhook[member], expected, "{name}: {member}");
    }
    for member in ["status_updated_at", "created_at", "updated_at"] {
        let seconds = webhook[member].as_u64().expect("times are whole seconds");
        assert!(unix_seconds().abs_diff(seconds) < 120, "{name}: {member}");
    }
    assert_eq!(text(&webhook["webhook_secret"]).len(), 20, "{name}");
}

fn create(url: &str) -> Value {
    json!({"method": "create", "body": {
        "webhook_url": url, "trigger_types": ["message.created", "grant.expired"], "description": "crm",
        "notification_email_addresses": ["ops@example.test"],
    }})
}

fn every_call_works(sdk: Sdk) {
    let (app, server) = (receiver(), server());
    let made = sdk.data(&server, &create(&app.url()));
    check_made(sdk, &made, &app.url());
    let id = &made["id"];
    let mut shown = made.clone();
    shown.as_object_mut().expect("an object").remove("webhook_secret");

    assert_eq!(sdk.data(&server, &json!({"method": "find", "id": id})), shown);
    assert_eq!(sdk.data(&server, &json!({"method": "list"})), json!([shown]));

    let change = json!({"trigger_types": ["calendar.created"], "description": "calendars"});
    let updated = sdk.data(&server, &json!({"method": "update", "id": id, "body": change}));
    assert_eq!(
        (
            &updated["trigger_types"],
            &updated["description"],
            &updated["webhook_url"]
        ),
        (
            &json!(["calendar.created"]),
            &json!("calendars"),
            &made["webhook_url"]
        )
    );
    for (status, expected) in [("pause", "pause"), ("active", "active")] {
        let call = json!({"method": "update", "id": id, "body": {"status": status}});
        assert_eq!(sdk.data(&server, &call)["status"], expected, "{}", sdk.name);
    }

    let rotated = sdk.data(&server, &json!({"method": "rotate_secret", "id": id}));
    assert_eq!(&rotated["id"], id);
    assert_ne!(rotated["webhook_secret"], made["webhook_secret"], "{}", sdk.name);
    let addresses = sdk.data(&server, &json!({"method": "ip_addresses"}));
    assert_eq!(addresses["ip_addresses"], json!(["192.0.2.10", "2001:db8::1"]));

    let gone = sdk.call(&server, &json!({"method": "destroy", "id": id}));
    assert!(gone["raised"].is_null(), "{}: {gone}", sdk.name);
    assert_eq!(sdk.data(&server, &json!({"method": "list"})), json!([]));
}

#[test]
fn every_call_of_npms_client_works() {
    every_call_works(NODE);
}

#[test]
fn every_call_of_pypis_client_works() {
    every_call_works(PYTHON);
}

/// That a call raised the client's own error, with what came from here.
fn check_raised(sdk: Sdk, came: &Value, status: u16, kind: &str, message: &str) {
    let name = sdk.name;
    assert_eq!(came["own"], true, "{name}: {came}");
    assert_eq!(came["raised"], "NylasApiError", "{name}: {came}");
    assert_eq!(came["status"], status, "{name}: {came}");
    assert_eq!(came["type"], kind, "{name}: {came}");
    assert!(text(&came["message"]).contains(message), "{name}: {came}");
    assert_eq!(text(&came["request_id"]).len(), 32, "{name}: {came}");
}

fn every_error_is_the_clients_own(sdk: Sdk) {
    let (app, server) = (receiver(), server());
    let stranger = sdk.calls(
        &server,
        "nobodys-key",
        &json!([{"method": "list"}, create(&app.url())]),
    );
    for came in &stranger {
        check_raised(sdk, came, 401, "api.authentication_error", "Unauthorized");
    }
    let refusing = format!("http://{}/refuses", app.address());
    let nobody = "dst_0198f0c0000070008000000000000000";
    let mut unknown = create(&app.url());
    unknown["body"]["trigger_types"] = json!(["mesage.created"]);
    let refused = [
        (
            json!({"method": "find", "id": nobody}),
            404,
            "70000",
            "destination.id.not.found : record not found",
        ),
        (
            json!({"method": "update", "id": nobody, "body": {"description": "x"}}),
            400,
            "70000",
            "destination.id.not.found",
        ),
        (
            json!({"method": "destroy", "id": nobody}),
            400,
            "70000",
            "destination.id.not.found",
        ),
        (
            json!({"method": "rotate_secret", "id": nobody}),
            400,
            "70000",
            "destination.id.not.found",
        ),
        (
            create(&refusing),
            400,
            "70005",
            "unable.verify.webhook_url : status is not ok, got 404",
        ),
        (
            create("https://hook.ngrok.io/"),
            400,
            "70005",
            "unable.verify.webhook_url : the host `hook.ngrok.io`",
        ),
        (
            unknown,
            400,
            "invalid_request_error",
            "did you mean `message.created`",
        ),
    ];
    let calls: Vec<_> = refused.iter().map(|(call, ..)| call).collect();
    let came = sdk.calls(&server, ADMIN_KEY, &json!(calls));
    for ((_, status, kind, message), came) in refused.iter().zip(&came) {
        check_raised(sdk, came, *status, kind, message);
    }
    assert_eq!(came.len(), refused.len());
    assert_eq!(
        sdk.data(&server, &json!({"method": "list"})),
        json!([]),
        "nothing was kept"
    );
    assert_eq!(app.received().len(), 1, "only the URL that refuses was asked");
}

#[test]
fn every_refusal_is_raised_by_npms_client_as_its_own_error() {
    every_error_is_the_clients_own(NODE);
}

#[test]
fn every_refusal_is_raised_by_pypis_client_as_its_own_error() {
    every_error_is_the_clients_own(PYTHON);
}

fn publish(server: &Server, id: &str) {
    let event = json!({"specversion": "1.0", "type": "message.created", "source": "/google/emails/realtime", "id": id,
        "time": "2026-09-21T14:13:20Z", "data": {"application_id": "app", "object": {"id": id, "object": "message"}}});
    server.order("/api/v1/events", &event);
}

/// Waits for the notification with that number; gives it with its body as it was signed.
fn notification(app: &App, number: usize) -> Received {
    let posted = |received: &[Received]| -> Vec<Received> {
        let posts = received.iter().filter(|request| request.method == "POST");
        posts.cloned().collect()
    };
    let received = app.wait_until("a notification", |received| posted(received).len() >= number);
    posted(&received).swap_remove(number - 1)
}

fn check_signature(sdk: Sdk, request: &Received, secret: &Value) {
    let signature = request.header(SIGNATURE_HEADER);
    assert_eq!(
        signature,
        Some(sign(text(secret), &request.body).as_str()),
        "{}",
        sdk.name
    );
}

fn notifications_are_nylas_own(sdk: Sdk) {
    let (app, server) = (receiver(), server());
    let made = sdk.data(&server, &create(&app.url()));
    let id = &made["id"];
    let envelope = |id: &str| {
        format!(
            r#"{{"specversion":"1.0","type":"message.created","source":"/google/emails/realtime","id":"{id}","time":1790000000,"webhook_delivery_attempt":1,"data":{{"application_id":"app","object":{{"id":"{id}","object":"message"}}}}}}"#
        )
    };

    publish(&server, "first");
    let first = notification(&app, 1);
    assert_eq!(
        String::from_utf8_lossy(&first.body),
        envelope("first"),
        "{}",
        sdk.name
    );
    assert_eq!(first.header("content-type"), Some("application/json"));
    assert_eq!(first.header("content-encoding"), None);
    check_signature(sdk, &first, &made["webhook_secret"]);

    let change = json!({"method": "update", "id": id, "body": {"compressed_delivery": true}});
    sdk.data(&server, &change);
    publish(&server, "second");
    let second = notification(&app, 2);
    assert_eq!(second.header("content-encoding"), Some("gzip"), "{}", sdk.name);
    check_signature(sdk, &second, &made["webhook_secret"]);
    let mut body = String::new();
    flate2::read::GzDecoder::new(second.body.as_slice())
        .read_to_string(&mut body)
        .expect("the body is gzip");
    assert_eq!(body, envelope("second"));

    let rotated = sdk.data(&server, &json!({"method": "rotate_secret", "id": id}));
    publish(&server, "third");
    let third = notification(&app, 3);
    check_signature(sdk, &third, &rotated["webhook_secret"]);
    let old = sign(text(&made["webhook_secret"]), &third.body);
    assert_ne!(
        third.header(SIGNATURE_HEADER),
        Some(old.as_str()),
        "the old secret signs no more"
    );
}

#[test]
fn what_is_published_reaches_a_webhook_of_npms_client_as_nylas_would_send_it() {
    notifications_are_nylas_own(NODE);
}

#[test]
fn what_is_published_reaches_a_webhook_of_pypis_client_as_nylas_would_send_it() {
    notifications_are_nylas_own(PYTHON);
}
