//! Owns the proof that a full disk costs no acknowledged event: what cannot be stored is refused with 503, what was
//! accepted is delivered, and when there is room again it goes on, with and without a restart (SPEC I6, P1). The real
//! binary writes to a real small filesystem.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use support::app::{App, Reply};
use support::disk::{SmallDisk, with_small_disk};
use support::extent::short_or_nightly;
use support::nylas;
use support::server::{Server, Setup};
use support::time::{now, wait_for};
use support::timed::{Posted, Poster};

const MIB: u64 = 1024 * 1024;
const DISK: u64 = 64;
/// The server keeps an eighth of a small filesystem free.
const FLOOR: u64 = DISK * MIB / 8;
const SENDERS: usize = 4;
const TEXT: usize = 2_000;

/// Posts until every sender has been refused ten times. Gives the ids that were acknowledged.
fn post_until_refused(server: &Server, prefix: &str) -> BTreeSet<String> {
    let posted: Vec<Posted> = std::thread::scope(|scope| {
        let senders: Vec<_> = (0..SENDERS)
            .map(|sender| {
                scope.spawn(move || {
                    let mut poster = Poster::new(server.listen(), "nylas");
                    let (mut posted, mut refused) = (Vec::new(), 0);
                    while refused < 10 {
                        assert!(posted.len() < 30_000, "the disk never filled up");
                        let one = poster.post(&format!("{prefix}-{sender}-{}", posted.len()), TEXT);
                        refused += usize::from(!one.is_taken());
                        posted.push(one);
                    }
                    posted
                })
            })
            .collect();
        let joined = senders.into_iter().map(|sender| sender.join());
        joined
            .flat_map(|posted| posted.expect("a sender does not fail"))
            .collect()
    });
    for one in posted.iter().filter(|one| !one.is_taken()) {
        expect_full(one);
    }
    posted
        .into_iter()
        .filter(Posted::is_taken)
        .map(|one| one.id)
        .collect()
}

/// Fails unless it was refused as it must be.
fn expect_full(posted: &Posted) {
    posted.expect_taken_or_later();
    let text = posted
        .answer
        .as_ref()
        .map(|answer| answer.text())
        .unwrap_or_default();
    assert!(
        text.starts_with("disk-full: "),
        "{} was answered {text}",
        posted.id
    );
}

/// Waits until a post is taken, and gives how long it took.
fn wait_until_taken(server: &Server, id: &str) -> Duration {
    let start = now();
    let mut poster = Poster::new(server.listen(), "nylas");
    wait_for("a post to be taken", || {
        let posted = poster.post(id, TEXT);
        posted.expect_taken_or_later();
        posted.is_taken().then_some(())
    });
    start.elapsed()
}

fn check(app: &App, acknowledged: &BTreeSet<String>) {
    app.wait_for_ids(acknowledged);
    for request in app.received() {
        let id = request.webhook_id();
        assert!(
            request.body == nylas::notification_of("message.created", id, TEXT),
            "the body of `{id}` changed on the way"
        );
    }
}

/// Stops the server and has its data checked.
fn stop_and_check(server: &mut Server) {
    let end = server.terminate();
    assert!(end.success(), "{end}");
    let data = server.data();
    let checked = server.cli(&["check", "--data", data.to_str().expect("the path is UTF-8")]);
    let said = String::from_utf8_lossy(&checked.stdout);
    assert!(
        checked.status.success() && said.contains("every promise is kept"),
        "{checked:?}"
    );
}

fn on(disk: &SmallDisk, app: &App) -> Server {
    Setup::new(&nylas::config(&app.url()))
        .directory(disk.beside())
        .start()
}

#[test]
fn a_full_disk_refuses_delivers_what_it_has_and_goes_on_by_itself_when_there_is_room() {
    with_small_disk(
        "a_full_disk_refuses_delivers_what_it_has_and_goes_on_by_itself_when_there_is_room",
        DISK,
        |disk| {
            let mut app = App::down();
            let mut server = on(disk, &app);
            let ballast = disk.ballast("ballast", 16 * MIB);
            let mut acknowledged = post_until_refused(&server, "first");
            let free = disk.free();
            assert!(
                acknowledged.len() > 1_000,
                "only {} were taken",
                acknowledged.len()
            );
            assert!(
                free > 0 && free <= FLOOR,
                "{free} bytes are free, the floor is {FLOOR}"
            );

            // What is kept free is enough for a start.
            server.kill();
            server.start();
            acknowledged.extend(post_until_refused(&server, "restarted"));

            app.start_again();
            app.wait_for_ids(&acknowledged);
            wait_for("all deliveries to be settled", || {
                let stats = server.get("/api/v1/stats");
                (stats["deliveries"]["delivered"] == acknowledged.len()).then_some(())
            });
            expect_full(&Poster::new(server.listen(), "nylas").post("still-full", TEXT));
            let free_after = disk.free();

            fs::remove_file(ballast).expect("the ballast can be removed");
            let took = wait_until_taken(&server, "room-again");
            acknowledged.insert("room-again".to_owned());
            println!(
                "{} taken until full with {free} bytes free, {free_after} after all were delivered; taken again {took:?} \
                 after room was made",
                acknowledged.len()
            );
            assert!(took < Duration::from_secs(5), "{took:?}");
            acknowledged.extend(post_until_refused(&server, "second"));
            check(&app, &acknowledged);
        },
    );
}

#[test]
fn a_server_that_is_killed_on_a_disk_without_a_free_byte_starts_or_says_what_to_do_and_loses_nothing() {
    with_small_disk(
        "a_server_that_is_killed_on_a_disk_without_a_free_byte_starts_or_says_what_to_do_and_loses_nothing",
        DISK,
        |disk| {
            for (round, gently) in [false, true].into_iter().enumerate() {
                let mut app = App::down();
                let mut server = on(disk, &app);
                let ballast = disk.ballast("ballast", 24 * MIB);
                let mut acknowledged = post_until_refused(&server, &format!("round-{round}"));
                let rest = disk.fill("rest");
                assert!(disk.free() < 4096);
                expect_full(&Poster::new(server.listen(), "nylas").post("none", TEXT));
                // Nothing can be written down, so nothing may be attempted.
                app.start_again();
                std::thread::sleep(Duration::from_secs(2));
                assert!(server.runs(), "it ended: {}", server.log());
                if gently {
                    let status = server.terminate();
                    assert!(status.success(), "{status}");
                } else {
                    server.kill();
                }

                let started = server.try_start();
                if let Err(said) = &started {
                    assert!(
                        said.contains("the disk is full") && said.contains("make room"),
                        "it does not say what to do:\n{said}"
                    );
                } else {
                    // The log was copied and cut: there may be a little room.
                    acknowledged.extend(post_until_refused(&server, &format!("restarted-{round}")));
                }
                println!(
                    "on a full disk it {}",
                    if started.is_ok() {
                        "starts"
                    } else {
                        "says what to do"
                    }
                );
                fs::remove_file(rest).expect("what fills the disk can be removed");
                fs::remove_file(ballast).expect("the ballast can be removed");
                if started.is_err() {
                    server.start();
                }
                wait_until_taken(&server, &format!("room-again-{round}"));
                acknowledged.insert(format!("room-again-{round}"));
                check(&app, &acknowledged);
                stop_and_check(&mut server);
                fs::remove_dir_all(disk.path().join("lost+found")).unwrap_or_default();
                for file in fs::read_dir(disk.path()).expect("the disk can be read") {
                    let path = file.expect("the disk can be read").path();
                    fs::remove_file(path).expect("the data can be removed");
                }
            }
        },
    );
}

#[test]
fn a_log_on_the_full_disk_does_not_stop_the_server() {
    with_small_disk("a_log_on_the_full_disk_does_not_stop_the_server", DISK, |disk| {
        let mut app = App::down();
        let setup = Setup::new(&nylas::config(&app.url())).directory(&disk.path());
        let mut server = setup.environment("HOOKFAST_SERVER__LOG", "trace").start();
        let ballast = disk.ballast("ballast", 24 * MIB);
        let mut acknowledged = post_until_refused(&server, "log");
        let rest = disk.fill("rest");
        for number in 0..20 {
            expect_full(&Poster::new(server.listen(), "nylas").post(&format!("none-{number}"), TEXT));
        }
        app.start_again();
        std::thread::sleep(Duration::from_secs(2));
        assert!(server.runs(), "it ended");
        fs::remove_file(rest).expect("what fills the disk can be removed");
        fs::remove_file(ballast).expect("the ballast can be removed");
        wait_until_taken(&server, "room-again");
        acknowledged.insert("room-again".to_owned());
        check(&app, &acknowledged);
    });
}

#[test]
fn a_disk_that_fills_up_under_way_loses_and_repeats_nothing() {
    with_small_disk(
        "a_disk_that_fills_up_under_way_loses_and_repeats_nothing",
        DISK,
        |disk| {
            let app = App::start();
            app.always(Reply::status(200).after(Duration::from_millis(2)));
            let server = on(disk, &app);
            let mut acknowledged = BTreeSet::new();
            for round in 0..short_or_nightly(3, 30) {
                let (taken, refused) = std::thread::scope(|scope| {
                    let posting = scope.spawn(|| post_until_refused(&server, &format!("round-{round}")));
                    std::thread::sleep(Duration::from_millis(500));
                    let rest = disk.fill("rest");
                    let taken = posting.join().expect("the senders do not fail");
                    let refused = Poster::new(server.listen(), "nylas").post(&format!("none-{round}"), TEXT);
                    std::thread::sleep(Duration::from_millis(1_500));
                    fs::remove_file(rest).expect("what fills the disk can be removed");
                    (taken, refused)
                });
                expect_full(&refused);
                acknowledged.extend(taken);
                wait_until_taken(&server, &format!("room-{round}"));
                acknowledged.insert(format!("room-{round}"));
            }
            check(&app, &acknowledged);
            wait_for("all deliveries to be settled", || {
                let stats = server.get("/api/v1/stats");
                (stats["deliveries"]["in_flight"].as_u64().unwrap_or(0) == 0).then_some(())
            });
            let often: Vec<_> = app.counts().into_iter().filter(|(_, count)| *count > 1).collect();
            println!("{} taken", acknowledged.len());
            assert!(often.is_empty(), "delivered more than once: {often:?}");
        },
    );
}
