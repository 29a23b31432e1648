//! Retention: a sweep in bounded steps.
//!
//! Owns where the sweep stands and what a step removes. Must not know how long things are kept: that is an
//! argument, and `rules` reads it.

use hookfast_engine::delivery::DeliveryState;
use hookfast_engine::time::Timestamp;
use rusqlite::{OptionalExtension, params};

use super::rows::{self, DeliveryRow};
use super::writer::{Applied, Writing};
use super::{continuation, quarantine, replay};
use crate::{Pruned, Retention, rules};

/// How many marks one step looks at.
const MARKS: i64 = 20_000;

/// So many events in a row that are too young for anything end the round: those after them are younger.
const YOUNG_IN_A_ROW: u32 = 2_000;

/// Removes a bounded amount of what is no longer kept.
pub(super) fn prune(
    writing: &mut Writing<'_>,
    now: Timestamp,
    retention: Retention,
    limit: u32,
) -> Applied<Pruned> {
    let mut pruned = Pruned::default();
    if !writing.state.sweep.events_done {
        sweep_events(writing, now, retention, limit, &mut pruned)?;
    }
    if !writing.state.sweep.marks_done {
        sweep_marks(writing, now, limit, &mut pruned)?;
    }
    let until = now.minus(retention.quarantine);
    let (quarantined, more_quarantined) = quarantine::prune(writing, until, limit)?;
    pruned.quarantined = quarantined;
    let sweep = &mut writing.state.sweep;
    pruned.more = !sweep.events_done || !sweep.marks_done || more_quarantined;
    if !pruned.more {
        sweep.events_done = false;
        sweep.marks_done = false;
    }
    Ok(pruned)
}

fn sweep_events(
    writing: &mut Writing<'_>,
    now: Timestamp,
    retention: Retention,
    limit: u32,
    pruned: &mut Pruned,
) -> rusqlite::Result<()> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let found: Vec<(i64, Timestamp)> = writing
        .connection
        .prepare_cached(
            "SELECT sequence, accepted_at FROM events WHERE sequence > ?1 ORDER BY sequence LIMIT ?2",
        )?
        .query_map(
            params![writing.state.sweep.event, rows::size(limit.saturating_add(1))],
            |row| Ok((row.get(0)?, rows::get_time(row, 1)?)),
        )?
        .collect::<rusqlite::Result<_>>()?;
    let shortest = retention.settled.min(retention.dead).min(retention.waiting);
    let mut young = 0;
    for (sequence, accepted_at) in found.iter().take(limit) {
        writing.state.sweep.event = *sequence;
        if accepted_at.plus(shortest) > now {
            young += 1;
            if young >= YOUNG_IN_A_ROW {
                break;
            }
            continue;
        }
        young = 0;
        sweep_event(writing, *sequence, *accepted_at, now, retention, pruned)?;
    }
    if found.len() <= limit || young >= YOUNG_IN_A_ROW {
        writing.state.sweep.event = 0;
        writing.state.sweep.events_done = true;
    }
    Ok(())
}

fn sweep_event(
    writing: &mut Writing<'_>,
    sequence: i64,
    accepted_at: Timestamp,
    now: Timestamp,
    retention: Retention,
    pruned: &mut Pruned,
) -> rusqlite::Result<()> {
    let mut deliveries = replay::of_event(writing.connection, sequence)?;
    for row in &mut deliveries {
        if waited_too_long(writing, row, now, retention) {
            continuation::discard_one(writing, row.clone(), now, rules::CAUSE_RETENTION)?;
            row.state = DeliveryState::Discarded;
            row.settled_at = Some(now);
            pruned.discarded += 1;
        }
    }
    let mut last = accepted_at;
    for (n, row) in deliveries.iter().enumerate() {
        match row.settled_at {
            Some(settled_at) if n == 0 => last = settled_at,
            Some(settled_at) => last = last.max(settled_at),
            None => return Ok(()),
        }
    }
    if rules::kept_until(retention, last, deliveries.iter().map(|row| row.state)) <= now {
        remove(writing, sequence, &deliveries)?;
        pruned.events += 1;
    }
    Ok(())
}

/// Whether a delivery that nobody fetches has waited longer than is kept.
fn waited_too_long(writing: &Writing<'_>, row: &DeliveryRow, now: Timestamp, retention: Retention) -> bool {
    let Some(known) = writing.state.known(row.key.destination()) else {
        return false;
    };
    let idle = match row.state {
        DeliveryState::Pending | DeliveryState::Retrying | DeliveryState::Held => !(known.open && known.push),
        DeliveryState::InFlight => !known.push && row.due_at.is_none_or(|until| until <= now),
        DeliveryState::Delivered
        | DeliveryState::Rejected
        | DeliveryState::Dead
        | DeliveryState::Filtered
        | DeliveryState::Discarded => false,
    };
    idle && row.touched_at.plus(retention.waiting) <= now
}

/// Removes an event and all that hangs on it.
fn remove(writing: &mut Writing<'_>, sequence: i64, deliveries: &[DeliveryRow]) -> rusqlite::Result<()> {
    let connection = writing.connection;
    for row in deliveries {
        let key = row.key.as_i64();
        connection
            .prepare_cached("DELETE FROM attempts WHERE delivery = ?1")?
            .execute([key])?;
        connection
            .prepare_cached("DELETE FROM deliveries WHERE key = ?1")?
            .execute([key])?;
        writing.state.count(row.key.destination(), row.state, -1);
    }
    for sql in [
        "DELETE FROM repeats WHERE sequence = ?1",
        "DELETE FROM bodies WHERE sequence = ?1",
        "DELETE FROM events WHERE sequence = ?1",
    ] {
        connection.prepare_cached(sql)?.execute([sequence])?;
    }
    writing.state.totals.events -= 1;
    Ok(())
}

fn sweep_marks(
    writing: &mut Writing<'_>,
    now: Timestamp,
    limit: u32,
    pruned: &mut Pruned,
) -> rusqlite::Result<()> {
    let connection = writing.connection;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let after = writing.state.sweep.mark.map_or(Vec::new(), |mark| mark.to_vec());
    // The last of the slice, where there is more behind it.
    let end: Option<Vec<u8>> = connection
        .prepare_cached("SELECT key FROM dedupe WHERE key > ?1 ORDER BY key LIMIT 1 OFFSET ?2")?
        .query_row(params![after, MARKS], |row| row.get(0))
        .optional()?;
    let expired: Vec<[u8; 16]> = connection
        .prepare_cached(
            "SELECT key FROM dedupe WHERE key > ?1 AND (?2 IS NULL OR key < ?2) AND expires_at <= ?3 \
             ORDER BY key LIMIT ?4",
        )?
        .query_map(
            params![after, end, rows::time(now), rows::size(limit.saturating_add(1))],
            |row| row.get(0),
        )?
        .collect::<rusqlite::Result<_>>()?;
    for key in expired.iter().take(limit) {
        connection
            .prepare_cached("DELETE FROM dedupe WHERE key = ?1")?
            .execute([key])?;
        pruned.marks += 1;
        writing.state.sweep.mark = Some(*key);
    }
    if expired.len() > limit {
        return Ok(());
    }
    match end.as_deref().and_then(before) {
        Some(mark) => writing.state.sweep.mark = Some(mark),
        None => {
            let left = limit - expired.len();
            let removed = writing.state.marks.prune(connection, now, left)?;
            pruned.marks += u64::try_from(removed).unwrap_or(0);
            writing.state.sweep.mark = None;
            writing.state.sweep.marks_done = removed < left;
        }
    }
    Ok(())
}

/// The key just before this one, so that the next slice begins with it.
fn before(key: &[u8]) -> Option<[u8; 16]> {
    let key = u128::from_be_bytes(key.try_into().ok()?);
    Some(key.wrapping_sub(1).to_be_bytes())
}
