//! From what is stored to what is shown.
//!
//! Owns the conversions into the JSON of `wire` and the small texts of it. Must not ask the store, nor decide
//! who may see what.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hookfast_engine::delivery as engine;
use hookfast_engine::id::{DestinationId, SourceId};
use hookfast_engine::topology::{self, DedupeKey, OPERATIONS, OUTBOX, Topology};
use hookfast_store as store;

use super::error::Fault;
use super::redact::Redactor;
use super::wire;

/// Bytes as base64.
pub(super) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

macro_rules! same_variants {
    ($($left:path = $right:path { $($variant:ident)* };)*) => {$(
        impl From<$right> for $left {
            fn from(value: $right) -> Self {
                match value { $(<$right>::$variant => Self::$variant,)* }
            }
        }

        impl From<$left> for $right {
            fn from(value: $left) -> Self {
                match value { $(<$left>::$variant => Self::$variant,)* }
            }
        }
    )*};
}

same_variants! {
    wire::DeliveryState = engine::DeliveryState {
        Pending InFlight Retrying Held Delivered Rejected Dead Filtered Discarded
    };
    wire::Origin = topology::Origin { File Api };
    wire::Verify = topology::Verify { Signature None };
    wire::OnInvalid = topology::OnInvalid { Refuse Accept };
    wire::DestinationStatus = topology::DestinationStatus { Active Failing Failed Paused Unverified };
    wire::Signing = topology::Signing { Standard Nylas Both };
    wire::ReplayState = store::ReplayState { Running Done Cancelled };
}

/// The name of a source: that of what an application publishes itself too; its id where it is deleted.
pub(super) fn source_name(topology: &Topology, id: SourceId) -> String {
    let own = || {
        id.publisher()
            .map(|_| if id.is_outbox() { OUTBOX } else { OPERATIONS })
    };
    let source = topology.sources.get(&id).map(|source| source.name.as_str());
    source.or_else(own).map_or_else(|| id.to_string(), str::to_owned)
}

/// The name of a destination, or its id where it is deleted.
pub(super) fn destination_name(topology: &Topology, id: DestinationId) -> String {
    let destination = topology.destinations.get(&id);
    let there = destination.filter(|destination| destination.deleted_at.is_none());
    there.map_or_else(|| id.to_string(), |destination| destination.name.clone())
}

/// A page of what `convert` makes of each item.
pub(super) fn list<T, U>(listed: store::Listed<T>, convert: impl FnMut(T) -> U) -> wire::List<U> {
    wire::List {
        data: listed.items.into_iter().map(convert).collect(),
        next_cursor: listed.next_cursor,
    }
}

pub(super) fn event(topology: &Topology, summary: store::EventSummary) -> wire::Event {
    wire::Event {
        id: summary.id.to_string(),
        application: summary.application.to_string(),
        source: source_name(topology, summary.source),
        source_id: summary.source.to_string(),
        provider_id: summary.provider_id,
        r#type: summary.event_type,
        occurred_at: summary.occurred_at.map(wire::Time),
        accepted_at: wire::Time(summary.accepted_at),
        body_bytes: summary.body_bytes,
        repeats: summary.repeats,
        conflicting: summary.conflicting,
    }
}

pub(super) fn event_detail(
    topology: &Topology,
    redactor: &Redactor,
    stored: store::StoredEvent,
) -> wire::EventDetail {
    let whole = &stored.event;
    let summary = store::EventSummary {
        id: whole.id,
        application: whole.application,
        source: whole.source,
        provider_id: whole.provider_id.clone(),
        event_type: whole.event_type.clone(),
        occurred_at: whole.occurred_at,
        accepted_at: whole.accepted_at,
        body_bytes: whole.body.len() as u64,
        repeats: stored.repeats,
        conflicting: stored.conflicting,
    };
    let deliveries = stored.deliveries.into_iter();
    wire::EventDetail {
        event: event(topology, summary),
        headers: redactor.headers(&whole.headers),
        deliveries: deliveries.map(|each| delivery(topology, each)).collect(),
    }
}

pub(super) fn delivery(topology: &Topology, summary: store::DeliverySummary) -> wire::Delivery {
    wire::Delivery {
        id: summary.id.to_string(),
        event: summary.event.to_string(),
        event_type: summary.event_type,
        destination: destination_name(topology, summary.destination),
        destination_id: summary.destination.to_string(),
        state: summary.state.into(),
        attempts: summary.progress.attempt,
        accepted_at: wire::Time(summary.accepted_at),
        // What goes before all others is due since ever; nothing is due before it was there.
        due_at: summary
            .due_at
            .map(|due_at| wire::Time(due_at.max(summary.accepted_at))),
        settled_at: summary.settled_at.map(wire::Time),
        cause: summary.cause,
        replay: summary.progress.replay.map(|id| id.to_string()),
    }
}

pub(super) fn attempt(attempt: store::Attempt) -> wire::Attempt {
    let (response_body, response_body_base64) = match String::from_utf8(attempt.response_body.to_vec()) {
        Ok(text) => (text, false),
        Err(_) => (base64(&attempt.response_body), true),
    };
    wire::Attempt {
        number: attempt.number,
        started_at: wire::Time(attempt.started_at),
        duration_ms: attempt.duration.as_secs_f64() * 1_000.0,
        outcome: attempt.outcome.name().to_owned(),
        status: attempt.outcome.status(),
        error: attempt.error,
        response_headers: Redactor::default().headers(&attempt.response_headers),
        response_body,
        response_body_base64,
    }
}

/// The text of a dedupe key.
pub(super) fn dedupe_key(key: &DedupeKey) -> String {
    match key {
        DedupeKey::Provider => "provider".to_owned(),
        DedupeKey::Header(name) => format!("header:{name}"),
        DedupeKey::JsonPath(path) => format!("json:{path}"),
        DedupeKey::BodyHash => "body".to_owned(),
        DedupeKey::None => "none".to_owned(),
    }
}

/// The dedupe key of that text.
pub(super) fn parse_dedupe_key(text: &str) -> Result<DedupeKey, Fault> {
    match (text, text.split_once(':')) {
        ("provider", _) => Ok(DedupeKey::Provider),
        ("body", _) => Ok(DedupeKey::BodyHash),
        ("none", _) => Ok(DedupeKey::None),
        (_, Some(("header", name))) if !name.is_empty() => Ok(DedupeKey::Header(name.to_owned())),
        (_, Some(("json", path))) if !path.is_empty() => Ok(DedupeKey::JsonPath(path.to_owned())),
        _ => Err(Fault::field(
            "dedupe_key",
            format!("`{text}` is not known; write provider, header:NAME, json:PATH, body or none"),
        )),
    }
}

/// Counts by state of one destination. Where it takes nothing, what waits for it is held.
pub(super) fn counts(
    stats: &store::Stats,
    topology: &Topology,
    destination: DestinationId,
) -> BTreeMap<wire::DeliveryState, u64> {
    let open = topology
        .destinations
        .get(&destination)
        .is_some_and(topology::Destination::is_open);
    let mut counts = BTreeMap::new();
    for (id, state, count) in &stats.deliveries {
        if *id != destination || *count == 0 {
            continue;
        }
        let waits = matches!(
            state,
            engine::DeliveryState::Pending | engine::DeliveryState::Retrying
        );
        let shown = if waits && !open {
            engine::DeliveryState::Held
        } else {
            *state
        };
        *counts.entry(shown.into()).or_default() += count;
    }
    counts
}

pub(super) fn oldest_waiting(stats: &store::Stats, destination: DestinationId) -> Option<wire::Time> {
    let mut all = stats.oldest_waiting.iter();
    all.find(|(id, _)| *id == destination)
        .map(|(_, at)| wire::Time(*at))
}

pub(super) fn replay(replay: store::Replay) -> wire::Replay {
    let new = replay.new;
    let selection = new.selection;
    let filter = selection.events;
    wire::Replay {
        id: new.id.to_string(),
        application: new.application.to_string(),
        state: replay.state.into(),
        looked_at: replay.looked_at,
        replayed: replay.replayed,
        skipped: replay.skipped,
        total: replay.total,
        rate: new.rate,
        new_id: new.new_id,
        selection: wire::ReplayCreate {
            event: selection.event.map(|id| id.to_string()),
            source: filter.source.map(|id| id.to_string()),
            r#type: filter.event_type,
            provider_id: filter.provider_id,
            from: filter.from.map(wire::Time),
            until: filter.until.map(wire::Time),
            unrouted: filter.unrouted,
            state: selection.state.map(Into::into),
            destination: selection.destination.map(|id| id.to_string()),
            rate: Some(new.rate),
            new_id: new.new_id,
            dry_run: false,
        },
        created_at: wire::Time(new.created_at),
        ended_at: replay.ended_at.map(wire::Time),
    }
}

pub(super) fn quarantined(topology: &Topology, item: store::QuarantinedSummary) -> wire::Quarantined {
    wire::Quarantined {
        id: item.id.to_string(),
        source: source_name(topology, item.source),
        source_id: item.source.to_string(),
        received_at: wire::Time(item.received_at),
        cause: item.cause,
        peer: item.peer,
        body_bytes: item.body_bytes,
    }
}

pub(super) fn rejected(topology: &Topology, rejected: store::Rejected) -> wire::Rejected {
    wire::Rejected {
        at: wire::Time(rejected.at),
        source: rejected.source.map(|id| source_name(topology, id)),
        status: rejected.status,
        cause: rejected.cause,
        detail: rejected.detail,
        peer: rejected.peer,
        method: rejected.method,
        path: rejected.path,
        count: rejected.count,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dedupe_keys_are_written_as_they_are_read() {
        for text in ["provider", "body", "none", "header:X-Id", "json:data.object.id"] {
            assert_eq!(dedupe_key(&parse_dedupe_key(text).unwrap()), text);
        }
        for wrong in ["", "header:", "json:", "sha256", "Provider"] {
            assert!(parse_dedupe_key(wrong).is_err(), "{wrong}");
        }
    }
}
