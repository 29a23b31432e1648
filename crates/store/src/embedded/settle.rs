//! Ends of attempts, and what people do to single deliveries.
//!
//! Owns what is written when a delivery moves. Must not know where it moves to: the engine decides.

use std::sync::Arc;

use hookfast_engine::delivery::{DeliveryState, DestinationNumber};
use hookfast_engine::id::{DeliveryId, DestinationId};
use hookfast_engine::mutant::{self, Mutant};
use hookfast_engine::retry::{Policy, Verdict};
use hookfast_engine::settle::{Ending, Settlement, StatusChange, settle as decide};
use hookfast_engine::time::Timestamp;
use hookfast_engine::topology::DestinationStatus;

use super::continuation::{self, Kind, Unsettled};
use super::rows::{self, DeliveryRow};
use super::state::Known;
use super::topology;
use super::writer::{Applied, Writing};
use crate::rules;
use crate::{Attempt, AttemptEnd, Settled};

/// Records the end of an attempt.
pub(super) fn settle(writing: &mut Writing<'_>, end: &AttemptEnd) -> Applied<Settled> {
    let Some(row) = DeliveryRow::find(writing.connection, end.delivery)? else {
        return Ok(Settled::Stale);
    };
    let number = row.key.destination();
    let deleted = writing.state.known(number).is_none_or(|known| known.deleted());
    // A deleted destination's deliveries are given up, even where that is not written down yet.
    let fenced = row.progress.attempt != end.token && !mutant::is_active(Mutant::NoFenceOnSettle);
    if row.state != DeliveryState::InFlight || fenced || deleted {
        return Ok(Settled::Stale);
    }
    let (settlement, _) = record(writing, row, &end.attempt, end.now)?;
    if settlement.release {
        continuation::begin(writing, Kind::Release, i64::from(number.0), end.now, (0, 0))?;
    }
    let status = match &settlement.status {
        Some(change) => change_status(writing, number, change, end)?,
        None => None,
    };
    Ok(Settled::Moved {
        verdict: settlement.verdict,
        gate: writing.state.health(number).gate(),
        released: settlement.release,
        status,
    })
}

fn change_status(
    writing: &mut Writing<'_>,
    number: DestinationNumber,
    change: &StatusChange,
    end: &AttemptEnd,
) -> Applied<Option<DestinationStatus>> {
    let Some(destination) = writing.state.known(number).map(|known| known.id) else {
        return Ok(None);
    };
    let topology = Arc::clone(&writing.state.topology);
    let Some(put) = rules::status_change(&topology, destination, change, &end.attempt, end.now) else {
        return Ok(None);
    };
    topology::change(writing, end.now, rules::ACTOR_HEALTH, &[put])?;
    Ok(Some(change.to))
}

/// Writes the attempt, the delivery and the health that the engine's decision leads to.
fn record(
    writing: &mut Writing<'_>,
    row: DeliveryRow,
    attempt: &Attempt,
    now: Timestamp,
) -> rusqlite::Result<(Settlement, DeliveryRow)> {
    let number = row.key.destination();
    let known = writing.state.known(number);
    let policy = known.map(|known| Arc::clone(&known.policy));
    let inbox;
    let policy: &Policy = match &policy {
        Some(policy) => policy,
        None => {
            inbox = Policy::inbox();
            &inbox
        }
    };
    let health = writing.state.health(number);
    let ending = Ending {
        key: row.key,
        accepted_at: row.accepted_at,
        progress: row.progress,
        outcome: &attempt.outcome,
    };
    let settlement = decide(now, ending, policy, &health);
    rows::insert_attempt(writing.connection, row.key, row.progress.attempt, attempt)?;
    let moved = moved(row, &settlement, attempt, now);
    writing.rewrite(DeliveryState::InFlight, &moved)?;
    if let Some(health) = &settlement.health {
        writing.state.set_health(number, health.clone());
    }
    Ok((settlement, moved))
}

fn moved(row: DeliveryRow, settlement: &Settlement, attempt: &Attempt, now: Timestamp) -> DeliveryRow {
    let (due_at, settled_at) = match settlement.verdict {
        Verdict::Delivered | Verdict::Rejected | Verdict::Dead => (None, Some(now)),
        Verdict::RetryAt(due_at) => (Some(due_at), None),
    };
    let uncounted = mutant::is_active(Mutant::RetryCounterNotPersisted);
    DeliveryRow {
        state: settlement.state(),
        due_at,
        progress: if uncounted {
            row.progress
        } else {
            settlement.progress
        },
        settled_at,
        cause: Some(rules::attempt_cause(attempt)),
        ..row
    }
}

/// Ends an attempt whose holder is gone; the delivery as it is then.
pub(super) fn lose(
    writing: &mut Writing<'_>,
    row: DeliveryRow,
    now: Timestamp,
) -> rusqlite::Result<DeliveryRow> {
    let attempt = rules::lost_attempt(row.progress.attempt, row.touched_at, now);
    record(writing, row, &attempt, now).map(|(_, moved)| moved)
}

/// Settles what a dead process had in flight to push destinations; pull leases stay (SPEC P3).
pub(super) fn lose_push_claims(writing: &mut Writing<'_>, now: Timestamp) -> rusqlite::Result<u64> {
    if mutant::is_active(Mutant::PushClaimsNotReleasedOnRestart) {
        return Ok(0);
    }
    let push: Vec<DestinationNumber> = writing
        .state
        .all_known()
        .filter(|(_, known)| known.push)
        .map(|(number, _)| number)
        .collect();
    let mut lost = 0;
    for number in push {
        if writing.state.stored(number, DeliveryState::InFlight) == 0 {
            continue;
        }
        let in_flight = continuation::waiting(
            writing.connection,
            DeliveryState::InFlight,
            i64::from(number.0),
            -1,
            i64::MAX,
        )?;
        for row in in_flight {
            lose(writing, row, now)?;
            lost += 1;
        }
    }
    Ok(lost)
}

/// Extends a lease.
pub(super) fn extend(
    writing: &mut Writing<'_>,
    delivery: DeliveryId,
    token: u32,
    until: Timestamp,
) -> Applied<bool> {
    let found = DeliveryRow::find(writing.connection, delivery)?;
    let Some(row) = found.filter(|row| row.state == DeliveryState::InFlight && row.progress.attempt == token)
    else {
        return Ok(false);
    };
    let extended = DeliveryRow {
        due_at: Some(until),
        ..row
    };
    writing.update(DeliveryState::InFlight, &extended)?;
    Ok(true)
}

/// Makes a delivery due now, in a new round, where that may be; the state it was in.
pub(super) fn retry(
    writing: &mut Writing<'_>,
    delivery: DeliveryId,
    now: Timestamp,
) -> Applied<Option<DeliveryState>> {
    let Some(row) = DeliveryRow::find(writing.connection, delivery)? else {
        return Ok(None);
    };
    let known = writing.state.known(row.key.destination());
    let deleted = known.is_none_or(|known| known.deleted());
    let shown = shown(row.state, known);
    let before = row.state;
    match before {
        DeliveryState::Pending
        | DeliveryState::Retrying
        | DeliveryState::Rejected
        | DeliveryState::Dead
        | DeliveryState::Discarded
        | DeliveryState::Held
            if !deleted =>
        {
            let again = DeliveryRow {
                state: DeliveryState::Pending,
                due_at: Some(now),
                progress: row.progress.begin_round(None),
                settled_at: None,
                touched_at: now,
                ..row
            };
            writing.update(before, &again)?;
        }
        DeliveryState::Pending
        | DeliveryState::Retrying
        | DeliveryState::Rejected
        | DeliveryState::Dead
        | DeliveryState::Discarded
        | DeliveryState::Held
        | DeliveryState::InFlight
        | DeliveryState::Delivered
        | DeliveryState::Filtered => {}
    }
    Ok(Some(shown))
}

/// The state as people see it: what waits for a destination that takes nothing at present is held, and what
/// a deleted one has not settled is discarded.
pub(super) fn shown(state: DeliveryState, known: Option<&Known>) -> DeliveryState {
    let open = known.is_some_and(|known| known.open);
    let deleted = known.is_none_or(|known| known.deleted());
    match state {
        DeliveryState::Pending | DeliveryState::Retrying | DeliveryState::InFlight if deleted => {
            DeliveryState::Discarded
        }
        DeliveryState::Pending | DeliveryState::Retrying if !open => DeliveryState::Held,
        DeliveryState::Pending
        | DeliveryState::Retrying
        | DeliveryState::InFlight
        | DeliveryState::Delivered
        | DeliveryState::Rejected
        | DeliveryState::Dead
        | DeliveryState::Filtered
        | DeliveryState::Discarded
        | DeliveryState::Held => state,
    }
}

/// Gives up a delivery that is not settled; the state it was in.
pub(super) fn discard(
    writing: &mut Writing<'_>,
    delivery: DeliveryId,
    now: Timestamp,
    by: &str,
) -> Applied<Option<DeliveryState>> {
    let Some(row) = DeliveryRow::find(writing.connection, delivery)? else {
        return Ok(None);
    };
    let shown = shown(row.state, writing.state.known(row.key.destination()));
    if !row.state.is_settled() {
        continuation::discard_one(writing, row, now, by)?;
    }
    Ok(Some(shown))
}

/// Gives up some of a destination's waiting deliveries; how many.
pub(super) fn discard_waiting(
    writing: &mut Writing<'_>,
    destination: DestinationId,
    now: Timestamp,
    by: &str,
    limit: u32,
) -> Applied<u64> {
    match writing.state.number(destination) {
        Some(number) => Ok(continuation::discard_some(
            writing,
            number,
            now,
            by,
            limit,
            Unsettled::Waiting,
        )?),
        None => Ok(0),
    }
}
