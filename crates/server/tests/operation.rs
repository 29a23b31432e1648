//! Owns the proof that the binary stops, starts, checks and backs up as promised (SPEC P1, P3, P4).
//! It must not know how: it sees processes, sockets, files and the command line.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use support::api::text;
use support::app::{App, Reply};
use support::http;
use support::load::Plan;
use support::nylas;
use support::server::{Server, hookfast};
use support::time::{now, wait_for};

/// Posts until the server takes no more, and gives the answer to that. The test fails where none comes.
fn refusal(server: &Server) -> http::Answer {
    let mut number = 0;
    wait_for("a refusal", || {
        number += 1;
        let answer = nylas::post(server.listen(), &format!("late-{number}"));
        (answer.status != 200).then_some(answer)
    })
}

#[test]
fn a_stop_lets_a_slow_delivery_finish_and_refuses_what_comes_meanwhile() {
    let app = App::start();
    let mut server = Server::with(&nylas::config(&app.url()));
    app.answer(|request| {
        let slow = request.webhook_id() == "slow";
        Reply::status(200).after(Duration::from_secs(if slow { 3 } else { 0 }))
    });
    nylas::deliver(server.listen(), "slow");
    app.wait_for(1);
    let asked = now();
    server.signal("TERM");
    let refused = refusal(&server);
    assert_eq!(refused.status, 503, "{}", refused.text());
    let wait = refused.header("retry-after").expect("it says when to come again");
    assert!(wait.parse::<u32>().is_ok_and(|wait| wait > 0), "{wait}");

    let status = server.wait_for_end();
    let took = asked.elapsed();
    assert_eq!(status.code(), Some(0));
    assert!(
        took > Duration::from_secs(2) && took < Duration::from_secs(10),
        "{took:?}"
    );

    server.start();
    let delivery = server.delivery("slow");
    assert_eq!(
        (&delivery["state"], &delivery["attempts"]),
        (&"delivered".into(), &1.into())
    );
    assert_eq!(app.counts()["slow"], 1);
}

#[test]
fn a_stop_does_not_wait_for_a_delivery_that_hangs_and_makes_it_after_the_next_start() {
    let app = App::start();
    let mut server = Server::with(&nylas::config(&app.url()));
    app.always(Reply::status(200).after(Duration::from_secs(25)));
    nylas::deliver(server.listen(), "hangs");
    app.wait_for(1);
    app.always(Reply::status(200));
    let asked = now();
    let status = server.terminate();
    let took = asked.elapsed();
    assert_eq!(status.code(), Some(0));
    // The grace is 10 s; what is beyond it is the machine's.
    assert!(took < Duration::from_secs(11), "{took:?}");
    assert_eq!(app.received().len(), 1);

    server.start();
    let received = app.wait_for(2);
    assert_eq!(received[1].webhook_id(), "hangs");
    server.wait_for_delivered(1);
    let delivery = server.delivery("hangs");
    let outcomes: Vec<_> = delivery["attempt_log"]
        .as_array()
        .expect("it has attempts")
        .iter()
        .collect();
    assert_eq!(
        (text(&outcomes[0]["outcome"]), text(&outcomes[1]["outcome"])),
        ("released", "answered")
    );
}

#[test]
fn a_reload_applies_what_is_declared_and_names_each_setting_that_waits_for_a_restart() {
    const AGAIN: &str = "the configuration was read again and applied";
    let app = App::start();
    let before = nylas::config(&app.url());
    let mut server = Server::with(&before);
    let secret_setting = "c0ffee".repeat(11).split_off(2);
    let settings = format!(
        "[server]\ngrace = \"11s\"\ntrusted_proxies = [\"10.0.0.7\"]\nencryption_key = \"{secret_setting}\"\n\n\
         [retention]\ndead = \"91d\"\nsettled = \"30d\"\n\n[outbox]\nopen = true\n\n\
         [smtp]\nurl = \"smtp://us:{secret_setting}@127.0.0.1:9\"\nfrom = \"hooks@example.com\"\n\n"
    );
    let source =
        "[[source]]\nname = \"second\"\nprovider = \"nylas\"\n\n[[trigger]]\nname = \"thing.made\"\n";
    let reload = |server: &mut Server, config: &str, times: usize| {
        server.configure(config);
        server.hang_up();
        wait_for("the reload", || {
            (server.log().matches(AGAIN).count() == times).then_some(())
        });
        let log = server.log();
        let warned = log
            .lines()
            .filter(|line| line.contains("counts from the next start on"));
        let keys = warned.filter_map(|line| line.split_once("key=\"")?.1.split('"').next());
        keys.map(str::to_owned).collect::<Vec<_>>()
    };
    let named = reload(&mut server, &(settings + &before + source), 1);
    let waiting = [
        "retention.dead",
        "server.encryption_key",
        "server.grace",
        "server.trusted_proxies",
        "smtp.from",
        "smtp.url",
    ];
    assert_eq!(named, waiting);
    assert!(!server.log().contains(&secret_setting));
    assert_eq!(server.get("/api/v1/sources/second")["name"], "second");
    assert_eq!(server.get("/api/v1/event-types/thing.made")["name"], "thing.made");
    let unchanged = reload(&mut server, &before, 2);
    assert_eq!(unchanged, waiting, "what is in use is what the file says again");
}

/// Runs `hookfast serve` on that data directory, on ports of the system's choice, until it ends by itself.
fn serve(data: &Path) -> Output {
    let mut command = hookfast();
    command.args([
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--admin",
        "127.0.0.1:0",
        "--data",
    ]);
    command.arg(data).stdin(Stdio::null()).current_dir(data);
    command.output().expect("hookfast starts")
}

#[test]
fn a_second_server_on_the_same_directory_is_refused_and_harms_nobody() {
    let app = App::start();
    let server = Server::with(&nylas::config(&app.url()));
    let output = serve(&server.data());
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("in use by another hookfast"), "{said}");
    assert!(said.contains(server.data().to_str().expect("a path")), "{said}");
    assert!(!String::from_utf8_lossy(&output.stdout).contains("ready"));
    nylas::deliver(server.listen(), "after");
    app.wait_for(1);
}

#[test]
fn of_several_servers_that_start_at_once_on_a_new_directory_one_serves() {
    let directory = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory can be made");
    let start = || {
        let mut command = hookfast();
        command.args([
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--admin",
            "127.0.0.1:0",
            "--data",
        ]);
        command
            .arg(directory.path().join("data"))
            .current_dir(directory.path());
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command.spawn().expect("hookfast starts")
    };
    let mut servers: Vec<_> = (0..4).map(|_| start()).collect();
    let mut refused = Vec::new();
    wait_for("all but one to end", || {
        for index in (0..servers.len()).rev() {
            if servers[index].try_wait().expect("it can be waited for").is_some() {
                refused.push(servers.remove(index).wait_with_output().expect("it ended"));
            }
        }
        (servers.len() == 1).then_some(())
    });
    for output in refused {
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        let sensible = said.contains("in use by another hookfast") || said.contains("secret.key");
        assert!(sensible, "{said}");
    }
    let mut winner = servers.remove(0);
    let mut line = String::new();
    BufReader::new(winner.stdout.take().expect("it is piped"))
        .read_line(&mut line)
        .expect("it can be read");
    winner.kill().expect("it can be killed");
    winner.wait().expect("it ends");
    assert!(line.starts_with("ready "), "{line}");
}

/// `hookfast check` on a data directory: its exit code and all that it said.
fn check(server: &Server, data: &Path) -> (Option<i32>, String) {
    let output = server.cli(&["check", "--data", data.to_str().expect("a path")]);
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn check_passes_a_sound_directory_and_finds_a_changed_body() {
    let app = App::start();
    let mut server = Server::with(&nylas::config(&app.url()));
    Plan::new("check").total(400).run(server.listen());
    server.wait_for_delivered(400);
    server.terminate();
    let (code, said) = check(&server, &server.data());
    assert_eq!(code, Some(0), "{said}");

    let file = server.data().join("hookfast.db");
    let mut bytes = fs::read(&file).expect("the database can be read");
    let word = b"object-check-3-7";
    let at = http::find(&bytes, word).expect("the body is in the database");
    bytes[at] ^= 1;
    fs::write(&file, bytes).expect("the database can be written");
    let (code, said) = check(&server, &server.data());
    assert_eq!(code, Some(1), "{said}");
}

#[test]
fn a_backup_taken_under_load_is_sound_and_holds_all_that_was_acknowledged_before() {
    let app = App::start();
    let mut server = Server::with(&nylas::config(&app.url()));
    let before = Plan::new("before").total(400).run(server.listen());
    assert_eq!(before.acknowledged.len(), 400);
    let load = Plan::new("during").start(server.listen());
    load.wait_for_acknowledged(50);

    let restored = server.data().with_file_name("restored");
    fs::create_dir(&restored).expect("a directory can be made");
    let backup = restored.join("hookfast.db");
    let output = server.cli(&["backup", backup.to_str().expect("a path")]);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let seen = load.acknowledged();
    load.wait_for_acknowledged(seen + 50);
    let during = load.stop();
    assert_eq!(
        during.refused.len() + during.unanswered,
        0,
        "{:?}",
        during.refused
    );
    // A backup holds no key.
    fs::copy(server.data().join("secret.key"), restored.join("secret.key")).expect("the key is there");
    server.kill();
    let (code, said) = check(&server, &restored);
    assert_eq!(code, Some(0), "{said}");

    fs::remove_dir_all(server.data()).expect("the data can be removed");
    fs::rename(&restored, server.data()).expect("the backup can take its place");
    server.start();
    let events = server.list("/api/v1/events");
    let held: BTreeSet<&str> = events.iter().map(|event| text(&event["provider_id"])).collect();
    let missing: Vec<_> = before
        .acknowledged
        .iter()
        .filter(|id| !held.contains(id.as_str()))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
    assert!(
        held.iter()
            .all(|id| before.posted.contains(*id) || during.posted.contains(*id))
    );
}
