//! The budget of body bytes in memory (SPEC P5).
//!
//! Owns the count of bytes that bodies hold on their way in and out, so that memory stays bounded whatever
//! arrives, and who holds them, so that nobody holds what others need. Must not know what the bytes are.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hash};
use std::sync::Arc;

use parking_lot::Mutex;

/// A number of bytes that reservations share.
#[derive(Clone, Debug)]
pub struct Budget {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    limit: usize,
    taken: Mutex<Taken>,
}

/// What is in use. The map's own hasher keeps strangers from choosing who shares a place with whom.
#[derive(Debug, Default)]
struct Taken {
    used: usize,
    by_holder: HashMap<Holder, usize>,
}

/// Who holds bytes: those of one holder together may not be more than what is left free for the others.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Holder(u64);

impl Budget {
    /// A budget of `limit` bytes.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            inner: Arc::new(Inner {
                limit,
                taken: Mutex::default(),
            }),
        }
    }

    /// The holder that `name` stands for.
    #[must_use]
    pub fn holder(&self, name: impl Hash) -> Holder {
        Holder(self.inner.taken.lock().by_holder.hasher().hash_one(name))
    }

    /// An empty reservation, to be grown as bytes arrive.
    #[must_use]
    pub fn reservation(&self) -> Reservation {
        Reservation {
            budget: self.clone(),
            holder: None,
            bytes: 0,
        }
    }

    /// As [`Budget::reservation`], as one of those of `holder`: so that who floods leaves room for others.
    #[must_use]
    pub fn reservation_of(&self, holder: Holder) -> Reservation {
        Reservation {
            budget: self.clone(),
            holder: Some(holder),
            bytes: 0,
        }
    }

    /// Bytes reserved at present.
    #[must_use]
    pub fn used(&self) -> usize {
        self.inner.taken.lock().used
    }

    /// The limit in bytes.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.inner.limit
    }
}

/// Bytes held until it is dropped.
#[derive(Debug)]
pub struct Reservation {
    budget: Budget,
    holder: Option<Holder>,
    bytes: usize,
}

impl Reservation {
    /// Reserves `bytes` more; false, and nothing changed, where the budget or the holder's share of it has no
    /// room for them.
    #[must_use]
    pub fn grow(&mut self, bytes: usize) -> bool {
        self.grow_within(bytes, self.budget.inner.limit)
    }

    /// As [`Reservation::grow`], and false too where all reservations together would pass `ceiling`: so that
    /// some of the budget is left for others.
    #[must_use]
    pub fn grow_within(&mut self, bytes: usize, ceiling: usize) -> bool {
        let limit = self.budget.inner.limit;
        let mut taken = self.budget.inner.taken.lock();
        let Some(used) = taken
            .used
            .checked_add(bytes)
            .filter(|used| *used <= ceiling.min(limit))
        else {
            return false;
        };
        if let Some(holder) = self.holder {
            let held = taken.by_holder.get(&holder).copied().unwrap_or(0);
            let within_share = held.saturating_add(bytes) <= limit.saturating_sub(taken.used);
            // A single body may be larger than a share, while next to nothing else is there.
            let alone = held == self.bytes && taken.used - self.bytes <= limit / 8;
            if !within_share && !alone {
                return false;
            }
            *taken.by_holder.entry(holder).or_default() += bytes;
        }
        taken.used = used;
        self.bytes += bytes;
        true
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut taken = self.budget.inner.taken.lock();
        taken.used = taken.used.saturating_sub(self.bytes);
        if let Some(holder) = self.holder
            && let Some(held) = taken.by_holder.get_mut(&holder)
        {
            *held = held.saturating_sub(self.bytes);
            if *held == 0 {
                taken.by_holder.remove(&holder);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_reached_exactly_and_never_passed() {
        let budget = Budget::new(10);
        let (mut one, mut two) = (budget.reservation(), budget.reservation());
        assert!(one.grow(6));
        assert!(two.grow(4));
        assert!(!two.grow(1));
        drop(one);
        assert!(two.grow(6));
        assert_eq!(budget.used(), 10);
        drop(two);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn a_holder_leaves_as_much_free_as_it_holds() {
        let budget = Budget::new(1_000);
        let flood = budget.holder("flood");
        let mut held = Vec::new();
        loop {
            let mut one = budget.reservation_of(flood);
            if !one.grow(10) {
                break;
            }
            held.push(one);
        }
        assert_eq!(budget.used(), 500);
        let mut quiet = budget.reservation_of(budget.holder("quiet"));
        assert!(quiet.grow(500));
        drop((held, quiet));
        assert_eq!(budget.used(), 0);
        assert!(budget.inner.taken.lock().by_holder.is_empty());
    }

    #[test]
    fn a_single_body_may_be_larger_than_a_share_while_it_is_nearly_alone() {
        let budget = Budget::new(1_000);
        let (one, other) = (budget.holder(1), budget.holder(2));
        let mut small = budget.reservation_of(other);
        assert!(small.grow(100));
        let mut large = budget.reservation_of(one);
        for _ in 0..8 {
            assert!(large.grow_within(100, 900));
        }
        assert!(!large.grow_within(100, 900), "the ceiling holds");
        let mut second = budget.reservation_of(one);
        assert!(!second.grow(100), "it is not alone");
        let mut third = budget.reservation_of(budget.holder(3));
        assert!(third.grow(100), "room for others is left");
        drop(large);
        let mut large = budget.reservation_of(one);
        assert!(large.grow(400));
        assert!(!large.grow(100), "others hold more than an eighth");
    }
}
