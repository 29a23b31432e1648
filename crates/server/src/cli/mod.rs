//! The command line.
//!
//! Owns the commands' names and arguments, one file for each noun, and the step from what a command found to
//! its exit code: 0 done, 1 a fault, 2 wrong usage. Must not hold what more than the command line needs.

mod application;
mod backup;
mod check;
mod config;
mod connection;
mod delivery;
pub mod demo;
mod destination;
mod event;
mod init;
mod key;
mod node;
pub mod output;
mod publish;
mod quarantine;
mod rejected;
mod replay;
pub mod serve;
mod shell;
mod source;
mod tail;
mod verify;
mod webhook;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

/// No webhook is ever lost: durable before the 200, delivered whatever happens.
#[derive(Debug, Parser)]
#[command(
    name = "hookfast",
    version,
    propagate_version = true,
    max_term_width = 110,
    arg_required_else_help = true,
    after_help = "Examples:
  hookfast init nylas          write hookfast.toml for Nylas, and say what to paste where
  hookfast serve               run the server
  hookfast tail                watch what comes in and where it goes
  hookfast demo --crash        see the whole story on this machine

Exit codes: 0 done, 1 it found a fault or failed, 2 wrong usage."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the server.
    #[command(after_help = "Examples:
  hookfast serve
  hookfast serve --config /etc/hookfast.toml --data /var/lib/hookfast
  hookfast serve --listen 0.0.0.0:9000 --admin 127.0.0.1:9001
  hookfast serve --check

Without --config, hookfast.toml in the working directory is read where it is there. SIGHUP reads it again;
SIGTERM finishes what is in hand and stops.")]
    Serve(serve::Arguments),
    /// Shows the whole story on this machine, in under a minute.
    #[command(after_help = "Examples:
  hookfast demo
  hookfast demo --crash        the server too is killed, and loses nothing")]
    Demo(demo::Arguments),
    /// The application of the demo.
    #[command(hide = true)]
    DemoApplication(demo::ApplicationArguments),
    Init(init::InitArgs),
    Source(source::SourceArgs),
    Destination(destination::DestinationArgs),
    Webhook(webhook::WebhookArgs),
    Application(application::ApplicationArgs),
    Event(event::EventArgs),
    Delivery(delivery::DeliveryArgs),
    Replay(replay::ReplayArgs),
    Quarantine(quarantine::QuarantineArgs),
    Rejected(rejected::RejectedArgs),
    Tail(tail::TailArgs),
    Node(node::NodeArgs),
    Verify(verify::VerifyArgs),
    Key(key::KeyArgs),
    Config(config::ConfigArgs),
    Check(check::CheckArgs),
    Backup(backup::BackupArgs),
    Completions(shell::CompletionsArgs),
    Man(shell::ManArgs),
}

/// Runs the command that the command line names.
#[must_use]
pub fn run() -> ExitCode {
    let command = match Cli::try_parse() {
        Ok(cli) => cli.command,
        Err(error) => {
            // Where nobody reads it, there is nobody to tell.
            drop(error.print());
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match dispatch(command) {
        Ok(code) => code,
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            output::error(format_args!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Serve(args) => return serve::run(args),
        Command::Demo(args) => return in_runtime(demo::run(args)),
        Command::DemoApplication(args) => return in_runtime(demo::run_application(args)),
        Command::Verify(args) => return verify::run(&args),
        Command::Config(args) => return config::run(&args),
        Command::Check(args) => return check::run(&args),
        Command::Replay(args) => return replay::run(args),
        Command::Delivery(args) => return delivery::run(&args),
        Command::Quarantine(args) => return quarantine::run(args),
        Command::Destination(args) => return destination::run(args),
        Command::Webhook(args) => return webhook::run(args),
        Command::Event(args) => return event::run(args),
        Command::Init(args) => init::run(&args),
        Command::Source(args) => source::run(args),
        Command::Application(args) => application::run(args),
        Command::Rejected(args) => rejected::run(&args),
        Command::Tail(args) => tail::run(&args),
        Command::Node(args) => node::run(&args),
        Command::Key(args) => key::run(args),
        Command::Backup(args) => backup::run(&args),
        Command::Completions(args) => shell::completions(&args),
        Command::Man(args) => shell::man(&args),
    }
    .map(|()| ExitCode::SUCCESS)
}

fn in_runtime(command: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(command)
}

/// Whether whoever read our output, such as `head`, has read enough.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let mut causes = error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>());
    causes.any(|cause| cause.kind() == std::io::ErrorKind::BrokenPipe)
}

/// The whole command line, for completions and the man page.
fn command() -> clap::Command {
    Cli::command()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        command().debug_assert();
    }
}
