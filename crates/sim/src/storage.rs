//! The store of a world: what stays when a process dies.
//!
//! Owns how it is opened, opened again and called, in the same way for the memory model and for the embedded
//! store. Must not know who calls it or why.

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use futures_util::FutureExt;
use hookfast_engine::delivery::DeliveryKey;
use hookfast_engine::id::DeliveryId;
use hookfast_engine::time::Timestamp;
use hookfast_engine::topology::Topology;
use hookfast_store::embedded::{EmbeddedOptions, EmbeddedStore};
use hookfast_store::memory::MemoryStore;
use hookfast_store::{NoSlots, Slots, Store};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::scenario::StoreKind;

/// A call to a store, under way.
pub(crate) type Calling<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A store as one process has it open.
#[derive(Clone)]
pub(crate) enum Opened {
    Memory(Arc<MemoryStore>),
    Embedded(Arc<EmbeddedStore>, Arc<Runtime>),
}

impl Opened {
    fn store(&self) -> &dyn Store {
        match self {
            Self::Memory(store) => &**store,
            Self::Embedded(store, _) => &**store,
        }
    }

    /// Makes one call and returns once its delivery side was told of what came of it.
    pub(crate) fn call<T>(&self, call: impl for<'a> FnOnce(&'a dyn Store) -> Calling<'a, T>) -> T {
        match self {
            Self::Memory(store) => match call(&**store).now_or_never() {
                Some(given) => given,
                None => panic!("the memory model waited for something"),
            },
            Self::Embedded(store, runtime) => {
                let given = runtime.block_on(call(&**store));
                // Another write has to return before all is told of this one.
                let nobodys = DeliveryId::of_key(crate::START, DeliveryKey::from_i64(1 << 50));
                drop(runtime.block_on(store.extend(nobodys, 1, crate::START)));
                given
            }
        }
    }

    /// Makes a call that changes nothing.
    pub(crate) fn look<T>(&self, call: impl for<'a> FnOnce(&'a dyn Store) -> Calling<'a, T>) -> T {
        match self {
            Self::Memory(_) => self.call(call),
            Self::Embedded(store, runtime) => runtime.block_on(call(&**store)),
        }
    }

    pub(crate) fn topology(&self) -> Arc<Topology> {
        self.store().topology()
    }

    /// The time by the clock that all nodes share, where the node's own says `local`.
    pub(crate) fn shared_time(&self, local: Timestamp) -> Timestamp {
        match self {
            Self::Memory(store) => store.shared_time(local),
            Self::Embedded(..) => local,
        }
    }

    pub(crate) fn heartbeat(&self, local: Timestamp, shared: Timestamp) {
        match self {
            Self::Memory(store) => store.heartbeat(local, shared),
            Self::Embedded(..) => {}
        }
    }
}

/// What stays when processes die.
pub(crate) enum Storage {
    /// The memory model of one owner, as it was opened last.
    Owned(Option<Arc<MemoryStore>>),
    /// The memory model that several nodes join; this handle is nobody's.
    Shared(Arc<MemoryStore>),
    /// A directory, and the store in it as it was opened last.
    Embedded {
        directory: TempDir,
        runtime: Arc<Runtime>,
        last: Option<Arc<EmbeddedStore>>,
    },
}

impl Storage {
    pub(crate) fn new(kind: StoreKind) -> std::io::Result<Self> {
        Ok(match kind {
            StoreKind::Memory { nodes: 1 } => Self::Owned(None),
            StoreKind::Memory { .. } => Self::Shared(MemoryStore::new(Arc::new(NoSlots))),
            StoreKind::Embedded => Self::Embedded {
                directory: TempDir::with_prefix_in("hookfast-sim-", fast_directory())?,
                runtime: Arc::new(tokio::runtime::Builder::new_current_thread().build()?),
                last: None,
            },
        })
    }

    /// Opens it for a process that starts at `now`.
    pub(crate) fn open(&mut self, slots: Arc<dyn Slots>, now: Timestamp) -> hookfast_store::Result<Opened> {
        Ok(match self {
            Self::Owned(last) => {
                let store = match last {
                    Some(last) => last.crash(slots, now),
                    None => MemoryStore::new(slots),
                };
                *last = Some(Arc::clone(&store));
                Opened::Memory(store)
            }
            Self::Shared(root) => Opened::Memory(root.join(slots)),
            Self::Embedded {
                directory,
                runtime,
                last,
            } => {
                let options = EmbeddedOptions {
                    writer_cache: 1 << 20,
                    reader_cache: 1 << 18,
                    readers: 1,
                    ..EmbeddedOptions::new(directory.path())
                };
                let store = EmbeddedStore::open(options, slots, now)?;
                *last = Some(Arc::clone(&store));
                Opened::Embedded(store, Arc::clone(runtime))
            }
        })
    }

    /// The process that has `opened` dies.
    pub(crate) fn dies(opened: &Opened) {
        match opened {
            Opened::Memory(store) => store.leave(),
            Opened::Embedded(store, _) => store.abandon(),
        }
    }

    /// The topology as it stands, whoever is alive.
    pub(crate) fn topology(&self) -> Arc<Topology> {
        match self {
            Self::Owned(last) => last.as_ref().map(|store| store.topology()).unwrap_or_default(),
            Self::Shared(root) => root.topology(),
            Self::Embedded { last, .. } => last.as_ref().map(|store| store.topology()).unwrap_or_default(),
        }
    }

    /// The store, to look into whoever is alive; none where it has one owner, which is dead.
    pub(crate) fn to_look_into(&self) -> Option<Opened> {
        match self {
            Self::Shared(root) => Some(Opened::Memory(Arc::clone(root))),
            Self::Owned(_) | Self::Embedded { .. } => None,
        }
    }
}

/// In memory, where the system has such a place: crashes of a process are simulated, not those of a machine.
fn fast_directory() -> PathBuf {
    let shared_memory = PathBuf::from("/dev/shm");
    if shared_memory.is_dir() {
        shared_memory
    } else {
        std::env::temp_dir()
    }
}
