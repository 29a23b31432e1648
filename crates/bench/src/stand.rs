//! Owns one stand: a server under test with what it needs around it, in a directory that goes away with it.
//! It must not know how it is loaded, nor how long.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::ValueEnum;
use hyper::StatusCode;
use serde::Serialize;
use tokio::process::Command;

use crate::clock;
use crate::hookfast::{Hookfast, INGEST_PATH};
use crate::load::Target;
use crate::peer::naive;
use crate::process::Server;

/// How long the count of stored events may lag behind the answers.
const COUNT_LIMIT: Duration = Duration::from_secs(5);

/// What is measured, from the ceiling down.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// Hyper, which reads the body, answers 200 and keeps nothing: the ceiling.
    Bare,
    /// One INSERT and one synced commit for each request, in SQLite (WAL, synchronous=FULL).
    Naive,
    /// Hookfast with one paused destination: events and deliveries are written, none is sent.
    Ingest,
    /// Hookfast that delivers all it takes to a sink.
    EndToEnd,
    /// Hookfast that sends all that is published to a sink.
    Publish,
}

impl Kind {
    /// Whether the hookfast binary is needed.
    pub(crate) fn is_hookfast(self) -> bool {
        self >= Self::Ingest
    }

    /// What the tables call it.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Bare => "bare hyper",
            Self::Naive => "naive",
            Self::Ingest => "hookfast ingest",
            Self::EndToEnd => "hookfast end to end",
            Self::Publish => "hookfast publish to sink",
        }
    }
}

/// A server under test that is up, and dies with this value.
pub(crate) struct Stand {
    kind: Kind,
    under_test: UnderTest,
    sink: Option<Server>,
    directory: Scratch,
}

enum UnderTest {
    Peer(Server),
    Hookfast(Hookfast),
}

impl Stand {
    /// Starts the server of `kind` with an empty directory under `parent`; `binary` is hookfast, which also has so many
    /// `bystanders`.
    pub(crate) async fn start(
        kind: Kind,
        parent: &Path,
        binary: Option<&Path>,
        bystanders: usize,
    ) -> Result<Self> {
        let directory = Scratch::create(parent)?;
        let name = kind.label();
        let (under_test, sink) = match kind {
            Kind::Bare => (UnderTest::Peer(peer("bare", &directory.0).await?), None),
            Kind::Naive => (UnderTest::Peer(peer("naive", &directory.0).await?), None),
            Kind::Ingest | Kind::EndToEnd | Kind::Publish => {
                let binary = binary.context("measuring hookfast needs --hookfast PATH")?;
                let sink = peer("sink", &directory.0).await?;
                let hookfast = Hookfast::start(
                    binary,
                    &directory.0,
                    sink.listen,
                    kind == Kind::Publish,
                    bystanders,
                )
                .await
                .with_context(|| format!("cannot start {name}"))?;
                if kind == Kind::Ingest {
                    hookfast.pause().await.context("cannot pause the destination")?;
                }
                (UnderTest::Hookfast(hookfast), Some(sink))
            }
        };
        Ok(Self {
            kind,
            under_test,
            sink,
            directory,
        })
    }

    /// The process under test.
    pub(crate) fn server(&self) -> &Server {
        match &self.under_test {
            UnderTest::Peer(server) => server,
            UnderTest::Hookfast(hookfast) => &hookfast.server,
        }
    }

    /// Where the load goes.
    pub(crate) fn target(&self) -> Target {
        match &self.under_test {
            UnderTest::Hookfast(hookfast) if self.kind == Kind::Publish => hookfast.publishing(),
            UnderTest::Hookfast(_) | UnderTest::Peer(_) => Target {
                address: self.server().listen,
                path: INGEST_PATH,
                key: None,
                accepted: StatusCode::OK,
            },
        }
    }

    /// The sink that is delivered to.
    pub(crate) fn sink(&self) -> Option<SocketAddr> {
        self.sink
            .as_ref()
            .filter(|_| matches!(self.kind, Kind::EndToEnd | Kind::Publish))
            .map(|sink| sink.listen)
    }

    /// Stops the server and returns how many events it stored, where it stores any. Hookfast is asked while it
    /// runs, until it counts `expected` or some seconds are over; the naive database is read when its server is gone.
    pub(crate) async fn finish(self, expected: u64) -> Result<Option<u64>> {
        match self.under_test {
            UnderTest::Hookfast(hookfast) => {
                let asked = clock::now();
                loop {
                    let stored = hookfast.stored().await?;
                    if stored == expected || clock::nanos_since(asked) > COUNT_LIMIT.as_nanos() as u64 {
                        hookfast.server.stop().await?;
                        return Ok(Some(stored));
                    }
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
            UnderTest::Peer(server) => {
                server.stop().await?;
                if self.kind == Kind::Naive {
                    naive::stored(&self.directory.0).map(Some)
                } else {
                    Ok(None)
                }
            }
        }
    }
}

async fn peer(name: &str, directory: &Path) -> Result<Server> {
    let mut command = Command::new(std::env::current_exe().context("the bench does not know its own path")?);
    command.args(["peer", name]);
    if name == "naive" {
        command.arg("--data").arg(directory);
    }
    Server::start(command, &directory.join(format!("{name}.log"))).await
}

/// A directory of its own, removed when dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn create(parent: &Path) -> Result<Self> {
        let path = parent.join(format!("bench-{}-{}", std::process::id(), clock::unix_nanos()));
        fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed stays; the measurement is done and was not changed by it.
        let _ = fs::remove_dir_all(&self.0);
    }
}
