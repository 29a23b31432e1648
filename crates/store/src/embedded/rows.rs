//! How values are written into columns and read back.
//!
//! Owns the numbers that stand for states, the form of ids and times, and the one way in which a delivery's
//! row is read and written. Must not know why a row changes.

use std::time::Duration;

use bytes::Bytes;
use hookfast_engine::delivery::{DeliveryKey, DeliveryState, Progress};
use hookfast_engine::event::{Event, HeaderBlock};
use hookfast_engine::id::{ApplicationId, DeliveryId, EventId, ReplayId, SourceId};
use hookfast_engine::time::Timestamp;
use rusqlite::types::{Type, ValueRef};
use rusqlite::{CachedStatement, Connection, OptionalExtension, Row, params};

use crate::{Attempt, StoreError};

/// The number that stands for `state` in a column. These numbers are the stored form: never change one.
pub(super) const fn state_number(state: DeliveryState) -> i64 {
    match state {
        // Held is how a waiting delivery looks, never how it is stored.
        DeliveryState::Pending | DeliveryState::Held => 0,
        DeliveryState::Retrying => 1,
        DeliveryState::InFlight => 2,
        DeliveryState::Delivered => 3,
        DeliveryState::Rejected => 4,
        DeliveryState::Dead => 5,
        DeliveryState::Filtered => 6,
        DeliveryState::Discarded => 7,
    }
}

/// The stored states.
pub(super) const STORED_STATES: [DeliveryState; 8] = [
    DeliveryState::Pending,
    DeliveryState::Retrying,
    DeliveryState::InFlight,
    DeliveryState::Delivered,
    DeliveryState::Rejected,
    DeliveryState::Dead,
    DeliveryState::Filtered,
    DeliveryState::Discarded,
];

/// The state that `number` stands for.
pub(super) fn state_numbered(number: i64) -> Option<DeliveryState> {
    STORED_STATES
        .into_iter()
        .find(|state| state_number(*state) == number)
}

/// A time, for a column.
pub(super) const fn time(at: Timestamp) -> i64 {
    at.as_micros()
}

/// A time that may be missing, for a column.
pub(super) fn maybe_time(at: Option<Timestamp>) -> Option<i64> {
    at.map(Timestamp::as_micros)
}

/// A duration, for a column.
pub(super) fn duration(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// An id's 16 bytes, for a column.
pub(super) const fn id(bits: u128) -> [u8; 16] {
    bits.to_be_bytes()
}

pub(super) fn get_time(row: &Row<'_>, column: usize) -> rusqlite::Result<Timestamp> {
    row.get(column).map(Timestamp::from_micros)
}

pub(super) fn get_maybe_time(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Timestamp>> {
    row.get::<_, Option<i64>>(column)
        .map(|at| at.map(Timestamp::from_micros))
}

pub(super) fn get_duration(row: &Row<'_>, column: usize) -> rusqlite::Result<Duration> {
    row.get::<_, i64>(column)
        .map(|micros| Duration::from_micros(u64::try_from(micros).unwrap_or(0)))
}

pub(super) fn get_id(row: &Row<'_>, column: usize) -> rusqlite::Result<u128> {
    row.get::<_, [u8; 16]>(column).map(u128::from_be_bytes)
}

pub(super) fn get_maybe_id(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<u128>> {
    row.get::<_, Option<[u8; 16]>>(column)
        .map(|bytes| bytes.map(u128::from_be_bytes))
}

/// A count, for a reader of it. Counts are never negative; a damaged one reads as zero.
pub(super) fn get_count(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(column).map(|n| u64::try_from(n).unwrap_or(0))
}

/// A count, for a column.
pub(super) fn count(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// A size in memory, for a column.
pub(super) fn size(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

pub(super) fn get_state(row: &Row<'_>, column: usize) -> rusqlite::Result<DeliveryState> {
    let number = row.get(column)?;
    state_numbered(number).ok_or(rusqlite::Error::IntegralValueOutOfRange(column, number))
}

/// The bytes of a column, copied once.
pub(super) fn get_bytes(row: &Row<'_>, column: usize) -> rusqlite::Result<Bytes> {
    match row.get_ref(column)? {
        ValueRef::Blob(bytes) => Ok(Bytes::copy_from_slice(bytes)),
        ValueRef::Null | ValueRef::Integer(_) | ValueRef::Real(_) | ValueRef::Text(_) => Err(
            rusqlite::Error::InvalidColumnType(column, "bytes".to_owned(), Type::Blob),
        ),
    }
}

/// A stored document.
pub(super) fn get_document<T: serde::de::DeserializeOwned>(
    row: &Row<'_>,
    column: usize,
) -> rusqlite::Result<T> {
    let text = row
        .get_ref(column)?
        .as_str()
        .map_err(|error| conversion(column, error))?;
    serde_json::from_str(text).map_err(|error| conversion(column, error))
}

fn conversion(column: usize, error: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error))
}

/// A document, for a column.
pub(super) fn document<T: serde::Serialize>(value: &T) -> rusqlite::Result<String> {
    serde_json::to_string(value).map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
}

/// The sum over an event's headers and body that tells damage.
pub(super) fn checksum(headers: &[u8], body: &[u8]) -> i64 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(headers);
    hasher.update(body);
    i64::from(hasher.finalize())
}

/// A delivery as it is stored.
#[derive(Clone, Debug)]
pub(super) struct DeliveryRow {
    pub(super) key: DeliveryKey,
    pub(super) state: DeliveryState,
    /// When it is due or its lease ends; none once settled.
    pub(super) due_at: Option<Timestamp>,
    pub(super) accepted_at: Timestamp,
    pub(super) progress: Progress,
    /// When its last attempt or its round began, or its event was accepted.
    pub(super) touched_at: Timestamp,
    pub(super) settled_at: Option<Timestamp>,
    pub(super) cause: Option<String>,
}

/// The columns of [`DeliveryRow::read`], in its order.
pub(super) const DELIVERY_COLUMNS: &str = "d.key, d.state, d.due_at, d.accepted_at, d.attempt, d.counted, \
     d.first_attempt_at, d.touched_at, d.breaker_open_before, d.replay, d.settled_at, d.cause";

impl DeliveryRow {
    /// A delivery that waits for its first attempt.
    pub(super) fn pending(key: DeliveryKey, accepted_at: Timestamp, due_at: Timestamp) -> Self {
        Self {
            key,
            state: DeliveryState::Pending,
            due_at: Some(due_at),
            accepted_at,
            progress: Progress::default(),
            touched_at: due_at,
            settled_at: None,
            cause: None,
        }
    }

    /// The public id.
    pub(super) fn id(&self) -> DeliveryId {
        DeliveryId::of_key(self.accepted_at, self.key)
    }

    /// From a row whose first columns are [`DELIVERY_COLUMNS`].
    pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            key: DeliveryKey::from_i64(row.get(0)?),
            state: get_state(row, 1)?,
            due_at: get_maybe_time(row, 2)?,
            accepted_at: get_time(row, 3)?,
            progress: Progress {
                attempt: row.get(4)?,
                counted: row.get(5)?,
                first_attempt_at: get_maybe_time(row, 6)?,
                breaker_open_before: get_duration(row, 8)?,
                replay: get_maybe_id(row, 9)?.map(ReplayId::from_u128),
            },
            touched_at: get_time(row, 7)?,
            settled_at: get_maybe_time(row, 10)?,
            cause: row.get(11)?,
        })
    }

    /// The delivery under `key`.
    pub(super) fn load(connection: &Connection, key: DeliveryKey) -> rusqlite::Result<Option<Self>> {
        connection
            .prepare_cached(
                "SELECT d.key, d.state, d.due_at, d.accepted_at, d.attempt, d.counted, d.first_attempt_at, \
                 d.touched_at, d.breaker_open_before, d.replay, d.settled_at, d.cause \
                 FROM deliveries d WHERE d.key = ?1",
            )?
            .query_row([key.as_i64()], Self::read)
            .optional()
    }

    /// The delivery with this whole id.
    pub(super) fn find(connection: &Connection, id: DeliveryId) -> rusqlite::Result<Option<Self>> {
        Ok(Self::load(connection, id.key())?.filter(|row| row.id() == id))
    }

    pub(super) fn insert(&self, connection: &Connection) -> rusqlite::Result<()> {
        let statement = connection.prepare_cached(
            "INSERT INTO deliveries (key, destination, state, due_at, accepted_at, attempt, counted, \
             first_attempt_at, touched_at, breaker_open_before, replay, settled_at, cause) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
        )?;
        self.write(statement)
    }

    pub(super) fn update(&self, connection: &Connection) -> rusqlite::Result<()> {
        let statement = connection.prepare_cached(
            "UPDATE deliveries SET destination = ?2, state = ?3, due_at = ?4, accepted_at = ?5, \
             attempt = ?6, counted = ?7, first_attempt_at = ?8, touched_at = ?9, breaker_open_before = ?10, \
             replay = ?11, settled_at = ?12, cause = ?13 WHERE key = ?1",
        )?;
        self.write(statement)
    }

    fn write(&self, mut statement: CachedStatement<'_>) -> rusqlite::Result<()> {
        statement.execute(params![
            self.key.as_i64(),
            self.key.destination().0,
            state_number(self.state),
            maybe_time(self.due_at),
            time(self.accepted_at),
            self.progress.attempt,
            self.progress.counted,
            maybe_time(self.progress.first_attempt_at),
            time(self.touched_at),
            duration(self.progress.breaker_open_before),
            self.progress.replay.map(|replay| id(replay.as_u128())),
            maybe_time(self.settled_at),
            self.cause,
        ])?;
        Ok(())
    }
}

/// Keeps an attempt. One that is there already stays: a token ends once.
pub(super) fn insert_attempt(
    connection: &Connection,
    delivery: DeliveryKey,
    number: u32,
    attempt: &Attempt,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT OR IGNORE INTO attempts \
             (delivery, number, started_at, duration, outcome, error, headers, body) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![
            delivery.as_i64(),
            number,
            time(attempt.started_at),
            duration(attempt.duration),
            document(&attempt.outcome)?,
            attempt.error,
            &attempt.response_headers.packed()[..],
            &attempt.response_body[..],
        ])?;
    Ok(())
}

/// The columns of [`read_event`], in its order, from `events e` joined with its two parties and its body.
pub(super) const EVENT_COLUMNS: &str = "e.id, a.id, s.id, e.provider_id, e.type, e.occurred_at, \
     e.accepted_at, b.headers, b.body, e.checksum, e.sequence";

/// Where the columns of [`EVENT_COLUMNS`] come from.
pub(super) const EVENT_TABLES: &str = "events e JOIN parties a ON a.number = e.application \
     JOIN parties s ON s.number = e.source LEFT JOIN bodies b ON b.sequence = e.sequence";

/// An event with its body, or what is wrong with it.
pub(super) fn read_event(row: &Row<'_>) -> rusqlite::Result<Result<Event, StoreError>> {
    let event_id = EventId::from_u128(get_id(row, 0)?);
    if matches!(row.get_ref(8)?, ValueRef::Null) {
        return Ok(Err(StoreError::Corrupt {
            detail: format!("the body of event {event_id} is missing"),
        }));
    }
    let headers = get_bytes(row, 7)?;
    let body = get_bytes(row, 8)?;
    if checksum(&headers, &body) != row.get::<_, i64>(9)? {
        return Ok(Err(StoreError::Corrupt {
            detail: format!("the body of event {event_id} does not match its checksum"),
        }));
    }
    Ok(Ok(Event {
        id: event_id,
        application: ApplicationId::from_u128(get_id(row, 1)?),
        source: SourceId::from_u128(get_id(row, 2)?),
        provider_id: row.get(3)?,
        event_type: row.get(4)?,
        occurred_at: get_maybe_time(row, 5)?,
        accepted_at: get_time(row, 6)?,
        headers: HeaderBlock::from_packed(headers),
        body,
    }))
}

/// What a caller is told of an error of SQLite that no rule of the writer covers.
pub(super) fn store_error(error: &rusqlite::Error) -> StoreError {
    use rusqlite::ErrorCode;
    let detail = error.to_string();
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::OperationInterrupted) => {
            StoreError::Unavailable {
                reason: crate::Unavailable::Busy,
                retry_after: Duration::from_secs(1),
            }
        }
        Some(ErrorCode::DiskFull) => full(),
        Some(_) => StoreError::Corrupt { detail },
        None => StoreError::Corrupt {
            detail: format!("a stored value cannot be read: {detail}"),
        },
    }
}

/// The disk is full.
pub(super) const fn full() -> StoreError {
    StoreError::Unavailable {
        reason: crate::Unavailable::Full,
        retry_after: Duration::from_secs(10),
    }
}
