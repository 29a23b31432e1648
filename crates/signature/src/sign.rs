//! Signing: what the sender of webhooks puts on them.
//!
//! Owns the signers for the hot path (Nylas, Standard Webhooks) and [`Scheme::sign`], which plays any provider
//! for tests and drills. Must not choose ids, times or secrets.

use std::time::Duration;

use ring::hmac;
use ring::signature::Ed25519KeyPair;
use thiserror::Error;

use crate::encoding::Encoding;
use crate::request::Request;
use crate::scheme::{Carrier, Part, Scheme, Signed, TimestampSource};
use crate::secret::{Key, STANDARD_LENGTHS, Secret, SecretError, StandardKey};
use crate::signed::Content;
use crate::time::TimeUnit;
use crate::token::Token;

/// The header of the Nylas signature (Nylas documentation, "Notifications").
pub const NYLAS_HEADER: &str = "x-nylas-signature";

/// Signs as Nylas does: lower-case hex of the HMAC-SHA256 of the body as sent, after compression if any.
#[derive(Clone)]
pub struct NylasSigner(hmac::Key);

impl NylasSigner {
    /// Computes the key schedule once.
    pub fn new(secret: &Secret) -> Result<Self, SecretError> {
        match secret.expose() {
            "" => Err(SecretError::Empty),
            text => Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, text.as_bytes()))),
        }
    }

    /// The value of [`NYLAS_HEADER`] for this body.
    pub fn sign(&self, body: &[u8]) -> String {
        Encoding::Hex.encode(hmac::sign(&self.0, body).as_ref())
    }
}

/// The value of [`NYLAS_HEADER`]; for one body. For many, keep a [`NylasSigner`].
pub fn sign_nylas(secret: &Secret, body: &[u8]) -> Result<String, SecretError> {
    NylasSigner::new(secret).map(|signer| signer.sign(body))
}

/// Signs as Standard Webhooks prescribes, with one or several secrets at once: during a rotation the receiver
/// accepts either.
pub struct StandardSigner {
    keys: Vec<StandardSigningKey>,
}

enum StandardSigningKey {
    Symmetric(hmac::Key),
    Asymmetric(Box<Ed25519KeyPair>),
}

impl StandardSigner {
    /// Prepares `whsec_` and `whsk_` secrets; put the newest first.
    pub fn new(secrets: &[Secret]) -> Result<Self, SecretError> {
        let key = |secret| match StandardKey::parse(secret, STANDARD_LENGTHS)? {
            StandardKey::Symmetric(bytes) => Ok(StandardSigningKey::Symmetric(hmac::Key::new(
                hmac::HMAC_SHA256,
                &bytes,
            ))),
            StandardKey::Private(pair) => Ok(StandardSigningKey::Asymmetric(pair)),
            StandardKey::Public(_) => Err(SecretError::CannotSign),
        };
        if secrets.is_empty() {
            return Err(SecretError::Empty);
        }
        Ok(Self {
            keys: secrets.iter().map(key).collect::<Result<_, _>>()?,
        })
    }

    /// The value of `webhook-signature`: `v1,…` and `v1a,…` in the order of the secrets.
    ///
    /// `id` goes into `webhook-id` and `timestamp` (Unix seconds of this attempt, in decimal) into
    /// `webhook-timestamp`, both exactly as given here.
    pub fn sign(&self, id: &str, timestamp: u64, body: &[u8]) -> String {
        let head = format!("{id}.{timestamp}.");
        let mut value = String::with_capacity(self.keys.len() * 92);
        for key in &self.keys {
            if !value.is_empty() {
                value.push(' ');
            }
            match key {
                StandardSigningKey::Symmetric(key) => {
                    let mut context = hmac::Context::with_key(key);
                    context.update(head.as_bytes());
                    context.update(body);
                    value.push_str("v1,");
                    value.push_str(&Encoding::Base64.encode(context.sign().as_ref()));
                }
                StandardSigningKey::Asymmetric(pair) => {
                    let message = [head.as_bytes(), body].concat();
                    value.push_str("v1a,");
                    value.push_str(&Encoding::Base64.encode(pair.sign(&message).as_ref()));
                }
            }
        }
        value
    }
}

impl std::fmt::Debug for NylasSigner {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("NylasSigner(..)")
    }
}

impl std::fmt::Debug for StandardSigner {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("StandardSigner")
            .field("keys", &self.keys.len())
            .finish()
    }
}

/// A request that is yet to be signed.
#[derive(Debug, Clone, Copy)]
pub struct Unsigned<'a> {
    /// The method.
    pub method: &'a str,
    /// The public URL, for schemes that sign it or put the token there.
    pub url: Option<&'a str>,
    /// The id of the event, for schemes that sign it.
    pub id: &'a str,
    /// When it is signed, since the Unix epoch.
    pub time: Duration,
    /// The body as it will be sent.
    pub body: &'a [u8],
}

/// Why a request cannot be signed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SignError {
    /// The secret does not fit the scheme.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The scheme signs the URL and none was given.
    #[error("this scheme signs the URL of the webhook and none was given")]
    UrlMissing,
    /// The token travels in the query of the URL, which whoever makes the URL must put there.
    #[error("this scheme has its token in the query parameter `{0}`; put it into the URL")]
    InQuery(String),
}

impl Scheme {
    /// The headers that a genuine provider of this scheme would add. For tests, demonstrations and drills; not
    /// tuned for speed.
    pub fn sign(&self, secret: &Secret, unsigned: &Unsigned<'_>) -> Result<Vec<(String, String)>, SignError> {
        match self {
            Self::Signed(scheme) => scheme.sign(secret, unsigned),
            Self::StandardWebhooks(scheme) => {
                scheme.prepare(secret)?;
                let key = match StandardKey::parse(secret, scheme.secret_lengths)? {
                    StandardKey::Symmetric(bytes) => {
                        StandardSigningKey::Symmetric(hmac::Key::new(hmac::HMAC_SHA256, &bytes))
                    }
                    StandardKey::Private(pair) => StandardSigningKey::Asymmetric(pair),
                    StandardKey::Public(_) => return Err(SecretError::CannotSign.into()),
                };
                let seconds = unsigned.time.as_secs();
                let value = StandardSigner { keys: vec![key] }.sign(unsigned.id, seconds, unsigned.body);
                Ok(vec![
                    (scheme.id.to_string(), unsigned.id.to_owned()),
                    (scheme.timestamp.to_string(), seconds.to_string()),
                    (scheme.signature.to_string(), value),
                ])
            }
            Self::Token(scheme) => {
                scheme.prepare(secret)?;
                let text = secret.expose();
                let authorization = |value| Ok(vec![("authorization".to_owned(), value)]);
                match scheme {
                    Token::Header { name } => Ok(vec![(name.to_string(), text.to_owned())]),
                    Token::Bearer => authorization(format!("Bearer {text}")),
                    Token::Basic => {
                        authorization(format!("Basic {}", Encoding::Base64.encode(text.as_bytes())))
                    }
                    Token::Query { parameter } => Err(SignError::InQuery(parameter.to_string())),
                }
            }
        }
    }
}

impl Signed {
    fn sign(&self, secret: &Secret, unsigned: &Unsigned<'_>) -> Result<Vec<(String, String)>, SignError> {
        let key = match self.prepare(secret)? {
            Key::Mac(key) => key,
            Key::Ed25519(_) | Key::Token(_) => return Err(SecretError::CannotSign.into()),
        };
        // Signed headers other than the timestamp carry the id in every scheme known.
        let mut headers: Vec<(String, String)> = self
            .content
            .iter()
            .filter_map(|part| match part {
                Part::Header(name) => Some((name.to_string(), unsigned.id.to_owned())),
                Part::Text(_) | Part::Body | Part::Timestamp | Part::Url | Part::Method => None,
            })
            .collect();
        let unit = self
            .timestamp
            .as_ref()
            .map_or(TimeUnit::Seconds, |timestamp| timestamp.unit);
        let written = unit.format(unsigned.time);
        let request = Request {
            method: unsigned.method,
            url: unsigned.url,
            headers: &headers,
            body: unsigned.body,
        };
        let header = self.carrier.header();
        let content = Content {
            request: &request,
            parts: &self.content,
            timestamp: Some(&written),
            header,
        };
        // The headers are all there, so only an absent URL can be refused.
        let tag = content.tag(&key).map_err(|_| SignError::UrlMissing)?;
        let signature = self.encoding.encode(tag.as_ref());

        let mut value = String::new();
        match self.timestamp.as_ref().map(|timestamp| &timestamp.source) {
            Some(TimestampSource::Header(name)) => headers.push((name.to_string(), written)),
            Some(TimestampSource::Element(element)) => value = format!("{element}={written}"),
            None => {}
        }
        match &self.carrier {
            Carrier::Header { prefix, .. } => value = format!("{prefix}{signature}"),
            Carrier::Elements {
                separator,
                signature: name,
                ..
            } => {
                if !value.is_empty() {
                    value.push(*separator);
                }
                value.push_str(&format!("{name}={signature}"));
            }
        }
        headers.push((header.to_string(), value));
        Ok(headers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nylas_signature_is_the_documented_one() {
        let secret = Secret::new("test_secret_0123456789");
        assert_eq!(
            sign_nylas(&secret, br#"{"id":"evt_1","type":"ping"}"#).unwrap(),
            "1631bc30063f79e49fd7ffb2008e60b3a2edf48bec69533c6368b7be385d0ec2"
        );
        assert_eq!(sign_nylas(&Secret::new(""), b""), Err(SecretError::Empty));
    }

    #[test]
    fn a_standard_signature_is_that_of_the_official_libraries() {
        let signer = StandardSigner::new(&["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".into()]).unwrap();
        assert_eq!(
            signer.sign(
                "msg_p5jXN8AQM9LWM0D4loKWxJek",
                1_614_265_330,
                br#"{"test": 2432232314}"#
            ),
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
    }

    #[test]
    fn during_a_rotation_every_secret_signs() {
        let secrets = [
            Secret::generate_symmetric(&[1; 32]),
            Secret::generate_symmetric(&[2; 32]),
            Secret::generate_asymmetric(&[3; 32]).unwrap(),
        ];
        let value = StandardSigner::new(&secrets).unwrap().sign("msg_1", 1, b"{}");
        let versions: Vec<_> = value.split(' ').filter_map(|each| each.split_once(',')).collect();
        assert_eq!(
            versions.iter().map(|(version, _)| *version).collect::<Vec<_>>(),
            ["v1", "v1", "v1a"]
        );
        assert_ne!(versions[0].1, versions[1].1);
    }

    #[test]
    fn a_public_key_cannot_sign() {
        let public = Secret::generate_asymmetric(&[3; 32]).unwrap().public().unwrap();
        assert_eq!(
            StandardSigner::new(&[public]).err(),
            Some(SecretError::CannotSign)
        );
        assert_eq!(StandardSigner::new(&[]).err(), Some(SecretError::Empty));
    }
}
