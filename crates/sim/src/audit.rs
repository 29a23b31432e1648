//! The audit: a look at everything that is stored, after each death and at the end.
//!
//! Owns what must be found there: what was acknowledged, each event with one delivery per destination it is due to,
//! each in one state that its history allows. Must not change anything.

use std::collections::{BTreeMap, BTreeSet};

use hookfast_engine::delivery::DeliveryState;
use hookfast_engine::id::{DestinationId, EventId, SourceId};
use hookfast_engine::retry::Verdict;
use hookfast_engine::topology::{DestinationKind, Topology};
use hookfast_store::{DeliverySummary, EventFilter, Page, Store};

use crate::ledger::{Kept, Ledger};
use crate::storage::Opened;

/// What is stored, by event.
pub(crate) type Found = BTreeMap<EventId, Vec<DeliverySummary>>;

/// Reads everything and compares it with the ledger.
pub(crate) fn audit(
    opened: &Opened,
    ledger: &mut Ledger,
    replayed_to: &BTreeSet<DestinationId>,
) -> Result<Found, String> {
    let broken = opened
        .look(|store| store.check())
        .map_err(|error| format!("the store cannot be checked: {error}"))?;
    if let Some(first) = broken.first() {
        return Err(format!("the store's own check: {first}"));
    }
    let mut found = Found::new();
    for id in stored_events(opened)? {
        let stored = opened.look(|store| store.event(id)).ok().flatten();
        let stored = stored.ok_or_else(|| format!("{id} is listed and cannot be found"))?;
        if stored.event.source.publisher().is_none() || stored.event.source.is_outbox() {
            event_as_it_should_be(ledger, id, &stored.deliveries, replayed_to)?;
        }
        let mut destinations = BTreeSet::new();
        for delivery in &stored.deliveries {
            if !destinations.insert(delivery.destination) {
                return Err(format!("{id} has two deliveries to {}", delivery.destination));
            }
            state_as_it_should_be(ledger, delivery)?;
        }
        found.insert(id, stored.deliveries);
    }
    Ok(found)
}

/// The ids of everything stored.
pub(crate) fn stored_events(opened: &Opened) -> Result<Vec<EventId>, String> {
    let mut ids = Vec::new();
    let mut page = Page {
        limit: 1_000,
        cursor: None,
    };
    loop {
        let asked = page.clone();
        let listed = opened.look(move |store: &dyn Store| store.events(EventFilter::default(), asked));
        let listed = listed.map_err(|error| format!("events cannot be listed: {error}"))?;
        ids.extend(listed.items.iter().map(|event| event.id));
        page.cursor = listed.next_cursor;
        if page.cursor.is_none() {
            return Ok(ids);
        }
    }
}

/// An event that somebody handed in, with one delivery for each destination it is due to.
fn event_as_it_should_be(
    ledger: &Ledger,
    id: EventId,
    deliveries: &[DeliverySummary],
    replayed_to: &BTreeSet<DestinationId>,
) -> Kept {
    let known = ledger
        .events
        .get(&id)
        .ok_or_else(|| format!("{id} is stored and was never handed in"))?;
    if known.refused {
        return Err(format!(
            "{id} is stored though its sender was told that nothing was written"
        ));
    }
    let has: BTreeSet<_> = deliveries.iter().map(|delivery| delivery.destination).collect();
    if let Some(missing) = known.due_to.difference(&has).next() {
        return Err(format!("{id} has no delivery to {missing}, which takes it"));
    }
    if let Some(more) = has
        .difference(&known.due_to)
        .find(|more| !replayed_to.contains(more) && !known.may_go_to.contains(more))
    {
        return Err(format!("{id} has a delivery to {more}, which does not take it"));
    }
    Ok(())
}

/// A state that the delivery's history allows. What is found settled is remembered as that.
fn state_as_it_should_be(ledger: &mut Ledger, delivery: &DeliverySummary) -> Kept {
    ledger
        .deliveries
        .insert((delivery.event, delivery.destination), delivery.id);
    let line = ledger.lines.entry(delivery.id).or_default();
    let settled = match delivery.state {
        DeliveryState::Delivered => Some(Verdict::Delivered),
        DeliveryState::Rejected => Some(Verdict::Rejected),
        DeliveryState::Dead => Some(Verdict::Dead),
        DeliveryState::Filtered => return Err(format!("{} is filtered and has no filter", delivery.id)),
        DeliveryState::Pending
        | DeliveryState::Retrying
        | DeliveryState::InFlight
        | DeliveryState::Held
        | DeliveryState::Discarded => None,
    };
    if delivery.state == DeliveryState::Discarded {
        line.discarded = true;
        return Ok(());
    }
    let was = line.settled;
    if was.is_some() && was != settled && !line.began_again(delivery.progress.replay) {
        return Err(format!(
            "{} was settled as {was:?} and is {}",
            delivery.id,
            delivery.state.name()
        ));
    }
    if settled.is_some() {
        line.settled = settled;
    }
    Ok(())
}

/// No push delivery may be in flight right after its store's one owner started (SPEC P3).
pub(crate) fn nothing_is_claimed(found: &Found, topology: &Topology) -> Kept {
    let push = |id: &DestinationId| {
        let destination = topology.destinations.get(id);
        destination
            .is_some_and(|it| it.deleted_at.is_none() && matches!(it.kind, DestinationKind::Push { .. }))
    };
    let claimed = found
        .values()
        .flatten()
        .find(|delivery| delivery.state == DeliveryState::InFlight && push(&delivery.destination));
    claimed.map_or(Ok(()), |delivery| {
        Err(format!(
            "{} is still claimed by a process that is gone",
            delivery.id
        ))
    })
}

/// The destinations that take an event, said once more and otherwise than the engine says it.
pub(crate) fn takers(topology: &Topology, source: SourceId, event_type: &str) -> BTreeSet<DestinationId> {
    let takes = |pattern: &String| {
        pattern == "*"
            || pattern == event_type
            || pattern
                .strip_suffix('*')
                .is_some_and(|prefix| prefix.ends_with('.') && event_type.starts_with(prefix))
    };
    let all = topology.destinations.values();
    all.filter(|it| it.deleted_at.is_none() && it.sources.contains(&source))
        .filter(|it| it.trigger_types.iter().any(takes))
        .map(|it| it.id)
        .collect()
}
