//! `hookfast quarantine`: what was not believed, and is kept.

use std::process::ExitCode;

use base64::Engine as _;
use clap::{ArgGroup, Args, Subcommand};
use serde_json::Value;

use super::connection::{Connection, Listing, block_on, decode, print_list, segment};
use super::event::{print_body, print_headers};
use super::output::{self, cell, dim, relative};
use crate::admin::wire;
use crate::client::Query;
use crate::clock::Clock;
use crate::units::size_text;

const PATH: &str = "/api/v1/quarantine";

/// Lists, shows, releases and discards notifications in quarantine.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  hookfast quarantine list
  hookfast quarantine release --source nylas     (after its secret was set right)
  hookfast quarantine discard qrn_019…")]
pub(super) struct QuarantineArgs {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    command: QuarantineCommand,
}

#[derive(Debug, Subcommand)]
enum QuarantineCommand {
    /// Lists notifications in quarantine, newest first.
    #[command(after_help = "Examples:\n  hookfast quarantine list --source nylas")]
    List {
        /// Of this source.
        #[arg(long, value_name = "NAME")]
        source: Option<String>,
        #[command(flatten)]
        listing: Listing,
    },
    /// Shows one notification in quarantine.
    #[command(after_help = "Examples:
  hookfast quarantine show qrn_019…
  hookfast quarantine show qrn_019… --body > notification.json")]
    Show {
        /// Its id.
        id: String,
        /// Prints its raw body alone.
        #[arg(long, conflicts_with = "json")]
        body: bool,
        /// Prints JSON.
        #[arg(long)]
        json: bool,
    },
    /// Verifies notifications again, as of when they came, and accepts those that pass.
    #[command(after_help = "Examples:
  hookfast quarantine release --source nylas
  hookfast quarantine release qrn_019… --ignore-timestamp")]
    Release {
        #[command(flatten)]
        which: Which,
        /// Accepts stale timestamps, where the signature is good.
        #[arg(long)]
        ignore_timestamp: bool,
        /// Prints JSON.
        #[arg(long)]
        json: bool,
    },
    /// Gives notifications up.
    #[command(after_help = "Examples:
  hookfast quarantine discard qrn_019…
  hookfast quarantine discard --source nylas")]
    Discard {
        #[command(flatten)]
        which: Which,
        /// Prints JSON.
        #[arg(long)]
        json: bool,
    },
}

/// Either some by their ids, or all of a source.
#[derive(Args, Debug)]
#[command(group = ArgGroup::new("which").required(true).multiple(false))]
struct Which {
    /// Their ids.
    #[arg(group = "which")]
    ids: Vec<String>,
    /// All of this source.
    #[arg(long, value_name = "NAME", group = "which")]
    source: Option<String>,
}

pub(super) fn run(args: QuarantineArgs) -> anyhow::Result<ExitCode> {
    let connection = args.connection;
    match args.command {
        QuarantineCommand::List { source, listing } => list(&connection, source, &listing)?,
        QuarantineCommand::Show { id, body, json } => show(&connection, &id, body, json)?,
        QuarantineCommand::Release {
            which,
            ignore_timestamp,
            json,
        } => {
            let body = wire::QuarantineRelease {
                ids: which.ids,
                source: which.source,
                ignore_timestamp,
            };
            return release(&connection, &body, json);
        }
        QuarantineCommand::Discard { which, json } => {
            let client = connection.client()?;
            let body = wire::QuarantineDiscard {
                ids: which.ids,
                source: which.source,
            };
            let path = format!("{PATH}/discard");
            let answer = block_on(async { Ok(client.post::<Value>(&path, &body).await?) })?;
            if json {
                output::json(&answer)?;
            } else {
                let discarded: wire::Discarded = decode(answer)?;
                output::line(format_args!("{} given up", discarded.discarded))?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn list(connection: &Connection, source: Option<String>, listing: &Listing) -> anyhow::Result<()> {
    let query = Query::default().with("source", source);
    let columns = ["=ID", "SOURCE", "CAME", "CAUSE", "FROM", "SIZE"];
    let none = "nothing is in quarantine";
    print_list(
        connection,
        listing,
        (PATH, query),
        none,
        &columns,
        |table, item: wire::Quarantined| {
            let came = dim(relative(table.now(), item.received_at));
            table.row([
                cell(item.id),
                cell(item.source),
                came,
                cell(item.cause),
                cell(item.peer),
                cell(size_text(item.body_bytes)),
            ]);
        },
    )
}

fn show(connection: &Connection, id: &str, only_body: bool, json: bool) -> anyhow::Result<()> {
    let client = connection.client()?;
    let path = format!("{PATH}/{}", segment(id));
    let shown = block_on(async { Ok(client.get::<Value>(&path, &Query::default()).await?) })?;
    if json {
        return output::json(&shown);
    }
    let detail: wire::QuarantinedDetail = decode(shown)?;
    let body = base64::prelude::BASE64_STANDARD.decode(&detail.body_base64)?;
    if only_body {
        output::bytes(&body)?;
        return Ok(());
    }
    let item = detail.item;
    output::facts([
        ("id", Some(item.id)),
        ("source", Some(item.source)),
        (
            "came",
            Some(format!(
                "{} ({})",
                relative(Clock.now(), item.received_at),
                item.received_at
            )),
        ),
        ("cause", Some(item.cause)),
        ("from", Some(item.peer)),
        ("request", Some(format!("{} {}", detail.method, detail.target))),
    ])?;
    output::heading("Headers")?;
    print_headers(&detail.headers)?;
    output::heading("Body")?;
    print_body(&body)?;
    Ok(())
}

fn release(connection: &Connection, body: &wire::QuarantineRelease, json: bool) -> anyhow::Result<ExitCode> {
    let client = connection.client()?.patient();
    let path = format!("{PATH}/release");
    let answer = block_on(async { Ok(client.post::<Value>(&path, body).await?) })?;
    let released: wire::Released = decode(answer.clone())?;
    if json {
        output::json(&answer)?;
    } else {
        output::line(format_args!(
            "{} accepted, {} were repeats, {} stay in quarantine",
            released.released, released.repeats, released.refused_count
        ))?;
        for refused in &released.refused {
            output::talk(&format!("{}: {}", refused.id, output::clean(&refused.cause)));
        }
    }
    Ok(if released.refused_count == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
