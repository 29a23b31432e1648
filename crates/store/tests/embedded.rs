//! The embedded store passes the suite, keeps what it acknowledged, and fails as it says it does.
#![expect(clippy::unwrap_used, reason = "these are tests")]

use std::sync::Arc;

use async_trait::async_trait;
use hookfast_engine::time::Timestamp;
use hookfast_store::conformance::{Fixture, START};
use hookfast_store::embedded::{EmbeddedOptions, EmbeddedStore};
use hookfast_store::{NoSlots, Slots, Store, StoreError};
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
