//! `hookfast application`: the tenants.

use clap::{Args, Subcommand};
use serde_json::Value;

use super::connection::{Connection, Listing, block_on, decode, print_list, segment};
use super::output::{self, cell, dim, maybe, relative};
use crate::admin::wire;
use crate::client::Query;

const PATH: &str = "/api/v1/applications";

/// Lists, makes and changes applications: the tenants that own everything else.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  hookfast application list
  hookfast application create acme
  hookfast application update acme --open true")]
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
    #[command(after_help = "Examples:
  hookfast application create acme
  hookfast application create acme --preset none --open true")]
    Create {
        /// Its name.
        name: String,
        #[command(flatten)]
        catalogue: Catalogue,
        /// Prints JSON.
        #[arg(long)]
        json: bool,
    },
    /// Changes an application. What is not named stays.
    #[command(after_help = "Examples:
  hookfast application update acme --name acme-inc
  hookfast application update acme --preset nylas --open false")]
    Update {
        /// Its name or id.
        application: String,
        /// Its new name.
        #[arg(long)]
        name: Option<String>,
        #[command(flatten)]
        catalogue: Catalogue,
        /// Prints JSON.
        #[arg(long)]
        json: bool,
    },
}

/// Which trigger types it may publish.
#[derive(Args, Debug)]
struct Catalogue {
    /// The catalogue that it knows beside its own trigger types: nylas, or none; as `outbox` in the file says by default.
    #[arg(long, value_name = "NAME")]
    preset: Option<String>,
    /// Whether it may publish any type, known or not.
    #[arg(long, value_name = "true|false")]
    open: Option<bool>,
}

impl Catalogue {
    fn of(self, name: String) -> wire::ApplicationPut {
        let preset = self.preset.map(|preset| match preset.as_str() {
            "none" => String::new(),
            _ => preset,
        });
        wire::ApplicationPut {
            name,
            preset,
            open: self.open,
        }
    }
}

pub(super) fn run(args: ApplicationArgs) -> anyhow::Result<()> {
    let connection = args.connection;
    match args.command {
        ApplicationCommand::List(listing) => {
            let none = "no applications: the server makes `default` when it starts";
            let columns = ["=NAME", "=ID", "PRESET", "OPEN", "CREATED"];
            let list = (PATH, Query::default());
            print_list(
                &connection,
                &listing,
                list,
                none,
                &columns,
                |table, each: wire::Application| {
                    let created = dim(relative(table.now(), each.created_at));
                    table.row([
                        cell(each.name),
                        cell(each.id),
                        maybe(each.preset),
                        cell(each.open),
                        created,
                    ]);
                },
            )
        }
        ApplicationCommand::Create {
            name,
            catalogue,
            json,
        } => {
            let client = connection.client()?;
            let body = catalogue.of(name);
            print(
                block_on(async { Ok(client.post::<Value>(PATH, &body).await?) })?,
                json,
            )
        }
        ApplicationCommand::Update {
            application,
            name,
            catalogue,
            json,
        } => {
            let client = connection.client()?;
            let path = format!("{PATH}/{}", segment(&application));
            let changed = block_on(async {
                let name = match name {
                    Some(name) => name,
                    None => {
                        let now: wire::Application = client.get(&path, &Query::default()).await?;
                        now.name
                    }
                };
                Ok(client.patch::<Value>(&path, &catalogue.of(name)).await?)
            })?;
            print(changed, json)
        }
    }
}

fn print(shown: Value, json: bool) -> anyhow::Result<()> {
    if json {
        return output::json(&shown);
    }
    let shown: wire::Application = decode(shown)?;
    output::facts([
        ("name", Some(shown.name)),
        ("id", Some(shown.id)),
        ("preset", Some(shown.preset.unwrap_or_else(|| "none".to_owned()))),
        ("open", Some(shown.open.to_string())),
        ("created", Some(shown.created_at.to_string())),
    ])?;
    Ok(())
}
