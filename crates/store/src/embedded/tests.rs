//! What only the inside can bring about: batches of a known content, faults in the middle of one, damage.

use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use hookfast_engine::delivery::{DeliveryState, DestinationNumber};
use hookfast_engine::id::DestinationId;
use hookfast_engine::time::Timestamp;
use hookfast_engine::topology::TopologyChange;
use rusqlite::{Connection, params};
use tempfile::TempDir;

use super::writer::Fault;
use super::*;
use crate::conformance::{Bench, Recorder, START, answered, at};
use crate::{ClaimedDelivery, NoSlots};

fn open(directory: &TempDir) -> Arc<EmbeddedStore> {
    EmbeddedStore::open(EmbeddedOptions::new(directory.path()), Arc::new(NoSlots), START).unwrap()
}

async fn bench(store: &Arc<EmbeddedStore>) -> Bench {
    Bench::over(Arc::clone(store) as Arc<dyn Store>, Arc::new(Recorder::default())).await
}

/// Holds the writer inside a batch until the sender is dropped, so that what is sent meanwhile is the next.
async fn hold(store: &Arc<EmbeddedStore>) -> mpsc::Sender<()> {
    let (release, released) = mpsc::channel::<()>();
    let (entered, inside) = tokio::sync::oneshot::channel();
    let store = Arc::clone(store);
    let mut entered = Some(entered);
    tokio::spawn(async move {
        store
            .write(0, move |_| {
                entered.take().map(|entered| entered.send(()));
                // Ends with an error once the sender is gone.
                _ = released.recv();
                Ok(())
            })
            .await
            .unwrap();
    });
    inside.await.unwrap();
    release
}

/// Starts a call and lets it reach its lane.
async fn start<T: Send + 'static>(
    call: impl Future<Output = T> + Send + 'static,
) -> tokio::task::JoinHandle<T> {
    let started = tokio::spawn(call);
    tokio::task::yield_now().await;
    started
}

fn fault() -> Fault {
    Fault::Sql(rusqlite::Error::InvalidQuery)
}

#[tokio::test]
async fn an_operation_at_fault_takes_nothing_of_its_batch_with_it() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    let bench = bench(&store).await;
    let held = hold(&store).await;
    let (one, two, new) = (Arc::clone(&store), Arc::clone(&store), bench.keyed(1, 1, 0));
    let good = start(async move { one.append(new).await }).await;
    let bad = start(async move {
        // In the lane that comes last: the event was written before it.
        let step = |writing: &mut Writing<'_>| {
            super::state::set_meta(writing.connection, "half", 1)?;
            Err::<(), _>(fault())
        };
        two.shared.submit(LaneKey::Last, 0, step).await
    })
    .await;
    drop(held);
    assert_eq!(good.await.unwrap(), Ok(Appended::Accepted { deliveries: 0 }));
    assert!(matches!(bad.await.unwrap(), Err(StoreError::Refused { .. })));
    let half = store
        .write(0, |writing| Ok(super::state::meta(writing.connection, "half")?))
        .await;
    assert_eq!(half, Ok(None));
    bench.finish().await;
}

#[tokio::test]
async fn an_event_and_its_repeat_are_answered_after_a_commit_that_wrote_to_the_log() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    let bench = bench(&store).await;
    let log = directory.path().join("hookfast.db-wal");
    let written = || std::fs::metadata(&log).unwrap().len();
    for key in 0..5 {
        let (new, repeat) = (bench.keyed(key, 1, 0), bench.keyed(key, 1, 0));
        let id = new.event.id;
        store.append(new).await.unwrap();
        assert!(
            store.event(id).await.unwrap().is_some(),
            "answered and not committed"
        );
        let before = written();
        store.append(repeat).await.unwrap();
        assert!(before < written(), "without a commit there was no sync");
    }
    bench.finish().await;
}

#[tokio::test]
async fn what_an_operation_wrote_before_it_refused_is_taken_back() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    let refused = store
        .write(0, |writing| {
            super::state::set_meta(writing.connection, "half", 1)?;
            Err::<(), _>(Fault::Decided(busy()))
        })
        .await;
    assert!(refused.is_err());
    let half = store
        .write(0, |writing| Ok(super::state::meta(writing.connection, "half")?))
        .await;
    assert_eq!(half, Ok(None));
}

#[tokio::test]
async fn after_a_panic_in_the_writer_every_answer_is_unknown_and_a_restart_heals() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    let bench = bench(&store).await;
    bench.append("a", 0).await;
    let held = hold(&store).await;
    let (one, two, new) = (Arc::clone(&store), Arc::clone(&store), bench.event("a", 1));
    let shares_its_batch = start(async move { one.append(new).await }).await;
    let panics = start(async move {
        two.write(0, |_| -> super::writer::Applied<()> { panic!("a test") })
            .await
    })
    .await;
    drop(held);
    for answer in [
        shares_its_batch.await.unwrap().map(drop),
        panics.await.unwrap(),
        store.append(bench.event("a", 2)).await.map(drop),
        store.stats().await.map(drop),
    ] {
        assert!(matches!(answer, Err(StoreError::Unknown { .. })), "{answer:?}");
    }
    assert!(matches!(store.broken().await, StoreError::Unknown { .. }));
    store.close().await;
    drop(store);
    let again = open(&directory);
    assert_eq!(again.stats().await.unwrap().events, 1);
    assert_eq!(again.check().await.unwrap(), Vec::<String>::new());
}

/// A delivery side that panics when it is told anything.
struct Panics;

impl Slots for Panics {
    fn reserve(&self, _: Timestamp, _: DestinationId, _: usize) -> bool {
        false
    }

    fn give_back(&self, _: DestinationId, _: usize) {}

    fn hand_over(&self, _: Vec<ClaimedDelivery>) {}

    fn waiting(&self, _: DestinationId, _: Timestamp) {
        panic!("a test")
    }
}

#[tokio::test]
async fn a_panic_outside_a_batch_leaves_nobody_waiting() {
    let directory = TempDir::new().unwrap();
    let options = EmbeddedOptions::new(directory.path());
    let store = EmbeddedStore::open(options, Arc::new(Panics), START).unwrap();
    let bench = bench(&store).await;
    bench.push("all", &["*"]).await;
    // Answered before the delivery side is told.
    bench.append("a", 0).await;
    assert!(matches!(store.broken().await, StoreError::Unknown { .. }));
    let after = store.append(bench.event("a", 1)).await;
    assert!(matches!(after, Err(StoreError::Unknown { .. })));
    store.close().await;
}

#[tokio::test]
async fn a_repeat_in_the_same_batch_is_a_repeat() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    let bench = bench(&store).await;
    let held = hold(&store).await;
    let (first, second) = (bench.keyed(1, 1, 0), bench.keyed(1, 2, 0));
    let first_id = first.event.id;
    let (one, two) = (Arc::clone(&store), Arc::clone(&store));
    let first = start(async move { one.append(first).await }).await;
    let second = start(async move { two.append(second).await }).await;
    drop(held);
    assert_eq!(first.await.unwrap(), Ok(Appended::Accepted { deliveries: 0 }));
    assert_eq!(
        second.await.unwrap(),
        Ok(Appended::Repeat {
            first: first_id,
            conflicting: true
        })
    );
    bench.finish().await;
}

#[tokio::test]
async fn only_the_source_whose_lane_is_full_is_refused() {
    let directory = TempDir::new().unwrap();
    let mut options = EmbeddedOptions::new(directory.path());
    options.lanes.source.operations = 2;
    let store = EmbeddedStore::open(options, Arc::new(NoSlots), START).unwrap();
    let bench = bench(&store).await;
    let (_, other) = bench.second_application().await;
    let held = hold(&store).await;
    let mut started = Vec::new();
    for n in 0..3 {
        let (store, new) = (Arc::clone(&store), bench.event("a", n));
        started.push(start(async move { store.append(new).await }).await);
    }
    let mut elsewhere = bench.event("a", 3);
    let mut event = (*elsewhere.event).clone();
    event.source = other;
    elsewhere.event = Arc::new(event);
    let one = Arc::clone(&store);
    let elsewhere = start(async move { one.append(elsewhere).await }).await;
    let full = started.pop().unwrap().await.unwrap();
    assert_eq!(
        full,
        Err(StoreError::Unavailable {
            reason: Unavailable::LaneFull,
            retry_after: Duration::from_secs(1)
        })
    );
    drop(held);
    for accepted in started.into_iter().chain([elsewhere]) {
        assert!(accepted.await.unwrap().is_ok());
    }
}

#[tokio::test]
async fn a_damaged_body_is_found_and_never_sent() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    let bench = bench(&store).await;
    let destination = bench.push("all", &["*"]).await;
    let event = bench.append("a", 0).await;
    let whole = bench.append("a", 1).await;
    store
        .write(0, |writing| {
            writing
                .connection
                .execute("UPDATE bodies SET body = x'00' WHERE sequence = 1", [])?;
            Ok(())
        })
        .await
        .unwrap();
    let claimed = bench.claim(destination, 2, 10).await;
    let given: Vec<_> = claimed.deliveries.iter().map(|given| given.event.id).collect();
    assert_eq!(given, [whole]);
    assert!(matches!(
        store.event(event).await,
        Err(StoreError::Corrupt { .. })
    ));
    let findings = store.check().await.unwrap();
    assert!(
        findings.len() == 1 && findings[0].contains("checksum"),
        "{findings:?}"
    );
    let dead = store
        .deliveries(
            DeliveryFilter {
                state: Some(DeliveryState::Dead),
                ..DeliveryFilter::default()
            },
            crate::conformance::page(10),
        )
        .await
        .unwrap();
    assert_eq!(dead.items.len(), 1);
    assert!(dead.items[0].cause.as_ref().unwrap().contains("damaged"));
}

async fn append_many(store: &Arc<EmbeddedStore>, bench: &Bench, count: u64) {
    let calls: Vec<_> = (0..count)
        .map(|n| {
            let (store, new) = (Arc::clone(store), bench.event("a", n / 1_000));
            tokio::spawn(async move { store.append(new).await })
        })
        .collect();
    for call in calls {
        call.await.unwrap().unwrap();
    }
}

async fn stored(store: &Arc<EmbeddedStore>, state: DeliveryState) -> u64 {
    let stats = store.stats().await.unwrap();
    stats
        .deliveries
        .iter()
        .filter(|(_, found, _)| *found == state)
        .map(|(_, _, n)| n)
        .sum()
}

/// Returns once the steps that follow by themselves are done.
async fn settled_down(store: &Arc<EmbeddedStore>) {
    while store
        .write(0, |writing| Ok(!writing.state.continuations.is_empty()))
        .await
        .unwrap()
    {}
}

#[tokio::test]
async fn long_work_goes_on_after_a_crash() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    let bench = bench(&store).await;
    append_many(&store, &bench, 3_500).await;
    // The change's own step matches the first thousand; the crash comes somewhere in the rest.
    let destination = bench.push("all", &["*"]).await;
    store.abandon();
    let store = open(&directory);
    settled_down(&store).await;
    assert_eq!(stored(&store, DeliveryState::Pending).await, 3_500);

    let mut deleted = store.topology().destinations[&destination].clone();
    deleted.deleted_at = Some(at(10));
    let change = vec![TopologyChange::PutDestination(deleted)];
    store
        .change_topology(at(10), "test".to_owned(), change)
        .await
        .unwrap();
    store.abandon();
    let store = open(&directory);
    settled_down(&store).await;
    assert_eq!(stored(&store, DeliveryState::Discarded).await, 3_500);
    assert_eq!(store.check().await.unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn a_breaker_that_closes_releases_more_than_one_step_of_deliveries() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    let bench = bench(&store).await;
    let destination = bench.push("all", &["*"]).await;
    append_many(&store, &bench, 2_500).await;
    let claimed = bench.claim(destination, 10, 2_500).await.deliveries;
    assert_eq!(claimed.len(), 2_500);
    for one in &claimed[..2_400] {
        bench.end(one, 11, answered(500)).await;
    }
    // The breaker opened after ten failures: those that count wait for a retry, the rest keep their place.
    let retrying = stored(&store, DeliveryState::Retrying).await;
    assert_eq!(retrying, 10);
    store
        .write(0, |writing| {
            // As though all had failed before it opened.
            let later = super::rows::time(at(9_000));
            writing.connection.execute(
                "UPDATE deliveries SET state = 1, due_at = ?1 WHERE state <> 2",
                [later],
            )?;
            let number = DestinationNumber(0);
            let pending = writing.state.stored(number, DeliveryState::Pending);
            writing.state.count(number, DeliveryState::Pending, -pending);
            writing.state.count(number, DeliveryState::Retrying, pending);
            Ok(())
        })
        .await
        .unwrap();
    let settled = bench.end(&claimed[2_499], 12, answered(200)).await;
    assert!(matches!(settled, Settled::Moved { released: true, .. }));
    settled_down(&store).await;
    assert_eq!(bench.claim(destination, 13, 5_000).await.deliveries.len(), 2_400);
}

#[tokio::test]
async fn a_file_of_a_newer_version_is_refused_by_its_number() {
    let directory = TempDir::new().unwrap();
    open(&directory).close().await;
    let connection = Connection::open(directory.path().join("hookfast.db")).unwrap();
    connection
        .execute("INSERT INTO migrations VALUES (?1, 0)", params![9_999])
        .unwrap();
    drop(connection);
    let options = EmbeddedOptions::new(directory.path());
    let refused = EmbeddedStore::open(options, Arc::new(NoSlots), START).unwrap_err();
    assert!(matches!(&refused, StoreError::Incompatible { detail } if detail.contains("9999")));
}

#[tokio::test]
async fn a_reader_that_stays_does_not_stop_the_writer() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    let bench = bench(&store).await;
    let reader = Connection::open(directory.path().join("hookfast.db")).unwrap();
    reader.execute_batch("BEGIN; SELECT * FROM totals").unwrap();
    append_many(&store, &bench, 3_000).await;
    reader.execute_batch("COMMIT").unwrap();
    append_many(&store, &bench, 100).await;
    assert_eq!(store.stats().await.unwrap().events, 3_100);
    drop(reader);
    bench.finish().await;
}
