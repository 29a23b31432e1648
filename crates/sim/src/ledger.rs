//! The ledger: the judge outside the system.
//!
//! Owns what senders were told, what the store acknowledged to whom, what destinations saw, and the promises between
//! them. Must not look into the store or the dispatcher.
//! Order by key (SPEC I13) is not judged: the engine keeps none.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hookfast_engine::health::Gate;
use hookfast_engine::id::{DeliveryId, DestinationId, EventId, ReplayId, SourceId};
use hookfast_engine::outcome::Outcome;
use hookfast_engine::retry::{Meaning, Policy, Schedule, Verdict, meaning};
use hookfast_engine::time::Timestamp;
use hookfast_engine::topology::{Destination, DestinationKind, DestinationStatus};
use hookfast_store::{ClaimedDelivery, Settled};

/// What a promise kept, or the one that was broken.
pub(crate) type Kept = Result<(), String>;

/// A driver hears of what the store decided within this time.
const HEARD_WITHIN: Duration = Duration::from_millis(10);

/// An event that somebody tried to hand in.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) key: u64,
    pub(crate) event_type: &'static str,
    pub(crate) source: SourceId,
    pub(crate) accepted_at: Timestamp,
    /// The destinations that it is due to.
    pub(crate) due_to: BTreeSet<DestinationId>,
    /// The destinations that it may have got, were it kept long enough.
    pub(crate) may_go_to: BTreeSet<DestinationId>,
    /// A 2xx named it.
    pub(crate) acknowledged: bool,
    /// The store said that nothing was written.
    pub(crate) refused: bool,
}

/// Whether the newest claim of a delivery holds.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Held {
    #[default]
    No,
    /// Nobody heard what became of its end.
    Perhaps,
    Yes,
}

/// One delivery, as claims, answers and settlements showed it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Line {
    token: u32,
    lease_until: Timestamp,
    held: Held,
    replay: Option<ReplayId>,
    /// Somebody asked for a new round.
    again: bool,
    /// Ends in this round that the policy counts, as far as they were acknowledged.
    counted: usize,
    /// Attempts that began in this round.
    pub(crate) begun: usize,
    first_begun: Option<Timestamp>,
    pub(crate) settled: Option<Verdict>,
    /// The destination took it, and its answer says so.
    pub(crate) succeeded: bool,
    /// The destination refused it for good.
    pub(crate) refused: bool,
    /// Somebody gave it up.
    pub(crate) given_up: bool,
    /// It was found discarded.
    pub(crate) discarded: bool,
}

/// A destination, as people and settlements left it.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) policy: Policy,
    concurrency: u32,
    rate: Option<u32>,
    pub(crate) open: bool,
    /// It took nothing for a while, having taken deliveries before.
    was_closed: bool,
    pulled: bool,
    pub(crate) deleted: bool,
    /// What waited there was discarded at least once.
    pub(crate) emptied: bool,
    gate: Option<(Timestamp, Gate)>,
    /// Attempts under way, by node, with the time of their claims.
    under_way: BTreeMap<(usize, DeliveryId, u32), Timestamp>,
    recent: Vec<Timestamp>,
    /// Its people are owed a notice of these.
    owed_notices: Vec<DestinationStatus>,
}

/// What was acknowledged and what arrived.
#[derive(Debug)]
pub(crate) struct Ledger {
    one_node: bool,
    /// Whether probes are judged: one node sends, and its clock does not step.
    gates_watched: bool,
    dedupe_window: Duration,
    pub(crate) events: BTreeMap<EventId, Known>,
    pub(crate) lines: BTreeMap<DeliveryId, Line>,
    pub(crate) places: BTreeMap<DestinationId, Place>,
    /// Keys of notifications that were forged and of no true one.
    forged: BTreeSet<u64>,
    /// Under which events each key was taken, by destination.
    arrived: BTreeMap<(DestinationId, u64), BTreeSet<EventId>>,
    /// Which delivery is whose, as far as it was seen.
    pub(crate) deliveries: BTreeMap<(EventId, DestinationId), DeliveryId>,
    pub(crate) acknowledged: u64,
    pub(crate) attempts: u64,
}

/// A claim as it was made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClaimedAt {
    /// In true time.
    pub(crate) at: Timestamp,
    /// As the node and its store count.
    pub(crate) time: Timestamp,
}

impl Line {
    /// Whether a round that somebody asked for explains that it is no longer settled.
    pub(crate) fn began_again(&self, replay: Option<ReplayId>) -> bool {
        self.again || (replay.is_some() && replay != self.replay)
    }
}

impl Place {
    /// Whether what waits there may have been given up: by somebody, or because nobody was sent it for as long as
    /// waiting deliveries are kept.
    pub(crate) fn may_give_up(&self, kept: Duration) -> bool {
        let longest_delay = Duration::from_secs(2 * 86_400);
        self.deleted || self.emptied || (kept < longest_delay && (self.pulled || self.was_closed))
    }
}

impl Ledger {
    pub(crate) fn new(one_node: bool, clock_steps: bool, dedupe_window: Duration) -> Self {
        Self {
            one_node,
            gates_watched: one_node && !clock_steps,
            dedupe_window,
            events: BTreeMap::new(),
            lines: BTreeMap::new(),
            places: BTreeMap::new(),
            forged: BTreeSet::new(),
            arrived: BTreeMap::new(),
            deliveries: BTreeMap::new(),
            acknowledged: 0,
            attempts: 0,
        }
    }

    /// A forged notification was sent, with a key of its own.
    pub(crate) fn forged(&mut self, key: u64) {
        self.forged.insert(key);
    }

    /// Somebody hands in an event that is due to these destinations.
    pub(crate) fn handed_in(&mut self, event: EventId, known: Known) {
        self.events.insert(event, known);
    }

    /// The store said that it took nothing.
    pub(crate) fn refused(&mut self, event: EventId) {
        if let Some(known) = self.events.get_mut(&event) {
            known.refused = true;
        }
    }

    /// A sender was answered 2xx for `key`: `event` is stored.
    pub(crate) fn acknowledged(&mut self, key: u64, event: EventId) -> Kept {
        let known = self.events.get_mut(&event).filter(|known| known.key == key);
        let known = known
            .ok_or_else(|| format!("key {key} was acknowledged as {event}, which is not of this key"))?;
        self.acknowledged += u64::from(!std::mem::replace(&mut known.acknowledged, true));
        Ok(())
    }

    /// People or a settlement left the destination so.
    pub(crate) fn destination(&mut self, destination: &Destination, policy: Policy) {
        let place = self.places.entry(destination.id).or_insert_with(|| Place {
            policy: policy.clone(),
            concurrency: 0,
            rate: None,
            open: false,
            was_closed: false,
            pulled: destination.kind == DestinationKind::Pull,
            deleted: false,
            emptied: false,
            gate: None,
            under_way: BTreeMap::new(),
            recent: Vec::new(),
            owed_notices: Vec::new(),
        });
        if destination.is_open() && !place.open {
            // Whoever opened it had its health begin anew.
            place.gate = None;
        }
        place.was_closed |= place.open && !destination.is_open();
        place.policy = policy;
        place.concurrency = place.concurrency.max(destination.concurrency);
        place.rate = destination
            .rate_limit
            .map(|rate| place.rate.unwrap_or(0).max(rate));
        place.open = destination.is_open();
        place.deleted = destination.deleted_at.is_some();
    }

    /// The destination's status became `status`: its people are owed a notice.
    pub(crate) fn owes_notice(&mut self, destination: DestinationId, status: DestinationStatus) {
        if let Some(place) = self.places.get_mut(&destination) {
            place.owed_notices.push(status);
        }
    }

    /// Its people got a notice.
    pub(crate) fn noticed(&mut self, destination: DestinationId, status: DestinationStatus) {
        if let Some(place) = self.places.get_mut(&destination)
            && let Some(at) = place.owed_notices.iter().position(|owed| *owed == status)
        {
            place.owed_notices.remove(at);
        }
    }

    /// A notice that nobody got.
    pub(crate) fn owed_notice(&self) -> Kept {
        let owed = self
            .places
            .iter()
            .find_map(|(id, place)| place.owed_notices.first().map(|status| (id, status)));
        owed.map_or(Ok(()), |(id, status)| {
            Err(format!("nobody was told that {id} became {}", status.name()))
        })
    }

    /// Somebody asked for a new round of this delivery.
    pub(crate) fn again(&mut self, delivery: DeliveryId) {
        self.lines.entry(delivery).or_default().again = true;
    }

    /// Somebody gave this delivery up.
    pub(crate) fn discarded(&mut self, delivery: DeliveryId) {
        let line = self.lines.entry(delivery).or_default();
        line.given_up = true;
        line.held = Held::No;
    }

    /// The store gave a delivery to a node or a worker.
    pub(crate) fn claimed(&mut self, claim: ClaimedAt, delivery: &ClaimedDelivery, pulled: bool) -> Kept {
        let (id, destination) = (delivery.id, delivery.destination);
        let place = self
            .places
            .get(&destination)
            .ok_or_else(|| format!("{id} was claimed for {destination}, which was never set up"))?;
        if !place.open {
            return Err(format!(
                "{id} was claimed for {destination}, which takes nothing at present"
            ));
        }
        if self.gates_watched && !pulled {
            self.passes_gate(claim, place, delivery)?;
        }
        self.deliveries.insert((delivery.event.id, destination), id);
        let now = if self.one_node { claim.time } else { claim.at };
        // Clocks of several nodes are never put quite right.
        let slack = if self.one_node {
            Duration::ZERO
        } else {
            Duration::from_secs(2)
        };
        let line = self.lines.entry(id).or_default();
        if delivery.attempt <= line.token {
            return Err(format!(
                "{id} was claimed with token {} after token {}",
                delivery.attempt, line.token
            ));
        }
        if line.held == Held::Yes && now.plus(slack) < line.lease_until {
            return Err(format!("{id} was claimed twice while its lease held"));
        }
        let replayed = delivery.replay.map(|(job, _)| job);
        if line.began_again(replayed) {
            *line = Line {
                token: line.token,
                succeeded: line.succeeded,
                ..Line::default()
            };
        } else if line.settled.is_some() {
            return Err(format!(
                "{id} was settled as {:?} and claimed again",
                line.settled
            ));
        }
        line.token = delivery.attempt;
        line.lease_until = if self.one_node {
            delivery.lease_until
        } else {
            claim.at.plus(delivery.lease_until.since(claim.time))
        };
        line.held = Held::Yes;
        line.replay = replayed;
        Ok(())
    }

    /// A destination whose breaker is open, or that is failing, is probed, one attempt at a time.
    fn passes_gate(&self, claim: ClaimedAt, place: &Place, delivery: &ClaimedDelivery) -> Kept {
        let Some((known_at, Gate::ProbeAt(probe_at))) = place.gate else {
            return Ok(());
        };
        if claim.at < known_at.plus(HEARD_WITHIN) {
            return Ok(());
        }
        let (id, destination) = (delivery.id, delivery.destination);
        if claim.time < probe_at {
            return Err(format!(
                "{id} was claimed for {destination}, which is down, before its probe was due"
            ));
        }
        let probes = place
            .under_way
            .values()
            .filter(|at| known_at.plus(HEARD_WITHIN) <= **at);
        if probes.count() > 0 {
            return Err(format!(
                "two probes of {destination} at a time, the second is {id}"
            ));
        }
        Ok(())
    }

    /// An attempt begins: never to a suspended destination, never more at once than it takes.
    pub(crate) fn attempt_begins(
        &mut self,
        node: usize,
        claim: ClaimedAt,
        now: Timestamp,
        delivery: &ClaimedDelivery,
    ) -> Kept {
        self.attempts += 1;
        let destination = delivery.destination;
        let Some(place) = self.places.get_mut(&destination) else {
            return Ok(());
        };
        if self.one_node && !place.open {
            return Err(format!("an attempt to {destination}, which is suspended"));
        }
        place
            .under_way
            .insert((node, delivery.id, delivery.attempt), claim.at);
        let at_once = place.under_way.keys().filter(|(at, ..)| *at == node).count();
        if at_once > place.concurrency as usize {
            return Err(format!(
                "{at_once} attempts at once to {destination}, which takes {}",
                place.concurrency
            ));
        }
        if let Some(rate) = place.rate.filter(|_| self.one_node) {
            place.recent.retain(|at| now < at.plus(Duration::from_secs(1)));
            place.recent.push(now);
            // A second's worth may be saved up, and another be claimed when it was not yet used.
            if place.recent.len() > 3 * rate as usize {
                return Err(format!(
                    "{} attempts within a second to {destination}, which takes {rate}",
                    place.recent.len()
                ));
            }
        }
        let line = self.lines.entry(delivery.id).or_default();
        line.begun += 1;
        line.first_begun.get_or_insert(now);
        Ok(())
    }

    /// The destination has seen the end of it.
    pub(crate) fn attempt_ends(&mut self, node: usize, delivery: &ClaimedDelivery, outcome: &Outcome) {
        let Some(place) = self.places.get_mut(&delivery.destination) else {
            return;
        };
        place.under_way.remove(&(node, delivery.id, delivery.attempt));
        let line = self.lines.entry(delivery.id).or_default();
        match meaning(&place.policy, outcome) {
            Meaning::Success => line.succeeded = true,
            Meaning::Permanent => line.refused = true,
            Meaning::Retryable | Meaning::Unknown => {}
        }
    }

    /// A process died: what it had under way is cut off, and whoever owns the store alone gives up its claims.
    pub(crate) fn died(&mut self, node: usize, pulled: &BTreeSet<DeliveryId>) {
        for place in self.places.values_mut() {
            place.under_way.retain(|(at, ..), _| *at != node);
            place.recent.clear();
        }
        if self.one_node {
            let push = self.lines.iter_mut().filter(|(id, _)| !pulled.contains(id));
            push.for_each(|(_, line)| line.held = Held::No);
        }
    }

    /// A destination took an event: one that was sent and not refused, and one event per key.
    pub(crate) fn arrived(&mut self, delivery: &ClaimedDelivery) -> Kept {
        let (event, destination) = (&delivery.event, delivery.destination);
        if event.source.publisher().is_some() && !event.source.is_outbox() {
            return Ok(());
        }
        let known = self
            .events
            .get(&event.id)
            .ok_or_else(|| format!("{} arrived at {destination} and was never handed in", event.id))?;
        if self.forged.contains(&known.key) {
            return Err(format!(
                "key {} arrived at {destination} and was forged",
                known.key
            ));
        }
        if known.refused {
            return Err(format!(
                "key {} arrived at {destination} as {}, of which the store had said that nothing was written",
                known.key, event.id
            ));
        }
        let key = known.key;
        let events = self.arrived.entry((destination, key)).or_default();
        events.insert(event.id);
        let mut times: Vec<_> = events
            .iter()
            .filter_map(|id| self.events.get(id).map(|known| known.accepted_at))
            .collect();
        times.sort_unstable();
        if times
            .windows(2)
            .any(|pair| pair[1].since(pair[0]) < self.dedupe_window)
        {
            return Err(format!(
                "key {key} arrived at {destination} as two events within its window: a repeat was delivered"
            ));
        }
        Ok(())
    }

    /// The store acknowledged the end of an attempt.
    pub(crate) fn settled(
        &mut self,
        now: Timestamp,
        delivery: &ClaimedDelivery,
        outcome: &Outcome,
        settled: &Settled,
    ) -> Kept {
        let Some(place) = self.places.get_mut(&delivery.destination) else {
            return Ok(());
        };
        let (id, token) = (delivery.id, delivery.attempt);
        let line = self.lines.entry(id).or_default();
        let Settled::Moved { verdict, gate, .. } = settled else {
            return Ok(());
        };
        if token != line.token || line.held == Held::No {
            return Err(format!(
                "the end of attempt {token} of {id} counted, though attempt {} had been given out or it had ended",
                line.token
            ));
        }
        line.held = Held::No;
        let counts = meaning(&place.policy, outcome) != Meaning::Unknown;
        place.gate = Some((now, *gate));
        line.counted += usize::from(counts);
        let most = attempts_most(&place.policy);
        if most.is_some_and(|most| line.counted > most) {
            return Err(format!(
                "{} attempts of {id}, more than its policy allows",
                line.counted
            ));
        }
        match verdict {
            Verdict::RetryAt(_) => {}
            Verdict::Delivered | Verdict::Rejected | Verdict::Dead => line.settled = Some(*verdict),
        }
        Ok(())
    }

    /// Whether the end of this attempt counted was never heard.
    pub(crate) fn perhaps_settled(&mut self, delivery: &ClaimedDelivery) {
        let line = self.lines.entry(delivery.id).or_default();
        if line.token == delivery.attempt && line.held == Held::Yes {
            line.held = Held::Perhaps;
        }
        if let Some(place) = self.places.get_mut(&delivery.destination) {
            place.gate = None;
        }
    }

    /// A worker's lease goes on.
    pub(crate) fn extended(&mut self, delivery: &ClaimedDelivery, until: Timestamp) {
        let line = self.lines.entry(delivery.id).or_default();
        if line.token == delivery.attempt {
            line.lease_until = until;
        }
    }

    /// Whether a delivery may be dead: its attempts are used up.
    pub(crate) fn used_up(&self, delivery: DeliveryId, destination: DestinationId, now: Timestamp) -> bool {
        let (Some(line), Some(place)) = (self.lines.get(&delivery), self.places.get(&destination)) else {
            return false;
        };
        match (&place.policy.schedule, attempts_most(&place.policy)) {
            (_, Some(most)) => line.begun >= most,
            (Schedule::Exponential { span, longest, .. }, None) => line
                .first_begun
                .is_some_and(|first| first.plus(*span).minus(*longest) <= now),
            (Schedule::Delays(_), None) => false,
        }
    }
}

/// The most attempts in one round that the policy counts, where it counts them.
fn attempts_most(policy: &Policy) -> Option<usize> {
    match &policy.schedule {
        Schedule::Delays(delays) => Some(delays.len() + 1),
        Schedule::Exponential { .. } => None,
    }
}
