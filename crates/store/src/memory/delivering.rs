//! How attempts and people's decisions move deliveries in the memory model.
//!
//! Owns claiming, settling, extending, retrying and discarding. What a settlement leads to is the engine's
//! decision. Must not know how deliveries are made.

use hookfast_engine::delivery::{DeliveryKey, DeliveryState};
use hookfast_engine::id::{DeliveryId, DestinationId};
use hookfast_engine::mutant::{self, Mutant};
use hookfast_engine::retry::Verdict;
use hookfast_engine::settle::{Ending, Settlement, StatusChange, settle};
use hookfast_engine::time::Timestamp;
use hookfast_engine::topology::{DestinationKind, DestinationStatus};

use super::state::{After, DeliveryRow, LOWEST, State};
use crate::{Attempt, AttemptEnd, Claim, Claimed, Settled, Standing, rules};

impl State {
    /// Records the end of an attempt.
    pub(super) fn settle(&mut self, end: &AttemptEnd, after: &mut After) -> Settled {
        let key = end.delivery.key();
        if !self.is_current(end.delivery, end.token) {
            return Settled::Stale;
        }
        let Some((destination, settlement)) = self.end_attempt(key, end.now, end.attempt.clone()) else {
            return Settled::Stale;
        };
        let status = settlement
            .status
            .as_ref()
            .and_then(|change| self.change_status(destination, change, end, after));
        Settled::Moved {
            verdict: settlement.verdict,
            gate: self.health_of(destination).gate(),
            released: settlement.release,
            status,
        }
    }

    fn change_status(
        &mut self,
        destination: DestinationId,
        change: &StatusChange,
        end: &AttemptEnd,
        after: &mut After,
    ) -> Option<DestinationStatus> {
        let put = rules::status_change(&self.topology, destination, change, &end.attempt, end.now)?;
        self.change_topology(end.now, rules::ACTOR_HEALTH, &[put], after)
            .ok()?;
        Some(change.to)
    }

    /// Whether `token` is the attempt under way of `delivery`.
    fn is_current(&self, delivery: DeliveryId, token: u32) -> bool {
        self.row(delivery)
            .filter(|row| row.state == DeliveryState::InFlight)
            .is_some_and(|row| row.progress.attempt == token || mutant::is_active(Mutant::NoFenceOnSettle))
    }

    /// The delivery of that id.
    pub(super) fn row(&self, id: DeliveryId) -> Option<&DeliveryRow> {
        let key = id.key();
        let event = &self.events.get(&key.event())?.event;
        let row = self.deliveries.get(&key)?;
        (DeliveryId::of_key(event.accepted_at, key) == id).then_some(row)
    }

    fn end_attempt(
        &mut self,
        key: DeliveryKey,
        now: Timestamp,
        attempt: Attempt,
    ) -> Option<(DestinationId, Settlement)> {
        let row = self.deliveries.get(&key)?;
        let destination = row.destination;
        let ending = Ending {
            key,
            accepted_at: self.events.get(&key.event())?.event.accepted_at,
            progress: row.progress,
            outcome: &attempt.outcome,
        };
        let policy = self.policy_of(destination);
        let settlement = settle(now, ending, &policy, &self.health_of(destination));
        let state = settlement.state();
        self.update(key, |row| {
            row.state = state;
            if !mutant::is_active(Mutant::RetryCounterNotPersisted) {
                row.progress = settlement.progress;
            }
            row.cause = Some(rules::attempt_cause(&attempt));
            match settlement.verdict {
                Verdict::RetryAt(due_at) => row.due_at = due_at,
                Verdict::Delivered | Verdict::Rejected | Verdict::Dead => row.settled_at = Some(now),
            }
            row.attempts.push(attempt);
        });
        if let Some(health) = &settlement.health {
            self.health.insert(destination, health.clone());
        }
        if settlement.release {
            self.release_retrying(destination);
        }
        Some((destination, settlement))
    }

    fn release_retrying(&mut self, destination: DestinationId) {
        for key in self.unsettled_of(destination) {
            let Some(accepted_at) = self.events.get(&key.event()).map(|row| row.event.accepted_at) else {
                continue;
            };
            self.update(key, |row| {
                if row.state == DeliveryState::Retrying {
                    row.due_at = accepted_at;
                }
            });
        }
    }

    /// Claims what is due.
    pub(super) fn claim(&mut self, claim: &Claim) -> Claimed {
        let open = self.destination(claim.destination).is_some_and(|it| it.is_open());
        if !open {
            return Claimed::default();
        }
        let mut claimed = Claimed::default();
        let mut bytes = 0_usize;
        for key in self.due_keys(claim) {
            if claimed.deliveries.len() >= claim.limit as usize {
                break;
            }
            let size = self
                .events
                .get(&key.event())
                .map_or(0, |row| row.event.body.len());
            if !claimed.deliveries.is_empty() && bytes.saturating_add(size) > claim.bytes {
                break;
            }
            bytes = bytes.saturating_add(size);
            self.settle_lost(key, claim.now);
            let begun = self.begin(key, claim.now, claim.now.plus(claim.lease));
            claimed.deliveries.extend(begun);
        }
        claimed.next_due = self.next_due(claim.destination, claim.now);
        claimed
    }

    fn due_keys(&self, claim: &Claim) -> Vec<DeliveryKey> {
        let from = claim.due_from.unwrap_or(Timestamp::from_micros(i64::MIN));
        let due = self.due.range((claim.destination, from, LOWEST)..);
        due.take_while(|(destination, due_at, _)| *destination == claim.destination && *due_at <= claim.now)
            .map(|(_, _, key)| *key)
            .collect()
    }

    pub(super) fn standings(&self, destinations: &[DestinationId], now: Timestamp) -> Vec<Standing> {
        let there = |id: &&DestinationId| self.topology.destinations.contains_key(*id);
        let standing = |id: &DestinationId| Standing {
            destination: *id,
            next_due: self.next_due(*id, now),
            gate: self.health_of(*id).gate(),
        };
        destinations.iter().filter(there).map(standing).collect()
    }

    fn next_due(&self, destination: DestinationId, now: Timestamp) -> Option<Timestamp> {
        let unsettled = self.unsettled_of(destination).into_iter();
        unsettled
            .filter_map(|key| self.deliveries.get(&key))
            .find(|row| row.waits() || row.due_at <= now)
            .map(|row| row.due_at)
    }

    /// Ends the attempt of a delivery in flight whose worker is gone.
    fn settle_lost(&mut self, key: DeliveryKey, now: Timestamp) {
        let in_flight = self.deliveries.get(&key);
        let Some(row) = in_flight.filter(|row| row.state == DeliveryState::InFlight) else {
            return;
        };
        let attempt = rules::lost_attempt(row.progress.attempt, row.touched_at, now);
        self.end_attempt(key, now, attempt);
    }

    /// What opening again does: the process that had the push claims is gone.
    pub(super) fn settle_lost_push_claims(&mut self, now: Timestamp) {
        if mutant::is_active(Mutant::PushClaimsNotReleasedOnRestart) {
            return;
        }
        let push: Vec<DestinationId> = self
            .topology
            .destinations
            .values()
            .filter(|destination| matches!(destination.kind, DestinationKind::Push { .. }))
            .map(|destination| destination.id)
            .collect();
        for destination in push {
            for key in self.unsettled_of(destination) {
                self.settle_lost(key, now);
            }
        }
    }

    /// Extends a lease.
    pub(super) fn extend(&mut self, delivery: DeliveryId, token: u32, until: Timestamp) -> bool {
        let current = self.is_current(delivery, token);
        if current {
            self.update(delivery.key(), |row| row.due_at = until);
        }
        current
    }

    /// The state of a delivery as lists show it.
    pub(super) fn shown_state(&self, row: &DeliveryRow) -> DeliveryState {
        let open = self.destination(row.destination).is_some_and(|it| it.is_open());
        if row.waits() && !open {
            DeliveryState::Held
        } else {
            row.state
        }
    }

    /// Makes a delivery due now.
    pub(super) fn retry(
        &mut self,
        id: DeliveryId,
        now: Timestamp,
        after: &mut After,
    ) -> Option<DeliveryState> {
        let row = self.row(id)?;
        let found = self.shown_state(row);
        let destination = self.destination(row.destination)?.clone();
        let moves = match row.state {
            DeliveryState::Pending
            | DeliveryState::Retrying
            | DeliveryState::Held
            | DeliveryState::Dead
            | DeliveryState::Rejected
            | DeliveryState::Discarded => destination.deleted_at.is_none(),
            DeliveryState::InFlight | DeliveryState::Delivered | DeliveryState::Filtered => false,
        };
        if moves {
            self.update(id.key(), |row| {
                row.begin_round(now, row.progress.begin_round(None));
            });
            self.tell_waiting(&destination, now, after);
        }
        Some(found)
    }

    /// Gives up a delivery.
    pub(super) fn discard(&mut self, id: DeliveryId, now: Timestamp, by: &str) -> Option<DeliveryState> {
        let row = self.row(id)?;
        let found = self.shown_state(row);
        if !found.is_settled() {
            self.update(id.key(), |row| row.give_up(now, by));
        }
        Some(found)
    }

    /// Gives up waiting deliveries of a destination.
    pub(super) fn discard_waiting(
        &mut self,
        destination: DestinationId,
        now: Timestamp,
        by: &str,
        limit: u32,
    ) -> u64 {
        let waiting: Vec<DeliveryKey> = self
            .unsettled_of(destination)
            .into_iter()
            .filter(|key| self.deliveries.get(key).is_some_and(DeliveryRow::waits))
            .take(limit as usize)
            .collect();
        for key in &waiting {
            self.update(*key, |row| row.give_up(now, by));
        }
        waiting.len() as u64
    }
}
