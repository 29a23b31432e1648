//! `hookfast serve`: runs the server.
//!
//! Owns the process: its runtime, its log, its signals and its exit code. What the server is made of stands in
//! `app`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::output;
use crate::app::{App, Stopped};
use crate::clock::Clock;
use crate::config::{Config, Flags};
use crate::open_files;
use crate::telemetry;

/// Arguments of `hookfast serve`.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// The configuration file; ./hookfast.toml where it is there.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The data directory [default: ./hookfast-data].
    #[arg(long, value_name = "DIR")]
    data: Option<String>,
    /// A PostgreSQL database instead of the data directory.
    #[arg(long, value_name = "URL")]
    database: Option<String>,
    /// Where webhooks come in [default: 0.0.0.0:8080].
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// Where administration comes in [default: 127.0.0.1:8081].
    #[arg(long, value_name = "ADDR")]
    admin: Option<String>,
    /// Where the API for scoped keys comes in [default: nowhere].
    #[arg(long, value_name = "ADDR")]
    api: Option<String>,
    /// Check the configuration and exit.
    #[arg(long)]
    check: bool,
}

/// Runs the server until it is told to stop.
///
/// # Errors
/// Where it cannot start.
pub fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let flags = Flags {
        config: arguments.config,
        data: arguments.data,
        database: arguments.database,
        listen: arguments.listen,
        admin: arguments.admin,
        api: arguments.api,
    };
    let mut config = Config::load(&flags)?;
    if arguments.check {
        output::talk("the configuration is valid");
        return Ok(ExitCode::SUCCESS);
    }
    telemetry::start_log(&config.log, config.log_format)?;
    open_files::provide(&mut config.settings);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start")?;
    let stopped = runtime.block_on(serve(config, flags));
    // Tasks that are still about (a slow reader of a page, say) have nothing left to lose.
    runtime.shutdown_background();
    match stopped? {
        Stopped::Cleanly => Ok(ExitCode::SUCCESS),
        Stopped::Broken(reason) => {
            output::talk(&format!(
                "error: stopped, to start again from what the disk says: {reason}"
            ));
            Ok(ExitCode::FAILURE)
        }
    }
}

async fn serve(config: Config, flags: Flags) -> anyhow::Result<Stopped> {
    let mut signals = Signals::new()?;
    let no_sources = config.declared.sources.is_empty();
    let app = App::start(config, Clock).await?;
    let api = app
        .api
        .map_or_else(String::new, |address| format!(" api={address}"));
    output::data(&format!("ready listen={} admin={}{api}", app.listen, app.admin));
    if no_sources && app.is_not_set_up() {
        output::talk(
            "there is no source yet; write a configuration with `hookfast init nylas`, or add one now with",
        );
        output::talk("  hookfast source create nylas --provider nylas");
    }
    Ok(app.run(&mut signals, || Config::load(&flags)).await)
}

/// The signals that a server heeds.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

/// What a signal asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Asked {
    /// To stop.
    Stop,
    /// To read the configuration again.
    Reload,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for the next one.
    pub async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::Stop,
            _ = self.interrupt.recv() => Asked::Stop,
            _ = self.hang_up.recv() => Asked::Reload,
        }
    }
}
