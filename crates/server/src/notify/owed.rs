//! The notices that the store owes, as letters.
//!
//! Owns what a letter tells beside its notice: what the destination answered last, and how much waits for it. Must
//! not know how letters are sent.

use std::sync::Arc;

use hookfast_engine::delivery::DeliveryState;
use hookfast_engine::health::FAILING_WINDOW;
use hookfast_engine::id::{DestinationId, NoticeId};
use hookfast_engine::time::Timestamp;
use hookfast_engine::topology::DestinationStatus;
use hookfast_store::{DeliveryFilter, Notice, Page, Stats, rules};

use super::{Change, Letter, Notifier, run};
use crate::node::Node;

/// How many letters are made at once.
const AT_ONCE: u32 = 50;
/// How many of the last answers a letter shows.
const ANSWERS: usize = 5;
/// How many deliveries in each state they are looked for in: the newest.
const LOOKED_AT: u32 = 5;
/// The states of deliveries that were tried and are not delivered. What was never tried waits before them where a
/// destination is failing, so the newest of all say nothing.
const TRIED: [DeliveryState; 4] = [
    DeliveryState::Retrying,
    DeliveryState::Rejected,
    DeliveryState::Dead,
    DeliveryState::Held,
];

/// Mails what `node` owes until it is dropped.
pub async fn mail_what_is_owed(node: Arc<Node>, notifier: Notifier) {
    let (waiting, done) = (node.clone(), node.clone());
    run(
        notifier,
        &node.status_changed,
        move || letters(waiting.clone()),
        move |id| notice_done(done.clone(), NoticeId::from_u128(id)),
    )
    .await;
}

async fn notice_done(node: Arc<Node>, id: NoticeId) -> bool {
    let done = node.store.notice_done(id).await;
    done.inspect_err(|error| tracing::warn!(%error, "that a notice was mailed is not recorded yet"))
        .is_ok()
}

/// What waits; none where the store cannot say.
async fn letters(node: Arc<Node>) -> Option<Vec<Letter>> {
    let notices = node.store.notices(AT_ONCE).await.ok()?;
    if notices.is_empty() {
        return Some(Vec::new());
    }
    let stats = node.store.stats().await.ok()?;
    let mut letters = Vec::with_capacity(notices.len());
    for notice in notices {
        let answers = last_answers(&node, notice.destination).await?;
        letters.push(letter(&node, notice, &stats, answers));
    }
    Some(letters)
}

fn letter(node: &Node, notice: Notice, stats: &Stats, answers: Vec<(Timestamp, String)>) -> Letter {
    let change = match (notice.from, notice.to) {
        (_, DestinationStatus::Failed) => Change::Failed,
        (DestinationStatus::Failed, _) => Change::Reactivated,
        (_, DestinationStatus::Failing) => Change::Failing,
        (
            DestinationStatus::Active
            | DestinationStatus::Failing
            | DestinationStatus::Paused
            | DestinationStatus::Unverified,
            DestinationStatus::Active | DestinationStatus::Paused | DestinationStatus::Unverified,
        ) => Change::Recovered,
    };
    let since = match change {
        Change::Failing => notice.at.minus(FAILING_WINDOW),
        Change::Failed | Change::Recovered | Change::Reactivated => notice.from_since,
    };
    let topology = node.store.topology();
    let application = topology.applications.get(&notice.application);
    Letter {
        id: notice.id.as_u128(),
        at: notice.at,
        change,
        destination: notice.destination,
        name: notice.destination_name,
        application: application.map_or_else(
            || notice.application.to_string(),
            |application| application.name.clone(),
        ),
        url: notice.url,
        since,
        reason: notice.reason,
        answers,
        waiting: waiting(stats, notice.destination),
        kept: node.settings.retention.waiting,
        page: None,
        recipients: notice.recipients,
    }
}

fn waiting(stats: &Stats, destination: DestinationId) -> u64 {
    let counts = stats.deliveries.iter();
    let of_destination = counts.filter(|(of, state, _)| {
        *of == destination && matches!(state, DeliveryState::Pending | DeliveryState::Retrying)
    });
    of_destination.map(|(_, _, count)| count).sum()
}

/// When the destination was last tried, and what came of it, the latest first.
async fn last_answers(node: &Node, destination: DestinationId) -> Option<Vec<(Timestamp, String)>> {
    let mut answers = Vec::new();
    for state in TRIED {
        let filter = DeliveryFilter {
            destination: Some(destination),
            state: Some(state),
            ..DeliveryFilter::default()
        };
        let page = Page {
            limit: LOOKED_AT,
            cursor: None,
        };
        let listed = node.store.deliveries(filter, page).await.ok()?;
        for delivery in listed.items.iter().filter(|each| each.progress.attempt > 0) {
            let found = node.store.delivery(delivery.id).await.ok()?;
            let last = found.and_then(|(_, attempts)| attempts.into_iter().last());
            answers.extend(last.map(|attempt| (attempt.started_at, rules::attempt_cause(&attempt))));
        }
    }
    answers.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
    answers.truncate(ANSWERS);
    Some(answers)
}
