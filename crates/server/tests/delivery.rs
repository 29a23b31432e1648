//! Owns the proof that the binary delivers as promised (SPEC I10 to I12, I16): an application that is down, that
//! refuses, that is paused, that pulls, and what is delivered once more. It must not know how.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use support::api::text;
use support::app::{App, Reply};
use support::extent::short_or_nightly;
use support::load::Plan;
use support::nylas;
use support::server::Server;
use support::time::{now, wait_for, wait_within};

/// How far one backlogged delivery may come before an older one: what is in flight at once, and what was claimed.
const OUT_OF_ORDER: usize = 256;

#[test]
fn what_came_while_the_application_was_down_is_delivered_oldest_first_within_seconds() {
    let app = App::start();
    let server = Server::with(&nylas::config(&app.url()));
    let (up, taken) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
    let (is_up, takes) = (Arc::clone(&up), Arc::clone(&taken));
    app.answer(move |request| {
        if !is_up.load(Ordering::SeqCst) {
            return Reply::status(502);
        }
        takes
            .lock()
            .expect("no script fails")
            .push(request.webhook_id().to_owned());
        Reply::status(200)
    });
    let mut plan = Plan::new("down");
    plan.pause = Duration::from_millis(25);
    let load = plan.start(server.listen());
    std::thread::sleep(Duration::from_secs(short_or_nightly(5, 30)));
    let backlog: Vec<String> = server
        .list("/api/v1/events")
        .iter()
        .rev()
        .map(provider_id)
        .collect();
    assert!(backlog.len() > 100, "{} came in that time", backlog.len());

    up.store(true, Ordering::SeqCst);
    let back = now();
    let wanted: BTreeSet<&String> = backlog.iter().collect();
    wait_within(Duration::from_secs(15), "the backlog to be delivered", || {
        let taken = taken.lock().expect("no script fails");
        wanted.is_subset(&taken.iter().collect()).then_some(())
    });
    println!(
        "{} waiting events were delivered {:?} after the return",
        backlog.len(),
        back.elapsed()
    );
    let sent = load.stop();
    assert!(
        sent.refused.is_empty() && sent.unanswered == 0,
        "{:?}",
        sent.refused
    );
    assert_eq!(sent.acknowledged, sent.posted);
    support::ledger::check(&sent, &app);
    server.wait_for_delivered(sent.acknowledged.len() as u64);

    let taken = taken.lock().expect("no script fails");
    let rank: BTreeMap<&String, usize> = backlog.iter().enumerate().map(|(rank, id)| (id, rank)).collect();
    let mut newest = 0;
    for one in taken.iter().filter_map(|id| rank.get(id)) {
        assert!(
            one + OUT_OF_ORDER > newest,
            "number {one} came after number {newest}"
        );
        newest = newest.max(*one);
    }
    assert_eq!(taken.len(), sent.acknowledged.len(), "each was taken once");
}

fn provider_id(event: &Value) -> String {
    text(&event["provider_id"]).to_owned()
}

const PULL: &str = "[[source]]\nname = \"nylas\"\nprovider = \"nylas\"\nsecrets = [\"bE9-testSecret_1234\"]\n\n\
                    [[destination]]\nname = \"queue\"\nkind = \"pull\"\nsources = [\"nylas\"]\n";

/// Pulls at most that many deliveries, leased for that long.
fn pull(server: &Server, max: u32, wait: &str, lease: &str) -> Vec<Value> {
    let asked = json!({"max": max, "wait": wait, "lease": lease});
    let pulled = server.order("/api/v1/destinations/queue/pull", &asked);
    pulled["deliveries"].as_array().expect("a list").clone()
}

/// What came of acknowledging that delivery.
fn ack(server: &Server, delivery: &Value) -> String {
    let receipts = json!({"receipts": [delivery["receipt"]]});
    let answer = server.order("/api/v1/destinations/queue/ack", &receipts);
    text(&answer["results"][0]["result"]).to_owned()
}

#[test]
fn a_worker_leases_and_acknowledges_and_a_lease_that_ran_out_is_given_again() {
    let server = Server::with(PULL);
    for id in ["one", "two", "three"] {
        nylas::deliver(server.listen(), id);
    }
    let first = pull(&server, 1, "0s", "30s");
    let rest = pull(&server, 10, "0s", "1s");
    assert_eq!((first.len(), rest.len()), (1, 2));
    assert!(pull(&server, 10, "0s", "30s").is_empty(), "all are leased");
    assert_eq!(first[0]["event"]["provider_id"], "one");
    use base64::Engine as _;
    let body = base64::engine::general_purpose::STANDARD.encode(nylas::notification("one"));
    assert_eq!(text(&first[0]["body_base64"]), body);
    assert_eq!(ack(&server, &first[0]), "done");

    // The lease of the other two runs out; who waits for deliveries gets them.
    let mut again: Vec<Value> = Vec::new();
    while again.len() < 2 {
        again.extend(pull(&server, 10, "20s", "30s"));
    }
    let ids: BTreeSet<&str> = again
        .iter()
        .map(|one| text(&one["event"]["provider_id"]))
        .collect();
    assert_eq!(ids, BTreeSet::from(["two", "three"]));
    assert!(again.iter().all(|one| one["attempt"] == 2), "{again:?}");
    assert_eq!(ack(&server, &rest[0]), "stale", "the lease was lost");
    assert_eq!(ack(&server, &again[0]), "done");
    let nack = json!({"receipts": [again[1]["receipt"]], "delay": "0s"});
    server.order("/api/v1/destinations/queue/nack", &nack);
    let third = pull(&server, 10, "20s", "30s");
    assert_eq!((third.len(), &third[0]["attempt"]), (1, &3.into()));
    assert_eq!(ack(&server, &third[0]), "done");
    server.wait_for_delivered(3);
}

#[test]
fn one_event_is_replayed_with_its_id_and_the_name_of_the_replay() {
    let app = App::start();
    let server = Server::with(&nylas::config(&app.url()));
    for id in ["wanted", "other"] {
        nylas::deliver(server.listen(), id);
    }
    server.wait_for_delivered(2);
    let event = server.event("wanted");
    server.order(
        &format!("/api/v1/events/{}/replay", text(&event["id"])),
        &json!({}),
    );
    let received = app.wait_for(3);
    server.wait_for_delivered(2);
    let again = &received[2];
    assert_eq!(
        (again.webhook_id(), &again.body),
        ("wanted", &nylas::notification("wanted"))
    );
    assert_eq!(again.header("hookfast-attempt"), Some("2"));
    assert_eq!(again.header("hookfast-event-id"), Some(text(&event["id"])));
    assert!(again.header("hookfast-replay").is_some_and(|job| !job.is_empty()));
}

#[test]
fn a_replay_by_filter_is_counted_dry_and_then_touches_exactly_those() {
    let app = App::start();
    let server = Server::with(&nylas::config(&app.url()));
    for number in 0..30 {
        let kind = ["message.created", "message.updated", "thread.replied"][number % 3];
        let body = nylas::notification_of(kind, &format!("{kind}-{number}"), 0);
        assert_eq!(
            nylas::post_body(server.listen(), nylas::SECRET, &body).status,
            200
        );
    }
    server.wait_for_delivered(30);
    let mut asked = json!({"source": "nylas", "type": "message.*", "dry_run": true});
    let count = server.order("/api/v1/replays", &asked);
    assert_eq!(
        (&count["events"], &count["deliveries"]),
        (&20.into(), &20.into()),
        "{count}"
    );
    assert_eq!(
        server.list("/api/v1/replays").len(),
        0,
        "a dry run starts nothing"
    );

    asked["dry_run"] = false.into();
    let job = server.order("/api/v1/replays", &asked);
    let path = format!("/api/v1/replays/{}", text(&job["id"]));
    let job = wait_for("the replay to be done", || {
        let job = server.get(&path);
        (job["state"] == "done").then_some(job)
    });
    assert_eq!(
        (&job["total"], &job["replayed"]),
        (&20.into(), &20.into()),
        "{job}"
    );
    server.wait_for_delivered(30);
    let received = app.received();
    let again = received
        .iter()
        .filter(|one| one.header("hookfast-replay").is_some());
    let mut ids: Vec<_> = again.map(|one| one.webhook_id().to_owned()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!((received.len(), ids.len()), (50, 20));
    assert!(ids.iter().all(|id| id.starts_with("message.")), "{ids:?}");
}

#[test]
fn what_comes_for_a_paused_destination_is_held_and_delivered_when_it_is_resumed() {
    let app = App::start();
    let server = Server::with(&nylas::config(&app.url()));
    server.order("/api/v1/destinations/app/pause", &json!({}));
    for id in ["one", "two"] {
        nylas::deliver(server.listen(), id);
    }
    server.wait_for_state("one", "held");
    server.wait_for_states(&[("held", 2)]);
    assert_eq!(app.received().len(), 0);
    let resumed = now();
    server.order("/api/v1/destinations/app/resume", &json!({}));
    app.wait_for(2);
    assert!(
        resumed.elapsed() < Duration::from_secs(5),
        "{:?}",
        resumed.elapsed()
    );
    server.wait_for_delivered(2);
}

#[test]
fn a_permanent_answer_rejects_and_a_retry_delivers_after_all() {
    let app = App::start();
    let server = Server::with(&nylas::config(&app.url()));
    app.always(Reply::status(410).body("gone for good"));
    nylas::deliver(server.listen(), "gone");
    let delivery = server.wait_for_state("gone", "rejected");
    assert_eq!(
        (&delivery["attempts"], &delivery["due_at"]),
        (&1.into(), &Value::Null)
    );
    let attempt = &delivery["attempt_log"][0];
    assert_eq!(
        (&attempt["status"], text(&attempt["response_body"])),
        (&410.into(), "gone for good")
    );

    app.always(Reply::status(200));
    let retry = format!("/api/v1/deliveries/{}/retry", text(&delivery["id"]));
    let changed = server.order(&retry, &json!({}));
    assert_eq!(
        (&changed["was"], &changed["changed"]),
        (&"rejected".into(), &true.into())
    );
    server.wait_for_delivered(1);
    assert_eq!(app.received().len(), 2);
    let changed = server.order(&retry, &json!({}));
    assert_eq!(changed["changed"], false, "what is delivered is left alone");
}
