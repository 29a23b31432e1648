//! Configuration: file, environment, flags.
//!
//! Owns the way from what people wrote to [`Settings`] and to what the file declares, with every mistake
//! reported together. Must not know the store: `apply` works out the changes, and who runs the server makes
//! them.

pub mod apply;
mod declare;
mod expand;
mod layers;
mod mistakes;
mod relay;
mod restart;
mod section;
mod sections;
pub mod show;
mod trigger;

use std::path::{Path, PathBuf};

use hookfast_signature::Secret;

pub use declare::{Declared, DeclaredDestination, DeclaredSource, check_provider};
pub use layers::{DEFAULTS, Environment, Flags, USUAL_FILE, environment};
pub use mistakes::{Mistake, Mistakes, Place};
pub use restart::AtStart;
pub use trigger::DeclaredTrigger;

use crate::clock::Clock;
use crate::settings::Settings;
use crate::vault::Vault;
use layers::Layers;
use section::{Context, Section};

/// What a server is started with.
#[derive(Clone, Debug)]
pub struct Config {
    /// The server's own settings.
    pub settings: Settings,
    /// The sources, destinations, policies and trigger types that the file sets.
    pub declared: Declared,
    /// Where the encryption key is.
    pub encryption_key: KeySource,
    /// What is logged: a filter as `tracing` reads it.
    pub log: String,
    /// The form of the log.
    pub log_format: LogFormat,
    /// The file that was read, where there was one.
    pub file: Option<PathBuf>,
    /// The settings that count from a start on, to tell what a reload cannot apply.
    pub at_start: AtStart,
}

/// Where the key is that secrets are sealed with.
#[derive(Clone, Debug)]
pub enum KeySource {
    /// In this file.
    File(PathBuf),
    /// Given, in hexadecimal digits.
    Given(Secret),
}

/// The form of the log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Config {
    /// Reads the file, the environment of this process and the flags.
    ///
    /// # Errors
    /// Every mistake that there is.
    pub fn load(flags: &Flags) -> Result<Self, Mistakes> {
        Self::read(flags, &environment())
    }

    /// Reads the file, `environment` and the flags.
    ///
    /// # Errors
    /// Every mistake that there is.
    pub fn read(flags: &Flags, environment: &Environment) -> Result<Self, Mistakes> {
        let mut mistakes = Mistakes::default();
        let layers = Layers::gather(flags, environment, &mut mistakes);
        let context = Context::new(environment, mistakes);
        let config = Self::from_layers(&context, &layers);
        context.mistakes.into_inner().unless_any(config)
    }

    fn from_layers(context: &Context<'_>, layers: &Layers) -> Option<Self> {
        let place = layers
            .file
            .as_deref()
            .map_or(Place::Default, |file| Place::File(file.into(), 0));
        let root = Section::root(context, &layers.tree, place);
        let read = sections::read(&root);
        let declared = declare::read(&root);
        root.finish();
        let read = read?;
        Some(Self {
            settings: read.settings,
            declared: declared?,
            encryption_key: read.encryption_key,
            log: read.log,
            log_format: read.log_format,
            file: layers.file.clone(),
            at_start: AtStart::of(&layers.tree),
        })
    }

    /// Opens the vault. A key that is missing is made, but only for a data directory that holds nothing yet:
    /// where there is data, what was sealed with the missing key could never be opened with a new one.
    ///
    /// # Errors
    /// Where the key is missing beside data, cannot be read or written, or is none.
    pub fn open_vault(&self, clock: Clock) -> anyhow::Result<Vault> {
        match &self.encryption_key {
            KeySource::Given(key) => Vault::from_hex(key.expose()),
            KeySource::File(file) => {
                let held = holds_data(&self.settings.data);
                if held && !file.exists() {
                    anyhow::bail!(
                        "the encryption key {} is missing, and the secrets in {} open with no other: put it back, or name it in server.encryption_key",
                        file.display(),
                        self.settings.data.display()
                    );
                }
                Vault::open(file, !held, clock)
            }
        }
    }
}

/// Whether a store was ever made in this data directory.
fn holds_data(data: &Path) -> bool {
    let entries = std::fs::read_dir(data).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.path())
        .any(|path| path.extension().is_some_and(|extension| extension == "db"))
}

#[cfg(test)]
mod tests;
