//! Workers that pull (SPEC I12).
//!
//! Owns when a worker asks, what it does with a lease, and how it vanishes or answers late. Must not know what a
//! receipt is worth.

use hookfast_engine::id::DestinationId;
use hookfast_engine::outcome::Outcome;
use hookfast_engine::time::Timestamp;
use hookfast_store::{Claim, ClaimedDelivery, StoreError};

use crate::driver::attempt_end;
use crate::faults::Kind;
use crate::world::{Plan, World};

/// Bytes of bodies in one answer.
const ANSWER_BYTES: usize = 2 * 1024 * 1024;

/// One worker.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Worker {
    pub(crate) destination: DestinationId,
}

impl World {
    /// A worker asks for deliveries, and will ask again.
    pub(crate) fn pull(&mut self, worker: usize) {
        let long = self.scenario.safety.as_secs() > 86_400;
        let most = if long { 300_000 } else { 10_000 };
        self.plan_in(most / 10, most, Plan::Pull { worker });
        let Some(node) = self.some_node() else { return };
        let time = self.nodes[node].time(self.now);
        let wanted = Claim {
            destination: self.workers[worker].destination,
            now: time,
            due_from: None,
            limit: self.chance.between(1, 5) as u32,
            bytes: ANSWER_BYTES,
            lease: self.chance.millis(5_000, 30_000),
        };
        let Some(Ok(claimed)) = self.write(node, |store| store.claim(wanted)) else {
            return;
        };
        for delivery in claimed.deliveries {
            self.note_claim(time, &delivery, true);
            self.work(node, worker, delivery);
        }
    }

    fn work(&mut self, node: usize, worker: usize, delivery: ClaimedDelivery) {
        let mix = self.scenario.mix;
        if self.faults_on && self.chance.percent(mix.workers_gone_percent) {
            self.count(Kind::WorkerGone);
            return;
        }
        let started = self.nodes[node].time(self.now);
        let lease = delivery.lease_until.since(started).as_millis() as u64;
        let late = self.faults_on && self.chance.percent(mix.workers_late_percent);
        if late && self.chance.percent(30) {
            self.extend(node, &delivery);
        }
        let after = if late {
            self.chance.millis(lease, lease * 3)
        } else {
            self.chance.millis(10, lease / 2)
        };
        let outcome = if self.faults_on && self.chance.percent(10) {
            let delay = self.chance.millis(0, 20_000);
            Outcome::Returned { delay }
        } else {
            Outcome::Acknowledged
        };
        if late {
            self.count(Kind::WorkerLate);
        }
        let kept = self.ledger.arrived(&delivery);
        self.judge(kept);
        let plan = Plan::WorkerEnds {
            worker,
            delivery: Box::new(delivery),
            started,
            outcome,
        };
        self.plan(self.now.plus(after), plan);
    }

    fn extend(&mut self, node: usize, delivery: &ClaimedDelivery) {
        let until = delivery.lease_until.plus(self.chance.millis(1_000, 60_000));
        let (id, token) = (delivery.id, delivery.attempt);
        match self.write(node, |store| store.extend(id, token, until)) {
            Some(Ok(true)) => self.ledger.extended(delivery, until),
            Some(Ok(false)) => self.fail(format!("the lease of {id} was lost while it held")),
            // Perhaps it goes on: then the delivery is leased again later than it might be, which breaks nothing.
            Some(Err(_)) | None => {}
        }
    }

    /// A worker says what came of its lease, until it is answered.
    pub(crate) fn worker_ends(
        &mut self,
        worker: usize,
        delivery: ClaimedDelivery,
        started: Timestamp,
        outcome: Outcome,
    ) {
        let answered = self.some_node().map(|node| {
            let time = self.nodes[node].time(self.now);
            let end = attempt_end(&delivery, time, started, time.since(started), &outcome);
            self.write(node, |store| store.settle(end))
        });
        match answered {
            Some(Some(Ok(settled))) => {
                self.note(|| format!("a worker ends {} with {outcome:?}: {settled:?}", delivery.id));
                self.ledger.attempt_ends(0, &delivery, &outcome);
                let kept = self.ledger.settled(self.now, &delivery, &outcome, &settled);
                return self.judge(kept);
            }
            Some(Some(Err(StoreError::Unavailable { .. }))) | None => {}
            Some(Some(Err(_)) | None) => {
                self.ledger.attempt_ends(0, &delivery, &outcome);
                self.ledger.perhaps_settled(&delivery);
            }
        }
        let plan = Plan::WorkerEnds {
            worker,
            delivery: Box::new(delivery),
            started,
            outcome,
        };
        self.plan_in(1_000, 5_000, plan);
    }
}
