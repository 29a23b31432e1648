//! Owns the two streams of the process: data goes to standard output, talk to standard error.
//! It must not know what is written.

use std::io::{Result, Write, stderr, stdout};

/// Writes `text` and a line end to standard output at once, so that a reader behind a pipe sees it.
pub(crate) fn line(text: &str) -> Result<()> {
    let mut stream = stdout().lock();
    writeln!(stream, "{text}")?;
    stream.flush()
}

/// Tells the person at the terminal something; a closed terminal is no reason to stop.
pub(crate) fn talk(text: &str) {
    let _ = writeln!(stderr().lock(), "{text}");
}
