//! `[[trigger]]`: the application's own trigger types (SPEC O9).
//!
//! Owns their keys, and the catalogue that the file's destinations subscribe from. What may be said of a type stands
//! in `outbox::own_type`, the same for the API. Must not know what is there already: that is `apply`.

use std::collections::BTreeSet;

use hookfast_engine::id::ApplicationId;
use hookfast_engine::time::Timestamp;
use hookfast_engine::topology::{Origin, TriggerType};
use serde_json::Value;

use super::section::Section;
use crate::outbox::catalogue::Catalogue;
use crate::outbox::own_type::{self, TYPES_MOST};

/// A trigger type as the file declares it.
#[derive(Clone, Debug)]
pub struct DeclaredTrigger {
    /// The type.
    pub name: String,
    /// What it tells.
    pub description: String,
    /// The JSON schema of the data, as it is kept.
    pub schema: Option<String>,
    /// An example of the data, as it is kept.
    pub example: Option<String>,
}

impl DeclaredTrigger {
    /// The type that is declared.
    pub(super) fn trigger_type(
        &self,
        application: ApplicationId,
        created_at: Timestamp,
        updated_at: Timestamp,
    ) -> TriggerType {
        TriggerType {
            application,
            name: self.name.clone(),
            description: self.description.clone(),
            schema: self.schema.clone(),
            example: self.example.clone(),
            origin: Origin::File,
            created_at,
            updated_at,
        }
    }
}

/// Reads one. None where it has no name; every other mistake is noted and passed over.
pub(super) fn read(section: Section<'_>) -> Option<DeclaredTrigger> {
    // Whether it is well formed was checked with all names.
    let name = section.text("name");
    if name.is_none() {
        section.mistake_here("it has no name: write name = \"…\", such as \"invoice.paid\"");
    }
    let description = section.parsed("description", |text| {
        own_type::check_description(text).map(|()| text.to_owned())
    });
    let schema = document(&section, "schema", own_type::schema);
    let example = document(&section, "example", own_type::example);
    section.finish();
    Some(DeclaredTrigger {
        name: name?,
        description: description.unwrap_or_default(),
        schema,
        example,
    })
}

/// A JSON document: written out as a text, or in the file that is named.
fn document(
    section: &Section<'_>,
    key: &'static str,
    kept: fn(&Value) -> Result<String, String>,
) -> Option<String> {
    let text = section.content(key).filter(|text| !text.is_empty())?;
    let read = serde_json::from_str(&text)
        .map_err(|error| format!("this is not JSON ({error}): write it as a text, or \"file:PATH\""))
        .and_then(|value| kept(&value));
    read.map_err(|problem| section.mistake(key, problem)).ok()
}

/// What a name of a type must be.
pub(super) fn check_name(name: &str) -> Result<String, String> {
    own_type::check_name(name)
        .map(|()| name.to_owned())
        .map_err(|problem| format!("`{name}` is no name: {problem}"))
}

/// Says where there are more types than an application can have.
pub(super) fn check_count(root: &Section<'_>, count: usize) {
    if count > TYPES_MOST {
        let problem =
            format!("{count} types, and an application has at most {TYPES_MOST}: write outbox.open = true");
        root.mistake("trigger", problem);
    }
}

/// What the file's destinations can subscribe to: the preset, the file's own types, and anything where it is open.
/// None where the preset is not known, which is said where it stands.
pub(super) fn catalogue(root: &Section<'_>, own: &BTreeSet<String>) -> Option<Catalogue> {
    // Read with the other settings too: a mistake in it is noted once.
    let outbox = root.table("outbox");
    let (preset, open) = (outbox.text("preset"), outbox.boolean("open"));
    Catalogue::new(preset.as_deref(), own.iter().cloned(), open.unwrap_or(false)).ok()
}
