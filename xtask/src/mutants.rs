//! Owns `cargo xtask mutants`: the proof that the tests see the deliberate bugs of the feature `mutants`.
//! It must not know what a bug does: the simulator's part is the simulator's, and of the store's tests it knows the names.

use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use crate::metadata::cargo;
use crate::output::{root, say};

/// Seeds within which the simulator must show each of them.
const SEEDS: &str = "500";

/// What the simulator cannot get into, being within one batch of the embedded store: the mutant, and the test of that
/// store which sees it.
const SEEN_BY_THE_STORE: [(&str, &str); 3] = [
    (
        "acknowledge-before-commit",
        "embedded::tests::an_event_and_its_repeat_are_answered_after_a_commit_that_wrote_to_the_log",
    ),
    (
        "acknowledge-repeat-without-sync",
        "embedded::tests::an_event_and_its_repeat_are_answered_after_a_commit_that_wrote_to_the_log",
    ),
    (
        "dedupe-mark-in-its-own-transaction",
        "embedded::tests::an_operation_at_fault_takes_nothing_of_its_batch_with_it",
    ),
];

/// Fails where one of them is not caught.
pub(crate) fn run() -> Result<ExitCode> {
    if !all_are_caught()? {
        bail!("mutants: not all of them were caught");
    }
    Ok(ExitCode::SUCCESS)
}

/// Whether each of them is caught; says how.
pub(crate) fn all_are_caught() -> Result<bool> {
    say("mutants: the simulator");
    let simulator = [
        "run",
        "--locked",
        "--package",
        "sim",
        "--features",
        "mutants",
        "--",
    ];
    let status = cargo()
        .args(simulator)
        .args(["--mutants", "--count", SEEDS])
        .current_dir(root())
        .status()
        .context("cannot start the simulator")?;
    let mut seen = status.success();
    say("mutants: the embedded store's tests");
    for (mutant, test) in SEEN_BY_THE_STORE {
        if !passes(test, None)? {
            bail!("mutants: {test} fails without any mutant");
        }
        if passes(test, Some(mutant))? {
            say(&format!("{mutant} over the embedded store: not caught by {test}"));
            seen = false;
        } else {
            say(&format!("{mutant} over the embedded store: caught by {test}"));
        }
    }
    Ok(seen)
}

/// Whether one of the store's tests passes, with that mutant or with none.
fn passes(test: &str, mutant: Option<&str>) -> Result<bool> {
    let mut command = cargo();
    command
        .args(["test", "--quiet", "--package", "hookfast-store"])
        .args(["--features", "mutants", "--lib", "--", "--exact", test])
        .current_dir(root())
        .env_remove("HOOKFAST_MUTANT")
        .envs(mutant.map(|name| ("HOOKFAST_MUTANT", name)));
    let output = command.output().context("cannot start cargo test")?;
    Ok(output.status.success())
}
