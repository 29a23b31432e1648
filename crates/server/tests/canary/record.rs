//! Everything that the binary said, piece by piece, and the search in it.
//! It must not know what was asked, nor decide what may be shown: that is one table here, with its reasons.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::process::Output;

use super::canaries::{Canary, Kind};
use crate::support::http::{self, Answer, Headers};

/// Which good answers show which content, because somebody with a key asked for exactly that. Nothing else may, and none
/// of them shows a secret.
const SHOWN_ON_PURPOSE: [(&str, &[&str]); 28] = [
    // The provider wants it echoed.
    ("handshake", &["a challenge"]),
    // What came, and what was answered to what went out: that is what these are for.
    ("event_body", &["a forged body"]),
    ("show_event", &["a header", "a signature"]),
    (
        "show_quarantined",
        &["a forged body", "a header", "a signature", "a forged signature"],
    ),
    ("pull", &["a body", "a header", "a signature"]),
    ("show_delivery", &["an answer", "an answer's header"]),
    ("test_destination", &["an answer"]),
    (
        "event show",
        &["a body", "a header", "an answer", "an answer's header"],
    ),
    (
        "quarantine show",
        &["a forged body", "a header", "a forged signature"],
    ),
    ("delivery show", &["an answer", "an answer's header"]),
    // Who may see a destination sees where it is, and how it answered the challenge.
    ("create_destination", &["an answer"]),
    ("test_destination", &["an answer"]),
    ("list_destinations", &["a destination's URL", "an answer"]),
    ("show_destination", URL),
    ("update_destination", URL),
    ("pause_destination", URL),
    ("resume_destination", URL),
    ("reactivate_destination", URL),
    ("rotate_destination_secret", URL),
    ("destination list", &["a destination's URL", "an answer"]),
    ("list_webhooks", URL),
    ("show_webhook", URL),
    ("create_webhook", URL),
    ("update_webhook", URL),
    ("rotate_webhook_secret", URL),
    ("rotate_webhook_secret_as_python", URL),
    ("destination show", URL),
    ("config show", URL),
];
const URL: &[&str] = &["a destination's URL"];

/// Who said something.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Speaker {
    /// A log, a refusal, a metric, a document: what nobody asked content of.
    Everyday,
    /// The good answer of this operation or command.
    Operation(String),
}

/// Something that was said.
struct Piece {
    place: String,
    speaker: Speaker,
    lower_case: Vec<u8>,
}

/// Everything that was said, and what was planted.
#[derive(Default)]
pub(crate) struct Record {
    pieces: Vec<Piece>,
    canaries: Vec<Canary>,
    /// The operations that were asked for.
    pub(crate) operations: BTreeSet<String>,
    /// The causes that the public listener named.
    pub(crate) causes: BTreeSet<String>,
}

impl Record {
    /// From now on this text must not show.
    pub(crate) fn plant(&mut self, what: &'static str, kind: Kind, text: &str) {
        self.canaries.push(Canary::new(what, kind, text));
    }

    /// Asks for an operation and remembers all of the answer.
    pub(crate) fn ask(
        &mut self,
        operation: &str,
        to: SocketAddr,
        (method, path): (&str, &str),
        headers: Headers<'_>,
        body: &[u8],
    ) -> Answer {
        let answer = http::request(to, method, path, headers, body);
        self.hear_answer(operation, &format!("{method} {path}"), &answer, &[]);
        answer
    }

    /// Remembers an answer, but for texts that it shows this once.
    pub(crate) fn hear_answer(&mut self, operation: &str, request: &str, answer: &Answer, once: &[&str]) {
        let head: String = answer
            .headers
            .iter()
            .map(|(name, value)| format!("{name}: {value}\n"))
            .collect();
        let mut said = [head.as_bytes(), &answer.body].concat();
        for text in once {
            said = without_first(&said, text.as_bytes());
        }
        let speaker = if answer.status < 400 {
            self.operations.insert(operation.to_owned());
            Speaker::Operation(operation.to_owned())
        } else {
            Speaker::Everyday
        };
        self.hear(
            format!("the {} to {request} ({operation})", answer.status),
            speaker,
            &said,
        );
    }

    /// Remembers what a command printed, but for texts that it shows this once.
    pub(crate) fn hear_command(&mut self, command: &str, output: &Output, once: &[&str]) {
        let mut printed = output.stdout.clone();
        for text in once {
            printed = without_first(&printed, text.as_bytes());
        }
        let operation = Speaker::Operation(command.to_owned());
        self.hear(format!("the output of `{command}`"), operation, &printed);
        self.hear_everyday(&format!("the errors of `{command}`"), &output.stderr);
    }

    /// Remembers a log, a refusal, a metric or a document.
    pub(crate) fn hear_everyday(&mut self, place: &str, said: &[u8]) {
        self.hear(place.to_owned(), Speaker::Everyday, said);
    }

    fn hear(&mut self, place: String, speaker: Speaker, said: &[u8]) {
        self.pieces.push(Piece {
            place,
            speaker,
            lower_case: said.to_ascii_lowercase(),
        });
    }

    /// Which canary shows where it must not: a line for each canary and speaker, with the first place.
    pub(crate) fn findings(&self) -> Vec<String> {
        let mut findings: BTreeMap<(&Speaker, &str), String> = BTreeMap::new();
        for piece in &self.pieces {
            for canary in &self.canaries {
                if !piece.may_show(canary)
                    && let Some(form) = canary.shown_in(&piece.lower_case)
                {
                    let finding = || format!("{} shows {} {form}", piece.place, canary.what);
                    findings
                        .entry((&piece.speaker, canary.what))
                        .or_insert_with(finding);
                }
            }
        }
        findings.into_values().collect()
    }

    /// Which entries of the table of exceptions were of no use: each is a hole that nobody needs.
    pub(crate) fn idle_exceptions(&self) -> Vec<String> {
        let used = |operation: &str, what: &str| {
            self.pieces.iter().any(|piece| {
                piece.speaker == Speaker::Operation(operation.to_owned())
                    && self
                        .canaries
                        .iter()
                        .any(|canary| canary.what == what && canary.shown_in(&piece.lower_case).is_some())
            })
        };
        let all = SHOWN_ON_PURPOSE
            .iter()
            .flat_map(|(operation, whats)| whats.iter().map(move |what| (*operation, *what)));
        all.filter(|(operation, what)| !used(operation, what))
            .map(|(operation, what)| format!("{operation} does not show {what}"))
            .collect()
    }

    /// How many pieces there are, and how many canaries.
    pub(crate) fn size(&self) -> (usize, usize) {
        (self.pieces.len(), self.canaries.len())
    }
}

impl Piece {
    fn may_show(&self, canary: &Canary) -> bool {
        let Speaker::Operation(operation) = &self.speaker else {
            return false;
        };
        canary.kind == Kind::Content
            && SHOWN_ON_PURPOSE
                .iter()
                .any(|(each, whats)| each == operation && whats.contains(&canary.what))
    }
}

/// `bytes` without the first `text` in them, which must be there.
fn without_first(bytes: &[u8], text: &[u8]) -> Vec<u8> {
    let at = http::find(bytes, text).expect("what is shown once is shown");
    [&bytes[..at], &bytes[at + text.len()..]].concat()
}
