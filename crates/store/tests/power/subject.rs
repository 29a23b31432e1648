//! The store under test: all that the suite knows of it.
//!
//! Owns its constructor and the names of the files that a recording cannot see. Another store is put under the
//! same suite by changing this file alone.

use std::path::Path;
use std::sync::Arc;

use hookfast_engine::time::Timestamp;
use hookfast_store::embedded::{EmbeddedOptions, EmbeddedStore};
use hookfast_store::{Result, Slots, Store};

/// The ends of names of files that are not recorded: they change through mappings, which no call shows.
///
/// `-shm` is the index of SQLite's write-ahead log. Nobody relies on what a crash leaves of it: the first
/// connection of a machine to open it takes an exclusive lock and cuts it to 3 bytes before it is read
/// (`unixLockSharedMemory` in `sqlite3.c`), and the index is then made anew from the log, whose frames carry
/// checksums (`walIndexRecover`; <https://www.sqlite.org/walformat.html>, section 2). That this is so is part of
/// what is tested: crash images get garbage under these names.
pub(crate) const UNRECORDED: &str = "-shm";

/// The store's directory, below the recorded one: that it came to be is recorded too.
pub(crate) const DATA: &str = "data";

/// Opens the store in `directory`, which may not be there yet. Dropped without having been closed, it stops as a
/// process that dies does.
pub(crate) fn open(directory: &Path, slots: Arc<dyn Slots>, now: Timestamp) -> Result<Arc<dyn Store>> {
    let store = EmbeddedStore::open(EmbeddedOptions::new(directory), slots, now)?;
    Ok(store)
}
