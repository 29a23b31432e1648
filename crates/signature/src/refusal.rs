//! Every reason for which a request is not believed, in words an operator can act on.
//!
//! Owns the enumeration and its texts. Must never hold a secret, an expected signature, or the value of a
//! header: refusals are logged and shown.

use std::borrow::Cow;
use std::time::Duration;

use thiserror::Error;

use crate::encoding::Encoding;
use crate::time::TimeUnit;

/// Why a request was not verified.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refusal {
    /// No secret is known. This is never taken as valid.
    #[error(
        "no secret is configured to verify with; set the secret that the provider shows for this webhook"
    )]
    NoSecret,
    /// The header that carries the signature, the id or the credential is absent.
    #[error(
        "header {header} is missing; is this sender really the configured provider, or does a proxy drop the header?"
    )]
    HeaderMissing {
        /// The header that is due.
        header: Cow<'static, str>,
    },
    /// The same header came twice with different values, so it is unclear which one is meant.
    #[error("header {header} came more than once with different values; a proxy may be adding its own")]
    HeaderConflict {
        /// The header that came twice.
        header: Cow<'static, str>,
    },
    /// The header is longer than any genuine one.
    #[error("header {header} is {length} bytes long; at most {limit} are looked at")]
    HeaderTooLong {
        /// The header that is too long.
        header: Cow<'static, str>,
        /// Its length in bytes.
        length: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// More signatures came in one header than any genuine sender gives.
    #[error("header {header} holds {count} signatures; at most {limit} are tried")]
    TooManySignatures {
        /// The header with the list.
        header: Cow<'static, str>,
        /// How many signatures it holds.
        count: usize,
        /// How many are tried.
        limit: usize,
    },
    /// The header is there but is not in the form that the scheme prescribes.
    #[error("header {header} is malformed: {flaw}")]
    Malformed {
        /// The malformed header.
        header: Cow<'static, str>,
        /// What is wrong with it.
        flaw: Flaw,
    },
    /// The header holds signatures, none of a version that the configured secrets can check.
    #[error(
        "header {header} holds no {wanted} signature, which is what the configured secrets can check; {hint}"
    )]
    NoUsableVersion {
        /// The header with the list.
        header: Cow<'static, str>,
        /// The version or versions that could be checked.
        wanted: &'static str,
        /// What to do about it.
        hint: &'static str,
    },
    /// The time that the scheme signs is absent.
    #[error("the timestamp is missing from header {header}")]
    TimestampMissing {
        /// Where the timestamp is due.
        header: Cow<'static, str>,
    },
    /// The time that the scheme signs cannot be read.
    #[error("the timestamp in header {header} is not {unit}")]
    TimestampMalformed {
        /// Where the timestamp is.
        header: Cow<'static, str>,
        /// The unit it should be in.
        unit: TimeUnit,
    },
    /// The signature is good but was made too long ago: a replay, or a slow road.
    #[error(
        "the signature is good but its timestamp is {} s old and at most {} s are allowed; check this machine's clock, or release it with the timestamp ignored",
        .age.as_secs(), .tolerance.as_secs()
    )]
    TimestampTooOld {
        /// How old the timestamp is.
        age: Duration,
        /// How old it may be.
        tolerance: Duration,
    },
    /// The signature is good but its time has not come yet.
    #[error(
        "the signature is good but its timestamp is {} s in the future and at most {} s are allowed; check this machine's clock",
        .ahead.as_secs(), .tolerance.as_secs()
    )]
    TimestampTooNew {
        /// How far ahead the timestamp is.
        ahead: Duration,
        /// How far ahead it may be.
        tolerance: Duration,
    },
    /// The scheme signs the URL and none was given.
    #[error(
        "this scheme signs the URL of the webhook and none is known; set public_url to what the provider was given"
    )]
    UrlMissing,
    /// The credential is expected in the query and is absent or came twice.
    #[error("query parameter {parameter} is missing or came twice with different values")]
    QueryParameter {
        /// The parameter that is due.
        parameter: Cow<'static, str>,
    },
    /// Everything is in order and nothing matches.
    #[error(
        "the {what} matches none of the {secrets} configured secret(s); either the secret is another one or the content was changed on the way"
    )]
    Mismatch {
        /// Signature, or token.
        what: &'static str,
        /// How many secrets were tried.
        secrets: usize,
    },
}

impl Refusal {
    /// A short stable word for metrics and the `reason` of a kept request.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoSecret => "no_secret",
            Self::HeaderMissing { .. } => "header_missing",
            Self::HeaderConflict { .. } => "header_conflict",
            Self::HeaderTooLong { .. } => "header_too_long",
            Self::TooManySignatures { .. } => "too_many_signatures",
            Self::Malformed { .. } => "malformed",
            Self::NoUsableVersion { .. } => "no_usable_version",
            Self::TimestampMissing { .. } => "timestamp_missing",
            Self::TimestampMalformed { .. } => "timestamp_malformed",
            Self::TimestampTooOld { .. } => "timestamp_too_old",
            Self::TimestampTooNew { .. } => "timestamp_too_new",
            Self::UrlMissing => "url_missing",
            Self::QueryParameter { .. } => "query_parameter",
            Self::Mismatch { .. } => "mismatch",
        }
    }

    /// Whether only the clock stands against it: the signature itself was checked and is good.
    pub fn is_only_time(&self) -> bool {
        matches!(self, Self::TimestampTooOld { .. } | Self::TimestampTooNew { .. })
    }
}

/// What is wrong with the form of a header.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Flaw {
    /// Nothing in it.
    #[error("it is empty")]
    Empty,
    /// Bytes outside ASCII.
    #[error("it is not plain ASCII text")]
    NotText,
    /// The fixed text before the signature is not there.
    #[error("it does not start with `{expected}`")]
    PrefixMissing {
        /// The text that is due.
        expected: Cow<'static, str>,
    },
    /// A list without the element that holds the signature.
    #[error("it has no `{expected}` element")]
    ElementMissing {
        /// The name of the element that is due.
        expected: Cow<'static, str>,
    },
    /// A list in which an element that must be single came twice.
    #[error("its `{element}` element came more than once")]
    ElementTwice {
        /// The name of the element.
        element: Cow<'static, str>,
    },
    /// Another number of characters than the hash gives.
    #[error(
        "the signature has {found} characters where {expected} of {encoding} are due; is another hash or another encoding in use?"
    )]
    WrongLength {
        /// The encoding that is due.
        encoding: Encoding,
        /// The number of characters due.
        expected: usize,
        /// The number of characters found.
        found: usize,
    },
    /// The right number of characters, some outside the alphabet.
    #[error("the signature is not {encoding}{}", if *.url_safe { " of the standard alphabet (it is the URL-safe one)" } else { "" })]
    WrongAlphabet {
        /// The encoding that is due.
        encoding: Encoding,
        /// Whether it would decode with the URL-safe base64 alphabet.
        url_safe: bool,
    },
    /// A signature of the right size in the other encoding.
    #[error("the signature is in {found} where {expected} is due; set the encoding to {found}")]
    OtherEncoding {
        /// The encoding that is due.
        expected: Encoding,
        /// The encoding it seems to be in.
        found: Encoding,
    },
}
