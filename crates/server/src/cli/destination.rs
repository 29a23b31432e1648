//! `hookfast destination`: where events go.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use hookfast_engine::topology::OUTBOX;
use serde_json::{Value, json};

use super::connection::{
    Connection, Listing, OrNone, block_on, decode, or_none, print_list, secret, segment, span,
};
use super::output::{self, cell, dim, relative, word};
use super::source::number;
use crate::admin::wire::{self, DeliveryState};
use crate::client::Query;
use crate::clock::Clock;

pub(super) const PATH: &str = "/api/v1/destinations";

/// Lists, makes and changes destinations: where events go.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  hookfast destination list
  hookfast destination create my-app --url http://127.0.0.1:3000/hooks --source nylas --allow-private
  hookfast destination pause my-app
  hookfast destination test my-app

Those that take what the application publishes are webhooks too: see `hookfast webhook --help`.")]
pub(super) struct DestinationArgs {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    command: DestinationCommand,
}

#[derive(Debug, Subcommand)]
enum DestinationCommand {
    /// Lists the destinations.
    #[command(after_help = "Examples:\n  hookfast destination list\n  hookfast destination list --json")]
    List(Listing),
    /// Shows one destination, its health and what waits for it.
    #[command(after_help = "Examples:\n  hookfast destination show my-app")]
    Show(Named),
    /// Makes a destination.
    #[command(after_help = "Examples:
  hookfast destination create my-app --url https://app.example.com/hooks --source nylas
  hookfast destination create local --url http://127.0.0.1:3000/ --source nylas --allow-private
  hookfast destination create queue --pull --source github --trigger-type 'push'
  hookfast destination create customer --url https://customer.example.com/hooks --trigger-type 'message.*'

Without --source it takes what the application publishes (its only source is `outbox`), and its URL must answer a
challenge: GET URL?challenge=VALUE is answered 200 with VALUE as the body.")]
    Create(Box<Create>),
    /// Changes a destination. What is not named stays; `none` clears.
    #[command(after_help = "Examples:
  hookfast destination update my-app --url https://new.example.com/hooks
  hookfast destination update my-app --concurrency 8 --rate-limit none")]
    Update(Box<Update>),
    /// Deletes a destination. What it has not taken is given up.
    #[command(after_help = "Examples:\n  hookfast destination delete my-app")]
    Delete {
        /// Its name or id.
        destination: String,
    },
    /// Holds its deliveries until it is resumed.
    #[command(after_help = "Examples:\n  hookfast destination pause my-app")]
    Pause(Named),
    /// Delivers again, what was held first.
    #[command(after_help = "Examples:
  hookfast destination resume my-app
  hookfast destination resume my-app --discard     (gives up what was held)")]
    Resume(Resumed),
    /// Has a failed or unverified destination take deliveries again.
    #[command(after_help = "Examples:\n  hookfast destination reactivate my-app")]
    Reactivate(Resumed),
    /// Makes a new signing secret and shows it once; the old one stays valid for a day.
    #[command(after_help = "Examples:\n  hookfast destination rotate-secret my-app")]
    RotateSecret(Named),
    /// Sends it one test event, signed as its deliveries are, and shows how it answered.
    #[command(after_help = "Examples:
  hookfast destination test customer
  hookfast destination test customer --trigger invoice.paid --json

Exits 1 where the answer is no success under its policy. Nothing of a test is stored or counted.")]
    Test {
        #[command(flatten)]
        named: Named,
        /// The trigger type; by default the first that it lists, or message.created.
        #[arg(long, value_name = "TYPE")]
        trigger: Option<String>,
    },
}

/// Which destination.
#[derive(Args, Debug)]
pub(super) struct Named {
    /// Its name or id.
    pub destination: String,
    /// Prints JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
struct Resumed {
    #[command(flatten)]
    named: Named,
    /// Gives up what was held, instead of delivering it.
    #[arg(long)]
    discard: bool,
}

#[derive(Args, Debug)]
struct Create {
    /// Its name.
    name: String,
    /// Where deliveries are posted to.
    #[arg(long, required_unless_present = "pull")]
    url: Option<String>,
    /// Workers lease its deliveries over the API.
    #[arg(long, conflicts_with = "url")]
    pull: bool,
    /// A source whose events it takes; may be given several times. Without any, and with `outbox`, it takes what the
    /// application publishes.
    #[arg(long, value_name = "NAME")]
    source: Vec<String>,
    /// A signing secret of your own (whsec_…); `file:PATH`, or `-` for stdin. One is made by default.
    #[arg(long, value_name = "SECRET")]
    secret: Option<String>,
    #[command(flatten)]
    settings: Settings,
    /// At most this many attempts a second.
    #[arg(long, value_name = "N")]
    rate_limit: Option<u32>,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
struct Update {
    /// Its name or id.
    destination: String,
    /// Its new name.
    #[arg(long)]
    name: Option<String>,
    /// Where deliveries are posted to.
    #[arg(long)]
    url: Option<String>,
    /// A source whose events it takes, in place of those there are.
    #[arg(long, value_name = "NAME")]
    source: Vec<String>,
    #[command(flatten)]
    settings: Settings,
    /// Its URL must be public and https again.
    #[arg(long, conflicts_with = "allow_private")]
    no_allow_private: bool,
    /// At most this many attempts a second.
    #[arg(long, value_name = "N", value_parser = |text: &str| or_none(text, number))]
    rate_limit: Option<OrNone<u32>>,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

/// What is said the same way when a destination is made and changed.
#[derive(Args, Debug)]
struct Settings {
    /// An event type it takes, or a prefix such as message.*; all by default.
    #[arg(long, value_name = "TYPE")]
    trigger_type: Vec<String>,
    /// Its retry policy: inbox, nylas, standard or one of your own.
    #[arg(long, value_name = "NAME")]
    policy: Option<String>,
    /// The longest that one attempt may take.
    #[arg(long, value_name = "DURATION", value_parser = span)]
    timeout: Option<wire::Span>,
    /// At most this many attempts at once.
    #[arg(long, value_name = "N")]
    concurrency: Option<u32>,
    /// Lets the URL be private and clear text: it is mine and local.
    #[arg(long)]
    allow_private: bool,
    /// What it is for.
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// How published events are signed, and so what form they go out in.
    #[arg(long, value_enum)]
    signing: Option<Signing>,
    /// Sends published events compressed by gzip.
    #[arg(long)]
    compressed: bool,
    /// Whether its URL must answer a challenge before it takes deliveries.
    #[arg(long, value_name = "true|false")]
    verify: Option<bool>,
    /// Who is told by e-mail when it is failing, failed, or back; may be given several times.
    #[arg(long, value_name = "ADDRESS")]
    notify: Vec<String>,
}

/// How published events are signed.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(super) enum Signing {
    /// By Standard Webhooks.
    Standard,
    /// As Nylas signs.
    Nylas,
    /// Both.
    Both,
}

impl From<Signing> for wire::Signing {
    fn from(signing: Signing) -> Self {
        match signing {
            Signing::Standard => Self::Standard,
            Signing::Nylas => Self::Nylas,
            Signing::Both => Self::Both,
        }
    }
}

impl Settings {
    fn trigger_types(&self) -> Option<Vec<String>> {
        (!self.trigger_type.is_empty()).then(|| self.trigger_type.clone())
    }
}

pub(super) fn run(args: DestinationArgs) -> anyhow::Result<ExitCode> {
    let connection = args.connection;
    match args.command {
        DestinationCommand::Test { named, trigger } => return test(&connection, &named, trigger),
        DestinationCommand::List(listing) => list(&connection, &listing),
        DestinationCommand::Show(named) => show(&connection, &named),
        DestinationCommand::Create(create) => {
            let client = connection.client()?;
            let (json, body) = (create.json, create.body()?);
            print(
                block_on(async { Ok(client.post::<Value>(PATH, &body).await?) })?,
                json,
            )
        }
        DestinationCommand::Update(update) => {
            let (named, body) = update.body();
            change(&connection, &named, &body)
        }
        DestinationCommand::Delete { destination } => delete(&connection, "destination", &destination),
        DestinationCommand::Pause(named) => act(&connection, &named, "pause", &json!({})),
        DestinationCommand::Resume(resumed) => resumed.run(&connection, "resume"),
        DestinationCommand::Reactivate(resumed) => resumed.run(&connection, "reactivate"),
        DestinationCommand::RotateSecret(named) => act(&connection, &named, "rotate-secret", &json!({})),
    }?;
    Ok(ExitCode::SUCCESS)
}

/// Shows one destination.
pub(super) fn show(connection: &Connection, named: &Named) -> anyhow::Result<()> {
    let client = connection.client()?;
    let shown = block_on(async { Ok(client.get::<Value>(&named.path(), &Query::default()).await?) })?;
    print(shown, named.json)
}

/// Changes one destination, and shows it.
pub(super) fn change(
    connection: &Connection,
    named: &Named,
    body: &wire::DestinationUpdate,
) -> anyhow::Result<()> {
    let client = connection.client()?;
    print(
        block_on(async { Ok(client.patch::<Value>(&named.path(), body).await?) })?,
        named.json,
    )
}

/// Deletes one destination, which is called `what`.
pub(super) fn delete(connection: &Connection, what: &str, destination: &str) -> anyhow::Result<()> {
    let client = connection.client()?;
    let path = format!("{PATH}/{}", segment(destination));
    block_on(async { Ok(client.delete(&path).await?) })?;
    output::talk(&format!("deleted the {what} {destination}"));
    Ok(())
}

fn test(connection: &Connection, named: &Named, trigger_type: Option<String>) -> anyhow::Result<ExitCode> {
    let client = connection.client()?;
    let path = format!("{}/test", named.path());
    let asked = wire::TestAsked { trigger_type };
    let tested = block_on(async { Ok(client.post::<Value>(&path, &asked).await?) })?;
    print_tested(
        &decode(tested)?,
        named.json,
        "no success under the destination's policy",
    )
}

/// Says how a test went; what the answer is where it is no success stands in `otherwise`.
pub(super) fn print_tested(tested: &wire::Tested, json: bool, otherwise: &str) -> anyhow::Result<ExitCode> {
    if json {
        output::json(tested)?;
    } else {
        let how = match (tested.status, &tested.error) {
            (Some(status), _) => format!("answered {status} in {:.0} ms", tested.duration_ms),
            (None, error) => format!(
                "no answer after {:.0} ms: {}",
                tested.duration_ms,
                output::clean(error.as_deref().unwrap_or("no reason is known"))
            ),
        };
        let verdict = match (tested.success, tested.status) {
            (true, _) | (false, None) => String::new(),
            (false, Some(_)) => format!(": {otherwise}"),
        };
        output::line(format_args!(
            "{}: {how}{verdict}",
            output::clean(&tested.trigger_type)
        ))?;
        if !tested.success && !tested.response_body.is_empty() {
            output::line(output::clean_lines(&tested.response_body))?;
        }
    }
    Ok(if tested.success {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

impl Named {
    fn path(&self) -> String {
        format!("{PATH}/{}", segment(&self.destination))
    }
}

impl Resumed {
    fn run(&self, connection: &Connection, action: &str) -> anyhow::Result<()> {
        act(
            connection,
            &self.named,
            action,
            &json!({ "discard": self.discard }),
        )
    }
}

/// Does `action` to one destination, and shows it.
pub(super) fn act(connection: &Connection, named: &Named, action: &str, body: &Value) -> anyhow::Result<()> {
    let client = connection.client()?;
    let path = format!("{}/{action}", named.path());
    print(
        block_on(async { Ok(client.post::<Value>(&path, body).await?) })?,
        named.json,
    )
}

impl Create {
    fn body(self) -> anyhow::Result<wire::DestinationCreate> {
        let kind = if self.pull {
            wire::DestinationKind::Pull
        } else {
            wire::DestinationKind::Push
        };
        Ok(wire::DestinationCreate {
            name: self.name,
            kind: Some(kind),
            url: self.url,
            sources: self.source,
            trigger_types: self.settings.trigger_types(),
            policy: self.settings.policy,
            timeout: self.settings.timeout,
            concurrency: self.settings.concurrency,
            rate_limit: self.rate_limit,
            allow_private: self.settings.allow_private,
            description: self.settings.description,
            signing: self.settings.signing.map(Into::into),
            compressed: self.settings.compressed,
            verify: self.settings.verify,
            notification_email_addresses: self.settings.notify,
            secret: self.secret.as_deref().map(secret).transpose()?,
        })
    }
}

impl Update {
    fn body(self) -> (Named, wire::DestinationUpdate) {
        let allow_private = allow_private(self.settings.allow_private, self.no_allow_private);
        let named = Named {
            destination: self.destination,
            json: self.json,
        };
        let body = wire::DestinationUpdate {
            trigger_types: self.settings.trigger_types(),
            name: self.name,
            url: self.url,
            sources: (!self.source.is_empty()).then_some(self.source),
            policy: self.settings.policy,
            timeout: self.settings.timeout,
            concurrency: self.settings.concurrency,
            rate_limit: self.rate_limit.map(|given| given.0),
            allow_private,
            description: self.settings.description,
            signing: self.settings.signing.map(Into::into),
            compressed: self.settings.compressed.then_some(true),
            verify: self.settings.verify,
            notification_email_addresses: (!self.settings.notify.is_empty()).then_some(self.settings.notify),
        };
        (named, body)
    }
}

/// What two opposite flags say of `allow_private`.
pub(super) fn allow_private(yes: bool, no: bool) -> Option<bool> {
    match (yes, no) {
        (true, _) => Some(true),
        (false, true) => Some(false),
        (false, false) => None,
    }
}

/// States in which a delivery has not been settled.
const WAITING: [DeliveryState; 4] = [
    DeliveryState::Pending,
    DeliveryState::InFlight,
    DeliveryState::Retrying,
    DeliveryState::Held,
];

fn list(connection: &Connection, listing: &Listing) -> anyhow::Result<()> {
    let none =
        "no destinations yet: make one with `hookfast destination create NAME --url URL --source SOURCE`";
    let columns = [
        "=NAME", "STATUS", "BREAKER", "URL", "SOURCES", "POLICY", "WAITING", "DEAD", "OLDEST",
    ];
    print_list(
        connection,
        listing,
        (PATH, Query::default()),
        none,
        &columns,
        |table, each: wire::Destination| {
            let now = table.now();
            let breaker = match each.breaker.state {
                wire::BreakerState::Closed => dim("closed"),
                wire::BreakerState::Open => cell("open").fg(comfy_table::Color::Red),
            };
            table.row([
                cell(&each.name),
                status(each.status),
                breaker,
                output::maybe(each.url.as_ref()),
                cell(each.sources.join(", ")),
                cell(&each.policy),
                cell(waiting(&each)),
                cell(given_up(&each)),
                output::maybe(each.oldest_waiting_at.map(|time| relative(now, time))),
            ]);
        },
    )
}

/// A cell with a status, in its colour.
pub(super) fn status(status: wire::DestinationStatus) -> comfy_table::Cell {
    let color = match status {
        wire::DestinationStatus::Active => comfy_table::Color::Green,
        wire::DestinationStatus::Failing | wire::DestinationStatus::Failed => comfy_table::Color::Red,
        wire::DestinationStatus::Paused | wire::DestinationStatus::Unverified => comfy_table::Color::Magenta,
    };
    cell(word(&status)).fg(color)
}

/// How many deliveries wait for it.
pub(super) fn waiting(destination: &wire::Destination) -> u64 {
    let count = |state| destination.counts.get(&state).copied().unwrap_or(0);
    WAITING.into_iter().map(count).sum()
}

/// How many deliveries it refused for good, or never took.
pub(super) fn given_up(destination: &wire::Destination) -> u64 {
    let given_up = [DeliveryState::Dead, DeliveryState::Rejected].into_iter();
    given_up.filter_map(|state| destination.counts.get(&state)).sum()
}

/// Whether it is pushed what its application publishes.
pub(super) fn is_webhook(destination: &wire::Destination) -> bool {
    destination.kind == wire::DestinationKind::Push
        && destination.sources.iter().any(|source| source == OUTBOX)
}

/// Shows one destination.
pub(super) fn print(shown: Value, json: bool) -> anyhow::Result<()> {
    if json {
        return output::json(&shown);
    }
    let each: wire::Destination = decode(shown)?;
    let now = Clock.now();
    let ago = |time: wire::Time| format!("{} ({time})", relative(now, time));
    let counts: Vec<_> = each
        .counts
        .iter()
        .map(|(state, count)| format!("{} {count}", word(state)))
        .collect();
    let breaker = match (each.breaker.state, each.breaker.since, each.breaker.next_probe_at) {
        (wire::BreakerState::Closed, ..) => "closed".to_owned(),
        (wire::BreakerState::Open, since, probe) => format!(
            "open{}{}",
            since
                .map(|time| format!(" since {}", ago(time)))
                .unwrap_or_default(),
            probe
                .map(|time| format!(", next probe {}", relative(now, time)))
                .unwrap_or_default(),
        ),
    };
    // How published events are sent says nothing of a destination that takes none.
    let published = |value: String| {
        each.sources
            .iter()
            .any(|source| source == OUTBOX)
            .then_some(value)
    };
    let form = format!(
        "{}{}",
        word(&each.signing),
        if each.compressed { ", compressed" } else { "" }
    );
    let window = format!("{} good, {} bad in 15m", each.window.good, each.window.bad);
    let (signing, attempts) = (published(form), published(window));
    let challenged = published(each.verify.to_string());
    let some = |text: String| (!text.is_empty()).then_some(text);
    let status = match &each.status_reason {
        Some(reason) => format!(
            "{} since {}: {reason}",
            word(&each.status),
            ago(each.status_changed_at)
        ),
        None => format!("{} since {}", word(&each.status), ago(each.status_changed_at)),
    };
    output::facts([
        ("name", Some(each.name)),
        ("id", Some(each.id)),
        ("description", some(each.description)),
        ("kind", Some(word(&each.kind))),
        ("url", each.url),
        ("sources", Some(each.sources.join(", "))),
        ("trigger types", Some(each.trigger_types.join(", "))),
        ("status", Some(status)),
        ("breaker", Some(breaker)),
        (
            "failures in a row",
            Some(each.breaker.failures_in_a_row.to_string()),
        ),
        ("last success", each.breaker.last_success_at.map(ago)),
        ("last failure", each.breaker.last_failure_at.map(ago)),
        ("attempts", attempts),
        ("deliveries", (!counts.is_empty()).then(|| counts.join(", "))),
        ("oldest waiting", each.oldest_waiting_at.map(ago)),
        ("policy", Some(each.policy)),
        ("timeout", Some(each.timeout.to_string())),
        ("concurrency", Some(each.concurrency.to_string())),
        ("rate limit", each.rate_limit.map(|rate| format!("{rate}/s"))),
        ("allow private", Some(each.allow_private.to_string())),
        ("signing", signing),
        ("challenged", challenged),
        ("notified", some(each.notification_email_addresses.join(", "))),
        ("signing secrets", Some(each.secrets.to_string())),
        ("origin", Some(word(&each.origin))),
        ("created", Some(each.created_at.to_string())),
        ("updated", Some(each.updated_at.to_string())),
        ("secret", each.secret.clone()),
    ])?;
    if each.secret.is_some() {
        output::talk(
            "this secret is shown only now and will not be shown again: give it to the application that verifies deliveries",
        );
    }
    each.warnings
        .iter()
        .for_each(|text| output::warning(output::clean(text)));
    Ok(())
}
