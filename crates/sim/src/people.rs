//! What people do while events come in: set up, pause, change, delete, replay, retry, release from quarantine.
//!
//! Owns their acts and what the ledger is told of them. Must not know how a store carries an act out.

use hookfast_engine::delivery::DeliveryState;
use hookfast_engine::id::{DeliveryId, DestinationId, QuarantineId, ReplayId};
use hookfast_engine::topology::{Destination, DestinationStatus, TopologyChange};
use hookfast_store::{Appended, EventFilter, NewReplay, ReplaySelection, StoreError};

use crate::audit;
use crate::driver::policy_of;
use crate::faults::Kind;
use crate::scenario::{Scenario, Side};
use crate::world::{Doing, Plan, World};

/// How many deliveries a step of discarding gives up.
const DISCARD_STEP: u32 = 100;

/// What somebody does.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Act {
    Pause(DestinationId),
    /// Lets a destination take deliveries again, whatever stopped it.
    Open {
        id: DestinationId,
        discard: bool,
    },
    Edit(DestinationId),
    Delete(DestinationId),
    Add(Side),
    Replay,
    Retry,
    Discard,
    /// Releases or discards what is in quarantine; again, where it is gone already.
    Quarantine {
        id: QuarantineId,
        again: bool,
    },
}

impl World {
    pub(crate) fn act(&mut self, act: Act) {
        let Some(node) = self.some_node() else {
            return self.plan_in(1_000, 5_000, Plan::Person(act));
        };
        match act {
            Act::Pause(id) => {
                self.count(Kind::Pause);
                self.set_status(node, id, DestinationStatus::Paused);
            }
            Act::Open { id, discard } => self.open(node, id, discard),
            Act::Edit(id) => self.edit(node, id),
            Act::Delete(id) => {
                self.count(Kind::Deletion);
                let now = self.now;
                self.change(node, id, |it| it.deleted_at = Some(now));
            }
            Act::Add(side) => {
                self.count(Kind::Addition);
                let wanted = Scenario::draw_destination(&mut self.chance, side);
                let destination = self.new_destination(wanted);
                self.put(node, vec![TopologyChange::PutDestination(destination)]);
            }
            Act::Replay => self.replay(node),
            Act::Retry => self.retry(node),
            Act::Discard => self.discard(node),
            Act::Quarantine { id, again } => self.look_through_quarantine(node, id, again),
        }
    }

    /// Changes the topology; whether that was acknowledged.
    pub(crate) fn put(&mut self, node: usize, changes: Vec<TopologyChange>) -> bool {
        let time = self.nodes[node].time(self.now);
        self.note(|| format!("somebody changes at node {node}: {changes:?}"));
        let changed = self.write(node, |store| {
            store.change_topology(time, "sim".to_owned(), changes)
        });
        self.refresh(node);
        match changed {
            Some(Ok(_)) => true,
            Some(Err(StoreError::Refused { detail })) => {
                self.fail(format!("a change of the topology was refused: {detail}"));
                false
            }
            Some(Err(_)) | None => false,
        }
    }

    fn change(&mut self, node: usize, id: DestinationId, change: impl FnOnce(&mut Destination)) -> bool {
        let Some(mut changed) = self.live(id) else {
            return false;
        };
        change(&mut changed);
        self.put(node, vec![TopologyChange::PutDestination(changed)])
    }

    /// The destination, where it is not deleted.
    fn live(&self, id: DestinationId) -> Option<Destination> {
        let topology = self.topology();
        let found = topology.destinations.get(&id);
        found.filter(|it| it.deleted_at.is_none()).cloned()
    }

    fn set_status(&mut self, node: usize, id: DestinationId, status: DestinationStatus) -> bool {
        let time = self.nodes[node].time(self.now);
        let before = self.topology().destinations.get(&id).cloned();
        let done = self.change(node, id, |it| {
            it.status = status;
            // A clock that stepped back must not undo it.
            it.status_changed_at = time.max(it.status_changed_at);
        });
        let back = |it: &Destination| {
            let down = matches!(it.status, DestinationStatus::Failing | DestinationStatus::Failed);
            down && status == DestinationStatus::Active && !it.notification_email_addresses.is_empty()
        };
        if done && before.as_ref().is_some_and(back) {
            self.ledger.owes_notice(id, status);
        }
        done
    }

    /// Resumes or reactivates, after giving up what was held where that is wanted.
    fn open(&mut self, node: usize, id: DestinationId, discard: bool) {
        let Some(destination) = self.live(id) else {
            return;
        };
        if destination.status == DestinationStatus::Active {
            return;
        }
        self.count(Kind::Reactivation);
        if discard {
            if let Some(place) = self.ledger.places.get_mut(&id) {
                place.emptied = true;
            }
            let time = self.nodes[node].time(self.now);
            let call = |world: &mut Self| {
                world.write(node, |store| {
                    store.discard_waiting(id, time, "sim".to_owned(), DISCARD_STEP)
                })
            };
            while matches!(call(self), Some(Ok(1..))) {}
        }
        if !self.set_status(node, id, DestinationStatus::Active) {
            self.plan_in(1_000, 5_000, Plan::Person(Act::Open { id, discard }));
        }
    }

    fn edit(&mut self, node: usize, id: DestinationId) {
        self.count(Kind::Edit);
        let concurrency = self.chance.pick(&[1, 2, 8, 64]);
        let rate = self.chance.pick(&[None, None, Some(5)]);
        let triggers = self.chance.pick(&["*", "message.*", "grant.expired"]);
        let what = self.chance.between(0, 2);
        self.change(node, id, |it| match what {
            0 => it.concurrency = concurrency,
            1 => it.rate_limit = rate,
            _ => it.trigger_types = vec![triggers.to_owned()],
        });
    }

    fn replay(&mut self, node: usize) {
        self.count(Kind::Replay);
        let time = self.nodes[node].time(self.now);
        let topology = self.topology();
        let alive: Vec<DestinationId> = topology.live_destinations().map(|it| it.id).collect();
        let destination = (!alive.is_empty() && self.chance.percent(50)).then(|| self.chance.pick(&alive));
        let state = self
            .chance
            .pick(&[None, Some(DeliveryState::Delivered), Some(DeliveryState::Dead)]);
        self.replayed_to.extend(destination);
        let id = ReplayId::new(time, self.entropy());
        let new = NewReplay {
            id,
            application: self.application,
            selection: ReplaySelection {
                events: EventFilter::default(),
                event: None,
                state,
                destination,
            },
            rate: 5,
            new_id: self.chance.percent(30),
            created_at: time,
        };
        let started = self.write(node, |store| store.start_replay(new));
        self.note(|| format!("somebody replays: {started:?}"));
        if !matches!(started, Some(Err(StoreError::Unavailable { .. }))) {
            self.replays.insert(id);
            for node in 0..self.nodes.len() {
                self.plan_of(node, self.now, Doing::StepReplays);
            }
        }
    }

    /// A delivery that the ledger knows.
    fn some_delivery(&mut self) -> Option<DeliveryId> {
        let known: Vec<DeliveryId> = self.ledger.lines.keys().copied().collect();
        (!known.is_empty()).then(|| self.chance.pick(&known))
    }

    fn retry(&mut self, node: usize) {
        let Some(id) = self.some_delivery() else { return };
        self.count(Kind::Delivery);
        let time = self.nodes[node].time(self.now);
        let found = self.write(node, |store| store.retry(id, time));
        self.note(|| format!("somebody retries {id}: {found:?}"));
        match found {
            Some(Ok(
                None | Some(DeliveryState::Delivered | DeliveryState::InFlight | DeliveryState::Filtered),
            ))
            | Some(Err(StoreError::Unavailable { .. })) => {}
            Some(Ok(Some(_)) | Err(_)) | None => self.ledger.again(id),
        }
    }

    fn discard(&mut self, node: usize) {
        let Some(id) = self.some_delivery() else { return };
        self.count(Kind::Delivery);
        let time = self.nodes[node].time(self.now);
        let found = self.write(node, |store| store.discard(id, time, "sim".to_owned()));
        self.note(|| format!("somebody discards {id}: {found:?}"));
        match found {
            Some(Ok(None) | Err(StoreError::Unavailable { .. })) => {}
            Some(Ok(Some(state))) if state.is_settled() => {}
            Some(Ok(Some(_)) | Err(_)) | None => self.ledger.discarded(id),
        }
    }

    fn look_through_quarantine(&mut self, node: usize, id: QuarantineId, again: bool) {
        let Some((key, forged)) = self.quarantined.get(&id).copied() else {
            return;
        };
        self.count(Kind::Quarantine);
        if !again && self.chance.percent(50) {
            self.plan_in(1_000, 60_000, Plan::Person(Act::Quarantine { id, again: true }));
        }
        // What does not verify is never released.
        if forged || (!again && self.chance.percent(40)) {
            let gone = self.write(node, |store| store.discard_quarantined(vec![id]));
            return self.note(|| format!("key {key} is discarded from quarantine: {gone:?}"));
        }
        let Some(new) = self.event_of_key(node, key) else {
            return;
        };
        let event = new.event.id;
        let released = self.write(node, |store| store.release(id, new));
        self.note(|| format!("key {key} is released from quarantine as {event}: {released:?}"));
        match released {
            Some(Ok(Some(Appended::Accepted { .. }))) => {
                let kept = self.ledger.acknowledged(key, event);
                self.judge(kept);
            }
            Some(Ok(None) | Err(StoreError::Unavailable { .. })) => self.ledger.refused(event),
            Some(Ok(Some(Appended::Repeat { .. })) | Err(_)) | None => {}
        }
    }

    /// People read the notices they are owed.
    pub(crate) fn mail(&mut self) {
        self.plan_in(300_000, 900_000, Plan::Mail);
        let Some(node) = self.some_node() else { return };
        let Some(opened) = self.opened(node) else { return };
        for notice in opened.look(|store| store.notices(20)).unwrap_or_default() {
            self.ledger.noticed(notice.destination, notice.to);
            let id = notice.id;
            if self.write(node, |store| store.notice_done(id)).is_none() {
                return;
            }
        }
    }

    /// Tells the ledger what the topology is now: which destinations take deliveries, and what new ones are due.
    pub(crate) fn topology_may_have_changed(&mut self) {
        let topology = self.topology();
        let surely_kept = self.now.plus(self.stepped).minus(self.scenario.retention.settled);
        for destination in topology.destinations.values() {
            let id = destination.id;
            let new = !self.ledger.places.contains_key(&id);
            self.ledger.destination(destination, policy_of(&topology, id));
            if new && !self.replayed_to.is_empty() {
                // A replay may have given what no destination took a delivery: then it is not matched.
                self.replayed_to.insert(id);
            } else if new {
                // What no destination took before is matched with it.
                let events = self.ledger.events.values_mut();
                for known in events.filter(|known| known.due_to.is_empty()) {
                    let takers = audit::takers(&topology, known.source, known.event_type);
                    let there = known.accepted_at > surely_kept;
                    let matched = if there {
                        &mut known.due_to
                    } else {
                        &mut known.may_go_to
                    };
                    matched.extend(takers.contains(&id).then_some(id));
                }
            }
        }
    }
}
