//! The public listener: takes webhooks in, durable before the 200.

pub mod rejections;
pub mod verify;
