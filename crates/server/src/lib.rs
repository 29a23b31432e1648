//! The server and the command line of Hookfast: everything that acts.
//!
//! Owns sockets, files, tasks, clocks and the shape of every surface. Decides nothing about events and
//! deliveries: those decisions are the engine's, and what must be remembered is the store's.

pub mod admin;
pub mod app;
pub mod budget;
pub mod cli;
pub mod client;
pub mod clock;
pub mod config;
pub mod deliver;
pub mod inbox;
pub mod ingest;
pub mod nearest;
pub mod node;
pub mod notify;
pub mod open_files;
pub mod outbox;
pub mod settings;
pub mod snapshot;
pub mod telemetry;
pub mod tls;
pub mod units;
pub mod upkeep;
pub mod vault;
