//! Filters of events and deliveries as conditions of SQL.
//!
//! Owns the conditions, the cursors and the windows that bound how much one page looks at. Must not know
//! what the found rows are used for.

use hookfast_engine::time::Timestamp;
use rusqlite::types::Value;

use super::rows;
use crate::rules::PAGE_LIMIT;
use crate::{EventFilter, Page};

/// Conditions joined by AND, with their values.
#[derive(Debug)]
pub(super) struct Conditions {
    pub(super) sql: String,
    pub(super) values: Vec<Value>,
}

impl Conditions {
    pub(super) fn new() -> Self {
        Self {
            sql: "1".to_owned(),
            values: Vec::new(),
        }
    }

    /// Adds a condition whose one `?` stands for `value`.
    pub(super) fn and(&mut self, condition: &str, value: impl Into<Value>) {
        self.sql.push_str(" AND ");
        self.sql.push_str(condition);
        self.values.push(value.into());
    }

    fn and_plain(&mut self, condition: &str) {
        self.sql.push_str(" AND ");
        self.sql.push_str(condition);
    }
}

/// The conditions of a filter over `events e` joined with its parties `a` and `s`. `after` is left out: it
/// is where a list begins, not a property of the event.
pub(super) fn of_events(filter: &EventFilter) -> Conditions {
    let mut conditions = Conditions::new();
    if let Some(application) = filter.application {
        conditions.and(
            "e.application = (SELECT number FROM parties WHERE id = ?)",
            rows::id(application.as_u128()).to_vec(),
        );
    }
    if let Some(source) = filter.source {
        conditions.and(
            "e.source = (SELECT number FROM parties WHERE id = ?)",
            rows::id(source.as_u128()).to_vec(),
        );
    }
    match filter.event_type.as_deref() {
        None | Some("*") => {}
        Some(pattern) => match pattern.strip_suffix(".*") {
            // A dot is followed by a slash: all that begins with the prefix and a dot lies between them.
            Some(prefix) => {
                conditions.and("e.type >= ?", format!("{prefix}."));
                conditions.and("e.type < ?", format!("{prefix}/"));
            }
            None => conditions.and("e.type = ?", pattern.to_owned()),
        },
    }
    if let Some(provider_id) = &filter.provider_id {
        conditions.and("e.provider_id = ?", provider_id.clone());
    }
    if let Some(from) = filter.from {
        conditions.and("e.accepted_at >= ?", rows::time(from));
    }
    if let Some(until) = filter.until {
        conditions.and("e.accepted_at < ?", rows::time(until));
    }
    if filter.unrouted {
        conditions.and_plain("e.routed = 0");
    }
    conditions
}

/// How many items a page has.
pub(super) fn limit(page: &Page) -> usize {
    usize::try_from(page.limit.clamp(1, PAGE_LIMIT)).unwrap_or(1)
}

/// Where the page before ended. A cursor of no list of ours begins at the start.
pub(super) fn read_cursor(page: &Page) -> Option<i64> {
    page.cursor.as_deref().and_then(|cursor| cursor.parse().ok())
}

/// Times that a filter names, for conditions on deliveries.
pub(super) fn between(conditions: &mut Conditions, from: Option<Timestamp>, until: Option<Timestamp>) {
    if let Some(from) = from {
        conditions.and("d.accepted_at >= ?", rows::time(from));
    }
    if let Some(until) = until {
        conditions.and("d.accepted_at < ?", rows::time(until));
    }
}
