//! What the writer keeps in memory beside the file.
//!
//! Owns the compiled topology, the destinations' health, the counters and the small numbers that every
//! operation needs, and writes what changed of them into each batch. All of it can be read from the file
//! again, which is what happens when a batch is rolled back. Must not know operations.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use hookfast_engine::delivery::{DeliveryState, DestinationNumber};
use hookfast_engine::health::Health;
use hookfast_engine::id::{ApplicationId, DestinationId, SourceId};
use hookfast_engine::mutant::{self, Mutant};
use hookfast_engine::retry::Policy;
use hookfast_engine::route::RouteTable;
use hookfast_engine::time::Timestamp;
use hookfast_engine::topology::{Destination, DestinationKind, Topology};
use rusqlite::{Connection, OptionalExtension, params};

use super::continuation::Continuation;
use super::marks::Marks;
use super::{rows, topology};

/// A destination as the writer needs it.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) id: DestinationId,
    pub(super) application: ApplicationId,
    pub(super) open: bool,
    pub(super) push: bool,
    pub(super) deleted_at: Option<Timestamp>,
    pub(super) timeout: Duration,
    pub(super) policy: Arc<Policy>,
}

/// Destinations by their numbers.
pub(super) type Numbered = HashMap<DestinationNumber, Known>;

/// The destinations of `topology` by their numbers.
pub(super) fn numbered(topology: &Topology) -> Numbered {
    topology
        .destinations
        .values()
        .map(|destination| (destination.number, Known::of(destination, topology)))
        .collect()
}

impl Known {
    /// Whether it was deleted.
    pub(super) fn deleted(&self) -> bool {
        self.deleted_at.is_some()
    }

    /// What is known of `destination`, with a policy of its own where its own has gone.
    fn of(destination: &Destination, topology: &Topology) -> Self {
        let policy = topology.policy(&destination.policy).unwrap_or_else(Policy::inbox);
        Self {
            id: destination.id,
            application: destination.application,
            open: destination.is_open(),
            push: matches!(destination.kind, DestinationKind::Push { .. }),
            deleted_at: destination.deleted_at,
            timeout: destination.timeout,
            policy: Arc::new(policy),
        }
    }
}

/// Counts over everything.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Totals {
    pub(super) events: i64,
    pub(super) repeats: i64,
    pub(super) next_sequence: i64,
}

/// What one source has in quarantine.
#[derive(Clone, Debug, Default)]
pub(super) struct QuarantineUse {
    pub(super) events: u64,
    pub(super) bytes: u64,
    pub(super) peers: HashMap<String, u64>,
}

/// Where the sweep of retention stands. In memory only: after a start it begins anew.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sweep {
    /// The last event looked at.
    pub(super) event: i64,
    /// All events were looked at in this round.
    pub(super) events_done: bool,
    /// The last mark looked at.
    pub(super) mark: Option<[u8; 16]>,
    /// All marks were looked at in this round.
    pub(super) marks_done: bool,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) topology: Arc<Topology>,
    pub(super) routes: RouteTable,
    pub(super) destinations: Numbered,
    health: HashMap<DestinationNumber, Health>,
    changed_health: BTreeSet<DestinationNumber>,
    counters: HashMap<(DestinationNumber, i64), i64>,
    changed_counters: HashSet<(DestinationNumber, i64)>,
    parties: HashMap<u128, i64>,
    pub(super) totals: Totals,
    stored_totals: Totals,
    pub(super) quarantine: HashMap<SourceId, QuarantineUse>,
    pub(super) continuations: VecDeque<Continuation>,
    pub(super) sweep: Sweep,
    pub(super) marks: Marks,
}

impl State {
    /// Reads everything from the file.
    pub(super) fn load(connection: &Connection) -> rusqlite::Result<Self> {
        let mut state = Self::default();
        state.set_topology(Arc::new(topology::load(connection)?));
        state.totals =
            connection.query_row("SELECT events, repeats, next_sequence FROM totals", [], |row| {
                Ok(Totals {
                    events: row.get(0)?,
                    repeats: row.get(1)?,
                    next_sequence: row.get(2)?,
                })
            })?;
        state.stored_totals = state.totals;
        each(connection, "SELECT id, number FROM parties", |row| {
            state.parties.insert(rows::get_id(row, 0)?, row.get(1)?);
            Ok(())
        })?;
        each(connection, "SELECT destination, document FROM health", |row| {
            let number = DestinationNumber(row.get(0)?);
            state.health.insert(number, rows::get_document(row, 1)?);
            Ok(())
        })?;
        each(connection, "SELECT destination, state, n FROM counters", |row| {
            let key = (DestinationNumber(row.get(0)?), row.get(1)?);
            state.counters.insert(key, row.get(2)?);
            Ok(())
        })?;
        state.load_quarantine(connection)?;
        state.continuations = Continuation::load(connection)?;
        state.marks = Marks::load(connection)?;
        Ok(state)
    }

    fn load_quarantine(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        each(
            connection,
            "SELECT source, peer, count(*), sum(bytes) FROM quarantine GROUP BY source, peer",
            |row| {
                let source = SourceId::from_u128(rows::get_id(row, 0)?);
                let used = self.quarantine.entry(source).or_default();
                let events = rows::get_count(row, 2)?;
                used.events += events;
                used.bytes += rows::get_count(row, 3)?;
                used.peers.insert(row.get(1)?, events);
                Ok(())
            },
        )
    }

    /// Compiles `topology`.
    pub(super) fn set_topology(&mut self, topology: Arc<Topology>) {
        self.routes = RouteTable::new(&topology);
        self.destinations = numbered(&topology);
        self.topology = topology;
    }

    /// The destination with that number.
    pub(super) fn known(&self, number: DestinationNumber) -> Option<&Known> {
        self.destinations.get(&number)
    }

    /// The number of a destination.
    pub(super) fn number(&self, id: DestinationId) -> Option<DestinationNumber> {
        self.topology
            .destinations
            .get(&id)
            .map(|destination| destination.number)
    }

    /// Every destination.
    pub(super) fn all_known(&self) -> impl Iterator<Item = (DestinationNumber, &Known)> {
        self.destinations.iter().map(|(number, known)| (*number, known))
    }

    /// The destination's health.
    pub(super) fn health(&self, number: DestinationNumber) -> Health {
        self.health.get(&number).cloned().unwrap_or_default()
    }

    pub(super) fn set_health(&mut self, number: DestinationNumber, health: Health) {
        self.health.insert(number, health);
        self.changed_health.insert(number);
    }

    /// How many deliveries of the destination are stored in `state`.
    pub(super) fn stored(&self, number: DestinationNumber, state: DeliveryState) -> i64 {
        let key = (number, rows::state_number(state));
        self.counters.get(&key).copied().unwrap_or(0)
    }

    /// Whether deliveries of the destination wait.
    pub(super) fn has_waiting(&self, number: DestinationNumber) -> bool {
        self.stored(number, DeliveryState::Pending) > 0 || self.stored(number, DeliveryState::Retrying) > 0
    }

    /// Counts a delivery in or out of a state.
    pub(super) fn count(&mut self, number: DestinationNumber, state: DeliveryState, by: i64) {
        let key = (number, rows::state_number(state));
        *self.counters.entry(key).or_default() += by;
        self.changed_counters.insert(key);
    }

    /// The small number that stands for an application or a source in an event's row.
    pub(super) fn party(&mut self, connection: &Connection, id: u128) -> rusqlite::Result<i64> {
        if let Some(number) = self.parties.get(&id) {
            return Ok(*number);
        }
        let number = connection
            .prepare_cached("INSERT INTO parties (id) VALUES (?1) RETURNING number")?
            .query_row([rows::id(id)], |row| row.get(0))?;
        self.parties.insert(id, number);
        Ok(number)
    }

    /// Writes what changed since the last call.
    pub(super) fn flush(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        self.marks.move_slice(connection)?;
        if self.totals != self.stored_totals {
            connection
                .prepare_cached("UPDATE totals SET events = ?1, repeats = ?2, next_sequence = ?3")?
                .execute(params![
                    self.totals.events,
                    self.totals.repeats,
                    self.totals.next_sequence
                ])?;
            self.stored_totals = self.totals;
        }
        for key in std::mem::take(&mut self.changed_counters) {
            let n = self.counters.get(&key).copied().unwrap_or(0);
            connection
                .prepare_cached(
                    "INSERT INTO counters (destination, state, n) VALUES (?1, ?2, ?3) \
                     ON CONFLICT DO UPDATE SET n = excluded.n",
                )?
                .execute(params![key.0.0, key.1, n])?;
        }
        if mutant::is_active(Mutant::HealthNotPersisted) {
            self.changed_health.clear();
        }
        for number in std::mem::take(&mut self.changed_health) {
            connection
                .prepare_cached(
                    "INSERT INTO health (destination, document) VALUES (?1, ?2) \
                     ON CONFLICT DO UPDATE SET document = excluded.document",
                )?
                .execute(params![number.0, rows::document(&self.health(number))?])?;
        }
        Ok(())
    }
}

/// Calls `visit` with each row of a query without parameters.
pub(super) fn each(
    connection: &Connection,
    sql: &str,
    mut visit: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<()>,
) -> rusqlite::Result<()> {
    let mut statement = connection.prepare(sql)?;
    let mut found = statement.query([])?;
    while let Some(row) = found.next()? {
        visit(row)?;
    }
    Ok(())
}

/// The value of a setting of the file.
pub(super) fn meta(connection: &Connection, name: &str) -> rusqlite::Result<Option<i64>> {
    connection
        .prepare_cached("SELECT value FROM meta WHERE name = ?1")?
        .query_row([name], |row| row.get(0))
        .optional()
}

/// Sets a setting of the file.
pub(super) fn set_meta(connection: &Connection, name: &str, value: i64) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO meta (name, value) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = excluded.value",
        )?
        .execute(params![name, value])?;
    Ok(())
}
