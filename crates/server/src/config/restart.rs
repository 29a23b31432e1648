//! Which settings were changed that count only from the next start on.
//!
//! Owns the comparison of two readings, key by key, and the list of what is applied while the server runs. Must not
//! show a value: it may be a secret.

use std::collections::BTreeMap;
use std::fmt;

use super::layers::{Table, Value};

/// The sections and keys that a reload applies at once, as changes of the topology. Everything else waits for a start,
/// so that what is new is told of until somebody makes it live.
const LIVE: [&str; 6] = [
    "source",
    "destination",
    "policy",
    "trigger",
    "outbox.preset",
    "outbox.open",
];

/// The settings that count from a start on, as they were given.
#[derive(Clone, Default)]
pub struct AtStart(BTreeMap<String, Given>);

/// A value without its place: the same value from another layer is no change.
#[derive(Clone, Eq, PartialEq)]
enum Given {
    Text(String),
    List(Vec<Self>),
    Table(BTreeMap<String, Self>),
}

impl AtStart {
    pub(super) fn of(tree: &Table) -> Self {
        let mut settings = BTreeMap::new();
        for (section, node) in tree {
            match &node.value {
                Value::Table(table) => settings.extend(
                    table
                        .iter()
                        .map(|(key, node)| (format!("{section}.{key}"), Given::of(&node.value))),
                ),
                Value::Text(_) | Value::Number(_) | Value::Boolean(_) | Value::List(_) => {
                    settings.insert(section.clone(), Given::of(&node.value));
                }
            }
        }
        let section_of = |key: &str| key.split('.').next().unwrap_or(key).to_owned();
        settings.retain(|key, _| !LIVE.contains(&key.as_str()) && !LIVE.contains(&section_of(key).as_str()));
        Self(settings)
    }

    /// The keys whose values differ in `new`, in their order.
    #[must_use]
    pub fn changed<'a>(&'a self, new: &'a Self) -> Vec<&'a str> {
        let differs = |key: &&String| self.0.get(*key) != new.0.get(*key);
        let mut keys: Vec<&str> = self
            .0
            .keys()
            .chain(new.0.keys())
            .filter(differs)
            .map(String::as_str)
            .collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }
}

impl fmt::Debug for AtStart {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.0.keys()).finish()
    }
}

impl Given {
    fn of(value: &Value) -> Self {
        match value {
            Value::Text(text) | Value::Number(text) => Self::Text(text.clone()),
            Value::Boolean(value) => Self::Text(value.to_string()),
            Value::List(items) => Self::List(items.iter().map(|item| Self::of(&item.value)).collect()),
            Value::Table(table) => {
                let entries = table
                    .iter()
                    .map(|(key, node)| (key.clone(), Self::of(&node.value)));
                Self::Table(entries.collect())
            }
        }
    }
}
