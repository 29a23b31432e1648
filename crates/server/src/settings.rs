//! What the running server may be told, as plain values with their defaults applied.
//!
//! Owns the numbers; `config` reads them from the file, the environment and the flags. Must not know where
//! they came from.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use hookfast_engine::topology::Catalogue;
use hookfast_signature::Secret;
use hookfast_store::{QuarantineBounds, Retention};
use lettre::message::Mailbox;

/// The server's settings.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the public listener binds.
    pub listen: SocketAddr,
    /// Where the admin listener binds.
    pub admin: SocketAddr,
    /// Where the API listener binds, where there is one.
    pub api: Option<SocketAddr>,
    /// The data directory.
    pub data: PathBuf,
    /// What providers see as the start of our URLs, where their schemes sign it.
    pub public_url: Option<String>,
    /// Names and addresses, beside their own, that the admin and API listeners answer to; as `Host` headers hold
    /// them, without brackets.
    pub hosts: Vec<String>,
    /// Addresses of proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<ipnet::IpNet>,
    /// Certificate chain and key, as PEM files, where listeners speak TLS.
    pub tls: Option<TlsFiles>,
    /// The limits of requests to the public listener.
    pub ingest: IngestLimits,
    /// The limits of deliveries.
    pub delivery: DeliveryLimits,
    /// How much quarantine one source may fill.
    pub quarantine: QuarantineBounds,
    /// How long things are kept.
    pub retention: Retention,
    /// How long a stop may take (SPEC P4).
    pub grace: Duration,
    /// What the outbox permits, and what applications may publish by default.
    pub outbox: OutboxSettings,
    /// How notices of a destination's health are mailed, where they are.
    pub smtp: Option<Smtp>,
}

/// What the outbox permits (SPEC O9, O11).
#[derive(Clone, Debug, Default)]
pub struct OutboxSettings {
    /// Networks that destinations may lie in although they are not public, by http too.
    pub allowed_networks: Vec<ipnet::IpNet>,
    /// Whether public addresses may be called by http.
    pub allow_http: bool,
    /// Hosts that are never called, with every host below them.
    pub blocked_hosts: Vec<String>,
    /// The addresses that deliveries come from, as its customers are told.
    pub ip_addresses: Vec<std::net::IpAddr>,
    /// Which trigger types the application `default` and new ones know.
    pub catalogue: Catalogue,
}

/// How notices are mailed.
#[derive(Clone, Debug)]
pub struct Smtp {
    /// The server that takes them.
    pub relay: Relay,
    /// Whom they come from.
    pub from: Mailbox,
    /// A PEM file with authorities that are trusted beside the system's.
    pub ca: Option<PathBuf>,
}

/// An SMTP server and how it is spoken to.
#[derive(Clone, Debug)]
pub struct Relay {
    /// Its host name or address; the name that its certificate must have.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// What keeps others from reading along.
    pub security: Security,
    /// User and password, where it asks for them.
    pub login: Option<Login>,
    /// The name that we greet it with, where it insists on one.
    pub hello: Option<String>,
}

/// What keeps others from reading what is sent to an SMTP server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Security {
    /// The connection begins in clear text and nothing is sent before STARTTLS made it TLS.
    StartTls,
    /// TLS from the first byte.
    Tls,
    /// Nothing: for a relay of one's own.
    None,
}

/// User and password of an SMTP server. Some providers use one token as both, so both are secrets.
#[derive(Clone, Debug)]
pub struct Login {
    /// The user.
    pub user: Secret,
    /// The password.
    pub password: Secret,
}

/// PEM files for a TLS listener.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The certificate chain.
    pub cert: PathBuf,
    /// The private key.
    pub key: PathBuf,
    /// Which listeners speak TLS: `listen`, `admin`, `api`.
    pub listeners: Vec<String>,
}

/// The limits of requests to the public listener.
#[derive(Clone, Debug)]
pub struct IngestLimits {
    /// The largest body in bytes, where neither the source nor its provider says another.
    pub body_bytes: usize,
    /// The longest that a request's head may take to arrive.
    pub head_timeout: Duration,
    /// The slowest that a body may arrive, in bytes a second, averaged from its start after a grace of 5 s.
    pub body_bytes_per_second: u64,
    /// The largest request head in bytes.
    pub head_bytes: usize,
    /// Connections open at once.
    pub connections: usize,
    /// The longest an acknowledgement waits for the disk; then 503.
    pub ack_timeout: Duration,
}

/// The limits of deliveries.
#[derive(Clone, Debug)]
pub struct DeliveryLimits {
    /// Attempts under way at once, over all destinations.
    pub attempts: u32,
    /// Bytes of bodies in memory, over both sides (SPEC P5). Deliveries use at most half.
    pub body_bytes: usize,
    /// How long a claim outlives its destination's timeout.
    pub lease_margin: Duration,
    /// How much of an answer's body is read, in bytes.
    pub response_read_bytes: usize,
    /// How much of an answer's body is kept, in bytes.
    pub response_kept_bytes: usize,
    /// How long an unused connection is kept.
    pub idle_connection: Duration,
}
