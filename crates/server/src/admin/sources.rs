//! Sources: where events come in.
//!
//! Owns these routes and the bounds of their fields. Secrets come in and never go out. Whether a scheme and its
//! secrets fit is asked of the ingest side, so that nothing is set up that could not verify.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use hookfast_engine::id::SourceId;
use hookfast_engine::time::Timestamp;
use hookfast_engine::topology::{
    DEDUPE_WINDOW, DedupeKey, OPERATIONS, OUTBOX, Origin, SealedSecret, Source, TopologyChange, Verify,
};
use hookfast_signature::{PROVIDERS, Secret};
use hookfast_store::Stats;
use http::StatusCode;
use serde::Deserialize;
use utoipa::IntoParams;

use super::auth::{Reader, Writer};
use super::error::{Code, Fault};
use super::read::{Body, Query};
use super::{Answer, Api, convert, guard, wire};
use crate::ingest::scheme::{GENERIC, check_source};
use crate::nearest::nearest;

const DEDUPE_LEAST: Duration = Duration::from_secs(86_400);
const DEDUPE_MOST: Duration = Duration::from_secs(90 * 86_400);
const TOLERANCE_MOST: Duration = Duration::from_secs(7 * 86_400);
const BODY_MOST: u64 = 32 * 1024 * 1024;
const RATE_MOST: u32 = 1_000_000;
const SECRETS_MOST: usize = 16;
const SECRET_BYTES_MOST: usize = 16 * 1024;
const SCHEME_SETTINGS_MOST: usize = 32;
/// The longest name of anything.
const NAME_BYTES: usize = 64;

/// Refuses names that could be taken for something else.
pub(super) fn check_name(name: &str) -> Result<(), Fault> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
    let like_an_id = ["src_", "dst_", "app_", "key_"]
        .iter()
        .any(|prefix| name.starts_with(prefix));
    if !name.is_empty() && name.len() <= NAME_BYTES && name.bytes().all(plain) && !like_an_id {
        return Ok(());
    }
    let shown: String = name.chars().take(80).collect();
    Err(Fault::field(
        "name",
        format!(
            "`{shown}` is no name; write lower-case letters, digits, - and _, at most {NAME_BYTES}, and not as an id"
        ),
    ))
}

/// One page of what is in memory, in the order of its ids.
pub(super) fn page_of<T, U>(
    all: impl Iterator<Item = (String, T)>,
    limit: Option<u32>,
    cursor: Option<&str>,
    convert: impl FnMut(T) -> U,
) -> Result<wire::List<U>, Fault> {
    let limit = super::events::page(limit, None).map(|page| page.limit as usize)?;
    let after = all.filter(|(id, _)| cursor.is_none_or(|cursor| id.as_str() > cursor));
    let mut found: Vec<(String, T)> = after.take(limit.max(1) + 1).collect();
    let more = found.len() > limit;
    found.truncate(limit);
    let last = found.last().map(|(id, _)| id.clone());
    Ok(wire::List {
        data: found.into_iter().map(|(_, item)| item).map(convert).collect(),
        next_cursor: last.filter(|_| more),
    })
}

/// Which page of a list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PageQuery {
    /// At most this many, from 1 to 1000; 50 by default.
    pub(super) limit: Option<u32>,
    /// Where the page begins: `next_cursor` of the one before.
    pub(super) cursor: Option<String>,
}

fn shown(source: &Source, stats: &Stats) -> wire::Source {
    let mut quarantined = stats.quarantined.iter();
    wire::Source {
        id: source.id.to_string(),
        application: source.application.to_string(),
        name: source.name.clone(),
        path: format!("/in/{}", source.name),
        provider: source.provider.clone(),
        verify: source.verify.into(),
        secrets: source.secrets.len(),
        dedupe: wire::Span(source.dedupe_window),
        dedupe_key: convert::dedupe_key(&source.dedupe_key),
        on_invalid: source.on_invalid.into(),
        tolerance: source.tolerance.map(wire::Span),
        body_limit: source.body_limit.map(|bytes| bytes as u64),
        rate_limit: source.rate_limit,
        scheme: source.scheme.clone(),
        public_url: source.public_url.clone(),
        quarantined: quarantined
            .find(|(id, _)| *id == source.id)
            .map_or(0, |(_, count)| *count),
        origin: source.origin.into(),
        created_at: wire::Time(source.created_at),
        updated_at: wire::Time(source.updated_at),
        secret: None,
        warnings: Vec::new(),
    }
}

async fn stats(api: &Api) -> Result<Arc<Stats>, Fault> {
    Ok(api.node.admin.stats(&*api.node.store, api.node.clock).await?)
}

/// Sources, by id.
#[utoipa::path(get, path = "/api/v1/sources", tag = "sources", params(PageQuery),
    responses((status = 200, body = wire::List<wire::Source>, description = "a page of sources")))]
pub(super) async fn list_sources(
    Reader(caller): Reader,
    State(api): State<Arc<Api>>,
    Query(query): Query<PageQuery>,
) -> Answer<wire::List<wire::Source>> {
    let stats = stats(&api).await?;
    let seen = caller
        .topology
        .sources
        .values()
        .filter(|source| caller.sees(source.application));
    let seen = seen.map(|source| (source.id.to_string(), source));
    page_of(seen, query.limit, query.cursor.as_deref(), |source| {
        shown(source, &stats)
    })
    .map(Json)
}

/// One source.
#[utoipa::path(get, path = "/api/v1/sources/{source}", tag = "sources", params(("source" = String, Path, description = "its name or id")),
    responses((status = 200, body = wire::Source, description = "the source")))]
pub(super) async fn show_source(
    Reader(caller): Reader,
    State(api): State<Arc<Api>>,
    Path(named): Path<String>,
) -> Answer<wire::Source> {
    let source = caller.source(&named)?;
    Ok(Json(shown(source, &*stats(&api).await?)))
}

/// Makes a source.
#[utoipa::path(post, path = "/api/v1/sources", tag = "sources", request_body = wire::SourceCreate,
    responses((status = 201, body = wire::Source, description = "the source")))]
pub(super) async fn create_source(
    Writer(caller): Writer,
    State(api): State<Arc<Api>>,
    Body(asked): Body<wire::SourceCreate>,
) -> Result<(StatusCode, Json<wire::Source>), Fault> {
    let now = api.node.clock.now();
    let mut secrets = asked.secrets;
    let generated = asked.generate_secret.then(|| generate(&api, &asked.provider));
    secrets.extend(generated.clone());
    let mut source = Source {
        id: SourceId::new(now, api.node.clock.entropy()),
        application: caller.one_application()?,
        name: asked.name,
        provider: asked.provider,
        verify: asked.verify.into(),
        secrets: Vec::new(),
        dedupe_window: asked.dedupe.map_or(DEDUPE_WINDOW, |span| span.0),
        dedupe_key: asked
            .dedupe_key
            .as_deref()
            .map_or(Ok(DedupeKey::Provider), convert::parse_dedupe_key)?,
        on_invalid: asked.on_invalid.into(),
        tolerance: asked.tolerance.map(|span| span.0),
        body_limit: asked.body_limit.map(bytes).transpose()?,
        rate_limit: asked.rate_limit,
        scheme: asked.scheme,
        public_url: asked.public_url,
        origin: Origin::Api,
        created_at: now,
        updated_at: now,
    };
    check(&source, &secrets)?;
    source.secrets = seal(&api, source.id, &secrets, now);
    let warnings = warnings_of_new(&source);
    let mut answer = shown(&source, &Stats::default());
    api.node
        .change_topology(&caller.name, vec![TopologyChange::PutSource(source)])
        .await?;
    answer.secret = generated;
    answer.warnings = warnings;
    Ok((StatusCode::CREATED, Json(answer)))
}

fn warnings_of_new(source: &Source) -> Vec<String> {
    let mut warnings = Vec::new();
    if source.verify == Verify::None {
        warnings.push("whatever is posted is believed: verify is none".to_owned());
    } else if source.secrets.is_empty() {
        warnings.push(
            "it has no secret yet: what is posted is kept in quarantine until one is set and it is released"
                .to_owned(),
        );
    }
    warnings
}

/// A secret in the form that the provider's users choose.
fn generate(api: &Api, provider: &str) -> String {
    let secret = match provider {
        "nylas" => Secret::generate_nylas(&api.node.clock.entropy_bytes()),
        "standard-webhooks" | "svix" => Secret::generate_symmetric(&api.node.clock.entropy_bytes()),
        _ => {
            let entropy: [u8; 32] = api.node.clock.entropy_bytes();
            Secret::new(
                entropy
                    .iter()
                    .map(|byte| format!("{byte:02x}"))
                    .collect::<String>(),
            )
        }
    };
    secret.expose().to_owned()
}

/// Changes a source.
#[utoipa::path(patch, path = "/api/v1/sources/{source}", tag = "sources", params(("source" = String, Path, description = "its name or id")),
    request_body = wire::SourceUpdate,
    responses((status = 200, body = wire::Source, description = "the source")))]
pub(super) async fn update_source(
    Writer(caller): Writer,
    State(api): State<Arc<Api>>,
    Path(named): Path<String>,
    Body(asked): Body<wire::SourceUpdate>,
) -> Answer<wire::Source> {
    let (caller, _turn) = caller.turn(&api).await;
    let now = api.node.clock.now();
    let mut source = caller.source(&named)?.clone();
    let secrets = match &asked.secrets {
        Some(secrets) => secrets.clone(),
        None => opened(&api, &source),
    };
    let renamed = asked.name.as_ref().is_some_and(|name| *name != source.name);
    let new_secrets = asked.secrets.is_some();
    apply(&mut source, asked)?;
    check(&source, &secrets)?;
    if new_secrets {
        source.secrets = seal(&api, source.id, &secrets, now);
    }
    source.updated_at = now;
    let mut warnings = file_warning(source.origin, "source", &source.name);
    if renamed {
        warnings.push(format!(
            "the provider must post to /in/{} from now on",
            source.name
        ));
    }
    let mut answer = shown(&source, &*stats(&api).await?);
    api.node
        .change_topology(&caller.name, vec![TopologyChange::PutSource(source)])
        .await?;
    answer.warnings = warnings;
    Ok(Json(answer))
}

fn apply(source: &mut Source, asked: wire::SourceUpdate) -> Result<(), Fault> {
    if let Some(name) = asked.name {
        source.name = name;
    }
    if let Some(verify) = asked.verify {
        source.verify = verify.into();
    }
    if let Some(span) = asked.dedupe {
        source.dedupe_window = span.0;
    }
    if let Some(key) = asked.dedupe_key {
        source.dedupe_key = convert::parse_dedupe_key(&key)?;
    }
    if let Some(on_invalid) = asked.on_invalid {
        source.on_invalid = on_invalid.into();
    }
    if let Some(tolerance) = asked.tolerance {
        source.tolerance = tolerance.map(|span| span.0);
    }
    if let Some(limit) = asked.body_limit {
        source.body_limit = limit.map(bytes).transpose()?;
    }
    if let Some(limit) = asked.rate_limit {
        source.rate_limit = limit;
    }
    if let Some(scheme) = asked.scheme {
        source.scheme = scheme;
    }
    if let Some(url) = asked.public_url {
        source.public_url = url;
    }
    Ok(())
}

/// What to know of a change to something that the file declares.
pub(super) fn file_warning(origin: Origin, kind: &str, name: &str) -> Vec<String> {
    match origin {
        Origin::File => vec![format!(
            "the configuration file declares {kind} `{name}` and sets it again on the next start or reload; change it there too"
        )],
        Origin::Api => Vec::new(),
    }
}

/// Removes a source; its events stay.
#[utoipa::path(delete, path = "/api/v1/sources/{source}", tag = "sources", params(("source" = String, Path, description = "its name or id")),
    responses((status = 204, description = "it is gone")))]
pub(super) async fn delete_source(
    Writer(caller): Writer,
    State(api): State<Arc<Api>>,
    Path(named): Path<String>,
) -> Result<StatusCode, Fault> {
    let (caller, _turn) = caller.turn(&api).await;
    let id = caller.source(&named)?.id;
    api.node
        .change_topology(&caller.name, vec![TopologyChange::DeleteSource(id)])
        .await?;
    Ok(guard::NOTHING)
}

/// The providers that sources can be made for.
#[utoipa::path(get, path = "/api/v1/providers", tag = "sources",
    responses((status = 200, body = wire::List<wire::Provider>, description = "all of them")))]
pub(super) async fn list_providers(_: Reader) -> Json<wire::List<wire::Provider>> {
    let data = PROVIDERS.iter().map(|provider| wire::Provider {
        slug: provider.slug.to_owned(),
        name: provider.name.to_owned(),
        documentation: provider.documentation.to_owned(),
        secret_hint: provider.secret_hint.to_owned(),
        variants: provider
            .variants
            .iter()
            .map(|(name, _)| (*name).to_owned())
            .collect(),
        body_limit: provider.body_limit,
        ack_budget: provider.ack_budget.map(wire::Span),
        on_failure: provider.on_failure.to_owned(),
    });
    Json(wire::List {
        data: data.collect(),
        next_cursor: None,
    })
}

fn bytes(limit: u64) -> Result<usize, Fault> {
    let fits = usize::try_from(limit)
        .ok()
        .filter(|_| (1..=BODY_MOST).contains(&limit));
    fits.ok_or_else(|| {
        Fault::field(
            "body_limit",
            format!("`{limit}` is not from 1 to {BODY_MOST} bytes"),
        )
    })
}

fn opened(api: &Api, source: &Source) -> Vec<String> {
    let opened = source
        .secrets
        .iter()
        .filter_map(|secret| api.node.vault.open_sealed(source.id.as_u128(), &secret.sealed));
    opened
        .filter_map(|secret| String::from_utf8(secret).ok())
        .collect()
}

fn seal(api: &Api, owner: SourceId, secrets: &[String], now: Timestamp) -> Vec<SealedSecret> {
    let sealed = secrets.iter().map(|secret| SealedSecret {
        sealed: api
            .node
            .vault
            .seal(owner.as_u128(), secret.as_bytes(), api.node.clock),
        created_at: now,
        expires_at: None,
    });
    sealed.collect()
}

/// Says what is wrong with a source before it is made.
fn check(source: &Source, secrets: &[String]) -> Result<(), Fault> {
    check_name(&source.name)?;
    if [OUTBOX, OPERATIONS].contains(&source.name.as_str()) {
        let reason = format!(
            "`{}` is the name of what an application publishes itself; take another",
            source.name
        );
        return Err(Fault::field("name", reason));
    }
    check_provider(&source.provider)?;
    let within = |field: &str, value: Duration, least: Duration, most: Duration| {
        if (least..=most).contains(&value) {
            return Ok(());
        }
        let (value, least, most) = (wire::Span(value), wire::Span(least), wire::Span(most));
        Err(Fault::field(
            field,
            format!("`{value}` is not from {least} to {most}"),
        ))
    };
    within("dedupe", source.dedupe_window, DEDUPE_LEAST, DEDUPE_MOST)?;
    if let Some(tolerance) = source.tolerance {
        within("tolerance", tolerance, Duration::from_secs(1), TOLERANCE_MOST)?;
    }
    if let Some(rate) = source.rate_limit.filter(|rate| !(1..=RATE_MOST).contains(rate)) {
        return Err(Fault::field(
            "rate_limit",
            format!("`{rate}` is not from 1 to {RATE_MOST} a second"),
        ));
    }
    if secrets.len() > SECRETS_MOST
        || secrets
            .iter()
            .any(|secret| secret.is_empty() || secret.len() > SECRET_BYTES_MOST)
    {
        return Err(Fault::field(
            "secrets",
            format!("give at most {SECRETS_MOST} secrets of 1 to {SECRET_BYTES_MOST} bytes each"),
        ));
    }
    check_scheme_size(&source.scheme)?;
    if let Some(url) = &source.public_url {
        let parsed = url::Url::parse(url)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https"));
        if parsed.is_none() {
            return Err(Fault::field(
                "public_url",
                "it is not a URL such as https://hooks.example.com/in/name",
            ));
        }
    }
    let secrets: Vec<Vec<u8>> = secrets.iter().map(|secret| secret.as_bytes().to_vec()).collect();
    check_source(source, &secrets).map_err(|faults| Fault::new(Code::InvalidField, faults.join("; ")))
}

fn check_scheme_size(scheme: &BTreeMap<String, String>) -> Result<(), Fault> {
    let long = scheme
        .iter()
        .any(|(key, value)| key.len() > 64 || value.len() > 1_024);
    if long || scheme.len() > SCHEME_SETTINGS_MOST {
        let detail = format!("give at most {SCHEME_SETTINGS_MOST} settings, each of at most 1024 bytes");
        return Err(Fault::field("scheme", detail));
    }
    Ok(())
}

fn check_provider(slug: &str) -> Result<(), Fault> {
    let slugs: Vec<&str> = PROVIDERS
        .iter()
        .map(|provider| provider.slug)
        .chain([GENERIC])
        .collect();
    if slugs.contains(&slug) {
        return Ok(());
    }
    let shown: String = slug.chars().take(80).collect();
    let advice = match nearest(slug, slugs) {
        Some(near) => format!("did you mean `{near}`"),
        None => "GET /api/v1/providers lists them, and `generic` takes any scheme".to_owned(),
    };
    Err(Fault::field(
        "provider",
        format!("`{shown}` is not known; {advice}"),
    ))
}
