//! Making a connection: resolve, check, connect, check again, TLS.
//!
//! Owns sockets until HTTP is spoken on them, and what their failures are called. Must not know requests.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hookfast_engine::outcome::Failure;
use rustix::io::Errno;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{CertificateError, ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::resolve::{Guard, ResolveError, Target};
use crate::clock::Stopwatch;

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Fault {
    /// The time was used up.
    TimedOut(String),
    /// Something failed.
    Failed(Failure, String),
}

/// How much time is left.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allowance {
    pub(super) since: Stopwatch,
    pub(super) timeout: Duration,
}

impl Allowance {
    pub(super) fn left(self) -> Duration {
        self.timeout.saturating_sub(self.since.elapsed())
    }
}

/// The roots of trust of the operating system and `extra` ones.
///
/// A root that cannot be read is passed over: the others still count.
#[must_use]
pub fn trusted_roots(extra: impl IntoIterator<Item = CertificateDer<'static>>) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    for error in &system.errors {
        tracing::warn!(%error, "some of the system's root certificates cannot be read");
    }
    roots.add_parsable_certificates(system.certs);
    roots.add_parsable_certificates(extra);
    if roots.is_empty() {
        tracing::warn!("no root certificates were found; no https destination will be trusted");
    }
    roots
}

/// Opens connections that the guard permits.
pub(super) struct Dialer {
    pub(super) guard: Guard,
    tls: TlsConnector,
}

impl Dialer {
    pub(super) fn new(guard: Guard, roots: RootCertStore) -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap_or_else(|error| unreachable!("ring speaks TLS 1.2 and 1.3: {error}"));
        let mut config = config.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Self {
            guard,
            tls: TlsConnector::from(Arc::new(config)),
        }
    }

    /// A connection to `target`, checked at both ends (SPEC O11).
    pub(super) async fn open(&self, target: &Target, allowance: Allowance) -> Result<Stream, Fault> {
        let addresses = self.guard.resolve(target).await.map_err(|error| {
            let failure = match error {
                ResolveError::Name { .. } => Failure::NameResolution,
                ResolveError::Blocked { .. } => Failure::AddressBlocked,
            };
            Fault::Failed(failure, error.to_string())
        })?;
        let tcp = self.connect_to_any(&addresses, allowance).await?;
        let heard = Arc::new(AtomicBool::new(false));
        let socket = if target.key.clear_text {
            Socket::Plain(tcp)
        } else {
            Socket::Tls(Box::new(self.handshake(target, tcp).await?))
        };
        Ok(Stream { socket, heard })
    }

    /// Tries the addresses in their order, each for its share of the time that is left.
    async fn connect_to_any(
        &self,
        addresses: &[SocketAddr],
        allowance: Allowance,
    ) -> Result<TcpStream, Fault> {
        let mut last = Fault::Failed(Failure::NameResolution, "there is no address".to_owned());
        for (index, address) in addresses.iter().enumerate() {
            let remaining = u32::try_from(addresses.len() - index).unwrap_or(1);
            let share = allowance.left() / remaining;
            match tokio::time::timeout(share, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return self.confirm(*address, stream),
                Ok(Err(error)) => {
                    let text = format!("connecting to {address}: {}", in_words(&error));
                    last = Fault::Failed(connect_failure(&error), text);
                }
                Err(_) => last = Fault::TimedOut(format!("connecting to {address}")),
            }
        }
        Err(last)
    }

    fn confirm(&self, checked: SocketAddr, stream: TcpStream) -> Result<TcpStream, Fault> {
        let broken = |error: io::Error| Fault::Failed(io_failure(&error), in_words(&error));
        let (peer, local) = (
            stream.peer_addr().map_err(broken)?,
            stream.local_addr().map_err(broken)?,
        );
        self.guard
            .confirm(checked, peer, local)
            .map_err(|reason| Fault::Failed(Failure::AddressBlocked, reason.to_string()))?;
        stream.set_nodelay(true).map_err(broken)?;
        Ok(stream)
    }

    async fn handshake(&self, target: &Target, tcp: TcpStream) -> Result<TlsStream<TcpStream>, Fault> {
        let failed = |text: String| Fault::Failed(Failure::TlsHandshake, text);
        let name = match target.address {
            Some(address) => ServerName::from(address),
            None => ServerName::try_from(target.host().to_owned())
                .map_err(|_| failed(format!("`{}` cannot be named in a certificate", target.host())))?,
        };
        self.tls
            .connect(name, tcp)
            .await
            .map_err(|error| failed(tls_fault(&error)))
    }
}

/// A connection, and whether anything was read from it since the last request.
pub(super) struct Stream {
    socket: Socket,
    pub(super) heard: Arc<AtomicBool>,
}

enum Socket {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

macro_rules! with_socket {
    ($stream:expr, $socket:ident => $call:expr) => {
        match &mut $stream.socket {
            Socket::Plain(plain) => {
                let $socket = Pin::new(plain);
                $call
            }
            Socket::Tls(tls) => {
                let $socket = Pin::new(&mut **tls);
                $call
            }
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = with_socket!(self, socket => socket.poll_read(context, buffer));
        if buffer.filled().len() > before {
            self.heard.store(true, Ordering::Relaxed);
        }
        polled
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        with_socket!(self, socket => socket.poll_write(context, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        with_socket!(self, socket => socket.poll_write_vectored(context, slices))
    }

    fn is_write_vectored(&self) -> bool {
        match &self.socket {
            Socket::Plain(plain) => plain.is_write_vectored(),
            Socket::Tls(tls) => tls.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        with_socket!(self, socket => socket.poll_flush(context))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        with_socket!(self, socket => socket.poll_shutdown(context))
    }
}

/// What a failure to connect is called. Running out of descriptors or ports is our own fault.
fn connect_failure(error: &io::Error) -> Failure {
    match Errno::from_io_error(error) {
        Some(Errno::MFILE | Errno::NFILE | Errno::ADDRNOTAVAIL | Errno::NOBUFS | Errno::NOMEM) => {
            Failure::Internal
        }
        _ if error.kind() == io::ErrorKind::ConnectionRefused => Failure::ConnectionRefused,
        _ => io_failure(error),
    }
}

/// What a failure of an open connection is called.
pub(super) fn io_failure(error: &io::Error) -> Failure {
    if rustls_error(error).is_some() {
        Failure::TlsHandshake
    } else if is_broken(error.kind()) {
        Failure::ConnectionReset
    } else {
        Failure::ConnectionFailed
    }
}

/// Whether the other side ended the connection.
pub(super) fn is_broken(kind: io::ErrorKind) -> bool {
    [
        io::ErrorKind::BrokenPipe,
        io::ErrorKind::ConnectionAborted,
        io::ErrorKind::ConnectionReset,
        io::ErrorKind::NotConnected,
        io::ErrorKind::UnexpectedEof,
    ]
    .contains(&kind)
}

/// An IO error as people call it, TLS faults included.
pub(crate) fn in_words(error: &io::Error) -> String {
    if rustls_error(error).is_some() {
        return tls_fault(error);
    }
    if error.kind() == io::ErrorKind::ConnectionRefused {
        "the connection was refused".to_owned()
    } else if is_broken(error.kind()) {
        "the connection was broken by the other side".to_owned()
    } else {
        error.to_string()
    }
}

fn rustls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

/// What went wrong in a handshake, with the certificate's fault in words.
fn tls_fault(error: &io::Error) -> String {
    let Some(fault) = rustls_error(error) else {
        return if is_broken(error.kind()) {
            "the other side closed the connection during the TLS handshake".to_owned()
        } else {
            format!("the TLS handshake failed: {error}")
        };
    };
    if let rustls::Error::InvalidCertificate(fault) = fault {
        return certificate_fault(fault);
    }
    if matches!(fault, rustls::Error::InvalidMessage(_)) {
        return "what answered does not speak TLS".to_owned();
    }
    format!("the TLS handshake failed: {fault}")
}

fn certificate_fault(fault: &CertificateError) -> String {
    use CertificateError as C;
    if matches!(fault, C::Expired | C::ExpiredContext { .. }) {
        "its certificate has expired".to_owned()
    } else if matches!(fault, C::NotValidYet | C::NotValidYetContext { .. }) {
        "its certificate is not valid yet".to_owned()
    } else if matches!(fault, C::NotValidForName | C::NotValidForNameContext { .. }) {
        format!("its certificate is for another host: {fault}")
    } else if matches!(fault, C::UnknownIssuer) {
        "its certificate is self-signed, or not issued by a trusted authority, or the chain lacks an intermediate"
            .to_owned()
    } else if matches!(fault, C::Revoked) {
        "its certificate has been revoked".to_owned()
    } else {
        format!("its certificate is not valid: {fault}")
    }
}
