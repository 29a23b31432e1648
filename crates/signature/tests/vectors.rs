//! Published signatures, and some computed elsewhere from the documented rule, verify and are made again.
//!
//! Owns the schemes of senders that are not in the table, as proof that a row can say them.
#![expect(clippy::unwrap_used, reason = "a helper of tests may panic")]

use std::borrow::Cow;
use std::time::Duration;

use hookfast_signature::{
    Algorithm, Carrier, Clock, Encoding, Hash, KeyForm, Part, Request, Scheme, Secret, SignError, Signed,
    TimeUnit, Timestamp, TimestampSource, Tolerance, Unsigned, Verifier, provider,
};
use serde_json::Value;

const VECTORS: &str = include_str!("vectors.jsonl");

/// `header|prefix|content|timestamp header`, in the words of the generic scheme.
fn simple(header: &'static str, prefix: &'static str, encoding: Encoding, content: &[Part]) -> Signed {
    Signed {
        carrier: Carrier::Header {
            name: header.into(),
            prefix: prefix.into(),
        },
        algorithm: Algorithm::Hmac(Hash::Sha256),
        key: KeyForm::Text,
        content: Cow::Owned(content.to_vec()),
        encoding,
        timestamp: None,
    }
}

fn timed(signed: Signed, header: &'static str, unit: TimeUnit) -> Signed {
    let source = TimestampSource::Header(header.into());
    Signed {
        timestamp: Some(Timestamp {
            source,
            unit,
            tolerance: Duration::from_secs(300),
        }),
        ..signed
    }
}

fn text(text: &'static str) -> Part {
    Part::Text(text.into())
}

/// Senders that are not in the table.
fn elsewhere(slug: &str) -> Signed {
    use Encoding::{Base64, Hex};
    use Part::{Body, Method, Timestamp as Time, Url};
    let sha1 = |signed| Signed {
        algorithm: Algorithm::Hmac(Hash::Sha1),
        ..signed
    };
    match slug {
        "bitbucket" => simple("x-hub-signature", "sha256=", Hex, &[Body]),
        "meta" => simple("x-hub-signature-256", "sha256=", Hex, &[Body]),
        "razorpay" => simple("x-razorpay-signature", "", Hex, &[Body]),
        "linear" => simple("linear-signature", "", Hex, &[Body]),
        "dropbox" => simple("x-dropbox-signature", "", Hex, &[Body]),
        "asana" => simple("x-hook-signature", "", Hex, &[Body]),
        "docusign" => simple("x-docusign-signature-1", "", Base64, &[Body]),
        "typeform" => simple("typeform-signature", "sha256=", Base64, &[Body]),
        "x-twitter" => simple("x-twitter-webhooks-signature", "sha256=", Base64, &[Body]),
        "intercom" => sha1(simple("x-hub-signature", "sha1=", Hex, &[Body])),
        "trello" => sha1(simple("x-trello-webhook", "", Base64, &[Body, Url])),
        "square" => simple("x-square-hmacsha256-signature", "", Base64, &[Url, Body]),
        "adyen" => Signed {
            key: KeyForm::Hex,
            ..simple("hmacsignature", "", Base64, &[Body])
        },
        "zendesk" => {
            let header = "x-zendesk-webhook-signature-timestamp";
            timed(
                simple("x-zendesk-webhook-signature", "", Base64, &[Time, Body]),
                header,
                TimeUnit::Rfc3339,
            )
        }
        "zoom" => timed(
            simple(
                "x-zm-signature",
                "v0=",
                Hex,
                &[text("v0:"), Time, text(":"), Body],
            ),
            "x-zm-request-timestamp",
            TimeUnit::Seconds,
        ),
        "hubspot" => timed(
            simple("x-hubspot-signature-v3", "", Base64, &[Method, Url, Body, Time]),
            "x-hubspot-request-timestamp",
            TimeUnit::Milliseconds,
        ),
        "twitch" => {
            let id = Part::Header("twitch-eventsub-message-id".into());
            let signed = simple(
                "twitch-eventsub-message-signature",
                "sha256=",
                Hex,
                &[id, Time, Body],
            );
            timed(signed, "twitch-eventsub-message-timestamp", TimeUnit::Rfc3339)
        }
        "discord" => Signed {
            algorithm: Algorithm::Ed25519,
            key: KeyForm::Hex,
            ..timed(
                simple("x-signature-ed25519", "", Hex, &[Time, Body]),
                "x-signature-timestamp",
                TimeUnit::Seconds,
            )
        },
        "calendly" => Signed {
            carrier: Carrier::Elements {
                name: "calendly-webhook-signature".into(),
                separator: ',',
                signature: "v1".into(),
            },
            timestamp: Some(Timestamp {
                source: TimestampSource::Element("t".into()),
                unit: TimeUnit::Seconds,
                tolerance: Duration::from_secs(180),
            }),
            ..simple("", "", Hex, &[Time, text("."), Body])
        },
        _ => panic!("a vector of {slug}, for which no scheme is known"),
    }
}

struct Vector {
    name: String,
    scheme: Scheme,
    secret: Secret,
    method: String,
    url: Option<String>,
    headers: Vec<(String, String)>,
    expected: String,
    body: Vec<u8>,
}

fn vectors() -> Vec<Vector> {
    VECTORS
        .lines()
        .map(|line| vector(&serde_json::from_str(line).unwrap()))
        .collect()
}

fn vector(row: &Value) -> Vector {
    let string = |name: &str| row[name].as_str().map(str::to_owned);
    let slug = string("provider").unwrap();
    let scheme = provider(&slug).map_or_else(|| Scheme::Signed(elsewhere(&slug)), |each| each.scheme.clone());
    let secret = ["secret", "hex_key", "public_key_hex"]
        .into_iter()
        .find_map(string)
        .unwrap();
    let expected = string("expect").unwrap();
    let headers = row["headers"].as_object().into_iter().flatten();
    let mut headers: Vec<_> = headers
        .map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned()))
        .collect();
    headers.push((scheme.header().unwrap().to_owned(), expected.clone()));
    let body = match string("body_hex") {
        Some(hex) => Encoding::Hex.decode(&hex).unwrap(),
        None => string("body").unwrap().into_bytes(),
    };
    Vector {
        name: format!("{slug}, {}", string("case").unwrap()),
        scheme,
        secret: secret.into(),
        method: string("method").unwrap_or("POST".into()),
        url: string("url"),
        headers,
        expected,
        body,
    }
}

#[test]
fn every_vector_verifies() {
    let vectors = vectors();
    assert!(vectors.len() >= 29);
    for vector in vectors {
        let request = Request {
            method: &vector.method,
            url: vector.url.as_deref(),
            headers: &vector.headers,
            body: &vector.body,
        };
        let verifier = Verifier::new(vector.scheme, &[vector.secret]).unwrap();
        let verified = verifier.verify(&request, Clock::at_seconds(0).with(Tolerance::Any));
        assert_eq!(verified.map(|verified| verified.secret), Ok(0), "{}", vector.name);
    }
}

#[test]
fn every_vector_is_signed_again_to_the_same_bytes() {
    let mut signed = 0;
    for vector in vectors() {
        let header = |ends: &str| {
            let found = vector
                .headers
                .iter()
                .find(|(name, _)| name.to_ascii_lowercase().ends_with(ends));
            found.map(|(_, value)| value.as_str())
        };
        let unit = match &vector.scheme {
            Scheme::Signed(signed) => signed
                .timestamp
                .as_ref()
                .map_or(TimeUnit::Seconds, |time| time.unit),
            Scheme::StandardWebhooks(_) | Scheme::Token(_) => TimeUnit::Seconds,
        };
        let time =
            header("timestamp").map_or(Some(Duration::from_secs(1_700_000_000)), |text| unit.parse(text));
        let unsigned = Unsigned {
            method: &vector.method,
            url: vector.url.as_deref(),
            id: header("-id").unwrap_or_default(),
            time: time.unwrap(),
            body: &vector.body,
        };
        let headers = match vector.scheme.sign(&vector.secret, &unsigned) {
            Ok(headers) => headers,
            // Only the public key is known.
            Err(SignError::Secret(error)) => {
                assert!(
                    error.to_string().contains("public key"),
                    "{}: {error}",
                    vector.name
                );
                continue;
            }
            Err(error) => panic!("{}: {error}", vector.name),
        };
        assert_eq!(headers.last().unwrap().1, vector.expected, "{}", vector.name);
        signed += 1;
    }
    assert!(signed >= 27, "only {signed} were signed");
}
