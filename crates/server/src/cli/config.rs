//! `hookfast config`: what a server would be started with.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::output;
use crate::config::{Config, Flags, Mistakes, environment, show};

/// Checks and shows the configuration.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  hookfast config check
  hookfast config check --config /etc/hookfast.toml
  hookfast config show")]
pub(super) struct ConfigArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Reports every mistake in the file and the environment.
    #[command(
        after_help = "Examples:\n  hookfast config check\n  hookfast config check --config hookfast.toml"
    )]
    Check(Which),
    /// Prints the configuration that counts, and where it comes from. Secrets are masked.
    #[command(
        after_help = "Examples:\n  hookfast config show\n  hookfast config show --json | jq .server.listen"
    )]
    Show {
        #[command(flatten)]
        which: Which,
        /// Prints JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args, Debug)]
struct Which {
    /// The file; hookfast.toml in the working directory where it is there.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Which {
    fn flags(&self) -> Flags {
        Flags {
            config: self.config.clone(),
            ..Flags::default()
        }
    }
}

pub(super) fn run(args: &ConfigArgs) -> anyhow::Result<ExitCode> {
    let environment = environment();
    let shown = match &args.command {
        ConfigCommand::Check(which) => {
            Config::read(&which.flags(), &environment).map(|config| output::line(said(&config)))
        }
        ConfigCommand::Show { which, json: false } => {
            show::as_toml(&which.flags(), &environment).map(output::line)
        }
        ConfigCommand::Show { which, json: true } => {
            let shown = show::as_json(&which.flags(), &environment);
            return shown.map_or_else(
                |mistakes| Ok(report(&mistakes)),
                |json| {
                    output::json(&json)?;
                    Ok(ExitCode::SUCCESS)
                },
            );
        }
    };
    match shown {
        Ok(printed) => {
            printed?;
            Ok(ExitCode::SUCCESS)
        }
        Err(mistakes) => Ok(report(&mistakes)),
    }
}

fn said(config: &Config) -> String {
    let file = match &config.file {
        Some(file) => file.display().to_string(),
        None => "no file, so the defaults".to_owned(),
    };
    let declared = &config.declared;
    let counts = [
        (declared.sources.len(), "source", "sources"),
        (declared.destinations.len(), "destination", "destinations"),
        (declared.policies.len(), "policy", "policies"),
        (declared.triggers.len(), "trigger type", "trigger types"),
    ];
    let counts = counts.map(|(count, one, many)| format!("{count} {}", if count == 1 { one } else { many }));
    format!("{file}: no mistakes ({})", counts.join(", "))
}

fn report(mistakes: &Mistakes) -> ExitCode {
    output::error(mistakes);
    ExitCode::FAILURE
}
