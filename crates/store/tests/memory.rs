//! The memory model passes the suite, and its faults and crashes do what they say.
#![expect(clippy::unwrap_used, reason = "these are tests")]

use std::sync::Arc;

use hookfast_engine::delivery::DeliveryState;
use hookfast_engine::time::Timestamp;
use hookfast_store::conformance::{Bench, MemoryFixture, answered, at, attempt_end};
use hookfast_store::memory::{Fault, MemoryStore};
use hookfast_store::{EventFilter, NoSlots, Page, Store, StoreError, Unavailable};

hookfast_store::conformance_suite!(memory, MemoryFixture::default());

async fn bench_of(store: &Arc<MemoryStore>) -> Bench {
    Bench::over(store.clone(), Arc::default()).await
}

async fn events(store: &MemoryStore) -> usize {
    let page = Page {
        limit: 100,
        cursor: None,
    };
    store
        .events(EventFilter::default(), page)
        .await
        .unwrap()
        .items
        .len()
}

#[tokio::test]
async fn a_refused_write_leaves_nothing_and_gives_its_slot_back() {
    let slots = Arc::new(hookfast_store::conformance::Recorder::default());
    let store = MemoryStore::new(slots.clone());
    let bench = Bench::over(store.clone(), slots.clone()).await;
    bench.push("all", &["*"]).await;
    slots.set_free(1);
    store.fail_next(Fault::Refuse(Unavailable::Full), 2);
    for _ in 0..2 {
        let refused = store.append(bench.event("a", 0)).await;
        assert!(matches!(
            refused,
            Err(StoreError::Unavailable {
                reason: Unavailable::Full,
                ..
            })
        ));
    }
    assert_eq!(events(&store).await, 0);
    assert_eq!(slots.take_handed_over().len(), 0);
    bench.append("a", 0).await;
    assert_eq!(slots.take_handed_over().len(), 1, "the slot was given back twice");
    assert_eq!(store.audit(), Vec::<String>::new());
}

#[tokio::test]
async fn after_an_unknown_outcome_the_store_is_broken_until_it_is_opened_again() {
    for (fault, kept) in [(Fault::Lose, 0), (Fault::Keep, 1)] {
        let store = MemoryStore::new(Arc::new(NoSlots));
        let bench = bench_of(&store).await;
        store.fail_next(fault, 1);
        let unknown = store.append(bench.event("a", 0)).await.unwrap_err();
        assert!(matches!(unknown, StoreError::Unknown { .. }));
        assert_eq!(store.broken().await, unknown);
        assert_eq!(store.append(bench.event("a", 0)).await, Err(unknown));
        let again = store.crash(Arc::new(NoSlots), at(1));
        assert_eq!(events(&again).await, kept, "{fault:?}");
        assert_eq!(again.audit(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_crash_stops_the_old_store_and_makes_its_push_claims_due() {
    let store = MemoryStore::new(Arc::new(NoSlots));
    let bench = bench_of(&store).await;
    let destination = bench.push("all", &["*"]).await;
    let event = bench.append("a", 0).await;
    let claimed = bench.claim_one(destination, 0).await;
    let again = store.crash(Arc::new(NoSlots), at(1));
    let end = attempt_end(&claimed, at(2), answered(200));
    let stopped = store.settle(end).await.unwrap_err();
    assert!(matches!(
        stopped,
        StoreError::Unavailable {
            reason: Unavailable::Stopping,
            ..
        }
    ));
    let stored = again.event(event).await.unwrap().unwrap();
    assert_eq!(stored.deliveries[0].state, DeliveryState::Pending);
    assert_eq!(
        stored.deliveries[0].due_at,
        Some(Timestamp::EPOCH),
        "before all others"
    );
}

#[tokio::test]
async fn a_snapshot_is_a_store_of_its_own() {
    let store = MemoryStore::new(Arc::new(NoSlots));
    let bench = bench_of(&store).await;
    bench.append("a", 0).await;
    let copy = MemoryStore::from_snapshot(store.clone_state(), Arc::new(NoSlots));
    bench.append("a", 1).await;
    assert_eq!((events(&store).await, events(&copy).await), (2, 1));
}

#[tokio::test]
async fn nodes_share_what_is_remembered_and_a_dead_ones_claims_wait_for_their_lease() {
    let store = MemoryStore::new(Arc::new(NoSlots));
    let mut bench = bench_of(&store).await;
    let destination = bench.push("all", &["*"]).await;
    let event = bench.append("a", 0).await;
    let other = store.join(Arc::new(NoSlots));
    store.fail_next(Fault::Refuse(Unavailable::Full), 1);
    assert!(
        other.event(event).await.unwrap().is_some(),
        "faults are a node's own"
    );
    let refused = store.append(bench.event("a", 0)).await;
    assert!(refused.is_err());
    bench.claim_one(destination, 0).await;
    store.leave();
    assert!(store.append(bench.event("a", 1)).await.is_err());
    bench.store = other;
    assert!(bench.claim(destination, 59, 9).await.deliveries.is_empty());
    assert_eq!(bench.claim_one(destination, 60).await.attempt, 2);
}

#[test]
fn a_node_knows_the_shared_time_from_its_own_clock_and_its_last_heartbeat() {
    let store = MemoryStore::new(Arc::new(NoSlots));
    assert_eq!(store.shared_time(at(5)), at(5));
    store.heartbeat(at(100), at(40));
    assert_eq!(store.shared_time(at(107)), at(47));
}
