//! Owns senders whose every post is timed, and what can be said of times: quantiles, arrivals, delays.
//! It must not know what is a good time.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::app::Received;
use super::http::{Answer, Connection};
use super::nylas;
use super::time::now;

/// A sender with one connection, kept as long as the other end keeps it.
#[derive(Debug)]
pub(crate) struct Poster {
    to: SocketAddr,
    path: String,
    secret: String,
    peer: Option<String>,
    connection: Option<Connection>,
}

/// A post and what came of it.
#[derive(Clone, Debug)]
pub(crate) struct Posted {
    /// The notification's id.
    pub(crate) id: String,
    /// Just before it was sent.
    pub(crate) sent: Instant,
    /// When its answer was there, or when there was none to come.
    pub(crate) answered: Instant,
    /// The answer, where there was one.
    pub(crate) answer: Option<Answer>,
}

impl Posted {
    /// The status of the answer; 0 where there was none.
    pub(crate) fn status(&self) -> u16 {
        self.answer.as_ref().map_or(0, |answer| answer.status)
    }

    /// Whether it was acknowledged.
    pub(crate) fn is_taken(&self) -> bool {
        self.status() == 200
    }

    /// From before it was sent to its answer.
    pub(crate) fn ack_time(&self) -> Duration {
        self.answered - self.sent
    }

    /// Fails unless the answer is 200, or 503 with a time to come back (SPEC I6).
    pub(crate) fn expect_taken_or_later(&self) {
        let Some(answer) = &self.answer else {
            panic!("no answer to {}", self.id);
        };
        let later = answer.status == 503 && answer.header("retry-after").is_some();
        assert!(
            answer.status == 200 || later,
            "{} was answered {} {:?}: {}",
            self.id,
            answer.status,
            answer.headers,
            answer.text()
        );
    }

    /// Fails unless the answer is 200.
    pub(crate) fn expect_taken(&self) {
        let text = self.answer.as_ref().map(Answer::text);
        assert!(
            self.is_taken(),
            "{} was answered {} {text:?}",
            self.id,
            self.status()
        );
    }
}

impl Poster {
    /// A sender for the source of that name, with the secret of the tests.
    pub(crate) fn new(to: SocketAddr, source: &str) -> Self {
        Self {
            to,
            path: format!("/in/{source}"),
            secret: nylas::SECRET.to_owned(),
            peer: None,
            connection: None,
        }
    }

    /// The same, with another secret: a forger.
    pub(crate) fn secret(mut self, secret: &str) -> Self {
        secret.clone_into(&mut self.secret);
        self
    }

    /// From now on says that it forwards for that address.
    pub(crate) fn forwarded_for(&mut self, peer: impl Into<String>) {
        self.peer = Some(peer.into());
    }

    /// Posts a notification with that id and so many bytes of text in it.
    pub(crate) fn post(&mut self, id: &str, text_bytes: usize) -> Posted {
        let body = nylas::notification_of("message.created", id, text_bytes);
        self.post_body(id, &body)
    }

    /// Posts that body, signed.
    pub(crate) fn post_body(&mut self, id: &str, body: &[u8]) -> Posted {
        let signature = nylas::sign(&self.secret, body);
        let mut headers = vec![
            ("content-type", "application/json"),
            (nylas::SIGNATURE_HEADER, signature.as_str()),
        ];
        if let Some(peer) = &self.peer {
            headers.push(("x-forwarded-for", peer));
        }
        let sent = now();
        let connection = self.connection.take().or_else(|| Connection::open(self.to).ok());
        let answer = connection.and_then(|mut connection| {
            // What refuses a body does so before all of it is sent: the answer counts even where sending failed.
            let _ = connection.write_request("POST", &self.path, &headers, body);
            let answer = connection.read_answer("POST").ok()?;
            if answer.header("connection") != Some("close") {
                self.connection = Some(connection);
            }
            Some(answer)
        });
        Posted {
            id: id.to_owned(),
            sent,
            answered: now(),
            answer,
        }
    }
}

/// The value that so large a part of all is not above, from 0 to 1.
pub(crate) fn quantile(times: &[Duration], part: f64) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let index = (sorted.len() as f64 * part).ceil() as usize;
    sorted[index.clamp(1, sorted.len()) - 1]
}

/// The middle one.
pub(crate) fn median(times: &[Duration]) -> Duration {
    quantile(times, 0.5)
}

/// When each webhook id came first.
pub(crate) fn first_arrivals(received: &[Received]) -> BTreeMap<&str, Instant> {
    let mut arrivals = BTreeMap::new();
    for request in received {
        arrivals.entry(request.webhook_id()).or_insert(request.at);
    }
    arrivals
}

/// From before each was sent to its first arrival. All must have arrived.
pub(crate) fn delays(posted: &[Posted], received: &[Received]) -> Vec<Duration> {
    let arrivals = first_arrivals(received);
    let delay = |posted: &Posted| arrivals[posted.id.as_str()] - posted.sent;
    posted.iter().map(delay).collect()
}
