//! The decisions of Hookfast, as pure code.
//!
//! Owns what an event, a destination and a delivery are, where an event goes, what an attempt's end means,
//! when the next attempt is due, how healthy a destination is, and how many attempts may be in flight.
//! Must not know clocks, chance, sockets, files, databases or tasks: the time is an argument, chance is a
//! hash, and everything to be done is returned to the caller.

pub mod delivery;
pub mod dispatch;
pub mod event;
pub mod health;
pub mod id;
pub mod mutant;
pub mod outcome;
pub mod retry;
pub mod route;
pub mod settle;
pub mod time;
pub mod topology;
