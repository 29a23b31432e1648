//! A disk that loses its power, or fails a call, under the real store: nothing acknowledged is lost.
//!
//! Owns the tests and how long they go on. `process` runs a `script` behind `diskshim.c`, which records what it does
//! to its files (`record`); `disk` says what a power cut leaves of that; `judge` opens the store on it and compares
//! it with the memory model. Linux only: the record is made by LD_PRELOAD.
#![cfg(target_os = "linux")]
#![expect(clippy::print_stdout, reason = "the figures are what the tests show")]

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

use std::path::Path;
use std::str::FromStr;

use crate::chance::Chance;
use crate::cuts::{Case, Recording};
use crate::faults::{KINDS, Kind, Round};
use crate::process::{Fault, Honesty};
use crate::record::Change;
use crate::script::Plan;

/// `short` where every change waits for the test, `night` where a night has room for it.
fn short_or_nightly<T>(short: T, night: T) -> T {
    if std::env::var_os("HOOKFAST_NIGHTLY").is_some_and(|value| value == "1") {
        night
    } else {
        short
    }
}

/// The variable that chooses other scripts.
const SEED: &str = "HOOKFAST_SEED";

/// The first seed of several: always the same where none was chosen.
fn first_seed() -> u64 {
    chosen(SEED).unwrap_or(1)
}

/// What somebody chose for this run, who repeats a failure.
fn chosen<T: FromStr>(variable: &str) -> Option<T> {
    let text = std::env::var(variable).ok()?;
    let parsed = text.parse();
    Some(
        parsed
            .unwrap_or_else(|_| panic!("{variable} cannot be `{text}`: a failure prints the whole command")),
    )
}

/// What the asynchronous calls of a test run on.
fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().build().expect("a runtime can be made")
}

/// Also the process that the other tests start: see `process`.
#[test]
fn a_process_goes_through_its_script_and_the_record_tells_all_of_it() {
    if !process::play() {
        let recording = Recording::make(small(first_seed()), Honesty::AfterTheAnswer);
        assert_eq!(recording.history.check_answers(&recording.changes), Ok(()));
    }
}

/// The script of `seed` that is cut: with large bodies, or with small ones and many openings.
fn plan(seed: u64) -> Plan {
    Plan {
        seed,
        turns: 160,
        large: seed % 2 == 1,
    }
}

#[test]
fn a_power_cut_takes_nothing_that_was_acknowledged() {
    if let (Some(case), Some(log)) = (chosen::<Case>(cuts::CASE), std::env::var_os(cuts::RECORD)) {
        let recording = Recording::kept(&case, Path::new(&log));
        let (_, failures) = recording.judge(&[case], |_| true, |_| true);
        assert!(failures.is_empty(), "{}", failures[0].1);
        return;
    }
    let (seeds, cuts) = short_or_nightly((2, 75), (6, 600));
    let mut copies = 0;
    for seed in first_seed()..first_seed() + seeds {
        let recording = Recording::make(plan(seed), Honesty::AfterTheAnswer);
        cut_and_judge(&recording, cuts);
        copies += recording.copies_of_the_log();
    }
    // Of one's own script this is not sure.
    let own = std::env::var_os(SEED).is_some();
    assert!(own || copies > 0, "the log was never copied while events came in");
}

fn cut_and_judge(recording: &Recording, cuts: usize) {
    let plan = recording.plan;
    if let Err(error) = recording.history.check_answers(&recording.changes) {
        panic!("{plan}: {error}");
    }
    let cases = recording.cases(cuts);
    let twice = cases.iter().filter(|case| case.second.is_some()).count();
    let (judged, failures) = recording.judge(&cases, |_| true, |failures| failures.len() > 9);
    recording.tell(judged, &failures);
    let syncs = recording
        .changes
        .iter()
        .filter(|it| matches!(it, Change::Sync { .. }))
        .count();
    println!(
        "{plan}: {} steps, {} changes of the disk, {syncs} syncs, {} copies of the log while events came in; \
         {judged} cuts, {twice} of them twice",
        recording.history.steps(),
        recording.changes.len(),
        recording.copies_of_the_log(),
    );
}

/// How many cuts it took until the judge saw that something is wrong: a process that is not honest, or a disk to
/// which only those syncs happen that `happens` lets through.
fn cuts_until_seen(honesty: Honesty, happens: impl Fn(&Change, &[Change]) -> bool) -> usize {
    let seed = first_seed();
    let recording = Recording::make(plan(seed), honesty);
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

/// Whether it is a sync of the file or the directory of that path; the recorded directory's own path is empty.
fn is_sync_of(change: &Change, path: &str, all: &[Change]) -> bool {
    let Change::Sync { file, .. } = change else {
        return false;
    };
    all.iter()
        .filter_map(Change::made)
        .any(|made| made == (path, *file))
}

/// How many cuts it took on a disk that does nothing where that path is synced.
fn cuts_without_syncs_of(path: &str) -> usize {
    cuts_until_seen(Honesty::AfterTheAnswer, |change, all| {
        !is_sync_of(change, path, all)
    })
}

#[test]
fn an_acknowledgement_before_the_commit_is_seen() {
    let cuts = cuts_until_seen(Honesty::BeforeTheAnswer, |_, _| true);
    println!("seen with {cuts} cuts");
}

#[test]
fn a_sync_of_the_log_that_does_nothing_is_seen() {
    println!("seen with {} cuts", cuts_without_syncs_of("data/hookfast.db-wal"));
}

#[test]
fn a_sync_of_the_database_that_does_nothing_is_seen() {
    println!("seen with {} cuts", cuts_without_syncs_of("data/hookfast.db"));
}

#[test]
fn a_sync_of_the_directory_that_does_nothing_is_seen() {
    println!("seen with {} cuts", cuts_without_syncs_of("data"));
}

/// A regression: the data directory's own name was not made durable, and with it all was gone.
#[test]
fn a_sync_of_the_directory_around_it_that_does_nothing_is_seen() {
    println!("seen with {} cuts", cuts_without_syncs_of(""));
}

/// A regression: the journal's removal failed while the database was switched to its write-ahead log. SQLite stayed
/// with the journal and said nothing, and a power cut took the last acknowledged step.
#[test]
fn a_switch_to_the_write_ahead_log_that_fails_is_told() {
    let fault = Fault {
        class: "name",
        how: "5",
        number: 2,
    };
    assert!(
        (Round {
            plan: small(1),
            fault
        })
        .play_or_tell(8),
        "the fault met nothing"
    );
}

/// A regression: after a sync of the log that failed, the next start copied the log into the database, having synced
/// it once more, which the kernel took for done. A power cut in the middle left half a commit there that no log
/// completed, and the database could not be read.
#[test]
fn a_commit_whose_sync_failed_is_never_left_half_copied() {
    for number in [24, 40, 51, 60] {
        let (class, how) = KINDS[3];
        let fault = Fault { class, how, number };
        let met = (Round {
            plan: small(1),
            fault,
        })
        .play_or_tell(12);
        assert!(met, "the fault met nothing");
    }
}

/// The script of `seed` in which calls fail.
fn small(seed: u64) -> Plan {
    Plan {
        seed,
        turns: 60,
        large: false,
    }
}

/// Lets calls fail in these ways: some of them or, in a night, one after the other until none is left.
fn fail_calls(kinds: &[Kind]) {
    if let Some(round) = chosen::<Round>(faults::ROUND) {
        assert!(round.play_or_tell(4), "the fault met nothing");
        return;
    }
    let seed = first_seed();
    for kind in kinds.iter().copied() {
        if short_or_nightly(false, true) {
            fail_each(small(seed), kind);
        } else {
            fail_some(small(seed), kind, 5);
        }
        fail_some(plan(seed), kind, short_or_nightly(2, 60));
    }
}

/// Whether the script has a call of that number to fail.
fn fail_one(plan: Plan, (class, how): Kind, number: usize) -> bool {
    let fault = Fault { class, how, number };
    (Round { plan, fault }).play_or_tell(short_or_nightly(2, 4))
}

fn fail_each(plan: Plan, kind: Kind) {
    let met = (1..).take_while(|number| fail_one(plan, kind, *number)).count();
    assert!(met > 0, "{plan}: there is no call of {} to fail", kind.0);
    println!(
        "{plan}: {} failed with {}, each of {met} calls in turn",
        kind.0, kind.1
    );
}

fn fail_some(plan: Plan, kind: Kind, count: usize) {
    let calls = faults::calls(&Recording::make(plan, Honesty::AfterTheAnswer), kind.0);
    let mut chance = Chance::of(plan.seed, calls as u64);
    let numbers: Vec<_> = if calls <= count {
        (1..=calls).collect()
    } else {
        (0..count).map(|_| 1 + chance.below(calls)).collect()
    };
    let met = numbers
        .iter()
        .filter(|number| fail_one(plan, kind, **number))
        .count();
    assert!(
        met > 0 || calls == 0,
        "{plan}: no call of {} was made to fail",
        kind.0
    );
    println!(
        "{plan}: {} failed with {}, {met} of some {calls} calls",
        kind.0, kind.1
    );
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
    fail_calls(&KINDS[4..8]);
}

#[test]
fn a_process_that_is_killed_at_a_call_loses_nothing() {
    fail_calls(&KINDS[8..]);
}
