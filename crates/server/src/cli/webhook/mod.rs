//! `hookfast webhook`: the outbox's destinations, and what can be tried of them without a server.
//!
//! A webhook is a push destination that takes what the application publishes. Owns the commands of the outbox's own
//! words; what is the same for every destination stands in `destination`.

mod test;
mod triggers;

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::connection::{Connection, Listing, block_on, decode, print_listed, secret};
use super::destination::{self as destinations, Named, PATH, Signing, act, given_up, is_webhook, waiting};
use super::output::{cell, dim, word};
use crate::admin::wire;
use crate::client::{Client, Listed, Query};

/// The longest name that is derived from a URL: a number fits after it.
const NAME_CHARACTERS: usize = 56;

/// Makes and changes webhooks, which take what the application publishes, and tries them without a server.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  hookfast webhook create --url https://hooks.example.com/in --trigger 'message.*,grant.expired'
  hookfast webhook list
  hookfast webhook triggers --category message
  hookfast webhook test send http://127.0.0.1:3000/webhooks --allow-private
  hookfast webhook test payload message.created

Publish what they take with `hookfast event publish`; `hookfast destination` sets what is not offered here.")]
pub(super) struct WebhookArgs {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    command: WebhookCommand,
}

#[derive(Debug, Subcommand)]
enum WebhookCommand {
    /// Lists the webhooks.
    #[command(after_help = "Examples:\n  hookfast webhook list\n  hookfast webhook list --json")]
    List(Listing),
    /// Shows one webhook, its health and what waits for it.
    #[command(after_help = "Examples:\n  hookfast webhook show customer")]
    Show(Named),
    /// Makes a webhook, once its URL has answered a challenge, and shows its secret once.
    #[command(after_help = "Examples:
  hookfast webhook create --url https://hooks.example.com/in
  hookfast webhook create --url https://hooks.example.com/in --trigger message.created --trigger grant.expired
  hookfast webhook create --url https://hooks.example.com/in --signing nylas --notify ops@example.com
  hookfast webhook create --url http://127.0.0.1:3000/in --allow-private --name local

The challenge is GET URL?challenge=VALUE, to be answered 200 with VALUE as the whole body. A webhook that does not is
kept as `unverified`, with the reason: mend it, and `hookfast webhook reactivate` asks again.")]
    Create(Box<Create>),
    /// Changes a webhook. What is not named stays; another URL is challenged.
    #[command(after_help = "Examples:
  hookfast webhook update customer --url https://new.example.com/in
  hookfast webhook update customer --trigger 'message.*' --notify none")]
    Update(Box<Update>),
    /// Deletes a webhook. What it has not taken is given up.
    #[command(after_help = "Examples:\n  hookfast webhook delete customer")]
    Delete {
        /// Its name or id.
        webhook: String,
    },
    /// Makes a new secret and shows it once.
    #[command(after_help = "Examples:\n  hookfast webhook rotate-secret customer

For 24 hours deliveries carry signatures by both secrets where the signing is standard or both; as Nylas signs there
is room for one alone, which is the new one's at once.")]
    RotateSecret(Named),
    /// Has a failed, unverified or paused webhook take deliveries again, once its URL has answered a challenge.
    #[command(after_help = "Examples:
  hookfast webhook reactivate customer               (what was held is delivered)
  hookfast webhook reactivate customer --discard     (what was held is given up)")]
    Reactivate {
        #[command(flatten)]
        named: Named,
        /// Delivers what was held; this is the default.
        #[arg(long, conflicts_with = "discard")]
        deliver: bool,
        /// Gives up what was held.
        #[arg(long)]
        discard: bool,
    },
    /// Holds its deliveries until it is reactivated.
    #[command(after_help = "Examples:\n  hookfast webhook pause customer")]
    Pause(Named),
    /// Lists the trigger types that webhooks can be about.
    #[command(after_help = "Examples:
  hookfast webhook triggers
  hookfast webhook triggers --category message
  hookfast webhook triggers --of-server --json

Needs no server, but for --of-server.")]
    Triggers(triggers::Triggers),
    /// Shows or sends mock notifications, without a server.
    #[command(after_help = "Examples:
  hookfast webhook test send http://127.0.0.1:3000/webhooks --allow-private
  hookfast webhook test payload message.created")]
    Test {
        #[command(subcommand)]
        test: test::Test,
    },
}

#[derive(Args, Debug)]
struct Create {
    /// Where notifications are posted to.
    #[arg(long)]
    url: String,
    /// A trigger type, or a prefix such as message.*; several, or parted by commas. All by default.
    #[arg(long, value_name = "TYPE", value_delimiter = ',')]
    trigger: Vec<String>,
    /// Its name; by default made from the URL's host.
    #[arg(long)]
    name: Option<String>,
    /// What it is for.
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// Who is told by e-mail when it is failing, failed, or back; several, or parted by commas.
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',')]
    notify: Vec<String>,
    /// How it is signed, and so what form it has; standard by default.
    #[arg(long, value_enum)]
    signing: Option<Signing>,
    /// A secret of your own (whsec_…; any text with --signing nylas); `file:PATH`, or `-` for stdin. One is made by
    /// default.
    #[arg(long, value_name = "SECRET")]
    secret: Option<String>,
    /// Sends it compressed by gzip.
    #[arg(long)]
    compressed: bool,
    /// Lets the URL be private and clear text: it is mine and local. Needs an admin key.
    #[arg(long)]
    allow_private: bool,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
struct Update {
    #[command(flatten)]
    named: Named,
    /// Where notifications are posted to.
    #[arg(long)]
    url: Option<String>,
    /// The trigger types, in place of those there are; several, or parted by commas.
    #[arg(long, value_name = "TYPE", value_delimiter = ',')]
    trigger: Vec<String>,
    /// Its new name.
    #[arg(long)]
    name: Option<String>,
    /// What it is for.
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// Who is told by e-mail, in place of those there are; `none` for nobody.
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',')]
    notify: Vec<String>,
    /// How it is signed; where its secret does not fit, a new one is made and shown once.
    #[arg(long, value_enum)]
    signing: Option<Signing>,
    /// Whether it is sent compressed by gzip.
    #[arg(long, value_name = "true|false")]
    compressed: Option<bool>,
    /// Lets the URL be private and clear text: it is mine and local. Needs an admin key.
    #[arg(long)]
    allow_private: bool,
    /// Its URL must be public and https again.
    #[arg(long, conflicts_with = "allow_private")]
    no_allow_private: bool,
}

pub(super) fn run(args: WebhookArgs) -> anyhow::Result<ExitCode> {
    let connection = args.connection;
    match args.command {
        WebhookCommand::Test { test } => return test::run(test),
        WebhookCommand::Triggers(asked) => triggers::run(&connection, &asked),
        WebhookCommand::List(listing) => list(&connection, &listing),
        WebhookCommand::Show(named) => destinations::show(&connection, &named),
        WebhookCommand::Create(create) => create.run(&connection),
        WebhookCommand::Update(update) => {
            let (named, body) = update.body();
            destinations::change(&connection, &named, &body)
        }
        WebhookCommand::Delete { webhook } => destinations::delete(&connection, "webhook", &webhook),
        WebhookCommand::RotateSecret(named) => act(&connection, &named, "rotate-secret", &json!({})),
        WebhookCommand::Reactivate { named, discard, .. } => {
            act(&connection, &named, "reactivate", &json!({ "discard": discard }))
        }
        WebhookCommand::Pause(named) => act(&connection, &named, "pause", &json!({})),
    }?;
    Ok(ExitCode::SUCCESS)
}

/// Every destination; the server has no list of webhooks alone.
async fn all(client: &Client) -> anyhow::Result<Vec<Value>> {
    Ok(client.list(PATH, &Query::default(), None).await?.items)
}

fn list(connection: &Connection, listing: &Listing) -> anyhow::Result<()> {
    let client = connection.client()?;
    let mut items = Vec::new();
    for item in block_on(all(&client))? {
        if is_webhook(&decode(item.clone())?) {
            items.push(item);
        }
    }
    let most = listing.most().unwrap_or(usize::MAX);
    let more = items.len() > most;
    items.truncate(most);
    let columns = [
        "=NAME", "STATUS", "URL", "TRIGGERS", "SIGNING", "LAST 15M", "WAITING", "DEAD",
    ];
    let none = "no webhooks yet: make one with `hookfast webhook create --url URL`";
    print_listed(
        listing,
        Listed { items, more },
        none,
        &columns,
        |table, each: wire::Destination| {
            let window = match (each.window.good, each.window.bad) {
                (0, 0) => dim("-"),
                (good, 0) => cell(format!("{good} good")),
                (good, bad) => cell(format!("{good} good, {bad} bad")).fg(comfy_table::Color::Yellow),
            };
            table.row([
                cell(&each.name),
                destinations::status(each.status),
                cell(each.url.as_deref().unwrap_or_default()),
                cell(each.trigger_types.join(", ")),
                cell(word(&each.signing)),
                window,
                cell(waiting(&each)),
                cell(given_up(&each)),
            ]);
        },
    )
}

impl Create {
    fn run(self, connection: &Connection) -> anyhow::Result<()> {
        let client = connection.client()?;
        let json = self.json;
        let made = block_on(async {
            let name = match &self.name {
                Some(name) => name.clone(),
                None => free_name(&name_of(&self.url), &taken(&client).await?),
            };
            Ok(client.post::<Value>(PATH, &self.body(name)?).await?)
        })?;
        destinations::print(made, json)
    }

    fn body(self, name: String) -> anyhow::Result<wire::DestinationCreate> {
        Ok(wire::DestinationCreate {
            name,
            kind: Some(wire::DestinationKind::Push),
            url: Some(self.url),
            trigger_types: (!self.trigger.is_empty()).then_some(self.trigger),
            description: self.description,
            notification_email_addresses: self.notify,
            signing: self.signing.map(Into::into),
            secret: self.secret.as_deref().map(secret).transpose()?,
            compressed: self.compressed,
            allow_private: self.allow_private,
            ..wire::DestinationCreate::default()
        })
    }
}

/// The names that there are.
async fn taken(client: &Client) -> anyhow::Result<Vec<String>> {
    let names = all(client).await?.into_iter();
    Ok(names
        .filter_map(|item| item["name"].as_str().map(str::to_owned))
        .collect())
}

/// A name from the host of a URL: `hooks-example-com`.
fn name_of(url: &str) -> String {
    let url = url::Url::parse(url).ok();
    let host = url.as_ref().and_then(url::Url::host_str).unwrap_or("webhook");
    let plain = |character: char| match character {
        'a'..='z' | '0'..='9' => character,
        _ => '-',
    };
    let name: String = host.chars().map(plain).take(NAME_CHARACTERS).collect();
    match name.trim_matches('-') {
        "" => "webhook".to_owned(),
        name => name.to_owned(),
    }
}

/// That name, or with the first number after it that makes it one of its own.
fn free_name(name: &str, taken: &[String]) -> String {
    let numbered = (2_u32..).map(|number| format!("{name}-{number}"));
    let mut names = std::iter::once(name.to_owned()).chain(numbered);
    names
        .find(|name| !taken.contains(name))
        .unwrap_or_else(|| name.to_owned())
}

impl Update {
    fn body(self) -> (Named, wire::DestinationUpdate) {
        let notify = match self.notify.as_slice() {
            [] => None,
            [none] if none == "none" => Some(Vec::new()),
            addresses => Some(addresses.to_vec()),
        };
        let body = wire::DestinationUpdate {
            name: self.name,
            url: self.url,
            trigger_types: (!self.trigger.is_empty()).then_some(self.trigger),
            description: self.description,
            notification_email_addresses: notify,
            signing: self.signing.map(Into::into),
            compressed: self.compressed,
            allow_private: destinations::allow_private(self.allow_private, self.no_allow_private),
            ..wire::DestinationUpdate::default()
        };
        (self.named, body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_made_of_the_host_and_is_its_own() {
        for (url, name) in [
            ("https://hooks.example.com/in?a=b", "hooks-example-com"),
            ("http://127.0.0.1:3000/", "127-0-0-1"),
            ("https://[2606:4700::1]/", "2606-4700--1"),
            ("https://Müller.example/", "xn--mller-kva-example"),
            ("not a URL", "webhook"),
        ] {
            assert_eq!(name_of(url), name);
        }
        assert!(name_of(&format!("https://{}.example/", "a".repeat(60))).len() <= NAME_CHARACTERS);
        let taken = ["a".to_owned(), "a-2".to_owned()];
        assert_eq!(free_name("a", &taken), "a-3");
        assert_eq!(free_name("b", &taken), "b");
    }
}
