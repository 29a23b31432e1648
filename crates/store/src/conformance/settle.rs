//! Settling, health, and what people do to single deliveries.

use std::time::Duration;

use hookfast_engine::delivery::{DeliveryKey, DeliveryState};
use hookfast_engine::health::{Gate, Health};
use hookfast_engine::id::{DeliveryId, DestinationId, EventId};
use hookfast_engine::outcome::{Failure, Outcome};
use hookfast_engine::retry::Verdict;

use super::{Bench, START, answered, at, attempt_end};
use crate::{Settled, rules};

/// One event per state that is reached through the store, by the way it is reached.
async fn in_each_state(bench: &Bench, destination: DestinationId) -> Vec<(DeliveryState, EventId)> {
    let ends = [
        (DeliveryState::Delivered, answered(200)),
        (DeliveryState::Rejected, answered(410)),
        (DeliveryState::Retrying, answered(500)),
    ];
    let mut made = Vec::new();
    for (state, outcome) in ends {
        let event = bench.append("a", 0).await;
        bench.deliver(destination, 0, outcome).await;
        made.push((state, event));
    }
    let discarded = bench.append("a", 0).await;
    let id = bench.delivery(discarded, destination).await.id;
    bench.store.discard(id, at(0), "ann".into()).await.unwrap();
    made.push((DeliveryState::Discarded, discarded));
    made.push((DeliveryState::InFlight, bench.append("a", 0).await));
    bench.claim_one(destination, 0).await;
    made.push((DeliveryState::Pending, bench.append("a", 0).await));
    for (state, event) in &made {
        assert_eq!(bench.state(*event, destination).await, *state);
    }
    made
}

pub async fn each_outcome_moves_the_delivery_as_its_policy_says(bench: &mut Bench) {
    let unreachable = Outcome::Unreachable {
        failure: Failure::ConnectionRefused,
    };
    let delay = Duration::from_secs(90);
    let table = [
        ("inbox", answered(204), DeliveryState::Delivered),
        ("inbox", answered(410), DeliveryState::Rejected),
        ("inbox", answered(500), DeliveryState::Retrying),
        ("inbox", Outcome::TimedOut, DeliveryState::Retrying),
        ("inbox", unreachable, DeliveryState::Retrying),
        ("inbox", Outcome::Acknowledged, DeliveryState::Delivered),
        ("inbox", Outcome::Returned { delay }, DeliveryState::Pending),
        ("inbox", Outcome::Released, DeliveryState::Pending),
        ("nylas", answered(204), DeliveryState::Rejected),
        ("nylas", answered(503), DeliveryState::Retrying),
    ];
    for (number, (policy, outcome, state)) in table.into_iter().enumerate() {
        let mut destination = bench.new_destination(&format!("d{number}"), &["*"]);
        destination.policy = policy.into();
        let destination = bench.put_destination(destination).await;
        let event = bench.append("a", 0).await;
        let claimed = bench.claim_one(destination, 1).await;
        let settled = bench.end(&claimed, 2, outcome.clone()).await;
        let delivery = bench.delivery(event, destination).await;
        assert_eq!(delivery.state, state, "{policy} {outcome:?}");
        let Settled::Moved {
            verdict,
            gate,
            released,
            status,
        } = settled
        else {
            panic!("stale")
        };
        assert_eq!(status, None);
        let due_at = match verdict {
            Verdict::RetryAt(due_at) => Some(due_at),
            Verdict::Delivered | Verdict::Rejected | Verdict::Dead => None,
        };
        assert_eq!((gate, released), (Gate::Ready, false));
        assert_eq!(delivery.due_at, due_at, "{policy} {outcome:?}");
        assert_eq!(delivery.settled_at, state.is_settled().then_some(at(2)));
        bench.delete(destination).await;
    }
}

pub async fn a_delivery_is_dead_when_its_attempts_are_used_up(bench: &mut Bench) {
    let mut destination = bench.new_destination("nylas", &["*"]);
    destination.policy = "nylas".into();
    let destination = bench.put_destination(destination).await;
    let event = bench.append("a", 0).await;
    for seconds in [0, 1_000, 2_000] {
        bench.deliver(destination, seconds, answered(503)).await;
    }
    assert_eq!(bench.state(event, destination).await, DeliveryState::Dead);
    assert_eq!(bench.claim(destination, 9_000, 1).await.next_due, None);
}

pub async fn attempts_are_kept_oldest_first_with_what_was_answered(bench: &mut Bench) {
    let destination = bench.push("all", &["*"]).await;
    let event = bench.append("a", 0).await;
    let mut ends = Vec::new();
    for (seconds, status) in [(0, 500), (100, 503), (200, 200)] {
        let claimed = bench.claim_one(destination, seconds).await;
        let mut end = attempt_end(&claimed, at(seconds), answered(status));
        end.attempt.error = (status == 503).then(|| "busy".to_owned());
        ends.push(end.attempt.clone());
        bench.store.settle(end).await.unwrap();
    }
    bench.reopen(300).await;
    let id = bench.delivery(event, destination).await.id;
    let (delivery, attempts) = bench.store.delivery(id).await.unwrap().unwrap();
    assert_eq!(attempts, ends);
    assert_eq!((delivery.progress.attempt, delivery.progress.counted), (3, 3));
    assert_eq!(delivery.progress.first_attempt_at, Some(at(0)));
    assert_eq!(delivery.cause, Some(rules::attempt_cause(&ends[2])));
}

pub async fn a_retry_survives_reopening(bench: &mut Bench) {
    let destination = bench.push("all", &["*"]).await;
    let event = bench.append("a", 0).await;
    bench.deliver(destination, 0, answered(500)).await;
    let before = bench.delivery(event, destination).await;
    bench.reopen(500).await;
    assert_eq!(bench.delivery(event, destination).await, before);
    assert!(before.due_at.unwrap() > at(0));
}

pub async fn a_stale_settlement_changes_nothing(bench: &mut Bench) {
    let destination = bench.push("all", &["*"]).await;
    let event = bench.append("a", 0).await;
    let claimed = bench.claim_one(destination, 0).await;
    let mut wrong = claimed.clone();
    wrong.attempt = 2;
    assert_eq!(bench.end(&wrong, 1, answered(200)).await, Settled::Stale);
    wrong = claimed.clone();
    wrong.id = DeliveryId::of_key(at(1), claimed.id.key());
    assert_eq!(
        bench.end(&wrong, 1, answered(200)).await,
        Settled::Stale,
        "another id"
    );
    assert_eq!(bench.state(event, destination).await, DeliveryState::InFlight);
    bench.end(&claimed, 1, answered(500)).await;
    let health = bench.store.health(destination).await.unwrap();
    let before = bench.store.delivery(claimed.id).await.unwrap();
    assert_eq!(
        bench.end(&claimed, 2, answered(200)).await,
        Settled::Stale,
        "twice"
    );
    assert_eq!(bench.store.delivery(claimed.id).await.unwrap(), before);
    assert_eq!(bench.store.health(destination).await.unwrap(), health);
}

pub async fn a_settlement_after_a_discard_is_stale(bench: &mut Bench) {
    let destination = bench.push("all", &["*"]).await;
    let event = bench.append("a", 0).await;
    let claimed = bench.claim_one(destination, 0).await;
    let found = bench
        .store
        .discard(claimed.id, at(1), "ann".into())
        .await
        .unwrap();
    assert_eq!(found, Some(DeliveryState::InFlight));
    assert_eq!(bench.end(&claimed, 2, answered(200)).await, Settled::Stale);
    let delivery = bench.delivery(event, destination).await;
    assert_eq!(delivery.state, DeliveryState::Discarded);
    assert_eq!(
        (delivery.settled_at, delivery.cause),
        (Some(at(1)), Some("ann".into()))
    );
    assert!(bench.claim(destination, 999, 1).await.deliveries.is_empty());
    bench.store.retry(claimed.id, at(3)).await.unwrap();
    assert_eq!(
        bench.end(&claimed, 4, answered(200)).await,
        Settled::Stale,
        "retried"
    );
    assert_eq!(bench.claim_one(destination, 5).await.attempt, 2);
}

pub async fn two_settlements_at_once_count_once(bench: &mut Bench) {
    let destination = bench.push("all", &["*"]).await;
    bench.append("a", 0).await;
    let claimed = bench.claim_one(destination, 0).await;
    let mut ends = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let (store, end) = (bench.store.clone(), attempt_end(&claimed, at(1), answered(500)));
        ends.spawn(async move { store.settle(end).await.unwrap() != Settled::Stale });
    }
    let moved = ends.join_all().await.into_iter().filter(|moved| *moved);
    assert_eq!(moved.count(), 1);
    let health = bench.store.health(destination).await.unwrap();
    assert_eq!(health.failures_in_a_row, 1);
}

/// Ten failures in a row.
async fn break_down(bench: &Bench, destination: DestinationId) -> Vec<EventId> {
    let mut events = Vec::new();
    for number in 0..10 {
        events.push(bench.append("a", 0).await);
        let claimed = bench.claim_one(destination, 0).await;
        let Settled::Moved { gate, .. } = bench.end(&claimed, 0, answered(500)).await else {
            panic!("stale")
        };
        assert_eq!(gate == Gate::Ready, number < 9, "{number}");
    }
    events
}

pub async fn ten_failures_open_the_breaker_and_a_success_releases_what_waits_in_order(bench: &mut Bench) {
    let destination = bench.push("all", &["*"]).await;
    let failed = break_down(bench, destination).await;
    let other = bench.push("other", &["*"]).await;
    assert_eq!(bench.store.health(other).await.unwrap(), Health::default());
    let probe = bench.append("a", 0).await;
    let claimed = bench.claim_one(destination, 0).await;
    assert_eq!(claimed.event.id, probe);
    let settled = bench.end(&claimed, 5, answered(200)).await;
    let expected = Settled::Moved {
        verdict: Verdict::Delivered,
        gate: Gate::Ready,
        released: true,
        status: None,
    };
    assert_eq!(settled, expected);
    for event in &failed {
        let delivery = bench.delivery(*event, destination).await;
        assert_eq!(delivery.state, DeliveryState::Retrying);
        assert_eq!(delivery.due_at, Some(delivery.accepted_at));
    }
    let claimed = bench.claim(destination, 5, 100).await;
    let released: Vec<EventId> = claimed.deliveries.iter().map(|it| it.event.id).collect();
    assert_eq!(released, failed);
}

pub async fn health_survives_reopening(bench: &mut Bench) {
    let destination = bench.push("all", &["*"]).await;
    break_down(bench, destination).await;
    let before = bench.store.health(destination).await.unwrap();
    assert_eq!(before.open_since(), Some(START));
    bench.reopen(3).await;
    assert_eq!(bench.store.health(destination).await.unwrap(), before);
}

pub async fn a_retry_makes_all_but_delivered_and_in_flight_ones_due_in_a_new_round(bench: &mut Bench) {
    let destination = bench.push("all", &["*"]).await;
    for (state, event) in in_each_state(bench, destination).await {
        let before = bench.delivery(event, destination).await;
        bench.waiting().await;
        let found = bench.store.retry(before.id, at(50)).await.unwrap();
        assert_eq!(found, Some(state));
        let after = bench.delivery(event, destination).await;
        if matches!(state, DeliveryState::Delivered | DeliveryState::InFlight) {
            assert_eq!(after, before);
        } else {
            assert_eq!(
                (after.state, after.due_at),
                (DeliveryState::Pending, Some(at(50)))
            );
            assert_eq!(after.progress, before.progress.begin_round(None));
            assert_eq!(after.settled_at, None);
            assert_eq!(bench.waiting().await, [(destination, at(50))]);
        }
    }
}

pub async fn a_discard_gives_up_all_that_is_not_settled(bench: &mut Bench) {
    let destination = bench.push("all", &["*"]).await;
    for (state, event) in in_each_state(bench, destination).await {
        let before = bench.delivery(event, destination).await;
        let found = bench
            .store
            .discard(before.id, at(50), "bob".into())
            .await
            .unwrap();
        assert_eq!(found, Some(state));
        let after = bench.delivery(event, destination).await;
        if state.is_settled() {
            assert_eq!(after, before);
        } else {
            assert_eq!((after.state, after.due_at), (DeliveryState::Discarded, None));
            assert_eq!(
                (after.settled_at, after.cause),
                (Some(at(50)), Some("bob".into()))
            );
        }
    }
}

pub async fn a_held_delivery_is_found_held_and_can_be_retried_and_discarded(bench: &mut Bench) {
    let destination = bench.push("all", &["*"]).await;
    let event = bench.append("a", 0).await;
    bench.pause(destination).await;
    let id = bench.delivery(event, destination).await.id;
    bench.waiting().await;
    let found = bench.store.retry(id, at(9)).await.unwrap();
    assert_eq!(found, Some(DeliveryState::Held));
    assert_eq!(bench.waiting().await, []);
    assert_eq!(bench.delivery(event, destination).await.due_at, Some(at(9)));
    let found = bench.store.discard(id, at(10), "ann".into()).await.unwrap();
    assert_eq!(found, Some(DeliveryState::Held));
    assert_eq!(bench.state(event, destination).await, DeliveryState::Discarded);
}

pub async fn a_delivery_that_does_not_exist_is_nobodys(bench: &mut Bench) {
    let id = DeliveryId::of_key(START, DeliveryKey::from_i64(1 << 40));
    assert_eq!(bench.store.retry(id, START).await.unwrap(), None);
    assert_eq!(bench.store.discard(id, START, "x".into()).await.unwrap(), None);
    assert!(bench.store.delivery(id).await.unwrap().is_none());
    assert!(!bench.store.extend(id, 1, at(5)).await.unwrap());
}

pub async fn what_waits_is_discarded_in_steps_and_nothing_else_is(bench: &mut Bench) {
    let destination = bench.push("all", &["*"]).await;
    let other = bench.push("other", &["*"]).await;
    let delivered = bench.append("a", 0).await;
    bench.deliver(destination, 0, answered(200)).await;
    let under_way = bench.append("a", 0).await;
    bench.claim_one(destination, 0).await;
    for _ in 0..5 {
        bench.append("a", 0).await;
    }
    bench.pause(destination).await;
    let mut steps = Vec::new();
    while steps.last() != Some(&0) {
        let step = bench.store.discard_waiting(destination, at(9), "ann".into(), 2);
        steps.push(step.await.unwrap());
    }
    assert_eq!(steps, [2, 2, 1, 0]);
    assert_eq!(
        bench.state(delivered, destination).await,
        DeliveryState::Delivered
    );
    assert_eq!(bench.state(under_way, destination).await, DeliveryState::InFlight);
    assert_eq!(bench.claim(other, 9, 100).await.deliveries.len(), 7);
}

pub async fn deleting_a_destination_gives_up_what_is_not_settled(bench: &mut Bench) {
    let destination = bench.push("all", &["*"]).await;
    let made = in_each_state(bench, destination).await;
    let under_way = bench.delivery(made[4].1, destination).await;
    bench.delete(destination).await;
    for (state, event) in made {
        let delivery = bench.delivery(event, destination).await;
        if state.is_settled() {
            assert_eq!(delivery.state, state);
        } else {
            assert_eq!(
                (delivery.state, delivery.due_at),
                (DeliveryState::Discarded, None)
            );
            assert_eq!(delivery.cause.as_deref(), Some(rules::CAUSE_DESTINATION_DELETED));
            bench.store.retry(delivery.id, at(9)).await.unwrap();
            assert_eq!(bench.state(event, destination).await, DeliveryState::Discarded);
        }
    }
    let end = crate::AttemptEnd {
        delivery: under_way.id,
        token: under_way.progress.attempt,
        now: at(9),
        attempt: rules::lost_attempt(under_way.progress.attempt, at(0), at(9)),
    };
    assert_eq!(bench.store.settle(end).await.unwrap(), Settled::Stale);
    bench.append("a", 10).await;
    assert!(bench.claim(destination, 99, 10).await.deliveries.is_empty());
}
