//! `hookfast source`: where events come in.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use serde_json::Value;

use super::connection::{
    Connection, Listing, OrNone, block_on, decode, or_none, print_list, secret, segment, size, span,
};
use super::output::{self, Table, cell, dim, maybe, word};
use crate::admin::wire;
use crate::client::Query;
use crate::units::size_text;

const PATH: &str = "/api/v1/sources";

/// Lists, makes and changes sources: where events come in.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  hookfast source list
  hookfast source create nylas --provider nylas --secret file:webhook.secret
  hookfast source providers")]
pub(super) struct SourceArgs {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    command: SourceCommand,
}

#[derive(Debug, Subcommand)]
enum SourceCommand {
    /// Lists the sources.
    #[command(
        after_help = "Examples:\n  hookfast source list\n  hookfast source list --json | jq -r '.[].path'"
    )]
    List(Listing),
    /// Shows one source.
    #[command(after_help = "Examples:\n  hookfast source show nylas")]
    Show {
        /// Its name or id.
        source: String,
        /// Prints JSON.
        #[arg(long)]
        json: bool,
    },
    /// Makes a source.
    #[command(after_help = "Examples:
  hookfast source create nylas --provider nylas
  hookfast source create stripe --provider stripe --secret -       (reads the secret from stdin)
  hookfast source create legacy --provider generic --scheme header=x-signature --secret file:legacy.secret")]
    Create(Box<Create>),
    /// Changes a source. What is not named stays; `none` clears.
    #[command(after_help = "Examples:
  hookfast source update nylas --secret file:webhook.secret
  hookfast source update nylas --rate-limit none --dedupe 14d")]
    Update(Box<Update>),
    /// Deletes a source. Its events stay.
    #[command(after_help = "Examples:\n  hookfast source delete nylas")]
    Delete {
        /// Its name or id.
        source: String,
    },
    /// Lists the providers that sources can be made for. Needs no server.
    #[command(after_help = "Examples:\n  hookfast source providers\n  hookfast source providers --json")]
    Providers {
        /// Prints JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args, Debug)]
struct Create {
    /// Its name: the provider posts to /in/NAME.
    name: String,
    /// The provider's slug, or `generic`.
    #[arg(long, value_name = "SLUG")]
    provider: String,
    /// A secret of the provider; `file:PATH`, or `-` for stdin. Several while one is rotated.
    #[arg(long, value_name = "SECRET")]
    secret: Vec<String>,
    /// Makes a secret and shows it once.
    #[arg(long, conflicts_with = "secret")]
    generate_secret: bool,
    #[command(flatten)]
    settings: Settings,
    /// How far a signed timestamp may be from now.
    #[arg(long, value_name = "DURATION", value_parser = span)]
    tolerance: Option<wire::Span>,
    /// The largest body.
    #[arg(long, value_name = "SIZE", value_parser = size)]
    body_limit: Option<u64>,
    /// At most this many requests a second.
    #[arg(long, value_name = "N")]
    rate_limit: Option<u32>,
    /// The URL the provider was given, where its scheme signs it.
    #[arg(long, value_name = "URL")]
    public_url: Option<String>,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
struct Update {
    /// Its name or id.
    source: String,
    /// Its new name. The provider must then post to the new path.
    #[arg(long)]
    name: Option<String>,
    /// The provider's secrets, in place of those there are; `file:PATH`, or `-` for stdin.
    #[arg(long, value_name = "SECRET")]
    secret: Vec<String>,
    #[command(flatten)]
    settings: Settings,
    /// How far a signed timestamp may be from now.
    #[arg(long, value_name = "DURATION", value_parser = |text: &str| or_none(text, span))]
    tolerance: Option<OrNone<wire::Span>>,
    /// The largest body.
    #[arg(long, value_name = "SIZE", value_parser = |text: &str| or_none(text, size))]
    body_limit: Option<OrNone<u64>>,
    /// At most this many requests a second.
    #[arg(long, value_name = "N", value_parser = |text: &str| or_none(text, number))]
    rate_limit: Option<OrNone<u32>>,
    /// The URL the provider was given, where its scheme signs it.
    #[arg(long, value_name = "URL", value_parser = |text: &str| or_none(text, |url| Ok(url.to_owned())))]
    public_url: Option<OrNone<String>>,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

/// What is said the same way when a source is made and changed.
#[derive(Args, Debug)]
struct Settings {
    /// How signatures are checked.
    #[arg(long, value_name = "HOW", value_parser = verify)]
    verify: Option<wire::Verify>,
    /// How long a repeat is recognised.
    #[arg(long, value_name = "DURATION", value_parser = span)]
    dedupe: Option<wire::Span>,
    /// Where the dedupe key is: provider, header:NAME, json:PATH, body or none.
    #[arg(long, value_name = "WHERE")]
    dedupe_key: Option<String>,
    /// What a bad signature is answered: refuse (401) or accept (200).
    #[arg(long, value_name = "HOW", value_parser = on_invalid)]
    on_invalid: Option<wire::OnInvalid>,
    /// A setting of the scheme, such as header=x-signature.
    #[arg(long, value_name = "KEY=VALUE", value_parser = setting)]
    scheme: Vec<(String, String)>,
}

/// A whole number as an argument.
pub(super) fn number(text: &str) -> Result<u32, String> {
    text.parse()
        .map_err(|_| format!("`{text}` is not a whole number"))
}

fn verify(text: &str) -> Result<wire::Verify, String> {
    match text {
        "signature" => Ok(wire::Verify::Signature),
        "none" => Ok(wire::Verify::None),
        _ => Err("write signature or none".to_owned()),
    }
}

fn on_invalid(text: &str) -> Result<wire::OnInvalid, String> {
    match text {
        "refuse" => Ok(wire::OnInvalid::Refuse),
        "accept" => Ok(wire::OnInvalid::Accept),
        _ => Err("write refuse or accept".to_owned()),
    }
}

fn setting(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

pub(super) fn run(args: SourceArgs) -> anyhow::Result<()> {
    let connection = args.connection;
    match args.command {
        SourceCommand::List(listing) => list(&connection, &listing),
        SourceCommand::Providers { json } => providers(json),
        SourceCommand::Show { source, json } => {
            let client = connection.client()?;
            let path = format!("{PATH}/{}", segment(&source));
            let shown = block_on(async { Ok(client.get::<Value>(&path, &Query::default()).await?) })?;
            print(shown, json)
        }
        SourceCommand::Create(create) => {
            let client = connection.client()?;
            let (json, body) = (create.json, create.body()?);
            print(
                block_on(async { Ok(client.post::<Value>(PATH, &body).await?) })?,
                json,
            )
        }
        SourceCommand::Update(update) => {
            let client = connection.client()?;
            let path = format!("{PATH}/{}", segment(&update.source));
            let (json, body) = (update.json, update.body()?);
            print(
                block_on(async { Ok(client.patch::<Value>(&path, &body).await?) })?,
                json,
            )
        }
        SourceCommand::Delete { source } => {
            let client = connection.client()?;
            let path = format!("{PATH}/{}", segment(&source));
            block_on(async { Ok(client.delete(&path).await?) })?;
            output::talk(&format!("deleted the source {source}; its events stay"));
            Ok(())
        }
    }
}

impl Create {
    fn body(self) -> anyhow::Result<wire::SourceCreate> {
        Ok(wire::SourceCreate {
            name: self.name,
            provider: self.provider,
            verify: self.settings.verify.unwrap_or_default(),
            secrets: self
                .secret
                .iter()
                .map(|text| secret(text))
                .collect::<Result<_, _>>()?,
            generate_secret: self.generate_secret,
            dedupe: self.settings.dedupe,
            dedupe_key: self.settings.dedupe_key,
            on_invalid: self.settings.on_invalid.unwrap_or_default(),
            tolerance: self.tolerance,
            body_limit: self.body_limit,
            rate_limit: self.rate_limit,
            scheme: self.settings.scheme.into_iter().collect(),
            public_url: self.public_url,
        })
    }
}

impl Update {
    fn body(self) -> anyhow::Result<wire::SourceUpdate> {
        let secrets: Vec<_> = self
            .secret
            .iter()
            .map(|text| secret(text))
            .collect::<Result<_, _>>()?;
        let scheme: BTreeMap<_, _> = self.settings.scheme.into_iter().collect();
        Ok(wire::SourceUpdate {
            name: self.name,
            verify: self.settings.verify,
            secrets: (!secrets.is_empty()).then_some(secrets),
            dedupe: self.settings.dedupe,
            dedupe_key: self.settings.dedupe_key,
            on_invalid: self.settings.on_invalid,
            tolerance: self.tolerance.map(|given| given.0),
            body_limit: self.body_limit.map(|given| given.0),
            rate_limit: self.rate_limit.map(|given| given.0),
            scheme: (!scheme.is_empty()).then_some(scheme),
            public_url: self.public_url.map(|given| given.0),
        })
    }
}

fn list(connection: &Connection, listing: &Listing) -> anyhow::Result<()> {
    let none = "no sources yet: make one with `hookfast source create NAME --provider PROVIDER`";
    let columns = [
        "=NAME",
        "PROVIDER",
        "=PATH",
        "VERIFY",
        "SECRETS",
        "DEDUPE",
        "QUARANTINE",
        "ORIGIN",
    ];
    print_list(
        connection,
        listing,
        (PATH, Query::default()),
        none,
        &columns,
        |table, source: wire::Source| {
            let quarantined = match source.quarantined {
                0 => dim(0),
                some => cell(some).fg(comfy_table::Color::Yellow),
            };
            table.row([
                cell(&source.name),
                cell(&source.provider),
                cell(&source.path),
                cell(word(&source.verify)),
                cell(source.secrets),
                cell(source.dedupe),
                quarantined,
                dim(word(&source.origin)),
            ]);
        },
    )
}

fn print(shown: Value, json: bool) -> anyhow::Result<()> {
    if json {
        return output::json(&shown);
    }
    let source: wire::Source = decode(shown)?;
    let scheme: Vec<_> = source
        .scheme
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    output::facts([
        ("name", Some(source.name)),
        ("id", Some(source.id)),
        ("provider", Some(source.provider)),
        ("path", Some(source.path)),
        ("verify", Some(word(&source.verify))),
        ("secrets", Some(source.secrets.to_string())),
        (
            "dedupe",
            Some(format!("{} by {}", source.dedupe, source.dedupe_key)),
        ),
        ("on invalid", Some(word(&source.on_invalid))),
        (
            "tolerance",
            source.tolerance.map(|tolerance| tolerance.to_string()),
        ),
        ("body limit", source.body_limit.map(size_text)),
        ("rate limit", source.rate_limit.map(|rate| format!("{rate}/s"))),
        ("scheme", (!scheme.is_empty()).then(|| scheme.join(", "))),
        ("public url", source.public_url),
        ("quarantined", Some(source.quarantined.to_string())),
        ("origin", Some(word(&source.origin))),
        ("created", Some(source.created_at.to_string())),
        ("updated", Some(source.updated_at.to_string())),
        ("secret", source.secret.clone()),
    ])?;
    if source.secret.is_some() {
        output::talk("this secret is shown only now: give it to the provider");
    }
    source
        .warnings
        .iter()
        .for_each(|text| output::warning(output::clean(text)));
    Ok(())
}

fn providers(json: bool) -> anyhow::Result<()> {
    let known: Vec<_> = hookfast_signature::PROVIDERS.iter().map(provider).collect();
    if json {
        return output::json(&known);
    }
    let mut table = Table::new(&["=SLUG", "NAME", "ANSWER WITHIN", "AFTER FAILURES", "SECRET"]);
    for provider in known {
        table.row([
            cell(&provider.slug),
            cell(&provider.name),
            maybe(provider.ack_budget),
            maybe(Some(provider.on_failure).filter(|text| !text.is_empty())),
            maybe(Some(provider.secret_hint).filter(|text| !text.is_empty())),
        ]);
    }
    table.row([
        cell("generic"),
        cell("any other"),
        dim("-"),
        dim("-"),
        cell("by its scheme's settings"),
    ]);
    table.print()?;
    Ok(())
}

fn provider(provider: &hookfast_signature::Provider) -> wire::Provider {
    wire::Provider {
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
    }
}
