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
use sim::{Watch, run, run_many};

/// Runs the real engine and stores under faults, in virtual time.
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
    /// Look, from the first seed on, for the seeds that show each deliberate bug.
    #[cfg(feature = "mutants")]
    #[arg(long, conflicts_with = "trace")]
    mutants: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let seeds = arguments.seed..arguments.seed.saturating_add(arguments.count);
    #[cfg(feature = "mutants")]
    if arguments.mutants {
        return mutants(&seeds);
    }
    if arguments.trace {
        return seeds.fold(ExitCode::SUCCESS, |code, seed| traced(seed).unwrap_or(code));
    }
    let many = run_many(seeds);
    println!("{}", many.totals);
    for (seed, failure) in &many.failures {
        eprintln!("seed {seed} failed: {failure}");
        eprintln!("run it again with: cargo run --release -p sim -- --seed {seed} --trace");
    }
    if many.failures.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Runs one seed and prints what happened; the exit code where a promise was broken.
fn traced(seed: u64) -> Option<ExitCode> {
    let report = run(seed, Watch::Lines);
    report.trace.iter().for_each(|line| println!("{line}"));
    let failure = report.failure?;
    eprintln!("seed {seed} failed: {failure}");
    Some(ExitCode::FAILURE)
}

/// Proves of each deliberate bug that these seeds show it, and prints with how many of them.
#[cfg(feature = "mutants")]
fn mutants(seeds: &std::ops::Range<u64>) -> ExitCode {
    use hookfast_engine::mutant::Mutant;
    use sim::mutants::{prove, seen};

    let mut code = ExitCode::SUCCESS;
    for mutant in Mutant::ALL {
        let name = mutant.name();
        for over in seen(mutant) {
            let what = format!("{name} {}", over.words());
            match prove(mutant, *over, seeds.clone()) {
                Ok(caught) => {
                    println!("{what}: caught with {} seeds: {}", caught.seeds, caught.failure);
                    println!(
                        "  HOOKFAST_MUTANT={name} cargo run --release -p sim --features mutants -- --seed {} --trace",
                        caught.seed
                    );
                }
                Err(error) => {
                    eprintln!("{what}: not caught: {error}");
                    code = ExitCode::FAILURE;
                }
            }
        }
    }
    code
}
