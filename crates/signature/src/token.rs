//! Shared tokens sent along with the request: a header, HTTP Bearer, HTTP Basic, a query parameter.
//!
//! Owns reading the credential and comparing digests of it. Such a scheme says who sent the request, not that
//! its body is unchanged. Must not know providers.

use std::borrow::Cow;

use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::encoding::Encoding;
use crate::refusal::{Flaw, Refusal};
use crate::request::{QueryValue, Request, query_value, required_header};
use crate::scheme::Verified;
use crate::secret::{Key, Secret, SecretError, token_digest};

const AUTHORIZATION: Cow<'static, str> = Cow::Borrowed("authorization");

/// Where a shared token is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Token {
    /// The value of a header.
    Header {
        /// The name of the header.
        name: Cow<'static, str>,
    },
    /// `Authorization: Bearer <secret>` (RFC 6750).
    Bearer,
    /// `Authorization: Basic <base64>` (RFC 7617); the secret is written `user:password`.
    Basic,
    /// A parameter of the query (CloudEvents HTTP webhook: `access_token`).
    Query {
        /// The name of the parameter.
        parameter: Cow<'static, str>,
    },
}

impl Token {
    pub(crate) fn prepare(&self, secret: &Secret) -> Result<Key, SecretError> {
        let text = secret.expose();
        if text.is_empty() {
            return Err(SecretError::Empty);
        }
        if matches!(self, Self::Basic) && !text.contains(':') {
            return Err(SecretError::NoColon);
        }
        Ok(Key::token(text.as_bytes()))
    }

    pub(crate) fn header(&self) -> Option<&str> {
        match self {
            Self::Header { name } => Some(name),
            Self::Bearer | Self::Basic => Some("authorization"),
            Self::Query { .. } => None,
        }
    }

    pub(crate) fn verify(&self, request: &Request<'_>, keys: &[Key]) -> Result<Verified, Refusal> {
        let given = token_digest(&self.given(request)?);
        let matches = |key: &Key| match key {
            Key::Token(digest) => bool::from(digest.ct_eq(&given)),
            Key::Mac(_) | Key::Ed25519(_) => false,
        };
        match keys.iter().position(matches) {
            Some(secret) => Ok(Verified {
                secret,
                timestamp: None,
            }),
            None => Err(Refusal::Mismatch {
                what: "token",
                secrets: keys.len(),
            }),
        }
    }

    fn given(&self, request: &Request<'_>) -> Result<Zeroizing<Vec<u8>>, Refusal> {
        match self {
            Self::Header { name } => {
                let value = required_header(request.headers, name)?;
                if value.is_empty() {
                    return Err(Refusal::Malformed {
                        header: name.clone(),
                        flaw: Flaw::Empty,
                    });
                }
                Ok(Zeroizing::new(value.as_bytes().to_vec()))
            }
            Self::Bearer => credentials(request, "Bearer ").map(|text| Zeroizing::new(text.into())),
            Self::Basic => {
                let text = credentials(request, "Basic ")?;
                let encoding = Encoding::Base64;
                encoding
                    .decode(text)
                    .map(Zeroizing::new)
                    .ok_or(Refusal::Malformed {
                        header: AUTHORIZATION,
                        flaw: Flaw::WrongAlphabet {
                            encoding,
                            url_safe: false,
                        },
                    })
            }
            Self::Query { parameter } => {
                match query_value(request.url.ok_or(Refusal::UrlMissing)?, parameter) {
                    QueryValue::Found(value) => Ok(Zeroizing::new(value)),
                    QueryValue::Absent | QueryValue::Conflict => Err(Refusal::QueryParameter {
                        parameter: parameter.clone(),
                    }),
                }
            }
        }
    }
}

/// What follows the authentication scheme, whose name is compared without regard to case (RFC 9110, 11.1).
fn credentials<'a>(request: &Request<'a>, scheme: &'static str) -> Result<&'a str, Refusal> {
    let value = required_header(request.headers, &AUTHORIZATION)?;
    match value.split_at_checked(scheme.len()) {
        Some((start, rest)) if start.eq_ignore_ascii_case(scheme) && !rest.is_empty() => {
            Ok(rest.trim_ascii())
        }
        _ => Err(Refusal::Malformed {
            header: AUTHORIZATION,
            flaw: Flaw::PrefixMissing {
                expected: Cow::Borrowed(scheme),
            },
        }),
    }
}
