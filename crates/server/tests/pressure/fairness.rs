//! A slow or dead destination beside one that is fast (SPEC O14).

use std::time::Duration;

use super::neighbours::expect_little_delay;
use crate::support::app::{App, Reply};
use crate::support::nylas::SECRET;
use crate::support::server::Server;
use crate::support::timed::{Posted, Poster, delays, quantile};
use crate::support::turn::Turn;

/// How long the slow destination takes for an answer.
const SLOW: Duration = Duration::from_secs(10);
const SENDERS: usize = 3;
const POSTS_OF_EACH: usize = 120;

fn source(name: &str) -> String {
    format!("[[source]]\nname = \"{name}\"\nprovider = \"nylas\"\nsecrets = [\"{SECRET}\"]\n\n")
}

fn destination(name: &str, app: &App, source: &str) -> String {
    format!(
        "[[destination]]\nname = \"{name}\"\nurl = \"{}\"\nsources = [\"{source}\"]\nallow_private = true\n\n",
        app.url()
    )
}

fn slow_app() -> App {
    let app = App::start();
    app.always(Reply::status(200).after(SLOW));
    app
}

/// A server with a fast destination, posted to at the same time as the others that it is compared with.
struct Case {
    server: Server,
    fast: App,
    /// The source of the fast destination.
    source: &'static str,
    /// Another source, which is posted to as well.
    other: Option<&'static str>,
}

impl Case {
    /// One round of posts of one sender.
    fn post(&self, senders: &mut Senders, id: &str) -> Posted {
        if let Some(other) = &mut senders.other {
            other.post(id, 500).expect_taken();
        }
        let posted = senders.measured.post(id, 500);
        posted.expect_taken();
        posted
    }

    fn senders(&self) -> Senders {
        Senders {
            measured: Poster::new(self.server.listen(), self.source),
            other: self.other.map(|other| Poster::new(self.server.listen(), other)),
        }
    }
}

struct Senders {
    measured: Poster,
    other: Option<Poster>,
}

/// All cases in turn, post by post, so that what else happens on the machine happens to all of them. Gives the 99th
/// percentile from post to arrival of each.
fn run(number: usize, cases: &[&Case]) -> Vec<Duration> {
    let posted: Vec<Vec<Vec<Posted>>> = std::thread::scope(|scope| {
        let senders: Vec<_> = (0..SENDERS)
            .map(|sender| {
                scope.spawn(move || {
                    let mut connections: Vec<_> = cases.iter().map(|case| case.senders()).collect();
                    let mut posted = vec![Vec::new(); cases.len()];
                    for serial in 0..POSTS_OF_EACH {
                        let id = format!("run{number}-{sender}-{serial}");
                        for (index, case) in cases.iter().enumerate() {
                            posted[index].push(case.post(&mut connections[index], &id));
                            std::thread::sleep(Duration::from_millis(2));
                        }
                    }
                    posted
                })
            })
            .collect();
        let joined = senders.into_iter().map(|sender| sender.join());
        joined
            .map(|posted| posted.expect("a sender does not fail"))
            .collect()
    });
    let of_case = |(index, case): (usize, &&Case)| {
        let posted: Vec<Posted> = posted.iter().flat_map(|sender| sender[index].clone()).collect();
        case.fast.wait_for_ids(posted.iter().map(|posted| &posted.id));
        quantile(&delays(&posted, &case.fast.received()), 0.99)
    };
    cases.iter().enumerate().map(of_case).collect()
}

#[test]
fn a_slow_and_a_dead_destination_do_not_delay_a_fast_one_of_the_same_or_of_another_source() {
    let _turn = Turn::take();
    let alone_app = App::start();
    let alone = Case {
        server: Server::with(&(source("one") + &destination("fast", &alone_app, "one"))),
        fast: alone_app,
        source: "one",
        other: None,
    };

    let (shared_app, slow, dead) = (App::start(), slow_app(), App::down());
    let config = source("one")
        + &destination("slow", &slow, "one")
        + &destination("fast", &shared_app, "one")
        + &destination("dead", &dead, "one");
    let shared = Case {
        server: Server::with(&config),
        fast: shared_app,
        source: "one",
        other: None,
    };

    let (apart_app, slow_too, dead_too) = (App::start(), slow_app(), App::down());
    let config = source("one")
        + &destination("fast", &apart_app, "one")
        + &source("two")
        + &destination("slow", &slow_too, "two")
        + &destination("dead", &dead_too, "two");
    let apart = Case {
        server: Server::with(&config),
        fast: apart_app,
        source: "one",
        other: Some("two"),
    };

    let cases = [&alone, &shared, &apart];
    let neighbours = [
        "slow destinations of the same source",
        "slow destinations of another source",
    ];
    expect_little_delay(&neighbours, |number| run(number, &cases));
    assert!(
        slow.received().len() >= 8 && slow_too.received().len() >= 8,
        "the slow destinations were slow all the time"
    );
}
