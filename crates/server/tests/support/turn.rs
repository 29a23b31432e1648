//! Owns the turn of tests that measure, or that need the machine for themselves: one at a time on a machine.
//! It must not know what they measure.

use std::fs::File;

/// The turn, for as long as it lives.
#[derive(Debug)]
pub(crate) struct Turn {
    _lock: File,
}

impl Turn {
    /// Waits for it. Tests run in processes of their own, so that only a file can tell them.
    pub(crate) fn take() -> Self {
        let lock = File::create(std::env::temp_dir().join("hookfast-test-turn")).expect("a lock can be made");
        lock.lock().expect("the lock can be waited for");
        Self { _lock: lock }
    }
}
