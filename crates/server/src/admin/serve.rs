//! Connections of the admin and API listeners.
//!
//! Owns accepting them, TLS, their number and their end. Must not know routes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use http::Request;
use hyper::body::Incoming;
use hyper::rt::{Read, Write};
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::guard::LocalAddress;
use super::{Surface, router};
use crate::node::Node;
use crate::tls::Tls;

/// Connections open at once on one listener.
const CONNECTIONS: usize = 512;
/// The longest that a request's head may take to arrive, and an unused connection is kept.
const HEAD_PATIENCE: Duration = Duration::from_secs(10);
/// The largest request head, in bytes.
const HEAD_BYTES: usize = 64 * 1024;
/// The most headers of a request.
const HEADERS: usize = 100;
/// How long nothing is accepted after accepting failed.
const REST: Duration = Duration::from_millis(100);

/// Serves `surface` on `listener` until the node stops, then finishes the requests in hand. Returns when all
/// connections have ended.
pub async fn serve(node: Arc<Node>, listener: TcpListener, surface: Surface, tls: Option<Arc<Tls>>) {
    if let Ok(address) = listener.local_addr() {
        node.admin.register(surface.name(), address);
    }
    let door = Arc::new(Door {
        router: router(node.clone(), surface),
        tls,
        stopping: node.stopping.clone(),
    });
    let open = Arc::new(Semaphore::new(CONNECTIONS));
    let connections = TaskTracker::new();
    loop {
        // Beyond the limit, connections wait in the backlog of the kernel.
        let permit = tokio::select! {
            biased;
            () = node.stopping.cancelled() => break,
            permit = Arc::clone(&open).acquire_owned() => permit,
        };
        let accepted = tokio::select! {
            biased;
            () = node.stopping.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match (accepted, permit) {
            (Ok((stream, peer)), Ok(permit)) => {
                connections.spawn(Arc::clone(&door).attend(stream, peer, permit));
            }
            (Err(error), _) => {
                tracing::warn!(%error, listener = surface.name(), "a connection could not be accepted");
                tokio::time::sleep(REST).await;
            }
            (Ok(_), Err(_)) => break,
        }
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

struct Door {
    router: Router,
    tls: Option<Arc<Tls>>,
    stopping: CancellationToken,
}

impl Door {
    async fn attend(self: Arc<Self>, stream: TcpStream, peer: SocketAddr, _permit: OwnedSemaphorePermit) {
        let Ok(local) = stream.local_addr() else { return };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, %peer, "TCP_NODELAY could not be set");
        }
        let Some(tls) = &self.tls else {
            return self.converse(TokioIo::new(stream), local).await;
        };
        let shaking = tokio::time::timeout(HEAD_PATIENCE, tls.acceptor().accept(stream));
        let shaken = tokio::select! {
            () = self.stopping.cancelled() => return,
            shaken = shaking => shaken,
        };
        match shaken {
            Ok(Ok(stream)) => self.converse(TokioIo::new(stream), local).await,
            Ok(Err(error)) => tracing::debug!(%error, %peer, "a TLS handshake failed"),
            Err(_) => tracing::debug!(%peer, "a TLS handshake took too long"),
        }
    }

    async fn converse(&self, io: impl Read + Write + Unpin, local: SocketAddr) {
        let router = TowerToHyperService::new(self.router.clone());
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(LocalAddress(local));
            router.call(request.map(axum::body::Body::new))
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_PATIENCE)
            .max_buf_size(HEAD_BYTES)
            .max_headers(HEADERS)
            .serve_connection(io, service);
        let mut connection = std::pin::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = self.stopping.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection ended early");
        }
    }
}
