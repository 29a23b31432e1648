//! Owns the load: connections that each send the next notification once the last is answered, and the tally.
//! It must not know which server it loads, nor what the figures are compared with.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::SendRequest;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Request, StatusCode, Uri};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use crate::clock;
use crate::histogram::Histogram;
use crate::http::connect;
use crate::notification::{Notifications, SECRET, SIGNATURE_HEADER};

/// How long requests that are under way when the load ends may still take.
const LAST_ANSWERS: Duration = Duration::from_secs(30);
/// How often one connection may break before the measurement is given up.
const BREAKS: u64 = 100;
/// The time from one request to the next when idle.
const IDLE_GAP: Duration = Duration::from_millis(5);
/// Requests before the first that counts when idle.
const IDLE_WARM_UP: u64 = 20;

const WARMING: u8 = 0;
const MEASURING: u8 = 1;
const STOPPED: u8 = 2;

/// Where the load goes.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// The server.
    pub(crate) address: SocketAddr,
    /// The path of the source, or of the API.
    pub(crate) path: &'static str,
    /// The key of the API.
    pub(crate) key: Option<&'static str>,
    /// The status that is a promise.
    pub(crate) accepted: StatusCode,
}

/// Where the load goes and how much of it.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Where it goes.
    pub(crate) target: Target,
    /// Connections, each with one request under way at a time.
    pub(crate) connections: usize,
    /// Threads that drive the connections.
    pub(crate) threads: usize,
    /// Requests after which the load ends by itself.
    pub(crate) max_requests: u64,
}

/// What was answered.
#[derive(Clone, Default)]
pub(crate) struct Tally {
    /// Answers of status 200 (202 where events are published), of the warm-up too: each one is a promise that the event is
    /// stored.
    pub(crate) accepted: u64,
    /// Answers of status 200 within the measured window.
    pub(crate) accepted_in_window: u64,
    /// Time from sending to the whole answer, of the 200s within the window.
    pub(crate) latency: Histogram,
    /// How many answers had each other status.
    pub(crate) refused: BTreeMap<u16, u64>,
    /// The first answer that was not a 200.
    pub(crate) first_refusal: Option<String>,
    /// Requests that were sent and whose answer never came: the event may or may not be stored.
    pub(crate) unanswered: u64,
}

impl Tally {
    fn merge(&mut self, other: Self) {
        self.accepted += other.accepted;
        self.accepted_in_window += other.accepted_in_window;
        self.latency.merge(&other.latency);
        for (status, count) in other.refused {
            *self.refused.entry(status).or_default() += count;
        }
        self.first_refusal = self.first_refusal.take().or(other.first_refusal);
        self.unanswered += other.unanswered;
    }
}

struct Shared {
    phase: AtomicU8,
    requests_left: AtomicU64,
}

impl Shared {
    fn may_send(&self) -> bool {
        self.phase.load(Ordering::Relaxed) != STOPPED
            && self
                .requests_left
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
                .is_ok()
    }
}

/// A load that is under way on threads of its own.
pub(crate) struct Load {
    shared: Arc<Shared>,
    ended: mpsc::UnboundedReceiver<Result<Tally>>,
    threads: usize,
    tallies: Vec<Tally>,
}

impl Load {
    /// Opens the connections and starts to send. Nothing is measured yet.
    pub(crate) fn start(plan: &Plan) -> Result<Self> {
        let shared = Arc::new(Shared {
            phase: AtomicU8::new(WARMING),
            requests_left: AtomicU64::new(plan.max_requests),
        });
        let (report, ended) = mpsc::unbounded_channel();
        let threads = plan.threads.clamp(1, plan.connections.max(1));
        let nonce = clock::unix_nanos();
        for thread in 0..threads {
            let (plan, shared, report) = (plan.clone(), shared.clone(), report.clone());
            let nonces: Vec<_> = (thread..plan.connections)
                .step_by(threads)
                .map(|index| nonce + index as u64)
                .collect();
            thread::Builder::new()
                .name(format!("load-{thread}"))
                .spawn(move || {
                    // The receiver is gone only when the measurement was given up.
                    let _ = report.send(drive_all(&plan, &shared, &nonces));
                })
                .context("cannot start a load thread")?;
        }
        Ok(Self {
            shared,
            ended,
            threads,
            tallies: Vec::new(),
        })
    }

    /// Ends the warm-up: answers from now on are within the window.
    pub(crate) fn begin_window(&self) {
        self.shared.phase.store(MEASURING, Ordering::Relaxed);
    }

    /// Waits for `duration`, or until the load has ended by itself or failed.
    pub(crate) async fn run_for(&mut self, duration: Duration) -> Result<()> {
        match tokio::time::timeout(duration, self.collect()).await {
            Ok(ended) => ended,
            Err(_) => Ok(()),
        }
    }

    /// Ends the window: no connection sends another request.
    pub(crate) fn end_window(&self) {
        self.shared.phase.store(STOPPED, Ordering::Relaxed);
    }

    /// Waits for the answers that are still under way, and adds up.
    pub(crate) async fn finish(mut self) -> Result<Tally> {
        self.end_window();
        tokio::time::timeout(LAST_ANSWERS, self.collect())
            .await
            .with_context(|| {
                format!(
                    "requests are without an answer {} s after the load ended",
                    LAST_ANSWERS.as_secs()
                )
            })??;
        let mut total = Tally::default();
        self.tallies.into_iter().for_each(|tally| total.merge(tally));
        Ok(total)
    }

    async fn collect(&mut self) -> Result<()> {
        while self.tallies.len() < self.threads {
            let tally = self
                .ended
                .recv()
                .await
                .context("a load thread ended without its tally")??;
            self.tallies.push(tally);
        }
        Ok(())
    }
}

fn drive_all(plan: &Plan, shared: &Arc<Shared>, nonces: &[u64]) -> Result<Tally> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let connections: Vec<_> = nonces
            .iter()
            .map(|nonce| tokio::spawn(drive(plan.clone(), shared.clone(), *nonce)))
            .collect();
        let mut total = Tally::default();
        for connection in connections {
            total.merge(connection.await??);
        }
        Ok(total)
    })
}

async fn drive(plan: Plan, shared: Arc<Shared>, nonce: u64) -> Result<Tally> {
    let mut sender = Sender::open(&plan, nonce).await?;
    while shared.may_send() {
        sender
            .exchange(|| shared.phase.load(Ordering::Relaxed) == MEASURING)
            .await?;
    }
    Ok(sender.tally)
}

/// Sends single requests to a server that has nothing else to do, one each 5 ms.
pub(crate) struct Idle(Sender);

impl Idle {
    /// Opens the connection and sends a few requests that do not count.
    pub(crate) async fn start(plan: &Plan) -> Result<Self> {
        let mut idle = Self(Sender::open(plan, clock::unix_nanos()).await?);
        idle.send(IDLE_WARM_UP, false).await?;
        Ok(idle)
    }

    /// Sends `requests` that count.
    pub(crate) async fn run(mut self, requests: u64) -> Result<Tally> {
        self.send(requests, true).await?;
        Ok(self.0.tally)
    }

    /// Answers of status 200 so far.
    pub(crate) fn accepted(&self) -> u64 {
        self.0.tally.accepted
    }

    async fn send(&mut self, requests: u64, counts: bool) -> Result<()> {
        let mut beat = tokio::time::interval(IDLE_GAP);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for _ in 0..requests {
            beat.tick().await;
            self.0.exchange(|| counts).await?;
        }
        Ok(())
    }
}

/// One connection with its notifications and its tally.
struct Sender {
    target: Target,
    host: HeaderValue,
    uri: Uri,
    key: Option<HeaderValue>,
    notifications: Notifications,
    connection: SendRequest<Full<Bytes>>,
    tally: Tally,
}

impl Sender {
    async fn open(plan: &Plan, nonce: u64) -> Result<Self> {
        let bearer = |key| HeaderValue::from_str(&format!("Bearer {key}"));
        Ok(Self {
            host: HeaderValue::from_str(&plan.target.address.to_string())?,
            uri: Uri::from_static(plan.target.path),
            key: plan.target.key.map(bearer).transpose()?,
            notifications: match plan.target.key {
                Some(_) => Notifications::to_publish(nonce, SECRET)?,
                None => Notifications::new(nonce, SECRET)?,
            },
            connection: connect(plan.target.address).await?,
            target: plan.target.clone(),
            tally: Tally::default(),
        })
    }

    /// Sends the next notification and counts its answer, which is within the window if `counts` says so then.
    async fn exchange(&mut self, counts: impl Fn() -> bool) -> Result<()> {
        let notification = self.notifications.next(clock::unix_nanos())?;
        let mut request = Request::post(self.uri.clone()).body(Full::new(notification.body))?;
        let headers = request.headers_mut();
        headers.insert(HOST, self.host.clone());
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(SIGNATURE_HEADER, notification.signature);
        if let Some(key) = &self.key {
            headers.insert(AUTHORIZATION, key.clone());
        }
        if self.connection.is_closed() {
            self.connection = connect(self.target.address).await?;
        }
        let sent = clock::now();
        match self.send(request).await {
            Ok((status, _)) if status == self.target.accepted => {
                self.tally.accepted += 1;
                if counts() {
                    self.tally.accepted_in_window += 1;
                    self.tally.latency.record(clock::nanos_since(sent));
                }
            }
            Ok((status, body)) => {
                *self.tally.refused.entry(status.as_u16()).or_default() += 1;
                self.tally
                    .first_refusal
                    .get_or_insert_with(|| format!("{status}: {}", String::from_utf8_lossy(&body)));
            }
            Err(error) => {
                self.tally.unanswered += 1;
                if self.tally.unanswered > BREAKS {
                    bail!(
                        "a connection to {} broke {BREAKS} times, at last with: {error}",
                        self.target.address
                    );
                }
            }
        }
        Ok(())
    }

    async fn send(&mut self, request: Request<Full<Bytes>>) -> hyper::Result<(StatusCode, Bytes)> {
        self.connection.ready().await?;
        let response = self.connection.send_request(request).await?;
        let status = response.status();
        Ok((status, response.into_body().collect().await?.to_bytes()))
    }
}
