//! The trigger types that an application knows (SPEC O9).
//!
//! Owns the catalogue of Nylas's trigger types and the checks of what is subscribed to and published. Must not
//! know where an application's own types are kept, nor what a notification holds: that is `mock` and `envelope`.

use std::collections::BTreeSet;
use std::fmt;

use crate::nearest::nearest;

/// One trigger type of a catalogue.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TriggerType {
    /// The name, such as `message.created`.
    pub name: &'static str,
    /// What has happened, in one sentence.
    pub description: &'static str,
    /// The first word of the name: what it is about.
    pub category: &'static str,
    /// Whether a destination can list it. The others are sent to who subscribes to [`subscribed_as`] them.
    pub subscribable: bool,
}

/// The name of the one preset.
pub const NYLAS: &str = "nylas";

/// Every trigger type that Nylas documents, as of its notification schemas of September 2026.
#[must_use]
pub fn nylas() -> &'static [TriggerType] {
    &TRIGGERS
}

/// What Hookfast itself says about destinations (SPEC O7); every application may subscribe to it.
pub const OPERATIONAL: [&str; 3] = ["destination.active", "destination.failed", "destination.failing"];

/// The suffix of a notification whose largest fields were left out (SPEC O10).
pub(super) const TRUNCATED: &str = ".truncated";

/// The catalogue of one application.
#[derive(Clone, Debug, Default)]
pub struct Catalogue {
    preset: &'static [TriggerType],
    own: BTreeSet<String>,
    open: bool,
}

impl Catalogue {
    /// The catalogue of `preset`, where one is named, and `own` types; an `open` one takes any type.
    ///
    /// # Errors
    /// Where there is no such preset.
    pub fn new(
        preset: Option<&str>,
        own: impl IntoIterator<Item = impl Into<String>>,
        open: bool,
    ) -> Result<Self, UnknownPreset> {
        let preset = match preset {
            None => &[],
            Some(NYLAS) => nylas(),
            Some(other) => return Err(UnknownPreset(shown(other))),
        };
        let own = own.into_iter().map(Into::into).collect();
        Ok(Self { preset, own, open })
    }

    /// Checks that a destination can subscribe to `pattern`: a whole type, a prefix with `.*`, or `*`.
    ///
    /// An open catalogue takes any; whether it is well formed is for `engine::route::check_pattern` to say.
    ///
    /// # Errors
    /// Where no type that can be subscribed to matches it.
    pub fn check_subscription(&self, pattern: &str) -> Result<(), UnknownTrigger> {
        let matches = |known: &str| match pattern.strip_suffix(".*") {
            Some(prefix) => is_below(known, prefix),
            None => known == pattern,
        };
        if self.open || pattern == "*" || self.subscribable().any(matches) {
            return Ok(());
        }
        let base = subscribed_as(pattern);
        if base != pattern && self.subscribable().any(|known| known == base) {
            return Err(UnknownTrigger {
                value: shown(pattern),
                advice: Advice::ComesWith(base.to_owned()),
            });
        }
        let prefixes: BTreeSet<String> = self.subscribable().flat_map(patterns_above).collect();
        let known = self.subscribable().chain(prefixes.iter().map(String::as_str));
        Err(UnknownTrigger::new(pattern, known))
    }

    /// Checks that the application may publish `event_type`: a type that it knows, with or without the suffixes
    /// that a notification may carry.
    ///
    /// # Errors
    /// Where it is none.
    pub fn check_published(&self, event_type: &str) -> Result<(), UnknownTrigger> {
        if self.open || self.knows(event_type) || self.knows(subscribed_as(event_type)) {
            return Ok(());
        }
        Err(UnknownTrigger::new(event_type, self.names()))
    }

    /// Every name that can be published, without suffixes.
    fn names(&self) -> impl Iterator<Item = &str> {
        let preset = self.preset.iter().map(|trigger| trigger.name);
        preset.chain(self.own.iter().map(String::as_str))
    }

    fn knows(&self, name: &str) -> bool {
        self.own.contains(name) || self.preset.iter().any(|trigger| trigger.name == name)
    }

    /// Every name that a destination can list.
    fn subscribable(&self) -> impl Iterator<Item = &str> {
        let preset = self.preset.iter().filter(|trigger| trigger.subscribable);
        preset
            .map(|trigger| trigger.name)
            .chain(self.own.iter().map(String::as_str))
            .chain(OPERATIONAL)
    }
}

/// The type that a destination lists to get events of `event_type`: without the suffixes that say how this one
/// notification differs from the usual (`message.created` for `message.created.transformed.truncated`). They come
/// in one order, each at most once, and not after every type.
///
/// `.cleaned` and `.legacy` stay: who wants those lists them.
#[must_use]
pub fn subscribed_as(event_type: &str) -> &str {
    let whole = without(event_type, TRUNCATED, may_be_truncated);
    let untransformed = without(whole, ".transformed", may_be_transformed);
    without(untransformed, ".metadata", may_be_metadata)
}

fn without<'t>(event_type: &'t str, suffix: &str, fits: fn(&str) -> bool) -> &'t str {
    let base = event_type.strip_suffix(suffix);
    base.filter(|base| fits(base)).unwrap_or(event_type)
}

/// Whether a notification of that type may lose fields, instead of being refused (SPEC O10). One that was
/// published truncated has lost them before.
pub(super) fn may_be_truncated(base: &str) -> bool {
    is_below(base, "message") && !base.ends_with(TRUNCATED)
}

/// Nylas leaves fields out of these where its dashboard says so.
fn may_be_transformed(base: &str) -> bool {
    let plain = base.strip_suffix(".cleaned").unwrap_or(base);
    matches!(
        plain,
        "message.created" | "message.updated" | "event.created" | "event.updated"
    )
}

/// Nylas sends these without a body for grants that may read headers only.
fn may_be_metadata(base: &str) -> bool {
    matches!(base, "message.created" | "message.updated")
}

/// Whether `name` is `prefix`, a dot, and more.
fn is_below(name: &str, prefix: &str) -> bool {
    let rest = name.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('.'));
    rest.is_some_and(|rest| !rest.is_empty())
}

/// The patterns that match `name` and more.
fn patterns_above(name: &str) -> impl Iterator<Item = String> {
    name.match_indices('.')
        .map(|(dot, _)| format!("{}.*", &name[..dot]))
}

/// The beginning of a value, for a message.
fn shown(value: &str) -> String {
    value.chars().take(80).collect()
}

/// There is no preset of that name.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("there is no catalogue `{0}`; there is: {NYLAS}")]
pub struct UnknownPreset(String);

/// A trigger type that the application does not know.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct UnknownTrigger {
    value: String,
    advice: Advice,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Advice {
    Nearest(String),
    /// It is sent, but nobody subscribes to it.
    ComesWith(String),
    NothingNear,
}

impl UnknownTrigger {
    fn new<'k>(value: &str, known: impl Iterator<Item = &'k str>) -> Self {
        let near = nearest(value, known).map(str::to_owned);
        Self {
            value: shown(value),
            advice: near.map_or(Advice::NothingNear, Advice::Nearest),
        }
    }
}

impl fmt::Display for UnknownTrigger {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = &self.value;
        match &self.advice {
            Advice::Nearest(near) => write!(
                formatter,
                "there is no trigger type `{value}`; did you mean `{near}`"
            ),
            Advice::ComesWith(base) => write!(
                formatter,
                "`{value}` cannot be subscribed to by itself; it comes with `{base}`, list that"
            ),
            Advice::NothingNear => write!(
                formatter,
                "there is no trigger type `{value}`; `hookfast webhook triggers` lists them"
            ),
        }
    }
}

impl std::error::Error for UnknownTrigger {}

const fn subscribable(name: &'static str, description: &'static str) -> TriggerType {
    TriggerType {
        name,
        description,
        category: first_word(name),
        subscribable: true,
    }
}

/// One that is sent in place of another.
const fn delivered_only(name: &'static str, description: &'static str) -> TriggerType {
    TriggerType {
        subscribable: false,
        ..subscribable(name, description)
    }
}

const fn first_word(name: &'static str) -> &'static str {
    let mut end = 0;
    while end < name.len() && name.as_bytes()[end] != b'.' {
        end += 1;
    }
    name.split_at(end).0
}

/// In the order of Nylas's own list.
#[rustfmt::skip] // One line a type.
static TRIGGERS: [TriggerType; 56] = [
    subscribable("grant.created", "A user has connected an account."),
    subscribable("grant.updated", "A connected account has changed or was authenticated again."),
    subscribable("grant.deleted", "A connected account was removed."),
    subscribable("grant.expired", "Access to an account has ended; its user must authenticate again."),
    subscribable("grant.imap_sync_completed", "The first synchronisation of an IMAP account is complete."),
    subscribable("message.created", "A message has arrived, or was sent from another program."),
    subscribable("message.created.cleaned", "A message has arrived; its body comes cleaned up, as Markdown."),
    delivered_only("message.created.truncated", "A message has arrived that was too large to be sent whole."),
    delivered_only("message.created.metadata", "A message has arrived in an account whose headers alone may be read."),
    subscribable("message.updated", "A message has changed: read, starred or moved."),
    delivered_only("message.updated.truncated", "A message has changed that was too large to be sent whole."),
    delivered_only("message.updated.metadata", "A message has changed in an account whose headers alone may be read."),
    subscribable("message.deleted", "A message was deleted."),
    subscribable("message.send_success", "A message was sent."),
    subscribable("message.send_failed", "A message could not be sent."),
    subscribable("message.bounce_detected", "The provider has reported that a sent message could not be delivered."),
    subscribable("message.opened", "A recipient has opened a tracked message."),
    subscribable("message.link_clicked", "A recipient has followed a link in a tracked message."),
    subscribable("thread.replied", "Somebody has replied to a tracked thread."),
    subscribable("message.opened.legacy", "A recipient has opened a tracked message, in the form of version 2."),
    subscribable("message.link_clicked.legacy", "A recipient has followed a tracked link, in the form of version 2."),
    subscribable("thread.replied.legacy", "Somebody has replied to a tracked thread, in the form of version 2."),
    subscribable("message.delivered", "The recipient's server has taken a message of an agent account."),
    subscribable("message.bounced", "The recipient's server has refused a message of an agent account for good."),
    subscribable("message.complaint", "A recipient has marked a message of an agent account as spam."),
    subscribable("message.rejected", "A message of an agent account was not sent because of what it contains."),
    subscribable("message.transactional.delivered", "The recipient's server has taken a transactional message."),
    subscribable("message.transactional.bounced", "The recipient's server has refused a transactional message for good."),
    subscribable("message.transactional.complaint", "A recipient has marked a transactional message as spam."),
    subscribable("message.transactional.rejected", "A transactional message was not sent because of what it contains."),
    subscribable("message.intelligence.order", "A message with an order was recognised."),
    subscribable("message.intelligence.tracking", "A message with a shipment's tracking data was recognised."),
    subscribable("message.intelligence.return", "A message about returned goods was recognised."),
    subscribable("message.intelligence.travel", "A message with a travel booking was recognised."),
    subscribable("folder.created", "A folder or label was made."),
    subscribable("folder.updated", "A folder or label has changed."),
    subscribable("folder.deleted", "A folder or label was deleted."),
    subscribable("calendar.created", "A calendar was made."),
    subscribable("calendar.updated", "A calendar has changed."),
    subscribable("calendar.deleted", "A calendar was deleted."),
    subscribable("event.created", "An event was put into a calendar."),
    subscribable("event.updated", "An event in a calendar has changed."),
    subscribable("event.deleted", "An event was deleted from a calendar."),
    subscribable("contact.updated", "A contact was added or has changed."),
    subscribable("contact.deleted", "A contact was deleted."),
    subscribable("booking.created", "A guest has booked a time."),
    subscribable("booking.pending", "A guest has asked for a time that the organizer must confirm."),
    subscribable("booking.rescheduled", "A booking was moved to another time."),
    subscribable("booking.cancelled", "A booking was cancelled."),
    subscribable("booking.reminder", "A booked time is near."),
    subscribable("notetaker.created", "A notetaker was invited to a meeting."),
    subscribable("notetaker.updated", "A notetaker's settings or time have changed."),
    subscribable("notetaker.deleted", "A notetaker was taken back."),
    subscribable("notetaker.meeting_state", "A notetaker has reached another state of its meeting."),
    subscribable("notetaker.media", "A notetaker's recording or transcript has reached another state."),
    subscribable("alert.triggered", "A rule on sending has been broken, or still is."),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn of_nylas() -> Catalogue {
        Catalogue::new(Some("nylas"), ["invoice.paid", "invoice.line.added"], false).unwrap()
    }

    fn subscription_fault(catalogue: &Catalogue, pattern: &str) -> String {
        catalogue.check_subscription(pattern).unwrap_err().to_string()
    }

    #[test]
    fn nylas_documents_these_trigger_types() {
        let listed: Vec<_> = nylas()
            .iter()
            .map(|trigger| {
                let mark = if trigger.subscribable { ' ' } else { '-' };
                format!("{mark} {}: {}", trigger.name, trigger.description)
            })
            .collect();
        insta::assert_snapshot!(listed.join("\n"));
    }

    /// The API lists 47; the others that can be subscribed to are in its guides only.
    #[test]
    fn all_that_the_api_lists_can_be_subscribed_to() {
        let in_guides_only = |name: &str| is_below(name, "message.intelligence") || name == "alert.triggered";
        let in_api = nylas()
            .iter()
            .filter(|trigger| trigger.subscribable && !in_guides_only(trigger.name));
        assert_eq!(in_api.count(), 47);
    }

    #[test]
    fn every_type_is_there_once_with_a_sentence_and_its_category() {
        let names: BTreeSet<_> = nylas().iter().map(|trigger| trigger.name).collect();
        assert_eq!(names.len(), nylas().len());
        for trigger in nylas() {
            assert!(trigger.description.ends_with('.'), "{trigger:?}");
            assert!(is_below(trigger.name, trigger.category), "{trigger:?}");
            assert!(!trigger.category.contains('.'), "{trigger:?}");
        }
    }

    #[test]
    fn what_is_known_can_be_subscribed_to() {
        let catalogue = of_nylas();
        for pattern in [
            "*",
            "message.created",
            "message.created.cleaned",
            "message.*",
            "message.transactional.*",
            "message.created.*",
            "notetaker.*",
            "invoice.paid",
            "invoice.*",
            "invoice.line.*",
            "destination.failing",
            "destination.failed",
            "destination.active",
            "destination.*",
        ] {
            assert_eq!(catalogue.check_subscription(pattern), Ok(()), "{pattern}");
        }
    }

    #[test]
    fn what_is_not_known_is_refused_with_the_nearest_that_is() {
        let catalogue = of_nylas();
        for (pattern, near) in [
            ("mesage.created", "message.created"),
            ("message.create", "message.created"),
            ("Message.Created", "message.created"),
            ("contact.created", "contact.updated"),
            ("mesage.*", "message.*"),
            ("messages.*", "message.*"),
            ("message.transaction.*", "message.transactional.*"),
            ("notetaker.medium", "notetaker.media"),
            ("invoice.payed", "invoice.paid"),
            ("destination.fail", "destination.failed"),
        ] {
            assert_eq!(
                subscription_fault(&catalogue, pattern),
                format!("there is no trigger type `{pattern}`; did you mean `{near}`")
            );
        }
        for pattern in [
            "",
            ".*",
            "mess*",
            "message",
            "message.created.cleaned.*",
            "order.shipped.today.*",
        ] {
            assert!(catalogue.check_subscription(pattern).is_err(), "{pattern}");
        }
    }

    #[test]
    fn what_is_far_from_everything_is_refused_with_where_to_look() {
        assert_eq!(
            subscription_fault(&of_nylas(), "temperature"),
            "there is no trigger type `temperature`; `hookfast webhook triggers` lists them"
        );
        let long = subscription_fault(&of_nylas(), &"x".repeat(100_000));
        assert!(long.len() < 200, "{long}");
    }

    #[test]
    fn what_comes_with_another_type_is_refused_with_that_type() {
        for (pattern, base) in [
            ("message.created.truncated", "message.created"),
            ("message.updated.metadata", "message.updated"),
            ("event.created.transformed", "event.created"),
        ] {
            assert_eq!(
                subscription_fault(&of_nylas(), pattern),
                format!("`{pattern}` cannot be subscribed to by itself; it comes with `{base}`, list that")
            );
        }
    }

    #[test]
    fn every_type_and_its_documented_suffixes_can_be_published() {
        let catalogue = of_nylas();
        let suffixed = [
            "message.created.cleaned.truncated",
            "message.created.cleaned.transformed",
            "message.created.cleaned.transformed.truncated",
            "message.created.transformed",
            "message.created.metadata.truncated",
            "message.updated.transformed.truncated",
            "message.send_success.truncated",
            "event.created.transformed",
            "event.updated.transformed",
            "invoice.paid",
        ];
        for event_type in nylas().iter().map(|trigger| trigger.name).chain(suffixed) {
            assert_eq!(catalogue.check_published(event_type), Ok(()), "{event_type}");
        }
    }

    #[test]
    fn what_no_notification_can_be_is_refused_at_publishing() {
        let catalogue = of_nylas();
        for event_type in [
            "",
            "*",
            "message.*",
            "message",
            "message.created.truncated.transformed",
            "message.created.truncated.truncated",
            "message.created.transformed.cleaned",
            "message.deleted.transformed",
            "calendar.created.transformed",
            "event.created.truncated",
            "event.created.metadata",
            "grant.created.legacy",
            "invoice.paid.truncated",
            "message.truncated",
            "destination.failing",
        ] {
            assert!(catalogue.check_published(event_type).is_err(), "{event_type}");
        }
        let fault = catalogue.check_published("message.creatd").unwrap_err();
        assert_eq!(
            fault.to_string(),
            "there is no trigger type `message.creatd`; did you mean `message.created`"
        );
    }

    #[test]
    fn events_go_to_who_subscribed_to_the_type_without_its_suffixes() {
        for (event_type, base) in [
            ("message.created", "message.created"),
            ("message.created.truncated", "message.created"),
            ("message.created.transformed.truncated", "message.created"),
            ("message.updated.metadata", "message.updated"),
            (
                "message.created.cleaned.transformed.truncated",
                "message.created.cleaned",
            ),
            ("event.updated.transformed", "event.updated"),
            ("message.opened.legacy", "message.opened.legacy"),
            ("invoice.truncated", "invoice.truncated"),
            ("message.truncated", "message.truncated"),
        ] {
            assert_eq!(subscribed_as(event_type), base, "{event_type}");
        }
    }

    #[test]
    fn an_open_catalogue_takes_any_type_and_an_empty_one_none() {
        let open = Catalogue::new(None, [""; 0], true).unwrap();
        assert_eq!(open.check_subscription("anything.*"), Ok(()));
        assert_eq!(open.check_published("anything.at.all"), Ok(()));
        let empty = Catalogue::default();
        assert_eq!(empty.check_subscription("destination.*"), Ok(()));
        assert!(empty.check_subscription("message.created").is_err());
        assert!(empty.check_published("message.created").is_err());
    }

    #[test]
    fn a_preset_that_there_is_not_is_refused() {
        let fault = Catalogue::new(Some("stripe"), [""; 0], false).unwrap_err();
        assert_eq!(
            fault.to_string(),
            "there is no catalogue `stripe`; there is: nylas"
        );
    }
}
