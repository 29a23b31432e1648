//! Who asks, and what they may do (SPEC P6).
//!
//! Owns keys: making them, recognising them by their hash in constant time, and their scopes. Every handler
//! names the right it needs by the type it takes: `Reader`, `Writer`, `Puller` or `Administrator`.
//! Another application's things are as if they were not there. Must not know what the routes do.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use axum::extract::{FromRequestParts, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use hookfast_engine::id::{ApplicationId, DestinationId, KeyId, SourceId};
use hookfast_engine::time::Timestamp;
use hookfast_engine::topology::{
    ApiKey, Application, DEFAULT_APPLICATION, Destination, OPERATIONS, OUTBOX, Scope, Source, Topology,
    TopologyChange,
};
use http::request::Parts;
use http::{HeaderMap, header};
use ring::digest::{SHA256, digest};
use subtle::ConstantTimeEq as _;

use super::error::{Code, Fault};
use super::{Api, Surface};
use crate::clock::Clock;
use crate::node::Node;
use crate::vault::write_private;

/// What every key begins with.
pub const KEY_PREFIX: &str = "hf_";
/// The name of the file, and of the key, that `serve` makes on its first start.
pub const ADMIN_KEY_FILE: &str = "admin.key";
/// By this header an admin key names the application it acts on, by name or id; `*` means all.
pub const APPLICATION_HEADER: &str = "hookfast-application";
/// The shortest key that may be given from outside.
const KEY_BYTES_LEAST: usize = 20;
/// Paths that need no key.
const OPEN_PATHS: [&str; 3] = ["/", "/healthz", "/readyz"];

/// Draws a new key.
#[must_use]
pub fn new_key(clock: Clock) -> String {
    let entropy: [u8; 24] = clock.entropy_bytes();
    let digits: String = entropy.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{KEY_PREFIX}{digits}")
}

/// What is stored of a key.
#[must_use]
pub fn hash(key: &str) -> Vec<u8> {
    digest(&SHA256, key.as_bytes()).as_ref().to_vec()
}

/// Who asks.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The key's id.
    pub key: KeyId,
    /// The key's name, for the audit.
    pub name: String,
    /// What the key may do.
    pub scope: Scope,
    /// The application that is acted on; `None` is every one, for an admin key alone.
    pub application: Option<ApplicationId>,
    /// Whether the request named the application.
    pub named: bool,
    /// The topology as it stood when the request came.
    pub topology: Arc<Topology>,
}

/// Why a key is not taken.
fn recognise(topology: &Topology, key: &str, now: Timestamp) -> Result<ApiKey, Fault> {
    let given = hash(key);
    let mut found = None;
    for candidate in topology.keys.values() {
        // Every key is compared, so that the time taken tells nothing.
        if bool::from(candidate.hash.ct_eq(&given)) {
            found = Some(candidate);
        }
    }
    let found = found.ok_or_else(|| {
        Fault::new(
            Code::KeyUnknown,
            "the key is not one of this server's; copy it again, whole",
        )
    })?;
    if found.revoked_at.is_some() {
        let detail = format!("key `{}` was revoked; make a new one", found.name);
        return Err(Fault::new(Code::KeyRevoked, detail));
    }
    if found.expires_at.is_some_and(|expires_at| expires_at <= now) {
        let detail = format!("key `{}` has expired; make a new one", found.name);
        return Err(Fault::new(Code::KeyExpired, detail));
    }
    Ok(found.clone())
}

fn bearer(headers: &HeaderMap) -> Result<&str, Fault> {
    let missing = || {
        Fault::new(
            Code::KeyMissing,
            "send a key as `authorization: Bearer KEY`; the admin key stands in admin.key in the data directory",
        )
    };
    let mut given = headers.get_all(header::AUTHORIZATION).iter();
    let value = given
        .next()
        .and_then(|value| value.to_str().ok())
        .ok_or_else(missing)?;
    if given.next().is_some() {
        return Err(Fault::new(
            Code::KeyMissing,
            "the authorization header came twice; send one",
        ));
    }
    let (scheme, key) = value.split_once(' ').ok_or_else(missing)?;
    if !scheme.eq_ignore_ascii_case("bearer") || key.trim().is_empty() {
        return Err(missing());
    }
    Ok(key.trim())
}

/// Lets no request through without a key, whatever its path, but for the few open ones.
pub(super) async fn require_key(State(api): State<Arc<Api>>, mut request: Request, next: Next) -> Response {
    if OPEN_PATHS.contains(&request.uri().path()) {
        return next.run(request).await;
    }
    match authenticate(&api, request.headers()) {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(fault) => fault.into_response(),
    }
}

fn authenticate(api: &Api, headers: &HeaderMap) -> Result<Caller, Fault> {
    let topology = api.node.snapshot.load().topology.clone();
    let key = recognise(&topology, bearer(headers)?, api.node.clock.now())?;
    let named = headers
        .get(APPLICATION_HEADER)
        .map(|value| value.to_str().unwrap_or_default());
    let application = match &key.scope {
        Scope::Admin if api.surface == Surface::Api => {
            return Err(Fault::new(
                Code::AdminKeyRefused,
                "this is the API listener; use a key of an application, or the admin listener",
            ));
        }
        Scope::Admin if named == Some("*") => None,
        Scope::Admin => Some(application_named(&topology, named.unwrap_or(DEFAULT_APPLICATION))?.id),
        Scope::Application(id) | Scope::Read(id) => Some(*id),
        // The rules of the topology keep such a destination's record.
        Scope::Pull(id) => topology
            .destinations
            .get(id)
            .map(|destination| destination.application),
    };
    Ok(Caller {
        key: key.id,
        name: key.name,
        scope: key.scope,
        application,
        named: named.is_some(),
        topology,
    })
}

/// The application of that name or id.
pub(super) fn application_named<'a>(topology: &'a Topology, named: &str) -> Result<&'a Application, Fault> {
    let by_id = named.parse().ok().and_then(|id| topology.applications.get(&id));
    by_id
        .or_else(|| topology.applications.values().find(|each| each.name == named))
        .ok_or_else(|| not_found("application", named))
}

/// That there is no `kind` of that name, or none that the key may know of.
pub(super) fn not_found(kind: &str, named: &str) -> Fault {
    let named: String = named.chars().take(80).collect();
    Fault::new(
        Code::NotFound,
        format!("there is no {kind} `{named}` in this application"),
    )
}

impl Caller {
    /// Whether things of `application` are there for this caller.
    #[must_use]
    pub fn sees(&self, application: ApplicationId) -> bool {
        match self.application {
            Some(own) => own == application,
            None => self.scope == Scope::Admin,
        }
    }

    /// Whether things of the source are there for this caller.
    #[must_use]
    pub fn sees_source(&self, source: SourceId) -> bool {
        match self.topology.owner_of(source) {
            Some(application) => self.sees(application),
            None => self.is_admin() && self.application.is_none(),
        }
    }

    /// Whether things of the destination are there for this caller.
    #[must_use]
    pub fn sees_destination(&self, destination: DestinationId) -> bool {
        match self.topology.destinations.get(&destination) {
            Some(destination) => self.sees(destination.application),
            None => self.is_admin() && self.application.is_none(),
        }
    }

    /// Whether it is an admin key.
    #[must_use]
    pub fn is_admin(&self) -> bool {
        self.scope == Scope::Admin
    }

    /// The one application that is acted on.
    pub(super) fn one_application(&self) -> Result<ApplicationId, Fault> {
        self.application.ok_or_else(|| {
            Fault::field(
                APPLICATION_HEADER,
                "`*` names no single application; name the one that this is for",
            )
        })
    }

    /// The source of that name or id, as far as this caller may know of it.
    pub(super) fn source(&self, named: &str) -> Result<&Source, Fault> {
        let by_id = named.parse().ok().and_then(|id| self.topology.sources.get(&id));
        by_id
            .or_else(|| self.topology.source_named(named))
            .filter(|source| self.sees(source.application))
            .ok_or_else(|| not_found("source", named))
    }

    /// The id of the source of that name or id; what an application publishes itself has one too.
    pub(super) fn source_id(&self, named: &str) -> Result<SourceId, Fault> {
        match named {
            OUTBOX => self.one_application().map(SourceId::of_outbox),
            OPERATIONS => self.one_application().map(SourceId::of_operations),
            named => self.source(named).map(|source| source.id),
        }
    }

    /// The destination of that name or id, as far as this caller may know of it.
    pub(super) fn destination(&self, named: &str) -> Result<&Destination, Fault> {
        let by_id = named
            .parse()
            .ok()
            .and_then(|id| self.topology.destinations.get(&id));
        let by_name = || {
            let mut all = self.topology.live_destinations();
            all.find(|each| each.name == named && self.sees(each.application))
        };
        by_id
            .or_else(by_name)
            .filter(|destination| destination.deleted_at.is_none() && self.sees(destination.application))
            .ok_or_else(|| not_found("destination", named))
    }
}

fn caller(parts: &mut Parts) -> Result<Caller, Fault> {
    // The layer before puts it there; without it nobody may do anything.
    parts
        .extensions
        .remove::<Caller>()
        .ok_or_else(|| Fault::new(Code::KeyMissing, "send a key as `authorization: Bearer KEY`"))
}

fn too_narrow(need: &str, caller: &Caller) -> Fault {
    let has = match caller.scope {
        Scope::Admin => "admin",
        Scope::Application(_) => "application",
        Scope::Read(_) => "read",
        Scope::Pull(_) => "pull",
    };
    Fault::new(
        Code::ScopeTooNarrow,
        format!(
            "this needs a key of scope {need}; key `{}` has scope {has}",
            caller.name
        ),
    )
}

macro_rules! rights {
    ($($(#[$doc:meta])* $name:ident needs $need:literal from $($scope:pat_param)|+ ,)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug)]
        pub(super) struct $name(pub(super) Caller);

        impl<S: Send + Sync> FromRequestParts<S> for $name {
            type Rejection = Fault;

            async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Fault> {
                let caller = caller(parts)?;
                if matches!(caller.scope, $($scope)|+) {
                    Ok(Self(caller))
                } else {
                    Err(too_narrow($need, &caller))
                }
            }
        }
    )*};
}

rights! {
    /// A caller that may read in its application.
    Reader needs "read, application or admin" from Scope::Read(_) | Scope::Application(_) | Scope::Admin,
    /// A caller that may change its application.
    Writer needs "application or admin" from Scope::Application(_) | Scope::Admin,
    /// A caller that may pull from a destination of its application, or from that one alone.
    Puller needs "pull, application or admin" from Scope::Pull(_) | Scope::Application(_) | Scope::Admin,
    /// A caller that may do everything.
    Administrator needs "admin" from Scope::Admin,
}

impl Caller {
    /// Waits for the turn to change the topology, and sees it as it is then.
    pub(super) async fn turn(self, api: &Api) -> (Self, tokio::sync::MutexGuard<'_, ()>) {
        let turn = api.node.admin.turn().await;
        let topology = api.node.snapshot.load().topology.clone();
        (Self { topology, ..self }, turn)
    }
}

impl Puller {
    /// The destination of that name or id, where this caller may pull from it.
    pub(super) fn destination(&self, named: &str) -> Result<&Destination, Fault> {
        let destination = self.0.destination(named)?;
        match self.0.scope {
            Scope::Pull(id) if id != destination.id => Err(not_found("destination", named)),
            Scope::Pull(_) | Scope::Application(_) | Scope::Admin | Scope::Read(_) => Ok(destination),
        }
    }
}

/// Sees to it that the admin key exists: from `given` (`HOOKFAST_ADMIN_KEY`), else from `admin.key` in the data
/// directory, else newly drawn; the file and the stored hash are made to agree with it.
///
/// # Errors
/// Where the key is too short or not plain text, or the file cannot be read or written.
pub async fn ensure_admin_key(node: &Node, given: Option<String>) -> anyhow::Result<()> {
    let file = node.settings.data.join(ADMIN_KEY_FILE);
    let written = match std::fs::read_to_string(&file) {
        Ok(text) => Some(text.trim().to_owned()).filter(|text| !text.is_empty()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", file.display())),
    };
    let given = given
        .map(|key| key.trim().to_owned())
        .filter(|key| !key.is_empty());
    let from = if given.is_some() {
        "HOOKFAST_ADMIN_KEY".to_owned()
    } else {
        file.display().to_string()
    };
    let topology = node.store.topology();
    let stored = topology
        .keys
        .values()
        .find(|key| key.name == ADMIN_KEY_FILE && key.scope == Scope::Admin);
    let mut key = given
        .or_else(|| written.clone())
        .unwrap_or_else(|| new_key(node.clock));
    check_admin_key(&key).with_context(|| format!("the admin key in {from} cannot be used"))?;
    if stored.is_some_and(|stored| stored.revoked_at.is_some() && stored.hash == hash(&key)) {
        tracing::warn!("the admin key in {from} was revoked; a new one is made");
        key = new_key(node.clock);
    }
    if written.as_deref() != Some(key.as_str()) {
        replace_private(&file, &key).with_context(|| format!("cannot write {}", file.display()))?;
    }
    let fresh = stored.is_none_or(|stored| stored.hash != hash(&key) || stored.revoked_at.is_some());
    if fresh {
        let now = node.clock.now();
        let id = stored.map_or_else(|| KeyId::new(now, node.clock.entropy()), |stored| stored.id);
        let put = ApiKey {
            id,
            name: ADMIN_KEY_FILE.to_owned(),
            hash: hash(&key),
            scope: Scope::Admin,
            created_at: now,
            expires_at: None,
            revoked_at: None,
        };
        node.change_topology("start", vec![TopologyChange::PutKey(put)])
            .await
            .context("cannot store the admin key")?;
    }
    Ok(())
}

fn check_admin_key(key: &str) -> anyhow::Result<()> {
    if key.len() < KEY_BYTES_LEAST || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        bail!("expected at least {KEY_BYTES_LEAST} visible ASCII characters without spaces");
    }
    Ok(())
}

/// Writes `text` so that at no time anyone but the owner may read it, nor half of it stands there.
fn replace_private(file: &Path, text: &str) -> std::io::Result<()> {
    let beside = file.with_extension("key.new");
    match std::fs::remove_file(&beside) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        Err(_) | Ok(()) => {}
    }
    write_private(&beside, text)?;
    std::fs::rename(&beside, file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(id: u128, text: &str) -> ApiKey {
        ApiKey {
            id: KeyId::from_u128(id),
            name: format!("key {id}"),
            hash: hash(text),
            scope: Scope::Admin,
            created_at: Timestamp::EPOCH,
            expires_at: None,
            revoked_at: None,
        }
    }

    #[test]
    fn a_key_is_worth_nothing_from_the_moment_it_expires_or_is_revoked() {
        let now = Timestamp::from_secs(1_000);
        let mut topology = Topology::default();
        let mut put = |key: ApiKey| _ = topology.keys.insert(key.id, key);
        put(key(1, "plain"));
        put(ApiKey {
            expires_at: Some(now),
            ..key(2, "expired")
        });
        put(ApiKey {
            expires_at: Some(Timestamp::from_micros(1_000_000_001)),
            ..key(3, "just")
        });
        put(ApiKey {
            revoked_at: Some(now),
            ..key(4, "revoked")
        });
        let code = |text| {
            recognise(&topology, text, now)
                .map(|key| key.id.as_u128())
                .map_err(|fault| fault.code)
        };
        assert_eq!(code("plain"), Ok(1));
        assert_eq!(code("expired"), Err(Code::KeyExpired));
        assert_eq!(code("just"), Ok(3));
        assert_eq!(code("revoked"), Err(Code::KeyRevoked));
        assert_eq!(code("other"), Err(Code::KeyUnknown));
        assert_eq!(code(""), Err(Code::KeyUnknown));
    }

    #[test]
    fn keys_are_long_and_never_twice_the_same() {
        let (one, two) = (new_key(Clock), new_key(Clock));
        assert_ne!(one, two);
        assert!(one.len() >= KEY_PREFIX.len() + 32 && one.starts_with(KEY_PREFIX));
    }

    #[test]
    fn only_one_whole_bearer_header_is_taken() {
        let check = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::AUTHORIZATION, value.parse().unwrap());
            }
            bearer(&headers).map(str::to_owned).ok()
        };
        assert_eq!(check(&["Bearer abc"]).as_deref(), Some("abc"));
        assert_eq!(check(&["bearer  abc "]).as_deref(), Some("abc"));
        for wrong in [
            &[][..],
            &["abc"],
            &["Basic abc"],
            &["Bearer "],
            &["Bearer a", "Bearer a"],
        ] {
            assert_eq!(check(wrong), None, "{wrong:?}");
        }
    }
}
