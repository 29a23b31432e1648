//! What the memory model does besides delivering: replays, quarantine, refused requests, retention, audit.
//!
//! Owns their rules where [`crate::rules`] has none. Must not know slots or locks.

use std::collections::BTreeMap;

use hookfast_engine::delivery::{DeliveryKey, DeliveryState, DestinationNumber, EventSequence, Progress};
use hookfast_engine::id::{QuarantineId, ReplayId};
use hookfast_engine::time::Timestamp;
use hookfast_engine::topology::{Destination, DestinationKind};

use super::state::{After, DeliveryRow, EventRow, ReplayRow, State, pushes};
use crate::rules::{self, QuarantineTaken};
use crate::{
    EventFilter, NewQuarantined, NewReplay, Pruned, Quarantining, Rejected, Replay, ReplayCount,
    ReplaySelection, ReplayState, Retention,
};

impl State {
    /// Starts a replay job.
    pub(super) fn start_replay(&mut self, new: NewReplay) -> Replay {
        let total = self.events.values().filter(|row| takes(&new, row)).count() as u64;
        let replay = Replay {
            new,
            state: ReplayState::Running,
            looked_at: 0,
            replayed: 0,
            skipped: 0,
            total,
            ended_at: None,
        };
        let row = ReplayRow {
            replay: replay.clone(),
            cursor: EventSequence(0),
        };
        let at = self.next_row();
        self.replays.insert(at, row);
        replay
    }

    fn replay_at(&self, id: ReplayId) -> Option<(i64, &ReplayRow)> {
        let mut rows = self.replays.iter();
        rows.find(|(_, row)| row.replay.new.id == id)
            .map(|(at, row)| (*at, row))
    }

    /// One replay job.
    pub(super) fn replay(&self, id: ReplayId) -> Option<Replay> {
        self.replay_at(id).map(|(_, row)| row.replay.clone())
    }

    /// Takes a replay job on.
    pub(super) fn step_replay(
        &mut self,
        id: ReplayId,
        now: Timestamp,
        limit: u32,
        after: &mut After,
    ) -> Option<Replay> {
        let (at, row) = self.replay_at(id)?;
        let mut row = row.clone();
        if row.replay.state != ReplayState::Running {
            return Some(row.replay);
        }
        let rest = self.events.range(EventSequence(row.cursor.0 + 1)..);
        let next: Vec<EventSequence> = rest
            .filter(|(_, event)| takes(&row.replay.new, event))
            .map(|(sequence, _)| *sequence)
            .take(limit as usize + 1)
            .collect();
        for sequence in next.iter().take(limit as usize) {
            row.cursor = *sequence;
            row.replay.looked_at += 1;
            for destination in self.targets(&row.replay.new.selection, *sequence) {
                if self.replay_one(*sequence, &destination, id, now, after) {
                    row.replay.replayed += 1;
                } else {
                    row.replay.skipped += 1;
                }
            }
        }
        if next.len() <= limit as usize {
            row.replay.state = ReplayState::Done;
            row.replay.ended_at = Some(now);
        }
        let replay = row.replay.clone();
        self.replays.insert(at, row);
        Some(replay)
    }

    /// The destinations that a replay of the event goes to.
    fn targets(&self, selection: &ReplaySelection, sequence: EventSequence) -> Vec<Destination> {
        let Some(event) = self.events.get(&sequence).map(|row| &row.event) else {
            return Vec::new();
        };
        let destinations = self.topology.live_destinations();
        destinations
            .filter(|destination| destination.application == event.application)
            .filter(|destination| {
                let delivery = self
                    .deliveries
                    .get(&DeliveryKey::new(sequence, destination.number));
                let meant = match selection.destination {
                    Some(id) => destination.id == id,
                    None => delivery.is_some(),
                };
                let in_state = selection
                    .state
                    .is_none_or(|state| delivery.is_some_and(|delivery| self.shown_state(delivery) == state));
                meant && in_state
            })
            .cloned()
            .collect()
    }

    /// Whether a replay moves the delivery; otherwise it waits or is in flight anyway.
    fn moves(&self, key: DeliveryKey) -> bool {
        self.deliveries
            .get(&key)
            .is_none_or(|delivery| delivery.state.is_settled())
    }

    fn replay_one(
        &mut self,
        sequence: EventSequence,
        destination: &Destination,
        job: ReplayId,
        now: Timestamp,
        after: &mut After,
    ) -> bool {
        let key = DeliveryKey::new(sequence, destination.number);
        let moves = self.moves(key);
        if moves {
            let round = |row: &mut DeliveryRow| row.begin_round(now, row.progress.begin_round(Some(job)));
            if self.update(key, round).is_none() {
                self.insert(
                    sequence,
                    destination,
                    now,
                    Progress::default().begin_round(Some(job)),
                );
            }
            self.tell_waiting(destination, now, after);
        }
        moves
    }

    /// Cancels a replay job.
    pub(super) fn cancel_replay(&mut self, id: ReplayId, now: Timestamp) -> Option<Replay> {
        let (at, _) = self.replay_at(id)?;
        let row = self.replays.get_mut(&at)?;
        if row.replay.state == ReplayState::Running {
            row.replay.state = ReplayState::Cancelled;
            row.replay.ended_at = Some(now);
        }
        Some(row.replay.clone())
    }

    /// What a replay would touch.
    pub(super) fn count_replay(&self, selection: &ReplaySelection) -> ReplayCount {
        let mut count = ReplayCount::default();
        let events = self.events.iter();
        for (sequence, _) in events.filter(|(_, row)| selected(selection, row)) {
            count.events += 1;
            for destination in self.targets(selection, *sequence) {
                if self.moves(DeliveryKey::new(*sequence, destination.number)) {
                    count.deliveries += 1;
                } else {
                    count.skipped += 1;
                }
            }
        }
        count
    }

    /// Keeps a refused notification, within bounds.
    pub(super) fn quarantine(&mut self, new: NewQuarantined) -> Quarantining {
        let mut taken = QuarantineTaken::default();
        for kept in self.quarantine.values() {
            if kept.source == new.item.source {
                taken.events += 1;
                taken.bytes += rules::quarantine_bytes(kept);
                taken.of_peer += u64::from(kept.peer == new.item.peer);
            }
        }
        let quarantining = rules::quarantining(new.bounds, taken, rules::quarantine_bytes(&new.item));
        if quarantining == Quarantining::Kept {
            let at = self.next_row();
            self.quarantine.insert(at, new.item);
        }
        quarantining
    }

    /// Takes an event out of quarantine; whether it was there.
    pub(super) fn unquarantine(&mut self, id: QuarantineId) -> bool {
        let before = self.quarantine.len();
        self.quarantine.retain(|_, item| item.id != id);
        self.quarantine.len() < before
    }

    /// Adds refused requests to the bounded list.
    pub(super) fn record_rejected(&mut self, rejected: Vec<Rejected>) {
        for one in rejected {
            let at = self.next_row();
            self.rejected.insert(at, one);
        }
        while self.rejected.len() > rules::REJECTED_KEPT {
            self.rejected.pop_first();
        }
    }

    /// One step of retention.
    pub(super) fn prune(&mut self, now: Timestamp, retention: Retention, limit: u32) -> Pruned {
        let mut pruned = Pruned::default();
        let next: Vec<EventSequence> = self
            .events
            .range(self.prune_from.unwrap_or(EventSequence(0))..)
            .map(|(sequence, _)| *sequence)
            .take(limit as usize + 1)
            .collect();
        for sequence in next.iter().take(limit as usize) {
            self.prune_event(*sequence, now, retention, &mut pruned);
        }
        let rest = next.get(limit as usize).copied();
        self.prune_from = rest;
        let marks = expired(&self.marks, |mark| mark.expires_at <= now);
        let quarantined = expired(&self.quarantine, |item| {
            item.received_at.plus(retention.quarantine) <= now
        });
        pruned.more = rest.is_some() || marks.len().max(quarantined.len()) > limit as usize;
        for key in marks.iter().take(limit as usize) {
            pruned.marks += u64::from(self.marks.remove(key).is_some());
        }
        for at in quarantined.iter().take(limit as usize) {
            pruned.quarantined += u64::from(self.quarantine.remove(at).is_some());
        }
        pruned
    }

    fn prune_event(
        &mut self,
        sequence: EventSequence,
        now: Timestamp,
        retention: Retention,
        pruned: &mut Pruned,
    ) {
        let keys = self.keys_of(sequence);
        for key in &keys {
            if self.waited_too_long(*key, now, retention) {
                self.update(*key, |row| row.give_up(now, rules::CAUSE_RETENTION));
                pruned.discarded += 1;
            }
        }
        let Some(accepted_at) = self.events.get(&sequence).map(|row| row.event.accepted_at) else {
            return;
        };
        let rows = || keys.iter().filter_map(|key| self.deliveries.get(key));
        let settled = rows().map(|row| row.settled_at);
        let Some(settled) = settled.collect::<Option<Vec<Timestamp>>>() else {
            return;
        };
        let last = settled.into_iter().max().unwrap_or(accepted_at);
        if rules::kept_until(retention, last, rows().map(|row| row.state)) <= now {
            self.remove_event(sequence);
            pruned.events += 1;
        }
    }

    fn waited_too_long(&self, key: DeliveryKey, now: Timestamp, retention: Retention) -> bool {
        let Some(row) = self.deliveries.get(&key) else {
            return false;
        };
        let Some(destination) = self.destination(row.destination) else {
            return false;
        };
        let pull = destination.kind == DestinationKind::Pull;
        let abandoned = pull && row.state == DeliveryState::InFlight && row.due_at <= now;
        let waits = row.waits() && !pushes(destination);
        (abandoned || waits) && row.touched_at.plus(retention.waiting) <= now
    }

    fn remove_event(&mut self, sequence: EventSequence) {
        for key in self.keys_of(sequence) {
            if let Some(row) = self.deliveries.remove(&key) {
                self.due.remove(&(row.destination, row.due_at, key));
            }
        }
        if let Some(row) = self.events.remove(&sequence) {
            self.event_ids.remove(&row.event.id);
            self.pruned_events += 1;
        }
    }

    /// The keys of an event's deliveries.
    pub(super) fn keys_of(&self, sequence: EventSequence) -> Vec<DeliveryKey> {
        let first = DeliveryKey::new(sequence, DestinationNumber(0));
        let last = DeliveryKey::new(sequence, DestinationNumber::MAX);
        self.deliveries.range(first..=last).map(|(key, _)| *key).collect()
    }

    /// Every promise that does not hold.
    pub(super) fn audit(&self) -> Vec<String> {
        let mut broken = Vec::new();
        let mut promise = |holds: bool, what: &dyn Fn() -> String| {
            if !holds {
                broken.push(what());
            }
        };
        let stored = self.events.len() as u64;
        promise(stored + self.pruned_events == self.accepted_events(), &|| {
            format!(
                "{stored} events are stored, {} were pruned, {} accepted",
                self.pruned_events,
                self.accepted_events()
            )
        });
        promise(self.event_ids.len() == self.events.len(), &|| {
            "an event id is not unique".to_owned()
        });
        for (sequence, row) in &self.events {
            let id = row.event.id;
            promise(self.event_ids.get(&id) == Some(sequence), &|| {
                format!("{id} cannot be found by its id")
            });
            let found = self.keys_of(*sequence).len();
            promise(found == row.deliveries, &|| {
                format!("{id} has {found} deliveries of {}", row.deliveries)
            });
        }
        for (key, row) in &self.deliveries {
            for (holds, what) in self.delivery_promises(*key, row) {
                promise(holds, &|| format!("delivery {key:?}: {what}"));
            }
        }
        let unsettled = self
            .deliveries
            .values()
            .filter(|row| !row.state.is_settled())
            .count();
        promise(unsettled == self.due.len(), &|| {
            format!(
                "{unsettled} deliveries are not settled, {} are indexed",
                self.due.len()
            )
        });
        broken
    }

    fn delivery_promises(&self, key: DeliveryKey, row: &DeliveryRow) -> [(bool, &'static str); 6] {
        let settled = row.state.is_settled();
        let destination = self.destination(row.destination);
        let numbers: Vec<u32> = row.attempts.iter().map(|attempt| attempt.number).collect();
        [
            (self.events.contains_key(&key.event()), "its event is gone"),
            (
                destination.is_some_and(|it| it.number == key.destination()),
                "its destination is gone or has another number",
            ),
            (row.state != DeliveryState::Held, "held is stored"),
            (
                settled == row.settled_at.is_some(),
                "its settled time does not fit its state",
            ),
            (
                settled != self.due.contains(&(row.destination, row.due_at, key)),
                "it is due although settled, or not due although waiting",
            ),
            (
                numbers.is_sorted_by(|a, b| a < b)
                    && numbers.iter().all(|number| *number <= row.progress.attempt),
                "an attempt is recorded twice or was never begun",
            ),
        ]
    }
}

fn expired<K: Copy, V>(rows: &BTreeMap<K, V>, is_expired: impl Fn(&V) -> bool) -> Vec<K> {
    rows.iter()
        .filter(|(_, row)| is_expired(row))
        .map(|(key, _)| *key)
        .collect()
}

/// Whether a replay job looks at an event.
fn takes(new: &NewReplay, row: &EventRow) -> bool {
    row.event.application == new.application
        && row.event.accepted_at <= new.created_at
        && selected(&new.selection, row)
}

fn selected(selection: &ReplaySelection, row: &EventRow) -> bool {
    selection.event.is_none_or(|id| id == row.event.id) && matches(&selection.events, row)
}

/// Whether a filter takes an event. `after` is the list's business.
pub(super) fn matches(filter: &EventFilter, row: &EventRow) -> bool {
    let event = &row.event;
    let provider_id = filter.provider_id.as_ref();
    let pattern = filter.event_type.as_deref();
    filter.application.is_none_or(|id| id == event.application)
        && filter.source.is_none_or(|id| id == event.source)
        && pattern.is_none_or(|pattern| rules::filter_takes_type(pattern, event.event_type.as_deref()))
        && provider_id.is_none_or(|id| Some(id) == event.provider_id.as_ref())
        && filter.from.is_none_or(|from| event.accepted_at >= from)
        && filter.until.is_none_or(|until| event.accepted_at < until)
        && (!filter.unrouted || row.deliveries == 0)
}
