//! The proof that the simulator would see bugs: each deliberate bug must be caught, over each store that has it.
//!
//! Owns in which worlds which bug must be seen, the search for the first seed that does, and the check that the same seed is
//! whole without the bug. Must not know what a bug does.

use std::ops::Range;

use hookfast_engine::mutant::{self, Mutant};

use crate::chance::Chance;
use crate::scenario::{Scenario, StoreKind};
use crate::{Watch, run, search};

/// The worlds in which a bug can be seen.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Over {
    /// All: the bug is in no store.
    Any,
    /// Those over the memory model, with one node or several.
    Memory,
    /// Those over the embedded store.
    Embedded,
}

impl Over {
    /// Which worlds these are, in words.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Any => "over either store",
            Self::Memory => "over the memory model",
            Self::Embedded => "over the embedded store",
        }
    }

    fn has(self, seed: u64) -> bool {
        let embedded = Scenario::draw(&mut Chance::new(seed)).store == StoreKind::Embedded;
        match self {
            Self::Any => true,
            Self::Memory => !embedded,
            Self::Embedded => embedded,
        }
    }
}

/// Where a run can see `mutant`: in each of these. What lies between a commit and its answer, or within a batch, in the
/// embedded store's own thread, no run can get into; the tests of that store can.
#[must_use]
pub fn seen(mutant: Mutant) -> &'static [Over] {
    match mutant {
        Mutant::LostWakeup => &[Over::Any],
        Mutant::AcknowledgeRepeatWithoutSync => &[],
        // The embedded store has one node, and so one clock.
        Mutant::AcknowledgeBeforeCommit
        | Mutant::DedupeMarkInItsOwnTransaction
        | Mutant::LeaseOnLocalClock => &[Over::Memory],
        Mutant::NoFenceOnSettle
        | Mutant::DedupeMarkFromQuarantine
        | Mutant::RetryCounterNotPersisted
        | Mutant::HealthNotPersisted
        | Mutant::PushClaimsNotReleasedOnRestart => &[Over::Memory, Over::Embedded],
    }
}

/// How a mutant was caught.
#[derive(Clone, Debug)]
pub struct Caught {
    /// The first seed that showed it.
    pub seed: u64,
    /// How many seeds were run up to that one.
    pub seeds: usize,
    /// The promise it broke.
    pub failure: String,
}

/// Looks for the first of these seeds that shows `mutant` in these worlds.
///
/// # Errors
/// Where none does, or where the seed that does fails without the mutant too.
pub fn prove(mutant: Mutant, over: Over, seeds: Range<u64>) -> Result<Caught, String> {
    let seeds: Vec<u64> = seeds.filter(|seed| over.has(*seed)).collect();
    mutant::choose(Some(mutant));
    let failures = search(&seeds, 1).failures;
    mutant::choose(None);
    let first = failures.into_iter().next();
    let (seed, failure) = first.ok_or_else(|| format!("{} seeds did not show it", seeds.len()))?;
    match run(seed, Watch::Nothing).failure {
        Some(failure) => Err(format!("seed {seed} fails without it: {failure}")),
        None => Ok(Caught {
            seed,
            seeds: seeds.iter().take_while(|other| **other <= seed).count(),
            failure,
        }),
    }
}
