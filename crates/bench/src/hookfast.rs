//! Owns what the bench knows of Hookfast: its configuration, its command line and three calls of its admin API.
//! It must not know its crates: the bench measures the binary that people run.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use hyper::{Method, StatusCode};
use serde::Deserialize;
use tokio::process::Command;

use crate::http::call;
use crate::load::Target;
use crate::notification::SECRET;
use crate::process::Server;

const SOURCE: &str = "nylas";
const DESTINATION: &str = "sink";
/// Where the source of the configuration takes its notifications.
pub(crate) const INGEST_PATH: &str = "/in/nylas";
const ADMIN_KEY: &str = "bench-only-admin-key-0123456789abcdef";
const EVENTS: &str = "/api/v1/events";
/// How many trigger types the bystanders have between them.
const BYSTANDER_TYPES: usize = 1_000;
const STATS: &str = "/api/v1/stats";
const DESTINATIONS: &str = "/api/v1/destinations";

/// A running server and the way to ask it.
pub(crate) struct Hookfast {
    /// Its process.
    pub(crate) server: Server,
    admin: SocketAddr,
}

#[derive(Deserialize)]
struct Destinations {
    data: Vec<Destination>,
}

#[derive(Deserialize)]
struct Destination {
    id: String,
    name: String,
}

impl Hookfast {
    /// Starts `binary` in `directory` with one source and one destination, which is at `sink` and takes what is posted to
    /// the source, or what is published. The `bystanders` take neither.
    pub(crate) async fn start(
        binary: &Path,
        directory: &Path,
        sink: SocketAddr,
        publishes: bool,
        bystanders: usize,
    ) -> Result<Self> {
        let config = directory.join("hookfast.toml");
        fs::write(&config, configuration(sink, publishes, bystanders))?;
        let mut command = Command::new(binary);
        command
            .arg("serve")
            .arg("--config")
            .arg(&config)
            .arg("--data")
            .arg(directory.join("data"));
        command.args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
        // The environment has the last word over the file, and what is measured is to be the same everywhere.
        for (name, _) in
            std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("HOOKFAST_"))
        {
            command.env_remove(name);
        }
        command.env("HOOKFAST_ADMIN_KEY", ADMIN_KEY);
        let server = Server::start(command, &directory.join("hookfast.log")).await?;
        let admin = server
            .admin
            .context("the ready line of hookfast has no admin=ADDR")?;
        Ok(Self { server, admin })
    }

    /// Where events are published.
    pub(crate) fn publishing(&self) -> Target {
        Target {
            address: self.admin,
            path: EVENTS,
            key: Some(ADMIN_KEY),
            accepted: StatusCode::ACCEPTED,
        }
    }

    /// Pauses the destination, so that deliveries are written and none is sent.
    pub(crate) async fn pause(&self) -> Result<()> {
        let list = parse_destinations(&self.call(Method::GET, DESTINATIONS).await?)?;
        let Some(destination) = list.iter().find(|destination| destination.name == DESTINATION) else {
            bail!(
                "GET {DESTINATIONS} lists no destination named `{DESTINATION}`, though the configuration declares it"
            );
        };
        self.call(Method::POST, &format!("{DESTINATIONS}/{}/pause", destination.id))
            .await?;
        Ok(())
    }

    /// How many events it has stored, by its own count.
    pub(crate) async fn stored(&self) -> Result<u64> {
        parse_stored(&self.call(Method::GET, STATS).await?)
    }

    async fn call(&self, method: Method, path: &str) -> Result<Bytes> {
        call(self.admin, method, path, Some(ADMIN_KEY)).await
    }
}

fn configuration(sink: SocketAddr, publishes: bool, bystanders: usize) -> String {
    let takes = if publishes {
        "trigger_types = [\"message.*\"]".to_owned()
    } else {
        format!("sources = [\"{SOURCE}\"]")
    };
    let mut configuration = format!(
        "[outbox]\n\
         open = true\n\
         \n\
         [[source]]\n\
         name = \"{SOURCE}\"\n\
         provider = \"nylas\"\n\
         secrets = [\"{SECRET}\"]\n\
         \n\
         [[destination]]\n\
         name = \"{DESTINATION}\"\n\
         url = \"http://{sink}/webhooks\"\n\
         {takes}\n\
         allow_private = true\n"
    );
    for number in 0..bystanders {
        let of_type = number % BYSTANDER_TYPES;
        configuration += &format!(
            "\n[[destination]]\n\
             name = \"bystander-{number}\"\n\
             url = \"http://{sink}/webhooks\"\n\
             trigger_types = [\"bystander.type{of_type}\"]\n\
             allow_private = true\n"
        );
    }
    configuration
}

fn parse_destinations(body: &[u8]) -> Result<Vec<Destination>> {
    let list: Destinations = serde_json::from_slice(body).with_context(|| {
        format!(
            "GET {DESTINATIONS} is not {{\"data\":[{{\"id\":…,\"name\":…}}]}} but {}",
            String::from_utf8_lossy(body)
        )
    })?;
    Ok(list.data)
}

fn parse_stored(body: &[u8]) -> Result<u64> {
    let stats: serde_json::Value =
        serde_json::from_slice(body).with_context(|| format!("GET {STATS} is not JSON"))?;
    stats.pointer("/events/stored").and_then(serde_json::Value::as_u64).with_context(|| {
        format!("GET {STATS} has no number at events.stored, so the 200s cannot be checked; it answered {stats}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stored_events_are_read_from_the_stats_and_their_absence_is_explained() {
        assert_eq!(
            parse_stored(br#"{"events":{"stored":12,"duplicates":0}}"#).unwrap(),
            12
        );
        let error = parse_stored(br#"{"events":{}}"#).unwrap_err().to_string();
        assert!(
            error.contains("events.stored") && error.contains(r#"{"events":{}}"#),
            "{error}"
        );
    }

    #[test]
    fn destinations_are_read_from_a_page_of_the_list() {
        let page = br#"{"data":[{"id":"dst_1","name":"sink","state":"active"}],"next_cursor":null}"#;
        let list = parse_destinations(page).unwrap();
        assert_eq!((list[0].id.as_str(), list[0].name.as_str()), ("dst_1", "sink"));
        assert!(parse_destinations(b"[]").is_err());
    }

    #[test]
    fn the_configuration_names_the_sink() {
        assert_eq!(
            configuration("127.0.0.1:9".parse().unwrap(), false, 0),
            r#"[outbox]
open = true

[[source]]
name = "nylas"
provider = "nylas"
secrets = ["bE9-benchSecret_1234"]

[[destination]]
name = "sink"
url = "http://127.0.0.1:9/webhooks"
sources = ["nylas"]
allow_private = true
"#
        );
    }
}
