//! A receiver of webhooks that follows a script, on a raw socket.
//!
//! Owns the listener and the record of what came, byte for byte. Knows nothing of Hookfast.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;

/// What is done about one request.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// These bytes are written; the connection stays open.
    Reply(Vec<u8>),
    /// These bytes are written after a while; the connection stays open.
    Late(Duration, Vec<u8>),
    /// These bytes are written and the connection is closed.
    ReplyAndClose(Vec<u8>),
    /// These bytes are written, and then these over and over until the other side goes away.
    Endless(Vec<u8>, Vec<u8>),
    /// The connection is closed without an answer.
    Close,
    /// The connection is reset without an answer.
    Reset,
    /// Nothing ever.
    Hang,
}

/// A whole answer with a body.
#[must_use]
pub(crate) fn answer(status: &str, headers: &str, body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 {status}\r\n{headers}content-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// A 200 with an empty body.
#[must_use]
pub(crate) fn ok() -> Step {
    Step::Reply(answer("200 OK", "", ""))
}

/// A request, as it came.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    /// Which connection it came on, from 0.
    pub(crate) connection: usize,
    /// Its head, to the empty line.
    pub(crate) head: String,
    /// Its body.
    pub(crate) body: Vec<u8>,
}

impl Received {
    /// The values of a header, in their order.
    #[must_use]
    pub(crate) fn values(&self, name: &str) -> Vec<&str> {
        let headers = self.head.lines().filter_map(|line| line.split_once(": "));
        headers
            .filter(|(candidate, _)| candidate.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
            .collect()
    }
}

#[derive(Default)]
struct Record {
    connections: AtomicUsize,
    closed: AtomicUsize,
    written: AtomicUsize,
    next_step: AtomicUsize,
    received: Mutex<Vec<Received>>,
    changed: Notify,
}

/// A receiver on a port of its own. Each request takes the next step of the script; the last one stays.
pub(crate) struct Receiver {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    record: Arc<Record>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Receiver {
    /// A receiver on the loopback address, in clear text.
    pub(crate) async fn start(script: Vec<Step>) -> Self {
        Self::listen("127.0.0.1:0", None, script).await
    }

    /// A receiver on the loopback address that speaks TLS.
    pub(crate) async fn start_tls(acceptor: TlsAcceptor, script: Vec<Step>) -> Self {
        Self::listen("127.0.0.1:0", Some(acceptor), script).await
    }

    /// A receiver at `address`.
    pub(crate) async fn listen(address: &str, tls: Option<TlsAcceptor>, script: Vec<Step>) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let record = Arc::new(Record::default());
        let shared = Arc::clone(&record);
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                let number = shared.connections.fetch_add(1, Ordering::SeqCst);
                let (record, tls, script) = (Arc::clone(&shared), tls.clone(), script.clone());
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, number, &script, &record, reset).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, number, &script, &record, |stream| {
                                    reset(stream.into_inner().0);
                                })
                                .await;
                            }
                        }
                    }
                    record.closed.fetch_add(1, Ordering::SeqCst);
                    record.changed.notify_waiters();
                });
            }
        });
        Self {
            address,
            record,
            task,
        }
    }

    /// The URL of a path at this receiver.
    #[must_use]
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// What came so far.
    #[must_use]
    pub(crate) fn received(&self) -> Vec<Received> {
        self.record.received.lock().clone()
    }

    /// The only request that came.
    #[must_use]
    pub(crate) fn only(&self) -> Received {
        let received = self.received();
        assert_eq!(received.len(), 1, "{received:?}");
        received.into_iter().next().unwrap()
    }

    /// How many connections were made to it.
    #[must_use]
    pub(crate) fn connections(&self) -> usize {
        self.record.connections.load(Ordering::SeqCst)
    }

    /// How many bytes of answers were taken off it.
    #[must_use]
    pub(crate) fn written(&self) -> usize {
        self.record.written.load(Ordering::SeqCst)
    }

    /// Waits until that many connections have been closed.
    pub(crate) async fn closed(&self, count: usize) {
        loop {
            let changed = self.record.changed.notified();
            if self.record.closed.load(Ordering::SeqCst) >= count {
                return;
            }
            changed.await;
        }
    }
}

fn reset(stream: TcpStream) {
    stream.set_zero_linger().unwrap();
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    connection: usize,
    script: &[Step],
    record: &Record,
    reset: impl FnOnce(S),
) {
    let mut pending = Vec::new();
    while let Some((head, body)) = read_request(&mut stream, &mut pending).await {
        record.received.lock().push(Received {
            connection,
            head,
            body,
        });
        let index = record.next_step.fetch_add(1, Ordering::SeqCst);
        let step = &script[index.min(script.len() - 1)];
        match step {
            Step::Reply(bytes) => write(&mut stream, bytes, record).await,
            Step::Late(delay, bytes) => {
                tokio::time::sleep(*delay).await;
                write(&mut stream, bytes, record).await;
            }
            Step::ReplyAndClose(bytes) => {
                write(&mut stream, bytes, record).await;
                let _ = stream.shutdown().await;
                return;
            }
            Step::Endless(first, more) => {
                write(&mut stream, first, record).await;
                while stream.write_all(more).await.is_ok() {
                    record.written.fetch_add(more.len(), Ordering::SeqCst);
                }
                return;
            }
            Step::Close => {
                let _ = stream.shutdown().await;
                return;
            }
            Step::Reset => return reset(stream),
            Step::Hang => {
                // Ends when the other side goes away.
                let mut byte = [0];
                while matches!(stream.read(&mut byte).await, Ok(1..)) {}
                return;
            }
        }
    }
}

async fn write<S: AsyncWrite + Unpin>(stream: &mut S, bytes: &[u8], record: &Record) {
    if stream.write_all(bytes).await.is_ok() && stream.flush().await.is_ok() {
        record.written.fetch_add(bytes.len(), Ordering::SeqCst);
    }
}

async fn read_request<S: AsyncRead + Unpin>(
    stream: &mut S,
    pending: &mut Vec<u8>,
) -> Option<(String, Vec<u8>)> {
    let end = loop {
        if let Some(at) = pending.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        if matches!(stream.read_buf(pending).await, Ok(0) | Err(_)) {
            return None;
        }
    };
    let head = String::from_utf8_lossy(&pending[..end]).into_owned();
    let length = head
        .lines()
        .filter_map(|line| line.split_once(": "))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .map_or(0, |(_, value)| value.parse().unwrap());
    while pending.len() < end + length {
        if matches!(stream.read_buf(pending).await, Ok(0) | Err(_)) {
            return None;
        }
    }
    let rest = pending.split_off(end + length);
    let body = std::mem::replace(pending, rest).split_off(end);
    Some((head, body))
}
