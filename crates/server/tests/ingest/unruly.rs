//! A store that is slow or fails in ways that the memory store does not (SPEC I2, I6, P5).

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use hookfast_engine::delivery::DeliveryState;
use hookfast_engine::health::Health;
use hookfast_engine::id::{DeliveryId, DestinationId, EventId, NoticeId, QuarantineId, ReplayId};
use hookfast_engine::time::Timestamp;
use hookfast_engine::topology::{Topology, TopologyChange};
use hookfast_store::memory::MemoryStore;
use hookfast_store::{
    Appended, Attempt, AttemptEnd, Claim, Claimed, DeliveryFilter, DeliverySummary, EventFilter,
    EventSummary, Listed, NewEvent, NewQuarantined, NewReplay, Notice, Page, Pruned, Quarantined,
    QuarantinedSummary, Quarantining, Rejected, Replay, ReplayCount, ReplaySelection, Result, Retention,
    Settled, SourceFilter, Standing, Stats, Store, StoreError, StoredEvent,
};
use tokio::sync::Semaphore;

use crate::support::{EVENT, PATIENCE, Served, Setup, post, serve_with, settings, signed};

/// What the store waits for before it does what it is asked.
#[derive(Debug)]
struct Gates {
    appends: Semaphore,
    quarantine: Semaphore,
    panics: AtomicBool,
}

impl Gates {
    fn new(appends: usize, quarantine: usize) -> Arc<Self> {
        Arc::new(Self {
            appends: Semaphore::new(appends),
            quarantine: Semaphore::new(quarantine),
            panics: AtomicBool::new(false),
        })
    }
}

struct Unruly {
    store: Arc<MemoryStore>,
    gates: Arc<Gates>,
}

const OPEN: usize = Semaphore::MAX_PERMITS / 2;

macro_rules! unruly {
    ($($name:ident($($argument:ident: $type:ty),*) -> $result:ty;)*) => {
        #[async_trait]
        impl Store for Unruly {
            async fn append(&self, new: NewEvent) -> Result<Appended> {
                assert!(!self.gates.panics.load(Ordering::Relaxed), "the store panics because a test asked for it");
                self.gates.appends.acquire().await.unwrap().forget();
                self.store.append(new).await
            }

            async fn quarantine(&self, new: NewQuarantined) -> Result<Quarantining> {
                self.gates.quarantine.acquire().await.unwrap().forget();
                self.store.quarantine(new).await
            }

            fn topology(&self) -> Arc<Topology> {
                self.store.topology()
            }

            $(async fn $name(&self, $($argument: $type),*) -> $result {
                self.store.$name($($argument),*).await
            })*
        }
    };
}

unruly! {
    settle(end: AttemptEnd) -> Result<Settled>;
    claim(claim: Claim) -> Result<Claimed>;
    extend(delivery: DeliveryId, token: u32, until: Timestamp) -> Result<bool>;
    release(id: QuarantineId, event: NewEvent) -> Result<Option<Appended>>;
    discard_quarantined(ids: Vec<QuarantineId>) -> Result<u64>;
    record_rejected(rejected: Vec<Rejected>) -> Result<()>;
    change_topology(now: Timestamp, actor: String, changes: Vec<TopologyChange>) -> Result<Arc<Topology>>;
    standings(destinations: Vec<DestinationId>, now: Timestamp) -> Result<Vec<Standing>>;
    health(destination: DestinationId) -> Result<Health>;
    notices(limit: u32) -> Result<Vec<Notice>>;
    notice_done(id: NoticeId) -> Result<()>;
    retry(delivery: DeliveryId, now: Timestamp) -> Result<Option<DeliveryState>>;
    discard(delivery: DeliveryId, now: Timestamp, by: String) -> Result<Option<DeliveryState>>;
    discard_waiting(destination: DestinationId, now: Timestamp, by: String, limit: u32) -> Result<u64>;
    start_replay(replay: NewReplay) -> Result<Replay>;
    step_replay(id: ReplayId, now: Timestamp, limit: u32) -> Result<Option<Replay>>;
    cancel_replay(id: ReplayId, now: Timestamp) -> Result<Option<Replay>>;
    count_replay(selection: ReplaySelection) -> Result<ReplayCount>;
    replays(page: Page) -> Result<Listed<Replay>>;
    replay(id: ReplayId) -> Result<Option<Replay>>;
    events(filter: EventFilter, page: Page) -> Result<Listed<EventSummary>>;
    event(id: EventId) -> Result<Option<StoredEvent>>;
    deliveries(filter: DeliveryFilter, page: Page) -> Result<Listed<DeliverySummary>>;
    delivery(id: DeliveryId) -> Result<Option<(DeliverySummary, Vec<Attempt>)>>;
    quarantined(filter: SourceFilter, page: Page) -> Result<Listed<QuarantinedSummary>>;
    quarantined_event(id: QuarantineId) -> Result<Option<Quarantined>>;
    rejected(filter: SourceFilter, page: Page) -> Result<Listed<Rejected>>;
    stats() -> Result<Stats>;
    prune(now: Timestamp, retention: Retention, limit: u32) -> Result<Pruned>;
    check() -> Result<Vec<String>>;
    backup(to: &Path) -> Result<()>;
    broken() -> StoreError;
    close() -> ();
}

async fn serve_gated(gates: &Arc<Gates>, setup: Setup) -> Served {
    let gates = Arc::clone(gates);
    serve_with(Setup {
        wrap: Some(Box::new(move |store| Arc::new(Unruly { store, gates }))),
        ..setup
    })
    .await
}

async fn until(condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("in time");
}

#[tokio::test]
async fn a_disk_that_does_not_answer_in_time_is_503_and_its_bytes_stay_reserved_until_it_does() {
    let gates = Gates::new(0, OPEN);
    let mut quick = settings();
    quick.ingest.ack_timeout = Duration::from_millis(50);
    let served = serve_gated(
        &gates,
        Setup {
            settings: Some(quick),
            ..Setup::default()
        },
    )
    .await;
    let answer = served.ask(signed("/in/nylas", EVENT)).await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("10")));
    assert!(answer.body.starts_with(b"disk-slow: "));
    assert_eq!(served.node.ingest_budget.used(), EVENT.len());
    gates.appends.add_permits(OPEN);
    until(|| served.node.ingest_budget.used() == 0).await;
    // It was stored after all, so the sender's repeat is harmless.
    assert_eq!(served.ask(signed("/in/nylas", EVENT)).await.status, 200);
    let events = served.events().await;
    assert_eq!((events.len(), events[0].repeats), (1, 1));
}

#[tokio::test]
async fn an_append_is_finished_although_its_sender_left() {
    let gates = Gates::new(0, OPEN);
    let served = serve_gated(&gates, Setup::default()).await;
    let mut wire = served.connect().await;
    wire.send(signed("/in/nylas", EVENT)).await;
    until(|| served.node.ingest_budget.used() > 0).await;
    drop(wire);
    gates.appends.add_permits(OPEN);
    until(|| served.node.ingest_budget.used() == 0).await;
    assert_eq!(served.events().await.len(), 1);
}

#[tokio::test]
async fn a_panic_is_503_and_the_next_request_is_served() {
    let gates = Gates::new(OPEN, OPEN);
    let served = serve_gated(&gates, Setup::default()).await;
    gates.panics.store(true, Ordering::Relaxed);
    let mut wire = served.connect().await;
    wire.send(signed("/in/nylas", EVENT)).await;
    let answer = wire.answer().await.unwrap();
    assert_eq!(answer.status, 503);
    assert!(answer.body.starts_with(b"internal: "));
    gates.panics.store(false, Ordering::Relaxed);
    wire.send(signed("/in/nylas", EVENT)).await;
    assert_eq!(wire.answer().await.unwrap().status, 200);
    assert_eq!(served.node.ingest_budget.used(), 0);
}

#[tokio::test]
async fn a_flood_of_forged_posts_takes_nothing_from_a_good_source() {
    // Quarantine comes last and gets nothing written at all.
    let gates = Gates::new(OPEN, 0);
    let mut quick = settings();
    quick.ingest.ack_timeout = Duration::from_millis(500);
    let served = serve_gated(
        &gates,
        Setup {
            settings: Some(quick),
            budget: Some(1024 * 1024),
            ..Setup::default()
        },
    )
    .await;
    let forged = post(
        "/in/github",
        &[("X-Hub-Signature-256", "sha256=00")],
        &[b'x'; 100_000],
    );
    let mut flood = Vec::new();
    for _ in 0..50 {
        let mut wire = served.connect().await;
        wire.send(&forged).await;
        flood.push(wire);
    }
    for number in 0..50 {
        let body = format!(r#"{{"id":"{number}"}}"#);
        assert_eq!(served.ask(signed("/in/nylas", body.as_bytes())).await.status, 200);
    }
    for mut wire in flood {
        let status = wire.answer().await.unwrap().status;
        assert!(matches!(status, 401 | 503), "{status}");
    }
    gates.quarantine.add_permits(OPEN);
    until(|| served.node.ingest_budget.used() == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_body_is_verified_and_stored() {
    let served = serve_gated(&Gates::new(OPEN, OPEN), Setup::default()).await;
    let body = format!(
        r#"{{"data":"{}","id":"large","type":"t"}}"#,
        "x".repeat(9_000_000)
    );
    assert_eq!(served.ask(signed("/in/nylas", body.as_bytes())).await.status, 200);
    let event = &served.events().await[0].event;
    assert_eq!(
        (event.body.len(), event.provider_id.as_deref()),
        (body.len(), Some("large"))
    );
    until(|| served.node.ingest_budget.used() == 0).await;
}
