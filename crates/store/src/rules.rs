//! The decisions that every store takes alike and the engine has no words for.
//!
//! Owns which topology changes are allowed, how much quarantine holds, how long things are kept, and the
//! texts that stores write. Pure: must not know how anything is stored. Every store asks here, so that two
//! of them cannot disagree.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use hookfast_engine::delivery::{DeliveryState, DestinationNumber};
use hookfast_engine::event::{Event, HeaderBlock};
use hookfast_engine::id::{ApplicationId, DestinationId, EventId, NoticeId, SourceId};
use hookfast_engine::outcome::Outcome;
use hookfast_engine::settle::StatusChange;
use hookfast_engine::time::Timestamp;
use hookfast_engine::topology::{
    Destination, DestinationKind, DestinationStatus, OPERATIONS, OUTBOX, Scope, Source, Topology,
    TopologyChange,
};

use crate::{
    Attempt, NewReplay, Notice, QuarantineBounds, Quarantined, Quarantining, Result, Retention, StoreError,
};

/// The cause of a delivery that was given up because its destination was deleted.
pub const CAUSE_DESTINATION_DELETED: &str = "destination deleted";
/// The cause of a delivery that was given up because it waited longer than is kept.
pub const CAUSE_RETENTION: &str = "retention";
/// Who changed a destination's status in the audit, where nobody but its attempts did.
pub const ACTOR_HEALTH: &str = "health";
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
    /// The destinations that became active, having been something else: their health begins anew.
    pub activated: Vec<DestinationId>,
    /// What is to be said of destinations whose status changed.
    pub announcements: Vec<Announcement>,
}

/// What is said where a destination begins to fail, has failed or is back (SPEC O7).
#[derive(Clone, Debug)]
pub struct Announcement {
    /// The event that is published.
    pub event: Event,
    /// What people are owed by e-mail, where the destination names somebody.
    pub notice: Option<Notice>,
}

/// Makes all `changes` of `before` at `now`, or none. `next_number` is the number for the next new destination.
///
/// The rules are checked once, after the last change, so their order within a batch does not matter.
///
/// # Errors
/// [`StoreError::Refused`] with the first rule that the outcome would break.
pub fn change_topology(
    before: &Topology,
    next_number: u32,
    now: Timestamp,
    changes: &[TopologyChange],
) -> Result<TopologyChanged> {
    let mut after = TopologyChanged {
        topology: before.clone(),
        next_number,
        added: Vec::new(),
        deleted: Vec::new(),
        activated: Vec::new(),
        announcements: Vec::new(),
    };
    for change in changes {
        apply(&mut after, change)?;
    }
    check_names(&after.topology)?;
    check_references(&after.topology)?;
    after.topology.version += u64::from(!changes.is_empty());
    note_statuses(before, now, &mut after);
    Ok(after)
}

/// Finds the destinations whose status is another one now.
fn note_statuses(before: &Topology, now: Timestamp, after: &mut TopologyChanged) {
    let version = after.topology.version;
    for destination in after.topology.live_destinations() {
        let Some(old) = before.destinations.get(&destination.id) else {
            continue;
        };
        if old.status == destination.status {
            continue;
        }
        if destination.status == DestinationStatus::Active {
            after.activated.push(destination.id);
        }
        after
            .announcements
            .extend(announcement(old, destination, now, version));
    }
}

/// What is said of the step from `old` to `new`, at the topology's `version`; nothing where a person paused it,
/// resumed it or has yet to verify it.
#[must_use]
pub fn announcement(
    old: &Destination,
    new: &Destination,
    now: Timestamp,
    version: u64,
) -> Option<Announcement> {
    let told = match (old.status, new.status) {
        (_, DestinationStatus::Failing | DestinationStatus::Failed)
        | (DestinationStatus::Failing | DestinationStatus::Failed, DestinationStatus::Active) => true,
        (
            DestinationStatus::Active | DestinationStatus::Paused | DestinationStatus::Unverified,
            DestinationStatus::Active,
        )
        | (_, DestinationStatus::Paused | DestinationStatus::Unverified) => false,
    };
    told.then(|| Announcement {
        event: operational_event(old, new, now, version),
        notice: notice(old, new, now, version),
    })
}

/// The same for the same change, and another for every other: versions are never used again.
fn change_entropy(destination: &Destination, version: u64) -> u128 {
    destination.id.as_u128().rotate_left(17) ^ u128::from(version)
}

fn notice(old: &Destination, new: &Destination, now: Timestamp, version: u64) -> Option<Notice> {
    if new.notification_email_addresses.is_empty() {
        return None;
    }
    Some(Notice {
        id: NoticeId::new(now, change_entropy(new, version)),
        application: new.application,
        destination: new.id,
        destination_name: new.name.clone(),
        url: url_of(new).map(str::to_owned),
        at: now,
        from: old.status,
        from_since: old.status_changed_at,
        to: new.status,
        reason: new.status_reason.clone(),
        recipients: new.notification_email_addresses.clone(),
    })
}

fn url_of(destination: &Destination) -> Option<&str> {
    match &destination.kind {
        DestinationKind::Push { url } => Some(url),
        DestinationKind::Pull => None,
    }
}

fn operational_event(old: &Destination, new: &Destination, now: Timestamp, version: u64) -> Event {
    let id = EventId::new(now, change_entropy(new, version));
    let event_type = format!("destination.{}", new.status.name());
    // No `time`: it is that of the event, and nobody has to write a date here.
    let body = serde_json::json!({
        "specversion": "1.0",
        "type": event_type,
        "source": "/hookfast/destinations",
        "id": id.to_string(),
        "data": {
            "application_id": new.application.to_string(),
            "object": {
                "object": "destination",
                "id": new.id.to_string(),
                "name": new.name,
                "url": url_of(new),
                "status": new.status.name(),
                "previous_status": old.status.name(),
                "status_reason": new.status_reason,
                "status_changed_at": now.as_secs(),
            },
        },
    });
    Event {
        id,
        application: new.application,
        source: SourceId::of_operations(new.application),
        provider_id: Some(id.to_string()),
        event_type: Some(event_type),
        occurred_at: Some(now),
        accepted_at: now,
        headers: HeaderBlock::pack([(&b"content-type"[..], &b"application/cloudevents+json"[..])]),
        body: Bytes::from(body.to_string()),
    }
}

/// The change that a settlement makes of its destination's status, where that is still what the change is from.
/// `attempt` is the one that led to it.
#[must_use]
pub fn status_change(
    topology: &Topology,
    destination: DestinationId,
    change: &StatusChange,
    attempt: &Attempt,
    now: Timestamp,
) -> Option<TopologyChange> {
    let destination = topology.destinations.get(&destination)?;
    if destination.status != change.from || destination.deleted_at.is_some() {
        return None;
    }
    let reason = match change.to {
        DestinationStatus::Active => change.reason.clone(),
        DestinationStatus::Failing
        | DestinationStatus::Failed
        | DestinationStatus::Paused
        | DestinationStatus::Unverified => {
            format!("{}; the last one: {}", change.reason, attempt_cause(attempt))
        }
    };
    let mut destination = destination.clone();
    let reason = Some(reason).filter(|_| change.to != DestinationStatus::Active);
    destination.set_status(change.to, reason, now);
    Some(TopologyChange::PutDestination(destination))
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
        TopologyChange::PutTriggerType(trigger_type) => {
            let key = (trigger_type.application, trigger_type.name.clone());
            topology.trigger_types.insert(key, trigger_type.clone());
        }
        TopologyChange::DeleteTriggerType(application, name) => {
            let key = (*application, name.clone());
            if topology.trigger_types.remove(&key).is_none() {
                return refused(format!("there is no trigger type `{name}` to delete"));
            }
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
        // Whoever put it had read it before attempts changed its status: their change stays.
        if put.status_changed_at < old.status_changed_at {
            put.status = old.status;
            put.status_reason.clone_from(&old.status_reason);
            put.status_changed_at = old.status_changed_at;
        }
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
        if [OUTBOX, OPERATIONS].contains(&source.name.as_str()) {
            return refused(format!(
                "a source cannot be named `{}`: that is the name of what an application publishes itself",
                source.name
            ));
        }
        if !names.insert(source.name.as_str()) {
            return refused(format!(
                "there is already a source named `{}`: names of sources are unique over all applications",
                source.name
            ));
        }
    }
    let mut in_application = BTreeSet::new();
    for destination in topology.live_destinations() {
        if !in_application.insert((destination.application, destination.name.as_str())) {
            return refused(format!(
                "there is already a destination named `{}` in this application",
                destination.name
            ));
        }
    }
    Ok(())
}

fn check_references(topology: &Topology) -> Result<()> {
    for source in topology.sources.values() {
        application_exists(topology, source.application, &source.name)?;
    }
    for destination in topology.live_destinations() {
        application_exists(topology, destination.application, &destination.name)?;
        for id in &destination.sources {
            if topology.owner_of(*id) != Some(destination.application) {
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
    for trigger_type in topology.trigger_types.values() {
        application_exists(topology, trigger_type.application, &trigger_type.name)?;
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
