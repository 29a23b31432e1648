//! Deliberate bugs, so that the tests can prove that they would see them.
//!
//! Owns their names and which one is active: the one that the variable `HOOKFAST_MUTANT` names. Must not know where
//! they are placed: each place asks [`is_active`] in one line. Without the Cargo feature `mutants` that is `false` at
//! compile time and no variable is read, so that a build for use carries none of them.

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
}

impl Mutant {
    /// All of them.
    pub const ALL: [Self; 10] = [
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
pub use self::chosen::{choose, is_active};

#[cfg(feature = "mutants")]
mod chosen {
    use std::sync::atomic::{AtomicU8, Ordering};

    use super::Mutant;

    /// Names the mutant of a process.
    const VARIABLE: &str = "HOOKFAST_MUTANT";
    const NONE: u8 = 0;
    const NOT_ASKED: u8 = u8::MAX;

    /// The active one, over all threads of the process.
    static ACTIVE: AtomicU8 = AtomicU8::new(NOT_ASKED);

    /// Whether `mutant` is the active one: the one chosen last, else the one that `HOOKFAST_MUTANT` names.
    ///
    /// # Panics
    /// Where no mutant has the name in the variable: whoever misspells it must not believe that it went unseen.
    #[must_use]
    pub fn is_active(mutant: Mutant) -> bool {
        match ACTIVE.load(Ordering::Relaxed) {
            NOT_ASKED => {
                let named = std::env::var(VARIABLE).ok().map(|name| named(&name));
                choose(named);
                named == Some(mutant)
            }
            active => active == mutant as u8,
        }
    }

    /// Makes it the only active one, whatever the environment says.
    pub fn choose(mutant: Option<Mutant>) {
        ACTIVE.store(mutant.map_or(NONE, |mutant| mutant as u8), Ordering::SeqCst);
    }

    fn named(name: &str) -> Mutant {
        let found = Mutant::ALL.into_iter().find(|mutant| mutant.name() == name);
        found.unwrap_or_else(|| {
            let names = Mutant::ALL.map(Mutant::name).join(", ");
            panic!("{VARIABLE}: `{name}` is not a mutant; choose one of {names}")
        })
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn every_mutant_is_found_by_its_name_and_one_is_active_at_a_time() {
            for mutant in Mutant::ALL {
                choose(Some(named(mutant.name())));
                let active: Vec<_> = Mutant::ALL.into_iter().filter(|it| is_active(*it)).collect();
                assert_eq!(active, [mutant]);
            }
            choose(None);
            assert!(!Mutant::ALL.into_iter().any(is_active));
        }

        #[test]
        #[should_panic(expected = "`torn` is not a mutant; choose one of acknowledge-before-commit, ")]
        fn a_wrong_name_is_told() {
            _ = named("torn");
        }
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
}
