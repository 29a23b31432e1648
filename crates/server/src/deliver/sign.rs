//! A destination's signature under what goes to it.
//!
//! Owns the step from opened secrets to prepared keys, once for each snapshot. Must not know how secrets are
//! stored, nor what a request looks like.

use hookfast_engine::topology::{Destination, Signing};
use hookfast_signature::{NylasSigner, Secret, SecretError, StandardSigner};
use http::HeaderValue;

use crate::clock::Clock;

/// Signs what goes to one destination: with every secret that is valid by Standard Webhooks, and with the newest
/// as Nylas signs, which has room for one signature alone (SPEC I9, O2, O15).
#[derive(Debug)]
pub struct Signer {
    standard: Option<StandardSigner>,
    nylas: Option<NylasSigner>,
}

impl Signer {
    /// The signer of `destination` with its opened secrets, newest first.
    ///
    /// A secret that cannot sign is passed over and logged: the others still do. Without any, deliveries go
    /// out unsigned.
    #[must_use]
    pub fn new(destination: &Destination, secrets: &[Vec<u8>]) -> Self {
        let readable = secrets.iter().enumerate().filter_map(|(index, bytes)| {
            let secret = std::str::from_utf8(bytes)
                .map(Secret::from)
                .map_err(|_| "it is not text".to_owned());
            let fits = secret.and_then(|secret| match check_secret(destination.signing, &secret) {
                Ok(()) => Ok(secret),
                Err(error) => Err(error.to_string()),
            });
            fits.inspect_err(|error| {
                tracing::error!(
                    destination = %destination.id,
                    secret.index = index,
                    error,
                    "a destination's secret cannot sign; set another one"
                );
            })
            .ok()
        });
        let readable: Vec<Secret> = readable.collect();
        let by_nylas = matches!(destination.signing, Signing::Nylas | Signing::Both);
        let newest = readable.first().filter(|_| by_nylas);
        Self {
            standard: StandardSigner::new(&readable).ok(),
            nylas: newest.and_then(|secret| NylasSigner::new(secret).ok()),
        }
    }

    /// The value of `webhook-signature`, with one signature for each secret, newest first; `None` where the
    /// destination has no secret that can sign.
    ///
    /// `id` and `timestamp_seconds` must go out as `webhook-id` and `webhook-timestamp` exactly as given here.
    #[must_use]
    pub fn sign(&self, id: &str, timestamp_seconds: i64, body: &[u8]) -> Option<HeaderValue> {
        let seconds = u64::try_from(timestamp_seconds).unwrap_or(0);
        let value = self.standard.as_ref()?.sign(id, seconds, body);
        HeaderValue::try_from(value).ok()
    }

    /// The value of `X-Nylas-Signature` under a body as it goes out; `None` where the destination's signing has no
    /// such header, or no secret.
    #[must_use]
    pub fn sign_as_nylas(&self, body: &[u8]) -> Option<HeaderValue> {
        HeaderValue::try_from(self.nylas.as_ref()?.sign(body)).ok()
    }
}

/// Whether `secret` can sign what goes out with this signing: any text as Nylas signs, a Standard Webhooks secret
/// for everything else.
///
/// # Errors
/// Why it cannot.
pub fn check_secret(signing: Signing, secret: &Secret) -> Result<(), SecretError> {
    match signing {
        Signing::Nylas => NylasSigner::new(secret).map(drop),
        Signing::Standard | Signing::Both => StandardSigner::new(std::slice::from_ref(secret)).map(drop),
    }
}

/// Draws a secret that fits.
#[must_use]
pub fn new_secret(signing: Signing, clock: Clock) -> Secret {
    match signing {
        Signing::Nylas => Secret::generate_nylas(&clock.entropy_bytes()),
        Signing::Standard | Signing::Both => Secret::generate_symmetric(&clock.entropy_bytes()),
    }
}
