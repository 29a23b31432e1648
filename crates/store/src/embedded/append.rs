//! Taking an event in: its dedupe mark, the event and its deliveries, in one step.
//!
//! Owns what is written when an event is appended. Whether a delivery may pass what waits before it is the
//! delivery side's to say: it knows its backlog and keeps a share of its slots for new events (SPEC I10). Must
//! not know where an event goes (the engine says that) nor how commits are made.

use std::sync::Arc;
use std::time::Duration;

use hookfast_engine::delivery::{DeliveryKey, DeliveryState, DestinationNumber, EventSequence, Progress};
use hookfast_engine::event::Event;
use hookfast_engine::id::EventId;
use hookfast_engine::mutant::{self, Mutant};
use rusqlite::params;

use super::marks::Mark;
use super::rows::{self, DeliveryRow};
use super::writer::{self, Applied, Writing};
use crate::{Appended, ClaimedDelivery, Dedupe, NewEvent};

/// Takes one event.
pub(super) fn append(writing: &mut Writing<'_>, new: &NewEvent) -> Applied<Appended> {
    writing.take_in()?;
    if let Some(repeat) = mark_of(writing, new)? {
        return Ok(repeat);
    }
    let deliveries = insert(writing, &new.event, Some(new.lease_margin))?;
    Ok(Appended::Accepted { deliveries })
}

/// Sets the event's dedupe mark, where it has one; where a valid one is there, the event is a repeat.
pub(super) fn mark_of(writing: &mut Writing<'_>, new: &NewEvent) -> Applied<Option<Appended>> {
    match new.dedupe {
        Some(dedupe) => mark(writing, &new.event, dedupe),
        None => Ok(None),
    }
}

/// Writes an event of our own, which is no repeat, with its deliveries. They wait, however many slots are free.
pub(super) fn publish(writing: &mut Writing<'_>, event: Event) -> rusqlite::Result<()> {
    insert(writing, &Arc::new(event), None).map(drop)
}

/// Writes an event with its deliveries; how many there are. With a margin for their leases, those for which
/// there is a slot are born in flight.
fn insert(
    writing: &mut Writing<'_>,
    event: &Arc<Event>,
    lease_margin: Option<Duration>,
) -> rusqlite::Result<u32> {
    let sequence = writing.state.totals.next_sequence;
    writing.state.totals.next_sequence += 1;
    writing.state.totals.events += 1;
    let routed = writing
        .state
        .routes
        .route(event.source, event.event_type.as_deref());
    insert_event(writing, event, sequence, routed.len())?;
    for number in &routed {
        let key = DeliveryKey::new(EventSequence(sequence), *number);
        let row = match lease_margin {
            Some(lease_margin) => born(writing, event, key, lease_margin),
            None => DeliveryRow::pending(key, event.accepted_at, event.accepted_at),
        };
        writing.insert(&row)?;
    }
    Ok(u32::try_from(routed.len()).unwrap_or(u32::MAX))
}

/// Sets the dedupe mark; where a valid one is there, the event is a repeat.
fn mark(writing: &mut Writing<'_>, event: &Event, dedupe: Dedupe) -> Applied<Option<Appended>> {
    let body = i64::from_be_bytes(dedupe.body);
    let found = writing.state.marks.find(writing.connection, &dedupe.key)?;
    let Some(Mark {
        first,
        body: first_body,
        ..
    }) = found.filter(|mark| event.accepted_at < mark.expires_at)
    else {
        let mark = Mark {
            first: event.id.as_u128(),
            body,
            expires_at: dedupe.expires_at,
        };
        writing.state.marks.set(writing.connection, dedupe.key, mark)?;
        if mutant::is_active(Mutant::DedupeMarkInItsOwnTransaction) {
            writer::commit_early(writing.connection)?;
        }
        return Ok(None);
    };
    let conflicting = first_body != body;
    let repeat = Appended::Repeat {
        first: EventId::from_u128(first),
        conflicting,
    };
    if mutant::is_active(Mutant::AcknowledgeRepeatWithoutSync) {
        return Ok(Some(repeat));
    }
    // This counter makes the repeat's 200 durable: its batch has something to sync, even where the first
    // event is no longer kept.
    writing.state.totals.repeats += 1;
    writing
        .connection
        .prepare_cached(
            "INSERT INTO repeats (sequence, repeats, conflicting) \
             SELECT sequence, 1, ?2 FROM events WHERE id = ?1 \
             ON CONFLICT DO UPDATE SET repeats = repeats + 1, conflicting = conflicting + excluded.conflicting",
        )?
        .execute(params![rows::id(first), i64::from(conflicting)])?;
    Ok(Some(repeat))
}

fn insert_event(
    writing: &mut Writing<'_>,
    event: &Event,
    sequence: i64,
    routed: usize,
) -> rusqlite::Result<()> {
    let connection = writing.connection;
    let application = writing.state.party(connection, event.application.as_u128())?;
    let source = writing.state.party(connection, event.source.as_u128())?;
    let headers = &event.headers.packed()[..];
    let body = &event.body[..];
    connection
        .prepare_cached(
            "INSERT INTO events (sequence, id, application, source, provider_id, type, occurred_at, \
             accepted_at, body_bytes, checksum, routed) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        )?
        .execute(params![
            sequence,
            rows::id(event.id.as_u128()),
            application,
            source,
            event.provider_id,
            event.event_type,
            rows::maybe_time(event.occurred_at),
            rows::time(event.accepted_at),
            rows::size(body.len()),
            rows::checksum(headers, body),
            rows::size(routed),
        ])?;
    connection
        .prepare_cached("INSERT INTO bodies (sequence, headers, body) VALUES (?1, ?2, ?3)")?
        .execute(params![sequence, headers, body])?;
    Ok(())
}

/// A new delivery: in flight where the delivery side has a slot for it.
fn born(
    writing: &mut Writing<'_>,
    event: &Arc<Event>,
    key: DeliveryKey,
    lease_margin: Duration,
) -> DeliveryRow {
    let accepted_at = event.accepted_at;
    let pending = DeliveryRow::pending(key, accepted_at, accepted_at);
    let number = key.destination();
    if !reserve(writing, number, event) {
        return pending;
    }
    let Some(known) = writing.state.known(number) else {
        return pending;
    };
    let lease_until = accepted_at.plus(known.timeout).plus(lease_margin);
    let open_total = writing.state.health(number).open_total(accepted_at);
    let progress = Progress::default().begin_attempt(accepted_at, open_total);
    writing.effects.handed.push(ClaimedDelivery {
        id: pending.id(),
        destination: known.id,
        attempt: progress.attempt,
        round_attempt: progress.counted.saturating_add(1),
        event: Arc::clone(event),
        replay: None,
        lease_until,
    });
    DeliveryRow {
        state: DeliveryState::InFlight,
        due_at: Some(lease_until),
        progress,
        ..pending
    }
}

fn reserve(writing: &mut Writing<'_>, number: DestinationNumber, event: &Event) -> bool {
    let Some(known) = writing.state.known(number) else {
        return false;
    };
    if !known.open || !known.push {
        return false;
    }
    let bytes = event.body.len();
    let reserved = writing.slots.reserve(event.accepted_at, known.id, bytes);
    if reserved {
        writing.effects.reserved.push((known.id, bytes));
    }
    reserved
}
