//! What the file declares: sources, destinations and retry policies; trigger types stand in `trigger`.
//!
//! Owns their keys, their defaults and what may be said of them. Must not know what is there already: that
//! is `apply`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hookfast_engine::id::{ApplicationId, SourceId};
use hookfast_engine::retry::{CodeSet, Policy, Schedule};
use hookfast_engine::route::check_pattern;
use hookfast_engine::time::Timestamp;
use hookfast_engine::topology::{
    DEDUPE_WINDOW, DedupeKey, DestinationKind, OUTBOX, OnInvalid, Origin, SealedSecret, Signing, Source,
    Verify,
};
use hookfast_signature::Secret;

use super::section::Section;
use super::sections::bounds;
use super::trigger::{self, DeclaredTrigger};
use crate::deliver::sign;
use crate::ingest::scheme::{self, GENERIC};
use crate::nearest::nearest;
use crate::outbox::catalogue::Catalogue;
use crate::outbox::recipients::check_addresses;
use crate::units;

const TIMEOUT: Duration = Duration::from_secs(30);
/// For what applications publish (SPEC O3).
const OUTBOX_TIMEOUT: Duration = Duration::from_secs(10);
const CONCURRENCY: u32 = 64;
const MAX_CONCURRENCY: u32 = 1000;
const MAX_RATE: u32 = 1_000_000;
const MAX_NAME: usize = 64;
const MAX_SECRETS: usize = 16;
const MAX_URL: usize = 2_048;
const PUSH: &str = "push";
const PULL: &str = "pull";

/// Everything that the file declares.
#[derive(Clone, Debug, Default)]
pub struct Declared {
    /// The sources, in the order of the file.
    pub sources: Vec<DeclaredSource>,
    /// The destinations, in the order of the file.
    pub destinations: Vec<DeclaredDestination>,
    /// The policies, by name.
    pub policies: Vec<Policy>,
    /// The application's own trigger types, in the order of the file.
    pub triggers: Vec<DeclaredTrigger>,
}

/// A source as the file declares it.
#[derive(Clone, Debug)]
pub struct DeclaredSource {
    /// Its name.
    pub name: String,
    /// The provider's slug.
    pub provider: String,
    /// How signatures are checked.
    pub verify: Verify,
    /// The provider's secrets; where the file says nothing of them, those that are there stay.
    pub secrets: Option<Vec<Secret>>,
    /// How long a repeat is recognised.
    pub dedupe_window: Duration,
    /// Where the dedupe key is found.
    pub dedupe_key: DedupeKey,
    /// What a bad signature is answered.
    pub on_invalid: OnInvalid,
    /// How far a signed timestamp may be from now.
    pub tolerance: Option<Duration>,
    /// The largest body in bytes.
    pub body_limit: Option<usize>,
    /// At most this many requests a second.
    pub rate_limit: Option<u32>,
    /// Settings of the provider's scheme.
    pub scheme: BTreeMap<String, String>,
    /// The URL the provider was given.
    pub public_url: Option<String>,
}

/// A destination as the file declares it.
#[derive(Clone, Debug)]
pub struct DeclaredDestination {
    /// Its name.
    pub name: String,
    /// How it takes deliveries.
    pub kind: DestinationKind,
    /// The names of the sources whose events it takes.
    pub sources: Vec<String>,
    /// The event types it takes.
    pub trigger_types: Vec<String>,
    /// The name of its retry policy.
    pub policy: String,
    /// The longest that one attempt may take.
    pub timeout: Duration,
    /// At most this many attempts at once.
    pub concurrency: u32,
    /// At most this many attempts a second.
    pub rate_limit: Option<u32>,
    /// Whether its URL may be private and clear text.
    pub allow_private: bool,
    /// What it is for.
    pub description: String,
    /// How published events are signed.
    pub signing: Signing,
    /// Whether published events go out compressed.
    pub compressed: bool,
    /// Who is told when it is failing, failed, or back.
    pub notification_email_addresses: Vec<String>,
    /// The secret its deliveries are signed with; where the file says none, one is made.
    pub secret: Option<Secret>,
}

/// Reads everything that is declared. None where something has mistakes.
pub(super) fn read(root: &Section<'_>) -> Option<Declared> {
    let policies = root
        .named_tables("policy")
        .into_iter()
        .map(|(name, section)| policy(&name, section));
    let policies: Vec<_> = policies.collect();
    let sections = root.tables("source");
    let source_names = names(&sections, check_name);
    let sources: Vec<_> = sections.into_iter().map(source).collect();
    let sections = root.tables("trigger");
    trigger::check_count(root, sections.len());
    let trigger_names = names(&sections, trigger::check_name);
    let triggers: Vec<_> = sections.into_iter().map(trigger::read).collect();
    let sections = root.tables("destination");
    names(&sections, check_name);
    let policy_names = root.named_tables("policy").into_iter().map(|(name, _)| name);
    let known = Known {
        sources: source_names,
        policies: policy_names.collect(),
        catalogue: trigger::catalogue(root, &trigger_names),
    };
    let destinations = sections.into_iter().map(|section| destination(section, &known));
    let destinations: Vec<_> = destinations.collect();
    Some(Declared {
        sources: sources.into_iter().collect::<Option<_>>()?,
        destinations: destinations.into_iter().collect::<Option<_>>()?,
        policies: policies.into_iter().collect::<Option<_>>()?,
        triggers: triggers.into_iter().collect::<Option<_>>()?,
    })
}

/// The names that destinations may refer to.
struct Known {
    sources: BTreeSet<String>,
    policies: BTreeSet<String>,
    /// None where it cannot be read.
    catalogue: Option<Catalogue>,
}

/// The names of these tables, of which each must have its own.
fn names(sections: &[Section<'_>], check: fn(&str) -> Result<String, String>) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for section in sections {
        if let Some(name) = section.parsed("name", check)
            && !names.insert(name)
        {
            section.mistake("name", "used twice: give each its own name");
        }
    }
    names
}

fn check_name(name: &str) -> Result<String, String> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
    let like_an_id = ["src_", "dst_", "app_", "key_"]
        .iter()
        .any(|prefix| name.starts_with(prefix));
    if name.len() <= MAX_NAME && name.bytes().all(plain) && !like_an_id {
        Ok(name.to_owned())
    } else {
        Err(format!(
            "`{name}` is no name: write lower-case letters, digits, - and _, at most {MAX_NAME} of them, and not as an id"
        ))
    }
}

fn source(section: Section<'_>) -> Option<DeclaredSource> {
    let name = name(&section);
    let provider = section.parsed("provider", check_provider);
    if !section.is_set("provider") {
        section.mistake(
            "provider",
            "not set: name the provider, or \"generic\" with its scheme",
        );
    }
    let verify = section.word(
        "verify",
        &[("signature", Verify::Signature), ("none", Verify::None)],
    );
    let secrets = section.secrets("secrets");
    if secrets
        .as_ref()
        .is_some_and(|secrets| secrets.len() > MAX_SECRETS)
    {
        section.mistake(
            "secrets",
            format!("more than {MAX_SECRETS}: leave out those that are no longer used"),
        );
    }
    let (dedupe_window, dedupe_key) = dedupe(&section);
    let on_invalid = section.word(
        "on_invalid",
        &[("refuse", OnInvalid::Refuse), ("accept", OnInvalid::Accept)],
    );
    let tolerance = section.duration("tolerance", bounds::TOLERANCE);
    let body_limit = section.memory("body_limit", bounds::BODY);
    let rate_limit = section.integer("rate_limit", 1..=MAX_RATE);
    let scheme = section.text_table("scheme");
    let public_url = section.parsed("public_url", check_public_url);
    let Some(provider) = provider else {
        section.finish();
        return None;
    };
    let plain = DeclaredSource::new(name.unwrap_or_default(), provider);
    let declared = DeclaredSource {
        verify: verify.unwrap_or(plain.verify),
        secrets,
        dedupe_window,
        dedupe_key,
        on_invalid: on_invalid.unwrap_or(plain.on_invalid),
        tolerance,
        body_limit,
        rate_limit,
        scheme,
        public_url,
        ..plain
    };
    check_source(&section, &declared);
    section.finish();
    Some(declared)
}

/// The URL as the provider was given it: it is signed as it is, so nothing of it is changed.
fn check_public_url(text: &str) -> Result<String, String> {
    match url::Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") => Ok(text.to_owned()),
        Ok(_) | Err(_) => Err(format!(
            "`{text}` is not a URL such as https://hooks.example.com/in/name"
        )),
    }
}

fn name(section: &Section<'_>) -> Option<String> {
    // Whether it is well formed was checked with all names.
    let name = section.text("name");
    if name.is_none() {
        section.mistake_here("it has no name: write name = \"…\"");
    }
    name
}

/// Checks that this is a provider's slug, or `generic`.
///
/// # Errors
/// Where it is neither, with the nearest that is.
pub fn check_provider(slug: &str) -> Result<String, String> {
    let slugs = || {
        hookfast_signature::PROVIDERS
            .iter()
            .map(|provider| provider.slug)
            .chain([GENERIC])
    };
    if slugs().any(|known| known == slug) {
        return Ok(slug.to_owned());
    }
    let hint = match nearest(slug, slugs()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "`hookfast source providers` lists them, and \"generic\" takes any scheme".to_owned(),
    };
    Err(format!("`{slug}` is not known: {hint}"))
}

/// How long repeats are recognised and by what. Without a key nothing is a repeat.
fn dedupe(section: &Section<'_>) -> (Duration, DedupeKey) {
    let key = section.parsed("dedupe_key", dedupe_key);
    let none = section
        .text("dedupe")
        .is_some_and(|text| matches!(text.as_str(), "none" | "0" | "0s"));
    if none {
        if key.as_ref().is_some_and(|key| *key != DedupeKey::None) {
            section.mistake(
                "dedupe",
                "no repeat is recognised with this, yet dedupe_key says by what: leave one out",
            );
        }
        return (DEDUPE_WINDOW, DedupeKey::None);
    }
    let window = section.duration("dedupe", bounds::DEDUPE);
    (
        window.unwrap_or(DEDUPE_WINDOW),
        key.unwrap_or(DedupeKey::Provider),
    )
}

fn dedupe_key(text: &str) -> Result<DedupeKey, String> {
    match (text, text.split_once(':')) {
        ("provider", _) => Ok(DedupeKey::Provider),
        ("body", _) => Ok(DedupeKey::BodyHash),
        ("none", _) => Ok(DedupeKey::None),
        (_, Some(("header", name))) if !name.is_empty() => Ok(DedupeKey::Header(name.to_owned())),
        (_, Some(("json", path))) if !path.is_empty() => Ok(DedupeKey::JsonPath(path.to_owned())),
        _ => Err(format!(
            "`{text}` is not known: write provider, header:NAME, json:PATH, body or none"
        )),
    }
}

/// What only the whole source shows: whether its scheme's settings and its secrets fit together.
fn check_source(section: &Section<'_>, declared: &DeclaredSource) {
    let source = declared.unstored();
    let secrets = declared.secrets.iter().flatten();
    let secrets: Vec<_> = secrets
        .map(|secret| secret.expose().as_bytes().to_vec())
        .collect();
    for fault in scheme::check_source(&source, &secrets)
        .err()
        .into_iter()
        .flatten()
    {
        let (key, problem) = fault.split_once(": ").unwrap_or(("provider", &fault));
        section.mistake(key, problem);
    }
}

/// What a source has that no file says.
pub(super) struct Stored {
    pub id: SourceId,
    pub application: ApplicationId,
    pub secrets: Vec<SealedSecret>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

impl DeclaredSource {
    /// A source of which only this much is said.
    #[must_use]
    pub fn new(name: String, provider: String) -> Self {
        Self {
            name,
            provider,
            verify: Verify::Signature,
            secrets: None,
            dedupe_window: DEDUPE_WINDOW,
            dedupe_key: DedupeKey::Provider,
            on_invalid: OnInvalid::Refuse,
            tolerance: None,
            body_limit: None,
            rate_limit: None,
            scheme: BTreeMap::new(),
            public_url: None,
        }
    }

    /// The source that is declared, as if it were stored nowhere and had no secrets.
    #[must_use]
    pub fn unstored(&self) -> Source {
        self.source(Stored {
            id: SourceId::from_u128(0),
            application: ApplicationId::from_u128(0),
            secrets: Vec::new(),
            created_at: Timestamp::EPOCH,
            updated_at: Timestamp::EPOCH,
        })
    }

    /// The source that is declared.
    pub(super) fn source(&self, stored: Stored) -> Source {
        Source {
            id: stored.id,
            application: stored.application,
            name: self.name.clone(),
            provider: self.provider.clone(),
            verify: self.verify,
            secrets: stored.secrets,
            dedupe_window: self.dedupe_window,
            dedupe_key: self.dedupe_key.clone(),
            on_invalid: self.on_invalid,
            tolerance: self.tolerance,
            body_limit: self.body_limit,
            rate_limit: self.rate_limit,
            scheme: self.scheme.clone(),
            public_url: self.public_url.clone(),
            origin: Origin::File,
            created_at: stored.created_at,
            updated_at: stored.updated_at,
        }
    }
}

fn destination(section: Section<'_>, known: &Known) -> Option<DeclaredDestination> {
    let name = name(&section);
    let pull = section.word("kind", &[(PUSH, false), (PULL, true)]);
    let allow_private = section.boolean("allow_private").unwrap_or(false);
    let url = section.parsed("url", |url| check_url(url, allow_private));
    let kind = kind(&section, pull, url);
    let sources = section
        .texts("sources")
        .unwrap_or_else(|| vec![OUTBOX.to_owned()]);
    let outbox = sources.iter().any(|source| source == OUTBOX);
    let unknown = |source: &&String| *source != OUTBOX && !known.sources.contains(*source);
    for source in sources.iter().filter(unknown) {
        section.mistake("sources", not_declared("[[source]]", source, &known.sources));
    }
    if sources.is_empty() {
        section.mistake(
            "sources",
            "names no source, so nothing would ever come: leave it out to take what the application publishes",
        );
    }
    let trigger_types = section.parsed_list("trigger_types", |pattern| {
        check_pattern(pattern).map(|()| pattern.to_owned())
    });
    if trigger_types.as_ref().is_some_and(Vec::is_empty) {
        section.mistake(
            "trigger_types",
            "names no type, so nothing would ever come: leave it out to take all",
        );
    }
    if let Some(catalogue) = &known.catalogue
        && sources == [OUTBOX]
    {
        let patterns = trigger_types.iter().flatten();
        for error in patterns.filter_map(|pattern| catalogue.check_subscription(pattern).err()) {
            section.mistake("trigger_types", error.to_string());
        }
    }
    let signing = section.word(
        "signing",
        &[
            ("standard", Signing::Standard),
            ("nylas", Signing::Nylas),
            ("both", Signing::Both),
        ],
    );
    let signing = signing.unwrap_or_default();
    let policy = section.text("policy").unwrap_or_else(|| {
        let named = match signing {
            _ if !outbox => "inbox",
            Signing::Nylas => "nylas",
            Signing::Standard | Signing::Both => "standard",
        };
        named.to_owned()
    });
    if Policy::built_in(&policy).is_none() && !known.policies.contains(&policy) {
        let policies = known
            .policies
            .iter()
            .cloned()
            .chain(Policy::BUILT_IN.map(str::to_owned));
        section.mistake("policy", not_declared("policy", &policy, &policies.collect()));
    }
    let timeout = section.duration("timeout", bounds::TIMEOUT);
    let concurrency = section.integer("concurrency", 1..=MAX_CONCURRENCY);
    let rate_limit = section.integer("rate_limit", 1..=MAX_RATE);
    let secret = section.secret("secret");
    if let Some(secret) = &secret
        && let Err(error) = sign::check_secret(signing, secret)
    {
        section.mistake("secret", error.to_string());
    }
    let description = section.text("description");
    let compressed = section.boolean("compressed");
    let addresses = section.texts("notification_email_addresses");
    if let Some(Err(problem)) = addresses.as_deref().map(check_addresses) {
        section.mistake("notification_email_addresses", problem);
    }
    section.finish();
    Some(DeclaredDestination {
        name: name.unwrap_or_default(),
        kind: kind?,
        sources,
        trigger_types: trigger_types.unwrap_or_else(|| vec!["*".to_owned()]),
        policy,
        timeout: timeout.unwrap_or(if outbox { OUTBOX_TIMEOUT } else { TIMEOUT }),
        concurrency: concurrency.unwrap_or(CONCURRENCY),
        rate_limit,
        allow_private,
        description: description.unwrap_or_default(),
        signing,
        compressed: compressed.unwrap_or(false),
        notification_email_addresses: addresses.unwrap_or_default(),
        secret,
    })
}

fn not_declared(what: &str, name: &str, known: &BTreeSet<String>) -> String {
    match nearest(name, known.iter().map(String::as_str)) {
        Some(near) => format!("there is no {what} `{name}`; did you mean `{near}`?"),
        None if known.is_empty() => format!("there is no {what} `{name}`: this file declares none"),
        None => {
            let known: Vec<_> = known.iter().map(String::as_str).collect();
            format!("there is no {what} `{name}`; there are: {}", known.join(", "))
        }
    }
}

fn kind(section: &Section<'_>, pull: Option<bool>, url: Option<String>) -> Option<DestinationKind> {
    match (pull, url) {
        (Some(true), None) => Some(DestinationKind::Pull),
        (Some(true), Some(_)) => {
            section.mistake(
                "url",
                "a pull destination has no URL: leave it out, or write kind = \"push\"",
            );
            None
        }
        (Some(false) | None, Some(url)) => Some(DestinationKind::Push { url }),
        (Some(false) | None, None) => {
            if !section.is_set("url") {
                section.mistake(
                    "url",
                    "not set: write where deliveries are posted to, or kind = \"pull\"",
                );
            }
            None
        }
    }
}

fn check_url(text: &str, allow_private: bool) -> Result<String, String> {
    // What is wrong with it is said without repeating it: it may hold a password.
    let url = url::Url::parse(text).map_err(|error| {
        format!("not a URL ({error}): write it whole, such as https://app.example.com/hooks")
    })?;
    match url.scheme() {
        "https" => {}
        "http" if allow_private => {}
        "http" => {
            return Err(
                "http is for URLs that are yours and local: write https, or allow_private = true".to_owned(),
            );
        }
        _ => return Err("neither https nor http: write an https URL".to_owned()),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("a URL must not hold a user or password: deliveries are signed instead".to_owned());
    }
    if text.len() > MAX_URL {
        return Err(format!("a URL of more than {MAX_URL} bytes: shorten it"));
    }
    if url.port() == Some(0) {
        return Err("port 0 cannot be called: write the port that your application listens on".to_owned());
    }
    if url.fragment().is_some() {
        return Err("a URL with a # part cannot be posted to: leave the part out".to_owned());
    }
    Ok(text.to_owned())
}

fn policy(name: &str, section: Section<'_>) -> Option<Policy> {
    if Policy::built_in(name).is_some() {
        section.mistake_here(format!("`{name}` is a built-in policy: give yours another name"));
    } else if let Err(problem) = check_name(name) {
        section.mistake_here(problem);
    }
    let base = section.parsed("base", |base| {
        let known = Policy::BUILT_IN.map(str::to_owned).into_iter().collect();
        Policy::built_in(base).ok_or_else(|| not_declared("built-in policy", base, &known))
    });
    let base = base.unwrap_or_else(Policy::inbox);
    let codes = |key| {
        let words = section.texts(key)?;
        let parsed = CodeSet::parse(words.iter().map(String::as_str));
        parsed
            .map_err(|error| section.mistake(key, error.to_string()))
            .ok()
    };
    let (success, retried) = (codes("success"), codes("retried"));
    let schedule = schedule(&section, &base.schedule);
    let jitter_percent = section.integer("jitter_percent", 0..=100);
    let retry_after_longest = section.duration("retry_after_longest", Duration::ZERO..=*bounds::DELAY.end());
    let breaker = section.boolean("breaker");
    let health_windows = section.boolean("health_windows");
    section.finish();
    Some(Policy {
        name: name.to_owned(),
        success: success.unwrap_or(base.success),
        retried: retried.unwrap_or(base.retried),
        schedule: schedule?,
        jitter_percent: jitter_percent.unwrap_or(base.jitter_percent),
        retry_after_longest: retry_after_longest.unwrap_or(base.retry_after_longest),
        retry_after_span: base.retry_after_span,
        breaker: breaker.unwrap_or(base.breaker),
        health_windows: health_windows.unwrap_or(base.health_windows),
    })
}

fn schedule(section: &Section<'_>, base: &Schedule) -> Option<Schedule> {
    let within = |text: &str| match units::duration(text) {
        Ok(delay) if bounds::DELAY.contains(&delay) => Ok(delay),
        Ok(_) => Err(format!(
            "`{text}` is too short or too long: a delay is 1ms at the least"
        )),
        Err(error) => Err(error.to_string()),
    };
    let delays = section.parsed_list("delays", within);
    let exponential = |key| section.duration(key, bounds::DELAY);
    let (first, longest, span) = (exponential("first"), exponential("longest"), exponential("span"));
    let formula = ["first", "longest", "span"]
        .into_iter()
        .find(|key| section.is_set(key));
    if section.is_set("delays") {
        if let Some(key) = formula {
            section.mistake(
                key,
                "delays are listed already: write either delays, or first, longest and span",
            );
        }
        return delays.map(Schedule::Delays);
    }
    let inherited = match base {
        Schedule::Exponential { first, longest, span } => Some((*first, *longest, *span)),
        Schedule::Delays(_) => None,
    };
    if formula.is_none() {
        return Some(base.clone());
    }
    let (first, longest, span) = (
        first.or(inherited.map(|(first, ..)| first)),
        longest.or(inherited.map(|(_, longest, _)| longest)),
        span.or(inherited.map(|(.., span)| span)),
    );
    for (key, value) in [("first", first), ("longest", longest), ("span", span)] {
        if value.is_none() && !section.is_set(key) {
            section.mistake(
                key,
                "not set, and the base lists its delays: write first, longest and span",
            );
        }
    }
    let (first, longest, span) = (first?, longest?, span?);
    if first > longest {
        section.mistake(
            "longest",
            "shorter than first: the delays grow from first to longest",
        );
    }
    Some(Schedule::Exponential { first, longest, span })
}
