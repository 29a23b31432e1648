//! What one attempt sends (SPEC O2, O10).
//!
//! Owns the two forms of a notification, its greatest size, and when it is truncated. Must not know headers,
//! signatures or compression: the size counts before those.

use std::borrow::Cow;

use bytes::Bytes;
use hookfast_engine::time::Timestamp;

pub use super::published::{EnvelopeError, Published};

use super::catalogue::{TRUNCATED, may_be_truncated};
use super::truncate::shorten;
use crate::admin::wire::Time;

/// The greatest size of a notification before compression, in bytes. Nylas says "1 MB"; this reads it the
/// strict way.
pub const NOTIFICATION_BYTES_MOST: usize = 1_000_000;

/// How a notification writes its time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Form {
    /// As Nylas: whole Unix seconds.
    Nylas,
    /// As Standard Webhooks: RFC 3339 in UTC.
    Standard,
}

/// The body of one attempt, before compression.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Notification {
    /// Compact JSON around the data as it was published.
    pub body: Bytes,
    /// The type that it says, which ends in `.truncated` where it was truncated.
    pub event_type: String,
    /// Whether fields were left out.
    pub truncated: bool,
}

/// A notification that cannot be sent, however much is left out of it.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "the notification of `{event_type}` is {bytes} bytes, and at most {NOTIFICATION_BYTES_MOST} are sent; publish \
     less, or where to find the rest"
)]
pub struct TooLarge {
    /// The type that was published.
    pub event_type: String,
    /// What it takes in full.
    pub bytes: usize,
}

/// What attempt number `attempt` sends for the event that was published as `body`.
///
/// It depends on nothing else, so every attempt sends the same but for its number. What was accepted is sent
/// whatever its size: see [`check_size`]. A replay may show `new_id` in place of the event's own.
///
/// # Errors
/// Where `body` is not an event that can be published.
pub fn notification(
    body: &[u8],
    form: Form,
    attempt: u32,
    accepted_at: Timestamp,
    new_id: Option<&str>,
) -> Result<Notification, EnvelopeError> {
    let mut published = Published::parse(body)?;
    if let Some(new_id) = new_id {
        published.id = Cow::Owned(new_id.to_owned());
    }
    let draft = Draft::whole(&published, form, accepted_at)
        .fitting()
        .unwrap_or_else(|_| Draft::whole(&published, form, accepted_at));
    Ok(draft.write(attempt))
}

/// The notification of `published`, truncated where it is a `message.*` that is too large.
///
/// The attempt's number counts as one digit, whatever it is: so all attempts carry the same content, and from
/// the tenth on are longer by what their number is.
///
/// # Errors
/// Where it is too large, and leaving out what may be left out does not help.
pub fn fit(
    published: &Published<'_>,
    form: Form,
    attempt: u32,
    accepted_at: Timestamp,
) -> Result<Notification, TooLarge> {
    let draft = Draft::whole(published, form, accepted_at).fitting()?;
    Ok(draft.write(attempt))
}

/// Checks at publishing that the event can be delivered: any type in the Nylas form, and what will be truncated
/// in every form.
///
/// An event of another type that just fits is longer in the Standard Webhooks form by its longer time; it is
/// sent as it is.
///
/// # Errors
/// Where no notification of it is small enough.
pub fn check_size(published: &Published<'_>, accepted_at: Timestamp) -> Result<(), TooLarge> {
    Draft::whole(published, Form::Nylas, accepted_at).fitting()?;
    if may_be_truncated(&published.event_type) {
        Draft::whole(published, Form::Standard, accepted_at).fitting()?;
    }
    Ok(())
}

/// The notification in full, as compact JSON: the attributes that every notification has, the data as it was
/// published, then the other attributes.
#[must_use]
pub fn serialize(published: &Published<'_>, form: Form, attempt: u32, accepted_at: Timestamp) -> Bytes {
    Draft::whole(published, form, accepted_at).write(attempt).body
}

/// A notification but for its attempt's number.
struct Draft<'p> {
    published: &'p Published<'p>,
    form: Form,
    accepted_at: Timestamp,
    event_type: Cow<'p, str>,
    data: Option<Cow<'p, str>>,
    truncated: bool,
}

impl<'p> Draft<'p> {
    fn whole(published: &'p Published<'p>, form: Form, accepted_at: Timestamp) -> Self {
        Self {
            published,
            form,
            accepted_at,
            event_type: Cow::Borrowed(&published.event_type),
            data: published.data.map(|data| Cow::Borrowed(data.get())),
            truncated: false,
        }
    }

    /// This one, or what is left of it where it is too large.
    fn fitting(self) -> Result<Self, TooLarge> {
        let bytes = self.measure();
        if bytes <= NOTIFICATION_BYTES_MOST {
            return Ok(self);
        }
        self.truncated().ok_or_else(|| TooLarge {
            event_type: self.published.event_type.to_string(),
            bytes,
        })
    }

    fn truncated(&self) -> Option<Self> {
        if !may_be_truncated(&self.event_type) {
            return None;
        }
        let mut truncated = Self {
            event_type: Cow::Owned(format!("{}{TRUNCATED}", self.event_type)),
            data: Some(Cow::Borrowed("")),
            truncated: true,
            ..*self
        };
        let room = NOTIFICATION_BYTES_MOST.checked_sub(truncated.measure())?;
        truncated.data = Some(Cow::Owned(shorten(self.data.as_deref()?, room)?));
        Some(truncated)
    }

    /// The size with an attempt's number of one digit.
    fn measure(&self) -> usize {
        self.head(1).len() + self.data().len() + self.tail().len()
    }

    fn write(self, attempt: u32) -> Notification {
        let mut json = self.head(attempt);
        let tail = self.tail();
        json.reserve_exact(self.data().len() + tail.len());
        json.push_str(self.data());
        json.push_str(&tail);
        Notification {
            body: Bytes::from(json),
            event_type: self.event_type.into_owned(),
            truncated: self.truncated,
        }
    }

    fn head(&self, attempt: u32) -> String {
        let time = self.published.time.unwrap_or(self.accepted_at);
        let time = match self.form {
            Form::Nylas => time.as_secs().to_string(),
            Form::Standard => format!("\"{}\"", Time(time)),
        };
        let data = if self.data.is_some() { ",\"data\":" } else { "" };
        format!(
            "{{\"specversion\":{},\"type\":{},\"source\":{},\"id\":{},\"time\":{time},\
             \"webhook_delivery_attempt\":{attempt}{data}",
            quoted(self.published.specversion),
            quoted(&self.event_type),
            quoted(&self.published.source),
            quoted(&self.published.id),
        )
    }

    fn data(&self) -> &str {
        self.data.as_deref().unwrap_or_default()
    }

    fn tail(&self) -> String {
        let mut json = String::new();
        for (name, value) in &self.published.extensions {
            // The name has lower-case letters and digits only.
            json.push_str(",\"");
            json.push_str(name);
            json.push_str("\":");
            json.push_str(value.get());
        }
        json.push('}');
        json
    }
}

/// `text` as a JSON string.
fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_else(|error| unreachable!("a text is always JSON: {error}"))
}

#[cfg(test)]
#[path = "envelope_tests.rs"]
mod tests;
