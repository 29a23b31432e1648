//! `hookfast webhook triggers`: what webhooks can be about (SPEC O9).

use anyhow::bail;
use clap::Args;
use serde_json::json;

use crate::admin::wire;
use crate::cli::connection::{Connection, block_on, decode};
use crate::cli::output::{self, Table, cell, dim};
use crate::client::Query;
use crate::nearest::nearest;
use crate::outbox::catalogue::{self, subscribed_as};

const PATH: &str = "/api/v1/event-types";

/// Which trigger types are listed.
#[derive(Args, Debug)]
pub(super) struct Triggers {
    /// Only those about this: the first word of a type, such as message.
    #[arg(long, value_name = "WORD")]
    category: Option<String>,
    /// Those that the application on the server knows, its own too, instead of those that come with Hookfast.
    #[arg(long)]
    of_server: bool,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(connection: &Connection, asked: &Triggers) -> anyhow::Result<()> {
    let mut all = if asked.of_server {
        of_server(connection)?
    } else {
        catalogue::nylas().iter().map(preset).collect()
    };
    if let Some(category) = &asked.category {
        let known: Vec<String> = all
            .iter()
            .map(|each| category_of(&each.name).to_owned())
            .collect();
        all.retain(|each| category_of(&each.name) == category);
        if all.is_empty() {
            bail!(unknown(category, known));
        }
    }
    if asked.json {
        let shown = |each: &wire::EventType| {
            json!({
                "name": each.name,
                "description": each.description,
                "category": category_of(&each.name),
                "subscribable": each.subscribable,
                "origin": each.origin,
            })
        };
        return output::json(&all.iter().map(shown).collect::<Vec<_>>());
    }
    let mut table = Table::new(&["=TYPE", "WHAT IT TELLS", "LISTED AS"]);
    for each in all {
        let listed_as = if each.subscribable {
            dim("itself")
        } else {
            cell(subscribed_as(&each.name))
        };
        table.row([cell(&each.name), cell(&each.description), listed_as]);
    }
    table.print()?;
    Ok(())
}

fn of_server(connection: &Connection) -> anyhow::Result<Vec<wire::EventType>> {
    let client = connection.client()?;
    let listed = block_on(async { Ok(client.list(PATH, &Query::default(), None).await?) })?;
    listed.items.into_iter().map(decode).collect()
}

fn preset(trigger: &catalogue::TriggerType) -> wire::EventType {
    wire::EventType {
        name: trigger.name.to_owned(),
        description: trigger.description.to_owned(),
        subscribable: trigger.subscribable,
        schema: None,
        example: None,
        origin: wire::EventTypeOrigin::Preset,
        warnings: Vec::new(),
    }
}

fn category_of(name: &str) -> &str {
    name.split('.').next().unwrap_or(name)
}

fn unknown(category: &str, mut known: Vec<String>) -> String {
    known.sort();
    known.dedup();
    match nearest(category, known.iter().map(String::as_str)) {
        Some(near) => format!("there is no category `{category}`; did you mean `{near}`"),
        None => format!(
            "there is no category `{category}`; there are: {}",
            known.join(", ")
        ),
    }
}
