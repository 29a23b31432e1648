//! The largest family: a signature in a header over the body, or over the body with a time, the URL, or other
//! headers (GitHub, Shopify, Nylas, Stripe, Slack and most others).
//!
//! Owns reading the carrier, assembling the content and comparing. Must not know providers.

use std::borrow::Cow;

use ring::{hmac, signature};

use crate::refusal::{Flaw, Refusal};
use crate::request::{Request, required_header};
use crate::scheme::{
    Algorithm, Candidates, Carrier, MAX_PUBLIC_KEY_SIGNATURES, MAX_SIGNATURES, Part, Signed, TimestampSource,
    Verified,
};
use crate::secret::{Key, Secret, SecretError};
use crate::time::{Clock, parse_in_header};

impl Signed {
    pub(crate) fn prepare(&self, secret: &Secret) -> Result<Key, SecretError> {
        let bytes = self.key.bytes(secret)?;
        match self.algorithm {
            Algorithm::Hmac(hash) => Ok(Key::Mac(hmac::Key::new(hash.algorithm(), &bytes))),
            Algorithm::Ed25519 => {
                let found = bytes.len();
                let public = <[u8; 32]>::try_from(bytes.as_slice());
                let what = "Ed25519 public key";
                public.map(Key::Ed25519).map_err(|_| SecretError::WrongLength {
                    what,
                    found,
                    min: 32,
                    max: 32,
                })
            }
        }
    }

    pub(crate) fn verify(
        &self,
        request: &Request<'_>,
        keys: &[Key],
        clock: Clock,
    ) -> Result<Verified, Refusal> {
        let header = self.carrier.header();
        let value = required_header(request.headers, header)?;
        let mut candidates = self.candidates(value)?;
        let timestamp = self.timestamp_text(request, value)?;
        let content = Content {
            request,
            parts: &self.content,
            timestamp,
            header,
        };

        if let Some(flaw) = candidates.only_flaw() {
            return Err(Refusal::Malformed {
                header: header.clone(),
                flaw,
            });
        }
        let secret = matching_key(keys, &candidates, &content)?.ok_or(Refusal::Mismatch {
            what: "signature",
            secrets: keys.len(),
        })?;
        let Some((signed_at, text)) = self.timestamp.as_ref().zip(timestamp) else {
            return Ok(Verified {
                secret,
                timestamp: None,
            });
        };
        let time = parse_in_header(text, signed_at.unit, self.timestamp_header(header))?;
        clock.check(time, signed_at.tolerance)?;
        Ok(Verified {
            secret,
            timestamp: Some(time),
        })
    }

    fn candidates(&self, value: &str) -> Result<Candidates, Refusal> {
        let mut candidates = Candidates::of_length(self.algorithm.signature_length());
        let malformed = |header: &Cow<'static, str>, flaw| Refusal::Malformed {
            header: header.clone(),
            flaw,
        };
        match &self.carrier {
            Carrier::Header { name, prefix } => {
                let text = match value.strip_prefix(prefix.as_ref()) {
                    Some(text) => text,
                    None if value.is_empty() => return Err(malformed(name, Flaw::Empty)),
                    None => {
                        return Err(malformed(
                            name,
                            Flaw::PrefixMissing {
                                expected: prefix.clone(),
                            },
                        ));
                    }
                };
                candidates.push(text, self.encoding);
            }
            Carrier::Elements {
                name,
                separator,
                signature,
            } => {
                let found = || elements(value, *separator).filter(|(key, _)| *key == signature.as_ref());
                let limit = match self.algorithm {
                    Algorithm::Hmac(_) => MAX_SIGNATURES,
                    Algorithm::Ed25519 => MAX_PUBLIC_KEY_SIGNATURES,
                };
                match found().count() {
                    0 if value.is_empty() => return Err(malformed(name, Flaw::Empty)),
                    0 => {
                        return Err(malformed(
                            name,
                            Flaw::ElementMissing {
                                expected: signature.clone(),
                            },
                        ));
                    }
                    count if count > limit => {
                        return Err(Refusal::TooManySignatures {
                            header: name.clone(),
                            count,
                            limit,
                        });
                    }
                    _ => found().for_each(|(_, text)| candidates.push(text, self.encoding)),
                }
            }
        }
        Ok(candidates)
    }

    /// The timestamp as written, which is how it is signed.
    fn timestamp_text<'a>(&self, request: &Request<'a>, value: &'a str) -> Result<Option<&'a str>, Refusal> {
        let header = self.carrier.header();
        match self.timestamp.as_ref().map(|timestamp| &timestamp.source) {
            None => Ok(None),
            Some(TimestampSource::Header(name)) => {
                let missing = || Refusal::TimestampMissing { header: name.clone() };
                let found = crate::request::optional_header(request.headers, name)?;
                found.ok_or_else(missing).map(Some)
            }
            Some(TimestampSource::Element(element)) => {
                let separator = match &self.carrier {
                    Carrier::Elements { separator, .. } => *separator,
                    Carrier::Header { .. } => ',',
                };
                let mut found = elements(value, separator).filter(|(key, _)| *key == element.as_ref());
                match (found.next(), found.next()) {
                    (Some((_, text)), None) => Ok(Some(text)),
                    (None, _) => Err(Refusal::TimestampMissing {
                        header: header.clone(),
                    }),
                    (Some(_), Some(_)) => Err(Refusal::Malformed {
                        header: header.clone(),
                        flaw: Flaw::ElementTwice {
                            element: element.clone(),
                        },
                    }),
                }
            }
        }
    }

    #[expect(
        clippy::ptr_arg,
        reason = "a refusal keeps the name, without copying one from the table"
    )]
    fn timestamp_header<'a>(&'a self, carrier: &'a Cow<'static, str>) -> &'a Cow<'static, str> {
        match self.timestamp.as_ref().map(|timestamp| &timestamp.source) {
            Some(TimestampSource::Header(name)) => name,
            Some(TimestampSource::Element(_)) | None => carrier,
        }
    }
}

/// The `name=value` elements of a list; what has no `=` is skipped, as the specifications ask.
fn elements(value: &str, separator: char) -> impl Iterator<Item = (&str, &str)> {
    value
        .split(separator)
        .filter_map(|element| element.split_once('='))
        .map(|(key, text)| (key.trim_ascii(), text.trim_ascii()))
}

/// The content that is signed, still in pieces.
pub(crate) struct Content<'a> {
    pub(crate) request: &'a Request<'a>,
    pub(crate) parts: &'a [Part],
    pub(crate) timestamp: Option<&'a str>,
    /// The header named when the timestamp is wanted and absent.
    pub(crate) header: &'a Cow<'static, str>,
}

impl Content<'_> {
    /// Passes the pieces on in order, without copying them together.
    pub(crate) fn feed(&self, sink: &mut dyn FnMut(&[u8])) -> Result<(), Refusal> {
        for part in self.parts {
            match part {
                Part::Text(text) => sink(text.as_bytes()),
                Part::Body => sink(self.request.body),
                Part::Timestamp => {
                    let missing = || Refusal::TimestampMissing {
                        header: self.header.clone(),
                    };
                    sink(self.timestamp.ok_or_else(missing)?.as_bytes());
                }
                Part::Header(name) => sink(required_header(self.request.headers, name)?.as_bytes()),
                Part::Url => sink(self.request.url.ok_or(Refusal::UrlMissing)?.as_bytes()),
                Part::Method => sink(self.request.method.as_bytes()),
            }
        }
        Ok(())
    }

    pub(crate) fn tag(&self, key: &hmac::Key) -> Result<hmac::Tag, Refusal> {
        let mut context = hmac::Context::with_key(key);
        self.feed(&mut |piece| context.update(piece))?;
        Ok(context.sign())
    }

    pub(crate) fn whole(&self) -> Result<Vec<u8>, Refusal> {
        let mut whole = Vec::with_capacity(self.request.body.len() + 256);
        self.feed(&mut |piece| whole.extend_from_slice(piece))?;
        Ok(whole)
    }
}

/// The place of the first key under which one of the candidates signs the content. One pass over the content
/// for each MAC key, however many candidates there are.
pub(crate) fn matching_key(
    keys: &[Key],
    candidates: &Candidates,
    content: &Content<'_>,
) -> Result<Option<usize>, Refusal> {
    let mut whole: Option<Vec<u8>> = None;
    for (place, key) in keys.iter().enumerate() {
        let matches = match key {
            Key::Mac(key) => candidates.contain(content.tag(key)?.as_ref()),
            Key::Ed25519(public) => {
                let message = match &mut whole {
                    Some(message) => message,
                    none => none.insert(content.whole()?),
                };
                let public = signature::UnparsedPublicKey::new(&signature::ED25519, public);
                candidates
                    .iter()
                    .any(|candidate| public.verify(message, candidate).is_ok())
            }
            Key::Token(_) => false,
        };
        if matches {
            return Ok(Some(place));
        }
    }
    Ok(None)
}
