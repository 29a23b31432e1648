//! Lists, single things and counts, from connections that only read.
//!
//! Owns the queries behind what people look at. Must not change anything, nor hold a read open longer than
//! one answer takes.

use std::collections::BTreeMap;
use std::sync::Arc;

use hookfast_engine::delivery::{DeliveryKey, DeliveryState, DestinationNumber, EventSequence};
use hookfast_engine::event::HeaderBlock;
use hookfast_engine::health::Health;
use hookfast_engine::id::{ApplicationId, DeliveryId, DestinationId, EventId, SourceId};
use hookfast_engine::time::Timestamp;
use hookfast_engine::topology::{Destination, Topology};
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, params, params_from_iter};

use super::claim;
use super::filter::{self, Conditions};
use super::replay::of_event;
use super::rows::{self, DELIVERY_COLUMNS, DeliveryRow, EVENT_COLUMNS, EVENT_TABLES};
use super::settle::shown;
use super::state::{Known, Numbered, each, numbered};
use crate::{
    Attempt, DeliveryFilter, DeliverySummary, EventFilter, EventSummary, Listed, Page, Result, Standing,
    Stats, StoreError, StoredEvent, rules,
};

/// How many events or deliveries of them one look passes over …
const WINDOW: i64 = 20_000;
/// … and how often a page looks before it is given with what it has, and a cursor.
const LOOKS: usize = 25;

/// Looks through windows of sequences, from one end to the other, until a page is full.
struct Search {
    descending: bool,
    /// Sequences still to be looked at, both ends included.
    low: i64,
    high: i64,
}

impl Search {
    fn new(connection: &Connection, descending: bool) -> rusqlite::Result<Self> {
        let ends = connection
            .prepare_cached("SELECT (SELECT min(sequence) FROM events), (SELECT max(sequence) FROM events)")?
            .query_row([], |row| {
                Ok((row.get::<_, Option<i64>>(0)?, row.get::<_, Option<i64>>(1)?))
            })?;
        let (low, high) = match ends {
            (Some(low), Some(high)) => (low, high),
            (None, _) | (_, None) => (1, 0),
        };
        Ok(Self {
            descending,
            low,
            high,
        })
    }

    fn window(&mut self) -> Option<(i64, i64)> {
        if self.low > self.high {
            return None;
        }
        if self.descending {
            let low = self.low.max(self.high - WINDOW + 1);
            let window = (low, self.high);
            self.high = low - 1;
            Some(window)
        } else {
            let high = self.high.min(self.low + WINDOW - 1);
            let window = (self.low, high);
            self.low = high + 1;
            Some(window)
        }
    }
}

/// Cuts what was found, one more than asked for where there is more, into a page.
fn paged<T>(mut found: Vec<(i64, T)>, limit: usize, looked_until: Option<i64>) -> Listed<T> {
    let more = found.len() > limit;
    found.truncate(limit);
    let next = if more {
        found.last().map(|(place, _)| *place)
    } else {
        looked_until
    };
    Listed {
        items: found.into_iter().map(|(_, item)| item).collect(),
        next_cursor: next.map(|place| place.to_string()),
    }
}

/// Events.
pub(super) fn events(
    connection: &Connection,
    filter: &EventFilter,
    page: &Page,
) -> rusqlite::Result<Listed<EventSummary>> {
    let mut conditions = filter::of_events(filter);
    let mut search = Search::new(connection, filter.after.is_none())?;
    if let Some(after) = filter.after {
        match sequence_of(connection, after)? {
            Some(sequence) => search.low = search.low.max(sequence + 1),
            None => conditions.and("e.accepted_at >= ?", rows::time(after.made_at())),
        }
    }
    match filter::read_cursor(page) {
        Some(cursor) if search.descending => search.high = search.high.min(cursor - 1),
        Some(cursor) => search.low = search.low.max(cursor + 1),
        None => {}
    }
    let limit = filter::limit(page);
    let order = if search.descending { "DESC" } else { "ASC" };
    let sql = format!(
        "SELECT e.sequence, e.id, a.id, s.id, e.provider_id, e.type, e.occurred_at, e.accepted_at, \
         e.body_bytes, coalesce(r.repeats, 0), coalesce(r.conflicting, 0) \
         FROM events e JOIN parties a ON a.number = e.application JOIN parties s ON s.number = e.source \
         LEFT JOIN repeats r ON r.sequence = e.sequence \
         WHERE {} AND e.sequence BETWEEN ? AND ? ORDER BY e.sequence {order} LIMIT ?",
        conditions.sql
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut found = Vec::new();
    for _ in 0..LOOKS {
        let Some((low, high)) = search.window() else {
            return Ok(paged(found, limit, None));
        };
        let wanted = i64::try_from(limit + 1 - found.len()).unwrap_or(i64::MAX);
        let mut values = conditions.values.clone();
        values.extend([low, high, wanted].map(Value::Integer));
        for item in statement.query_map(params_from_iter(values), event_summary)? {
            found.push(item?);
        }
        if found.len() > limit {
            return Ok(paged(found, limit, None));
        }
    }
    let looked_until = if search.descending {
        search.high + 1
    } else {
        search.low - 1
    };
    Ok(paged(found, limit, Some(looked_until)))
}

fn event_summary(row: &Row<'_>) -> rusqlite::Result<(i64, EventSummary)> {
    Ok((
        row.get(0)?,
        EventSummary {
            id: EventId::from_u128(rows::get_id(row, 1)?),
            application: ApplicationId::from_u128(rows::get_id(row, 2)?),
            source: SourceId::from_u128(rows::get_id(row, 3)?),
            provider_id: row.get(4)?,
            event_type: row.get(5)?,
            occurred_at: rows::get_maybe_time(row, 6)?,
            accepted_at: rows::get_time(row, 7)?,
            body_bytes: rows::get_count(row, 8)?,
            repeats: rows::get_count(row, 9)?,
            conflicting: rows::get_count(row, 10)?,
        },
    ))
}

fn sequence_of(connection: &Connection, id: EventId) -> rusqlite::Result<Option<i64>> {
    connection
        .prepare_cached("SELECT sequence FROM events WHERE id = ?1")?
        .query_row([rows::id(id.as_u128())], |row| row.get(0))
        .optional()
}

/// One event, whole.
pub(super) fn event(
    connection: &Connection,
    topology: &Topology,
    id: EventId,
) -> Result<Option<StoredEvent>> {
    let step = |error: rusqlite::Error| rows::store_error(&error);
    // One snapshot for the event and its deliveries.
    let snapshot = connection.unchecked_transaction().map_err(step)?;
    let Some(sequence) = sequence_of(&snapshot, id).map_err(step)? else {
        return Ok(None);
    };
    let sql = format!("SELECT {EVENT_COLUMNS} FROM {EVENT_TABLES} WHERE e.sequence = ?1");
    let event = snapshot
        .prepare_cached(&sql)
        .and_then(|mut statement| statement.query_row([sequence], rows::read_event))
        .map_err(step)??;
    let (repeats, conflicting) = snapshot
        .prepare_cached("SELECT repeats, conflicting FROM repeats WHERE sequence = ?1")
        .and_then(|mut statement| {
            statement
                .query_row([sequence], |row| {
                    Ok((rows::get_count(row, 0)?, rows::get_count(row, 1)?))
                })
                .optional()
        })
        .map_err(step)?
        .unwrap_or((0, 0));
    let destinations = numbered(topology);
    let deliveries = of_event(&snapshot, sequence)
        .map_err(step)?
        .into_iter()
        .filter_map(|row| summary(row, event.id, event.event_type.clone(), &destinations))
        .collect();
    Ok(Some(StoredEvent {
        event: Arc::new(event),
        repeats,
        conflicting,
        deliveries,
    }))
}

/// A delivery as lists show it; nothing where its destination was never heard of.
fn summary(
    row: DeliveryRow,
    event: EventId,
    event_type: Option<String>,
    destinations: &Numbered,
) -> Option<DeliverySummary> {
    let known = destinations.get(&row.key.destination())?;
    let state = shown(row.state, Some(known));
    let given_up = state == DeliveryState::Discarded && row.state != DeliveryState::Discarded;
    let (due_at, settled_at, cause) = if given_up {
        let cause = rules::CAUSE_DESTINATION_DELETED.to_owned();
        (None, known.deleted_at, Some(cause))
    } else {
        (row.due_at, row.settled_at, row.cause.clone())
    };
    Some(DeliverySummary {
        id: row.id(),
        key: row.key,
        event,
        event_type,
        destination: known.id,
        state,
        progress: row.progress,
        accepted_at: row.accepted_at,
        due_at,
        settled_at,
        cause,
    })
}

/// A delivery's row, then its event's id and type.
fn summary_columns() -> String {
    format!("{DELIVERY_COLUMNS}, e.id, e.type")
}

fn read_summary(row: &Row<'_>, destinations: &Numbered) -> rusqlite::Result<Option<(i64, DeliverySummary)>> {
    let delivery = DeliveryRow::read(row)?;
    let event = EventId::from_u128(rows::get_id(row, 12)?);
    let place = delivery.key.as_i64();
    Ok(summary(delivery, event, row.get(13)?, destinations).map(|summary| (place, summary)))
}

/// Deliveries, newest first.
pub(super) fn deliveries(
    connection: &Connection,
    topology: &Topology,
    filter: &DeliveryFilter,
    page: &Page,
) -> rusqlite::Result<Listed<DeliverySummary>> {
    let wanted: Vec<&Destination> = topology
        .destinations
        .values()
        .filter(|destination| {
            filter.destination.is_none_or(|id| id == destination.id)
                && filter.application.is_none_or(|id| id == destination.application)
        })
        .collect();
    match filter.state {
        Some(state) if state != DeliveryState::Delivered => {
            deliveries_in(connection, topology, filter, page, state, &wanted)
        }
        Some(_) | None => deliveries_through(connection, topology, filter, page, &wanted),
    }
}

/// In which stored states a destination's deliveries may be that are shown in `state`.
fn stored_as(state: DeliveryState, known: Option<&Known>) -> Vec<DeliveryState> {
    rows::STORED_STATES
        .into_iter()
        .filter(|stored| shown(*stored, known) == state)
        .collect()
}

/// By the index of states: each destination and stored state by itself, then merged.
fn deliveries_in(
    connection: &Connection,
    topology: &Topology,
    filter: &DeliveryFilter,
    page: &Page,
    state: DeliveryState,
    wanted: &[&Destination],
) -> rusqlite::Result<Listed<DeliverySummary>> {
    let limit = filter::limit(page);
    let mut conditions = Conditions::new();
    filter::between(&mut conditions, filter.from, filter.until);
    let sql = format!(
        "SELECT {} FROM deliveries d INDEXED BY deliveries_by_state \
         JOIN events e ON e.sequence = (d.key >> {}) \
         WHERE {} AND d.state = ? AND d.state <> 3 AND d.destination = ? AND d.key < ? \
         ORDER BY d.key DESC LIMIT ?",
        summary_columns(),
        DestinationNumber::BITS,
        conditions.sql
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let before = filter::read_cursor(page).unwrap_or(i64::MAX);
    let destinations = numbered(topology);
    let mut found: Vec<(i64, DeliverySummary)> = Vec::new();
    for destination in wanted {
        for stored in stored_as(state, destinations.get(&destination.number)) {
            let mut values = conditions.values.clone();
            values.extend(
                [
                    rows::state_number(stored),
                    i64::from(destination.number.0),
                    before,
                    i64::try_from(limit + 1).unwrap_or(i64::MAX),
                ]
                .map(Value::Integer),
            );
            let rows =
                statement.query_map(params_from_iter(values), |row| read_summary(row, &destinations))?;
            for row in rows {
                found.extend(row?);
            }
        }
        // Bounded whatever the number of destinations.
        if found.len() > 4 * limit {
            found.sort_unstable_by_key(|(place, _)| std::cmp::Reverse(*place));
            found.truncate(limit + 1);
        }
    }
    found.sort_unstable_by_key(|(place, _)| std::cmp::Reverse(*place));
    found.truncate(limit + 1);
    Ok(paged(found, limit, None))
}

/// Through all deliveries, window by window.
fn deliveries_through(
    connection: &Connection,
    topology: &Topology,
    filter: &DeliveryFilter,
    page: &Page,
    wanted: &[&Destination],
) -> rusqlite::Result<Listed<DeliverySummary>> {
    let limit = filter::limit(page);
    let mut conditions = Conditions::new();
    filter::between(&mut conditions, filter.from, filter.until);
    if let Some(state) = filter.state {
        conditions.and("d.state = ?", rows::state_number(state));
    }
    if filter.destination.is_some() || filter.application.is_some() {
        let numbers: Vec<String> = wanted
            .iter()
            .map(|destination| destination.number.0.to_string())
            .collect();
        conditions.sql.push_str(" AND d.destination IN (");
        conditions.sql.push_str(&numbers.join(", "));
        conditions.sql.push(')');
    }
    let sql = format!(
        "SELECT {} FROM deliveries d JOIN events e ON e.sequence = (d.key >> {}) \
         WHERE {} AND d.key BETWEEN ? AND ? ORDER BY d.key DESC LIMIT ?",
        summary_columns(),
        DestinationNumber::BITS,
        conditions.sql
    );
    let mut statement = connection.prepare(&sql)?;
    let mut search = Search::new(connection, true)?;
    let before = filter::read_cursor(page);
    if let Some(before) = before {
        let event = DeliveryKey::from_i64(before).event().0;
        search.high = search.high.min(event);
    }
    let destinations = numbered(topology);
    let mut found = Vec::new();
    for _ in 0..LOOKS {
        let Some((low, high)) = search.window() else {
            return Ok(paged(found, limit, None));
        };
        let low = DeliveryKey::new(EventSequence(low), DestinationNumber(0)).as_i64();
        let high = DeliveryKey::new(EventSequence(high), DestinationNumber::MAX).as_i64();
        let high = before.map_or(high, |before| high.min(before - 1));
        let wanted = i64::try_from(limit + 1 - found.len()).unwrap_or(i64::MAX);
        let mut values = conditions.values.clone();
        values.extend([low, high, wanted].map(Value::Integer));
        let rows = statement.query_map(params_from_iter(values), |row| read_summary(row, &destinations))?;
        for row in rows {
            found.extend(row?);
        }
        if found.len() > limit {
            return Ok(paged(found, limit, None));
        }
    }
    let looked_until = DeliveryKey::new(EventSequence(search.high + 1), DestinationNumber(0)).as_i64();
    Ok(paged(found, limit, Some(looked_until)))
}

/// One delivery with its attempts.
pub(super) fn delivery(
    connection: &Connection,
    topology: &Topology,
    id: DeliveryId,
) -> rusqlite::Result<Option<(DeliverySummary, Vec<Attempt>)>> {
    let snapshot = connection.unchecked_transaction()?;
    let destinations = numbered(topology);
    let sql = format!(
        "SELECT {} FROM deliveries d JOIN events e ON e.sequence = (d.key >> {}) WHERE d.key = ?1",
        summary_columns(),
        DestinationNumber::BITS
    );
    let found = snapshot
        .prepare_cached(&sql)?
        .query_row([id.key().as_i64()], |row| read_summary(row, &destinations))
        .optional()?
        .flatten();
    let Some((_, summary)) = found.filter(|(_, summary)| summary.id == id) else {
        return Ok(None);
    };
    let attempts = snapshot
        .prepare_cached(
            "SELECT number, started_at, duration, outcome, error, headers, body FROM attempts \
             WHERE delivery = ?1 ORDER BY number",
        )?
        .query_map([id.key().as_i64()], |row| {
            Ok(Attempt {
                number: row.get(0)?,
                started_at: rows::get_time(row, 1)?,
                duration: rows::get_duration(row, 2)?,
                outcome: rows::get_document(row, 3)?,
                error: row.get(4)?,
                response_headers: HeaderBlock::from_packed(rows::get_bytes(row, 5)?),
                response_body: rows::get_bytes(row, 6)?,
            })
        })?
        .collect::<rusqlite::Result<_>>()?;
    Ok(Some((summary, attempts)))
}

/// A destination's health.
pub(super) fn health(
    connection: &Connection,
    topology: &Topology,
    destination: DestinationId,
) -> rusqlite::Result<Health> {
    let Some(destination) = topology.destinations.get(&destination) else {
        return Ok(Health::default());
    };
    let found = connection
        .prepare_cached("SELECT document FROM health WHERE destination = ?1")?
        .query_row([destination.number.0], |row| rows::get_document(row, 0))
        .optional()?;
    Ok(found.unwrap_or_default())
}

/// How each of `destinations` that is there stands: for each a look into two indices.
pub(super) fn standings(
    connection: &Connection,
    topology: &Topology,
    destinations: &[DestinationId],
    now: Timestamp,
) -> rusqlite::Result<Vec<Standing>> {
    let snapshot = connection.unchecked_transaction()?;
    let there = destinations.iter().filter_map(|id| topology.destinations.get(id));
    let standing = |destination: &Destination| {
        Ok(Standing {
            destination: destination.id,
            next_due: claim::next_due(&snapshot, destination.number, now, true)?,
            gate: health(&snapshot, topology, destination.id)?.gate(),
        })
    };
    there.map(standing).collect()
}

/// Counts over everything; the disk's are the caller's to add.
pub(super) fn stats(connection: &Connection, topology: &Topology) -> rusqlite::Result<Stats> {
    let snapshot = connection.unchecked_transaction()?;
    let destinations = numbered(topology);
    let mut stats = Stats::default();
    (stats.events, stats.repeats) = snapshot.query_row("SELECT events, repeats FROM totals", [], |row| {
        Ok((rows::get_count(row, 0)?, rows::get_count(row, 1)?))
    })?;
    let mut oldest: BTreeMap<DestinationId, i64> = BTreeMap::new();
    let mut first = snapshot.prepare_cached(
        "SELECT key, accepted_at FROM deliveries INDEXED BY deliveries_by_state \
         WHERE state = ?1 AND state <> 3 AND destination = ?2 ORDER BY key LIMIT 1",
    )?;
    let mut accepted = BTreeMap::new();
    each(
        &snapshot,
        "SELECT destination, state, n FROM counters WHERE n > 0",
        |row| {
            let number = DestinationNumber(row.get(0)?);
            let state = rows::get_state(row, 1)?;
            let Some(destination) = destinations.get(&number) else {
                return Ok(());
            };
            stats
                .deliveries
                .push((destination.id, state, rows::get_count(row, 2)?));
            if matches!(state, DeliveryState::Pending | DeliveryState::Retrying) {
                let (key, accepted_at) = first
                    .query_row(params![rows::state_number(state), number.0], |row| {
                        Ok((row.get::<_, i64>(0)?, rows::get_time(row, 1)?))
                    })?;
                if oldest.get(&destination.id).is_none_or(|older| key < *older) {
                    oldest.insert(destination.id, key);
                    accepted.insert(destination.id, accepted_at);
                }
            }
            Ok(())
        },
    )?;
    stats.deliveries.sort_unstable();
    stats.oldest_waiting = accepted.into_iter().collect();
    each(
        &snapshot,
        "SELECT source, count(*) FROM quarantine GROUP BY source",
        |row| {
            let source = SourceId::from_u128(rows::get_id(row, 0)?);
            stats.quarantined.push((source, rows::get_count(row, 1)?));
            Ok(())
        },
    )?;
    stats.quarantined.sort_unstable();
    drop(first);
    Ok(stats)
}

/// What is told of an error while reading.
pub(super) fn failed(error: &rusqlite::Error) -> StoreError {
    rows::store_error(error)
}
