//! The embedded store: SQLite in one data directory, with one thread that writes.
//!
//! Owns opening and closing, and hands each method of [`Store`] to the file that knows it. Must not know
//! HTTP, clocks or the network.
//!
//! `writer` makes batches of what waits in the lanes; `append`, `settle`, `claim`, `topology`, `replay`,
//! `quarantine`, `prune` and `continuation` are what it does inside a transaction; `read` and `check` look,
//! on connections of their own.

mod append;
mod check;
mod claim;
mod continuation;
mod directory;
mod filter;
mod marks;
mod notices;
mod prune;
mod quarantine;
mod read;
mod replay;
mod rows;
mod schema;
mod settle;
mod state;
mod topology;
mod writer;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use async_trait::async_trait;
use hookfast_engine::delivery::DeliveryState;
use hookfast_engine::health::Health;
use hookfast_engine::id::{DeliveryId, DestinationId, EventId, NoticeId, QuarantineId, ReplayId};
use hookfast_engine::time::Timestamp;
use hookfast_engine::topology::{Topology, TopologyChange};
use parking_lot::Mutex;
use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::Semaphore;

use self::directory::Directory;
use self::state::State;
use self::writer::{Effects, Fault, Shared, Stop, Writer, Writing};
use crate::lanes::{LaneBounds, LaneKey};
use crate::{
    Appended, Attempt, AttemptEnd, Claim, Claimed, DeliveryFilter, DeliverySummary, EventFilter,
    EventSummary, Listed, NewEvent, NewQuarantined, NewReplay, Notice, Page, Pruned, Quarantined,
    QuarantinedSummary, Quarantining, Rejected, Replay, ReplayCount, ReplaySelection, Result, Retention,
    Settled, Slots, SourceFilter, Standing, Stats, Store, StoreError, StoredEvent, Unavailable,
};

/// How an [`EmbeddedStore`] is opened.
#[derive(Clone, Debug)]
pub struct EmbeddedOptions {
    /// The data directory; it is made where there is none.
    pub directory: PathBuf,
    /// Memory for the pages of the connection that writes, in bytes.
    pub writer_cache: usize,
    /// Memory for the pages of each connection that reads, in bytes.
    pub reader_cache: usize,
    /// How many connections read at once.
    pub readers: usize,
    /// The bounds of what waits for the writer.
    pub lanes: LaneBounds,
    /// At most this many pages of 4 KiB; for tests of a full disk.
    pub page_limit: Option<u32>,
}

impl EmbeddedOptions {
    /// The defaults, in `directory`.
    #[must_use]
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        const MIB: usize = 1024 * 1024;
        Self {
            directory: directory.into(),
            writer_cache: 64 * MIB,
            reader_cache: 4 * MIB,
            readers: 4,
            lanes: LaneBounds::default(),
            page_limit: None,
        }
    }
}

/// A store in one directory of this machine.
///
/// Dropping it without [`Store::close`] stops it as a crash would; the next opening puts that right.
pub struct EmbeddedStore {
    shared: Arc<Shared>,
    file: PathBuf,
    readers: Arc<Readers>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl std::fmt::Debug for EmbeddedStore {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("EmbeddedStore")
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}

/// Connections that only read, opened as they are needed.
struct Readers {
    file: PathBuf,
    cache: usize,
    idle: Mutex<Vec<Connection>>,
    free: Arc<Semaphore>,
}

impl Readers {
    fn look<T>(&self, look: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        let idle = self.idle.lock().pop();
        let connection = match idle {
            Some(connection) => connection,
            None => schema::open_reader(&self.file, self.cache)?,
        };
        let looked = look(&connection);
        self.idle.lock().push(connection);
        looked
    }
}

impl EmbeddedStore {
    /// Opens the store in a directory, which nobody else may have open.
    ///
    /// After an unclean stop everything that can be read is first made durable anew. What a dead process had
    /// in flight to push destinations is settled as lost at `now` and due before all else; `slots` is told of each
    /// open push destination with deliveries that wait.
    ///
    /// # Errors
    /// [`StoreError::Incompatible`] where the directory is in use or was written by a newer version;
    /// [`StoreError::Corrupt`]; [`StoreError::Unavailable`] where the disk is full.
    pub fn open(options: EmbeddedOptions, slots: Arc<dyn Slots>, now: Timestamp) -> Result<Arc<Self>> {
        let directory = Directory::own(&options.directory)?;
        if directory.is_full() {
            return Err(rows::full());
        }
        let file = directory.database();
        if !directory.was_clean {
            tracing::info!(directory = %options.directory.display(), "the last stop was not clean: syncing anew");
            directory.write_log_anew().map_err(|error| {
                writer::unknown(&format!("cannot write the log of {}: {error}", file.display()))
            })?;
        }
        let mut connection = schema::open_writer(&file, options.writer_cache)?;
        schema::migrate(&mut connection)?;
        schema::require_log(&connection, &file)?;
        directory
            .sync()
            .map_err(|error| writer::unknown(&error.to_string()))?;
        let failed = |error: rusqlite::Error| rows::store_error(&error);
        if !directory.was_clean {
            // What is read back may be in the page cache only. This writes and syncs all of it.
            writer::execute(&connection, "PRAGMA wal_checkpoint(TRUNCATE)").map_err(failed)?;
        }
        if let Some(pages) = options.page_limit {
            connection
                .pragma_update(None, "max_page_count", pages)
                .map_err(failed)?;
        }
        let mut state = State::load(&connection).map_err(failed)?;
        recover(&mut connection, &mut state, now).map_err(failed)?;
        tell_waiting(&connection, &state, &*slots).map_err(failed)?;
        let shared = Shared::new(options.lanes, Arc::clone(&state.topology));
        let writer = Writer::new(Arc::clone(&shared), connection, state, slots, directory).map_err(failed)?;
        let thread = std::thread::Builder::new()
            .name("hookfast-store".to_owned())
            .spawn(move || writer.run())
            .map_err(|error| writer::unknown(&format!("cannot start the writer: {error}")))?;
        Ok(Arc::new(Self {
            shared,
            readers: Arc::new(Readers {
                file: file.clone(),
                cache: options.reader_cache,
                idle: Mutex::new(Vec::new()),
                free: Arc::new(Semaphore::new(options.readers.max(1))),
            }),
            file,
            thread: Mutex::new(Some(thread)),
        }))
    }

    /// Stops as a crash would: nothing is finished, synced or marked. The next opening puts that right.
    pub fn abandon(&self) {
        self.shared.stop(Stop::Abandon);
        if let Some(thread) = self.thread.lock().take() {
            // A panic of the writer's was told when it happened.
            _ = thread.join();
        }
    }

    /// Has something done among settlements, claims and administration.
    async fn write<T, F>(&self, bytes: usize, step: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnMut(&mut Writing<'_>) -> std::result::Result<T, Fault> + Send + 'static,
    {
        self.shared.submit(LaneKey::Inner, bytes, step).await
    }

    /// Looks at what is stored, on a thread that may wait for the disk.
    async fn read<T, F>(&self, look: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection, &Topology) -> Result<T> + Send + 'static,
    {
        self.shared.serving()?;
        let readers = Arc::clone(&self.readers);
        let topology = self.shared.topology();
        let free = Arc::clone(&readers.free);
        let free = free.acquire_owned().await.map_err(|_| busy())?;
        let looked = tokio::task::spawn_blocking(move || {
            // Given back when the look is over, even where nobody waits for it any more.
            let _free = free;
            readers.look(|connection| look(connection, &topology))
        });
        looked
            .await
            .unwrap_or_else(|error| Err(writer::unknown(&format!("a read failed: {error}"))))
    }
}

impl Drop for EmbeddedStore {
    fn drop(&mut self) {
        self.abandon();
    }
}

fn busy() -> StoreError {
    StoreError::Unavailable {
        reason: Unavailable::Busy,
        retry_after: std::time::Duration::from_secs(1),
    }
}

/// Settles what a dead process had in flight.
fn recover(connection: &mut Connection, state: &mut State, now: Timestamp) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut effects = Effects::default();
    let mut writing = Writing {
        connection: &transaction,
        state,
        slots: &crate::NoSlots,
        effects: &mut effects,
        closed_to_new: None,
    };
    let lost = settle::lose_push_claims(&mut writing, now)?;
    if lost > 0 {
        tracing::info!(
            deliveries = lost,
            "attempts of a process that is gone are due again"
        );
    }
    state.flush(&transaction)?;
    transaction.commit()
}

/// Tells the delivery side what waits.
fn tell_waiting(connection: &Connection, state: &State, slots: &dyn Slots) -> rusqlite::Result<()> {
    for (number, known) in state.all_known() {
        if known.open
            && known.push
            && state.has_waiting(number)
            && let Some(due_at) = topology::first_due(connection, number)?
        {
            slots.waiting(known.id, due_at);
        }
    }
    Ok(())
}

/// What an event weighs in its lane.
fn weight(new: &NewEvent) -> usize {
    new.event.body.len() + new.event.headers.packed().len()
}

#[async_trait]
impl Store for EmbeddedStore {
    async fn append(&self, new: NewEvent) -> Result<Appended> {
        let lane = LaneKey::Source((new.event.application, new.event.source));
        self.shared
            .submit(lane, weight(&new), move |writing| append::append(writing, &new))
            .await
    }

    async fn settle(&self, end: AttemptEnd) -> Result<Settled> {
        self.write(end.attempt.response_body.len(), move |writing| {
            settle::settle(writing, &end)
        })
        .await
    }

    async fn claim(&self, claim: Claim) -> Result<Claimed> {
        self.write(0, move |writing| claim::claim(writing, &claim)).await
    }

    async fn extend(&self, delivery: DeliveryId, token: u32, until: Timestamp) -> Result<bool> {
        self.write(0, move |writing| settle::extend(writing, delivery, token, until))
            .await
    }

    async fn quarantine(&self, item: NewQuarantined) -> Result<Quarantining> {
        let bytes = item.item.body.len() + item.item.headers.packed().len();
        let kept = self
            .shared
            .submit(LaneKey::Last, bytes, move |writing| {
                quarantine::keep(writing, &item)
            })
            .await;
        match kept {
            // The lane is full: a flood of forgeries is refused and counted, and holds nobody up.
            Err(StoreError::Unavailable {
                reason: Unavailable::LaneFull,
                ..
            }) => Ok(Quarantining::Full),
            kept => kept,
        }
    }

    async fn release(&self, id: QuarantineId, event: NewEvent) -> Result<Option<Appended>> {
        self.write(weight(&event), move |writing| {
            quarantine::release(writing, id, &event)
        })
        .await
    }

    async fn discard_quarantined(&self, ids: Vec<QuarantineId>) -> Result<u64> {
        self.write(0, move |writing| quarantine::discard(writing, &ids))
            .await
    }

    async fn record_rejected(&self, rejected: Vec<Rejected>) -> Result<()> {
        self.shared
            .submit(LaneKey::Last, rejected.len() * 512, move |writing| {
                quarantine::record_rejected(writing, &rejected)
            })
            .await
    }

    fn topology(&self) -> Arc<Topology> {
        self.shared.topology()
    }

    async fn change_topology(
        &self,
        now: Timestamp,
        actor: String,
        changes: Vec<TopologyChange>,
    ) -> Result<Arc<Topology>> {
        self.write(0, move |writing| topology::change(writing, now, &actor, &changes))
            .await
    }

    async fn notices(&self, limit: u32) -> Result<Vec<Notice>> {
        self.read(move |connection, _| notices::list(connection, limit).map_err(|error| read::failed(&error)))
            .await
    }

    async fn notice_done(&self, id: NoticeId) -> Result<()> {
        self.write(0, move |writing| Ok(notices::remove(writing.connection, id)?))
            .await
    }

    async fn standings(&self, destinations: Vec<DestinationId>, now: Timestamp) -> Result<Vec<Standing>> {
        self.read(move |connection, topology| {
            read::standings(connection, topology, &destinations, now).map_err(|error| read::failed(&error))
        })
        .await
    }

    async fn health(&self, destination: DestinationId) -> Result<Health> {
        self.read(move |connection, topology| {
            read::health(connection, topology, destination).map_err(|error| read::failed(&error))
        })
        .await
    }

    async fn retry(&self, delivery: DeliveryId, now: Timestamp) -> Result<Option<DeliveryState>> {
        self.write(0, move |writing| settle::retry(writing, delivery, now))
            .await
    }

    async fn discard(
        &self,
        delivery: DeliveryId,
        now: Timestamp,
        by: String,
    ) -> Result<Option<DeliveryState>> {
        self.write(0, move |writing| settle::discard(writing, delivery, now, &by))
            .await
    }

    async fn discard_waiting(
        &self,
        destination: DestinationId,
        now: Timestamp,
        by: String,
        limit: u32,
    ) -> Result<u64> {
        self.write(0, move |writing| {
            settle::discard_waiting(writing, destination, now, &by, limit)
        })
        .await
    }

    async fn start_replay(&self, replay: NewReplay) -> Result<Replay> {
        let counted = replay.clone();
        // Counted on a reader: over many events it takes longer than a batch may.
        let total = self
            .read(move |connection, _| {
                replay::total(connection, &counted).map_err(|error| read::failed(&error))
            })
            .await?;
        self.write(0, move |writing| replay::start(writing, &replay, total))
            .await
    }

    async fn step_replay(&self, id: ReplayId, now: Timestamp, limit: u32) -> Result<Option<Replay>> {
        self.write(0, move |writing| replay::step(writing, id, now, limit))
            .await
    }

    async fn cancel_replay(&self, id: ReplayId, now: Timestamp) -> Result<Option<Replay>> {
        self.write(0, move |writing| replay::cancel(writing, id, now))
            .await
    }

    async fn count_replay(&self, selection: ReplaySelection) -> Result<ReplayCount> {
        self.read(move |connection, topology| {
            replay::count(connection, topology, &selection).map_err(|error| read::failed(&error))
        })
        .await
    }

    async fn replays(&self, page: Page) -> Result<Listed<Replay>> {
        self.read(move |connection, _| replay::list(connection, &page))
            .await
    }

    async fn replay(&self, id: ReplayId) -> Result<Option<Replay>> {
        self.read(move |connection, _| replay::find(connection, id).map_err(|error| read::failed(&error)))
            .await
    }

    async fn events(&self, filter: EventFilter, page: Page) -> Result<Listed<EventSummary>> {
        self.read(move |connection, _| {
            read::events(connection, &filter, &page).map_err(|error| read::failed(&error))
        })
        .await
    }

    async fn event(&self, id: EventId) -> Result<Option<StoredEvent>> {
        self.read(move |connection, topology| read::event(connection, topology, id))
            .await
    }

    async fn deliveries(&self, filter: DeliveryFilter, page: Page) -> Result<Listed<DeliverySummary>> {
        self.read(move |connection, topology| {
            read::deliveries(connection, topology, &filter, &page).map_err(|error| read::failed(&error))
        })
        .await
    }

    async fn delivery(&self, id: DeliveryId) -> Result<Option<(DeliverySummary, Vec<Attempt>)>> {
        self.read(move |connection, topology| {
            read::delivery(connection, topology, id).map_err(|error| read::failed(&error))
        })
        .await
    }

    async fn quarantined(&self, filter: SourceFilter, page: Page) -> Result<Listed<QuarantinedSummary>> {
        self.read(move |connection, topology| quarantine::list(connection, topology, &filter, &page))
            .await
    }

    async fn quarantined_event(&self, id: QuarantineId) -> Result<Option<Quarantined>> {
        self.read(move |connection, _| quarantine::find(connection, id).map_err(|error| read::failed(&error)))
            .await
    }

    async fn rejected(&self, filter: SourceFilter, page: Page) -> Result<Listed<Rejected>> {
        self.read(move |connection, topology| quarantine::rejected(connection, topology, &filter, &page))
            .await
    }

    async fn stats(&self) -> Result<Stats> {
        let file = self.file.clone();
        self.read(move |connection, topology| {
            let mut stats = read::stats(connection, topology).map_err(|error| read::failed(&error))?;
            stats.disk_bytes = directory::bytes_of(&file);
            stats.disk_free_bytes = directory::space(&file).map_or(0, |space| space.free);
            Ok(stats)
        })
        .await
    }

    async fn prune(&self, now: Timestamp, retention: Retention, limit: u32) -> Result<Pruned> {
        self.write(0, move |writing| prune::prune(writing, now, retention, limit))
            .await
    }

    async fn check(&self) -> Result<Vec<String>> {
        self.read(|connection, _| check::check(connection).map_err(|error| read::failed(&error)))
            .await
    }

    async fn backup(&self, to: &Path) -> Result<()> {
        let to = to.to_owned();
        let file = self.file.clone();
        self.read(move |_, _| directory::copy(&file, &to)).await
    }

    async fn broken(&self) -> StoreError {
        self.shared.broken().await
    }

    async fn close(&self) {
        self.shared.stop(Stop::Close);
        self.shared.closed().await;
        // Readers that stay open would keep the log from being removed by whoever opens the file next.
        self.readers.idle.lock().clear();
    }
}
