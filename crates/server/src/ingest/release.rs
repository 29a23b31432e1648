//! Letting events out of quarantine (SPEC I7).
//!
//! Owns verifying what was kept, with the secrets as they are now and as of the time it came, and handing what
//! passes to the store. Must not decide who may ask for it.

use std::sync::Arc;

use hookfast_engine::id::QuarantineId;
use hookfast_store::{Appended, Page, Quarantined, SourceFilter, StoreError};

use super::accept::{Inspected, Surroundings, inspect};
use super::verify::{Notification, TimeCheck};
use crate::node::Node;

/// How many are listed at once.
const PAGE: u32 = 1_000;

/// What is to be released.
#[derive(Clone, Debug)]
pub enum Selection {
    /// These.
    Ids(Vec<QuarantineId>),
    /// All that matches.
    All(SourceFilter),
}

/// What came of a release.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ReleaseReport {
    /// Events that were accepted.
    pub released: u64,
    /// Repeats of events that are stored: taken out of quarantine, and delivered no second time.
    pub repeats: u64,
    /// Handshakes: taken out of quarantine, and no events.
    pub handshakes: u64,
    /// What stays in quarantine, with the reason.
    pub still_invalid: Vec<(QuarantineId, String)>,
    /// What was no longer in quarantine.
    pub gone: u64,
}

/// Verifies what is kept in quarantine with the current secrets, as of the time it came or without regard to
/// its timestamps, and accepts what passes, oldest first.
///
/// # Errors
/// Those of the store. What was released before stays so; asking again goes on with the rest.
pub async fn release(
    node: &Node,
    selection: Selection,
    ignore_timestamp: bool,
) -> Result<ReleaseReport, StoreError> {
    let time = if ignore_timestamp {
        TimeCheck::Ignored
    } else {
        TimeCheck::AsReceived
    };
    let ids = match selection {
        Selection::Ids(ids) => ids,
        Selection::All(filter) => select(node, filter).await?,
    };
    let around = super::surroundings(node);
    let mut report = ReleaseReport::default();
    for id in ids {
        match node.store.quarantined_event(id).await? {
            Some(kept) => release_one(node, &around, kept, time, &mut report).await?,
            None => report.gone += 1,
        }
    }
    Ok(report)
}

/// The ids of what matches, oldest first.
async fn select(node: &Node, filter: SourceFilter) -> Result<Vec<QuarantineId>, StoreError> {
    let mut ids = Vec::new();
    let mut cursor = None;
    loop {
        let page = Page { limit: PAGE, cursor };
        let listed = node.store.quarantined(filter.clone(), page).await?;
        ids.extend(listed.items.iter().map(|item| item.id));
        cursor = listed.next_cursor;
        if cursor.is_none() {
            ids.reverse();
            return Ok(ids);
        }
    }
}

async fn release_one(
    node: &Node,
    around: &Surroundings,
    kept: Quarantined,
    time: TimeCheck,
    report: &mut ReleaseReport,
) -> Result<(), StoreError> {
    let id = kept.id;
    let source = node.snapshot.load().source_by_id(kept.source).map(Arc::clone);
    let Some(source) = source else {
        report
            .still_invalid
            .push((id, "its source is no longer there".to_owned()));
        return Ok(());
    };
    let notification = match notification(kept) {
        Ok(notification) => notification,
        Err(reason) => {
            report.still_invalid.push((id, reason));
            return Ok(());
        }
    };
    match inspect(around, &source, &notification, time) {
        Inspected::Event(new) => match node.store.release(id, new).await? {
            Some(Appended::Accepted { .. }) => report.released += 1,
            Some(Appended::Repeat { .. }) => report.repeats += 1,
            None => report.gone += 1,
        },
        Inspected::Handshake(_) => {
            node.store.discard_quarantined(vec![id]).await?;
            report.handshakes += 1;
        }
        Inspected::Refused(refusal) => {
            let reason = format!("{}: {}", refusal.cause.code(), refusal.message);
            report.still_invalid.push((id, reason));
        }
    }
    Ok(())
}

fn notification(kept: Quarantined) -> Result<Notification, String> {
    let method = kept.method.parse();
    Ok(Notification {
        method: method.map_err(|_| format!("`{}` is no method", kept.method))?,
        target: kept.target,
        headers: kept.headers,
        body: kept.body,
        received_at: kept.received_at,
        // It decides nothing about what is released.
        peer: kept
            .peer
            .parse()
            .unwrap_or(std::net::Ipv4Addr::UNSPECIFIED.into()),
    })
}
