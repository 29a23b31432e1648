//! What the crate sees of an HTTP request: borrowed bytes, looked up by name.
//!
//! Owns the [`Request`] view, the [`Headers`] lookup and reading one header or query parameter without
//! ambiguity. Must not know any scheme, and must not copy or decode a body.

use std::borrow::Cow;

use crate::refusal::{Flaw, Refusal};

/// The longest credential or signature header that is looked at, in bytes.
///
/// Thirty-two Ed25519 candidates of Standard Webhooks fit; anything longer is refused before any hashing, so
/// that a header cannot be used to make verification expensive.
pub const MAX_HEADER_BYTES: usize = 4096;

/// One request as it came: every verifier works on the raw bytes, before any decoding.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// The method, in upper case as HTTP has it.
    pub method: &'a str,
    /// The public URL as the provider was given it, with its query.
    ///
    /// Schemes that sign the URL need it exactly so; build it from a configured base, never from `Host`.
    /// Handshakes read only its query, for which `/in/source?challenge=…` is enough.
    pub url: Option<&'a str>,
    /// All headers, duplicates included.
    pub headers: &'a dyn Headers,
    /// The body as sent: not decompressed, not parsed, not re-encoded.
    pub body: &'a [u8],
}

/// A lookup of header values by name, with duplicates visible.
///
/// Implemented for slices, arrays and vectors of name and value, and (feature `http`) for `http::HeaderMap`.
pub trait Headers {
    /// Calls `visit` with every value of the header `name`, in the order they came. Names are compared
    /// without regard to ASCII case.
    fn visit<'h>(&'h self, name: &str, visit: &mut dyn FnMut(&'h [u8]));
}

impl<N: AsRef<str>, V: AsRef<[u8]>> Headers for &[(N, V)] {
    fn visit<'h>(&'h self, name: &str, visit: &mut dyn FnMut(&'h [u8])) {
        for (_, value) in self
            .iter()
            .filter(|(each, _)| each.as_ref().eq_ignore_ascii_case(name))
        {
            visit(value.as_ref());
        }
    }
}

impl<N: AsRef<str>, V: AsRef<[u8]>, const LENGTH: usize> Headers for [(N, V); LENGTH] {
    fn visit<'h>(&'h self, name: &str, visit: &mut dyn FnMut(&'h [u8])) {
        for (_, value) in self
            .iter()
            .filter(|(each, _)| each.as_ref().eq_ignore_ascii_case(name))
        {
            visit(value.as_ref());
        }
    }
}

impl<N: AsRef<str>, V: AsRef<[u8]>> Headers for Vec<(N, V)> {
    fn visit<'h>(&'h self, name: &str, visit: &mut dyn FnMut(&'h [u8])) {
        for (_, value) in self
            .iter()
            .filter(|(each, _)| each.as_ref().eq_ignore_ascii_case(name))
        {
            visit(value.as_ref());
        }
    }
}

#[cfg(feature = "http")]
impl Headers for http::HeaderMap {
    fn visit<'h>(&'h self, name: &str, visit: &mut dyn FnMut(&'h [u8])) {
        for value in self.get_all(name) {
            visit(value.as_bytes());
        }
    }
}

/// The one value of a header, or none. Equal duplicates count as one; different ones are refused, because a
/// proxy and the application might each believe another of them.
#[expect(
    clippy::ptr_arg,
    reason = "a refusal keeps the name, without copying one from the table"
)]
pub(crate) fn optional_header<'a>(
    headers: &'a dyn Headers,
    name: &Cow<'static, str>,
) -> Result<Option<&'a str>, Refusal> {
    let mut found: Option<&'a [u8]> = None;
    let mut conflict = false;
    headers.visit(name, &mut |value| match found {
        Some(first) => conflict |= first != value,
        None => found = Some(value),
    });
    if conflict {
        return Err(Refusal::HeaderConflict { header: name.clone() });
    }
    let Some(value) = found else { return Ok(None) };
    if value.len() > MAX_HEADER_BYTES {
        let (length, limit) = (value.len(), MAX_HEADER_BYTES);
        return Err(Refusal::HeaderTooLong {
            header: name.clone(),
            length,
            limit,
        });
    }
    match std::str::from_utf8(value) {
        Ok(text) if text.is_ascii() => Ok(Some(text.trim_ascii())),
        Ok(_) | Err(_) => Err(Refusal::Malformed {
            header: name.clone(),
            flaw: Flaw::NotText,
        }),
    }
}

/// As [`optional_header`], refusing its absence.
#[expect(
    clippy::ptr_arg,
    reason = "a refusal keeps the name, without copying one from the table"
)]
pub(crate) fn required_header<'a>(
    headers: &'a dyn Headers,
    name: &Cow<'static, str>,
) -> Result<&'a str, Refusal> {
    optional_header(headers, name)?.ok_or_else(|| Refusal::HeaderMissing { header: name.clone() })
}

/// What a query string says about one parameter.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum QueryValue {
    Absent,
    /// The parameter came twice with different values.
    Conflict,
    /// The decoded value: form encoding, so `+` is a space, as every web framework reads it.
    Found(Vec<u8>),
}

/// Reads one parameter from the query of a URL or of a bare path with a query.
pub(crate) fn query_value(url: &str, name: &str) -> QueryValue {
    let query = url.split_once('?').map_or("", |(_, query)| query);
    let query = query.split_once('#').map_or(query, |(query, _)| query);
    let mut found: Option<Vec<u8>> = None;
    for pair in query.split('&') {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if form_decode(key) != name.as_bytes() {
            continue;
        }
        let value = form_decode(value);
        match &found {
            Some(first) if *first != value => return QueryValue::Conflict,
            Some(_) => {}
            None => found = Some(value),
        }
    }
    found.map_or(QueryValue::Absent, QueryValue::Found)
}

/// Decodes `%XX` and `+`; an escape that is not two hex digits stays as it is.
fn form_decode(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escape = bytes
            .get(at + 1)
            .and_then(hex_digit)
            .zip(bytes.get(at + 2).and_then(hex_digit));
        match (bytes[at], escape) {
            (b'%', Some((high, low))) => {
                decoded.push(high << 4 | low);
                at += 3;
                continue;
            }
            (b'+', _) => decoded.push(b' '),
            (byte, _) => decoded.push(byte),
        }
        at += 1;
    }
    decoded
}

fn hex_digit(byte: &u8) -> Option<u8> {
    char::from(*byte)
        .to_digit(16)
        .and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(value: &[u8]) -> QueryValue {
        QueryValue::Found(value.to_vec())
    }

    #[test]
    fn a_query_parameter_is_found_and_decoded() {
        assert_eq!(
            query_value("/in/a?x=1&challenge=a%2Bb%20c+d#f", "challenge"),
            found(b"a+b c d")
        );
        assert_eq!(query_value("/in/a?challenge=%zz%4", "challenge"), found(b"%zz%4"));
        assert_eq!(query_value("/in/a?challenge=%ff", "challenge"), found(b"\xff"));
        assert_eq!(query_value("/in/a?challenge", "challenge"), found(b""));
        assert_eq!(query_value("/in/challenge=1", "challenge"), QueryValue::Absent);
        assert_eq!(query_value("/in/a?Challenge=1", "challenge"), QueryValue::Absent);
    }

    #[test]
    fn a_query_parameter_given_twice_with_different_values_is_a_conflict() {
        assert_eq!(query_value("?c=1&c=1", "c"), found(b"1"));
        assert_eq!(query_value("?c=1&c=2", "c"), QueryValue::Conflict);
    }

    #[test]
    fn equal_duplicates_of_a_header_count_as_one_and_different_ones_are_refused() {
        let name = Cow::Borrowed("x-a");
        let equal = [("X-A", "1"), ("x-a", "1")];
        assert_eq!(optional_header(&equal, &name), Ok(Some("1")));
        let different = vec![("X-A", "1"), ("x-a", "2")];
        assert_eq!(
            optional_header(&different, &name),
            Err(Refusal::HeaderConflict { header: name.clone() })
        );
    }

    #[cfg(feature = "http")]
    #[test]
    fn a_header_map_shows_its_duplicates() {
        let mut map = http::HeaderMap::new();
        map.append("x-a", http::HeaderValue::from_static("1"));
        map.append("x-a", http::HeaderValue::from_static("2"));
        let mut seen = Vec::new();
        map.visit("X-A", &mut |value| seen.push(value.to_vec()));
        assert_eq!(seen, [b"1", b"2"]);
    }
}
