//! The dispatcher: which destination may be claimed for, how much, and when to look again.
//!
//! Owns what is in flight, the free slots in total and per destination, adaptive concurrency, ramp-up, rate
//! limits and the time of the next look. Sans-IO: inputs and the time go in, effects come out. Must not know
//! channels, tasks, permits or the store; the driver carries out the effects and reports what came of them.

mod lane;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::time::Duration;

use crate::health::Gate;
use crate::id::DestinationId;
use crate::outcome::Outcome;
use crate::retry::{Meaning, Policy, meaning};
use crate::time::Timestamp;
use lane::{Lane, Want};

/// At most this many claims are under way at once. A claim's first body may be larger than the room it was
/// given, so this also bounds how far bodies in memory can pass their budget.
pub const CLAIMS_AT_ONCE: u32 = 8;
/// At most this many deliveries are claimed at once.
pub const CLAIM_LIMIT: u32 = 64;
/// At most this many bytes of bodies are claimed at once.
pub const CLAIM_BYTES: usize = 1 << 20;

/// What all destinations share.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Attempts under way at once.
    pub attempts: u32,
    /// Bytes of bodies of attempts under way.
    pub bytes: usize,
}

/// What one destination may use.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DestinationLimits {
    /// The destination.
    pub destination: DestinationId,
    /// Attempts under way at once.
    pub concurrency: u32,
    /// Attempts a second; unlimited where not set.
    pub rate: Option<u32>,
    /// What its health admits. Counts for destinations that the dispatcher does not know yet, or that were closed.
    pub gate: Gate,
    /// When its next delivery is due, not later than the truth; `None` where nothing waits. Counts for destinations
    /// that the dispatcher does not know yet.
    pub next_due: Option<Timestamp>,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// These are all the destinations that take deliveries by push now.
    Destinations(Vec<DestinationLimits>),
    /// A delivery to this destination waits until `due_at`: a new one, one that was retried, replayed or released, or
    /// one that a look into the store has found.
    Waiting {
        /// The destination.
        destination: DestinationId,
        /// When it is due.
        due_at: Timestamp,
    },
    /// A reservation of [`Dispatcher::reserve`] was not used.
    GivenBack {
        /// The destination.
        destination: DestinationId,
        /// The bytes reserved.
        bytes: usize,
    },
    /// A claim was carried out.
    Claimed {
        /// The destination.
        destination: DestinationId,
        /// The claim.
        claim: Claim,
        /// What it gave: each delivery's bytes and when its event was accepted.
        deliveries: Vec<(usize, Timestamp)>,
        /// When the next unclaimed delivery is due.
        next_due: Option<Timestamp>,
    },
    /// A claim could not be carried out.
    ClaimFailed {
        /// The destination.
        destination: DestinationId,
        /// The claim.
        claim: Claim,
        /// When to try again.
        retry_at: Timestamp,
    },
    /// An attempt ended and is settled.
    Ended {
        /// The destination.
        destination: DestinationId,
        /// The bytes of its body.
        bytes: usize,
        /// When its event was accepted.
        accepted_at: Timestamp,
        /// What it says of the destination.
        end: End,
    },
    /// The time given by [`Dispatcher::wake_at`] has come.
    Wake,
}

/// What an attempt's end says of its destination.
#[derive(Clone, Copy, Debug)]
pub struct End {
    /// How it went.
    pub result: EndResult,
    /// How long the attempt took.
    pub latency: Duration,
    /// What the destination's health admits after it; `None` where it was not recorded.
    pub gate: Option<Gate>,
    /// When the delivery is due again.
    pub due_at: Option<Timestamp>,
}

/// How an attempt went, as far as the destination's speed is concerned.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum EndResult {
    /// The destination took it.
    Succeeded,
    /// The destination did not want this one, which says nothing of how much it can take.
    Refused,
    /// It may have been sent more than it can take.
    Overloaded,
    /// It says nothing of the destination.
    Unknown,
}

impl EndResult {
    /// What `outcome` is to a destination with this policy.
    #[must_use]
    pub fn of(policy: &Policy, outcome: &Outcome) -> Self {
        match meaning(policy, outcome) {
            Meaning::Success => Self::Succeeded,
            Meaning::Permanent | Meaning::Retryable if outcome.shows_overload() => Self::Overloaded,
            Meaning::Permanent | Meaning::Retryable => Self::Refused,
            Meaning::Unknown => Self::Unknown,
        }
    }
}

/// A claim to be made.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Claim {
    /// Only deliveries due from this time on: those of new events, while an older backlog drains.
    pub due_from: Option<Timestamp>,
    /// At most this many.
    pub limit: u32,
    /// No more once this many bytes are claimed.
    pub bytes: usize,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Effect {
    /// Claim deliveries of this destination and answer with [`Input::Claimed`] or [`Input::ClaimFailed`].
    Claim {
        /// The destination.
        destination: DestinationId,
        /// What to claim.
        claim: Claim,
    },
}

/// The dispatcher's state. See the module.
#[derive(Debug)]
pub struct Dispatcher {
    totals: Totals,
    /// In an order that does not depend on chance, so that the same inputs give the same effects.
    lanes: BTreeMap<DestinationId, Lane>,
    /// Lanes that may have something to claim, each at most once, served in turn.
    ready: VecDeque<DestinationId>,
    timers: BinaryHeap<Reverse<(Timestamp, DestinationId)>>,
}

/// What is in use over all lanes.
#[derive(Debug)]
struct Totals {
    limits: Limits,
    attempts: u32,
    bytes: usize,
    claims: u32,
}

impl Totals {
    fn free_attempts(&self) -> u32 {
        self.limits.attempts.saturating_sub(self.attempts)
    }

    fn free_bytes(&self) -> usize {
        self.limits.bytes.saturating_sub(self.bytes)
    }
}

impl Dispatcher {
    /// A dispatcher that knows no destinations yet.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            totals: Totals {
                limits,
                attempts: 0,
                bytes: 0,
                claims: 0,
            },
            lanes: BTreeMap::new(),
            ready: VecDeque::new(),
            timers: BinaryHeap::new(),
        }
    }

    /// Attempts under way or reserved, in all.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.totals.attempts
    }

    /// Attempts under way or reserved, to one destination.
    #[must_use]
    pub fn in_flight_to(&self, destination: DestinationId) -> u32 {
        self.lanes.get(&destination).map_or(0, |lane| lane.in_flight)
    }

    /// Whether an event that is being stored may be attempted at once, past the queue. A yes reserves a
    /// slot until [`Input::Ended`] or [`Input::GivenBack`].
    #[must_use]
    pub fn reserve(&mut self, now: Timestamp, destination: DestinationId, bytes: usize) -> bool {
        let Some(lane) = self.lanes.get_mut(&destination) else {
            return false;
        };
        let reserved = lane.admits_new(now, &self.totals, bytes);
        if reserved {
            lane.take(now, bytes, now);
            self.totals.attempts += 1;
            self.totals.bytes += bytes;
        }
        reserved
    }

    /// Takes in what happened and says what to do. To be called again at [`Dispatcher::wake_at`].
    pub fn handle(&mut self, now: Timestamp, input: Input, effects: &mut Vec<Effect>) {
        match input {
            Input::Destinations(destinations) => self.set_destinations(now, &destinations),
            Input::Waiting { destination, due_at } => self.note_waiting(destination, due_at),
            Input::GivenBack { destination, bytes } => self.free(destination, bytes, now),
            Input::Claimed {
                destination,
                claim,
                deliveries,
                next_due,
            } => {
                self.claimed(now, destination, claim, &deliveries, next_due);
            }
            Input::ClaimFailed {
                destination,
                claim,
                retry_at,
            } => {
                self.end_claim(destination, claim);
                if let Some(lane) = self.lanes.get_mut(&destination) {
                    lane.hold(retry_at);
                }
                self.enqueue(destination);
            }
            Input::Ended {
                destination,
                bytes,
                accepted_at,
                end,
            } => {
                self.free(destination, bytes, accepted_at);
                if let Some(lane) = self.lanes.get_mut(&destination) {
                    lane.ended(now, end);
                }
                self.enqueue(destination);
            }
            Input::Wake => {}
        }
        self.pump(now, effects);
    }

    /// When to call [`Dispatcher::handle`] with [`Input::Wake`], if nothing else happens before.
    #[must_use]
    pub fn wake_at(&self) -> Option<Timestamp> {
        self.timers.peek().map(|Reverse((at, _))| *at)
    }

    fn set_destinations(&mut self, now: Timestamp, destinations: &[DestinationLimits]) {
        let open: BTreeMap<_, _> = destinations
            .iter()
            .map(|limits| (limits.destination, *limits))
            .collect();
        for (destination, lane) in &mut self.lanes {
            match open.get(destination) {
                Some(limits) => lane.open_again(now, limits.gate),
                None => lane.close(),
            }
        }
        for (destination, limits) in open {
            let lane = self
                .lanes
                .entry(destination)
                .or_insert_with(|| Lane::new(now, limits));
            lane.set_limits(limits);
            self.enqueue(destination);
        }
        self.lanes.retain(|_, lane| lane.is_needed());
    }

    fn note_waiting(&mut self, destination: DestinationId, due_at: Timestamp) {
        if let Some(lane) = self.lanes.get_mut(&destination) {
            lane.note_waiting(due_at);
            self.enqueue(destination);
        }
    }

    fn claimed(
        &mut self,
        now: Timestamp,
        destination: DestinationId,
        claim: Claim,
        deliveries: &[(usize, Timestamp)],
        next_due: Option<Timestamp>,
    ) {
        self.end_claim(destination, claim);
        self.totals.attempts += u32::try_from(deliveries.len()).unwrap_or(u32::MAX);
        self.totals.bytes += deliveries.iter().map(|(bytes, _)| bytes).sum::<usize>();
        if let Some(lane) = self.lanes.get_mut(&destination) {
            for (bytes, accepted_at) in deliveries {
                lane.take(now, *bytes, *accepted_at);
            }
            lane.claimed(claim, deliveries, next_due);
        }
        self.enqueue(destination);
    }

    /// Gives back what a claim held while it was under way.
    fn end_claim(&mut self, destination: DestinationId, claim: Claim) {
        self.totals.claims = self.totals.claims.saturating_sub(1);
        self.totals.attempts = self.totals.attempts.saturating_sub(claim.limit);
        self.totals.bytes = self.totals.bytes.saturating_sub(claim.bytes);
        if let Some(lane) = self.lanes.get_mut(&destination) {
            lane.end_claim(claim);
        }
    }

    fn free(&mut self, destination: DestinationId, bytes: usize, accepted_at: Timestamp) {
        self.totals.attempts = self.totals.attempts.saturating_sub(1);
        self.totals.bytes = self.totals.bytes.saturating_sub(bytes);
        if let Some(lane) = self.lanes.get_mut(&destination) {
            lane.give_back(bytes, accepted_at);
            if !lane.is_needed() {
                self.lanes.remove(&destination);
            }
        }
    }

    fn enqueue(&mut self, destination: DestinationId) {
        if let Some(lane) = self.lanes.get_mut(&destination)
            && !std::mem::replace(&mut lane.queued, true)
        {
            self.ready.push_back(destination);
        }
    }

    /// Serves the ready lanes in turn, one claim each, until none wants or nothing is free.
    fn pump(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        while let Some(Reverse((at, destination))) = self.timers.peek().copied()
            && at <= now
        {
            self.timers.pop();
            if let Some(lane) = self.lanes.get_mut(&destination) {
                lane.timer = None;
            }
            self.enqueue(destination);
        }
        for _ in 0..self.ready.len() {
            if self.totals.claims >= CLAIMS_AT_ONCE || self.totals.free_attempts() == 0 {
                break;
            }
            let Some(destination) = self.ready.pop_front() else {
                break;
            };
            self.serve(now, destination, effects);
        }
    }

    fn serve(&mut self, now: Timestamp, destination: DestinationId, effects: &mut Vec<Effect>) {
        let Some(lane) = self.lanes.get_mut(&destination) else {
            return;
        };
        match lane.wants(now, &self.totals) {
            Want::Claim(claim) => {
                lane.queued = false;
                lane.begin_claim(now, claim);
                self.totals.claims += 1;
                self.totals.attempts += claim.limit;
                self.totals.bytes += claim.bytes;
                effects.push(Effect::Claim { destination, claim });
            }
            Want::NothingBefore(at) => {
                lane.queued = false;
                if lane.timer.is_none_or(|timer| at < timer) {
                    lane.timer = Some(at);
                    self.timers.push(Reverse((at, destination)));
                }
            }
            Want::Nothing => lane.queued = false,
            Want::Room => self.ready.push_back(destination),
        }
    }
}

#[cfg(test)]
mod tests;
