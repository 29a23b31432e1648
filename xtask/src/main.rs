//! Owns the command line of what cargo itself cannot do: `cargo xtask COMMAND`, one file per command.
//! It must not know how a command does its work.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod bench;
mod fuzz;
mod metadata;
mod mutants;
mod output;
mod policy;
mod test;
mod tidy;
mod tools;

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
    /// Install what the tests need and run all of them.
    Test(test::Options),
    /// The same with many more rounds, for a night.
    Nightly(test::Options),
    /// Prove that the tests see bugs: each deliberate one must be caught.
    Mutants,
    /// Give every parser bytes that reach ever more of its code.
    Fuzz(fuzz::Options),
    /// Check the rules of the tree that no compiler knows.
    Tidy,
    /// Check what is depended on against `deny.toml`.
    Policy,
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Bench(options) => bench::run(options),
        Command::Test(options) => test::run(&options, test::Extent::Change),
        Command::Nightly(options) => test::run(&options, test::Extent::Night),
        Command::Mutants => mutants::run(),
        Command::Fuzz(options) => fuzz::run(options),
        Command::Tidy => tidy::run(),
        Command::Policy => policy::run(),
    };
    // A backtrace of this program helps nobody.
    done.unwrap_or_else(|error| {
        output::complain(&format!("error: {error:#}"));
        ExitCode::FAILURE
    })
}
