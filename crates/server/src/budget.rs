//! The budget of body bytes in memory (SPEC P5).
//!
//! Owns the count of bytes that bodies hold on their way in and out, so that memory stays bounded whatever
//! arrives. Must not know what the bytes are.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A number of bytes that reservations share.
#[derive(Clone, Debug)]
pub struct Budget {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    limit: usize,
    used: AtomicUsize,
}

impl Budget {
    /// A budget of `limit` bytes.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            inner: Arc::new(Inner {
                limit,
                used: AtomicUsize::new(0),
            }),
        }
    }

    /// An empty reservation, to be grown as bytes arrive.
    #[must_use]
    pub fn reservation(&self) -> Reservation {
        Reservation {
            budget: self.clone(),
            bytes: 0,
        }
    }

    /// Bytes reserved at present.
    #[must_use]
    pub fn used(&self) -> usize {
        self.inner.used.load(Ordering::Relaxed)
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
    bytes: usize,
}

impl Reservation {
    /// Reserves `bytes` more; false, and nothing changed, where the budget has no room for them.
    #[must_use]
    pub fn grow(&mut self, bytes: usize) -> bool {
        self.grow_within(bytes, self.budget.inner.limit)
    }

    /// As [`Reservation::grow`], and false too where all reservations together would pass `ceiling`: so that
    /// some of the budget is left for others.
    #[must_use]
    pub fn grow_within(&mut self, bytes: usize, ceiling: usize) -> bool {
        let limit = ceiling.min(self.budget.inner.limit);
        let room = |used: usize| used.checked_add(bytes).filter(|total| *total <= limit);
        let grown = self
            .budget
            .inner
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, room)
            .is_ok();
        if grown {
            self.bytes += bytes;
        }
        grown
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.inner.used.fetch_sub(self.bytes, Ordering::Relaxed);
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
}
