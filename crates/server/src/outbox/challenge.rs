//! The challenge: whether a URL belongs to somebody who expects webhooks there (SPEC O8).
//!
//! Owns the request, the judgement of its answer and the words for what is wrong with it. Must not know what
//! becomes of a destination that fails it.

use std::time::Duration;

use hookfast_engine::outcome::Outcome;
use hookfast_engine::topology::Signing;
use http::{HeaderMap, HeaderValue, Method, header};

use crate::clock::Clock;
use crate::deliver::request::Outgoing;
use crate::deliver::transport::{Attempted, Transport};

/// How long the answer may take, from before the name is resolved (Nylas documentation, "Notifications").
pub const CHALLENGE_TIMEOUT: Duration = Duration::from_secs(10);
/// How much of a wrong answer is shown.
const SHOWN_CHARACTERS: usize = 80;

/// Asks `url` to echo a value drawn for this once. `signing` says whose rules its answer must keep: Nylas takes
/// none that is chunked.
///
/// # Errors
/// What is wrong, in words for the one who owns the URL.
pub async fn ask(
    transport: &Transport,
    clock: Clock,
    url: &str,
    allow_private: bool,
    signing: Signing,
) -> Result<(), String> {
    let value = format!("{:032x}", clock.entropy());
    let checked = transport.guard().check_url(url, allow_private);
    let target = checked
        .and_then(|_| {
            transport
                .guard()
                .check_url(&with_challenge(url, &value), allow_private)
        })
        .map_err(|reason| reason.to_string())?;
    let mut headers = HeaderMap::new();
    headers.insert(header::ACCEPT, HeaderValue::from_static("text/plain, */*"));
    headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
    let outgoing = Outgoing {
        method: Method::GET,
        target,
        headers,
        body: bytes::Bytes::new(),
        timeout: CHALLENGE_TIMEOUT,
    };
    judge(&transport.send(outgoing).await, &value, signing)
}

/// Who asks and delivers.
pub const USER_AGENT: &str = concat!("Hookfast/", env!("CARGO_PKG_VERSION"));

/// The URL with the value in its query, after what stands there already.
fn with_challenge(url: &str, value: &str) -> String {
    let separator = if url.contains('?') { '&' } else { '?' };
    format!("{url}{separator}challenge={value}")
}

fn judge(attempted: &Attempted, value: &str, signing: Signing) -> Result<(), String> {
    let status = match &attempted.outcome {
        Outcome::Answered { status, .. } => *status,
        Outcome::TimedOut
        | Outcome::Unreachable { .. }
        | Outcome::Acknowledged
        | Outcome::Returned { .. }
        | Outcome::Lost
        | Outcome::Released => {
            let error = attempted.error.as_deref();
            return Err(error.unwrap_or("no answer came").to_owned());
        }
    };
    if status != 200 {
        return Err(format!("status is not ok, got {status}"));
    }
    if attempted.response_body != value.as_bytes() {
        return Err(format!(
            "the answer is not the challenge's value alone: expected `{value}`, got `{}`",
            shown(&attempted.response_body)
        ));
    }
    let chunked = attempted.response_headers.get("transfer-encoding").is_some();
    match signing {
        Signing::Nylas if chunked => {
            Err("the answer is chunked, which Nylas does not take: send it with a Content-Length".to_owned())
        }
        Signing::Nylas | Signing::Standard | Signing::Both => Ok(()),
    }
}

/// The beginning of an answer, on one line.
fn shown(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let mut shown: String = text
        .chars()
        .take(SHOWN_CHARACTERS)
        .flat_map(char::escape_debug)
        .collect();
    if text.chars().count() > SHOWN_CHARACTERS {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use hookfast_engine::event::HeaderBlock;
    use hookfast_engine::time::Timestamp;

    use super::*;

    fn answered(status: u16, body: &str, headers: &[(&str, &str)]) -> Attempted {
        let headers = headers
            .iter()
            .map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        Attempted {
            started_at: Timestamp::EPOCH,
            duration: Duration::ZERO,
            outcome: Outcome::Answered {
                status,
                retry_after: None,
            },
            error: None,
            response_headers: HeaderBlock::pack(headers),
            response_body: bytes::Bytes::from(body.to_owned()),
        }
    }

    #[test]
    fn only_200_with_the_value_alone_is_taken() {
        let check = |status, body, expected: Result<(), &str>| {
            let judged = judge(&answered(status, body, &[]), "abc", Signing::Standard);
            match (judged, expected) {
                (Ok(()), Ok(())) => {}
                (Err(reason), Err(part)) => assert!(reason.contains(part), "{reason}"),
                (judged, _) => panic!("{status} {body}: {judged:?}"),
            }
        };
        check(200, "abc", Ok(()));
        check(404, "abc", Err("status is not ok, got 404"));
        check(204, "", Err("got 204"));
        check(200, "abc\n", Err("got `abc\\n`"));
        check(200, "\"abc\"", Err("expected `abc`"));
        check(200, "{\"challenge\":\"abc\"}", Err("the challenge's value alone"));
        check(200, "", Err("got ``"));
        check(200, &"x".repeat(1_000), Err("x…`"));
    }

    #[test]
    fn a_chunked_answer_is_refused_by_the_rules_of_nylas_alone() {
        let chunked = answered(200, "abc", &[("transfer-encoding", "chunked")]);
        assert!(judge(&chunked, "abc", Signing::Nylas).is_err());
        for signing in [Signing::Standard, Signing::Both] {
            assert_eq!(judge(&chunked, "abc", signing), Ok(()));
        }
    }

    #[test]
    fn the_value_goes_after_what_stands_in_the_query_already() {
        assert_eq!(with_challenge("https://a.b/c", "v"), "https://a.b/c?challenge=v");
        assert_eq!(
            with_challenge("https://a.b/c?d=e", "v"),
            "https://a.b/c?d=e&challenge=v"
        );
    }
}
