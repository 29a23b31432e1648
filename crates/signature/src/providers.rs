//! The table of providers: everything that differs between them, one row each.
//!
//! Owns facts, with their sources. Must hold no code beyond constructors of rows: what a row cannot say is a
//! new variant of a family, written in the family's file.

use std::borrow::Cow;
use std::time::Duration;

use crate::encoding::Encoding;
use crate::handshake::Handshake;
use crate::scheme::{Algorithm, Carrier, Hash, Part, Scheme, Signed, Timestamp, TimestampSource};
use crate::secret::KeyForm;
use crate::standard_webhooks::StandardWebhooks;
use crate::time::TimeUnit;

/// A sender of webhooks.
#[derive(Debug, Clone)]
pub struct Provider {
    /// The name in configurations and URLs: lower case with dashes.
    pub slug: &'static str,
    /// The name for people.
    pub name: &'static str,
    /// Where the provider documents its signature.
    pub documentation: &'static str,
    /// What the provider calls the secret and where it shows it.
    pub secret_hint: &'static str,
    /// How its requests are proven genuine.
    pub scheme: &'static Scheme,
    /// Other schemes the same provider offers, by name. One is chosen in the configuration, never by what the
    /// request looks like: else a forger would choose the weakest.
    pub variants: &'static [(&'static str, Scheme)],
    /// Requests that are answered and not kept.
    pub handshakes: &'static [Handshake],
    /// Where the id is by which repeats are known; the first that is there counts. None means that the provider
    /// gives no such id.
    pub id: &'static [Extract],
    /// Where the type of the event is; the first that is there counts.
    pub event_type: &'static [Extract],
    /// When the event happened, or failing that was sent; the first that is there counts.
    pub time: &'static [(Extract, TimeUnit)],
    /// The largest body that the provider sends, in bytes.
    pub body_limit: u64,
    /// Within how long it wants its answer, where it says so.
    pub ack_budget: Option<Duration>,
    /// Which answers make it send again.
    pub retry: Retry,
    /// What it does after failures, in a sentence for people.
    pub on_failure: &'static str,
}

/// Where a value of the request is. The extraction is the caller's: it has the parser.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extract {
    /// The value of a header.
    Header(&'static str),
    /// A string or number in the JSON body, by the names on the way to it; a name of digits also counts into an
    /// array.
    Body(&'static [&'static str]),
    /// Several values joined by a colon, all of which must be there: for senders without an id of their own.
    Joined(&'static [Self]),
}

/// Which answers make a provider send again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// Nothing does: what is not accepted at once is lost, unless someone redelivers it by hand.
    Never,
    /// Every answer outside 2xx, and none at all.
    AnyFailure,
    /// Only these answers, and none at all. Every other failure is lost.
    Only(&'static [u16]),
}

impl Retry {
    /// Whether this answer makes the provider send again.
    pub fn after(self, status: u16) -> bool {
        match self {
            Self::Never => false,
            Self::AnyFailure => !(200..300).contains(&status),
            Self::Only(statuses) => statuses.contains(&status),
        }
    }
}

/// The provider of this slug.
pub fn provider(slug: &str) -> Option<&'static Provider> {
    PROVIDERS.iter().find(|provider| provider.slug == slug)
}

impl Provider {
    /// Its scheme of this name; its usual scheme for `None`.
    pub fn scheme(&'static self, variant: Option<&str>) -> Option<&'static Scheme> {
        match variant {
            None => Some(self.scheme),
            Some(name) => self
                .variants
                .iter()
                .find(|(each, _)| *each == name)
                .map(|(_, scheme)| scheme),
        }
    }
}

const MIB: u64 = 1024 * 1024;
/// What is taken from providers that publish no limit.
const USUAL_LIMIT: u64 = 10 * MIB;
const FIVE_MINUTES: Duration = Duration::from_secs(300);
const BODY: Cow<'static, [Part]> = Cow::Borrowed(&[Part::Body]);

/// The usual beginning of a row: no handshake, nothing to extract, every failure retried.
const fn row(slug: &'static str, name: &'static str, scheme: &'static Scheme) -> Provider {
    Provider {
        slug,
        name,
        documentation: "",
        secret_hint: "",
        scheme,
        variants: &[],
        handshakes: &[],
        id: &[],
        event_type: &[],
        time: &[],
        body_limit: USUAL_LIMIT,
        ack_budget: None,
        retry: Retry::AnyFailure,
        on_failure: "",
    }
}

/// One signature in one header, keyed with the text of the secret.
const fn hmac(
    header: &'static str,
    prefix: &'static str,
    hash: Hash,
    encoding: Encoding,
    content: Cow<'static, [Part]>,
    timestamp: Option<Timestamp>,
) -> Scheme {
    Scheme::Signed(Signed {
        carrier: Carrier::Header {
            name: Cow::Borrowed(header),
            prefix: Cow::Borrowed(prefix),
        },
        algorithm: Algorithm::Hmac(hash),
        key: KeyForm::Text,
        content,
        encoding,
        timestamp,
    })
}

/// All providers, in the order in which they are shown.
pub static PROVIDERS: &[Provider] = &[NYLAS, STANDARD_WEBHOOKS, SVIX, STRIPE, GITHUB, SLACK, SHOPIFY];

/// With compressed delivery the gzip bytes are signed, which is what `Part::Body` means everywhere here.
const NYLAS: Provider = Provider {
    documentation: "https://developer.nylas.com/docs/v3/notifications/",
    secret_hint: "webhook_secret: shown once, after the challenge was answered",
    handshakes: &[Handshake::EchoQuery {
        method: "GET",
        parameter: "challenge",
    }],
    id: &[Extract::Body(&["id"])],
    event_type: &[Extract::Body(&["type"])],
    time: &[(Extract::Body(&["time"]), TimeUnit::Seconds)],
    ack_budget: Some(Duration::from_secs(10)),
    retry: Retry::Only(&[408, 429, 502, 503, 504, 507]),
    on_failure: "three attempts in all; marked failing at 95 % over 15 min and failed at 95 % over 72 h, after which it is re-activated by hand and what was missed is not sent again",
    ..row("nylas", "Nylas", &NYLAS_SCHEME)
};

static NYLAS_SCHEME: Scheme = hmac("x-nylas-signature", "", Hash::Sha256, Encoding::Hex, BODY, None);

const STANDARD_WEBHOOKS: Provider = Provider {
    documentation: "https://www.standardwebhooks.com",
    secret_hint: "the signing secret, whsec_…, or for asymmetric signatures the public key, whpk_…",
    id: &[Extract::Header("webhook-id")],
    event_type: &[Extract::Body(&["type"])],
    time: &[
        (Extract::Body(&["timestamp"]), TimeUnit::Rfc3339),
        (Extract::Header("webhook-timestamp"), TimeUnit::Seconds),
    ],
    ack_budget: Some(Duration::from_secs(15)),
    on_failure: "retries with growing delays; 410 disables the endpoint",
    ..row(
        "standard-webhooks",
        "Standard Webhooks",
        &STANDARD_WEBHOOKS_SCHEME,
    )
};

static STANDARD_WEBHOOKS_SCHEME: Scheme = Scheme::StandardWebhooks(StandardWebhooks::SPECIFICATION);

const SVIX: Provider = Provider {
    documentation: "https://docs.svix.com/receiving/verifying-payloads/how-manual",
    secret_hint: "the signing secret of the endpoint, whsec_…",
    id: &[Extract::Header("svix-id")],
    event_type: &[Extract::Body(&["type"]), Extract::Body(&["event_type"])],
    time: &[
        (Extract::Body(&["timestamp"]), TimeUnit::Rfc3339),
        (Extract::Header("svix-timestamp"), TimeUnit::Seconds),
    ],
    ack_budget: Some(Duration::from_secs(15)),
    on_failure: "retries with growing delays; disables the endpoint after days of failure",
    ..row("svix", "Svix", &SVIX_SCHEME)
};

static SVIX_SCHEME: Scheme = Scheme::StandardWebhooks(StandardWebhooks::SVIX);

/// The secret is used whole, `whsec_` included: Stripe is not Standard Webhooks. `v0` (test mode) is ignored.
const STRIPE: Provider = Provider {
    documentation: "https://docs.stripe.com/webhooks",
    secret_hint: "the signing secret of the endpoint, whsec_…, used whole",
    id: &[Extract::Body(&["id"])],
    event_type: &[Extract::Body(&["type"])],
    time: &[(Extract::Body(&["created"]), TimeUnit::Seconds)],
    on_failure: "retries for up to three days in live mode, three times over a few hours in a sandbox; disables the endpoint after days of failure",
    ..row("stripe", "Stripe", &STRIPE_SCHEME)
};

static STRIPE_SCHEME: Scheme = Scheme::Signed(Signed {
    carrier: Carrier::Elements {
        name: Cow::Borrowed("stripe-signature"),
        separator: ',',
        signature: Cow::Borrowed("v1"),
    },
    algorithm: Algorithm::Hmac(Hash::Sha256),
    key: KeyForm::Text,
    content: Cow::Borrowed(&[Part::Timestamp, Part::Text(Cow::Borrowed(".")), Part::Body]),
    encoding: Encoding::Hex,
    timestamp: Some(Timestamp {
        source: TimestampSource::Element(Cow::Borrowed("t")),
        unit: TimeUnit::Seconds,
        tolerance: FIVE_MINUTES,
    }),
});

/// The delivery id is the same when someone redelivers, so a redelivery is known as a repeat.
const GITHUB: Provider = Provider {
    documentation: "https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries",
    secret_hint: "the secret you typed into the webhook's settings",
    variants: &[(
        "sha1",
        hmac("x-hub-signature", "sha1=", Hash::Sha1, Encoding::Hex, BODY, None),
    )],
    handshakes: &[Handshake::Ping {
        header: "x-github-event",
        value: "ping",
    }],
    id: &[Extract::Header("x-github-delivery")],
    event_type: &[Extract::Header("x-github-event")],
    body_limit: 25 * MIB,
    ack_budget: Some(Duration::from_secs(10)),
    retry: Retry::Never,
    on_failure: "never retries; redeliver by hand or API within about three days",
    ..row("github", "GitHub", &GITHUB_SCHEME)
};

static GITHUB_SCHEME: Scheme = hmac(
    "x-hub-signature-256",
    "sha256=",
    Hash::Sha256,
    Encoding::Hex,
    BODY,
    None,
);

const SLACK: Provider = Provider {
    documentation: "https://docs.slack.dev/authentication/verifying-requests-from-slack",
    secret_hint: "the signing secret under Basic Information of the app",
    handshakes: &[Handshake::SlackUrlVerification],
    id: &[Extract::Body(&["event_id"])],
    event_type: &[Extract::Body(&["event", "type"]), Extract::Body(&["type"])],
    time: &[
        (Extract::Body(&["event_time"]), TimeUnit::Seconds),
        (Extract::Header("x-slack-request-timestamp"), TimeUnit::Seconds),
    ],
    ack_budget: Some(Duration::from_secs(3)),
    on_failure: "three retries (about at once, 1 min, 5 min); disables the subscription when most fail within an hour",
    ..row("slack", "Slack", &SLACK_SCHEME)
};

static SLACK_SCHEME: Scheme = hmac(
    "x-slack-signature",
    "v0=",
    Hash::Sha256,
    Encoding::Hex,
    Cow::Borrowed(&[
        Part::Text(Cow::Borrowed("v0:")),
        Part::Timestamp,
        Part::Text(Cow::Borrowed(":")),
        Part::Body,
    ]),
    Some(Timestamp {
        source: TimestampSource::Header(Cow::Borrowed("x-slack-request-timestamp")),
        unit: TimeUnit::Seconds,
        tolerance: FIVE_MINUTES,
    }),
);

/// The trigger time is sent but not signed, so it is shown and not checked.
const SHOPIFY: Provider = Provider {
    documentation: "https://shopify.dev/docs/apps/build/webhooks/subscribe/https",
    secret_hint: "the client secret of the app",
    id: &[Extract::Header("x-shopify-webhook-id")],
    event_type: &[Extract::Header("x-shopify-topic")],
    time: &[(Extract::Header("x-shopify-triggered-at"), TimeUnit::Rfc3339)],
    ack_budget: Some(Duration::from_secs(5)),
    on_failure: "eight retries over four hours; removes subscriptions made by the Admin API after eight failures in a row",
    ..row("shopify", "Shopify", &SHOPIFY_SCHEME)
};

static SHOPIFY_SCHEME: Scheme = hmac(
    "x-shopify-hmac-sha256",
    "",
    Hash::Sha256,
    Encoding::Base64,
    BODY,
    None,
);
