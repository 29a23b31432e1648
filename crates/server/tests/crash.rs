//! Owns the proof that nothing acknowledged is lost and little is repeated when the binary is killed (SPEC P1 to P3):
//! under load at random instants, with leases, replays and timers under way, and with much stored. The judge is a
//! ledger outside of the process. Only the filling of a large store knows a crate of Hookfast's.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::join_all;
use hookfast_engine::event::{Event, HeaderBlock};
use hookfast_engine::id::EventId;
use hookfast_engine::time::Timestamp;
use hookfast_store::embedded::{EmbeddedOptions, EmbeddedStore};
use hookfast_store::{Dedupe, NewEvent, NoSlots, Store as _};
use serde_json::{Value, json};

use support::api::text;
use support::app::{App, Reply};
use support::extent::{Chance, hash, short_or_nightly};
use support::ledger;
use support::load::Plan;
use support::nylas;
use support::server::Server;
use support::time::{now, unix_seconds, wait_for};

/// How many deliveries the tests' destination takes at once: as many may be repeated after a kill (SPEC P2).
const CONCURRENCY: usize = 16;

fn config(url: &str) -> String {
    nylas::config(url) + &format!("concurrency = {CONCURRENCY}\n")
}

/// What the application answered, or was about to.
struct Answer {
    id: String,
    came: Instant,
    sent: Instant,
    status: u16,
}

/// An application that is slow now and then and fails sometimes, and what it answered.
fn moody(app: &App) -> Arc<Mutex<Vec<Answer>>> {
    let answers = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&answers);
    app.answer(move |request| {
        // What is published says the attempt in its body.
        let attempt = request.header("hookfast-attempt").map_or_else(
            || {
                let body: Value = serde_json::from_slice(&request.body).expect("a notification is JSON");
                body["webhook_delivery_attempt"].to_string()
            },
            str::to_owned,
        );
        let mood = hash(&format!("{}/{attempt}", request.webhook_id()));
        let delay = Duration::from_millis(if mood.is_multiple_of(25) { 300 } else { mood % 7 });
        let status = if mood.is_multiple_of(101) { 503 } else { 200 };
        let came = now();
        kept.lock().expect("no script fails").push(Answer {
            id: request.webhook_id().to_owned(),
            came,
            sent: came + delay,
            status,
        });
        Reply::status(status).after(delay)
    });
    answers
}

/// When the server was killed, and when and how quickly it was ready again.
#[derive(Default)]
struct Times {
    kills: Vec<Instant>,
    last_ready: Option<Instant>,
    to_ready: Vec<Duration>,
}

/// Kills and starts the server at random instants, every other time also within its start.
fn kill_again_and_again(server: &mut Server, cycles: usize, chance: &mut Chance) -> Times {
    let mut times = Times::default();
    for cycle in 1..=cycles {
        std::thread::sleep(Duration::from_millis(chance.between(200, 1_200)));
        times.kills.push(now());
        server.kill();
        if cycle % 2 == 1 && cycle < cycles {
            server.start_and_kill(Duration::from_millis(chance.between(1, 200)));
            times.kills.push(now());
        }
        let start = now();
        server.start();
        times.to_ready.push(start.elapsed());
        times.last_ready = Some(now());
    }
    times
}

/// The ids that were taken once more although they had been taken, with when.
fn repeats(answers: &[Answer]) -> Vec<(String, Instant)> {
    let mut taken = BTreeSet::new();
    let taken_again = answers
        .iter()
        .filter(|one| one.status == 200 && !taken.insert(&one.id));
    taken_again.map(|one| (one.id.clone(), one.came)).collect()
}

#[test]
fn killed_again_and_again_under_load_it_loses_nothing_and_repeats_only_what_was_in_flight() {
    kill_under_load(false);
}

#[test]
fn killed_again_and_again_while_events_are_published_it_loses_nothing_either() {
    kill_under_load(true);
}

/// Nylas's form, so that what goes out can be compared with what was published, and retries that take no minutes.
fn outbox_config(url: &str) -> String {
    format!(
        "[policy.quick]\nbase = \"nylas\"\ndelays = [\"100ms\", \"200ms\", \"400ms\", \"800ms\"]\n\
         [[destination]]\nname = \"app\"\nurl = \"{url}\"\ntrigger_types = [\"message.*\"]\n\
         policy = \"quick\"\nsigning = \"both\"\nallow_private = true\nconcurrency = {CONCURRENCY}\n"
    )
}

#[expect(
    clippy::print_stdout,
    reason = "this is the body of two tests, and says with which seed they went"
)]
fn kill_under_load(publishes: bool) {
    let mut chance = Chance::new();
    println!("HOOKFAST_SEED={}", chance.seed);
    let app = App::start();
    let answers = moody(&app);
    let config = if publishes { outbox_config } else { config };
    let mut server = Server::with(&config(&app.url()));
    let mut plan = Plan::new("crash").repeating();
    plan.publishes = publishes;
    // No more than the application can take: what was in flight shall not have to wait behind a backlog.
    plan.pause = Duration::from_millis(15);
    let load = plan.start(if publishes {
        server.admin()
    } else {
        server.listen()
    });
    let times = kill_again_and_again(&mut server, short_or_nightly(6, 50), &mut chance);

    in_flight_goes_out_again(&app, &answers, &times);
    let sent = load.stop();
    assert!(
        sent.refused.keys().all(|status| *status == 503),
        "{:?}",
        sent.refused
    );
    let ledger = if publishes {
        ledger::check_published
    } else {
        ledger::check
    };
    ledger(&sent, &app);
    wait_for("all deliveries to settle", || {
        let settled = BTreeMap::from([("delivered".to_owned(), stored(&server))]);
        (server.states() == settled).then_some(())
    });
    let repeats = judge(&times, &answers.lock().expect("no script fails"));
    println!(
        "{} kills, {} acknowledged, none lost; {repeats} repeats; ready after {:?}",
        times.kills.len(),
        sent.acknowledged.len(),
        times.to_ready
    );

    server.kill();
    let data = server.data();
    let output = server.cli(&["check", "--data", data.to_str().expect("a path")]);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
}

/// What the application had not answered yet at the last kill comes once more within 5 s of the ready line.
fn in_flight_goes_out_again(app: &App, answers: &Mutex<Vec<Answer>>, times: &Times) {
    let last_kill = times.kills[times.kills.len() - 1];
    let ready = times.last_ready.expect("it was started");
    let in_flight: BTreeSet<String> = {
        let answers = answers.lock().expect("no script fails");
        let open = answers
            .iter()
            .filter(|one| one.came <= last_kill && one.sent > last_kill);
        open.map(|one| one.id.clone()).collect()
    };
    let received = app.wait_until("what was in flight to come again", |received| {
        let since = received.iter().rev().take_while(|one| one.at > last_kill);
        let since: BTreeSet<&str> = since.map(|one| one.webhook_id()).collect();
        in_flight.iter().all(|id| since.contains(id.as_str()))
    });
    for id in &in_flight {
        let again = received
            .iter()
            .find(|one| one.at > last_kill && one.webhook_id() == id);
        let after = again.map(|one| one.at.saturating_duration_since(ready));
        assert!(
            after < Some(Duration::from_secs(5)),
            "{id} came again {after:?} after the server was ready"
        );
    }
}

fn stored(server: &Server) -> u64 {
    server.get("/api/v1/stats")["events"]["stored"]
        .as_u64()
        .unwrap_or(0)
}

/// Bounds what was repeated and how long the starts took; the number of repeats.
fn judge(times: &Times, answers: &[Answer]) -> usize {
    let repeats = repeats(answers);
    for (count, kill) in times.kills.iter().enumerate() {
        let before = repeats.iter().filter(|(_, at)| at < kill).count();
        assert!(
            before <= count * CONCURRENCY,
            "{before} repeats after {count} kills"
        );
    }
    assert!(
        repeats.len() <= times.kills.len() * CONCURRENCY,
        "{} repeats",
        repeats.len()
    );
    let longest = times.to_ready.iter().max();
    assert!(
        longest < Some(&Duration::from_secs(2)),
        "a start took {longest:?}"
    );
    repeats.len()
}

#[test]
fn what_was_in_flight_at_a_kill_goes_out_again_and_nothing_else_does() {
    let app = App::start();
    let mut server = Server::with(&config(&app.url()));
    Plan::new("done").total(40).run(server.listen());
    server.wait_for_delivered(40);
    app.always(Reply::status(200).after(Duration::from_secs(20)));
    // As many as the destination's window has room for before anything was learnt of its speed.
    let hanging: BTreeSet<String> = (0..6).map(|number| format!("hangs-{number}")).collect();
    hanging.iter().for_each(|id| nylas::deliver(server.listen(), id));
    app.wait_for_ids(&hanging);
    app.always(Reply::status(200));
    server.kill();
    let before = app.received().len();
    server.start();
    let ready = now();
    server.wait_for_delivered(46);
    assert!(ready.elapsed() < Duration::from_secs(5), "{:?}", ready.elapsed());
    let received = app.received();
    let again: BTreeSet<String> = received[before..]
        .iter()
        .map(|one| one.webhook_id().to_owned())
        .collect();
    assert_eq!((received.len() - before, &again), (6, &hanging));
    assert!(
        received[before..]
            .iter()
            .all(|one| one.header("hookfast-attempt") == Some("2"))
    );
    let log = &server.delivery("hangs-0")["attempt_log"];
    assert_eq!(
        (text(&log[0]["outcome"]), text(&log[1]["outcome"])),
        ("lost", "answered")
    );
}

#[test]
fn what_was_in_flight_at_a_kill_goes_out_before_an_older_backlog() {
    const BACKLOG: usize = 1_500;
    let app = App::start();
    let mut server = Server::with(&config(&app.url()));
    server.order("/api/v1/destinations/app/pause", &json!({}));
    Plan::new("backlog").total(BACKLOG).run(server.listen());
    // The backlog drains slowly; what is new goes out beside it, and hangs.
    app.answer(|request| {
        let is_new = request.webhook_id().starts_with("new");
        Reply::status(200).after(Duration::from_millis(if is_new { 60_000 } else { 250 }))
    });
    server.order("/api/v1/destinations/app/resume", &json!({}));
    app.wait_for(8);
    let hanging: BTreeSet<String> = ["new-0", "new-1"].map(str::to_owned).into();
    hanging.iter().for_each(|id| nylas::deliver(server.listen(), id));
    app.wait_for_ids(&hanging);
    server.kill();
    let before = app.received().len();
    server.start();
    let ready = now();
    app.wait_until("what was in flight to come again", |received| {
        let again: BTreeSet<&str> = received[before..].iter().map(|one| one.webhook_id()).collect();
        hanging.iter().all(|id| again.contains(id.as_str()))
    });
    assert!(ready.elapsed() < Duration::from_secs(5), "{:?}", ready.elapsed());
    let waiting = server.states()["pending"];
    assert!(
        waiting > BACKLOG as u64 / 2,
        "{waiting} wait: there was no backlog"
    );
}

fn pull(server: &Server, wait: &str, lease: &str) -> Vec<Value> {
    let asked = json!({"max": 1, "wait": wait, "lease": lease});
    let pulled = server.order("/api/v1/destinations/queue/pull", &asked);
    pulled["deliveries"].as_array().expect("a list").clone()
}

#[test]
fn a_lease_outlives_a_kill_and_is_given_again_only_when_it_has_ended() {
    let source = nylas::config("http://127.0.0.1:9/");
    let end = source.find("url = ").expect("the destination has a URL");
    let config = source[..end].replace("\"app\"", "\"queue\"") + "kind = \"pull\"\nsources = [\"nylas\"]\n";
    let mut server = Server::with(&config);
    nylas::deliver(server.listen(), "one");
    nylas::deliver(server.listen(), "two");
    let done = pull(&server, "0s", "60s").remove(0);
    let begin = now();
    let leased = pull(&server, "0s", "5s").remove(0);
    server.kill();
    server.start();
    assert!(pull(&server, "0s", "5s").is_empty(), "both are leased");
    assert!(
        begin.elapsed() < Duration::from_secs(5),
        "the machine is too slow to tell"
    );
    let receipts = json!({"receipts": [done["receipt"]]});
    let acked = server.order("/api/v1/destinations/queue/ack", &receipts);
    assert_eq!(
        acked["results"][0]["result"], "done",
        "the lease is still the worker's"
    );

    let again = pull(&server, "20s", "60s").remove(0);
    let waited = begin.elapsed();
    assert!(
        waited >= Duration::from_secs(5) && waited < Duration::from_secs(8),
        "{waited:?}"
    );
    assert_eq!(again["delivery"], leased["delivery"]);
    assert_eq!((&again["attempt"], &leased["attempt"]), (&2.into(), &1.into()));
}

#[test]
fn a_replay_goes_on_after_a_kill_and_finishes_exactly_what_was_left() {
    const EVENTS: usize = 200;
    let app = App::start();
    let mut server = Server::with(&config(&app.url()));
    let sent = Plan::new("again").total(EVENTS).run(server.listen());
    server.wait_for_delivered(EVENTS as u64);
    let job = server.order("/api/v1/replays", &json!({"source": "nylas", "rate": 60}));
    let path = format!("/api/v1/replays/{}", text(&job["id"]));
    app.wait_for(EVENTS + 60);
    server.kill();
    let replayed_before = app.received().len() - EVENTS;
    assert!(replayed_before < EVENTS, "the kill came too late");
    server.start();
    let job = wait_for("the replay to be done", || {
        let job = server.get(&path);
        (job["state"] == "done").then_some(job)
    });
    assert_eq!(
        (&job["total"], &job["replayed"]),
        (&EVENTS.into(), &EVENTS.into()),
        "{job}"
    );
    server.wait_for_delivered(EVENTS as u64);
    let received = app.received();
    let replays = &received[EVENTS..];
    assert!(
        replays
            .iter()
            .all(|one| one.header("hookfast-replay") == Some(text(&job["id"])))
    );
    let ids: BTreeSet<String> = replays.iter().map(|one| one.webhook_id().to_owned()).collect();
    assert_eq!(ids, sent.acknowledged);
    let extra = replays.len() - EVENTS;
    assert!(extra <= CONCURRENCY, "{extra} were replayed twice");
}

#[test]
fn a_retry_comes_at_its_time_although_the_server_was_killed_meanwhile() {
    const ASKED: Duration = Duration::from_secs(5);
    let app = App::start();
    let mut server = Server::with(&config(&app.url()));
    app.always(Reply::status(503).header("retry-after", &ASKED.as_secs().to_string()));
    nylas::deliver(server.listen(), "later");
    let waiting = server.wait_for_state("later", "retrying");
    app.always(Reply::status(200));
    server.kill();
    server.start();
    assert_eq!(server.delivery("later")["due_at"], waiting["due_at"]);
    let received = app.wait_for(2);
    let gap = received[1].at - received[0].at;
    // Received and answered are not the same instant, and the machine is busy.
    assert!(
        gap >= ASKED - Duration::from_millis(50) && gap < ASKED + Duration::from_secs(2),
        "{gap:?}"
    );
    server.wait_for_delivered(1);
}

#[test]
fn an_application_that_is_down_is_not_stormed_after_a_kill() {
    const EVENTS: usize = 120;
    let app = App::start();
    let mut server = Server::with(&config(&app.url()));
    app.always(Reply::status(502));
    let sent = Plan::new("down").total(EVENTS).run(server.listen());
    wait_for("the breaker to open", || {
        let destination = server.get("/api/v1/destinations/app");
        (destination["breaker"]["state"] == "open").then_some(())
    });
    server.kill();
    let before = app.received().len();
    server.start();
    let since = now();
    // Only probes may come, at growing distances; the wait is the time in which others would have come.
    std::thread::sleep(Duration::from_millis(1_500));
    let probes = app.received().len() - before;
    let seconds = since.elapsed().as_secs_f64();
    assert!(probes as f64 <= 2.0 + seconds, "{probes} attempts in {seconds} s");
    app.always(Reply::status(200));
    server.wait_for_delivered(EVENTS as u64);
    ledger::check(&sent, &app);
}

/// Adds that many waiting events to the data directory of a server that has stopped, as one that was killed leaves
/// them.
fn fill(data: &Path, count: usize) {
    const AT_ONCE: usize = 4_000;
    let mut options = EmbeddedOptions::new(data);
    options.lanes.batch.operations = AT_ONCE;
    let start = Timestamp::from_secs(i64::try_from(unix_seconds()).expect("a time"));
    let store = EmbeddedStore::open(options, Arc::new(NoSlots), start).expect("the store can be opened");
    let topology = store.topology();
    let source = topology.source_named("nylas").expect("the source is there");
    let event = |number: usize| {
        let id = format!("filled-{number}");
        let key = (number as u128).to_be_bytes();
        let event = Event {
            id: EventId::new(start, u128::from(hash(&id))),
            application: source.application,
            source: source.id,
            provider_id: Some(id.clone()),
            event_type: Some("message.created".to_owned()),
            occurred_at: Some(start),
            accepted_at: start.plus(Duration::from_micros(number as u64)),
            headers: HeaderBlock::pack([(&b"content-type"[..], &b"application/json"[..])]),
            body: Bytes::from(nylas::notification(&id)),
        };
        let dedupe = Dedupe {
            key,
            body: [0; 8],
            expires_at: start.plus(Duration::from_secs(86_400)),
        };
        NewEvent {
            event: Arc::new(event),
            dedupe: Some(dedupe),
            lease_margin: Duration::from_secs(1),
        }
    };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime can be made");
    for first in (0..count).step_by(AT_ONCE) {
        let appends = (first..count.min(first + AT_ONCE)).map(|number| store.append(event(number)));
        for appended in runtime.block_on(join_all(appends)) {
            appended.expect("it is stored");
        }
    }
    store.abandon();
}

#[test]
fn with_very_much_stored_it_is_ready_quickly_and_delivers_at_once() {
    let (count, limit) = (1_000_000, Duration::from_secs(2));
    let app = App::start();
    let mut server = Server::with(&config(&app.url()));
    server.terminate();
    let filling = now();
    fill(&server.data(), count);
    println!("stored {count} events in {:?}", filling.elapsed());
    let start = now();
    server.start();
    let took = start.elapsed();
    app.wait_for(1);
    let first = start.elapsed();
    println!("{count} waiting events: ready after {took:?}, the first was delivered after {first:?}");
    assert!(took < limit, "ready after {took:?}");
    assert!(
        first < took + Duration::from_secs(5),
        "the first was delivered after {first:?}"
    );
    let left: u64 = server.states().into_values().sum();
    assert_eq!(left, count as u64);
    println!("resident: {} MiB", server.resident_bytes() >> 20);
}
