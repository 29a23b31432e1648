//! `hookfast init`: a configuration to start from, and what to paste where.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::Args;
use hookfast_signature::{Handshake, Provider, provider};

use super::output;
use crate::config::{USUAL_FILE, check_provider};
use crate::ingest::scheme::GENERIC;

/// Writes a commented configuration for a provider, and says what to paste where.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  hookfast init nylas
  hookfast init github --forward-to http://127.0.0.1:3000/webhooks/github
  hookfast init stripe --output /etc/hookfast.toml

`hookfast source providers` lists the providers.")]
pub(super) struct InitArgs {
    /// The provider's slug, or `generic`.
    #[arg(value_name = "PROVIDER", value_parser = check_provider)]
    provider: String,
    /// Where your application takes webhooks.
    #[arg(long, value_name = "URL")]
    forward_to: Option<String>,
    /// The file to write.
    #[arg(long, short, value_name = "FILE", default_value = USUAL_FILE)]
    output: PathBuf,
    /// Overwrites the file where it is there.
    #[arg(long)]
    force: bool,
}

pub(super) fn run(args: &InitArgs) -> anyhow::Result<()> {
    let text = configuration(args);
    let mut options = std::fs::OpenOptions::new();
    options
        .write(true)
        .create(true)
        .truncate(true)
        .create_new(!args.force);
    let file = match options.open(&args.output) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            bail!(
                "{} is there already: --force overwrites it, --output names another",
                args.output.display()
            )
        }
        opened => opened,
    };
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("cannot write {}", args.output.display()))?;
    output::line(format_args!("wrote {}", args.output.display()))?;
    for (index, step) in steps(args).into_iter().enumerate() {
        output::line(format_args!("\n{}. {step}", index + 1))?;
    }
    Ok(())
}

fn variable(slug: &str) -> String {
    format!("{}_WEBHOOK_SECRET", slug.to_ascii_uppercase().replace('-', "_"))
}

/// Whether the provider tells its secret only after it has seen the URL answer.
fn tells_later(provider: &Provider) -> bool {
    let unsigned = |handshake: &Handshake| matches!(handshake, Handshake::EchoQuery { .. });
    provider.handshakes.iter().any(unsigned)
}

fn configuration(args: &InitArgs) -> String {
    let slug = args.provider.as_str();
    let url = args
        .forward_to
        .clone()
        .unwrap_or_else(|| format!("http://127.0.0.1:3000/webhooks/{slug}"));
    let private = if url.starts_with("https://") {
        "# allow_private = true        # where that address is private"
    } else {
        "allow_private = true          # the URL is mine and local: permits http and private addresses"
    };
    format!(
        r#"# Hookfast in front of an application that takes webhooks of {name}.
# `hookfast config check` finds mistakes; `hookfast config show` prints what counts, with the defaults.

[server]
listen = "0.0.0.0:8080"       # where {name} posts to: /in/{slug}
admin = "127.0.0.1:8081"      # the admin API and the dashboard; keep it to yourself
data = "./hookfast-data"      # everything is kept here
# public_url = "https://hooks.example.com"   # how {name} sees this server, where its scheme signs the URL

[[source]]
name = "{slug}"
provider = "{slug}"
{secret}
dedupe = "7d"                 # a repeat inside this time is not delivered again
{generic}
[[destination]]
name = "my-app"
url = {url}   # your application: it gets the body as it came
sources = ["{slug}"]
trigger_types = ["*"]         # or some: "message.*"
timeout = "30s"               # how long your application may take
{private}
"#,
        name = provider(slug).map_or("your provider", |provider| provider.name),
        secret = secret_lines(slug),
        generic = if slug == GENERIC { GENERIC_SCHEME } else { "" },
        url = toml::Value::String(url),
    )
}

const GENERIC_SCHEME: &str = r#"dedupe_key = "header:x-webhook-id"   # where the id of a notification is, or "json:PATH", "body" or "none"

[source.scheme]               # how it signs: an HMAC of the body in a header
type = "hmac"
header = "x-signature"
hash = "sha256"
encoding = "hex"
"#;

fn secret_lines(slug: &str) -> String {
    let hint = provider(slug).map_or("the secret that both sides know", |provider| provider.secret_hint);
    format!(
        "# The secret: {hint}.\n# Until it is set, what is posted is kept in quarantine, and nothing is lost.\n# secrets = [\"${{{}}}\"]",
        variable(slug)
    )
}

fn steps(args: &InitArgs) -> Vec<String> {
    let slug = args.provider.as_str();
    let known = provider(slug);
    let name = known.map_or("your provider", |provider| provider.name);
    let variable = variable(slug);
    let file = args.output.display();
    let documentation = known.map_or("", |provider| provider.documentation);
    let see = if documentation.is_empty() {
        String::new()
    } else {
        format!("\n   ({documentation})")
    };
    let paste = format!(
        "Give {name} this URL, with your public host name in it:{see}\n\n       https://YOUR-HOST/in/{slug}"
    );
    let secret = format!(
        "Take the secret ({hint}), uncomment `secrets` in {file}, and set\n\n       export {variable}='…'",
        hint = known.map_or("that both sides know", |provider| provider.secret_hint),
    );
    let serve = "Start the server:\n\n       hookfast serve".to_owned();
    let watch = "Watch what comes in and where it goes:\n\n       hookfast tail".to_owned();
    if known.is_some_and(tells_later) {
        let release = format!(
            "{secret}\n\n   Start the server again, and let in what came meanwhile:\n\n       hookfast quarantine release --source {slug}"
        );
        vec![serve, paste, release, watch]
    } else {
        vec![secret, serve, paste, watch]
    }
}
