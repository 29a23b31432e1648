//! The command line as people run it: help, usage, exit codes, offline commands, and each command that talks to
//! a server against a real one.

mod support;

#[path = "cli/offline.rs"]
mod offline;
#[path = "cli/online.rs"]
mod online;
#[path = "cli/outbox.rs"]
mod outbox;
#[path = "cli/program.rs"]
mod program;
