//! Owns the proof that nobody says what is not theirs to say (SPEC P6, D5): canary secrets, bodies, headers and queries
//! are put through every route of the binary, its files, its commands and their refusals, with its log at its most
//! talkative; then everything that it said is searched for them.
//! It must not know how anything is kept out: it sees processes, sockets and files. Of the program's crates it knows the
//! list of causes, to say that each was provoked.

mod support;

#[path = "canary/canaries.rs"]
mod canaries;
#[path = "canary/commands.rs"]
mod commands;
#[path = "canary/record.rs"]
mod record;
#[path = "canary/traffic.rs"]
mod traffic;
#[path = "canary/walk.rs"]
mod walk;
#[path = "canary/world.rs"]
mod world;

use world::World;

/// The whole story, with a log of this form, and everything that was said searched.
fn tell(log_format: &str) {
    let mut world = World::start(log_format);
    traffic::good(&mut world);
    traffic::refused(&mut world);
    traffic::replaced_in_quarantine(&mut world);
    walk::both_documents(&mut world);
    commands::every_noun(&mut world);
    commands::configuration(&mut world);
    traffic::while_stopping(&mut world);
    world.judge();
}

#[test]
fn no_canary_shows_anywhere_with_a_log_of_lines() {
    tell("text");
}

#[test]
fn no_canary_shows_anywhere_with_a_log_of_json() {
    tell("json");
}
