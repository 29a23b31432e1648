//! What becomes of a destination that keeps failing, and who is told (SPEC O6, O7).

use hookfast_engine::delivery::DeliveryState;
use hookfast_engine::health::Gate;
use hookfast_engine::id::{DestinationId, SourceId};
use hookfast_engine::topology::DestinationStatus;

use super::{Bench, answered, at, page};
use crate::{EventFilter, Notice, Settled, StoredEvent};

/// How far apart the failing attempts of these cases are, in seconds.
const STEP: u64 = 30;
/// When a destination whose first attempt failed at 0 begins to be failing.
const FAILING_AT: u64 = 900;
/// Three days, in seconds.
const THREE_DAYS: u64 = 72 * 3_600;

/// A push destination that is watched, and whose people are told.
async fn watched(bench: &Bench, name: &str) -> DestinationId {
    let mut destination = bench.new_destination(name, &["*"]);
    destination.policy = "nylas".into();
    destination.notification_email_addresses = vec!["ann@example.com".into(), "bob@example.com".into()];
    bench.put_destination(destination).await
}

/// An event that comes and is refused at `seconds`; the destination's new status, where it changed.
async fn refuse(bench: &Bench, destination: DestinationId, seconds: u64) -> Option<DestinationStatus> {
    bench.append("order.created", seconds).await;
    match bench.deliver(destination, seconds, answered(500)).await {
        Settled::Moved { status, .. } => status,
        Settled::Stale => panic!("stale"),
    }
}

/// Refuses until the destination is failing.
async fn begin_to_fail(bench: &Bench, destination: DestinationId) {
    for seconds in (0..FAILING_AT).step_by(usize::try_from(STEP).unwrap()) {
        assert_eq!(refuse(bench, destination, seconds).await, None, "{seconds}");
    }
    let status = refuse(bench, destination, FAILING_AT).await;
    assert_eq!(status, Some(DestinationStatus::Failing));
}

/// Refuses, once an hour, until the destination has failed; how long that took, in seconds.
async fn go_on_failing(bench: &Bench, destination: DestinationId) -> u64 {
    for hour in 1..=72 {
        let status = refuse(bench, destination, FAILING_AT + hour * 3_600).await;
        if let Some(status) = status {
            assert_eq!(status, DestinationStatus::Failed);
            return hour * 3_600;
        }
    }
    panic!("it never failed");
}

async fn status(bench: &Bench, destination: DestinationId) -> DestinationStatus {
    bench.store.topology().destinations[&destination].status
}

async fn notices(bench: &Bench) -> Vec<Notice> {
    bench.store.notices(100).await.unwrap()
}

/// What was published about the application's destinations, oldest first, by type.
async fn said(bench: &Bench) -> Vec<StoredEvent> {
    let filter = EventFilter {
        source: Some(SourceId::of_operations(bench.application)),
        ..EventFilter::default()
    };
    let mut said = Vec::new();
    for summary in bench.store.events(filter, page(100)).await.unwrap().items {
        said.push(bench.store.event(summary.id).await.unwrap().unwrap());
    }
    said.reverse();
    said
}

fn types(said: &[StoredEvent]) -> Vec<&str> {
    let types = said.iter().map(|stored| stored.event.event_type.as_deref());
    types.map(|event_type| event_type.unwrap_or("")).collect()
}

pub async fn a_destination_that_fails_for_72_hours_is_failing_then_failed_and_its_people_are_told(
    bench: &mut Bench,
) {
    let destination = watched(bench, "down").await;
    begin_to_fail(bench, destination).await;
    let health = bench.store.health(destination).await.unwrap();
    assert_eq!(health.failing_since(), Some(at(FAILING_AT)));
    assert!(matches!(health.gate(), Gate::ProbeAt(_)));
    assert_eq!(go_on_failing(bench, destination).await, THREE_DAYS);

    let now = FAILING_AT + THREE_DAYS;
    let held = bench.append("order.created", now).await;
    assert_eq!(bench.state(held, destination).await, DeliveryState::Held);
    assert!(bench.claim(destination, now + 1, 10).await.deliveries.is_empty());

    let owed = notices(bench).await;
    let steps: Vec<_> = owed.iter().map(|notice| (notice.from, notice.to)).collect();
    let (active, failing, failed) = (
        DestinationStatus::Active,
        DestinationStatus::Failing,
        DestinationStatus::Failed,
    );
    assert_eq!(steps, [(active, failing), (failing, failed)]);
    assert_eq!(owed[1].at, at(now));
    assert_eq!(owed[1].from_since, at(FAILING_AT));
    assert_eq!(owed[1].recipients, ["ann@example.com", "bob@example.com"]);
    assert_eq!(owed[1].destination_name, "down");
    let reason = owed[0].reason.as_deref().unwrap_or("");
    assert!(reason.ends_with("; the last one: answered 500"), "{reason}");
    assert_eq!(
        types(&said(bench).await),
        ["destination.failing", "destination.failed"]
    );

    // Somebody made it whole and active again: what was held goes out.
    bench
        .change(destination, |it| {
            it.status = active;
            it.status_changed_at = at(now + 60);
        })
        .await;
    let claimed = bench.claim_one(destination, now + 61).await;
    assert_eq!(claimed.event.id, held);
    assert_eq!(claimed.round_attempt, 1);
    assert_eq!(notices(bench).await.len(), 3);
    let last = said(bench).await.pop().unwrap();
    assert_eq!(last.event.event_type.as_deref(), Some("destination.active"));
}

pub async fn a_success_ends_failing_and_is_told(bench: &mut Bench) {
    let destination = watched(bench, "back").await;
    begin_to_fail(bench, destination).await;
    bench.append("order.created", 1_000).await;
    let Settled::Moved { status, gate, .. } = bench.deliver(destination, 1_000, answered(200)).await else {
        panic!("stale")
    };
    assert_eq!((status, gate), (Some(DestinationStatus::Active), Gate::Ready));
    let stored = bench.store.topology().destinations[&destination].clone();
    assert_eq!(stored.status_reason, None);
    assert_eq!(stored.status_changed_at, at(1_000));
    let to: Vec<_> = notices(bench).await.iter().map(|notice| notice.to).collect();
    assert_eq!(to, [DestinationStatus::Failing, DestinationStatus::Active]);
}

pub async fn statuses_and_notices_survive_reopening(bench: &mut Bench) {
    let destination = watched(bench, "down").await;
    begin_to_fail(bench, destination).await;
    let (owed, health) = (
        notices(bench).await,
        bench.store.health(destination).await.unwrap(),
    );
    bench.reopen(FAILING_AT + 1).await;
    assert_eq!(status(bench, destination).await, DestinationStatus::Failing);
    assert_eq!(notices(bench).await, owed);
    assert_eq!(bench.store.health(destination).await.unwrap(), health);
    assert_eq!(go_on_failing(bench, destination).await, THREE_DAYS);
}

pub async fn a_notice_is_owed_until_it_is_done(bench: &mut Bench) {
    let destination = watched(bench, "down").await;
    let quiet = {
        let mut destination = bench.new_destination("quiet", &["*"]);
        destination.policy = "standard".into();
        bench.put_destination(destination).await
    };
    begin_to_fail(bench, destination).await;
    go_on_failing(bench, destination).await;
    let owed = notices(bench).await;
    assert_eq!(owed.len(), 2);
    assert_eq!(bench.store.notices(1).await.unwrap(), owed[..1]);
    for _ in 0..2 {
        bench.store.notice_done(owed[0].id).await.unwrap();
        assert_eq!(notices(bench).await, owed[1..]);
    }
    bench.reopen(DAYS_LATER).await;
    assert_eq!(notices(bench).await, owed[1..]);
    // Nobody is to be told of the other one.
    for seconds in (0..=FAILING_AT).step_by(usize::try_from(STEP).unwrap()) {
        bench.deliver(quiet, DAYS_LATER + seconds, answered(500)).await;
    }
    assert_eq!(status(bench, quiet).await, DestinationStatus::Failing);
    assert_eq!(notices(bench).await, owed[1..]);
}

/// Later than anything in these cases, in seconds.
const DAYS_LATER: u64 = 10 * super::DAY;

pub async fn attempts_do_not_undo_a_pause(bench: &mut Bench) {
    let destination = watched(bench, "paused").await;
    begin_to_fail(bench, destination).await;
    bench.append("order.created", 1_000).await;
    let claimed = bench.claim_one(destination, 1_000).await;
    bench
        .change(destination, |it| {
            it.status = DestinationStatus::Paused;
            it.status_changed_at = at(1_001);
        })
        .await;
    let Settled::Moved { status: changed, .. } = bench.end(&claimed, 1_002, answered(200)).await else {
        panic!("stale")
    };
    assert_eq!(changed, None);
    assert_eq!(status(bench, destination).await, DestinationStatus::Paused);
}

pub async fn a_status_changes_although_the_clock_went_back(bench: &mut Bench) {
    let later = at(FAILING_AT + 3_600);
    let destination = watched(bench, "later").await;
    bench.change(destination, |it| it.status_changed_at = later).await;
    begin_to_fail(bench, destination).await;
    let stored = bench.store.topology().destinations[&destination].clone();
    assert_eq!(stored.status, DestinationStatus::Failing);
    assert!(stored.status_changed_at > later, "{stored:?}");
    bench
        .change(destination, |it| {
            it.set_status(DestinationStatus::Active, None, at(FAILING_AT + 1))
        })
        .await;
    assert_eq!(status(bench, destination).await, DestinationStatus::Active);
}

pub async fn whoever_changes_a_destination_without_its_status_leaves_that_alone(bench: &mut Bench) {
    let destination = watched(bench, "renamed").await;
    let mut read_before = bench.store.topology().destinations[&destination].clone();
    begin_to_fail(bench, destination).await;
    read_before.name = "another".into();
    bench.put_destination(read_before).await;
    let stored = bench.store.topology().destinations[&destination].clone();
    assert_eq!(
        (stored.name.as_str(), stored.status),
        ("another", DestinationStatus::Failing)
    );
    assert_eq!(stored.status_changed_at, at(FAILING_AT));
}

pub async fn what_is_said_of_destinations_goes_only_to_those_that_name_it(bench: &mut Bench) {
    let own = SourceId::of_outbox(bench.application);
    let mut listening = Vec::new();
    for (name, pattern) in [
        ("all", "*"),
        ("each", "destination.*"),
        ("one", "destination.failing"),
        ("other", "destination.failed"),
    ] {
        let mut destination = bench.new_destination(name, &[pattern]);
        destination.sources = vec![own];
        listening.push(bench.put_destination(destination).await);
    }
    let destination = watched(bench, "down").await;
    begin_to_fail(bench, destination).await;
    let said = said(bench).await;
    let went_to: Vec<_> = said[0].deliveries.iter().map(|it| it.destination).collect();
    assert_eq!(went_to, [listening[1], listening[2]]);
    let claimed = bench.claim_one(listening[2], FAILING_AT).await;
    assert_eq!(claimed.event, said[0].event);
    let body: serde_json::Value = serde_json::from_slice(&claimed.event.body).unwrap();
    assert_eq!(body["data"]["object"]["name"], "down");
    assert_eq!(body["data"]["object"]["status"], "failing");
}
