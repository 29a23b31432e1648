//! Numbers that look like chance; the same seed gives the same ones. It must not know what they decide.

use hookfast_store::conformance::Random;

/// A generator of numbers.
#[derive(Clone, Debug)]
pub(crate) struct Chance(Random);

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Random(seed))
    }

    /// Numbers of their own for a part, whatever else is drawn.
    pub(crate) fn of(seed: u64, part: u64) -> Self {
        let mut chance = Self::new(seed ^ part.wrapping_mul(0xd6e8_feb8_6659_fd93));
        Self::new(chance.next())
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0.draw()
    }

    /// A number below `bound`; 0 where that is 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        let bound = bound.max(1) as u64;
        usize::try_from(self.next() % bound).expect("it is below a usize")
    }

    /// True in so many of a hundred cases.
    pub(crate) fn percent(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}
