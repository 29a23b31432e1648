//! The delivery side: claims, sends, settles.

pub mod sign;
