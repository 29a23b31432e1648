//! The embedded store passes the suite, keeps what it acknowledged, and fails as it says it does.
#![expect(clippy::unwrap_used, reason = "these are tests")]

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use hookfast_engine::time::Timestamp;
use hookfast_store::conformance::{Bench, Fixture, Recorder, START, at};
use hookfast_store::embedded::{EmbeddedOptions, EmbeddedStore};
use hookfast_store::{Appended, NewEvent, NoSlots, Slots, Store, StoreError, Unavailable};
use parking_lot::Mutex;
use tempfile::TempDir;

/// How a store is stopped before it is opened again.
#[derive(Clone, Copy)]
enum Stop {
    Close,
    Crash,
}

struct EmbeddedFixture {
    directory: TempDir,
    stop: Stop,
    open: Mutex<Option<Arc<EmbeddedStore>>>,
}

impl EmbeddedFixture {
    fn new(stop: Stop) -> Self {
        Self {
            directory: TempDir::new().unwrap(),
            stop,
            open: Mutex::new(None),
        }
    }

    fn open_now(&self, slots: Arc<dyn Slots>, now: Timestamp) -> Arc<dyn Store> {
        let store = EmbeddedStore::open(EmbeddedOptions::new(self.directory.path()), slots, now).unwrap();
        *self.open.lock() = Some(Arc::clone(&store));
        store
    }
}

#[async_trait]
impl Fixture for EmbeddedFixture {
    async fn open(&self, slots: Arc<dyn Slots>, now: Timestamp) -> Arc<dyn Store> {
        self.open_now(slots, now)
    }

    async fn reopen(&self, _: Arc<dyn Store>, slots: Arc<dyn Slots>, now: Timestamp) -> Arc<dyn Store> {
        let old = self.open.lock().take().unwrap();
        match self.stop {
            Stop::Close => old.close().await,
            Stop::Crash => old.abandon(),
        }
        self.open_now(slots, now)
    }
}

hookfast_store::conformance_suite!(closed, EmbeddedFixture::new(Stop::Close));
hookfast_store::conformance_suite!(crashed, EmbeddedFixture::new(Stop::Crash));

fn open(directory: &TempDir) -> Arc<EmbeddedStore> {
    EmbeddedStore::open(EmbeddedOptions::new(directory.path()), Arc::new(NoSlots), START).unwrap()
}

#[tokio::test]
async fn a_second_owner_of_the_directory_is_refused() {
    let directory = TempDir::new().unwrap();
    let first = open(&directory);
    let options = EmbeddedOptions::new(directory.path());
    let second = EmbeddedStore::open(options, Arc::new(NoSlots), START).unwrap_err();
    assert!(matches!(&second, StoreError::Incompatible { detail } if detail.contains("in use")));
    first.close().await;
    open(&directory).close().await;
}

fn sized(new: NewEvent, bytes: usize) -> NewEvent {
    let mut event = (*new.event).clone();
    event.body = Bytes::from(vec![7; bytes]);
    NewEvent {
        event: Arc::new(event),
        ..new
    }
}

#[tokio::test]
async fn a_full_disk_is_said_to_be_full_rolls_back_and_recovers() {
    let directory = TempDir::new().unwrap();
    let slots = Arc::new(Recorder::default());
    let mut options = EmbeddedOptions::new(directory.path());
    options.page_limit = Some(200);
    let store = EmbeddedStore::open(options, slots.clone(), START).unwrap();
    let bench = Bench::over(store.clone(), slots.clone()).await;
    bench.push("all", &["*"]).await;
    slots.set_free(1_000);
    let mut accepted = 0;
    let full = loop {
        match store.append(sized(bench.event("a", accepted), 20_000)).await {
            Ok(_) => accepted += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(
        full,
        StoreError::Unavailable {
            reason: Unavailable::Full,
            retry_after: Duration::from_secs(10)
        }
    );
    assert!((1..100).contains(&accepted), "{accepted}");
    let again = store.append(sized(bench.event("a", accepted), 20_000)).await;
    assert_eq!(again, Err(full), "it goes on answering");
    // What was handed over is what was stored; the slots of the others were given back.
    let handed_over = bench.handed_over().await.len();
    assert_eq!(u64::try_from(handed_over).unwrap(), accepted);
    assert_eq!(store.stats().await.unwrap().events, accepted);
    assert_eq!(store.check().await.unwrap(), Vec::<String>::new());
    store.close().await;

    let store = open(&directory);
    assert_eq!(store.stats().await.unwrap().events, accepted);
    let more = store.append(sized(bench.event("a", accepted), 20_000)).await;
    assert_eq!(more, Ok(Appended::Accepted { deliveries: 1 }));
    assert_eq!(store.check().await.unwrap(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_thousand_copies_at_once_exactly_one_is_accepted() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    let bench = Bench::over(store.clone(), Arc::new(Recorder::default())).await;
    let copies: Vec<_> = (0..1_000)
        .map(|_| {
            let (store, new) = (store.clone(), bench.keyed(1, 1, 0));
            tokio::spawn(async move { (new.event.id, store.append(new).await.unwrap()) })
        })
        .collect();
    let mut accepted = Vec::new();
    let mut firsts = Vec::new();
    for copy in copies {
        match copy.await.unwrap() {
            (id, Appended::Accepted { .. }) => accepted.push(id),
            (_, Appended::Repeat { first, conflicting }) => {
                assert!(!conflicting);
                firsts.push(first);
            }
        }
    }
    assert_eq!((accepted.len(), firsts.len()), (1, 999));
    assert!(firsts.iter().all(|first| *first == accepted[0]));
    let stored = store.event(accepted[0]).await.unwrap().unwrap();
    assert_eq!((stored.repeats, stored.conflicting), (999, 0));
    bench.finish().await;
}

#[tokio::test]
async fn a_backup_is_a_whole_store_and_never_writes_over_a_file() {
    let directory = TempDir::new().unwrap();
    let copies = TempDir::new().unwrap();
    let store = open(&directory);
    let bench = Bench::over(store.clone(), Arc::new(Recorder::default())).await;
    bench.push("all", &["*"]).await;
    let event = bench.append("a", 0).await;
    let to = copies.path().join("hookfast.db");
    store.backup(&to).await.unwrap();
    let refused = store.backup(&to).await.unwrap_err();
    assert!(matches!(refused, StoreError::Refused { .. }));
    bench.append("a", 1).await;
    let copy = open(&copies);
    assert_eq!(copy.stats().await.unwrap().events, 1);
    assert_eq!(copy.check().await.unwrap(), Vec::<String>::new());
    let (there, here) = (copy.event(event).await, store.event(event).await);
    assert_eq!(there.unwrap().unwrap().event, here.unwrap().unwrap().event);
}

#[tokio::test]
async fn retention_comes_round_in_bounded_steps() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    let bench = Bench::over(store.clone(), Arc::new(Recorder::default())).await;
    let destination = bench.push("all", &["*"]).await;
    for n in 0..30 {
        bench.append("a", n).await;
    }
    bench.pause(destination).await;
    let retention = hookfast_store::Retention {
        settled: Duration::from_secs(100),
        dead: Duration::from_secs(100),
        waiting: Duration::from_secs(200),
        quarantine: Duration::from_secs(100),
    };
    let mut totals = (0, 0, 0);
    for now in [300, 500] {
        loop {
            let pruned = store.prune(at(now), retention, 7).await.unwrap();
            assert!(pruned.events <= 7 && pruned.discarded <= 7);
            totals = (
                totals.0 + 1,
                totals.1 + pruned.discarded,
                totals.2 + pruned.events,
            );
            if !pruned.more {
                break;
            }
        }
    }
    assert_eq!(totals, (10, 30, 30));
    assert_eq!(store.stats().await.unwrap().events, 0);
    bench.finish().await;
}

#[tokio::test]
async fn a_store_that_is_closed_answers_that_it_is_stopping() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    let bench = Bench::over(store.clone(), Arc::new(Recorder::default())).await;
    store.close().await;
    let stopping = StoreError::Unavailable {
        reason: Unavailable::Stopping,
        retry_after: Duration::from_secs(1),
    };
    assert_eq!(store.append(bench.event("a", 0)).await, Err(stopping.clone()));
    assert_eq!(store.stats().await, Err(stopping));
    store.close().await;
    let files: Vec<_> = std::fs::read_dir(directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(files.contains(&"clean".to_owned()), "{files:?}");
}
