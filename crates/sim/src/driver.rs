//! What a node does: the server's driver, attempts and upkeep, over virtual time.
//!
//! Owns how effects of the dispatcher are carried out and what is reported back, as `deliver/driver.rs` and
//! `deliver/attempt.rs` of the server do it; starts and deaths of processes; clocks. Must not decide anything about a
//! delivery. An effect takes a little while to reach the store, and so does what came of it to be heard, so that
//! others and deaths get in between.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use hookfast_engine::dispatch::{self, Effect, End, EndResult, Input};
use hookfast_engine::event::HeaderBlock;
use hookfast_engine::id::DestinationId;
use hookfast_engine::outcome::Outcome;
use hookfast_engine::retry::{Policy, Verdict};
use hookfast_engine::time::Timestamp;
use hookfast_engine::topology::{DestinationKind, DestinationStatus, Topology};
use hookfast_store::{
    Attempt, AttemptEnd, Claim, ClaimedDelivery, ReplayState, Settled, Standing, StoreError,
};

use crate::audit;
use crate::destination::{self, Behaviour, Reply};
use crate::faults::Kind;
use crate::node::{Message, Process, Side};
use crate::sender::LEASE_MARGIN;
use crate::storage::Storage;
use crate::world::{Doing, Plan, UnderWay, World};

/// A claim or a settlement that failed is tried again after this long.
const RETRY: Duration = Duration::from_secs(1);
/// How many events a step of retention looks at.
const PRUNE_STEP: u32 = 500;
/// How many events a step of a replay takes.
const REPLAY_STEP: u32 = 5;

impl World {
    /// A node's process starts.
    pub(crate) fn start(&mut self, node: usize) {
        if self.nodes[node].process.is_some() {
            return;
        }
        let side = Side::new();
        let local = self.nodes[node].local(self.now);
        let opened = match self.storage.open(side.clone(), local) {
            Ok(opened) => opened,
            Err(error) => return self.fail(format!("the store cannot be opened: {error}")),
        };
        self.nodes[node].process = Some(Process {
            topology: opened.topology(),
            side,
            opened,
            inbox: VecDeque::new(),
            open: BTreeSet::new(),
            wakes_at: None,
        });
        self.note(|| format!("node {node} starts"));
        self.heartbeat(node);
        self.hear_store(node);
        self.topology_may_have_changed();
        if self.nodes.len() == 1
            && let Some(found) = self.audit()
        {
            let kept = audit::nothing_is_claimed(&found, &self.topology());
            self.judge(kept);
        }
        self.take_snapshot(node);
        let often = self.upkeep_every();
        self.plan_of(node, self.now.plus(often), Doing::Upkeep);
        self.plan_of(node, self.now.plus(often), Doing::Prune);
        if !self.replays.is_empty() {
            self.plan_of(node, self.now.plus(RETRY), Doing::StepReplays);
        }
    }

    /// A node's process dies where it stands, and starts again a little later.
    pub(crate) fn die(&mut self, node: usize) {
        let Some(process) = self.nodes[node].process.take() else {
            return;
        };
        self.note(|| format!("node {node} dies"));
        self.nodes[node].life += 1;
        Storage::dies(&process.opened);
        self.ledger.died(node, &self.pulled);
        if let Some(opened) = self.storage.to_look_into() {
            self.audit_of(&opened);
        }
        let longest = self.chance.pick(&[10, 10_000, 120_000]);
        self.plan_in(0, longest, Plan::Restart { node });
    }

    pub(crate) fn crash(&mut self, node: usize) {
        if self.nodes[node].process.is_some() && self.faults_on {
            self.count(Kind::Death);
            self.die(node);
        }
    }

    /// The node learns how far its clock is from the one that all share, to some milliseconds.
    pub(crate) fn heartbeat(&mut self, node: usize) {
        let shared = self.now.plus(self.chance.millis(0, 20));
        let local = self.nodes[node].local(self.now);
        if let Some(opened) = self.opened(node).filter(|_| self.nodes.len() > 1) {
            opened.heartbeat(local, shared);
        }
    }

    pub(crate) fn step_clock(&mut self, node: usize, micros: i64) {
        if !self.faults_on {
            return;
        }
        self.count(Kind::ClockStep);
        self.note(|| format!("the clock of node {node} steps by {micros} microseconds"));
        self.nodes[node].ahead += micros;
        self.stepped += Duration::from_micros(micros.unsigned_abs());
        // What was planned by the old clock: the driver measures its sleep anew with every message.
        if let Some(process) = &mut self.nodes[node].process {
            process.wakes_at = None;
        }
    }

    pub(crate) fn outage(&mut self, id: DestinationId) {
        self.count(Kind::Outage);
        let behaviour = self
            .chance
            .pick(&[Behaviour::Down, Behaviour::Broken, Behaviour::Hanging]);
        self.note(|| format!("{id} is {behaviour:?} until the faults end"));
        self.behaviours.insert(id, behaviour);
        self.outages.insert(id);
    }

    pub(crate) fn behave(&mut self, id: DestinationId) {
        if self.faults_on && self.outages.contains(&id) {
            return;
        }
        let behaviour = if self.faults_on {
            self.count(Kind::Behaviour);
            self.chance.pick(&Behaviour::ALL)
        } else {
            Behaviour::Well
        };
        self.note(|| format!("{id} is now {behaviour:?}"));
        self.behaviours.insert(id, behaviour);
    }

    fn upkeep_every(&self) -> Duration {
        let long = self.scenario.safety > Duration::from_secs(86_400);
        Duration::from_secs(if long { 600 } else { 60 })
    }

    /// Lets a node's driver take everything that reached it.
    pub(crate) fn pump(&mut self, node: usize) {
        while self.report.failure.is_none() {
            let Some(process) = &mut self.nodes[node].process else {
                return;
            };
            let Some(message) = process.inbox.pop_front() else {
                break;
            };
            match message {
                Message::Input(input) => self.handle(node, input),
                Message::Attempt(claimed) => claimed.into_iter().for_each(|each| self.attempt(node, each)),
                Message::LookEverywhere => self.look_everywhere(node),
            }
        }
        self.plan_wake(node);
    }

    /// The driver sleeps until the dispatcher wants to be woken, as its own clock counts.
    fn plan_wake(&mut self, node: usize) {
        let time = self.nodes[node].time(self.now);
        let now = self.now;
        let Some(process) = &mut self.nodes[node].process else {
            return;
        };
        let Some(wake_at) = process.side.dispatcher.lock().wake_at() else {
            return;
        };
        let at = now.plus(wake_at.since(time).max(Duration::from_micros(1)));
        if process.wakes_at.is_none_or(|planned| at < planned) {
            process.wakes_at = Some(at);
            self.plan_of(node, at, Doing::Wake);
        }
    }

    pub(crate) fn go_on(&mut self, node: usize, what: Doing) {
        match what {
            Doing::Wake => {
                // One that was planned for later than the driver then slept is of no use any more.
                let now = self.now;
                if let Some(process) = &mut self.nodes[node].process
                    && process.wakes_at.take_if(|at| *at <= now).is_some()
                {
                    process.post(Message::Input(Input::Wake));
                }
            }
            Doing::Claim { destination, claim } => self.claim(node, destination, claim),
            Doing::Hear(messages) => {
                if let Some(process) = &mut self.nodes[node].process {
                    process.inbox.extend(messages);
                }
            }
            Doing::TakeSnapshot => self.take_snapshot(node),
            Doing::Refresh => self.refresh_own(node),
            Doing::Upkeep => self.upkeep(node),
            Doing::Prune => self.prune(node),
            Doing::StepReplays => self.step_replays(node),
        }
    }

    fn handle(&mut self, node: usize, input: Input) {
        let time = self.nodes[node].time(self.now);
        let Some(process) = &self.nodes[node].process else {
            return;
        };
        let mut effects = Vec::new();
        process.side.dispatcher.lock().handle(time, input, &mut effects);
        for Effect::Claim { destination, claim } in effects {
            let at = self.now.plus(self.chance.millis(0, 3));
            self.plan_of(node, at, Doing::Claim { destination, claim });
        }
    }

    fn claim(&mut self, node: usize, destination: DestinationId, claim: dispatch::Claim) {
        let time = self.nodes[node].time(self.now);
        let Some(process) = &self.nodes[node].process else {
            return;
        };
        let timeout = process
            .topology
            .destinations
            .get(&destination)
            .map(|it| it.timeout);
        let wanted = Claim {
            destination,
            now: time,
            due_from: claim.due_from,
            limit: claim.limit,
            bytes: claim.bytes,
            lease: timeout.unwrap_or_default() + LEASE_MARGIN,
        };
        match self.write(node, |store| store.claim(wanted)) {
            Some(Ok(claimed)) => {
                claimed
                    .deliveries
                    .iter()
                    .for_each(|each| self.note_claim(time, each, false));
                let taken = claimed.deliveries.iter();
                let deliveries = taken.map(|each| (each.event.body.len(), each.event.accepted_at));
                let input = Input::Claimed {
                    destination,
                    claim,
                    deliveries: deliveries.collect(),
                    next_due: claimed.next_due,
                };
                let mut messages = vec![Message::Input(input)];
                if !claimed.deliveries.is_empty() {
                    messages.push(Message::Attempt(claimed.deliveries));
                }
                self.hear_later(node, messages);
            }
            Some(Err(_)) => {
                let retry_at = time.plus(RETRY);
                let failed = Input::ClaimFailed {
                    destination,
                    claim,
                    retry_at,
                };
                self.hear_later(node, vec![Message::Input(failed)]);
            }
            None => {}
        }
    }

    /// The store has answered; the driver hears of it a little later.
    fn hear_later(&mut self, node: usize, messages: Vec<Message>) {
        let at = self.now.plus(self.chance.millis(0, 3));
        self.plan_of(node, at, Doing::Hear(messages));
    }

    fn attempt(&mut self, node: usize, delivery: ClaimedDelivery) {
        let started = self.nodes[node].time(self.now);
        let life = self.nodes[node].life;
        let Some(process) = &self.nodes[node].process else {
            return;
        };
        let destination = process.topology.destinations.get(&delivery.destination);
        let Some(timeout) = destination.filter(|it| it.is_open()).map(|it| it.timeout) else {
            // It was paused or deleted between the claim and now.
            let reply = Reply {
                after: Duration::ZERO,
                outcome: Outcome::Released,
                took: false,
            };
            return self.settle(UnderWay {
                node,
                life,
                delivery,
                started,
                reply,
            });
        };
        let claim = self.claims.get(&(delivery.id, delivery.attempt)).copied();
        if let Some(claim) = claim {
            let kept = self.ledger.attempt_begins(node, claim, self.now, &delivery);
            self.judge(kept);
        }
        let behaviour = self
            .behaviours
            .get(&delivery.destination)
            .copied()
            .unwrap_or(Behaviour::Well);
        let reply = destination::reply(&mut self.chance, behaviour, timeout);
        self.note(|| {
            format!(
                "node {node} tries {} for the {}. time: it will end {:?} after {:?}",
                delivery.id, delivery.attempt, reply.outcome, reply.after
            )
        });
        let at = self.now.plus(reply.after);
        let under_way = UnderWay {
            node,
            life,
            delivery,
            started,
            reply,
        };
        self.plan(at, Plan::AttemptEnds(Box::new(under_way)));
    }

    /// The destination has seen it, whatever is recorded of it afterwards.
    pub(crate) fn attempt_ends(&mut self, ended: UnderWay) {
        if ended.reply.took {
            let kept = self.ledger.arrived(&ended.delivery);
            self.judge(kept);
        }
        if self.is_alive(ended.node, ended.life) {
            self.ledger
                .attempt_ends(ended.node, &ended.delivery, &ended.reply.outcome);
            self.settle(ended);
        }
    }

    /// Settles, again and again while the store takes nothing; the slot stays in use meanwhile.
    pub(crate) fn settle(&mut self, ended: UnderWay) {
        let node = ended.node;
        if !self.is_alive(node, ended.life) {
            return;
        }
        let (delivery, outcome) = (&ended.delivery, &ended.reply.outcome);
        let time = self.nodes[node].time(self.now);
        let end = attempt_end(delivery, time, ended.started, ended.reply.after, outcome);
        let settled = match self.write(node, |store| store.settle(end)) {
            Some(Ok(settled)) => settled,
            Some(Err(StoreError::Unavailable { .. })) => {
                return self.plan(self.now.plus(RETRY), Plan::SettleAgain(Box::new(ended)));
            }
            Some(Err(_)) | None => return self.ledger.perhaps_settled(delivery),
        };
        self.note(|| {
            format!(
                "attempt {} of {} is settled: {settled:?}",
                delivery.attempt, delivery.id
            )
        });
        let kept = self.ledger.settled(self.now, delivery, outcome, &settled);
        self.judge(kept);
        let (gate, due_at) = match &settled {
            Settled::Moved {
                verdict,
                gate,
                status,
                ..
            } => {
                if let Some(status) = status {
                    self.status_changed(node, delivery.destination, *status);
                }
                (Some(*gate), due_at(*verdict))
            }
            Settled::Stale => (None, None),
        };
        let ended = Input::Ended {
            destination: delivery.destination,
            bytes: delivery.event.body.len(),
            accepted_at: delivery.event.accepted_at,
            end: End {
                result: EndResult::of(&self.policy_of(delivery.destination), outcome),
                latency: ended.reply.after,
                gate,
                due_at,
            },
        };
        self.hear_later(node, vec![Message::Input(ended)]);
    }

    /// Attempts changed the status of a destination.
    fn status_changed(&mut self, node: usize, destination: DestinationId, status: DestinationStatus) {
        self.note(|| format!("{destination} is {}", status.name()));
        self.report.statuses.count(status);
        let addresses =
            |it: &hookfast_engine::topology::Destination| !it.notification_email_addresses.is_empty();
        if self
            .topology()
            .destinations
            .get(&destination)
            .is_some_and(addresses)
        {
            self.ledger.owes_notice(destination, status);
        }
        self.refresh(node);
    }

    pub(crate) fn policy_of(&self, destination: DestinationId) -> Policy {
        policy_of(&self.topology(), destination)
    }

    /// The node that changed the topology makes a new snapshot at once, the others hear of it.
    pub(crate) fn refresh(&mut self, node: usize) {
        self.topology_may_have_changed();
        self.refresh_own(node);
        for other in (0..self.nodes.len()).filter(|other| *other != node) {
            let at = self.now.plus(self.chance.millis(0, 5_000));
            self.plan_of(other, at, Doing::Refresh);
        }
    }

    fn refresh_own(&mut self, node: usize) {
        if let Some(process) = &mut self.nodes[node].process {
            process.topology = process.opened.topology();
            let at = self.now.plus(self.chance.millis(0, 3));
            self.plan_of(node, at, Doing::TakeSnapshot);
        }
    }

    /// How these destinations stand, as the node's store says at its time.
    fn standings(&self, node: usize, destinations: Vec<DestinationId>) -> Vec<Standing> {
        let time = self.nodes[node].time(self.now);
        let Some(opened) = self.opened(node) else {
            return Vec::new();
        };
        let standings = opened.look(move |store| store.standings(destinations, time));
        standings.unwrap_or_default()
    }

    /// Reports what waits for the destinations that are open.
    fn look_everywhere(&mut self, node: usize) {
        let Some(process) = &self.nodes[node].process else {
            return;
        };
        let open = process.open.iter().copied().collect();
        let standings = self.standings(node, open).into_iter();
        let waiting = standings.filter_map(|standing| {
            let destination = standing.destination;
            let due_at = standing.next_due?;
            Some(Message::Input(Input::Waiting { destination, due_at }))
        });
        self.hear_later(node, waiting.collect());
    }

    /// Tells the dispatcher which destinations take deliveries by push now. It learns how those stand that were open
    /// before from their attempts; of the others the store knows it.
    fn take_snapshot(&mut self, node: usize) {
        let Some(process) = &self.nodes[node].process else {
            return;
        };
        let topology = process.topology.clone();
        let all = topology.destinations.values();
        let push = all.filter(|it| it.is_open() && matches!(it.kind, DestinationKind::Push { .. }));
        let push: Vec<_> = push.collect();
        let new = push
            .iter()
            .map(|it| it.id)
            .filter(|id| !process.open.contains(id));
        let standings = self.standings(node, new.collect());
        let limits = Standing::limits(push, standings);
        if let Some(process) = &mut self.nodes[node].process {
            process.open = limits.iter().map(|limits| limits.destination).collect();
        }
        self.handle(node, Input::Destinations(limits));
    }

    /// Where several nodes share a store, a look for its own sake takes over what a dead one left. One node alone must
    /// do without: nothing may depend on being reminded.
    fn upkeep(&mut self, node: usize) {
        if self.nodes.len() > 1 {
            self.heartbeat(node);
            self.refresh_own(node);
            if let Some(process) = &mut self.nodes[node].process {
                process.post(Message::LookEverywhere);
            }
        }
        let at = self.now.plus(self.upkeep_every());
        self.plan_of(node, at, Doing::Upkeep);
    }

    fn prune(&mut self, node: usize) {
        let (time, retention) = (self.nodes[node].time(self.now), self.scenario.retention);
        let pruned = self.write(node, |store| store.prune(time, retention, PRUNE_STEP));
        let more = matches!(pruned, Some(Ok(pruned)) if pruned.more);
        let after = if more { RETRY } else { self.upkeep_every() * 10 };
        self.plan_of(node, self.now.plus(after), Doing::Prune);
    }

    fn step_replays(&mut self, node: usize) {
        for id in self.replays.clone() {
            let time = self.nodes[node].time(self.now);
            match self.write(node, |store| store.step_replay(id, time, REPLAY_STEP)) {
                Some(Ok(Some(replay))) if replay.state == ReplayState::Running => {}
                Some(Ok(_)) => _ = self.replays.remove(&id),
                Some(Err(_)) => {}
                None => return,
            }
        }
        if !self.replays.is_empty() {
            self.plan_of(node, self.now.plus(RETRY), Doing::StepReplays);
        }
    }
}

fn due_at(verdict: Verdict) -> Option<Timestamp> {
    match verdict {
        Verdict::RetryAt(at) => Some(at),
        Verdict::Delivered | Verdict::Rejected | Verdict::Dead => None,
    }
}

/// The policy of a destination.
pub(crate) fn policy_of(topology: &Topology, destination: DestinationId) -> Policy {
    let destination = topology.destinations.get(&destination);
    destination
        .and_then(|it| topology.policy(&it.policy))
        .unwrap_or_else(Policy::inbox)
}

/// What is recorded of an attempt's end.
pub(crate) fn attempt_end(
    delivery: &ClaimedDelivery,
    now: Timestamp,
    started_at: Timestamp,
    duration: Duration,
    outcome: &Outcome,
) -> AttemptEnd {
    AttemptEnd {
        delivery: delivery.id,
        token: delivery.attempt,
        now,
        attempt: Attempt {
            number: delivery.attempt,
            started_at,
            duration,
            outcome: outcome.clone(),
            error: None,
            response_headers: HeaderBlock::default(),
            response_body: bytes::Bytes::new(),
        },
    }
}
