//! The data directory: who owns it, whether it was left clean, and how much room it has.
//!
//! Owns the lock, the marker and the look at free space. Must not know what is in the database.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use crate::{Result, StoreError};

/// Below this many free bytes nothing new is taken in …
const FLOOR_BYTES: u64 = 64 * 1024 * 1024;
/// … or below this part of a smaller filesystem. Enough for the write-ahead log to be copied whole, which grows the
/// database by as much, and for the settlements of what was taken in.
const FLOOR_PART: u64 = 8;
/// With fewer free bytes the database is not opened: the index of its log is a mapped file, and on some filesystems
/// the process is killed (SIGBUS) where a page of it finds no room.
const START_BYTES: u64 = 1024 * 1024;

/// How much of a log is written anew at once.
const REWRITE_BYTES: usize = 1024 * 1024;

/// A data directory that this process owns for as long as the value lives.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    /// Whether the last owner left it clean.
    pub(super) was_clean: bool,
    /// Closing it releases the lock.
    _lock: File,
}

impl Directory {
    /// Takes the directory, making it where there is none.
    pub(super) fn own(path: &Path) -> Result<Self> {
        let cannot = |what: &str, error: std::io::Error| StoreError::Incompatible {
            detail: format!("{what} in {}: {error}", path.display()),
        };
        make(path).map_err(|error| cannot("cannot make the data directory", error))?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path.join("lock"))
            .map_err(|error| cannot("cannot open the lock file", error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(StoreError::Incompatible {
                    detail: format!(
                        "{} is in use by another hookfast: stop it, or give this one a directory of its own",
                        path.display()
                    ),
                });
            }
            Err(TryLockError::Error(error)) => return Err(cannot("cannot lock", error)),
        }
        let marker = path.join("clean");
        let was_clean = marker.exists() || !path.join("hookfast.db").exists();
        if marker.exists() {
            std::fs::remove_file(&marker).map_err(|error| cannot("cannot remove the marker", error))?;
        }
        let directory = Self {
            path: path.to_owned(),
            was_clean,
            _lock: lock,
        };
        directory
            .sync()
            .map_err(|error| cannot("cannot sync the data directory", error))?;
        Ok(directory)
    }

    /// Makes what was created or removed in the directory durable.
    pub(super) fn sync(&self) -> std::io::Result<()> {
        sync_names(&self.path)
    }

    /// Says to the next owner that nothing was left undone.
    pub(super) fn mark_clean(&self) -> std::io::Result<()> {
        File::create(self.path.join("clean"))?.sync_all()?;
        self.sync()
    }

    /// Makes durable what can be read of the write-ahead log. After a sync that failed a log reads as though it had been
    /// written, but the kernel takes what it could not write for written: another sync says yes and does nothing.
    /// Were the log then copied into the database, a power cut in the middle would leave half a commit there that no
    /// log completes. Writing the same bytes again has them written for certain.
    pub(super) fn write_log_anew(&self) -> std::io::Result<()> {
        let opened = OpenOptions::new()
            .read(true)
            .write(true)
            .open(self.database().with_extension("db-wal"));
        let log = match opened {
            Ok(log) => log,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        let mut bytes = vec![0; REWRITE_BYTES];
        let mut offset = 0;
        loop {
            let found = log.read_at(&mut bytes, offset)?;
            if found == 0 {
                return log.sync_all();
            }
            log.write_all_at(&bytes[..found], offset)?;
            offset += found as u64;
        }
    }

    /// The database's file.
    pub(super) fn database(&self) -> PathBuf {
        self.path.join("hookfast.db")
    }

    /// Whether so little is free that the database cannot be opened.
    pub(super) fn is_full(&self) -> bool {
        space(&self.path).is_some_and(|space| space.free < START_BYTES)
    }

    /// Whether so little is free that only what frees or settles may go on. Where the filesystem does not
    /// say, there is room.
    pub(super) fn is_low_on_space(&self) -> bool {
        space(&self.path).is_some_and(|space| space.free < FLOOR_BYTES.min(space.size / FLOOR_PART))
    }
}

/// Makes the directory where there is none, and makes its name durable: syncing what is in a directory says nothing
/// about the directory's own name, without which all of it is gone after a power cut.
fn make(path: &Path) -> std::io::Result<()> {
    // The last ancestor of a relative path is empty: the directory that this process is in.
    let missing = |it: &&Path| !it.as_os_str().is_empty() && !it.is_dir();
    let missing: Vec<_> = path.ancestors().take_while(missing).collect();
    for directory in missing.iter().rev() {
        match std::fs::create_dir(directory) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists && directory.is_dir() => {}
            made => made?,
        }
        sync_names(parent(directory))?;
    }
    if !missing.is_empty() || path.join("hookfast.db").exists() {
        return Ok(());
    }
    // An earlier start may have made it and died before that was durable. Where its parent is not this user's to
    // open or to sync, somebody else made it.
    match sync_names(parent(path)) {
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::PermissionDenied
                    | ErrorKind::ReadOnlyFilesystem
                    | ErrorKind::InvalidInput
                    | ErrorKind::Unsupported
            ) =>
        {
            Ok(())
        }
        synced => synced,
    }
}

/// The directory that a path's last name is in.
fn parent(path: &Path) -> &Path {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
}

/// Makes what was made, renamed or removed in a directory durable.
fn sync_names(directory: &Path) -> std::io::Result<()> {
    File::open(directory)?.sync_all()
}

/// How large a filesystem is and how much of it is free, in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Space {
    size: u64,
    pub(super) free: u64,
}

/// The room on the filesystem of `path`.
pub(super) fn space(path: &Path) -> Option<Space> {
    let found = rustix::fs::statvfs(path).ok()?;
    Some(Space {
        size: found.f_blocks.saturating_mul(found.f_frsize),
        free: found.f_bavail.saturating_mul(found.f_frsize),
    })
}

/// The bytes on disk of a database and its log.
pub(super) fn bytes_of(file: &Path) -> u64 {
    let log = file.with_extension("db-wal");
    [file, &log]
        .iter()
        .filter_map(|path| std::fs::metadata(path).ok())
        .map(|found| found.len())
        .sum()
}

/// Writes a consistent copy of the database to a new file, from one snapshot, while others write.
pub(super) fn copy(file: &Path, to: &Path) -> Result<()> {
    let refused = |why: &dyn std::fmt::Display| StoreError::Refused {
        detail: format!("cannot write the backup to {}: {why}", to.display()),
    };
    // Makes the file, so that nothing that is there is ever written over. SQLite takes an empty one.
    let made = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(to)
        .map_err(|error| refused(&error))?;
    let target = to
        .to_str()
        .ok_or_else(|| refused(&"its name is not valid UTF-8"))?;
    let copied = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY)
        .and_then(|connection| connection.execute("VACUUM INTO ?1", [target]));
    match copied {
        Ok(_) => {
            made.sync_all().map_err(|error| refused(&error))?;
            sync_names(parent(to)).map_err(|error| refused(&error))
        }
        Err(error) => {
            // Half a backup is worse than none; what cannot be removed is named in the error anyway.
            _ = std::fs::remove_file(to);
            Err(refused(&error))
        }
    }
}
