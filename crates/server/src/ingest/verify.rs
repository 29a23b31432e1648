//! A source's check of what is posted to it (SPEC I4).
//!
//! Owns the keys made ready, once per snapshot, and the judgement over one request's raw bytes. Must not parse
//! bodies, and must not decide what becomes of a request that it refuses.

use std::borrow::Cow;
use std::net::IpAddr;
use std::time::Duration;

use hookfast_engine::event::HeaderBlock;
use hookfast_engine::time::Timestamp;
use hookfast_engine::topology::{Source, Verify};
use hookfast_signature as signature;
use hookfast_signature::{Clock, Headers, Provider, Request, Tolerance};

use super::cause::Cause;
use super::extract::Extraction;
use super::scheme;

/// A request to a source, whole, as it came. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Notification {
    /// Its method.
    pub method: http::Method,
    /// Its path and query.
    pub target: String,
    /// Its headers.
    pub headers: HeaderBlock,
    /// Its body.
    pub body: bytes::Bytes,
    /// When it came.
    pub received_at: Timestamp,
    /// Who sent it.
    pub peer: IpAddr,
}

/// How the time that a signature covers is judged.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TimeCheck {
    /// As the source says, against when the request came.
    AsReceived,
    /// Not at all: somebody releases it although it is stale.
    Ignored,
}

/// Checks what is posted to one source, and knows where its events say what they are.
#[derive(Debug)]
pub struct Verifier {
    check: Check,
    tolerance: Tolerance,
    public_url: Option<String>,
    provider: Option<&'static Provider>,
    /// Where its events say what they are.
    pub extraction: Extraction,
}

#[derive(Debug)]
enum Check {
    Signature(Box<signature::Verifier>),
    /// Somebody wrote `verify = "none"`.
    Nothing,
    /// Nothing can be verified, and it is not the sender's fault.
    Impossible(String),
}

/// Why a request is not believed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Refusal {
    /// The code.
    pub cause: Cause,
    /// More, in words, without secrets.
    pub message: String,
}

impl Verifier {
    /// The verifier of `source` with its opened secrets.
    #[must_use]
    pub fn new(source: &Source, secrets: &[Vec<u8>]) -> Self {
        let provider = scheme::provider_of(source);
        Self {
            check: Check::new(source, secrets),
            tolerance: source.tolerance.map_or(Tolerance::OfScheme, Tolerance::Within),
            public_url: source.public_url.clone(),
            provider,
            extraction: Extraction::new(source, provider),
        }
    }

    /// The source's provider; `None` for a generic one.
    #[must_use]
    pub fn provider(&self) -> Option<&'static Provider> {
        self.provider
    }

    /// Proves a request genuine or says why not. `server_url` is how the server is seen from outside.
    ///
    /// # Errors
    /// Why it is not believed.
    pub fn verify(
        &self,
        notification: &Notification,
        server_url: Option<&str>,
        time: TimeCheck,
    ) -> Result<(), Refusal> {
        let verifier = match &self.check {
            Check::Signature(verifier) => verifier,
            Check::Nothing => return Ok(()),
            Check::Impossible(message) => {
                return Err(Refusal {
                    cause: Cause::UnusableSource,
                    message: message.clone(),
                });
            }
        };
        let url = if verifier.scheme().covers_url() {
            self.url_of(&notification.target, server_url)
        } else {
            Some(Cow::Borrowed(notification.target.as_str()))
        };
        let micros = u64::try_from(notification.received_at.as_micros()).unwrap_or(0);
        let clock = Clock::at(Duration::from_micros(micros)).with(match time {
            TimeCheck::AsReceived => self.tolerance,
            TimeCheck::Ignored => Tolerance::Any,
        });
        let packed = Packed(&notification.headers);
        let request = Request {
            method: notification.method.as_str(),
            url: url.as_deref(),
            headers: &packed,
            body: &notification.body,
        };
        match verifier.verify(&request, clock) {
            Ok(_) => Ok(()),
            Err(refusal) => Err(Refusal {
                cause: cause_of(&refusal),
                message: refusal.to_string(),
            }),
        }
    }

    /// The URL as the provider was given it: the source's own, else the server's with the request's target.
    fn url_of<'t>(&self, target: &'t str, server_url: Option<&str>) -> Option<Cow<'t, str>> {
        let query = target.split_once('?').map(|(_, query)| query);
        match (&self.public_url, query) {
            (Some(url), Some(query)) if !url.contains('?') => Some(Cow::Owned(format!("{url}?{query}"))),
            (Some(url), _) => Some(Cow::Owned(url.clone())),
            (None, _) => server_url.map(|url| Cow::Owned(format!("{}{target}", url.trim_end_matches('/')))),
        }
    }
}

impl Check {
    fn new(source: &Source, secrets: &[Vec<u8>]) -> Self {
        if source.verify == Verify::None {
            return Self::Nothing;
        }
        let scheme = match scheme::scheme_of(source) {
            Ok(scheme) => scheme,
            Err(faults) => return Self::impossible(source, faults.join("; ")),
        };
        let mut usable = Vec::new();
        let mut faults = Vec::new();
        for secret in secrets {
            match scheme::usable_secret(&scheme, secret) {
                Ok(secret) => usable.push(secret),
                Err(fault) => faults.push(fault),
            }
        }
        let lasting = source.secrets.iter().any(|secret| secret.expires_at.is_none());
        if usable.is_empty() && !faults.is_empty() {
            return Self::impossible(source, faults.join("; "));
        }
        if secrets.is_empty() && lasting {
            let fault = "none of the stored secrets opens with this encryption key".to_owned();
            return Self::impossible(source, fault);
        }
        match signature::Verifier::new(scheme, &usable) {
            Ok(verifier) => Self::Signature(Box::new(verifier)),
            Err(error) => Self::impossible(source, error.to_string()),
        }
    }

    fn impossible(source: &Source, fault: String) -> Self {
        tracing::error!(source.name, fault, "this source can verify nothing");
        Self::Impossible(fault)
    }
}

/// Packed headers as the signature crate looks them up.
pub(super) struct Packed<'a>(pub &'a HeaderBlock);

impl Headers for Packed<'_> {
    fn visit<'h>(&'h self, name: &str, visit: &mut dyn FnMut(&'h [u8])) {
        let named = |(candidate, _): &(&[u8], &[u8])| candidate.eq_ignore_ascii_case(name.as_bytes());
        for (_, value) in self.0.iter().filter(named) {
            visit(value);
        }
    }
}

fn cause_of(refusal: &signature::Refusal) -> Cause {
    use signature::Refusal;
    match refusal {
        Refusal::NoSecret => Cause::NoSecret,
        Refusal::HeaderMissing { .. } => Cause::SignatureMissing,
        Refusal::HeaderConflict { .. } | Refusal::QueryParameter { .. } => Cause::SignatureAmbiguous,
        Refusal::HeaderTooLong { .. } => Cause::SignatureTooLong,
        Refusal::TooManySignatures { .. } => Cause::SignatureTooMany,
        Refusal::Malformed { .. } => Cause::SignatureMalformed,
        Refusal::NoUsableVersion { .. } => Cause::SignatureVersion,
        Refusal::TimestampMissing { .. } => Cause::TimestampMissing,
        Refusal::TimestampMalformed { .. } => Cause::TimestampMalformed,
        Refusal::TimestampTooOld { .. } => Cause::TimestampTooOld,
        Refusal::TimestampTooNew { .. } => Cause::TimestampTooNew,
        Refusal::UrlMissing => Cause::UnusableSource,
        Refusal::Mismatch { .. } => Cause::SignatureMismatch,
    }
}
