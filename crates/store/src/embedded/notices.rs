//! Notices that people are owed by e-mail.
//!
//! Owns their rows. Must not know when they are sent nor what they say: `rules` makes them.

use hookfast_engine::id::NoticeId;
use rusqlite::{Connection, params};

use super::rows;
use crate::Notice;

/// Enqueues a notice.
pub(super) fn insert(connection: &Connection, notice: &Notice) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT INTO notices (id, document) VALUES (?1, ?2)")?
        .execute(params![rows::id(notice.id.as_u128()), rows::document(notice)?])?;
    Ok(())
}

/// The oldest notices.
pub(super) fn list(connection: &Connection, limit: u32) -> rusqlite::Result<Vec<Notice>> {
    connection
        .prepare_cached("SELECT document FROM notices ORDER BY number LIMIT ?1")?
        .query_map([limit], |row| rows::get_document(row, 0))?
        .collect()
}

/// Forgets a notice.
pub(super) fn remove(connection: &Connection, id: NoticeId) -> rusqlite::Result<()> {
    connection
        .prepare_cached("DELETE FROM notices WHERE id = ?1")?
        .execute([rows::id(id.as_u128())])?;
    Ok(())
}
