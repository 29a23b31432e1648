//! How many files this process may have open: each connection is one.
//!
//! Owns raising the limit and, where that is not enough, taking fewer connections, so that those of senders never
//! keep deliveries or the store from opening theirs. Must not know what the connections are for.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::settings::Settings;

/// Connections of the admin and API listeners.
const ADMINISTRATION: u64 = 2 * 512;
/// The store, the log, listeners, timers.
const OTHERS: u64 = 128;

/// Raises the limit as far as it may be raised, and lowers the number of connections to what it leaves.
pub fn provide(settings: &mut Settings) {
    let Some(limit) = raise() else { return };
    // Each attempt has a connection, and as many may be kept for the next ones.
    let needed = 2 * u64::from(settings.delivery.attempts) + ADMINISTRATION + OTHERS;
    // A part of what there is, where there is too little for everything. One eighth more are taken to be refused.
    let left = limit.saturating_sub(needed).max(limit / 2) * 8 / 9;
    let left = usize::try_from(left).unwrap_or(usize::MAX).max(1);
    if left < settings.ingest.connections {
        tracing::warn!(
            open_files.most = limit,
            connections.most = left,
            "the system's limit of open files allows fewer connections than server.connections; raise it \
             (`ulimit -n`, or LimitNOFILE of the service)"
        );
        settings.ingest.connections = left;
    }
}

/// The limit of open files, after raising it; nothing where there is none.
fn raise() -> Option<u64> {
    let limits = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limits.maximum,
        maximum: limits.maximum,
    };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limits.maximum,
        Err(error) => {
            tracing::debug!(%error, "the limit of open files could not be raised");
            limits.current
        }
    }
}
