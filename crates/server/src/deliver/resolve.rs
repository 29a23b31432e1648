//! Where Hookfast may send: the guard of every address that came from outside (SPEC O11).
//!
//! Owns the reading of URLs, the resolution of names and the judgement of addresses, anew for every connection,
//! so that a name which answers differently the second time gains nothing. Must not open connections, nor
//! know what is sent over them.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use http::HeaderValue;
use http::uri::PathAndQuery;
use ipnet::IpNet;
use url::{Host, Position, Url};

pub use super::address::{Permissions, judge};
use crate::settings::OutboxSettings;

/// Resolves a host name and a port to addresses.
pub type Lookup = Arc<dyn Fn(String, u16) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> + Send + Sync>;

/// The longest URL that is taken, in bytes.
const MAX_URL_BYTES: usize = 8 * 1024;

/// More addresses than this of one name are not looked at.
const MAX_ADDRESSES: usize = 16;

/// Why Hookfast does not call a URL or an address.
///
/// The text never tells which address a name resolved to: whoever may register a URL must not learn from it how
/// names resolve in our network.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BlockedReason {
    /// It does not parse.
    #[error("this is not a URL of the form https://host/path: {0}")]
    NotAUrl(String),
    /// Neither https nor http.
    #[error("the URL's scheme is `{0}`; only https is called")]
    Scheme(String),
    /// Clear text to an address that does not permit it.
    #[error("the URL is http; use https, or set allow_private for this destination")]
    ClearText,
    /// A user name or a password in the URL.
    #[error("the URL carries a user name or password; take out what is before the @")]
    UserInfo,
    /// An IPv4 address in another form than four decimal numbers.
    #[error("the host `{written}` is another way to write {means}; write the address plainly")]
    DisguisedAddress {
        /// As it was written.
        written: String,
        /// What it means.
        means: IpAddr,
    },
    /// A host that the configuration excludes.
    #[error("the host `{0}` is on the blocklist")]
    Blocklisted(String),
    /// An address of a range that may be allowed.
    #[error(
        "the address is not public: {0}; to call it, set allow_private for this destination or allowed_networks"
    )]
    Private(&'static str),
    /// An address of a range that is never called.
    #[error("the address is not one that can be called: {0}")]
    Special(&'static str),
    /// An IPv6 address with an IPv4 address in it.
    #[error("the address is an IPv4 address inside an IPv6 address ({form}); use the IPv4 address itself")]
    Wrapped {
        /// Which form.
        form: &'static str,
    },
    /// Where clouds hand out credentials.
    #[error("the address is that of a cloud's metadata service, which is never called")]
    Metadata,
    /// One of Hookfast's own listeners.
    #[error("the address is one of Hookfast's own listeners")]
    OwnListener,
    /// The connection leads elsewhere than to the address that was checked.
    #[error("the connection does not lead to the address that was checked")]
    OtherPeer,
}

/// Why a target gave no address to connect to.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// The name does not resolve.
    #[error("the name `{host}` does not resolve: {cause}")]
    Name {
        /// The name.
        host: String,
        /// Why.
        cause: String,
    },
    /// No address of it may be called.
    #[error("`{host}` is blocked: {reason}")]
    Blocked {
        /// The host.
        host: String,
        /// Why.
        #[source]
        reason: BlockedReason,
    },
}

/// What a pooled connection is kept under. Two targets that differ in what they are permitted never share one.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct TargetKey {
    /// Whether without TLS.
    pub clear_text: bool,
    /// The host, normalised.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Whether private addresses and clear text are permitted.
    pub allow_private: bool,
}

/// A URL that was read and may be called, as far as the URL alone can say.
#[derive(Clone, Debug)]
pub struct Target {
    pub(super) key: TargetKey,
    pub(super) address: Option<IpAddr>,
    pub(super) authority: HeaderValue,
    pub(super) path: PathAndQuery,
}

impl Target {
    /// The host, as it is resolved and as its certificate must name it.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.key.host
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.key.port
    }
}

/// Judges URLs and addresses.
pub struct Guard {
    allowed_networks: Vec<IpNet>,
    own_listeners: Vec<SocketAddr>,
    blocked_hosts: Vec<String>,
    allow_http: bool,
    lookup: Lookup,
}

impl fmt::Debug for Guard {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Guard")
            .field("allowed_networks", &self.allowed_networks)
            .field("own_listeners", &self.own_listeners)
            .field("blocked_hosts", &self.blocked_hosts)
            .finish_non_exhaustive()
    }
}

impl Guard {
    /// A guard as the settings say, which never lets the listeners of this process through, as bound.
    #[must_use]
    pub fn of_settings(settings: &OutboxSettings, own_listeners: Vec<SocketAddr>) -> Self {
        Self::new(settings.allowed_networks.clone(), own_listeners)
            .with_blocked_hosts(settings.blocked_hosts.clone())
            .with_http(settings.allow_http)
    }

    /// A guard that also lets `allowed_networks` through, and never the listeners of this process, as bound.
    #[must_use]
    pub fn new(allowed_networks: Vec<IpNet>, own_listeners: Vec<SocketAddr>) -> Self {
        Self {
            allowed_networks,
            own_listeners,
            blocked_hosts: Vec::new(),
            allow_http: false,
            lookup: Arc::new(|host, port| Box::pin(system_lookup(host, port))),
        }
    }

    /// Refuses these hosts and every host below them, such as `ngrok.io`.
    #[must_use]
    pub fn with_blocked_hosts(mut self, hosts: Vec<String>) -> Self {
        self.blocked_hosts = hosts;
        self
    }

    /// Whether public addresses may be called without TLS.
    #[must_use]
    pub fn with_http(mut self, allow_http: bool) -> Self {
        self.allow_http = allow_http;
        self
    }

    /// Resolves names with `lookup` instead of the system's resolver.
    #[must_use]
    pub fn with_lookup(mut self, lookup: Lookup) -> Self {
        self.lookup = lookup;
        self
    }

    /// Reads a URL and judges what can be judged without resolving its host. For the check on create, and
    /// again before every attempt.
    ///
    /// # Errors
    /// Why the URL is not called.
    pub fn check_url(&self, text: &str, allow_private: bool) -> Result<Target, BlockedReason> {
        let url = parse_plain(text)?;
        let clear_text = match url.scheme() {
            "https" => false,
            "http" => true,
            other => return Err(BlockedReason::Scheme(other.to_owned())),
        };
        if clear_text && !allow_private && !self.allow_http && self.allowed_networks.is_empty() {
            return Err(BlockedReason::ClearText);
        }
        let written = written_authority(text);
        if !url.username().is_empty() || url.password().is_some() || written.contains('@') {
            return Err(BlockedReason::UserInfo);
        }
        let (host, address) = match url.host() {
            Some(Host::Domain(name)) => (name.trim_end_matches('.').to_owned(), None),
            Some(Host::Ipv4(address)) => {
                let written = written.split(':').next().unwrap_or_default();
                if written != address.to_string() {
                    return Err(BlockedReason::DisguisedAddress {
                        written: written.to_owned(),
                        means: address.into(),
                    });
                }
                (address.to_string(), Some(address.into()))
            }
            Some(Host::Ipv6(address)) => (address.to_string(), Some(address.into())),
            None => return Err(BlockedReason::NotAUrl("it has no host".to_owned())),
        };
        if host.is_empty() {
            return Err(BlockedReason::NotAUrl("it has no host".to_owned()));
        }
        if self.is_blocklisted(&host) {
            return Err(BlockedReason::Blocklisted(host));
        }
        let authority = HeaderValue::from_str(&url[Position::BeforeHost..Position::AfterPort]);
        let target = Target {
            key: TargetKey {
                clear_text,
                host,
                port: url.port_or_known_default().unwrap_or_default(),
                allow_private,
            },
            address,
            authority: authority.map_err(|error| BlockedReason::NotAUrl(error.to_string()))?,
            path: path_of(text, &url)?,
        };
        if let Some(address) = address {
            self.judge(&target, SocketAddr::new(address, target.key.port))?;
        }
        Ok(target)
    }

    /// Every address of `target` that may be called, each one judged.
    ///
    /// # Errors
    /// Where the name does not resolve, or only to addresses that may not be called.
    pub async fn resolve(&self, target: &Target) -> Result<Vec<SocketAddr>, ResolveError> {
        let port = target.key.port;
        let host = || target.key.host.clone();
        let resolved = match target.address {
            Some(address) => vec![SocketAddr::new(address, port)],
            None => (self.lookup)(host(), port)
                .await
                .map_err(|error| ResolveError::Name {
                    host: host(),
                    cause: error.to_string(),
                })?,
        };
        let mut first_reason = None;
        let mut allowed = Vec::with_capacity(resolved.len().min(MAX_ADDRESSES));
        for address in resolved.into_iter().take(MAX_ADDRESSES) {
            match self.judge(target, address) {
                Ok(()) => allowed.push(address),
                Err(reason) => first_reason = first_reason.or(Some(reason)),
            }
        }
        match first_reason {
            _ if !allowed.is_empty() => Ok(allowed),
            Some(reason) => Err(ResolveError::Blocked { host: host(), reason }),
            None => Err(ResolveError::Name {
                host: host(),
                cause: "it has no address".to_owned(),
            }),
        }
    }

    /// Judges a connection that has been made, before anything is sent: that it leads where it should, and not
    /// to a listener of our own that is bound to every address of this machine.
    ///
    /// # Errors
    /// Why the connection must not be used.
    pub fn confirm(
        &self,
        checked: SocketAddr,
        peer: SocketAddr,
        local: SocketAddr,
    ) -> Result<(), BlockedReason> {
        if peer.ip() != checked.ip() || peer.port() != checked.port() {
            return Err(BlockedReason::OtherPeer);
        }
        // Whoever connects to an address of the own machine comes from that same address.
        let to_this_machine = peer.ip() == local.ip();
        let wildcard =
            |listener: &SocketAddr| listener.ip().is_unspecified() && listener.port() == peer.port();
        if to_this_machine && self.own_listeners.iter().any(wildcard) {
            return Err(BlockedReason::OwnListener);
        }
        Ok(())
    }

    fn judge(&self, target: &Target, address: SocketAddr) -> Result<(), BlockedReason> {
        let permissions = Permissions {
            allow_private: target.key.allow_private,
            clear_text: target.key.clear_text && !self.allow_http,
            allowed_networks: &self.allowed_networks,
            own_listeners: &self.own_listeners,
        };
        judge(address, &permissions)
    }

    fn is_blocklisted(&self, host: &str) -> bool {
        self.blocked_hosts.iter().any(|blocked| {
            host.strip_suffix(blocked.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        })
    }
}

async fn system_lookup(host: String, port: u16) -> io::Result<Vec<SocketAddr>> {
    Ok(tokio::net::lookup_host((host, port)).await?.collect())
}

/// Parses a URL, but none that the parser would first have to mend: it drops tabs and line ends, and takes
/// backslashes and missing or additional slashes for what they are not.
fn parse_plain(text: &str) -> Result<Url, BlockedReason> {
    let refused = |why: &str| Err(BlockedReason::NotAUrl(why.to_owned()));
    if text.len() > MAX_URL_BYTES {
        return refused("it is longer than 8 KiB");
    }
    if text
        .chars()
        .any(|character| character.is_control() || character.is_whitespace())
    {
        return refused("it has spaces or control characters in it");
    }
    let url = Url::parse(text).map_err(|error| BlockedReason::NotAUrl(error.to_string()))?;
    if matches!(url.scheme(), "http" | "https") && written_authority(text).is_empty() {
        return refused("its host does not follow right after ://");
    }
    if written_authority(text).contains('\\') {
        return refused("it has a backslash in its host");
    }
    Ok(url)
}

/// What is written between `://` and the path.
fn written_authority(text: &str) -> &str {
    let rest = text.split_once("://").map_or("", |(_, rest)| rest);
    rest.split(['/', '?', '#']).next().unwrap_or_default()
}

/// The path and query exactly as written, where they can go on the wire so; else as the URL parser encodes them.
fn path_of(text: &str, url: &Url) -> Result<PathAndQuery, BlockedReason> {
    let rest = text.split_once("://").map_or("", |(_, rest)| rest);
    let written = rest
        .get(written_authority(text).len()..)
        .unwrap_or_default()
        .split('#')
        .next()
        .unwrap_or_default();
    if written.starts_with('/')
        && written.is_ascii()
        && let Ok(path) = PathAndQuery::try_from(written)
    {
        return Ok(path);
    }
    PathAndQuery::try_from(&url[Position::BeforePath..Position::AfterQuery])
        .map_err(|error| BlockedReason::NotAUrl(error.to_string()))
}
