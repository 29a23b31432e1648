//! Owns `cargo xtask test` and `cargo xtask nightly`: the tools the tests need, then every test of the workspace.
//! It must not know the tests: they find the tools by the variables that are set here.

use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::fuzz::Effort;
use crate::metadata::{Metadata, cargo};
use crate::output::{root, say};
use crate::{fuzz, mutants, tools};

/// Seeds that the simulator runs in a night.
const SEEDS_OF_A_NIGHT: &str = "5000";

/// What can be asked of the tests.
#[derive(Args)]
pub(crate) struct Options {
    /// Further arguments of the test runner, after `--`: `cargo xtask test -- --package hookfast`.
    #[arg(last = true)]
    rest: Vec<String>,
}

/// How long the tests with rounds and seeds go on.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(crate) enum Extent {
    /// As many as every change can wait for.
    Change,
    /// As many as a night has room for.
    Night,
}

impl Extent {
    /// How long each target of the fuzzer is given inputs. At night, an hour for all of them.
    fn of_the_fuzzer(self) -> Effort {
        match self {
            Self::Change => Effort::Inputs(3_000),
            Self::Night => Effort::Seconds(280),
        }
    }

    /// The variables that say so to the tests.
    fn environment(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Change => &[],
            Self::Night => &[("HOOKFAST_NIGHTLY", "1"), ("PROPTEST_CASES", "20000")],
        }
    }
}

/// Installs what is missing and runs all tests: the ones in doc comments, the mutants and the fuzzer first, so that the
/// last lines are the runner's own.
pub(crate) fn run(options: &Options, extent: Extent) -> Result<ExitCode> {
    let environment = tools::provide(&Metadata::read()?.target_directory)?;
    let run = |what: &str, command: &mut Command| {
        say(&format!("test: {what}"));
        command
            .current_dir(root())
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .envs(extent.environment().iter().copied())
            .status()
            .with_context(|| format!("cannot start {what}"))
    };
    let mut failed = false;
    if options.rest.is_empty() {
        failed |= !run("cargo test --doc", cargo().args(["test", "--doc", "--workspace"]))?.success();
        failed |= !mutants::all_are_caught()?;
        failed |= !fuzz::every(extent.of_the_fuzzer())?;
    }
    if options.rest.is_empty() && extent == Extent::Night {
        let mut simulator = cargo();
        simulator.args([
            "run",
            "--release",
            "--package",
            "sim",
            "--",
            "--count",
            SEEDS_OF_A_NIGHT,
        ]);
        failed |= !run("the simulator", &mut simulator)?.success();
    }
    // The runner builds the binaries of packages that have tests of them; this one's tests stand elsewhere. Built
    // with the whole workspace, so that its dependencies have the features they have for the tests.
    failed |= !run(
        "cargo build",
        cargo().args(["build", "--workspace", "--bin", "axum-app"]),
    )?
    .success();
    let (what, mut runner) = runner(extent);
    let chosen = |argument: &String| argument == "-p" || argument.starts_with("--package");
    if !options.rest.iter().any(chosen) {
        runner.arg("--workspace");
    }
    failed |= !run(what, runner.args(&options.rest))?.success();
    if failed {
        bail!("test: not all tests passed");
    }
    Ok(ExitCode::SUCCESS)
}

/// cargo-nextest where it is installed, else cargo's own runner.
fn runner(extent: Extent) -> (&'static str, Command) {
    let nextest = cargo()
        .args(["nextest", "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let mut command = cargo();
    if nextest.is_ok_and(|status| status.success()) {
        command.args(["nextest", "run"]);
        if extent == Extent::Night {
            command.args(["--profile", "nightly"]);
        }
        return ("cargo nextest run", command);
    }
    // Without doc tests, which ran already.
    command.args(["test", "--no-fail-fast", "--all-targets"]);
    ("cargo test", command)
}
