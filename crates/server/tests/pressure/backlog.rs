//! A destination that is down while events pile up, and bodies as large as may be (SPEC I6, I10, P1, P5).

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::support::app::{App, Received, Reply};
use crate::support::extent::short_or_nightly;
use crate::support::http::Connection;
use crate::support::nylas;
use crate::support::server::Server;
use crate::support::time::{now, wait_within};
use crate::support::timed::{Posted, Poster, delays, first_arrivals, quantile};
use crate::support::turn::Turn;

/// All the memory that the server may ever have resident.
const MEMORY: u64 = 300 * 1000 * 1000;
const SENDERS: usize = 16;
/// How many posts of 10 MiB there are at once.
const LARGE: usize = 64;
const LARGE_TEXT: usize = 10 * 1024 * 1024 - 4096;
/// How many attempts the destination takes at once (the default), and so how far two deliveries may change places.
const CONCURRENCY: usize = 64;
/// How long a backlog may take to drain after the destination is back: the next probe comes within 30 s.
const DRAIN: Duration = Duration::from_secs(240);

/// All senders at once post `count` small notifications; what was refused is not repeated.
fn post_small(to: SocketAddr, prefix: &str, count: usize) -> Vec<Posted> {
    std::thread::scope(|scope| {
        let senders: Vec<_> = (0..SENDERS)
            .map(|sender| {
                scope.spawn(move || {
                    let mut poster = Poster::new(to, "nylas");
                    let serials = 0..count / SENDERS;
                    let id = |serial| format!("{prefix}-{sender}-{serial}");
                    serials
                        .map(|serial| poster.post(&id(serial), 500))
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        let posted = senders.into_iter().map(|sender| sender.join());
        posted
            .flat_map(|posted| posted.expect("a sender does not fail"))
            .collect()
    })
}

/// That many large notifications at once, each posted again a few times while it is refused.
fn post_large(to: SocketAddr) -> Vec<Posted> {
    let most = short_or_nightly(3, 30);
    std::thread::scope(|scope| {
        let senders: Vec<_> = (0..LARGE)
            .map(|sender| {
                scope.spawn(move || {
                    let id = format!("large-{sender}");
                    let body = nylas::notification_of("message.created", &id, LARGE_TEXT);
                    let mut poster = Poster::new(to, "nylas");
                    let mut tries = Vec::new();
                    while tries.len() < most && !tries.last().is_some_and(Posted::is_taken) {
                        if !tries.is_empty() {
                            std::thread::sleep(Duration::from_secs(1));
                        }
                        tries.push(poster.post_body(&id, &body));
                    }
                    tries
                })
            })
            .collect();
        let posted = senders.into_iter().map(|sender| sender.join());
        posted
            .flat_map(|posted| posted.expect("a sender does not fail"))
            .collect()
    })
}

/// How many events at the most were certainly accepted before one that arrived before them.
fn most_overtaken(posted: &[Posted], received: &[Received]) -> usize {
    let posted: BTreeMap<&str, &Posted> = posted.iter().map(|posted| (posted.id.as_str(), posted)).collect();
    let mut arrivals: Vec<(Instant, &Posted)> = first_arrivals(received)
        .into_iter()
        .filter_map(|(id, at)| Some((at, *posted.get(id)?)))
        .collect();
    arrivals.sort_by_key(|(at, _)| *at);
    let mut to_come: BTreeSet<(Instant, &str)> = arrivals
        .iter()
        .map(|(_, posted)| (posted.answered, posted.id.as_str()))
        .collect();
    let mut most = 0;
    for (_, posted) in arrivals {
        to_come.remove(&(posted.answered, posted.id.as_str()));
        most = most.max(to_come.range(..(posted.sent, "")).count().min(10 * CONCURRENCY));
    }
    most
}

fn wait_for_all(app: &App, ids: &BTreeSet<String>) {
    wait_within(DRAIN, &format!("all of {} to be delivered", ids.len()), || {
        let counts = app.counts();
        ids.iter().all(|id| counts.contains_key(id)).then_some(())
    });
}

#[test]
fn a_large_backlog_and_large_bodies_stay_within_memory_and_drain_oldest_first() {
    let _turn = Turn::take();
    let count = short_or_nightly(20_000, 100_000);
    let mut app = App::down();
    app.remember_of_bodies(64 * 1024);
    let server = Server::with(&nylas::config(&app.url()));

    let start = now();
    let mut backlog = post_small(server.listen(), "early", count / 2);
    let large = std::thread::scope(|scope| {
        let large = scope.spawn(|| post_large(server.listen()));
        backlog.extend(post_small(server.listen(), "late", count / 2));
        large.join().expect("the senders of large bodies do not fail")
    });
    let accepting = start.elapsed();
    backlog
        .iter()
        .chain(&large)
        .for_each(Posted::expect_taken_or_later);
    let mut acknowledged: BTreeSet<String> = backlog
        .iter()
        .chain(&large)
        .filter(|posted| posted.is_taken())
        .map(|posted| posted.id.clone())
        .collect();
    let large_taken = large.iter().filter(|posted| posted.is_taken()).count();
    assert!(large_taken > 0, "none of {LARGE} large bodies was taken");
    let small_refused = backlog.iter().filter(|posted| !posted.is_taken()).count();
    let peak_accepting = server.peak_bytes();

    app.start_again();
    // A little work, so that the backlog is there long enough to be overtaken.
    app.always(Reply::status(200).after(Duration::from_millis(5)));
    let start = now();
    app.wait_until("the first delivery", |received| !received.is_empty());
    let mut fresh = Vec::new();
    let mut poster = Poster::new(server.listen(), "nylas");
    // The window of a destination that was down begins at two.
    app.wait_until("the backlog to drain", |received| received.len() >= 500);
    for serial in 0..50 {
        fresh.push(poster.post(&format!("fresh-{serial}"), 500));
        std::thread::sleep(Duration::from_millis(10));
    }
    acknowledged.extend(
        fresh
            .iter()
            .filter(|posted| posted.is_taken())
            .map(|posted| posted.id.clone()),
    );
    wait_for_all(&app, &acknowledged);
    let draining = start.elapsed();

    let received = app.received();
    let posted: BTreeSet<&str> = backlog
        .iter()
        .chain(&large)
        .chain(&fresh)
        .map(|posted| posted.id.as_str())
        .collect();
    for request in &received {
        let id = request.webhook_id();
        assert!(posted.contains(id), "`{id}` was delivered and never sent");
        let text_bytes = if id.starts_with("large-") { LARGE_TEXT } else { 500 };
        let body = nylas::notification_of("message.created", id, text_bytes);
        assert_eq!(
            request.header("content-length"),
            Some(body.len().to_string().as_str()),
            "{id}"
        );
        assert!(
            body.starts_with(&request.body),
            "the body of `{id}` changed on the way"
        );
    }
    let last = received
        .iter()
        .map(|request| request.at)
        .max()
        .expect("something came");
    let fresh_delay = quantile(&delays(&fresh, &received), 0.9);
    let after_fresh = last - fresh[fresh.len() - 1].answered;
    let overtaken = most_overtaken(&backlog, &received);
    println!(
        "{} events taken, {large_taken} of {LARGE} large ones among them, in {accepting:?}, {small_refused} small refused; \
         drained in {draining:?}; at most {overtaken} overtaken; new events meanwhile took {fresh_delay:?} (p90), \
         the backlog {after_fresh:?} more; peak memory {} MB accepting, {} MB in all",
        acknowledged.len(),
        peak_accepting / 1_000_000,
        server.peak_bytes() / 1_000_000,
    );
    assert!(
        overtaken <= CONCURRENCY,
        "{overtaken} events were overtaken by one that was accepted after them"
    );
    assert!(
        after_fresh < Duration::from_secs(2) || fresh_delay < after_fresh / 2,
        "new events waited for the backlog: {fresh_delay:?} of {after_fresh:?}"
    );
    assert!(
        server.peak_bytes() < MEMORY,
        "{} bytes were resident",
        server.peak_bytes()
    );
}

#[test]
fn the_largest_body_of_a_provider_is_taken_and_delivered() {
    let _turn = Turn::take();
    let app = App::start();
    app.remember_of_bodies(64 * 1024);
    let config = nylas::config(&app.url()).replace("provider = \"nylas\"", "provider = \"github\"");
    let server = Server::with(&config);
    let post = |bytes: usize| {
        let body = vec![b'x'; bytes];
        let signature = format!("sha256={}", nylas::sign(nylas::SECRET, &body));
        let id = bytes.to_string();
        let headers = [
            ("x-github-delivery", id.as_str()),
            ("x-github-event", "push"),
            ("x-hub-signature-256", signature.as_str()),
        ];
        let mut connection = Connection::open(server.listen()).expect("the server accepts");
        // A body that is too large is refused before all of it is sent.
        let _ = connection.write_request("POST", nylas::PATH, &headers, &body);
        connection.read_answer("POST").expect("it answers")
    };
    let limit = 25 * 1024 * 1024;
    let taken = post(limit);
    assert_eq!(taken.status, 200, "{}", taken.text());
    assert_eq!(post(limit + 1).status, 413);
    let received = app.wait_for(1);
    assert_eq!(
        received[0].header("content-length"),
        Some(limit.to_string().as_str())
    );
    assert!(
        server.peak_bytes() < MEMORY,
        "{} bytes were resident",
        server.peak_bytes()
    );
}
