//! The world of one seed.
//!
//! Owns the clock, the agenda, the senders, the destinations' behaviour and the faults. Every decision about
//! a delivery is made by the engine and the store; the world carries out and keeps the ledger.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use hookfast_engine::dispatch::{self, DestinationLimits, Effect, End, EndResult, Input, Limits};
use hookfast_engine::event::{Event, HeaderBlock};
use hookfast_engine::id::{ApplicationId, DestinationId, EventId, SourceId};
use hookfast_engine::outcome::{Failure, Outcome};
use hookfast_engine::retry::{Meaning, Policy, Verdict, meaning};
use hookfast_engine::time::Timestamp;
use hookfast_engine::topology::{
    Application, DedupeKey, Destination, DestinationKind, DestinationStatus, OnInvalid, Origin, Source,
    TopologyChange, Verify,
};
use hookfast_store::memory::{Fault, MemoryStore};
use hookfast_store::{
    Appended, Attempt, AttemptEnd, Claim, ClaimedDelivery, Dedupe, NewEvent, Settled, Store, StoreError,
    Unavailable,
};

use crate::chance::Chance;
use crate::ledger::Ledger;
use crate::node::{Message, Node};
use crate::{Report, START};

/// How long faults happen.
const SAFETY: Duration = Duration::from_secs(1_800);
/// How long after the last fault everything owed may take: the longest retry delay, its jitter, and room.
const LIVENESS: Duration = Duration::from_secs(3_600);
/// A run that takes more steps than this goes round in circles.
const STEPS: u64 = 2_000_000;

/// What is on the agenda.
#[derive(Clone, Debug)]
enum Plan {
    /// A sender posts the notification with this key, for the n-th time.
    Send {
        key: u64,
        time: u32,
    },
    /// An attempt ends like this, unless its process died.
    AttemptEnds {
        life: u64,
        delivery: Box<ClaimedDelivery>,
        started: Timestamp,
        outcome: Outcome,
    },
    /// A settlement is tried again.
    SettleAgain {
        life: u64,
        delivery: Box<ClaimedDelivery>,
        started: Timestamp,
        outcome: Outcome,
    },
    Wake {
        life: u64,
    },
    /// A claim reaches the store.
    Claim {
        life: u64,
        destination: DestinationId,
        claim: dispatch::Claim,
    },
    /// What the store answered reaches the driver.
    Report {
        life: u64,
        messages: Vec<Message>,
    },
    Crash,
    StoreFault(Fault),
    Pause {
        destination: DestinationId,
        paused: bool,
    },
    Behave {
        destination: DestinationId,
    },
    FaultsEnd,
}

/// How a destination behaves at present.
#[derive(Clone, Copy, Debug)]
enum Behaviour {
    Well,
    Slow,
    Down,
    Flapping,
    Hanging,
}

struct Simulated {
    destination: Destination,
    behaviour: Behaviour,
}

/// What faults this seed draws, in percent or as counts.
struct Mix {
    crashes: u64,
    store_faults: u64,
    pauses: u64,
    behaviours: u64,
    /// A sender repeats what was taken, so often.
    repeats_percent: u64,
    /// A 200 is lost on its way, so often.
    lost_answers_percent: u64,
}

pub(crate) struct World {
    now: Timestamp,
    chance: Chance,
    mix: Mix,
    agenda: BinaryHeap<Reverse<(Timestamp, u64)>>,
    plans: BTreeMap<u64, Plan>,
    next_plan: u64,
    node: Arc<Node>,
    store: Arc<MemoryStore>,
    /// Grows with every restart: what belongs to an earlier life is void.
    life: u64,
    application: ApplicationId,
    source: SourceId,
    destinations: BTreeMap<DestinationId, Simulated>,
    ledger: Ledger,
    faults_on: bool,
    trace: bool,
    report: Report,
}

impl World {
    pub(crate) fn new(seed: u64, trace: bool) -> Self {
        let mut chance = Chance::new(seed);
        let mix = Mix {
            crashes: chance.pick(&[0, 0, 3, 20]),
            store_faults: chance.pick(&[0, 5, 30]),
            pauses: chance.pick(&[0, 0, 4]),
            behaviours: chance.pick(&[0, 5, 40]),
            repeats_percent: chance.pick(&[0, 10, 50]),
            lost_answers_percent: chance.pick(&[0, 5]),
        };
        let node = Node::new(limits());
        let store = MemoryStore::new(node.clone());
        let mut world = Self {
            now: START,
            chance,
            mix,
            agenda: BinaryHeap::new(),
            plans: BTreeMap::new(),
            next_plan: 0,
            node,
            store,
            life: 0,
            application: ApplicationId::from_u128(1),
            source: SourceId::from_u128(2),
            destinations: BTreeMap::new(),
            ledger: Ledger::default(),
            faults_on: true,
            trace,
            report: Report::default(),
        };
        world.set_up();
        world
    }

    /// Plays the run out and reports.
    pub(crate) fn run(mut self) -> Report {
        let end = START.plus(SAFETY + LIVENESS);
        for _ in 0..STEPS {
            let Some(Reverse((at, number))) = self.agenda.pop() else {
                break;
            };
            if at > end || self.report.failure.is_some() {
                break;
            }
            self.now = self.now.max(at);
            if let Some(plan) = self.plans.remove(&number) {
                self.carry_out(plan);
            }
        }
        self.judge();
        self.report.virtual_micros = self.now.since(START).as_micros() as u64;
        self.report.events = self.ledger.count();
        self.report
    }

    fn judge(&mut self) {
        let destinations: Vec<_> = self.destinations.keys().copied().collect();
        if let Some(owed) = self.ledger.owed(&destinations) {
            self.fail(owed);
        }
        if let Some(broken) = self.store.audit().into_iter().next() {
            self.fail(broken);
        }
        let left = self.node.dispatcher.lock().in_flight();
        if left != 0 {
            self.fail(format!("{left} slots were never given back"));
        }
    }

    fn fail(&mut self, failure: String) {
        self.note(|| format!("BROKEN: {failure}"));
        self.report.failure.get_or_insert(failure);
    }

    fn note(&mut self, text: impl FnOnce() -> String) {
        if self.trace {
            self.report.trace.push(Ledger::line(self.now, &text()));
        }
    }

    fn plan(&mut self, at: Timestamp, plan: Plan) {
        self.next_plan += 1;
        self.plans.insert(self.next_plan, plan);
        self.agenda.push(Reverse((at, self.next_plan)));
    }

    fn set_up(&mut self) {
        let application = Application::new(self.application, "default", START);
        let mut changes = vec![
            TopologyChange::PutApplication(application),
            TopologyChange::PutSource(self.new_source()),
        ];
        for n in 0..self.chance.between(1, 4) {
            let destination = self.new_destination(n);
            changes.push(TopologyChange::PutDestination(destination.clone()));
            let simulated = Simulated {
                destination,
                behaviour: Behaviour::Well,
            };
            self.destinations.insert(simulated.destination.id, simulated);
        }
        if let Err(error) = done(self.store.change_topology(START, "sim".to_owned(), changes)) {
            self.fail(format!("the topology was refused: {error}"));
        }
        self.tell_destinations();
        self.schedule();
        self.pump();
    }

    /// Draws when everything happens.
    fn schedule(&mut self) {
        let events = self.chance.between(20, 400);
        // Either evenly, or in bursts that meet claims under way.
        let burst = self.chance.pick(&[1, 10, 60]);
        let mut begins = START;
        for key in 1..=events {
            if key % burst == 0 {
                begins = self.some_time();
            }
            let at = begins.plus(self.chance.millis(0, 30));
            self.plan(at, Plan::Send { key, time: 1 });
        }
        let ids: Vec<_> = self.destinations.keys().copied().collect();
        for _ in 0..self.mix.crashes {
            let at = self.some_time();
            self.plan(at, Plan::Crash);
        }
        for _ in 0..self.mix.store_faults {
            let fault = self.chance.pick(&[
                Fault::Refuse(Unavailable::Full),
                Fault::Refuse(Unavailable::LaneFull),
                Fault::Lose,
                Fault::Keep,
            ]);
            let at = self.some_time();
            self.plan(at, Plan::StoreFault(fault));
        }
        for _ in 0..self.mix.behaviours {
            let (at, destination) = (self.some_time(), self.chance.pick(&ids));
            self.plan(at, Plan::Behave { destination });
        }
        for _ in 0..self.mix.pauses {
            let (at, destination) = (self.some_time(), self.chance.pick(&ids));
            self.plan(
                at,
                Plan::Pause {
                    destination,
                    paused: true,
                },
            );
            let until = at.plus(self.chance.millis(1_000, 300_000));
            self.plan(
                until,
                Plan::Pause {
                    destination,
                    paused: false,
                },
            );
        }
        self.plan(START.plus(SAFETY), Plan::FaultsEnd);
    }

    fn some_time(&mut self) -> Timestamp {
        START.plus(self.chance.millis(0, SAFETY.as_millis() as u64))
    }

    fn carry_out(&mut self, plan: Plan) {
        match plan {
            Plan::Send { key, time } => self.send(key, time),
            Plan::AttemptEnds {
                life,
                delivery,
                started,
                outcome,
            } if life == self.life => {
                self.attempt_ends(*delivery, started, outcome);
            }
            Plan::SettleAgain {
                life,
                delivery,
                started,
                outcome,
            } if life == self.life => {
                self.settle(*delivery, started, outcome);
            }
            Plan::Wake { life } if life == self.life => self.node.post(Message::Input(Input::Wake)),
            Plan::Claim {
                life,
                destination,
                claim,
            } if life == self.life => self.claim(destination, claim),
            Plan::Report { life, messages } if life == self.life => {
                messages.into_iter().for_each(|message| self.node.post(message));
            }
            Plan::AttemptEnds { .. }
            | Plan::SettleAgain { .. }
            | Plan::Wake { .. }
            | Plan::Claim { .. }
            | Plan::Report { .. } => {}
            Plan::Crash => self.crash("a crash"),
            Plan::StoreFault(fault) => {
                self.report.faults += 1;
                self.store.fail_next(fault, 1);
            }
            Plan::Pause { destination, paused } => self.pause(destination, paused),
            Plan::Behave { destination } => self.behave(destination),
            Plan::FaultsEnd => self.end_faults(),
        }
        self.pump();
    }

    /// A provider posts; without a 200 it posts again later.
    fn send(&mut self, key: u64, time: u32) {
        self.ledger.sent(key);
        let new = self.new_event(key);
        let answered = done(self.store.append(new));
        self.note(|| format!("key {key} sent for the {time}. time: {answered:?}"));
        let lost = self.faults_on && self.chance.percent(self.mix.lost_answers_percent);
        match answered {
            Ok(Appended::Accepted { .. } | Appended::Repeat { .. }) if !lost => {
                self.ledger.acknowledged(key);
                if time < 5 && self.chance.percent(self.mix.repeats_percent) {
                    let at = self.now.plus(self.chance.millis(0, 60_000));
                    self.plan(at, Plan::Send { key, time: time + 1 });
                }
            }
            other => {
                self.report.faults += 1;
                let at = self.now.plus(self.chance.millis(1_000, 60_000));
                self.plan(at, Plan::Send { key, time: time + 1 });
                self.restart_if_broken(other.err());
            }
        }
    }

    /// A broken store means that the process stops and starts again.
    fn restart_if_broken(&mut self, error: Option<StoreError>) {
        if matches!(error, Some(StoreError::Unknown { .. })) {
            self.crash("a failed sync");
        }
    }

    fn crash(&mut self, cause: &str) {
        self.note(|| format!("{cause}: the process dies and starts again"));
        self.report.faults += 1;
        self.life += 1;
        self.ledger.crashed();
        self.node = Node::new(limits());
        self.store = self.store.crash(self.node.clone(), self.now);
        self.tell_destinations();
    }

    fn tell_destinations(&mut self) {
        let open = self
            .destinations
            .values()
            .filter(|each| each.destination.is_open());
        let open: BTreeMap<_, _> = open
            .map(|each| (each.destination.id, &each.destination))
            .collect();
        let standings = done(self.store.standings(open.keys().copied().collect(), self.now));
        let limits = standings.into_iter().flatten().filter_map(|standing| {
            let destination = open.get(&standing.destination)?;
            Some(DestinationLimits {
                destination: destination.id,
                concurrency: destination.concurrency,
                rate: destination.rate_limit,
                gate: standing.gate,
                next_due: standing.next_due,
            })
        });
        self.node
            .post(Message::Input(Input::Destinations(limits.collect())));
    }

    fn pause(&mut self, id: DestinationId, paused: bool) {
        let Some(simulated) = self.destinations.get_mut(&id) else {
            return;
        };
        let mut changed = simulated.destination.clone();
        changed.status = if paused {
            DestinationStatus::Paused
        } else {
            DestinationStatus::Active
        };
        let change = vec![TopologyChange::PutDestination(changed.clone())];
        match done(self.store.change_topology(self.now, "sim".to_owned(), change)) {
            Ok(_) => {
                simulated.destination = changed;
                self.ledger.suspend(id, paused);
                self.note(|| format!("{id} paused: {paused}"));
                self.tell_destinations();
            }
            Err(error) => {
                let at = self.now.plus(Duration::from_secs(1));
                self.plan(
                    at,
                    Plan::Pause {
                        destination: id,
                        paused,
                    },
                );
                self.restart_if_broken(Some(error));
            }
        }
    }

    fn behave(&mut self, id: DestinationId) {
        let choices = [
            Behaviour::Well,
            Behaviour::Slow,
            Behaviour::Down,
            Behaviour::Flapping,
            Behaviour::Hanging,
        ];
        let behaviour = if self.faults_on {
            self.chance.pick(&choices)
        } else {
            Behaviour::Well
        };
        self.note(|| format!("{id} is now {behaviour:?}"));
        if let Some(simulated) = self.destinations.get_mut(&id) {
            simulated.behaviour = behaviour;
        }
    }

    fn end_faults(&mut self) {
        self.note(|| "faults end".to_owned());
        self.faults_on = false;
        let ids: Vec<_> = self.destinations.keys().copied().collect();
        for id in ids {
            self.behave(id);
            self.pause(id, false);
        }
    }

    /// Lets the node's driver take everything that reached it.
    fn pump(&mut self) {
        while let Some(message) = self.node.next() {
            match message {
                Message::Input(input) => self.handle(input),
                Message::Attempt(claimed) => claimed.into_iter().for_each(|delivery| self.attempt(delivery)),
            }
            if self.report.failure.is_some() {
                return;
            }
        }
        let wake_at = self.node.dispatcher.lock().wake_at();
        if let Some(wake_at) = wake_at {
            let life = self.life;
            self.plan(
                wake_at.max(self.now.plus(Duration::from_micros(1))),
                Plan::Wake { life },
            );
        }
    }

    fn handle(&mut self, input: Input) {
        let mut effects = Vec::new();
        self.node.dispatcher.lock().handle(self.now, input, &mut effects);
        for Effect::Claim { destination, claim } in effects {
            let (life, at) = (self.life, self.now.plus(self.chance.millis(0, 3)));
            self.plan(
                at,
                Plan::Claim {
                    life,
                    destination,
                    claim,
                },
            );
        }
    }

    fn claim(&mut self, destination: DestinationId, claim: dispatch::Claim) {
        let wanted = Claim {
            destination,
            now: self.now,
            due_from: claim.due_from,
            limit: claim.limit,
            bytes: claim.bytes,
            lease: Duration::from_secs(60),
        };
        match done(self.store.claim(wanted)) {
            Ok(claimed) => {
                let taken = claimed.deliveries.iter();
                let deliveries = taken
                    .map(|each| (each.event.body.len(), each.event.accepted_at))
                    .collect();
                let next_due = claimed.next_due;
                let taken = Message::Input(Input::Claimed {
                    destination,
                    claim,
                    deliveries,
                    next_due,
                });
                self.tell_later(vec![taken, Message::Attempt(claimed.deliveries)]);
            }
            Err(error) => {
                let retry_at = self.now.plus(Duration::from_secs(1));
                self.node.post(Message::Input(Input::ClaimFailed {
                    destination,
                    claim,
                    retry_at,
                }));
                self.restart_if_broken(Some(error));
            }
        }
    }

    /// The store has answered; the driver hears of it a little later.
    fn tell_later(&mut self, messages: Vec<Message>) {
        let (life, at) = (self.life, self.now.plus(self.chance.millis(0, 3)));
        self.plan(at, Plan::Report { life, messages });
    }

    fn attempt(&mut self, delivery: ClaimedDelivery) {
        let Some(simulated) = self.destinations.get(&delivery.destination) else {
            return;
        };
        if !simulated.destination.is_open() {
            // As the server does: what was claimed before a pause is given back untried.
            return self.settle(delivery, self.now, Outcome::Released);
        }
        let (concurrency, behaviour) = (simulated.destination.concurrency, simulated.behaviour);
        if let Err(broken) = self.ledger.attempt_begins(delivery.destination, concurrency) {
            return self.fail(broken);
        }
        self.report.attempts += 1;
        let (latency, outcome) = self.answer(behaviour);
        self.note(|| {
            format!(
                "attempt {} of {} to {} will end {outcome:?}",
                delivery.attempt, delivery.id, delivery.destination
            )
        });
        let (life, started) = (self.life, self.now);
        let ends = Plan::AttemptEnds {
            life,
            delivery: Box::new(delivery),
            started,
            outcome,
        };
        self.plan(self.now.plus(latency), ends);
    }

    fn answer(&mut self, behaviour: Behaviour) -> (Duration, Outcome) {
        let answered = |status| Outcome::Answered {
            status,
            retry_after: None,
        };
        match behaviour {
            Behaviour::Well => (self.chance.millis(1, 50), answered(200)),
            Behaviour::Slow => (self.chance.millis(1_000, 20_000), answered(200)),
            Behaviour::Down => (
                self.chance.millis(0, 5),
                Outcome::Unreachable {
                    failure: Failure::ConnectionRefused,
                },
            ),
            Behaviour::Flapping => {
                let status = self.chance.pick(&[200, 200, 500, 502, 503]);
                (self.chance.millis(1, 200), answered(status))
            }
            Behaviour::Hanging => (Duration::from_secs(30), Outcome::TimedOut),
        }
    }

    /// The destination has seen it, whatever is recorded of it afterwards.
    fn attempt_ends(&mut self, delivery: ClaimedDelivery, started: Timestamp, outcome: Outcome) {
        self.ledger.attempt_ends(delivery.destination);
        if meaning(&Policy::inbox(), &outcome) == Meaning::Success {
            let key = delivery
                .event
                .provider_id
                .as_ref()
                .and_then(|id| id.parse().ok())
                .unwrap_or(0);
            if let Err(broken) = self.ledger.arrived(delivery.destination, key, delivery.event.id) {
                return self.fail(broken);
            }
        }
        self.settle(delivery, started, outcome);
    }

    fn settle(&mut self, delivery: ClaimedDelivery, started: Timestamp, outcome: Outcome) {
        let end = AttemptEnd {
            delivery: delivery.id,
            token: delivery.attempt,
            now: self.now,
            attempt: Attempt {
                number: delivery.attempt,
                started_at: started,
                duration: self.now.since(started),
                outcome: outcome.clone(),
                error: None,
                response_headers: HeaderBlock::default(),
                response_body: Bytes::new(),
            },
        };
        let settled = match done(self.store.settle(end)) {
            Ok(settled) => settled,
            Err(StoreError::Unavailable { .. }) => {
                let (life, at) = (self.life, self.now.plus(Duration::from_secs(1)));
                return self.plan(
                    at,
                    Plan::SettleAgain {
                        life,
                        delivery: Box::new(delivery),
                        started,
                        outcome,
                    },
                );
            }
            Err(error) => return self.restart_if_broken(Some(error)),
        };
        let (gate, due_at) = match settled {
            Settled::Moved {
                verdict: Verdict::RetryAt(at),
                gate,
                ..
            } => (Some(gate), Some(at)),
            Settled::Moved { gate, .. } => (Some(gate), None),
            Settled::Stale => (None, None),
        };
        let result = EndResult::of(&Policy::inbox(), &outcome);
        let ended = Input::Ended {
            destination: delivery.destination,
            bytes: delivery.event.body.len(),
            accepted_at: delivery.event.accepted_at,
            end: End {
                result,
                latency: self.now.since(started),
                gate,
                due_at,
            },
        };
        self.tell_later(vec![Message::Input(ended)]);
    }

    fn new_event(&mut self, key: u64) -> NewEvent {
        let event = Event {
            id: EventId::new(
                self.now,
                (u128::from(self.chance.next()) << 64) | u128::from(self.chance.next()),
            ),
            application: self.application,
            source: self.source,
            provider_id: Some(key.to_string()),
            event_type: Some("message.created".to_owned()),
            occurred_at: None,
            accepted_at: self.now,
            headers: HeaderBlock::default(),
            body: Bytes::from(vec![b'x'; 100]),
        };
        let mut hash = [0; 16];
        hash[..8].copy_from_slice(&key.to_be_bytes());
        let expires_at = self.now.plus(Duration::from_secs(7 * 86_400));
        let dedupe = Some(Dedupe {
            key: hash,
            body: [0; 8],
            expires_at,
        });
        NewEvent {
            event: Arc::new(event),
            dedupe,
            lease_margin: Duration::from_secs(30),
        }
    }

    fn new_source(&self) -> Source {
        Source {
            id: self.source,
            application: self.application,
            name: "nylas".to_owned(),
            provider: "nylas".to_owned(),
            verify: Verify::Signature,
            secrets: Vec::new(),
            dedupe_window: Duration::from_secs(7 * 86_400),
            dedupe_key: DedupeKey::Provider,
            on_invalid: OnInvalid::Refuse,
            tolerance: None,
            body_limit: None,
            rate_limit: None,
            scheme: BTreeMap::new(),
            public_url: None,
            origin: Origin::File,
            created_at: START,
            updated_at: START,
        }
    }

    fn new_destination(&mut self, n: u64) -> Destination {
        let id = DestinationId::from_u128(100 + u128::from(n));
        let kind = DestinationKind::Push {
            url: "http://127.0.0.1:3000".to_owned(),
        };
        Destination {
            sources: vec![self.source],
            concurrency: self.chance.pick(&[1, 2, 8, 64]),
            rate_limit: self.chance.pick(&[None, None, None, Some(5)]),
            ..Destination::new(id, self.application, &format!("app-{n}"), kind, START)
        }
    }
}

/// A node has few slots, so that sharing them is exercised.
fn limits() -> Limits {
    Limits {
        attempts: 40,
        bytes: 8 << 20,
    }
}

/// The result of a call to the memory store, which never waits.
fn done<T>(call: impl Future<Output = T>) -> T {
    match call.now_or_never() {
        Some(result) => result,
        None => panic!("the memory store waited for something"),
    }
}
