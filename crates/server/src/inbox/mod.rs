//! What happens to events after they came in, beside delivering them.

pub mod replay;
