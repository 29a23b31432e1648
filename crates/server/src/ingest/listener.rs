//! The public listener (SPEC I6, P4).
//!
//! Owns accepting connections, how many there may be, TLS, and the graceful stop. Must not know HTTP.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::TaskTracker;

use super::meter::counter;
use super::{Ingest, connection};
use crate::node::Node;
use crate::tls::Tls;

/// How long accepting rests after it failed, for example because no file descriptor was free.
const REST: Duration = Duration::from_millis(50);

/// Takes webhooks on `listener` until the node stops, then finishes those in hand and answers 503 to who comes
/// until the node has stopped (a refused connection would be no worse a sign to senders, but SPEC P4 promises the
/// 503 and when to come again). Returns when all connections have ended.
pub async fn serve(node: Arc<Node>, listener: TcpListener, tls: Option<Arc<Tls>>) {
    let door = Door::new(node, tls);
    let stopping = door.ingest.node.stopping.clone();
    let in_hand = TaskTracker::new();
    loop {
        tokio::select! {
            biased;
            () = stopping.cancelled() => break,
            accepted = listener.accept() => door.admit(accepted, &in_hand).await,
        }
    }
    door.ingest.halted.store(true, Ordering::Release);
    door.ingest.halt.cancel();
    in_hand.close();
    let late = TaskTracker::new();
    let ended = async {
        in_hand.wait().await;
        door.ingest.node.stopped.cancelled().await;
    };
    tokio::pin!(ended);
    loop {
        tokio::select! {
            biased;
            () = &mut ended => break,
            accepted = listener.accept() => door.admit(accepted, &late).await,
        }
    }
    drop(listener);
    late.close();
    late.wait().await;
}

struct Door {
    ingest: Arc<Ingest>,
    tls: Option<Arc<Tls>>,
    /// Beyond the limit, some more connections are taken to be told so; beyond these they are dropped.
    overflow: Arc<Semaphore>,
}

impl Door {
    fn new(node: Arc<Node>, tls: Option<Arc<Tls>>) -> Self {
        let ingest = Ingest::new(node);
        Self {
            tls,
            overflow: Arc::new(Semaphore::new(ingest.connections / 8 + 8)),
            ingest: Arc::new(ingest),
        }
    }

    async fn admit(&self, accepted: std::io::Result<(TcpStream, SocketAddr)>, tasks: &TaskTracker) {
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(REST).await;
                return;
            }
        };
        let (permit, full) = match Arc::clone(&self.ingest.room).try_acquire_owned() {
            Ok(permit) => (permit, false),
            Err(_) => match Arc::clone(&self.overflow).try_acquire_owned() {
                Ok(permit) => (permit, true),
                Err(_) => {
                    counter(&self.ingest.node.metrics, "", "connection-dropped").inc();
                    return;
                }
            },
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, %peer, "TCP_NODELAY could not be set");
        }
        let (ingest, tls) = (Arc::clone(&self.ingest), self.tls.clone());
        tasks.spawn(attend(ingest, tls, stream, peer, full, permit));
    }
}

async fn attend(
    ingest: Arc<Ingest>,
    tls: Option<Arc<Tls>>,
    stream: TcpStream,
    peer: SocketAddr,
    full: bool,
    _permit: OwnedSemaphorePermit,
) {
    let Some(tls) = tls else {
        return connection::run(ingest, stream, peer.ip(), full).await;
    };
    let shaking = tls.acceptor().accept(stream);
    let patience = ingest.node.settings.ingest.head_timeout;
    let shaken = tokio::select! {
        biased;
        () = ingest.halt.cancelled() => return,
        shaken = tokio::time::timeout(patience, shaking) => shaken,
    };
    match shaken {
        Ok(Ok(stream)) => connection::run(ingest, stream, peer.ip(), full).await,
        Ok(Err(error)) => {
            tracing::debug!(%error, %peer, "a TLS handshake failed");
            counter(&ingest.node.metrics, "", "tls-failed").inc();
        }
        Err(_) => {
            counter(&ingest.node.metrics, "", "tls-failed").inc();
        }
    }
}
