//! The counters of one source that every accepted request counts up.
//!
//! Owns finding them in the metrics once instead of each time. Must not know requests.

use std::sync::OnceLock;

use prometheus_client::metrics::counter::Counter;

use crate::telemetry::{Metrics, Received};

/// A source's counters of the common results.
#[derive(Debug, Default)]
pub struct Meter {
    accepted: OnceLock<Counter>,
    repeats: OnceLock<Counter>,
}

impl Meter {
    /// Counts an accepted event of the source `name`.
    pub fn accepted(&self, metrics: &Metrics, name: &str) {
        self.accepted
            .get_or_init(|| counter(metrics, name, "accepted"))
            .inc();
    }

    /// Counts a repeat.
    pub fn repeat(&self, metrics: &Metrics, name: &str) {
        self.repeats
            .get_or_init(|| counter(metrics, name, "repeat"))
            .inc();
    }
}

/// The counter of a source's `result`; the name is empty where none was named that exists.
#[must_use]
pub fn counter(metrics: &Metrics, source: &str, result: &'static str) -> Counter {
    let labels = Received {
        source: source.to_owned(),
        result,
    };
    metrics.received.get_or_create(&labels).clone()
}
