//! `hookfast backup`: a consistent copy of the store while the server runs.

use std::path::PathBuf;

use anyhow::{Context as _, anyhow};
use clap::Args;

use super::connection::{Connection, block_on};
use super::output;
use crate::admin::wire;

const PATH: &str = "/api/v1/backups";

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
    let client = args.connection.client()?.patient();
    let file = std::path::absolute(&args.file).context("the file has no absolute path")?;
    let file = file.into_os_string().into_string();
    let file = file.map_err(|_| anyhow!("the file's name is not UTF-8: give it another"))?;
    let asked = wire::Backup { file };
    let written: wire::Backup = block_on(async { Ok(client.post(PATH, &asked).await?) })?;
    output::line(written.file)?;
    output::talk("the encryption key is not in it: keep a copy of that elsewhere");
    Ok(())
}
