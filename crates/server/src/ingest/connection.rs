//! One connection, from its first byte to its last.
//!
//! Owns how long each phase of it may take, what is said on it when hyper says nothing, and its end. Must not
//! know what requests mean. hyper answers by itself what is not HTTP (400) and heads that are too large (431);
//! those answers are counted here.

use std::convert::Infallible;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::{Instant, Sleep};

use super::cause::Cause;
use super::watch::{Phase, Watch, Watched};
use super::{Ingest, Refused};

/// How long a connection is kept between requests: longer than most senders keep one, so that it is they who
/// close it, and never while they send.
const IDLE: Duration = Duration::from_secs(75);
/// How long it is kept at the least when there are nearly too many: idle ones are not to shut others out.
const IDLE_WHEN_CROWDED: Duration = Duration::from_secs(5);
/// As long as a peer may leave its answers unread.
const BLOCKED: Duration = Duration::from_secs(30);
/// How long a connection may still take for its request once the server stops.
const STOPPING: Duration = Duration::from_secs(1);
/// How long, and for how many bytes, what a peer still sends is read after the last answer: a connection that is
/// closed with bytes unread is reset, and the reset may take the answer away from the peer.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 1024 * 1024;
/// What hyper reads at most in one go. Larger heads are refused anyway.
const READ_BYTES: usize = 64 * 1024;
/// hyper answers a longer target with 414 by itself, which could not be told from 431.
const MAX_HEAD_BYTES: usize = 65_534;
const REQUEST_TIMEOUT: &[u8] =
    b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// How a connection came to its end.
enum End {
    /// Both sides are through with it.
    Finished,
    /// It broke, or what came is not HTTP.
    Broken(hyper::Error),
    /// A phase took too long.
    Overdue(Phase),
}

/// Serves one connection until it ends. With `full`, there are too many of them and each request is answered
/// 503.
pub(super) async fn run<T>(ingest: Arc<Ingest>, stream: T, peer: IpAddr, full: bool)
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let watch = Arc::new(Watch::default());
    let service = service_fn({
        let (ingest, watch) = (Arc::clone(&ingest), Arc::clone(&watch));
        move |request: http::Request<Incoming>| {
            let (ingest, watch) = (Arc::clone(&ingest), Arc::clone(&watch));
            watch.begin();
            async move {
                let reply = ingest.answer(request, peer, full).await;
                watch.end();
                Ok::<_, Infallible>(reply)
            }
        }
    });
    let watched = Watched {
        inner: TokioIo::new(stream),
        watch: Arc::clone(&watch),
    };
    let mut connection = builder(&ingest).serve_connection(watched, service);
    let head_timeout = ingest.node.settings.ingest.head_timeout;
    let mut patience = Patience::new(head_timeout);
    let mut halt = std::pin::pin!(ingest.halt.cancelled());
    // One that comes after the halt is told so, instead of being closed before it is read.
    let (mut halting, mut first) = (ingest.halted.load(Ordering::Acquire), true);
    let end = std::future::poll_fn(|cx| {
        // Asked once so that a halt wakes this task, and after that a flag is enough.
        if !halting && ((first && halt.as_mut().poll(cx).is_ready()) || ingest.halted.load(Ordering::Acquire))
        {
            halting = true;
            Pin::new(&mut connection).graceful_shutdown();
        }
        first = false;
        match Pin::new(&mut connection).poll(cx) {
            Poll::Ready(Ok(())) => Poll::Ready(End::Finished),
            Poll::Ready(Err(error)) => Poll::Ready(End::Broken(error)),
            Poll::Pending => patience
                .poll(&watch, halting, || ingest.is_crowded(), cx)
                .map(End::Overdue),
        }
    })
    .await;
    let parts = connection.into_parts();
    let unanswered = !parts.read_buf.is_empty() || watch.now().0 == Phase::Head;
    close(&ingest, end, unanswered, parts.io.inner.into_inner(), peer).await;
}

fn builder(ingest: &Ingest) -> http1::Builder {
    let head_bytes = ingest.node.settings.ingest.head_bytes.min(MAX_HEAD_BYTES);
    let mut builder = http1::Builder::new();
    builder
        // A sender that closes its half after the request still gets its answer, and an append is not dropped
        // because its sender left.
        .half_close(true)
        // `Patience` answers 408, where hyper would say nothing.
        .header_read_timeout(None)
        .max_header_size(head_bytes)
        .max_buf_size(READ_BYTES.max(head_bytes));
    builder
}

/// Ends a connection: counts what went wrong, says what hyper did not, and lets the peer read it.
async fn close<T>(ingest: &Ingest, end: End, unanswered: bool, mut stream: T, peer: IpAddr)
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let cause = match &end {
        End::Finished => None,
        End::Broken(error) if error.is_parse_too_large() => Some(Cause::HeadTooLarge),
        End::Broken(error) if error.is_parse() || error.is_parse_version_h2() => {
            Some(Cause::MalformedRequest)
        }
        End::Broken(error) => {
            tracing::debug!(%error, %peer, "a connection broke");
            None
        }
        End::Overdue(Phase::Head | Phase::Idle) if unanswered => Some(Cause::HeadTimeout),
        End::Overdue(Phase::Head | Phase::Idle | Phase::Request) => None,
        // Nobody reads what it is told.
        End::Overdue(Phase::Blocked) => return,
    };
    if let Some(cause) = cause {
        ingest.record(&Refused::new(cause), None, peer, None);
    }
    let lingering = async {
        if cause == Some(Cause::HeadTimeout) {
            stream.write_all(REQUEST_TIMEOUT).await?;
        }
        stream.shutdown().await?;
        let mut rest = vec![0; 8 * 1024];
        let mut unread = LINGER_BYTES;
        while unread > 0 {
            match stream.read(&mut rest).await? {
                0 => break,
                read => unread = unread.saturating_sub(read),
            }
        }
        Ok::<_, std::io::Error>(())
    };
    // Whatever happens to these last bytes, nothing more can be done about it.
    let _ = tokio::time::timeout(LINGER, lingering).await;
}

/// How long a connection may stay as it is.
struct Patience {
    head_timeout: Duration,
    seen: Option<(Phase, u64, bool)>,
    /// Until when it may stay so, and when to look next whether there is room for one that is idle.
    deadline: Option<(Instant, Instant)>,
    /// Goes off at the deadline or before: moving it only forward keeps it off the path of each request.
    alarm: Pin<Box<Sleep>>,
}

impl Patience {
    fn new(head_timeout: Duration) -> Self {
        Self {
            head_timeout,
            seen: None,
            deadline: None,
            alarm: Box::pin(tokio::time::sleep(head_timeout)),
        }
    }

    /// The phase that took too long, once one did.
    fn poll(
        &mut self,
        watch: &Watch,
        halting: bool,
        crowded: impl Fn() -> bool,
        cx: &mut Context<'_>,
    ) -> Poll<Phase> {
        let (phase, requests) = watch.now();
        let seen = Some((phase, requests, halting));
        if self.seen != seen {
            self.seen = seen;
            self.deadline = self.allowed(phase, requests, halting).map(|allowed| {
                let now = Instant::now();
                (now + allowed, now + allowed.min(IDLE_WHEN_CROWDED))
            });
        }
        let Some((deadline, look)) = &mut self.deadline else {
            return Poll::Pending;
        };
        if self.alarm.deadline() > *look {
            self.alarm.as_mut().reset(*look);
        }
        loop {
            ready!(self.alarm.as_mut().poll(cx));
            let now = Instant::now();
            if now >= *look {
                let in_the_way = phase == Phase::Idle && crowded();
                if now >= *deadline || in_the_way {
                    return Poll::Ready(phase);
                }
                *look = (now + IDLE_WHEN_CROWDED).min(*deadline);
            }
            self.alarm.as_mut().reset(*look);
        }
    }

    fn allowed(&self, phase: Phase, requests: u64, halting: bool) -> Option<Duration> {
        let head = if halting {
            self.head_timeout.min(STOPPING)
        } else {
            self.head_timeout
        };
        match phase {
            Phase::Idle if requests > 0 && !halting => Some(IDLE),
            Phase::Idle | Phase::Head => Some(head),
            Phase::Blocked => Some(BLOCKED),
            // What is under way bounds itself: the body by its rate, the store by the time it is given.
            Phase::Request => None,
        }
    }
}
