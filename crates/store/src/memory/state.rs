//! What the memory model remembers, and how appending and changing the topology change it.
//!
//! Owns the maps and the one index. Everything that changes a delivery goes through [`State::update`], which
//! keeps the index right. Must not know locks, faults or slots beyond asking them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use hookfast_engine::delivery::{DeliveryKey, DeliveryState, DestinationNumber, EventSequence, Progress};
use hookfast_engine::event::Event;
use hookfast_engine::health::Health;
use hookfast_engine::id::{DeliveryId, DestinationId, EventId};
use hookfast_engine::retry::Policy;
use hookfast_engine::route::RouteTable;
use hookfast_engine::time::Timestamp;
use hookfast_engine::topology::{Destination, DestinationKind, Topology, TopologyChange};

use crate::{
    Appended, Attempt, ClaimedDelivery, NewEvent, Notice, Quarantined, Rejected, Replay, Result, Slots, rules,
};

/// Everything the memory model remembers. Bodies are shared, so a clone is cheap enough to take often.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    pub(super) topology: Arc<Topology>,
    routes: Arc<RouteTable>,
    next_number: u32,
    numbers: BTreeMap<DestinationNumber, DestinationId>,
    audit_rows: Vec<(Timestamp, String, TopologyChange)>,
    last_sequence: i64,
    pub(super) pruned_events: u64,
    pub(super) events: BTreeMap<EventSequence, EventRow>,
    pub(super) event_ids: BTreeMap<EventId, EventSequence>,
    pub(super) deliveries: BTreeMap<DeliveryKey, DeliveryRow>,
    /// Every delivery that is not settled, in the order it is claimed.
    pub(super) due: BTreeSet<(DestinationId, Timestamp, DeliveryKey)>,
    pub(super) marks: BTreeMap<[u8; 16], Mark>,
    pub(super) health: BTreeMap<DestinationId, Health>,
    pub(super) repeats: u64,
    pub(super) quarantine: BTreeMap<i64, Quarantined>,
    pub(super) rejected: BTreeMap<i64, Rejected>,
    pub(super) replays: BTreeMap<i64, ReplayRow>,
    pub(super) notices: BTreeMap<i64, Notice>,
    /// The last number given in the four maps above.
    pub(super) last_row: i64,
    /// Where the next pruning step begins.
    pub(super) prune_from: Option<EventSequence>,
}

#[derive(Clone, Debug)]
pub(super) struct EventRow {
    pub(super) event: Arc<Event>,
    pub(super) repeats: u64,
    pub(super) conflicting: u64,
    /// How many deliveries it has: counted when they are made, compared by the audit.
    pub(super) deliveries: usize,
}

#[derive(Clone, Debug)]
pub(super) struct DeliveryRow {
    pub(super) destination: DestinationId,
    /// Never `Held`.
    pub(super) state: DeliveryState,
    pub(super) progress: Progress,
    /// When the next attempt is due, or the lease of the present one ends.
    pub(super) due_at: Timestamp,
    pub(super) settled_at: Option<Timestamp>,
    pub(super) cause: Option<String>,
    /// When the last attempt or the round began, or the event was accepted.
    pub(super) touched_at: Timestamp,
    pub(super) attempts: Vec<Attempt>,
}

impl DeliveryRow {
    pub(super) fn waits(&self) -> bool {
        matches!(self.state, DeliveryState::Pending | DeliveryState::Retrying)
    }

    pub(super) fn give_up(&mut self, now: Timestamp, cause: &str) {
        self.state = DeliveryState::Discarded;
        self.settled_at = Some(now);
        self.cause = Some(cause.to_owned());
    }

    /// A new round, due at `now`.
    pub(super) fn begin_round(&mut self, now: Timestamp, progress: Progress) {
        self.state = DeliveryState::Pending;
        self.progress = progress;
        self.due_at = now;
        self.settled_at = None;
        self.touched_at = now;
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    pub(super) event: EventId,
    pub(super) body: [u8; 8],
    pub(super) expires_at: Timestamp,
}

#[derive(Clone, Debug)]
pub(super) struct ReplayRow {
    pub(super) replay: Replay,
    /// The last event looked at.
    pub(super) cursor: EventSequence,
}

/// What the delivery side is told once a write is on stable storage, or what it is given back.
#[derive(Debug, Default)]
pub(super) struct After {
    pub(super) claimed: Vec<ClaimedDelivery>,
    pub(super) waiting: Vec<(DestinationId, Timestamp)>,
}

impl State {
    /// Takes an event.
    pub(super) fn append(&mut self, new: &NewEvent, slots: &dyn Slots, after: &mut After) -> Appended {
        if let Some(repeat) = self.repeat(new) {
            return repeat;
        }
        self.mark(new);
        let deliveries = self.take_in(&new.event, Some((slots, new.lease_margin)), after);
        Appended::Accepted { deliveries }
    }

    /// Sets the dedupe mark.
    pub(super) fn mark(&mut self, new: &NewEvent) {
        if let Some(dedupe) = new.dedupe {
            let mark = Mark {
                event: new.event.id,
                body: dedupe.body,
                expires_at: dedupe.expires_at,
            };
            self.marks.insert(dedupe.key, mark);
        }
    }

    /// Keeps an event with its deliveries; how many there are. They are born in flight where there are slots.
    fn take_in(
        &mut self,
        event: &Arc<Event>,
        slots: Option<(&dyn Slots, Duration)>,
        after: &mut After,
    ) -> u32 {
        self.last_sequence += 1;
        let sequence = EventSequence(self.last_sequence);
        let row = EventRow {
            event: event.clone(),
            repeats: 0,
            conflicting: 0,
            deliveries: 0,
        };
        self.events.insert(sequence, row);
        self.event_ids.insert(event.id, sequence);
        let routed = self.routes.route(event.source, event.event_type.as_deref());
        for number in &routed {
            let Some(destination) = self.numbered(*number).cloned() else {
                continue;
            };
            let key = self.insert(sequence, &destination, event.accepted_at, Progress::default());
            let bytes = event.body.len();
            let reserved = slots.filter(|(slots, _)| {
                pushes(&destination) && slots.reserve(event.accepted_at, destination.id, bytes)
            });
            match reserved {
                Some((_, lease_margin)) => {
                    let lease_until = event.accepted_at.plus(destination.timeout).plus(lease_margin);
                    after
                        .claimed
                        .extend(self.begin(key, event.accepted_at, lease_until));
                }
                None => self.tell_waiting(&destination, event.accepted_at, after),
            }
        }
        u32::try_from(routed.len()).unwrap_or(u32::MAX)
    }

    /// Counts a repeat, where `new` is one.
    fn repeat(&mut self, new: &NewEvent) -> Option<Appended> {
        let dedupe = new.dedupe?;
        let mark = *self.marks.get(&dedupe.key)?;
        if mark.expires_at <= new.event.accepted_at {
            return None;
        }
        let conflicting = mark.body != dedupe.body;
        self.repeats += 1;
        let first = self.event_ids.get(&mark.event);
        if let Some(row) = first.and_then(|sequence| self.events.get_mut(sequence)) {
            row.repeats += 1;
            row.conflicting += u64::from(conflicting);
        }
        Some(Appended::Repeat {
            first: mark.event,
            conflicting,
        })
    }

    /// Makes the delivery of an event to a destination, due at `due_at`.
    pub(super) fn insert(
        &mut self,
        sequence: EventSequence,
        destination: &Destination,
        due_at: Timestamp,
        progress: Progress,
    ) -> DeliveryKey {
        let key = DeliveryKey::new(sequence, destination.number);
        let row = DeliveryRow {
            destination: destination.id,
            state: DeliveryState::Pending,
            progress,
            due_at,
            settled_at: None,
            cause: None,
            touched_at: due_at,
            attempts: Vec::new(),
        };
        self.due.insert((destination.id, due_at, key));
        self.deliveries.insert(key, row);
        if let Some(event) = self.events.get_mut(&sequence) {
            event.deliveries += 1;
        }
        key
    }

    /// Changes a delivery and keeps the index right.
    pub(super) fn update<T>(
        &mut self,
        key: DeliveryKey,
        change: impl FnOnce(&mut DeliveryRow) -> T,
    ) -> Option<T> {
        let row = self.deliveries.get_mut(&key)?;
        self.due.remove(&(row.destination, row.due_at, key));
        let result = change(row);
        if !row.state.is_settled() {
            self.due.insert((row.destination, row.due_at, key));
        }
        Some(result)
    }

    /// Begins the next attempt of a waiting delivery.
    pub(super) fn begin(
        &mut self,
        key: DeliveryKey,
        now: Timestamp,
        lease_until: Timestamp,
    ) -> Option<ClaimedDelivery> {
        let destination = self.deliveries.get(&key)?.destination;
        let open_total = self.health_of(destination).open_total(now);
        let progress = self.update(key, |row| {
            row.state = DeliveryState::InFlight;
            row.progress = row.progress.begin_attempt(now, open_total);
            row.due_at = lease_until;
            row.touched_at = now;
            row.progress
        })?;
        let event = self.events.get(&key.event())?.event.clone();
        let replay = progress.replay.map(|job| {
            let asked = self.replays.values().find(|row| row.replay.new.id == job);
            let renamed = asked.filter(|row| row.replay.new.new_id);
            let shown = renamed.map(|row| rules::replayed_event_id(&row.replay.new, event.id));
            (job, shown)
        });
        Some(ClaimedDelivery {
            id: DeliveryId::of_key(event.accepted_at, key),
            destination,
            attempt: progress.attempt,
            round_attempt: progress.counted.saturating_add(1),
            event,
            replay,
            lease_until,
        })
    }

    /// Makes all changes of the topology or none.
    pub(super) fn change_topology(
        &mut self,
        now: Timestamp,
        actor: &str,
        changes: &[TopologyChange],
        after: &mut After,
    ) -> Result<Arc<Topology>> {
        let changed = rules::change_topology(&self.topology, self.next_number, now, changes)?;
        self.next_number = changed.next_number;
        self.routes = Arc::new(RouteTable::new(&changed.topology));
        let destinations = changed.topology.destinations.values();
        self.numbers = destinations
            .map(|destination| (destination.number, destination.id))
            .collect();
        self.topology = Arc::new(changed.topology);
        let rows = changes
            .iter()
            .map(|change| (now, actor.to_owned(), change.clone()));
        self.audit_rows.extend(rows);
        for id in changed.deleted {
            for key in self.unsettled_of(id) {
                self.update(key, |row| row.give_up(now, rules::CAUSE_DESTINATION_DELETED));
            }
        }
        self.match_unrouted(&changed.added, after);
        for id in changed.activated {
            if let Some(health) = self.health.get_mut(&id) {
                health.reactivate();
            }
        }
        for announcement in changed.announcements {
            self.take_in(&Arc::new(announcement.event), None, after);
            if let Some(notice) = announcement.notice {
                let row = self.next_row();
                self.notices.insert(row, notice);
            }
        }
        Ok(self.topology.clone())
    }

    fn match_unrouted(&mut self, added: &[DestinationId], after: &mut After) {
        let unrouted: Vec<EventSequence> = self
            .events
            .iter()
            .filter_map(|(sequence, row)| (row.deliveries == 0).then_some(*sequence))
            .collect();
        for sequence in unrouted {
            let Some(event) = self.events.get(&sequence).map(|row| row.event.clone()) else {
                continue;
            };
            for number in self.routes.route(event.source, event.event_type.as_deref()) {
                let Some(destination) = self.numbered(number).cloned() else {
                    continue;
                };
                if added.contains(&destination.id) {
                    self.insert(sequence, &destination, event.accepted_at, Progress::default());
                    self.tell_waiting(&destination, event.accepted_at, after);
                }
            }
        }
    }

    /// The keys of a destination's unsettled deliveries, in the order they are claimed.
    pub(super) fn unsettled_of(&self, id: DestinationId) -> Vec<DeliveryKey> {
        let of_destination = self.due.range((id, Timestamp::from_micros(i64::MIN), LOWEST)..);
        of_destination
            .take_while(|(destination, _, _)| *destination == id)
            .map(|(_, _, key)| *key)
            .collect()
    }

    pub(super) fn tell_waiting(&self, destination: &Destination, due_at: Timestamp, after: &mut After) {
        if pushes(destination) {
            after.waiting.push((destination.id, due_at));
        }
    }

    pub(super) fn health_of(&self, destination: DestinationId) -> Health {
        self.health.get(&destination).cloned().unwrap_or_default()
    }

    /// The policy of a destination; that of the inbox where its own has gone.
    pub(super) fn policy_of(&self, destination: DestinationId) -> Policy {
        let destination = self.topology.destinations.get(&destination);
        destination
            .and_then(|destination| self.topology.policy(&destination.policy))
            .unwrap_or_else(Policy::inbox)
    }

    pub(super) fn destination(&self, id: DestinationId) -> Option<&Destination> {
        self.topology.destinations.get(&id)
    }

    fn numbered(&self, number: DestinationNumber) -> Option<&Destination> {
        self.numbers.get(&number).and_then(|id| self.destination(*id))
    }

    pub(super) fn next_row(&mut self) -> i64 {
        self.last_row += 1;
        self.last_row
    }

    /// How many events were ever accepted.
    pub(super) fn accepted_events(&self) -> u64 {
        self.last_sequence.unsigned_abs()
    }
}

/// Lower than every key of a delivery.
pub(super) const LOWEST: DeliveryKey = DeliveryKey::from_i64(i64::MIN);

/// Whether the delivery side attempts deliveries to this destination now.
pub(super) fn pushes(destination: &Destination) -> bool {
    destination.is_open() && matches!(destination.kind, DestinationKind::Push { .. })
}
