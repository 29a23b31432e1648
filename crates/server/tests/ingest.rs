//! The public listener, over real sockets (SPEC I1 to I8, I19, P4, P5).

#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops")]

#[path = "ingest/support.rs"]
mod support;

#[path = "ingest/accepting.rs"]
mod accepting;
#[path = "ingest/hostile.rs"]
mod hostile;
#[path = "ingest/limits.rs"]
mod limits;
#[path = "ingest/quarantine.rs"]
mod quarantine;
#[path = "ingest/stopping.rs"]
mod stopping;
#[path = "ingest/unruly.rs"]
mod unruly;
