//! What people set up: sources, destinations, applications, keys.
//!
//! Owns their JSON. No field of an answer holds a secret, but for the one that shows a new one once.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use super::{DeliveryState, Span, Time};

/// Who made a thing.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The configuration file, which sets it again on every start and reload.
    File,
    /// The API, the command line or the dashboard.
    Api,
}

/// How a source checks signatures.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verify {
    /// By the provider's scheme.
    #[default]
    Signature,
    /// Not at all.
    None,
}

/// What a source answers to a notification whose signature is bad; it is kept in quarantine either way.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnInvalid {
    /// 401.
    #[default]
    Refuse,
    /// 200.
    Accept,
}

/// Where events come in.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct Source {
    /// Its id.
    pub id: String,
    /// The id of its application.
    pub application: String,
    /// Its name.
    pub name: String,
    /// Where the provider posts to, on the public listener.
    pub path: String,
    /// The provider's slug.
    pub provider: String,
    /// How signatures are checked.
    pub verify: Verify,
    /// How many secrets are set; they are never shown.
    pub secrets: usize,
    /// How long a repeat is recognised.
    pub dedupe: Span,
    /// Where the dedupe key is found: `provider`, `header:NAME`, `json:PATH`, `body` or `none`.
    pub dedupe_key: String,
    /// What a bad signature is answered.
    pub on_invalid: OnInvalid,
    /// How far a signed timestamp may be from now; the provider's own where null.
    pub tolerance: Option<Span>,
    /// The largest body in bytes; the provider's own where null.
    pub body_limit: Option<u64>,
    /// At most this many requests a second; unlimited where null.
    pub rate_limit: Option<u32>,
    /// Settings of the scheme of a `generic` source.
    pub scheme: BTreeMap<String, String>,
    /// The URL the provider was given, where its scheme signs it.
    pub public_url: Option<String>,
    /// How many of its notifications are in quarantine.
    pub quarantined: u64,
    /// Who made it.
    pub origin: Origin,
    /// When it was made.
    pub created_at: Time,
    /// When it was last changed.
    pub updated_at: Time,
    /// The secret that was generated: shown this once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// What to know about the change that was just made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// A source to be made.
#[derive(Clone, Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SourceCreate {
    /// Its name, as in `/in/{name}`: lower-case letters, digits, `-` and `_`.
    pub name: String,
    /// The provider's slug, such as `nylas`, or `generic`.
    pub provider: String,
    /// How signatures are checked.
    #[serde(default)]
    pub verify: Verify,
    /// The provider's secrets; several while one is rotated.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<String>,
    /// Makes a secret and shows it once, for a provider that lets its user choose.
    #[serde(default)]
    pub generate_secret: bool,
    /// How long a repeat is recognised; `7d` by default, `24h` at the least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dedupe: Option<Span>,
    /// Where the dedupe key is found: `provider` (the default), `header:NAME`, `json:PATH`, `body` or `none`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dedupe_key: Option<String>,
    /// What a bad signature is answered.
    #[serde(default)]
    pub on_invalid: OnInvalid,
    /// How far a signed timestamp may be from now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tolerance: Option<Span>,
    /// The largest body in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_limit: Option<u64>,
    /// At most this many requests a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<u32>,
    /// Settings of the scheme of a `generic` source.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub scheme: BTreeMap<String, String>,
    /// The URL the provider was given, where its scheme signs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_url: Option<String>,
}

/// What to change of a source. What is left out stays; null clears.
#[derive(Clone, Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SourceUpdate {
    /// Its name. The provider must then post to the new path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// How signatures are checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<Verify>,
    /// The provider's secrets, in place of those there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secrets: Option<Vec<String>>,
    /// How long a repeat is recognised.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dedupe: Option<Span>,
    /// Where the dedupe key is found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dedupe_key: Option<String>,
    /// What a bad signature is answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_invalid: Option<OnInvalid>,
    /// How far a signed timestamp may be from now.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Span>)]
    pub tolerance: Option<Option<Span>>,
    /// The largest body in bytes.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    pub body_limit: Option<Option<u64>>,
    /// At most this many requests a second.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u32>)]
    pub rate_limit: Option<Option<u32>>,
    /// Settings of the scheme of a `generic` source, in place of those there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheme: Option<BTreeMap<String, String>>,
    /// The URL the provider was given, where its scheme signs it.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub public_url: Option<Option<String>>,
}

/// A provider that sources can be made for.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct Provider {
    /// The slug, as sources name it.
    pub slug: String,
    /// The name for people.
    pub name: String,
    /// Where the provider documents its signature.
    pub documentation: String,
    /// What the provider calls the secret and where it shows it.
    pub secret_hint: String,
    /// Other schemes of the same provider: set one as `scheme.variant`.
    pub variants: Vec<String>,
    /// The largest body in bytes.
    pub body_limit: u64,
    /// Within how long it wants its answer.
    pub ack_budget: Option<Span>,
    /// What it does after failures.
    pub on_failure: String,
}

/// How a destination takes deliveries.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DestinationKind {
    /// By HTTP POST.
    Push,
    /// Workers lease deliveries over the API.
    Pull,
}

/// Whether a destination takes deliveries.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DestinationStatus {
    /// It does.
    Active,
    /// Nearly all attempts fail: its deliveries wait, and one probe at a time is made.
    Failing,
    /// It was failing for 72 hours; its deliveries are held until it is reactivated.
    Failed,
    /// Somebody paused it; its deliveries are held.
    Paused,
    /// Its challenge has not been answered; its deliveries are held.
    Unverified,
}

/// How published events are signed, and so what form they go out in.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
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

/// Whether attempts are suspended because the destination is down.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BreakerState {
    /// Attempts are made.
    Closed,
    /// Only probes are made.
    Open,
}

/// A destination's breaker.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct Breaker {
    /// Its state.
    pub state: BreakerState,
    /// Since when it is open.
    pub since: Option<Time>,
    /// When the next probe is made, at the earliest.
    pub next_probe_at: Option<Time>,
    /// Failures since the last success.
    pub failures_in_a_row: u32,
    /// When an attempt last succeeded.
    pub last_success_at: Option<Time>,
    /// When an attempt last failed.
    pub last_failure_at: Option<Time>,
}

/// How a destination's attempts of the last 15 minutes went.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
pub struct Window {
    /// Attempts that succeeded.
    pub good: u64,
    /// All others.
    pub bad: u64,
}

/// Where events go.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct Destination {
    /// Its id.
    pub id: String,
    /// The id of its application.
    pub application: String,
    /// Its name.
    pub name: String,
    /// What it is for, in its owner's words.
    pub description: String,
    /// How it takes deliveries.
    pub kind: DestinationKind,
    /// The URL, where it is pushed to.
    pub url: Option<String>,
    /// The names of the sources whose events it takes; `outbox` is what its application publishes.
    pub sources: Vec<String>,
    /// The event types it takes.
    pub trigger_types: Vec<String>,
    /// The name of its retry policy.
    pub policy: String,
    /// The longest that one attempt may take.
    pub timeout: Span,
    /// At most this many attempts at once.
    pub concurrency: u32,
    /// At most this many attempts a second; unlimited where null.
    pub rate_limit: Option<u32>,
    /// Whether its URL may be private and clear text.
    pub allow_private: bool,
    /// How published events are signed, and so what form they go out in.
    pub signing: Signing,
    /// Whether published events go out compressed by gzip.
    pub compressed: bool,
    /// Whether its URL must answer a challenge before it takes deliveries.
    pub verify: bool,
    /// Who is told by e-mail when it is failing, failed, or back.
    pub notification_email_addresses: Vec<String>,
    /// How many signing secrets are valid; they are never shown again.
    pub secrets: usize,
    /// Whether it takes deliveries.
    pub status: DestinationStatus,
    /// Why the status is what it is.
    pub status_reason: Option<String>,
    /// When the status last changed.
    pub status_changed_at: Time,
    /// Whether attempts are suspended because it is down.
    pub breaker: Breaker,
    /// How its attempts of the last 15 minutes went, where its policy has health windows.
    pub window: Window,
    /// Deliveries by state.
    pub counts: BTreeMap<DeliveryState, u64>,
    /// When the oldest event that still waits for it was accepted.
    pub oldest_waiting_at: Option<Time>,
    /// Who made it.
    pub origin: Origin,
    /// When it was made.
    pub created_at: Time,
    /// When it was last changed.
    pub updated_at: Time,
    /// The signing secret (Standard Webhooks, `whsec_…`): shown this once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// What to know about the change that was just made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// A destination to be made.
#[derive(Clone, Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DestinationCreate {
    /// Its name, unique in the application.
    pub name: String,
    /// What it is for, at most 1,000 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// How it takes deliveries: by default `push` with a URL, else `pull`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<DestinationKind>,
    /// Where deliveries are posted to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The sources whose events it takes, by name or id; without any, and with `outbox`, what its application
    /// publishes.
    #[serde(default)]
    pub sources: Vec<String>,
    /// The event types it takes: `*` (the default), `message.*` or whole names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trigger_types: Option<Vec<String>>,
    /// The name of its retry policy; by default `inbox` with sources, `nylas` with signing `nylas`, and else
    /// `standard`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// The longest that one attempt may take, from `1s` to `15m`; by default `30s` with sources, else `10s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
    /// At most this many attempts at once, from 1 to 1000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// At most this many attempts a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<u32>,
    /// Lets the URL be private and clear text. Only an admin key may say so.
    #[serde(default)]
    pub allow_private: bool,
    /// How published events are signed, and so what form they go out in; `standard` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signing: Option<Signing>,
    /// Whether published events go out compressed by gzip.
    #[serde(default)]
    pub compressed: bool,
    /// Whether its URL must answer a challenge before it takes deliveries; by default where it takes what its
    /// application publishes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<bool>,
    /// Who is told by e-mail when it is failing, failed, or back; at most 20.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notification_email_addresses: Vec<String>,
    /// A signing secret of your own (`whsec_…`; with signing `nylas` any text); one is made by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
}

/// What to change of a destination. What is left out stays; null clears.
#[derive(Clone, Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DestinationUpdate {
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Where deliveries are posted to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The sources whose events it takes, by name or id, in place of those there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sources: Option<Vec<String>>,
    /// The event types it takes, in place of those there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trigger_types: Option<Vec<String>>,
    /// The name of its retry policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// The longest that one attempt may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
    /// At most this many attempts at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// At most this many attempts a second.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u32>)]
    pub rate_limit: Option<Option<u32>>,
    /// Lets the URL be private and clear text. Only an admin key may say so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_private: Option<bool>,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// How published events are signed; its secret must fit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signing: Option<Signing>,
    /// Whether published events go out compressed by gzip.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compressed: Option<bool>,
    /// Whether its URL must answer a challenge before it takes deliveries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<bool>,
    /// Who is told by e-mail, in place of those there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notification_email_addresses: Option<Vec<String>>,
}

/// What becomes of the deliveries that were held meanwhile.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Resume {
    /// Gives them up instead of delivering them.
    #[serde(default)]
    pub discard: bool,
}

/// A tenant.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct Application {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// When it was made.
    pub created_at: Time,
    /// The catalogue of trigger types that it knows beside its own; null for none.
    pub preset: Option<String>,
    /// Whether it may publish any type, known or not.
    pub open: bool,
}

/// An application to be made, or changed.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ApplicationPut {
    /// Its name, unique.
    pub name: String,
    /// The catalogue of trigger types that it knows beside its own: `nylas`, or empty for none. What is left out
    /// stays, or is as `[outbox]` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preset: Option<String>,
    /// Whether it may publish any type, known or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open: Option<bool>,
}

/// What a key may do.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum KeyScope {
    /// Everything, in every application.
    Admin,
    /// Everything in one application, but for keys and applications themselves.
    Application,
    /// Reading in one application.
    Read,
    /// Pulling from one destination.
    Pull,
}

/// A key to the API, without the key itself.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct Key {
    /// Its id.
    pub id: String,
    /// What it is for.
    pub name: String,
    /// What it may do.
    pub scope: KeyScope,
    /// The id of the application that it is for.
    pub application: Option<String>,
    /// The id of the destination that it pulls from.
    pub destination: Option<String>,
    /// When it was made.
    pub created_at: Time,
    /// From when on it is worth nothing.
    pub expires_at: Option<Time>,
    /// When it was revoked.
    pub revoked_at: Option<Time>,
    /// The key: shown this once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

/// A copy of the store.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Backup {
    /// The new file, as an absolute path on the server's machine.
    pub file: String,
}

/// A key to be made.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyCreate {
    /// What it is for.
    pub name: String,
    /// What it may do.
    pub scope: KeyScope,
    /// The application, by name or id, of an `application` or `read` key; `default` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub application: Option<String>,
    /// The destination, by name or id, of a `pull` key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<String>,
    /// For how long it is valid; for ever by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in: Option<Span>,
}

/// Tells a field that is null from one that is left out.
fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}
