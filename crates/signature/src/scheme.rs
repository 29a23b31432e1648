//! What a signature scheme is, as data: a row of the provider table, or made from a configuration.
//!
//! Owns [`Scheme`], [`Verifier`] and the bounded set of decoded candidates that the families share. Each family
//! verifies in its own file. Must not know providers.
//!
//! Most schemes are a [`Signed`] with other data. What does not fit (a signature inside the body, a certificate
//! by URL, a JSON Web Token) becomes one more variant with a file of its own; keys that must be fetched stay
//! the caller's: it passes them in as secrets, and the crate says by a refusal which one it lacks.

use std::borrow::Cow;
use std::str::FromStr;
use std::time::Duration;

use ring::hmac;
use subtle::ConstantTimeEq as _;

use crate::encoding::{Encoding, UnknownWord};
use crate::refusal::{Flaw, Refusal};
use crate::request::Request;
use crate::secret::{Key, KeyForm, Secret, SecretError};
use crate::standard_webhooks::StandardWebhooks;
use crate::time::{Clock, TimeUnit};
use crate::token::Token;

/// The most signatures in one request that are tried.
pub const MAX_SIGNATURES: usize = 32;

/// The most public-key signatures in one request that are tried: each costs a pass over the body.
pub const MAX_PUBLIC_KEY_SIGNATURES: usize = 8;

/// How requests of one provider are proven genuine. There is no variant that accepts everything: taking
/// requests unverified is a decision of the caller, to be written down by its operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scheme {
    /// A signature in a header over stated parts of the request.
    Signed(Signed),
    /// Standard Webhooks, symmetric and asymmetric, under the header names given.
    StandardWebhooks(StandardWebhooks),
    /// A shared token that is sent along. It does not cover the body.
    Token(Token),
}

/// A signature in a header, over stated parts of the request, with or without a signed time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// Where the signature is.
    pub carrier: Carrier,
    /// How it is computed.
    pub algorithm: Algorithm,
    /// How the key is had from the secret.
    pub key: KeyForm,
    /// What is signed, in order.
    pub content: Cow<'static, [Part]>,
    /// How the signature is written.
    pub encoding: Encoding,
    /// The time that is signed with it.
    pub timestamp: Option<Timestamp>,
}

/// Where signatures are found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Carrier {
    /// The value of a header is one signature, after a fixed prefix (may be empty).
    Header {
        /// The name of the header.
        name: Cow<'static, str>,
        /// What stands before the signature: `sha256=`, `v0=`.
        prefix: Cow<'static, str>,
    },
    /// The value of a header is a list of `name=value`; every element of the given name is a signature.
    Elements {
        /// The name of the header.
        name: Cow<'static, str>,
        /// What stands between elements: `,` or `;`.
        separator: char,
        /// The name of the elements that are signatures: `v1`, `h1`.
        signature: Cow<'static, str>,
    },
}

impl Carrier {
    /// The name of the header that carries the signature.
    pub fn header(&self) -> &Cow<'static, str> {
        match self {
            Self::Header { name, .. } | Self::Elements { name, .. } => name,
        }
    }
}

/// How a signature is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// A MAC with a shared secret.
    Hmac(Hash),
    /// Ed25519; the secret is the sender's public key.
    Ed25519,
}

impl Algorithm {
    /// The length of a signature in bytes.
    pub fn signature_length(self) -> usize {
        match self {
            Self::Hmac(hash) => hash.algorithm().digest_algorithm().output_len(),
            Self::Ed25519 => 64,
        }
    }
}

/// The hash under an HMAC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hash {
    /// SHA-1: weak as a hash, not broken as a MAC, and what some providers still send.
    Sha1,
    /// SHA-256.
    Sha256,
    /// SHA-512.
    Sha512,
}

impl Hash {
    pub(crate) fn algorithm(self) -> hmac::Algorithm {
        match self {
            Self::Sha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => hmac::HMAC_SHA256,
            Self::Sha512 => hmac::HMAC_SHA512,
        }
    }

    /// The lower-case name, as configurations write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }
}

impl FromStr for Hash {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        [Self::Sha1, Self::Sha256, Self::Sha512]
            .into_iter()
            .find(|hash| hash.name() == text)
            .ok_or_else(|| UnknownWord {
                what: "hash",
                found: text.into(),
                choices: "sha1, sha256, sha512",
            })
    }
}

/// One piece of the signed content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// Fixed text.
    Text(Cow<'static, str>),
    /// The body as sent.
    Body,
    /// The timestamp exactly as it is written in its header.
    Timestamp,
    /// The value of a header.
    Header(Cow<'static, str>),
    /// The public URL as the provider was given it.
    Url,
    /// The method in upper case.
    Method,
}

/// A signed time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timestamp {
    /// Where it is.
    pub source: TimestampSource,
    /// How it is written.
    pub unit: TimeUnit,
    /// How far it may be from now, both ways, when the operator sets nothing else.
    pub tolerance: Duration,
}

/// Where a signed time is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TimestampSource {
    /// In a header of its own.
    Header(Cow<'static, str>),
    /// In an element of the signature header ([`Carrier::Elements`]).
    Element(Cow<'static, str>),
}

/// A scheme with its keys made ready: built once for each source, used for every request.
#[derive(Clone)]
pub struct Verifier {
    scheme: Cow<'static, Scheme>,
    keys: Vec<Key>,
}

/// A request that was proven genuine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    /// Which of the secrets matched, by its place in the list given to [`Verifier::new`]. Tells when an old
    /// secret is no longer in use.
    pub secret: usize,
    /// The signed time since the Unix epoch, where the scheme signs one.
    pub timestamp: Option<Duration>,
}

impl Verifier {
    /// Makes the secrets ready for the scheme. An empty list is allowed, for a source whose provider gives the
    /// secret later: every request is then refused with [`Refusal::NoSecret`].
    pub fn new(scheme: impl Into<Cow<'static, Scheme>>, secrets: &[Secret]) -> Result<Self, SecretError> {
        let scheme = scheme.into();
        let keys = secrets
            .iter()
            .map(|secret| scheme.key(secret))
            .collect::<Result<_, _>>()?;
        Ok(Self { scheme, keys })
    }

    /// The scheme it verifies.
    pub fn scheme(&self) -> &Scheme {
        &self.scheme
    }

    /// Proves a request genuine or says why not.
    ///
    /// The signature is judged before the time, so that a refusal for the time means that the rest is good.
    pub fn verify(&self, request: &Request<'_>, clock: Clock) -> Result<Verified, Refusal> {
        if self.keys.is_empty() {
            return Err(Refusal::NoSecret);
        }
        match self.scheme.as_ref() {
            Scheme::Signed(scheme) => scheme.verify(request, &self.keys, clock),
            Scheme::StandardWebhooks(scheme) => scheme.verify(request, &self.keys, clock),
            Scheme::Token(scheme) => scheme.verify(request, &self.keys),
        }
    }
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Verifier")
            .field("scheme", &self.scheme)
            .field("keys", &self.keys.len())
            .finish()
    }
}

impl Scheme {
    /// Says whether a secret can be used with this scheme, and if not, why.
    pub fn check_secret(&self, secret: &Secret) -> Result<(), SecretError> {
        self.key(secret).map(|_| ())
    }

    /// Whether the body is covered. Where it is not, treat the content as a hint and ask the provider's API.
    pub fn covers_body(&self) -> bool {
        match self {
            Self::Signed(scheme) => scheme.content.contains(&Part::Body),
            Self::StandardWebhooks(_) => true,
            Self::Token(_) => false,
        }
    }

    /// Whether the public URL must be known to verify.
    pub fn covers_url(&self) -> bool {
        match self {
            Self::Signed(scheme) => scheme.content.contains(&Part::Url),
            Self::StandardWebhooks(_) | Self::Token(_) => false,
        }
    }

    /// The tolerance for the signed time, where the scheme signs one.
    pub fn tolerance(&self) -> Option<Duration> {
        match self {
            Self::Signed(scheme) => scheme.timestamp.as_ref().map(|timestamp| timestamp.tolerance),
            Self::StandardWebhooks(scheme) => Some(scheme.tolerance),
            Self::Token(_) => None,
        }
    }

    /// The name of the header that carries the signature or token, where it is a header.
    pub fn header(&self) -> Option<&str> {
        match self {
            Self::Signed(scheme) => Some(scheme.carrier.header()),
            Self::StandardWebhooks(scheme) => Some(&scheme.signature),
            Self::Token(scheme) => scheme.header(),
        }
    }

    fn key(&self, secret: &Secret) -> Result<Key, SecretError> {
        match self {
            Self::Signed(scheme) => scheme.prepare(secret),
            Self::StandardWebhooks(scheme) => scheme.prepare(secret),
            Self::Token(scheme) => scheme.prepare(secret),
        }
    }
}

impl From<Scheme> for Cow<'static, Scheme> {
    fn from(scheme: Scheme) -> Self {
        Cow::Owned(scheme)
    }
}

impl From<&'static Scheme> for Cow<'static, Scheme> {
    fn from(scheme: &'static Scheme) -> Self {
        Cow::Borrowed(scheme)
    }
}

/// Decoded signatures of one request, in place: at most [`MAX_SIGNATURES`], none longer than 64 bytes.
pub(crate) struct Candidates {
    bytes: [[u8; 64]; MAX_SIGNATURES],
    count: usize,
    length: usize,
    flaw: Option<Flaw>,
}

impl Candidates {
    /// No signatures yet, each to be `length` bytes long.
    pub(crate) fn of_length(length: usize) -> Self {
        Self {
            bytes: [[0; 64]; MAX_SIGNATURES],
            count: 0,
            length: length.min(64),
            flaw: None,
        }
    }

    /// Takes one more. One that does not decode does not spoil the others; the first flaw is remembered. The
    /// caller has counted, so what does not fit is ignored.
    pub(crate) fn push(&mut self, text: &str, encoding: Encoding) {
        let Some(slot) = self.bytes.get_mut(self.count) else {
            return;
        };
        match encoding.decode_exactly(text, &mut slot[..self.length]) {
            Ok(()) => self.count += 1,
            Err(flaw) => {
                self.flaw.get_or_insert(flaw);
            }
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes[..self.count].iter().map(|bytes| &bytes[..self.length])
    }

    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// The first flaw, when nothing at all could be decoded.
    pub(crate) fn only_flaw(&mut self) -> Option<Flaw> {
        if self.count == 0 { self.flaw.take() } else { None }
    }

    /// Whether any of them is this tag, in time that does not depend on the bytes.
    pub(crate) fn contain(&self, tag: &[u8]) -> bool {
        self.iter().any(|candidate| bool::from(candidate.ct_eq(tag)))
    }
}
