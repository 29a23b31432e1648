//! Owns `cargo xtask fuzz`: builds the fuzzer so that it sees which code an input reaches, and runs each target.
//! It must not know what a target does: there is one for each folder of `crates/fuzz/corpus`.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::metadata::{Metadata, cargo};
use crate::output::{root, say};

/// What makes LLVM note which code ran and what was compared: the flags of cargo-fuzz, but for the sanitizers, which
/// need a nightly toolchain.
const COVERAGE: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
     -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
     -Cllvm-args=-sanitizer-coverage-trace-compares";
/// No input may take longer than so many seconds …
const INPUT_SECONDS: u32 = 20;
/// … and none is longer than so many bytes.
const INPUT_BYTES: u32 = 8192;

/// How long a target is given inputs.
#[derive(Clone, Copy)]
pub(crate) enum Effort {
    /// So many inputs, from the same beginning and so nearly the same each time: it fails for what was changed, and
    /// hardly by chance.
    Inputs(u32),
    /// Inputs that nobody tried before, for so many seconds.
    Seconds(u32),
}

impl Effort {
    /// What says so to libFuzzer.
    fn arguments(self) -> Vec<String> {
        match self {
            Self::Inputs(inputs) => vec![format!("-runs={inputs}"), "-seed=1".to_owned()],
            Self::Seconds(seconds) => vec![format!("-max_total_time={seconds}")],
        }
    }
}

/// What can be asked of the fuzzer.
#[derive(Args)]
pub(crate) struct Options {
    /// The targets; all of them where none is named.
    targets: Vec<String>,
    /// Seconds for each target.
    #[arg(long, default_value_t = 60)]
    seconds: u32,
}

/// Fuzzes every target; whether nothing broke.
pub(crate) fn every(effort: Effort) -> Result<bool> {
    Ok(broken(&targets()?, effort)?.is_empty())
}

/// Fuzzes the targets asked for; fails where one found an input that breaks a promise.
pub(crate) fn run(options: Options) -> Result<ExitCode> {
    let known = targets()?;
    if let Some(unknown) = options.targets.iter().find(|name| !known.contains(name)) {
        bail!("there is no target `{unknown}`; there are {}", known.join(", "));
    }
    let chosen = if options.targets.is_empty() {
        known
    } else {
        options.targets
    };
    let broken = broken(&chosen, Effort::Seconds(options.seconds))?;
    if !broken.is_empty() {
        bail!("fuzz: broken: {}", broken.join(", "));
    }
    Ok(ExitCode::SUCCESS)
}

/// Those of the targets that an input broke.
fn broken(targets: &[String], effort: Effort) -> Result<Vec<&str>> {
    let (program, home) = build()?;
    let mut broken = Vec::new();
    for target in targets {
        if !fuzz(&program, &home, target, effort)? {
            broken.push(target.as_str());
        }
    }
    Ok(broken)
}

fn corpus() -> PathBuf {
    root().join("crates/fuzz/corpus")
}

fn targets() -> Result<Vec<String>> {
    let folders = fs::read_dir(corpus()).context("cannot list the fuzzer's corpora")?;
    let name = |entry: std::io::Result<fs::DirEntry>| Ok(entry?.file_name().to_string_lossy().into_owned());
    let mut names = folders.map(name).collect::<Result<Vec<String>>>()?;
    names.sort_unstable();
    Ok(names)
}

/// The fuzzer, and where it keeps what it finds. With `--target`, the flags leave out what runs while building.
fn build() -> Result<(PathBuf, PathBuf)> {
    let host = host()?;
    let home = Metadata::read()?.target_directory.join("fuzz");
    let mut command = cargo();
    command
        .args([
            "build",
            "--locked",
            "--profile",
            "fuzz",
            "--package",
            "fuzz",
            "--features",
            "libfuzzer",
        ])
        .args(["--bin", "fuzz", "--target", &host, "--target-dir"])
        .arg(&home)
        .env("RUSTFLAGS", COVERAGE)
        .current_dir(root());
    if !command.status().context("cannot start cargo")?.success() {
        bail!("the fuzzer could not be built");
    }
    Ok((home.join(&host).join("fuzz/fuzz"), home))
}

fn host() -> Result<String> {
    let output = Command::new("rustc")
        .arg("-vV")
        .output()
        .context("cannot start rustc")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned)
        .context("rustc does not say what machine it is for")
}

/// Runs one target; whether nothing broke.
fn fuzz(program: &Path, home: &Path, target: &str, effort: Effort) -> Result<bool> {
    // What was found earlier would make the same inputs lead elsewhere.
    let grown = match effort {
        Effort::Inputs(_) => home.join("fresh").join(target),
        Effort::Seconds(_) => home.join("corpus").join(target),
    };
    if matches!(effort, Effort::Inputs(_)) && grown.exists() {
        fs::remove_dir_all(&grown).with_context(|| format!("cannot empty {}", grown.display()))?;
    }
    let found = home.join("found").join(target);
    for directory in [&grown, &found] {
        fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    }
    let output = Command::new(program)
        .args(effort.arguments())
        .arg(format!("-max_len={INPUT_BYTES}"))
        .arg(format!("-timeout={INPUT_SECONDS}"))
        .arg(format!("-artifact_prefix={}/", found.display()))
        .arg("-print_final_stats=1")
        .arg(&grown)
        .arg(corpus().join(target))
        .env("HOOKFAST_FUZZ_TARGET", target)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {}", program.display()))?;
    let log = String::from_utf8_lossy(&output.stderr);
    let (runs, reached) = summary(&log);
    if output.status.success() {
        say(&format!(
            "fuzz: {target}: {runs} inputs, {reached} places reached"
        ));
        return Ok(true);
    }
    say(&log);
    say(&format!(
        "fuzz: {target}: broken after {runs} inputs; what broke it is in {}",
        found.display()
    ));
    Ok(false)
}

/// How many inputs were run, and how many places in the code they reached.
fn summary(log: &str) -> (u64, u64) {
    let statistics: HashMap<&str, &str> = log.lines().filter_map(|line| line.split_once(": ")).collect();
    let runs = statistics.get("stat::number_of_executed_units").copied();
    let reached = log.lines().rev().find_map(|line| {
        let (_, after) = line.split_once(" cov: ")?;
        after.split_whitespace().next()
    });
    let number = |text: Option<&str>| text.and_then(|text| text.trim().parse().ok()).unwrap_or(0);
    (number(runs), number(reached))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_summed_up_by_what_the_fuzzer_says_last() {
        let log = "#2\tINITED cov: 11 ft: 12 corp: 1/1b\n#9\tNEW    cov: 105 ft: 112 corp: 2/5b\n\
                   stat::number_of_executed_units: 4321\nstat::average_exec_per_sec:     0\n";
        assert_eq!(summary(log), (4321, 105));
        assert_eq!(summary(""), (0, 0));
    }
}
