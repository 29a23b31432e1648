//! How a world begins.
//!
//! Owns what is set up in it and when everything that was drawn will happen. Must not know what comes of it.

use std::time::Duration;

use hookfast_engine::id::{DestinationId, SourceId};
use hookfast_engine::time::Timestamp;
use hookfast_engine::topology::{Application, Destination, DestinationKind, Origin, Source, TopologyChange};

use crate::START;
use crate::destination::Behaviour;
use crate::faults::Kind;
use crate::people::Act;
use crate::scenario::{Side, Wanted};
use crate::worker::Worker;
use crate::world::{Plan, World};

impl World {
    /// Starts the nodes, sets up the topology without faults, and draws when everything happens.
    pub(crate) fn set_up(&mut self) {
        self.note_scenario();
        (0..self.nodes.len()).for_each(|node| self.start(node));
        let application = Application::new(self.application, "default", START);
        let mut changes = vec![
            TopologyChange::PutApplication(application),
            TopologyChange::PutSource(self.new_source()),
        ];
        for wanted in self.scenario.destinations.clone() {
            let destination = self.new_destination(wanted);
            changes.push(TopologyChange::PutDestination(destination));
        }
        self.put(0, changes);
        self.schedule_traffic();
        self.schedule_faults();
        self.schedule_people();
        self.faults_on = true;
        (0..self.nodes.len()).for_each(|node| self.pump(node));
    }

    fn note_scenario(&mut self) {
        let scenario = self.scenario.clone();
        self.note(|| format!("{scenario:?}"));
        for _ in scenario.clocks.iter().filter(|ahead| **ahead != 0) {
            self.count(Kind::Skew);
        }
    }

    fn schedule_traffic(&mut self) {
        // Either evenly, or in bursts that meet claims under way.
        let mut begins = START;
        for key in 1..=self.scenario.events {
            if key % self.scenario.burst == 0 {
                begins = self.some_time();
            }
            let at = begins.plus(self.chance.millis(0, 30));
            self.new_notification(key, at);
        }
        for _ in 0..if self.scenario.inbox {
            self.scenario.mix.forged
        } else {
            0
        } {
            let (at, key) = (self.some_time(), self.chance.between(1, self.scenario.events));
            self.plan(at, Plan::Forge { key });
        }
        (0..self.workers.len()).for_each(|worker| self.plan(START, Plan::Pull { worker }));
        self.plan(START, Plan::Mail);
        self.plan(START.plus(self.scenario.safety), Plan::FaultsEnd);
    }

    fn schedule_faults(&mut self) {
        let mix = self.scenario.mix;
        for _ in 0..mix.deaths {
            let (at, node) = (
                self.some_time(),
                self.chance.between(0, self.nodes.len() as u64 - 1),
            );
            self.plan(at, Plan::Crash { node: node as usize });
        }
        for _ in 0..mix.clock_steps {
            let at = self.some_time();
            let far = self.chance.pick(&[2, 90, 1_800]) * 1_000_000;
            let micros = self.chance.between(0, 2 * far).cast_signed() - far.cast_signed();
            self.plan(at, Plan::Step { node: 0, micros });
        }
        let ids: Vec<DestinationId> = self.behaviours.keys().copied().collect();
        for _ in 0..mix.behaviours {
            let (at, destination) = (self.some_time(), self.chance.pick(&ids));
            self.plan(at, Plan::Behave { destination });
        }
    }

    fn schedule_people(&mut self) {
        let mix = self.scenario.mix;
        let ids: Vec<DestinationId> = self.behaviours.keys().copied().collect();
        for _ in 0..mix.pauses {
            let (at, id) = (self.some_time(), self.chance.pick(&ids));
            self.plan(at, Plan::Person(Act::Pause(id)));
            let until = at.plus(self.chance.millis(1_000, 300_000));
            let discard = self.chance.percent(20);
            self.plan(until, Plan::Person(Act::Open { id, discard }));
        }
        for _ in 0..mix.edits {
            let (at, id) = (self.some_time(), self.chance.pick(&ids));
            self.plan(at, Plan::Person(Act::Edit(id)));
        }
        for _ in 0..mix.deletions {
            let (at, id) = (self.some_time(), self.chance.pick(&ids));
            self.plan(at, Plan::Person(Act::Delete(id)));
        }
        let sides: Vec<Side> = self.scenario.destinations.iter().map(|it| it.side).collect();
        let sides: Vec<Side> = sides.into_iter().filter(|side| *side != Side::Pulled).collect();
        for _ in 0..mix.additions {
            let (at, side) = (self.some_time(), self.chance.pick(&sides));
            self.plan(at, Plan::Person(Act::Add(side)));
        }
        for _ in 0..mix.replays {
            let at = self.some_time();
            self.plan(at, Plan::Person(Act::Replay));
        }
        for _ in 0..mix.deliveries {
            let (at, act) = (self.some_time(), self.chance.pick(&[Act::Retry, Act::Discard]));
            self.plan(at, Plan::Person(act));
        }
        // In worlds that go on for days, destinations are down for days, and somebody looks after them.
        if self.scenario.safety > Duration::from_secs(86_400) {
            for id in ids {
                if self.chance.percent(40) {
                    let at = START.plus(self.chance.millis(0, 43_200_000));
                    self.plan(at, Plan::Outage { destination: id });
                }
                let (at, discard) = (self.some_time(), self.chance.percent(50));
                self.plan(at, Plan::Person(Act::Open { id, discard }));
            }
        }
    }

    fn some_time(&mut self) -> Timestamp {
        START.plus(self.chance.millis(0, self.scenario.safety.as_millis() as u64))
    }

    fn new_source(&self) -> Source {
        Source {
            dedupe_window: self.scenario.dedupe_window,
            origin: Origin::File,
            ..Source::new(self.source, self.application, "nylas", "nylas", START)
        }
    }

    /// A destination, and the world's part of it: how it behaves, or who pulls from it.
    pub(crate) fn new_destination(&mut self, wanted: Wanted) -> Destination {
        let id = DestinationId::new(START, self.entropy());
        let pulled = wanted.side == Side::Pulled;
        let kind = if pulled {
            self.workers.extend([Worker { destination: id }; 2]);
            DestinationKind::Pull
        } else {
            self.behaviours.insert(id, Behaviour::Well);
            DestinationKind::Push {
                url: "http://127.0.0.1:3000".to_owned(),
            }
        };
        let (policy, source) = match wanted.side {
            Side::Inbox | Side::Pulled => ("inbox", self.source),
            Side::Outbox { policy } => (policy, SourceId::of_outbox(self.application)),
        };
        let told = wanted.told.then(|| "ops@example.com".to_owned());
        Destination {
            sources: vec![source],
            trigger_types: wanted
                .triggers
                .iter()
                .map(|&pattern| pattern.to_owned())
                .collect(),
            policy: policy.to_owned(),
            timeout: wanted.timeout,
            concurrency: wanted.concurrency,
            rate_limit: wanted.rate,
            notification_email_addresses: told.into_iter().collect(),
            ..Destination::new(id, self.application, &format!("destination-{id}"), kind, START)
        }
    }
}
