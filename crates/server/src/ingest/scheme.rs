//! From a source's settings to the signature scheme they mean (SPEC I20).
//!
//! Owns the names of the settings and what is wrong with them, in words. Must not hold secrets longer than it
//! takes to check them.

use std::borrow::Cow;
use std::str::FromStr;

use hookfast_engine::topology::{DedupeKey, Source, Verify};
use hookfast_signature::{GenericHmac, Provider, Scheme, Secret, StandardWebhooks, TimeUnit, Token};

use super::extract;

/// The slug of the provider that is all configuration.
pub const GENERIC: &str = "generic";

/// Settings of a generic source's scheme.
const SETTINGS: [&str; 10] = [
    "type",
    "header",
    "prefix",
    "hash",
    "encoding",
    "key",
    "content",
    "timestamp_header",
    "timestamp_unit",
    "parameter",
];
const TYPES: &str = "hmac, token, bearer, basic, query, standard-webhooks";

/// The row of a source's provider; `None` for generic ones.
#[must_use]
pub fn provider_of(source: &Source) -> Option<&'static Provider> {
    hookfast_signature::provider(&source.provider)
}

/// The scheme that `source` verifies by.
///
/// # Errors
/// What is wrong with the settings, each naming its key.
pub fn scheme_of(source: &Source) -> Result<Cow<'static, Scheme>, Vec<String>> {
    match provider_of(source) {
        Some(provider) => {
            let variant = source.scheme.get("variant").map(String::as_str);
            let scheme = provider.scheme(variant).map(Cow::Borrowed);
            scheme.ok_or_else(|| {
                let known: Vec<_> = provider.variants.iter().map(|(name, _)| *name).collect();
                vec![format!(
                    "scheme.variant: {} has no variant `{}`; it has: {}",
                    provider.slug,
                    variant.unwrap_or_default(),
                    if known.is_empty() {
                        "none, so leave it out".to_owned()
                    } else {
                        known.join(", ")
                    },
                )]
            })
        }
        None if source.provider == GENERIC => generic(source).map(Cow::Owned),
        None => Err(vec![format!(
            "provider: `{}` is not known; `hookfast source providers` lists them, and `generic` takes any scheme",
            source.provider
        )]),
    }
}

/// Says everything that is wrong with a source and its secrets, before it is made.
///
/// # Errors
/// One text for each fault, naming its key.
pub fn check_source(source: &Source, secrets: &[Vec<u8>]) -> Result<(), Vec<String>> {
    let mut faults = unknown_settings(source);
    let paths = source
        .scheme
        .iter()
        .filter(|(key, _)| extract::SETTINGS.contains(&key.as_str()) && key.ends_with("_path"));
    for (key, path) in paths {
        faults.extend(
            extract::check_path(path)
                .err()
                .map(|fault| format!("scheme.{key}: {fault}")),
        );
    }
    match &source.dedupe_key {
        DedupeKey::JsonPath(path) => {
            faults.extend(
                extract::check_path(path)
                    .err()
                    .map(|fault| format!("dedupe_key: {fault}")),
            );
        }
        DedupeKey::Header(name) if http::HeaderName::from_str(name).is_err() => {
            faults.push(format!("dedupe_key: `{name}` is not a header name"));
        }
        DedupeKey::Header(_) | DedupeKey::Provider | DedupeKey::BodyHash | DedupeKey::None => {}
    }
    match (source.verify, scheme_of(source)) {
        (Verify::Signature, Ok(scheme)) => {
            for (index, secret) in secrets.iter().enumerate() {
                let fault = usable_secret(&scheme, secret).err();
                faults.extend(fault.map(|fault| format!("secrets[{index}]: {fault}")));
            }
            if scheme.covers_url() && source.public_url.is_none() {
                tracing::debug!(
                    source.name = source.name,
                    "the scheme signs the URL; the server's public_url is used"
                );
            }
        }
        (Verify::None, Ok(_)) => {}
        (Verify::None, Err(_)) if source.provider == GENERIC => {}
        (Verify::Signature | Verify::None, Err(more)) => faults.extend(more),
    }
    if faults.is_empty() { Ok(()) } else { Err(faults) }
}

/// The secret in the form that the scheme takes.
pub(super) fn usable_secret(scheme: &Scheme, secret: &[u8]) -> Result<Secret, String> {
    let text = std::str::from_utf8(secret).map_err(|_| "the secret is not text".to_owned())?;
    let secret = Secret::new(text);
    match scheme.check_secret(&secret) {
        Ok(()) => Ok(secret),
        Err(error) => Err(error.to_string()),
    }
}

fn unknown_settings(source: &Source) -> Vec<String> {
    let generic = source.provider == GENERIC;
    let known = |key: &&String| {
        let key = key.as_str();
        extract::SETTINGS.contains(&key)
            || (generic && SETTINGS.contains(&key))
            || (!generic && key == "variant")
    };
    let unknown = source.scheme.keys().filter(|key| !known(key));
    unknown
        .map(|key| {
            let own: &[&str] = if generic { &SETTINGS } else { &["variant"] };
            let all = own.iter().chain(&extract::SETTINGS);
            let nearest = all.min_by_key(|each| strsim::levenshtein(each, key));
            let nearest = nearest.copied().unwrap_or_default();
            format!("scheme.{key}: no such setting; did you mean `{nearest}`?")
        })
        .collect()
}

fn generic(source: &Source) -> Result<Scheme, Vec<String>> {
    let get = |key: &str| source.scheme.get(key).map(String::as_str);
    let needed = |key: &str| {
        get(key)
            .map(str::to_owned)
            .ok_or_else(|| vec![format!("scheme.{key}: not set, and this scheme needs it")])
    };
    match get("type").unwrap_or("hmac") {
        "hmac" => generic_hmac(source, needed("header")?),
        "token" => {
            let name = needed("header")?;
            if http::HeaderName::from_str(&name).is_err() {
                return Err(vec![format!("scheme.header: `{name}` is not a header name")]);
            }
            Ok(Scheme::Token(Token::Header {
                name: Cow::Owned(name),
            }))
        }
        "bearer" => Ok(Scheme::Token(Token::Bearer)),
        "basic" => Ok(Scheme::Token(Token::Basic)),
        "query" => Ok(Scheme::Token(Token::Query {
            parameter: Cow::Owned(needed("parameter")?),
        })),
        "standard-webhooks" => Ok(Scheme::StandardWebhooks(StandardWebhooks::SPECIFICATION)),
        other => Err(vec![format!(
            "scheme.type: `{other}` is not known; it is one of: {TYPES}"
        )]),
    }
}

fn generic_hmac(source: &Source, header: String) -> Result<Scheme, Vec<String>> {
    let mut faults = Vec::new();
    let mut hmac = GenericHmac::new(header);
    for (key, value) in &source.scheme {
        let fault = match key.as_str() {
            "prefix" => set(&mut hmac.prefix, Ok::<_, String>(value.clone())),
            "hash" => set(&mut hmac.hash, value.parse()),
            "encoding" => set(&mut hmac.encoding, value.parse()),
            "key" => set(&mut hmac.key, value.parse()),
            "content" => set(&mut hmac.content, Ok::<_, String>(value.clone())),
            "timestamp_header" => set(&mut hmac.timestamp_header, Ok::<_, String>(Some(value.clone()))),
            "timestamp_unit" => set(&mut hmac.timestamp_unit, time_unit(value)),
            _ => None,
        };
        faults.extend(fault.map(|fault| format!("scheme.{key}: {fault}")));
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    hmac.scheme().map_err(|error| vec![format!("scheme: {error}")])
}

fn set<T, E: ToString>(place: &mut T, value: Result<T, E>) -> Option<String> {
    match value {
        Ok(value) => {
            *place = value;
            None
        }
        Err(error) => Some(error.to_string()),
    }
}

fn time_unit(text: &str) -> Result<TimeUnit, String> {
    match text {
        "seconds" => Ok(TimeUnit::Seconds),
        "milliseconds" => Ok(TimeUnit::Milliseconds),
        "rfc3339" => Ok(TimeUnit::Rfc3339),
        _ => Err(format!(
            "`{text}` is not known; it is one of: seconds, milliseconds, rfc3339"
        )),
    }
}

#[cfg(test)]
mod tests {
    use hookfast_engine::id::{ApplicationId, SourceId};
    use hookfast_engine::time::Timestamp;

    use super::*;

    fn source(provider: &str, settings: &[(&str, &str)]) -> Source {
        let settings = settings
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let (id, application) = (SourceId::from_u128(1), ApplicationId::from_u128(1));
        Source {
            scheme: settings.collect(),
            ..Source::new(id, application, "acme", provider, Timestamp::EPOCH)
        }
    }

    #[test]
    fn every_fault_of_a_source_is_named_with_its_key_at_once() {
        /// A provider, its settings, and how the faults begin.
        type Case = (
            &'static str,
            &'static [(&'static str, &'static str)],
            &'static [&'static str],
        );
        let table: [Case; 9] = [
            ("nylas", &[], &[]),
            ("github", &[("variant", "sha1")], &[]),
            (
                "github",
                &[("variant", "md5")],
                &["scheme.variant: github has no variant `md5`; it has: sha1"],
            ),
            ("nylass", &[], &["provider: `nylass` is not known"]),
            ("generic", &[], &["scheme.header: not set"]),
            ("generic", &[("type", "basic")], &[]),
            (
                "generic",
                &[("type", "hmca")],
                &["scheme.type: `hmca` is not known"],
            ),
            (
                "generic",
                &[
                    ("heder", "x"),
                    ("header", "x"),
                    ("hash", "md5"),
                    ("encoding", "base32"),
                    ("id_path", "a..b"),
                ],
                &[
                    "scheme.heder: no such setting; did you mean `header`?",
                    "scheme.id_path: `a..b` is not a path",
                    "scheme.encoding: ",
                    "scheme.hash: ",
                ],
            ),
            ("nylas", &[("header", "x")], &["scheme.header: no such setting"]),
        ];
        for (provider, settings, expected) in table {
            let faults = check_source(&source(provider, settings), &[])
                .err()
                .unwrap_or_default();
            assert_eq!(
                faults.len(),
                expected.len(),
                "{provider} {settings:?}: {faults:?}"
            );
            for (fault, start) in faults.iter().zip(expected) {
                assert!(fault.starts_with(start), "{fault}");
            }
        }
    }

    #[test]
    fn a_secret_or_key_that_cannot_be_used_is_named_and_not_shown() {
        let faults = check_source(
            &source("standard-webhooks", &[]),
            &[
                b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_vec(),
                b"hush, not base64".to_vec(),
                vec![0xff],
            ],
        )
        .unwrap_err();
        assert_eq!(faults.len(), 2, "{faults:?}");
        assert!(faults[0].starts_with("secrets[1]: ") && faults[1].starts_with("secrets[2]: "));
        assert!(!faults[0].contains("hush"));
        let mut keyed = source("nylas", &[]);
        keyed.dedupe_key = DedupeKey::Header("not a name".to_owned());
        assert!(check_source(&keyed, &[]).unwrap_err()[0].starts_with("dedupe_key: "));
        keyed.dedupe_key = DedupeKey::JsonPath(vec!["deep"; 17].join("."));
        assert!(check_source(&keyed, &[]).unwrap_err()[0].starts_with("dedupe_key: "));
    }

    #[test]
    fn every_provider_has_few_enough_places_to_look_at() {
        for provider in hookfast_signature::PROVIDERS {
            let mut source = source(
                provider.slug,
                &[("id_path", "x.1"), ("type_path", "x.2"), ("time_path", "x.3")],
            );
            source.dedupe_key = DedupeKey::JsonPath("x.4".to_owned());
            let extraction = extract::Extraction::new(&source, Some(provider));
            assert!(extraction.fits(), "{}", provider.slug);
        }
    }
}
