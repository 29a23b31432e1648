//! The simulator: the real dispatcher, settlement and stores in a world that is made of one seed.
//!
//! Owns virtual time, chance, senders, destinations, people, deaths and faults; and the ledger that knows only what
//! was acknowledged and what arrived. Must not know how the engine or a store works inside.
//!
//! A run has two phases: faults for a while, then none, when everything owed must finish in bounded virtual time.
//! `scenario` says what a seed draws, `faults` what can go wrong; `world` is the agenda, `node` and `driver` are the
//! server's part over the real dispatcher, `storage` is the store that outlives processes; `sender`, `destination`,
//! `worker` and `people` are those outside; `ledger`, `audit` and `finish` judge. With the feature `mutants`, `mutants`
//! proves that they would see a bug.

mod audit;
mod chance;
mod destination;
mod driver;
mod faults;
mod finish;
mod ledger;
#[cfg(feature = "mutants")]
pub mod mutants;
mod node;
mod people;
mod scenario;
mod sender;
mod setup;
mod storage;
mod worker;
mod world;

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use hookfast_engine::time::Timestamp;
use hookfast_engine::topology::DestinationStatus;
use parking_lot::Mutex;

pub use faults::{Counts, Kind};

/// When every run begins.
const START: Timestamp = Timestamp::from_secs(1_790_000_000);

/// How closely a run is watched.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Watch {
    /// Nothing is noted.
    Nothing,
    /// What happens goes into [`Report::trace_hash`].
    Hash,
    /// What happens is kept in [`Report::trace`] too.
    Lines,
}

/// What one run was and found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The first broken promise.
    pub failure: Option<String>,
    /// Virtual microseconds that went by.
    pub virtual_micros: u64,
    /// Faults that were injected, by kind.
    pub faults: Counts,
    /// Events that were acknowledged and checked.
    pub events: u64,
    /// Attempts that were made.
    pub attempts: u64,
    /// Looks at everything stored.
    pub audits: u64,
    /// How often destinations became failing, failed and active again by their attempts.
    pub statuses: Statuses,
    /// What happened, where that was asked for.
    pub trace: Vec<String>,
    /// A hash over what happened, where that was asked for.
    pub trace_hash: u64,
}

impl Report {
    /// FNV-1a over the lines.
    fn hash(&mut self, line: &str) {
        for byte in line.bytes().chain([b'\n']) {
            self.trace_hash = (self.trace_hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

/// How often destinations became failing, failed and active again by their attempts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Statuses {
    /// Failing.
    pub failing: u64,
    /// Failed.
    pub failed: u64,
    /// Active again.
    pub recovered: u64,
}

impl Statuses {
    fn count(&mut self, status: DestinationStatus) {
        match status {
            DestinationStatus::Failing => self.failing += 1,
            DestinationStatus::Failed => self.failed += 1,
            DestinationStatus::Active => self.recovered += 1,
            DestinationStatus::Paused | DestinationStatus::Unverified => {}
        }
    }
}

/// Runs one seed. A panic in it is a failure like any other.
#[must_use]
pub fn run(seed: u64, watch: Watch) -> Report {
    let failed = |failure| Report {
        failure: Some(failure),
        ..Report::default()
    };
    let played = std::panic::catch_unwind(|| world::World::new(seed, watch).map(world::World::run));
    match played {
        Ok(Ok(report)) => report,
        Ok(Err(error)) => failed(format!(
            "a directory for the embedded store cannot be made: {error}"
        )),
        Err(_) => failed("a panic".to_owned()),
    }
}

/// What many seeds gave.
#[derive(Clone, Debug, Default)]
pub struct Many {
    /// All of them together.
    pub totals: Totals,
    /// The seeds that broke a promise, and which.
    pub failures: BTreeMap<u64, String>,
}

/// Once so many seeds have failed, no more are begun.
const FAILURES_MOST: usize = 5;

/// Runs these seeds, as many at once as the machine has processors.
#[must_use]
pub fn run_many(seeds: Range<u64>) -> Many {
    search(&seeds.collect::<Vec<_>>(), FAILURES_MOST)
}

/// Runs these seeds in their order, and begins no more once so many have failed.
fn search(seeds: &[u64], failures_most: usize) -> Many {
    let next = AtomicUsize::new(0);
    let many = Mutex::new(Many::default());
    let work = || {
        while let Some(&seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed))
            && many.lock().failures.len() < failures_most
        {
            let report = run(seed, Watch::Nothing);
            let mut many = many.lock();
            many.totals.add(&report);
            many.failures
                .extend(report.failure.map(|failure| (seed, failure)));
        }
    };
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| (0..workers).for_each(|_| _ = scope.spawn(work)));
    many.into_inner()
}

/// What many runs were.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    runs: u64,
    virtual_micros: u64,
    faults: Counts,
    events: u64,
    attempts: u64,
    audits: u64,
    statuses: Statuses,
}

impl Totals {
    /// Adds one run.
    pub fn add(&mut self, report: &Report) {
        self.runs += 1;
        self.virtual_micros += report.virtual_micros;
        self.faults.add(&report.faults);
        self.events += report.events;
        self.attempts += report.attempts;
        self.audits += report.audits;
        self.statuses.failing += report.statuses.failing;
        self.statuses.failed += report.statuses.failed;
        self.statuses.recovered += report.statuses.recovered;
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "faults injected:")?;
        self.faults.fmt(formatter)?;
        let Statuses {
            failing,
            failed,
            recovered,
        } = self.statuses;
        writeln!(
            formatter,
            "destinations became failing {failing} times, failed {failed} times, and were back {recovered} times"
        )?;
        write!(
            formatter,
            "{} seeds: {} h of virtual time, {} faults, {} events checked, {} attempts, {} audits",
            self.runs,
            self.virtual_micros / 3_600_000_000,
            self.faults.total(),
            self.events,
            self.attempts,
            self.audits
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seeds that once found a bug of ours, and which.
    const FOUND: [(u64, &str); 1] = [(
        211,
        "a failure that was heard of late let a destination be tried that is down",
    )];

    fn keeps_every_promise(seed: u64) {
        let report = run(seed, Watch::Nothing);
        assert_eq!(
            report.failure, None,
            "run it again with: cargo run --release -p sim -- --seed {seed} --trace"
        );
        assert!(report.events > 0, "seed {seed} checked nothing");
    }

    #[test]
    fn fifty_seeds_keep_every_promise() {
        (1..=50).for_each(keeps_every_promise);
    }

    #[test]
    fn seeds_that_once_found_a_bug_keep_every_promise() {
        FOUND.into_iter().for_each(|(seed, _)| keeps_every_promise(seed));
    }

    #[test]
    fn the_same_seed_gives_the_same_trace_byte_for_byte() {
        for seed in 1..=15 {
            let hash = run(seed, Watch::Hash).trace_hash;
            assert_eq!(
                hash,
                run(seed, Watch::Hash).trace_hash,
                "compare two runs with --seed {seed} --trace"
            );
            assert_ne!(hash, run(seed + 100, Watch::Hash).trace_hash);
        }
    }
}
