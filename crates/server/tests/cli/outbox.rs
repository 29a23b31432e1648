//! The outbox on the command line: what needs no server, and a webhook's life against a real one (SPEC O1, O8, O9,
//! O13).

use std::time::Duration;

use serde_json::{Value, json};

use crate::online::{on, text};
use crate::program::{Program, Said, hookfast};
use crate::support::app::{App, Received, Reply};
use crate::support::nylas::{SIGNATURE_HEADER, sign};
use crate::support::server::Server;
use crate::support::time::wait_for;

/// What was posted until now.
fn posted(app: &App) -> Vec<Received> {
    let received = app.received().into_iter();
    received.filter(|request| request.method == "POST").collect()
}

fn body(request: &Received) -> Value {
    serde_json::from_slice(&request.body).expect("what was posted is JSON")
}

#[test]
fn every_trigger_type_is_listed_and_has_a_mock_payload() {
    let listed = hookfast(&["webhook", "triggers", "--json"]).json();
    let names: Vec<&str> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|each| text(each, "name"))
        .collect();
    assert!(names.len() > 50, "{names:?}");
    for name in names {
        let payload = hookfast(&["webhook", "test", "payload", name]).json();
        assert_eq!(text(&payload, "type"), name);
        assert!(payload["data"].is_object(), "{payload}");
    }
    let compact = hookfast(&["webhook", "test", "payload", "grant.expired", "--compact"]).done();
    assert_eq!(compact.lines().count(), 1);
    let unknown = hookfast(&["webhook", "test", "payload", "mesage.created"]);
    assert_eq!((unknown.code, unknown.data.as_str()), (1, ""));
    assert!(
        unknown.talk.contains("did you mean `message.created`"),
        "{}",
        unknown.talk
    );
}

#[test]
fn trigger_types_are_listed_by_what_they_are_about() {
    let listed = hookfast(&["webhook", "triggers", "--category", "grant", "--json"]).json();
    let listed = listed.as_array().unwrap();
    assert!(!listed.is_empty() && listed.iter().all(|each| text(each, "category") == "grant"));
    let table = hookfast(&["webhook", "triggers"]).done();
    assert!(table.starts_with("TYPE"), "{table}");
    let unknown = hookfast(&["webhook", "triggers", "--category", "mesage"]);
    assert_eq!(unknown.code, 1);
    assert!(
        unknown.talk.contains("did you mean `message`"),
        "{}",
        unknown.talk
    );
}

fn send(url: &str, more: &[&str]) -> Said {
    hookfast(&[&["webhook", "test", "send", url], more].concat())
}

#[test]
fn a_test_notification_is_signed_as_nylas_signs_and_200_alone_is_good() {
    let app = App::start();
    let sent = send(&app.url(), &["--allow-private"]).done();
    assert!(sent.starts_with("message.created: answered 200 in "), "{sent}");
    let more = [
        "--allow-private",
        "--trigger",
        "grant.expired",
        "--secret",
        "own",
        "--json",
    ];
    let shown = send(&app.url(), &more).json();
    assert_eq!((&shown["success"], &shown["status"]), (&json!(true), &json!(200)));
    assert!(
        shown["duration_ms"].as_f64().is_some_and(|took| took > 0.0),
        "{shown}"
    );
    let received = app.received();
    for (request, secret, kind) in [
        (&received[0], "mock-webhook-secret", "message.created"),
        (&received[1], "own", "grant.expired"),
    ] {
        assert_eq!(request.method, "POST");
        assert_eq!(
            request.header(SIGNATURE_HEADER),
            Some(sign(secret, &request.body).as_str())
        );
        let event = body(request);
        assert_eq!(
            (text(&event, "type"), &event["webhook_delivery_attempt"]),
            (kind, &json!(1))
        );
    }
    assert_ne!(body(&received[0])["id"], body(&received[1])["id"]);

    for status in [500, 204, 302] {
        app.always(Reply::status(status).body(if status == 500 { "no \u{1b}[31mroom" } else { "" }));
        let said = send(&app.url(), &["--allow-private"]);
        assert_eq!(said.code, 1, "{status}: {}", said.data);
        let expected = format!("answered {status} in ");
        assert!(said.data.contains(&expected), "{}", said.data);
        assert!(
            said.data.contains("only 200 means that it arrived"),
            "{}",
            said.data
        );
        assert_eq!(
            said.data.contains("no \\u{1b}[31mroom"),
            status == 500,
            "{}",
            said.data
        );
    }
}

#[test]
fn a_test_notification_that_nobody_answers_is_told_with_its_cause() {
    let app = App::start();
    app.always(Reply::status(200).after(Duration::from_secs(3)));
    let late = send(&app.url(), &["--allow-private", "--timeout", "300ms"]);
    assert_eq!(late.code, 1);
    assert!(
        late.data
            .contains("no answer within 300ms, while waiting for the answer"),
        "{}",
        late.data
    );
    app.always(Reply::hang_up());
    assert_eq!(send(&app.url(), &["--allow-private"]).code, 1);
    let down = App::down();
    for (url, more, cause) in [
        (
            down.url().as_str(),
            &["--allow-private"] as &[&str],
            "no answer after",
        ),
        (app.url().as_str(), &[], "the URL is http"),
        ("https://127.0.0.1/", &[], "the address is not public"),
        ("https://169.254.169.254/", &["--allow-private"], "metadata"),
        ("ftp://127.0.0.1/", &["--allow-private"], "scheme"),
        ("nowhere", &["--allow-private"], "not a URL"),
    ] {
        let said = send(url, more);
        assert_eq!(said.code, 1, "{url}");
        assert!(said.data.contains(cause), "{url}: {}", said.data);
    }
    let shown = send("nowhere", &["--json"]);
    assert_eq!(shown.code, 1);
    let shown: Value = serde_json::from_str(&shown.data).unwrap();
    assert_eq!(
        (&shown["success"], &shown["status"]),
        (&json!(false), &Value::Null)
    );
}

#[test]
fn wrong_usage_of_the_outbox_ends_with_2() {
    for wrong in [
        &["webhook"] as &[&str],
        &["webhook", "create"],
        &["webhook", "test", "send"],
        &["webhook", "reactivate", "x", "--deliver", "--discard"],
        &["event", "publish"],
        &["event", "publish", "--type", "a.b"],
        &["event", "publish", "file", "--type", "a.b", "--source", "/x"],
        &["event", "publish", "--ndjson", "--type", "a.b", "--source", "/x"],
        &["application", "update", "x", "--open", "perhaps"],
    ] {
        let said = hookfast(wrong);
        assert_eq!(said.code, 2, "{wrong:?}: {}", said.talk);
    }
}

/// Publishes one event made from flags.
fn publish(server: &Server, id: &str) -> Value {
    let flags = [
        "--type",
        "message.created",
        "--source",
        "/test",
        "--id",
        id,
        "--event-data",
        "{\"n\": 1.50}",
    ];
    on(server, &[&["event", "publish", "--json"], &flags[..]].concat()).json()
}

#[test]
fn a_webhook_is_made_and_takes_what_is_published_until_it_is_deleted() {
    let app = App::start();
    app.echo_challenges();
    let server = Server::with("");
    let create = ["webhook", "create", "--url", &app.url(), "--allow-private"];
    let flags = [
        "--trigger",
        "message.created,grant.*",
        "--description",
        "CRM",
        "--signing",
        "nylas",
        "--notify",
        "ops@example.com,dev@example.com",
    ];
    let made = on(&server, &[&create[..], &flags].concat());
    assert!(made.talk.contains("will not be shown again"), "{}", made.talk);
    let made = made.done();
    assert!(made.contains("name:              127-0-0-1\n"), "{made}");
    let secret = made
        .lines()
        .find_map(|line| line.strip_prefix("secret:"))
        .unwrap()
        .trim()
        .to_owned();
    let shown = on(&server, &["webhook", "show", "127-0-0-1", "--json"]).json();
    assert_eq!(shown["trigger_types"], json!(["message.created", "grant.*"]));
    assert_eq!(
        (text(&shown, "status"), text(&shown, "policy")),
        ("active", "nylas")
    );
    assert!(shown["secret"].is_null(), "{shown}");

    assert_eq!(publish(&server, "1")["deliveries"], 1);
    wait_for("the notification", || (posted(&app).len() == 1).then_some(()));
    let request = &posted(&app)[0];
    assert_eq!(
        request.header(SIGNATURE_HEADER),
        Some(sign(&secret, &request.body).as_str())
    );
    assert!(String::from_utf8_lossy(&request.body).contains("\"data\":{\"n\": 1.50}"));

    let rotated = on(&server, &["webhook", "rotate-secret", "127-0-0-1", "--json"]).json();
    assert_ne!(text(&rotated, "secret"), secret);
    on(&server, &["webhook", "pause", "127-0-0-1"]).done();
    publish(&server, "2");
    publish(&server, "3");
    let listed = on(&server, &["webhook", "list"]).done();
    assert!(
        listed.contains("paused") && listed.contains("message.created, grant.*"),
        "{listed}"
    );
    assert_eq!(posted(&app).len(), 1);
    let discarded = on(
        &server,
        &["webhook", "reactivate", "127-0-0-1", "--discard", "--json"],
    )
    .json();
    assert_eq!(text(&discarded, "status"), "active");
    publish(&server, "4");
    wait_for("what came after", || (posted(&app).len() == 2).then_some(()));
    assert_eq!(text(&body(&posted(&app)[1]), "id"), "4");
    on(&server, &["webhook", "pause", "127-0-0-1"]).done();
    publish(&server, "5");
    on(&server, &["webhook", "reactivate", "127-0-0-1", "--deliver"]).done();
    wait_for("what was held", || (posted(&app).len() == 3).then_some(()));
    let newest = posted(&app).pop().unwrap();
    assert_eq!(
        newest.header(SIGNATURE_HEADER),
        Some(sign(text(&rotated, "secret"), &newest.body).as_str())
    );

    let update = [
        "webhook",
        "update",
        "127-0-0-1",
        "--name",
        "crm",
        "--notify",
        "none",
        "--trigger",
        "grant.*",
    ];
    let updated = on(&server, &[&update[..], &["--json"]].concat()).json();
    assert_eq!(
        (text(&updated, "name"), &updated["notification_email_addresses"]),
        ("crm", &json!([]))
    );
    assert_eq!(publish(&server, "6")["deliveries"], 0);
    on(&server, &["webhook", "delete", "crm"]).done();
    assert!(on(&server, &["webhook", "list"]).talk.contains("no webhooks yet"));
}

#[test]
fn a_webhook_whose_url_answers_no_challenge_is_kept_unverified_until_it_does() {
    let app = App::start();
    app.always(Reply::status(404));
    let server = Server::with("[[source]]\nname = \"nylas\"\nprovider = \"nylas\"\n");
    let create = [
        "webhook",
        "create",
        "--url",
        &app.url(),
        "--allow-private",
        "--json",
    ];
    let made = on(&server, &create).json();
    assert_eq!(text(&made, "status"), "unverified");
    assert!(text(&made, "status_reason").contains("got 404"), "{made}");
    publish(&server, "1");
    let refused = on(&server, &["webhook", "reactivate", "127-0-0-1"]);
    assert_eq!(refused.code, 1);
    assert!(refused.talk.contains("got 404"), "{}", refused.talk);
    assert_eq!(posted(&app).len(), 0);
    app.echo_challenges();
    on(&server, &["webhook", "reactivate", "127-0-0-1"]).done();
    wait_for("what was held", || (posted(&app).len() == 1).then_some(()));
    // The name is taken by now, and what takes a provider's events is no webhook.
    assert_eq!(text(&on(&server, &create).json(), "name"), "127-0-0-1-2");
    let inbox = [
        "destination",
        "create",
        "inbox",
        "--url",
        &app.url(),
        "--source",
        "nylas",
        "--allow-private",
    ];
    on(&server, &inbox).done();
    let outbox = [
        "destination",
        "create",
        "own",
        "--url",
        &app.url(),
        "--allow-private",
        "--json",
    ];
    assert_eq!(on(&server, &outbox).json()["sources"], json!(["outbox"]));
    let listed = on(&server, &["webhook", "list", "--json"]).json();
    let names: Vec<&str> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|each| text(each, "name"))
        .collect();
    assert_eq!(names, ["127-0-0-1", "127-0-0-1-2", "own"]);
    let cut = on(&server, &["webhook", "list", "--json", "--limit", "2"]);
    assert!(cut.talk.contains("there are more"), "{}", cut.talk);
    assert_eq!(cut.json().as_array().map(Vec::len), Some(2));
}

/// Runs `event publish` on `server` with that on stdin.
fn publish_input(server: &Server, arguments: &[&str], input: &str) -> Said {
    Program::new(&[&["event", "publish"], arguments].concat())
        .environment("HOOKFAST_SERVER", &format!("http://{}", server.admin()))
        .environment("HOOKFAST_KEY", crate::support::server::ADMIN_KEY)
        .input(input.as_bytes())
        .run()
}

fn event(id: &str, kind: &str) -> String {
    json!({ "specversion": "1.0", "type": kind, "source": "/test", "id": id, "data": { "id": id } })
        .to_string()
}

#[test]
fn one_event_is_published_from_stdin_or_flags_and_again_it_is_a_repeat() {
    let server = Server::with("");
    let first = publish_input(&server, &["-", "--json"], &event("1", "message.created")).json();
    assert_eq!(
        (&first["repeat"], &first["deliveries"]),
        (&json!(false), &json!(0))
    );
    let again = publish_input(&server, &["-"], &event("1", "message.created")).done();
    assert!(
        again.contains(text(&first, "id")) && again.contains("repeat:     yes"),
        "{again}"
    );
    let drawn = ["--type", "grant.expired", "--source", "/test", "--json"];
    let drawn = [0, 1].map(|_| publish_input(&server, &drawn, "").json());
    assert!(
        drawn.iter().all(|each| each["repeat"] == json!(false)),
        "{drawn:?}"
    );
    for (arguments, input, cause) in [
        (
            &["-"] as &[&str],
            event("2", "mesage.created").as_str(),
            "did you mean `message.created`",
        ),
        (&["-"], event("1", "grant.expired").as_str(), "another content"),
        (&["-"], "{", "not JSON"),
        (&["-"], " \n", "stdin holds no event"),
        (&["absent.json"], "", "cannot read absent.json"),
        (
            &["--type", "grant.expired", "--source", "/x", "--event-data", "{x}"],
            "",
            "--event-data is not JSON",
        ),
        (
            &[
                "--type",
                "grant.expired",
                "--source",
                "/x",
                "--data",
                "{\"x\": 1}",
            ],
            "",
            "write the event's data as --event-data",
        ),
    ] {
        let said = publish_input(&server, arguments, input);
        assert_eq!((said.code, said.data.as_str()), (1, ""), "{arguments:?}");
        assert!(said.talk.contains(cause), "{cause}: {}", said.talk);
    }
}

#[test]
fn many_events_are_published_in_several_requests_and_those_refused_are_listed() {
    let server = Server::with("");
    let lines = |wrong: &str| {
        let good = (0..10_003).map(|number| event(&number.to_string(), "message.created"));
        let mut lines: Vec<String> = good.collect();
        lines.insert(1, wrong.to_owned());
        lines.insert(10_002, "{ broken".to_owned());
        lines.insert(2, String::new());
        lines.join("\n")
    };
    let said = publish_input(&server, &["-"], &lines(&event("x", "mesage.created")));
    assert_eq!(
        (said.code, said.data.as_str()),
        (1, "10003 stored, 0 repeats, 2 refused\n")
    );
    let refused: Vec<&str> = said.talk.lines().collect();
    assert_eq!(refused.len(), 2, "{refused:?}");
    assert!(refused[0].starts_with("line 2: refused with 422: ") && refused[0].contains("did you mean"));
    assert!(
        refused[1].starts_with("line 10004: refused with 422: "),
        "{}",
        refused[1]
    );

    let again = publish_input(&server, &["-", "--json"], &lines(""));
    let last = again.data.lines().last().unwrap();
    let last: Value = serde_json::from_str(last).unwrap();
    assert_eq!(
        (&last["line"], &last["repeat"]),
        (&json!(10_006), &json!(true)),
        "{last}"
    );
    assert_eq!(again.data.lines().count(), 10_004);
    let one = publish_input(&server, &["-", "--ndjson"], &event("0", "message.created")).done();
    assert_eq!(one, "0 stored, 1 repeats, 0 refused\n");
}

#[test]
fn several_who_publish_many_events_at_once_are_not_refused_for_each_other() {
    const PUBLISHERS: usize = 6;
    const EACH: usize = 2_000;
    let server = Server::with("");
    std::thread::scope(|scope| {
        let publishers: Vec<_> = (0..PUBLISHERS)
            .map(|publisher| {
                let server = &server;
                scope.spawn(move || {
                    let events =
                        (0..EACH).map(|number| event(&format!("{publisher}-{number}"), "message.created"));
                    let events: Vec<String> = events.collect();
                    publish_input(server, &["-"], &events.join("\n"))
                })
            })
            .collect();
        for publisher in publishers {
            let said = publisher.join().unwrap();
            assert_eq!(
                said.data,
                format!("{EACH} stored, 0 repeats, 0 refused\n"),
                "{}",
                said.talk
            );
        }
    });
}

#[test]
fn trigger_types_of_the_file_are_listed_published_and_tested_with_their_example() {
    let app = App::start();
    app.echo_challenges();
    let server = Server::with(&format!(
        "[[trigger]]\nname = \"invoice.paid\"\ndescription = \"Somebody has paid.\"\nexample = '{{\"total\": 100}}'\n\
         [[destination]]\nname = \"customer\"\nurl = \"{}\"\ntrigger_types = [\"invoice.*\"]\nallow_private = true\n",
        app.url()
    ));
    let listed = on(
        &server,
        &[
            "webhook",
            "triggers",
            "--of-server",
            "--category",
            "invoice",
            "--json",
        ],
    )
    .json();
    assert_eq!(
        (text(&listed[0], "name"), text(&listed[0], "origin")),
        ("invoice.paid", "file")
    );
    let tested = on(
        &server,
        &["destination", "test", "customer", "--trigger", "invoice.paid"],
    )
    .done();
    assert!(tested.starts_with("invoice.paid: answered 200 in "), "{tested}");
    assert_eq!(body(&posted(&app)[0])["data"], json!({ "total": 100 }));
    app.always(Reply::status(410));
    let failed = on(
        &server,
        &[
            "destination",
            "test",
            "customer",
            "--trigger",
            "invoice.paid",
            "--json",
        ],
    );
    assert_eq!(failed.code, 1);
    let failed: Value = serde_json::from_str(&failed.data).unwrap();
    assert_eq!(failed["status"], 410);

    let open = on(
        &server,
        &[
            "application",
            "create",
            "acme",
            "--preset",
            "none",
            "--open",
            "true",
            "--json",
        ],
    )
    .json();
    assert_eq!((&open["preset"], &open["open"]), (&Value::Null, &json!(true)));
    let closed = on(
        &server,
        &[
            "application",
            "update",
            "acme",
            "--preset",
            "nylas",
            "--open",
            "false",
        ],
    )
    .done();
    assert!(
        closed.contains("preset:  nylas") && closed.contains("open:    false"),
        "{closed}"
    );
    let renamed = on(
        &server,
        &["application", "update", "acme", "--name", "acme-inc", "--json"],
    )
    .json();
    assert_eq!(
        (text(&renamed, "name"), text(&renamed, "preset")),
        ("acme-inc", "nylas")
    );
}
