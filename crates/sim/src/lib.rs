//! The simulator: the real dispatcher, settlement and store in a world that is made of one seed.
//!
//! Owns virtual time, chance, senders, destinations, crashes and store faults; and the ledger that knows only
//! what was acknowledged and what arrived. Must not know how the engine or the store work inside. A run has
//! two phases: faults for a while, then none, when everything owed must arrive in bounded virtual time.

mod chance;
mod ledger;
mod node;
mod world;

use std::fmt;

use hookfast_engine::time::Timestamp;

/// What one run was and found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The first broken promise.
    pub failure: Option<String>,
    /// Virtual microseconds that went by.
    pub virtual_micros: u64,
    /// Faults that were injected: crashes, store faults, refused and lost requests.
    pub faults: u64,
    /// Events that were acknowledged and checked.
    pub events: u64,
    /// Attempts that were made.
    pub attempts: u64,
    /// What happened, where that was asked for.
    pub trace: Vec<String>,
}

/// Runs one seed.
#[must_use]
pub fn run(seed: u64, trace: bool) -> Report {
    world::World::new(seed, trace).run()
}

/// What many runs were.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    runs: u64,
    virtual_micros: u64,
    faults: u64,
    events: u64,
    attempts: u64,
}

impl Totals {
    /// Adds one run.
    pub fn add(&mut self, report: &Report) {
        self.runs += 1;
        self.virtual_micros += report.virtual_micros;
        self.faults += report.faults;
        self.events += report.events;
        self.attempts += report.attempts;
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hours = self.virtual_micros / 3_600_000_000;
        write!(
            formatter,
            "{} seeds: {hours} h of virtual time, {} faults, {} events checked, {} attempts",
            self.runs, self.faults, self.events, self.attempts
        )
    }
}

/// When every run begins.
const START: Timestamp = Timestamp::from_secs(1_790_000_000);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hundred_seeds_keep_every_promise() {
        for seed in 1..=100 {
            let report = run(seed, false);
            assert_eq!(
                report.failure, None,
                "run it again with: cargo run -p sim -- --seed {seed} --trace"
            );
            assert!(report.events > 0, "seed {seed} checked nothing");
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_trace() {
        assert!(
            run(7, true).trace == run(7, true).trace,
            "compare two runs with --seed 7 --trace"
        );
    }
}
