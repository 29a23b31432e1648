//! Everything that can be seen of a store, as lines of text.
//!
//! Owns what is looked at and what is a store's own choice and so left out. Must not know how the store came to be
//! what it is.

use hookfast_store::{DeliveryFilter, EventFilter, Listed, Page, ReplayState, Result, SourceFilter, Store};

use crate::script;
use hookfast_engine::time::Timestamp;

/// All of a list.
macro_rules! all {
    ($page:ident => $list:expr) => {{
        let mut items = Vec::new();
        let mut $page = Page {
            limit: 1_000,
            cursor: None,
        };
        loop {
            let Listed {
                items: more,
                next_cursor,
            } = $list;
            items.extend(more);
            match next_cursor {
                Some(cursor) => $page.cursor = Some(cursor),
                None => break items,
            }
        }
    }};
}

/// What is stored: events byte for byte, deliveries with their attempts, quarantine, refused requests, replays,
/// notices, the topology, health and the counters. In an order of its own.
pub(crate) async fn everything(store: &dyn Store) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for listed in all!(page => store.events(EventFilter::default(), page.clone()).await?) {
        let stored = store.event(listed.id).await?.expect("a listed event is there");
        let event = &stored.event;
        lines.push(format!(
            "event {listed:?} headers {:08x} body {:08x} to {:?}",
            crc32fast::hash(event.headers.packed()),
            crc32fast::hash(&event.body),
            stored
                .deliveries
                .iter()
                .map(|it| it.destination)
                .collect::<Vec<_>>(),
        ));
    }
    for listed in all!(page => store.deliveries(DeliveryFilter::default(), page.clone()).await?) {
        let attempts = if listed.progress.attempt == 0 {
            Vec::new()
        } else {
            let found = store
                .delivery(listed.id)
                .await?
                .expect("a listed delivery is there");
            found.1
        };
        lines.push(format!("delivery {listed:?} attempts {attempts:?}"));
    }
    for listed in all!(page => store.quarantined(SourceFilter::default(), page.clone()).await?) {
        let item = store
            .quarantined_event(listed.id)
            .await?
            .expect("a listed item is there");
        lines.push(format!(
            "quarantined {listed:?} body {:08x}",
            crc32fast::hash(&item.body)
        ));
    }
    for listed in all!(page => store.rejected(SourceFilter::default(), page.clone()).await?) {
        lines.push(format!("rejected {listed:?}"));
    }
    for it in all!(page => store.replays(page.clone()).await?) {
        let cancelled = it.state == ReplayState::Cancelled;
        let counts = (it.looked_at, it.replayed, it.skipped, it.total);
        lines.push(format!("replay {:?} cancelled {cancelled} {counts:?}", it.new));
    }
    for notice in store.notices(1_000).await? {
        lines.push(format!("notice {notice:?}"));
    }
    let topology = store.topology();
    lines.push(format!("topology version {}", topology.version));
    for destination in topology.destinations.values() {
        lines.push(format!("destination {destination:?}"));
        lines.push(format!(
            "health {} {:?}",
            destination.id,
            store.health(destination.id).await?
        ));
    }
    let mut stats = store.stats().await?;
    (stats.disk_bytes, stats.disk_free_bytes) = (0, 0);
    stats.deliveries.retain(|(_, _, count)| *count > 0);
    stats.deliveries.sort();
    stats.oldest_waiting.sort();
    stats.quarantined.retain(|(_, count)| *count > 0);
    lines.push(format!("stats {stats:?}"));
    lines.sort();
    Ok(lines)
}

/// Posts an event of each dedupe key again: what it is answered tells which marks there are. Changes the store.
pub(crate) async fn marks(store: &std::sync::Arc<dyn Store>, now: Timestamp) -> Result<Vec<String>> {
    let asked: Vec<_> = script::probes(now)
        .map(|probe| {
            let store = std::sync::Arc::clone(store);
            tokio::spawn(async move { store.append(probe).await })
        })
        .collect();
    let mut answers = Vec::new();
    for (key, answer) in asked.into_iter().enumerate() {
        let answer = answer.await.expect("the call does not panic")?;
        answers.push(format!("posting key {key} again: {answer:?}"));
    }
    Ok(answers)
}
