//! The admin and API listeners.

mod text;
pub mod wire;
