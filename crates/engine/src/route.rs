//! Routing: which destinations take an event.
//!
//! Owns trigger type patterns and the table that makes finding the matching destinations cost what the
//! matches cost, not what all destinations cost. Must not know deliveries.

use std::collections::{BTreeSet, HashMap};

use crate::delivery::DestinationNumber;
use crate::id::SourceId;
use crate::topology::{Destination, Topology};

/// Where an event of a source and type goes, compiled from one version of the topology.
#[derive(Debug, Default)]
pub struct RouteTable {
    sources: HashMap<SourceId, Patterns>,
}

#[derive(Debug, Default)]
struct Patterns {
    every: Vec<DestinationNumber>,
    whole: HashMap<String, Vec<DestinationNumber>>,
    /// By the part before `.*`.
    prefixes: HashMap<String, Vec<DestinationNumber>>,
}

impl RouteTable {
    /// Compiles the routes of `topology`. Deleted destinations have none; paused ones do: theirs are held.
    #[must_use]
    pub fn new(topology: &Topology) -> Self {
        let mut table = Self::default();
        for destination in topology.live_destinations() {
            for source in &destination.sources {
                let patterns = table.sources.entry(*source).or_default();
                for pattern in &destination.trigger_types {
                    patterns.insert(pattern, destination.number);
                }
            }
            if destination.takes_published() {
                table.insert_operational(destination);
            }
        }
        table
    }

    /// What Hookfast says of an application's things goes to the destinations that name its types, never to
    /// those that only take everything.
    fn insert_operational(&mut self, destination: &Destination) {
        let operations = SourceId::of_operations(destination.application);
        for pattern in &destination.trigger_types {
            if is_operational(pattern) {
                let patterns = self.sources.entry(operations).or_default();
                patterns.insert(pattern, destination.number);
            }
        }
    }

    /// The destinations that take an event of `source` and `event_type`, each once, by number.
    ///
    /// An event without a type goes to those that take every type.
    #[must_use]
    pub fn route(&self, source: SourceId, event_type: Option<&str>) -> Vec<DestinationNumber> {
        let Some(patterns) = self.sources.get(&source) else {
            return Vec::new();
        };
        let mut found = BTreeSet::from_iter(patterns.every.iter().copied());
        if let Some(event_type) = event_type {
            found.extend(patterns.whole.get(event_type).into_iter().flatten());
            for (dot, _) in event_type.match_indices('.') {
                found.extend(patterns.prefixes.get(&event_type[..dot]).into_iter().flatten());
            }
        }
        found.into_iter().collect()
    }
}

impl Patterns {
    fn insert(&mut self, pattern: &str, destination: DestinationNumber) {
        match pattern.strip_suffix(".*") {
            _ if pattern == "*" => self.every.push(destination),
            Some(prefix) => self
                .prefixes
                .entry(prefix.to_owned())
                .or_default()
                .push(destination),
            None => self
                .whole
                .entry(pattern.to_owned())
                .or_default()
                .push(destination),
        }
    }
}

/// Whether a type or pattern is one of what Hookfast itself publishes (SPEC O7, D6).
#[must_use]
pub fn is_operational(pattern: &str) -> bool {
    ["destination.", "source."]
        .iter()
        .any(|prefix| pattern.starts_with(prefix))
}

/// Why a text is not a trigger type pattern.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{0}` is not a trigger type: write a whole type (message.created), a prefix (message.*) or *")]
pub struct PatternError(String);

/// Checks that `pattern` is one that [`RouteTable`] understands.
///
/// # Errors
/// Where it is empty, has a `*` anywhere but as its last part, or is longer than 256 bytes.
pub fn check_pattern(pattern: &str) -> Result<(), PatternError> {
    let named = pattern.strip_suffix(".*").unwrap_or(pattern);
    let plain = !named.is_empty() && !named.contains('*') && !named.contains(char::is_whitespace);
    let well_formed = pattern == "*" || plain;
    if well_formed && pattern.len() <= 256 {
        Ok(())
    } else {
        Err(PatternError(pattern.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(destinations: &[(u32, &[&str])]) -> (RouteTable, SourceId) {
        let source = SourceId::from_u128(1);
        let mut table = RouteTable::default();
        let patterns = table.sources.entry(source).or_default();
        for (number, listed) in destinations {
            listed
                .iter()
                .for_each(|pattern| patterns.insert(pattern, DestinationNumber(*number)));
        }
        (table, source)
    }

    #[test]
    fn each_pattern_takes_its_types_and_no_other() {
        let (table, source) = table(&[
            (1, &["*"]),
            (2, &["message.*"]),
            (3, &["message.created", "message.*", "*"]),
            (4, &["message.created.truncated"]),
            (5, &["mess"]),
        ]);
        let check = |event_type, expected: &[u32]| {
            let expected: Vec<_> = expected.iter().copied().map(DestinationNumber).collect();
            assert_eq!(table.route(source, event_type), expected, "{event_type:?}");
        };
        check(Some("message.created"), &[1, 2, 3]);
        check(Some("message.created.truncated"), &[1, 2, 3, 4]);
        check(Some("message"), &[1, 3]);
        check(Some("messages.created"), &[1, 3]);
        check(Some("mess"), &[1, 3, 5]);
        check(None, &[1, 3]);
        assert_eq!(table.route(SourceId::from_u128(2), Some("message.created")), []);
    }

    #[test]
    fn patterns_that_would_silently_never_match_are_refused() {
        for good in ["*", "message.*", "message.created", "a"] {
            assert_eq!(check_pattern(good), Ok(()));
        }
        for bad in ["", ".*", "mess*", "*.created", "message.*.truncated", "a b", "**"] {
            assert!(check_pattern(bad).is_err(), "{bad}");
        }
    }
}
