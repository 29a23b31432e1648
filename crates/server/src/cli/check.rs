//! `hookfast check`: whether a data directory keeps its promises.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use clap::Args;
use hookfast_store::embedded::{EmbeddedOptions, EmbeddedStore};
use hookfast_store::{NoSlots, Store as _};

use super::connection::{USUAL_DATA, block_on};
use super::output;
use crate::clock::Clock;

/// The database in a data directory.
const DATABASE: &str = "hookfast.db";

/// Reads everything in a data directory and reports each broken promise. No server may be running on it.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  hookfast check
  hookfast check --data /var/lib/hookfast")]
pub(super) struct CheckArgs {
    /// The data directory.
    #[arg(long, default_value = USUAL_DATA, value_name = "DIR")]
    data: PathBuf,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    // Opening would make a store where there is none.
    if !args.data.join(DATABASE).exists() {
        bail!(
            "{} holds no data; name the data directory with --data",
            args.data.display()
        );
    }
    let store = EmbeddedStore::open(EmbeddedOptions::new(&args.data), Arc::new(NoSlots), Clock.now())
        .with_context(|| format!("cannot open {}", args.data.display()))?;
    let found = block_on(async {
        let found = store.check().await?;
        store.close().await;
        Ok(found)
    })?;
    if args.json {
        output::json(&found)?;
    } else if found.is_empty() {
        output::line(format_args!("{}: every promise is kept", args.data.display()))?;
    } else {
        for broken in &found {
            output::line(output::clean(broken))?;
        }
    }
    Ok(if found.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
