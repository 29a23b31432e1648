//! The command line.

pub mod demo;
pub mod output;
pub mod serve;

use std::process::ExitCode;

use clap::Parser;

/// Sees to it that no webhook is ever lost.
#[derive(Debug, Parser)]
#[command(name = "hookfast", version)]
enum Command {
    /// Run the server.
    Serve(serve::Arguments),
    /// See the whole story on this machine, in under a minute.
    Demo(demo::Arguments),
    /// The application of the demo.
    #[command(hide = true)]
    DemoApplication(demo::ApplicationArguments),
}

/// Runs the command that the command line names.
#[must_use]
pub fn run() -> ExitCode {
    let done = match Command::parse() {
        Command::Serve(arguments) => serve::run(arguments),
        Command::Demo(arguments) => in_runtime(demo::run(arguments)),
        Command::DemoApplication(arguments) => in_runtime(demo::run_application(arguments)),
    };
    done.unwrap_or_else(|error| {
        output::talk(&format!("error: {error:#}"));
        ExitCode::FAILURE
    })
}

fn in_runtime(command: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(command)
}
