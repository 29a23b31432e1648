//! What an event says of itself: id, type, time and dedupe key (SPEC I3, I20).
//!
//! Owns the step from a provider's row and a source's rule to the places that are looked at, once per source,
//! and reading them, once per request. Must not judge signatures. The body is read as far as needed and never
//! trusted to be JSON.

use std::borrow::Cow;
use std::io::Read as _;
use std::time::Duration;

use hookfast_engine::event::HeaderBlock;
use hookfast_engine::time::Timestamp;
use hookfast_engine::topology::{DedupeKey, Source};
use hookfast_signature::{Extract, Provider, TimeUnit};

use super::scan::{MAX_PATH_NAMES, MAX_PATHS, Path, Scan};

/// The longest id or type that is kept. A longer id still counts as a dedupe key.
const MAX_TEXT_BYTES: usize = 512;
/// The most that is inflated of a compressed body.
const MAX_INFLATED_BYTES: u64 = 10 * 1024 * 1024;
/// How much is inflated at first: in most notifications what is looked for comes early.
const FIRST_INFLATED_BYTES: u64 = 16 * 1024;

/// What an event says of itself.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Extracted {
    /// The provider's id.
    pub provider_id: Option<String>,
    /// The event's type.
    pub event_type: Option<String>,
    /// When it happened.
    pub occurred_at: Option<Timestamp>,
    /// What makes two notifications the same event.
    pub key: Option<Key>,
}

/// A dedupe key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Key {
    /// This text.
    Text(String),
    /// The body itself.
    Body,
}

/// Where a source's events say what they are.
#[derive(Debug, Default)]
pub struct Extraction {
    paths: Vec<Path>,
    id: Vec<Place>,
    event_type: Vec<Place>,
    time: Vec<(Place, &'static [TimeUnit])>,
    key: KeyRule,
}

#[derive(Debug, Default)]
enum KeyRule {
    #[default]
    None,
    /// The provider's id.
    Id,
    Place(Place),
    Body,
}

#[derive(Debug)]
enum Place {
    Header(Cow<'static, str>),
    /// At the path of this index.
    Body(usize),
    /// All of these, joined by a colon.
    Joined(Vec<Place>),
}

/// Settings of a generic source's scheme that say where its events' id, type and time are.
pub const SETTINGS: [&str; 6] = [
    "id_header",
    "id_path",
    "type_header",
    "type_path",
    "time_header",
    "time_path",
];

impl Extraction {
    /// Where the events of `source` say what they are: its own settings first, then its provider's row.
    #[must_use]
    pub fn new(source: &Source, provider: Option<&Provider>) -> Self {
        let mut extraction = Self::default();
        extraction.id = extraction.own(source, "id");
        extraction.event_type = extraction.own(source, "type");
        let own_times = extraction.own(source, "time");
        const ANY: &[TimeUnit] = &[TimeUnit::Seconds, TimeUnit::Rfc3339];
        extraction.time = own_times.into_iter().map(|place| (place, ANY)).collect();
        if let Some(provider) = provider {
            let ids = provider.id.iter();
            let ids: Vec<_> = ids.map(|each| extraction.place(each)).collect();
            extraction.id.extend(ids);
            let types = provider.event_type.iter();
            let types: Vec<_> = types.map(|each| extraction.place(each)).collect();
            extraction.event_type.extend(types);
            for (each, unit) in provider.time {
                let place = extraction.place(each);
                extraction.time.push((place, std::slice::from_ref(unit)));
            }
        } else if extraction.event_type.is_empty() {
            let place = extraction.body(vec![Cow::Borrowed("type")]);
            extraction.event_type.push(place);
        }
        extraction.key = match &source.dedupe_key {
            DedupeKey::Provider => KeyRule::Id,
            DedupeKey::Header(name) => KeyRule::Place(Place::Header(Cow::Owned(name.clone()))),
            DedupeKey::JsonPath(path) => KeyRule::Place(extraction.body(parse_path(path))),
            DedupeKey::BodyHash => KeyRule::Body,
            DedupeKey::None => KeyRule::None,
        };
        extraction
    }

    fn own(&mut self, source: &Source, name: &str) -> Vec<Place> {
        let setting = |kind: &str| source.scheme.get(&format!("{name}_{kind}"));
        let header = setting("header").map(|header| Place::Header(Cow::Owned(header.clone())));
        let path = setting("path").map(|path| parse_path(path));
        let path = path.map(|path| self.body(path));
        header.into_iter().chain(path).collect()
    }

    fn place(&mut self, extract: &Extract) -> Place {
        match extract {
            Extract::Header(name) => Place::Header(Cow::Borrowed(name)),
            Extract::Body(names) => self.body(names.iter().map(|name| Cow::Borrowed(*name)).collect()),
            Extract::Joined(parts) => Place::Joined(parts.iter().map(|part| self.place(part)).collect()),
        }
    }

    fn body(&mut self, path: Path) -> Place {
        let known = self.paths.iter().position(|each| *each == path);
        Place::Body(known.unwrap_or_else(|| {
            self.paths.push(path);
            self.paths.len() - 1
        }))
    }

    /// Reads what the event says of itself.
    #[must_use]
    pub fn read(&self, headers: &HeaderBlock, body: &[u8]) -> Extracted {
        let inflated = match headers.get("content-encoding") {
            Some(encoding) if self.looks_into_bodies() && is_gzip(encoding) => self.inflate(body),
            Some(_) | None => None,
        };
        let json = inflated.as_deref().unwrap_or(body);
        let scan = if self.looks_into_bodies() {
            Scan::of(json, &self.paths)
        } else {
            Scan::empty()
        };
        let first = |places: &[Place]| places.iter().find_map(|place| place.read(headers, &scan));
        let id = first(&self.id);
        let key = match &self.key {
            KeyRule::None => None,
            KeyRule::Body => Some(Key::Body),
            KeyRule::Id => id.clone().map(Key::Text),
            KeyRule::Place(place) => place.read(headers, &scan).map(Key::Text),
        };
        let times = self.time.iter();
        let occurred_at = times.filter_map(|(place, units)| {
            let text = place.read(headers, &scan)?;
            let time = units.iter().find_map(|unit| unit.parse(&text))?;
            timestamp(time)
        });
        let provider_id = id.or_else(|| match &key {
            Some(Key::Text(text)) => Some(text.clone()),
            Some(Key::Body) | None => None,
        });
        Extracted {
            provider_id: provider_id.filter(|text| is_presentable(text)),
            event_type: first(&self.event_type).filter(|text| is_presentable(text)),
            occurred_at: { occurred_at }.next(),
            key,
        }
    }

    /// Whether one scan finds everything: what does not fit would never be found.
    #[cfg(test)]
    pub(super) fn fits(&self) -> bool {
        self.paths.len() <= MAX_PATHS
    }

    fn looks_into_bodies(&self) -> bool {
        !self.paths.is_empty()
    }

    /// As much of a compressed body as holds what is looked for, within the bound; nothing where it is not gzip.
    fn inflate(&self, body: &[u8]) -> Option<Vec<u8>> {
        let mut decoder = flate2::read::MultiGzDecoder::new(body);
        let mut inflated = Vec::new();
        let mut limit = FIRST_INFLATED_BYTES;
        loop {
            let missing = limit.saturating_sub(inflated.len() as u64);
            // What was inflated before a fault still counts.
            let ended = decoder.by_ref().take(missing).read_to_end(&mut inflated);
            let more = ended.is_ok() && inflated.len() as u64 == limit && limit < MAX_INFLATED_BYTES;
            if !more || Scan::of(&inflated, &self.paths).complete {
                break;
            }
            limit = limit.saturating_mul(8).min(MAX_INFLATED_BYTES);
        }
        (!inflated.is_empty()).then_some(inflated)
    }
}

impl Place {
    fn read(&self, headers: &HeaderBlock, scan: &Scan<'_>) -> Option<String> {
        match self {
            Self::Header(name) => {
                let value = std::str::from_utf8(headers.get(name)?).ok()?.trim_ascii();
                (!value.is_empty()).then(|| value.to_owned())
            }
            Self::Body(path) => scan
                .value(*path)
                .filter(|text| !text.is_empty())
                .map(str::to_owned),
            Self::Joined(parts) => {
                let parts: Option<Vec<String>> = parts.iter().map(|part| part.read(headers, scan)).collect();
                parts.map(|parts| parts.join(":"))
            }
        }
    }
}

/// Says what is wrong with a path such as `data.id`.
///
/// # Errors
/// Where it is empty, has an empty name, or is too deep.
pub fn check_path(path: &str) -> Result<(), String> {
    let path_names = parse_path(path);
    if path_names.iter().any(|name| name.is_empty()) {
        return Err(format!(
            "`{path}` is not a path: write names joined by dots, such as data.id"
        ));
    }
    if path_names.len() > MAX_PATH_NAMES {
        return Err(format!(
            "`{path}` is too deep: at most {MAX_PATH_NAMES} names are followed"
        ));
    }
    Ok(())
}

fn parse_path(path: &str) -> Path {
    let path = path.strip_prefix("$.").unwrap_or(path);
    path.split('.').map(|name| Cow::Owned(name.to_owned())).collect()
}

/// Whether a text may be kept and shown, and sent on in a header.
fn is_presentable(text: &str) -> bool {
    text.len() <= MAX_TEXT_BYTES && !text.chars().any(char::is_control)
}

fn is_gzip(encoding: &[u8]) -> bool {
    let encoding = encoding.trim_ascii();
    encoding.eq_ignore_ascii_case(b"gzip") || encoding.eq_ignore_ascii_case(b"x-gzip")
}

fn timestamp(since_epoch: Duration) -> Option<Timestamp> {
    let micros = i64::try_from(since_epoch.as_micros()).ok()?;
    Some(Timestamp::from_micros(micros))
}

const _: () = assert!(MAX_PATHS <= 32, "a set of paths is kept in 32 bits");
