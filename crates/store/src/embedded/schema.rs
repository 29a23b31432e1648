//! The file's form and how an older one becomes the newest.
//!
//! Owns the migrations and the settings of every connection. Must not know what the tables mean.

use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, OptionalExtension, TransactionBehavior, params};

use super::rows;
use crate::{Result, StoreError};

/// The migrations, oldest first: once released, none is changed.
const MIGRATIONS: [&str; 2] = [
    include_str!("migrations/0001_start.sql"),
    include_str!("migrations/0002_notices.sql"),
];

/// "Hook" in ASCII: says whose file it is.
const APPLICATION_ID: i32 = 0x486f_6f6b;

/// Opens the one connection that writes.
pub(super) fn open_writer(file: &Path, cache_bytes: usize) -> Result<Connection> {
    let connection = Connection::open(file).map_err(|error| cannot_open(file, &error))?;
    settings(&connection, cache_bytes)
        .and_then(|()| {
            connection.set_prepared_statement_cache_capacity(256);
            // Whether that came to pass is asked later: see `require_log`.
            connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
            // FULL: each commit is synced before it is answered (SPEC I1).
            connection.pragma_update(None, "synchronous", "FULL")?;
            // After a failed sync the log stays as it is for the next opening; a clean end copies it itself.
            connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
            // The writer checkpoints by itself, after it has answered, not inside a commit that is waited for.
            connection.pragma_update(None, "wal_autocheckpoint", 0)
        })
        .map_err(|error| cannot_open(file, &error))?;
    Ok(connection)
}

/// Makes sure that commits go into a write-ahead log. Where a call fails during the switch to one, SQLite may say
/// nothing and stay with a rollback journal: there a commit ends with the removal of the journal, which no sync
/// follows, so that a power cut may bring the journal back and take away what was acknowledged. Asked once the file
/// was read and written: only then SQLite knows.
pub(super) fn require_log(connection: &Connection, file: &Path) -> Result<()> {
    let mode: String = connection
        .pragma_query_value(None, "journal_mode", |row| row.get(0))
        .map_err(|error| cannot_open(file, &error))?;
    if mode == "wal" {
        return Ok(());
    }
    Err(StoreError::Incompatible {
        detail: format!(
            "{} could not be given a write-ahead log (its journal mode is `{mode}`): start again, and look at the \
             disk where that does not help",
            file.display()
        ),
    })
}

/// Opens a connection that only reads.
pub(super) fn open_reader(file: &Path, cache_bytes: usize) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(file, flags)
        .and_then(|connection| {
            settings(&connection, cache_bytes)?;
            connection.pragma_update(None, "query_only", true)?;
            Ok(connection)
        })
        .map_err(|error| cannot_open(file, &error))
}

fn settings(connection: &Connection, cache_bytes: usize) -> rusqlite::Result<()> {
    connection.busy_timeout(Duration::from_secs(5))?;
    // Negative: in KiB.
    let kib = i64::try_from(cache_bytes / 1024).unwrap_or(i64::MAX);
    connection.pragma_update(None, "cache_size", -kib)?;
    connection.pragma_update(None, "mmap_size", 0)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.pragma_update(None, "trusted_schema", false)
}

fn cannot_open(file: &Path, error: &rusqlite::Error) -> StoreError {
    match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::NotADatabase | rusqlite::ErrorCode::DatabaseCorrupt) => {
            StoreError::Corrupt {
                detail: format!("{} is not a database of hookfast: {error}", file.display()),
            }
        }
        Some(_) | None => StoreError::Incompatible {
            detail: format!("{} cannot be opened: {error}", file.display()),
        },
    }
}

/// Brings the file to the newest form.
pub(super) fn migrate(connection: &mut Connection) -> Result<()> {
    let step = |error: rusqlite::Error| rows::store_error(&error);
    let transaction = connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(step)?;
    transaction
        .execute_batch(
            "CREATE TABLE IF NOT EXISTS migrations \
             (number INTEGER PRIMARY KEY, checksum INTEGER NOT NULL) STRICT",
        )
        .map_err(step)?;
    let newest: i64 = transaction
        .query_row("SELECT coalesce(max(number), 0) FROM migrations", [], |row| {
            row.get(0)
        })
        .map_err(step)?;
    if newest > i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX) {
        return Err(StoreError::Incompatible {
            detail: format!(
                "the data directory was written by a newer hookfast (its form is {newest}, this one knows {}): \
                 install that version or restore a backup",
                MIGRATIONS.len()
            ),
        });
    }
    for (number, sql) in (1_i64..).zip(MIGRATIONS) {
        let checksum = i64::from(crc32fast::hash(sql.as_bytes()));
        let applied: Option<i64> = transaction
            .query_row(
                "SELECT checksum FROM migrations WHERE number = ?1",
                [number],
                |row| row.get(0),
            )
            .optional()
            .map_err(step)?;
        match applied {
            Some(applied) if applied == checksum => {}
            Some(_) => {
                return Err(StoreError::Incompatible {
                    detail: format!(
                        "the data directory was written by a development version of hookfast \
                         (migration {number} differs): export its events with that version"
                    ),
                });
            }
            None => {
                transaction.execute_batch(sql).map_err(step)?;
                transaction
                    .execute(
                        "INSERT INTO migrations VALUES (?1, ?2)",
                        params![number, checksum],
                    )
                    .map_err(step)?;
            }
        }
    }
    transaction
        .pragma_update(None, "application_id", APPLICATION_ID)
        .map_err(step)?;
    transaction.commit().map_err(step)
}
