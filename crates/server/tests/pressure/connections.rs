//! Connections that do nothing, and connections without end, beside a client that behaves (SPEC I6).

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::app::App;
use crate::support::extent::short_or_nightly;
use crate::support::http::{self, Connection};
use crate::support::nylas;
use crate::support::server::Setup;
use crate::support::time::{now, wait_for};
use crate::support::timed::{Posted, Poster, delays, median, quantile};
use crate::support::turn::Turn;

/// The limit of open files that most shells and services give.
const USUAL_LIMIT: u32 = 1024;
/// The 99th percentile from post to delivery may be this many times the one without …
const TIMES: f64 = 3.0;
/// … and this much more: opening connections takes its share of two processors.
const MORE: Duration = Duration::from_millis(20);
const MEMORY: u64 = 300 * 1000 * 1000;

/// Posts for a while, some on a connection of their own; all must be taken.
fn behave(to: SocketAddr, prefix: &str, during: Duration) -> Vec<Posted> {
    let mut kept = Poster::new(to, "nylas");
    let (start, mut posted) = (now(), Vec::new());
    while start.elapsed() < during {
        let id = format!("{prefix}-{}", posted.len());
        let one = if posted.len() % 5 == 0 {
            Poster::new(to, "nylas").post(&id, 500)
        } else {
            kept.post(&id, 500)
        };
        one.expect_taken();
        posted.push(one);
        std::thread::sleep(Duration::from_millis(2));
    }
    posted
}

fn p99(app: &App, posted: &[Posted]) -> Duration {
    app.wait_for_ids(posted.iter().map(|posted| &posted.id));
    quantile(&delays(posted, &app.received()), 0.99)
}

/// A connection that was of use once, or on which a request was begun, or nothing.
fn open(to: SocketAddr, index: usize) -> Connection {
    let mut connection = Connection::open(to).expect("it accepts");
    match index % 3 {
        0 => {
            let answer = connection.send("GET", "/in/nylas", &[], b"").expect("it answers");
            assert_eq!(answer.status, 200);
        }
        1 => connection
            .write_raw(b"POST /in/nylas HTTP/1.1\r\nhost: x\r\n")
            .expect("it reads"),
        _ => {}
    }
    connection
}

/// Connects and leaves, with nothing, a part of a head or a whole request sent, until `stop`; gives how often.
fn churn(to: SocketAddr, stop: &AtomicBool) -> usize {
    let count = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !stop.load(Ordering::SeqCst) {
                    let sent: &[u8] = match count.fetch_add(1, Ordering::SeqCst) % 4 {
                        0 => b"",
                        1 => b"POST /in/nyl",
                        2 => b"POST /in/nylas HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\nsome",
                        _ => b"GET /in/nylas HTTP/1.1\r\nhost: x\r\n\r\n",
                    };
                    if let Ok(mut connection) = Connection::open(to) {
                        // What the server thinks of it is of no interest here.
                        let _ = connection.write_raw(sent);
                    }
                    std::thread::sleep(Duration::from_millis(1));
                }
            });
        }
    });
    count.into_inner()
}

#[test]
fn thousands_of_idle_connections_and_endless_new_ones_leave_a_good_client_alone() {
    let _turn = Turn::take();
    let app = App::start();
    let server = Setup::new(&nylas::config(&app.url()))
        .open_files(USUAL_LIMIT)
        .start();
    let to = server.listen();
    let phase = Duration::from_millis(800);
    behave(to, "warm", phase);

    let idle = short_or_nightly(3_000, 6_000);
    let alone = p99(&app, &behave(to, "alone", phase));
    let start = now();
    let connections: Vec<_> = (0..idle).map(|index| open(to, index)).collect();
    let opening = start.elapsed();
    let beside_idle = p99(&app, &behave(to, "idle", phase));
    assert_eq!(http::get(server.admin(), "/healthz").status, 200);
    let with_idle = server.peak_bytes();
    drop(connections);

    let (mut without, mut with, mut churned) = (Vec::new(), Vec::new(), 0);
    for round in 0..5 {
        without.push(p99(&app, &behave(to, &format!("without-{round}"), phase)));
        let stop = AtomicBool::new(false);
        let posted = std::thread::scope(|scope| {
            let churning = scope.spawn(|| churn(to, &stop));
            let posted = behave(to, &format!("with-{round}"), phase);
            stop.store(true, Ordering::SeqCst);
            churned += churning.join().expect("the churn does not fail");
            posted
        });
        with.push(p99(&app, &posted));
    }
    println!(
        "p99 from post to arrival: {alone:?} alone, {beside_idle:?} beside {idle} idle connections (opened in {opening:?}), {without:?} alone, \
         {with:?} beside {churned} new ones; {} MB with the idle ones, {} MB at the peak",
        with_idle / 1_000_000,
        server.peak_bytes() / 1_000_000,
    );
    let bound = |plain: Duration| plain.mul_f64(TIMES) + MORE;
    assert!(
        beside_idle <= bound(alone.max(median(&without))),
        "{beside_idle:?} beside idle connections"
    );
    assert!(
        median(&with) <= bound(median(&without)),
        "{with:?} beside new connections, {without:?} alone"
    );
    assert!(churned > 500, "only {churned} connections are no churn");
    assert!(
        server.peak_bytes() < MEMORY,
        "{} bytes were resident",
        server.peak_bytes()
    );
}

#[test]
fn a_low_limit_of_open_files_costs_connections_and_never_deliveries() {
    let _turn = Turn::take();
    let mut app = App::down();
    // The limit is a hard one: the server cannot raise it.
    let server = Setup::new(&nylas::config(&app.url()))
        .hard_open_files(USUAL_LIMIT)
        .start();
    let mut poster = Poster::new(server.listen(), "nylas");
    poster.post("before", 500).expect_taken();
    let connections: Vec<_> = (0..1_500).map(|_| Connection::open(server.listen())).collect();
    app.start_again();
    // Those that do nothing make room after some seconds.
    wait_for("a post to be taken", || {
        poster.post("meanwhile", 500).is_taken().then_some(())
    });
    app.wait_for_ids(&["before".to_owned(), "meanwhile".to_owned()]);
    wait_for("both to be settled", || {
        (server.get("/api/v1/stats")["deliveries"]["delivered"] == 2).then_some(())
    });
    assert!(
        server.log().contains("allows fewer connections"),
        "the log says why"
    );
    drop(connections);
}
