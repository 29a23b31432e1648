//! Forged posts, slow senders and a source that floods, beside senders that behave (SPEC I2, I6, I7, O14).

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::app::App;
use crate::support::http::Connection;
use crate::support::nylas::{self, SECRET};
use crate::support::server::{Server, Setup};
use crate::support::shim::Shim;
use crate::support::time::{now, wait_for};
use crate::support::timed::{Posted, Poster, median, quantile};
use crate::support::turn::Turn;

fn config(sources: &[(&str, &App)]) -> String {
    let mut config = String::new();
    for (name, app) in sources {
        config += &format!(
            "[[source]]\nname = \"{name}\"\nprovider = \"nylas\"\nsecrets = [\"{SECRET}\"]\n\n\
             [[destination]]\nname = \"{name}\"\nurl = \"{}\"\nsources = [\"{name}\"]\nallow_private = true\n\n",
            app.url()
        );
    }
    config
}

/// The 99th percentile of acknowledgements under the flood may be this many times the one without …
const TIMES: f64 = 3.0;
/// … and this much more: the flood takes its share of two processors.
const MORE: Duration = Duration::from_millis(20);
const ROUNDS: usize = 5;
const PEER_BOUND: u64 = 40;
const EVENT_BOUND: u64 = 150;
const BYTE_BOUND: u64 = 4 * 1024 * 1024;
const CALM_SHARE: usize = 30;

/// Posts for a while to each of the sources in turn; each post must be taken.
fn behave(server: &Server, prefix: &str, sources: &[&str], during: Duration) -> Vec<Duration> {
    let mut posters: Vec<_> = sources
        .iter()
        .map(|source| Poster::new(server.listen(), source))
        .collect();
    let (start, mut times) = (now(), Vec::new());
    while start.elapsed() < during {
        for poster in &mut posters {
            let posted = poster.post(&format!("{prefix}-{}", times.len()), 500);
            posted.expect_taken();
            times.push(posted.ack_time());
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    times
}

/// Forged posts from several connections and many addresses, until `stop`: most small, some large. Gives how many.
fn forge(server: &Server, stop: &AtomicBool) -> usize {
    let count = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for forger in 0..8 {
            let count = &count;
            scope.spawn(move || {
                let large = forger >= 6;
                let mut poster = Poster::new(server.listen(), "victim").secret("not the secret at all");
                let mut serial = 0;
                while !stop.load(Ordering::SeqCst) {
                    // Half of all come from one address.
                    let peer = if serial % 2 == 0 { 1 } else { 2 + serial % 200 };
                    poster.forwarded_for(format!("198.51.100.{peer}"));
                    let posted = poster.post(
                        &format!("forged-{forger}-{serial}"),
                        if large { 1 << 20 } else { 500 },
                    );
                    // Where nothing can be kept it is refused all the same.
                    assert!(
                        [401, 503].contains(&posted.status()),
                        "a forged post: {:?}",
                        posted.answer
                    );
                    count.fetch_add(1, Ordering::SeqCst);
                    serial += 1;
                    std::thread::sleep(Duration::from_millis(if large { 40 } else { 6 }));
                }
            });
        }
    });
    count.into_inner()
}

#[test]
fn a_flood_of_forged_posts_neither_refuses_nor_delays_good_ones_and_quarantine_keeps_its_bounds() {
    let _turn = Turn::take();
    let (victim, calm) = (App::start(), App::start());
    let bounds = format!(
        "[server]\ntrusted_proxies = [\"127.0.0.1\"]\n\n[quarantine]\nevents = {EVENT_BOUND}\nbytes = {BYTE_BOUND}\n\
         events_per_peer = {PEER_BOUND}\n\n"
    );
    let server = Server::with(&(bounds + &config(&[("victim", &victim), ("calm", &calm)])));
    let (mut without, mut with, mut forged) = (Vec::new(), Vec::new(), 0);
    let phase = Duration::from_millis(800);
    let sources = ["victim", "calm"];
    behave(&server, "warm", &sources, phase);
    for round in 0..ROUNDS {
        without.push(quantile(
            &behave(&server, &format!("without-{round}"), &sources, phase),
            0.99,
        ));
        let stop = AtomicBool::new(false);
        let times = std::thread::scope(|scope| {
            let forging = scope.spawn(|| forge(&server, &stop));
            let times = behave(&server, &format!("with-{round}"), &sources, phase);
            stop.store(true, Ordering::SeqCst);
            forged += forging.join().expect("the forgers do not fail");
            times
        });
        with.push(quantile(&times, 0.99));
    }
    let (plain, flooded) = (median(&without), median(&with));
    println!(
        "{forged} forged posts; p99 of good ones {plain:?} without ({without:?}), {flooded:?} with ({with:?})"
    );
    assert!(forged > 500, "only {forged} forged posts are no flood");
    assert!(
        flooded <= plain.mul_f64(TIMES) + MORE,
        "the 99th percentile of good posts is {flooded:?} under forged ones and {plain:?} without"
    );

    let kept = server.get("/api/v1/quarantine?limit=1000");
    let kept = kept["data"].as_array().expect("the list has data");
    let bytes: u64 = kept
        .iter()
        .map(|item| item["body_bytes"].as_u64().unwrap_or(u64::MAX))
        .sum();
    let of_first = kept.iter().filter(|item| item["peer"] == "198.51.100.1").count() as u64;
    println!(
        "{} in quarantine, {of_first} of one peer, {bytes} bytes",
        kept.len()
    );
    assert!(kept.len() as u64 <= EVENT_BOUND && bytes <= BYTE_BOUND && of_first <= PEER_BOUND);
    assert!(
        bytes > BYTE_BOUND / 2 || kept.len() as u64 > EVENT_BOUND / 2,
        "the flood filled it"
    );
    let stats = server.get("/api/v1/stats");
    assert_eq!(stats["quarantine"]["victim"].as_u64(), Some(kept.len() as u64));
}

#[test]
fn one_forging_address_leaves_room_in_quarantine_for_another_sender() {
    let app = App::start();
    let bounds = format!(
        "[server]\ntrusted_proxies = [\"127.0.0.1\"]\n\n[quarantine]\nevents = {EVENT_BOUND}\nbytes = {BYTE_BOUND}\n\
         events_per_peer = {PEER_BOUND}\n\n"
    );
    let server = Server::with(&(bounds + &config(&[("victim", &app)])));
    let mut forger = Poster::new(server.listen(), "victim").secret("not the secret at all");
    forger.forwarded_for("198.51.100.1");
    for serial in 0..3 * PEER_BOUND {
        assert_eq!(forger.post(&format!("forged-{serial}"), 100).status(), 401);
    }
    // The true sender, whose new secret the operator has not set yet.
    let mut sender = Poster::new(server.listen(), "victim").secret("the new secret");
    sender.forwarded_for("203.0.113.7");
    for serial in 0..CALM_SHARE {
        assert_eq!(sender.post(&format!("true-{serial}"), 100).status(), 401);
    }
    let kept = server.get("/api/v1/quarantine?limit=1000");
    let kept = kept["data"].as_array().expect("the list has data");
    let of = |peer: &str| kept.iter().filter(|item| item["peer"] == peer).count();
    assert_eq!(
        (of("198.51.100.1") as u64, of("203.0.113.7")),
        (PEER_BOUND, CALM_SHARE)
    );
}

/// Posts to the quiet source until `stop`; gives the posts.
fn post_quietly(server: &Server, text_bytes: usize, stop: &AtomicBool) -> Vec<Posted> {
    let mut poster = Poster::new(server.listen(), "quiet");
    let mut posted = Vec::new();
    while !stop.load(Ordering::SeqCst) {
        posted.push(poster.post(&format!("quiet-{text_bytes}-{}", posted.len()), text_bytes));
        std::thread::sleep(Duration::from_millis(20));
    }
    posted
}

#[test]
fn a_source_that_floods_a_slow_disk_is_refused_alone() {
    let _turn = Turn::take();
    let (flood, quiet) = (App::start(), App::start());
    let shim = Shim::new(&[("match", "hookfast.db"), ("delay_ms", "100")]);
    let server = Setup::new(&config(&[("flood", &flood), ("quiet", &quiet)]))
        .shim(&shim)
        .start();
    let stop = AtomicBool::new(false);
    let (flooding, quiet_posts) = std::thread::scope(|scope| {
        let senders: Vec<_> = (0..600)
            .map(|sender| {
                let (server, stop) = (&server, &stop);
                scope.spawn(move || {
                    let mut poster = Poster::new(server.listen(), "flood");
                    let mut posted = Vec::new();
                    while !stop.load(Ordering::SeqCst) {
                        posted.push(poster.post(&format!("flood-{sender}-{}", posted.len()), 60 * 1024));
                        if !posted[posted.len() - 1].is_taken() {
                            std::thread::sleep(Duration::from_millis(200));
                        }
                    }
                    posted
                })
            })
            .collect();
        std::thread::sleep(Duration::from_secs(1));
        let small = scope.spawn(|| post_quietly(&server, 1_000, &stop));
        let large = scope.spawn(|| post_quietly(&server, 200_000, &stop));
        std::thread::sleep(Duration::from_secs(5));
        stop.store(true, Ordering::SeqCst);
        let mut flooding: Vec<Posted> = Vec::new();
        for sender in senders {
            flooding.extend(sender.join().expect("a sender does not fail"));
        }
        let quiet_posts = [small, large].map(|posts| posts.join().expect("the quiet sender does not fail"));
        (flooding, quiet_posts)
    });
    shim.set(&[]);
    flooding.iter().for_each(Posted::expect_taken_or_later);
    let (taken, refused): (Vec<Posted>, Vec<Posted>) = flooding.into_iter().partition(Posted::is_taken);
    let refused = refused.len();
    let times = |posts: &[Posted]| posts.iter().map(Posted::ack_time).collect::<Vec<_>>();
    let [small, large] = &quiet_posts;
    println!(
        "{} posts of the flood taken, median {:?}, {refused} refused; quiet posts: {} small, median {:?}; {} large, median \
         {:?}",
        taken.len(),
        median(&times(&taken)),
        small.len(),
        median(&times(small)),
        large.len(),
        median(&times(large)),
    );
    small.iter().chain(large).for_each(Posted::expect_taken);
    assert!(refused > 0, "the flood never filled its lane");
    // They wait for the commit under way and their own; the flood's wait for all that is in its lane, which is several.
    // Compared with each other and not with a fixed time, as the machine may be as slow as the disk.
    let of_flood = median(&times(&taken));
    assert!(
        median(&times(small)) * 2 < of_flood,
        "those of the flood: {of_flood:?}"
    );
}

#[test]
fn senders_that_dawdle_over_their_bodies_do_not_use_up_the_memory_of_others() {
    let _turn = Turn::take();
    let (slow, quiet) = (App::start(), App::start());
    let server = Server::with(&config(&[("slow", &slow), ("quiet", &quiet)]));
    let head = format!(
        "POST /in/slow HTTP/1.1\r\nhost: x\r\n{}: 00\r\ncontent-length: 65536\r\n\r\n",
        nylas::SIGNATURE_HEADER
    );
    let dawdlers: Vec<Connection> = (0..1_000)
        .map(|_| {
            let mut connection = Connection::open(server.listen()).expect("the server accepts");
            connection.write_raw(head.as_bytes()).expect("it reads the head");
            connection
                .write_raw(&[b'x'; 100])
                .expect("it reads some of the body");
            connection
        })
        .collect();
    std::thread::sleep(Duration::from_millis(300));
    for (source, text_bytes) in [
        ("quiet", 1_000),
        ("quiet", 200_000),
        ("slow", 1_000),
        ("slow", 200_000),
    ] {
        let posted = Poster::new(server.listen(), source).post(&format!("{source}-{text_bytes}"), text_bytes);
        posted.expect_taken();
    }
    drop(dawdlers);
    wait_for("the quiet source's events", || {
        (quiet.received().len() == 2).then_some(())
    });
}
