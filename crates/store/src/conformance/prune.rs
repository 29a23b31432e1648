//! Retention: what goes, what stays, and how much at a time.

use hookfast_engine::delivery::DeliveryState;
use hookfast_engine::id::{DestinationId, EventId};
use hookfast_engine::outcome::Outcome;

use super::{Bench, DAY, RETENTION, answered, at, page};
use crate::{Appended, EventFilter, Pruned, SourceFilter, rules};

impl Bench {
    /// Prunes until nothing is left to do; the sum.
    pub(super) async fn prune_all(&self, seconds: u64) -> Pruned {
        let mut sum = Pruned::default();
        for _ in 0..10_000 {
            let step = self.store.prune(at(seconds), RETENTION, 3).await.unwrap();
            sum.events += step.events;
            sum.marks += step.marks;
            sum.quarantined += step.quarantined;
            sum.discarded += step.discarded;
            if !step.more {
                return sum;
            }
        }
        panic!("pruning never ends");
    }

    async fn is_stored(&self, event: EventId) -> bool {
        self.store.event(event).await.unwrap().is_some()
    }

    async fn settled(&self, destination: DestinationId, seconds: u64, outcome: Outcome) -> EventId {
        let event = self.append("a", seconds).await;
        self.deliver(destination, seconds, outcome).await;
        event
    }
}

pub async fn settled_events_go_after_their_time_with_all_that_belongs_to_them(bench: &mut Bench) {
    let destination = bench.push("all", &["*"]).await;
    let old = bench.accept(bench.keyed(1, 1, 0)).await;
    let delivery = bench.delivery(old, destination).await.id;
    bench.deliver(destination, 10 * DAY, answered(200)).await;
    let recent = bench.settled(destination, 20 * DAY, answered(410)).await;
    assert_eq!(
        bench.prune_all(39 * DAY).await.events,
        0,
        "it settled ten days after it came"
    );
    let pruned = bench.prune_all(41 * DAY).await;
    assert_eq!((pruned.events, pruned.discarded), (1, 0));
    assert!(!bench.is_stored(old).await);
    assert!(bench.is_stored(recent).await);
    assert!(bench.store.delivery(delivery).await.unwrap().is_none());
    bench.reopen(41 * DAY).await;
    assert!(!bench.is_stored(old).await);
    let stats = bench.store.stats().await.unwrap();
    assert_eq!(stats.events, 1);
    bench.accept(bench.keyed(1, 1, 41 * DAY)).await;
}

pub async fn marks_go_once_they_expired_and_not_before(bench: &mut Bench) {
    let first = bench.accept(bench.keyed(1, 1, 0)).await;
    assert_eq!(bench.prune_all(6 * DAY).await.marks, 0);
    let repeat = bench.store.append(bench.keyed(1, 1, 6 * DAY)).await.unwrap();
    let expected = Appended::Repeat {
        first,
        conflicting: false,
    };
    assert_eq!(repeat, expected);
    bench.prune_all(31 * DAY).await;
    assert!(!bench.is_stored(first).await);
    bench.accept(bench.keyed(1, 1, 31 * DAY)).await;
}

pub async fn a_mark_outlives_its_event_until_it_expires(bench: &mut Bench) {
    let mut new = bench.keyed(1, 1, 0);
    new.dedupe.as_mut().unwrap().expires_at = at(60 * DAY);
    let first = bench.accept(new).await;
    bench.prune_all(40 * DAY).await;
    assert!(!bench.is_stored(first).await);
    let repeat = bench.store.append(bench.keyed(1, 1, 41 * DAY)).await.unwrap();
    assert!(matches!(repeat, Appended::Repeat { .. }), "{repeat:?}");
}

pub async fn what_waits_for_an_open_push_destination_is_spared_however_old(bench: &mut Bench) {
    let destination = bench.push("all", &["*"]).await;
    let other = bench.push("other", &["*"]).await;
    let waiting = bench.append("a", 0).await;
    bench.deliver(other, 0, answered(200)).await;
    let pruned = bench.prune_all(500 * DAY).await;
    assert_eq!((pruned.events, pruned.discarded), (0, 0));
    assert_eq!(bench.state(waiting, destination).await, DeliveryState::Pending);
}

pub async fn dead_ones_are_kept_longer(bench: &mut Bench) {
    let mut destination = bench.new_destination("nylas", &["*"]);
    destination.policy = "nylas".into();
    let destination = bench.put_destination(destination).await;
    let event = bench.append("a", 0).await;
    for seconds in [0, 1_000, 2_000] {
        bench.deliver(destination, seconds, answered(503)).await;
    }
    assert_eq!(bench.state(event, destination).await, DeliveryState::Dead);
    assert_eq!(bench.prune_all(89 * DAY).await.events, 0);
    assert_eq!(bench.prune_all(91 * DAY).await.events, 1);
    assert!(!bench.is_stored(event).await);
}

pub async fn held_and_pull_ones_are_given_up_after_their_time_and_recorded(bench: &mut Bench) {
    let paused = bench.push("paused", &["held"]).await;
    let queue = bench.pull("queue").await;
    bench
        .change(queue, |it| {
            it.trigger_types = vec!["pulled".into(), "leased".into()]
        })
        .await;
    let held = bench.append("held", 0).await;
    bench.pause(paused).await;
    let leased = bench.append("leased", 0).await;
    bench.claim_one(queue, 10 * DAY).await;
    let pulled = bench.append("pulled", 0).await;
    let pruned = bench.prune_all(29 * DAY).await;
    assert_eq!((pruned.events, pruned.discarded), (0, 0));
    let pruned = bench.prune_all(31 * DAY).await;
    assert_eq!((pruned.events, pruned.discarded), (0, 2));
    for (event, destination) in [(held, paused), (pulled, queue)] {
        let delivery = bench.delivery(event, destination).await;
        assert_eq!(delivery.state, DeliveryState::Discarded);
        assert_eq!(delivery.settled_at, Some(at(31 * DAY)));
        assert_eq!(delivery.cause.as_deref(), Some(rules::CAUSE_RETENTION));
    }
    assert_eq!(bench.state(leased, queue).await, DeliveryState::InFlight);
    let pruned = bench.prune_all(41 * DAY).await;
    assert_eq!(
        (pruned.events, pruned.discarded),
        (0, 1),
        "its puller never came back"
    );
    assert_eq!(bench.prune_all(62 * DAY).await.events, 2);
    assert_eq!(bench.prune_all(72 * DAY).await.events, 1);
}

pub async fn unrouted_events_go_after_their_time(bench: &mut Bench) {
    let event = bench.append("a", 0).await;
    assert_eq!(bench.prune_all(29 * DAY).await.events, 0);
    assert_eq!(bench.prune_all(31 * DAY).await.events, 1);
    assert!(!bench.is_stored(event).await);
    let late = bench.push("late", &["*"]).await;
    assert!(bench.claim(late, 32 * DAY, 1).await.deliveries.is_empty());
}

pub async fn quarantined_events_go_after_their_time(bench: &mut Bench) {
    for peer in ["a", "b", "c", "d"] {
        let new = bench.quarantinable(bench.source, peer, 1);
        bench.store.quarantine(new).await.unwrap();
    }
    assert_eq!(bench.prune_all(6 * DAY).await.quarantined, 0);
    assert_eq!(bench.prune_all(8 * DAY).await.quarantined, 4);
    let left = bench
        .store
        .quarantined(SourceFilter::default(), page(10))
        .await
        .unwrap();
    assert_eq!(left.items.len(), 0);
    assert_eq!(
        bench
            .store
            .stats()
            .await
            .unwrap()
            .quarantined
            .iter()
            .map(|it| it.1)
            .sum::<u64>(),
        0
    );
}

pub async fn each_step_is_bounded_and_the_rounds_reach_everything(bench: &mut Bench) {
    let destination = bench.push("all", &["*"]).await;
    let spared = bench.append("a", 0).await;
    let claimed = bench.claim_one(destination, 0).await;
    bench.store.extend(claimed.id, 1, at(900 * DAY)).await.unwrap();
    for _ in 0..10 {
        bench.settled(destination, 1, answered(200)).await;
    }
    let mut removed = 0;
    for _ in 0..30 {
        let step = bench.store.prune(at(40 * DAY), RETENTION, 3).await.unwrap();
        assert!(step.events <= 3, "{step:?}");
        removed += step.events;
        if !step.more {
            break;
        }
    }
    assert_eq!(removed, 10);
    let left = bench
        .store
        .events(EventFilter::default(), page(10))
        .await
        .unwrap();
    assert_eq!(
        left.items.iter().map(|event| event.id).collect::<Vec<_>>(),
        [spared]
    );
}

pub async fn following_goes_on_after_the_followed_event_is_gone(bench: &mut Bench) {
    let destination = bench.push("all", &["*"]).await;
    let gone = bench.settled(destination, 0, answered(200)).await;
    bench.prune_all(31 * DAY).await;
    let next = bench.append("a", 32 * DAY).await;
    let filter = EventFilter {
        after: Some(gone),
        ..EventFilter::default()
    };
    let listed = bench.store.events(filter, page(10)).await.unwrap();
    assert_eq!(
        listed.items.iter().map(|event| event.id).collect::<Vec<_>>(),
        [next]
    );
}
