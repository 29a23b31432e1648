//! What is asked of a store while its disk is recorded: one seed, always the same steps.
//!
//! Owns the steps and how they are drawn. The next ones depend on the seed and on what the earlier ones were
//! answered, so two stores that answer alike are asked alike: the store under test writes its record, and the judge
//! goes through the same script with the memory model. Must not know disks, cuts or faults.

use std::fmt::{self, Write as _};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hookfast_engine::event::{Event, HeaderBlock};
use hookfast_engine::id::{ApplicationId, DestinationId, EventId, QuarantineId, ReplayId, SourceId};
use hookfast_engine::outcome::{Failure, Outcome};
use hookfast_engine::time::Timestamp;
use hookfast_engine::topology::{Destination, DestinationKind, DestinationStatus, TopologyChange};
use hookfast_store::conformance::{
    DAY, RETENTION, Recorder, START, answered, application, attempt_end, policies, source,
};
use hookfast_store::{
    AttemptEnd, Claim, ClaimedDelivery, Dedupe, EventFilter, NewEvent, NewQuarantined, NewReplay,
    QuarantineBounds, Quarantined, Rejected, ReplaySelection, Result, Store,
};

use crate::chance::Chance;

/// How many dedupe keys there are.
const KEYS: u8 = 24;
/// How long a repeat is recognised.
const WINDOW: Duration = Duration::from_secs(7 * DAY);
const LEASE: Duration = Duration::from_secs(60);

/// One call of the store, or its being opened again.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// An event, while the delivery side has so many free slots.
    Append(Box<NewEvent>, usize),
    /// Learns what the delivery side was handed: it is told of a write before the next one returns.
    HandedOver,
    Claim(Claim),
    Settle(Box<AttemptEnd>),
    Extend(ClaimedDelivery, Timestamp),
    Retry(ClaimedDelivery, Timestamp),
    Discard(ClaimedDelivery, Timestamp),
    DiscardWaiting(DestinationId, Timestamp),
    Change(Vec<TopologyChange>, Timestamp),
    Quarantine(Box<NewQuarantined>),
    Release(QuarantineId, Box<NewEvent>),
    DiscardQuarantined(QuarantineId),
    Reject(Rejected),
    StartReplay(Box<NewReplay>),
    AdvanceReplay(ReplayId, Timestamp, u32),
    CancelReplay(ReplayId, Timestamp),
    Prune(Timestamp),
    /// The store is closed, or left as a process that dies leaves it, and opened again.
    Reopen {
        close: bool,
        now: Timestamp,
    },
}

/// What a step was answered: in words, without what is a store's own choice, and what it claimed.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) text: String,
    claimed: Vec<ClaimedDelivery>,
}

/// Which script. In words: `SEED/TURNS/small` or `SEED/TURNS/large`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    /// So many turns after the setting up.
    pub(crate) turns: usize,
    /// Bodies are so large, and the store is opened again so seldom, that the write-ahead log is copied into the
    /// database, and begun anew, while events come in.
    pub(crate) large: bool,
}

impl fmt::Display for Plan {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bodies = if self.large { "large" } else { "small" };
        write!(formatter, "{}/{}/{bodies}", self.seed, self.turns)
    }
}

impl FromStr for Plan {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let not_one = || format!("`{text}` is not SEED/TURNS/small or SEED/TURNS/large");
        match text.split('/').collect::<Vec<_>>()[..] {
            [seed, turns, bodies @ ("small" | "large")] => Ok(Self {
                seed: seed.parse().map_err(|_| not_one())?,
                turns: turns.parse().map_err(|_| not_one())?,
                large: bodies == "large",
            }),
            _ => Err(not_one()),
        }
    }
}

/// The rest of a script.
#[derive(Debug)]
pub(crate) struct Script {
    chance: Chance,
    large: bool,
    /// Turns that are left.
    left: usize,
    now: Timestamp,
    application: ApplicationId,
    source: SourceId,
    ids: u128,
    /// Every destination fails at present, so that breakers open.
    down: bool,
    destinations: Vec<Destination>,
    held: Vec<ClaimedDelivery>,
    quarantined: Vec<QuarantineId>,
    replays: Vec<ReplayId>,
}

impl Script {
    /// The whole of it.
    pub(crate) fn new(plan: Plan) -> Self {
        Self {
            chance: Chance::new(plan.seed),
            large: plan.large,
            left: plan.turns,
            now: START,
            application: ApplicationId::new(START, 1),
            source: SourceId::new(START, 1),
            ids: 1_000,
            down: false,
            destinations: Vec::new(),
            held: Vec::new(),
            quarantined: Vec::new(),
            replays: Vec::new(),
        }
    }

    /// After everything.
    pub(crate) fn now(&self) -> Timestamp {
        self.now
    }

    /// What is asked first.
    pub(crate) fn setting_up(&mut self) -> Vec<Step> {
        let mut changes = vec![
            TopologyChange::PutApplication(application(self.application, "default")),
            TopologyChange::PutSource(source(self.source, self.application, "orders")),
        ];
        changes.extend(policies().map(TopologyChange::PutPolicy));
        let mut steps = vec![Step::Change(changes, START)];
        for _ in 0..3 {
            steps.push(self.add_destination());
        }
        steps
    }

    /// What is asked at once; none at the end. Several are appends of one source, which are taken in their order.
    pub(crate) fn turn(&mut self) -> Option<Vec<Step>> {
        self.left = self.left.checked_sub(1)?;
        let later = match self.chance.below(80) {
            0 => 16 * DAY,
            1..50 => 0,
            _ => self.chance.below(40) as u64,
        };
        self.now = self.now.plus(Duration::from_secs(later));
        let one = match self.chance.below(100) {
            0..20 => return Some(vec![self.append(), Step::HandedOver]),
            20..30 => return Some(self.burst()),
            30..48 => self.claim(),
            48..66 => self.end(),
            66..69 => self.with_held(|held, now| Step::Extend(held, now.plus(LEASE * 3))),
            69..73 => self.with_held(Step::Retry),
            73..75 => self.with_held(Step::Discard),
            75 => self.with_destination(|one, now| Step::DiscardWaiting(one.id, now)),
            76..82 => Some(self.change_destination()),
            82..87 => Some(self.replay()),
            87..93 => Some(self.quarantine()),
            93 => Some(self.reject()),
            94..97 => Some(Step::Prune(self.now)),
            // Less often where the log is to grow.
            _ if self.large && self.chance.percent(75) => self.claim(),
            _ => Some(Step::Reopen {
                close: self.chance.percent(50),
                now: self.now,
            }),
        };
        Some(vec![one.unwrap_or_else(|| self.append())])
    }

    /// Takes in what a step was answered.
    pub(crate) fn learn(&mut self, answer: &Answer) {
        self.held.extend(answer.claimed.iter().cloned());
    }

    fn next_id(&mut self) -> u128 {
        self.ids += 1;
        self.ids
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> Option<T> {
        from.get(self.chance.below(from.len())).cloned()
    }

    fn event(&mut self) -> NewEvent {
        let event_type = self.pick(&["a.x", "a.y", "b", "c.x.y"]).expect("there are some");
        let bytes = match self.chance.below(100) {
            0..20 if self.large => 100_000 + self.chance.below(250_000),
            // Longer than a page, so that it is stored over several.
            0..10 => 5_000 + self.chance.below(10_000),
            _ => self.chance.below(600),
        };
        let fill = self.chance.next().to_le_bytes();
        let keyed = self.chance.percent(40);
        let (key, body) = (self.chance.below(KEYS.into()) as u8, self.chance.below(2) as u8);
        NewEvent {
            event: Arc::new(Event {
                id: EventId::new(self.now, self.next_id()),
                application: self.application,
                source: self.source,
                provider_id: keyed.then(|| format!("evt_{key}")),
                event_type: Some(event_type.into()),
                occurred_at: None,
                accepted_at: self.now,
                headers: HeaderBlock::pack([(&b"Content-Type"[..], &b"application/json"[..])]),
                body: Bytes::from(fill.repeat(bytes / 8 + 1)),
            }),
            dedupe: keyed.then(|| dedupe(key, body, self.now)),
            lease_margin: Duration::from_secs(5),
        }
    }

    fn append(&mut self) -> Step {
        let new = self.event();
        Step::Append(Box::new(new), self.chance.below(3))
    }

    fn burst(&mut self) -> Vec<Step> {
        let count = 2 + self.chance.below(7);
        (0..count)
            .map(|_| Step::Append(Box::new(self.event()), 0))
            .collect()
    }

    fn claim(&mut self) -> Option<Step> {
        let destination = self.pick(&self.destinations.clone())?.id;
        Some(Step::Claim(Claim {
            destination,
            now: self.now,
            due_from: None,
            limit: 1 + self.chance.below(6) as u32,
            bytes: 100_000,
            lease: LEASE,
        }))
    }

    fn end(&mut self) -> Option<Step> {
        if self.chance.below(30) == 0 {
            self.down = !self.down;
        }
        // Mostly what was claimed lately: the older a claim, the likelier it is stale.
        let lately = self.held.len().saturating_sub(5);
        let from = if self.chance.percent(10) { 0 } else { lately };
        let number = from + self.chance.below(self.held.len() - from);
        let held = self.held.get(number).cloned()?;
        // Kept now and then, so that some ends are stale.
        if self.chance.percent(88) {
            self.held.remove(number);
        }
        let outcome = match self.chance.below(12) {
            0..11 if self.down => answered(503),
            0..6 => answered(200),
            6..9 => answered(503),
            9 => answered(410),
            10 => Outcome::Unreachable {
                failure: Failure::ConnectionReset,
            },
            _ => Outcome::Released,
        };
        Some(Step::Settle(Box::new(attempt_end(&held, self.now, outcome))))
    }

    fn with_held(&mut self, step: impl FnOnce(ClaimedDelivery, Timestamp) -> Step) -> Option<Step> {
        let held = self.pick(&self.held.clone())?;
        Some(step(held, self.now))
    }

    fn with_destination(&mut self, step: impl FnOnce(Destination, Timestamp) -> Step) -> Option<Step> {
        let destination = self.pick(&self.destinations.clone())?;
        Some(step(destination, self.now))
    }

    fn add_destination(&mut self) -> Step {
        let id = self.next_id();
        let patterns = [vec!["*"], vec!["a.*"], vec!["b", "c.x.y"], vec!["a.x", "c.*"]];
        let patterns = self.pick(&patterns).expect("there are some");
        let kind = if self.chance.percent(30) {
            DestinationKind::Pull
        } else {
            DestinationKind::Push {
                url: "https://example.test/hook".into(),
            }
        };
        let watched = self.chance.percent(30);
        let id = DestinationId::new(START, id);
        let destination = Destination {
            sources: vec![self.source],
            trigger_types: patterns.into_iter().map(str::to_owned).collect(),
            policy: if watched { "watched" } else { "even" }.into(),
            ..Destination::new(id, self.application, &format!("d{id}"), kind, START)
        };
        self.destinations.push(destination.clone());
        Step::Change(vec![TopologyChange::PutDestination(destination)], self.now)
    }

    fn change_destination(&mut self) -> Step {
        let number = self.chance.below(self.destinations.len());
        let what = self.chance.below(12);
        if self.destinations.is_empty() || what == 0 {
            return self.add_destination();
        }
        let mut changed = self.destinations[number].clone();
        if what == 1 {
            changed.deleted_at = Some(self.now);
            self.destinations.remove(number);
        } else {
            let paused = what < 4;
            let status = if paused {
                DestinationStatus::Paused
            } else {
                DestinationStatus::Active
            };
            changed.set_status(status, None, self.now);
            self.destinations[number] = changed.clone();
        }
        Step::Change(vec![TopologyChange::PutDestination(changed)], self.now)
    }

    fn replay(&mut self) -> Step {
        let picked = self.pick(&self.replays.clone());
        match (self.chance.below(6), picked) {
            (0, Some(id)) => Step::CancelReplay(id, self.now),
            (1..5, Some(id)) => Step::AdvanceReplay(id, self.now, 1 + self.chance.below(20) as u32),
            _ => {
                let id = ReplayId::new(START, self.next_id());
                self.replays.push(id);
                let events = EventFilter {
                    application: Some(self.application),
                    event_type: self.chance.percent(50).then(|| "a.*".to_owned()),
                    ..EventFilter::default()
                };
                Step::StartReplay(Box::new(NewReplay {
                    id,
                    application: self.application,
                    selection: ReplaySelection {
                        events,
                        ..ReplaySelection::default()
                    },
                    rate: 10,
                    new_id: self.chance.percent(50),
                    created_at: self.now,
                }))
            }
        }
    }

    fn quarantine(&mut self) -> Step {
        let picked = self.pick(&self.quarantined.clone());
        match (self.chance.below(5), picked) {
            (0, Some(id)) => Step::DiscardQuarantined(id),
            (1, Some(id)) => Step::Release(id, Box::new(self.event())),
            _ => {
                let id = QuarantineId::new(START, self.next_id());
                self.quarantined.push(id);
                let item = Quarantined {
                    id,
                    source: self.source,
                    received_at: self.now,
                    cause: "bad_signature".into(),
                    peer: self
                        .pick(&["192.0.2.1", "192.0.2.2"])
                        .expect("there are some")
                        .into(),
                    method: "POST".into(),
                    target: "/in/orders".into(),
                    headers: HeaderBlock::default(),
                    body: Bytes::from(vec![b'q'; self.chance.below(2_000)]),
                };
                let bounds = QuarantineBounds {
                    events: 10,
                    bytes: 20_000,
                    events_per_peer: 6,
                };
                Step::Quarantine(Box::new(NewQuarantined { item, bounds }))
            }
        }
    }

    fn reject(&mut self) -> Step {
        Step::Reject(Rejected {
            at: self.now,
            source: Some(self.source),
            status: 413,
            cause: "body_too_large".into(),
            detail: format!("number {}", self.next_id()),
            peer: "192.0.2.1".into(),
            method: "POST".into(),
            path: "/in/orders".into(),
            count: 1,
        })
    }
}

fn dedupe(key: u8, body: u8, now: Timestamp) -> Dedupe {
    Dedupe {
        key: [key; 16],
        body: [body; 8],
        expires_at: now.plus(WINDOW),
    }
}

impl Step {
    /// Asks it of a store. [`Step::Reopen`] is not for a store to answer.
    pub(crate) async fn ask(&self, store: &dyn Store, slots: &Recorder) -> Result<Answer> {
        let mut claimed = Vec::new();
        let text = match self.clone() {
            Self::Append(new, free) => {
                slots.set_free(free);
                format!("{:?}", store.append(*new).await?)
            }
            Self::HandedOver => {
                slots.set_free(0);
                let nobodys = hookfast_engine::id::DeliveryId::from_u128(0);
                store.extend(nobodys, 1, START).await?;
                claimed = slots.take_handed_over();
                String::new()
            }
            Self::Claim(claim) => {
                let given = store.claim(claim).await?;
                claimed = given.deliveries;
                format!("next {:?}", given.next_due)
            }
            Self::Settle(end) => format!("{:?}", store.settle(*end).await?),
            Self::Extend(held, until) => format!("{}", store.extend(held.id, held.attempt, until).await?),
            Self::Retry(held, now) => format!("{:?}", store.retry(held.id, now).await?),
            Self::Discard(held, now) => format!("{:?}", store.discard(held.id, now, "ann".into()).await?),
            Self::DiscardWaiting(id, now) => {
                // All of them: which go first is a store's own choice.
                let discarded = store.discard_waiting(id, now, "ann".into(), u32::MAX).await?;
                format!("{discarded}")
            }
            Self::Change(changes, now) => {
                let topology = store.change_topology(now, "ann".into(), changes).await?;
                format!("version {}", topology.version)
            }
            Self::Quarantine(new) => format!("{:?}", store.quarantine(*new).await?),
            Self::Release(id, event) => format!("{:?}", store.release(id, *event).await?),
            Self::DiscardQuarantined(id) => format!("{}", store.discard_quarantined(vec![id]).await?),
            Self::Reject(rejected) => format!("{:?}", store.record_rejected(vec![rejected]).await?),
            Self::StartReplay(new) => format!("of {}", store.start_replay(*new).await?.total),
            Self::AdvanceReplay(id, now, limit) => {
                let replay = store.step_replay(id, now, limit).await?;
                // Whether the last step or one after it finds the end is a store's own choice.
                format!("{:?}", replay.map(|it| (it.looked_at, it.replayed, it.skipped)))
            }
            Self::CancelReplay(id, now) => {
                let replay = store.cancel_replay(id, now).await?;
                format!("{:?}", replay.map(|it| (it.looked_at, it.replayed, it.skipped)))
            }
            Self::Prune(now) => {
                let pruned = store.prune(now, RETENTION, 1_000_000).await?;
                format!("{:?}", (pruned.events, pruned.discarded, pruned.quarantined))
            }
            Self::Reopen { .. } => panic!("whoever holds the store opens it again"),
        };
        let mut answer = Answer { text, claimed };
        for it in &answer.claimed {
            _ = write!(
                answer.text,
                " {} attempt {} until {:?}",
                it.id, it.attempt, it.lease_until
            );
        }
        Ok(answer)
    }

    /// The answer of [`Step::Reopen`].
    pub(crate) fn reopened() -> Answer {
        Answer {
            text: "reopened".to_owned(),
            claimed: Vec::new(),
        }
    }
}

/// An event of each dedupe key at `now`: the answers tell which marks there are, and whose.
pub(crate) fn probes(now: Timestamp) -> impl Iterator<Item = NewEvent> {
    (0..KEYS).map(move |key| NewEvent {
        event: Arc::new(Event {
            id: EventId::new(now, 500 + u128::from(key)),
            application: ApplicationId::new(START, 1),
            source: SourceId::new(START, 1),
            provider_id: None,
            event_type: Some("a.x".into()),
            occurred_at: None,
            accepted_at: now,
            headers: HeaderBlock::default(),
            body: Bytes::from_static(b"{}"),
        }),
        dedupe: Some(dedupe(key, 0, now)),
        lease_margin: Duration::from_secs(5),
    })
}
