//! The program `hookfast`.
//!
//! Owns nothing but the way from the command line to the command. What the program is made of stands in
//! `lib.rs`, so that tests can use the same pieces. Built with the feature `mutants`, it carries the deliberate
//! bug that `HOOKFAST_MUTANT` names.

fn main() -> std::process::ExitCode {
    #[cfg(feature = "mutants")]
    if let Ok(name) = std::env::var("HOOKFAST_MUTANT")
        && let Err(error) = hookfast_engine::mutant::activate(&name)
    {
        panic!("HOOKFAST_MUTANT: {error}");
    }
    hookfast::cli::run()
}
