//! Connections kept for the next request.
//!
//! Owns which are kept, for how long and how many. Must not open any, nor know what is sent on them.

use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1::SendRequest;
use parking_lot::Mutex;

use super::resolve::TargetKey;
use crate::clock::{Clock, Stopwatch};

/// No connection is kept longer than this, so that a change of a name's addresses is seen.
const MAX_AGE: Duration = Duration::from_secs(300);
/// At most this many unused connections to one target.
const MAX_IDLE_PER_TARGET: usize = 64;
/// At most this many unused connections in all.
const MAX_IDLE: usize = 1024;

/// A connection that speaks HTTP.
pub(super) struct Connection {
    pub(super) sender: SendRequest<Full<Bytes>>,
    /// Set by whatever is read from it.
    pub(super) heard: Arc<AtomicBool>,
    /// Whether it has served a request before.
    pub(super) reused: bool,
    opened: Stopwatch,
}

struct Idle {
    connection: Connection,
    since: Stopwatch,
    limit: Duration,
}

impl Idle {
    fn is_usable(&self) -> bool {
        self.connection.sender.is_ready()
            && self.since.elapsed() < self.limit
            && self.connection.opened.elapsed() < MAX_AGE
    }
}

#[derive(Default)]
struct Shelves {
    by_target: HashMap<TargetKey, Vec<Idle>>,
    count: usize,
    swept: bool,
}

/// The connections that are not in use.
pub(super) struct Pool {
    shelves: Mutex<Shelves>,
    idle_limit: Duration,
    clock: Clock,
}

impl Connection {
    pub(super) fn new(sender: SendRequest<Full<Bytes>>, heard: Arc<AtomicBool>, clock: Clock) -> Self {
        Self {
            sender,
            heard,
            reused: false,
            opened: clock.start(),
        }
    }
}

impl Pool {
    /// A pool whose connections are closed after `idle_limit` without use.
    pub(super) fn new(idle_limit: Duration, clock: Clock) -> Arc<Self> {
        Arc::new(Self {
            shelves: Mutex::default(),
            idle_limit,
            clock,
        })
    }

    /// The connection to `target` that was used last, if one is still good.
    pub(super) fn take(&self, target: &TargetKey) -> Option<Connection> {
        let mut shelves = self.shelves.lock();
        let shelves = &mut *shelves;
        let shelf = shelves.by_target.get_mut(target)?;
        while let Some(idle) = shelf.pop() {
            shelves.count -= 1;
            if idle.is_usable() {
                return Some(idle.connection);
            }
        }
        None
    }

    /// Keeps `connection` for the next request to `target`, but no longer than `hint`, what the other side said.
    pub(super) fn put(
        self: &Arc<Self>,
        target: &TargetKey,
        mut connection: Connection,
        hint: Option<Duration>,
    ) {
        let limit = hint.map_or(self.idle_limit, |hint| hint.min(self.idle_limit));
        if limit.is_zero() || connection.opened.elapsed() >= MAX_AGE {
            return;
        }
        connection.reused = true;
        let idle = Idle {
            connection,
            since: self.clock.start(),
            limit,
        };
        let mut shelves = self.shelves.lock();
        let shelves = &mut *shelves;
        if shelves.count >= MAX_IDLE {
            return;
        }
        match shelves.by_target.get_mut(target) {
            Some(shelf) if shelf.len() >= MAX_IDLE_PER_TARGET => return,
            Some(shelf) => shelf.push(idle),
            None => {
                shelves.by_target.insert(target.clone(), vec![idle]);
            }
        }
        shelves.count += 1;
        if !shelves.swept {
            shelves.swept = true;
            tokio::spawn(sweep(Arc::downgrade(self), self.idle_limit / 4));
        }
    }

    /// Closes what is no longer good; whether anything is left.
    fn close_unusable(&self) -> bool {
        let mut shelves = self.shelves.lock();
        let shelves = &mut *shelves;
        shelves.count = 0;
        shelves.by_target.retain(|_, shelf| {
            shelf.retain(Idle::is_usable);
            shelves.count += shelf.len();
            !shelf.is_empty()
        });
        shelves.swept = shelves.count > 0;
        shelves.swept
    }
}

/// Closes connections whose time is up, until none is left; the next one that is kept starts it again.
async fn sweep(pool: Weak<Pool>, interval: Duration) {
    loop {
        tokio::time::sleep(interval.max(Duration::from_millis(10))).await;
        if !pool.upgrade().is_some_and(|pool| pool.close_unusable()) {
            return;
        }
    }
}
