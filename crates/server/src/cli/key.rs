//! `hookfast key`: who may use the API, and for what.

use clap::{Args, Subcommand};
use serde_json::Value;

use super::connection::{Connection, Listing, block_on, decode, print_list, segment, span};
use super::output::{self, cell, dim, maybe, relative, word};
use crate::admin::wire;
use crate::client::Query;

const PATH: &str = "/api/v1/keys";

/// Makes, lists and revokes keys to the API.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  hookfast key create ci --scope read
  hookfast key create worker --scope pull --destination queue --expires-in 90d
  hookfast key revoke key_019…")]
pub(super) struct KeyArgs {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    command: KeyCommand,
}

#[derive(Debug, Subcommand)]
enum KeyCommand {
    /// Makes a key and shows it once.
    #[command(after_help = "Examples:
  hookfast key create ops --scope admin
  hookfast key create acme --scope application --application acme
  hookfast key create worker --scope pull --destination queue")]
    Create {
        /// What it is for.
        name: String,
        /// What it may do: admin, application, read or pull. --application says in which application.
        #[arg(long, value_parser = scope)]
        scope: wire::KeyScope,
        /// The destination that a pull key pulls from.
        #[arg(long, value_name = "NAME")]
        destination: Option<String>,
        /// For how long it is valid; for ever by default.
        #[arg(long, value_name = "DURATION", value_parser = span)]
        expires_in: Option<wire::Span>,
        /// Prints JSON.
        #[arg(long)]
        json: bool,
    },
    /// Lists the keys, without the keys themselves.
    #[command(after_help = "Examples:\n  hookfast key list")]
    List(Listing),
    /// Revokes a key. It stays as a record.
    #[command(after_help = "Examples:\n  hookfast key revoke key_019…")]
    Revoke {
        /// Its id.
        id: String,
    },
}

fn scope(text: &str) -> Result<wire::KeyScope, String> {
    serde_json::from_value(Value::String(text.to_owned()))
        .map_err(|_| "write admin, application, read or pull".to_owned())
}

pub(super) fn run(args: KeyArgs) -> anyhow::Result<()> {
    let connection = args.connection;
    match args.command {
        KeyCommand::List(listing) => list(&connection, &listing),
        KeyCommand::Create {
            name,
            scope,
            destination,
            expires_in,
            json,
        } => {
            let client = connection.client()?;
            let body = wire::KeyCreate {
                name,
                scope,
                application: match scope {
                    wire::KeyScope::Application | wire::KeyScope::Read => connection.application,
                    wire::KeyScope::Admin | wire::KeyScope::Pull => None,
                },
                destination,
                expires_in,
            };
            print(
                block_on(async { Ok(client.post::<Value>(PATH, &body).await?) })?,
                json,
            )
        }
        KeyCommand::Revoke { id } => {
            let client = connection.client()?;
            block_on(async { Ok(client.delete(&format!("{PATH}/{}", segment(&id))).await?) })?;
            output::talk(&format!("revoked {id}"));
            Ok(())
        }
    }
}

fn list(connection: &Connection, listing: &Listing) -> anyhow::Result<()> {
    let columns = ["=ID", "NAME", "SCOPE", "FOR", "MADE", "EXPIRES", "REVOKED"];
    let list = (PATH, Query::default());
    print_list(
        connection,
        listing,
        list,
        "no keys",
        &columns,
        |table, key: wire::Key| {
            let now = table.now();
            let when = |time: Option<wire::Time>| maybe(time.map(|time| relative(now, time)));
            table.row([
                cell(key.id),
                cell(key.name),
                cell(word(&key.scope)),
                maybe(key.application.or(key.destination)),
                dim(relative(now, key.created_at)),
                when(key.expires_at),
                when(key.revoked_at),
            ]);
        },
    )
}

fn print(made: Value, json: bool) -> anyhow::Result<()> {
    if json {
        return output::json(&made);
    }
    let key: wire::Key = decode(made)?;
    output::talk(&format!(
        "made {} ({}); this key is shown only now:",
        key.id,
        word(&key.scope)
    ));
    output::line(key.key.unwrap_or_default())?;
    Ok(())
}
