//! `hookfast delivery`: one event on its way to one destination.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::connection::{Connection, Listing, block_on, decode, print_list, segment, time};
use super::event::{print_body, print_headers};
use super::output::{self, cell, dim, maybe, relative};
use crate::admin::wire::{self, DeliveryState};
use crate::client::{Client, ClientError, Query};
use crate::clock::Clock;

const PATH: &str = "/api/v1/deliveries";

/// Lists, shows, retries and discards deliveries.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  hookfast delivery list --state dead
  hookfast delivery show dlv_019…
  hookfast delivery retry dlv_019…")]
pub(super) struct DeliveryArgs {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    command: DeliveryCommand,
}

#[derive(Debug, Subcommand)]
enum DeliveryCommand {
    /// Lists deliveries, newest first.
    #[command(after_help = "Examples:
  hookfast delivery list --destination my-app --state retrying
  hookfast delivery list --state dead --all --json | jq -r '.[].id'")]
    List {
        /// In this state.
        #[arg(long, value_parser = state)]
        state: Option<DeliveryState>,
        /// To this destination.
        #[arg(long, value_name = "NAME")]
        destination: Option<String>,
        /// Of events accepted at or after: a time, or how long ago.
        #[arg(long, value_name = "TIME", value_parser = time)]
        from: Option<wire::Time>,
        /// Of events accepted before: a time, or how long ago.
        #[arg(long, value_name = "TIME", value_parser = time)]
        until: Option<wire::Time>,
        #[command(flatten)]
        listing: Listing,
    },
    /// Shows one delivery with its attempts.
    #[command(after_help = "Examples:\n  hookfast delivery show dlv_019…")]
    Show {
        /// Its id.
        delivery: String,
        /// Prints JSON.
        #[arg(long)]
        json: bool,
    },
    /// Makes deliveries due at once, whatever state they are in but delivered.
    #[command(after_help = "Examples:
  hookfast delivery retry dlv_019… dlv_019…
  hookfast delivery list --state dead --all --json | jq -r '.[].id' | xargs hookfast delivery retry")]
    Retry(Changed),
    /// Gives deliveries up.
    #[command(after_help = "Examples:\n  hookfast delivery discard dlv_019…")]
    Discard(Changed),
}

#[derive(Args, Debug)]
struct Changed {
    /// Their ids.
    #[arg(required = true)]
    deliveries: Vec<String>,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

/// A state as an argument.
pub(super) fn state(text: &str) -> Result<DeliveryState, String> {
    let state = serde_json::from_value(Value::String(text.replace('-', "_")));
    state.map_err(|_| {
        "write pending, in_flight, retrying, held, delivered, rejected, dead, filtered or discarded"
            .to_owned()
    })
}

pub(super) fn run(args: &DeliveryArgs) -> anyhow::Result<ExitCode> {
    let connection = &args.connection;
    match &args.command {
        DeliveryCommand::List {
            state,
            destination,
            from,
            until,
            listing,
        } => {
            let query = Query::default()
                .with("state", state.as_ref().map(output::word))
                .with("destination", destination.as_ref())
                .with("from", *from)
                .with("until", *until);
            list(connection, query, listing)?;
            Ok(ExitCode::SUCCESS)
        }
        DeliveryCommand::Show { delivery, json } => {
            let client = connection.client()?;
            let shown = block_on(async { Ok(get(&client, delivery).await?) })?;
            if *json {
                output::json(&shown)?;
            } else {
                print(decode(shown)?)?;
            }
            Ok(ExitCode::SUCCESS)
        }
        DeliveryCommand::Retry(changed) => changed.run(connection, "retry"),
        DeliveryCommand::Discard(changed) => changed.run(connection, "discard"),
    }
}

fn list(connection: &Connection, query: Query, listing: &Listing) -> anyhow::Result<()> {
    let columns = [
        "=ID",
        "STATE",
        "DESTINATION",
        "TYPE",
        "ATTEMPTS",
        "ACCEPTED",
        "DUE",
        "CAUSE",
    ];
    print_list(
        connection,
        listing,
        (PATH, query),
        "no such deliveries",
        &columns,
        |table, each: wire::Delivery| {
            let now = table.now();
            table.row([
                cell(each.id),
                output::state(each.state),
                cell(each.destination),
                maybe(each.event_type),
                cell(each.attempts),
                dim(relative(now, each.accepted_at)),
                maybe(each.due_at.map(|time| relative(now, time))),
                maybe(each.cause),
            ]);
        },
    )
}

/// A delivery with its attempts.
pub(super) async fn get(client: &Client, id: &str) -> Result<Value, ClientError> {
    client
        .get(&format!("{PATH}/{}", segment(id)), &Query::default())
        .await
}

impl Changed {
    fn run(&self, connection: &Connection, action: &str) -> anyhow::Result<ExitCode> {
        let client = connection.client()?;
        let mut all = ExitCode::SUCCESS;
        let mut answers = Vec::new();
        for id in &self.deliveries {
            let path = format!("{PATH}/{}/{action}", segment(id));
            let answer = block_on(async { Ok(client.post::<Value>(&path, &json!({})).await?) })?;
            let changed: wire::DeliveryChanged = decode(answer.clone())?;
            answers.push(answer);
            let (was, is) = (
                output::word(&changed.was),
                output::state_text(changed.delivery.state),
            );
            if !changed.changed {
                all = ExitCode::FAILURE;
                output::talk(&format!("{id}: it is {was}, and stays so"));
            } else if !self.json {
                output::line(format_args!("{id}: {was} → {is}"))?;
            }
        }
        if self.json {
            output::json(&answers)?;
        }
        Ok(all)
    }
}

/// Prints a delivery with its attempts for people.
pub(super) fn print(detail: wire::DeliveryDetail) -> anyhow::Result<()> {
    let now = Clock.now();
    let each = detail.delivery;
    output::heading(&format!("Delivery to {}", output::clean(&each.destination)))?;
    let at = |time: wire::Time| format!("{} ({time})", relative(now, time));
    output::facts([
        ("id", Some(each.id)),
        ("event", Some(each.event)),
        ("type", each.event_type),
        ("state", Some(output::word(&each.state))),
        ("cause", each.cause),
        ("accepted", Some(at(each.accepted_at))),
        ("due", each.due_at.map(at)),
        ("settled", each.settled_at.map(at)),
        ("attempts", Some(each.attempts.to_string())),
        ("replay", each.replay),
    ])?;
    for attempt in detail.attempt_log {
        print_attempt(attempt)?;
    }
    Ok(())
}

fn print_attempt(attempt: wire::Attempt) -> anyhow::Result<()> {
    let ended = match (attempt.status, &attempt.error) {
        (Some(status), _) => format!("answered {status}"),
        (None, Some(error)) => format!("{}: {error}", attempt.outcome),
        (None, None) => attempt.outcome.clone(),
    };
    output::heading(&format!(
        "Attempt {} at {} ({:.0} ms): {}",
        attempt.number,
        attempt.started_at,
        attempt.duration_ms,
        output::clean(&ended)
    ))?;
    print_headers(&attempt.response_headers)?;
    if attempt.response_body_base64 {
        output::line("(an answer that is no text; --json has it in base64)")?;
    } else if !attempt.response_body.is_empty() {
        print_body(attempt.response_body.as_bytes())?;
    }
    Ok(())
}
