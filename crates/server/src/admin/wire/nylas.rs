//! Webhooks in the JSON of Nylas's API, version 3.
//!
//! Owns its fields, which are Nylas's own (OpenAPI of `/v3/webhooks`, and the models of its SDKs, which need more of
//! them than that says). Fields that it does not know are passed over: later SDKs may send some.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What is answered to what was done.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct NylasReply<T> {
    /// The answer's `x-request-id`.
    pub request_id: String,
    /// What was asked for.
    pub data: T,
}

/// What is answered to what was not done.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct NylasProblem {
    /// The answer's `x-request-id`.
    pub request_id: String,
    /// Why.
    pub error: NylasError,
}

/// Why something was not done.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct NylasError {
    /// Nylas's own code where it has one, such as `70005`; else one of Hookfast's.
    pub r#type: String,
    /// What happened, and what to do about it.
    pub message: String,
}

/// A webhook: a push destination that takes what its application publishes.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct NylasWebhook {
    /// Its id, as that of the destination.
    pub id: String,
    /// What it is for.
    pub description: String,
    /// The trigger types it takes.
    pub trigger_types: Vec<String>,
    /// Where notifications are posted to.
    pub webhook_url: String,
    /// The secret its notifications are signed with: only where it was just made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook_secret: Option<String>,
    /// Whether it takes notifications.
    pub status: NylasStatus,
    /// Who is told by e-mail when it is failing, failed, or back.
    pub notification_email_addresses: Vec<String>,
    /// Whether notifications go out compressed by gzip.
    pub compressed_delivery: bool,
    /// When the status last changed, in Unix seconds.
    pub status_updated_at: i64,
    /// When it was made, in Unix seconds.
    pub created_at: i64,
    /// When it was last changed, in Unix seconds.
    pub updated_at: i64,
}

/// Whether a webhook takes notifications, in Nylas's words.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum NylasStatus {
    /// It does.
    Active,
    /// Nearly all attempts fail.
    Failing,
    /// It was failing for 72 hours and has to be activated again.
    Failed,
    /// Somebody paused it, or its URL has not answered the challenge yet, of which Nylas has no name.
    Pause,
}

/// A webhook to be made.
#[derive(Clone, Debug, Default, Deserialize, Serialize, ToSchema)]
pub struct NylasWebhookCreate {
    /// The trigger types it takes, at least one.
    #[schema(required = true, nullable = false)]
    pub trigger_types: Option<Vec<String>>,
    /// Where notifications are posted to. It is asked to echo a challenge before anything is kept.
    #[schema(required = true, nullable = false)]
    pub webhook_url: Option<String>,
    /// What it is for.
    pub description: Option<String>,
    /// Who is told by e-mail when it is failing, failed, or back.
    pub notification_email_addresses: Option<Vec<String>>,
    /// Whether notifications go out compressed by gzip.
    pub compressed_delivery: Option<bool>,
}

/// What to change of a webhook. What is left out, null or empty stays.
#[derive(Clone, Debug, Default, Deserialize, Serialize, ToSchema)]
pub struct NylasWebhookUpdate {
    /// The trigger types it takes, in place of those there are.
    pub trigger_types: Option<Vec<String>>,
    /// Where notifications are posted to. A new one is asked to echo a challenge before anything changes.
    pub webhook_url: Option<String>,
    /// `active`, which has the URL echo a challenge, or `pause`; `paused` and `inactive` are the same.
    pub status: Option<String>,
    /// What it is for.
    pub description: Option<String>,
    /// Who is told by e-mail, in place of those there are.
    pub notification_email_addresses: Option<Vec<String>>,
    /// Whether notifications go out compressed by gzip.
    pub compressed_delivery: Option<bool>,
}

/// What to show or send a mock notification of.
#[derive(Clone, Debug, Default, Deserialize, Serialize, ToSchema)]
pub struct NylasMockAsked {
    /// The trigger type; a test event is of `message.created` where it is left out.
    pub trigger_type: Option<String>,
    /// Where a test event is posted to.
    pub webhook_url: Option<String>,
}

/// That something is gone.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct NylasDeleted {
    /// Always `success`.
    pub status: String,
}

/// Where notifications come from.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct NylasIpAddresses {
    /// The addresses that `outbox.ip_addresses` lists.
    pub ip_addresses: Vec<String>,
    /// When the setting was read, in Unix seconds.
    pub updated_at: i64,
}
