//! The world of one seed: its clock and its agenda.
//!
//! Owns virtual time, the order in which things happen, and the calls to the store with the faults that meet them.
//! Every decision about a delivery is made by the engine and the store. What the nodes, senders, destinations,
//! workers and people do stands in files of its own.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::time::Duration;

use hookfast_engine::id::{ApplicationId, DeliveryId, DestinationId, QuarantineId, ReplayId, SourceId};
use hookfast_engine::outcome::Outcome;
use hookfast_engine::time::Timestamp;
use hookfast_engine::{dispatch, topology::Topology};
use hookfast_store::memory::Fault;
use hookfast_store::{ClaimedDelivery, Store, StoreError, Unavailable};

use crate::chance::Chance;
use crate::destination::{Behaviour, Reply};
use crate::faults::Kind;
use crate::ledger::{ClaimedAt, Kept, Ledger};
use crate::node::{Message, Node};
use crate::people::Act;
use crate::scenario::Scenario;
use crate::sender::Notification;
use crate::storage::{Calling, Opened, Storage};
use crate::worker::Worker;
use crate::{Report, START, Watch};

/// A run that takes more steps than this goes round in circles.
const STEPS: u64 = 3_000_000;

/// What is on the agenda.
#[derive(Clone, Debug)]
pub(crate) enum Plan {
    /// A sender posts its notification for the n-th time.
    Send {
        key: u64,
        time: u32,
    },
    /// Somebody who has no secret posts.
    Forge {
        key: u64,
    },
    /// A request ends, and its attempt where its process is still alive.
    AttemptEnds(Box<UnderWay>),
    /// A settlement is tried again.
    SettleAgain(Box<UnderWay>),
    /// What follows is of one life of one node.
    Of {
        node: usize,
        life: u64,
        what: Doing,
    },
    Restart {
        node: usize,
    },
    Crash {
        node: usize,
    },
    Step {
        node: usize,
        micros: i64,
    },
    Behave {
        destination: DestinationId,
    },
    /// A destination fails all it is sent from now on.
    Outage {
        destination: DestinationId,
    },
    Person(Act),
    Mail,
    Pull {
        worker: usize,
    },
    WorkerEnds {
        worker: usize,
        delivery: Box<ClaimedDelivery>,
        started: Timestamp,
        outcome: Outcome,
    },
    FaultsEnd,
    Glance,
}

/// What a node's process is about to do.
#[derive(Clone, Debug)]
pub(crate) enum Doing {
    Wake,
    /// A claim reaches the store.
    Claim {
        destination: DestinationId,
        claim: dispatch::Claim,
    },
    /// What the store answered reaches the driver.
    Hear(Vec<Message>),
    /// The driver takes in a new snapshot of the topology.
    TakeSnapshot,
    /// The snapshot is made anew, and everything is looked at.
    Upkeep,
    Refresh,
    Prune,
    StepReplays,
}

/// An attempt that is under way.
#[derive(Clone, Debug)]
pub(crate) struct UnderWay {
    pub(crate) node: usize,
    pub(crate) life: u64,
    pub(crate) delivery: ClaimedDelivery,
    pub(crate) started: Timestamp,
    pub(crate) reply: Reply,
}

pub(crate) struct World {
    pub(crate) now: Timestamp,
    pub(crate) chance: Chance,
    pub(crate) scenario: Scenario,
    agenda: BinaryHeap<Reverse<(Timestamp, u64)>>,
    plans: BTreeMap<u64, Plan>,
    next_plan: u64,
    pub(crate) storage: Storage,
    pub(crate) nodes: Vec<Node>,
    pub(crate) application: ApplicationId,
    pub(crate) source: SourceId,
    pub(crate) behaviours: BTreeMap<DestinationId, Behaviour>,
    /// Destinations that are down until the faults end.
    pub(crate) outages: BTreeSet<DestinationId>,
    pub(crate) notifications: BTreeMap<u64, Notification>,
    /// Posts that are on the agenda.
    pub(crate) posts_planned: u64,
    /// What was kept in quarantine: its key, and whether it was forged.
    pub(crate) quarantined: BTreeMap<QuarantineId, (u64, bool)>,
    pub(crate) workers: Vec<Worker>,
    /// When each claim that is under way was made.
    pub(crate) claims: BTreeMap<(DeliveryId, u32), ClaimedAt>,
    /// Deliveries of destinations that are pulled from.
    pub(crate) pulled: BTreeSet<DeliveryId>,
    pub(crate) replays: BTreeSet<ReplayId>,
    pub(crate) replayed_to: BTreeSet<DestinationId>,
    pub(crate) ledger: Ledger,
    pub(crate) faults_on: bool,
    /// How far a clock stepped in all: what is due by it may come so much later or earlier.
    pub(crate) stepped: Duration,
    pub(crate) ended: bool,
    watch: Watch,
    pub(crate) report: Report,
}

impl World {
    pub(crate) fn new(seed: u64, watch: Watch) -> std::io::Result<Self> {
        let mut chance = Chance::new(seed);
        let scenario = Scenario::draw(&mut chance);
        let one_node = scenario.store.nodes() == 1;
        let nodes = scenario.clocks.iter().map(|ahead| Node {
            life: 0,
            process: None,
            ahead: *ahead,
        });
        let mut world = Self {
            now: START,
            agenda: BinaryHeap::new(),
            plans: BTreeMap::new(),
            next_plan: 0,
            storage: Storage::new(scenario.store)?,
            nodes: nodes.collect(),
            application: ApplicationId::new(START, 1),
            source: SourceId::new(START, 2),
            behaviours: BTreeMap::new(),
            outages: BTreeSet::new(),
            notifications: BTreeMap::new(),
            posts_planned: 0,
            quarantined: BTreeMap::new(),
            workers: Vec::new(),
            claims: BTreeMap::new(),
            pulled: BTreeSet::new(),
            replays: BTreeSet::new(),
            replayed_to: BTreeSet::new(),
            ledger: Ledger::new(one_node, scenario.mix.clock_steps > 0, scenario.dedupe_window),
            faults_on: false,
            stepped: Duration::ZERO,
            ended: false,
            watch,
            report: Report::default(),
            chance,
            scenario,
        };
        world.set_up();
        Ok(world)
    }

    /// Plays the run out and reports.
    pub(crate) fn run(mut self) -> Report {
        for step in 0.. {
            let Some(Reverse((at, number))) = self.agenda.pop() else {
                break;
            };
            if self.ended || self.report.failure.is_some() {
                break;
            }
            if step > STEPS {
                self.fail(format!("still busy after {STEPS} steps"));
                break;
            }
            self.now = self.now.max(at);
            if let Some(plan) = self.plans.remove(&number) {
                self.carry_out(plan);
                (0..self.nodes.len()).for_each(|node| self.pump(node));
            }
        }
        self.report.virtual_micros = self.now.since(START).as_micros() as u64;
        self.report.events = self.ledger.acknowledged;
        self.report.attempts = self.ledger.attempts;
        self.report
    }

    pub(crate) fn fail(&mut self, failure: String) {
        self.note(|| format!("BROKEN: {failure}"));
        self.report.failure.get_or_insert(failure);
    }

    /// Notes what a judge found.
    pub(crate) fn judge(&mut self, kept: Kept) {
        if let Err(broken) = kept {
            self.fail(broken);
        }
    }

    pub(crate) fn note(&mut self, text: impl FnOnce() -> String) {
        if self.watch == Watch::Nothing {
            return;
        }
        let micros = self.now.since(START).as_micros();
        let line = format!("{:>10}.{:06} {}", micros / 1_000_000, micros % 1_000_000, text());
        self.report.hash(&line);
        if self.watch == Watch::Lines {
            self.report.trace.push(line);
        }
    }

    pub(crate) fn plan(&mut self, at: Timestamp, plan: Plan) {
        self.next_plan += 1;
        self.plans.insert(self.next_plan, plan);
        self.agenda.push(Reverse((at, self.next_plan)));
    }

    pub(crate) fn plan_in(&mut self, low_millis: u64, high_millis: u64, plan: Plan) {
        let at = self.now.plus(self.chance.millis(low_millis, high_millis));
        self.plan(at, plan);
    }

    /// Plans something for the present life of a node.
    pub(crate) fn plan_of(&mut self, node: usize, at: Timestamp, what: Doing) {
        let life = self.nodes[node].life;
        self.plan(at, Plan::Of { node, life, what });
    }

    pub(crate) fn count(&mut self, kind: Kind) {
        self.report.faults.count(kind);
    }

    fn carry_out(&mut self, plan: Plan) {
        match plan {
            Plan::Send { key, time } => self.send(key, time),
            Plan::Forge { key } => self.forge(key),
            Plan::AttemptEnds(ended) => self.attempt_ends(*ended),
            Plan::SettleAgain(ended) => self.settle(*ended),
            Plan::Of { node, life, what } if self.is_alive(node, life) => self.go_on(node, what),
            Plan::Of { .. } => {}
            Plan::Restart { node } => self.start(node),
            Plan::Crash { node } => self.crash(node),
            Plan::Step { node, micros } => self.step_clock(node, micros),
            Plan::Behave { destination } => self.behave(destination),
            Plan::Outage { destination } => self.outage(destination),
            Plan::Person(act) => self.act(act),
            Plan::Mail => self.mail(),
            Plan::Pull { worker } => self.pull(worker),
            Plan::WorkerEnds {
                worker,
                delivery,
                started,
                outcome,
            } => {
                self.worker_ends(worker, *delivery, started, outcome);
            }
            Plan::FaultsEnd => self.end_faults(),
            Plan::Glance => self.glance(),
        }
    }

    pub(crate) fn is_alive(&self, node: usize, life: u64) -> bool {
        let node = &self.nodes[node];
        node.life == life && node.process.is_some()
    }

    /// One of the nodes that are alive.
    pub(crate) fn some_node(&mut self) -> Option<usize> {
        let alive = |node: &usize| self.nodes[*node].process.is_some();
        let alive: Vec<usize> = (0..self.nodes.len()).filter(alive).collect();
        (!alive.is_empty()).then(|| self.chance.pick(&alive))
    }

    pub(crate) fn opened(&self, node: usize) -> Option<Opened> {
        self.nodes[node]
            .process
            .as_ref()
            .map(|process| process.opened.clone())
    }

    pub(crate) fn topology(&self) -> std::sync::Arc<Topology> {
        self.storage.topology()
    }

    /// Makes a call that writes, with whatever fault meets it. None where the caller's process died before it heard.
    pub(crate) fn write<T>(
        &mut self,
        node: usize,
        call: impl for<'a> FnOnce(&'a dyn Store) -> Calling<'a, hookfast_store::Result<T>>,
    ) -> Option<hookfast_store::Result<T>> {
        let opened = self.opened(node)?;
        let fault = self.draw_fault();
        if let Some(kind) = fault {
            self.count(kind);
            self.note(|| format!("node {node} meets: {}", kind.words()));
        }
        if fault == Some(Kind::DeathBeforeCall) {
            self.die(node);
            return None;
        }
        let given = faulty(&opened, fault, call);
        self.hear_store(node);
        if fault == Some(Kind::DeathAfterCall) {
            self.die(node);
            return None;
        }
        match &given {
            Err(
                StoreError::Unknown { .. } | StoreError::Corrupt { .. } | StoreError::Incompatible { .. },
            ) => {
                self.die(node);
            }
            Ok(_) | Err(StoreError::Unavailable { .. } | StoreError::Refused { .. }) => {}
        }
        Some(given)
    }

    /// The fault that meets the next call.
    fn draw_fault(&mut self) -> Option<Kind> {
        if !self.faults_on {
            return None;
        }
        let mix = self.scenario.mix;
        let kinds = [
            (mix.death_before, Kind::DeathBeforeCall),
            (mix.death_after, Kind::DeathAfterCall),
            (mix.refused, Kind::Refused),
            (mix.sync_failed, Kind::SyncLost),
            (mix.sync_failed, Kind::SyncKept),
        ];
        let mut drawn = self.chance.between(0, 9_999);
        kinds.into_iter().find_map(|(often, kind)| {
            let strikes = drawn < often;
            drawn = drawn.saturating_sub(often);
            strikes.then_some(kind)
        })
    }

    /// Takes in what the store told the node's delivery side.
    pub(crate) fn hear_store(&mut self, node: usize) {
        let Some(process) = &mut self.nodes[node].process else {
            return;
        };
        let told = process.side.take_told();
        process.inbox.extend(told.iter().cloned());
        let time = self.nodes[node].time(self.now);
        for message in &told {
            match message {
                Message::Attempt(claimed) => {
                    claimed.iter().for_each(|each| self.note_claim(time, each, false))
                }
                Message::Input(_) | Message::LookEverywhere => {}
            }
        }
    }

    /// Tells the ledger of a claim.
    pub(crate) fn note_claim(&mut self, time: Timestamp, delivery: &ClaimedDelivery, pulled: bool) {
        let claim = ClaimedAt { at: self.now, time };
        self.note(|| {
            format!(
                "attempt {} of {} to {} is claimed until {:?}",
                delivery.attempt, delivery.id, delivery.destination, delivery.lease_until
            )
        });
        self.claims.insert((delivery.id, delivery.attempt), claim);
        if pulled {
            self.pulled.insert(delivery.id);
        }
        let kept = self.ledger.claimed(claim, delivery, pulled);
        self.judge(kept);
    }
}

/// Makes a call that a fault of the store may meet.
fn faulty<T>(
    opened: &Opened,
    fault: Option<Kind>,
    call: impl for<'a> FnOnce(&'a dyn Store) -> Calling<'a, hookfast_store::Result<T>>,
) -> hookfast_store::Result<T> {
    let of_memory = match fault {
        Some(Kind::Refused) => Fault::Refuse(Unavailable::Full),
        Some(Kind::SyncLost) => Fault::Lose,
        Some(Kind::SyncKept) => Fault::Keep,
        Some(_) | None => return opened.call(call),
    };
    let unknown = || StoreError::Unknown {
        detail: "a sync failed because the simulator asked for it".to_owned(),
    };
    match (opened, of_memory) {
        (Opened::Memory(store), fault) => {
            store.fail_next(fault, 1);
            opened.call(call)
        }
        (Opened::Embedded(..), Fault::Refuse(reason)) => Err(StoreError::Unavailable {
            reason,
            retry_after: Duration::from_secs(1),
        }),
        (Opened::Embedded(..), Fault::Lose) => Err(unknown()),
        (Opened::Embedded(..), Fault::Keep) => opened.call(call).and_then(|_| Err(unknown())),
    }
}
