//! What commands print: data to standard output, talk to standard error.
//!
//! Owns every write to the two streams. Must not know what is said.

/// A line of data, for people or programs, to standard output.
pub fn data(line: &str) {
    anstream::println!("{line}");
}

/// A line of talk, for people, to standard error.
pub fn talk(line: &str) {
    anstream::eprintln!("{line}");
}

/// A line of talk that replaces the one before it on a terminal.
pub fn talk_over(line: &str) {
    anstream::eprint!("\r{line}");
}
