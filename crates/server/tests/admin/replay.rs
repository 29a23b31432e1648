//! Replay (SPEC I16): jobs that count, run at their rate, stop and go on after a restart.

use std::sync::Arc;
use std::time::Duration;

use hookfast::inbox;
use hookfast_store::NoSlots;
use serde_json::{Value, json};

use crate::support::{self, DEFAULT, PATIENCE, Served, serve};
use crate::world::append;

/// A source with a queue and this many events, of which each was delivered.
async fn delivered(events: usize) -> Served {
    let served = serve().await;
    let source = served
        .post("/api/v1/sources", json!({"name": "in", "provider": "nylas"}))
        .await
        .expect(201);
    let source = source["id"].as_str().unwrap().parse().unwrap();
    served
        .post(
            "/api/v1/destinations",
            json!({"name": "queue", "sources": ["in"]}),
        )
        .await
        .expect(201);
    for number in 0..events {
        append(&served, DEFAULT, source, &format!("message.{number}")).await;
    }
    let pulled = served
        .post("/api/v1/destinations/queue/pull", json!({"max": 1000}))
        .await
        .expect(200);
    let receipts: Vec<_> = pulled["deliveries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|each| each["receipt"].clone())
        .collect();
    served
        .post("/api/v1/destinations/queue/ack", json!({"receipts": receipts}))
        .await
        .expect(200);
    served
}

async fn until(served: &Served, id: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let looking = async {
        loop {
            let replay = served.get(&format!("/api/v1/replays/{id}")).await.expect(200);
            if wanted(&replay) {
                return replay;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, looking).await.unwrap()
}

#[tokio::test]
async fn a_dry_run_counts_and_changes_nothing_and_the_job_does_what_was_counted() {
    let served = delivered(5).await;
    let runner = tokio::spawn(inbox::replay::run(served.node.clone()));
    let ask = json!({"source": "in", "state": "delivered", "dry_run": true});
    let count = served.post("/api/v1/replays", ask).await.expect(200);
    assert_eq!(count, json!({"events": 5, "deliveries": 5, "skipped": 0}));
    assert_eq!(served.get("/api/v1/replays").await.expect(200)["data"], json!([]));
    let started = served
        .post(
            "/api/v1/replays",
            json!({"source": "in", "rate": 10_000, "new_id": true}),
        )
        .await
        .expect(202);
    assert_eq!(started["total"], 5);
    let id = started["id"].as_str().unwrap();
    let done = until(&served, id, |replay| replay["state"] == "done").await;
    assert_eq!((&done["replayed"], &done["looked_at"]), (&json!(5), &json!(5)));
    let pulled = served
        .post("/api/v1/destinations/queue/pull", json!({"max": 10}))
        .await
        .expect(200);
    let pulled = pulled["deliveries"].as_array().unwrap();
    assert_eq!(pulled.len(), 5);
    assert!(pulled.iter().all(|each| each["replay"] == id));
    let event = served
        .get(&format!(
            "/api/v1/deliveries/{}",
            pulled[0]["delivery"].as_str().unwrap()
        ))
        .await
        .expect(200);
    assert_ne!(event["event"], pulled[0]["event"]["id"], "a new id was asked for");
    served.node.stopping.cancel();
    tokio::time::timeout(PATIENCE, runner).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_job_keeps_to_its_rate_can_be_cancelled_and_goes_on_after_a_restart() {
    let served = delivered(30).await;
    let runner = tokio::spawn(inbox::replay::run(served.node.clone()));
    let started = served
        .post("/api/v1/replays", json!({"source": "in", "rate": 5}))
        .await
        .expect(202);
    let id = started["id"].as_str().unwrap().to_owned();
    let watch = served.node.clock.start();
    let some = until(&served, &id, |replay| replay["looked_at"].as_u64() >= Some(4)).await;
    assert!(
        watch.elapsed() >= Duration::from_millis(500),
        "four events at five a second take their time"
    );
    assert_eq!(some["state"], "running");
    served.node.stopping.cancel();
    tokio::time::timeout(PATIENCE, runner).await.unwrap().unwrap();
    // The process ends; another begins on what is stored.
    let store = served.store.crash(Arc::new(NoSlots), served.now());
    let data = tempfile::tempdir().unwrap();
    let node = support::node(Arc::clone(&store), data.path());
    let before = hookfast_store::Store::replay(&*store, id.parse().unwrap())
        .await
        .unwrap()
        .unwrap()
        .looked_at;
    let runner = tokio::spawn(inbox::replay::run(node.clone()));
    let looking = async {
        while hookfast_store::Store::replay(&*store, id.parse().unwrap())
            .await
            .unwrap()
            .unwrap()
            .looked_at
            <= before
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, looking).await.unwrap();
    node.stopping.cancel();
    tokio::time::timeout(PATIENCE, runner).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_cancelled_job_stays_where_it_is() {
    let served = delivered(20).await;
    let runner = tokio::spawn(inbox::replay::run(served.node.clone()));
    let started = served
        .post("/api/v1/replays", json!({"rate": 1}))
        .await
        .expect(202);
    let id = started["id"].as_str().unwrap().to_owned();
    until(&served, &id, |replay| replay["looked_at"].as_u64() >= Some(1)).await;
    let path = format!("/api/v1/replays/{id}/cancel");
    let cancelled = served.ask("POST", &path).send().await.expect(200);
    assert_eq!(cancelled["state"], "cancelled");
    assert!(cancelled["ended_at"].is_string());
    let again = served.ask("POST", &path).send().await.expect(200);
    assert_eq!(again["looked_at"], cancelled["looked_at"]);
    served.node.stopping.cancel();
    tokio::time::timeout(PATIENCE, runner).await.unwrap().unwrap();
}

#[tokio::test]
async fn selections_that_mean_nothing_are_refused() {
    let served = delivered(1).await;
    for (body, field) in [
        (json!({"rate": 0}), "rate"),
        (json!({"rate": 10_001}), "rate"),
        (json!({"source": "nowhere"}), "source"),
        (json!({"destination": "nowhere"}), "destination"),
        (json!({"event": "evt_1"}), "event"),
        (
            json!({"from": "2026-01-02T00:00:00Z", "until": "2026-01-02T00:00:00Z"}),
            "until",
        ),
    ] {
        let detail = served
            .post("/api/v1/replays", body)
            .await
            .problem(422, "invalid-field");
        assert!(detail.starts_with(&format!("{field}: ")), "{detail}");
    }
}
