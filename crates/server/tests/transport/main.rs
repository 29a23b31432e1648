//! One attempt against real sockets: every way it can end, and what goes over the wire.
//!
//! | module | covers |
//! |---|---|
//! | `wire` | the request, byte for byte |
//! | `answers` | what is made of an answer |
//! | `failures` | every way in which there is no answer |
//! | `connections` | which are kept, and the race that this brings along |
//! | `addresses` | where Hookfast does not send |
//! | `tls` | whom it speaks TLS with |
//! | `setup` | destinations, events and transports for all of them |

#![expect(clippy::unwrap_used, reason = "what a test sets up must succeed")]

mod addresses;
mod answers;
mod connections;
mod failures;
#[path = "../support/receiver.rs"]
mod receiver;
mod setup;
mod tls;
mod wire;
