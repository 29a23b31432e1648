//! How commands reach a server.
//!
//! Owns the flags that say which server and with which key, the runtime that requests are made on, and
//! listings, which are the same for every noun. Must not know what is listed.

use std::future::Future;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;
use serde::de::DeserializeOwned;

use super::output::{self, Table};
use crate::admin::wire;
use crate::client::{Client, Listed, Query};
use crate::clock::Clock;
use crate::units;

/// The data directory where none is named.
pub(super) const USUAL_DATA: &str = "./hookfast-data";
/// The file with the key that `serve` writes on its first start.
const KEY_FILE: &str = "admin.key";

/// Which server, and with which key.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Server")]
pub(super) struct Connection {
    /// The server's admin or API listener.
    #[arg(
        long,
        global = true,
        env = "HOOKFAST_SERVER",
        default_value = "http://127.0.0.1:8081",
        value_name = "URL"
    )]
    pub server: String,
    /// The key to it; by default what is in admin.key in the data directory.
    #[arg(
        long,
        global = true,
        env = "HOOKFAST_KEY",
        hide_env_values = true,
        value_name = "KEY"
    )]
    pub key: Option<String>,
    /// The data directory where admin.key is.
    #[arg(long, global = true, default_value = USUAL_DATA, value_name = "DIR")]
    pub data: PathBuf,
    /// The application to act on, with an admin key; `*` lists those of all.
    #[arg(long, global = true, value_name = "NAME")]
    pub application: Option<String>,
}

impl Connection {
    /// A client of the server.
    pub(super) fn client(&self) -> anyhow::Result<Client> {
        let key = match &self.key {
            Some(key) if !key.is_empty() => Some(key.clone()),
            Some(_) | None => self.key_of_data()?,
        };
        let client = Client::new(&self.server, key.as_deref(), self.application.as_deref())?;
        if key.is_some() && in_the_clear(&self.server) {
            output::warning(format_args!(
                "the key travels in clear text to {}: use https, or a tunnel",
                client.server()
            ));
        }
        Ok(client)
    }

    fn key_of_data(&self) -> anyhow::Result<Option<String>> {
        let file = self.data.join(KEY_FILE);
        match std::fs::read_to_string(&file) {
            Ok(key) => Ok(Some(key.trim().to_owned())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| {
                format!(
                    "cannot read the key in {}; give one with --key or HOOKFAST_KEY",
                    file.display()
                )
            }),
        }
    }
}

/// Whether others on the network can read what is sent to `server`.
fn in_the_clear(server: &str) -> bool {
    url::Url::parse(server).is_ok_and(|url| {
        let local = match url.host() {
            Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
            Some(url::Host::Ipv4(address)) => address.is_loopback(),
            Some(url::Host::Ipv6(address)) => address.is_loopback(),
            None => true,
        };
        url.scheme() == "http" && !local
    })
}

/// Runs `work` to its end.
pub(super) fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(work)
}

/// How much of a list, and in which form.
#[derive(Args, Clone, Debug)]
pub(super) struct Listing {
    /// Prints JSON.
    #[arg(long)]
    pub json: bool,
    /// At most this many.
    #[arg(long, default_value_t = 50, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: u32,
    /// All of them.
    #[arg(long, conflicts_with = "limit")]
    pub all: bool,
}

/// Prints the list at `path`: as JSON, or as a table of what `fill` makes of its items. `none` is said where it is empty.
pub(super) fn print_list<T: DeserializeOwned>(
    connection: &Connection,
    listing: &Listing,
    (path, query): (&str, Query),
    none: &str,
    columns: &[&str],
    fill: impl Fn(&mut Table, T),
) -> anyhow::Result<()> {
    let client = connection.client()?;
    let listed = block_on(async { Ok(client.list(path, &query, listing.most()).await?) })?;
    print_listed(listing, listed, none, columns, fill)
}

impl Listing {
    /// How many are asked for; all of them where that is `None`.
    pub(super) fn most(&self) -> Option<usize> {
        (!self.all).then(|| usize::try_from(self.limit).unwrap_or(usize::MAX))
    }
}

/// The same for what has been listed already.
pub(super) fn print_listed<T: DeserializeOwned>(
    listing: &Listing,
    listed: Listed,
    none: &str,
    columns: &[&str],
    fill: impl Fn(&mut Table, T),
) -> anyhow::Result<()> {
    if listing.json {
        output::json(&listed.items)?;
    } else if listed.items.is_empty() {
        output::talk(none);
    } else {
        let mut table = Table::new(columns);
        for item in listed.items {
            fill(&mut table, decode(item)?);
        }
        table.print()?;
    }
    if listed.more {
        output::talk("there are more: use --limit or --all");
    }
    Ok(())
}

/// The item that this JSON is.
pub(super) fn decode<T: DeserializeOwned>(item: serde_json::Value) -> anyhow::Result<T> {
    serde_json::from_value(item).context("the server answers in a form that this version does not know")
}

/// A name or id as a part of a path.
pub(super) fn segment(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'~');
    let escaped = text.bytes().map(|byte| {
        if plain(byte) {
            char::from(byte).to_string()
        } else {
            format!("%{byte:02X}")
        }
    });
    escaped.collect()
}

/// A secret as an argument: the text itself, `file:PATH`, or `-` for one line of stdin.
pub(super) fn secret(argument: &str) -> anyhow::Result<String> {
    let content = if argument == "-" {
        let mut line = String::new();
        std::io::stdin()
            .read_line(&mut line)
            .context("cannot read the secret from stdin")?;
        line
    } else if let Some(path) = argument.strip_prefix("file:") {
        std::fs::read_to_string(path).with_context(|| format!("cannot read the secret in {path}"))?
    } else {
        return Ok(argument.to_owned());
    };
    let content = content.strip_suffix('\n').unwrap_or(&content);
    let content = content.strip_suffix('\r').unwrap_or(content);
    if content.is_empty() {
        bail!("the secret is empty");
    }
    Ok(content.to_owned())
}

/// The content of a file, or of stdin for `-`.
pub(super) fn content(path: &Path) -> anyhow::Result<Vec<u8>> {
    if path.as_os_str() == "-" {
        let mut bytes = Vec::new();
        std::io::stdin()
            .read_to_end(&mut bytes)
            .context("cannot read stdin")?;
        return Ok(bytes);
    }
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// A duration as an argument.
pub(super) fn span(argument: &str) -> Result<wire::Span, String> {
    units::duration(argument)
        .map(wire::Span)
        .map_err(|error| error.to_string())
}

/// A size as an argument.
pub(super) fn size(argument: &str) -> Result<u64, String> {
    units::size(argument).map_err(|error| error.to_string())
}

/// A point in time as an argument: RFC 3339, a day in UTC, or how long ago.
pub(super) fn time(argument: &str) -> Result<wire::Time, String> {
    if let Ok(ago) = units::duration(argument) {
        return Ok(wire::Time(Clock.now().minus(ago)));
    }
    let day = format!("{argument}T00:00:00Z").parse();
    argument.parse().or(day).map_err(|_| {
        format!(
            "`{argument}` is no time: write 2026-03-01T12:00:00Z, 2026-03-01, or how long ago, such as 1h30m"
        )
    })
}

/// What a field is set to, where `none` clears it.
#[derive(Clone, Debug)]
pub(super) struct OrNone<T>(pub Option<T>);

/// A value, or `none`.
pub(super) fn or_none<T>(
    argument: &str,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Result<OrNone<T>, String> {
    match argument {
        "none" => Ok(OrNone(None)),
        given => parse(given).map(|value| OrNone(Some(value))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_http_to_elsewhere_is_in_the_clear() {
        for (server, clear) in [
            ("http://127.0.0.1:8081", false),
            ("http://[::1]:8081", false),
            ("http://localhost", false),
            ("https://hooks.example.com", false),
            ("http://hooks.example.com", true),
            ("http://10.0.0.1", true),
        ] {
            assert_eq!(in_the_clear(server), clear, "{server}");
        }
    }

    #[test]
    fn times_are_given_as_they_are_or_as_how_long_ago() {
        assert_eq!(time("1970-01-01T00:00:01Z").unwrap().0.as_secs(), 1);
        assert_eq!(time("1970-01-02").unwrap().0.as_secs(), 86_400);
        assert!(Clock.now().since(time("1h").unwrap().0).as_secs().abs_diff(3600) < 5);
        assert!(time("yesterday").unwrap_err().contains("how long ago"));
    }

    #[test]
    fn names_become_one_part_of_a_path() {
        assert_eq!(segment("my-app_1"), "my-app_1");
        assert_eq!(segment("../a b"), "%2E%2E%2Fa%20b");
    }
}
