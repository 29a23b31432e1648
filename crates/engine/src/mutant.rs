//! Deliberate bugs, so that the tests can prove that they would see them.
//!
//! Owns their names and which one is active. Must not know where they are placed: each place asks
//! [`is_active`] in one line. Without the Cargo feature `mutants` that is `false` at compile time, so that a
//! build for use carries none of them.

/// A deliberate bug.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum Mutant {
    /// An event is acknowledged before the commit that stores it.
    AcknowledgeBeforeCommit = 1,
    /// A repeat is acknowledged without a sync of what it repeats.
    AcknowledgeRepeatWithoutSync,
    /// A settlement counts whatever its token is.
    NoFenceOnSettle,
    /// The dedupe mark is written in a transaction before that of its event.
    DedupeMarkInItsOwnTransaction,
    /// A release from quarantine that takes nothing in, because the event is gone from there, leaves a dedupe mark.
    DedupeMarkFromQuarantine,
    /// What is heard of a destination while a claim for it is under way is forgotten.
    LostWakeup,
    /// Leases are judged by the clock of the node that looks, not by the one that all nodes share.
    LeaseOnLocalClock,
    /// How many attempts were counted is not written down with a settlement.
    RetryCounterNotPersisted,
    /// A destination's health is kept in memory alone.
    HealthNotPersisted,
    /// What a dead process had claimed stays claimed when its store is opened again.
    PushClaimsNotReleasedOnRestart,
    /// The torn end of what was written last is taken for whole.
    TornTailAccepted,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::AcknowledgeBeforeCommit,
        Self::AcknowledgeRepeatWithoutSync,
        Self::NoFenceOnSettle,
        Self::DedupeMarkInItsOwnTransaction,
        Self::DedupeMarkFromQuarantine,
        Self::LostWakeup,
        Self::LeaseOnLocalClock,
        Self::RetryCounterNotPersisted,
        Self::HealthNotPersisted,
        Self::PushClaimsNotReleasedOnRestart,
        Self::TornTailAccepted,
    ];

    /// The name it is chosen by.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AcknowledgeBeforeCommit => "acknowledge-before-commit",
            Self::AcknowledgeRepeatWithoutSync => "acknowledge-repeat-without-sync",
            Self::NoFenceOnSettle => "no-fence-on-settle",
            Self::DedupeMarkInItsOwnTransaction => "dedupe-mark-in-its-own-transaction",
            Self::DedupeMarkFromQuarantine => "dedupe-mark-from-quarantine",
            Self::LostWakeup => "lost-wakeup",
            Self::LeaseOnLocalClock => "lease-on-local-clock",
            Self::RetryCounterNotPersisted => "retry-counter-not-persisted",
            Self::HealthNotPersisted => "health-not-persisted",
            Self::PushClaimsNotReleasedOnRestart => "push-claims-not-released-on-restart",
            Self::TornTailAccepted => "torn-tail-accepted",
        }
    }
}

/// Whether the build has the deliberate bug `mutant` and it was chosen.
#[cfg(not(feature = "mutants"))]
#[inline]
#[must_use]
pub const fn is_active(_mutant: Mutant) -> bool {
    false
}

#[cfg(feature = "mutants")]
pub use self::chosen::{UnknownMutant, activate, deactivate, is_active};

#[cfg(feature = "mutants")]
mod chosen {
    use std::sync::atomic::{AtomicU8, Ordering};

    use super::Mutant;

    /// The active one, over all threads of the process; 0 where there is none.
    static ACTIVE: AtomicU8 = AtomicU8::new(0);

    /// A name that no mutant has.
    #[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
    #[error("`{name}` is not a mutant: choose one of {}", names())]
    pub struct UnknownMutant {
        name: String,
    }

    fn names() -> String {
        Mutant::ALL.map(Mutant::name).join(", ")
    }

    /// Makes the mutant of that name the active one, in place of any other.
    ///
    /// # Errors
    /// Where no mutant has the name.
    pub fn activate(name: &str) -> Result<Mutant, UnknownMutant> {
        let named = Mutant::ALL.into_iter().find(|mutant| mutant.name() == name);
        let mutant = named.ok_or_else(|| UnknownMutant {
            name: name.to_owned(),
        })?;
        ACTIVE.store(mutant as u8, Ordering::SeqCst);
        Ok(mutant)
    }

    /// From now on none is active.
    pub fn deactivate() {
        ACTIVE.store(0, Ordering::SeqCst);
    }

    /// Whether `mutant` is the active one.
    #[must_use]
    pub fn is_active(mutant: Mutant) -> bool {
        ACTIVE.load(Ordering::Relaxed) == mutant as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mutant_has_a_name_of_its_own_in_kebab_case() {
        let names = std::collections::BTreeSet::from(Mutant::ALL.map(Mutant::name));
        assert_eq!(names.len(), Mutant::ALL.len());
        for name in names {
            assert!(
                name.bytes().all(|byte| byte == b'-' || byte.is_ascii_lowercase()),
                "{name}"
            );
        }
    }

    #[cfg(not(feature = "mutants"))]
    #[test]
    fn without_the_feature_no_mutant_can_be_active() {
        const { assert!(!is_active(Mutant::NoFenceOnSettle)) };
    }

    #[cfg(feature = "mutants")]
    #[test]
    fn one_mutant_is_active_at_a_time_and_a_wrong_name_is_told() {
        activate("lost-wakeup").unwrap();
        activate("torn-tail-accepted").unwrap();
        let active: Vec<_> = Mutant::ALL
            .into_iter()
            .filter(|mutant| is_active(*mutant))
            .collect();
        assert_eq!(active, [Mutant::TornTailAccepted]);
        deactivate();
        assert!(!is_active(Mutant::TornTailAccepted));
        let unknown = activate("torn").unwrap_err().to_string();
        assert!(unknown.contains("`torn`") && unknown.contains("torn-tail-accepted"));
    }
}
