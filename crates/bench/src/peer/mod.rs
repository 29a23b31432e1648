//! Owns the stand-ins that Hookfast is measured beside; each runs as a process of its own.
//! They must not know that they are measured.

pub(crate) mod bare;
pub(crate) mod naive;
pub(crate) mod sink;
