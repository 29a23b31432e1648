//! The program `hookfast`.
//!
//! Owns nothing but the way from the command line to the command. What the program is made of stands in
//! `lib.rs`, so that tests can use the same pieces.

fn main() -> std::process::ExitCode {
    hookfast::cli::run()
}
