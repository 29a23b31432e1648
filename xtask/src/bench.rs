//! Owns `cargo xtask bench`: builds the server and the bench in release mode and runs the one with the other.
//! It must not know what is measured: every argument it does not need itself goes on as it is.

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::metadata::{Metadata, cargo};

/// What can be asked of the benchmark.
#[derive(Args)]
pub(crate) struct Options {
    /// How often everything is measured, in alternating order [default: 3].
    #[arg(long)]
    runs: Option<usize>,
    /// Seconds of each measurement [default: 5].
    #[arg(long)]
    seconds: Option<f64>,
    /// Numbers of connections, with commas between [default: 64,256].
    #[arg(long)]
    connections: Option<String>,
    /// Also write everything as JSON to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Further arguments of `bench run`, after `--`: `cargo xtask bench -- --servers bare,naive`.
    #[arg(last = true)]
    rest: Vec<String>,
}

impl Options {
    fn arguments(self) -> Vec<String> {
        let named = [
            ("--runs", self.runs.map(|runs| runs.to_string())),
            ("--seconds", self.seconds.map(|seconds| seconds.to_string())),
            ("--connections", self.connections),
            ("--json", self.json.map(|path| path.display().to_string())),
        ];
        let named = named
            .into_iter()
            .filter_map(|(name, value)| Some(format!("{name}={}", value?)));
        named.chain(self.rest).collect()
    }
}

/// Builds and measures. The data of the servers is beside the build, so on the disk of the tree and not in memory.
pub(crate) fn run(options: Options) -> Result<ExitCode> {
    let built = cargo()
        .args([
            "build",
            "--release",
            "--package",
            "hookfast",
            "--package",
            "bench",
            "--bins",
        ])
        .status()
        .context("cannot start cargo")?;
    if !built.success() {
        bail!("the release build failed");
    }
    let release = Metadata::read()?.target_directory.join("release");
    let status = Command::new(release.join("bench"))
        .arg("run")
        .arg("--hookfast")
        .arg(release.join("hookfast"))
        .arg("--work-dir")
        .arg(release.join("bench-data"))
        .args(options.arguments())
        .status()
        .context("cannot start the bench")?;
    Ok(match status.code() {
        Some(code) => ExitCode::from(u8::try_from(code).unwrap_or(1)),
        None => ExitCode::FAILURE,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_asked_for_is_passed_on_and_the_rest_follows() {
        let options = Options {
            runs: Some(1),
            seconds: None,
            connections: Some("64,256".into()),
            json: None,
            rest: vec!["--servers=bare".into()],
        };
        assert_eq!(
            options.arguments(),
            ["--runs=1", "--connections=64,256", "--servers=bare"]
        );
    }
}
