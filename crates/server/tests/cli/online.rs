//! The commands that talk to a server, against a real one.

use std::io::{BufRead as _, BufReader, Lines};
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};

use serde_json::Value;

use crate::program::{Program, Said};
use crate::support::app::{App, Reply};
use crate::support::http;
use crate::support::nylas::{self, PATH, SECRET, SIGNATURE_HEADER, config, notification};
use crate::support::server::{ADMIN_KEY, Server};
use crate::support::time::wait_for;

/// Runs the program against `server`.
pub(crate) fn on(server: &Server, arguments: &[&str]) -> Said {
    Program::new(arguments)
        .environment("HOOKFAST_SERVER", &format!("http://{}", server.admin()))
        .environment("HOOKFAST_KEY", ADMIN_KEY)
        .run()
}

/// Posts a notification with that signature and gives the status.
fn post(server: &Server, body: &[u8], signature: &str) -> u16 {
    let headers = [
        (SIGNATURE_HEADER, signature),
        ("content-type", "application/json"),
    ];
    http::request(server.listen(), "POST", PATH, &headers, body).status
}

fn post_signed(server: &Server, id: &str) {
    let body = notification(id);
    assert_eq!(post(server, &body, &nylas::sign(SECRET, &body)), 200);
}

/// A member that is a text.
pub(crate) fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or_else(|| panic!("{key} in {value}"))
}

#[test]
fn sources_and_destinations_are_made_changed_and_deleted() {
    let server = Server::with("");
    let made = on(
        &server,
        &[
            "source",
            "create",
            "hub",
            "--provider",
            "github",
            "--generate-secret",
            "--json",
        ],
    )
    .json();
    assert_eq!(text(&made, "path"), "/in/hub");
    assert!(!text(&made, "secret").is_empty());
    let changed = on(
        &server,
        &[
            "source",
            "update",
            "hub",
            "--dedupe",
            "2d",
            "--rate-limit",
            "7",
            "--json",
        ],
    )
    .json();
    assert_eq!(
        (text(&changed, "dedupe"), changed["rate_limit"].as_u64()),
        ("2d", Some(7))
    );
    let cleared = on(
        &server,
        &["source", "update", "hub", "--rate-limit", "none", "--json"],
    )
    .json();
    assert!(cleared["rate_limit"].is_null());
    assert!(on(&server, &["source", "list"]).done().contains("/in/hub"));

    let create = [
        "destination",
        "create",
        "app",
        "--url",
        "http://127.0.0.1:9/",
        "--source",
        "hub",
    ];
    let refused = on(&server, &create);
    assert_eq!(refused.code, 1);
    assert!(refused.talk.contains("allow_private"), "{}", refused.talk);
    let said = on(
        &server,
        &[&create[..], &["--allow-private", "--timeout", "5s"]].concat(),
    );
    assert!(said.talk.contains("shown only now"), "{}", said.talk);
    assert!(said.done().contains("whsec_"));
    for (action, status) in [("pause", "paused"), ("resume", "active")] {
        let said = on(&server, &["destination", action, "app", "--json"]).json();
        assert_eq!(text(&said, "status"), status);
    }
    let rotated = on(&server, &["destination", "rotate-secret", "app", "--json"]).json();
    assert_eq!(rotated["secrets"], 2);
    let shown = on(&server, &["destination", "show", "app"]).done();
    assert!(shown.contains("timeout:           5s"), "{shown}");
    on(&server, &["destination", "delete", "app"]).done();
    on(&server, &["source", "delete", "hub"]).done();
    let said = on(&server, &["source", "list"]);
    assert!(said.talk.contains("no sources yet"), "{}", said.talk);
    assert_eq!(said.done(), "");
    let gone = on(&server, &["source", "show", "hub"]);
    assert_eq!(
        (gone.code, gone.talk.starts_with("error: ")),
        (1, true),
        "{}",
        gone.talk
    );
}

#[test]
fn an_event_is_followed_from_arrival_to_delivery_and_replayed() {
    let app = App::start();
    app.answer(|_| Reply::status(503).body("not now"));
    let server = Server::with(&config(&app.url()));
    post_signed(&server, "evt_1");
    app.wait_for(1);
    let deliveries = || on(&server, &["delivery", "list", "--json"]).json();
    let id = wait_for("the first attempt to be settled", || {
        let first = deliveries()[0].clone();
        (text(&first, "state") == "retrying").then(|| text(&first, "id").to_owned())
    });
    let event = on(&server, &["event", "list", "--type", "message.*", "--json"]).json()[0].clone();
    let event = text(&event, "id").to_owned();
    let shown = on(&server, &["event", "show", &event]).done();
    for part in [
        "x-nylas-signature: ",
        "\n  \"specversion\": \"1.0\",\n",
        "Delivery to app",
        "answered 503",
        "not now",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let body = on(&server, &["event", "show", &event, "--body"]);
    assert_eq!(body.raw, notification("evt_1"));

    app.always(Reply::status(200));
    assert!(
        on(&server, &["delivery", "retry", &id])
            .done()
            .contains("retrying → ")
    );
    wait_for("the delivery", || {
        (text(&deliveries()[0], "state") == "delivered").then_some(())
    });
    assert_eq!(on(&server, &["delivery", "retry", &id]).code, 1);
    let attempts = on(&server, &["delivery", "show", &id, "--json"]).json();
    assert!(
        attempts["attempt_log"]
            .as_array()
            .is_some_and(|log| log.len() >= 2),
        "{attempts}"
    );

    let before = app.received().len();
    let dry = on(&server, &["replay", "start", "--source", "nylas", "--dry-run"]).done();
    assert!(dry.starts_with("1 events: 1 deliveries"), "{dry}");
    let job = on(
        &server,
        &["replay", "start", "--source", "nylas", "--from", "1h", "--json"],
    )
    .json();
    assert_eq!((text(&job, "state"), job["replayed"].as_u64()), ("done", Some(1)));
    app.wait_for(before + 1);
    assert!(
        on(&server, &["replay", "status"])
            .done()
            .contains(text(&job, "id"))
    );
}

#[test]
fn what_was_not_believed_is_shown_and_let_in_once_the_secret_is_right() {
    let app = App::start();
    let server = Server::with(&config(&app.url()));
    let body = notification("evt_1");
    assert_eq!(post(&server, &body, &nylas::sign("the right one", &body)), 401);
    let list = wait_for("the quarantine", || {
        let list = on(&server, &["quarantine", "list", "--json"]).json();
        (!list.as_array()?.is_empty()).then_some(list)
    });
    let id = text(&list[0], "id");
    assert!(
        on(&server, &["quarantine", "show", id])
            .done()
            .contains("signature-mismatch")
    );
    assert_eq!(on(&server, &["quarantine", "show", id, "--body"]).raw, body);
    wait_for("the refusal to be kept", || {
        on(&server, &["rejected", "list"])
            .done()
            .contains("signature-mismatch")
            .then_some(())
    });
    let refused = on(&server, &["quarantine", "release", "--source", "nylas"]);
    assert_eq!(refused.code, 1);
    assert!(refused.talk.contains(id), "{}", refused.talk);
    let update = [
        "source",
        "update",
        "nylas",
        "--secret",
        "the right one",
        "--secret",
        SECRET,
    ];
    assert!(on(&server, &update).talk.contains("warning: "));
    assert!(
        on(&server, &["quarantine", "release", id])
            .done()
            .starts_with("1 accepted")
    );
    app.wait_for(1);
    assert_eq!(
        on(&server, &["quarantine", "list", "--json"]).json(),
        serde_json::json!([])
    );
}

#[test]
fn keys_open_what_their_scope_says_until_they_are_revoked() {
    let server = Server::with("");
    on(&server, &["application", "create", "acme"]).done();
    assert!(on(&server, &["application", "list"]).done().contains("acme"));
    let made = on(
        &server,
        &[
            "key",
            "create",
            "ci",
            "--scope",
            "read",
            "--expires-in",
            "1d",
            "--json",
        ],
    )
    .json();
    let with_key = |arguments: &[&str]| {
        let server = format!("http://{}", server.admin());
        Program::new(arguments)
            .environment("HOOKFAST_SERVER", &server)
            .argument("--key")
            .argument(text(&made, "key"))
            .run()
    };
    assert_eq!(with_key(&["source", "list"]).code, 0);
    let narrow = with_key(&["source", "create", "x", "--provider", "nylas"]);
    assert_eq!(narrow.code, 1, "{}", narrow.data);
    on(&server, &["key", "revoke", text(&made, "id")]).done();
    let revoked = with_key(&["source", "list"]);
    assert_eq!(revoked.code, 1);
    assert!(revoked.talk.contains("HOOKFAST_KEY"), "{}", revoked.talk);
    assert!(on(&server, &["node", "list"]).done().contains("listen="));
}

#[test]
fn the_key_that_serve_wrote_is_found_in_the_data_directory() {
    let server = Server::with("");
    let address = format!("http://{}", server.admin());
    let list = ["source", "list", "--server", &address, "--data"];
    assert_eq!(Program::new(&list).argument(server.data()).run().code, 0);
    let nowhere = tempfile::tempdir().unwrap();
    let said = Program::new(&list).argument(nowhere.path()).run();
    assert_eq!(said.code, 1);
    assert!(said.talk.contains("--key or HOOKFAST_KEY"), "{}", said.talk);
}

#[test]
fn a_list_longer_than_a_page_is_cut_or_given_whole_as_asked() {
    let server = Server::with(&config("http://127.0.0.1:9/"));
    for id in 0..12 {
        post_signed(&server, &format!("evt_{id}"));
    }
    let some = on(&server, &["event", "list", "--limit", "5", "--json"]);
    assert!(some.talk.contains("there are more"), "{}", some.talk);
    assert_eq!(some.json().as_array().map(Vec::len), Some(5));
    let all = on(&server, &["event", "list", "--all", "--json"]);
    assert_eq!(all.talk, "");
    assert_eq!(all.json().as_array().map(Vec::len), Some(12));
}

/// `hookfast tail --json`, being read.
struct Tail {
    child: Child,
    talk: BufReader<ChildStderr>,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Tail {
    /// Follows `server`; what happens from now on is seen.
    fn of(server: &Server) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_hookfast"))
            .args(["tail", "--json", "--source", "nylas"])
            .env("HOOKFAST_SERVER", format!("http://{}", server.admin()))
            .env("HOOKFAST_KEY", ADMIN_KEY)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("tail starts");
        let mut talk = BufReader::new(child.stderr.take().expect("its stderr is piped"));
        let mut following = String::new();
        talk.read_line(&mut following).expect("it says whom it follows");
        assert!(following.starts_with("following http://"), "{following}");
        let lines = BufReader::new(child.stdout.take().expect("its stdout is piped")).lines();
        Self { child, talk, lines }
    }

    /// What is printed until the event with that id of its provider, or until a delivery of that state.
    fn until(&mut self, wanted: &str) -> Vec<String> {
        let mut seen = Vec::new();
        while seen.last().is_none_or(|last| last != wanted) {
            let line = self.lines.next().expect("tail goes on").expect("it prints text");
            let happening: Value = serde_json::from_str(&line).expect("it prints JSON");
            let key = if text(&happening, "event") == "event" {
                "provider_id"
            } else {
                "state"
            };
            seen.push(text(&happening["data"], key).to_owned());
        }
        seen
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn tail_shows_an_event_and_what_becomes_of_it_and_misses_none_over_a_restart() {
    let app = App::start();
    let mut server = Server::with(&config(&app.url()));
    let mut tail = Tail::of(&server);
    post_signed(&server, "evt_1");
    let seen = tail.until("delivered");
    assert_eq!(seen.first().map(String::as_str), Some("evt_1"), "{seen:?}");
    server.kill();
    server.start();
    post_signed(&server, "evt_2");
    let seen = tail.until("evt_2");
    assert!(!seen.contains(&"evt_1".to_owned()), "{seen:?}");
    let mut again = String::new();
    tail.talk.read_line(&mut again).unwrap();
    assert!(again.contains("following again"), "{again}");
}

#[test]
fn a_server_behind_tls_is_reached_where_its_certificate_is_trusted() {
    let directory = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (cert, key) = (
        directory.path().join("cert.pem"),
        directory.path().join("key.pem"),
    );
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let server = Server::with(&format!(
        "[tls]\ncert = {cert:?}\nkey = {key:?}\nlisteners = [\"admin\"]\n"
    ));
    let list = |program: Program| {
        let url = format!("https://localhost:{}", server.admin().port());
        program
            .environment("HOOKFAST_SERVER", &url)
            .environment("HOOKFAST_KEY", ADMIN_KEY)
            .run()
    };
    let trusting = Program::new(&["node", "list"]).environment("SSL_CERT_FILE", cert.to_str().unwrap());
    assert!(list(trusting).done().contains("admin="));
    let said = list(Program::new(&["node", "list"]));
    assert_eq!(said.code, 1);
    assert!(said.talk.contains("certificate"), "{}", said.talk);
    let clear = on(&server, &["node", "list"]);
    assert_eq!(clear.code, 1, "{}", clear.data);
}

#[test]
fn a_data_directory_is_checked_once_nobody_uses_it() {
    let mut server = Server::with(&config("http://127.0.0.1:9/"));
    post_signed(&server, "evt_1");
    let check = |server: &Server| Program::new(&["check", "--data"]).argument(server.data()).run();
    let in_use = check(&server);
    assert_eq!(in_use.code, 1);
    assert!(
        in_use.talk.contains("in use by another hookfast"),
        "{}",
        in_use.talk
    );
    server.kill();
    assert!(check(&server).done().contains("every promise is kept"));
}

#[test]
fn a_backup_of_a_running_server_keeps_every_promise() {
    let server = Server::with(&config("http://127.0.0.1:9/"));
    post_signed(&server, "evt_1");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("hookfast.db");
    let backup = ["backup", file.to_str().unwrap()];
    assert_eq!(on(&server, &backup).done().trim(), file.to_str().unwrap());
    let again = on(&server, &backup);
    assert_eq!(again.code, 1, "{}", again.data);
    let check = Program::new(&["check", "--data"])
        .argument(directory.path())
        .run();
    assert!(check.done().contains("every promise is kept"));
}
