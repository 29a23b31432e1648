//! The delivery side: claims what is due, sends it, settles what came of it.
//!
//! Owns the way of a claimed delivery to its destination and back into the store. Decides nothing: when to
//! claim is the dispatcher's decision, what an outcome means is the settlement's, both in the engine.

mod address;
mod attempt;
pub mod connect;
mod driver;
mod pool;
mod published;
pub mod request;
pub mod resolve;
pub mod sign;
pub mod transport;

pub use driver::{Deliveries, Driver};
