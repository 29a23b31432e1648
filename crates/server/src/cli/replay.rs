//! `hookfast replay`: events that go out once more.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use super::connection::{Connection, Listing, block_on, decode, print_list, segment, time};
use super::delivery::state;
use super::output::{self, cell, dim, relative, word};
use crate::admin::wire::{self, DeliveryState, ReplayState};
use crate::client::{Client, ClientError, Query};
use crate::clock::Clock;

const PATH: &str = "/api/v1/replays";
/// How often a job is looked at.
const PERIOD: Duration = Duration::from_millis(500);

/// Starts, watches and cancels replays: events that go out once more.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  hookfast replay start --source nylas --from 2h --dry-run
  hookfast replay start --state dead --destination my-app --rate 50
  hookfast replay status
  hookfast replay cancel rpl_019…")]
pub(super) struct ReplayArgs {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    command: ReplayCommand,
}

#[derive(Debug, Subcommand)]
enum ReplayCommand {
    /// Starts a job and shows how it goes on.
    #[command(after_help = "Examples:
  hookfast replay start --source nylas --from 2h --dry-run
  hookfast replay start --state dead --rate 50
  hookfast replay start --unrouted --destination my-app --detach")]
    Start(Box<Start>),
    /// Shows one job, or lists them.
    #[command(after_help = "Examples:\n  hookfast replay status\n  hookfast replay status rpl_019…")]
    Status {
        /// Its id; all jobs where none is given.
        replay: Option<String>,
        #[command(flatten)]
        listing: Listing,
    },
    /// Cancels a job. What went out already stays so.
    #[command(after_help = "Examples:\n  hookfast replay cancel rpl_019…")]
    Cancel {
        /// Its id.
        replay: String,
        /// Prints JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args, Debug)]
struct Start {
    /// This event alone.
    #[arg(long, value_name = "ID")]
    event: Option<String>,
    /// Events of this source.
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Events of this type, or of a prefix such as message.*.
    #[arg(long = "type", value_name = "TYPE")]
    event_type: Option<String>,
    /// With this id of the provider.
    #[arg(long, value_name = "ID")]
    provider_id: Option<String>,
    /// Accepted at or after: a time, or how long ago.
    #[arg(long, value_name = "TIME", value_parser = time)]
    from: Option<wire::Time>,
    /// Accepted before: a time, or how long ago.
    #[arg(long, value_name = "TIME", value_parser = time)]
    until: Option<wire::Time>,
    /// Only those that no destination took.
    #[arg(long)]
    unrouted: bool,
    /// Only where the event's delivery is in this state.
    #[arg(long, value_parser = state)]
    state: Option<DeliveryState>,
    /// To this destination, whether or not it took them; without one, to those that did.
    #[arg(long, value_name = "NAME")]
    destination: Option<String>,
    /// At most this many events a second.
    #[arg(long, value_name = "N")]
    rate: Option<u32>,
    /// Under new ids, for handlers that drop repeats.
    #[arg(long)]
    new_id: bool,
    /// Only counts what would be replayed.
    #[arg(long)]
    dry_run: bool,
    /// Returns at once instead of waiting for the end.
    #[arg(long)]
    detach: bool,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: ReplayArgs) -> anyhow::Result<ExitCode> {
    let connection = args.connection;
    match args.command {
        ReplayCommand::Start(start) => {
            let client = connection.client()?;
            block_on(start.run(&client))
        }
        ReplayCommand::Status {
            replay: None,
            listing,
        } => {
            list(&connection, &listing)?;
            Ok(ExitCode::SUCCESS)
        }
        ReplayCommand::Status {
            replay: Some(id),
            listing,
        } => {
            let client = connection.client()?;
            print(&block_on(async { Ok(get(&client, &id).await?) })?, listing.json)?;
            Ok(ExitCode::SUCCESS)
        }
        ReplayCommand::Cancel { replay, json } => {
            let client = connection.client()?;
            let path = format!("{PATH}/{}/cancel", segment(&replay));
            print(
                &block_on(async { Ok(client.post::<Value>(&path, &json!({})).await?) })?,
                json,
            )?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

async fn get(client: &Client, id: &str) -> Result<Value, ClientError> {
    client
        .get(&format!("{PATH}/{}", segment(id)), &Query::default())
        .await
}

impl Start {
    async fn run(self, client: &Client) -> anyhow::Result<ExitCode> {
        let (json, detach, dry_run) = (self.json, self.detach, self.dry_run);
        let started: Value = client.post(PATH, &self.body()).await?;
        if dry_run {
            if json {
                output::json(&started)?;
            } else {
                let count: wire::ReplayCount = decode(started)?;
                output::line(format_args!(
                    "{} events: {} deliveries would be made due, {} wait anyway",
                    count.events, count.deliveries, count.skipped
                ))?;
            }
            return Ok(ExitCode::SUCCESS);
        }
        let ended = if detach {
            started
        } else {
            follow(client, started).await?
        };
        let job: wire::Replay = decode(ended.clone())?;
        print(&ended, json)?;
        Ok(match job.state {
            ReplayState::Cancelled => ExitCode::FAILURE,
            ReplayState::Running | ReplayState::Done => ExitCode::SUCCESS,
        })
    }

    fn body(self) -> wire::ReplayCreate {
        wire::ReplayCreate {
            event: self.event,
            source: self.source,
            r#type: self.event_type,
            provider_id: self.provider_id,
            from: self.from,
            until: self.until,
            unrouted: self.unrouted,
            state: self.state,
            destination: self.destination,
            rate: self.rate,
            new_id: self.new_id,
            dry_run: self.dry_run,
        }
    }
}

/// Shows how a job goes on until it ends.
async fn follow(client: &Client, started: Value) -> anyhow::Result<Value> {
    let mut seen = started;
    let first: wire::Replay = decode(seen.clone())?;
    output::talk(&format!(
        "{}: it goes on if you leave; `hookfast replay cancel {}` ends it",
        first.id, first.id
    ));
    let bar = ProgressBar::new(first.total.max(1));
    if let Ok(style) =
        ProgressStyle::with_template("{bar:30} {pos}/{len} events, {msg} ({elapsed}, {eta} left)")
    {
        bar.set_style(style);
    }
    loop {
        let job: wire::Replay = decode(seen.clone())?;
        bar.set_length(job.total.max(1));
        bar.set_position(job.looked_at);
        bar.set_message(format!("{} deliveries due", job.replayed));
        match job.state {
            ReplayState::Running => tokio::time::sleep(PERIOD).await,
            ReplayState::Done | ReplayState::Cancelled => {
                bar.finish_and_clear();
                return Ok(seen);
            }
        }
        seen = get(client, &job.id).await?;
    }
}

fn list(connection: &Connection, listing: &Listing) -> anyhow::Result<()> {
    let columns = [
        "=ID",
        "STATE",
        "LOOKED AT",
        "REPLAYED",
        "SKIPPED",
        "RATE",
        "STARTED",
    ];
    let list = (PATH, Query::default());
    print_list(
        connection,
        listing,
        list,
        "no replays yet",
        &columns,
        |table, job: wire::Replay| {
            let started = dim(relative(table.now(), job.created_at));
            table.row([
                cell(job.id),
                cell(word(&job.state)),
                cell(format!("{}/{}", job.looked_at, job.total)),
                cell(job.replayed),
                cell(job.skipped),
                cell(format!("{}/s", job.rate)),
                started,
            ]);
        },
    )
}

fn print(shown: &Value, json: bool) -> anyhow::Result<()> {
    if json {
        return output::json(shown);
    }
    let job: wire::Replay = decode(shown.clone())?;
    let now = Clock.now();
    let at = |time: wire::Time| format!("{} ({time})", relative(now, time));
    output::facts([
        ("id", Some(job.id)),
        ("state", Some(word(&job.state))),
        (
            "events",
            Some(format!("{} of {} looked at", job.looked_at, job.total)),
        ),
        (
            "deliveries",
            Some(format!(
                "{} made due, {} waited anyway",
                job.replayed, job.skipped
            )),
        ),
        ("rate", Some(format!("{}/s", job.rate))),
        ("started", Some(at(job.created_at))),
        ("ended", job.ended_at.map(at)),
    ])?;
    Ok(())
}
