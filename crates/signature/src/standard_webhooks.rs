//! Standard Webhooks: `v1` (HMAC-SHA256) and `v1a` (Ed25519) side by side in one list of signatures.
//!
//! Owns reading that list. Source: the Standard Webhooks specification and its official libraries; Svix uses
//! the same scheme under header names of its own. Must not know providers.

use std::borrow::Cow;
use std::time::Duration;

use ring::hmac;
use ring::signature::KeyPair as _;

use crate::encoding::Encoding;
use crate::refusal::{Flaw, Refusal};
use crate::request::{Request, required_header};
use crate::scheme::{Candidates, MAX_PUBLIC_KEY_SIGNATURES, MAX_SIGNATURES, Part, Verified};
use crate::secret::{Key, Lengths, STANDARD_LENGTHS, Secret, SecretError, StandardKey};
use crate::signed::{Content, matching_key};
use crate::time::{Clock, TimeUnit, parse_in_header};

/// Standard Webhooks under given header names. The signed content is `id.timestamp.body`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StandardWebhooks {
    /// The header with the id of the event.
    pub id: Cow<'static, str>,
    /// The header with the Unix seconds of this attempt.
    pub timestamp: Cow<'static, str>,
    /// The header with the space-separated list of `version,signature`.
    pub signature: Cow<'static, str>,
    /// How long a symmetric secret may be.
    pub secret_lengths: Lengths,
    /// How far the timestamp may be from now, both ways.
    pub tolerance: Duration,
}

impl StandardWebhooks {
    /// The specification's own names and limits: `webhook-id`, `webhook-timestamp`, `webhook-signature`, secrets
    /// of 24 to 64 bytes, five minutes.
    pub const SPECIFICATION: Self = Self {
        id: Cow::Borrowed("webhook-id"),
        timestamp: Cow::Borrowed("webhook-timestamp"),
        signature: Cow::Borrowed("webhook-signature"),
        secret_lengths: STANDARD_LENGTHS,
        tolerance: Duration::from_secs(300),
    };

    /// Svix's older names. Its documentation shows a secret of 18 bytes, so shorter ones are taken.
    pub const SVIX: Self = Self {
        id: Cow::Borrowed("svix-id"),
        timestamp: Cow::Borrowed("svix-timestamp"),
        signature: Cow::Borrowed("svix-signature"),
        secret_lengths: Lengths { min: 16, max: 75 },
        tolerance: Duration::from_secs(300),
    };

    pub(crate) fn prepare(&self, secret: &Secret) -> Result<Key, SecretError> {
        match StandardKey::parse(secret, self.secret_lengths)? {
            StandardKey::Symmetric(bytes) => Ok(Key::Mac(hmac::Key::new(hmac::HMAC_SHA256, &bytes))),
            StandardKey::Public(public) => Ok(Key::Ed25519(public)),
            StandardKey::Private(pair) => {
                let mut public = [0; 32];
                public.copy_from_slice(pair.public_key().as_ref());
                Ok(Key::Ed25519(public))
            }
        }
    }

    pub(crate) fn verify(
        &self,
        request: &Request<'_>,
        keys: &[Key],
        clock: Clock,
    ) -> Result<Verified, Refusal> {
        let value = required_header(request.headers, &self.signature)?;
        let id = required_header(request.headers, &self.id)?;
        if id.is_empty() {
            return Err(Refusal::Malformed {
                header: self.id.clone(),
                flaw: Flaw::Empty,
            });
        }
        let timestamp =
            crate::request::optional_header(request.headers, &self.timestamp)?.ok_or_else(|| {
                Refusal::TimestampMissing {
                    header: self.timestamp.clone(),
                }
            })?;
        let (symmetric, asymmetric) = self.candidates(value, keys)?;

        let parts = [
            Part::Header(self.id.clone()),
            Part::Text(Cow::Borrowed(".")),
            Part::Timestamp,
            Part::Text(Cow::Borrowed(".")),
            Part::Body,
        ];
        let content = Content {
            request,
            parts: &parts,
            timestamp: Some(timestamp),
            header: &self.timestamp,
        };
        let mut secret = None;
        for (place, key) in keys.iter().enumerate() {
            let candidates = match key {
                Key::Mac(_) => &symmetric,
                Key::Ed25519(_) | Key::Token(_) => &asymmetric,
            };
            if matching_key(std::slice::from_ref(key), candidates, &content)?.is_some() {
                secret = Some(place);
                break;
            }
        }
        let secret = secret.ok_or(Refusal::Mismatch {
            what: "signature",
            secrets: keys.len(),
        })?;
        let time = parse_in_header(timestamp, TimeUnit::Seconds, &self.timestamp)?;
        clock.check(time, self.tolerance)?;
        Ok(Verified {
            secret,
            timestamp: Some(time),
        })
    }

    /// The `v1` and the `v1a` signatures. Unknown versions are skipped, as the specification asks.
    fn candidates(&self, value: &str, keys: &[Key]) -> Result<(Candidates, Candidates), Refusal> {
        let header = || self.signature.clone();
        if value.is_empty() {
            return Err(Refusal::Malformed {
                header: header(),
                flaw: Flaw::Empty,
            });
        }
        let count = value.split_ascii_whitespace().count();
        if count > MAX_SIGNATURES {
            return Err(Refusal::TooManySignatures {
                header: header(),
                count,
                limit: MAX_SIGNATURES,
            });
        }
        let mut symmetric = Candidates::of_length(32);
        let mut asymmetric = Candidates::of_length(64);
        let mut versions = false;
        for element in value.split_ascii_whitespace() {
            let Some((version, text)) = element.split_once(',') else {
                continue;
            };
            versions = true;
            match version {
                "v1" => symmetric.push(text, Encoding::Base64),
                "v1a" => asymmetric.push(text, Encoding::Base64),
                _ => {}
            }
        }
        if !versions {
            let flaw = Flaw::PrefixMissing {
                expected: Cow::Borrowed("v1,"),
            };
            return Err(Refusal::Malformed {
                header: header(),
                flaw,
            });
        }
        let public_keys = keys.iter().any(|key| matches!(key, Key::Ed25519(_)));
        if public_keys && asymmetric.len() > MAX_PUBLIC_KEY_SIGNATURES {
            let (count, limit) = (asymmetric.len(), MAX_PUBLIC_KEY_SIGNATURES);
            return Err(Refusal::TooManySignatures {
                header: header(),
                count,
                limit,
            });
        }
        self.check_usable(keys, &mut symmetric, &mut asymmetric)?;
        Ok((symmetric, asymmetric))
    }

    /// Refuses a list that holds nothing the keys could check, saying whether it is malformed or of another
    /// version.
    fn check_usable(
        &self,
        keys: &[Key],
        symmetric: &mut Candidates,
        asymmetric: &mut Candidates,
    ) -> Result<(), Refusal> {
        let wants_symmetric = keys.iter().any(|key| matches!(key, Key::Mac(_)));
        let wants_asymmetric = keys.iter().any(|key| matches!(key, Key::Ed25519(_)));
        if (wants_symmetric && symmetric.len() > 0) || (wants_asymmetric && asymmetric.len() > 0) {
            return Ok(());
        }
        let header = self.signature.clone();
        let mut flaw = None;
        if wants_symmetric {
            flaw = symmetric.only_flaw();
        }
        if wants_asymmetric && flaw.is_none() {
            flaw = asymmetric.only_flaw();
        }
        if let Some(flaw) = flaw {
            return Err(Refusal::Malformed { header, flaw });
        }
        let (wanted, hint) = match (wants_symmetric, wants_asymmetric) {
            (true, false) => (
                "v1",
                "for a v1a signature configure the sender's whpk_ public key",
            ),
            (false, _) => ("v1a", "for a v1 signature configure the shared whsec_ secret"),
            (true, true) => ("v1 or v1a", "the sender uses a version that is not known here"),
        };
        Err(Refusal::NoUsableVersion { header, wanted, hint })
    }
}
