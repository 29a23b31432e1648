//! `hookfast application`: the tenants.

use clap::{Args, Subcommand};
use serde_json::Value;

use super::connection::{Connection, Listing, block_on, decode, print_list};
use super::output::{self, cell, dim, relative};
use crate::admin::wire;
use crate::client::Query;

const PATH: &str = "/api/v1/applications";

/// Lists and makes applications: the tenants that own everything else.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  hookfast application list
  hookfast application create acme")]
pub(super) struct ApplicationArgs {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    command: ApplicationCommand,
}

#[derive(Debug, Subcommand)]
enum ApplicationCommand {
    /// Lists the applications.
    #[command(after_help = "Examples:\n  hookfast application list")]
    List(Listing),
    /// Makes an application.
    #[command(after_help = "Examples:\n  hookfast application create acme")]
    Create {
        /// Its name.
        name: String,
        /// Prints JSON.
        #[arg(long)]
        json: bool,
    },
}

pub(super) fn run(args: ApplicationArgs) -> anyhow::Result<()> {
    let connection = args.connection;
    match args.command {
        ApplicationCommand::List(listing) => {
            let none = "no applications: the server makes `default` when it starts";
            let columns = ["=NAME", "=ID", "CREATED"];
            let list = (PATH, Query::default());
            print_list(
                &connection,
                &listing,
                list,
                none,
                &columns,
                |table, each: wire::Application| {
                    let created = dim(relative(table.now(), each.created_at));
                    table.row([cell(each.name), cell(each.id), created]);
                },
            )
        }
        ApplicationCommand::Create { name, json } => {
            let client = connection.client()?;
            let body = wire::ApplicationPut {
                name,
                preset: None,
                open: None,
            };
            let made = block_on(async { Ok(client.post::<Value>(PATH, &body).await?) })?;
            if json {
                return output::json(&made);
            }
            let made: wire::Application = decode(made)?;
            output::facts([
                ("name", Some(made.name)),
                ("id", Some(made.id)),
                ("created", Some(made.created_at.to_string())),
            ])?;
            Ok(())
        }
    }
}
