//! Owns the proof that the fault tools do what they say: the shim before a small program, the scripted application
//! and the senders against each other. It must not know Hookfast.

mod support;

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use support::app::{App, Reply};
use support::http;
use support::load::Plan;
use support::shim::{Event, Shim, compile};
use support::time::{now, wait_for};

fn probe(shim: &Shim) -> Command {
    let program = compile("probe.c", "probe", &[]);
    let mut command = Command::new(&program);
    command.envs(shim.environment());
    command.arg(program.with_extension("data"));
    command
}

fn run(shim: &Shim, steps: &[&str]) -> String {
    let output = probe(shim).args(steps).output().expect("the probe starts");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("the probe prints text")
}

#[test]
fn every_kind_of_sync_and_of_acknowledgement_is_seen_in_its_order() {
    let shim = Shim::new(&[]);
    let printed = run(
        &shim,
        &[
            "fsync",
            "write",
            "fdatasync",
            "send",
            "sendto",
            "range",
            "writev",
            "sendmsg",
        ],
    );
    assert_eq!(
        printed,
        "fsync 0 0\nwrite 38 0\nfdatasync 0 0\nsend 38 0\nsendto 38 0\nrange 0 0\nwritev 38 0\nsendmsg 38 0\n"
    );
    let seen = shim.seen();
    assert!(seen.is_sorted_by_key(|one| one.nanos), "{seen:?}");
    let names: Vec<_> = seen
        .iter()
        .map(|one| match &one.what {
            Event::Sync {
                call,
                error: None,
                path,
            } if path.ends_with("probe.data") => call.as_str(),
            Event::Ack { status: 200, port: 0 } => "ack",
            other @ (Event::Sync { .. } | Event::Ack { .. }) => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(
        names,
        [
            "fsync",
            "ack",
            "fdatasync",
            "ack",
            "ack",
            "sync_file_range",
            "ack",
            "ack"
        ]
    );
}

#[test]
fn syncs_fail_always_or_after_some_or_once() {
    let syncs = ["fsync", "fdatasync", "fsync"];
    for (fail, printed) in [
        ("1", "fsync -1 5\nfdatasync -1 5\nfsync -1 5\n"),
        ("after:1", "fsync 0 0\nfdatasync -1 5\nfsync -1 5\n"),
        ("nth:2", "fsync 0 0\nfdatasync -1 5\nfsync 0 0\n"),
        ("0", "fsync 0 0\nfdatasync 0 0\nfsync 0 0\n"),
    ] {
        assert_eq!(run(&Shim::new(&[("fail", fail)]), &syncs), printed, "fail={fail}");
    }
    let full = Shim::new(&[("fail", "1"), ("errno", "28")]);
    assert_eq!(run(&full, &["fsync"]), "fsync -1 28\n");
    assert!(matches!(full.seen()[0].what, Event::Sync { error: Some(28), .. }));
}

#[test]
fn only_files_that_match_are_touched() {
    let other = Shim::new(&[("fail", "1"), ("match", "another-file")]);
    assert_eq!(run(&other, &["fsync"]), "fsync 0 0\n");
    let this = Shim::new(&[("fail", "1"), ("match", "probe.data")]);
    assert_eq!(run(&this, &["fsync"]), "fsync -1 5\n");
}

#[test]
fn a_sync_takes_as_long_as_told() {
    let start = now();
    run(&Shim::new(&[("delay_ms", "150")]), &["fsync", "fdatasync"]);
    assert!(start.elapsed() >= Duration::from_millis(300));
}

#[test]
fn the_settings_of_a_running_process_can_be_changed() {
    let shim = Shim::new(&[]);
    let mut child = probe(&shim)
        .args(["fsync", "wait", "fsync", "wait", "fsync"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the probe starts");
    let mut stdin = child.stdin.take().expect("standard input is piped");
    for (count, fail) in [(1, "nth:1"), (2, "0")] {
        wait_for("a sync", || (shim.seen().len() == count).then_some(()));
        shim.set(&[("fail", fail)]);
        stdin.write_all(b"\n").expect("the probe waits");
    }
    let output = child.wait_with_output().expect("the probe ends");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "fsync 0 0\nwait 0 0\nfsync -1 5\nwait 0 0\nfsync 0 0\n"
    );
}

#[test]
fn a_process_dies_at_the_sync_or_the_acknowledgement_that_is_named() {
    use std::os::unix::process::ExitStatusExt as _;
    for (setting, printed) in [
        ("kill_sync", "fsync 0 0\nwrite 38 0\n"),
        ("kill_ack", "fsync 0 0\nwrite 38 0\nfsync 0 0\n"),
    ] {
        let shim = Shim::new(&[(setting, "2")]);
        let steps = ["fsync", "write", "fsync", "write"];
        let output = probe(&shim).args(steps).output().expect("the probe starts");
        assert_eq!(output.status.signal(), Some(9), "{setting}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), printed, "{setting}");
    }
}

#[test]
fn a_setting_that_is_not_known_is_refused() {
    let output = probe(&Shim::new(&[("fail", "sometimes")]))
        .arg("fsync")
        .output()
        .expect("the probe starts");
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot take fail=sometimes"));
}

#[test]
fn the_application_answers_as_told_and_remembers_everything() {
    let app = App::start();
    app.answer(|request| {
        if request.body == b"first" {
            Reply::status(502).header("retry-after", "1").body("not now")
        } else {
            Reply::hang_up()
        }
    });
    let headers = [("webhook-id", "one"), ("X-Other", "two")];
    let answer = http::request(app.address(), "POST", "/webhooks?a=b", &headers, b"first");
    assert_eq!((answer.status, answer.text().as_str()), (502, "not now"));
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert!(http::try_request(app.address(), "POST", "/", &headers, b"second").is_err());

    let received = app.wait_for(2);
    assert_eq!(
        (received[0].method.as_str(), received[0].path.as_str()),
        ("POST", "/webhooks?a=b")
    );
    assert_eq!(received[0].header("x-other"), Some("two"));
    assert_eq!(app.counts()["one"], 2);
}

#[test]
fn a_stopped_application_refuses_connections_and_comes_back_on_its_port() {
    let mut app = App::start();
    let mut kept = http::Connection::open(app.address()).expect("the application listens");
    assert_eq!(kept.send("GET", "/", &[], b"").expect("it answers").status, 200);
    app.stop();
    assert!(kept.send("GET", "/", &[], b"").is_err());
    assert!(http::try_request(app.address(), "GET", "/", &[], b"").is_err());
    app.start_again();
    assert_eq!(http::get(app.address(), "/").status, 200);
    assert_eq!(app.received().len(), 2);
}

#[test]
fn senders_know_what_was_acknowledged_and_repeat_what_was_not() {
    let app = App::start();
    let mut count = 0;
    app.answer(move |_| {
        count += 1;
        match count % 3 {
            0 => Reply::status(503),
            1 => Reply::hang_up(),
            _ => Reply::status(200),
        }
    });
    let once = Plan::new("once").total(40).run(app.address());
    assert_eq!(once.posted.len(), 40);
    assert_eq!(once.answered, once.acknowledged.len());
    assert_eq!(once.answered + once.refused[&503] + once.unanswered, 40);

    let repeated = Plan::new("again").total(40).repeating().run(app.address());
    assert_eq!(repeated.acknowledged.len(), 40);
    assert_eq!(repeated.acknowledged, repeated.posted);
    assert!(repeated.unanswered > 0 && repeated.refused[&503] > 0);
}

#[test]
fn chunked_answers_and_requests_are_read() {
    let app = App::start();
    let raw = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    let answer = http::raw(app.address(), raw).expect("it answers");
    assert!(answer.starts_with(b"HTTP/1.1 200"));
    assert_eq!(app.received()[0].body, b"abc");
}
