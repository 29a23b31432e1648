//! Handshakes: requests by which a provider asks whether this URL wants its webhooks. They are answered at once
//! and never become events.
//!
//! Owns recognising them and computing the answer, purely. Must not parse JSON (the caller passes a lookup) and
//! must not decide whether a signature is due before it is checked.

use thiserror::Error;

use crate::request::{QueryValue, Request, optional_header, query_value};

/// The longest challenge that is given back. Genuine ones are some dozens of bytes; the bound keeps the public
/// listener from becoming an echo service.
pub const MAX_CHALLENGE_BYTES: usize = 1024;

/// A handshake that a provider uses. New providers add a variant only where no present one fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handshake {
    /// A request with this method and query parameter is answered 200 with exactly the decoded value.
    ///
    /// Nylas: `GET ?challenge=…` at creation and re-activation; the secret is only known afterwards, so this is
    /// answered unsigned and with no secret configured. The answer needs a Content-Length, never chunks.
    EchoQuery {
        /// The method.
        method: &'static str,
        /// The parameter with the challenge.
        parameter: &'static str,
    },
    /// `POST {"type":"url_verification","challenge":"…"}`, signed like every other request: verify first, then
    /// answer the challenge as text (Slack Events API).
    SlackUrlVerification,
    /// A signed request that says only "hello", known by a header: verify, answer 200, keep nothing (GitHub:
    /// `X-GitHub-Event: ping`).
    Ping {
        /// The header that tells it.
        header: &'static str,
        /// Its value for a ping.
        value: &'static str,
    },
}

/// The answer to a handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The value of `Content-Type`. Send `X-Content-Type-Options: nosniff` with it: the body is the sender's.
    pub content_type: &'static str,
    /// The exact body: no quotes, no newline.
    pub body: Vec<u8>,
}

/// Why a handshake is not answered as asked. Answer it 400.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum HandshakeRefusal {
    /// The challenge came twice with different values.
    #[error("the challenge `{0}` came more than once with different values")]
    Conflict(&'static str),
    /// The challenge is there and empty.
    #[error("the challenge `{0}` is empty")]
    Empty(&'static str),
    /// The challenge is too long to be a genuine one.
    #[error("the challenge `{name}` is {length} bytes long; at most {MAX_CHALLENGE_BYTES} are given back")]
    TooLong {
        /// The name of the challenge.
        name: &'static str,
        /// Its length in bytes.
        length: usize,
    },
}

impl Handshake {
    /// Whether the request must be verified before it is answered.
    pub fn needs_signature(self) -> bool {
        match self {
            Self::EchoQuery { .. } => false,
            Self::SlackUrlVerification | Self::Ping { .. } => true,
        }
    }

    /// The answer, or `None` when the request is not this handshake.
    ///
    /// `field` looks up a string in the JSON body by the names on the way to it; it is asked only where a
    /// handshake is in the body.
    pub fn answer(
        self,
        request: &Request<'_>,
        field: &dyn Fn(&[&str]) -> Option<String>,
    ) -> Option<Result<Answer, HandshakeRefusal>> {
        match self {
            Self::EchoQuery { method, parameter } => {
                if request.method != method {
                    return None;
                }
                match query_value(request.url?, parameter) {
                    QueryValue::Absent => None,
                    QueryValue::Conflict => Some(Err(HandshakeRefusal::Conflict(parameter))),
                    QueryValue::Found(value) => Some(echo(parameter, value)),
                }
            }
            Self::SlackUrlVerification => {
                if request.method != "POST" || field(&["type"])? != "url_verification" {
                    return None;
                }
                Some(echo(
                    "challenge",
                    field(&["challenge"]).unwrap_or_default().into_bytes(),
                ))
            }
            Self::Ping { header, value } => {
                let found = optional_header(request.headers, &header.into()).ok()??;
                (found == value).then(|| Ok(text(Vec::new())))
            }
        }
    }
}

fn echo(name: &'static str, value: Vec<u8>) -> Result<Answer, HandshakeRefusal> {
    match value.len() {
        0 => Err(HandshakeRefusal::Empty(name)),
        length if length > MAX_CHALLENGE_BYTES => Err(HandshakeRefusal::TooLong { name, length }),
        _ => Ok(text(value)),
    }
}

fn text(body: Vec<u8>) -> Answer {
    Answer {
        status: 200,
        content_type: "text/plain; charset=utf-8",
        body,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NYLAS: Handshake = Handshake::EchoQuery {
        method: "GET",
        parameter: "challenge",
    };
    const GITHUB: Handshake = Handshake::Ping {
        header: "X-GitHub-Event",
        value: "ping",
    };

    fn ask(
        handshake: Handshake,
        method: &str,
        url: &str,
        headers: &[(&str, &str)],
        fields: &[(&str, &str)],
    ) -> Option<Result<Vec<u8>, HandshakeRefusal>> {
        let request = Request {
            method,
            url: Some(url),
            headers: &headers,
            body: b"",
        };
        let field = |path: &[&str]| {
            fields
                .iter()
                .find(|(name, _)| path == [*name])
                .map(|(_, value)| (*value).to_owned())
        };
        handshake
            .answer(&request, &field)
            .map(|answer| answer.map(|answer| answer.body))
    }

    #[test]
    fn a_nylas_challenge_is_given_back_exactly() {
        let get = |url: &str| ask(NYLAS, "GET", url, &[], &[]);
        assert_eq!(get("/in/n?challenge=6f1a-x"), Some(Ok(b"6f1a-x".to_vec())));
        assert_eq!(
            get("/in/n?a=b&challenge=a%20%22b%22"),
            Some(Ok(b"a \"b\"".to_vec()))
        );
        assert_eq!(get("/in/n"), None);
        assert_eq!(ask(NYLAS, "POST", "/in/n?challenge=1", &[], &[]), None);
        assert_eq!(
            get("/in/n?challenge="),
            Some(Err(HandshakeRefusal::Empty("challenge")))
        );
        assert_eq!(
            get("/in/n?challenge=1&challenge=2"),
            Some(Err(HandshakeRefusal::Conflict("challenge")))
        );
        let long = |length| format!("/in/n?challenge={}", "a".repeat(length));
        assert_eq!(get(&long(1024)), Some(Ok(vec![b'a'; 1024])));
        assert_eq!(
            get(&long(1025)),
            Some(Err(HandshakeRefusal::TooLong {
                name: "challenge",
                length: 1025
            }))
        );
    }

    #[test]
    fn a_slack_url_verification_is_answered_with_its_challenge() {
        let slack = Handshake::SlackUrlVerification;
        let fields = [("type", "url_verification"), ("challenge", "abc")];
        assert_eq!(ask(slack, "POST", "/", &[], &fields), Some(Ok(b"abc".to_vec())));
        assert_eq!(ask(slack, "POST", "/", &[], &[("type", "event_callback")]), None);
        assert_eq!(
            ask(slack, "POST", "/", &[], &fields[..1]),
            Some(Err(HandshakeRefusal::Empty("challenge")))
        );
        assert!(slack.needs_signature());
    }

    #[test]
    fn a_github_ping_is_known_by_its_header() {
        assert_eq!(
            ask(GITHUB, "POST", "/", &[("x-github-event", "ping")], &[]),
            Some(Ok(vec![]))
        );
        assert_eq!(ask(GITHUB, "POST", "/", &[("x-github-event", "push")], &[]), None);
        assert_eq!(ask(GITHUB, "POST", "/", &[], &[]), None);
    }
}
