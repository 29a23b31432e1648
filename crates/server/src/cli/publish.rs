//! `hookfast event publish`: events go out to whoever subscribed to them (SPEC O1).
//!
//! Owns what is read (a file, stdin, or flags), how many events go into one request, and how the answers are shown.
//! What an event must look like is the server's to say.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::connection::{Connection, block_on, content};
use super::output;
use crate::admin::wire::{self, PUBLISHED_BYTES_MOST, PUBLISHED_EVENTS_MOST};
use crate::client::Client;
use crate::clock::Clock;

const PATH: &str = "/api/v1/events";
const ONE: &str = "application/cloudevents+json";
const LINES: &str = "application/x-ndjson";
/// How often the progress is drawn anew.
const DRAWN_EVERY: Duration = Duration::from_millis(200);

/// What is published.
#[derive(Args, Debug)]
pub(super) struct Publish {
    /// A file with one event (CloudEvents 1.0 in JSON), or with one on each line; - for stdin.
    #[arg(required_unless_present = "event_type", conflicts_with_all = ["event_type", "source", "id", "event_data"])]
    file: Option<PathBuf>,
    /// Takes each line as an event, also where the whole could be read as one.
    #[arg(long, requires = "file", conflicts_with = "event_type")]
    ndjson: bool,
    /// The trigger type of the one event that these flags make.
    #[arg(long = "type", value_name = "TYPE", requires = "source")]
    event_type: Option<String>,
    /// Who says so, such as /billing.
    #[arg(long, value_name = "SOURCE", requires = "event_type")]
    source: Option<String>,
    /// Its id: the same source and id again is a repeat, which is not delivered. One is drawn by default.
    #[arg(long, value_name = "ID", requires = "event_type")]
    id: Option<String>,
    /// Its data as JSON, or @FILE (@- for stdin).
    #[arg(long, value_name = "JSON|@FILE", requires = "event_type")]
    event_data: Option<String>,
    /// Prints JSON; of many events, a line for each.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(connection: &Connection, publish: Publish) -> anyhow::Result<ExitCode> {
    check_directory(&connection.data)?;
    let client = connection.client()?;
    let json = publish.json;
    match publish.input()? {
        Input::One(event) => {
            let answer = block_on(async { Ok(client.post_bytes(PATH, ONE, event).await?) })?;
            print_one(&answer, json)
        }
        Input::Lines(events) => block_on(publish_lines(&client, &events, json)),
    }
}

/// `--data` is the server's data directory here as everywhere; who means the event's data by it is told, before an
/// event goes out without any.
fn check_directory(directory: &Path) -> anyhow::Result<()> {
    let text = directory.as_os_str().as_encoded_bytes();
    if text.first().is_some_and(|first| b"{[\"@".contains(first)) {
        bail!("--data names the server's data directory; write the event's data as --event-data");
    }
    Ok(())
}

enum Input {
    One(Bytes),
    Lines(Bytes),
}

/// An event made from flags; its data goes out byte for byte.
#[derive(Serialize)]
struct Made<'a> {
    specversion: &'static str,
    r#type: &'a str,
    source: &'a str,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
}

impl Publish {
    fn input(self) -> anyhow::Result<Input> {
        if let (Some(event_type), Some(source)) = (&self.event_type, &self.source) {
            let data = self.event_data.as_deref().map(data).transpose()?;
            let drawn = || format!("{:032x}", Clock.entropy());
            let id = self.id.clone().unwrap_or_else(drawn);
            let made = Made {
                specversion: "1.0",
                r#type: event_type,
                source,
                id: &id,
                data: data.as_deref(),
            };
            return Ok(Input::One(Bytes::from(serde_json::to_vec(&made)?)));
        }
        let Some(file) = &self.file else {
            bail!("there is nothing to publish: name a file, or --type and --source");
        };
        let events = content(file)?;
        if events.trim_ascii().is_empty() {
            bail!(
                "{} holds no event",
                if file.as_os_str() == "-" {
                    "stdin".to_owned()
                } else {
                    file.display().to_string()
                }
            );
        }
        let lines = self.ndjson || is_lines(&events);
        let events = Bytes::from(events);
        Ok(if lines {
            Input::Lines(events)
        } else {
            Input::One(events)
        })
    }
}

/// The data that a flag gives, as it stands there.
fn data(argument: &str) -> anyhow::Result<Box<RawValue>> {
    let text = match argument.strip_prefix('@') {
        None => argument.to_owned(),
        Some(path) => String::from_utf8(content(path.as_ref())?)
            .with_context(|| format!("the data in {path} is not UTF-8"))?,
    };
    serde_json::from_str(&text).context("--event-data is not JSON; quote it for the shell, or write @FILE")
}

/// Whether these bytes are events one on each line: they are no JSON as a whole, and a line of them is.
fn is_lines(events: &[u8]) -> bool {
    let is_json = |bytes: &[u8]| serde_json::from_slice::<IgnoredAny>(bytes).is_ok();
    let is_event = |line: &[u8]| line.starts_with(b"{") && is_json(line);
    !is_json(events)
        && events
            .split(|byte| *byte == b'\n')
            .any(|line| is_event(line.trim_ascii()))
}

fn print_one(answer: &[u8], json: bool) -> anyhow::Result<ExitCode> {
    let accepted: wire::Accepted = serde_json::from_slice(answer)
        .context("the server answers in a form that this version does not know")?;
    if json {
        output::json(&accepted)?;
    } else {
        let repeat = if accepted.repeat {
            "yes: it was published before, and nothing is delivered twice"
        } else {
            "no"
        };
        output::facts([
            ("id", Some(accepted.id)),
            ("repeat", Some(repeat.to_owned())),
            ("deliveries", accepted.deliveries.map(|count| count.to_string())),
        ])?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A line of the input.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Line {
    /// From 1.
    number: usize,
    event: Bytes,
}

/// The lines that hold something.
fn lines(events: &Bytes) -> impl Iterator<Item = Line> {
    let lines = events.split(|byte| *byte == b'\n').zip(1..);
    lines
        .map(|(line, number)| (line.trim_ascii(), number))
        .filter(|(line, _)| !line.is_empty())
        .map(|(line, number)| Line {
            number,
            event: events.slice_ref(line),
        })
}

/// Parts the lines so that each part fits into one request, in their order. A line that fits into none stands alone.
fn requests(lines: impl Iterator<Item = Line>) -> Vec<Vec<Line>> {
    let mut requests: Vec<Vec<Line>> = Vec::new();
    let mut bytes = 0;
    for line in lines {
        let takes = line.event.len() + 1;
        match requests.last_mut() {
            Some(last) if last.len() < PUBLISHED_EVENTS_MOST && bytes + takes <= PUBLISHED_BYTES_MOST => {
                bytes += takes;
                last.push(line);
            }
            Some(_) | None => {
                bytes = takes;
                requests.push(vec![line]);
            }
        }
    }
    requests
}

/// What became of a line, as it is printed.
#[derive(Serialize)]
struct Shown {
    line: usize,
    #[serde(flatten)]
    result: wire::LineResult,
}

#[derive(Default)]
struct Totals {
    stored: u64,
    repeats: u64,
    refused: u64,
}

async fn publish_lines(client: &Client, events: &Bytes, json: bool) -> anyhow::Result<ExitCode> {
    let requests = requests(lines(events));
    let count = requests.iter().map(Vec::len).sum::<usize>();
    let bar = ProgressBar::new(u64::try_from(count).unwrap_or(u64::MAX));
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} events ({elapsed}, {eta} left)") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(DRAWN_EVERY);
    let mut totals = Totals::default();
    for request in requests {
        let answered = match publish_request(client, &request).await {
            Ok(answered) => answered,
            Err(error) => {
                bar.finish_and_clear();
                let first = request.first().map_or(0, |line| line.number);
                return Err(error.context(format!(
                    "stopped at line {first}, {} before it are stored; publish it all again, repeats are not \
                     delivered twice",
                    totals.stored + totals.repeats
                )));
            }
        };
        for (line, result) in request.iter().zip(answered) {
            totals.count(&result);
            bar.suspend(|| say(line.number, result, json))?;
        }
        bar.inc(u64::try_from(request.len()).unwrap_or(0));
    }
    bar.finish_and_clear();
    totals.print(json)
}

/// Publishes the lines of one request; what became of each, in their order.
async fn publish_request(client: &Client, lines: &[Line]) -> anyhow::Result<Vec<wire::LineResult>> {
    if let [line] = lines
        && line.event.len() >= PUBLISHED_BYTES_MOST
    {
        let detail =
            format!("the line has more than {PUBLISHED_BYTES_MOST} bytes, and no request can hold it");
        return Ok(vec![wire::LineResult::refused(413, "request-too-large", detail)]);
    }
    let mut body = Vec::with_capacity(lines.iter().map(|line| line.event.len() + 1).sum());
    for line in lines {
        body.extend_from_slice(&line.event);
        body.push(b'\n');
    }
    let answer = client.post_bytes(PATH, LINES, Bytes::from(body)).await?;
    let answers = serde_json::Deserializer::from_slice(&answer).into_iter();
    let answers: Vec<wire::LineResult> = answers
        .collect::<Result<_, _>>()
        .context("the server answers in a form that this version does not know")?;
    ensure!(
        answers.len() == lines.len(),
        "the server answered {} of {} events",
        answers.len(),
        lines.len()
    );
    Ok(answers)
}

/// Prints a line's result as JSON where it is asked for; says why a line was refused in any case.
fn say(line: usize, result: wire::LineResult, json: bool) -> anyhow::Result<()> {
    if let Some(detail) = &result.detail {
        output::talk(&format!(
            "line {line}: refused with {}: {}",
            result.status,
            output::clean(detail)
        ));
    }
    if json {
        output::json_line(&Shown { line, result })?;
    }
    Ok(())
}

impl Totals {
    fn count(&mut self, result: &wire::LineResult) {
        match (&result.id, result.repeat) {
            (None, _) => self.refused += 1,
            (Some(_), Some(true)) => self.repeats += 1,
            (Some(_), Some(false) | None) => self.stored += 1,
        }
    }

    fn print(&self, json: bool) -> anyhow::Result<ExitCode> {
        if !json {
            output::line(format_args!(
                "{} stored, {} repeats, {} refused",
                self.stored, self.repeats, self.refused
            ))?;
        }
        Ok(if self.refused == 0 {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(requests: &[Vec<Line>]) -> Vec<Vec<usize>> {
        let numbers = |request: &Vec<Line>| request.iter().map(|line| line.number).collect();
        requests.iter().map(numbers).collect()
    }

    #[test]
    fn one_event_over_several_lines_is_told_from_events_on_lines() {
        for (events, expected) in [
            ("{\"a\": 1}", false),
            ("{\n  \"a\": 1\n}\n", false),
            ("{\"a\": 1}\n{\"a\": 2}\n", true),
            ("{\"a\": 1}\n\n{\"a\"\n", true),
            ("{ broken", false),
            ("no\nevent\n", false),
        ] {
            assert_eq!(is_lines(events.as_bytes()), expected, "{events}");
        }
    }

    #[test]
    fn requests_hold_what_the_api_takes_at_once_and_lines_keep_their_numbers() {
        let events = Bytes::from_static(b"\n{}\n  \n{} \r\n{}");
        assert_eq!(numbers(&requests(lines(&events))), [[2, 4, 5]]);

        let many = Bytes::from("{}\n".repeat(PUBLISHED_EVENTS_MOST + 1));
        let parts: Vec<_> = requests(lines(&many)).iter().map(Vec::len).collect();
        assert_eq!(parts, [PUBLISHED_EVENTS_MOST, 1]);

        let half = "x".repeat(PUBLISHED_BYTES_MOST / 2 - 1);
        let fits = Bytes::from(format!("{half}\n{half}"));
        assert_eq!(numbers(&requests(lines(&fits))), [[1, 2]]);
        let over = Bytes::from(format!("{half}\n{half}x\n{half}"));
        assert_eq!(numbers(&requests(lines(&over))), [[1], [2], [3]]);
    }
}
