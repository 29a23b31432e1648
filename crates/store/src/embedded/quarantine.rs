//! Quarantine and the list of refused requests.
//!
//! Owns how they are kept and listed. Must not know why something was refused, nor how much may be kept
//! (`rules` says that).

use std::collections::HashSet;

use hookfast_engine::event::HeaderBlock;
use hookfast_engine::id::{QuarantineId, SourceId};
use hookfast_engine::mutant::{self, Mutant};
use hookfast_engine::time::Timestamp;
use hookfast_engine::topology::Topology;
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, params, params_from_iter};

use super::append;
use super::filter::{self, Conditions};
use super::rows;
use super::writer::{Applied, Writing};
use crate::rules::{self, QuarantineTaken, REJECTED_KEPT};
use crate::{
    Appended, Listed, NewEvent, NewQuarantined, Page, Quarantined, QuarantinedSummary, Quarantining,
    Rejected, Result, SourceFilter,
};

/// Keeps a notification, within its source's bounds.
pub(super) fn keep(writing: &mut Writing<'_>, new: &NewQuarantined) -> Applied<Quarantining> {
    writing.take_in()?;
    let item = &new.item;
    let bytes = rules::quarantine_bytes(item);
    let taken = writing
        .state
        .quarantine
        .get(&item.source)
        .map_or_else(QuarantineTaken::default, |used| QuarantineTaken {
            events: used.events,
            bytes: used.bytes,
            of_peer: used.peers.get(&item.peer).copied().unwrap_or(0),
        });
    let decided = rules::quarantining(new.bounds, taken, bytes);
    if decided != Quarantining::Kept {
        return Ok(decided);
    }
    let number: i64 = writing
        .connection
        .prepare_cached(
            "INSERT INTO quarantine (id, source, received_at, cause, peer, method, target, body_bytes, bytes) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) RETURNING number",
        )?
        .query_row(
            params![
                rows::id(item.id.as_u128()),
                rows::id(item.source.as_u128()),
                rows::time(item.received_at),
                item.cause,
                item.peer,
                item.method,
                item.target,
                rows::size(item.body.len()),
                rows::count(bytes),
            ],
            |row| row.get(0),
        )?;
    writing
        .connection
        .prepare_cached("INSERT INTO quarantine_bodies (number, headers, body) VALUES (?1, ?2, ?3)")?
        .execute(params![number, &item.headers.packed()[..], &item.body[..]])?;
    let used = writing.state.quarantine.entry(item.source).or_default();
    used.events += 1;
    used.bytes += bytes;
    *used.peers.entry(item.peer.clone()).or_default() += 1;
    Ok(decided)
}

/// Takes an event out of quarantine and appends it.
pub(super) fn release(
    writing: &mut Writing<'_>,
    id: QuarantineId,
    event: &NewEvent,
) -> Applied<Option<Appended>> {
    // First, so that nothing is removed where there is no room for what comes of it.
    writing.take_in()?;
    if !remove(writing, id)? {
        if mutant::is_active(Mutant::DedupeMarkFromQuarantine) {
            append::mark_of(writing, event)?;
        }
        return Ok(None);
    }
    append::append(writing, event).map(Some)
}

/// Removes events from quarantine; how many.
pub(super) fn discard(writing: &mut Writing<'_>, ids: &[QuarantineId]) -> Applied<u64> {
    let mut removed = 0;
    for id in ids {
        removed += u64::from(remove(writing, *id)?);
    }
    Ok(removed)
}

fn remove(writing: &mut Writing<'_>, id: QuarantineId) -> rusqlite::Result<bool> {
    let removed: Option<(i64, u128, String, u64)> = writing
        .connection
        .prepare_cached("DELETE FROM quarantine WHERE id = ?1 RETURNING number, source, peer, bytes")?
        .query_row([rows::id(id.as_u128())], |row| {
            Ok((
                row.get(0)?,
                rows::get_id(row, 1)?,
                row.get(2)?,
                rows::get_count(row, 3)?,
            ))
        })
        .optional()?;
    let Some((number, source, peer, bytes)) = removed else {
        return Ok(false);
    };
    writing
        .connection
        .prepare_cached("DELETE FROM quarantine_bodies WHERE number = ?1")?
        .execute([number])?;
    let source = SourceId::from_u128(source);
    if let Some(used) = writing.state.quarantine.get_mut(&source) {
        used.events = used.events.saturating_sub(1);
        used.bytes = used.bytes.saturating_sub(bytes);
        if let Some(of_peer) = used.peers.get_mut(&peer) {
            *of_peer = of_peer.saturating_sub(1);
            if *of_peer == 0 {
                used.peers.remove(&peer);
            }
        }
        if used.events == 0 {
            writing.state.quarantine.remove(&source);
        }
    }
    Ok(true)
}

/// Removes at most `limit` of what came before `until`; how many, and whether there is more.
pub(super) fn prune(
    writing: &mut Writing<'_>,
    until: Timestamp,
    limit: u32,
) -> rusqlite::Result<(u64, bool)> {
    let old: Vec<u128> = writing
        .connection
        .prepare_cached("SELECT id, received_at FROM quarantine ORDER BY number LIMIT ?1")?
        .query_map([i64::from(limit) + 1], |row| {
            Ok((rows::get_id(row, 0)?, rows::get_time(row, 1)?))
        })?
        .filter_map(|found| match found {
            Ok((id, received_at)) => (received_at <= until).then_some(Ok(id)),
            Err(error) => Some(Err(error)),
        })
        .collect::<rusqlite::Result<_>>()?;
    let mut removed = 0;
    for id in old.iter().take(usize::try_from(limit).unwrap_or(usize::MAX)) {
        removed += u64::from(remove(writing, QuarantineId::from_u128(*id))?);
    }
    Ok((removed, rows::count(removed) < rows::size(old.len())))
}

/// Adds refused requests; the oldest make room.
pub(super) fn record_rejected(writing: &mut Writing<'_>, rejected: &[Rejected]) -> Applied<()> {
    writing.take_in()?;
    let mut newest = 0;
    for one in rejected {
        newest = writing
            .connection
            .prepare_cached(
                "INSERT INTO rejected (at, source, status, cause, detail, peer, method, path, count) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) RETURNING number",
            )?
            .query_row(
                params![
                    rows::time(one.at),
                    one.source.map(|source| rows::id(source.as_u128())),
                    one.status,
                    one.cause,
                    one.detail,
                    one.peer,
                    one.method,
                    one.path,
                    rows::count(one.count),
                ],
                |row| row.get(0),
            )?;
    }
    let kept = i64::try_from(REJECTED_KEPT).unwrap_or(i64::MAX);
    writing
        .connection
        .prepare_cached("DELETE FROM rejected WHERE number <= ?1")?
        .execute([newest - kept])?;
    Ok(())
}

/// The condition of a filter on a column that holds a source's id.
fn of_sources(filter: &SourceFilter, topology: &Topology) -> Conditions {
    let mut conditions = Conditions::new();
    if let Some(source) = filter.source {
        conditions.and("source = ?", rows::id(source.as_u128()).to_vec());
    }
    if let Some(application) = filter.application {
        let sources: HashSet<SourceId> = topology
            .sources
            .values()
            .filter(|source| source.application == application)
            .map(|source| source.id)
            .collect();
        conditions.sql.push_str(" AND source IN (NULL");
        for source in sources {
            conditions.sql.push_str(", ?");
            conditions
                .values
                .push(Value::Blob(rows::id(source.as_u128()).to_vec()));
        }
        conditions.sql.push(')');
    }
    conditions
}

fn page_of<T>(
    connection: &Connection,
    table_and_columns: &str,
    mut conditions: Conditions,
    page: &Page,
    read: impl Fn(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Listed<T>> {
    let limit = filter::limit(page);
    if let Some(cursor) = filter::read_cursor(page) {
        conditions.and("number < ?", cursor);
    }
    let sql = format!(
        "SELECT number, {table_and_columns} WHERE {} ORDER BY number DESC LIMIT {}",
        conditions.sql,
        limit + 1
    );
    let listed = || -> rusqlite::Result<Vec<(i64, T)>> {
        let mut statement = connection.prepare_cached(&sql)?;
        let found = statement.query_map(params_from_iter(&conditions.values), |row| {
            Ok((row.get(0)?, read(row)?))
        })?;
        found.collect()
    };
    let mut found = listed().map_err(|error| rows::store_error(&error))?;
    let more = found.len() > limit;
    found.truncate(limit);
    let next_cursor = more
        .then(|| found.last().map(|(number, _)| number.to_string()))
        .flatten();
    Ok(Listed {
        items: found.into_iter().map(|(_, item)| item).collect(),
        next_cursor,
    })
}

/// What is in quarantine, newest first.
pub(super) fn list(
    connection: &Connection,
    topology: &Topology,
    filter: &SourceFilter,
    page: &Page,
) -> Result<Listed<QuarantinedSummary>> {
    page_of(
        connection,
        "id, source, received_at, cause, peer, body_bytes FROM quarantine",
        of_sources(filter, topology),
        page,
        |row| {
            Ok(QuarantinedSummary {
                id: QuarantineId::from_u128(rows::get_id(row, 1)?),
                source: SourceId::from_u128(rows::get_id(row, 2)?),
                received_at: rows::get_time(row, 3)?,
                cause: row.get(4)?,
                peer: row.get(5)?,
                body_bytes: rows::get_count(row, 6)?,
            })
        },
    )
}

/// The refused requests, newest first.
pub(super) fn rejected(
    connection: &Connection,
    topology: &Topology,
    filter: &SourceFilter,
    page: &Page,
) -> Result<Listed<Rejected>> {
    page_of(
        connection,
        "at, source, status, cause, detail, peer, method, path, count FROM rejected",
        of_sources(filter, topology),
        page,
        |row| {
            Ok(Rejected {
                at: rows::get_time(row, 1)?,
                source: rows::get_maybe_id(row, 2)?.map(SourceId::from_u128),
                status: row.get(3)?,
                cause: row.get(4)?,
                detail: row.get(5)?,
                peer: row.get(6)?,
                method: row.get(7)?,
                path: row.get(8)?,
                count: rows::get_count(row, 9)?,
            })
        },
    )
}

/// One event in quarantine, whole.
pub(super) fn find(connection: &Connection, id: QuarantineId) -> rusqlite::Result<Option<Quarantined>> {
    connection
        .prepare_cached(
            "SELECT q.source, q.received_at, q.cause, q.peer, q.method, q.target, b.headers, b.body \
             FROM quarantine q JOIN quarantine_bodies b USING (number) WHERE q.id = ?1",
        )?
        .query_row([rows::id(id.as_u128())], |row| {
            Ok(Quarantined {
                id,
                source: SourceId::from_u128(rows::get_id(row, 0)?),
                received_at: rows::get_time(row, 1)?,
                cause: row.get(2)?,
                peer: row.get(3)?,
                method: row.get(4)?,
                target: row.get(5)?,
                headers: HeaderBlock::from_packed(rows::get_bytes(row, 6)?),
                body: rows::get_bytes(row, 7)?,
            })
        })
        .optional()
}
