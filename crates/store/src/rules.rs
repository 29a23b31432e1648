//! The decisions that every store takes alike and the engine has no words for.
//!
//! Owns which topology changes are allowed, how much quarantine holds, how long things are kept, and the
//! texts that stores write. Pure: must not know how anything is stored. Every store asks here, so that two
//! of them cannot disagree.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use hookfast_engine::delivery::{DeliveryState, DestinationNumber};
use hookfast_engine::event::HeaderBlock;
use hookfast_engine::id::{ApplicationId, DestinationId, EventId};
use hookfast_engine::outcome::Outcome;
use hookfast_engine::time::Timestamp;
use hookfast_engine::topology::{Destination, Scope, Source, Topology, TopologyChange};

use crate::{Attempt, NewReplay, QuarantineBounds, Quarantined, Quarantining, Result, Retention, StoreError};

/// The cause of a delivery that was given up because its destination was deleted.
pub const CAUSE_DESTINATION_DELETED: &str = "destination deleted";
/// The cause of a delivery that was given up because it waited longer than is kept.
pub const CAUSE_RETENTION: &str = "retention";
/// How many refused requests are kept.
pub const REJECTED_KEPT: usize = 10_000;
/// The most items on a page of a list.
pub const PAGE_LIMIT: u32 = 1_000;

/// What a batch of topology changes leads to.
#[derive(Clone, Debug)]
pub struct TopologyChanged {
    /// The topology from then on.
    pub topology: Topology,
    /// The number that the next new destination gets.
    pub next_number: u32,
    /// The destinations that are new: unrouted events are matched with them.
    pub added: Vec<DestinationId>,
    /// The destinations that were deleted: their unsettled deliveries are given up.
    pub deleted: Vec<DestinationId>,
}

/// Makes all `changes` of `before`, or none. `next_number` is the number for the next new destination.
///
/// The rules are checked once, after the last change, so their order within a batch does not matter.
///
/// # Errors
/// [`StoreError::Refused`] with the first rule that the outcome would break.
pub fn change_topology(
    before: &Topology,
    next_number: u32,
    changes: &[TopologyChange],
) -> Result<TopologyChanged> {
    let mut after = TopologyChanged {
        topology: before.clone(),
        next_number,
        added: Vec::new(),
        deleted: Vec::new(),
    };
    for change in changes {
        apply(&mut after, change)?;
    }
    check_names(&after.topology)?;
    check_references(&after.topology)?;
    after.topology.version += u64::from(!changes.is_empty());
    Ok(after)
}

fn refused<T>(detail: String) -> Result<T> {
    Err(StoreError::Refused { detail })
}

fn apply(after: &mut TopologyChanged, change: &TopologyChange) -> Result<()> {
    let topology = &mut after.topology;
    match change {
        TopologyChange::PutApplication(application) => {
            topology.applications.insert(application.id, application.clone());
        }
        TopologyChange::PutSource(source) => put_source(topology, source)?,
        TopologyChange::DeleteSource(id) => {
            if topology.sources.remove(id).is_none() {
                return refused(format!("there is no source {id} to delete"));
            }
            for destination in topology.destinations.values_mut() {
                destination.sources.retain(|source| source != id);
            }
        }
        TopologyChange::PutDestination(destination) => put_destination(after, destination)?,
        TopologyChange::PutKey(key) => {
            topology.keys.insert(key.id, key.clone());
        }
        TopologyChange::PutPolicy(policy) => {
            topology.policies.insert(policy.name.clone(), policy.clone());
        }
    }
    Ok(())
}

fn put_source(topology: &mut Topology, source: &Source) -> Result<()> {
    if let Some(old) = topology.sources.get(&source.id)
        && old.application != source.application
    {
        return refused(format!(
            "source `{}` cannot move to another application",
            old.name
        ));
    }
    topology.sources.insert(source.id, source.clone());
    Ok(())
}

fn put_destination(after: &mut TopologyChanged, destination: &Destination) -> Result<()> {
    let mut put = destination.clone();
    if let Some(old) = after.topology.destinations.get(&put.id) {
        if old.application != put.application {
            return refused(format!(
                "destination `{}` cannot move to another application",
                old.name
            ));
        }
        if old.deleted_at.is_some() {
            return refused(format!("destination `{}` is deleted: make a new one", old.name));
        }
        put.number = old.number;
        if put.deleted_at.is_some() {
            after.deleted.push(put.id);
        }
    } else {
        if after.next_number > DestinationNumber::MAX.0 {
            return refused(format!(
                "all {} destination numbers are used up",
                DestinationNumber::MAX.0 + 1
            ));
        }
        put.number = DestinationNumber(after.next_number);
        after.next_number += 1;
        if put.deleted_at.is_none() {
            after.added.push(put.id);
        }
    }
    after.topology.destinations.insert(put.id, put);
    Ok(())
}

fn check_names(topology: &Topology) -> Result<()> {
    let mut names = BTreeSet::new();
    for application in topology.applications.values() {
        if !names.insert(application.name.as_str()) {
            return refused(format!(
                "there is already an application named `{}`",
                application.name
            ));
        }
    }
    names.clear();
    for source in topology.sources.values() {
        if !names.insert(source.name.as_str()) {
            return refused(format!(
                "there is already a source named `{}`: names of sources are unique over all applications",
                source.name
            ));
        }
    }
    let mut in_application = BTreeSet::new();
    for destination in live(topology) {
        if !in_application.insert((destination.application, destination.name.as_str())) {
            return refused(format!(
                "there is already a destination named `{}` in this application",
                destination.name
            ));
        }
    }
    Ok(())
}

fn live(topology: &Topology) -> impl Iterator<Item = &Destination> {
    topology
        .destinations
        .values()
        .filter(|destination| destination.deleted_at.is_none())
}

fn check_references(topology: &Topology) -> Result<()> {
    for source in topology.sources.values() {
        application_exists(topology, source.application, &source.name)?;
    }
    for destination in live(topology) {
        application_exists(topology, destination.application, &destination.name)?;
        for id in &destination.sources {
            let source = topology.sources.get(id);
            if source.is_none_or(|source| source.application != destination.application) {
                return refused(format!(
                    "destination `{}` takes events of source {id}, which is not in its application",
                    destination.name
                ));
            }
        }
        if topology.policy(&destination.policy).is_none() {
            return refused(format!(
                "destination `{}` names the policy `{}`, which does not exist",
                destination.name, destination.policy
            ));
        }
    }
    for key in topology.keys.values() {
        match &key.scope {
            Scope::Admin => {}
            Scope::Application(id) | Scope::Read(id) => application_exists(topology, *id, &key.name)?,
            Scope::Pull(id) if topology.destinations.contains_key(id) => {}
            Scope::Pull(id) => {
                return refused(format!(
                    "key `{}` is for destination {id}, which does not exist",
                    key.name
                ));
            }
        }
    }
    Ok(())
}

fn application_exists(topology: &Topology, id: ApplicationId, of: &str) -> Result<()> {
    if topology.applications.contains_key(&id) {
        Ok(())
    } else {
        refused(format!("`{of}` is of application {id}, which does not exist"))
    }
}

/// How much of a source's quarantine is taken.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct QuarantineTaken {
    /// Events of the source.
    pub events: u64,
    /// Their bytes, as [`quarantine_bytes`] counts them.
    pub bytes: u64,
    /// Events of the source from the same peer.
    pub of_peer: u64,
}

/// What an item takes of its source's quarantine: body and headers.
#[must_use]
pub fn quarantine_bytes(item: &Quarantined) -> u64 {
    (item.body.len() + item.headers.packed().len()) as u64
}

/// Whether another item of `bytes` fits. A full source is said to be full whoever sends.
#[must_use]
pub fn quarantining(bounds: QuarantineBounds, taken: QuarantineTaken, bytes: u64) -> Quarantining {
    if taken.events >= bounds.events || taken.bytes.saturating_add(bytes) > bounds.bytes {
        Quarantining::Full
    } else if taken.of_peer >= bounds.events_per_peer {
        Quarantining::PeerFull
    } else {
        Quarantining::Kept
    }
}

/// The id that a replay with `new_id` shows instead of the event's: another one for each job, the same for
/// each attempt and each destination.
#[must_use]
pub fn replayed_event_id(replay: &NewReplay, event: EventId) -> EventId {
    EventId::new(
        replay.created_at,
        event.as_u128() ^ replay.id.as_u128().rotate_right(1),
    )
}

/// The cause that a delivery shows after `attempt`.
#[must_use]
pub fn attempt_cause(attempt: &Attempt) -> String {
    match (&attempt.error, attempt.outcome.status()) {
        (Some(error), _) => error.clone(),
        (None, Some(status)) => format!("answered {status}"),
        (None, None) => attempt.outcome.name().to_owned(),
    }
}

/// What is kept of an attempt whose process or puller is gone.
#[must_use]
pub fn lost_attempt(number: u32, started_at: Timestamp, now: Timestamp) -> Attempt {
    Attempt {
        number,
        started_at,
        duration: now.since(started_at),
        outcome: Outcome::Lost,
        error: None,
        response_headers: HeaderBlock::default(),
        response_body: Bytes::new(),
    }
}

/// Until when an event is kept whose deliveries have all settled, in the states `settled`, the last of them
/// at `last_settled_at` (for an unrouted event: when it was accepted).
#[must_use]
pub fn kept_until(
    retention: Retention,
    last_settled_at: Timestamp,
    mut settled: impl Iterator<Item = DeliveryState>,
) -> Timestamp {
    let dead = settled.any(|state| state == DeliveryState::Dead);
    let longest: Duration = if dead {
        retention.settled.max(retention.dead)
    } else {
        retention.settled
    };
    last_settled_at.plus(longest)
}

/// Whether the trigger pattern of a filter (`message.created`, `message.*` or `*`) takes `event_type`.
#[must_use]
pub fn filter_takes_type(pattern: &str, event_type: Option<&str>) -> bool {
    match (pattern.strip_suffix(".*"), event_type) {
        _ if pattern == "*" => true,
        (_, None) => false,
        (None, Some(event_type)) => event_type == pattern,
        (Some(prefix), Some(event_type)) => event_type
            .strip_prefix(prefix)
            .is_some_and(|rest| rest.starts_with('.')),
    }
}
