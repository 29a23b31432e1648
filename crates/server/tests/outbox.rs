//! Owns the proof that the binary sends webhooks as promised (SPEC O1 to O5, O8, O10, O15): publishing, repeats,
//! challenges, signatures, policies, truncation, restarts. It must not know how.

mod support;

use base64::Engine;
use base64::prelude::BASE64_STANDARD as BASE64;
use ring::signature::{ED25519, UnparsedPublicKey};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

use support::api::text;
use support::app::{App, Received, Reply};
use support::http::{self, Answer};
use support::nylas::sign;
use support::server::{ADMIN_KEY, Server};
use support::time::{wait_for, wait_within};

/// Loopback is called as if it were public, and three attempts take no minutes.
const CONFIG: &str = r#"
[outbox]
allowed_networks = ["127.0.0.0/8"]

[policy.hasty]
base = "nylas"
delays = ["100ms", "300ms"]
retry_after_longest = "3s"

[policy.once-more]
base = "standard"
delays = ["100ms"]
"#;

/// An application that answers the challenge, and everything else as `answer` says.
fn receiver(mut answer: impl FnMut(&Received) -> Reply + Send + 'static) -> App {
    let app = App::start();
    app.answer(move |request| match challenge(request) {
        Some(value) => Reply::status(200).body(value),
        None => answer(request),
    });
    app
}

fn challenge(request: &Received) -> Option<String> {
    let (_, query) = request.path.split_once('?')?;
    let value = query.strip_prefix("challenge=")?;
    (request.method == "GET").then(|| value.to_owned())
}

/// What was posted to it.
fn posts(app: &App) -> Vec<Received> {
    let received = app.received().into_iter();
    received.filter(|request| request.method == "POST").collect()
}

fn wait_for_posts(app: &App, count: usize) -> Vec<Received> {
    wait_for(&format!("{count} posts"), || {
        let posts = posts(app);
        (posts.len() >= count).then_some(posts)
    })
}

fn event(id: &str, kind: &str, data: &Value) -> Value {
    json!({
        "specversion": "1.0",
        "type": kind,
        "source": "/google/emails/realtime",
        "id": id,
        "time": "2026-11-28T10:00:00Z",
        "data": data,
    })
}

fn message(id: &str) -> Value {
    event(
        id,
        "message.created",
        &json!({"object": {"id": id, "object": "message"}}),
    )
}

fn publish(server: &Server, event: &Value) -> Value {
    server.order("/api/v1/events", event)
}

fn publish_raw(server: &Server, media_type: &str, body: &[u8]) -> Answer {
    let key = format!("Bearer {ADMIN_KEY}");
    let headers = [("authorization", key.as_str()), ("content-type", media_type)];
    http::request(server.admin(), "POST", "/api/v1/events", &headers, body)
}

/// Makes a destination with these further settings; its answer, with the secret.
fn destination(server: &Server, name: &str, app: &App, more: &Value) -> Value {
    let mut asked = json!({"name": name, "url": app.url(), "trigger_types": ["message.*"]});
    let (asked_fields, more) = (asked.as_object_mut().expect("an object"), more.as_object());
    asked_fields.extend(more.expect("an object").clone());
    server.order("/api/v1/destinations", &asked)
}

fn body(request: &Received) -> Value {
    serde_json::from_slice(&request.body).expect("a notification is JSON")
}

#[test]
fn what_is_published_arrives_in_the_form_of_nylas_signed_over_the_bytes_that_went_out() {
    let server = Server::with(CONFIG);
    let app = receiver(|_| Reply::status(200));
    let made = destination(&server, "crm", &app, &json!({"signing": "nylas"}));
    assert_eq!(
        (&made["status"], &made["policy"]),
        (&json!("active"), &json!("nylas"))
    );
    let secret = text(&made["secret"]);
    assert_eq!(secret.len(), 20);

    let accepted = publish(&server, &message("one"));
    assert_eq!(
        (&accepted["repeat"], &accepted["deliveries"]),
        (&json!(false), &json!(1))
    );
    let posted = wait_for_posts(&app, 1).remove(0);
    assert_eq!(
        posted.header("x-nylas-signature"),
        Some(sign(secret, &posted.body).as_str())
    );
    assert_eq!(posted.header("content-type"), Some("application/json"));
    assert_eq!(posted.header("webhook-signature"), None);
    assert_eq!(
        String::from_utf8(posted.body).expect("text"),
        r#"{"specversion":"1.0","type":"message.created","source":"/google/emails/realtime","id":"one","time":1795860000,"webhook_delivery_attempt":1,"data":{"object":{"id":"one","object":"message"}}}"#
    );
    let patched = server.call(
        "PATCH",
        "/api/v1/destinations/crm",
        Some(&json!({"compressed": true})),
    );
    assert_eq!(patched.status, 200, "{}", patched.text());
    publish(&server, &message("two"));
    let packed = wait_for_posts(&app, 2).remove(1);
    assert_eq!(packed.header("content-encoding"), Some("gzip"));
    assert_eq!(packed.body[..2], [0x1f, 0x8b]);
    assert_eq!(
        packed.header("x-nylas-signature"),
        Some(sign(secret, &packed.body).as_str())
    );
}

#[test]
fn the_same_event_again_is_delivered_once_and_another_content_under_its_id_is_a_conflict() {
    let server = Server::with(CONFIG);
    let app = receiver(|_| Reply::status(200));
    destination(&server, "crm", &app, &json!({}));
    let first = publish(&server, &message("one"));
    let again = publish(&server, &message("one"));
    assert_eq!((&again["id"], &again["repeat"]), (&first["id"], &json!(true)));
    let mut other = message("one");
    other["data"]["object"]["subject"] = json!("changed");
    let conflict = server.call("POST", "/api/v1/events", Some(&other));
    assert_eq!(conflict.status, 409, "{}", conflict.text());
    assert!(conflict.text().contains(text(&first["id"])));
    // Another source's id is another id.
    other["source"] = json!("/microsoft/emails/realtime");
    assert_eq!(publish(&server, &other)["repeat"], false);
    server.wait_for_delivered(2);
    assert_eq!(posts(&app).len(), 2);
}

#[test]
fn of_many_events_each_line_has_its_own_answer_and_the_good_ones_are_kept() {
    let server = Server::with(CONFIG);
    let app = receiver(|_| Reply::status(200));
    destination(&server, "crm", &app, &json!({}));
    let lines = [
        message("a").to_string(),
        "{\"specversion\":\"1.0\"".to_owned(),
        event("b", "mesage.created", &json!({})).to_string(),
        message("a").to_string(),
        String::new(),
        message("c").to_string(),
    ];
    let answer = publish_raw(&server, "application/x-ndjson", lines.join("\n").as_bytes());
    assert_eq!(answer.status, 207);
    let results: Vec<Value> = answer
        .text()
        .lines()
        .map(|line| serde_json::from_str(line).expect("a line is JSON"))
        .collect();
    let statuses: Vec<_> = results.iter().map(|result| result["status"].as_u64()).collect();
    assert_eq!(statuses, [202, 422, 422, 202, 202].map(Some));
    assert!(
        text(&results[2]["detail"]).contains("message.created"),
        "{}",
        results[2]
    );
    assert_eq!(results[0]["id"], results[3]["id"]);
    server.wait_for_delivered(2);

    let all_good = [message("d").to_string(), message("e").to_string()].join("\n");
    let answer = publish_raw(&server, "application/x-ndjson", all_good.as_bytes());
    assert_eq!(answer.status, 202);
    server.wait_for_delivered(4);
}

#[test]
fn what_cannot_be_published_is_refused_with_its_reason() {
    let server = Server::with(CONFIG);
    let check = |media_type, body: &[u8], status, part: &str| {
        let answer = publish_raw(&server, media_type, body);
        assert_eq!(answer.status, status, "{}", answer.text());
        assert!(answer.text().contains(part), "{}", answer.text());
    };
    let json = "application/json";
    check("text/plain", b"{}", 415, "application/cloudevents+json");
    check(json, b"nonsense", 422, "not JSON");
    check(
        json,
        br#"{"specversion":"1.0","type":"message.created","source":"/a"}"#,
        422,
        "`id` is missing",
    );
    let unknown = event("a", "message.creatd", &json!({})).to_string();
    check(json, unknown.as_bytes(), 422, "did you mean `message.created`");
    check("application/x-ndjson", b"\n\n", 400, "from 1 to 10000");
    let none = server.list("/api/v1/events");
    assert!(none.is_empty(), "{none:?}");
}

#[test]
fn a_destination_that_does_not_answer_the_challenge_gets_nothing_until_it_does() {
    let server = Server::with(CONFIG);
    let app = App::start();
    app.always(Reply::status(200).body("\"not it\""));
    let made = destination(&server, "crm", &app, &json!({}));
    assert_eq!(made["status"], "unverified");
    let reason = text(&made["status_reason"]);
    assert!(reason.contains("got `\\\"not it\\\"`"), "{reason}");
    assert_eq!(publish(&server, &message("one"))["deliveries"], 1);
    server.wait_for_state("one", "held");

    let again = server.call("POST", "/api/v1/destinations/crm/reactivate", None);
    assert_eq!(again.status, 409, "{}", again.text());
    assert!(again.text().contains("challenge-failed"));
    app.answer(|request| match challenge(request) {
        Some(value) => Reply::status(200).body(value),
        None => Reply::status(200),
    });
    let back = server.order("/api/v1/destinations/crm/reactivate", &json!({}));
    assert_eq!(back["status"], "active");
    server.wait_for_state("one", "delivered");
    assert_eq!(posts(&app).len(), 1);

    // Another URL must answer too.
    let silent = App::start();
    silent.always(Reply::status(404));
    let moved = server.call(
        "PATCH",
        "/api/v1/destinations/crm",
        Some(&json!({"url": silent.url()})),
    );
    assert_eq!(moved.json()["status"], "unverified", "{}", moved.text());
    assert!(text(&moved.json()["status_reason"]).contains("got 404"));
}

#[test]
fn each_policy_tries_as_often_as_it_says() {
    let server = Server::with(CONFIG);
    let table = [
        (500, "hasty", "rejected", 1),
        (503, "hasty", "dead", 3),
        (204, "hasty", "rejected", 1),
        (404, "hasty", "rejected", 1),
        (429, "hasty", "dead", 3),
        (204, "once-more", "delivered", 1),
        (500, "once-more", "dead", 2),
        (410, "once-more", "rejected", 1),
    ];
    let apps: Vec<(App, String)> = table
        .iter()
        .map(|&(status, policy, _, _)| {
            let app = receiver(move |_| Reply::status(status));
            let name = format!("{policy}-{status}");
            let kind = format!("message.{}", if status == 204 { "updated" } else { "created" });
            let more = json!({"policy": policy, "trigger_types": [kind], "signing": "nylas"});
            destination(&server, &name, &app, &more);
            (app, name)
        })
        .collect();
    publish(&server, &message("one"));
    publish(&server, &event("two", "message.updated", &json!({})));
    for (&(status, policy, state, attempts), (app, name)) in table.iter().zip(&apps) {
        let path = format!("/api/v1/deliveries?destination={name}");
        let delivery = wait_for(&format!("{name} to be {state}"), || {
            let listed = server.list(&path);
            listed.into_iter().find(|delivery| delivery["state"] == state)
        });
        assert_eq!(delivery["attempts"], attempts, "{policy} {status}");
        let numbers: Vec<u64> = posts(app)
            .iter()
            .filter_map(|post| body(post)["webhook_delivery_attempt"].as_u64())
            .collect();
        assert_eq!(numbers, (1..=attempts).collect::<Vec<_>>(), "{policy} {status}");
    }
}

#[test]
fn a_destination_that_asks_for_time_gets_it_within_the_bound_of_its_policy() {
    let server = Server::with(CONFIG);
    let asks = |seconds: &'static str| {
        let mut first = true;
        receiver(move |_| {
            if std::mem::take(&mut first) {
                Reply::status(429).header("retry-after", seconds)
            } else {
                Reply::status(200)
            }
        })
    };
    let (within, beyond) = (asks("2"), asks("3600"));
    destination(&server, "within", &within, &json!({"policy": "hasty"}));
    destination(&server, "beyond", &beyond, &json!({"policy": "hasty"}));
    publish(&server, &message("one"));
    let waited = |app: &App| {
        let posts = wait_for_posts(app, 2);
        posts[1].at.duration_since(posts[0].at)
    };
    let (waited_within, waited_beyond) = (waited(&within), waited(&beyond));
    let two_seconds = Duration::from_millis(1_950)..Duration::from_secs(4);
    assert!(two_seconds.contains(&waited_within), "{waited_within:?}");
    // `retry_after_longest` is three seconds there.
    let three_seconds = Duration::from_millis(2_950)..Duration::from_secs(6);
    assert!(three_seconds.contains(&waited_beyond), "{waited_beyond:?}");
    server.wait_for_delivered(2);
}

#[test]
fn an_answer_that_takes_longer_than_ten_seconds_is_tried_again() {
    let server = Server::with(CONFIG);
    let mut first = true;
    let app = receiver(move |_| {
        let delay = if std::mem::take(&mut first) { 12 } else { 0 };
        Reply::status(200).after(Duration::from_secs(delay))
    });
    destination(&server, "crm", &app, &json!({"policy": "hasty"}));
    publish(&server, &message("one"));
    let posts = wait_within(Duration::from_secs(20), "a second attempt", || {
        let posts = posts(&app);
        (posts.len() == 2).then_some(posts)
    });
    let between = posts[1].at.duration_since(posts[0].at);
    let ten_seconds = Duration::from_secs(10)..Duration::from_millis(11_900);
    assert!(ten_seconds.contains(&between), "{between:?}");
    let delivery = server.wait_for_state("one", "delivered");
    assert_eq!(delivery["attempts"], 2);
    let path = format!("/api/v1/deliveries/{}", text(&delivery["id"]));
    assert_eq!(server.get(&path)["attempt_log"][0]["outcome"], "timed_out");
}

#[test]
fn a_private_key_signs_so_that_its_public_key_alone_checks_it() {
    // The first test key of RFC 8032.
    const PRIVATE: &str =
        "whsk_nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2DXWpgBgrEKt9VL/tPJZAc6DuFy89qmIyWvAhpo9wdRGg==";
    const PUBLIC: &str = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
    let server = Server::with(CONFIG);
    let app = receiver(|_| Reply::status(200));
    destination(&server, "crm", &app, &json!({"secret": PRIVATE}));
    publish(&server, &message("one"));
    let posted = wait_for_posts(&app, 1).remove(0);
    let signature = posted.header("webhook-signature").expect("signed");
    let signature = signature.strip_prefix("v1a,").expect("signed by v1a");
    let timestamp = posted.header("webhook-timestamp").expect("timed");
    let signed = [format!("one.{timestamp}.").as_bytes(), &posted.body].concat();
    let decode = |text| BASE64.decode(text).expect("base64");
    UnparsedPublicKey::new(&ED25519, decode(PUBLIC))
        .verify(&signed, &decode(signature))
        .expect("the signature of what was sent");
}

#[test]
fn a_rotated_secret_signs_beside_the_old_one_where_the_form_has_room_for_both() {
    let server = Server::with(CONFIG);
    let app = receiver(|_| Reply::status(200));
    let made = destination(&server, "crm", &app, &json!({"signing": "both"}));
    let rotated = server.order("/api/v1/destinations/crm/rotate-secret", &json!({}));
    let (old, new) = (text(&made["secret"]), text(&rotated["secret"]));
    assert_ne!(old, new);
    publish(&server, &message("one"));
    let posted = wait_for_posts(&app, 1).remove(0);
    assert_eq!(
        posted.header("x-nylas-signature"),
        Some(sign(new, &posted.body).as_str())
    );
    let signatures = posted.header("webhook-signature").expect("signed");
    assert_eq!(signatures.split(' ').count(), 2, "{signatures}");
    assert_eq!(posted.webhook_id(), "one");
}

#[test]
fn a_message_over_the_limit_goes_out_truncated_and_any_other_type_is_refused() {
    let server = Server::with(CONFIG);
    let app = receiver(|_| Reply::status(200));
    destination(
        &server,
        "crm",
        &app,
        &json!({"signing": "nylas", "trigger_types": ["message.created", "event.created"]}),
    );
    // The notification around an empty text is measured, so that its size can be made exactly.
    let sized = |id: &str, kind: &str, bytes: usize| {
        let around = r#"{"specversion":"1.0","type":"","source":"/google/emails/realtime","id":"","time":1795860000,"webhook_delivery_attempt":1,"data":{"object":{"body":"","id":"x"}}}"#;
        let text = "x".repeat(bytes - around.len() - id.len() - kind.len());
        event(id, kind, &json!({"object": {"body": text, "id": "x"}}))
    };
    publish(&server, &sized("fits", "message.created", 1_000_000));
    publish(&server, &sized("over", "message.created", 1_000_001));
    publish(&server, &sized("event-fits", "event.created", 1_000_000));
    let refused = server.call(
        "POST",
        "/api/v1/events",
        Some(&sized("event-over", "event.created", 1_000_001)),
    );
    assert_eq!(refused.status, 413, "{}", refused.text());
    assert!(refused.text().contains("1000001 bytes"), "{}", refused.text());
    server.wait_for_delivered(3);
    let sent: BTreeMap<String, (usize, Value)> = posts(&app)
        .iter()
        .map(|post| (text(&body(post)["id"]).to_owned(), (post.body.len(), body(post))))
        .collect();
    assert_eq!(sent["fits"].0, 1_000_000);
    assert_eq!(sent["fits"].1["type"], "message.created");
    assert_eq!(sent["event-fits"].0, 1_000_000);
    assert_eq!(sent["over"].1["type"], "message.created.truncated");
    assert_eq!(sent["over"].1["data"]["object"], json!({"id": "x"}));
}

#[test]
fn what_was_answered_202_is_delivered_after_a_kill_and_a_retry_keeps_its_count() {
    let mut server = Server::with(CONFIG);
    let app = receiver(|_| Reply::status(503));
    destination(
        &server,
        "crm",
        &app,
        &json!({"policy": "standard", "signing": "nylas"}),
    );
    for number in 0..50 {
        publish(&server, &message(&format!("m{number}")));
    }
    wait_for_posts(&app, 1);
    server.kill();
    app.answer(|request| match challenge(request) {
        Some(value) => Reply::status(200).body(value),
        None => Reply::status(200),
    });
    server.start();
    wait_within(Duration::from_secs(30), "all to be delivered", || {
        (server.states().get("delivered") == Some(&50)).then_some(())
    });
    let highest = posts(&app)
        .iter()
        .filter_map(|post| body(post)["webhook_delivery_attempt"].as_u64())
        .max();
    assert_eq!(highest, Some(2), "an attempt that was lost is not counted");
}

#[test]
fn a_test_event_is_sent_as_a_delivery_would_be_and_stored_nowhere() {
    let server = Server::with(CONFIG);
    let app = receiver(|_| Reply::status(418).body("short and stout"));
    let made = destination(&server, "crm", &app, &json!({"signing": "nylas"}));
    let asked = json!({"trigger_type": "message.bounce_detected"});
    let tested = server.order("/api/v1/destinations/crm/test", &asked);
    assert_eq!(
        (&tested["status"], &tested["success"]),
        (&json!(418), &json!(false))
    );
    assert_eq!(tested["response_body"], "short and stout");
    let posted = posts(&app).remove(0);
    assert_eq!(body(&posted)["type"], "message.bounce_detected");
    assert_eq!(
        posted.header("x-nylas-signature"),
        Some(sign(text(&made["secret"]), &posted.body).as_str())
    );
    assert!(server.list("/api/v1/events").is_empty());
}

#[test]
fn an_application_knows_the_types_it_was_given() {
    let server = Server::with(CONFIG);
    server.order("/api/v1/applications", &json!({"name": "shop", "preset": ""}));
    let key = server.order(
        "/api/v1/keys",
        &json!({"name": "shop", "scope": "application", "application": "shop"}),
    );
    let ask = |method: &str, path: &str, body: &Value| {
        server.call_with(text(&key["key"]), method, path, Some(body))
    };
    let paid =
        json!({"name": "invoice.paid", "description": "an invoice was paid", "example": {"amount": 7}});
    let refused = ask("POST", "/api/v1/events", &event("1", "invoice.paid", &json!({})));
    assert_eq!(refused.status, 422, "{}", refused.text());
    assert_eq!(ask("POST", "/api/v1/event-types", &paid).status, 201);
    assert_eq!(ask("POST", "/api/v1/event-types", &paid).status, 409);
    let accepted = ask("POST", "/api/v1/events", &event("1", "invoice.paid", &json!({})));
    assert_eq!(accepted.status, 202, "{}", accepted.text());
    let shown = ask("GET", "/api/v1/event-types/invoice.paid", &Value::Null);
    assert_eq!(shown.json()["example"], json!({"amount": 7}));
    assert_eq!(
        ask("DELETE", "/api/v1/event-types/invoice.paid", &Value::Null).status,
        204
    );
    assert_eq!(
        ask("GET", "/api/v1/event-types/invoice.paid", &Value::Null).status,
        404
    );
    // The application `default` knows those of Nylas, and nothing of the other's.
    let names = server.list("/api/v1/event-types");
    assert!(names.iter().any(|each| each["name"] == "message.created"));
    assert!(names.iter().all(|each| each["name"] != "invoice.paid"));
}

#[test]
fn no_url_leads_the_outbox_to_an_address_that_is_not_public() {
    let server = Server::with("");
    let inner = App::start();
    let key = server.order(
        "/api/v1/keys",
        &json!({"name": "customer", "scope": "application", "application": "default"}),
    );
    let ask = |method: &str, path: &str, body: &Value| {
        server.call_with(text(&key["key"]), method, path, Some(body))
    };
    let port = inner.address().port();
    let (loopback, disguise, user) = ("loopback", "another way to write", "user");
    for (url, cause) in [
        (format!("https://127.0.0.1:{port}/"), loopback),
        (format!("https://[::ffff:127.0.0.1]:{port}/"), "IPv4-mapped"),
        (format!("https://[::1]:{port}/"), loopback),
        (format!("https://localhost:{port}/"), "not public"),
        (
            format!("https://[64:ff9b::127.0.0.1]:{port}/"),
            "inside an IPv6 address",
        ),
        (format!("https://2130706433:{port}/"), disguise),
        (format!("https://0177.0.0.1:{port}/"), disguise),
        (format!("https://0x7f.1:{port}/"), disguise),
        (format!("https://example.com@127.0.0.1:{port}/"), user),
        (
            "https://169.254.169.254/latest/meta-data/".to_owned(),
            "metadata service",
        ),
        (format!("http://example.com:{port}/"), "https"),
        ("https://abc.ngrok.io/".to_owned(), "ngrok"),
    ] {
        let asked = json!({"name": "inner", "url": url, "trigger_types": ["message.*"]});
        let refused = ask("POST", "/api/v1/destinations", &asked);
        assert_eq!(refused.status, 422, "{url}: {}", refused.text());
        assert!(refused.text().contains(cause), "{url}: {}", refused.text());
        let asked = json!({"trigger_types": ["message.created"], "webhook_url": url});
        let refused = ask("POST", "/v3/webhooks", &asked);
        assert_eq!(refused.status, 400, "{url}: {}", refused.text());
    }
    assert_eq!(inner.received().len(), 0);
}

#[test]
fn a_redirect_is_an_answer_like_any_other_and_is_not_followed() {
    let server = Server::with(CONFIG);
    let inner = App::start();
    let target = inner.url();
    let app = receiver(move |_| Reply::status(307).header("location", &target));
    destination(&server, "crm", &app, &json!({"policy": "nylas"}));
    publish(&server, &message("one"));
    let delivery = server.wait_for_state("one", "rejected");
    assert!(delivery.to_string().contains("307"), "{delivery}");
    // Nor by the challenge.
    let target = inner.url();
    app.answer(move |_| Reply::status(302).header("location", &target));
    let moved = destination(&server, "moved", &app, &json!({}));
    assert_eq!(moved["status"], "unverified");
    assert!(text(&moved["status_reason"]).contains("302"), "{moved}");
    assert_eq!(inner.received().len(), 0);
}
