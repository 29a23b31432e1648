//! Looking at everything stored for what is damaged or does not fit together.
//!
//! Owns the promises that `hookfast check` reads over the whole file. Must not change anything.

use rusqlite::Connection;

use super::rows::{self, EVENT_COLUMNS, EVENT_TABLES};
use super::state::each;

/// At most this many findings of one kind are told.
const FINDINGS: usize = 100;

/// Each query gives one row, with a text, for each broken promise. The states are those of rows.rs: 2 is in
/// flight, 3 and more are settled, 0 and 1 wait.
const PROMISES: [(&str, &str); 10] = [
    (
        "an event has another number of deliveries than were made for it",
        "SELECT lower(hex(e.id)) FROM events e WHERE e.routed <> \
         (SELECT count(*) FROM deliveries d WHERE d.key >= (e.sequence << 20) AND d.key < ((e.sequence + 1) << 20))",
    ),
    (
        "an event's body is missing",
        "SELECT lower(hex(e.id)) FROM events e WHERE NOT EXISTS (SELECT 1 FROM bodies b WHERE b.sequence = e.sequence)",
    ),
    (
        "a delivery's event is missing",
        "SELECT d.key FROM deliveries d WHERE NOT EXISTS (SELECT 1 FROM events e WHERE e.sequence = (d.key >> 20))",
    ),
    (
        "a delivery's columns contradict its key",
        "SELECT d.key FROM deliveries d WHERE d.destination <> (d.key & 1048575) OR d.accepted_at <> \
         (SELECT e.accepted_at FROM events e WHERE e.sequence = (d.key >> 20))",
    ),
    (
        "a delivery is settled and due, or neither",
        "SELECT d.key FROM deliveries d WHERE (d.settled_at IS NULL) = (d.due_at IS NULL) \
         OR (d.state >= 3) <> (d.settled_at IS NOT NULL)",
    ),
    (
        "an attempt was never begun or its delivery is missing",
        "SELECT a.delivery FROM attempts a WHERE a.number > \
         coalesce((SELECT d.attempt FROM deliveries d WHERE d.key = a.delivery), -1)",
    ),
    (
        "a counter of deliveries does not add up (destination, state, counted, found)",
        "SELECT destination || ' ' || state || ' ' || sum(counted) || ' ' || sum(found) FROM \
         (SELECT destination, state, n AS counted, 0 AS found FROM counters UNION ALL \
          SELECT destination, state, 0, count(*) FROM deliveries GROUP BY destination, state) \
         GROUP BY destination, state HAVING sum(counted) <> sum(found)",
    ),
    (
        "the counter of events does not add up",
        "SELECT events FROM totals WHERE events <> (SELECT count(*) FROM events)",
    ),
    (
        "an event's number was not given yet",
        "SELECT sequence FROM events WHERE sequence >= (SELECT next_sequence FROM totals)",
    ),
    (
        "an event in quarantine has no body",
        "SELECT number FROM quarantine q WHERE NOT EXISTS (SELECT 1 FROM quarantine_bodies b WHERE b.number = q.number)",
    ),
];

/// Everything that is wrong.
pub(super) fn check(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let snapshot = connection.unchecked_transaction()?;
    let mut findings = Vec::new();
    each(&snapshot, "PRAGMA integrity_check(100)", |row| {
        let finding: String = row.get(0)?;
        if finding != "ok" {
            findings.push(format!("the file is damaged: {finding}"));
        }
        Ok(())
    })?;
    if !findings.is_empty() {
        // What follows could only repeat it.
        return Ok(findings);
    }
    for (promise, sql) in PROMISES {
        let mut told = 0;
        each(&snapshot, sql, |row| {
            told += 1;
            if told <= FINDINGS {
                let what: rusqlite::types::Value = row.get(0)?;
                findings.push(format!("{promise}: {what:?}"));
            }
            Ok(())
        })?;
    }
    check_bodies(&snapshot, &mut findings)?;
    Ok(findings)
}

fn check_bodies(connection: &Connection, findings: &mut Vec<String>) -> rusqlite::Result<()> {
    let sql = format!("SELECT {EVENT_COLUMNS} FROM {EVENT_TABLES}");
    let mut told = 0;
    each(connection, &sql, |row| {
        if let Err(error) = rows::read_event(row)? {
            told += 1;
            if told <= FINDINGS {
                findings.push(error.to_string());
            }
        }
        Ok(())
    })
}
