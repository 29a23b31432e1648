//! `hookfast node`: the servers.

use clap::{Args, Subcommand};

use super::connection::{Connection, Listing, print_list};
use super::output::{cell, dim};
use crate::admin::wire;
use crate::client::Query;

/// Lists the nodes: the servers that share one store.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  hookfast node list")]
pub(super) struct NodeArgs {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    command: NodeCommand,
}

#[derive(Debug, Subcommand)]
enum NodeCommand {
    /// Lists the nodes.
    #[command(after_help = "Examples:\n  hookfast node list\n  hookfast node list --json")]
    List(Listing),
}

pub(super) fn run(args: &NodeArgs) -> anyhow::Result<()> {
    let NodeCommand::List(listing) = &args.command;
    let list = ("/api/v1/nodes", Query::default());
    let columns = ["=ID", "VERSION", "UP", "LISTENERS"];
    print_list(
        &args.connection,
        listing,
        list,
        "no nodes",
        &columns,
        |table, node: wire::Node| {
            let listener = |each: &wire::Listener| format!("{}={}", each.name, each.address);
            let listeners: Vec<_> = node.listeners.iter().map(listener).collect();
            let up = dim(super::output::rough(node.uptime.0));
            table.row([cell(node.id), cell(node.version), up, cell(listeners.join(" "))]);
        },
    )
}
