//! Settlement: what the end of an attempt makes of its delivery and of the destination's health.
//!
//! Owns the one place where a delivery's next state is decided. Must not know how it is stored; a store
//! calls it inside its own transaction and writes what it returns, delivery and health together.

use crate::delivery::{DeliveryKey, DeliveryState, Progress};
use crate::health::{Change, Health};
use crate::outcome::Outcome;
use crate::retry::{Meaning, Policy, Verdict, meaning, next_attempt};
use crate::time::Timestamp;
use crate::topology::DestinationStatus;

/// What a store must write, all in the transaction that read the arguments.
#[derive(Clone, Debug, PartialEq)]
pub struct Settlement {
    /// What becomes of the delivery.
    pub verdict: Verdict,
    /// The delivery's progress.
    pub progress: Progress,
    /// The destination's health, where it changed.
    pub health: Option<Health>,
    /// The destination's breaker closed: its retrying deliveries are due at once, in the order accepted.
    pub release: bool,
    /// The destination's status changes, where it is still what the change is from.
    pub status: Option<StatusChange>,
}

/// A change of a destination's status that attempts led to (SPEC O6).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StatusChange {
    /// What the status must be for the change to be made: people's own decisions stay.
    pub from: DestinationStatus,
    /// What it becomes.
    pub to: DestinationStatus,
    /// Why, in words.
    pub reason: String,
}

impl Settlement {
    /// The state that the verdict leads to.
    #[must_use]
    pub fn state(&self) -> DeliveryState {
        match self.verdict {
            Verdict::Delivered => DeliveryState::Delivered,
            Verdict::Rejected => DeliveryState::Rejected,
            Verdict::Dead => DeliveryState::Dead,
            Verdict::RetryAt(_) if self.progress.counted == 0 => DeliveryState::Pending,
            Verdict::RetryAt(_) => DeliveryState::Retrying,
        }
    }
}

/// The delivery as it stands when its attempt ends.
#[derive(Clone, Copy, Debug)]
pub struct Ending<'a> {
    /// Its key.
    pub key: DeliveryKey,
    /// When its event was accepted.
    pub accepted_at: Timestamp,
    /// Its progress, with the attempt that ended begun.
    pub progress: Progress,
    /// How the attempt ended.
    pub outcome: &'a Outcome,
}

/// Decides what the end of an attempt leads to.
#[must_use]
pub fn settle(now: Timestamp, ending: Ending<'_>, policy: &Policy, health: &Health) -> Settlement {
    let meaning = meaning(policy, ending.outcome);
    let was_open = health.open_since().is_some();
    // A replay says nothing of how live traffic fares (SPEC I16), so it leaves the health alone; but a
    // destination that was down and answers a replay is back.
    let watched = ending.progress.replay.is_none() || was_open || health.failing_since().is_some();
    let (health_after, change) = match meaning {
        Meaning::Success if watched => recorded(health, |health| health.succeeded(now, policy)),
        Meaning::Retryable | Meaning::Permanent if watched => {
            recorded(health, |health| health.failed(now, policy))
        }
        Meaning::Success | Meaning::Retryable | Meaning::Permanent | Meaning::Unknown => (None, Change::None),
    };
    // Attempts that end while the breaker is open are not counted: the policy's clock stands still.
    let counts = meaning != Meaning::Unknown && !was_open;
    let counted = ending.progress.counted.saturating_add(u32::from(counts));
    let progress = Progress {
        counted,
        ..ending.progress
    };
    let verdict = match meaning {
        Meaning::Success => Verdict::Delivered,
        Meaning::Permanent => Verdict::Rejected,
        Meaning::Unknown => Verdict::RetryAt(given_back_until(now, ending)),
        Meaning::Retryable if was_open => Verdict::RetryAt(ending.accepted_at),
        Meaning::Retryable => {
            let open_total = health_after.as_ref().unwrap_or(health).open_total(now);
            next_attempt(
                now,
                policy,
                ending.key,
                &progress,
                open_total,
                retry_after(ending.outcome),
            )
        }
    };
    Settlement {
        verdict,
        progress,
        health: health_after,
        release: change == Change::Closed,
        status: status_change(change),
    }
}

fn status_change(change: Change) -> Option<StatusChange> {
    let (from, to, reason) = match change {
        Change::None | Change::Opened | Change::Closed => return None,
        Change::Failing { bad, total } => (
            DestinationStatus::Active,
            DestinationStatus::Failing,
            format!("{bad} of {total} attempts in 15 minutes failed"),
        ),
        Change::Failed { attempts } => (
            DestinationStatus::Failing,
            DestinationStatus::Failed,
            format!("failing for 72 hours: {attempts} attempts, none succeeded"),
        ),
        Change::Recovered => (
            DestinationStatus::Failing,
            DestinationStatus::Active,
            "an attempt succeeded".to_owned(),
        ),
    };
    Some(StatusChange { from, to, reason })
}

fn recorded(health: &Health, record: impl FnOnce(&mut Health) -> Change) -> (Option<Health>, Change) {
    let mut after = health.clone();
    let change = record(&mut after);
    (Some(after), change)
}

/// What was given back untried keeps its place in the order of acceptance, unless a delay was asked for. What was lost
/// goes before all that waits: it had its turn, and its receiver may be waiting for the rest of it.
fn given_back_until(now: Timestamp, ending: Ending<'_>) -> Timestamp {
    match ending.outcome {
        Outcome::Returned { delay } if !delay.is_zero() => now.plus(*delay),
        Outcome::Lost => Timestamp::EPOCH,
        Outcome::Returned { .. }
        | Outcome::Released
        | Outcome::Answered { .. }
        | Outcome::TimedOut
        | Outcome::Unreachable { .. }
        | Outcome::Acknowledged => ending.accepted_at,
    }
}

fn retry_after(outcome: &Outcome) -> Option<std::time::Duration> {
    match outcome {
        Outcome::Answered { retry_after, .. } => *retry_after,
        Outcome::TimedOut
        | Outcome::Unreachable { .. }
        | Outcome::Acknowledged
        | Outcome::Returned { .. }
        | Outcome::Lost
        | Outcome::Released => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::delivery::{DestinationNumber, EventSequence};
    use crate::id::ReplayId;
    use crate::outcome::Failure;

    const ACCEPTED: Timestamp = Timestamp::from_secs(1_790_000_000);
    const NOW: Timestamp = Timestamp::from_secs(1_790_000_060);

    fn key() -> DeliveryKey {
        DeliveryKey::new(EventSequence(5), DestinationNumber(2))
    }

    fn first_attempt() -> Progress {
        Progress::default().begin_attempt(NOW, Duration::ZERO)
    }

    fn check(progress: Progress, outcome: &Outcome, policy: &Policy, health: &Health) -> Settlement {
        settle(
            NOW,
            Ending {
                key: key(),
                accepted_at: ACCEPTED,
                progress,
                outcome,
            },
            policy,
            health,
        )
    }

    fn down() -> Health {
        let mut health = Health::default();
        (0..10).for_each(|_| _ = health.failed(NOW.minus(Duration::from_secs(30)), &Policy::inbox()));
        health
    }

    fn answered(status: u16) -> Outcome {
        Outcome::Answered {
            status,
            retry_after: None,
        }
    }

    #[test]
    fn each_outcome_leads_to_its_state() {
        let table = [
            ("inbox", answered(204), DeliveryState::Delivered),
            ("inbox", answered(410), DeliveryState::Rejected),
            ("inbox", answered(500), DeliveryState::Retrying),
            ("inbox", Outcome::TimedOut, DeliveryState::Retrying),
            (
                "inbox",
                Outcome::Unreachable {
                    failure: Failure::ConnectionRefused,
                },
                DeliveryState::Retrying,
            ),
            ("inbox", Outcome::Acknowledged, DeliveryState::Delivered),
            (
                "inbox",
                Outcome::Returned {
                    delay: Duration::from_secs(9),
                },
                DeliveryState::Pending,
            ),
            ("inbox", Outcome::Lost, DeliveryState::Pending),
            ("inbox", Outcome::Released, DeliveryState::Pending),
            ("nylas", answered(204), DeliveryState::Rejected),
            ("nylas", answered(500), DeliveryState::Rejected),
            ("nylas", answered(503), DeliveryState::Retrying),
            ("standard", answered(204), DeliveryState::Delivered),
        ];
        for (policy, outcome, state) in table {
            let policy = Policy::built_in(policy).unwrap();
            let settled = check(first_attempt(), &outcome, &policy, &Health::default());
            assert_eq!(settled.state(), state, "{} {outcome:?}", policy.name);
        }
    }

    #[test]
    fn a_third_retryable_answer_under_nylas_is_dead() {
        let progress = Progress {
            counted: 2,
            attempt: 3,
            ..first_attempt()
        };
        let settled = check(progress, &answered(503), &Policy::nylas(), &Health::default());
        assert_eq!(settled.state(), DeliveryState::Dead);
    }

    #[test]
    fn a_lost_attempt_is_due_before_all_others_and_counts_against_nobody() {
        let settled = check(
            first_attempt(),
            &Outcome::Lost,
            &Policy::nylas(),
            &Health::default(),
        );
        assert_eq!(settled.verdict, Verdict::RetryAt(Timestamp::EPOCH));
        assert_eq!((settled.progress.counted, settled.health), (0, None));
    }

    #[test]
    fn while_the_breaker_is_open_a_failure_is_not_counted_and_keeps_its_place() {
        let settled = check(first_attempt(), &answered(502), &Policy::inbox(), &down());
        assert_eq!(settled.verdict, Verdict::RetryAt(ACCEPTED));
        assert_eq!(settled.progress.counted, 0);
    }

    #[test]
    fn a_success_while_the_breaker_is_open_releases_what_waits() {
        let settled = check(first_attempt(), &answered(200), &Policy::inbox(), &down());
        assert!(settled.release);
        assert_eq!(settled.health.unwrap().open_since(), None);
    }

    #[test]
    fn a_replay_leaves_the_health_of_a_working_destination_alone() {
        let replayed = Progress {
            replay: Some(ReplayId::new(NOW, 1)),
            ..first_attempt()
        };
        let settled = check(replayed, &answered(500), &Policy::inbox(), &Health::default());
        assert_eq!(settled.health, None);
        assert_eq!(settled.state(), DeliveryState::Retrying);
    }
}
