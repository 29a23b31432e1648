//! What commands print: data to stdout, talk to stderr.
//!
//! Owns tables, colours, relative times and the cleaning of texts that strangers chose. Colours are left out
//! where the output is no terminal or `NO_COLOR` is set.

use std::fmt::Display;
use std::io::{self, Write as _};
use std::time::Duration;

use comfy_table::{Attribute, Cell, Color, ColumnConstraint, ContentArrangement};
use hookfast_engine::time::Timestamp;
use owo_colors::OwoColorize as _;
use serde::Serialize;

use crate::admin::wire::{DeliveryState, Time};
use crate::clock::Clock;

/// Prints a line of data.
pub(super) fn line(text: impl Display) -> io::Result<()> {
    writeln!(anstream::stdout().lock(), "{text}")
}

/// Prints bytes as they are.
pub(super) fn bytes(bytes: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes)?;
    stdout.flush()
}

/// Prints JSON that people can read too.
pub(super) fn json(value: &impl Serialize) -> anyhow::Result<()> {
    line(serde_json::to_string_pretty(value)?)?;
    Ok(())
}

/// Prints JSON on one line.
pub(super) fn json_line(value: &impl Serialize) -> anyhow::Result<()> {
    line(serde_json::to_string(value)?)?;
    Ok(())
}

/// Prints a line of data where nobody needs to read it for the command to go on.
pub fn data(text: &str) {
    // A server does not stop because nobody reads what it says.
    drop(line(text));
}

/// Says something to whoever runs the command.
pub fn talk(text: &str) {
    // Nobody can be told that stderr is closed.
    drop(writeln!(anstream::stderr().lock(), "{text}"));
}

/// Says something in place of what was said before on the same line of a terminal.
pub fn talk_over(text: &str) {
    let mut stderr = anstream::stderr().lock();
    drop(write!(stderr, "\r{text}").and_then(|()| stderr.flush()));
}

/// Warns whoever runs the command.
pub(super) fn warning(text: impl Display) {
    talk(&format!("{} {text}", "warning:".yellow().bold()));
}

/// Says why the command failed.
pub(super) fn error(text: impl Display) {
    talk(&format!("{} {text}", "error:".red().bold()));
}

/// A text that strangers chose, with whatever could command a terminal written out.
pub(super) fn clean(text: &str) -> String {
    let escape = |character: char| {
        let harmful =
            character.is_control() || matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if harmful {
            character.escape_unicode().to_string()
        } else {
            character.to_string()
        }
    };
    text.chars().map(escape).collect()
}

/// The same for a text of several lines.
pub(super) fn clean_lines(text: &str) -> String {
    text.split('\n').map(clean).collect::<Vec<_>>().join("\n")
}

/// A point in time as seen from now: `3m ago`, `in 20s`.
pub(super) fn relative(now: Timestamp, time: Time) -> String {
    let at = time.0;
    if at > now {
        match at.since(now) {
            soon if soon < Duration::from_secs(1) => "now".to_owned(),
            later => format!("in {}", rough(later)),
        }
    } else {
        match now.since(at) {
            just if just < Duration::from_secs(1) => "now".to_owned(),
            before => format!("{} ago", rough(before)),
        }
    }
}

/// A duration in its largest unit.
pub(super) fn rough(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 => format!("{}ms", duration.as_millis()),
        1..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// The word for a state, as the API writes it.
pub(super) fn word(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        Ok(other) => other.to_string(),
        Err(_) => String::new(),
    }
}

/// A table, as wide as the terminal where there is one.
pub(super) struct Table {
    table: comfy_table::Table,
    now: Timestamp,
}

impl Table {
    /// A table with these columns. Those that begin with `=` are never broken over lines.
    pub(super) fn new(columns: &[&str]) -> Self {
        let mut table = comfy_table::Table::new();
        table.load_style(comfy_table::presets::NOTHING);
        table.set_content_arrangement(ContentArrangement::Dynamic);
        let name = |column: &&str| Cell::new(column.trim_start_matches('=')).add_attribute(Attribute::Bold);
        table.set_header(columns.iter().map(name));
        for (index, column) in columns.iter().enumerate() {
            if let Some(found) = table.column_mut(index) {
                let last = index + 1 == columns.len();
                found.set_padding((0, if last { 0 } else { 2 }));
                if column.starts_with('=') {
                    found.set_constraint(ColumnConstraint::ContentWidth);
                }
            }
        }
        // Where colours are not wanted, `line` takes them out again.
        table.enforce_styling();
        Self {
            table,
            now: Clock.now(),
        }
    }

    /// The time that relative times count from.
    pub(super) fn now(&self) -> Timestamp {
        self.now
    }

    /// Adds a row.
    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.table.add_row(cells.into_iter().collect::<Vec<_>>());
    }

    /// Prints the table.
    pub(super) fn print(&self) -> io::Result<()> {
        for text in self.table.lines() {
            line(text.trim_end())?;
        }
        Ok(())
    }
}

/// A cell with a text that may be a stranger's.
pub(super) fn cell(text: impl Display) -> Cell {
    Cell::new(clean(&text.to_string()))
}

/// A cell with what may be missing.
pub(super) fn maybe(text: Option<impl Display>) -> Cell {
    match text {
        Some(text) => cell(text),
        None => dim("-"),
    }
}

/// A cell that steps back.
pub(super) fn dim(text: impl Display) -> Cell {
    cell(text).fg(Color::DarkGrey)
}

/// A cell with a state, in its colour.
pub(super) fn state(state: DeliveryState) -> Cell {
    let color = match state {
        DeliveryState::Delivered => Color::Green,
        DeliveryState::Pending | DeliveryState::InFlight => Color::Cyan,
        DeliveryState::Retrying => Color::Yellow,
        DeliveryState::Held => Color::Magenta,
        DeliveryState::Rejected | DeliveryState::Dead => Color::Red,
        DeliveryState::Filtered | DeliveryState::Discarded => Color::DarkGrey,
    };
    cell(word(&state)).fg(color)
}

/// A state in its colour, outside of tables.
pub(super) fn state_text(state: DeliveryState) -> String {
    let word = word(&state);
    match state {
        DeliveryState::Delivered => word.green().to_string(),
        DeliveryState::Pending | DeliveryState::InFlight => word.cyan().to_string(),
        DeliveryState::Retrying => word.yellow().to_string(),
        DeliveryState::Held => word.magenta().to_string(),
        DeliveryState::Rejected | DeliveryState::Dead => word.red().to_string(),
        DeliveryState::Filtered | DeliveryState::Discarded => word.dimmed().to_string(),
    }
}

/// Prints `name: value` lines of one thing; what has no value is left out.
pub(super) fn facts<const N: usize>(facts: [(&str, Option<String>); N]) -> io::Result<()> {
    let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or(0) + 1;
    for (name, value) in facts {
        if let Some(value) = value {
            let name = format!("{name}:");
            line(format_args!(
                "{} {}",
                format!("{name:width$}").dimmed(),
                clean(&value)
            ))?;
        }
    }
    Ok(())
}

/// A heading between parts of an output.
pub(super) fn heading(text: &str) -> io::Result<()> {
    line(format_args!("\n{}", text.bold()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_strangers_cannot_command_the_terminal() {
        assert_eq!(
            clean("plain \u{e9} \u{1b}[31m\r\n"),
            "plain \u{e9} \\u{1b}[31m\\u{d}\\u{a}"
        );
        assert_eq!(clean("a\u{202e}b\u{9b}c"), "a\\u{202e}b\\u{9b}c");
        assert_eq!(clean_lines("a\n\u{7}b"), "a\n\\u{7}b");
    }

    #[test]
    fn times_are_told_from_now() {
        let now = Timestamp::from_secs(1_000_000);
        for (offset, expected) in [
            (0, "now"),
            (-5, "5s ago"),
            (-119, "119s ago"),
            (-600, "10m ago"),
            (-7_200, "2h ago"),
            (-864_000, "10d ago"),
            (20, "in 20s"),
        ] {
            assert_eq!(
                relative(now, Time(Timestamp::from_secs(1_000_000 + offset))),
                expected
            );
        }
    }

    #[test]
    fn a_table_lines_its_columns_up() {
        let mut table = Table::new(&["=ID", "STATE"]);
        table.row([cell("evt_1"), state(DeliveryState::Dead)]);
        table.row([cell("evt_long"), maybe(None::<String>)]);
        let plain = |line: String| {
            anstream::adapter::strip_str(&line)
                .to_string()
                .trim_end()
                .to_owned()
        };
        let lines: Vec<_> = table.table.lines().map(plain).collect();
        assert_eq!(lines, ["ID        STATE", "evt_1     dead", "evt_long  -"]);
    }
}
