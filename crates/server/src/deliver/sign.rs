//! A destination's signature under what goes to it.
//!
//! Owns the step from opened secrets to prepared keys, once for each snapshot. Must not know how secrets are
//! stored, nor what a request looks like.

use hookfast_engine::topology::Destination;
use hookfast_signature::{Secret, StandardSigner};
use http::HeaderValue;

/// Signs what goes to one destination, with every secret that is valid (SPEC I9, O15).
#[derive(Debug)]
pub struct Signer {
    standard: Option<StandardSigner>,
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
            let fits = secret.and_then(|secret| {
                StandardSigner::new(std::slice::from_ref(&secret))
                    .map(|_| secret)
                    .map_err(|error| error.to_string())
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
        Self {
            standard: StandardSigner::new(&readable).ok(),
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
}
