//! Schemes made from a configuration, for senders that are not in the table.
//!
//! Owns the defaults and the check that what is configured protects anything. Must not read files or
//! environments: the words come in parsed.

use std::borrow::Cow;
use std::time::Duration;

use thiserror::Error;

use crate::encoding::Encoding;
use crate::scheme::{Algorithm, Carrier, Hash, Part, Scheme, Signed, Timestamp, TimestampSource};
use crate::secret::KeyForm;
use crate::time::TimeUnit;

/// An HMAC scheme by configuration. For a shared token use [`Scheme::Token`] directly.
///
/// ```
/// use hookfast_signature::{GenericHmac, Scheme};
///
/// let mut generic = GenericHmac::new("X-Acme-Signature");
/// generic.prefix = "v0=".into();
/// generic.content = "v0:{timestamp}:{body}".into();
/// generic.timestamp_header = Some("X-Acme-Timestamp".into());
/// let scheme: Scheme = generic.scheme().unwrap();
/// assert!(scheme.covers_body());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GenericHmac {
    /// The header with the signature.
    pub header: String,
    /// What stands before the signature; empty by default.
    pub prefix: String,
    /// SHA-256 by default.
    pub hash: Hash,
    /// Hex by default.
    pub encoding: Encoding,
    /// The text of the secret by default.
    pub key: KeyForm,
    /// What is signed: text with `{body}`, `{timestamp}`, `{url}`, `{method}` and `{header:NAME}` in it.
    /// `{body}` by default.
    pub content: String,
    /// The header with the signed time; none by default.
    pub timestamp_header: Option<String>,
    /// How the signed time is written; Unix seconds by default.
    pub timestamp_unit: TimeUnit,
    /// How far the signed time may be from now, both ways; five minutes by default.
    pub tolerance: Duration,
}

/// Why a configured scheme is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum GenericError {
    /// Not a header name.
    #[error("`{0}` is not a header name")]
    HeaderName(String),
    /// The content names something unknown.
    #[error(
        "the signed content has `{{{0}}}`, which is not known; use {{body}}, {{timestamp}}, {{url}}, {{method}} or {{header:NAME}}"
    )]
    UnknownPart(String),
    /// A brace without its partner.
    #[error("the signed content has an opening brace without a closing one")]
    Unclosed,
    /// The body would not be protected.
    #[error("the signed content lacks {{body}}, so the signature would not protect it")]
    BodyMissing,
    /// The time is signed but it is not said where it is.
    #[error("the signed content has {{timestamp}} but no header for the timestamp is set")]
    TimestampHeaderMissing,
    /// The time would be checked though anyone could change it.
    #[error(
        "header `{0}` is set as the timestamp but the signed content lacks {{timestamp}}, so anyone could change it"
    )]
    TimestampUnsigned(String),
}

impl GenericHmac {
    /// The hex HMAC-SHA256 of the body in this header, keyed with the text of the secret.
    pub fn new(header: impl Into<String>) -> Self {
        Self {
            header: header.into(),
            prefix: String::new(),
            hash: Hash::Sha256,
            encoding: Encoding::Hex,
            key: KeyForm::Text,
            content: "{body}".into(),
            timestamp_header: None,
            timestamp_unit: TimeUnit::Seconds,
            tolerance: Duration::from_secs(300),
        }
    }

    /// The scheme, if it holds together.
    pub fn scheme(self) -> Result<Scheme, GenericError> {
        let content = parse_content(&self.content)?;
        let signs_time = content.contains(&Part::Timestamp);
        if !content.contains(&Part::Body) {
            return Err(GenericError::BodyMissing);
        }
        let timestamp = match self.timestamp_header {
            None if signs_time => return Err(GenericError::TimestampHeaderMissing),
            None => None,
            Some(header) if !signs_time => return Err(GenericError::TimestampUnsigned(header)),
            Some(header) => Some(Timestamp {
                source: TimestampSource::Header(header_name(header)?),
                unit: self.timestamp_unit,
                tolerance: self.tolerance,
            }),
        };
        Ok(Scheme::Signed(Signed {
            carrier: Carrier::Header {
                name: header_name(self.header)?,
                prefix: Cow::Owned(self.prefix),
            },
            algorithm: Algorithm::Hmac(self.hash),
            key: self.key,
            content: Cow::Owned(content),
            encoding: self.encoding,
            timestamp,
        }))
    }
}

/// A token as RFC 9110 section 5.6.2 has it.
fn header_name(name: String) -> Result<Cow<'static, str>, GenericError> {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if !name.is_empty() && name.bytes().all(token) {
        Ok(Cow::Owned(name))
    } else {
        Err(GenericError::HeaderName(name))
    }
}

fn parse_content(template: &str) -> Result<Vec<Part>, GenericError> {
    let mut parts = Vec::new();
    let mut rest = template;
    while let Some((text, after)) = rest.split_once('{') {
        let (name, after) = after.split_once('}').ok_or(GenericError::Unclosed)?;
        if !text.is_empty() {
            parts.push(Part::Text(Cow::Owned(text.to_owned())));
        }
        parts.push(match name {
            "body" => Part::Body,
            "timestamp" => Part::Timestamp,
            "url" => Part::Url,
            "method" => Part::Method,
            _ => match name.strip_prefix("header:") {
                Some(header) => Part::Header(header_name(header.to_owned())?),
                None => return Err(GenericError::UnknownPart(name.to_owned())),
            },
        });
        rest = after;
    }
    if !rest.is_empty() {
        parts.push(Part::Text(Cow::Owned(rest.to_owned())));
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(change: impl FnOnce(&mut GenericHmac)) -> Option<GenericError> {
        let mut generic = GenericHmac::new("x-signature");
        change(&mut generic);
        generic.scheme().err()
    }

    #[test]
    fn a_configuration_that_protects_nothing_is_refused() {
        let time = |generic: &mut GenericHmac| generic.timestamp_header = Some("x-time".into());
        assert_eq!(error(|_| {}), None);
        assert_eq!(
            error(|each| each.content = "{url}".into()),
            Some(GenericError::BodyMissing)
        );
        assert_eq!(
            error(|each| each.content = "{timestamp}{body}".into()),
            Some(GenericError::TimestampHeaderMissing)
        );
        assert_eq!(
            error(time),
            Some(GenericError::TimestampUnsigned("x-time".into()))
        );
        assert_eq!(
            error(|each| each.content = "{body}{x}".into()),
            Some(GenericError::UnknownPart("x".into()))
        );
        assert_eq!(
            error(|each| each.content = "{body".into()),
            Some(GenericError::Unclosed)
        );
        assert_eq!(
            error(|each| each.header = "a b".into()),
            Some(GenericError::HeaderName("a b".into()))
        );
        assert_eq!(
            error(|each| each.content = "{header:}{body}".into()),
            Some(GenericError::HeaderName(String::new()))
        );
    }

    #[test]
    fn the_content_is_read_in_order() {
        assert_eq!(
            parse_content("v0:{timestamp}:{header:x-id}{body}.").unwrap(),
            [
                Part::Text("v0:".into()),
                Part::Timestamp,
                Part::Text(":".into()),
                Part::Header("x-id".into()),
                Part::Body,
                Part::Text(".".into()),
            ]
        );
    }
}
