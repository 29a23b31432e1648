//! Server-sent events, as the HTML standard has them.
//!
//! Owns the cutting of a body into events. Must not know what they say.

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

/// The longest event that is taken.
const LARGEST_EVENT: usize = 16 * 1024 * 1024;

/// One thing that happened.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Happening {
    /// What kind of thing.
    pub event: String,
    /// Where the stream goes on after it.
    pub id: Option<String>,
    /// What is said of it.
    pub data: String,
}

/// A stream of what happens.
#[derive(Debug)]
pub struct Stream {
    body: Incoming,
    parser: Parser,
}

impl Stream {
    pub(super) fn new(body: Incoming) -> Self {
        Self {
            body,
            parser: Parser::default(),
        }
    }

    /// The next thing that happens; none where the connection has ended.
    pub async fn next(&mut self) -> Option<Happening> {
        loop {
            if let Some(happening) = self.parser.next() {
                return Some(happening);
            }
            let data = self.body.frame().await?.ok()?.into_data();
            if !self.parser.feed(&data.unwrap_or_else(|_| Bytes::new())) {
                return None;
            }
        }
    }
}

#[derive(Debug, Default)]
struct Parser {
    /// What came and was not cut yet.
    rest: Vec<u8>,
    current: Happening,
    has_data: bool,
}

impl Parser {
    /// Takes bytes; false where an event is too long to be one.
    fn feed(&mut self, bytes: &[u8]) -> bool {
        self.rest.extend_from_slice(bytes);
        self.rest.len() + self.current.data.len() <= LARGEST_EVENT
    }

    fn next(&mut self) -> Option<Happening> {
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end_matches(['\n', '\r']);
            if !line.is_empty() {
                self.field(line);
                continue;
            }
            let happening = std::mem::take(&mut self.current);
            if std::mem::take(&mut self.has_data) {
                return Some(happening);
            }
        }
        None
    }

    fn field(&mut self, line: &str) {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "event" => value.clone_into(&mut self.current.event),
            "id" => self.current.id = Some(value.to_owned()),
            "data" => {
                if self.has_data {
                    self.current.data.push('\n');
                }
                self.has_data = true;
                self.current.data.push_str(value);
            }
            // Comments have no name; other fields are not ours.
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_cut_the_same_however_the_bytes_arrive() {
        let text = ": listening\n\nevent: event\nid: 7\ndata: {\"a\":\ndata: 1}\n\r\nid: 8\n\nevent:x\ndata\n\ndata: half";
        let happening = |event: &str, id: Option<&str>, data: &str| Happening {
            event: event.to_owned(),
            id: id.map(str::to_owned),
            data: data.to_owned(),
        };
        let expected = [
            happening("event", Some("7"), "{\"a\":\n1}"),
            happening("x", None, ""),
        ];
        for size in 1..text.len() {
            let mut parser = Parser::default();
            let mut found = Vec::new();
            for chunk in text.as_bytes().chunks(size) {
                assert!(parser.feed(chunk));
                found.extend(std::iter::from_fn(|| parser.next()));
            }
            assert_eq!(found, expected, "{size}");
        }
    }
}
