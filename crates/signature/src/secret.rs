//! Secrets as operators hold them, and keys as the hot path wants them.
//!
//! Owns parsing, generation and concealment of secrets. Must never print one, and must draw no entropy of its
//! own: whoever generates passes the bytes in.

use std::fmt;

use ring::signature::{Ed25519KeyPair, KeyPair};
use ring::{digest, hmac};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::encoding::Encoding;

/// The prefix of a symmetric Standard Webhooks secret (Standard Webhooks specification, "Signature scheme").
pub const SYMMETRIC_PREFIX: &str = "whsec_";
/// The prefix of a private Ed25519 Standard Webhooks key.
pub const PRIVATE_PREFIX: &str = "whsk_";
/// The prefix of a public Ed25519 Standard Webhooks key.
pub const PUBLIC_PREFIX: &str = "whpk_";

/// A secret exactly as the provider shows it. Its `Debug` prints nothing of it, and its memory is wiped on drop.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes the text as it is: nothing is trimmed, because some secrets are used byte for byte.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// The text of the secret, for storing it encrypted or showing it once.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// A Nylas-style secret: 20 characters of `[A-Za-z0-9_-]`, one for each byte of entropy (120 bits kept).
    pub fn generate_nylas(entropy: &[u8; 20]) -> Self {
        const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-";
        Self::new(
            entropy
                .iter()
                .map(|byte| char::from(ALPHABET[usize::from(byte & 63)]))
                .collect::<String>(),
        )
    }

    /// A symmetric Standard Webhooks secret, `whsec_` and the base64 of the entropy.
    pub fn generate_symmetric(entropy: &[u8; 32]) -> Self {
        Self::prefixed(SYMMETRIC_PREFIX, entropy)
    }

    /// A private Ed25519 Standard Webhooks key, `whsk_` and the base64 of seed and public key. Give receivers
    /// its [`Secret::public`].
    pub fn generate_asymmetric(seed: &[u8; 32]) -> Result<Self, SecretError> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| SecretError::HalvesDiffer)?;
        let both = Zeroizing::new([seed.as_slice(), pair.public_key().as_ref()].concat());
        Ok(Self::prefixed(PRIVATE_PREFIX, &both))
    }

    /// The public key (`whpk_…`) of a private or public Ed25519 Standard Webhooks key.
    pub fn public(&self) -> Result<Self, SecretError> {
        match StandardKey::parse(self, STANDARD_LENGTHS)? {
            StandardKey::Symmetric(_) => Err(SecretError::NotAsymmetric),
            StandardKey::Private(pair) => Ok(Self::prefixed(PUBLIC_PREFIX, pair.public_key().as_ref())),
            StandardKey::Public(_) => Ok(self.clone()),
        }
    }

    fn prefixed(prefix: &str, bytes: &[u8]) -> Self {
        let encoded = Zeroizing::new(Encoding::Base64.encode(bytes));
        Self::new(format!("{prefix}{}", encoded.as_str()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret(..)")
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

/// Why a secret cannot be used with a scheme. Tells lengths and forms, never content.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SecretError {
    /// Nothing in it.
    #[error("the secret is empty; is the environment variable or file that should hold it empty?")]
    Empty,
    /// The scheme decodes the secret and it does not decode.
    #[error("the secret is not {encoding}{}; copy it again, whole and without spaces", after(.prefix))]
    NotEncoded {
        /// The encoding that is due.
        encoding: Encoding,
        /// The prefix after which it is due; may be empty.
        prefix: &'static str,
    },
    /// It decodes to the wrong number of bytes.
    #[error("the {what} decodes to {found} bytes where {min} to {max} are due; copy it again, whole")]
    WrongLength {
        /// What was given.
        what: &'static str,
        /// The bytes found.
        found: usize,
        /// The fewest bytes that are taken.
        min: usize,
        /// The most bytes that are taken.
        max: usize,
    },
    /// The two halves of a private Ed25519 key do not belong together.
    #[error("the public half of the whsk_ key does not belong to its private half; copy it again, whole")]
    HalvesDiffer,
    /// A public key was asked for and the secret is symmetric.
    #[error("the secret is symmetric (whsec_) and has no public key; use a whsk_ key")]
    NotAsymmetric,
    /// A secret for HTTP Basic is not `user:password`.
    #[error("the secret for basic authentication has no colon; write it as user:password")]
    NoColon,
    /// A public key cannot sign.
    #[error("a public key can verify but not sign; give the private key")]
    CannotSign,
}

fn after(prefix: &str) -> String {
    if prefix.is_empty() {
        String::new()
    } else {
        format!(" after `{prefix}`")
    }
}

/// How many bytes a symmetric secret may decode to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lengths {
    /// The fewest.
    pub min: usize,
    /// The most.
    pub max: usize,
}

/// 24 to 64 bytes (Standard Webhooks specification, "Signature scheme").
pub const STANDARD_LENGTHS: Lengths = Lengths { min: 24, max: 64 };

/// How the key bytes of a MAC are had from the secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyForm {
    /// The UTF-8 bytes of the secret as shown.
    Text,
    /// The secret is base64.
    Base64,
    /// The secret is hex.
    Hex,
}

impl KeyForm {
    pub(crate) fn bytes(self, secret: &Secret) -> Result<Zeroizing<Vec<u8>>, SecretError> {
        let text = secret.expose();
        let encoding = match self {
            _ if text.is_empty() => return Err(SecretError::Empty),
            Self::Text => return Ok(Zeroizing::new(text.as_bytes().to_vec())),
            Self::Base64 => Encoding::Base64,
            Self::Hex => Encoding::Hex,
        };
        encoding
            .decode(text)
            .map(Zeroizing::new)
            .ok_or(SecretError::NotEncoded { encoding, prefix: "" })
    }
}

impl std::str::FromStr for KeyForm {
    type Err = crate::encoding::UnknownWord;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "text" => Ok(Self::Text),
            "base64" => Ok(Self::Base64),
            "hex" => Ok(Self::Hex),
            _ => Err(crate::encoding::UnknownWord {
                what: "form of a secret",
                found: text.into(),
                choices: "text, base64, hex",
            }),
        }
    }
}

/// A secret made ready for one scheme: key schedule computed, public key decoded, token digested.
///
/// Made once for each secret by [`crate::Verifier::new`]; verifying with it allocates nothing for MACs.
#[derive(Clone)]
pub(crate) enum Key {
    Mac(hmac::Key),
    Ed25519([u8; 32]),
    /// The SHA-256 of a token: comparing digests does not even tell the length, and the token is not kept.
    Token([u8; 32]),
}

impl Key {
    pub(crate) fn token(bytes: &[u8]) -> Self {
        Self::Token(token_digest(bytes))
    }
}

pub(crate) fn token_digest(bytes: &[u8]) -> [u8; 32] {
    let mut fixed = [0; 32];
    fixed.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    fixed
}

/// A Standard Webhooks secret by its prefix.
pub(crate) enum StandardKey {
    Symmetric(Zeroizing<Vec<u8>>),
    Private(Box<Ed25519KeyPair>),
    Public([u8; 32]),
}

impl StandardKey {
    /// Reads `whsec_`, `whsk_`, `whpk_` or, as the official libraries do, bare base64 of a symmetric secret.
    pub(crate) fn parse(secret: &Secret, lengths: Lengths) -> Result<Self, SecretError> {
        let text = secret.expose();
        let decode = |prefix: &'static str, encoded: &str, what, lengths: Lengths| {
            let encoding = Encoding::Base64;
            let bytes = encoding.decode(encoded).map(Zeroizing::new);
            let bytes = bytes.ok_or(SecretError::NotEncoded { encoding, prefix })?;
            let Lengths { min, max } = lengths;
            match bytes.len() {
                found if found < min || found > max => Err(SecretError::WrongLength {
                    what,
                    found,
                    min,
                    max,
                }),
                _ => Ok(bytes),
            }
        };
        let exactly = |length| Lengths {
            min: length,
            max: length,
        };
        if text.is_empty() {
            return Err(SecretError::Empty);
        }
        if let Some(encoded) = text.strip_prefix(PRIVATE_PREFIX) {
            let bytes = decode(PRIVATE_PREFIX, encoded, "whsk_ key", exactly(64))?;
            let (seed, public) = bytes.split_at(32);
            let pair = Ed25519KeyPair::from_seed_and_public_key(seed, public);
            return pair
                .map(|pair| Self::Private(Box::new(pair)))
                .map_err(|_| SecretError::HalvesDiffer);
        }
        if let Some(encoded) = text.strip_prefix(PUBLIC_PREFIX) {
            let bytes = decode(PUBLIC_PREFIX, encoded, "whpk_ key", exactly(32))?;
            let mut public = [0; 32];
            public.copy_from_slice(&bytes);
            return Ok(Self::Public(public));
        }
        let (prefix, encoded) = match text.strip_prefix(SYMMETRIC_PREFIX) {
            Some(encoded) => (SYMMETRIC_PREFIX, encoded),
            None => ("", text),
        };
        decode(prefix, encoded, "whsec_ secret", lengths).map(Self::Symmetric)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_error(text: &str) -> Option<SecretError> {
        StandardKey::parse(&Secret::new(text), STANDARD_LENGTHS).err()
    }

    #[test]
    fn a_generated_nylas_secret_has_the_shape_of_those_in_the_documentation() {
        let mut entropy = [0; 20];
        for (byte, value) in entropy.iter_mut().zip((0..=255_u8).step_by(13)) {
            *byte = value;
        }
        let secret = Secret::generate_nylas(&entropy);
        assert_eq!(secret.expose().len(), 20);
        assert!(
            secret
                .expose()
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
        );
    }

    #[test]
    fn generated_standard_secrets_parse_again() {
        let symmetric = Secret::generate_symmetric(&[7; 32]);
        assert!(symmetric.expose().starts_with("whsec_"));
        assert_eq!(parse_error(symmetric.expose()), None);
        assert_eq!(symmetric.public().err(), Some(SecretError::NotAsymmetric));

        let private = Secret::generate_asymmetric(&[7; 32]).unwrap();
        let public = private.public().unwrap();
        assert!(private.expose().starts_with("whsk_") && public.expose().starts_with("whpk_"));
        assert_eq!(parse_error(private.expose()), None);
        assert_eq!(public.public().unwrap().expose(), public.expose());
    }

    #[test]
    fn a_secret_that_cannot_be_used_says_what_is_wrong_with_it() {
        let base64 = |length| Encoding::Base64.encode(&vec![1; length]);
        let length = |what, found, min, max| {
            Some(SecretError::WrongLength {
                what,
                found,
                min,
                max,
            })
        };
        let not_base64 = |prefix| {
            Some(SecretError::NotEncoded {
                encoding: Encoding::Base64,
                prefix,
            })
        };
        let table = [
            (String::new(), Some(SecretError::Empty)),
            (
                format!("whsec_{}", base64(23)),
                length("whsec_ secret", 23, 24, 64),
            ),
            (format!("whsec_{}", base64(24)), None),
            (format!("whsec_{}", base64(64)), None),
            (
                format!("whsec_{}", base64(65)),
                length("whsec_ secret", 65, 24, 64),
            ),
            (base64(32), None),
            ("whsec_".into(), length("whsec_ secret", 0, 24, 64)),
            ("whsec_ab c".into(), not_base64("whsec_")),
            ("whatever_abc".into(), not_base64("")),
            (format!("whpk_{}", base64(31)), length("whpk_ key", 31, 32, 32)),
            (format!("whsk_{}", base64(32)), length("whsk_ key", 32, 64, 64)),
            (format!("whsk_{}", base64(64)), Some(SecretError::HalvesDiffer)),
        ];
        for (text, expected) in table {
            assert_eq!(parse_error(&text), expected, "{text}");
        }
    }

    #[test]
    fn debug_of_a_secret_and_messages_about_it_show_nothing_of_it() {
        let secret = Secret::new("whsec_hush!");
        assert_eq!(format!("{secret:?}"), "Secret(..)");
        let error = parse_error(secret.expose()).unwrap();
        assert!(!format!("{error} {error:?}").contains("hush"));
    }
}
