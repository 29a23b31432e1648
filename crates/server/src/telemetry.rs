//! Metrics and logs.
//!
//! Owns the counters that `/metrics` shows and the form of the log. Must not see bodies, secrets or
//! signatures, and never uses what a sender chose (ids, types, paths) as a label.

use std::io::IsTerminal;
use std::sync::Arc;

use anyhow::Context;
use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::prelude::*;

use crate::config::LogFormat;

/// The labels of what a source received.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub struct Received {
    /// The source's name; empty where none was named that exists.
    pub source: String,
    /// What became of it: `accepted`, `repeat`, `quarantined`, `handshake` or a cause of refusal.
    pub result: &'static str,
}

/// The labels of an attempt.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub struct Attempted {
    /// The destination's name.
    pub destination: String,
    /// What became of the delivery: `delivered`, `retrying`, `rejected`, `dead`, `stale`.
    pub result: &'static str,
}

/// The labels of a notice by e-mail.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub struct Mailed {
    /// What became of it: `sent`, `deferred`, `refused`, or `unavailable` where the server could not be used.
    pub result: &'static str,
}

/// Every metric. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
    /// Requests to sources, by source and result.
    pub received: Family<Received, Counter>,
    /// From the whole request read to its answer, in seconds, for accepted events.
    pub ack_seconds: Histogram,
    /// Attempts, by destination and result.
    pub attempts: Family<Attempted, Counter>,
    /// From accepted to delivered, in seconds.
    pub delivery_seconds: Histogram,
    /// Notices by e-mail, by result.
    pub mails: Family<Mailed, Counter>,
}

impl Metrics {
    /// All metrics, at zero.
    #[must_use]
    pub fn new() -> Self {
        let seconds = || Histogram::new(exponential_buckets(0.000_25, 2.0, 20));
        let metrics = Self {
            registry: Arc::new(Mutex::new(Registry::with_prefix("hookfast"))),
            received: Family::default(),
            ack_seconds: seconds(),
            attempts: Family::default(),
            delivery_seconds: seconds(),
            mails: Family::default(),
        };
        let mut registry = metrics.registry.lock();
        registry.register(
            "received",
            "Requests to sources, by what became of them",
            metrics.received.clone(),
        );
        registry.register(
            "ack_seconds",
            "From the request read to its answer",
            metrics.ack_seconds.clone(),
        );
        registry.register(
            "attempts",
            "Attempts, by what became of the delivery",
            metrics.attempts.clone(),
        );
        registry.register(
            "delivery_seconds",
            "From accepted to delivered",
            metrics.delivery_seconds.clone(),
        );
        registry.register(
            "mails",
            "Notices by e-mail, by what became of them",
            metrics.mails.clone(),
        );
        drop(registry);
        metrics
    }

    /// The metrics in the `OpenMetrics` text format.
    ///
    /// # Errors
    /// Never in practice: writing to a string does not fail.
    pub fn encode(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry.lock())?;
        Ok(text)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// Starts the log on standard error. `filter` is a level (`info`), or one with others for parts of the program
/// (`info,hookfast::ingest=debug`).
///
/// # Errors
/// Where the filter cannot be read.
pub fn start_log(filter: &str, format: LogFormat) -> anyhow::Result<()> {
    let filter: Targets = filter
        .parse()
        .with_context(|| format!("`{filter}` is not a log filter"))?;
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        // A log that cannot be written, for example because its disk is full, would else be told to the same
        // place, and that panics: no request ends because nobody can read about it.
        .log_internal_errors(false);
    let log = tracing_subscriber::registry().with(filter);
    match format {
        LogFormat::Text => log.with(lines.with_ansi(std::io::stderr().is_terminal())).init(),
        LogFormat::Json => log.with(lines.json().flatten_event(true)).init(),
    }
    Ok(())
}
