//! Fuzzing of every parser that sees bytes from outside.
//!
//! Owns the targets: each takes any bytes, gives them to the real parser, and panics where a promise is broken. Most
//! promise more than not to crash. Must not know who makes the bytes: libFuzzer by `cargo xtask fuzz`, or the test that
//! gives each target what lies in its corpus.

use std::sync::OnceLock;

mod targets;

/// One target: its name, which is also that of its folder in `corpus/`, and what it does with bytes.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Lower-case words with dashes.
    pub name: &'static str,
    /// What it does with bytes. Panics where a promise is broken.
    pub run: fn(&[u8]),
}

/// All of them.
pub const TARGETS: &[Target] = &[
    target("signature", targets::signature::verify),
    target("generic-scheme", targets::signature::generic),
    target("handshake", targets::signature::handshake),
    target("signing", targets::signature::sign),
    target("scan", targets::notification::scan),
    target("extract", targets::notification::extract),
    target("gzip", targets::notification::gzip),
    target("forwarded-for", targets::notification::forwarded_for),
    target("header-block", targets::notification::header_block),
    target("envelope", targets::envelope::publish),
    target("truncate", targets::envelope::truncate),
    target("configuration", targets::text::configuration),
    target("words", targets::text::words),
];

const fn target(name: &'static str, run: fn(&[u8])) -> Target {
    Target { name, run }
}

/// The variable that names the target of [`chosen`].
pub const VARIABLE: &str = "HOOKFAST_FUZZ_TARGET";

static CHOSEN: OnceLock<Target> = OnceLock::new();

/// Looks up the target that [`VARIABLE`] names.
///
/// # Panics
/// Where it names none, with all names.
pub fn choose() {
    let name = std::env::var(VARIABLE).unwrap_or_default();
    let found = TARGETS.iter().find(|target| target.name == name);
    let names: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
    let Some(found) = found else {
        panic!("{VARIABLE} is `{name}`; set it to one of {}", names.join(", "))
    };
    CHOSEN.get_or_init(|| *found);
}

/// Runs the target of [`choose`] on `bytes`.
///
/// # Panics
/// Where a promise is broken.
pub fn chosen(bytes: &[u8]) {
    if let Some(target) = CHOSEN.get() {
        (target.run)(bytes);
    }
}
