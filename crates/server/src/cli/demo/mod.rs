//! `hookfast demo`: the whole story on this machine, on real sockets and real processes.
//!
//! Owns the script: a provider that repeats itself, an application that answers 502 for a while, is killed
//! and comes back, and, where asked for, the death of the server itself. Must not use anything that a user
//! could not: the server is the same binary, started with a configuration file.

mod application;
mod provider;

use std::collections::HashSet;
use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use super::output;
use crate::clock::{Clock, Stopwatch};
use application::Ledger;
pub use application::{ApplicationArguments, run as run_application};
use provider::{Provider, Sent};

/// The provider's secret for its webhooks.
const PROVIDER_SECRET: &str = "demo-provider-secret";
/// How long the provider sends.
const SENDING: Duration = Duration::from_secs(20);
/// How long the rest may take to arrive.
const DRAINING: Duration = Duration::from_secs(25);

/// Arguments of `hookfast demo`.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Arguments {
    /// Kill the server too, with SIGKILL, in the middle of it.
    #[arg(long)]
    crash: bool,
}

/// What happens when, in the order of time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Scene {
    Answer502,
    Answer200,
    KillApplication,
    StartApplication,
    KillServer,
}

const SCRIPT: [(u64, Scene, &str); 5] = [
    (3_000, Scene::Answer502, "the application answers 502"),
    (6_000, Scene::Answer200, "the application is well again"),
    (9_000, Scene::KillApplication, "the application is killed"),
    (12_000, Scene::StartApplication, "the application is back"),
    (
        15_000,
        Scene::KillServer,
        "the server is killed with SIGKILL and started again",
    ),
];

/// Tells the story and reports what became of every event.
///
/// # Errors
/// Where a process cannot be started or a file not be written.
pub async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let directory = std::env::temp_dir().join(format!("hookfast-demo-{:016x}", Clock.entropy() as u64));
    std::fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
    let told = tell(arguments, &directory).await;
    if let Err(error) = std::fs::remove_dir_all(&directory) {
        output::talk(&format!("{} is left behind: {error}", directory.display()));
    }
    told
}

async fn tell(arguments: Arguments, directory: &Path) -> anyhow::Result<ExitCode> {
    let mut stage = Stage::open(directory).await?;
    let provider = Provider::start(stage.server.listen, PROVIDER_SECRET, SENDING);
    let started = Clock.start();
    let mut table = Table::new();
    let mut script = SCRIPT
        .iter()
        .filter(|(_, scene, _)| arguments.crash || *scene != Scene::KillServer)
        .peekable();
    loop {
        tokio::time::sleep(Duration::from_millis(100)).await;
        if let Some((_, scene, title)) =
            script.next_if(|(at, ..)| Duration::from_millis(*at) <= started.elapsed())
        {
            table.scene(title);
            stage.play(*scene).await?;
        }
        let (sent, received) = (provider.sent(), stage.ledger.read()?);
        table.show(started, &sent, &received);
        let done = sent.finished && sent.accepted.is_subset(&received.unique);
        if done || started.elapsed() > SENDING + DRAINING {
            table.end();
            return Ok(report(&sent, &received));
        }
    }
}

/// Prints the last line and says whether anything was lost.
fn report(sent: &Sent, received: &application::Received) -> ExitCode {
    let delivered = sent.accepted.intersection(&received.unique).count();
    let lost = sent.accepted.len() - delivered;
    let strangers = received.unique.difference(&sent.tried).count();
    let absorbed = sent.repeats_accepted.saturating_sub(received.again);
    output::data(&format!(
        "demo: {} accepted, {delivered} delivered, {lost} lost, {absorbed} duplicates absorbed",
        sent.accepted.len()
    ));
    if received.again > 0 {
        output::talk(&format!(
            "{} deliveries came a second time with the same webhook-id: their first try was cut off by a kill",
            received.again
        ));
    }
    if received.unverified > 0 || strangers > 0 {
        output::talk(&format!(
            "{} signatures were wrong, {strangers} ids were never sent",
            received.unverified
        ));
    }
    if lost == 0 && received.unverified == 0 && strangers == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// The processes on stage.
struct Stage {
    server: Server,
    application: Option<Child>,
    application_address: SocketAddr,
    signing_secret: String,
    ledger: Ledger,
    directory: PathBuf,
}

struct Server {
    child: Child,
    listen: SocketAddr,
    admin: SocketAddr,
}

impl Stage {
    async fn open(directory: &Path) -> anyhow::Result<Self> {
        let ledger = Ledger::new(directory.join("ledger"));
        let signing_secret = hookfast_signature::Secret::generate_symmetric(&Clock.entropy_bytes())
            .expose()
            .to_owned();
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let (application, application_address) = start_application(any, &ledger, &signing_secret).await?;
        std::fs::write(
            directory.join("hookfast.toml"),
            configuration(application_address, &signing_secret),
        )?;
        let server = start_server(directory, any, any).await?;
        let directory = directory.to_owned();
        Ok(Self {
            server,
            application: Some(application),
            application_address,
            signing_secret,
            ledger,
            directory,
        })
    }

    async fn play(&mut self, scene: Scene) -> anyhow::Result<()> {
        match scene {
            Scene::Answer502 => self.ledger.set_status(502)?,
            Scene::Answer200 => self.ledger.set_status(200)?,
            Scene::KillApplication => {
                if let Some(mut application) = self.application.take() {
                    application.kill().await?;
                }
            }
            Scene::StartApplication => {
                let (address, secret) = (self.application_address, self.signing_secret.clone());
                self.application = Some(start_application(address, &self.ledger, &secret).await?.0);
            }
            Scene::KillServer => {
                self.server.child.kill().await?;
                self.server = start_server(&self.directory, self.server.listen, self.server.admin).await?;
            }
        }
        Ok(())
    }
}

fn configuration(application: SocketAddr, signing_secret: &str) -> String {
    format!(
        r#"[[source]]
name = "nylas"
provider = "nylas"
secrets = ["{PROVIDER_SECRET}"]

[[destination]]
name = "my-app"
url = "http://{application}/webhooks/nylas"
sources = ["nylas"]
allow_private = true
secret = "{signing_secret}"
"#
    )
}

async fn start_server(directory: &Path, listen: SocketAddr, admin: SocketAddr) -> anyhow::Result<Server> {
    let mut child = Command::new(std::env::current_exe()?)
        .arg("serve")
        .arg("--config")
        .arg(directory.join("hookfast.toml"))
        .arg("--data")
        .arg(directory.join("data"))
        .args(["--listen", &listen.to_string(), "--admin", &admin.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(
            std::fs::OpenOptions::new()
                .create(true)
                .append(true)
                .open(directory.join("server.log"))?,
        )
        .kill_on_drop(true)
        .spawn()
        .context("cannot start the server")?;
    let line = first_line(&mut child)
        .await
        .with_context(|| server_log(directory))?;
    let address = |key: &str| {
        line.split(' ')
            .find_map(|word| word.strip_prefix(key)?.parse::<SocketAddr>().ok())
    };
    match (address("listen="), address("admin=")) {
        (Some(listen), Some(admin)) => Ok(Server { child, listen, admin }),
        _ => bail!(
            "the server said `{line}` instead of where it listens; {}",
            server_log(directory)
        ),
    }
}

fn server_log(directory: &Path) -> String {
    let log = std::fs::read_to_string(directory.join("server.log")).unwrap_or_default();
    format!("the server did not start; it said: {log}")
}

async fn start_application(
    address: SocketAddr,
    ledger: &Ledger,
    secret: &str,
) -> anyhow::Result<(Child, SocketAddr)> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(["demo-application", "--listen", &address.to_string(), "--ledger"])
        .arg(ledger.path())
        .env("HOOKFAST_DEMO_SECRET", secret)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("cannot start the application")?;
    let address = first_line(&mut child)
        .await?
        .parse()
        .context("the application did not say where it listens")?;
    Ok((child, address))
}

/// The first line that `child` writes to its standard output.
async fn first_line(child: &mut Child) -> anyhow::Result<String> {
    let stdout = child.stdout.as_mut().context("the process has no output")?;
    let mut line = String::new();
    let mut reader = BufReader::new(stdout);
    let read = reader.read_line(&mut line);
    tokio::time::timeout(Duration::from_secs(20), read)
        .await
        .context("the process said nothing for 20 s")??;
    Ok(line.trim().to_owned())
}

/// The live table on standard error: one line that is written over where that is a terminal, else one line a
/// second.
struct Table {
    terminal: bool,
    shown: Option<Stopwatch>,
}

impl Table {
    fn new() -> Self {
        let terminal = std::io::stderr().is_terminal();
        output::talk("   time      sent  accepted  repeats  delivered  waiting");
        Self {
            terminal,
            shown: None,
        }
    }

    fn show(&mut self, started: Stopwatch, sent: &Sent, received: &application::Received) {
        let interval = Duration::from_millis(if self.terminal { 100 } else { 1_000 });
        if self.shown.is_some_and(|shown| shown.elapsed() < interval) {
            return;
        }
        self.shown = Some(Clock.start());
        let unique: &HashSet<_> = &received.unique;
        let delivered = sent.accepted.intersection(unique).count();
        let line = format!(
            "{:>6.1}s  {:>8}  {:>8}  {:>7}  {delivered:>9}  {:>7}",
            started.elapsed().as_secs_f64(),
            sent.tried.len(),
            sent.accepted.len(),
            sent.repeats_accepted,
            sent.accepted.len() - delivered,
        );
        if self.terminal {
            output::talk_over(&line)
        } else {
            output::talk(&line)
        }
    }

    fn scene(&mut self, title: &str) {
        self.end();
        output::talk(&format!("         — {title}"));
        self.shown = None;
    }

    fn end(&mut self) {
        if self.terminal {
            output::talk("");
        }
    }
}
