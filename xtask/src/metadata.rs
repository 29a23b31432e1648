//! Owns what `cargo metadata` says of the packages: names, versions, licences, sources, dependencies.
//! It must not know what is wrong with any of it.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::output::root;

/// The packages of the workspace and all that they are built from.
pub(crate) struct Metadata {
    /// Every package of the lock file that is built on some platform.
    pub(crate) packages: Vec<Package>,
    /// Where cargo builds.
    pub(crate) target_directory: PathBuf,
}

/// One package.
pub(crate) struct Package {
    /// Its name.
    pub(crate) name: String,
    /// Its version.
    pub(crate) version: String,
    /// Its licences as an SPDX expression.
    pub(crate) license: Option<String>,
    /// Where it comes from; nothing for a package of the tree.
    pub(crate) source: Option<String>,
    /// Its manifest.
    pub(crate) manifest: PathBuf,
    /// The names of the packages it depends on directly, of all kinds.
    pub(crate) dependencies: BTreeSet<String>,
    /// Whether it is a member of the workspace.
    pub(crate) is_member: bool,
}

impl Metadata {
    /// Asks cargo; fails where `Cargo.lock` is not up to date.
    pub(crate) fn read() -> Result<Self> {
        let output = cargo()
            .args(["metadata", "--format-version=1", "--locked"])
            .current_dir(root())
            .output()
            .context("cannot start cargo")?;
        if !output.status.success() {
            bail!(
                "cargo metadata: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        let json: Value =
            serde_json::from_slice(&output.stdout).context("cargo metadata did not answer with JSON")?;
        let members: BTreeSet<&str> = array(&json, "workspace_members")
            .filter_map(Value::as_str)
            .collect();
        let packages = array(&json, "packages")
            .map(|package| parse(package, &members))
            .collect::<Result<_>>()?;
        Ok(Self {
            packages,
            target_directory: text(&json, "target_directory")?.into(),
        })
    }

    /// The members of the workspace.
    pub(crate) fn members(&self) -> impl Iterator<Item = &Package> {
        self.packages.iter().filter(|package| package.is_member)
    }
}

/// The cargo that runs this program.
pub(crate) fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

fn parse(package: &Value, members: &BTreeSet<&str>) -> Result<Package> {
    let optional = |key: &str| package[key].as_str().map(str::to_owned);
    let dependencies = array(package, "dependencies")
        .map(|dependency| text(dependency, "name"))
        .collect::<Result<_>>()?;
    Ok(Package {
        name: text(package, "name")?,
        version: text(package, "version")?,
        license: optional("license"),
        source: optional("source"),
        manifest: text(package, "manifest_path")?.into(),
        dependencies,
        is_member: members.contains(package["id"].as_str().unwrap_or_default()),
    })
}

fn array<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value[key].as_array().into_iter().flatten()
}

fn text(value: &Value, key: &str) -> Result<String> {
    let text = value[key].as_str();
    Ok(text
        .with_context(|| format!("cargo metadata has no `{key}`"))?
        .to_owned())
}
