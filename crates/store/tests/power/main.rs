//! A disk that loses its power, or fails a call, under the real store: nothing acknowledged is lost.
//!
//! Owns the tests and how long they go on. `process` runs a `script` behind `diskshim.c`, which records what it does
//! to its files (`record`); `disk` says what a power cut leaves of that; `judge` opens the store on it and compares
//! it with the memory model. Linux only: the record is made by LD_PRELOAD.
#![cfg(target_os = "linux")]

mod chance;
mod cuts;
mod disk;
mod faults;
mod judge;
mod process;
mod record;
mod script;
mod shown;
mod subject;

use std::path::PathBuf;

use crate::chance::Chance;
use crate::cuts::{Case, Recording};
use crate::faults::{KINDS, Round};
use crate::process::{Fault, Honesty};
use crate::record::Change;

/// Turns of a script that is cut, and of one with a fault.
const TURNS: usize = 160;
const FAULT_TURNS: usize = 60;

/// `short` where every change waits for the test, `night` where a night has room for it.
fn short_or_nightly<T>(short: T, night: T) -> T {
    if std::env::var_os("HOOKFAST_NIGHTLY").is_some_and(|value| value == "1") {
        night
    } else {
        short
    }
}

/// The first seed of several: `HOOKFAST_SEED`, else always the same.
fn first_seed() -> u64 {
    let given = std::env::var("HOOKFAST_SEED").ok();
    given.map_or(1, |text| text.parse().expect("HOOKFAST_SEED is a number"))
}

/// What the asynchronous calls of a test run on.
fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().build().expect("a runtime can be made")
}

#[test]
#[ignore = "it is the process that the other tests start"]
fn the_process_under_test() {
    process::play();
}

#[test]
fn a_power_cut_takes_nothing_that_was_acknowledged() {
    let (seeds, cuts) = short_or_nightly((2, 75), (5, 500));
    for seed in first_seed()..first_seed() + seeds {
        let recording = Recording::make(seed, TURNS, Honesty::AfterTheAnswer);
        if let Err(error) = recording.history.check_answers(&recording.changes) {
            panic!("seed {seed}: {error}");
        }
        let cases = recording.cases(cuts);
        let twice = cases.iter().filter(|case| case.second.is_some()).count();
        let (judged, failures) = recording.judge(&cases, |_| true, |failures| failures.len() > 9);
        recording.tell(judged, &failures);
        let syncs = recording.changes.iter().filter(|it| matches!(it, Change::Sync { .. })).count();
        println!(
            "seed {seed}: {} steps, {} changes of the disk, {syncs} syncs; {judged} cuts, {twice} of them twice",
            recording.history.steps(),
            recording.changes.len(),
        );
    }
}

/// How many cuts it took until the judge saw that something is wrong.
fn cuts_until_seen(honesty: Honesty, seed: u64, happens: impl Fn(&Change, &[Change]) -> bool) -> usize {
    let recording = Recording::make(seed, TURNS, honesty);
    let happens = |change: &Change| happens(change, &recording.changes);
    let mut cases = recording.cases(400);
    // Otherwise the first would all be at the start.
    let mut chance = Chance::new(seed);
    for number in (1..cases.len()).rev() {
        cases.swap(number, chance.below(number + 1));
    }
    for (number, case) in cases.iter().enumerate() {
        let (_, failures) = recording.judge(std::slice::from_ref(case), happens, |_| true);
        if !failures.is_empty() {
            return number + 1;
        }
    }
    panic!("none of {} cuts showed it", cases.len());
}

/// Whether it is a sync of a file whose name ends so.
fn is_sync_of(change: &Change, end: &str, all: &[Change]) -> bool {
    let Change::Sync { file: synced, .. } = change else {
        return false;
    };
    all.iter().any(|it| match it {
        Change::Create { path, file } | Change::Make { path, file } => file == synced && path.ends_with(end),
        _ => false,
    })
}

#[test]
fn an_acknowledgement_before_the_commit_is_seen() {
    let cuts = cuts_until_seen(Honesty::BeforeTheAnswer, first_seed(), |_, _| true);
    println!("seen with {cuts} cuts");
}

#[test]
fn syncs_of_the_log_that_do_nothing_are_seen() {
    let lies = |change: &Change, all: &[Change]| !is_sync_of(change, "-wal", all);
    let cuts = cuts_until_seen(Honesty::AfterTheAnswer, first_seed(), lies);
    println!("seen with {cuts} cuts");
}

#[test]
fn syncs_of_the_database_that_do_nothing_are_seen() {
    let lies = |change: &Change, all: &[Change]| !is_sync_of(change, "hookfast.db", all);
    let cuts = cuts_until_seen(Honesty::AfterTheAnswer, first_seed(), lies);
    println!("seen with {cuts} cuts");
}

#[test]
fn syncs_of_the_directory_that_do_nothing_are_seen() {
    let lies = |change: &Change, all: &[Change]| !is_sync_of(change, subject::DATA, all);
    let cuts = cuts_until_seen(Honesty::AfterTheAnswer, first_seed(), lies);
    println!("seen with {cuts} cuts");
}

/// Lets the n-th call of a class fail: some of them, or one after the other until none is left.
fn fail_calls(kinds: &[(&'static str, &'static str)]) {
    let (rounds, seeds, cuts) = short_or_nightly((Some(6), 1, 2), (None, 1, 4));
    for seed in first_seed()..first_seed() + seeds {
        let whole = Recording::make(seed, FAULT_TURNS, Honesty::AfterTheAnswer);
        for (class, how) in kinds.iter().copied() {
            let calls = faults::calls(&whole, class);
            let mut chance = Chance::of(seed, calls as u64);
            let mut met = 0;
            for round in 1.. {
                let number = match rounds {
                    Some(rounds) if round > rounds => break,
                    Some(_) => 1 + chance.below(calls),
                    None => round,
                };
                let fault = Fault { class, how, number };
                let turns = FAULT_TURNS;
                if (Round { seed, turns, fault }).play_or_tell(cuts) {
                    met += 1;
                } else if rounds.is_none() {
                    break;
                }
            }
            assert!(met > 0, "no call of {class} was made to fail");
            println!("seed {seed}: {met} of some {calls} calls of {class} failed with {how}");
        }
    }
}

#[test]
fn a_write_that_fails_is_never_acknowledged() {
    fail_calls(&KINDS[..3]);
}

#[test]
fn a_sync_that_fails_is_never_acknowledged() {
    fail_calls(&KINDS[3..4]);
}

#[test]
fn a_length_a_name_or_an_opening_that_fails_loses_nothing() {
    fail_calls(&KINDS[4..]);
}

fn chosen(variable: &str) -> String {
    let given = std::env::var(variable);
    given.unwrap_or_else(|_| panic!("{variable} is not set: a failure prints the whole command"))
}

#[test]
#[ignore = "a failure of the others prints how it is run"]
fn the_chosen_cut_loses_nothing() {
    let log = PathBuf::from(chosen("HOOKFAST_POWER_RECORD"));
    let case: Case = chosen("HOOKFAST_POWER_CASE").parse().expect("it is a case");
    let recording = Recording::kept(&case, &log);
    let (_, failures) = recording.judge(&[case], |_| true, |_| true);
    assert!(failures.is_empty(), "{}", failures[0].1);
}

#[test]
#[ignore = "a failure of the others prints how it is run"]
fn the_chosen_fault_loses_nothing() {
    let text = chosen("HOOKFAST_POWER_FAULT");
    let words: Vec<_> = text.split(':').collect();
    let [seed, turns, class, how, number] = words[..] else {
        panic!("`{text}` is not SEED:TURNS:CLASS:HOW:NUMBER");
    };
    let kind = KINDS.into_iter().find(|kind| *kind == (class, how)).expect("it is a known fault");
    let fault = Fault {
        class: kind.0,
        how: kind.1,
        number: number.parse().expect("the last word is a number"),
    };
    let (seed, turns) = (seed.parse().expect("a seed"), turns.parse().expect("a number of turns"));
    assert!(Round { seed, turns, fault }.play_or_tell(4), "the fault met nothing");
}
