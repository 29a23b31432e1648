//! Long work in bounded steps, kept in the file so that a crash does not end it.
//!
//! Owns the list of such work and each kind's step. Must not know who started it.

use std::collections::VecDeque;

use hookfast_engine::delivery::{DeliveryKey, DeliveryState, DestinationNumber, EventSequence};
use hookfast_engine::id::SourceId;
use hookfast_engine::time::Timestamp;
use rusqlite::{Connection, params};

use super::rows::{self, DELIVERY_COLUMNS, DeliveryRow};
use super::writer::Writing;
use crate::rules::CAUSE_DESTINATION_DELETED;

/// How many rows one step touches.
const STEP: i64 = 1_000;

/// What is to be gone on with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    /// The destination's retrying deliveries become due: its breaker closed.
    Release,
    /// The deleted destination's waiting deliveries are discarded.
    Discard,
    /// The unrouted events of a source (by its small number) are routed anew.
    Match,
}

impl Kind {
    const fn number(self) -> i64 {
        match self {
            Self::Release => 1,
            Self::Discard => 2,
            Self::Match => 3,
        }
    }

    fn numbered(number: i64) -> Option<Self> {
        [Self::Release, Self::Discard, Self::Match]
            .into_iter()
            .find(|kind| kind.number() == number)
    }
}

/// One piece of such work.
#[derive(Clone, Copy, Debug)]
pub(super) struct Continuation {
    number: i64,
    kind: Kind,
    /// The destination's or the source's number.
    subject: i64,
    /// When it was begun.
    at: Timestamp,
    /// The first and the last number of the destinations that were new.
    new: (i64, i64),
    /// The last key or sequence that is done.
    cursor: i64,
}

impl Continuation {
    pub(super) fn load(connection: &Connection) -> rusqlite::Result<VecDeque<Self>> {
        let mut statement = connection.prepare(
            "SELECT number, kind, subject, at, first, last, cursor FROM continuations ORDER BY number",
        )?;
        let found = statement.query_map([], |row| {
            let kind = row.get(1)?;
            Ok(Self {
                number: row.get(0)?,
                kind: Kind::numbered(kind).ok_or(rusqlite::Error::IntegralValueOutOfRange(1, kind))?,
                subject: row.get(2)?,
                at: rows::get_time(row, 3)?,
                new: (row.get(4)?, row.get(5)?),
                cursor: row.get(6)?,
            })
        })?;
        found.collect()
    }
}

/// Begins such work, with a first step in the same transaction.
pub(super) fn begin(
    writing: &mut Writing<'_>,
    kind: Kind,
    subject: i64,
    at: Timestamp,
    new: (i64, i64),
) -> rusqlite::Result<()> {
    let mut begun = Continuation {
        number: 0,
        kind,
        subject,
        at,
        new,
        cursor: -1,
    };
    if !take_step(writing, &mut begun)? {
        return Ok(());
    }
    begun.number = writing
        .connection
        .prepare_cached(
            "INSERT INTO continuations (kind, subject, at, first, last, cursor) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6) RETURNING number",
        )?
        .query_row(
            params![kind.number(), subject, rows::time(at), new.0, new.1, begun.cursor],
            |row| row.get(0),
        )?;
    writing.state.continuations.push_back(begun);
    Ok(())
}

/// Takes one piece of such work on by one step: a release before all else, because deliveries wait for it,
/// then the oldest.
pub(super) fn step(writing: &mut Writing<'_>) -> rusqlite::Result<()> {
    let pieces = &mut writing.state.continuations;
    let next = pieces
        .iter()
        .position(|work| work.kind == Kind::Release)
        .unwrap_or(0);
    let Some(mut oldest) = pieces.remove(next) else {
        return Ok(());
    };
    if take_step(writing, &mut oldest)? {
        writing
            .connection
            .prepare_cached("UPDATE continuations SET cursor = ?1 WHERE number = ?2")?
            .execute([oldest.cursor, oldest.number])?;
        writing.state.continuations.push_front(oldest);
    } else {
        writing
            .connection
            .prepare_cached("DELETE FROM continuations WHERE number = ?1")?
            .execute([oldest.number])?;
    }
    Ok(())
}

/// Whether there is more to do.
fn take_step(writing: &mut Writing<'_>, work: &mut Continuation) -> rusqlite::Result<bool> {
    match work.kind {
        Kind::Release => release(writing, work),
        Kind::Discard => discard(writing, work),
        Kind::Match => match_unrouted(writing, work),
    }
}

fn release(writing: &mut Writing<'_>, work: &mut Continuation) -> rusqlite::Result<bool> {
    let found = waiting(
        writing.connection,
        DeliveryState::Retrying,
        work.subject,
        work.cursor,
        STEP,
    )?;
    for row in &found {
        let released = DeliveryRow {
            due_at: Some(row.accepted_at),
            ..row.clone()
        };
        if released.due_at != row.due_at {
            writing.update(row.state, &released)?;
        }
    }
    Ok(advance(work, found.last(), found.len()))
}

fn discard(writing: &mut Writing<'_>, work: &mut Continuation) -> rusqlite::Result<bool> {
    let Ok(number) = u32::try_from(work.subject) else {
        return Ok(false);
    };
    let limit = u32::try_from(STEP).unwrap_or(u32::MAX);
    let discarded = discard_some(
        writing,
        DestinationNumber(number),
        work.at,
        CAUSE_DESTINATION_DELETED,
        limit,
        Unsettled::All,
    )?;
    Ok(discarded >= u64::from(limit))
}

fn advance(work: &mut Continuation, last: Option<&DeliveryRow>, found: usize) -> bool {
    if let Some(last) = last {
        work.cursor = last.key.as_i64();
    }
    rows::size(found) >= STEP
}

/// The next deliveries of a destination in a state, in acceptance order.
pub(super) fn waiting(
    connection: &Connection,
    state: DeliveryState,
    destination: i64,
    after: i64,
    limit: i64,
) -> rusqlite::Result<Vec<DeliveryRow>> {
    let sql = format!(
        "SELECT {DELIVERY_COLUMNS} FROM deliveries d INDEXED BY deliveries_by_state \
         WHERE d.state = ?1 AND d.state <> 3 AND d.destination = ?2 AND d.key > ?3 ORDER BY d.key LIMIT ?4"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let found = statement.query_map(
        params![rows::state_number(state), destination, after, limit],
        DeliveryRow::read,
    )?;
    found.collect()
}

/// Which of a destination's unsettled deliveries are meant.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Unsettled {
    /// Those that wait.
    Waiting,
    /// Those in flight as well.
    All,
}

/// Gives up some of a destination's unsettled deliveries, in the order they would be claimed; how many.
pub(super) fn discard_some(
    writing: &mut Writing<'_>,
    destination: DestinationNumber,
    now: Timestamp,
    by: &str,
    limit: u32,
    which: Unsettled,
) -> rusqlite::Result<u64> {
    // No delivery is stored in a state numbered -1: nothing is left out.
    let left_out = match which {
        Unsettled::Waiting => rows::state_number(DeliveryState::InFlight),
        Unsettled::All => -1,
    };
    let sql = format!(
        "SELECT {DELIVERY_COLUMNS} FROM deliveries d INDEXED BY deliveries_due \
         WHERE d.destination = ?1 AND d.due_at IS NOT NULL AND d.state <> ?2 \
         ORDER BY d.due_at, d.key LIMIT ?3"
    );
    let found: Vec<DeliveryRow> = writing
        .connection
        .prepare_cached(&sql)?
        .query_map(params![destination.0, left_out, limit], DeliveryRow::read)?
        .collect::<rusqlite::Result<_>>()?;
    let mut discarded = 0;
    for row in found {
        discard_one(writing, row, now, by)?;
        discarded += 1;
    }
    Ok(discarded)
}

/// Gives up one delivery.
pub(super) fn discard_one(
    writing: &mut Writing<'_>,
    row: DeliveryRow,
    now: Timestamp,
    by: &str,
) -> rusqlite::Result<()> {
    let before = row.state;
    let discarded = DeliveryRow {
        state: DeliveryState::Discarded,
        due_at: None,
        settled_at: Some(now),
        cause: Some(by.to_owned()),
        ..row
    };
    writing.update(before, &discarded)
}

fn match_unrouted(writing: &mut Writing<'_>, work: &mut Continuation) -> rusqlite::Result<bool> {
    let found: Vec<(i64, u128, Option<String>, Timestamp)> = writing
        .connection
        .prepare_cached(
            "SELECT e.sequence, s.id, e.type, e.accepted_at FROM events e INDEXED BY events_unrouted \
             JOIN parties s ON s.number = e.source \
             WHERE e.routed = 0 AND e.source = ?1 AND e.sequence > ?2 ORDER BY e.sequence LIMIT ?3",
        )?
        .query_map(params![work.subject, work.cursor, STEP], |row| {
            Ok((
                row.get(0)?,
                rows::get_id(row, 1)?,
                row.get(2)?,
                rows::get_time(row, 3)?,
            ))
        })?
        .collect::<rusqlite::Result<_>>()?;
    for (sequence, source, event_type, accepted_at) in &found {
        let source = SourceId::from_u128(*source);
        let (first, last) = work.new;
        let mut routed = writing.state.routes.route(source, event_type.as_deref());
        routed.retain(|number| (first..=last).contains(&i64::from(number.0)));
        for number in &routed {
            let key = DeliveryKey::new(EventSequence(*sequence), *number);
            writing.insert(&DeliveryRow::pending(key, *accepted_at, *accepted_at))?;
        }
        if !routed.is_empty() {
            writing
                .connection
                .prepare_cached("UPDATE events SET routed = ?1 WHERE sequence = ?2")?
                .execute(params![rows::size(routed.len()), sequence])?;
        }
        work.cursor = *sequence;
    }
    Ok(rows::size(found.len()) >= STEP)
}
