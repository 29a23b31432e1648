//! What can go wrong in a store, by what the caller may do about it.

use std::time::Duration;

/// Why a store did not do what it was asked.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum StoreError {
    /// Not now: nothing was written, and the same call may succeed later.
    #[error("the store takes nothing at present: {reason}")]
    Unavailable {
        /// Why.
        reason: Unavailable,
        /// When to ask again.
        retry_after: Duration,
    },
    /// Nobody knows whether it was written, for example after a failed sync. The process must stop and start
    /// again from what the disk says; repeating the call is harmless.
    #[error("it is not known whether the write reached the disk: {detail}")]
    Unknown {
        /// What failed.
        detail: String,
    },
    /// What is stored is damaged.
    #[error("the store is damaged: {detail}; run `hookfast check`")]
    Corrupt {
        /// What was found where.
        detail: String,
    },
    /// What is stored was written by a version that this one cannot read, or is in use by another process.
    #[error("{detail}")]
    Incompatible {
        /// What was found, and what to do.
        detail: String,
    },
    /// The change breaks a rule of the topology, such as a name used twice.
    #[error("{detail}")]
    Refused {
        /// Which rule, naming the value and the remedy.
        detail: String,
    },
}

/// Why a store takes nothing at present.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Unavailable {
    /// The disk is full, or below its floor of free space.
    #[error("the disk is full")]
    Full,
    /// The source's lane already holds as much as may wait.
    #[error("this source has more waiting than the disk takes")]
    LaneFull,
    /// It did not answer within its bound.
    #[error("the disk is slow")]
    Slow,
    /// It is shutting down.
    #[error("it is stopping")]
    Stopping,
    /// Reads found it busy.
    #[error("it is busy")]
    Busy,
}
