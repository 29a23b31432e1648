//! Claims: which due deliveries a destination is given.
//!
//! Owns the order of claims and what becomes of leases that ran out. Must not know who asks or how many
//! slots there are.

use std::sync::Arc;

use hookfast_engine::delivery::{DeliveryKey, DeliveryState, DestinationNumber};
use hookfast_engine::event::Event;
use hookfast_engine::id::{EventId, ReplayId};
use hookfast_engine::time::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};

use super::rows::{self, DELIVERY_COLUMNS, DeliveryRow, EVENT_COLUMNS, EVENT_TABLES};
use super::topology::first_due;
use super::writer::{Applied, Writing};
use super::{replay, settle};
use crate::rules;
use crate::{Claim, Claimed, ClaimedDelivery, StoreError};

/// The cause of a delivery whose body no longer matches its checksum. It is not sent: a receiver must never
/// get a silently wrong body.
const DAMAGED: &str = "the stored body is damaged; run `hookfast check`";

/// Claims due deliveries.
pub(super) fn claim(writing: &mut Writing<'_>, claim: &Claim) -> Applied<Claimed> {
    let Some(number) = writing.state.number(claim.destination) else {
        return Ok(Claimed::default());
    };
    if !writing.state.known(number).is_some_and(|known| known.open) {
        return Ok(Claimed::default());
    }
    let due = due(writing.connection, number, claim)?;
    let open_total = writing.state.health(number).open_total(claim.now);
    let lease_until = claim.now.plus(claim.lease);
    let mut given = Claimed::default();
    let mut bytes = 0_usize;
    for row in due {
        let event = match load_event(writing.connection, row.key)? {
            Ok(event) => event,
            Err(error) => {
                give_up_damaged(writing, row, claim.now, &error)?;
                continue;
            }
        };
        if !given.deliveries.is_empty() && bytes.saturating_add(event.body.len()) > claim.bytes {
            break;
        }
        bytes += event.body.len();
        // In flight and due: its lease ran out.
        let row = match row.state {
            DeliveryState::InFlight => settle::lose(writing, row, claim.now)?,
            DeliveryState::Pending
            | DeliveryState::Retrying
            | DeliveryState::Held
            | DeliveryState::Delivered
            | DeliveryState::Rejected
            | DeliveryState::Dead
            | DeliveryState::Filtered
            | DeliveryState::Discarded => row,
        };
        let before = row.state;
        let claimed = DeliveryRow {
            state: DeliveryState::InFlight,
            due_at: Some(lease_until),
            progress: row.progress.begin_attempt(claim.now, open_total),
            touched_at: claim.now,
            ..row
        };
        writing.update(before, &claimed)?;
        given.deliveries.push(ClaimedDelivery {
            id: claimed.id(),
            destination: claim.destination,
            attempt: claimed.progress.attempt,
            round_attempt: claimed.progress.counted.saturating_add(1),
            replay: shown_replay(writing.connection, &claimed, event.id)?,
            event: Arc::new(event),
            lease_until,
        });
    }
    given.next_due = next_due(
        writing.connection,
        number,
        claim.now,
        writing.state.has_waiting(number),
    )?;
    Ok(given)
}

fn due(
    connection: &Connection,
    number: DestinationNumber,
    claim: &Claim,
) -> rusqlite::Result<Vec<DeliveryRow>> {
    let sql = format!(
        "SELECT {DELIVERY_COLUMNS} FROM deliveries d INDEXED BY deliveries_due \
         WHERE d.destination = ?1 AND d.due_at IS NOT NULL AND d.due_at >= ?2 AND d.due_at <= ?3 \
         ORDER BY d.due_at, d.key LIMIT ?4"
    );
    let from = claim.due_from.map_or(i64::MIN, rows::time);
    let mut statement = connection.prepare_cached(&sql)?;
    let found = statement.query_map(
        params![number.0, from, rows::time(claim.now), claim.limit,],
        DeliveryRow::read,
    )?;
    found.collect()
}

/// When the destination's next delivery is due that waits or whose lease ran out. Without `may_wait` none is known to
/// wait, and those in flight need not be read.
pub(super) fn next_due(
    connection: &Connection,
    number: DestinationNumber,
    now: Timestamp,
    may_wait: bool,
) -> rusqlite::Result<Option<Timestamp>> {
    let first: Option<Timestamp> = connection
        .prepare_cached(
            "SELECT due_at FROM deliveries INDEXED BY deliveries_due \
             WHERE destination = ?1 AND due_at IS NOT NULL ORDER BY due_at, key LIMIT 1",
        )?
        .query_row([number.0], |row| rows::get_time(row, 0))
        .optional()?;
    match first {
        Some(due_at) if due_at <= now => Ok(Some(due_at)),
        Some(_) if may_wait => first_due(connection, number),
        Some(_) | None => Ok(None),
    }
}

fn load_event(connection: &Connection, key: DeliveryKey) -> rusqlite::Result<Result<Event, StoreError>> {
    let sql = format!("SELECT {EVENT_COLUMNS} FROM {EVENT_TABLES} WHERE e.sequence = ?1");
    let found = connection
        .prepare_cached(&sql)?
        .query_row([key.event().0], rows::read_event)
        .optional()?;
    Ok(found.unwrap_or_else(|| {
        Err(StoreError::Corrupt {
            detail: format!("the event at {} is missing", key.event().0),
        })
    }))
}

fn give_up_damaged(
    writing: &mut Writing<'_>,
    row: DeliveryRow,
    now: Timestamp,
    error: &StoreError,
) -> rusqlite::Result<()> {
    tracing::error!(delivery.id = %row.id(), error = %error, "a stored body is damaged");
    let before = row.state;
    let dead = DeliveryRow {
        state: DeliveryState::Dead,
        due_at: None,
        settled_at: Some(now),
        cause: Some(DAMAGED.to_owned()),
        ..row
    };
    writing.update(before, &dead)
}

/// The replay that made the delivery due, and the id to show where it asked for new ones.
fn shown_replay(
    connection: &Connection,
    row: &DeliveryRow,
    event: EventId,
) -> rusqlite::Result<Option<(ReplayId, Option<EventId>)>> {
    let Some(id) = row.progress.replay else {
        return Ok(None);
    };
    let new = replay::find(connection, id)?.map(|replay| replay.new);
    let shown = new
        .filter(|new| new.new_id)
        .map(|new| rules::replayed_event_id(&new, event));
    Ok(Some((id, shown)))
}
