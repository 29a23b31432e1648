//! Keys: made, shown once, and the admin key of the data directory.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use hookfast::admin::auth::{hash, new_key};
use hookfast::admin::ensure_admin_key;
use hookfast::clock::Clock;
use hookfast::node::Node;
use hookfast_engine::topology::{ApiKey, Scope, TopologyChange};
use hookfast_store::NoSlots;
use hookfast_store::memory::MemoryStore;
use serde_json::json;

use crate::support::{node, serve};
use crate::world::world;

#[tokio::test]
async fn a_key_is_shown_once_and_does_what_it_was_made_for() {
    let world = world().await;
    let (served, own) = (&world.served, &world.own);
    let made = served
        .post("/api/v1/keys", json!({"name": "ci", "scope": "read"}))
        .await
        .expect(201);
    let text = made["key"].as_str().unwrap();
    assert!(text.starts_with("hf_") && text.len() >= 35, "{text}");
    assert_eq!(made["application"], own.application.as_str());
    served
        .ask("GET", "/api/v1/events")
        .key(Some(text))
        .send()
        .await
        .expect(200);
    let path = format!("/api/v1/keys/{}", made["id"].as_str().unwrap());
    let shown = served.get(&path).await.expect(200);
    assert!(shown.get("key").is_none());
    served.ask("DELETE", &path).send().await.expect(204);
    served.ask("DELETE", &path).send().await.expect(204);
    served
        .ask("GET", "/api/v1/events")
        .key(Some(text))
        .send()
        .await
        .problem(401, "key-revoked");
    assert!(
        served.get(&path).await.expect(200)["revoked_at"].is_string(),
        "it stays as a record"
    );
    let body = json!({"name": "worker", "scope": "pull", "destination": own.pull, "expires_in": "1h"});
    let pulls = served.post("/api/v1/keys", body).await.expect(201);
    assert_eq!(pulls["destination"], own.pull_id.as_str());
    assert!(pulls["expires_at"].is_string());
}

#[tokio::test]
async fn keys_that_would_mean_nothing_are_refused_with_the_field() {
    let world = world().await;
    let (served, own) = (&world.served, &world.own);
    let cases = [
        (json!({"name": "", "scope": "read"}), "name"),
        (json!({"name": "admin.key", "scope": "admin"}), "name"),
        (json!({"name": "a", "scope": "pull"}), "destination"),
        (
            json!({"name": "a", "scope": "pull", "destination": "nowhere"}),
            "destination",
        ),
        (
            json!({"name": "a", "scope": "pull", "destination": world.other.pull}),
            "destination",
        ),
        (
            json!({"name": "a", "scope": "admin", "application": "default"}),
            "application",
        ),
        (
            json!({"name": "a", "scope": "read", "application": "nobody"}),
            "application",
        ),
        (
            json!({"name": "a", "scope": "read", "destination": own.pull}),
            "destination",
        ),
        (
            json!({"name": "a", "scope": "read", "expires_in": "0s"}),
            "expires_in",
        ),
    ];
    for (body, field) in cases {
        let detail = served
            .post("/api/v1/keys", body)
            .await
            .problem(422, "invalid-field");
        assert!(detail.starts_with(&format!("{field}: ")), "{detail}");
    }
}

fn stored(node: &Node) -> Vec<ApiKey> {
    node.store.topology().keys.values().cloned().collect()
}

#[tokio::test]
async fn the_admin_key_is_made_once_and_read_by_its_owner_alone() {
    let data = tempfile::tempdir().unwrap();
    let node = node(MemoryStore::new(Arc::new(NoSlots)), data.path());
    let file = data.path().join("admin.key");
    ensure_admin_key(&node, None).await.unwrap();
    let key = std::fs::read_to_string(&file).unwrap();
    assert_eq!(
        std::fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o600
    );
    assert_eq!(stored(&node)[0].hash, hash(key.trim()));
    assert_eq!(stored(&node)[0].scope, Scope::Admin);
    let before = node.store.topology().version;
    ensure_admin_key(&node, None).await.unwrap();
    ensure_admin_key(&node, Some(String::new())).await.unwrap();
    assert_eq!(node.store.topology().version, before, "nothing to do");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), key);
}

#[tokio::test]
async fn the_admin_key_of_the_environment_replaces_the_one_that_was() {
    let data = tempfile::tempdir().unwrap();
    let node = node(MemoryStore::new(Arc::new(NoSlots)), data.path());
    let file = data.path().join("admin.key");
    ensure_admin_key(&node, None).await.unwrap();
    let given = new_key(Clock);
    ensure_admin_key(&node, Some(format!(" {given}\n")))
        .await
        .unwrap();
    assert_eq!(std::fs::read_to_string(&file).unwrap().trim(), given);
    assert_eq!(
        std::fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let keys = stored(&node);
    assert_eq!(keys.len(), 1, "the old one is worth nothing");
    assert_eq!(keys[0].hash, hash(&given));
    // Somebody writes another key into the file.
    let edited = new_key(Clock);
    std::fs::write(&file, &edited).unwrap();
    ensure_admin_key(&node, None).await.unwrap();
    assert_eq!(stored(&node)[0].hash, hash(&edited));
    for wrong in ["short", "a key with spaces in it, quite long"] {
        let error = ensure_admin_key(&node, Some(wrong.to_owned())).await.unwrap_err();
        assert!(!format!("{error:#}").contains(wrong), "{error:#}");
    }
}

#[tokio::test]
async fn an_admin_key_that_was_revoked_does_not_come_back() {
    let data = tempfile::tempdir().unwrap();
    let node = node(MemoryStore::new(Arc::new(NoSlots)), data.path());
    ensure_admin_key(&node, None).await.unwrap();
    let mut key = stored(&node).remove(0);
    let old = key.hash.clone();
    key.revoked_at = Some(node.clock.now());
    node.change_topology("test", vec![TopologyChange::PutKey(key)])
        .await
        .unwrap();
    ensure_admin_key(&node, None).await.unwrap();
    let keys = stored(&node);
    assert_eq!(keys.len(), 1);
    assert_ne!(keys[0].hash, old);
    assert_eq!(keys[0].revoked_at, None);
    let file = std::fs::read_to_string(data.path().join("admin.key")).unwrap();
    assert_eq!(keys[0].hash, hash(file.trim()));
}

#[tokio::test]
async fn applications_keep_to_themselves_and_default_keeps_its_name() {
    let served = serve().await;
    let made = served
        .post("/api/v1/applications", json!({"name": "shop"}))
        .await
        .expect(201);
    served
        .post("/api/v1/applications", json!({"name": "shop"}))
        .await
        .problem(409, "conflict");
    for wrong in ["", "Shop", "a b", "app_1", &"x".repeat(65)] {
        served
            .post("/api/v1/applications", json!({"name": wrong}))
            .await
            .problem(422, "invalid-field");
    }
    let path = format!("/api/v1/applications/{}", made["id"].as_str().unwrap());
    let renamed = served
        .ask("PATCH", &path)
        .json(&json!({"name": "store"}))
        .send()
        .await
        .expect(200);
    assert_eq!(renamed["name"], "store");
    let kept = served
        .ask("PATCH", "/api/v1/applications/default")
        .json(&json!({"name": "x"}))
        .send()
        .await;
    kept.problem(409, "conflict");
    let body = json!({"name": "same", "sources": []});
    served
        .ask("POST", "/api/v1/destinations")
        .of("store")
        .json(&body)
        .send()
        .await
        .expect(201);
    served
        .ask("POST", "/api/v1/destinations")
        .json(&body)
        .send()
        .await
        .expect(201);
    served
        .ask("POST", "/api/v1/destinations")
        .json(&body)
        .send()
        .await
        .problem(409, "conflict");
}
