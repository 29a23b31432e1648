//! What is set up and what is shown: sources, destinations, events, deliveries, quarantine, problems.

use std::slice::from_ref;
use std::time::Duration;

use hookfast_engine::outcome::Outcome;
use hookfast_engine::topology::{Destination, Origin, Topology, TopologyChange};
use hookfast_store::memory::Fault;
use hookfast_store::{Attempt, AttemptEnd, Claim, Store, Unavailable};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{ADMIN_KEY, DEFAULT, PATIENCE, serve};
use crate::world::{BODY, append, headers, world};

/// The destination of that name in the application that is there from the start.
fn destination_named<'a>(topology: &'a Topology, name: &str) -> &'a Destination {
    let mut live = topology.live_destinations();
    live.find(|each| each.application == DEFAULT && each.name == name)
        .unwrap()
}

#[tokio::test]
async fn unknown_fields_are_named_with_the_nearest_known_one() {
    let served = serve().await;
    let detail = served
        .post(
            "/api/v1/sources",
            json!({"name": "a", "provider": "nylas", "secret": []}),
        )
        .await;
    assert_eq!(
        detail.problem(422, "unknown-field"),
        "there is no field `secret`; did you mean `secrets`"
    );
    let detail = served
        .post("/api/v1/destinations", json!({"name": "a", "triger_types": []}))
        .await;
    assert!(
        detail
            .problem(422, "unknown-field")
            .ends_with("did you mean `trigger_types`")
    );
    let detail = served.get("/api/v1/events?sorce=a").await;
    assert!(
        detail
            .problem(422, "unknown-field")
            .ends_with("did you mean `source`")
    );
    let detail = served
        .post("/api/v1/sources", json!({"name": "a", "provider": "nyles"}))
        .await;
    assert!(
        detail
            .problem(422, "invalid-field")
            .ends_with("did you mean `nylas`")
    );
    let detail = served
        .post("/api/v1/destinations", json!({"name": "a", "policy": "inbx"}))
        .await;
    assert!(
        detail
            .problem(422, "invalid-field")
            .ends_with("did you mean `inbox`")
    );
}

#[tokio::test]
async fn bounds_of_fields_hold_from_both_sides() {
    let served = serve().await;
    let mut number = 0;
    let mut name = || {
        number += 1;
        format!("n{number}")
    };
    let destinations = [
        ("timeout", json!("1s"), json!("999ms")),
        ("timeout", json!("15m"), json!("15m1us")),
        ("concurrency", json!(1), json!(0)),
        ("concurrency", json!(1000), json!(1001)),
        ("rate_limit", json!(1), json!(0)),
        ("rate_limit", json!(1_000_000), json!(1_000_001)),
        ("trigger_types", json!(["message.*"]), json!(["mess*"])),
        ("trigger_types", json!(["*"]), json!([])),
        (
            "url",
            json!("https://app.example.com/"),
            json!("http://app.example.com/"),
        ),
        ("policy", json!("standard"), json!("own")),
        ("sources", json!([]), json!(["nowhere"])),
    ];
    let sources = [
        ("dedupe", json!("1d"), json!("23h59m59s")),
        ("dedupe", json!("90d"), json!("90d1us")),
        ("tolerance", json!("1s"), json!("999ms")),
        ("tolerance", json!("7d"), json!("7d1us")),
        ("body_limit", json!(1), json!(0)),
        ("body_limit", json!(33_554_432), json!(33_554_433)),
        ("rate_limit", json!(1), json!(0)),
        (
            "secrets",
            json!(vec!["a-secret"; 16]),
            json!(vec!["a-secret"; 17]),
        ),
        ("secrets", json!([]), json!([""])),
        ("dedupe_key", json!("header:X-Id"), json!("header")),
        ("public_url", json!("https://a.example/in/x"), json!("a.example")),
    ];
    for (path, base, cases) in [
        ("/api/v1/destinations", json!({}), destinations.to_vec()),
        ("/api/v1/sources", json!({"provider": "nylas"}), sources.to_vec()),
    ] {
        for (field, good, bad) in cases {
            let body = |value: &Value, name: String| {
                let mut body = base.clone();
                body["name"] = json!(name);
                body[field] = value.clone();
                body
            };
            served.post(path, body(&good, name())).await.expect(201);
            let detail = served
                .post(path, body(&bad, name()))
                .await
                .problem(422, "invalid-field");
            assert!(detail.starts_with(field), "{field}: {detail}");
        }
        for wrong in ["", "Upper", "a b", "a/b", "dst_1", &"x".repeat(65)] {
            let mut body = base.clone();
            body["name"] = json!(wrong);
            served.post(path, body).await.problem(422, "invalid-field");
        }
    }
}

#[tokio::test]
async fn pages_are_bounded_and_give_every_item_once() {
    let world = world().await;
    let served = &world.served;
    let source = world.own.source_id.parse().unwrap();
    for number in 0..6 {
        append(served, DEFAULT, source, &format!("type.{number}")).await;
        served
            .post("/api/v1/destinations", json!({"name": format!("more-{number}")}))
            .await
            .expect(201);
    }
    for (list, expected) in [
        ("events", 7),
        ("deliveries", 14),
        ("destinations", 9),
        ("sources", 1),
        ("keys", 7),
    ] {
        let (mut seen, mut cursor, mut pages) = (Vec::new(), None::<String>, 0);
        loop {
            let more = cursor
                .map(|cursor| format!("&cursor={cursor}"))
                .unwrap_or_default();
            let page = served
                .get(&format!("/api/v1/{list}?limit=3{more}"))
                .await
                .expect(200);
            let items = page["data"].as_array().unwrap();
            assert!(items.len() <= 3);
            seen.extend(items.iter().map(|item| item["id"].as_str().unwrap().to_owned()));
            pages += 1;
            cursor = page["next_cursor"].as_str().map(str::to_owned);
            if cursor.is_none() {
                break;
            }
        }
        let before = seen.len();
        seen.sort();
        seen.dedup();
        assert_eq!((seen.len(), before), (expected, expected), "{list}");
        assert_eq!(pages, expected.div_ceil(3), "{list}");
        for (limit, status) in [(0, 422), (1, 200), (1000, 200), (1001, 422)] {
            served
                .get(&format!("/api/v1/{list}?limit={limit}"))
                .await
                .expect(status);
        }
    }
}

#[tokio::test]
async fn problems_say_what_is_wrong_in_one_shape() {
    let served = serve().await;
    served.get("/api/v1/nothing").await.problem(404, "unknown-path");
    let wrong = served.ask("DELETE", "/api/v1/events").send().await;
    wrong.problem(405, "wrong-method");
    assert_eq!(wrong.headers["allow"], "GET,HEAD,POST");
    let detail = served.get("/api/v1/events/dlv_1").await.problem(404, "not-found");
    assert!(
        detail.contains("expected `evt_` and 32 hexadecimal digits"),
        "{detail}"
    );
    served
        .get("/api/v1/sources/nowhere")
        .await
        .problem(404, "not-found");
    let text = served
        .ask("POST", "/api/v1/sources")
        .raw("text/plain", "{}")
        .send()
        .await;
    text.problem(415, "unsupported-media-type");
    let broken = served
        .ask("POST", "/api/v1/sources")
        .raw("application/json", "{\"name\":")
        .send()
        .await;
    broken.problem(400, "malformed-request");
    served
        .get("/api/v1/events?limit=x")
        .await
        .problem(422, "invalid-field");
    served
        .get("/api/v1/events?from=yesterday")
        .await
        .problem(422, "invalid-field");
}

#[tokio::test]
async fn a_body_of_a_mebibyte_is_read_and_one_more_byte_is_not() {
    let served = serve().await;
    let body = |bytes: usize| {
        let empty = json!({"name": "", "provider": ""}).to_string().len();
        json!({"name": "x".repeat(bytes - empty), "provider": ""}).to_string()
    };
    let most = 1024 * 1024;
    let good = served
        .ask("POST", "/api/v1/sources")
        .raw("application/json", body(most))
        .send()
        .await;
    good.problem(422, "invalid-field");
    let bad = served
        .ask("POST", "/api/v1/sources")
        .raw("application/json", body(most + 1))
        .send()
        .await;
    bad.problem(413, "request-too-large");
}

#[tokio::test]
async fn hosts_that_are_not_this_listeners_are_refused_before_anything_else() {
    let served = serve().await;
    for (host, status) in [
        ("localhost:8081", 200),
        ("127.0.0.1", 200),
        ("[::1]:80", 200),
        ("hooks.example.com", 200),
        ("hooks.internal:8081", 200),
        ("evil.example", 421),
        ("hooks.internal.evil.example", 421),
        ("10.9.8.7", 421),
    ] {
        for at_api in [false, true] {
            let asking = served.ask("GET", "/healthz").key(None).header("host", host);
            let asking = if at_api { asking.at_api() } else { asking };
            let answer = asking.send().await;
            assert_eq!(answer.status, status, "{host}");
            if status == 421 {
                let detail = answer.problem(421, "host-not-allowed");
                assert!(detail.contains("server.hosts"), "{detail}");
            }
        }
    }
    let mut raw = TcpStream::connect(served.admin).await.unwrap();
    raw.write_all(b"GET /healthz HTTP/1.0\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    raw.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains(" 400 "), "{answer}");
}

#[tokio::test]
async fn a_store_that_takes_nothing_is_said_to_and_the_node_is_not_ready_once_it_is_broken() {
    let served = serve().await;
    served.store.fail_next(Fault::Refuse(Unavailable::Full), 1);
    let full = served.post("/api/v1/applications", json!({"name": "a"})).await;
    assert!(
        full.problem(503, "store-unavailable")
            .contains("the disk is full")
    );
    assert!(full.headers.contains_key("retry-after"));
    served.get("/readyz").await;
    served.store.fail_next(Fault::Lose, 1);
    served
        .post("/api/v1/applications", json!({"name": "a"}))
        .await
        .problem(503, "store-unknown");
    served
        .ask("GET", "/readyz")
        .key(None)
        .send()
        .await
        .problem(503, "store-unavailable");
    assert_eq!(served.ask("GET", "/healthz").key(None).send().await.status, 200);
}

#[tokio::test]
async fn requests_in_hand_are_answered_when_the_node_stops_and_the_listeners_end() {
    let served = serve().await;
    served.get("/api/v1/stats").await.expect(200);
    served.node.stopping.cancel();
    for serving in served.serving {
        tokio::time::timeout(PATIENCE, serving).await.unwrap().unwrap();
    }
    assert!(TcpStream::connect(served.admin).await.is_err());
}

#[tokio::test]
async fn a_body_is_given_as_it_came_and_never_as_a_page() {
    let world = world().await;
    let answer = world
        .served
        .get(&format!("/api/v1/events/{}/body", world.own.event))
        .await;
    assert_eq!(answer.body, BODY);
    assert_eq!(answer.headers["content-type"], "text/html", "as it came");
    let disposition = answer.headers["content-disposition"].to_str().unwrap();
    assert!(disposition.starts_with("attachment"), "{disposition}");
    assert_eq!(answer.headers["x-content-type-options"], "nosniff");
    assert!(
        answer.headers["content-security-policy"]
            .to_str()
            .unwrap()
            .contains("sandbox")
    );
}

#[tokio::test]
async fn events_are_found_by_what_is_known_of_them() {
    let world = world().await;
    let (served, own) = (&world.served, &world.own);
    let source = own.source_id.parse().unwrap();
    let second = append(served, DEFAULT, source, "grant.expired").await.to_string();
    let found = |query: String| async move {
        let page = served.get(&format!("/api/v1/events?{query}")).await.expect(200);
        let ids = page["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|event| event["id"].as_str().unwrap().to_owned());
        ids.collect::<Vec<_>>()
    };
    let (first, second) = (own.event.clone(), second);
    assert_eq!(found(String::new()).await, [second.clone(), first.clone()]);
    assert_eq!(found("type=grant.*".into()).await, from_ref(&second));
    assert_eq!(found("type=message.created".into()).await, from_ref(&first));
    assert_eq!(found(format!("source={}", own.source)).await.len(), 2);
    assert_eq!(found("provider_id=n-1".into()).await.len(), 2);
    assert_eq!(found("provider_id=n-2".into()).await, Vec::<String>::new());
    assert_eq!(found("unrouted=true".into()).await, Vec::<String>::new());
    assert_eq!(found(format!("after={first}")).await, from_ref(&second));
    let at = served.get(&format!("/api/v1/events/{second}")).await.expect(200)["accepted_at"].clone();
    let at = at.as_str().unwrap();
    assert_eq!(found(format!("from={at}")).await, from_ref(&second));
    assert_eq!(found(format!("until={at}")).await, from_ref(&first));
}

#[tokio::test]
async fn a_delivery_shows_its_attempts_and_can_be_discarded_and_retried() {
    let world = world().await;
    let (served, own) = (&world.served, &world.own);
    let claim = Claim {
        destination: own.push_id.parse().unwrap(),
        now: served.now(),
        due_from: None,
        limit: 1,
        bytes: 1 << 20,
        lease: Duration::from_secs(60),
    };
    let claimed = served.store.claim(claim).await.unwrap().deliveries.remove(0);
    let attempt = Attempt {
        number: 1,
        started_at: served.now(),
        duration: Duration::from_micros(1_500),
        outcome: Outcome::Answered {
            status: 502,
            retry_after: None,
        },
        error: None,
        response_headers: headers(),
        response_body: bytes::Bytes::from_static(b"\xff\x00"),
    };
    let end = AttemptEnd {
        delivery: claimed.id,
        token: 1,
        now: served.now(),
        attempt,
    };
    served.store.settle(end).await.unwrap();
    let path = format!("/api/v1/deliveries/{}", claimed.id);
    let shown = served.get(&path).await.expect(200);
    assert_eq!(shown["state"], "retrying");
    assert_eq!(shown["cause"], "answered 502");
    let attempt = &shown["attempt_log"][0];
    assert_eq!(attempt["status"], 502);
    assert_eq!(attempt["duration_ms"], 1.5);
    assert_eq!(
        (&attempt["response_body"], &attempt["response_body_base64"]),
        (&json!("/wA="), &json!(true))
    );
    let discarded = served
        .ask("POST", &format!("{path}/discard"))
        .send()
        .await
        .expect(200);
    assert_eq!(
        (&discarded["was"], &discarded["changed"]),
        (&json!("retrying"), &json!(true))
    );
    assert_eq!(discarded["delivery"]["state"], "discarded");
    assert!(discarded["delivery"]["cause"].as_str().unwrap().contains("key 1"));
    let again = served
        .ask("POST", &format!("{path}/discard"))
        .send()
        .await
        .expect(200);
    assert_eq!(again["changed"], false);
    let retried = served
        .ask("POST", &format!("{path}/retry"))
        .send()
        .await
        .expect(200);
    assert_eq!(
        (&retried["was"], &retried["changed"]),
        (&json!("discarded"), &json!(true))
    );
    assert_eq!(retried["delivery"]["state"], "pending");
    let listed = served.get("/api/v1/deliveries?state=pending").await.expect(200);
    assert_eq!(listed["data"][0]["id"], claimed.id.to_string());
}

#[tokio::test]
async fn a_destination_shows_its_secret_once_and_keeps_the_old_one_for_a_day() {
    let served = serve().await;
    let body = json!({"name": "app", "url": "https://app.example.com/"});
    let made = served.post("/api/v1/destinations", body).await.expect(201);
    let first = made["secret"].as_str().unwrap().to_owned();
    assert!(first.starts_with("whsec_"));
    assert!(
        !made["warnings"].as_array().unwrap().is_empty(),
        "it names no source"
    );
    let shown = served.get("/api/v1/destinations/app").await;
    assert_eq!(shown.expect(200)["secrets"], 1);
    assert!(!shown.text().contains(&first));
    let rotated = served
        .ask("POST", "/api/v1/destinations/app/rotate-secret")
        .send()
        .await
        .expect(200);
    assert_ne!(rotated["secret"], first.as_str());
    assert_eq!(rotated["secrets"], 2);
    let topology = served.node.store.topology();
    let secrets = &destination_named(&topology, "app").secrets;
    assert_eq!(secrets[0].expires_at, None);
    let left = secrets[1].expires_at.unwrap().since(served.now());
    assert!(left > Duration::from_secs(86_000) && left <= Duration::from_secs(86_400));
    for _ in 0..9 {
        served
            .ask("POST", "/api/v1/destinations/app/rotate-secret")
            .send()
            .await
            .expect(200);
    }
    assert_eq!(
        served.get("/api/v1/destinations/app").await.expect(200)["secrets"],
        5
    );
}

#[tokio::test]
async fn a_paused_destination_holds_and_a_resumed_one_delivers_or_gives_up() {
    let world = world().await;
    let (served, own) = (&world.served, &world.own);
    let path = format!("/api/v1/destinations/{}", own.push);
    let act = |action: &str| served.ask("POST", &format!("{path}/{action}"));
    let paused = act("pause").send().await.expect(200);
    assert_eq!(
        (&paused["status"], &paused["breaker"]["state"]),
        (&json!("paused"), &json!("closed"))
    );
    // Counts are remembered for a moment.
    tokio::time::sleep(Duration::from_millis(150)).await;
    let shown = served.get(&path).await.expect(200);
    assert_eq!(shown["counts"], json!({"held": 1}));
    assert!(shown["oldest_waiting_at"].is_string());
    assert_eq!(act("resume").send().await.expect(200)["status"], "active");
    act("pause").send().await.expect(200);
    act("resume")
        .json(&json!({"discard": true}))
        .send()
        .await
        .expect(200);
    let delivery = served
        .get(&format!("/api/v1/deliveries/{}", own.delivery))
        .await
        .expect(200);
    assert_eq!(delivery["state"], "discarded");
}

#[tokio::test]
async fn what_the_file_declares_may_be_changed_with_a_warning() {
    let world = world().await;
    let (served, own) = (&world.served, &world.own);
    let topology = served.node.store.topology();
    let mut source = topology.source_named(&own.source).unwrap().clone();
    source.origin = Origin::File;
    let mut destination = destination_named(&topology, &own.push).clone();
    destination.origin = Origin::File;
    let changes = vec![
        TopologyChange::PutSource(source),
        TopologyChange::PutDestination(destination),
    ];
    served.node.change_topology("file", changes).await.unwrap();
    for (path, body) in [
        (
            format!("/api/v1/sources/{}", own.source),
            json!({"rate_limit": 3}),
        ),
        (
            format!("/api/v1/destinations/{}", own.push),
            json!({"rate_limit": 3}),
        ),
    ] {
        let changed = served.ask("PATCH", &path).json(&body).send().await.expect(200);
        assert_eq!(changed["origin"], "file");
        assert!(
            changed["warnings"][0]
                .as_str()
                .unwrap()
                .contains("configuration file")
        );
        let cleared = served
            .ask("PATCH", &path)
            .json(&json!({"rate_limit": null}))
            .send()
            .await
            .expect(200);
        assert_eq!(cleared["rate_limit"], Value::Null);
        assert!(served.get(&path).await.expect(200).get("warnings").is_none());
    }
}

#[tokio::test]
async fn a_source_keeps_its_secrets_to_itself_and_its_name_to_one_application() {
    let world = world().await;
    let served = &world.served;
    let body = json!({"name": "gh", "provider": "github", "generate_secret": true});
    let made = served.post("/api/v1/sources", body).await.expect(201);
    assert!(made["secret"].as_str().unwrap().len() >= 32);
    assert_eq!((&made["secrets"], &made["path"]), (&json!(1), &json!("/in/gh")));
    let plain = served
        .post("/api/v1/sources", json!({"name": "ny", "provider": "nylas"}))
        .await
        .expect(201);
    assert!(plain.get("secret").is_none(), "nothing secret is made unasked");
    assert!(plain["warnings"][0].as_str().unwrap().contains("no secret"));
    let path = "/api/v1/sources/ny";
    let set = served
        .ask("PATCH", path)
        .json(&json!({"secrets": ["one-secret", "two-secret"]}))
        .send()
        .await;
    assert_eq!(set.expect(200)["secrets"], 2);
    let other = served
        .ask("PATCH", path)
        .json(&json!({"dedupe": "2d"}))
        .send()
        .await
        .expect(200);
    assert_eq!((&other["secrets"], &other["dedupe"]), (&json!(2), &json!("2d")));
    let body = json!({"name": world.other.source, "provider": "nylas"});
    served
        .post("/api/v1/sources", body)
        .await
        .problem(409, "conflict");
}

#[tokio::test]
async fn quarantine_is_shown_whole_and_released_once_the_secret_is_right() {
    let world = world().await;
    let (served, own) = (&world.served, &world.own);
    let shown = served
        .get(&format!("/api/v1/quarantine/{}", own.quarantined))
        .await
        .expect(200);
    assert_eq!(shown["target"], "/in/x?token=[redacted]");
    assert_eq!(shown["cause"], "signature-mismatch");
    let before = served.events_stored().await;
    let release = |body: Value| served.post("/api/v1/quarantine/release", body);
    let released = release(json!({"source": own.source})).await.expect(200);
    assert_eq!(
        (&released["released"], &released["refused_count"]),
        (&json!(1), &json!(0)),
        "{released}"
    );
    assert_eq!(served.events_stored().await, before + 1);
    for (body, field) in [
        (json!({}), "ids"),
        (json!({"ids": [own.quarantined], "source": own.source}), "source"),
        (json!({"ids": ["x"]}), "ids"),
        (json!({"ids": vec![own.quarantined.clone(); 1001]}), "ids"),
    ] {
        let detail = release(body).await.problem(422, "invalid-field");
        assert!(detail.starts_with(&format!("{field}: ")), "{detail}");
    }
}

#[tokio::test]
async fn counts_are_the_servers_for_an_admin_and_an_applications_for_the_others() {
    let world = world().await;
    let (served, own) = (&world.served, &world.own);
    tokio::time::sleep(Duration::from_millis(150)).await;
    let all = served.get("/api/v1/stats").await.expect(200);
    assert_eq!(all["events"]["stored"], 2);
    assert!(all["disk"]["used_bytes"].is_u64());
    let of_one = served
        .ask("GET", "/api/v1/stats")
        .key(Some(&own.reader))
        .send()
        .await
        .expect(200);
    assert_eq!((&of_one["events"], &of_one["disk"]), (&Value::Null, &Value::Null));
    assert_eq!(of_one["deliveries"], json!({"pending": 1, "in_flight": 1}));
    assert_eq!(of_one["destinations"].as_array().unwrap().len(), 3);
    assert_eq!(of_one["quarantine"], json!({ own.source.as_str(): 1 }));
    let nodes = served.get("/api/v1/nodes").await.expect(200);
    let listeners = nodes["data"][0]["listeners"].as_array().unwrap();
    assert!(
        listeners
            .iter()
            .any(|each| each["address"] == served.admin.to_string())
    );
}

#[tokio::test]
async fn a_change_that_began_before_another_does_not_undo_it() {
    let served = serve().await;
    let body = json!({"name": "app", "url": "https://app.example.com/"});
    served.post("/api/v1/destinations", body).await.expect(201);
    let body = json!({"timeout": "9s"}).to_string();
    let head = format!(
        "PATCH /api/v1/destinations/app HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {ADMIN_KEY}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\nexpect: 100-continue\r\nconnection: close\r\n\r\n",
        body.len()
    );
    let mut slow = TcpStream::connect(served.admin).await.unwrap();
    slow.write_all(head.as_bytes()).await.unwrap();
    let mut begun = [0; 12];
    slow.read_exact(&mut begun).await.unwrap();
    assert_eq!(
        &begun, b"HTTP/1.1 100",
        "its key was checked and its body is awaited"
    );
    served
        .ask("POST", "/api/v1/destinations/app/rotate-secret")
        .send()
        .await
        .expect(200);
    slow.write_all(body.as_bytes()).await.unwrap();
    let mut answer = String::new();
    slow.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains("HTTP/1.1 200"), "{answer}");
    let shown = served.get("/api/v1/destinations/app").await.expect(200);
    assert_eq!((&shown["timeout"], &shown["secrets"]), (&json!("9s"), &json!(2)));
}
