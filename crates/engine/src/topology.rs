//! Topology: the applications, sources, destinations and keys that people set up.
//!
//! Owns what they are and which belong together. Must not know secrets in the clear (it carries them
//! sealed), nor configuration files, nor wire formats. The serialised form of these types is what stores
//! keep: a field that is added has a default.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::delivery::DestinationNumber;
use crate::id::{ApplicationId, DestinationId, KeyId, SourceId};
use crate::retry::Policy;
use crate::time::Timestamp;

/// Everything that people set up, at one version. Immutable: a change makes a new one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Topology {
    /// Grows by one with every change.
    pub version: u64,
    /// The applications, by id.
    pub applications: BTreeMap<ApplicationId, Application>,
    /// The sources, by id.
    pub sources: BTreeMap<SourceId, Source>,
    /// The destinations, by id; deleted ones stay until nothing refers to them.
    pub destinations: BTreeMap<DestinationId, Destination>,
    /// The API keys, by id.
    pub keys: BTreeMap<KeyId, ApiKey>,
    /// Policies of people's own, by name.
    pub policies: BTreeMap<String, Policy>,
}

impl Topology {
    /// The source of that name in that application.
    #[must_use]
    pub fn source_named(&self, name: &str) -> Option<&Source> {
        self.sources.values().find(|source| source.name == name)
    }

    /// The destination of that name in that application, deleted ones left out.
    #[must_use]
    pub fn destination_named(&self, application: ApplicationId, name: &str) -> Option<&Destination> {
        self.destinations.values().find(|destination| {
            destination.application == application
                && destination.name == name
                && destination.deleted_at.is_none()
        })
    }

    /// The destination with that number.
    #[must_use]
    pub fn destination_numbered(&self, number: DestinationNumber) -> Option<&Destination> {
        self.destinations
            .values()
            .find(|destination| destination.number == number)
    }

    /// The policy of that name: one of people's own, else a built-in one.
    #[must_use]
    pub fn policy(&self, name: &str) -> Option<Policy> {
        self.policies
            .get(name)
            .cloned()
            .or_else(|| Policy::built_in(name))
    }
}

/// A tenant.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Application {
    /// Its id.
    pub id: ApplicationId,
    /// Its name, unique.
    pub name: String,
    /// When it was made.
    pub created_at: Timestamp,
}

/// The name of the application that is there from the start.
pub const DEFAULT_APPLICATION: &str = "default";

/// Who made a thing, and so who may change it.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The configuration file: set again on every start and reload.
    File,
    /// The API, the command line or the dashboard.
    Api,
}

/// A secret that only the holder of the encryption key can read.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct SealedSecret {
    /// The sealed bytes.
    #[serde(with = "hexadecimal")]
    pub sealed: Vec<u8>,
    /// Since when it is valid.
    pub created_at: Timestamp,
    /// Until when it is still valid after a rotation.
    pub expires_at: Option<Timestamp>,
}

/// Where events come in.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Source {
    /// Its id.
    pub id: SourceId,
    /// The tenant.
    pub application: ApplicationId,
    /// Its name, unique, as in `/in/{name}`.
    pub name: String,
    /// The provider's slug, such as `nylas`.
    pub provider: String,
    /// How signatures are checked.
    pub verify: Verify,
    /// The provider's secrets, several while one is rotated.
    pub secrets: Vec<SealedSecret>,
    /// How long a repeat is recognised.
    pub dedupe_window: Duration,
    /// Where the dedupe key is found.
    pub dedupe_key: DedupeKey,
    /// What a bad signature is answered.
    pub on_invalid: OnInvalid,
    /// How far a signed timestamp may be from now; the provider's own where not set.
    pub tolerance: Option<Duration>,
    /// The largest body in bytes; the provider's own where not set.
    pub body_limit: Option<usize>,
    /// At most this many requests a second; unlimited where not set.
    pub rate_limit: Option<u32>,
    /// Settings of the provider's scheme, by name, for `generic` sources.
    #[serde(default)]
    pub scheme: BTreeMap<String, String>,
    /// The URL the provider was given, where its scheme signs it.
    #[serde(default)]
    pub public_url: Option<String>,
    /// Who made it.
    pub origin: Origin,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// How a source checks signatures.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verify {
    /// By the provider's scheme.
    Signature,
    /// Not at all: somebody wrote `verify = "none"`.
    None,
}

/// Where a source's dedupe key is found.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DedupeKey {
    /// Where the provider's preset says; where it has no id, nowhere.
    Provider,
    /// In this header.
    Header(String),
    /// At this path of the JSON body, such as `data.id`.
    JsonPath(String),
    /// The SHA-256 of the body.
    BodyHash,
    /// Nowhere: every notification is an event.
    None,
}

/// What a source answers to a notification whose signature is bad.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OnInvalid {
    /// 401, and quarantine.
    Refuse,
    /// 200, and quarantine.
    Accept,
}

/// Where events go.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Destination {
    /// Its id.
    pub id: DestinationId,
    /// Its number in the store; the store gives it.
    pub number: DestinationNumber,
    /// The tenant.
    pub application: ApplicationId,
    /// Its name, unique in the application.
    pub name: String,
    /// How it takes deliveries.
    pub kind: DestinationKind,
    /// The sources whose events it takes.
    pub sources: Vec<SourceId>,
    /// The event types it takes: `*`, `message.*` or whole names.
    pub trigger_types: Vec<String>,
    /// The name of its retry policy.
    pub policy: String,
    /// The longest that one attempt may take.
    pub timeout: Duration,
    /// At most this many attempts at once.
    pub concurrency: u32,
    /// At most this many attempts a second; unlimited where not set.
    pub rate_limit: Option<u32>,
    /// Whether its URL may be private and clear text: only the file or an admin key may say so.
    pub allow_private: bool,
    /// The secrets that its deliveries are signed with, newest first.
    pub secrets: Vec<SealedSecret>,
    /// Whether it takes deliveries.
    pub status: DestinationStatus,
    /// Why the status is what it is.
    pub status_reason: Option<String>,
    /// When the status last changed.
    pub status_changed_at: Timestamp,
    /// Set once it is deleted.
    #[serde(default)]
    pub deleted_at: Option<Timestamp>,
    /// Who made it.
    pub origin: Origin,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

impl Destination {
    /// Whether deliveries to it may be attempted or leased.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.status == DestinationStatus::Active && self.deleted_at.is_none()
    }
}

/// How a destination takes deliveries.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DestinationKind {
    /// By HTTP POST.
    Push {
        /// The URL.
        url: String,
    },
    /// Workers lease deliveries over the API.
    Pull,
}

/// Whether a destination takes deliveries, by people's decision.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DestinationStatus {
    /// It does.
    Active,
    /// Somebody paused it; its deliveries are held.
    Paused,
    /// Its challenge has not been answered; its deliveries are held.
    Unverified,
}

/// A key to the API, without the key itself.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ApiKey {
    /// Its id.
    pub id: KeyId,
    /// What it is for.
    pub name: String,
    /// SHA-256 of the key.
    #[serde(with = "hexadecimal")]
    pub hash: Vec<u8>,
    /// What it may do.
    pub scope: Scope,
    /// When it was made.
    pub created_at: Timestamp,
    /// From when on it is worth nothing.
    pub expires_at: Option<Timestamp>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
}

/// What an API key may do.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Everything, in every application.
    Admin,
    /// Everything in one application.
    Application(ApplicationId),
    /// Reading in one application.
    Read(ApplicationId),
    /// Pulling from one destination.
    Pull(DestinationId),
}

/// One change of the topology.
#[derive(Clone, Debug, PartialEq)]
pub enum TopologyChange {
    /// Makes or replaces an application.
    PutApplication(Application),
    /// Makes or replaces a source.
    PutSource(Source),
    /// Removes a source; its events stay.
    DeleteSource(SourceId),
    /// Makes or replaces a destination. The store gives a new one its number and keeps that of an old one.
    PutDestination(Destination),
    /// Makes or replaces a key; a revoked key stays as a record.
    PutKey(ApiKey),
    /// Makes or replaces a policy.
    PutPolicy(Policy),
}

/// Bytes as hexadecimal text in the stored form.
mod hexadecimal {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        serializer.serialize_str(&text)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        let pairs = text
            .as_bytes()
            .chunks(2)
            .map(|pair| std::str::from_utf8(pair).ok());
        pairs
            .map(|pair| pair.and_then(|pair| u8::from_str_radix(pair, 16).ok()))
            .collect::<Option<_>>()
            .ok_or_else(|| D::Error::custom("expected hexadecimal digits"))
    }
}
