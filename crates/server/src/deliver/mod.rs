//! The delivery side: claims, sends, settles.

mod address;
mod connect;
mod pool;
pub mod request;
pub mod resolve;
pub mod sign;
pub mod transport;
