//! Owns what several runs say together: medians, and ratios between servers of the same run.
//! It must not know how anything was measured, nor how it is shown.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::measure::{IdleMeasurement, Measurement};
use crate::stand::Kind;

/// Medians over all runs of one server at one number of connections.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Summary {
    /// Connections of the load.
    pub(crate) connections: usize,
    /// What was measured.
    pub(crate) server: Kind,
    /// Answers of status 200 per second.
    pub(crate) requests_per_second: f64,
    /// The lowest and highest of the runs.
    pub(crate) requests_per_second_range: (f64, f64),
    /// Time to the 200, in microseconds.
    pub(crate) p50_us: Option<f64>,
    /// Time to the 200, in microseconds.
    pub(crate) p99_us: Option<f64>,
    /// Time to the 200, in microseconds.
    pub(crate) p999_us: Option<f64>,
    /// Microseconds of the server's CPU time for each 200.
    pub(crate) cpu_us_per_request: Option<f64>,
    /// Microseconds of the load generator's CPU time for each 200.
    pub(crate) generator_cpu_us_per_request: Option<f64>,
    /// The most resident memory, in bytes.
    pub(crate) peak_rss_bytes: f64,
    /// Answers other than 200, over all runs.
    pub(crate) refused: u64,
    /// Events that reached the sink per second.
    pub(crate) delivered_per_second: Option<f64>,
    /// Seconds from the end of the load until all was delivered.
    pub(crate) drain_seconds: Option<f64>,
    /// From sending to arrival at the sink under load, in microseconds.
    pub(crate) sink_p50_us: Option<f64>,
    /// The same.
    pub(crate) sink_p99_us: Option<f64>,
}

/// Medians over all runs of one server when idle. Times are microseconds.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct IdleSummary {
    /// What was measured.
    pub(crate) server: Kind,
    /// Time to the 200.
    pub(crate) ack_p50_us: Option<f64>,
    /// Time to the 200.
    pub(crate) ack_p99_us: Option<f64>,
    /// From sending to arrival at the sink.
    pub(crate) sink_p50_us: Option<f64>,
    /// The same.
    pub(crate) sink_p99_us: Option<f64>,
}

/// One server divided by another of the same run and number of connections: the median over the runs.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Ratio {
    /// Connections of the load.
    pub(crate) connections: usize,
    /// The one above the line.
    pub(crate) server: Kind,
    /// The one below the line.
    pub(crate) against: Kind,
    /// Requests per second: more is better.
    pub(crate) requests_per_second: f64,
    /// The lowest and highest of the runs.
    pub(crate) requests_per_second_range: (f64, f64),
    /// Deliveries per second, by the other's requests per second.
    pub(crate) delivered_per_second: Option<f64>,
    /// Time to the 200: less is better.
    pub(crate) p50: Option<f64>,
    /// Time to the 200: less is better.
    pub(crate) p99: Option<f64>,
    /// CPU time per request: less is better.
    pub(crate) cpu_per_request: Option<f64>,
}

/// The medians of `all`, by connections and server.
pub(crate) fn summaries(all: &[Measurement]) -> Vec<Summary> {
    let cells: BTreeSet<_> = all.iter().map(|one| (one.connections, one.server)).collect();
    cells
        .into_iter()
        .map(|(connections, server)| {
            let cell: Vec<_> = all
                .iter()
                .filter(|one| (one.connections, one.server) == (connections, server))
                .collect();
            let of =
                |pick: &dyn Fn(&Measurement) -> Option<f64>| median(cell.iter().filter_map(|one| pick(one)));
            Summary {
                connections,
                server,
                requests_per_second: of(&|one| Some(one.requests_per_second)).unwrap_or_default(),
                requests_per_second_range: range(cell.iter().map(|one| one.requests_per_second)),
                p50_us: of(&|one| one.p50_us),
                p99_us: of(&|one| one.p99_us),
                p999_us: of(&|one| one.p999_us),
                cpu_us_per_request: of(&|one| one.cpu_us_per_request),
                generator_cpu_us_per_request: of(&|one| one.generator_cpu_us_per_request),
                peak_rss_bytes: of(&|one| Some(one.peak_rss_bytes as f64)).unwrap_or_default(),
                refused: cell.iter().map(|one| one.refused.values().sum::<u64>()).sum(),
                delivered_per_second: of(&|one| Some(one.delivery.as_ref()?.delivered_per_second)),
                drain_seconds: of(&|one| Some(one.delivery.as_ref()?.drain_seconds)),
                sink_p50_us: of(&|one| one.delivery.as_ref()?.p50_us),
                sink_p99_us: of(&|one| one.delivery.as_ref()?.p99_us),
            }
        })
        .collect()
}

/// The medians of `all`, by server.
pub(crate) fn idle_summaries(all: &[IdleMeasurement]) -> Vec<IdleSummary> {
    let servers: BTreeSet<_> = all.iter().map(|one| one.server).collect();
    servers
        .into_iter()
        .map(|server| {
            let of = |pick: fn(&IdleMeasurement) -> Option<f64>| {
                median(all.iter().filter(|one| one.server == server).filter_map(pick))
            };
            IdleSummary {
                server,
                ack_p50_us: of(|one| one.ack_p50_us),
                ack_p99_us: of(|one| one.ack_p99_us),
                sink_p50_us: of(|one| one.sink_p50_us),
                sink_p99_us: of(|one| one.sink_p99_us),
            }
        })
        .collect()
}

/// Hookfast against each peer that was measured beside it.
pub(crate) fn ratios(all: &[Measurement]) -> Vec<Ratio> {
    let cells: BTreeSet<_> = all
        .iter()
        .filter(|one| one.server.is_hookfast())
        .map(|one| (one.connections, one.server))
        .collect();
    let pairs = cells.into_iter().flat_map(|(connections, server)| {
        [Kind::Bare, Kind::Naive].map(|against| (connections, server, against))
    });
    pairs
        .filter_map(|(connections, server, against)| ratio(all, connections, server, against))
        .collect()
}

fn ratio(all: &[Measurement], connections: usize, server: Kind, against: Kind) -> Option<Ratio> {
    let find = |run, kind| {
        all.iter()
            .find(|one| (one.run, one.connections, one.server) == (run, connections, kind))
    };
    let runs: BTreeSet<_> = all.iter().map(|one| one.run).collect();
    let pairs: Vec<_> = runs
        .into_iter()
        .filter_map(|run| Some((find(run, server)?, find(run, against)?)))
        .collect();
    if pairs.is_empty() {
        return None;
    }
    let of = |above: fn(&Measurement) -> Option<f64>, below: fn(&Measurement) -> Option<f64>| {
        median(
            pairs
                .iter()
                .filter_map(|(one, other)| Some(above(one)? / below(other)?)),
        )
    };
    let rate: fn(&Measurement) -> Option<f64> = |one| Some(one.requests_per_second);
    Some(Ratio {
        connections,
        server,
        against,
        requests_per_second: of(rate, rate)?,
        requests_per_second_range: range(
            pairs
                .iter()
                .map(|(one, other)| one.requests_per_second / other.requests_per_second),
        ),
        delivered_per_second: of(|one| Some(one.delivery.as_ref()?.delivered_per_second), rate),
        p50: of(|one| one.p50_us, |one| one.p50_us),
        p99: of(|one| one.p99_us, |one| one.p99_us),
        cpu_per_request: of(|one| one.cpu_us_per_request, |one| one.cpu_us_per_request),
    })
}

/// The middle value, or the mean of the two middle ones; `None` of nothing.
fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<_> = values.filter(|value| value.is_finite()).collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

fn range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let values: Vec<_> = values.filter(|value| value.is_finite()).collect();
    let lowest = values.iter().copied().reduce(f64::min).unwrap_or_default();
    (
        lowest,
        values.iter().copied().reduce(f64::max).unwrap_or_default(),
    )
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::measure::Delivery;

    /// A measurement of `rate` requests per second whose other figures follow from it.
    pub(crate) fn measured(run: usize, server: Kind, rate: f64) -> Measurement {
        let delivery = (server == Kind::EndToEnd).then_some(Delivery {
            delivered_per_second: rate * 0.9,
            drain_seconds: 0.25,
            unique: 100,
            repeated: 0,
            foreign: 0,
            p50_us: Some(1_500.0),
            p99_us: Some(20_000.0),
            p999_us: Some(30_000.0),
        });
        Measurement {
            run,
            server,
            connections: 64,
            window_seconds: 5.0,
            requests_per_second: rate,
            p50_us: Some(64e6 / rate),
            p99_us: Some(256e6 / rate),
            p999_us: None,
            cpu_us_per_request: Some(1e6 / rate),
            generator_cpu_us_per_request: Some(8.0),
            peak_rss_bytes: 10 << 20,
            accepted: 100,
            refused: [(503, 2)].into(),
            unanswered: 0,
            stored: Some(100),
            delivery,
        }
    }

    #[test]
    fn a_median_is_the_middle_or_the_mean_of_the_middle_two() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), Some(2.0));
        assert_eq!(median([4.0, 1.0, 3.0, 2.0].into_iter()), Some(2.5));
        assert_eq!(median([f64::NAN].into_iter()), None);
    }

    #[test]
    fn a_ratio_divides_within_each_run_before_it_takes_the_median() {
        // The machine was twice as fast in the second run; the ratio is not.
        let all = [
            measured(1, Kind::Bare, 100.0),
            measured(1, Kind::Ingest, 50.0),
            measured(2, Kind::Bare, 200.0),
            measured(2, Kind::Ingest, 100.0),
        ];
        let ratios = ratios(&all);
        assert_eq!(ratios.len(), 1);
        assert_eq!(
            (ratios[0].against, ratios[0].requests_per_second),
            (Kind::Bare, 0.5)
        );
        assert_eq!(ratios[0].requests_per_second_range, (0.5, 0.5));
        assert_eq!(ratios[0].p50, Some(2.0));
    }

    #[test]
    fn a_summary_adds_refusals_and_keeps_the_range() {
        let all = [
            measured(1, Kind::Naive, 10.0),
            measured(2, Kind::Naive, 30.0),
            measured(3, Kind::Naive, 20.0),
        ];
        let summary = &summaries(&all)[0];
        assert_eq!((summary.requests_per_second, summary.refused), (20.0, 6));
        assert_eq!(summary.requests_per_second_range, (10.0, 30.0));
    }
}
