//! The outbox: what it sends and to whom it may promise it.
//!
//! Owns the trigger types, the form and size of a notification and the mock payloads. Everything here is a
//! function of its arguments: no sockets, no store, no clock. Who publishes and who delivers calls it.

pub mod catalogue;
pub mod compress;
pub mod envelope;
mod members;
pub mod mock;
mod published;
mod truncate;
