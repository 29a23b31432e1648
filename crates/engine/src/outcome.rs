//! Every way in which an attempt can end.
//!
//! Owns the closed list. Must not know what an end leads to: the policy in `retry` says that.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How an attempt ended. There is no error beside it: whatever happens is one of these.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Outcome {
    /// The destination answered.
    Answered {
        /// The HTTP status code.
        status: u16,
        /// What its `Retry-After` header asked for.
        retry_after: Option<Duration>,
    },
    /// No whole answer head within the destination's timeout.
    TimedOut,
    /// No answer, for this reason.
    Unreachable {
        /// What failed.
        failure: Failure,
    },
    /// A puller acknowledged it.
    Acknowledged,
    /// A puller gave it back.
    Returned {
        /// How long it asked to wait before the next lease.
        delay: Duration,
    },
    /// The process or the puller that had it is gone, or its lease ran out.
    Lost,
    /// It was given back untried, for example by a process that stops.
    Released,
}

/// What kept a request from being answered.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Failure {
    /// The host name did not resolve.
    NameResolution,
    /// The address refused the connection.
    ConnectionRefused,
    /// The connection broke before the answer.
    ConnectionReset,
    /// The address could not be reached.
    ConnectionFailed,
    /// The TLS handshake failed.
    TlsHandshake,
    /// The address or the URL is not one that Hookfast may call.
    AddressBlocked,
    /// What came back is not HTTP.
    NotHttp,
    /// The request could not be built, for example because a header is not valid.
    RequestInvalid,
    /// A fault of ours, such as a panic while sending.
    Internal,
}

impl Failure {
    /// The name used in the API and in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NameResolution => "name_resolution",
            Self::ConnectionRefused => "connection_refused",
            Self::ConnectionReset => "connection_reset",
            Self::ConnectionFailed => "connection_failed",
            Self::TlsHandshake => "tls_handshake",
            Self::AddressBlocked => "address_blocked",
            Self::NotHttp => "not_http",
            Self::RequestInvalid => "request_invalid",
            Self::Internal => "internal",
        }
    }
}

impl Outcome {
    /// Whether it shows that more was sent than the destination could take: no answer from it, or one that gateways and
    /// rate limits give. A refusal of any other kind shows nothing of the sort: it says what the handler thinks of this
    /// one event.
    #[must_use]
    pub const fn shows_overload(&self) -> bool {
        match self {
            Self::Answered { status, .. } => matches!(status, 429 | 502..=504),
            Self::TimedOut => true,
            Self::Unreachable { failure } => match failure {
                Failure::NameResolution
                | Failure::ConnectionRefused
                | Failure::ConnectionReset
                | Failure::ConnectionFailed
                | Failure::TlsHandshake => true,
                Failure::AddressBlocked | Failure::NotHttp | Failure::RequestInvalid | Failure::Internal => {
                    false
                }
            },
            Self::Acknowledged | Self::Returned { .. } | Self::Lost | Self::Released => false,
        }
    }

    /// The name used in the API and in metrics.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Answered { .. } => "answered",
            Self::TimedOut => "timed_out",
            Self::Unreachable { failure } => failure.name(),
            Self::Acknowledged => "acknowledged",
            Self::Returned { .. } => "returned",
            Self::Lost => "lost",
            Self::Released => "released",
        }
    }

    /// The status code of the answer, where there was one.
    #[must_use]
    pub const fn status(&self) -> Option<u16> {
        match self {
            Self::Answered { status, .. } => Some(*status),
            Self::TimedOut
            | Self::Unreachable { .. }
            | Self::Acknowledged
            | Self::Returned { .. }
            | Self::Lost
            | Self::Released => None,
        }
    }
}
