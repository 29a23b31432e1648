//! Who may do what (SPEC P6): every operation of the document, with every kind of key.

use hookfast::admin::{Surface, description};
use hookfast_engine::topology::{ApiKey, Scope, TopologyChange};
use serde_json::{Value, json};

use crate::document::operations;
use crate::requests::{self, Good};
use crate::support::{Answer, Served, key};
use crate::world::{CANARY, CANARY_SIGNING, Things, world};

async fn send(served: &Served, good: &Good, key: Option<&str>) -> Answer {
    let mut asking = served.ask(good.method, &good.path).key(key);
    if let Some(body) = &good.body {
        asking = asking.json(body);
    }
    if good.operation == "stream" {
        let (parts, body) = asking.open().await.into_parts();
        drop(body);
        return Answer {
            status: parts.status,
            headers: parts.headers,
            body: bytes::Bytes::new(),
        };
    }
    asking.send().await
}

/// That it was refused, in the shape that answers at its path have.
#[track_caller]
fn refused(answer: &Answer, good: &Good, status: u16, code: &str) {
    match (good.path.starts_with("/v3/"), status) {
        (false, _) => answer.problem(status, code),
        (true, 401) => answer.nylas_error(status, "api.authentication_error"),
        (true, _) => answer.nylas_error(status, code),
    };
}

/// Every operation of the document, on these things.
fn every_operation(things: &Things) -> Vec<Good> {
    let document = serde_json::to_value(description(Surface::Admin)).unwrap();
    let all = requests::all(things, "key_00000000000000000000000000000001");
    let ids: Vec<_> = operations(&document).into_iter().map(|(id, ..)| id).collect();
    assert!(ids.iter().all(|id| all.iter().any(|good| good.operation == id)));
    all
}

#[tokio::test]
async fn every_operation_refuses_a_missing_an_unknown_an_expired_and_a_revoked_key() {
    let world = world().await;
    let served = &world.served;
    let now = served.now();
    let (expired, revoked) = ("hf_expired_0000000000000", "hf_revoked_0000000000000");
    let of = |id, text, expires_at, revoked_at| ApiKey {
        expires_at,
        revoked_at,
        ..key(&served.node, id, text, Scope::Admin)
    };
    served.put_key(of(90, expired, Some(now), None)).await;
    served.put_key(of(91, revoked, None, Some(now))).await;
    let version = served.node.store.topology().version;
    let cases = [
        (None, "key-missing"),
        (Some("hf_nobody_knows_this_one"), "key-unknown"),
        (Some(""), "key-missing"),
        (Some(expired), "key-expired"),
        (Some(revoked), "key-revoked"),
    ];
    for good in every_operation(&world.own) {
        for (key, code) in cases {
            let answer = send(served, &good, key).await;
            if requests::OPEN.contains(&good.operation) {
                assert_eq!(answer.status, 200, "{}", good.operation);
            } else if good.operation == "stream" {
                assert_eq!(answer.status, 401);
            } else {
                refused(&answer, &good, 401, code);
                assert!(
                    answer.headers["www-authenticate"]
                        .to_str()
                        .unwrap()
                        .starts_with("Bearer")
                );
            }
        }
    }
    for path in ["/openapi.json", "/nothing/here", "/api/v1", "/static/../metrics"] {
        served
            .ask("GET", path)
            .key(None)
            .send()
            .await
            .problem(401, "key-missing");
    }
    assert_eq!(served.node.store.topology().version, version, "nothing changed");
}

#[tokio::test]
async fn a_key_of_one_application_reaches_nothing_of_another_by_any_operation() {
    let world = world().await;
    let (served, other) = (&world.served, &world.other);
    let topology = served.node.store.topology();
    let stats = hookfast_store::Store::stats(&*served.store).await.unwrap();
    for key in [&world.own.writer, &world.own.reader, &world.own.puller] {
        for good in every_operation(other) {
            // Making something of the key's own is allowed, and tested elsewhere.
            let nameless = requests::NAMELESS.contains(&good.operation);
            if nameless || requests::OPEN.contains(&good.operation) || good.operation == "stream" {
                continue;
            }
            let answer = send(served, &good, Some(key)).await;
            let aims = good.path.contains('_') || good.body.is_some() || good.path.contains(other.name);
            let status = answer.status.as_u16();
            if good.operation == "release_quarantined" && status == 200 {
                assert_eq!(answer.json()["released"], 0);
                assert_eq!(answer.json()["refused_count"], 0);
            } else if aims && good.path.starts_with("/v3/") {
                // Where something is to be changed, Nylas answers 400 that it is not there.
                assert!(matches!(status, 400 | 403 | 404), "{} {status}", good.operation);
            } else if aims {
                assert!(
                    matches!(status, 403 | 404 | 422),
                    "{} {status} {}",
                    good.operation,
                    answer.text()
                );
            }
            // What was asked for is named in the refusal; nothing else of the other application may be.
            let text = answer.text();
            let asked = format!("{} {}", good.path, good.body.clone().unwrap_or(Value::Null));
            for mark in other.marks().into_iter().filter(|mark| !asked.contains(mark)) {
                assert!(!text.contains(mark), "{} shows {mark}: {text}", good.operation);
            }
        }
    }
    assert_eq!(*served.node.store.topology(), *topology, "nothing changed");
    assert_eq!(hookfast_store::Store::stats(&*served.store).await.unwrap(), stats);
}

#[tokio::test]
async fn bodies_and_queries_cannot_name_another_applications_things() {
    let world = world().await;
    let (served, own, other) = (&world.served, &world.own, &world.other);
    let key = Some(own.writer.as_str());
    for source in [&other.source, &other.source_id] {
        for (method, path, body) in [
            (
                "POST",
                "/api/v1/destinations".to_owned(),
                json!({"name": "thief", "sources": [source]}),
            ),
            (
                "PATCH",
                format!("/api/v1/destinations/{}", own.push),
                json!({"sources": [source]}),
            ),
            ("POST", "/api/v1/replays".to_owned(), json!({"source": source})),
            (
                "POST",
                "/api/v1/quarantine/release".to_owned(),
                json!({"source": source}),
            ),
            (
                "POST",
                "/api/v1/quarantine/discard".to_owned(),
                json!({"source": source}),
            ),
        ] {
            served
                .ask(method, &path)
                .key(key)
                .json(&body)
                .send()
                .await
                .problem(422, "invalid-field");
        }
        for list in ["events", "quarantine", "rejected"] {
            let path = format!("/api/v1/{list}?source={source}");
            served
                .ask("GET", &path)
                .key(key)
                .send()
                .await
                .problem(404, "not-found");
        }
    }
    for destination in [&other.push, &other.push_id] {
        let path = format!("/api/v1/events/{}/replay", own.event);
        let body = json!({"destination": destination});
        served
            .ask("POST", &path)
            .key(key)
            .json(&body)
            .send()
            .await
            .problem(422, "invalid-field");
        served
            .ask("POST", "/api/v1/replays")
            .key(key)
            .json(&body)
            .send()
            .await
            .problem(422, "invalid-field");
        let path = format!("/api/v1/deliveries?destination={destination}");
        served
            .ask("GET", &path)
            .key(key)
            .send()
            .await
            .problem(404, "not-found");
    }
    // A replay of the other's event finds nothing.
    let body = json!({"event": other.event, "dry_run": true});
    let count = served
        .ask("POST", "/api/v1/replays")
        .key(key)
        .json(&body)
        .send()
        .await
        .expect(200);
    assert_eq!(count["events"], 0);
    let body = json!({"ids": [other.quarantined]});
    let discarded = served
        .ask("POST", "/api/v1/quarantine/discard")
        .key(key)
        .json(&body)
        .send()
        .await
        .expect(200);
    assert_eq!(discarded["discarded"], 0);
    // A receipt of the other's delivery is stale at one's own destination.
    for action in ["ack", "nack", "extend"] {
        let path = format!("/api/v1/destinations/{}/{action}", own.pull);
        let body = json!({"receipts": [other.receipt]});
        let answer = served
            .ask("POST", &path)
            .key(key)
            .json(&body)
            .send()
            .await
            .expect(200);
        assert_eq!(answer["results"][0]["result"], "stale");
    }
}

#[tokio::test]
async fn the_header_that_names_an_application_moves_admin_keys_alone() {
    let world = world().await;
    let (served, own, other) = (&world.served, &world.own, &world.other);
    let path = format!("/api/v1/sources/{}", other.source);
    served.get(&path).await.problem(404, "not-found");
    for named in ["other", other.application.as_str(), "*"] {
        served.ask("GET", &path).of(named).send().await.expect(200);
        served
            .ask("GET", &path)
            .of(named)
            .key(Some(&own.writer))
            .send()
            .await
            .problem(404, "not-found");
    }
    served
        .ask("GET", &path)
        .of("nobody")
        .send()
        .await
        .problem(404, "not-found");
    let everything = served
        .ask("GET", "/api/v1/sources")
        .of("*")
        .send()
        .await
        .expect(200);
    assert_eq!(everything["data"].as_array().unwrap().len(), 2);
    let body = json!({"name": "where", "provider": "nylas"});
    let detail = served
        .ask("POST", "/api/v1/sources")
        .of("*")
        .json(&body)
        .send()
        .await;
    assert!(
        detail
            .problem(422, "invalid-field")
            .contains("names no single application")
    );
}

#[tokio::test]
async fn each_scope_covers_its_operations_and_no_other() {
    let world = world().await;
    let (served, own) = (&world.served, &world.own);
    for good in every_operation(own) {
        if requests::OPEN.contains(&good.operation) {
            continue;
        }
        let admin = requests::ADMIN.contains(&good.operation);
        let pulls = requests::PULL.contains(&good.operation);
        let reads = good.method == "GET" && !admin;
        let cases = [(&own.puller, pulls), (&own.reader, reads), (&own.writer, !admin)];
        for (key, covered) in cases {
            let answer = send(served, &good, Some(key)).await;
            let status = answer.status.as_u16();
            if covered {
                assert!(status < 300, "{} {key}: {}", good.operation, answer.text());
            } else {
                assert_eq!(status, 403, "{} {key}", good.operation);
                if good.operation != "stream" {
                    refused(&answer, &good, 403, "scope-too-narrow");
                }
            }
        }
    }
    let another = format!("/api/v1/destinations/{}/pull", own.push);
    served
        .ask("POST", &another)
        .key(Some(&own.puller))
        .send()
        .await
        .problem(404, "not-found");
}

#[tokio::test]
async fn the_api_listener_takes_scoped_keys_alone_and_has_no_administration() {
    let world = world().await;
    let (served, own) = (&world.served, &world.own);
    served
        .ask("GET", "/api/v1/events")
        .at_api()
        .send()
        .await
        .problem(403, "admin-key-refused");
    let as_writer = |method, path: &str| served.ask(method, path).at_api().key(Some(&own.writer));
    as_writer("GET", "/api/v1/events").send().await.expect(200);
    for path in [
        "/api/v1/keys",
        "/api/v1/applications",
        "/api/v1/nodes",
        "/metrics",
    ] {
        as_writer("GET", path).send().await.problem(404, "unknown-path");
    }
    served.ask("GET", "/healthz").at_api().key(None).send().await;
}

#[tokio::test]
async fn only_an_admin_key_lets_a_url_be_private() {
    let world = world().await;
    let (served, own) = (&world.served, &world.own);
    let body = json!({"name": "local", "url": "http://127.0.0.1:9/", "allow_private": true});
    let as_writer = |method, path: &str| served.ask(method, path).key(Some(&own.writer));
    as_writer("POST", "/api/v1/destinations")
        .json(&body)
        .send()
        .await
        .problem(403, "scope-too-narrow");
    served.post("/api/v1/destinations", body).await.expect(201);
    let path = "/api/v1/destinations/local";
    for body in [
        json!({"allow_private": true}),
        json!({"url": "http://127.0.0.1:10/"}),
        json!({"url": "http://[fd00::1]/"}),
    ] {
        as_writer("PATCH", path)
            .json(&body)
            .send()
            .await
            .problem(403, "scope-too-narrow");
    }
    as_writer("PATCH", path)
        .json(&json!({"timeout": "2s"}))
        .send()
        .await
        .expect(200);
    // Whoever takes the leave away must give a public URL with it.
    as_writer("PATCH", path)
        .json(&json!({"allow_private": false}))
        .send()
        .await
        .problem(422, "invalid-field");
    let body = json!({"allow_private": false, "url": "https://app.example.com/"});
    as_writer("PATCH", path).json(&body).send().await.expect(200);
}

#[tokio::test]
async fn no_answer_shows_a_secret() {
    let world = world().await;
    let (served, own) = (&world.served, &world.own);
    let sealed: Vec<String> = served
        .node
        .store
        .topology()
        .keys
        .values()
        .map(|key| hex(&key.hash))
        .collect();
    for good in every_operation(own) {
        if matches!(good.operation, "stream" | "pull") {
            continue;
        }
        let answer = send(served, &good, Some(crate::support::ADMIN_KEY)).await;
        let text = format!("{:?} {}", answer.headers, answer.text());
        for secret in [CANARY, CANARY_SIGNING, crate::support::ADMIN_KEY, &own.writer] {
            assert!(
                !text.contains(secret),
                "{} shows {secret}: {text}",
                good.operation
            );
        }
        assert!(
            sealed.iter().all(|hash| !text.contains(hash.as_str())),
            "{}",
            good.operation
        );
    }
    for body in [
        json!({"name": "a", "provider": "nylas", "secrets": CANARY}),
        json!({"name": "a", "provider": "nylas", "secrets": [CANARY], "dedupe": CANARY, "x": 1}),
        json!({"name": "a", "provider": "standard-webhooks", "secrets": [CANARY]}),
        json!({"name": "a", "provider": "nylas", "secrets": [CANARY], "verify": {"a": CANARY}}),
    ] {
        let answer = served.post("/api/v1/sources", body).await;
        assert!(answer.status.is_client_error());
        let said = answer.text();
        assert!(
            !said.replace(&format!("dedupe: `{CANARY}`"), "").contains(CANARY),
            "{said}"
        );
    }
    let body = json!({"name": "a", "secret": CANARY});
    assert!(
        !served
            .post("/api/v1/destinations", body)
            .await
            .text()
            .contains(CANARY)
    );
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn the_token_of_a_request_is_not_shown_with_the_event_nor_to_a_puller() {
    let world = world().await;
    let (served, own) = (&world.served, &world.own);
    let event = served
        .get(&format!("/api/v1/events/{}", own.event))
        .await
        .expect(200);
    let headers = event["headers"].as_array().unwrap();
    let value = |name: &str| headers.iter().find(|header| header["name"] == name).unwrap()["value"].clone();
    assert_eq!(value("X-Acme-Token"), "[redacted]");
    assert_eq!(value("Authorization"), "[redacted]");
    assert_eq!(value("X-Signature"), "00ff");
    let path = format!("/api/v1/destinations/{}/nack", own.pull);
    served
        .post(&path, json!({"receipts": [own.receipt]}))
        .await
        .expect(200);
    let path = format!("/api/v1/destinations/{}/pull", own.pull);
    let pulled = served.post(&path, json!({})).await;
    assert_eq!(pulled.expect(200)["deliveries"].as_array().unwrap().len(), 1);
    assert!(!pulled.text().contains(CANARY));
}

#[tokio::test]
async fn the_quarantine_of_a_deleted_source_is_an_administrators_and_a_revoked_key_is_worth_nothing_at_once()
{
    let world = world().await;
    let (served, own) = (&world.served, &world.own);
    let path = format!("/api/v1/sources/{}", own.source);
    served
        .ask("DELETE", &path)
        .key(Some(&own.writer))
        .send()
        .await
        .expect(204);
    let path = format!("/api/v1/quarantine/{}", own.quarantined);
    served
        .ask("GET", &path)
        .key(Some(&own.writer))
        .send()
        .await
        .problem(404, "not-found");
    served.ask("GET", &path).of("*").send().await.expect(200);
    let stays = served
        .ask("GET", &format!("/api/v1/events/{}", own.event))
        .key(Some(&own.writer))
        .send()
        .await;
    assert_eq!(stays.expect(200)["source"], own.source_id.as_str());
    let revoke = TopologyChange::PutKey(ApiKey {
        revoked_at: Some(served.now()),
        ..key(
            &served.node,
            crate::support::DEFAULT.as_u128() * 10,
            &own.writer,
            Scope::Application(crate::support::DEFAULT),
        )
    });
    served.node.change_topology("test", vec![revoke]).await.unwrap();
    let late = served
        .ask("GET", "/api/v1/events")
        .key(Some(&own.writer))
        .send()
        .await;
    late.problem(401, "key-revoked");
}
