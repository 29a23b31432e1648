//! How a run ends: faults stop, and everything owed must finish in bounded virtual time.
//!
//! Owns the second phase and the last judgement. Must not know how the rest came about.

use hookfast_engine::delivery::DeliveryState;
use hookfast_engine::id::{DestinationId, EventId};
use hookfast_engine::topology::DestinationStatus;
use hookfast_store::DeliverySummary;

use crate::START;
use crate::audit::{self, Found};
use crate::ledger::Kept;
use crate::people::Act;
use crate::storage::Opened;
use crate::world::{Plan, World};

/// So many events come in one last burst, when nothing after them could wake what they did not.
const LAST_BURST: u64 = 20;

impl World {
    /// Looks at everything that is stored, through the node that owns the store or through nobody's handle.
    pub(crate) fn audit(&mut self) -> Option<Found> {
        let opened = self.storage.to_look_into().or_else(|| self.opened(0))?;
        self.audit_of(&opened)
    }

    pub(crate) fn audit_of(&mut self, opened: &Opened) -> Option<Found> {
        self.report.audits += 1;
        match audit::audit(opened, &mut self.ledger, &self.replayed_to) {
            Ok(found) => Some(found),
            Err(broken) => {
                self.fail(broken);
                None
            }
        }
    }

    pub(crate) fn end_faults(&mut self) {
        self.note(|| "faults end".to_owned());
        self.faults_on = false;
        let ids: Vec<DestinationId> = self.behaviours.keys().copied().collect();
        ids.into_iter().for_each(|id| self.behave(id));
        let closed: Vec<DestinationId> = self.ledger.places.keys().copied().collect();
        for id in closed {
            self.plan(self.now, Plan::Person(Act::Open { id, discard: false }));
        }
        let last = self.scenario.events + LAST_BURST;
        for key in self.scenario.events + 1..=last {
            let at = self.now.plus(self.chance.millis(180_000, 180_030));
            self.new_notification(key, at);
        }
        self.plan_in(200_000, 200_000, Plan::Glance);
    }

    /// Whether everything is finished; where it is, or had time enough, the run is judged.
    pub(crate) fn glance(&mut self) {
        let patience = self.scenario.safety + self.scenario.liveness + self.stepped;
        let over = START.plus(patience) <= self.now;
        let busy = self.posts_planned > 0
            || self.nodes.iter().any(|node| node.process.is_none())
            || self.ledger.owed_notice().is_err()
            || !self.all_open()
            || self.unsettled() > 0;
        if busy && !over {
            return self.plan_in(60_000, 60_000, Plan::Glance);
        }
        self.ended = true;
        self.judge_all();
    }

    fn all_open(&self) -> bool {
        let topology = self.topology();
        topology
            .live_destinations()
            .all(|it| it.status == DestinationStatus::Active)
    }

    /// How many deliveries are still to be finished.
    fn unsettled(&self) -> u64 {
        let Some(opened) = self.storage.to_look_into().or_else(|| self.opened(0)) else {
            return 1;
        };
        let stats = opened.look(|store| store.stats()).unwrap_or_default();
        let topology = self.topology();
        let alive = |id: &DestinationId| {
            topology
                .destinations
                .get(id)
                .is_some_and(|it| it.deleted_at.is_none())
        };
        let counts = stats
            .deliveries
            .iter()
            .filter(|(id, state, _)| alive(id) && !state.is_settled());
        counts.map(|(.., count)| count).sum()
    }

    fn judge_all(&mut self) {
        let Some(found) = self.audit() else { return };
        let acknowledged: Vec<EventId> = self
            .ledger
            .events
            .iter()
            .filter(|(_, known)| known.acknowledged)
            .map(|(id, _)| *id)
            .collect();
        for id in acknowledged {
            let kept = match found.get(&id) {
                Some(deliveries) => deliveries
                    .iter()
                    .try_for_each(|delivery| self.is_finished(delivery)),
                None => self.was_finished(id),
            };
            self.judge(kept);
        }
        let kept = self.ledger.owed_notice();
        self.judge(kept);
        for node in 0..self.nodes.len() {
            let process = self.nodes[node].process.as_ref();
            let left = process.map_or(0, |process| process.side.dispatcher.lock().in_flight());
            if left != 0 {
                self.fail(format!("{left} slots of node {node} were never given back"));
            }
        }
    }

    /// A delivery whose event is stored: it is settled, and what was seen of it says why.
    fn is_finished(&self, delivery: &DeliverySummary) -> Kept {
        let (id, state) = (delivery.id, delivery.state);
        let line = self.ledger.lines.get(&id).cloned().unwrap_or_default();
        let given_up = line.given_up || self.may_give_up(&delivery.destination);
        let explained = match state {
            DeliveryState::Delivered => line.succeeded,
            DeliveryState::Rejected => line.refused,
            DeliveryState::Dead => self.ledger.used_up(id, delivery.destination, self.now),
            DeliveryState::Discarded => given_up,
            DeliveryState::Pending
            | DeliveryState::Retrying
            | DeliveryState::InFlight
            | DeliveryState::Held
            | DeliveryState::Filtered => false,
        };
        if explained {
            Ok(())
        } else {
            Err(format!(
                "{id} of {} to {} ended {} ({:?}), which nothing that was seen explains: {line:?}",
                delivery.event,
                delivery.destination,
                state.name(),
                delivery.cause
            ))
        }
    }

    /// An event that is no longer stored: retention may take it once all its deliveries have settled.
    fn was_finished(&self, event: EventId) -> Kept {
        let Some(known) = self.ledger.events.get(&event) else {
            return Ok(());
        };
        let long_ago = known.accepted_at.plus(self.scenario.retention.settled) <= self.now.plus(self.stepped);
        let settled = |destination: &DestinationId| {
            let delivery = self.ledger.deliveries.get(&(event, *destination));
            let line = delivery.and_then(|id| self.ledger.lines.get(id));
            line.is_some_and(|line| line.settled.is_some() || line.discarded || line.given_up)
                || self.may_give_up(destination)
        };
        match known.due_to.iter().find(|destination| !settled(destination)) {
            _ if !long_ago => Err(format!("{event} was acknowledged and is not stored")),
            Some(destination) => Err(format!(
                "{event} was acknowledged and is gone before its delivery to {destination} had settled"
            )),
            None => Ok(()),
        }
    }

    fn may_give_up(&self, destination: &DestinationId) -> bool {
        let kept = self.scenario.retention.waiting;
        let place = self.ledger.places.get(destination);
        place.is_some_and(|place| place.may_give_up(kept))
    }
}
