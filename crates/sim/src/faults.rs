//! What can go wrong in a run.
//!
//! Owns the kinds of faults, how often each strikes in a run, and how many were injected. Must not know how a
//! fault is carried out.

use std::fmt;

use crate::chance::Chance;

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $words:literal;)*) => {
        /// A kind of fault, or of something that people do at a bad moment.
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        pub enum Kind { $($(#[$doc])* $name,)* }

        impl Kind {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// What it is, in words.
            #[must_use]
            pub const fn words(self) -> &'static str {
                match self { $(Self::$name => $words,)* }
            }
        }
    };
}

kinds! {
    /// A process dies at any time.
    Death = "process deaths at any time";
    /// A process dies before it calls the store.
    DeathBeforeCall = "process deaths before a call to the store";
    /// A process dies after the store's commit, before it hears of it.
    DeathAfterCall = "process deaths after a commit";
    /// The store refuses a write and nothing is written.
    Refused = "writes refused";
    /// A sync fails and what was written is gone.
    SyncLost = "failed syncs, the write lost";
    /// A sync fails and what was written is there after a restart.
    SyncKept = "failed syncs, the write kept";
    /// An answer to a sender is lost.
    AnswerLost = "answers to senders lost";
    /// A sender repeats what was acknowledged.
    Repeat = "repeats of acknowledged events";
    /// A forged notification, often with the key of a true one.
    Forged = "forged notifications";
    /// A true notification before its source has the right secret.
    TooEarly = "true notifications in quarantine";
    /// Somebody releases or discards what is in quarantine, perhaps twice.
    Quarantine = "releases and discards of quarantine";
    /// A destination begins to behave otherwise.
    Behaviour = "changes of a destination's behaviour";
    /// A destination fails all it is sent, for days.
    Outage = "outages of days";
    /// Somebody pauses a destination.
    Pause = "pauses";
    /// Somebody changes what a destination takes.
    Edit = "changes of destinations";
    /// A destination is added while events come in.
    Addition = "added destinations";
    /// A destination is deleted while its deliveries wait.
    Deletion = "deleted destinations";
    /// Somebody replays events.
    Replay = "replay jobs";
    /// Somebody retries or discards one delivery.
    Delivery = "retries and discards of deliveries";
    /// Somebody reactivates a failed destination.
    Reactivation = "reactivations";
    /// A clock steps.
    ClockStep = "steps of a clock";
    /// A node's clock is not that of the others.
    Skew = "skewed clocks";
    /// A worker that pulls is gone with what it leased.
    WorkerGone = "pull workers that vanish";
    /// A worker answers after its lease ran out.
    WorkerLate = "pull workers that answer late";
}

/// How often each kind of fault strikes in one run. A seed leaves many of them out, so that those it has meet
/// each other often.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Mix {
    pub(crate) deaths: u64,
    /// Of 10,000 calls to the store, so many meet a death before, a death after, a refusal and a failed sync.
    pub(crate) death_before: u64,
    pub(crate) death_after: u64,
    pub(crate) refused: u64,
    pub(crate) sync_failed: u64,
    pub(crate) answers_lost_percent: u64,
    pub(crate) repeats_percent: u64,
    pub(crate) forged: u64,
    pub(crate) too_early_percent: u64,
    pub(crate) behaviours: u64,
    pub(crate) pauses: u64,
    pub(crate) edits: u64,
    pub(crate) additions: u64,
    pub(crate) deletions: u64,
    pub(crate) replays: u64,
    pub(crate) deliveries: u64,
    pub(crate) clock_steps: u64,
    pub(crate) workers_gone_percent: u64,
    pub(crate) workers_late_percent: u64,
}

impl Mix {
    /// Draws it. Steps of the clock only where there is one node: several share a clock that steps for all.
    pub(crate) fn draw(chance: &mut Chance, one_node: bool) -> Self {
        let mut some = |choices: &[u64]| chance.pick(choices);
        Self {
            deaths: some(&[0, 0, 3, 12]),
            death_before: some(&[0, 0, 0, 30]),
            death_after: some(&[0, 0, 0, 30]),
            refused: some(&[0, 0, 50, 500]),
            sync_failed: some(&[0, 0, 30]),
            answers_lost_percent: some(&[0, 0, 5, 20]),
            repeats_percent: some(&[0, 10, 50]),
            forged: some(&[0, 0, 5, 40]),
            too_early_percent: some(&[0, 0, 10, 40]),
            behaviours: some(&[0, 5, 15, 60]),
            pauses: some(&[0, 0, 2, 8]),
            edits: some(&[0, 0, 4]),
            additions: some(&[0, 0, 2]),
            deletions: some(&[0, 0, 1]),
            replays: some(&[0, 0, 2]),
            deliveries: some(&[0, 0, 20]),
            clock_steps: some(&[0, 0, 0, 6]) * u64::from(one_node),
            workers_gone_percent: some(&[0, 5, 30]),
            workers_late_percent: some(&[0, 10, 40]),
        }
    }
}

/// How many faults of each kind were injected.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts([u64; Kind::ALL.len()]);

impl Counts {
    pub(crate) fn count(&mut self, kind: Kind) {
        self.0[kind as usize] += 1;
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(sum, n)| *sum += n);
    }

    /// How many of all kinds.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for kind in Kind::ALL {
            writeln!(formatter, "  {:>12} {}", self.0[*kind as usize], kind.words())?;
        }
        Ok(())
    }
}
