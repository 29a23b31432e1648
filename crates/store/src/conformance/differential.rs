//! Random operations, applied to the store under test and to the memory model: all results must agree.
//!
//! A failure names its seed and step; the same seed always makes the same operations.

use std::time::Duration;

use bytes::Bytes;
use hookfast_engine::delivery::{DeliveryState, Progress};
use hookfast_engine::id::{DeliveryId, DestinationId, EventId, QuarantineId, ReplayId};
use hookfast_engine::outcome::{Failure, Outcome};
use hookfast_engine::time::Timestamp;
use hookfast_engine::topology::{DestinationKind, DestinationStatus, TopologyChange};

use super::{Bench, DAY, LEASE, MemoryFixture, Random, answered, at, attempt_end, page, policies};
use crate::{
    Claim, ClaimedDelivery, DeliveryFilter, EventFilter, NewReplay, ReplaySelection, ReplayState, Settled,
    SourceFilter,
};

pub async fn random_operations_agree_with_the_model_from_seed_1(bench: &mut Bench) {
    Pair::new(bench, 1).await.run(300).await;
}

pub async fn random_operations_agree_with_the_model_from_seed_2(bench: &mut Bench) {
    Pair::new(bench, 2).await.run(300).await;
}

pub async fn random_operations_agree_with_the_model_from_seed_3(bench: &mut Bench) {
    Pair::new(bench, 3).await.run(300).await;
}

pub async fn random_operations_agree_with_the_model_from_seed_4(bench: &mut Bench) {
    Pair::new(bench, 4).await.run(600).await;
}

/// A claim as both stores gave it: their ids may differ.
#[derive(Clone)]
struct Held {
    model: ClaimedDelivery,
    tested: ClaimedDelivery,
}

struct Pair<'a> {
    model: Bench,
    tested: &'a mut Bench,
    random: Random,
    seed: u64,
    now: u64,
    /// Every destination fails at present, so that breakers open.
    down: bool,
    destinations: Vec<DestinationId>,
    deleted: Vec<DestinationId>,
    held: Vec<Held>,
    replays: Vec<ReplayId>,
    quarantined: Vec<QuarantineId>,
}

/// Evaluates an expression on both stores and compares the results.
macro_rules! both {
    ($pair:expr, |$bench:ident| $result:expr) => {{
        let expected = {
            let $bench = &$pair.model;
            $result
        };
        let found = {
            let $bench = &*$pair.tested;
            $result
        };
        assert_eq!(
            found, expected,
            "seed {}: left is the store, right the model",
            $pair.seed
        );
        expected
    }};
}

/// What two stores agree on of a claim.
fn shown(claimed: &[ClaimedDelivery]) -> Vec<impl std::fmt::Debug + PartialEq + use<>> {
    let shown = claimed.iter().map(|it| {
        let replay = it.replay;
        (
            it.event.clone(),
            it.destination,
            it.attempt,
            replay,
            it.lease_until,
        )
    });
    shown.collect()
}

type ShownDelivery = (
    (EventId, DestinationId, Option<String>, Timestamp),
    (
        DeliveryState,
        Progress,
        Option<Timestamp>,
        Option<Timestamp>,
        Option<String>,
    ),
    Vec<(u32, Outcome)>,
);

impl Bench {
    async fn shown_deliveries(&self) -> Vec<ShownDelivery> {
        let mut shown = Vec::new();
        for it in self.all_deliveries(DeliveryFilter::default()).await {
            let (_, attempts) = self
                .store
                .delivery(it.id)
                .await
                .unwrap()
                .expect("a listed delivery");
            shown.push((
                (it.event, it.destination, it.event_type, it.accepted_at),
                (it.state, it.progress, it.due_at, it.settled_at, it.cause),
                attempts
                    .into_iter()
                    .map(|attempt| (attempt.number, attempt.outcome))
                    .collect(),
            ));
        }
        shown
    }

    /// The id of the delivery that the other store calls by another id.
    async fn id_of(&self, event: EventId, destination: DestinationId) -> DeliveryId {
        self.delivery(event, destination).await.id
    }
}

impl<'a> Pair<'a> {
    async fn new(tested: &'a mut Bench, seed: u64) -> Self {
        let mut pair = Self {
            model: Bench::new(Box::new(MemoryFixture::default())).await,
            tested,
            random: Random(seed),
            seed,
            now: 0,
            down: false,
            destinations: Vec::new(),
            deleted: Vec::new(),
            held: Vec::new(),
            replays: Vec::new(),
            quarantined: Vec::new(),
        };
        pair.put(policies().map(TopologyChange::PutPolicy).to_vec()).await;
        for _ in 0..3 {
            pair.add_destination().await;
        }
        pair
    }

    async fn put(&mut self, changes: Vec<TopologyChange>) {
        let now = at(self.now);
        both!(self, |bench| {
            let changed = bench
                .store
                .change_topology(now, "random".into(), changes.clone())
                .await;
            changed.map(|_| ())
        })
        .unwrap();
    }

    async fn run(&mut self, steps: u32) {
        for step in 0..steps {
            self.now += match self.random.below(80) {
                0 => 16 * DAY,
                1..50 => 0,
                _ => self.random.below(40),
            };
            self.step().await;
            if step % 50 == 49 {
                self.compare().await;
            }
        }
        self.reopen().await;
        self.compare().await;
        assert_eq!(self.model.store.check().await.unwrap(), Vec::<String>::new());
    }

    async fn step(&mut self) {
        match self.random.below(100) {
            0..30 => self.append().await,
            30..50 => self.claim().await,
            50..68 => {
                self.end().await;
                self.end().await;
            }
            68..71 => self.extend().await,
            71..76 => self.move_one().await,
            76 => self.discard_waiting().await,
            77..84 => self.change_destination().await,
            84..90 => self.replay().await,
            90..95 => self.quarantine().await,
            95..98 => self.prune().await,
            _ => self.reopen().await,
        }
    }

    async fn append(&mut self) {
        let event_type = self.random.pick(&["a.x", "a.y", "b", "c.x.y"]).unwrap_or("a.x");
        let mut new = self.tested.event(event_type, self.now);
        if self.random.below(3) == 0 {
            let (key, body) = (self.random.below(6) as u8, self.random.below(2) as u8);
            new.dedupe = self.tested.keyed(key, body, self.now).dedupe;
        }
        let free = usize::try_from(self.random.below(3)).unwrap();
        self.model.slots.set_free(free);
        self.tested.slots.set_free(free);
        both!(self, |bench| bench.store.append(new.clone()).await.unwrap());
        let (model, tested) = (self.model.handed_over().await, self.tested.handed_over().await);
        self.hold(model, tested);
        self.model.slots.set_free(0);
        self.tested.slots.set_free(0);
    }

    fn hold(&mut self, model: Vec<ClaimedDelivery>, tested: Vec<ClaimedDelivery>) {
        assert_eq!(shown(&tested), shown(&model), "seed {}", self.seed);
        let pairs = model.into_iter().zip(tested);
        self.held
            .extend(pairs.map(|(model, tested)| Held { model, tested }));
    }

    async fn claim(&mut self) {
        let Some(destination) = self.random.pick(&self.destinations) else {
            return;
        };
        let from = self.now.saturating_sub(self.random.below(60));
        let claim = Claim {
            destination,
            now: at(self.now),
            due_from: (self.random.below(4) == 0).then(|| at(from)),
            limit: u32::try_from(self.random.below(6)).unwrap(),
            bytes: usize::try_from(self.random.below(50)).unwrap(),
            lease: Duration::from_secs(LEASE),
        };
        let model = self.model.store.claim(claim).await.unwrap();
        let tested = self.tested.store.claim(claim).await.unwrap();
        assert_eq!(tested.next_due, model.next_due, "seed {}", self.seed);
        let all = || self.destinations.clone();
        let in_model = self.model.store.standings(all(), at(self.now)).await;
        let in_tested = self.tested.store.standings(all(), at(self.now)).await;
        assert_eq!(in_tested.unwrap(), in_model.unwrap(), "seed {}", self.seed);
        self.hold(model.deliveries, tested.deliveries);
    }

    fn outcome(&mut self) -> Outcome {
        if self.random.below(30) == 0 {
            self.down = !self.down;
        }
        match self.random.below(12) {
            0..11 if self.down => answered(503),
            0..4 => answered(200),
            4..8 => answered(503),
            8 => answered(410),
            9 => Outcome::Unreachable {
                failure: Failure::ConnectionReset,
            },
            10 => Outcome::Returned {
                delay: Duration::from_secs(self.random.below(20)),
            },
            _ => Outcome::Released,
        }
    }

    async fn end(&mut self) {
        // Mostly what was claimed lately: the older a claim, the likelier it is stale.
        let lately = self.held.len().saturating_sub(5);
        let from = if self.random.below(10) == 0 { 0 } else { lately };
        let Some(held) = self.random.pick(&self.held[from..]) else {
            return;
        };
        // Kept now and then, so that some ends are stale.
        if self.random.below(8) > 0 {
            self.held
                .retain(|other| other.model.id != held.model.id || other.model.attempt != held.model.attempt);
        }
        let (outcome, now) = (self.outcome(), at(self.now));
        let model = attempt_end(&held.model, now, outcome.clone());
        let tested = attempt_end(&held.tested, now, outcome);
        let model: Settled = self.model.store.settle(model).await.unwrap();
        let tested: Settled = self.tested.store.settle(tested).await.unwrap();
        assert_eq!(tested, model, "seed {}", self.seed);
    }

    async fn extend(&mut self) {
        let Some(held) = self.random.pick(&self.held) else {
            return;
        };
        let until = at(self.now + self.random.below(200));
        let (model, tested) = (held.model, held.tested);
        let model = self
            .model
            .store
            .extend(model.id, model.attempt, until)
            .await
            .unwrap();
        let tested = self
            .tested
            .store
            .extend(tested.id, tested.attempt, until)
            .await
            .unwrap();
        assert_eq!(tested, model, "seed {}", self.seed);
    }

    async fn move_one(&mut self) {
        let all = self.model.all_deliveries(DeliveryFilter::default()).await;
        let Some(one) = self.random.pick(&all) else {
            return;
        };
        let (now, retry) = (at(self.now), self.random.below(5) > 0);
        both!(self, |bench| {
            let id = bench.id_of(one.event, one.destination).await;
            if retry {
                bench.store.retry(id, now).await.unwrap()
            } else {
                bench.store.discard(id, now, "ann".into()).await.unwrap()
            }
        });
    }

    async fn discard_waiting(&mut self) {
        let Some(destination) = self.random.pick(&self.destinations) else {
            return;
        };
        // To the end: which ones go first is a store's own choice.
        let now = at(self.now);
        both!(self, |bench| {
            let mut sum = 0;
            loop {
                let step = bench.store.discard_waiting(destination, now, "ann".into(), 3);
                let step = step.await.unwrap();
                sum += step;
                if step == 0 {
                    break sum;
                }
            }
        });
    }

    async fn add_destination(&mut self) {
        let number = self.destinations.len() + self.deleted.len();
        let patterns = [vec!["*"], vec!["a.*"], vec!["b", "c.x.y"], vec!["a.x", "c.*"]];
        let patterns = self.random.pick(&patterns).unwrap_or_default();
        let mut destination = self.tested.new_destination(&format!("d{number}"), &patterns);
        destination.policy = "even".into();
        if self.random.below(3) == 0 {
            destination.policy = "watched".into();
            destination.notification_email_addresses = vec!["ann@example.com".into()];
        }
        if self.random.below(3) == 0 {
            destination.kind = DestinationKind::Pull;
        }
        self.destinations.push(destination.id);
        self.put(vec![TopologyChange::PutDestination(destination)]).await;
    }

    async fn change_destination(&mut self) {
        let picked = self.random.pick(&self.destinations);
        let topology = self.model.store.topology();
        let known = picked.and_then(|id| topology.destinations.get(&id));
        let Some(mut destination) = known.filter(|it| it.deleted_at.is_none()).cloned() else {
            return self.add_destination().await;
        };
        match self.random.below(24) {
            0 => {
                destination.deleted_at = Some(at(self.now));
                self.destinations.retain(|id| *id != destination.id);
                self.deleted.push(destination.id);
            }
            1 => return self.add_destination().await,
            2..5 => destination.status = DestinationStatus::Paused,
            5 => destination.status = DestinationStatus::Failing,
            6 => destination.status = DestinationStatus::Failed,
            _ => destination.status = DestinationStatus::Active,
        }
        destination.status_changed_at = at(self.now);
        self.put(vec![TopologyChange::PutDestination(destination)]).await;
    }

    async fn replay(&mut self) {
        let now = at(self.now);
        let picked = self.random.pick(&self.replays);
        match (self.random.below(6), picked) {
            (0, Some(id)) => {
                both!(self, |bench| bench.store.cancel_replay(id, now).await.unwrap());
            }
            (1..4, Some(id)) => {
                let limit = u32::try_from(self.random.below(20)).unwrap() + 1;
                let step = both!(self, |bench| {
                    let stepped = bench.store.step_replay(id, now, limit).await.unwrap();
                    // Whether the last step or one after it finds the end is a store's own choice.
                    stepped.map(|it| (it.looked_at, it.replayed, it.skipped))
                });
                assert!(step.is_some());
            }
            _ => self.start_replay().await,
        }
    }

    async fn start_replay(&mut self) {
        let states = [DeliveryState::Delivered, DeliveryState::Dead, DeliveryState::Held];
        let selection = ReplaySelection {
            events: EventFilter {
                application: Some(self.tested.application),
                event_type: self.random.pick(&[None, Some("a.*".to_owned())]).flatten(),
                unrouted: self.random.below(8) == 0,
                ..EventFilter::default()
            },
            event: None,
            state: self.random.pick(&states).filter(|_| self.now.is_multiple_of(2)),
            destination: self
                .random
                .pick(&self.destinations)
                .filter(|_| self.now.is_multiple_of(3)),
        };
        both!(self, |bench| bench
            .store
            .count_replay(selection.clone())
            .await
            .unwrap());
        let new = NewReplay {
            id: self.tested.replay_id(),
            application: self.tested.application,
            selection,
            rate: 10,
            new_id: self.random.below(2) == 0,
            created_at: at(self.now),
        };
        both!(self, |bench| bench.store.start_replay(new.clone()).await.unwrap());
        self.replays.push(new.id);
    }

    async fn quarantine(&mut self) {
        let picked = self.random.pick(&self.quarantined);
        match (self.random.below(5), picked) {
            (0, Some(id)) => {
                both!(self, |bench| bench
                    .store
                    .discard_quarantined(vec![id])
                    .await
                    .unwrap());
            }
            (1, Some(id)) => {
                let event = self.tested.keyed(self.random.below(6) as u8, 1, self.now);
                both!(self, |bench| bench
                    .store
                    .release(id, event.clone())
                    .await
                    .unwrap());
            }
            _ => {
                let peer = self.random.pick(&["p1", "p2", "p3"]).unwrap_or("p1");
                let bytes = usize::try_from(self.random.below(400)).unwrap();
                let mut new = self.tested.quarantinable(self.tested.source, peer, bytes);
                new.item.received_at = at(self.now);
                new.item.body = Bytes::from(vec![b'z'; bytes]);
                self.quarantined.push(new.item.id);
                both!(self, |bench| bench.store.quarantine(new.clone()).await.unwrap());
            }
        }
    }

    async fn prune(&mut self) {
        both!(self, |bench| {
            let pruned = bench.prune_all(self.now).await;
            (pruned.events, pruned.discarded, pruned.quarantined)
        });
    }

    async fn reopen(&mut self) {
        self.model.reopen(self.now).await;
        self.tested.reopen(self.now).await;
    }

    /// Everything that can be seen must be the same.
    async fn compare(&mut self) {
        both!(self, |bench| {
            let listed = bench
                .store
                .events(EventFilter::default(), page(1_000))
                .await
                .unwrap();
            listed.items
        });
        both!(self, |bench| {
            // A destination may have deliveries of one event in another order: numbers are the store's own.
            let mut shown = bench.shown_deliveries().await;
            shown.sort_by_key(|(what, _, _)| (what.0, what.1));
            shown
        });
        both!(self, |bench| {
            let listed = bench
                .store
                .quarantined(SourceFilter::default(), page(1_000))
                .await
                .unwrap();
            listed.items
        });
        both!(self, |bench| {
            let listed = bench.store.replays(page(1_000)).await.unwrap().items;
            let ended = listed.into_iter().map(|it| {
                let cancelled = it.state == ReplayState::Cancelled;
                (it.new, cancelled, it.looked_at, it.replayed, it.skipped, it.total)
            });
            ended.collect::<Vec<_>>()
        });
        both!(self, |bench| bench.store.notices(1_000).await.unwrap());
        for id in [&self.destinations[..], &self.deleted].concat() {
            both!(self, |bench| bench.store.health(id).await.unwrap());
        }
        both!(self, |bench| {
            let mut stats = bench.store.stats().await.unwrap();
            stats.deliveries.retain(|(_, _, count)| *count > 0);
            stats.deliveries.sort();
            stats.oldest_waiting.sort();
            stats.quarantined.retain(|(_, count)| *count > 0);
            (stats.disk_bytes, stats.disk_free_bytes) = (0, 0);
            stats
        });
        assert_eq!(
            self.tested.store.check().await.unwrap(),
            Vec::<String>::new(),
            "seed {}",
            self.seed
        );
    }
}
