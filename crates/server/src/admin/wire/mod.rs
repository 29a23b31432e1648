//! The JSON of the HTTP API: what is asked and what is answered.
//!
//! Owns the names and shapes of fields, for the handlers and for the command line alike. Must not know the
//! store or the engine beyond the conversions in `convert`: stored forms may change, these may only grow.
//! What is asked refuses unknown fields; what is answered may gain some.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

mod nylas;
mod outbox;
mod pull;
mod setup;
mod traffic;

pub use self::nylas::*;
pub use self::outbox::*;
pub use self::pull::*;
pub use self::setup::*;
pub use self::traffic::*;
pub use super::text::{NoTime, Span, Time};

/// A page of a list.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct List<T> {
    /// The items.
    pub data: Vec<T>,
    /// Where the next page begins: give it as `cursor`. Null on the last page.
    pub next_cursor: Option<String>,
}

/// What went wrong (RFC 9457).
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct Problem {
    /// Where the code is explained.
    pub r#type: String,
    /// The code's title.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// The code: stable, for programs.
    pub code: String,
    /// What happened here, and what to do about it.
    pub detail: String,
    /// The answer's `x-request-id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

/// A header of a notification or an answer. What is not UTF-8 is replaced.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
pub struct Header {
    /// The name as it came.
    pub name: String,
    /// The value; `[redacted]` where it is or may be a secret.
    pub value: String,
}

/// A listener of a node.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct Listener {
    /// `listen`, `admin` or `api`.
    pub name: String,
    /// Where it accepts.
    pub address: String,
}

/// A node.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct Node {
    /// Its id, new with every start.
    pub id: String,
    /// Its version.
    pub version: String,
    /// When it started.
    pub started_at: Time,
    /// For how long it has been running.
    pub uptime: Span,
    /// Where it accepts.
    pub listeners: Vec<Listener>,
}

/// Counts over everything stored, as far as the key may see.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct Stats {
    /// Events, over all applications; null for a key of one application.
    pub events: Option<EventStats>,
    /// Deliveries by state.
    pub deliveries: BTreeMap<DeliveryState, u64>,
    /// The destinations.
    pub destinations: Vec<DestinationStats>,
    /// Notifications in quarantine, by source name.
    pub quarantine: BTreeMap<String, u64>,
    /// The disk; null for a key of one application.
    pub disk: Option<DiskStats>,
}

/// Counts of events.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct EventStats {
    /// Events stored.
    pub stored: u64,
    /// Repeats absorbed since the store was made.
    pub repeats: u64,
}

/// Counts of one destination.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct DestinationStats {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Deliveries by state.
    pub counts: BTreeMap<DeliveryState, u64>,
    /// When the oldest event that still waits for it was accepted.
    pub oldest_waiting_at: Option<Time>,
}

/// The disk of the store.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct DiskStats {
    /// Bytes in use.
    pub used_bytes: u64,
    /// Bytes free for the store.
    pub free_bytes: u64,
}
