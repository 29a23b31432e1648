//! Deliveries: one event to one destination, and how far it has come.
//!
//! Owns the states, the integer keys that stores use, and the progress that decisions need. Must not know
//! what decides: that is `settle` and `retry`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::id::ReplayId;
use crate::time::Timestamp;

/// The order in which a store accepted events, from 1.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct EventSequence(pub i64);

/// A destination's number in its store, from 0 to 1,048,575. Numbers are never used again.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub struct DestinationNumber(pub u32);

impl DestinationNumber {
    /// How many bits of a [`DeliveryKey`] hold the destination.
    pub const BITS: u32 = 20;
    /// The largest number.
    pub const MAX: Self = Self((1 << Self::BITS) - 1);
}

/// What a store keeps a delivery under: the event's sequence above the destination's number.
///
/// So the deliveries of one event are neighbours, a pair of event and destination exists once, and
/// acceptance order is key order.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct DeliveryKey(i64);

impl DeliveryKey {
    /// The key of one event's delivery to one destination.
    #[must_use]
    pub const fn new(event: EventSequence, destination: DestinationNumber) -> Self {
        Self((event.0 << DestinationNumber::BITS) | destination.0 as i64)
    }

    /// The key that a store kept.
    #[must_use]
    pub const fn from_i64(key: i64) -> Self {
        Self(key)
    }

    /// The key as a store keeps it.
    #[must_use]
    pub const fn as_i64(self) -> i64 {
        self.0
    }

    /// The event's place in its store.
    #[must_use]
    pub const fn event(self) -> EventSequence {
        EventSequence(self.0 >> DestinationNumber::BITS)
    }

    /// The destination's number.
    #[must_use]
    pub const fn destination(self) -> DestinationNumber {
        DestinationNumber((self.0 & DestinationNumber::MAX.0 as i64) as u32)
    }
}

/// The state of a delivery. `Held` is never stored: it is how a waiting delivery looks while its
/// destination is paused, failed or unverified, so that pausing and resuming cost nothing per delivery.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryState {
    /// Waits for its first attempt.
    Pending,
    /// Waits for another attempt.
    Retrying,
    /// An attempt is under way, or leased to a puller.
    InFlight,
    /// The destination took it.
    Delivered,
    /// The destination refused it for good.
    Rejected,
    /// The policy's attempts are used up.
    Dead,
    /// The destination's filter dropped it.
    Filtered,
    /// Somebody, or retention, gave it up.
    Discarded,
    /// Waits, and its destination takes nothing at present.
    Held,
}

impl DeliveryState {
    /// Every state, in the order people list them.
    pub const ALL: [Self; 9] = [
        Self::Pending,
        Self::InFlight,
        Self::Retrying,
        Self::Held,
        Self::Delivered,
        Self::Rejected,
        Self::Dead,
        Self::Filtered,
        Self::Discarded,
    ];

    /// The name used in the API and on pages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Retrying => "retrying",
            Self::InFlight => "in_flight",
            Self::Delivered => "delivered",
            Self::Rejected => "rejected",
            Self::Dead => "dead",
            Self::Filtered => "filtered",
            Self::Discarded => "discarded",
            Self::Held => "held",
        }
    }

    /// The state of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }

    /// Whether nothing but a replay will move it.
    #[must_use]
    pub const fn is_settled(self) -> bool {
        match self {
            Self::Delivered | Self::Rejected | Self::Dead | Self::Filtered | Self::Discarded => true,
            Self::Pending | Self::Retrying | Self::InFlight | Self::Held => false,
        }
    }
}

/// How far a delivery has come, as its next decision needs it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Progress {
    /// Attempts begun in all. Its value while in flight is the token that a settlement must show.
    pub attempt: u32,
    /// Attempts of this round that the policy counts. A replay begins a new round.
    pub counted: u32,
    /// When this round's first attempt began.
    pub first_attempt_at: Option<Timestamp>,
    /// How long the destination's breaker had been open in all when the round's first attempt began.
    pub breaker_open_before: Duration,
    /// The replay job this round belongs to.
    pub replay: Option<ReplayId>,
}

impl Progress {
    /// The progress once another attempt has begun at `now`.
    #[must_use]
    pub fn begin_attempt(self, now: Timestamp, breaker_open_total: Duration) -> Self {
        let first = self.first_attempt_at.is_none();
        Self {
            attempt: self.attempt.saturating_add(1),
            first_attempt_at: Some(self.first_attempt_at.unwrap_or(now)),
            breaker_open_before: if first {
                breaker_open_total
            } else {
                self.breaker_open_before
            },
            ..self
        }
    }

    /// The progress at the start of a new round: the token goes on, everything else starts anew.
    #[must_use]
    pub fn begin_round(self, replay: Option<ReplayId>) -> Self {
        Self {
            attempt: self.attempt,
            replay,
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_gives_back_its_parts_and_sorts_by_acceptance() {
        let key = DeliveryKey::new(EventSequence(77), DestinationNumber::MAX);
        assert_eq!(
            (key.event(), key.destination()),
            (EventSequence(77), DestinationNumber::MAX)
        );
        assert!(key < DeliveryKey::new(EventSequence(78), DestinationNumber(0)));
    }

    #[test]
    fn every_state_has_a_name_of_its_own() {
        for state in DeliveryState::ALL {
            assert_eq!(DeliveryState::from_name(state.name()), Some(state));
        }
    }

    #[test]
    fn a_new_round_keeps_the_token_and_forgets_the_rest() {
        let progress = Progress::default().begin_attempt(Timestamp::from_secs(5), Duration::from_secs(3));
        let again = progress.begin_attempt(Timestamp::from_secs(9), Duration::from_secs(8));
        assert_eq!(again.first_attempt_at, Some(Timestamp::from_secs(5)));
        assert_eq!(again.breaker_open_before, Duration::from_secs(3));
        let round = again.begin_round(None);
        assert_eq!(
            (round.attempt, round.counted, round.first_attempt_at),
            (2, 0, None)
        );
    }
}
