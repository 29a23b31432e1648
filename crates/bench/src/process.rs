//! Owns the servers under test as child processes: starting, the ready line, CPU and memory, the end.
//! It must not know what the servers do.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

/// How long a server may take until it says that it is ready.
const READY_LIMIT: Duration = Duration::from_secs(30);
/// Nanoseconds in one tick of `/proc/PID/stat`: Linux shows times to programs at 100 Hz whatever its own rate.
const TICK_NANOS: u64 = 10_000_000;

/// A server that runs as a process of its own and dies with this value.
pub(crate) struct Server {
    child: Child,
    pid: u32,
    /// Where it takes requests.
    pub(crate) listen: SocketAddr,
    /// Where it takes administration, if it said so.
    pub(crate) admin: Option<SocketAddr>,
}

/// What a process has used since it started.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    /// User and system time of all its threads, in nanoseconds, in steps of 10 ms.
    pub(crate) cpu_nanos: u64,
    /// The most memory it ever had resident, in bytes.
    pub(crate) peak_bytes: u64,
}

impl Server {
    /// Starts `command` and waits for its line `ready listen=ADDR [admin=ADDR …]`. What it says on standard error
    /// goes to the file `log`, whose end is quoted when it does not become ready.
    pub(crate) async fn start(mut command: Command, log: &Path) -> Result<Self> {
        let program = PathBuf::from(command.as_std().get_program());
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(fs::File::create(log)?)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let pid = child.id().context("the server ended at once")?;
        let stdout = child.stdout.take().context("the server has no standard output")?;
        let mut lines = BufReader::new(stdout).lines();
        let (listen, admin) = match tokio::time::timeout(READY_LIMIT, wait_until_ready(&mut lines)).await {
            Ok(Ok(addresses)) => addresses,
            Ok(Err(error)) => bail!("{}: {error:#}{}", program.display(), last_words(log)),
            Err(_) => {
                bail!(
                    "{} was not ready in {} s{}",
                    program.display(),
                    READY_LIMIT.as_secs(),
                    last_words(log)
                )
            }
        };
        // Read on, or a server that prints more would block on a full pipe.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(Self {
            child,
            pid,
            listen,
            admin,
        })
    }

    /// CPU time and peak memory until now.
    pub(crate) fn usage(&self) -> Result<Usage> {
        usage_of(&self.pid.to_string())
    }

    /// Kills the process and waits until it is gone.
    pub(crate) async fn stop(mut self) -> Result<()> {
        self.child.kill().await.context("cannot stop the server")
    }
}

/// CPU time and peak memory of this process until now.
pub(crate) fn own_usage() -> Result<Usage> {
    usage_of("self")
}

async fn wait_until_ready(
    lines: &mut Lines<BufReader<ChildStdout>>,
) -> Result<(SocketAddr, Option<SocketAddr>)> {
    while let Some(line) = lines.next_line().await? {
        if let Some(addresses) = parse_ready(&line)? {
            return Ok(addresses);
        }
    }
    bail!("it ended before it said `ready listen=ADDR`")
}

fn parse_ready(line: &str) -> Result<Option<(SocketAddr, Option<SocketAddr>)>> {
    let Some(rest) = line.strip_prefix("ready ") else {
        return Ok(None);
    };
    let address = |key: &str| {
        rest.split_whitespace()
            .find_map(|word| word.strip_prefix(key))
            .map(|text| {
                text.parse::<SocketAddr>()
                    .with_context(|| format!("`{line}` has no address at {key}"))
            })
            .transpose()
    };
    let listen = address("listen=")?.with_context(|| format!("`{line}` has no listen="))?;
    Ok(Some((listen, address("admin=")?)))
}

fn last_words(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    let tail = lines[lines.len().saturating_sub(12)..].join("\n  ");
    if tail.is_empty() {
        String::new()
    } else {
        format!("; it said:\n  {tail}")
    }
}

fn usage_of(process: &str) -> Result<Usage> {
    let read = |name: &str| {
        let path = format!("/proc/{process}/{name}");
        fs::read_to_string(&path).with_context(|| format!("cannot read {path} (the bench needs Linux)"))
    };
    let ticks = parse_ticks(&read("stat")?).context("/proc/PID/stat has an unknown form")?;
    let peak_bytes = parse_peak(&read("status")?).context("/proc/PID/status has no VmHWM")?;
    Ok(Usage {
        cpu_nanos: ticks * TICK_NANOS,
        peak_bytes,
    })
}

/// `utime + stime`: the 14th and 15th field, counted after the name, which may itself contain spaces.
fn parse_ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

fn parse_peak(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ready_line_gives_the_addresses_in_any_order() {
        let (listen, admin) = parse_ready("ready admin=127.0.0.1:2 listen=127.0.0.1:1 api=127.0.0.1:3")
            .unwrap()
            .unwrap();
        assert_eq!((listen.port(), admin.unwrap().port()), (1, 2));
        assert_eq!(parse_ready("ready listen=127.0.0.1:1").unwrap().unwrap().1, None);
    }

    #[test]
    fn other_lines_are_not_ready_lines_and_broken_ones_are_errors() {
        assert!(parse_ready("getting ready listen=127.0.0.1:1").unwrap().is_none());
        assert!(parse_ready("ready admin=127.0.0.1:1").is_err());
        assert!(parse_ready("ready listen=nowhere").is_err());
    }

    #[test]
    fn processor_time_is_found_behind_a_name_with_spaces_and_brackets() {
        let stat = "42 (a (b) c) S 1 1 1 0 -1 4194560 100 0 0 0 123 45 0 0 20 0 3 0 9 1 1";
        assert_eq!(parse_ticks(stat), Some(168));
    }

    #[test]
    fn peak_memory_is_in_bytes() {
        assert_eq!(
            parse_peak("Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t 1 kB\n"),
            Some(2 << 20)
        );
    }

    #[test]
    fn this_process_has_used_memory() {
        assert!(own_usage().unwrap().peak_bytes > 0);
    }
}
