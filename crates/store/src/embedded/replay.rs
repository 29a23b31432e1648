//! Replay jobs: how they are kept and taken on.
//!
//! Owns the jobs' rows and which deliveries a step makes due. Must not know rates or when a step is taken.

use hookfast_engine::delivery::{DeliveryKey, DeliveryState, DestinationNumber, EventSequence};
use hookfast_engine::id::{ApplicationId, DestinationId, EventId, ReplayId, SourceId};
use hookfast_engine::time::Timestamp;
use hookfast_engine::topology::Topology;
use rusqlite::{Connection, OptionalExtension, Row, params, params_from_iter};
use serde::{Deserialize, Serialize};

use super::filter::{self, Conditions};
use super::rows::{self, DELIVERY_COLUMNS, DeliveryRow};
use super::settle::shown;
use super::state::{Numbered, numbered};
use super::writer::{Applied, Writing};
use crate::{
    EventFilter, Listed, NewReplay, Page, Replay, ReplayCount, ReplaySelection, ReplayState, Result,
};

/// How many events one step of a job passes over at most in search of those that it takes.
const WINDOW: i64 = 20_000;

const COLUMNS: &str = "number, document, state, looked_at, replayed, skipped, total, cursor, ended_at";

/// The stored form of a job's selection. A field that is added has a default.
#[derive(Deserialize, Serialize)]
struct Document {
    id: ReplayId,
    application: ApplicationId,
    rate: u32,
    new_id: bool,
    created_at: Timestamp,
    event: Option<EventId>,
    delivery_state: Option<DeliveryState>,
    destination: Option<DestinationId>,
    of_application: Option<ApplicationId>,
    of_source: Option<SourceId>,
    of_type: Option<String>,
    of_provider_id: Option<String>,
    accepted_from: Option<Timestamp>,
    accepted_until: Option<Timestamp>,
    unrouted: bool,
    after: Option<EventId>,
}

impl Document {
    fn new(new: &NewReplay) -> Self {
        let NewReplay {
            id,
            application,
            selection,
            rate,
            new_id,
            created_at,
        } = new;
        let events = selection.events.clone();
        Self {
            id: *id,
            application: *application,
            rate: *rate,
            new_id: *new_id,
            created_at: *created_at,
            event: selection.event,
            delivery_state: selection.state,
            destination: selection.destination,
            of_application: events.application,
            of_source: events.source,
            of_type: events.event_type,
            of_provider_id: events.provider_id,
            accepted_from: events.from,
            accepted_until: events.until,
            unrouted: events.unrouted,
            after: events.after,
        }
    }

    fn read(self) -> NewReplay {
        NewReplay {
            id: self.id,
            application: self.application,
            selection: ReplaySelection {
                events: EventFilter {
                    application: self.of_application,
                    source: self.of_source,
                    event_type: self.of_type,
                    provider_id: self.of_provider_id,
                    from: self.accepted_from,
                    until: self.accepted_until,
                    unrouted: self.unrouted,
                    after: self.after,
                },
                event: self.event,
                state: self.delivery_state,
                destination: self.destination,
            },
            rate: self.rate,
            new_id: self.new_id,
            created_at: self.created_at,
        }
    }
}

const fn state_number(state: ReplayState) -> i64 {
    match state {
        ReplayState::Running => 0,
        ReplayState::Done => 1,
        ReplayState::Cancelled => 2,
    }
}

fn get_state(row: &Row<'_>, column: usize) -> rusqlite::Result<ReplayState> {
    let number: i64 = row.get(column)?;
    [ReplayState::Running, ReplayState::Done, ReplayState::Cancelled]
        .into_iter()
        .find(|state| state_number(*state) == number)
        .ok_or(rusqlite::Error::IntegralValueOutOfRange(column, number))
}

/// A job and the last event that it looked at.
struct Job {
    number: i64,
    replay: Replay,
    cursor: i64,
}

fn read(row: &Row<'_>) -> rusqlite::Result<Job> {
    Ok(Job {
        number: row.get(0)?,
        replay: Replay {
            new: rows::get_document::<Document>(row, 1)?.read(),
            state: get_state(row, 2)?,
            looked_at: rows::get_count(row, 3)?,
            replayed: rows::get_count(row, 4)?,
            skipped: rows::get_count(row, 5)?,
            total: rows::get_count(row, 6)?,
            ended_at: rows::get_maybe_time(row, 8)?,
        },
        cursor: row.get(7)?,
    })
}

fn find_job(connection: &Connection, id: ReplayId) -> rusqlite::Result<Option<Job>> {
    connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM replays WHERE id = ?1"))?
        .query_row([rows::id(id.as_u128())], read)
        .optional()
}

/// One job.
pub(super) fn find(connection: &Connection, id: ReplayId) -> rusqlite::Result<Option<Replay>> {
    Ok(find_job(connection, id)?.map(|job| job.replay))
}

/// Jobs, newest first.
pub(super) fn list(connection: &Connection, page: &Page) -> Result<Listed<Replay>> {
    let limit = filter::limit(page);
    let found = || -> rusqlite::Result<Vec<Job>> {
        let sql = format!("SELECT {COLUMNS} FROM replays WHERE number < ?1 ORDER BY number DESC LIMIT ?2");
        let mut statement = connection.prepare_cached(&sql)?;
        let before = filter::read_cursor(page).unwrap_or(i64::MAX);
        let found = statement.query_map(params![before, rows::size(limit + 1)], read)?;
        found.collect()
    };
    let mut found = found().map_err(|error| rows::store_error(&error))?;
    let more = found.len() > limit;
    found.truncate(limit);
    let last = found.last().map(|job| job.number.to_string());
    Ok(Listed {
        items: found.into_iter().map(|job| job.replay).collect(),
        next_cursor: last.filter(|_| more),
    })
}

/// Keeps a new job that will look at `total` events.
pub(super) fn start(writing: &mut Writing<'_>, new: &NewReplay, total: u64) -> Applied<Replay> {
    writing
        .connection
        .prepare_cached(
            "INSERT INTO replays (id, created_at, new_id, document, state, looked_at, replayed, skipped, \
             total, cursor, ended_at) VALUES (?1, ?2, ?3, ?4, ?5, 0, 0, 0, ?6, 0, NULL)",
        )?
        .execute(params![
            rows::id(new.id.as_u128()),
            rows::time(new.created_at),
            new.new_id,
            rows::document(&Document::new(new))?,
            state_number(ReplayState::Running),
            rows::count(total),
        ])?;
    Ok(Replay {
        new: new.clone(),
        state: ReplayState::Running,
        looked_at: 0,
        replayed: 0,
        skipped: 0,
        total,
        ended_at: None,
    })
}

fn save(connection: &Connection, job: &Job) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "UPDATE replays SET state = ?2, looked_at = ?3, replayed = ?4, skipped = ?5, cursor = ?6, \
             ended_at = ?7 WHERE number = ?1",
        )?
        .execute(params![
            job.number,
            state_number(job.replay.state),
            rows::count(job.replay.looked_at),
            rows::count(job.replay.replayed),
            rows::count(job.replay.skipped),
            job.cursor,
            rows::maybe_time(job.replay.ended_at),
        ])?;
    Ok(())
}

/// Cancels a running job.
pub(super) fn cancel(writing: &mut Writing<'_>, id: ReplayId, now: Timestamp) -> Applied<Option<Replay>> {
    let Some(mut job) = find_job(writing.connection, id)? else {
        return Ok(None);
    };
    if job.replay.state == ReplayState::Running {
        job.replay.state = ReplayState::Cancelled;
        job.replay.ended_at = Some(now);
        save(writing.connection, &job)?;
    }
    Ok(Some(job.replay))
}

/// The conditions of what a selection looks at.
fn selected(selection: &ReplaySelection) -> Conditions {
    let mut conditions = filter::of_events(&selection.events);
    if let Some(event) = selection.event {
        conditions.and("e.id = ?", rows::id(event.as_u128()).to_vec());
    }
    conditions
}

/// The conditions of what a job looks at.
fn taken(new: &NewReplay) -> Conditions {
    let mut conditions = selected(&new.selection);
    conditions.and(
        "e.application = (SELECT number FROM parties WHERE id = ?)",
        rows::id(new.application.as_u128()).to_vec(),
    );
    conditions.and("e.accepted_at <= ?", rows::time(new.created_at));
    conditions
}

/// An event that a job looks at.
struct Looked {
    sequence: i64,
    accepted_at: Timestamp,
    application: ApplicationId,
}

fn look(
    connection: &Connection,
    conditions: &Conditions,
    after: i64,
    until: i64,
    limit: i64,
) -> rusqlite::Result<Vec<Looked>> {
    let sql = format!(
        "SELECT e.sequence, e.accepted_at, a.id FROM events e JOIN parties a ON a.number = e.application \
         WHERE {} AND e.sequence > {after} AND e.sequence <= {until} ORDER BY e.sequence LIMIT {limit}",
        conditions.sql
    );
    let mut statement = connection.prepare(&sql)?;
    let found = statement.query_map(params_from_iter(&conditions.values), |row| {
        Ok(Looked {
            sequence: row.get(0)?,
            accepted_at: rows::get_time(row, 1)?,
            application: ApplicationId::from_u128(rows::get_id(row, 2)?),
        })
    })?;
    found.collect()
}

/// Takes a job on.
pub(super) fn step(
    writing: &mut Writing<'_>,
    id: ReplayId,
    now: Timestamp,
    limit: u32,
) -> Applied<Option<Replay>> {
    let Some(mut job) = find_job(writing.connection, id)? else {
        return Ok(None);
    };
    if job.replay.state != ReplayState::Running {
        return Ok(Some(job.replay));
    }
    let newest = writing.state.totals.next_sequence - 1;
    let until = job.cursor.saturating_add(WINDOW).min(newest);
    let conditions = taken(&job.replay.new);
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1);
    let found = look(writing.connection, &conditions, job.cursor, until, more)?;
    let selection = job.replay.new.selection.clone();
    let only = only(&writing.state.topology, &selection);
    for event in found.iter().take(limit) {
        job.cursor = event.sequence;
        job.replay.looked_at += 1;
        for (number, row) in targets(
            writing.connection,
            &writing.state.destinations,
            &selection,
            only,
            event,
        )? {
            if replay_one(writing, event, number, row, id, now)? {
                job.replay.replayed += 1;
            } else {
                job.replay.skipped += 1;
            }
        }
    }
    if found.len() <= limit {
        // The whole window is done.
        job.cursor = until;
        if until >= newest {
            job.replay.state = ReplayState::Done;
            job.replay.ended_at = Some(now);
        }
    }
    save(writing.connection, &job)?;
    Ok(Some(job.replay))
}

/// The destinations that a replay of an event goes to, each with the event's delivery there.
fn targets(
    connection: &Connection,
    destinations: &Numbered,
    selection: &ReplaySelection,
    only: Option<DestinationNumber>,
    event: &Looked,
) -> rusqlite::Result<Vec<(DestinationNumber, Option<DeliveryRow>)>> {
    let candidates = match (selection.destination, only) {
        (Some(_), Some(number)) => {
            let key = DeliveryKey::new(EventSequence(event.sequence), number);
            vec![(number, DeliveryRow::load(connection, key)?)]
        }
        (Some(_), None) => Vec::new(),
        (None, _) => of_event(connection, event.sequence)?
            .into_iter()
            .map(|row| (row.key.destination(), Some(row)))
            .collect(),
    };
    let wanted = |number: &DestinationNumber, row: Option<&DeliveryRow>| {
        let Some(known) = destinations.get(number) else {
            return false;
        };
        let in_state = selection
            .state
            .is_none_or(|state| row.is_some_and(|row| shown(row.state, Some(known)) == state));
        !known.deleted() && known.application == event.application && in_state
    };
    Ok(candidates
        .into_iter()
        .filter(|(number, row)| wanted(number, row.as_ref()))
        .collect())
}

/// The number of the one destination that a selection names.
fn only(topology: &Topology, selection: &ReplaySelection) -> Option<DestinationNumber> {
    let id = selection.destination?;
    topology
        .destinations
        .get(&id)
        .map(|destination| destination.number)
}

/// The deliveries of an event.
pub(super) fn of_event(connection: &Connection, sequence: i64) -> rusqlite::Result<Vec<DeliveryRow>> {
    let first = DeliveryKey::new(EventSequence(sequence), DestinationNumber(0)).as_i64();
    let last = DeliveryKey::new(EventSequence(sequence), DestinationNumber::MAX).as_i64();
    let sql =
        format!("SELECT {DELIVERY_COLUMNS} FROM deliveries d WHERE d.key BETWEEN ?1 AND ?2 ORDER BY d.key");
    let mut statement = connection.prepare_cached(&sql)?;
    let found = statement.query_map([first, last], DeliveryRow::read)?;
    found.collect()
}

fn replay_one(
    writing: &mut Writing<'_>,
    event: &Looked,
    number: DestinationNumber,
    row: Option<DeliveryRow>,
    id: ReplayId,
    now: Timestamp,
) -> rusqlite::Result<bool> {
    match row {
        Some(row) if row.state.is_settled() => {
            let before = row.state;
            let again = DeliveryRow {
                state: DeliveryState::Pending,
                due_at: Some(now),
                progress: row.progress.begin_round(Some(id)),
                touched_at: now,
                settled_at: None,
                ..row
            };
            writing.update(before, &again)?;
            Ok(true)
        }
        Some(_) => Ok(false),
        None => {
            let key = DeliveryKey::new(EventSequence(event.sequence), number);
            let pending = DeliveryRow::pending(key, event.accepted_at, now);
            writing.insert(&DeliveryRow {
                progress: pending.progress.begin_round(Some(id)),
                ..pending
            })?;
            writing
                .connection
                .prepare_cached("UPDATE events SET routed = routed + 1 WHERE sequence = ?1")?
                .execute([event.sequence])?;
            Ok(true)
        }
    }
}

/// How many events a job would look at.
pub(super) fn total(connection: &Connection, new: &NewReplay) -> rusqlite::Result<u64> {
    let conditions = taken(new);
    let sql = format!("SELECT count(*) FROM events e WHERE {}", conditions.sql);
    connection.query_row(&sql, params_from_iter(&conditions.values), |row| {
        rows::get_count(row, 0)
    })
}

/// What a replay would touch.
pub(super) fn count(
    connection: &Connection,
    topology: &Topology,
    selection: &ReplaySelection,
) -> rusqlite::Result<ReplayCount> {
    let conditions = selected(selection);
    let destinations = numbered(topology);
    let only = only(topology, selection);
    let mut count = ReplayCount::default();
    let mut after = 0;
    loop {
        let found = look(connection, &conditions, after, i64::MAX, WINDOW)?;
        for event in &found {
            count.events += 1;
            for (_, row) in targets(connection, &destinations, selection, only, event)? {
                if row.is_none_or(|row| row.state.is_settled()) {
                    count.deliveries += 1;
                } else {
                    count.skipped += 1;
                }
            }
        }
        match found.last() {
            Some(last) => after = last.sequence,
            None => return Ok(count),
        }
    }
}
