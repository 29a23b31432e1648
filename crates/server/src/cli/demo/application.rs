//! The application of the demo: a process of its own that takes deliveries.
//!
//! Owns a small HTTP server that checks each signature, writes each delivery's id to a file and answers as it
//! is told; and the reading of that file by the demo. Must not know the server's insides: all it knows of a
//! delivery is what any application would.

use std::collections::HashSet;
use std::convert::Infallible;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use bytes::Bytes;
use hookfast_signature::{Clock as SignatureClock, Request, Secret, Verifier};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Response, StatusCode};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::TcpListener;

use crate::cli::output;
use crate::clock::Clock;

/// Arguments of the hidden command that runs the application.
#[derive(Clone, Debug, clap::Args)]
pub struct ApplicationArguments {
    /// Where to listen.
    #[arg(long)]
    listen: SocketAddr,
    /// The file to write what was received to.
    #[arg(long)]
    ledger: PathBuf,
    /// The secret that deliveries are signed with.
    #[arg(long, env = "HOOKFAST_DEMO_SECRET", hide_env_values = true)]
    secret: String,
}

struct Application {
    verifier: Verifier,
    ledger: Mutex<File>,
    status_file: PathBuf,
}

/// Runs the application until it is killed.
///
/// # Errors
/// Where the address is taken, the file cannot be written or the secret is none.
pub async fn run(arguments: ApplicationArguments) -> anyhow::Result<ExitCode> {
    let provider = hookfast_signature::provider("standard-webhooks").context("the preset is missing")?;
    let scheme = provider.scheme(None).context("the preset has no scheme")?;
    let ledger = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&arguments.ledger)?;
    let application = Arc::new(Application {
        verifier: Verifier::new(scheme, &[Secret::new(arguments.secret)])?,
        ledger: Mutex::new(ledger),
        status_file: status_file(&arguments.ledger),
    });
    let listener = TcpListener::bind(arguments.listen)
        .await
        .context("the application cannot listen")?;
    output::data(&listener.local_addr()?.to_string());
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let application = application.clone();
        let service = service_fn(move |request| application.clone().take(request));
        let connection =
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        tokio::spawn(connection);
    }
}

impl Application {
    async fn take(
        self: Arc<Self>,
        request: hyper::Request<Incoming>,
    ) -> Result<Response<Empty<Bytes>>, Infallible> {
        let (head, body) = request.into_parts();
        let status = match body.collect().await {
            Ok(body) => self.answer(&head, &body.to_bytes()),
            Err(_) => StatusCode::BAD_REQUEST,
        };
        let mut response = Response::new(Empty::new());
        *response.status_mut() = status;
        Ok(response)
    }

    /// Writes down what came, then answers: a kill in between makes the delivery come again.
    fn answer(&self, head: &http::request::Parts, body: &[u8]) -> StatusCode {
        let told = std::fs::read_to_string(&self.status_file)
            .ok()
            .and_then(|text| text.trim().parse().ok());
        let status = StatusCode::from_u16(told.unwrap_or(200)).unwrap_or(StatusCode::OK);
        if status != StatusCode::OK {
            return status;
        }
        let now = Clock.now().as_secs().cast_unsigned();
        let request = Request {
            method: "POST",
            url: None,
            headers: &head.headers,
            body,
        };
        let verified = self
            .verifier
            .verify(&request, SignatureClock::at_seconds(now))
            .is_ok();
        let id = head
            .headers
            .get("webhook-id")
            .and_then(|id| id.to_str().ok())
            .unwrap_or("-");
        let line = format!("{} {id}\n", if verified { "ok" } else { "bad" });
        match self.ledger.lock().write_all(line.as_bytes()) {
            Ok(()) if verified => StatusCode::OK,
            Ok(()) => StatusCode::UNAUTHORIZED,
            Err(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// The file that tells the application what to answer.
fn status_file(ledger: &Path) -> PathBuf {
    ledger.with_extension("status")
}

/// What the application wrote down, as the demo reads it.
pub(super) struct Ledger {
    path: PathBuf,
}

/// What the application received.
#[derive(Default)]
pub(super) struct Received {
    /// The ids, each once.
    pub(super) unique: HashSet<String>,
    /// Deliveries of an id that had come before.
    pub(super) again: usize,
    /// Deliveries whose signature was wrong.
    pub(super) unverified: usize,
}

impl Ledger {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn set_status(&self, status: u16) -> std::io::Result<()> {
        std::fs::write(status_file(&self.path), status.to_string())
    }

    pub(super) fn read(&self) -> std::io::Result<Received> {
        let text = std::fs::read_to_string(&self.path)?;
        // A line without its end is still being written.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let mut received = Received::default();
        for (verdict, id) in whole.lines().filter_map(|line| line.split_once(' ')) {
            match verdict {
                "ok" if received.unique.insert(id.to_owned()) => {}
                "ok" => received.again += 1,
                _ => received.unverified += 1,
            }
        }
        Ok(received)
    }
}
