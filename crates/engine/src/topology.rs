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
    /// Trigger types of people's own, by application and name.
    pub trigger_types: BTreeMap<(ApplicationId, String), TriggerType>,
}

impl Topology {
    /// The source of that name in that application.
    #[must_use]
    pub fn source_named(&self, name: &str) -> Option<&Source> {
        self.sources.values().find(|source| source.name == name)
    }

    /// The destinations that are not deleted.
    pub fn live_destinations(&self) -> impl Iterator<Item = &Destination> {
        let all = self.destinations.values();
        all.filter(|destination| destination.deleted_at.is_none())
    }

    /// The destination with that number.
    #[must_use]
    pub fn destination_numbered(&self, number: DestinationNumber) -> Option<&Destination> {
        self.destinations
            .values()
            .find(|destination| destination.number == number)
    }

    /// The application that owns what comes in at `source`, which need not be set up: what an application
    /// publishes, and what is said of its destinations, have sources of their own.
    #[must_use]
    pub fn owner_of(&self, source: SourceId) -> Option<ApplicationId> {
        let set_up = self.sources.get(&source).map(|source| source.application);
        let own = || {
            let application = source.publisher()?;
            self.applications
                .contains_key(&application)
                .then_some(application)
        };
        set_up.or_else(own)
    }

    /// The trigger types of the application's own, by name.
    pub fn trigger_types_of(&self, application: ApplicationId) -> impl Iterator<Item = &TriggerType> {
        let from = (application, String::new());
        self.trigger_types
            .range(from..)
            .take_while(move |((of, _), _)| *of == application)
            .map(|(_, trigger_type)| trigger_type)
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
    /// Which event types it may publish and its destinations may subscribe to.
    #[serde(default)]
    pub catalogue: Catalogue,
}

impl Application {
    /// An application with the catalogue that it has by default.
    #[must_use]
    pub fn new(id: ApplicationId, name: &str, now: Timestamp) -> Self {
        Self {
            id,
            name: name.to_owned(),
            created_at: now,
            catalogue: Catalogue::default(),
        }
    }
}

/// The name of the application that is there from the start.
pub const DEFAULT_APPLICATION: &str = "default";

/// Which trigger types an application knows, beside those of its own (SPEC O9).
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Catalogue {
    /// The name of a catalogue that comes with Hookfast, such as `nylas`.
    pub preset: Option<String>,
    /// Whether any type is taken, known or not.
    pub open: bool,
}

impl Default for Catalogue {
    fn default() -> Self {
        Self {
            preset: Some("nylas".to_owned()),
            open: false,
        }
    }
}

/// A trigger type of an application's own.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct TriggerType {
    /// The application.
    pub application: ApplicationId,
    /// The type, such as `invoice.paid`.
    pub name: String,
    /// What it tells, in a sentence.
    pub description: String,
    /// The JSON schema of the event's data, as it was given.
    pub schema: Option<String>,
    /// An example of the event's data, as it was given.
    pub example: Option<String>,
    /// Who made it.
    pub origin: Origin,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// The name of the source that an application itself is when it publishes. No other source is called so.
pub const OUTBOX: &str = "outbox";
/// The name of the source of what Hookfast publishes about an application's things.
pub const OPERATIONS: &str = "hookfast";

/// Where the version of a UUID stands (RFC 9562 section 4.2).
const VERSION_SHIFT: u32 = 76;
const VERSION_MASK: u128 = 0xf << VERSION_SHIFT;
/// Ids that are drawn.
const DRAWN: u128 = 0x7 << VERSION_SHIFT;
/// Of what an application publishes: version 8, which is for ids of one's own making.
const OF_OUTBOX: u128 = 0x8 << VERSION_SHIFT;
/// Of what Hookfast says of an application's destinations and sources.
const OF_OPERATIONS: u128 = 0x9 << VERSION_SHIFT;

impl SourceId {
    /// The source that an application itself is when it publishes.
    #[must_use]
    pub const fn of_outbox(application: ApplicationId) -> Self {
        Self::from_u128(application.as_u128() & !VERSION_MASK | OF_OUTBOX)
    }

    /// The source of what Hookfast publishes about an application's things (SPEC O7).
    #[must_use]
    pub const fn of_operations(application: ApplicationId) -> Self {
        Self::from_u128(application.as_u128() & !VERSION_MASK | OF_OPERATIONS)
    }

    /// Whether it is the source of what an application publishes.
    #[must_use]
    pub const fn is_outbox(self) -> bool {
        self.as_u128() & VERSION_MASK == OF_OUTBOX
    }

    /// The application whose [`SourceId::of_outbox`] or [`SourceId::of_operations`] it is.
    #[must_use]
    pub const fn publisher(self) -> Option<ApplicationId> {
        let bits = self.as_u128();
        match bits & VERSION_MASK {
            OF_OUTBOX | OF_OPERATIONS => Some(ApplicationId::from_u128(bits & !VERSION_MASK | DRAWN)),
            _ => None,
        }
    }
}

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

/// How long a repeat is recognised where nobody says otherwise.
pub const DEDUPE_WINDOW: Duration = Duration::from_secs(7 * 86_400);

impl Source {
    /// A source with every setting at its default, and no secret yet.
    #[must_use]
    pub fn new(id: SourceId, application: ApplicationId, name: &str, provider: &str, now: Timestamp) -> Self {
        Self {
            id,
            application,
            name: name.to_owned(),
            provider: provider.to_owned(),
            verify: Verify::Signature,
            secrets: Vec::new(),
            dedupe_window: DEDUPE_WINDOW,
            dedupe_key: DedupeKey::Provider,
            on_invalid: OnInvalid::Refuse,
            tolerance: None,
            body_limit: None,
            rate_limit: None,
            scheme: BTreeMap::new(),
            public_url: None,
            origin: Origin::Api,
            created_at: now,
            updated_at: now,
        }
    }
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
    /// What it is for, in its owner's words.
    #[serde(default)]
    pub description: String,
    /// How it takes deliveries.
    pub kind: DestinationKind,
    /// The sources whose events it takes; [`SourceId::of_outbox`] stands for what its application publishes.
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
    /// How published events are signed and what form they go out in.
    #[serde(default)]
    pub signing: Signing,
    /// Whether published events go out compressed by gzip.
    #[serde(default)]
    pub compressed: bool,
    /// Whether its URL must answer a challenge before it takes deliveries (SPEC O8).
    #[serde(default)]
    pub verify: bool,
    /// Who is told by e-mail when it is failing, failed, or back.
    #[serde(default)]
    pub notification_email_addresses: Vec<String>,
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
    /// A destination with every setting at its default: an active one of the inbox's kind, that takes every type
    /// of no source yet. The store gives it its number.
    #[must_use]
    pub fn new(
        id: DestinationId,
        application: ApplicationId,
        name: &str,
        kind: DestinationKind,
        now: Timestamp,
    ) -> Self {
        Self {
            id,
            number: DestinationNumber(0),
            application,
            name: name.to_owned(),
            description: String::new(),
            kind,
            sources: Vec::new(),
            trigger_types: vec!["*".to_owned()],
            policy: "inbox".to_owned(),
            timeout: Duration::from_secs(30),
            concurrency: 64,
            rate_limit: None,
            allow_private: false,
            secrets: Vec::new(),
            signing: Signing::Standard,
            compressed: false,
            verify: false,
            notification_email_addresses: Vec::new(),
            status: DestinationStatus::Active,
            status_reason: None,
            status_changed_at: now,
            deleted_at: None,
            origin: Origin::Api,
            created_at: now,
            updated_at: now,
        }
    }

    /// Whether deliveries to it may be attempted or leased.
    #[must_use]
    pub fn is_open(&self) -> bool {
        let takes = match self.status {
            DestinationStatus::Active | DestinationStatus::Failing => true,
            DestinationStatus::Failed | DestinationStatus::Paused | DestinationStatus::Unverified => false,
        };
        takes && self.deleted_at.is_none()
    }

    /// Whether it takes what its application publishes.
    #[must_use]
    pub fn takes_published(&self) -> bool {
        self.sources.contains(&SourceId::of_outbox(self.application))
    }

    /// Changes the status at `now`. Of two changes the one with the later `status_changed_at` counts, so this one is
    /// later than the last even where the clock went back.
    pub fn set_status(&mut self, status: DestinationStatus, reason: Option<String>, now: Timestamp) {
        self.status = status;
        self.status_reason = reason;
        let after_the_last = self.status_changed_at.plus(Duration::from_micros(1));
        self.status_changed_at = now.max(after_the_last);
    }
}

/// How published events are signed, and so what form they go out in (SPEC O2).
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Signing {
    /// By Standard Webhooks.
    #[default]
    Standard,
    /// As Nylas signs: `X-Nylas-Signature`, the body's HMAC in hexadecimal digits.
    Nylas,
    /// As Nylas signs, and by Standard Webhooks too.
    Both,
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

/// Whether a destination takes deliveries.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DestinationStatus {
    /// It does.
    Active,
    /// Nearly all attempts fail: its deliveries wait, and one probe at a time is made (SPEC O6).
    Failing,
    /// It was failing for 72 hours; its deliveries are held until somebody reactivates it.
    Failed,
    /// Somebody paused it; its deliveries are held.
    Paused,
    /// Its challenge has not been answered; its deliveries are held.
    Unverified,
}

impl DestinationStatus {
    /// The name used in the API, in events and on pages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Failing => "failing",
            Self::Failed => "failed",
            Self::Paused => "paused",
            Self::Unverified => "unverified",
        }
    }
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
    /// Makes or replaces a trigger type of an application's own.
    PutTriggerType(TriggerType),
    /// Removes a trigger type; destinations that list it keep it in their lists.
    DeleteTriggerType(ApplicationId, String),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sources_that_an_application_is_itself_lead_back_to_it_and_are_no_drawn_ids() {
        let application = ApplicationId::new(Timestamp::from_secs(1_790_000_000), 7);
        let (outbox, operations) = (
            SourceId::of_outbox(application),
            SourceId::of_operations(application),
        );
        assert_ne!(outbox, operations);
        for own in [outbox, operations] {
            assert_eq!(own.publisher(), Some(application));
        }
        assert!(outbox.is_outbox() && !operations.is_outbox());
        let drawn = SourceId::new(Timestamp::from_secs(1_790_000_000), 7);
        assert_eq!(drawn.publisher(), None);
    }
}
