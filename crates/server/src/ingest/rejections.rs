//! Requests that were refused (SPEC I19).
//!
//! Owns the way from a refusal to the store: repeats within a second become one row with a count, and no flood
//! makes it grow past its bound. Must not see bodies, header values or secrets.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hookfast_engine::id::SourceId;
use hookfast_engine::time::Timestamp;
use hookfast_store::Rejected;
use parking_lot::Mutex;

use super::cause::Cause;
use crate::node::Node;

/// The most rows that wait for the next write; what is refused beyond them is counted by the metrics alone.
const MAX_ROWS: usize = 1_000;
/// The longest path that is kept, in bytes.
const MAX_PATH_BYTES: usize = 256;
/// The longest method that is kept, in bytes.
const MAX_METHOD_BYTES: usize = 32;
const WRITE_EVERY: Duration = Duration::from_secs(1);

/// Refused requests on their way to the store.
#[derive(Debug, Default)]
pub struct Rejections {
    rows: Mutex<HashMap<Key, Rejected>>,
}

#[derive(Debug, Eq, Hash, PartialEq)]
struct Key {
    cause: Cause,
    source: Option<SourceId>,
    peer: IpAddr,
}

/// A request that was refused.
#[derive(Clone, Debug)]
pub struct Refused<'a> {
    /// When.
    pub at: Timestamp,
    /// The source, where one was named that exists.
    pub source: Option<SourceId>,
    /// Why.
    pub cause: Cause,
    /// The status it was answered with.
    pub status: u16,
    /// More, in words, without bodies or secrets.
    pub detail: &'a str,
    /// Who sent it.
    pub peer: IpAddr,
    /// The request's method; empty where none could be read.
    pub method: &'a str,
    /// The request's path without its query; empty where none could be read.
    pub path: &'a str,
}

impl Rejections {
    /// Takes one, to be written within a second.
    pub fn add(&self, refused: &Refused<'_>) {
        let key = Key {
            cause: refused.cause,
            source: refused.source,
            peer: refused.peer,
        };
        let mut rows = self.rows.lock();
        let full = rows.len() >= MAX_ROWS;
        match rows.entry(key) {
            Entry::Occupied(mut row) => row.get_mut().count += 1,
            Entry::Vacant(_) if full => {}
            Entry::Vacant(place) => {
                place.insert(refused.row());
            }
        }
    }

    /// Everything taken since the last call, oldest first.
    #[must_use]
    pub fn take(&self) -> Vec<Rejected> {
        let rows = std::mem::take(&mut *self.rows.lock());
        let mut rows: Vec<_> = rows.into_values().collect();
        rows.sort_by_key(|row| row.at);
        rows
    }
}

impl Refused<'_> {
    fn row(&self) -> Rejected {
        Rejected {
            at: self.at,
            source: self.source,
            status: self.status,
            cause: self.cause.code().to_owned(),
            detail: self.detail.to_owned(),
            peer: self.peer.to_string(),
            method: cut(self.method, MAX_METHOD_BYTES).to_owned(),
            path: cut(self.path, MAX_PATH_BYTES).to_owned(),
            count: 1,
        }
    }
}

/// The start of `text`, at most `bytes` long, ending between two characters.
fn cut(text: &str, bytes: usize) -> &str {
    text.get(..text.floor_char_boundary(bytes)).unwrap_or_default()
}

/// Writes refused requests to the store, once a second, until the server stops and then once more.
pub async fn run(node: Arc<Node>) {
    loop {
        let stopped = tokio::time::timeout(WRITE_EVERY, node.stopping.cancelled()).await;
        write(&node).await;
        if stopped.is_ok() {
            return;
        }
    }
}

/// Writes what waits. Where the store does not take it, it is lost: the metrics have counted it.
pub async fn write(node: &Node) {
    let rows = node.rejections.take();
    if rows.is_empty() {
        return;
    }
    if let Err(error) = node.store.record_rejected(rows).await {
        tracing::debug!(%error, "refused requests could not be written");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(cause: Cause, peer: u32) -> Refused<'static> {
        Refused {
            at: Timestamp::from_secs(i64::from(peer)),
            source: None,
            cause,
            status: cause.status().as_u16(),
            detail: "",
            peer: IpAddr::from(peer.to_be_bytes()),
            method: "POST",
            path: "/in/x",
        }
    }

    #[test]
    fn repeats_of_one_peer_are_one_row_with_a_count() {
        let rejections = Rejections::default();
        for _ in 0..3 {
            rejections.add(&refused(Cause::UnknownSource, 2));
        }
        rejections.add(&refused(Cause::BodyTooLarge, 2));
        rejections.add(&refused(Cause::UnknownSource, 1));
        let rows = rejections.take();
        let mut counts: Vec<_> = rows.iter().map(|row| (row.peer.as_str(), row.count)).collect();
        counts.sort_unstable();
        assert_eq!(counts, [("0.0.0.1", 1), ("0.0.0.2", 1), ("0.0.0.2", 3)]);
        assert_eq!(rows[0].peer, "0.0.0.1");
        assert_eq!(rejections.take(), []);
    }

    #[test]
    fn a_flood_from_many_peers_stays_within_the_bound() {
        let rejections = Rejections::default();
        for peer in 0..5_000 {
            rejections.add(&refused(Cause::UnknownSource, peer));
        }
        assert_eq!(rejections.take().len(), MAX_ROWS);
    }

    #[test]
    fn a_long_path_is_cut_between_two_characters() {
        let long = "é".repeat(200);
        let request = Refused {
            path: &long,
            ..refused(Cause::UnknownPath, 1)
        };
        assert_eq!(request.row().path.len(), 256);
        let odd = format!("/{long}");
        let request = Refused {
            path: &odd,
            ..request
        };
        assert_eq!(request.row().path.len(), 255);
    }
}
