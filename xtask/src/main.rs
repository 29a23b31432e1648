//! Owns the command line of what cargo itself cannot do: `cargo xtask COMMAND`, one file per command.
//! It must not know how a command does its work.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

mod bench;

/// What cargo itself cannot do.
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measure Hookfast beside its peers, in release mode.
    Bench(bench::Options),
}

fn main() -> Result<ExitCode> {
    match Cli::parse().command {
        Command::Bench(options) => bench::run(options),
    }
}
