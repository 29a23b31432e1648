//! Claiming: order, bounds, leases, and what a restart makes of them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hookfast_engine::delivery::DeliveryState;
use hookfast_engine::health::Gate;
use hookfast_engine::id::{DestinationId, EventId};
use hookfast_engine::outcome::Outcome;

use super::{Bench, LEASE, START, answered, at};
use crate::{Claim, Claimed, Standing};

fn ids(claimed: &Claimed) -> Vec<EventId> {
    claimed.deliveries.iter().map(|it| it.event.id).collect()
}

fn claim_of(destination: DestinationId, seconds: u64) -> Claim {
    Claim {
        destination,
        now: at(seconds),
        due_from: None,
        limit: 100,
        bytes: usize::MAX,
        lease: Duration::from_secs(LEASE),
    }
}

pub async fn claims_come_oldest_due_first_and_then_in_acceptance_order(bench: &mut Bench) {
    let destination = bench.push("all", &["*"]).await;
    let late = bench.append("a", 20).await;
    let early = bench.append("a", 10).await;
    let same = bench.append("a", 20).await;
    assert_eq!(ids(&bench.claim(destination, 9, 10).await), []);
    assert_eq!(ids(&bench.claim(destination, 30, 10).await), [early, late, same]);
}

pub async fn a_claim_keeps_its_limit_and_says_what_is_next(bench: &mut Bench) {
    let destination = bench.push("all", &["*"]).await;
    assert_eq!(bench.claim(destination, 0, 2).await.next_due, None);
    for second in [1, 2, 3] {
        bench.append("a", second).await;
    }
    let claimed = bench.claim(destination, 2, 1).await;
    assert_eq!((claimed.deliveries.len(), claimed.next_due), (1, Some(at(2))));
    let claimed = bench.claim(destination, 2, 5).await;
    assert_eq!((claimed.deliveries.len(), claimed.next_due), (1, Some(at(3))));
    let claimed = bench.claim(destination, 3, 0).await;
    assert_eq!((claimed.deliveries.len(), claimed.next_due), (0, Some(at(3))));
    let claimed = bench.claim(destination, 3, 5).await;
    assert_eq!((claimed.deliveries.len(), claimed.next_due), (1, None));
}

pub async fn a_claim_keeps_its_bytes_but_gives_the_first_whatever_its_size(bench: &mut Bench) {
    let destination = bench.push("all", &["*"]).await;
    for _ in 0..5 {
        let mut new = bench.event("a", 0);
        Arc::make_mut(&mut new.event).body = Bytes::from(vec![b'x'; 100]);
        bench.accept(new).await;
    }
    let claim = Claim {
        bytes: 200,
        ..claim_of(destination, 1)
    };
    assert_eq!(bench.store.claim(claim).await.unwrap().deliveries.len(), 2);
    let claim = Claim { bytes: 1, ..claim };
    let claimed = bench.store.claim(claim).await.unwrap();
    assert_eq!((claimed.deliveries.len(), claimed.next_due), (1, Some(at(0))));
    let claim = Claim { bytes: 199, ..claim };
    assert_eq!(bench.store.claim(claim).await.unwrap().deliveries.len(), 1);
}

pub async fn a_claim_from_a_due_time_passes_over_the_backlog(bench: &mut Bench) {
    let destination = bench.push("all", &["*"]).await;
    bench.append("a", 1).await;
    let fresh = bench.append("a", 50).await;
    let claim = Claim {
        due_from: Some(at(50)),
        ..claim_of(destination, 60)
    };
    let claimed = bench.store.claim(claim).await.unwrap();
    assert_eq!((ids(&claimed), claimed.next_due), (vec![fresh], Some(at(1))));
}

pub async fn a_claim_begins_the_attempt_and_leases_it(bench: &mut Bench) {
    let destination = bench.push("all", &["*"]).await;
    let event = bench.append("a", 0).await;
    let claimed = bench.claim_one(destination, 5).await;
    assert_eq!((claimed.attempt, claimed.lease_until), (1, at(5 + LEASE)));
    assert_eq!((claimed.destination, &claimed.replay), (destination, &None));
    let delivery = bench.delivery(event, destination).await;
    assert_eq!(delivery.id, claimed.id);
    assert_eq!(delivery.state, DeliveryState::InFlight);
    assert_eq!(
        (delivery.progress.attempt, delivery.due_at),
        (1, Some(at(5 + LEASE)))
    );
    let again = bench.claim(destination, 5 + LEASE - 1, 10).await;
    assert_eq!((again.deliveries.len(), again.next_due), (0, None));
}

pub async fn an_expired_lease_is_lost_and_claimed_again_with_the_next_token(bench: &mut Bench) {
    let destination = bench.push("all", &["*"]).await;
    let event = bench.append("a", 0).await;
    let first = bench.claim_one(destination, 0).await;
    let second = bench.claim_one(destination, LEASE).await;
    assert_eq!((second.id, second.attempt), (first.id, 2));
    let (delivery, attempts) = bench.store.delivery(first.id).await.unwrap().unwrap();
    assert_eq!(attempts.len(), 1);
    assert_eq!((attempts[0].number, &attempts[0].outcome), (1, &Outcome::Lost));
    assert_eq!(attempts[0].started_at, at(0));
    assert_eq!((delivery.progress.attempt, delivery.progress.counted), (2, 0));
    assert_eq!(delivery.progress.first_attempt_at, Some(at(0)));
    let late = bench.end(&first, LEASE + 1, answered(200)).await;
    assert_eq!(late, crate::Settled::Stale);
    bench.end(&second, LEASE + 2, answered(200)).await;
    assert_eq!(bench.state(event, destination).await, DeliveryState::Delivered);
}

pub async fn a_lease_that_ran_out_unclaimed_still_counts(bench: &mut Bench) {
    let destination = bench.push("all", &["*"]).await;
    let event = bench.append("a", 0).await;
    let claimed = bench.claim_one(destination, 0).await;
    bench.end(&claimed, 10 * LEASE, answered(200)).await;
    assert_eq!(bench.state(event, destination).await, DeliveryState::Delivered);
}

pub async fn a_lease_is_extended_only_by_its_holder(bench: &mut Bench) {
    let destination = bench.pull("queue").await;
    bench.append("a", 0).await;
    let first = bench.claim_one(destination, 0).await;
    assert!(bench.store.extend(first.id, 1, at(500)).await.unwrap());
    assert!(!bench.store.extend(first.id, 2, at(900)).await.unwrap());
    assert!(bench.claim(destination, 499, 1).await.deliveries.is_empty());
    let second = bench.claim_one(destination, 500).await;
    assert!(!bench.store.extend(first.id, 1, at(900)).await.unwrap());
    bench.end(&second, 501, Outcome::Acknowledged).await;
    assert!(!bench.store.extend(second.id, 2, at(900)).await.unwrap());
}

pub async fn two_claims_at_once_never_give_the_same_delivery(bench: &mut Bench) {
    let destination = bench.push("all", &["*"]).await;
    for _ in 0..200 {
        bench.append("a", 0).await;
    }
    let mut claims = tokio::task::JoinSet::new();
    for _ in 0..40 {
        let store = bench.store.clone();
        let claim = Claim {
            limit: 7,
            ..claim_of(destination, 1)
        };
        claims.spawn(async move { store.claim(claim).await.unwrap().deliveries });
    }
    let claimed = claims.join_all().await.concat();
    let distinct: std::collections::BTreeSet<_> = claimed.iter().map(|it| it.id).collect();
    assert_eq!((claimed.len(), distinct.len()), (200, 200));
}

pub async fn a_paused_destination_gives_nothing_and_holds_what_waits(bench: &mut Bench) {
    let destination = bench.push("all", &["*"]).await;
    let retrying = bench.append("a", 0).await;
    bench.deliver(destination, 0, answered(500)).await;
    let pending = bench.append("a", 1).await;
    let before = bench.delivery(retrying, destination).await;
    bench.pause(destination).await;
    bench.append("a", 3).await;
    let claimed = bench.claim(destination, 99, 10).await;
    assert_eq!((claimed.deliveries.len(), claimed.next_due), (0, None));
    for event in [retrying, pending] {
        assert_eq!(bench.state(event, destination).await, DeliveryState::Held);
    }
    bench.resume(destination).await;
    assert_eq!(bench.delivery(retrying, destination).await, before);
    assert_eq!(bench.claim(destination, 99, 10).await.deliveries.len(), 3);
}

pub async fn what_is_in_flight_when_its_destination_is_paused_settles_as_ever(bench: &mut Bench) {
    let destination = bench.push("all", &["*"]).await;
    let event = bench.append("a", 0).await;
    let claimed = bench.claim_one(destination, 0).await;
    bench.pause(destination).await;
    assert_eq!(bench.state(event, destination).await, DeliveryState::InFlight);
    bench.end(&claimed, 1, answered(200)).await;
    assert_eq!(bench.state(event, destination).await, DeliveryState::Delivered);
}

pub async fn a_destination_that_does_not_exist_gives_nothing(bench: &mut Bench) {
    let claimed = bench.claim(DestinationId::new(START, 99), 0, 10).await;
    assert!(claimed.deliveries.is_empty());
}

pub async fn push_claims_are_lost_and_due_at_once_after_reopening(bench: &mut Bench) {
    let destination = bench.push("all", &["*"]).await;
    bench.slots.set_free(1);
    let born = bench.append("a", 0).await;
    let claimed = bench.append("a", 1).await;
    bench.claim(destination, 1, 1).await;
    bench.reopen(5).await;
    for event in [born, claimed] {
        let delivery = bench.delivery(event, destination).await;
        assert_eq!(delivery.state, DeliveryState::Pending);
        let (_, attempts) = bench.store.delivery(delivery.id).await.unwrap().unwrap();
        assert_eq!(attempts.len(), 1);
        assert_eq!((attempts[0].number, &attempts[0].outcome), (1, &Outcome::Lost));
    }
    let again = bench.claim(destination, 5, 10).await;
    assert_eq!(ids(&again), [born, claimed]);
    assert!(again.deliveries.iter().all(|it| it.attempt == 2));
}

pub async fn lost_push_claims_go_before_an_older_backlog(bench: &mut Bench) {
    let destination = bench.push("all", &["*"]).await;
    let (older, oldest) = (bench.append("a", 1).await, bench.append("a", 0).await);
    bench.slots.set_free(2);
    let lost = [bench.append("a", 2).await, bench.append("a", 3).await];
    bench.reopen(5).await;
    bench.append("a", 6).await;
    let first = bench.claim(destination, 7, 3).await;
    assert_eq!(ids(&first), [lost[0], lost[1], oldest]);
    assert_eq!(ids(&bench.claim(destination, 7, 1).await), [older]);
}

pub async fn pull_leases_survive_reopening(bench: &mut Bench) {
    let destination = bench.pull("queue").await;
    let event = bench.append("a", 0).await;
    let claimed = bench.claim_one(destination, 0).await;
    bench.reopen(5).await;
    assert!(bench.claim(destination, LEASE - 1, 1).await.deliveries.is_empty());
    bench.end(&claimed, LEASE - 1, Outcome::Acknowledged).await;
    assert_eq!(bench.state(event, destination).await, DeliveryState::Delivered);
}

pub async fn standings_say_what_waits_and_what_is_lost_and_nothing_of_what_is_under_way(bench: &mut Bench) {
    let first = bench.push("first", &["a"]).await;
    let second = bench.push("second", &["b"]).await;
    let idle = bench.push("idle", &["c"]).await;
    let nobody = DestinationId::from_u128(7);
    bench.append("a", 3).await;
    bench.append("a", 5).await;
    bench.append("b", 4).await;
    let all = vec![second, nobody, first, idle];
    let due = |standings: Vec<Standing>| -> Vec<_> {
        let pairs = standings.into_iter();
        pairs.map(|each| (each.destination, each.next_due)).collect()
    };
    let waiting = bench.store.standings(all.clone(), at(3)).await.unwrap();
    assert!(waiting.iter().all(|each| each.gate == Gate::Ready));
    assert_eq!(
        due(waiting),
        [(second, Some(at(4))), (first, Some(at(3))), (idle, None)]
    );
    bench.claim(first, 3, 1).await;
    bench.claim(second, 4, 1).await;
    let under_way = bench.store.standings(all.clone(), at(4)).await.unwrap();
    assert_eq!(
        due(under_way),
        [(second, None), (first, Some(at(5))), (idle, None)]
    );
    let lost = bench.store.standings(all, at(4 + LEASE)).await.unwrap();
    assert_eq!(
        due(lost),
        [(second, Some(at(4 + LEASE))), (first, Some(at(5))), (idle, None)]
    );
}
