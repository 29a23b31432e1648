//! Owns one measurement: a stand, a load, a window, and the check that what was promised was kept.
//! It must not know the other measurements it will be compared with.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde::Serialize;

use crate::clock;
use crate::load::{Idle, Load, Plan, Tally};
use crate::peer::sink::{self, Seen};
use crate::process::{Usage, own_usage};
use crate::stand::{Kind, Stand};

/// How often the sink is asked whether all has arrived.
const DRAIN_POLL: Duration = Duration::from_millis(20);

/// How each measurement is made.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Settings {
    /// The hookfast binary.
    pub(crate) hookfast: Option<PathBuf>,
    /// Where the servers keep their data: on the disk that is meant.
    pub(crate) work_dir: PathBuf,
    /// Seconds of load before the window.
    pub(crate) warm_up_seconds: f64,
    /// Seconds of the window.
    pub(crate) seconds: f64,
    /// Requests after which a load ends whatever the time.
    pub(crate) max_requests: u64,
    /// Threads of the load generator.
    pub(crate) generator_threads: usize,
    /// Requests of an idle measurement.
    pub(crate) idle_requests: u64,
    /// Seconds that deliveries may take after the load has ended.
    pub(crate) drain_seconds: f64,
    /// Further destinations of Hookfast, which take nothing of what is sent.
    pub(crate) bystanders: usize,
}

/// One server at one number of connections. Times whose name ends in `_us` are microseconds.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Measurement {
    /// Which run of the whole this was, from 1.
    pub(crate) run: usize,
    /// What was measured.
    pub(crate) server: Kind,
    /// Connections of the load.
    pub(crate) connections: usize,
    /// Length of the window.
    pub(crate) window_seconds: f64,
    /// Answers of status 200 within the window, per second.
    pub(crate) requests_per_second: f64,
    /// Time to the 200.
    pub(crate) p50_us: Option<f64>,
    /// Time to the 200.
    pub(crate) p99_us: Option<f64>,
    /// Time to the 200.
    pub(crate) p999_us: Option<f64>,
    /// CPU time of the server for each 200. End to end: from the first request until all was delivered, for each event.
    pub(crate) cpu_us_per_request: Option<f64>,
    /// CPU time of the load generator for each 200: where it and the server's add up to all cores, the cores are full.
    pub(crate) generator_cpu_us_per_request: Option<f64>,
    /// The most resident memory of the server.
    pub(crate) peak_rss_bytes: u64,
    /// All answers of status 200, with the warm-up.
    pub(crate) accepted: u64,
    /// How many answers had each other status.
    pub(crate) refused: BTreeMap<u16, u64>,
    /// Requests whose answer never came.
    pub(crate) unanswered: u64,
    /// Events the server has stored at the end, if it stores any.
    pub(crate) stored: Option<u64>,
    /// What the sink saw, end to end.
    pub(crate) delivery: Option<Delivery>,
}

/// What came out at the other end.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Delivery {
    /// Events that reached the sink for the first time within the window, per second.
    pub(crate) delivered_per_second: f64,
    /// From the end of the window until the last event had arrived.
    pub(crate) drain_seconds: f64,
    /// Different events that arrived, with the warm-up.
    pub(crate) unique: u64,
    /// Further arrivals of the same events.
    pub(crate) repeated: u64,
    /// Arrivals whose `webhook-id` is not one that was sent.
    pub(crate) foreign: u64,
    /// From sending to arrival at the sink, of events that arrived after the window began.
    pub(crate) p50_us: Option<f64>,
    /// The same.
    pub(crate) p99_us: Option<f64>,
    /// The same.
    pub(crate) p999_us: Option<f64>,
}

/// One server with one request each 5 ms. Times are microseconds.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct IdleMeasurement {
    /// Which run of the whole this was, from 1.
    pub(crate) run: usize,
    /// What was measured.
    pub(crate) server: Kind,
    /// Requests that count.
    pub(crate) requests: u64,
    /// Time to the 200.
    pub(crate) ack_p50_us: Option<f64>,
    /// Time to the 200.
    pub(crate) ack_p99_us: Option<f64>,
    /// From sending to arrival at the sink, end to end.
    pub(crate) sink_p50_us: Option<f64>,
    /// The same.
    pub(crate) sink_p99_us: Option<f64>,
}

/// What two readings of everything say about the time between them.
struct Edge {
    at: Instant,
    server: Usage,
    generator: Usage,
    sink: Option<Seen>,
}

impl Edge {
    /// Reads at the beginning: the sink first, so that the window begins with the last reading.
    async fn first(stand: &Stand) -> Result<Self> {
        let sink = match stand.sink() {
            Some(address) => Some(sink::begin_window(address).await?),
            None => None,
        };
        Self::read(stand, sink)
    }

    /// Reads at the end: the sink last, for a busy one answers late and says itself when it counted.
    async fn last(stand: &Stand) -> Result<Self> {
        let mut edge = Self::read(stand, None)?;
        if let Some(address) = stand.sink() {
            edge.sink = Some(sink::seen(address).await?);
        }
        Ok(edge)
    }

    fn read(stand: &Stand, sink: Option<Seen>) -> Result<Self> {
        Ok(Self {
            at: clock::now(),
            server: stand.server().usage()?,
            generator: own_usage()?,
            sink,
        })
    }
}

/// Measures `kind` at `connections`, and adds to `faults` what is wrong with what it stored or delivered.
pub(crate) async fn load(
    settings: &Settings,
    run: usize,
    kind: Kind,
    connections: usize,
    faults: &mut Vec<String>,
) -> Result<Measurement> {
    let stand = start(settings, kind).await?;
    let plan = plan(settings, &stand, connections);
    let before = stand.server().usage()?;
    let mut load = Load::start(&plan)?;
    load.run_for(Duration::from_secs_f64(settings.warm_up_seconds))
        .await?;
    let first = Edge::first(&stand).await?;
    load.begin_window();
    load.run_for(Duration::from_secs_f64(settings.seconds)).await?;
    load.end_window();
    let ended_at = clock::unix_nanos();
    let last = Edge::last(&stand).await?;
    let tally = load.finish().await?;
    let drained = match stand.sink() {
        Some(address) => Some(drain(settings, address, tally.accepted).await?),
        None => None,
    };
    let finally = stand.server().usage()?;
    let stored = stand.finish(tally.accepted).await?;

    let requests = tally.accepted_in_window;
    let window_seconds = (last.at - first.at).as_secs_f64();
    let delivery = delivery(&first, &last, drained.as_ref(), ended_at);
    let cpu_us_per_request = if delivery.is_some() {
        micros_each(finally.cpu_nanos - before.cpu_nanos, tally.accepted)
    } else {
        micros_each(last.server.cpu_nanos - first.server.cpu_nanos, requests)
    };
    let name = format!("run {run}, {} at {connections} connections", kind.label());
    check(&name, &tally, stored, delivery.as_ref(), faults);
    Ok(Measurement {
        run,
        server: kind,
        connections,
        window_seconds,
        requests_per_second: requests as f64 / window_seconds,
        p50_us: tally.latency.quantile(0.5).map(micros),
        p99_us: tally.latency.quantile(0.99).map(micros),
        p999_us: tally.latency.quantile(0.999).map(micros),
        cpu_us_per_request,
        generator_cpu_us_per_request: micros_each(
            last.generator.cpu_nanos - first.generator.cpu_nanos,
            requests,
        ),
        peak_rss_bytes: finally.peak_bytes,
        accepted: tally.accepted,
        refused: tally.refused,
        unanswered: tally.unanswered,
        stored,
        delivery,
    })
}

/// Measures `kind` when it has nothing else to do, and adds to `faults` like `load`.
pub(crate) async fn idle(
    settings: &Settings,
    run: usize,
    kind: Kind,
    faults: &mut Vec<String>,
) -> Result<IdleMeasurement> {
    let stand = start(settings, kind).await?;
    let idle = Idle::start(&plan(settings, &stand, 1)).await?;
    if let Some(address) = stand.sink() {
        drain(settings, address, idle.accepted()).await?;
        sink::begin_window(address).await?;
    }
    let tally = idle.run(settings.idle_requests).await?;
    let seen = match stand.sink() {
        Some(address) => Some(drain(settings, address, tally.accepted).await?),
        None => None,
    };
    let stored = stand.finish(tally.accepted).await?;
    let name = format!("run {run}, {} when idle", kind.label());
    check(&name, &tally, stored, None, faults);
    if let Some(lost) = seen
        .as_ref()
        .map(|seen| tally.accepted.saturating_sub(seen.unique))
        .filter(|lost| *lost > 0)
    {
        faults.push(format!(
            "{name}: {lost} of {} accepted events were not delivered",
            tally.accepted
        ));
    }
    let age = |pick: fn(&Seen) -> Option<u64>| seen.as_ref().and_then(pick).map(micros);
    Ok(IdleMeasurement {
        run,
        server: kind,
        requests: tally.latency.total(),
        ack_p50_us: tally.latency.quantile(0.5).map(micros),
        ack_p99_us: tally.latency.quantile(0.99).map(micros),
        sink_p50_us: age(|seen| seen.age_p50),
        sink_p99_us: age(|seen| seen.age_p99),
    })
}

async fn start(settings: &Settings, kind: Kind) -> Result<Stand> {
    let hookfast = settings.hookfast.as_deref();
    Stand::start(kind, &settings.work_dir, hookfast, settings.bystanders).await
}

fn plan(settings: &Settings, stand: &Stand, connections: usize) -> Plan {
    Plan {
        target: stand.target(),
        connections,
        threads: settings.generator_threads,
        max_requests: settings.max_requests,
    }
}

/// Waits until the sink has seen `expected` different events or the time for it is over.
async fn drain(settings: &Settings, sink: SocketAddr, expected: u64) -> Result<Seen> {
    let began = clock::now();
    loop {
        let seen = sink::seen(sink).await?;
        if seen.unique >= expected || clock::nanos_since(began) as f64 / 1e9 > settings.drain_seconds {
            return Ok(seen);
        }
        tokio::time::sleep(DRAIN_POLL).await;
    }
}

fn delivery(first: &Edge, last: &Edge, drained: Option<&Seen>, ended_at: u64) -> Option<Delivery> {
    let (before, after, drained) = (first.sink.as_ref()?, last.sink.as_ref()?, drained?);
    let seconds = after.at.saturating_sub(before.at) as f64 / 1e9;
    Some(Delivery {
        delivered_per_second: (after.unique - before.unique) as f64 / seconds,
        drain_seconds: drained.last_new_at.saturating_sub(ended_at) as f64 / 1e9,
        unique: drained.unique,
        repeated: drained.repeated,
        foreign: drained.foreign,
        p50_us: drained.age_p50.map(micros),
        p99_us: drained.age_p99.map(micros),
        p999_us: drained.age_p999.map(micros),
    })
}

/// A 200 is a promise: there must be as many events as 200s. A request without an answer may have left one more.
fn check(
    name: &str,
    tally: &Tally,
    stored: Option<u64>,
    delivery: Option<&Delivery>,
    faults: &mut Vec<String>,
) {
    let expected = tally.accepted..=tally.accepted + tally.unanswered;
    if let Some(stored) = stored.filter(|stored| !expected.contains(stored)) {
        let unanswered = tally.unanswered;
        faults.push(format!(
            "{name}: {stored} events are stored, but {} requests were answered 200 ({unanswered} had no answer)",
            tally.accepted
        ));
    }
    if let Some(delivery) = delivery.filter(|delivery| !expected.contains(&delivery.unique)) {
        faults.push(format!(
            "{name}: {} different events were delivered, but {} requests were answered 200 \
             ({} deliveries had another webhook-id than the id that was sent)",
            delivery.unique, tally.accepted, delivery.foreign
        ));
    }
    if tally.accepted_in_window == 0 {
        let why = tally.first_refusal.as_deref().unwrap_or("no answer came");
        faults.push(format!(
            "{name}: no request was answered 200 within the window; the first refusal: {why}"
        ));
    }
}

fn micros(nanos: u64) -> f64 {
    nanos as f64 / 1e3
}

fn micros_each(nanos: u64, count: u64) -> Option<f64> {
    (count > 0).then(|| micros(nanos) / count as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(accepted: u64, unanswered: u64, stored: Option<u64>) -> Vec<String> {
        let tally = Tally {
            accepted,
            accepted_in_window: 1,
            unanswered,
            ..Tally::default()
        };
        let mut faults = Vec::new();
        check("test", &tally, stored, None, &mut faults);
        faults
    }

    #[test]
    fn as_many_events_as_200s_is_no_fault() {
        assert!(faults(10, 0, Some(10)).is_empty());
        assert!(faults(10, 0, None).is_empty());
    }

    #[test]
    fn a_lost_or_an_extra_event_is_a_fault() {
        assert_eq!(
            faults(10, 0, Some(9)),
            ["test: 9 events are stored, but 10 requests were answered 200 (0 had no answer)"]
        );
        assert_eq!(faults(10, 0, Some(11)).len(), 1);
    }

    #[test]
    fn a_request_without_an_answer_may_have_left_one_event_more_and_none_less() {
        assert!(faults(10, 1, Some(11)).is_empty());
        assert_eq!(faults(10, 1, Some(9)).len(), 1);
    }

    #[test]
    fn a_window_without_a_200_is_a_fault_that_quotes_the_refusal() {
        let tally = Tally {
            first_refusal: Some("401 Unauthorized: no".into()),
            ..Tally::default()
        };
        let mut faults = Vec::new();
        check("test", &tally, None, None, &mut faults);
        assert!(faults[0].contains("401 Unauthorized: no"), "{faults:?}");
    }
}
