//! The effective configuration, for people to read, with secrets masked.
//!
//! Owns the text and its JSON. Must not show a secret that was written out: only where one comes from.

use std::fmt::Write as _;

use serde_json::{Map, Value as Json, json};

use hookfast_engine::retry::{Policy, Schedule};
use hookfast_engine::topology::{DedupeKey, DestinationKind, OnInvalid, Signing, Verify};

use super::layers::{Environment, Flags, Layers, Node, Table, Value};
use super::mistakes::{Mistakes, Place};
use super::{Config, DeclaredDestination, DeclaredSource, DeclaredTrigger};
use crate::units::{duration_text, size_text};

/// What stands in place of a secret.
pub const MASK: &str = "********";
/// The sections of settings, in the order of the defaults.
const SECTIONS: [&str; 8] = [
    "server",
    "tls",
    "ingest",
    "delivery",
    "retention",
    "quarantine",
    "outbox",
    "smtp",
];

/// The effective configuration as TOML, each setting with where it comes from unless it is a default.
///
/// # Errors
/// Every mistake that there is.
pub fn as_toml(flags: &Flags, environment: &Environment) -> Result<String, Mistakes> {
    let (config, tree) = effective(flags, environment)?;
    let mut text = String::new();
    for section in SECTIONS {
        let Some(Value::Table(table)) = tree.get(section).map(|node| &node.value) else {
            continue;
        };
        // Writing to a text does not fail.
        let _ = writeln!(text, "[{section}]");
        for (key, node) in table {
            let origin = match &node.place {
                Place::Default => String::new(),
                place @ (Place::File(..) | Place::Environment(_) | Place::Flag(_)) => format!("   # {place}"),
            };
            let _ = writeln!(text, "{key} = {}{origin}", in_toml(&setting(section, key, node)));
        }
        text.push('\n');
    }
    for (heading, items) in declared(&config) {
        for item in items {
            let _ = writeln!(text, "{}", heading_of(heading, &item));
            for (key, value) in item
                .iter()
                .filter(|(key, _)| heading != "policy" || *key != "name")
            {
                let _ = writeln!(text, "{key} = {}", in_toml(value));
            }
            text.push('\n');
        }
    }
    Ok(text.trim_end().to_owned())
}

/// The effective configuration as JSON.
///
/// # Errors
/// Every mistake that there is.
pub fn as_json(flags: &Flags, environment: &Environment) -> Result<Json, Mistakes> {
    let (config, tree) = effective(flags, environment)?;
    let mut whole = Map::new();
    for section in SECTIONS {
        let Some(Value::Table(table)) = tree.get(section).map(|node| &node.value) else {
            continue;
        };
        let settings = table
            .iter()
            .map(|(key, node)| (key.clone(), setting(section, key, node)));
        whole.insert(section.to_owned(), Json::Object(settings.collect()));
    }
    for (heading, items) in declared(&config) {
        let items = items.into_iter().map(Json::Object).collect();
        whole.insert(heading.to_owned(), Json::Array(items));
    }
    Ok(Json::Object(whole))
}

fn effective(flags: &Flags, environment: &Environment) -> Result<(Config, Table), Mistakes> {
    let config = Config::read(flags, environment)?;
    let tree = Layers::gather(flags, environment, &mut Mistakes::default()).tree;
    Ok((config, tree))
}

fn setting(section: &str, key: &str, node: &Node) -> Json {
    if let Value::Text(text) = &node.value
        && !text.is_empty()
        && !is_reference(text)
        && let Some(masked) = masked(section, key, text)
    {
        return json!(masked);
    }
    plain(&node.value)
}

/// How a setting is shown whose value may be a secret.
fn masked(section: &str, key: &str, text: &str) -> Option<String> {
    match (section, key) {
        ("server", "encryption_key") => Some(MASK.to_owned()),
        ("smtp", "url") => Some(without_login(text)),
        (_, _) => None,
    }
}

/// A URL with user and password masked: with some providers the user is the token as well. Whatever stands before
/// the last `@` is masked, so that a password with a character that should have been encoded is not shown either.
fn without_login(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, rest))) => format!("{scheme}://{MASK}@{rest}"),
        (Some(_), None) => url.to_owned(),
        (None, _) => MASK.to_owned(),
    }
}

/// Whether the text only says where the secret is.
fn is_reference(text: &str) -> bool {
    text.starts_with("file:") || (text.starts_with("${") && text.find('}') == Some(text.len() - 1))
}

fn plain(value: &Value) -> Json {
    match value {
        Value::Text(text) => json!(text),
        Value::Number(digits) => digits
            .parse::<i64>()
            .map_or_else(|_| json!(digits), |number| json!(number)),
        Value::Boolean(value) => json!(value),
        Value::List(items) => items.iter().map(|item| plain(&item.value)).collect(),
        Value::Table(table) => {
            let entries = table.iter().map(|(key, node)| (key.clone(), plain(&node.value)));
            Json::Object(entries.collect())
        }
    }
}

fn declared(config: &Config) -> [(&'static str, Vec<Map<String, Json>>); 4] {
    let declared = &config.declared;
    [
        ("source", declared.sources.iter().map(source).collect()),
        (
            "destination",
            declared.destinations.iter().map(destination).collect(),
        ),
        ("policy", declared.policies.iter().map(policy).collect()),
        ("trigger", declared.triggers.iter().map(trigger).collect()),
    ]
}

fn heading_of(kind: &str, item: &Map<String, Json>) -> String {
    match item.get("name").and_then(Json::as_str) {
        Some(name) if kind == "policy" => format!("[policy.{name}]"),
        Some(_) | None => format!("[[{kind}]]"),
    }
}

/// These entries, without those that have no value.
fn entries<const N: usize>(entries: [(&str, Option<Json>); N]) -> Map<String, Json> {
    let given = entries
        .into_iter()
        .filter_map(|(key, value)| Some((key.to_owned(), value?)));
    given.collect()
}

fn source(source: &DeclaredSource) -> Map<String, Json> {
    let verify = match source.verify {
        Verify::Signature => "signature",
        Verify::None => "none",
    };
    let on_invalid = match source.on_invalid {
        OnInvalid::Refuse => "refuse",
        OnInvalid::Accept => "accept",
    };
    let (dedupe, dedupe_key) = match &source.dedupe_key {
        DedupeKey::None => ("none".to_owned(), "none".to_owned()),
        DedupeKey::Provider => (duration_text(source.dedupe_window), "provider".to_owned()),
        DedupeKey::Header(name) => (duration_text(source.dedupe_window), format!("header:{name}")),
        DedupeKey::JsonPath(path) => (duration_text(source.dedupe_window), format!("json:{path}")),
        DedupeKey::BodyHash => (duration_text(source.dedupe_window), "body".to_owned()),
    };
    let masked = |secrets: &Vec<_>| json!(vec![MASK; secrets.len()]);
    let bytes = |bytes| json!(size_text(u64::try_from(bytes).unwrap_or(u64::MAX)));
    entries([
        ("name", Some(json!(source.name))),
        ("provider", Some(json!(source.provider))),
        ("verify", Some(json!(verify))),
        ("secrets", source.secrets.as_ref().map(masked)),
        ("dedupe", Some(json!(dedupe))),
        ("dedupe_key", Some(json!(dedupe_key))),
        ("on_invalid", Some(json!(on_invalid))),
        (
            "tolerance",
            source.tolerance.map(|tolerance| json!(duration_text(tolerance))),
        ),
        ("body_limit", source.body_limit.map(bytes)),
        ("rate_limit", source.rate_limit.map(|rate| json!(rate))),
        ("public_url", source.public_url.as_ref().map(|url| json!(url))),
        (
            "scheme",
            (!source.scheme.is_empty()).then(|| json!(source.scheme)),
        ),
    ])
}

fn destination(destination: &DeclaredDestination) -> Map<String, Json> {
    let (kind, url) = match &destination.kind {
        DestinationKind::Push { url } => ("push", Some(json!(url))),
        DestinationKind::Pull => ("pull", None),
    };
    let signing = match destination.signing {
        Signing::Standard => "standard",
        Signing::Nylas => "nylas",
        Signing::Both => "both",
    };
    let description = Some(&destination.description).filter(|text| !text.is_empty());
    let addresses = &destination.notification_email_addresses;
    entries([
        ("name", Some(json!(destination.name))),
        ("description", description.map(|text| json!(text))),
        ("kind", Some(json!(kind))),
        ("url", url),
        ("sources", Some(json!(destination.sources))),
        ("trigger_types", Some(json!(destination.trigger_types))),
        ("policy", Some(json!(destination.policy))),
        ("timeout", Some(json!(duration_text(destination.timeout)))),
        ("concurrency", Some(json!(destination.concurrency))),
        ("rate_limit", destination.rate_limit.map(|rate| json!(rate))),
        ("allow_private", Some(json!(destination.allow_private))),
        ("signing", Some(json!(signing))),
        ("compressed", Some(json!(destination.compressed))),
        ("notification_email_addresses", Some(json!(addresses))),
        ("secret", destination.secret.as_ref().map(|_| json!(MASK))),
    ])
}

fn policy(policy: &Policy) -> Map<String, Json> {
    let text = |duration| json!(duration_text(duration));
    let (delays, formula) = match &policy.schedule {
        Schedule::Delays(delays) => (Some(delays.iter().copied().map(text).collect()), None),
        Schedule::Exponential { first, longest, span } => (None, Some((*first, *longest, *span))),
    };
    entries([
        ("name", Some(json!(policy.name))),
        ("success", Some(json!(policy.success.words()))),
        ("retried", Some(json!(policy.retried.words()))),
        ("delays", delays),
        ("first", formula.map(|(first, ..)| text(first))),
        ("longest", formula.map(|(_, longest, _)| text(longest))),
        ("span", formula.map(|(.., span)| text(span))),
        ("jitter_percent", Some(json!(policy.jitter_percent))),
        ("retry_after_longest", Some(text(policy.retry_after_longest))),
        ("breaker", Some(json!(policy.breaker))),
        ("health_windows", Some(json!(policy.health_windows))),
    ])
}

fn trigger(trigger: &DeclaredTrigger) -> Map<String, Json> {
    entries([
        ("name", Some(json!(trigger.name))),
        ("description", Some(json!(trigger.description))),
        ("schema", trigger.schema.as_ref().map(|text| json!(text))),
        ("example", trigger.example.as_ref().map(|text| json!(text))),
    ])
}

/// A value as TOML writes it on one line.
fn in_toml(value: &Json) -> String {
    match value {
        Json::Array(items) => {
            let items: Vec<_> = items.iter().map(in_toml).collect();
            format!("[{}]", items.join(", "))
        }
        Json::Object(entries) => {
            let entry = |(key, value): (&String, &Json)| {
                format!("{} = {}", toml::Value::String(key.clone()), in_toml(value))
            };
            let entries: Vec<_> = entries.iter().map(entry).collect();
            format!("{{ {} }}", entries.join(", "))
        }
        Json::String(text) => toml::Value::String(text.clone()).to_string(),
        Json::Null | Json::Bool(_) | Json::Number(_) => value.to_string(),
    }
}
