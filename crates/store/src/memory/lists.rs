//! What the memory model shows: lists, single things, counts.
//!
//! Owns paging: a cursor is the place of the last item of a page. Must not change anything.

use std::collections::BTreeMap;

use hookfast_engine::delivery::{DeliveryKey, DeliveryState, EventSequence};
use hookfast_engine::id::{DeliveryId, DestinationId, EventId, SourceId};
use hookfast_engine::time::Timestamp;

use super::keeping::matches;
use super::state::{DeliveryRow, EventRow, State};
use crate::{
    Attempt, DeliveryFilter, DeliverySummary, EventFilter, EventSummary, Listed, Page, Quarantined,
    QuarantinedSummary, Rejected, Replay, SourceFilter, Stats, StoredEvent, rules,
};

/// One page of `items`, which are in the list's order, each with its place.
fn paged<T>(page: &Page, descending: bool, items: impl Iterator<Item = (i64, T)>) -> Listed<T> {
    let limit = page.limit.clamp(1, rules::PAGE_LIMIT) as usize;
    let cursor = page.cursor.as_deref().and_then(|text| text.parse::<i64>().ok());
    let after_cursor = items.filter(|(place, _)| match cursor {
        Some(cursor) if descending => *place < cursor,
        Some(cursor) => *place > cursor,
        None => true,
    });
    let mut found: Vec<(i64, T)> = after_cursor.take(limit + 1).collect();
    let more = found.len() > limit;
    found.truncate(limit);
    let last = found.last().map(|(place, _)| place.to_string());
    Listed {
        items: found.into_iter().map(|(_, item)| item).collect(),
        next_cursor: last.filter(|_| more),
    }
}

impl State {
    pub(super) fn list_events(&self, filter: &EventFilter, page: &Page) -> Listed<EventSummary> {
        let found = self.events.iter().filter(|(_, row)| matches(filter, row));
        let found = found.map(|(sequence, row)| (sequence.0, event_summary(row)));
        match filter.after {
            None => paged(page, true, found.rev()),
            Some(after) => match self.event_ids.get(&after) {
                Some(known) => paged(page, false, found.filter(|(place, _)| *place > known.0)),
                None => paged(
                    page,
                    false,
                    found.filter(|(_, event)| event.accepted_at >= after.made_at()),
                ),
            },
        }
    }

    pub(super) fn event(&self, id: EventId) -> Option<StoredEvent> {
        let sequence = *self.event_ids.get(&id)?;
        let row = self.events.get(&sequence)?;
        let deliveries = self.keys_of(sequence).into_iter();
        Some(StoredEvent {
            event: row.event.clone(),
            repeats: row.repeats,
            conflicting: row.conflicting,
            deliveries: deliveries
                .filter_map(|key| self.delivery_summary(key, self.deliveries.get(&key)?))
                .collect(),
        })
    }

    pub(super) fn list_deliveries(&self, filter: &DeliveryFilter, page: &Page) -> Listed<DeliverySummary> {
        let found = self.deliveries.iter().rev().filter_map(|(key, row)| {
            let event = &self.events.get(&key.event())?.event;
            let taken = filter.application.is_none_or(|id| id == event.application)
                && filter.destination.is_none_or(|id| id == row.destination)
                && filter.state.is_none_or(|state| state == self.shown_state(row))
                && filter.from.is_none_or(|from| event.accepted_at >= from)
                && filter.until.is_none_or(|until| event.accepted_at < until);
            let summary = self.delivery_summary(*key, row).filter(|_| taken)?;
            Some((key.as_i64(), summary))
        });
        paged(page, true, found)
    }

    fn delivery_summary(&self, key: DeliveryKey, row: &DeliveryRow) -> Option<DeliverySummary> {
        let event = &self.events.get(&key.event())?.event;
        Some(DeliverySummary {
            id: DeliveryId::of_key(event.accepted_at, key),
            key,
            event: event.id,
            event_type: event.event_type.clone(),
            destination: row.destination,
            state: self.shown_state(row),
            progress: row.progress,
            accepted_at: event.accepted_at,
            due_at: row.settled_at.is_none().then_some(row.due_at),
            settled_at: row.settled_at,
            cause: row.cause.clone(),
        })
    }

    pub(super) fn delivery(&self, id: DeliveryId) -> Option<(DeliverySummary, Vec<Attempt>)> {
        let row = self.row(id)?;
        Some((self.delivery_summary(id.key(), row)?, row.attempts.clone()))
    }

    /// Whether a filter takes what came in at `source`.
    fn source_matches(&self, filter: &SourceFilter, source: Option<SourceId>) -> bool {
        let known = source.and_then(|id| self.topology.sources.get(&id));
        let application = known.map(|source| source.application);
        filter.source.is_none_or(|id| Some(id) == source)
            && filter.application.is_none_or(|id| Some(id) == application)
    }

    pub(super) fn list_quarantined(&self, filter: &SourceFilter, page: &Page) -> Listed<QuarantinedSummary> {
        let found = self.quarantine.iter().rev();
        let found = found.filter(|(_, item)| self.source_matches(filter, Some(item.source)));
        paged(
            page,
            true,
            found.map(|(at, item)| (*at, quarantined_summary(item))),
        )
    }

    pub(super) fn list_rejected(&self, filter: &SourceFilter, page: &Page) -> Listed<Rejected> {
        let found = self.rejected.iter().rev();
        let found = found.filter(|(_, rejected)| self.source_matches(filter, rejected.source));
        paged(page, true, found.map(|(at, rejected)| (*at, rejected.clone())))
    }

    pub(super) fn list_replays(&self, page: &Page) -> Listed<Replay> {
        let found = self.replays.iter().rev();
        paged(page, true, found.map(|(at, row)| (*at, row.replay.clone())))
    }

    pub(super) fn stats(&self) -> Stats {
        let mut deliveries: BTreeMap<(DestinationId, DeliveryState), u64> = BTreeMap::new();
        let mut oldest: BTreeMap<DestinationId, EventSequence> = BTreeMap::new();
        for (key, row) in &self.deliveries {
            *deliveries.entry((row.destination, row.state)).or_default() += 1;
            if row.waits() {
                oldest.entry(row.destination).or_insert(key.event());
            }
        }
        let mut quarantined: BTreeMap<SourceId, u64> = BTreeMap::new();
        for item in self.quarantine.values() {
            *quarantined.entry(item.source).or_default() += 1;
        }
        Stats {
            events: self.events.len() as u64,
            repeats: self.repeats,
            deliveries: deliveries
                .into_iter()
                .map(|((id, state), count)| (id, state, count))
                .collect(),
            oldest_waiting: oldest
                .into_iter()
                .map(|(id, sequence)| (id, self.accepted_at(sequence)))
                .collect(),
            quarantined: quarantined.into_iter().collect(),
            disk_bytes: self.events.values().map(|row| row.event.body.len() as u64).sum(),
            disk_free_bytes: u64::MAX,
        }
    }

    fn accepted_at(&self, sequence: EventSequence) -> Timestamp {
        self.events
            .get(&sequence)
            .map_or(Timestamp::EPOCH, |row| row.event.accepted_at)
    }
}

fn event_summary(row: &EventRow) -> EventSummary {
    let event = &row.event;
    EventSummary {
        id: event.id,
        application: event.application,
        source: event.source,
        provider_id: event.provider_id.clone(),
        event_type: event.event_type.clone(),
        occurred_at: event.occurred_at,
        accepted_at: event.accepted_at,
        body_bytes: event.body.len() as u64,
        repeats: row.repeats,
        conflicting: row.conflicting,
    }
}

fn quarantined_summary(item: &Quarantined) -> QuarantinedSummary {
    QuarantinedSummary {
        id: item.id,
        source: item.source,
        received_at: item.received_at,
        cause: item.cause.clone(),
        peer: item.peer.clone(),
        body_bytes: item.body.len() as u64,
    }
}
