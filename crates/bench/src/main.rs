//! Owns the command line of the bench and the order of its measurements.
//! It must not know how a server is started, loaded or judged.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand};

use crate::measure::{IdleMeasurement, Measurement, Settings};
use crate::report::Report;
use crate::stand::Kind;

mod clock;
mod compare;
mod histogram;
mod hookfast;
mod http;
mod load;
mod machine;
mod measure;
mod notification;
mod output;
mod peer;
mod process;
mod report;
mod stand;

/// Measures Hookfast beside a bare HTTP server and the design people write by hand.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measure side by side; exits with 1 if anything answered 200 was not stored.
    ///
    /// Examples:
    ///   bench run --hookfast target/release/hookfast --json bench.json
    ///   bench run --servers bare,naive --quick
    #[command(verbatim_doc_comment)]
    Run(Run),
    /// Run one of the servers that the measurement starts for itself.
    #[command(subcommand)]
    Peer(Peer),
}

#[derive(Subcommand)]
enum Peer {
    /// Reads the body and answers 200.
    Bare,
    /// Verifies, inserts and commits each request alone, then answers 200.
    Naive {
        /// Directory of the database.
        #[arg(long)]
        data: PathBuf,
    },
    /// Counts deliveries.
    Sink,
}

#[derive(Args)]
struct Run {
    /// The hookfast binary.
    #[arg(long, value_name = "PATH")]
    hookfast: Option<PathBuf>,
    /// What to measure.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "bare,naive,ingest,end-to-end,publish"
    )]
    servers: Vec<Kind>,
    /// Connections, each with one request under way at a time.
    #[arg(long, value_delimiter = ',', default_value = "64,256", value_parser = at_least_one)]
    connections: Vec<usize>,
    /// How often everything is measured, in alternating order.
    #[arg(long, default_value = "3", value_parser = at_least_one)]
    runs: usize,
    /// Seconds of each measurement.
    #[arg(long, default_value = "5", value_parser = seconds)]
    seconds: f64,
    /// Seconds of load before each measurement.
    #[arg(long, default_value = "1", value_parser = seconds)]
    warm_up: f64,
    /// Requests after which a measurement ends whatever the time, warm-up included.
    #[arg(long, default_value_t = 100_000_000)]
    max_requests: u64,
    /// Requests of each idle measurement; 0 leaves it out.
    #[arg(long, default_value_t = 400)]
    idle_requests: u64,
    /// Threads of the load generator [default: half the cores].
    #[arg(long, value_parser = at_least_one)]
    generator_threads: Option<usize>,
    /// Seconds that deliveries may take after the load has ended.
    #[arg(long, default_value = "60", value_parser = seconds)]
    drain: f64,
    /// Further destinations of Hookfast, with 1,000 trigger types between them, which take nothing of what is sent.
    #[arg(long, default_value_t = 0)]
    bystanders: usize,
    /// One short run: 1 second each, 100 idle requests. The figures mean little.
    #[arg(long, conflicts_with_all = ["runs", "seconds", "idle_requests"])]
    quick: bool,
    /// Directory, on the disk that is meant, for the data of the servers.
    #[arg(long, value_name = "DIR", default_value_os_t = std::env::temp_dir())]
    work_dir: PathBuf,
    /// Also write everything as JSON to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|count| *count > 0)
        .ok_or_else(|| "not a whole number of at least 1".to_owned())
}

fn seconds(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|seconds| (0.0..=86_400.0).contains(seconds))
        .ok_or_else(|| "not a number of seconds up to a day".to_owned())
}

fn main() -> ExitCode {
    match execute(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            output::talk(&format!("bench: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn execute(command: Command) -> Result<ExitCode> {
    match command {
        Command::Run(options) => single_threaded()?.block_on(run(options)),
        // The peers use the runtime as people do, except the sink, which is to cost little.
        Command::Peer(Peer::Bare) => tokio::runtime::Runtime::new()?
            .block_on(peer::bare::run())
            .map(|()| ExitCode::SUCCESS),
        Command::Peer(Peer::Naive { data }) => tokio::runtime::Runtime::new()?
            .block_on(peer::naive::run(&data))
            .map(|()| ExitCode::SUCCESS),
        Command::Peer(Peer::Sink) => single_threaded()?
            .block_on(peer::sink::run())
            .map(|()| ExitCode::SUCCESS),
    }
}

fn single_threaded() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")
}

async fn run(options: Run) -> Result<ExitCode> {
    let runs = if options.quick { 1 } else { options.runs };
    let settings = settings(&options)?;
    let machine = machine::Machine::here(&settings.work_dir);
    for warning in machine.warnings() {
        output::talk(&format!("warning: {warning}"));
    }
    let unix_seconds = clock::unix_nanos() / 1_000_000_000;
    let mut faults = Vec::new();
    let figures = measure_all(&settings, &options, runs, &mut faults).await?;
    let report = Report::new(unix_seconds, machine, settings, figures, faults);
    output::line(&report.text())?;
    if let Some(path) = &options.json {
        fs::write(path, serde_json::to_string_pretty(&report)? + "\n")
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    for fault in &report.faults {
        output::talk(&format!("fault: {fault}"));
    }
    Ok(if report.faults.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn settings(options: &Run) -> Result<Settings> {
    if options.hookfast.is_none() && options.servers.iter().any(|kind| kind.is_hookfast()) {
        bail!("give --hookfast PATH, or leave hookfast out with --servers bare,naive");
    }
    fs::create_dir_all(&options.work_dir)
        .with_context(|| format!("cannot create {}", options.work_dir.display()))?;
    let half_the_cores = std::thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).max(1));
    Ok(Settings {
        hookfast: options.hookfast.clone(),
        work_dir: options.work_dir.clone(),
        warm_up_seconds: options.warm_up,
        seconds: if options.quick { 1.0 } else { options.seconds },
        max_requests: options.max_requests,
        generator_threads: options.generator_threads.unwrap_or(half_the_cores),
        idle_requests: if options.quick { 100 } else { options.idle_requests },
        drain_seconds: options.drain,
        bystanders: options.bystanders,
    })
}

/// Measures every server at every number of connections, all runs. Each second run goes backwards, so that what
/// wears off or builds up over time does not favour one place in the order.
async fn measure_all(
    settings: &Settings,
    options: &Run,
    runs: usize,
    faults: &mut Vec<String>,
) -> Result<(Vec<Measurement>, Vec<IdleMeasurement>)> {
    let (mut loaded, mut idle) = (Vec::new(), Vec::new());
    for run in 1..=runs {
        let mut servers = options.servers.clone();
        if run % 2 == 0 {
            servers.reverse();
        }
        for &connections in &options.connections {
            for &kind in &servers {
                let one = measure::load(settings, run, kind, connections, faults)
                    .await
                    .with_context(|| format!("{} at {connections} connections", kind.label()))?;
                output::talk(&format!(
                    "run {run} of {runs}: {} at {connections} connections: {:.0} requests/s",
                    kind.label(),
                    one.requests_per_second
                ));
                loaded.push(one);
            }
        }
        for &kind in servers.iter().filter(|_| settings.idle_requests > 0) {
            let one = measure::idle(settings, run, kind, faults)
                .await
                .with_context(|| format!("{} when idle", kind.label()))?;
            output::talk(&format!("run {run} of {runs}: {} when idle", kind.label()));
            idle.push(one);
        }
    }
    Ok((loaded, idle))
}
