//! `hookfast rejected`: what the public listener refused.

use clap::{Args, Subcommand};

use super::connection::{Connection, Listing, print_list};
use super::output::{cell, dim, maybe, relative};
use crate::admin::wire;
use crate::client::Query;

/// Lists the requests that the public listener refused, and why.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  hookfast rejected list\n  hookfast rejected list --source nylas --json")]
pub(super) struct RejectedArgs {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    command: RejectedCommand,
}

#[derive(Debug, Subcommand)]
enum RejectedCommand {
    /// Lists refused requests, newest first.
    #[command(after_help = "Examples:\n  hookfast rejected list\n  hookfast rejected list --source nylas")]
    List {
        /// Of this source.
        #[arg(long, value_name = "NAME")]
        source: Option<String>,
        #[command(flatten)]
        listing: Listing,
    },
}

pub(super) fn run(args: &RejectedArgs) -> anyhow::Result<()> {
    let RejectedCommand::List { source, listing } = &args.command;
    let list = (
        "/api/v1/rejected",
        Query::default().with("source", source.as_ref()),
    );
    let columns = [
        "WHEN", "STATUS", "CAUSE", "SOURCE", "REQUEST", "FROM", "TIMES", "DETAIL",
    ];
    print_list(
        &args.connection,
        listing,
        list,
        "nothing was refused",
        &columns,
        |table, each: wire::Rejected| {
            let when = dim(relative(table.now(), each.at));
            table.row([
                when,
                cell(each.status),
                cell(each.cause),
                maybe(each.source),
                cell(format!("{} {}", each.method, each.path)),
                cell(each.peer),
                cell(each.count),
                cell(each.detail),
            ]);
        },
    )
}
