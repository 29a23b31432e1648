//! `hookfast backup`: a consistent copy of the store while the server runs.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use serde_json::{Value, json};

use super::connection::{Connection, block_on};
use super::output;

/// Has the server write a consistent copy of its store to a new file on its machine.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  hookfast backup /backups/hookfast-$(date +%F).db

The encryption key (secret.key) is not in it: keep a copy of it elsewhere.")]
pub(super) struct BackupArgs {
    #[command(flatten)]
    connection: Connection,
    /// The new file, on the machine of the server.
    file: PathBuf,
}

pub(super) fn run(args: &BackupArgs) -> anyhow::Result<()> {
    let client = args.connection.client()?;
    let file = std::path::absolute(&args.file).context("the file has no absolute path")?;
    let body = json!({ "file": file });
    block_on(async { Ok(client.post::<Value>("/api/v1/backups", &body).await?) })?;
    output::line(file.display())?;
    output::talk("the encryption key is not in it: keep a copy of that elsewhere");
    Ok(())
}
