//! Sign and verify webhooks: bytes, headers, secrets and the time in; a verdict with its reason out.
//!
//! Owns the schemes by which providers prove that a request is theirs, and the table of providers. Does no IO,
//! reads no clock and draws no entropy: all of these are arguments. Works on the raw bytes of a request, before
//! anything is parsed or decompressed, and compares in constant time.
//!
//! ```
//! use hookfast_signature::{Clock, Refusal, Request, Secret, Verifier, provider, sign_nylas};
//!
//! // Once for each source: during a rotation both secrets are valid.
//! let nylas = provider("nylas").expect("it is in the table");
//! let secrets = [Secret::new("41dD3-nXTUfebYuk81Gr"), Secret::new("its-predecessor")];
//! let verifier = Verifier::new(nylas.scheme, &secrets)?;
//!
//! // For each request.
//! let body = br#"{"specversion":"1.0","type":"message.created","id":"evt_1"}"#;
//! let headers = [("X-Nylas-Signature", sign_nylas(&secrets[0], body)?)];
//! let request = Request { method: "POST", url: None, headers: &headers, body };
//! let now = Clock::at_seconds(1_700_000_000);
//! assert_eq!(verifier.verify(&request, now).map(|verified| verified.secret), Ok(0));
//!
//! // A changed body is refused, and the refusal says why.
//! let changed = Request { body: b"{}", ..request };
//! assert!(matches!(verifier.verify(&changed, now), Err(Refusal::Mismatch { .. })));
//!
//! // No secret is never "valid".
//! let unset = Verifier::new(nylas.scheme, &[])?;
//! assert_eq!(unset.verify(&request, now), Err(Refusal::NoSecret));
//! # Ok::<(), hookfast_signature::SecretError>(())
//! ```

mod diagnose;
mod encoding;
mod generic;
mod handshake;
mod providers;
mod refusal;
mod request;
mod scheme;
mod secret;
mod sign;
mod signed;
mod standard_webhooks;
mod time;
mod token;

pub use diagnose::{BodyChange, Cause, Diagnosis, Suspicion, diagnose};
pub use encoding::{Encoding, UnknownWord};
pub use generic::{GenericError, GenericHmac};
pub use handshake::{Answer, Handshake, HandshakeRefusal, MAX_CHALLENGE_BYTES};
pub use providers::{Extract, PROVIDERS, Provider, Retry, provider};
pub use refusal::{Flaw, Refusal};
pub use request::{Headers, MAX_HEADER_BYTES, Request};
pub use scheme::{
    Algorithm, Carrier, Hash, MAX_PUBLIC_KEY_SIGNATURES, MAX_SIGNATURES, Part, Scheme, Signed, Timestamp,
    TimestampSource, Verified, Verifier,
};
pub use secret::{
    KeyForm, Lengths, PRIVATE_PREFIX, PUBLIC_PREFIX, STANDARD_LENGTHS, SYMMETRIC_PREFIX, Secret, SecretError,
};
pub use sign::{NYLAS_HEADER, NylasSigner, SignError, StandardSigner, Unsigned, sign_nylas};
pub use standard_webhooks::StandardWebhooks;
pub use time::{Clock, TimeUnit, Tolerance};
pub use token::Token;
