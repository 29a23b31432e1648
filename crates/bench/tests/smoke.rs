//! Owns the proof that the bench runs: the real binary, for half a second each.
//! It must not know what the figures ought to be.

use std::path::Path;
use std::process::{Command, Output};

fn bench(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bench"))
        .args(arguments)
        .output()
        .expect("the bench starts")
}

#[test]
fn bare_and_naive_are_measured_and_every_200_of_naive_is_stored() {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let json = directory.join("smoke.json");
    let output = bench(&[
        "run",
        "--servers=bare,naive",
        "--connections=8",
        "--runs=1",
        "--seconds=0.5",
        "--warm-up=0.1",
        "--idle-requests=20",
        "--work-dir",
        directory.to_str().unwrap(),
        "--json",
        json.to_str().unwrap(),
    ]);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(table.contains("bare hyper") && table.contains("naive"), "{table}");

    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    let measurements = report["measurements"].as_array().unwrap();
    assert_eq!(measurements.len(), 2);
    for one in measurements {
        assert!(one["accepted"].as_u64().unwrap() > 0, "{one}");
        assert!(one["p50_us"].as_f64().unwrap() > 0.0, "{one}");
        assert_eq!(one["refused"], serde_json::json!({}), "{one}");
        assert_eq!(one["unanswered"], 0, "{one}");
    }
    assert_eq!(measurements[1]["stored"], measurements[1]["accepted"]);
    assert_eq!(report["idle_measurements"][1]["requests"], 20);
    assert_eq!(report["faults"], serde_json::json!([]));
}

#[test]
fn hookfast_is_not_measured_without_its_binary() {
    let output = bench(&["run"]);
    assert_eq!(output.status.code(), Some(1));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("give --hookfast PATH"), "{message}");
}

#[test]
fn a_server_that_ends_before_it_is_ready_is_named() {
    let directory = env!("CARGO_TARGET_TMPDIR");
    let output = bench(&[
        "run",
        "--quick",
        "--servers=ingest",
        "--hookfast=/bin/false",
        "--work-dir",
        directory,
    ]);
    assert_eq!(output.status.code(), Some(1));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(
        message.contains("/bin/false: it ended before it said"),
        "{message}"
    );
}
