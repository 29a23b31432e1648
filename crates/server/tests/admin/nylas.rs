//! Webhooks in Nylas's shape, to the last byte that its SDKs look at (SPEC O12, O8, O13, O15).

use hookfast_engine::topology::{DestinationStatus, TopologyChange};
use ring::hmac;
use serde_json::{Value, json};

use crate::support::{Answer, Served};
use crate::world::{World, world};

/// The members that the models of Nylas's SDKs need, and one more that its documentation has.
const MEMBERS: [&str; 10] = [
    "compressed_delivery",
    "created_at",
    "description",
    "id",
    "notification_email_addresses",
    "status",
    "status_updated_at",
    "trigger_types",
    "updated_at",
    "webhook_url",
];

fn id_of(webhook: &Value) -> String {
    webhook["id"].as_str().unwrap().to_owned()
}

fn path_of(webhook: &Value) -> String {
    format!("/v3/webhooks/{}", webhook["id"].as_str().unwrap())
}

async fn create(world: &World, more: Value) -> Answer {
    let mut body = json!({"webhook_url": world.receiver.url("/hook"), "trigger_types": ["message.created"]});
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    world.served.post("/v3/webhooks", body).await
}

async fn put(served: &Served, webhook: &Value, body: Value) -> Answer {
    served.ask("PUT", &path_of(webhook)).json(&body).send().await
}

async fn list(served: &Served) -> Vec<Value> {
    served
        .get("/v3/webhooks")
        .await
        .nylas()
        .as_array()
        .unwrap()
        .clone()
}

/// Sets a status as only Hookfast itself does.
async fn set_status(served: &Served, webhook: &Value, status: DestinationStatus) {
    let topology = served.node.store.topology();
    let id = id_of(webhook).parse().unwrap();
    let mut destination = topology.destinations[&id].clone();
    destination.status = status;
    let changes = vec![TopologyChange::PutDestination(destination)];
    served.node.change_topology("test", changes).await.unwrap();
}

fn members(webhook: &Value) -> Vec<&str> {
    webhook.as_object().unwrap().keys().map(String::as_str).collect()
}

#[tokio::test]
async fn a_webhook_has_every_member_always_and_its_secret_only_where_it_was_just_made() {
    let world = world().await;
    let served = &world.served;
    let made = create(&world, json!({})).await.nylas();
    let secret = made["webhook_secret"].as_str().unwrap();
    assert_eq!(secret.len(), 20);
    let mut without_secret = made.clone();
    without_secret.as_object_mut().unwrap().remove("webhook_secret");
    assert_eq!(members(&without_secret), MEMBERS);
    let seconds = made["created_at"].as_i64().unwrap();
    assert!((seconds - served.now().as_secs()).abs() < 60, "{made}");
    for time in ["status_updated_at", "updated_at"] {
        assert_eq!(made[time], seconds, "{time}");
    }
    assert_eq!(
        (
            &made["status"],
            &made["description"],
            &made["compressed_delivery"]
        ),
        (&json!("active"), &json!(""), &json!(false))
    );
    assert_eq!(made["notification_email_addresses"], json!([]));

    assert_eq!(served.get(&path_of(&made)).await.nylas(), without_secret);
    assert!(list(served).await.contains(&without_secret));
    let put = put(served, &made, json!({"description": "crm"})).await.nylas();
    assert_eq!(members(&put), MEMBERS);
}

#[tokio::test]
async fn a_webhook_is_a_destination_of_what_the_application_publishes_with_nylas_rules() {
    let world = world().await;
    let served = &world.served;
    let asked = json!({"description": "crm", "notification_email_addresses": ["ops@example.test"],
        "compressed_delivery": true, "trigger_types": ["message.created", "grant.expired"], "later": {"sdk": 1}});
    let made = create(&world, asked).await.nylas();
    let path = format!("/api/v1/destinations/{}", id_of(&made));
    let destination = served.get(&path).await.expect(200);
    for (member, expected) in [
        ("kind", json!("push")),
        ("sources", json!(["outbox"])),
        ("signing", json!("nylas")),
        ("policy", json!("nylas")),
        ("timeout", json!("10s")),
        ("verify", json!(true)),
        ("status", json!("active")),
        ("description", json!("crm")),
        ("compressed", json!(true)),
        ("trigger_types", json!(["message.created", "grant.expired"])),
        ("notification_email_addresses", json!(["ops@example.test"])),
    ] {
        assert_eq!(destination[member], expected, "{member}");
    }
    let name = destination["name"].as_str().unwrap();
    let named = served
        .get(&format!("/api/v1/destinations/{name}"))
        .await
        .expect(200);
    assert_eq!(named["id"], made["id"]);
}

#[tokio::test]
async fn every_push_destination_of_the_outbox_is_listed_however_it_was_made_and_nothing_else() {
    let world = world().await;
    let served = &world.served;
    let url = world.receiver.url("/hook");
    let made = served
        .post(
            "/api/v1/destinations",
            json!({"name": "made-here", "url": url, "trigger_types": ["message.*"]}),
        )
        .await
        .expect(201);
    let pulled = served
        .post("/api/v1/destinations", json!({"name": "pulled"}))
        .await
        .expect(201);
    let listed = list(served).await;
    let ids: Vec<_> = listed.iter().map(id_of).collect();
    assert_eq!(ids, [world.own.webhook.clone(), id_of(&made)]);
    assert_eq!(listed[1]["trigger_types"], json!(["message.*"]));
    for id in [
        &id_of(&pulled),
        &world.own.push_id,
        "made-here",
        "dst_0",
        "%ff",
        "a b",
    ] {
        let path = format!("/v3/webhooks/{}", id.replace(' ', "%20"));
        served.get(&path).await.nylas_error(404, "70000");
    }
}

#[tokio::test]
async fn every_status_has_a_name_of_nylas_and_its_sdks_names_of_a_pause_are_all_taken() {
    let world = world().await;
    let served = &world.served;
    let made = create(&world, json!({})).await.nylas();
    for (status, name) in [
        (DestinationStatus::Failing, "failing"),
        (DestinationStatus::Failed, "failed"),
        (DestinationStatus::Paused, "pause"),
        (DestinationStatus::Unverified, "pause"),
        (DestinationStatus::Active, "active"),
    ] {
        set_status(served, &made, status).await;
        assert_eq!(served.get(&path_of(&made)).await.nylas()["status"], name);
    }
    for name in ["pause", "paused", "inactive"] {
        let paused = put(served, &made, json!({"status": name})).await.nylas();
        assert_eq!(paused["status"], "pause", "{name}");
        let again = put(served, &made, json!({"status": "active"})).await.nylas();
        assert_eq!(again["status"], "active");
    }
    for bad in ["failed", "Active", "x"] {
        let message = put(served, &made, json!({"status": bad})).await;
        let message = message.nylas_error(400, "invalid_request_error");
        assert_eq!(
            message,
            format!("status: `{bad}` cannot be asked for; write active or pause")
        );
    }
}

#[tokio::test]
async fn what_is_left_out_null_or_empty_does_not_overwrite() {
    let world = world().await;
    let served = &world.served;
    let asked = json!({"description": "crm", "notification_email_addresses": ["ops@example.test"]});
    let mut made = create(&world, asked).await.nylas();
    made.as_object_mut().unwrap().remove("webhook_secret");
    let nothing = json!({"description": "", "trigger_types": [], "webhook_url": "", "status": "",
        "notification_email_addresses": []});
    let null = json!({"description": null, "trigger_types": null, "webhook_url": null, "status": null,
        "notification_email_addresses": null, "compressed_delivery": null});
    for body in [json!({}), nothing, null] {
        let mut after = put(served, &made, body).await.nylas();
        after["updated_at"] = made["updated_at"].clone();
        assert_eq!(after, made);
    }
    let change = json!({"trigger_types": ["grant.expired"], "compressed_delivery": true});
    let after = put(served, &made, change).await.nylas();
    assert_eq!(after["trigger_types"], json!(["grant.expired"]));
    assert_eq!(
        (&after["compressed_delivery"], &after["description"]),
        (&json!(true), &json!("crm"))
    );
}

#[tokio::test]
async fn a_url_that_does_not_answer_its_challenge_is_not_kept() {
    let world = world().await;
    let served = &world.served;
    let made = create(&world, json!({})).await.nylas();
    world.receiver.refuse_challenges(true);
    let version = served.node.store.topology().version;
    let refused = "unable.verify.webhook_url : status is not ok, got 404";
    assert_eq!(create(&world, json!({})).await.nylas_error(400, "70005"), refused);
    let moved = json!({"webhook_url": world.receiver.url("/other"), "description": "moved"});
    assert_eq!(
        put(served, &made, moved.clone()).await.nylas_error(400, "70005"),
        refused
    );
    for (url, reason) in [
        ("", "input webhook url is empty"),
        ("http://127.0.0.1:9/", "not public"),
        ("https://10.0.0.1/", "not public"),
        ("https://localhost/", "not public"),
        ("https://169.254.169.254/", "metadata"),
        ("ftp://example.com/", "only https is called"),
        ("https://user:secret@example.com/", "a user or a password"),
        ("nowhere", "it is not a URL"),
    ] {
        let message = create(&world, json!({"webhook_url": url})).await;
        let message = message.nylas_error(400, "70005");
        assert!(message.starts_with("unable.verify.webhook_url : "), "{message}");
        assert!(
            message.contains(reason) && !message.contains("secret"),
            "{url}: {message}"
        );
        if !url.is_empty() {
            put(served, &made, json!({"webhook_url": url}))
                .await
                .nylas_error(400, "70005");
        }
    }
    let none = served
        .post("/v3/webhooks", json!({"trigger_types": ["message.created"]}))
        .await;
    none.nylas_error(400, "70005");
    assert_eq!(served.node.store.topology().version, version, "nothing is kept");

    world.receiver.refuse_challenges(false);
    let after = put(served, &made, moved).await.nylas();
    assert_eq!(after["webhook_url"], world.receiver.url("/other"));
}

#[tokio::test]
async fn a_challenge_is_asked_on_create_on_another_url_and_on_activation_and_at_no_other_time() {
    let world = world().await;
    let served = &world.served;
    let made = create(&world, json!({})).await.nylas();
    let mut asked = world.receiver.challenges();
    for (body, more) in [
        (json!({"description": "x"}), 0),
        (json!({"status": "active"}), 0),
        (json!({"webhook_url": made["webhook_url"]}), 0),
        (json!({"status": "pause"}), 0),
        (json!({"status": "active"}), 1),
        (json!({"webhook_url": world.receiver.url("/other")}), 1),
        (
            json!({"webhook_url": world.receiver.url("/third"), "status": "pause"}),
            1,
        ),
        (json!({"webhook_url": world.receiver.url("/hook")}), 1),
    ] {
        put(served, &made, body.clone()).await.nylas();
        asked += more;
        assert_eq!(world.receiver.challenges(), asked, "{body}");
    }
    // Another URL does not end a pause.
    assert_eq!(served.get(&path_of(&made)).await.nylas()["status"], "pause");
    for status in [
        DestinationStatus::Failing,
        DestinationStatus::Failed,
        DestinationStatus::Unverified,
    ] {
        set_status(served, &made, status).await;
        world.receiver.refuse_challenges(true);
        put(served, &made, json!({"status": "active"}))
            .await
            .nylas_error(400, "70005");
        assert_eq!(
            served.node.store.topology().destinations[&id_of(&made).parse().unwrap()].status,
            status
        );
        world.receiver.refuse_challenges(false);
        let active = put(served, &made, json!({"status": "active"})).await.nylas();
        assert_eq!(active["status"], "active");
    }
}

async fn publish(served: &Served, id: &str) {
    let event =
        json!({"specversion": "1.0", "type": "grant.expired", "source": "/test", "id": id, "data": {}});
    served.post("/api/v1/events", event).await.expect(202);
}

/// The states of the deliveries to a webhook, newest first.
async fn states(served: &Served, webhook: &Value) -> Vec<Value> {
    let path = format!("/api/v1/deliveries?destination={}", id_of(webhook));
    let deliveries = served.get(&path).await.expect(200);
    let data = deliveries["data"].as_array().unwrap().iter();
    data.map(|each| each["state"].clone()).collect()
}

#[tokio::test]
async fn what_was_held_is_given_up_on_activation_and_what_a_failing_one_waits_with_is_not() {
    let world = world().await;
    let served = &world.served;
    let made = create(&world, json!({"trigger_types": ["grant.expired"]}))
        .await
        .nylas();
    put(served, &made, json!({"status": "pause"})).await.nylas();
    publish(served, "held").await;
    assert_eq!(states(served, &made).await, ["held"]);
    // An activation that fails gives up nothing.
    world.receiver.refuse_challenges(true);
    put(served, &made, json!({"status": "active"}))
        .await
        .nylas_error(400, "70005");
    assert_eq!(states(served, &made).await, ["held"]);
    world.receiver.refuse_challenges(false);
    put(served, &made, json!({"status": "active"})).await.nylas();
    assert_eq!(states(served, &made).await, ["discarded"]);

    set_status(served, &made, DestinationStatus::Failing).await;
    publish(served, "waiting").await;
    put(served, &made, json!({"status": "active"})).await.nylas();
    assert_eq!(states(served, &made).await, ["pending", "discarded"]);
}

#[tokio::test]
async fn what_cannot_be_is_refused_with_what_to_write_instead() {
    let world = world().await;
    let served = &world.served;
    let made = create(&world, json!({})).await.nylas();
    for (body, expected) in [
        (
            json!({"trigger_types": ["mesage.created"]}),
            "did you mean `message.created`",
        ),
        (
            json!({"trigger_types": ["message.created.truncated"]}),
            "it comes with `message.created`",
        ),
        (
            json!({"trigger_types": "message.created"}),
            "trigger_types: invalid type",
        ),
        (
            json!({"notification_email_addresses": ["ops"]}),
            "`ops` is not an e-mail address",
        ),
        (
            json!({"compressed_delivery": "yes"}),
            "compressed_delivery: invalid type",
        ),
        (
            json!({"description": "x".repeat(1_001)}),
            "longer than 1000 characters",
        ),
    ] {
        for answer in [
            create(&world, body.clone()).await,
            put(served, &made, body.clone()).await,
        ] {
            let message = answer.nylas_error(400, "invalid_request_error");
            assert!(message.contains(expected), "{message}");
        }
    }
    let url = world.receiver.url("/hook");
    for body in [
        json!({"webhook_url": url}),
        json!({"webhook_url": url, "trigger_types": []}),
    ] {
        let message = served.post("/v3/webhooks", body).await;
        let message = message.nylas_error(400, "invalid_request_error");
        assert_eq!(
            message,
            "trigger_types: name at least one, such as message.created"
        );
    }
}

#[tokio::test]
async fn every_refusal_has_nylas_shape() {
    let world = world().await;
    let served = &world.served;
    let webhook = format!("/v3/webhooks/{}", world.own.webhook);
    let ask = |method: &str, path: &str| served.ask(method, path);
    let nobody = "/v3/webhooks/dst_0198f0c0000070008000000000000000";
    let cases = [
        (
            ask("GET", "/v3/webhooks").key(None),
            401,
            "api.authentication_error",
        ),
        (
            ask("GET", "/v3/webhooks").key(Some("hf_unknown")),
            401,
            "api.authentication_error",
        ),
        (ask("GET", "/v3").key(None), 401, "api.authentication_error"),
        (ask("GET", "/v3/webhooks").at_api(), 403, "admin-key-refused"),
        (
            ask("DELETE", &webhook).key(Some(&world.own.reader)),
            403,
            "scope-too-narrow",
        ),
        (
            ask("GET", &webhook).key(Some(&world.own.puller)),
            403,
            "scope-too-narrow",
        ),
        (ask("GET", "/v3/webhooks").of("nobody"), 404, "not-found"),
        (ask("GET", "/v3/nothing"), 404, "unknown-path"),
        (ask("GET", "/v3/webhooks/a/b/c"), 404, "unknown-path"),
        (ask("PATCH", &webhook), 405, "wrong-method"),
        (ask("GET", "/v3/webhooks/mock-payload"), 405, "wrong-method"),
        (
            ask("POST", "/v3/webhooks").raw("text/plain", "{}"),
            415,
            "unsupported-media-type",
        ),
        (
            ask("POST", "/v3/webhooks").raw("application/json", vec![b' '; 1_048_577]),
            413,
            "request-too-large",
        ),
        (
            ask("POST", "/v3/webhooks").raw("application/json", "{"),
            400,
            "invalid_request_error",
        ),
        (
            ask("PUT", &webhook).raw("application/json", ""),
            400,
            "invalid_request_error",
        ),
        (ask("GET", nobody), 404, "70000"),
        (ask("PUT", nobody).json(&json!({})), 400, "70000"),
        (ask("DELETE", nobody), 400, "70000"),
        (ask("POST", "/v3/webhooks/rotate-secret/x"), 400, "70000"),
        (ask("PUT", "/v3/webhooks/x/rotate-secret"), 400, "70000"),
        (
            ask("GET", "/v3/webhooks").header("host", "evil.example"),
            421,
            "host-not-allowed",
        ),
        (
            ask("POST", "/v3/webhooks")
                .of("*")
                .json(&json!({"webhook_url": "https://a.example/", "trigger_types": ["message.created"]})),
            400,
            "invalid_request_error",
        ),
    ];
    for (asking, status, kind) in cases {
        let message = asking.send().await.nylas_error(status, kind);
        if kind == "70000" {
            assert_eq!(message, "destination.id.not.found : record not found");
        }
    }
    let malformed = served
        .ask("POST", "/v3/webhooks")
        .raw("application/json", "{")
        .send()
        .await;
    let message = malformed.nylas_error(400, "invalid_request_error");
    assert!(message.starts_with("error parsing request body : "), "{message}");
    // Beside it, nothing has changed.
    served.get("/v34").await.problem(404, "unknown-path");
}

#[tokio::test]
async fn every_path_may_end_with_a_slash() {
    let world = world().await;
    let served = &world.served;
    let url = world.receiver.url("/hook");
    let body = json!({"webhook_url": url, "trigger_types": ["message.created"]});
    let made = served.post("/v3/webhooks/", body).await.nylas();
    let own = format!("{}/", path_of(&made));
    let id = id_of(&made);
    assert!(served.get("/v3/webhooks/").await.nylas().is_array());
    served.get("/v3/webhooks/?a=b").await.nylas();
    assert_eq!(served.get(&own).await.nylas()["id"], made["id"]);
    served.ask("PUT", &own).json(&json!({})).send().await.nylas();
    served
        .ask("POST", &format!("/v3/webhooks/rotate-secret/{id}/"))
        .send()
        .await
        .nylas();
    served
        .ask("PUT", &format!("{own}rotate-secret/"))
        .send()
        .await
        .nylas();
    served.get("/v3/webhooks/ip-addresses/").await.nylas();
    let mock = json!({"trigger_type": "grant.created"});
    served.post("/v3/webhooks/mock-payload/", mock).await.nylas();
    served
        .post("/v3/webhooks/send-test-event/", json!({"webhook_url": url}))
        .await
        .nylas();
    served.ask("DELETE", &own).send().await.nylas();
    served.get(&own).await.nylas_error(404, "70000");
}

#[tokio::test]
async fn a_secret_is_rotated_by_every_way_that_sdks_ask_for_it_and_a_body_of_a_deletion_is_passed_over() {
    let world = world().await;
    let served = &world.served;
    let made = create(&world, json!({})).await.nylas();
    let (post, put) = (
        format!("/v3/webhooks/rotate-secret/{}", id_of(&made)),
        format!("{}/rotate-secret", path_of(&made)),
    );
    let mut seen = vec![made["webhook_secret"].clone()];
    for asking in [
        served.ask("POST", &post),
        served.ask("POST", &post).raw("application/json", ""),
        served.ask("POST", &post).json(&json!({})),
        served.ask("PUT", &put),
        served.ask("PUT", &put).json(&json!({})),
    ] {
        let rotated = asking.send().await.nylas();
        assert_eq!(rotated["id"], made["id"]);
        assert!(!seen.contains(&rotated["webhook_secret"]), "{rotated}");
        assert_eq!(members(&rotated).len(), MEMBERS.len() + 1);
        seen.push(rotated["webhook_secret"].clone());
    }
    let deletion = served
        .ask("DELETE", &path_of(&made))
        .json(&json!({}))
        .send()
        .await;
    assert_eq!(deletion.nylas(), json!({"status": "success"}));
    served
        .ask("DELETE", &path_of(&made))
        .send()
        .await
        .nylas_error(400, "70000");
}

#[tokio::test]
async fn one_applications_key_sees_and_changes_nothing_of_anothers_webhooks() {
    let world = world().await;
    let (served, own, other) = (&world.served, &world.own, &world.other);
    let topology = served.node.store.topology();
    let theirs = format!("/v3/webhooks/{}", other.webhook);
    for key in [&own.writer, &own.reader] {
        let listed = served
            .ask("GET", "/v3/webhooks")
            .key(Some(key))
            .at_api()
            .send()
            .await;
        let listed = listed.nylas();
        assert_eq!(listed.as_array().unwrap().len(), 1);
        assert_eq!(listed[0]["id"], own.webhook);
        // The header moves admin keys alone.
        let moved = served.ask("GET", &theirs).of("other").key(Some(key)).send().await;
        moved.nylas_error(404, "70000");
    }
    let key = Some(own.writer.as_str());
    for asking in [
        served.ask("PUT", &theirs).json(&json!({"description": "mine"})),
        served.ask("PUT", &theirs).json(&json!({"status": "pause"})),
        served.ask("DELETE", &theirs),
        served.ask("POST", &format!("/v3/webhooks/rotate-secret/{}", other.webhook)),
        served.ask("PUT", &format!("{theirs}/rotate-secret")),
    ] {
        asking.key(key).send().await.nylas_error(400, "70000");
    }
    assert_eq!(*served.node.store.topology(), *topology);
    let admin = served.ask("GET", "/v3/webhooks").of("other").send().await.nylas();
    assert_eq!(
        (admin[0]["id"].as_str().unwrap(), admin.as_array().unwrap().len()),
        (other.webhook.as_str(), 1)
    );
    served.get(&theirs).await.nylas_error(404, "70000");
}

#[tokio::test]
async fn the_api_listener_takes_keys_of_an_application_for_all_of_it() {
    let world = world().await;
    let (served, own) = (&world.served, &world.own);
    let ask = |method: &str, path: &str| served.ask(method, path).at_api().key(Some(&own.writer));
    let body = json!({"webhook_url": own.receiver, "trigger_types": ["message.created"]});
    let made = ask("POST", "/v3/webhooks").json(&body).send().await.nylas();
    ask("PUT", &path_of(&made))
        .json(&json!({"status": "pause"}))
        .send()
        .await
        .nylas();
    ask("POST", &format!("/v3/webhooks/rotate-secret/{}", id_of(&made)))
        .send()
        .await
        .nylas();
    ask("DELETE", &path_of(&made)).send().await.nylas();
}

#[tokio::test]
async fn a_url_that_an_administrator_let_be_private_is_moved_by_nobody_else() {
    let world = world().await;
    let (served, own) = (&world.served, &world.own);
    let made = served
        .post(
            "/api/v1/destinations",
            json!({"name": "private", "url": "http://127.0.0.1:9/", "allow_private": true, "verify": false}),
        )
        .await
        .expect(201);
    let moved = served
        .ask("PUT", &path_of(&made))
        .key(Some(&own.writer))
        .json(&json!({"webhook_url": "http://127.0.0.1:10/"}))
        .send()
        .await;
    moved.nylas_error(403, "scope-too-narrow");
}

#[tokio::test]
async fn the_addresses_of_deliveries_are_those_of_the_settings() {
    let world = world().await;
    let addresses = world.served.get("/v3/webhooks/ip-addresses").await.nylas();
    assert_eq!(addresses["ip_addresses"], json!(["192.0.2.10"]));
    let updated_at = addresses["updated_at"].as_i64().unwrap();
    assert!((updated_at - world.served.now().as_secs()).abs() < 60);
}

#[tokio::test]
async fn a_mock_payload_is_a_whole_notification_of_any_known_type() {
    let world = world().await;
    let served = &world.served;
    for trigger in [
        "message.created",
        "grant.expired",
        "message.created.truncated",
        "notetaker.media",
    ] {
        let payload = served
            .post("/v3/webhooks/mock-payload", json!({"trigger_type": trigger}))
            .await
            .nylas();
        assert_eq!(
            (&payload["type"], &payload["specversion"]),
            (&json!(trigger), &json!("1.0"))
        );
        assert_eq!(payload["webhook_delivery_attempt"], 1);
        assert!(payload["data"]["object"].is_object(), "{payload}");
        assert_eq!(payload["data"]["application_id"], world.own.application.as_str());
    }
    for (body, expected) in [
        (
            json!({"trigger_type": "mesage.created"}),
            "did you mean `message.created`",
        ),
        (json!({}), "trigger_type: name one"),
    ] {
        let message = served.post("/v3/webhooks/mock-payload", body).await;
        let message = message.nylas_error(400, "invalid_request_error");
        assert!(message.contains(expected), "{message}");
    }
}

#[tokio::test]
async fn a_test_event_is_signed_with_the_documented_secret_and_only_its_200_is_a_success() {
    let world = world().await;
    let served = &world.served;
    let send = |body: Value| served.post("/v3/webhooks/send-test-event", body);
    let url = world.receiver.url("/hook");
    let sent = send(json!({"webhook_url": url, "trigger_type": "grant.expired"}))
        .await
        .nylas();
    assert_eq!(sent, "success");
    send(json!({"webhook_url": url})).await.nylas();
    let posted = world.receiver.posted();
    let types: Vec<Value> = posted
        .iter()
        .map(|(_, body)| serde_json::from_slice::<Value>(body).unwrap()["type"].clone())
        .collect();
    assert_eq!(types, ["grant.expired", "message.created"]);
    for (headers, body) in &posted {
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"mock-webhook-secret");
        let expected: String = hmac::sign(&key, body)
            .as_ref()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(headers["x-nylas-signature"], expected.as_str());
    }
    let refused = send(json!({"webhook_url": world.receiver.url("/500")})).await;
    let message = refused.nylas_error(400, "invalid_request_error");
    assert!(
        message.starts_with("webhook_url: status is not ok, got 500 after "),
        "{message}"
    );
    for (url, expected) in [
        ("http://127.0.0.1:9/", "not public"),
        ("http://127.0.0.2:1/", "refused"),
        ("", "webhook_url: name the URL"),
    ] {
        let message = send(json!({"webhook_url": url})).await;
        let message = message.nylas_error(400, "invalid_request_error");
        assert!(message.contains(expected), "{url}: {message}");
    }
    let own = send(json!({"webhook_url": format!("http://{}/hook", served.admin)})).await;
    own.nylas_error(400, "invalid_request_error");
    assert_eq!(world.receiver.posted().len(), 3);
}
