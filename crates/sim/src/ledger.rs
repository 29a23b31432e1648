//! The ledger: the judge outside the system.
//!
//! Owns what senders were told and what destinations saw, and the promises between the two. Must not look
//! into the store or the dispatcher.

use std::collections::{BTreeMap, BTreeSet};

use hookfast_engine::id::{DestinationId, EventId};
use hookfast_engine::time::Timestamp;

/// What was acknowledged and what arrived.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// Dedupe keys that were sent at least once.
    sent: BTreeSet<u64>,
    /// Dedupe keys that were answered 200.
    acknowledged: BTreeSet<u64>,
    /// For each destination and key: under which event ids it was taken.
    arrived: BTreeMap<(DestinationId, u64), Vec<EventId>>,
    /// Attempts under way at each destination.
    under_way: BTreeMap<DestinationId, u32>,
    suspended: BTreeSet<DestinationId>,
}

impl Ledger {
    pub(crate) fn sent(&mut self, key: u64) {
        self.sent.insert(key);
    }

    pub(crate) fn acknowledged(&mut self, key: u64) {
        self.acknowledged.insert(key);
    }

    pub(crate) fn count(&self) -> u64 {
        self.acknowledged.len() as u64
    }

    pub(crate) fn suspend(&mut self, destination: DestinationId, suspended: bool) {
        if suspended {
            self.suspended.insert(destination);
        } else {
            self.suspended.remove(&destination);
        }
    }

    /// An attempt begins: never to a suspended destination, never more at once than it takes.
    pub(crate) fn attempt_begins(&mut self, destination: DestinationId, most: u32) -> Result<(), String> {
        if self.suspended.contains(&destination) {
            return Err(format!("an attempt to {destination}, which is paused"));
        }
        let count = self.under_way.entry(destination).or_default();
        *count += 1;
        if *count > most {
            return Err(format!(
                "{count} attempts at once to {destination}, which takes {most}"
            ));
        }
        Ok(())
    }

    pub(crate) fn attempt_ends(&mut self, destination: DestinationId) {
        if let Some(count) = self.under_way.get_mut(&destination) {
            *count = count.saturating_sub(1);
        }
    }

    /// The process died: nothing is under way any more.
    pub(crate) fn crashed(&mut self) {
        self.under_way.clear();
    }

    /// A destination took an event: one that was sent, and one event per key.
    pub(crate) fn arrived(
        &mut self,
        destination: DestinationId,
        key: u64,
        event: EventId,
    ) -> Result<(), String> {
        if !self.sent.contains(&key) {
            return Err(format!("key {key} arrived at {destination} and was never sent"));
        }
        let events = self.arrived.entry((destination, key)).or_default();
        events.push(event);
        if events.iter().any(|other| *other != event) {
            return Err(format!(
                "key {key} arrived at {destination} as two events: a repeat was delivered"
            ));
        }
        Ok(())
    }

    /// What is still owed: an acknowledged key that a destination never took.
    pub(crate) fn owed(&self, destinations: &[DestinationId]) -> Option<String> {
        let owed = |key: &u64| {
            destinations
                .iter()
                .find(|each| !self.arrived.contains_key(&(**each, *key)))
        };
        let missing = self
            .acknowledged
            .iter()
            .find_map(|key| owed(key).map(|destination| (key, destination)));
        missing.map(|(key, destination)| {
            format!("key {key} was acknowledged and never arrived at {destination}")
        })
    }

    /// A line for the trace.
    pub(crate) fn line(now: Timestamp, text: &str) -> String {
        let micros = now.since(crate::START).as_micros();
        format!("{:>10}.{:06} {text}", micros / 1_000_000, micros % 1_000_000)
    }
}
