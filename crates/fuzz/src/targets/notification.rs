//! What accepting reads of a notification: the JSON scan, what an event says of itself, compressed bodies, headers.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Write as _;
use std::net::IpAddr;

use bytes::Bytes;
use hookfast::ingest::extract::Extraction;
use hookfast::ingest::peer;
use hookfast::ingest::scan::{Path, Scan};
use hookfast_engine::event::HeaderBlock;
use hookfast_engine::id::{ApplicationId, SourceId};
use hookfast_engine::time::Timestamp;
use hookfast_engine::topology::{DedupeKey, Source};
use hookfast_signature::PROVIDERS;
use serde_json::Number;

use super::Parts;

/// The places that the scan is asked for.
const PATHS: [&[&str]; 6] = [
    &["id"],
    &["type"],
    &["data", "object", "id"],
    &["list", "0", "name"],
    &["list", "1"],
    &["a", "a", "a", "a"],
];

/// Any bytes: where they are JSON, the scan finds what a full parser finds.
pub(crate) fn scan(bytes: &[u8]) {
    let paths: Vec<Path> = PATHS
        .iter()
        .map(|path| path.iter().map(|name| (*name).into()).collect())
        .collect();
    let scan = Scan::of(bytes, &paths);
    let Ok(document) = serde_json::from_slice::<First>(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes))
    else {
        return;
    };
    // Of a bare number nobody knows whether more of it was to come.
    let has_end = matches!(document, First::Object(_) | First::List(_) | First::Text(_));
    assert!(scan.complete || !has_end, "a document was not read to its end");
    for (place, path) in PATHS.iter().enumerate() {
        let found = path.iter().try_fold(&document, |value, name| value.get(name));
        match (found, scan.value(place)) {
            (Some(First::Text(expected)), found) => assert_eq!(Some(expected.as_str()), found, "{path:?}"),
            (Some(First::Number(expected)), Some(found)) => {
                let found: f64 = found.parse().expect("a number is shown as it stands there");
                // The parser reads digits beyond a double's within one unit in the last place.
                let expected = expected.as_f64().expect("a number has a value");
                assert!(
                    (found - expected).abs() <= expected.abs() * 1e-15,
                    "{path:?}: {found} {expected}"
                );
            }
            (Some(First::Number(_)), None) => panic!("the number at {path:?} is not found"),
            (Some(First::List(_) | First::Object(_) | First::Other) | None, found) => {
                assert_eq!(found, None, "{path:?}");
            }
        }
    }
}

/// A JSON value in which the first of several equal names counts.
enum First {
    Text(String),
    Number(Number),
    List(Vec<Self>),
    Object(BTreeMap<String, Self>),
    Other,
}

impl First {
    fn get(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Object(members) => members.get(name),
            Self::List(items) => items.get(name.parse::<usize>().ok()?),
            Self::Text(_) | Self::Number(_) | Self::Other => None,
        }
    }
}

impl<'de> serde::Deserialize<'de> for First {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FirstVisitor)
    }
}

struct FirstVisitor;

impl<'de> serde::de::Visitor<'de> for FirstVisitor {
    type Value = First;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<First, E> {
        Ok(First::Other)
    }

    fn visit_bool<E>(self, _: bool) -> Result<First, E> {
        Ok(First::Other)
    }

    fn visit_u64<E>(self, number: u64) -> Result<First, E> {
        Ok(First::Number(number.into()))
    }

    fn visit_i64<E>(self, number: i64) -> Result<First, E> {
        Ok(First::Number(number.into()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<First, E> {
        Ok(Number::from_f64(number).map_or(First::Other, First::Number))
    }

    fn visit_str<E>(self, text: &str) -> Result<First, E> {
        Ok(First::Text(text.to_owned()))
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut items: A) -> Result<First, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(First::List(list))
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut members: A) -> Result<First, A::Error> {
        let mut object = BTreeMap::new();
        while let Some((name, value)) = members.next_entry()? {
            object.entry(name).or_insert(value);
        }
        Ok(First::Object(object))
    }
}

/// `HEADERS BODY`: every provider's events say of themselves what can be kept.
pub(crate) fn extract(bytes: &[u8]) {
    let mut parts = Parts(bytes);
    let (headers, body) = (block(&parts.headers()), parts.rest());
    for (extraction, _) in extractions() {
        let extracted = extraction.read(&headers, body);
        for text in [&extracted.provider_id, &extracted.event_type]
            .into_iter()
            .flatten()
        {
            assert!(!text.is_empty() && text.len() <= 512, "{text:?}");
        }
    }
}

/// Any bytes: said to be gzip they are read as far as they go; and compressed by us they say what they say plain.
pub(crate) fn gzip(bytes: &[u8]) {
    let compressed = block(&[("content-encoding".to_owned(), b"gzip".to_vec())]);
    let plain = HeaderBlock::default();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("memory takes it");
    let wrapped = encoder.finish().expect("memory takes it");
    for (extraction, hashes) in extractions() {
        drop(extraction.read(&compressed, bytes));
        if !hashes {
            let (inside, outside) = (
                extraction.read(&compressed, &wrapped),
                extraction.read(&plain, bytes),
            );
            assert_eq!(inside, outside);
        }
    }
}

/// The extraction of each provider and of a generic source, and whether its dedupe key is the body itself.
fn extractions() -> impl Iterator<Item = (Extraction, bool)> {
    let source = |provider: &str, dedupe_key: DedupeKey| {
        let (id, application) = (SourceId::from_u128(1), ApplicationId::from_u128(2));
        Source {
            dedupe_key,
            ..Source::new(id, application, "fuzz", provider, Timestamp::EPOCH)
        }
    };
    let of_providers = PROVIDERS.iter().map(move |provider| {
        let extraction = Extraction::new(&source(provider.slug, DedupeKey::Provider), Some(provider));
        (extraction, false)
    });
    let path = DedupeKey::JsonPath("a.0.b".to_owned());
    let generic = [(path, false), (DedupeKey::BodyHash, true)];
    let generic = generic.map(|(key, hashes)| (Extraction::new(&source("generic", key), None), hashes));
    of_providers.chain(generic)
}

fn block(headers: &[(String, Vec<u8>)]) -> HeaderBlock {
    HeaderBlock::pack(headers.iter().map(|(name, value)| (name.as_bytes(), &value[..])))
}

/// `HEADERS`: a peer that is no trusted proxy is believed nothing, and behind one the result is an address it named or
/// the proxy's own.
pub(crate) fn forwarded_for(bytes: &[u8]) {
    let mut map = http::HeaderMap::new();
    for (name, value) in Parts(bytes).headers() {
        if let (Ok(name), Ok(value)) = (
            http::HeaderName::from_bytes(name.as_bytes()),
            http::HeaderValue::from_bytes(&value),
        ) {
            map.append(name, value);
        }
    }
    let proxy = IpAddr::from([10, 0, 0, 1]);
    assert_eq!(peer::address(proxy, &map, &[]), proxy);
    let trusted = ["10.0.0.0/8".parse().expect("a network")];
    let outside = IpAddr::from([192, 0, 2, 1]);
    assert_eq!(peer::address(outside, &map, &trusted), outside);
    let seen = peer::address(proxy, &map, &trusted);
    assert_eq!(seen, seen.to_canonical());
}

/// Any bytes: a block of headers from the disk is read as far as it goes, and packed anew it reads the same.
pub(crate) fn header_block(bytes: &[u8]) {
    let read = HeaderBlock::from_packed(Bytes::copy_from_slice(bytes));
    let headers: Vec<_> = read.iter().collect();
    let packed = HeaderBlock::pack(headers.iter().copied());
    assert_eq!(packed.iter().collect::<Vec<_>>(), headers);
    assert_eq!(
        read.get("content-type").is_some(),
        packed.get("content-type").is_some()
    );
}
