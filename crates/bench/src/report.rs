//! Owns how the figures are shown: tables for people, one JSON document for programs.
//! It must not know how they came about.

use serde::Serialize;

use crate::compare::{IdleSummary, Ratio, Summary, idle_summaries, ratios, summaries};
use crate::machine::Machine;
use crate::measure::{IdleMeasurement, Measurement, Settings};

/// All of one bench.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// When it began, in seconds since 1970.
    pub(crate) unix_seconds: u64,
    /// Where it ran.
    pub(crate) machine: Machine,
    /// How it ran.
    pub(crate) settings: Settings,
    /// Medians over the runs.
    pub(crate) summaries: Vec<Summary>,
    /// Hookfast against its peers.
    pub(crate) ratios: Vec<Ratio>,
    /// Medians over the runs, when idle.
    pub(crate) idle: Vec<IdleSummary>,
    /// What was promised and not kept. Empty, or the bench fails.
    pub(crate) faults: Vec<String>,
    /// Every single measurement.
    pub(crate) measurements: Vec<Measurement>,
    /// Every single measurement when idle.
    pub(crate) idle_measurements: Vec<IdleMeasurement>,
}

impl Report {
    /// Draws the conclusions of the measurements.
    pub(crate) fn new(
        unix_seconds: u64,
        machine: Machine,
        settings: Settings,
        (measurements, idle_measurements): (Vec<Measurement>, Vec<IdleMeasurement>),
        faults: Vec<String>,
    ) -> Self {
        Self {
            unix_seconds,
            machine,
            settings,
            summaries: summaries(&measurements),
            ratios: ratios(&measurements),
            idle: idle_summaries(&idle_measurements),
            faults,
            measurements,
            idle_measurements,
        }
    }

    /// The tables, with what must be known to read them.
    pub(crate) fn text(&self) -> String {
        let machine = &self.machine;
        let mut text = format!(
            "{} cores of {}, {} GiB, Linux {}, data on {}\n\
             1 KiB signed bodies of unique id; window {} s; medians of all runs; load generator and server share the cores\n\n",
            machine.cores,
            machine.processor,
            machine.memory_bytes >> 30,
            machine.kernel,
            machine.file_system,
            self.settings.seconds,
        );
        text += &load_table(&self.summaries);
        if self
            .summaries
            .iter()
            .any(|one| one.delivered_per_second.is_some())
        {
            text += &format!("\n{}", delivery_table(&self.summaries));
        }
        if !self.ratios.is_empty() {
            text += &format!("\n{}", ratio_table(&self.ratios));
        }
        if !self.idle.is_empty() {
            text += &format!("\n{}", idle_table(&self.idle));
        }
        text
    }
}

fn load_table(summaries: &[Summary]) -> String {
    let rows = summaries.iter().map(|one| {
        vec![
            one.server.label().to_owned(),
            one.connections.to_string(),
            grouped(one.requests_per_second),
            format!(
                "{}-{}",
                grouped(one.requests_per_second_range.0),
                grouped(one.requests_per_second_range.1)
            ),
            millis(one.p50_us),
            millis(one.p99_us),
            millis(one.p999_us),
            decimals(one.cpu_us_per_request, 1),
            decimals(one.generator_cpu_us_per_request, 1),
            decimals(Some(one.peak_rss_bytes / f64::from(1 << 20)), 0),
            one.refused.to_string(),
        ]
    });
    let titles = [
        "server",
        "conns",
        "req/s",
        "range",
        "p50 ms",
        "p99 ms",
        "p99.9 ms",
        "CPU us/req",
        "load us/req",
        "peak MiB",
        "not 200",
    ];
    table(&titles, rows)
}

fn delivery_table(summaries: &[Summary]) -> String {
    let rows = summaries
        .iter()
        .filter(|one| one.delivered_per_second.is_some())
        .map(|one| {
            vec![
                one.server.label().to_owned(),
                one.connections.to_string(),
                grouped(one.requests_per_second),
                one.delivered_per_second.map_or_else(absent, grouped),
                decimals(one.drain_seconds, 2),
                millis(one.sink_p50_us),
                millis(one.sink_p99_us),
            ]
        });
    let titles = [
        "delivery",
        "conns",
        "accepted/s",
        "delivered/s",
        "all there after s",
        "to sink p50 ms",
        "p99 ms",
    ];
    table(&titles, rows)
}

fn ratio_table(ratios: &[Ratio]) -> String {
    let rows = ratios.iter().map(|one| {
        vec![
            format!("{} / {}", one.server.label(), one.against.label()),
            one.connections.to_string(),
            decimals(Some(one.requests_per_second), 2),
            format!(
                "{:.2}-{:.2}",
                one.requests_per_second_range.0, one.requests_per_second_range.1
            ),
            decimals(one.delivered_per_second, 2),
            decimals(one.p50, 2),
            decimals(one.p99, 2),
            decimals(one.cpu_per_request, 2),
        ]
    });
    table(
        &[
            "ratio in the same run",
            "conns",
            "req/s",
            "range",
            "delivered/s",
            "p50",
            "p99",
            "CPU/req",
        ],
        rows,
    )
}

fn idle_table(idle: &[IdleSummary]) -> String {
    let rows = idle.iter().map(|one| {
        vec![
            one.server.label().to_owned(),
            millis(one.ack_p50_us),
            millis(one.ack_p99_us),
            millis(one.sink_p50_us),
            millis(one.sink_p99_us),
        ]
    });
    table(
        &[
            "idle, one request each 5 ms",
            "ack p50 ms",
            "p99 ms",
            "to sink p50 ms",
            "p99 ms",
        ],
        rows,
    )
}

/// Columns as wide as their widest cell: the first to the left, the others to the right.
fn table(titles: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut lines = vec![titles.iter().map(|title| (*title).to_owned()).collect::<Vec<_>>()];
    lines.extend(rows);
    let widths: Vec<_> = (0..titles.len())
        .map(|column| {
            lines
                .iter()
                .map(|line| line[column].chars().count())
                .max()
                .unwrap_or_default()
        })
        .collect();
    lines.insert(1, widths.iter().map(|width| "-".repeat(*width)).collect());
    let mut text = String::new();
    for line in lines {
        for (column, (cell, width)) in line.iter().zip(&widths).enumerate() {
            text += &if column == 0 {
                format!("{cell:<width$}")
            } else {
                format!("  {cell:>width$}")
            };
        }
        text.push('\n');
    }
    text
}

fn absent() -> String {
    "-".to_owned()
}

fn decimals(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(absent, |value| format!("{value:.digits$}"))
}

fn millis(micros: Option<f64>) -> String {
    decimals(micros.map(|micros| micros / 1e3), 2)
}

fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::tests::measured;
    use crate::stand::Kind;

    #[test]
    fn the_tables_look_like_this() {
        let all = [
            measured(1, Kind::Bare, 100_000.0),
            measured(1, Kind::Naive, 5_000.0),
            measured(1, Kind::EndToEnd, 40_000.0),
        ];
        let idle = [IdleSummary {
            server: Kind::EndToEnd,
            ack_p50_us: Some(450.0),
            ack_p99_us: Some(1_200.0),
            sink_p50_us: Some(900.0),
            sink_p99_us: None,
        }];
        let summaries = summaries(&all);
        let text = [
            load_table(&summaries),
            delivery_table(&summaries),
            ratio_table(&ratios(&all)),
            idle_table(&idle),
        ]
        .join("\n");
        assert_eq!(text, include_str!("report.snapshot.txt"), "\n{text}");
    }

    #[test]
    fn thousands_are_grouped() {
        assert_eq!(
            [0.4, 999.0, 1_000.0, 123_456.0, 1_234_567.0].map(grouped),
            ["0", "999", "1,000", "123,456", "1,234,567"]
        );
    }
}
