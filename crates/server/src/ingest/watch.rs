//! What a connection is at, seen from outside hyper.
//!
//! Owns the phase of a connection, told by the bytes that pass and by the requests that are handed over, so that
//! a head that is too slow is answered 408 and a connection that is merely idle is not. Must not read clocks.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};

use hyper::rt::{Read, ReadBufCursor, Write};

/// What a connection is at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Phase {
    /// Between requests.
    Idle,
    /// Part of a head has come.
    Head,
    /// A request is being answered.
    Request,
    /// The peer does not read what it is sent.
    Blocked,
}

/// The phase of one connection. All of it happens on one task: the atomics are for the compiler.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// Twice the number of requests handed over, plus one while one is being answered.
    requests: AtomicU64,
    head: AtomicBool,
    blocked: AtomicBool,
}

impl Watch {
    /// A request is handed over.
    pub(super) fn begin(&self) {
        self.head.store(false, Ordering::Relaxed);
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// Its answer is handed back.
    pub(super) fn end(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// What the connection is at, and a number that grows with each request.
    pub(super) fn now(&self) -> (Phase, u64) {
        let requests = self.requests.load(Ordering::Relaxed);
        let phase = if self.blocked.load(Ordering::Relaxed) {
            Phase::Blocked
        } else if !requests.is_multiple_of(2) {
            Phase::Request
        } else if self.head.load(Ordering::Relaxed) {
            Phase::Head
        } else {
            Phase::Idle
        };
        (phase, requests)
    }

    fn received(&self) {
        if self.requests.load(Ordering::Relaxed).is_multiple_of(2) {
            self.head.store(true, Ordering::Relaxed);
        }
    }

    fn wrote<T>(&self, written: Poll<T>) -> Poll<T> {
        self.blocked.store(written.is_pending(), Ordering::Relaxed);
        written
    }
}

/// A connection whose [`Watch`] sees what passes. Shutting it down does nothing: whoever owns what is inside
/// ends it.
#[derive(Debug)]
pub(super) struct Watched<T> {
    pub(super) inner: T,
    pub(super) watch: Arc<Watch>,
}

impl<T: Read + Unpin> Read for Watched<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.inner).poll_read(cx, buffer);
        if let Poll::Ready(Ok(())) = read {
            self.watch.received();
        }
        read
    }
}

impl<T: Write + Unpin> Write for Watched<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(cx, bytes);
        self.watch.wrote(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.inner).poll_flush(cx);
        self.watch.wrote(flushed)
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(cx, slices);
        self.watch.wrote(written)
    }
}
