//! The outbox: what it sends, to whom it may promise it, and whether they want it.
//!
//! Owns the trigger types, who is told of a destination, the form and size of a notification, the mock payloads and the challenge. All but the
//! challenge is a function of its arguments: no sockets, no store, no clock. Who publishes and who delivers calls it.

pub mod catalogue;
pub mod challenge;
pub mod compress;
pub mod envelope;
mod members;
pub mod mock;
pub mod own_type;
pub mod published;
pub mod recipients;
mod truncate;
