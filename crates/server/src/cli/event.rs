//! `hookfast event`: what came in or was published, and what became of it.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::connection::{Connection, Listing, block_on, decode, print_list, segment, time};
use super::delivery;
use super::output::{self, cell, dim, maybe, relative};
use super::publish::{self, Publish};
use crate::admin::wire;
use crate::client::{Client, Query};
use crate::clock::Clock;
use crate::units::size_text;

const PATH: &str = "/api/v1/events";
/// How many characters of a body are shown to people.
const SHOWN_CHARACTERS: usize = 64 * 1024;

/// Lists, shows, publishes and replays events.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  hookfast event list --source nylas --type 'message.*' --from 1h
  hookfast event show evt_019…
  hookfast event publish --type message.created --source /demo --event-data '{\"object\": {}}'
  hookfast event replay evt_019…")]
pub(super) struct EventArgs {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    command: EventCommand,
}

#[derive(Debug, Subcommand)]
enum EventCommand {
    /// Lists events, newest first.
    #[command(after_help = "Examples:
  hookfast event list
  hookfast event list --source nylas --from 2h --until 1h
  hookfast event list --unrouted --json")]
    List {
        #[command(flatten)]
        filter: Filter,
        #[command(flatten)]
        listing: Listing,
    },
    /// Shows one event: its headers, its body, and its deliveries with their attempts.
    #[command(after_help = "Examples:
  hookfast event show evt_019…
  hookfast event show evt_019… --body > notification.json     (the raw bytes as they came)")]
    Show {
        /// Its id.
        event: String,
        /// Prints its raw body alone.
        #[arg(long, conflicts_with = "json")]
        body: bool,
        /// Prints JSON.
        #[arg(long)]
        json: bool,
    },
    /// Publishes an event, or many, to the destinations that subscribed to its type.
    #[command(after_help = "Examples:
  hookfast event publish event.json
  hookfast event publish --type invoice.paid --source /billing --id inv-17 --event-data '{\"total\": 100}'
  hookfast event publish --type message.created --source /demo --event-data @data.json
  hookfast event publish events.ndjson
  generate-events | hookfast event publish --ndjson -

An event is CloudEvents 1.0 in JSON: specversion, type, source, id, and data. Of many, each line is an event; those
that are refused are listed on stderr, and the exit code is 1. To publish the same again is harmless: the same source
and id within 7 days is a repeat, which is not delivered.")]
    Publish(Publish),
    /// Delivers one event again.
    #[command(after_help = "Examples:
  hookfast event replay evt_019…
  hookfast event replay evt_019… --destination staging --new-id")]
    Replay {
        /// Its id.
        event: String,
        /// To this destination alone, whether or not it took the event before.
        #[arg(long, value_name = "NAME")]
        destination: Option<String>,
        /// Under a new id, for handlers that drop repeats.
        #[arg(long)]
        new_id: bool,
        /// Prints JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args, Debug)]
struct Filter {
    /// Of this source.
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Of this type, or of a prefix such as message.*.
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
}

impl Filter {
    fn query(self) -> Query {
        Query::default()
            .with("source", self.source)
            .with("type", self.event_type)
            .with("provider_id", self.provider_id)
            .with("from", self.from)
            .with("until", self.until)
            .flag("unrouted", self.unrouted)
    }
}

pub(super) fn run(args: EventArgs) -> anyhow::Result<ExitCode> {
    let connection = args.connection;
    match args.command {
        EventCommand::Publish(publish) => return publish::run(&connection, publish),
        EventCommand::List { filter, listing } => list(&connection, filter.query(), &listing),
        EventCommand::Show { event, body, json } => {
            let client = connection.client()?;
            block_on(show(&client, &event, body, json))
        }
        EventCommand::Replay {
            event,
            destination,
            new_id,
            json,
        } => {
            let client = connection.client()?;
            let body = wire::EventReplay { destination, new_id };
            replay(&client, &event, &body, json)
        }
    }?;
    Ok(ExitCode::SUCCESS)
}

fn replay(client: &Client, event: &str, body: &wire::EventReplay, json: bool) -> anyhow::Result<()> {
    let path = format!("{PATH}/{}/replay", segment(event));
    let job = block_on(async { Ok(client.post::<Value>(&path, body).await?) })?;
    if json {
        return output::json(&job);
    }
    let job: wire::Replay = decode(job)?;
    output::line(&job.id)?;
    output::talk(&format!(
        "the event goes out again; watch it with `hookfast replay status {}`",
        job.id
    ));
    Ok(())
}

fn list(connection: &Connection, query: Query, listing: &Listing) -> anyhow::Result<()> {
    let columns = [
        "=ID",
        "ACCEPTED",
        "SOURCE",
        "TYPE",
        "PROVIDER ID",
        "SIZE",
        "REPEATS",
    ];
    print_list(
        connection,
        listing,
        (PATH, query),
        "no such events",
        &columns,
        |table, event: wire::Event| {
            let repeats = match (event.repeats, event.conflicting) {
                (0, _) => dim(0),
                (repeats, 0) => cell(repeats),
                (repeats, conflicting) => {
                    cell(format!("{repeats} ({conflicting} conflicting)")).fg(comfy_table::Color::Yellow)
                }
            };
            let accepted = dim(relative(table.now(), event.accepted_at));
            table.row([
                cell(event.id),
                accepted,
                cell(event.source),
                maybe(event.r#type),
                maybe(event.provider_id),
                cell(size_text(event.body_bytes)),
                repeats,
            ]);
        },
    )
}

async fn show(client: &Client, id: &str, only_body: bool, json: bool) -> anyhow::Result<()> {
    let path = format!("{PATH}/{}", segment(id));
    let body_path = format!("{path}/body");
    if only_body {
        output::bytes(&client.get_bytes(&body_path).await?)?;
        return Ok(());
    }
    let mut shown: Value = client.get(&path, &Query::default()).await?;
    let detail: wire::EventDetail = decode(shown.clone())?;
    let mut deliveries = Vec::new();
    for delivery in &detail.deliveries {
        deliveries.push(delivery::get(client, &delivery.id).await?);
    }
    if json {
        if let Some(whole) = shown.as_object_mut() {
            whole.insert("deliveries".to_owned(), json!(deliveries));
        }
        return output::json(&shown);
    }
    let body = client.get_bytes(&body_path).await?;
    print(detail, &body)?;
    for delivery in deliveries {
        delivery::print(decode(delivery)?)?;
    }
    Ok(())
}

fn print(detail: wire::EventDetail, body: &[u8]) -> anyhow::Result<()> {
    let event = detail.event;
    let now = Clock.now();
    let repeats = match event.conflicting {
        0 => event.repeats.to_string(),
        conflicting => format!("{}, {conflicting} of them with another body", event.repeats),
    };
    output::facts([
        ("id", Some(event.id)),
        ("source", Some(event.source)),
        ("type", event.r#type),
        ("provider id", event.provider_id),
        (
            "accepted",
            Some(format!(
                "{} ({})",
                relative(now, event.accepted_at),
                event.accepted_at
            )),
        ),
        ("occurred", event.occurred_at.map(|time| time.to_string())),
        ("repeats", Some(repeats)),
        ("size", Some(size_text(event.body_bytes))),
    ])?;
    output::heading("Headers")?;
    print_headers(&detail.headers)?;
    output::heading("Body")?;
    print_body(body)?;
    if detail.deliveries.is_empty() {
        output::heading("Deliveries")?;
        output::line("none: no destination takes it; make one, and replay the event")?;
    }
    Ok(())
}

/// Prints headers, one a line.
pub(super) fn print_headers(headers: &[wire::Header]) -> std::io::Result<()> {
    for header in headers {
        output::line(format_args!(
            "{}: {}",
            output::clean(&header.name),
            output::clean(&header.value)
        ))?;
    }
    Ok(())
}

/// Prints a body for people: JSON with its lines, text as it is, or the size of what is neither.
pub(super) fn print_body(body: &[u8]) -> std::io::Result<()> {
    let is_json = serde_json::from_slice::<serde::de::IgnoredAny>(body).is_ok();
    let text = std::str::from_utf8(body).ok();
    match text.map(|text| {
        if is_json {
            json_lines(text)
        } else {
            text.to_owned()
        }
    }) {
        Some(text) if text.is_empty() => output::line("(empty)"),
        Some(text) => {
            let shown: String = text.chars().take(SHOWN_CHARACTERS).collect();
            output::line(output::clean_lines(&shown))?;
            if shown.len() < text.len() {
                output::talk("the rest is left out: --body prints all of it");
            }
            Ok(())
        }
        None => output::line(format_args!("({} bytes that are no text)", body.len())),
    }
}

/// Well-formed JSON, spread over lines. Nothing else of it changes: keys keep their order and numbers their digits.
fn json_lines(json: &str) -> String {
    let (mut lines, mut depth) = (String::new(), 0_usize);
    let (mut in_text, mut escaped) = (false, false);
    let mut before = ' ';
    for character in json.chars() {
        if in_text {
            lines.push(character);
            in_text = escaped || character != '"';
            escaped = !escaped && character == '\\';
            continue;
        }
        if character.is_ascii_whitespace() {
            continue;
        }
        let (opened, closes) = (matches!(before, '{' | '['), matches!(character, '}' | ']'));
        depth = depth.saturating_sub(usize::from(closes));
        if opened != closes || before == ',' {
            lines.push('\n');
            lines.push_str(&"  ".repeat(depth));
        }
        lines.push(character);
        if character == ':' {
            lines.push(' ');
        }
        depth += usize::from(matches!(character, '{' | '['));
        in_text = character == '"';
        before = character;
    }
    lines
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn json_is_spread_over_lines_and_keeps_its_order_and_its_digits() {
        let json = r#"{"b": 1.10,"a":[ {}, [],"x,\"{\\",{"c":null}]}"#;
        let lines = r#"{
  "b": 1.10,
  "a": [
    {},
    [],
    "x,\"{\\",
    {
      "c": null
    }
  ]
}"#;
        assert_eq!(json_lines(json), lines);
    }

    proptest! {
        #[test]
        fn spread_json_says_the_same(text: String, number: i64, list: Vec<String>) {
            let value = json!({ "text": text, "list": list, "inside": { "number": number, "none": [] } });
            let compact = serde_json::to_string(&value).unwrap();
            prop_assert_eq!(json_lines(&compact), serde_json::to_string_pretty(&value).unwrap());
            prop_assert_eq!(json_lines(&json_lines(&compact)), json_lines(&compact));
        }
    }
}
