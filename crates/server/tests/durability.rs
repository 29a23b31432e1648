//! Owns the proof that 200 means durable (SPEC I1, I3, P1): the binary on a disk whose syncs are slow, fail, or are
//! written down. It must not know how the server stores: it sees system calls and answers.

mod support;

use std::sync::Mutex;
use std::time::Duration;

use support::app::App;
use support::extent::short_or_nightly;
use support::http::{self, Connection};
use support::ledger;
use support::load::{Plan, Sent};
use support::nylas::{self, PATH, SECRET, SIGNATURE_HEADER};
use support::server::{Server, Setup};
use support::shim::{Event, Shim};
use support::time::now;

/// A source whose events go nowhere: no settlement syncs beside the acknowledgements.
fn source_alone() -> String {
    let config = nylas::config("http://127.0.0.1:9/");
    let end = config.find("[[destination]]").expect("there is a destination");
    config[..end].to_owned()
}

fn post_on(connection: &mut Connection, id: &str) -> u16 {
    let body = nylas::notification(id);
    let signature = nylas::sign(SECRET, &body);
    let answer = connection.send("POST", PATH, &[(SIGNATURE_HEADER, &signature)], &body);
    answer.expect("it answers").status
}

/// How long each acknowledgement took, for that many senders at once which post each of their ids.
fn acknowledgements(server: &Server, senders: usize, each: usize) -> Vec<Duration> {
    let took = Mutex::new(Vec::new());
    let send = |sender: usize| {
        let mut connection = Connection::open(server.listen()).expect("the server accepts");
        for serial in 0..each {
            let start = now();
            assert_eq!(
                post_on(&mut connection, &format!("{sender}-of-{senders}-{serial}")),
                200
            );
            took.lock().expect("no sender fails").push(start.elapsed());
        }
    };
    std::thread::scope(|scope| {
        (0..senders).for_each(|sender| _ = scope.spawn(move || send(sender)));
    });
    took.into_inner().expect("no sender fails")
}

#[test]
fn with_slow_syncs_no_acknowledgement_is_quick_neither_of_a_first_post_nor_of_a_repeat() {
    const DELAY: Duration = Duration::from_millis(50);
    let app = App::start();
    let shim = Shim::new(&[]);
    let server = Setup::new(&nylas::config(&app.url())).shim(&shim).start();
    shim.set(&[("delay_ms", "50")]);
    // One sender first: nothing else syncs meanwhile but what its own events lead to.
    for (senders, each) in [(1, 12), (8, 6)] {
        for what in ["first posts", "repeats"] {
            let mut took = acknowledgements(&server, senders, each);
            took.sort_unstable();
            println!("{what} of {senders} senders: p50 {:?}", took[took.len() / 2]);
            assert!(
                took[0] >= DELAY,
                "{what} of {senders} senders: one took {:?}",
                took[0]
            );
        }
    }
    server.wait_for_delivered(12 + 8 * 6);
}

#[test]
fn between_a_request_and_its_acknowledgement_a_sync_is_completed() {
    let shim = Shim::new(&[]);
    let server = Setup::new(&source_alone()).shim(&shim).start();
    let mut connection = Connection::open(server.listen()).expect("the server accepts");
    // The first commit to a new log syncs its head as well.
    assert_eq!(post_on(&mut connection, "warm-up"), 200);
    let before = shim.seen().len();
    for number in 0..100 {
        // Every third is a repeat of the one before.
        let number = if number % 3 == 2 { number - 1 } else { number };
        assert_eq!(post_on(&mut connection, &format!("ordered-{number}")), 200);
    }
    let (mut syncs, mut acknowledged) = (0, 0);
    for seen in &shim.seen()[before..] {
        match &seen.what {
            Event::Sync { error, path, .. } => {
                assert_eq!(*error, None);
                syncs += usize::from(path.contains("hookfast.db"));
            }
            Event::Ack { status: 200, port } if *port == server.listen().port() => {
                acknowledged += 1;
                // One request at a time, and nothing else to write: the n-th acknowledgement needs n syncs before it.
                assert!(
                    syncs >= acknowledged,
                    "acknowledgement {acknowledged} after {syncs} syncs"
                );
            }
            Event::Ack { .. } => {}
        }
    }
    assert_eq!(acknowledged, 100);
    // More syncs than acknowledgements would make the comparison above worthless.
    assert!(
        syncs <= acknowledged + 3,
        "{syncs} syncs for {acknowledged} acknowledgements"
    );
}

/// What is answered while every sync fails, by which the server must stop.
fn nothing_is_acknowledged_while_syncs_fail(first: &str) {
    let app = App::start();
    let shim = Shim::new(&[]);
    let mut server = Setup::new(&nylas::config(&app.url())).shim(&shim).start();
    let sent = Plan::new("before").total(80).run(server.listen());
    assert_eq!(sent.acknowledged.len(), 80);
    server.wait_for_delivered(80);

    shim.set(&[("fail", "1")]);
    for (number, id) in [first, "before-0-0", "new", "before-1-1", "newer"]
        .into_iter()
        .enumerate()
    {
        let body = nylas::notification(id);
        let signature = nylas::sign(SECRET, &body);
        let headers = [(SIGNATURE_HEADER, signature.as_str())];
        match http::try_request(server.listen(), "POST", PATH, &headers, &body) {
            Ok(answer) => assert_eq!(answer.status, 503, "{id}: {}", answer.text()),
            // It has stopped already.
            Err(error) => assert_ne!(number, 0, "the first of them is answered, not {error}"),
        }
    }
    let status = server.wait_for_end();
    assert_eq!(status.code(), Some(1));
    let log = server.log();
    let last = log.lines().last().unwrap_or_default();
    assert!(
        last.contains("commit failed"),
        "the reason is not the last it said: {log}"
    );

    shim.set(&[]);
    server.start();
    // Whether what was refused is stored is not known; its sender's repeats are harmless either way.
    for id in sent
        .acknowledged
        .iter()
        .map(String::as_str)
        .chain(["new", "newer"])
    {
        nylas::deliver(server.listen(), id);
    }
    let mut known = sent;
    known.posted.extend(["new", "newer"].map(str::to_owned));
    known.acknowledged.extend(["new", "newer"].map(str::to_owned));
    server.wait_for_delivered(82);
    ledger::check_each_once(&known, &app);
}

#[test]
fn while_syncs_fail_no_new_event_is_acknowledged_and_the_server_stops_and_starts_again() {
    nothing_is_acknowledged_while_syncs_fail("new");
}

#[test]
fn while_syncs_fail_no_repeat_is_acknowledged_and_the_server_stops_and_starts_again() {
    nothing_is_acknowledged_while_syncs_fail("before-0-0");
}

/// Lets `fault` happen at one sync after another under load, and judges what came of it.
fn nothing_is_lost_whichever_sync(fault: impl Fn(usize) -> (&'static str, String), code: Option<i32>) {
    let app = App::start();
    let shim = Shim::new(&[]);
    let mut server = Setup::new(&nylas::config(&app.url())).shim(&shim).start();
    let mut all = Sent::default();
    for round in 0..short_or_nightly(6, 60) {
        // Early and late ones, so that a checkpoint's are among them.
        let (setting, value) = fault(1 + round * round * 7 % 400);
        let load = Plan::new(&format!("round-{round}")).start(server.listen());
        load.wait_for_acknowledged(5);
        shim.set(&[(setting, &value)]);
        let status = server.wait_for_end();
        assert_eq!(status.code(), code, "{setting}={value}");
        all.add(load.stop());
        shim.set(&[]);
        server.start();
    }
    assert!(all.unanswered + all.refused.values().sum::<usize>() > 0);
    assert!(
        all.refused.keys().all(|status| *status == 503),
        "{:?}",
        all.refused
    );
    ledger::check(&all, &app);
    server.kill();
    let data = server.data();
    let output = server.cli(&["check", "--data", data.to_str().expect("a path")]);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
}

#[test]
fn whichever_sync_fails_nothing_that_was_acknowledged_is_lost() {
    nothing_is_lost_whichever_sync(|nth| ("fail", format!("nth:{nth}")), Some(1));
}

#[test]
fn at_whichever_sync_it_is_killed_nothing_that_was_acknowledged_is_lost() {
    nothing_is_lost_whichever_sync(|nth| ("kill_sync", nth.to_string()), None);
}

#[test]
fn an_event_whose_acknowledgement_was_never_sent_is_stored_and_its_repeat_is_one() {
    let app = App::start();
    let shim = Shim::new(&[]);
    let mut server = Setup::new(&nylas::config(&app.url())).shim(&shim).start();
    nylas::deliver(server.listen(), "answered");
    server.wait_for_delivered(1);
    shim.set(&[("kill_ack", "1")]);
    let body = nylas::notification("unanswered");
    let signature = nylas::sign(SECRET, &body);
    let headers = [(SIGNATURE_HEADER, signature.as_str())];
    let answer = http::try_request(server.listen(), "POST", PATH, &headers, &body);
    assert!(
        answer.is_err(),
        "it was killed at the acknowledgement: {answer:?}"
    );
    assert_eq!(server.wait_for_end().code(), None);

    shim.set(&[]);
    server.start();
    server.wait_for_delivered(2);
    nylas::deliver(server.listen(), "unanswered");
    assert_eq!(server.event("unanswered")["repeats"], 1);
    // It may have been on its way when the process died.
    assert!(app.counts()["unanswered"] <= 2);
}

#[test]
fn killed_at_any_sync_of_its_first_start_it_starts_the_next_time() {
    let app = App::start();
    for nth in 1.. {
        let shim = Shim::new(&[("kill_sync", &nth.to_string())]);
        let mut server = Setup::new(&nylas::config(&app.url())).shim(&shim).prepare();
        if server.try_start().is_ok() {
            assert!(nth > 3, "a start makes more syncs than {nth}");
            break;
        }
        shim.set(&[]);
        server.start();
        let id = format!("after-{nth}");
        nylas::deliver(server.listen(), &id);
        server.wait_for_state(&id, "delivered");
        // What was made before the kill is still readable after another start.
        server.kill();
        server.start();
        server.wait_for_delivered(1);
    }
}
