//! Dedupe marks (SPEC I3): the newest in memory and in a short append-only table, the rest in one tree.
//!
//! Owns finding, setting and moving marks. A mark's key is a hash, so setting it in a tree of millions dirties
//! a page of its own, and that page was most of what a commit wrote. So marks are appended to one of two
//! generations, whose keys are also held in memory; once a generation is full the other takes over, and the
//! full one is moved into the tree in key order, a slice with each batch, many marks to a page. Must not know
//! events.

use std::collections::HashMap;

use hookfast_engine::time::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};

use super::rows;

/// A mark's key.
pub(super) type Key = [u8; 16];

/// How many marks a generation takes before the other takes over.
const GENERATION_MARKS: usize = 32_768;
/// Each batch moves at least so many marks, and twice as many as it set, so that a generation is always moved
/// before the other one is full.
const SLICE: usize = 64;

/// What is remembered of an event for its repeats.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Mark {
    /// The id of the event that came first.
    pub(super) first: u128,
    /// A hash of its body.
    pub(super) body: i64,
    /// From when on a repeat is an event of its own.
    pub(super) expires_at: Timestamp,
}

/// What a generation holds: for each key its number in the table, and the mark.
type Generation = HashMap<Key, (i64, Mark)>;

/// A generation's table.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Table {
    Even,
    Odd,
}

/// All marks, as the writer sees them.
#[derive(Debug)]
pub(super) struct Marks {
    active: Table,
    newest: Generation,
    moving: Option<Moving>,
    next_number: i64,
    set_since_slice: usize,
}

/// A full generation on its way into the tree.
#[derive(Debug)]
struct Moving {
    marks: Generation,
    /// The keys that are left, the next one last.
    left: Vec<Key>,
}

impl Table {
    const fn other(self) -> Self {
        match self {
            Self::Even => Self::Odd,
            Self::Odd => Self::Even,
        }
    }

    const fn select(self) -> &'static str {
        match self {
            Self::Even => "SELECT number, key, first, body, expires_at FROM marks_even",
            Self::Odd => "SELECT number, key, first, body, expires_at FROM marks_odd",
        }
    }

    const fn insert(self) -> &'static str {
        match self {
            Self::Even => {
                "INSERT INTO marks_even (number, key, first, body, expires_at) VALUES (?1, ?2, ?3, ?4, ?5)"
            }
            Self::Odd => {
                "INSERT INTO marks_odd (number, key, first, body, expires_at) VALUES (?1, ?2, ?3, ?4, ?5)"
            }
        }
    }

    const fn delete(self) -> &'static str {
        match self {
            Self::Even => "DELETE FROM marks_even WHERE number = ?1",
            Self::Odd => "DELETE FROM marks_odd WHERE number = ?1",
        }
    }

    const fn clear(self) -> &'static str {
        match self {
            Self::Even => "DELETE FROM marks_even",
            Self::Odd => "DELETE FROM marks_odd",
        }
    }
}

impl Default for Marks {
    fn default() -> Self {
        Self {
            active: Table::Even,
            newest: HashMap::new(),
            moving: None,
            next_number: 1,
            set_since_slice: 0,
        }
    }
}

impl Marks {
    /// Reads the generations. Numbers grow over both, so the one with the largest number is the active one; a
    /// move that was cut off begins anew, which changes nothing that it had done.
    pub(super) fn load(connection: &Connection) -> rusqlite::Result<Self> {
        let (even, even_last) = read(connection, Table::Even)?;
        let (odd, odd_last) = read(connection, Table::Odd)?;
        let (active, newest, full) = if even_last >= odd_last {
            (Table::Even, even, odd)
        } else {
            (Table::Odd, odd, even)
        };
        let moving = (!full.is_empty()).then(|| Moving::new(full));
        let next_number = even_last.max(odd_last) + 1;
        Ok(Self {
            active,
            newest,
            moving,
            next_number,
            set_since_slice: 0,
        })
    }

    /// The newest mark with that key, expired or not.
    pub(super) fn find(&self, connection: &Connection, key: &Key) -> rusqlite::Result<Option<Mark>> {
        let moving = || self.moving.as_ref().and_then(|moving| moving.marks.get(key));
        if let Some((_, mark)) = self.newest.get(key).or_else(moving) {
            return Ok(Some(*mark));
        }
        connection
            .prepare_cached("SELECT first, body, expires_at FROM dedupe WHERE key = ?1")?
            .query_row([key], |row| {
                Ok(Mark {
                    first: rows::get_id(row, 0)?,
                    body: row.get(1)?,
                    expires_at: rows::get_time(row, 2)?,
                })
            })
            .optional()
    }

    /// Sets a mark in place of any other with that key.
    pub(super) fn set(&mut self, connection: &Connection, key: Key, mark: Mark) -> rusqlite::Result<()> {
        let number = self.next_number;
        connection.prepare_cached(self.active.insert())?.execute(params![
            number,
            key,
            rows::id(mark.first),
            mark.body,
            rows::time(mark.expires_at)
        ])?;
        self.next_number += 1;
        self.set_since_slice += 1;
        if let Some((replaced, _)) = self.newest.insert(key, (number, mark)) {
            connection
                .prepare_cached(self.active.delete())?
                .execute([replaced])?;
        }
        Ok(())
    }

    /// Moves a slice of the full generation into the tree, within the batch's transaction.
    pub(super) fn move_slice(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        let slice = SLICE + 2 * std::mem::take(&mut self.set_since_slice);
        if let Some(moving) = &mut self.moving {
            let mut insert = connection.prepare_cached(
                "INSERT OR REPLACE INTO dedupe (key, first, body, expires_at) VALUES (?1, ?2, ?3, ?4)",
            )?;
            for key in moving
                .left
                .split_off(moving.left.len().saturating_sub(slice))
                .into_iter()
                .rev()
            {
                let Some((_, mark)) = moving.marks.get(&key) else {
                    continue;
                };
                insert.execute(params![
                    key,
                    rows::id(mark.first),
                    mark.body,
                    rows::time(mark.expires_at)
                ])?;
            }
            if moving.left.is_empty() {
                connection
                    .prepare_cached(self.active.other().clear())?
                    .execute([])?;
                self.moving = None;
            }
        }
        if self.moving.is_none() && self.newest.len() >= GENERATION_MARKS {
            self.moving = Some(Moving::new(std::mem::take(&mut self.newest)));
            self.active = self.active.other();
        }
        Ok(())
    }

    /// Removes at most `limit` expired marks of the active generation; how many. Those of a full one are soon
    /// in the tree.
    pub(super) fn prune(
        &mut self,
        connection: &Connection,
        now: Timestamp,
        limit: usize,
    ) -> rusqlite::Result<usize> {
        let expired = self
            .newest
            .iter()
            .filter(|(_, (_, mark))| mark.expires_at <= now)
            .take(limit);
        let expired: Vec<_> = expired.map(|(key, (number, _))| (*key, *number)).collect();
        for (key, number) in &expired {
            connection
                .prepare_cached(self.active.delete())?
                .execute([number])?;
            self.newest.remove(key);
        }
        Ok(expired.len())
    }
}

impl Moving {
    fn new(marks: Generation) -> Self {
        let mut left: Vec<_> = marks.keys().copied().collect();
        left.sort_unstable_by(|one, other| other.cmp(one));
        Self { marks, left }
    }
}

/// A generation, and the largest number in it.
fn read(connection: &Connection, table: Table) -> rusqlite::Result<(Generation, i64)> {
    let (mut marks, mut last) = (HashMap::new(), 0);
    super::state::each(connection, table.select(), |row| {
        let number: i64 = row.get(0)?;
        let mark = Mark {
            first: rows::get_id(row, 2)?,
            body: row.get(3)?,
            expires_at: rows::get_time(row, 4)?,
        };
        last = last.max(number);
        marks.insert(row.get(1)?, (number, mark));
        Ok(())
    })?;
    Ok((marks, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection() -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        connection
            .execute_batch(include_str!("migrations/0001_start.sql"))
            .unwrap();
        connection
    }

    fn key(n: u64) -> Key {
        // Spread as a hash is.
        u128::from(n)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)
            .to_be_bytes()
    }

    fn mark(n: u64) -> Mark {
        let first = u128::from(n);
        Mark {
            first,
            body: 1,
            expires_at: Timestamp::from_secs(1_000),
        }
    }

    #[test]
    fn every_mark_is_found_wherever_it_has_got_to_and_after_reading_the_file_again() {
        let connection = connection();
        let mut marks = Marks::default();
        let count = 3 * GENERATION_MARKS as u64;
        for n in 0..count {
            marks.set(&connection, key(n), mark(n)).unwrap();
            if n % 50 == 0 {
                marks.move_slice(&connection).unwrap();
            }
            if n % 20_000 == 19_999 {
                marks = Marks::load(&connection).unwrap();
            }
        }
        for n in (0..count).step_by(7) {
            assert_eq!(marks.find(&connection, &key(n)).unwrap(), Some(mark(n)), "{n}");
        }
        assert_eq!(marks.find(&connection, &key(count)).unwrap(), None);
        let moved: i64 = connection
            .query_row("SELECT count(*) FROM dedupe", [], |row| row.get(0))
            .unwrap();
        assert!(
            moved >= GENERATION_MARKS as i64,
            "{moved} were moved into the tree"
        );
        assert!(marks.newest.len() < 2 * GENERATION_MARKS);
    }

    #[test]
    fn the_newest_mark_of_a_key_wins_over_older_ones_everywhere() {
        let connection = connection();
        let mut marks = Marks::default();
        for n in 0..GENERATION_MARKS as u64 {
            marks.set(&connection, key(n), mark(n)).unwrap();
        }
        marks.move_slice(&connection).unwrap();
        let again = Mark { first: 77, ..mark(5) };
        marks.set(&connection, key(5), again).unwrap();
        for _ in 0..2 {
            assert_eq!(marks.find(&connection, &key(5)).unwrap(), Some(again));
            while marks.moving.is_some() {
                marks.move_slice(&connection).unwrap();
            }
        }
        assert_eq!(
            Marks::load(&connection)
                .unwrap()
                .find(&connection, &key(5))
                .unwrap(),
            Some(again)
        );
    }

    #[test]
    fn expired_marks_are_removed_in_bounded_steps() {
        let connection = connection();
        let mut marks = Marks::default();
        (0..10).for_each(|n| marks.set(&connection, key(n), mark(n)).unwrap());
        assert_eq!(
            marks.prune(&connection, Timestamp::from_secs(999), 100).unwrap(),
            0
        );
        assert_eq!(
            marks.prune(&connection, Timestamp::from_secs(1_000), 6).unwrap(),
            6
        );
        assert_eq!(
            marks.prune(&connection, Timestamp::from_secs(1_000), 6).unwrap(),
            4
        );
        assert!(Marks::load(&connection).unwrap().newest.is_empty());
    }
}
