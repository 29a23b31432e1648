//! The topology as it is stored, and its changes.
//!
//! Owns its rows, the audit and what a change means for deliveries. Must not know which changes are allowed:
//! `rules` says that.

use std::sync::Arc;

use hookfast_engine::delivery::{DeliveryState, DestinationNumber};
use hookfast_engine::id::ApplicationId;
use hookfast_engine::time::Timestamp;
use hookfast_engine::topology::{
    ApiKey, Application, Destination, Source, Topology, TopologyChange, TriggerType,
};
use rusqlite::{Connection, OptionalExtension, params};

use super::continuation::{self, Kind};
use super::state::{each, meta, set_meta};
use super::writer::{Applied, Writing};
use super::{append, notices, rows};
use crate::rules;

const APPLICATION: i64 = 1;
const SOURCE: i64 = 2;
const DESTINATION: i64 = 3;
const KEY: i64 = 4;
const POLICY: i64 = 5;
const TRIGGER_TYPE: i64 = 6;

/// Reads the topology from the file.
pub(super) fn load(connection: &Connection) -> rusqlite::Result<Topology> {
    let version = meta(connection, "topology_version")?.unwrap_or(0);
    let mut topology = Topology {
        version: u64::try_from(version).unwrap_or(0),
        ..Topology::default()
    };
    each(connection, "SELECT kind, document FROM topology", |row| {
        match row.get::<_, i64>(0)? {
            APPLICATION => {
                let application: Application = rows::get_document(row, 1)?;
                topology.applications.insert(application.id, application);
            }
            SOURCE => {
                let source: Source = rows::get_document(row, 1)?;
                topology.sources.insert(source.id, source);
            }
            DESTINATION => {
                let destination: Destination = rows::get_document(row, 1)?;
                topology.destinations.insert(destination.id, destination);
            }
            KEY => {
                let key: ApiKey = rows::get_document(row, 1)?;
                topology.keys.insert(key.id, key);
            }
            POLICY => {
                let policy: hookfast_engine::retry::Policy = rows::get_document(row, 1)?;
                topology.policies.insert(policy.name.clone(), policy);
            }
            TRIGGER_TYPE => {
                let trigger_type: TriggerType = rows::get_document(row, 1)?;
                let key = (trigger_type.application, trigger_type.name.clone());
                topology.trigger_types.insert(key, trigger_type);
            }
            other => return Err(rusqlite::Error::IntegralValueOutOfRange(0, other)),
        }
        Ok(())
    })?;
    Ok(topology)
}

/// Makes all changes or none.
pub(super) fn change(
    writing: &mut Writing<'_>,
    now: Timestamp,
    actor: &str,
    changes: &[TopologyChange],
) -> Applied<Arc<Topology>> {
    let before = Arc::clone(&writing.state.topology);
    let next_number = meta(writing.connection, "next_destination")?.unwrap_or(0);
    let next_number = u32::try_from(next_number).unwrap_or(u32::MAX);
    let changed = rules::change_topology(&before, next_number, now, changes)?;
    let after = Arc::new(changed.topology);
    set_meta(
        writing.connection,
        "next_destination",
        i64::from(changed.next_number),
    )?;
    set_meta(
        writing.connection,
        "topology_version",
        i64::try_from(after.version).unwrap_or(i64::MAX),
    )?;
    write_differences(writing.connection, &before, &after)?;
    for change in changes {
        audit(writing.connection, now, actor, change)?;
    }
    writing.state.set_topology(Arc::clone(&after));
    writing.effects.topology = Some(Arc::clone(&after));
    for id in &changed.deleted {
        if let Some(destination) = after.destinations.get(id) {
            let number = i64::from(destination.number.0);
            continuation::begin(writing, Kind::Discard, number, now, (0, 0))?;
        }
    }
    let mut sources: Vec<_> = changed
        .added
        .iter()
        .filter_map(|id| after.destinations.get(id))
        .flat_map(|destination| destination.sources.iter().copied())
        .collect();
    sources.sort_unstable();
    sources.dedup();
    let new = (i64::from(next_number), i64::from(changed.next_number) - 1);
    for source in sources {
        let party = writing.state.party(writing.connection, source.as_u128())?;
        continuation::begin(writing, Kind::Match, party, now, new)?;
    }
    announce_opened(writing, &before, &after)?;
    for id in &changed.activated {
        if let Some(number) = writing.state.number(*id) {
            let mut health = writing.state.health(number);
            health.reactivate();
            writing.state.set_health(number, health);
        }
    }
    for announcement in changed.announcements {
        append::publish(writing, announcement.event)?;
        if let Some(notice) = &announcement.notice {
            notices::insert(writing.connection, notice)?;
        }
    }
    Ok(after)
}

/// What waited while a destination was closed is news to the delivery side.
fn announce_opened(writing: &mut Writing<'_>, before: &Topology, after: &Topology) -> rusqlite::Result<()> {
    for destination in after
        .destinations
        .values()
        .filter(|destination| destination.is_open())
    {
        let was_open = before
            .destinations
            .get(&destination.id)
            .is_some_and(Destination::is_open);
        if !was_open && let Some(due_at) = first_due(writing.connection, destination.number)? {
            writing.waits(destination.number, due_at);
        }
    }
    Ok(())
}

/// Writes what is in `after` and was not, or was otherwise, in `before`, and removes what is gone.
fn write_differences(connection: &Connection, before: &Topology, after: &Topology) -> rusqlite::Result<()> {
    for (id, application) in &after.applications {
        if before.applications.get(id) != Some(application) {
            put(connection, APPLICATION, &rows::id(id.as_u128()), application)?;
        }
    }
    for (id, source) in &after.sources {
        if before.sources.get(id) != Some(source) {
            put(connection, SOURCE, &rows::id(id.as_u128()), source)?;
        }
    }
    for id in before.sources.keys().filter(|id| !after.sources.contains_key(id)) {
        remove(connection, SOURCE, &rows::id(id.as_u128()))?;
    }
    for (id, destination) in &after.destinations {
        if before.destinations.get(id) != Some(destination) {
            put(connection, DESTINATION, &rows::id(id.as_u128()), destination)?;
        }
    }
    for (id, key) in &after.keys {
        if before.keys.get(id) != Some(key) {
            put(connection, KEY, &rows::id(id.as_u128()), key)?;
        }
    }
    for (name, policy) in &after.policies {
        if before.policies.get(name) != Some(policy) {
            put(connection, POLICY, name.as_bytes(), policy)?;
        }
    }
    for (key, trigger_type) in &after.trigger_types {
        if before.trigger_types.get(key) != Some(trigger_type) {
            put(connection, TRIGGER_TYPE, &trigger_type_id(key), trigger_type)?;
        }
    }
    for key in before
        .trigger_types
        .keys()
        .filter(|key| !after.trigger_types.contains_key(key))
    {
        remove(connection, TRIGGER_TYPE, &trigger_type_id(key))?;
    }
    Ok(())
}

fn trigger_type_id((application, name): &(ApplicationId, String)) -> Vec<u8> {
    [&rows::id(application.as_u128())[..], name.as_bytes()].concat()
}

fn remove(connection: &Connection, kind: i64, id: &[u8]) -> rusqlite::Result<()> {
    connection
        .prepare_cached("DELETE FROM topology WHERE kind = ?1 AND id = ?2")?
        .execute(params![kind, id])?;
    Ok(())
}

fn put<T: serde::Serialize>(
    connection: &Connection,
    kind: i64,
    id: &[u8],
    value: &T,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO topology (kind, id, document) VALUES (?1, ?2, ?3) \
             ON CONFLICT DO UPDATE SET document = excluded.document",
        )?
        .execute(params![kind, id, rows::document(value)?])?;
    Ok(())
}

fn audit(
    connection: &Connection,
    now: Timestamp,
    actor: &str,
    change: &TopologyChange,
) -> rusqlite::Result<()> {
    let (action, subject, document) = match change {
        TopologyChange::PutApplication(application) => (
            "put_application",
            application.id.to_string(),
            Some(rows::document(application)?),
        ),
        TopologyChange::PutSource(source) => {
            ("put_source", source.id.to_string(), Some(rows::document(source)?))
        }
        TopologyChange::DeleteSource(id) => ("delete_source", id.to_string(), None),
        TopologyChange::PutDestination(destination) => (
            "put_destination",
            destination.id.to_string(),
            Some(rows::document(destination)?),
        ),
        TopologyChange::PutKey(key) => ("put_key", key.id.to_string(), Some(rows::document(key)?)),
        TopologyChange::PutPolicy(policy) => {
            ("put_policy", policy.name.clone(), Some(rows::document(policy)?))
        }
        TopologyChange::PutTriggerType(trigger_type) => (
            "put_trigger_type",
            format!("{} {}", trigger_type.application, trigger_type.name),
            Some(rows::document(trigger_type)?),
        ),
        TopologyChange::DeleteTriggerType(application, name) => {
            ("delete_trigger_type", format!("{application} {name}"), None)
        }
    };
    connection
        .prepare_cached(
            "INSERT INTO audit (at, actor, action, subject, document) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![rows::time(now), actor, action, subject, document])?;
    Ok(())
}

/// When the first of a destination's waiting deliveries is due.
pub(super) fn first_due(
    connection: &Connection,
    number: DestinationNumber,
) -> rusqlite::Result<Option<Timestamp>> {
    connection
        .prepare_cached(
            "SELECT due_at FROM deliveries INDEXED BY deliveries_due \
             WHERE destination = ?1 AND due_at IS NOT NULL AND state <> ?2 ORDER BY due_at, key LIMIT 1",
        )?
        .query_row(
            params![number.0, rows::state_number(DeliveryState::InFlight)],
            |row| rows::get_time(row, 0),
        )
        .optional()
}
