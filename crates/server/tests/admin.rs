//! The HTTP API over real sockets, on the memory store (SPEC P6, I7, I12, I16, I19, O12).

#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops")]

#[path = "admin/access.rs"]
mod access;
#[path = "admin/document.rs"]
mod document;
#[path = "admin/keys.rs"]
mod keys;
#[path = "admin/nouns.rs"]
mod nouns;
#[path = "admin/nylas.rs"]
mod nylas;
#[path = "admin/pull.rs"]
mod pull;
#[path = "admin/receiver.rs"]
mod receiver;
#[path = "admin/replay.rs"]
mod replay;
#[path = "admin/requests.rs"]
mod requests;
#[path = "admin/stream.rs"]
mod stream;
#[path = "admin/support.rs"]
mod support;
#[path = "admin/world.rs"]
mod world;
