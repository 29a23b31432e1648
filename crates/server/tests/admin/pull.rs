//! Pulling (SPEC I12): lease, acknowledge, give back, extend, wait.

use std::time::Duration;

use hookfast_engine::id::SourceId;
use serde_json::{Value, json};

use crate::support::{DEFAULT, Served, serve};
use crate::world::{BODY, append};

const PULL: &str = "/api/v1/destinations/queue/pull";

async fn queue() -> (Served, SourceId) {
    let served = serve().await;
    let body = json!({"name": "in", "provider": "nylas"});
    let source = served.post("/api/v1/sources", body).await.expect(201);
    let body = json!({"name": "queue", "sources": ["in"]});
    assert_eq!(
        served.post("/api/v1/destinations", body).await.expect(201)["kind"],
        "pull"
    );
    let id = source["id"].as_str().unwrap().parse().unwrap();
    (served, id)
}

async fn pull(served: &Served, body: Value) -> Vec<Value> {
    let answer = served.post(PULL, body).await.expect(200);
    answer["deliveries"].as_array().unwrap().clone()
}

async fn with_receipt(served: &Served, action: &str, delivery: &Value, more: Value) -> String {
    let mut body = json!({"receipts": [delivery["receipt"]]});
    body.as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    let path = format!("/api/v1/destinations/queue/{action}");
    let answer = served.post(&path, body).await.expect(200);
    assert_eq!(answer["results"][0]["receipt"], delivery["receipt"]);
    answer["results"][0]["result"].as_str().unwrap().to_owned()
}

async fn state(served: &Served, delivery: &Value) -> Value {
    let path = format!("/api/v1/deliveries/{}", delivery["delivery"].as_str().unwrap());
    served.get(&path).await.expect(200)
}

#[tokio::test]
async fn a_lease_is_one_workers_until_it_is_acknowledged_and_then_nobodys() {
    let (served, source) = queue().await;
    let event = append(&served, DEFAULT, source, "message.created").await;
    let leased = pull(&served, json!({"max": 10, "lease": "1h"})).await;
    assert_eq!(leased.len(), 1);
    let delivery = &leased[0];
    assert_eq!(delivery["event"]["id"], event.to_string());
    assert_eq!(delivery["event"]["type"], "message.created");
    assert_eq!(delivery["event"]["source"], "in");
    assert_eq!(delivery["attempt"], 1);
    use base64::Engine as _;
    let body = base64::engine::general_purpose::STANDARD.decode(delivery["body_base64"].as_str().unwrap());
    assert_eq!(body.unwrap(), BODY);
    assert!(pull(&served, json!({"max": 10})).await.is_empty(), "it is leased");
    assert_eq!(state(&served, delivery).await["state"], "in_flight");
    assert_eq!(with_receipt(&served, "ack", delivery, json!({})).await, "done");
    let shown = state(&served, delivery).await;
    assert_eq!(shown["state"], "delivered");
    assert_eq!(shown["attempt_log"][0]["outcome"], "acknowledged");
    for action in ["ack", "nack", "extend"] {
        assert_eq!(
            with_receipt(&served, action, delivery, json!({})).await,
            "stale",
            "{action}"
        );
    }
}

#[tokio::test]
async fn what_is_given_back_comes_again_after_its_delay_and_old_receipts_are_stale() {
    let (served, source) = queue().await;
    append(&served, DEFAULT, source, "a").await;
    let first = pull(&served, json!({})).await.remove(0);
    assert_eq!(with_receipt(&served, "nack", &first, json!({})).await, "done");
    let second = pull(&served, json!({})).await.remove(0);
    assert_eq!(second["delivery"], first["delivery"]);
    assert_eq!(second["attempt"], 2);
    assert_eq!(with_receipt(&served, "ack", &first, json!({})).await, "stale");
    assert_eq!(with_receipt(&served, "extend", &first, json!({})).await, "stale");
    assert_eq!(
        with_receipt(&served, "nack", &second, json!({"delay": "1h"})).await,
        "done"
    );
    assert!(pull(&served, json!({})).await.is_empty(), "it waits");
    assert_ne!(state(&served, &first).await["state"], "in_flight");
    append(&served, DEFAULT, source, "b").await;
    let third = pull(&served, json!({})).await.remove(0);
    assert_eq!(
        with_receipt(&served, "nack", &third, json!({"delay": "200ms"})).await,
        "done"
    );
    let again = pull(&served, json!({"wait": "20s"})).await.remove(0);
    assert_eq!(
        again["delivery"], third["delivery"],
        "a waiting worker gets it once the delay is over"
    );
}

#[tokio::test]
async fn a_lease_that_runs_out_comes_again_and_one_that_is_extended_does_not() {
    let (served, source) = queue().await;
    append(&served, DEFAULT, source, "a").await;
    let lost = pull(&served, json!({"lease": "1s"})).await.remove(0);
    let again = pull(&served, json!({"wait": "20s", "lease": "1s"}))
        .await
        .remove(0);
    assert_eq!(again["delivery"], lost["delivery"]);
    assert_eq!(again["attempt"], 2);
    assert_eq!(with_receipt(&served, "ack", &lost, json!({})).await, "stale");
    assert_eq!(
        with_receipt(&served, "extend", &again, json!({"lease": "1h"})).await,
        "done"
    );
    assert!(
        pull(&served, json!({"wait": "1s500ms"})).await.is_empty(),
        "the lease was extended"
    );
    assert_eq!(with_receipt(&served, "ack", &again, json!({})).await, "done");
    let shown = state(&served, &lost).await;
    assert_eq!(shown["attempt_log"][0]["outcome"], "lost");
}

#[tokio::test]
async fn a_waiting_worker_is_woken_by_new_work_and_two_do_not_get_the_same() {
    let (served, source) = queue().await;
    let waiting = || pull(&served, json!({"wait": "30s", "max": 1}));
    let appending = async {
        // Both wait by then; were they not, they would find the events all the same.
        tokio::time::sleep(Duration::from_millis(300)).await;
        let watch = served.node.clock.start();
        append(&served, DEFAULT, source, "a").await;
        append(&served, DEFAULT, source, "b").await;
        watch
    };
    let (one, two, watch) = tokio::join!(waiting(), waiting(), appending);
    assert!(watch.elapsed() < Duration::from_secs(10), "woken, not timed out");
    assert_ne!(one[0]["delivery"], two[0]["delivery"]);
}

#[tokio::test]
async fn a_wait_ends_empty_when_its_time_is_over_and_when_the_node_stops() {
    let (served, _) = queue().await;
    assert!(pull(&served, json!({"wait": "300ms"})).await.is_empty());
    let stopping = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        served.node.stopping.cancel();
    };
    let (pulled, ()) = tokio::join!(pull(&served, json!({"wait": "30s"})), stopping);
    assert!(pulled.is_empty());
}

#[tokio::test]
async fn a_paused_queue_gives_nothing_and_a_pushed_one_is_not_pulled() {
    let (served, source) = queue().await;
    append(&served, DEFAULT, source, "a").await;
    served
        .ask("POST", "/api/v1/destinations/queue/pause")
        .send()
        .await
        .expect(200);
    assert!(pull(&served, json!({})).await.is_empty());
    let shown = served.get("/api/v1/deliveries").await.expect(200);
    assert_eq!(shown["data"][0]["state"], "held");
    served
        .ask("POST", "/api/v1/destinations/queue/resume")
        .send()
        .await
        .expect(200);
    assert_eq!(pull(&served, json!({})).await.len(), 1);
    let body = json!({"name": "pushed", "url": "https://a.example/"});
    served.post("/api/v1/destinations", body).await.expect(201);
    served
        .post("/api/v1/destinations/pushed/pull", json!({}))
        .await
        .problem(409, "conflict");
}

#[tokio::test]
async fn bounds_hold_from_both_sides() {
    let (served, source) = queue().await;
    for good in [
        json!({"max": 1}),
        json!({"max": 1000}),
        json!({"lease": "1s"}),
        json!({"lease": "12h"}),
        json!({"wait": "0s"}),
    ] {
        served.post(PULL, good).await.expect(200);
    }
    let bad = [
        (json!({"max": 0}), "max"),
        (json!({"max": 1001}), "max"),
        (json!({"lease": "999ms"}), "lease"),
        (json!({"lease": "12h1us"}), "lease"),
        (json!({"wait": "30s1us"}), "wait"),
    ];
    for (body, field) in bad {
        let detail = served.post(PULL, body).await.problem(422, "invalid-field");
        assert!(detail.starts_with(&format!("{field}: ")), "{detail}");
    }
    served.ask("POST", PULL).send().await.expect(200);
    append(&served, DEFAULT, source, "a").await;
    let receipt = pull(&served, json!({})).await.remove(0)["receipt"].clone();
    let ack = "/api/v1/destinations/queue/ack";
    served
        .post(ack, json!({"receipts": []}))
        .await
        .problem(422, "invalid-field");
    served
        .post(ack, json!({"receipts": vec![receipt.clone(); 1001]}))
        .await
        .problem(422, "invalid-field");
    served
        .post(ack, json!({"receipts": ["x"]}))
        .await
        .problem(422, "invalid-field");
    let many = served
        .post(ack, json!({"receipts": vec![receipt; 1000]}))
        .await
        .expect(200);
    let done = many["results"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|each| each["result"] == "done");
    assert_eq!(done.count(), 1, "one receipt is worth one acknowledgement");
    let nack = json!({"receipts": ["dlv_00000000000070008000000000000000.1-1"], "delay": "12h1us"});
    served
        .post("/api/v1/destinations/queue/nack", nack)
        .await
        .problem(422, "invalid-field");
}
