//! The sections that hold the server's own settings.
//!
//! Owns the keys of `[server]`, `[tls]`, `[ingest]`, `[delivery]`, `[retention]`, `[quarantine]`, `[outbox]` and
//! `[smtp]`, and what may be said there. Must not hold defaults: those stand in `hookfast.default.toml`.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use hookfast_engine::topology::Catalogue;
use hookfast_store::{QuarantineBounds, Retention};
use ipnet::IpNet;
use lettre::message::Mailbox;

use super::section::Section;
use super::{KeySource, LogFormat, relay};
use crate::ingest::body::largest;
use crate::settings::{DeliveryLimits, IngestLimits, OutboxSettings, Settings, Smtp, TlsFiles};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const YEARS: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const TIB: u64 = 1 << 40;
/// The name of the file with the encryption key, in the data directory.
const KEY_FILE: &str = "secret.key";
const NO_POSTGRES: &str =
    "PostgreSQL is not supported by this build: leave it out, and server.data is the embedded store";

/// What the sections say together.
pub(super) struct Read {
    pub settings: Settings,
    pub encryption_key: KeySource,
    pub log: String,
    pub log_format: LogFormat,
}

struct Server {
    listen: SocketAddr,
    admin: SocketAddr,
    api: Option<SocketAddr>,
    data: PathBuf,
    encryption_key: KeySource,
    public_url: Option<String>,
    hosts: Vec<String>,
    trusted_proxies: Vec<IpNet>,
    log: String,
    log_format: LogFormat,
    body_budget: usize,
    connections: usize,
    grace: Duration,
}

/// Reads every section of settings. None where one of them has mistakes.
pub(super) fn read(root: &Section<'_>) -> Option<Read> {
    let server = server(root.table("server"));
    let tls = tls(root.table("tls"));
    let ingest = ingest(root.table("ingest"), server.as_ref());
    let delivery = delivery(root.table("delivery"), server.as_ref());
    let retention = retention(root.table("retention"));
    let quarantine = quarantine(root.table("quarantine"));
    let outbox = outbox(root.table("outbox"));
    let smtp = smtp(root.table("smtp"));
    let server = server?;
    Some(Read {
        settings: Settings {
            listen: server.listen,
            admin: server.admin,
            api: server.api,
            data: server.data,
            public_url: server.public_url,
            hosts: server.hosts,
            trusted_proxies: server.trusted_proxies,
            tls: tls?,
            ingest: ingest?,
            delivery: delivery?,
            quarantine: quarantine?,
            retention: retention?,
            grace: server.grace,
            outbox: outbox?,
            smtp,
        },
        encryption_key: server.encryption_key,
        log: server.log,
        log_format: server.log_format,
    })
}

fn server(section: Section<'_>) -> Option<Server> {
    let listen = section.parsed("listen", address);
    let admin = section.parsed("admin", address);
    let api = section.parsed("api", address);
    let listeners = [("admin", admin), ("api", api)];
    for (index, (key, own)) in listeners.iter().enumerate() {
        let others = std::iter::once(("listen", listen)).chain(listeners[..index].iter().copied());
        for (other, address) in others {
            if own.is_some_and(|own| own.port() != 0 && address == Some(own)) {
                section.mistake(
                    key,
                    format!("the same address as server.{other}: give each listener its own"),
                );
            }
        }
    }
    let data = section.text("data").map(PathBuf::from);
    if section.text("database").is_some() {
        section.mistake("database", NO_POSTGRES);
    }
    let encryption_key = encryption_key(&section, data.as_ref());
    let public_url = section.parsed("public_url", public_url);
    let hosts = section.parsed_list("hosts", host);
    let trusted_proxies = section.parsed_list("trusted_proxies", network);
    let log = section.parsed("log", log_filter);
    let log_format = section.word(
        "log_format",
        &[("text", LogFormat::Text), ("json", LogFormat::Json)],
    );
    let body_budget = section.memory("body_budget", MIB..=TIB);
    let connections = section.integer("connections", 1..=1_000_000);
    let grace = section.duration("grace", SECOND..=HOUR);
    section.finish();
    Some(Server {
        listen: listen?,
        admin: admin?,
        api,
        data: data?,
        encryption_key: encryption_key?,
        public_url,
        hosts: hosts?,
        trusted_proxies: trusted_proxies?,
        log: log?,
        log_format: log_format?,
        body_budget: body_budget?,
        connections: connections?,
        grace: grace?,
    })
}

fn encryption_key(section: &Section<'_>, data: Option<&PathBuf>) -> Option<KeySource> {
    match section.text("encryption_key") {
        None => Some(KeySource::File(data?.join(KEY_FILE))),
        Some(text) if text.starts_with("file:") => section.path("encryption_key").map(KeySource::File),
        Some(text) if text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
            Some(KeySource::Given(text.into()))
        }
        Some(_) => {
            let problem =
                "expected \"file:PATH\" or 64 hexadecimal digits; make some with `openssl rand -hex 32`";
            section.mistake("encryption_key", problem);
            None
        }
    }
}

fn tls(section: Section<'_>) -> Option<Option<TlsFiles>> {
    let cert = section.path("cert");
    let key = section.path("key");
    let names = ["listen", "admin", "api"];
    let listeners = section.parsed_list("listeners", |name| {
        let known = names.contains(&name);
        known
            .then(|| name.to_owned())
            .ok_or_else(|| format!("no listener `{name}`: they are {}", names.join(", ")))
    });
    check_readable(&section, "cert", cert.as_deref());
    check_readable(&section, "key", key.as_deref());
    match (&cert, &key) {
        (Some(_), None) => section.mistake("cert", "set without tls.key: TLS needs both"),
        (None, Some(_)) => section.mistake("key", "set without tls.cert: TLS needs both"),
        (Some(_), Some(_)) | (None, None) => {}
    }
    section.finish();
    let listeners = listeners?;
    Some(cert.zip(key).map(|(cert, key)| TlsFiles { cert, key, listeners }))
}

fn ingest(section: Section<'_>, server: Option<&Server>) -> Option<IngestLimits> {
    let body_bytes = section.memory("body_limit", KIB..=KIB * MIB);
    let head_bytes = section.memory("head_limit", 8 * KIB..=MIB);
    let head_timeout = section.duration("head_timeout", SECOND..=HOUR);
    let body_rate = section.size("body_rate", 1..=KIB * MIB);
    let ack_timeout = section.duration("ack_timeout", SECOND..=HOUR);
    if let (Some(body), Some(server)) = (body_bytes, server)
        && body > largest(server.body_budget / 2)
    {
        let problem =
            "more than 7/16 of server.body_budget, which no body can pass: lower this or raise that";
        section.mistake("body_limit", problem);
    }
    section.finish();
    Some(IngestLimits {
        body_bytes: body_bytes?,
        head_timeout: head_timeout?,
        body_bytes_per_second: body_rate?,
        head_bytes: head_bytes?,
        connections: server?.connections,
        ack_timeout: ack_timeout?,
    })
}

fn delivery(section: Section<'_>, server: Option<&Server>) -> Option<DeliveryLimits> {
    let attempts = section.integer("attempts", 1..=100_000);
    let lease_margin = section.duration("lease_margin", SECOND..=HOUR);
    let response_read = section.memory("response_read", 0..=16 * MIB);
    let response_kept = section.memory("response_kept", 0..=16 * MIB);
    let idle_connection = section.duration("idle_connection", SECOND..=HOUR);
    if let (Some(read), Some(kept)) = (response_read, response_kept)
        && kept > read
    {
        section.mistake(
            "response_kept",
            "more than delivery.response_read: no more can be kept than is read",
        );
    }
    section.finish();
    Some(DeliveryLimits {
        attempts: attempts?,
        body_bytes: server?.body_budget,
        lease_margin: lease_margin?,
        response_read_bytes: response_read?,
        response_kept_bytes: response_kept?,
        idle_connection: idle_connection?,
    })
}

fn retention(section: Section<'_>) -> Option<Retention> {
    let settled = section.duration("settled", HOUR..=YEARS);
    let dead = section.duration("dead", HOUR..=YEARS);
    let waiting = section.duration("waiting", HOUR..=YEARS);
    let quarantine = section.duration("quarantine", MINUTE..=YEARS);
    section.finish();
    Some(Retention {
        settled: settled?,
        dead: dead?,
        waiting: waiting?,
        quarantine: quarantine?,
    })
}

fn quarantine(section: Section<'_>) -> Option<QuarantineBounds> {
    let events = section.integer("events", 0..=u64::MAX);
    let bytes = section.size("bytes", 0..=TIB);
    let events_per_peer = section.integer("events_per_peer", 0..=u64::MAX);
    section.finish();
    Some(QuarantineBounds {
        events: events?,
        bytes: bytes?,
        events_per_peer: events_per_peer?,
    })
}

fn outbox(section: Section<'_>) -> Option<OutboxSettings> {
    let allowed_networks = section.parsed_list("allowed_networks", network);
    let allow_http = section.boolean("allow_http");
    let blocked_hosts = section.parsed_list("blocked_hosts", host_name);
    let ip_addresses = section.parsed_list("ip_addresses", ip_address);
    let preset = section.parsed("preset", preset);
    let open = section.boolean("open");
    section.finish();
    Some(OutboxSettings {
        allowed_networks: allowed_networks?,
        allow_http: allow_http?,
        blocked_hosts: blocked_hosts?,
        ip_addresses: ip_addresses?,
        catalogue: Catalogue { preset, open: open? },
    })
}

/// A host, which stands for itself and every host below it.
fn host_name(text: &str) -> Result<String, String> {
    match url::Host::parse(text) {
        Ok(host) => Ok(host.to_string()),
        Err(_) => Err(format!("`{text}` is not a host: write a name, such as ngrok.io")),
    }
}

/// The name of a catalogue that comes with Hookfast.
fn preset(text: &str) -> Result<String, String> {
    if text == "nylas" {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "there is no catalogue `{text}`: write nylas, or leave it empty"
        ))
    }
}

/// Where notices are mailed from. None where they are not, or where there are mistakes, which are noted.
fn smtp(section: Section<'_>) -> Option<Smtp> {
    let url = section.secret_if_any("url");
    let relay = url.as_ref().and_then(|url| {
        let read = relay::parse(url.expose());
        read.map_err(|problem| section.mistake("url", problem)).ok()
    });
    let from = section.parsed("from", mailbox);
    let ca = section.path("ca");
    check_readable(&section, "ca", ca.as_deref());
    if url.is_some() && !section.is_given("from") {
        section.mistake("url", "set without smtp.from: say whom the messages come from");
    }
    for key in ["from", "ca"] {
        // A URL that was given and is empty, such as one from the environment, switches e-mail off.
        if section.is_given(key) && !section.is_given("url") {
            section.mistake(key, "set without smtp.url, so no message would be sent");
        }
    }
    section.finish();
    Some(Smtp {
        relay: relay?,
        from: from?,
        ca,
    })
}

/// Notes a mistake where the file under `key` is named and cannot be read.
fn check_readable(section: &Section<'_>, key: &str, file: Option<&Path>) {
    let Some(file) = file else { return };
    if let Err(error) = std::fs::File::open(file) {
        section.mistake(key, format!("cannot read {}: {error}", file.display()));
    }
}

fn mailbox(text: &str) -> Result<Mailbox, String> {
    let parsed = text.parse().ok();
    parsed
        .filter(|_| !text.contains(char::is_control))
        .ok_or_else(|| {
            format!("`{text}` is not a mailbox: write hooks@example.com or Hookfast <hooks@example.com>")
        })
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        format!("`{text}` is not an address: write an IP address and a port, such as 127.0.0.1:8080")
    })
}

fn ip_address(text: &str) -> Result<IpAddr, String> {
    text.parse()
        .map_err(|_| format!("`{text}` is not an IP address: write one such as 192.0.2.10"))
}

/// A network, or one address as the network of itself.
fn network(text: &str) -> Result<IpNet, String> {
    let address = || text.parse::<IpAddr>().map(IpNet::from);
    text.parse::<IpNet>().or_else(|_| address()).map_err(|_| {
        format!("`{text}` is not a network: write an address or one with its prefix, such as 10.0.0.0/8")
    })
}

/// A URL to be put before paths, without a slash at its end.
fn public_url(text: &str) -> Result<String, String> {
    let web = url::Url::parse(text).ok().filter(|url| {
        matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.query().is_none()
            && url.fragment().is_none()
    });
    match web {
        Some(_) => Ok(text.trim_end_matches('/').to_owned()),
        None => Err(format!("`{text}` is not a URL such as https://hooks.example.com")),
    }
}

/// A host name, or an address, as a `Host` header names it; without a port.
fn host(text: &str) -> Result<String, String> {
    let literal = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    if let Ok(address) = literal.unwrap_or(text).parse::<IpAddr>() {
        return Ok(address.to_string());
    }
    // The characters of names; a name in another script is written in its ASCII form.
    let name = text.trim_end_matches('.').to_ascii_lowercase();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let labels = || name.split('.');
    if name.len() <= 253 && labels().all(|label| !label.is_empty() && label.bytes().all(plain)) {
        return Ok(name);
    }
    Err(format!(
        "`{text}` is not a host name: write it without scheme, port or path, such as hooks.internal.example.com"
    ))
}

fn log_filter(text: &str) -> Result<String, String> {
    match text.parse::<tracing_subscriber::filter::Targets>() {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(format!(
            "`{text}` is no log filter ({error}): write error, warn, info, debug, trace, or such as info,hookfast=debug"
        )),
    }
}

/// What declarations may name at the least and at the most; the API has the same bounds.
pub(super) mod bounds {
    use std::ops::RangeInclusive;
    use std::time::Duration;

    /// How long a repeat is recognised (SPEC I3).
    pub(in super::super) const DEDUPE: RangeInclusive<Duration> =
        super::DAY..=Duration::from_secs(90 * 24 * 60 * 60);
    /// How far a signed time may be from now.
    pub(in super::super) const TOLERANCE: RangeInclusive<Duration> =
        super::SECOND..=Duration::from_secs(7 * 24 * 60 * 60);
    /// How long one attempt may take.
    pub(in super::super) const TIMEOUT: RangeInclusive<Duration> =
        super::SECOND..=Duration::from_secs(15 * 60);
    /// A delay between attempts.
    pub(in super::super) const DELAY: RangeInclusive<Duration> = Duration::from_millis(1)..=super::YEARS;
    /// The largest body of a source.
    pub(in super::super) const BODY: RangeInclusive<u64> = 1..=32 * super::MIB;
}
