//! The one thread that writes: it takes everything that waits, makes one transaction of it, commits once and
//! then answers all.
//!
//! Owns the write connection, the batches, the checkpoints and what each kind of failure means. Must not
//! know what the operations do: each is a closure that is given [`Writing`].

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use hookfast_engine::delivery::{DeliveryState, DestinationNumber};
use hookfast_engine::id::{ApplicationId, DestinationId, SourceId};
use hookfast_engine::mutant::{self, Mutant};
use hookfast_engine::time::Timestamp;
use hookfast_engine::topology::Topology;
use parking_lot::{Condvar, Mutex, RwLock};
use rusqlite::hooks::Wal;
use rusqlite::{Connection, ErrorCode};
use tokio::sync::{oneshot, watch};

use super::continuation;
use super::directory::Directory;
use super::rows::{self, DeliveryRow};
use super::state::State;
use crate::lanes::{LaneBounds, LaneKey, Lanes};
use crate::{ClaimedDelivery, Result, Slots, StoreError, Unavailable};

/// The write-ahead log is copied into the database once it holds this many pages (4 KiB each). Small: a
/// checkpoint is what the slowest acknowledgements wait for.
const CHECKPOINT_PAGES: i32 = 1_000;

/// Past this many pages (512 MiB) nothing more is taken in: a long read keeps the log from being reused.
const LOG_PAGES_MOST: i32 = 131_072;

/// A source's lane.
pub(super) type Source = (ApplicationId, SourceId);

/// Why an operation came to nothing.
#[derive(Debug)]
pub(super) enum Fault {
    /// A decision: nothing was written, and the others of its batch go on.
    Decided(StoreError),
    /// SQLite said no.
    Sql(rusqlite::Error),
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::Decided(error)
    }
}

/// What an operation gives.
pub(super) type Applied<T> = std::result::Result<T, Fault>;

/// What an operation works on: the open transaction and what the writer knows.
pub(super) struct Writing<'a> {
    pub(super) connection: &'a Connection,
    pub(super) state: &'a mut State,
    pub(super) slots: &'a dyn Slots,
    pub(super) effects: &'a mut Effects,
    /// Why nothing that takes up space may be taken in.
    pub(super) closed_to_new: Option<Unavailable>,
}

impl Writing<'_> {
    /// Refuses what takes up space while there is none.
    pub(super) fn take_in(&self) -> Result<()> {
        match self.closed_to_new {
            None => Ok(()),
            Some(reason) => Err(StoreError::Unavailable {
                reason,
                retry_after: Duration::from_secs(10),
            }),
        }
    }

    /// Writes a new delivery and counts it.
    pub(super) fn insert(&mut self, row: &DeliveryRow) -> rusqlite::Result<()> {
        row.insert(self.connection)?;
        self.state.count(row.key.destination(), row.state, 1);
        self.entered(row);
        Ok(())
    }

    /// Writes a delivery that was in state `before` and tells the delivery side where it waits.
    pub(super) fn update(&mut self, before: DeliveryState, row: &DeliveryRow) -> rusqlite::Result<()> {
        self.rewrite(before, row)?;
        self.entered(row);
        Ok(())
    }

    /// Writes a delivery that was in state `before`; whoever asked learns from the result where it went.
    pub(super) fn rewrite(&mut self, before: DeliveryState, row: &DeliveryRow) -> rusqlite::Result<()> {
        row.update(self.connection)?;
        let number = row.key.destination();
        self.state.count(number, before, -1);
        self.state.count(number, row.state, 1);
        Ok(())
    }

    fn entered(&mut self, row: &DeliveryRow) {
        let Some(due_at) = row.due_at else { return };
        if row.state != DeliveryState::InFlight {
            self.waits(row.key.destination(), due_at);
        }
    }

    /// After the commit the delivery side is told that the destination has something due at `due_at`.
    pub(super) fn waits(&mut self, number: DestinationNumber, due_at: Timestamp) {
        if self
            .state
            .known(number)
            .is_some_and(|known| known.open && known.push)
        {
            let earliest = self.effects.waiting.entry(number).or_insert(due_at);
            *earliest = due_at.min(*earliest);
        }
    }
}

/// What is done once a batch is on stable storage, or undone where it is not.
#[derive(Default)]
pub(super) struct Effects {
    pub(super) reserved: Vec<(DestinationId, usize)>,
    pub(super) handed: Vec<ClaimedDelivery>,
    pub(super) waiting: HashMap<DestinationNumber, Timestamp>,
    pub(super) topology: Option<Arc<Topology>>,
}

/// Something to be done in a batch. It may be applied more than once: a batch that is rolled back is
/// repeated operation by operation.
pub(super) trait Operation: Send {
    fn apply(&mut self, writing: &mut Writing<'_>) -> Applied<()>;
    /// Tells the caller: what it gave, or why the batch failed.
    fn answer(self: Box<Self>, failure: Option<&StoreError>);
}

struct Job<T, F> {
    step: F,
    given: Option<Result<T>>,
    reply: oneshot::Sender<Result<T>>,
}

impl<T, F> Operation for Job<T, F>
where
    T: Send,
    F: FnMut(&mut Writing<'_>) -> Applied<T> + Send,
{
    fn apply(&mut self, writing: &mut Writing<'_>) -> Applied<()> {
        match (self.step)(writing) {
            Ok(given) => {
                self.given = Some(Ok(given));
                Ok(())
            }
            Err(Fault::Decided(error)) => {
                self.given = Some(Err(error.clone()));
                Err(Fault::Decided(error))
            }
            Err(Fault::Sql(error)) => Err(Fault::Sql(error)),
        }
    }

    fn answer(self: Box<Self>, failure: Option<&StoreError>) {
        let answer = match (failure, self.given) {
            (Some(error), _) => Err(error.clone()),
            (None, Some(given)) => given,
            (None, None) => Err(unknown("the operation was not applied")),
        };
        // A caller that has gone away does not matter: what it asked for is done.
        _ = self.reply.send(answer);
    }
}

/// What the writer shares with those who ask it.
pub(super) struct Shared {
    waiting: Mutex<Waiting>,
    ready: Condvar,
    topology: RwLock<Arc<Topology>>,
    broken: watch::Sender<Option<StoreError>>,
    closed: watch::Sender<bool>,
}

struct Waiting {
    lanes: Lanes<Source, Box<dyn Operation>>,
    stop: Option<Stop>,
}

/// How the writer ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Stop {
    /// It finishes what waits and leaves the directory clean.
    Close,
    /// It stops where it is, as a crash would.
    Abandon,
}

impl Shared {
    pub(super) fn new(bounds: LaneBounds, topology: Arc<Topology>) -> Arc<Self> {
        Arc::new(Self {
            waiting: Mutex::new(Waiting {
                lanes: Lanes::new(bounds),
                stop: None,
            }),
            ready: Condvar::new(),
            topology: RwLock::new(topology),
            broken: watch::Sender::new(None),
            closed: watch::Sender::new(false),
        })
    }

    pub(super) fn topology(&self) -> Arc<Topology> {
        Arc::clone(&self.topology.read())
    }

    /// Has `step` done in one of the next batches, and gives what it gave once that is on stable storage.
    pub(super) async fn submit<T, F>(&self, lane: LaneKey<Source>, bytes: usize, step: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnMut(&mut Writing<'_>) -> Applied<T> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        self.enqueue(
            lane,
            bytes,
            Box::new(Job {
                step,
                given: None,
                reply,
            }),
        )?;
        answer
            .await
            .unwrap_or_else(|_| Err(unknown("the writer is gone")))
    }

    /// Whether anything is answered at all.
    pub(super) fn serving(&self) -> Result<()> {
        if let Some(error) = self.broken.borrow().clone() {
            return Err(error);
        }
        match self.waiting.lock().stop {
            None => Ok(()),
            Some(_) => Err(stopping()),
        }
    }

    fn enqueue(&self, lane: LaneKey<Source>, bytes: usize, operation: Box<dyn Operation>) -> Result<()> {
        if let Some(error) = self.broken.borrow().clone() {
            return Err(error);
        }
        let unavailable = |reason| StoreError::Unavailable {
            reason,
            retry_after: Duration::from_secs(1),
        };
        let mut waiting = self.waiting.lock();
        if waiting.stop.is_some() {
            return Err(stopping());
        }
        waiting.lanes.push(lane, bytes, operation).map_err(|_| {
            unavailable(match lane {
                LaneKey::Source(_) | LaneKey::Last => Unavailable::LaneFull,
                LaneKey::Inner => Unavailable::Busy,
            })
        })?;
        drop(waiting);
        self.ready.notify_one();
        Ok(())
    }

    /// Asks the writer to end.
    pub(super) fn stop(&self, how: Stop) {
        self.waiting.lock().stop.get_or_insert(how);
        self.ready.notify_one();
    }

    /// Resolves once the writer has ended.
    pub(super) async fn closed(&self) {
        // An error means that the sender is gone, which it cannot be while `self` lives.
        _ = self.closed.subscribe().wait_for(|closed| *closed).await;
    }

    pub(super) async fn broken(&self) -> StoreError {
        let mut broken = self.broken.subscribe();
        match broken.wait_for(Option::is_some).await {
            Ok(error) => error.clone().unwrap_or_else(|| unknown("broken")),
            Err(_) => unknown("the writer is gone"),
        }
    }

    /// The next batch, which may be empty where `eager`; `None` at the end.
    fn next_batch(&self, eager: bool) -> Option<Vec<Box<dyn Operation>>> {
        let mut waiting = self.waiting.lock();
        loop {
            let batch = waiting.lanes.take();
            if waiting.stop == Some(Stop::Abandon) {
                return None;
            }
            if !batch.is_empty() || (eager && waiting.stop.is_none()) {
                return Some(batch);
            }
            if waiting.stop.is_some() {
                return None;
            }
            self.ready.wait(&mut waiting);
        }
    }
}

fn stopping() -> StoreError {
    StoreError::Unavailable {
        reason: Unavailable::Stopping,
        retry_after: Duration::from_secs(1),
    }
}

pub(super) fn unknown(detail: &str) -> StoreError {
    StoreError::Unknown {
        detail: detail.to_owned(),
    }
}

/// Why a batch was not committed.
enum Failure {
    /// Nothing was written, and later it may go: the disk is full, or another program has the file.
    Later(StoreError),
    /// One of its operations met an error of its own.
    Operation(rusqlite::Error),
    /// Nobody knows what is on the disk, or the file is damaged.
    Broken(StoreError),
}

/// The thread's own things.
pub(super) struct Writer {
    shared: Arc<Shared>,
    connection: Connection,
    state: State,
    slots: Arc<dyn Slots>,
    directory: Directory,
    /// How many pages the write-ahead log held after the last commit.
    log_pages: Arc<AtomicI32>,
    /// How many of them were copied into the database, as far as is known.
    copied_pages: i32,
    /// A continuation found the disk full: it waits for the next batch that has something else in it.
    continuations_wait: bool,
}

impl Writer {
    pub(super) fn new(
        shared: Arc<Shared>,
        mut connection: Connection,
        state: State,
        slots: Arc<dyn Slots>,
        directory: Directory,
    ) -> rusqlite::Result<Self> {
        let log_pages = Arc::new(AtomicI32::new(0));
        let pages = Arc::clone(&log_pages);
        connection.wal_hook(Some(move |_: &mut Wal, held: i32| {
            pages.store(held, Ordering::Relaxed);
            Ok(())
        }))?;
        Ok(Self {
            shared,
            connection,
            state,
            slots,
            directory,
            log_pages,
            copied_pages: 0,
            continuations_wait: false,
        })
    }

    /// Works until it is told to stop.
    pub(super) fn run(mut self) {
        let _last = LastWords(Arc::clone(&self.shared));
        let eager = |writer: &Self| !writer.state.continuations.is_empty() && !writer.continuations_wait;
        while let Some(batch) = self.shared.next_batch(eager(&self)) {
            if let Some(error) = self.shared.broken.borrow().clone() {
                answer(batch, Some(&error));
                self.continuations_wait = true;
                continue;
            }
            self.work(batch);
            self.checkpoint();
        }
        self.end();
    }

    fn work(&mut self, mut batch: Vec<Box<dyn Operation>>) {
        self.continuations_wait = self.continuations_wait && batch.is_empty();
        if mutant::is_active(Mutant::AcknowledgeBeforeCommit) {
            return self.answer_and_commit(batch);
        }
        match self.attempt(&mut batch) {
            Ok(effects) => self.committed(effects, batch),
            Err(Failure::Later(error)) => {
                self.continuations_wait = true;
                answer(batch, Some(&error));
            }
            Err(Failure::Broken(error)) => {
                answer(batch, Some(&error));
                self.break_down(error);
            }
            Err(Failure::Operation(error)) => {
                tracing::error!(error = %error, operations = batch.len(), "a batch was rolled back");
                self.one_by_one(batch);
            }
        }
    }

    /// What a mutant does.
    fn answer_and_commit(&mut self, mut batch: Vec<Box<dyn Operation>>) {
        let mut effects = Effects::default();
        let applied = self.apply(&mut batch, &mut effects);
        self.committed(effects, batch);
        // Long enough for somebody to look.
        std::thread::sleep(Duration::from_millis(5));
        if applied.and_then(|()| commit(&self.connection)).is_err() {
            self.break_down(unknown("what was answered was not committed"));
        }
    }

    /// After one operation's error each is tried alone, so that only the one at fault is refused.
    fn one_by_one(&mut self, batch: Vec<Box<dyn Operation>>) {
        // Without any of them only a continuation's step is left: an error of that would come back for ever.
        match self.attempt(&mut []) {
            Ok(effects) => self.committed(effects, Vec::new()),
            Err(Failure::Later(_)) => self.continuations_wait = true,
            Err(Failure::Operation(error)) => self.break_down(rows::store_error(&error)),
            Err(Failure::Broken(error)) => self.break_down(error),
        }
        if let Some(error) = self.shared.broken.borrow().clone() {
            answer(batch, Some(&error));
            return;
        }
        let mut batch = batch.into_iter();
        for operation in batch.by_ref() {
            let mut alone = vec![operation];
            match self.attempt(&mut alone) {
                Ok(effects) => self.committed(effects, alone),
                Err(Failure::Later(error)) => answer(alone, Some(&error)),
                Err(Failure::Operation(error)) => {
                    let detail = format!("the operation failed: {error}");
                    answer(alone, Some(&StoreError::Refused { detail }));
                }
                Err(Failure::Broken(error)) => {
                    answer(alone, Some(&error));
                    self.break_down(error.clone());
                    answer(batch.collect(), Some(&error));
                    return;
                }
            }
        }
    }

    /// Applies and commits; where that fails, everything is as it was before.
    fn attempt(&mut self, batch: &mut [Box<dyn Operation>]) -> std::result::Result<Effects, Failure> {
        let mut effects = Effects::default();
        let applied = catch_unwind(AssertUnwindSafe(|| self.apply(batch, &mut effects)));
        let outcome = match applied {
            Ok(Ok(())) => commit(&self.connection),
            Ok(Err(failure)) => Err(failure),
            Err(_) => Err(Failure::Broken(unknown(
                "a fault of hookfast's own in the store's writer",
            ))),
        };
        let Err(failure) = outcome else {
            return Ok(effects);
        };
        for (destination, bytes) in effects.reserved {
            self.slots.give_back(destination, bytes);
        }
        // What is broken is left as it is: nothing more is written.
        if !matches!(failure, Failure::Broken(_)) {
            self.roll_back().map_err(Failure::Broken)?;
        }
        Err(failure)
    }

    fn apply(
        &mut self,
        batch: &mut [Box<dyn Operation>],
        effects: &mut Effects,
    ) -> std::result::Result<(), Failure> {
        let closed_to_new = self.closed_to_new();
        let connection = &self.connection;
        execute(connection, "BEGIN IMMEDIATE").map_err(failure_of)?;
        let mut writing = Writing {
            connection,
            state: &mut self.state,
            slots: &*self.slots,
            effects,
            closed_to_new,
        };
        if !self.continuations_wait {
            continuation::step(&mut writing).map_err(failure_of)?;
        }
        for operation in batch {
            let before = connection.total_changes();
            match operation.apply(&mut writing) {
                Ok(()) => {}
                Err(Fault::Decided(_)) if connection.total_changes() == before => {}
                // It had written something before it refused: only a rollback takes that away.
                Err(Fault::Decided(error)) => {
                    let detail = std::io::Error::other(error.to_string());
                    return Err(Failure::Operation(rusqlite::Error::ToSqlConversionFailure(
                        Box::new(detail),
                    )));
                }
                Err(Fault::Sql(error)) => return Err(failure_of(error)),
            }
        }
        self.state.flush(connection).map_err(failure_of)
    }

    fn roll_back(&mut self) -> Result<()> {
        let undone = if self.connection.is_autocommit() {
            Ok(())
        } else {
            execute(&self.connection, "ROLLBACK")
        };
        let loaded = undone.and_then(|()| State::load(&self.connection));
        match loaded {
            Ok(state) => {
                let sweep = self.state.sweep;
                self.state = state;
                self.state.sweep = sweep;
                Ok(())
            }
            Err(error) => Err(unknown(&format!("after a rollback: {error}"))),
        }
    }

    fn committed(&mut self, effects: Effects, batch: Vec<Box<dyn Operation>>) {
        if let Some(topology) = effects.topology {
            *self.shared.topology.write() = topology;
        }
        answer(batch, None);
        // After the answers, which are waited for. The next batch's answers come later than this.
        if !effects.handed.is_empty() {
            self.slots.hand_over(effects.handed);
        }
        for (number, due_at) in effects.waiting {
            if let Some(known) = self.state.known(number) {
                self.slots.waiting(known.id, due_at);
            }
        }
    }

    fn break_down(&self, error: StoreError) {
        tracing::error!(error = %error, "the store can promise nothing any more");
        self.shared.broken.send_if_modified(|broken| {
            let first = broken.is_none();
            broken.get_or_insert(error);
            first
        });
    }

    fn closed_to_new(&self) -> Option<Unavailable> {
        if self.directory.is_low_on_space() {
            Some(Unavailable::Full)
        } else if self.log_pages.load(Ordering::Relaxed) > LOG_PAGES_MOST {
            Some(Unavailable::Slow)
        } else {
            None
        }
    }

    /// Copies the write-ahead log into the database once it is long enough. Called after the answers, so that
    /// only the next batch waits for it.
    fn checkpoint(&mut self) {
        let held = self.log_pages.load(Ordering::Relaxed);
        if held < self.copied_pages {
            // All of it had been copied, and it began anew.
            self.copied_pages = 0;
        }
        // A reader may keep part of it from being copied: then the next thousand pages are waited for, except
        // where nothing is taken in until it is short again.
        if held - self.copied_pages < CHECKPOINT_PAGES && held <= LOG_PAGES_MOST {
            return;
        }
        let copied = self
            .connection
            .prepare_cached("PRAGMA wal_checkpoint(PASSIVE)")
            .and_then(|mut statement| {
                statement.query_row([], |row| Ok((row.get::<_, i32>(1)?, row.get::<_, i32>(2)?)))
            });
        match copied {
            Ok((log, copied)) => {
                self.copied_pages = held;
                if log == copied {
                    // The next commit begins it anew.
                    self.log_pages.store(0, Ordering::Relaxed);
                }
            }
            // The log keeps what has no room in the database.
            Err(error) if is_full(&error) => self.copied_pages = held,
            Err(error) => self.break_down(unknown(&format!("a checkpoint failed: {error}"))),
        }
    }

    fn end(self) {
        answer(self.shared.waiting.lock().lanes.drain(), Some(&stopping()));
        let close = self.shared.waiting.lock().stop == Some(Stop::Close);
        let whole = self.shared.broken.borrow().is_none();
        if close && whole {
            let left_clean = execute(&self.connection, "PRAGMA wal_checkpoint(TRUNCATE)")
                .map_err(|error| error.to_string())
                .and_then(|()| self.directory.mark_clean().map_err(|error| error.to_string()));
            if let Err(error) = left_clean {
                tracing::warn!(
                    error,
                    "the data directory was not left clean; the next start checks it"
                );
            }
        }
    }
}

/// However the writer ends, nobody waits for it for ever.
struct LastWords(Arc<Shared>);

impl Drop for LastWords {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let error = unknown("a fault of hookfast's own ended the store's writer");
            self.0.broken.send_replace(Some(error.clone()));
            answer(self.0.waiting.lock().lanes.drain(), Some(&error));
        }
        self.0.closed.send_replace(true);
    }
}

fn answer(batch: Vec<Box<dyn Operation>>, failure: Option<&StoreError>) {
    for operation in batch {
        operation.answer(failure);
    }
}

/// Runs a statement that gives nothing of interest.
pub(super) fn execute(connection: &Connection, sql: &str) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([])?;
    while rows.next()?.is_some() {}
    Ok(())
}

/// Commits what a batch wrote so far and goes on in another transaction: what a mutant does.
pub(super) fn commit_early(connection: &Connection) -> rusqlite::Result<()> {
    execute(connection, "COMMIT")?;
    execute(connection, "BEGIN IMMEDIATE")
}

/// An error at the commit itself: only a full disk is known to have left nothing behind.
fn commit(connection: &Connection) -> std::result::Result<(), Failure> {
    match execute(connection, "COMMIT") {
        Ok(()) => Ok(()),
        // Not `is_full`: the log's index grows only after the log itself was synced.
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::DiskFull) => {
            Err(Failure::Later(rows::full()))
        }
        Err(error) => Err(Failure::Broken(unknown(&format!("the commit failed: {error}")))),
    }
}

fn is_full(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::DiskFull)
        // The index of the log could not be made longer: no commit has begun.
        || error.sqlite_error().is_some_and(|error| error.extended_code == rusqlite::ffi::SQLITE_IOERR_SHMSIZE)
}

fn failure_of(error: rusqlite::Error) -> Failure {
    if is_full(&error) {
        return Failure::Later(rows::full());
    }
    match error.sqlite_error_code() {
        Some(
            ErrorCode::SystemIoFailure | ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::OutOfMemory,
        ) => Failure::Broken(unknown(&error.to_string())),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            Failure::Later(rows::store_error(&error))
        }
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Failure::Broken(StoreError::Corrupt {
            detail: error.to_string(),
        }),
        Some(_) | None => Failure::Operation(error),
    }
}
