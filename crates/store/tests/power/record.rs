//! What a process did to its files, in order, as `diskshim.c` wrote it down.
//!
//! Owns the record's form and the numbering of what is in it. Must not know what a power cut does.

use std::fs;
use std::path::Path;

/// One thing that happened.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Change {
    /// A process began, with the directory of this number.
    Start { root: u64 },
    /// An empty file of that name came to be.
    Create { path: String, file: u64 },
    /// A directory came to be.
    Make { path: String, file: u64 },
    /// Bytes were written.
    Write { file: u64, offset: usize, data: Vec<u8> },
    /// A file was made longer or shorter.
    Resize { file: u64, size: usize },
    /// A file got another name.
    Rename { from: String, to: String },
    /// A name was removed.
    Remove { path: String },
    /// A sync came back: what happened before the number `covers` is on the disk.
    Sync { file: u64, covers: usize },
    /// A sync was refused.
    SyncFailed { file: u64, covers: usize },
    /// The process said this.
    Mark(String),
    /// A call was made to fail, on this file.
    Fault { path: String },
    /// A file of that name exists, whose content is not recorded.
    Unrecorded { path: String },
}

impl Change {
    /// What the process said.
    pub(crate) fn words(&self) -> Option<&str> {
        if let Self::Mark(words) = self {
            Some(words)
        } else {
            None
        }
    }

    /// The path and the number of what came to be, or was there from the start: the directory, whose path is empty.
    pub(crate) fn made(&self) -> Option<(&str, u64)> {
        if let Self::Create { path, file } | Self::Make { path, file } = self {
            Some((path, *file))
        } else if let Self::Start { root } = self {
            Some(("", *root))
        } else {
            None
        }
    }
}

/// Everything, one process after the other.
pub(crate) fn read(log: &Path) -> Vec<Change> {
    let bytes = fs::read(log).expect("there is a record");
    let mut changes: Vec<Change> = Vec::new();
    let (mut rest, mut start) = (&bytes[..], 0);
    while !rest.is_empty() {
        let (change, left) = parse(rest, start).unwrap_or_else(|| {
            panic!("the record is cut off after {} changes", changes.len());
        });
        rest = left;
        changes.push(change);
        if matches!(changes.last(), Some(Change::Start { .. })) {
            start = changes.len();
        }
    }
    changes
}

/// One record, and what follows it. Numbers in it count from `start`.
fn parse(bytes: &[u8], start: usize) -> Option<(Change, &[u8])> {
    let word =
        |at: usize| -> Option<u64> { Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?)) };
    let half =
        |at: usize| -> Option<u32> { Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?)) };
    let (kind, path_length) = (half(0)?, half(4)? as usize);
    let (file, number) = (word(8)?, usize::try_from(word(16)?).ok()?);
    let data_length = usize::try_from(word(24)?).ok()?;
    let path = bytes.get(32..32 + path_length)?;
    let path = std::str::from_utf8(path)
        .expect("names in the directory are UTF-8")
        .to_owned();
    let end = 32 + path_length + data_length;
    let data = bytes.get(32 + path_length..end)?.to_vec();
    let covers = start + number;
    let change = match kind {
        1 => Change::Start { root: file },
        2 => Change::Create { path, file },
        3 => Change::Make { path, file },
        4 => Change::Write {
            file,
            offset: number,
            data,
        },
        5 => Change::Resize { file, size: number },
        6 => {
            let (from, to) = path.split_once('\0')?;
            let (from, to) = (from.to_owned(), to.to_owned());
            Change::Rename { from, to }
        }
        7 => Change::Remove { path },
        8 => Change::Sync { file, covers },
        9 => Change::SyncFailed { file, covers },
        10 => Change::Mark(String::from_utf8(data).expect("marks are UTF-8")),
        11 => Change::Fault { path },
        12 => Change::Unrecorded { path },
        _ => return None,
    };
    Some((change, &bytes[end..]))
}
