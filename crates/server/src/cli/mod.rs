//! The command line.

use std::process::ExitCode;

/// Runs the command that the command line names.
#[must_use]
pub fn run() -> ExitCode {
    ExitCode::SUCCESS
}
