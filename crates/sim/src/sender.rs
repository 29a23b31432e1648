//! Those who send: providers that post and retry by their schedule, an application that publishes until it is
//! answered 202, and forgers.
//!
//! Owns what is sent, when it is sent again, and how the inbox of a node answers. Must not know what becomes of an
//! event.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hookfast_engine::event::{Event, HeaderBlock};
use hookfast_engine::id::{EventId, QuarantineId, SourceId};
use hookfast_engine::time::Timestamp;
use hookfast_store::{
    Appended, Dedupe, NewEvent, NewQuarantined, QuarantineBounds, Quarantined, Quarantining, StoreError,
};

use crate::faults::Kind;
use crate::ledger::Known;
use crate::people::Act;
use crate::world::{Plan, World};
use crate::{START, audit};

/// Keys from here on are those of forgers.
const FORGED: u64 = 1_000_000;
/// A born-in-flight delivery is leased for this long beyond its destination's timeout.
pub(crate) const LEASE_MARGIN: Duration = Duration::from_secs(10);

const TYPES: [&str; 5] = [
    "message.created",
    "message.created",
    "message.updated",
    "grant.expired",
    "message.created.truncated",
];

/// What is sent until somebody takes it.
#[derive(Clone, Debug)]
pub(crate) struct Notification {
    source: SourceId,
    event_type: &'static str,
    /// An application publishes it, which goes on until it is answered.
    published: bool,
    /// Its source gets the right secret only after the first post.
    too_early: bool,
}

impl World {
    /// A new notification, first posted at `at`.
    pub(crate) fn new_notification(&mut self, key: u64, at: Timestamp) {
        let published = self.scenario.outbox && (!self.scenario.inbox || self.chance.percent(60));
        let too_early = !published && self.chance.percent(self.scenario.mix.too_early_percent);
        let notification = Notification {
            source: if published {
                SourceId::of_outbox(self.application)
            } else {
                self.source
            },
            event_type: self.chance.pick(&TYPES),
            published,
            too_early,
        };
        self.notifications.insert(key, notification);
        self.plan_post(at, key, 1);
    }

    fn plan_post(&mut self, at: Timestamp, key: u64, time: u32) {
        self.posts_planned += 1;
        self.plan(at, Plan::Send { key, time });
    }

    /// Posts a notification. Without a 2xx it is posted again later.
    pub(crate) fn send(&mut self, key: u64, time: u32) {
        self.posts_planned -= 1;
        let Some(notification) = self.notifications.get(&key).cloned() else {
            return;
        };
        let Some(node) = self.some_node() else {
            return self.send_again(key, time);
        };
        if notification.too_early && time == 1 {
            self.count(Kind::TooEarly);
            self.quarantine(node, key, false);
            let at = self.now.plus(self.chance.millis(60_000, 600_000));
            return self.plan_post(at, key, 2);
        }
        let new = self.new_event(node, key, &notification);
        let id = new.event.id;
        let answered = self.write(node, |store| store.append(new));
        self.note(|| format!("key {key} posted to node {node} for the {time}. time as {id}: {answered:?}"));
        let stored = match answered {
            Some(Ok(Appended::Accepted { .. })) => id,
            Some(Ok(Appended::Repeat { first, .. })) => first,
            Some(Err(StoreError::Unavailable { .. })) => {
                self.ledger.refused(id);
                return self.send_again(key, time);
            }
            Some(Err(_)) | None => return self.send_again(key, time),
        };
        if self.faults_on && self.chance.percent(self.scenario.mix.answers_lost_percent) {
            self.count(Kind::AnswerLost);
            return self.send_again(key, time);
        }
        let kept = self.ledger.acknowledged(key, stored);
        self.judge(kept);
        if self.faults_on && time < 30 && self.chance.percent(self.scenario.mix.repeats_percent) {
            self.repeat(key, time);
        }
    }

    /// A sender repeats what was taken: soon, or after the window within which repeats are recognised.
    fn repeat(&mut self, key: u64, time: u32) {
        self.count(Kind::Repeat);
        let days = self.scenario.safety > self.scenario.dedupe_window;
        let after = if days && self.chance.percent(20) {
            self.scenario.dedupe_window + Duration::from_secs(2 * 3_600)
        } else {
            self.chance.millis(0, 60_000)
        };
        let at = self.now.plus(after);
        self.plan_post(at, key, time + 1);
    }

    fn send_again(&mut self, key: u64, time: u32) {
        let published = self.notifications.get(&key).is_some_and(|it| it.published);
        if time >= self.scenario.tries && !published {
            self.note(|| format!("the sender of key {key} gives up"));
            return;
        }
        let at = self.now.plus(self.chance.millis(1_000, 60_000));
        self.plan_post(at, key, time + 1);
    }

    /// Somebody without the secret posts, with a key of its own or that of a true notification.
    pub(crate) fn forge(&mut self, key: u64) {
        let Some(node) = self.some_node() else { return };
        self.count(Kind::Forged);
        let own = self.chance.percent(50) || !self.notifications.contains_key(&key);
        let key = if own { FORGED + key } else { key };
        if own {
            self.ledger.forged(key);
        }
        self.quarantine(node, key, true);
    }

    /// What the inbox does with a notification that it does not believe: 401, and quarantine.
    fn quarantine(&mut self, node: usize, key: u64, forged: bool) {
        let received_at = self.nodes[node].time(self.now);
        let id = QuarantineId::new(received_at, self.entropy());
        let item = Quarantined {
            id,
            source: self.source,
            received_at,
            cause: "signature-mismatch".to_owned(),
            peer: if forged { "192.0.2.66" } else { "192.0.2.1" }.to_owned(),
            method: "POST".to_owned(),
            target: "/in/nylas".to_owned(),
            headers: HeaderBlock::default(),
            body: body(key),
        };
        let bounds = QuarantineBounds {
            events: 10_000,
            bytes: 256 << 20,
            events_per_peer: 1_000,
        };
        let kept = self.write(node, |store| store.quarantine(NewQuarantined { item, bounds }));
        self.note(|| format!("key {key} is not believed at node {node}: {kept:?}"));
        if matches!(kept, Some(Ok(Quarantining::Kept))) {
            self.quarantined.insert(id, (key, forged));
            self.plan_in(1_000, 120_000, Plan::Person(Act::Quarantine { id, again: false }));
        }
    }

    /// The event that a node makes of a notification with this key, and the ledger's note of it.
    pub(crate) fn event_of_key(&mut self, node: usize, key: u64) -> Option<NewEvent> {
        let notification = self.notifications.get(&key).cloned()?;
        Some(self.new_event(node, key, &notification))
    }

    fn new_event(&mut self, node: usize, key: u64, notification: &Notification) -> NewEvent {
        let accepted_at = self.nodes[node].time(self.now);
        let event = Event {
            id: EventId::new(accepted_at, self.entropy()),
            application: self.application,
            source: notification.source,
            provider_id: Some(key.to_string()),
            event_type: Some(notification.event_type.to_owned()),
            occurred_at: Some(START),
            accepted_at,
            headers: HeaderBlock::default(),
            body: body(key),
        };
        let known = Known {
            key,
            source: event.source,
            accepted_at,
            due_to: audit::takers(&self.topology(), event.source, notification.event_type),
            event_type: notification.event_type,
            may_go_to: BTreeSet::new(),
            acknowledged: false,
            refused: false,
        };
        self.ledger.handed_in(event.id, known);
        let mut hash = [0; 16];
        hash[..8].copy_from_slice(&key.to_be_bytes());
        hash[8..].copy_from_slice(&event.source.as_u128().to_be_bytes()[..8]);
        NewEvent {
            dedupe: Some(Dedupe {
                key: hash,
                body: [0; 8],
                expires_at: accepted_at.plus(self.scenario.dedupe_window),
            }),
            event: Arc::new(event),
            lease_margin: LEASE_MARGIN,
        }
    }

    pub(crate) fn entropy(&mut self) -> u128 {
        (u128::from(self.chance.next()) << 64) | u128::from(self.chance.next())
    }
}

fn body(key: u64) -> Bytes {
    let length = 20 + (key % 7) * 30;
    Bytes::from(vec![b'x'; usize::try_from(length).unwrap_or(20)])
}
