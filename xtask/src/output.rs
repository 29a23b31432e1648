//! Owns the one place where xtask speaks, and the tree it speaks of. It must not know what is said.

use std::path::{Path, PathBuf};

/// Says one line.
#[expect(clippy::print_stdout, reason = "this is the program's output")]
pub(crate) fn say(line: &str) {
    println!("{line}");
}

/// Says one line to whoever waits for the end.
#[expect(clippy::print_stderr, reason = "this is the program's last word")]
pub(crate) fn complain(line: &str) {
    eprintln!("{line}");
}

/// The root of the workspace.
pub(crate) fn root() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own).to_owned()
}

/// Says what is wrong, one line each, and fails if anything is.
pub(crate) fn conclude(name: &str, faults: &[String]) -> anyhow::Result<()> {
    for fault in faults {
        say(&format!("{name}: {fault}"));
    }
    if !faults.is_empty() {
        anyhow::bail!("{name}: {} to put right", count(faults.len(), "fault"));
    }
    say(&format!("{name}: ok"));
    Ok(())
}

/// `1 fault`, `2 faults`.
fn count(number: usize, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}
