//! `cargo run --release -p sim -- --count 1000`: runs that many seeds and says what was simulated.
//!
//! Owns the command line alone. A failing seed prints the command that runs it again.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this is a command; printing is its purpose"
)]

use std::process::ExitCode;

use clap::Parser;
use sim::{Totals, run};

/// Runs the real engine and store under faults, in virtual time.
#[derive(Debug, Parser)]
struct Arguments {
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many seeds to run.
    #[arg(long, default_value_t = 1)]
    count: u64,
    /// Print what happens, as it happens in virtual time.
    #[arg(long)]
    trace: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut totals = Totals::default();
    for seed in arguments.seed..arguments.seed.saturating_add(arguments.count) {
        let report = run(seed, arguments.trace);
        if arguments.trace {
            report.trace.iter().for_each(|line| println!("{line}"));
        }
        totals.add(&report);
        if let Some(failure) = &report.failure {
            eprintln!("seed {seed} failed: {failure}");
            eprintln!("run it again with: cargo run --release -p sim -- --seed {seed} --trace");
            return ExitCode::FAILURE;
        }
    }
    println!("{totals}");
    ExitCode::SUCCESS
}
