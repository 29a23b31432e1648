//! `hookfast tail`: what happens, as it happens.

use std::time::Duration;

use clap::Args;
use owo_colors::OwoColorize as _;
use serde_json::{Value, json};

use super::connection::{Connection, block_on};
use super::output;
use crate::admin::wire;
use crate::client::{Client, ClientError, Happening, Query};
use crate::clock::Clock;

const PATH: &str = "/api/v1/stream";
/// How long to wait before a stream that broke is followed again.
const PATIENCE: Duration = Duration::from_secs(1);

/// Shows events and deliveries as they happen, until it is stopped.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  hookfast tail
  hookfast tail --source nylas --type 'message.*'
  hookfast tail --json | jq -c 'select(.event == \"event\") | .data.type'")]
pub(super) struct TailArgs {
    #[command(flatten)]
    connection: Connection,
    /// Only of this source.
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Only events of this type, or of a prefix such as message.*.
    #[arg(long = "type", value_name = "TYPE")]
    event_type: Option<String>,
    /// Leaves out what becomes of deliveries.
    #[arg(long)]
    events_only: bool,
    /// Begins after this event instead of now.
    #[arg(long, value_name = "ID")]
    after: Option<String>,
    /// Prints JSON, one object a line.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &TailArgs) -> anyhow::Result<()> {
    let client = args.connection.client()?;
    block_on(follow(&client, args))
}

async fn follow(client: &Client, args: &TailArgs) -> anyhow::Result<()> {
    let query = Query::default()
        .with("source", args.source.as_ref())
        .with("type", args.event_type.as_ref())
        .flag("events_only", args.events_only);
    let mut last = args.after.clone();
    let mut connected = false;
    loop {
        match client.stream(PATH, &query, last.as_deref()).await {
            Ok(mut stream) => {
                if !connected {
                    output::talk(&format!("following {}; Ctrl-C ends it", client.server()));
                }
                connected = true;
                while let Some(happening) = stream.next().await {
                    print(&happening, args.json)?;
                    last = happening.id.or(last);
                }
                output::talk("the stream ended; following again");
            }
            Err(error) if connected && may_pass(&error) => {}
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(PATIENCE).await;
    }
}

/// Whether a server that starts again could answer otherwise: it is followed from where the stream broke.
fn may_pass(error: &ClientError) -> bool {
    match error {
        ClientError::Refused(_) | ClientError::Unreachable { .. } | ClientError::Silent { .. } => true,
        ClientError::Problem(problem) => problem.status >= 500,
        ClientError::Server(_) | ClientError::Key | ClientError::Foreign { .. } => false,
    }
}

fn print(happening: &Happening, json: bool) -> anyhow::Result<()> {
    if json {
        let data: Value = serde_json::from_str(&happening.data)?;
        return output::json_line(&json!({ "event": happening.event, "data": data }));
    }
    match happening.event.as_str() {
        "event" => print_event(&serde_json::from_str(&happening.data)?),
        "delivery" => print_delivery(&serde_json::from_str(&happening.data)?),
        // A newer server may tell of more.
        _ => Ok(()),
    }
}

/// The time of day, to the millisecond.
fn clock(time: wire::Time) -> String {
    let text = time.to_string();
    text.get(11..23).unwrap_or(&text).dimmed().to_string()
}

fn print_event(event: &wire::Event) -> anyhow::Result<()> {
    let repeated = match event.repeats {
        0 => String::new(),
        repeats => format!(" (repeated {repeats} times)"),
    };
    output::line(format_args!(
        "{} {} {} {} {}{repeated}",
        clock(event.accepted_at),
        "accepted".blue(),
        output::clean(&event.source),
        output::clean(event.r#type.as_deref().unwrap_or("-")).bold(),
        event.id,
    ))?;
    Ok(())
}

fn print_delivery(delivery: &wire::Delivery) -> anyhow::Result<()> {
    let cause = delivery
        .cause
        .as_ref()
        .map(|cause| format!(": {}", output::clean(cause)));
    let attempts = match delivery.attempts {
        0 => String::new(),
        attempts => format!(" after attempt {attempts}"),
    };
    // Nothing says when a delivery came to wait; it is told of at once.
    let at = clock(delivery.settled_at.unwrap_or_else(|| wire::Time(Clock.now())));
    output::line(format_args!(
        "{at} {} {} {} → {}{attempts}{}",
        output::state_text(delivery.state),
        output::clean(delivery.event_type.as_deref().unwrap_or("-")),
        delivery.event,
        output::clean(&delivery.destination),
        cause.unwrap_or_default(),
    ))?;
    Ok(())
}
