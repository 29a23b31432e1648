//! Owns `cargo xtask policy`: what may be depended on. The rules stand in `deny.toml`, so that cargo-deny and this
//! check read the same ones; this one needs no network and no further program. It must not know the code.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use toml::Table;

use crate::metadata::{Metadata, Package};
use crate::output::{conclude, root, say};

/// The part of `deny.toml` that is checked here.
#[derive(Deserialize)]
struct Rules {
    licenses: Licenses,
    bans: Bans,
}

#[derive(Deserialize)]
struct Licenses {
    allow: Vec<String>,
}

#[derive(Deserialize)]
struct Bans {
    deny: Vec<Ban>,
}

/// A crate that is not taken at all, or not in two versions.
#[derive(Deserialize)]
struct Ban {
    #[serde(rename = "crate")]
    name: String,
    #[serde(default, rename = "deny-multiple-versions")]
    only_multiple: bool,
    reason: String,
}

/// Checks all of it, and runs cargo-deny too where it is installed.
pub(crate) fn run() -> Result<ExitCode> {
    conclude("policy", &check()?)?;
    let deny = Command::new("cargo-deny").arg("--version").output();
    if deny.is_ok_and(|output| output.status.success()) {
        // Without the advisories: their database comes from the network.
        let status = Command::new("cargo-deny")
            .args(["--locked", "check", "licenses", "bans", "sources"])
            .current_dir(root())
            .status()?;
        if !status.success() {
            bail!("policy: cargo-deny found faults");
        }
    } else {
        say("policy: cargo-deny is not installed; its rules were read all the same");
    }
    Ok(ExitCode::SUCCESS)
}

/// What is wrong.
pub(crate) fn check() -> Result<Vec<String>> {
    let text = fs::read_to_string(root().join("deny.toml")).context("cannot read deny.toml")?;
    let rules: Rules = toml::from_str(&text).context("deny.toml")?;
    let metadata = Metadata::read()?;
    let mut faults = Vec::new();
    for package in &metadata.packages {
        faults.extend(check_source(package, &root()));
        faults.extend(check_license(package, &rules.licenses.allow));
    }
    faults.extend(check_bans(&metadata.packages, &rules.bans.deny));
    faults.extend(check_workspace_manifest(&manifest(&root().join("Cargo.toml"))?));
    for member in metadata.members() {
        faults.extend(check_member_manifest(&member.name, &manifest(&member.manifest)?));
    }
    Ok(faults)
}

fn manifest(path: &Path) -> Result<Table> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    toml::from_str(&text).with_context(|| path.display().to_string())
}

fn check_source(package: &Package, root: &Path) -> Option<String> {
    let name = &package.name;
    match &package.source {
        None if package.manifest.starts_with(root) => None,
        None => Some(format!("`{name}` comes from a path outside the tree")),
        Some(source) if source.starts_with("registry+") && source.contains("crates.io") => None,
        Some(_) => Some(format!("`{name}` does not come from crates.io")),
    }
}

fn check_license(package: &Package, allow: &[String]) -> Option<String> {
    let Some(license) = &package.license else {
        return Some(format!("`{}` states no licence", package.name));
    };
    if is_allowed(license, allow) {
        return None;
    }
    Some(format!(
        "the licence of `{}` is not allowed: {license}",
        package.name
    ))
}

/// Whether an SPDX expression can be met with these licences alone.
fn is_allowed(expression: &str, allow: &[String]) -> bool {
    let spaced = expression
        .replace('(', " ( ")
        .replace(')', " ) ")
        .replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    any_of(&mut rest, allow) && rest.is_empty()
}

fn any_of(words: &mut &[&str], allow: &[String]) -> bool {
    let mut allowed = all_of(words, allow);
    while let ["OR", rest @ ..] = *words {
        *words = rest;
        allowed |= all_of(words, allow);
    }
    allowed
}

fn all_of(words: &mut &[&str], allow: &[String]) -> bool {
    let mut allowed = one(words, allow);
    while let ["AND", rest @ ..] = *words {
        *words = rest;
        allowed &= one(words, allow);
    }
    allowed
}

fn one(words: &mut &[&str], allow: &[String]) -> bool {
    match *words {
        ["(", rest @ ..] => {
            *words = rest;
            let allowed = any_of(words, allow);
            if let [")", rest @ ..] = *words {
                *words = rest;
            }
            allowed
        }
        [license, "WITH", exception, rest @ ..] => {
            *words = rest;
            allow
                .iter()
                .any(|one| *one == format!("{license} WITH {exception}"))
        }
        [license, rest @ ..] => {
            *words = rest;
            allow.iter().any(|one| one == license)
        }
        [] => false,
    }
}

fn check_bans(packages: &[Package], bans: &[Ban]) -> Vec<String> {
    let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for package in packages {
        versions.entry(&package.name).or_default().push(&package.version);
    }
    let broken = |ban: &&Ban| {
        let count = versions.get(ban.name.as_str()).map_or(0, Vec::len);
        count > usize::from(ban.only_multiple)
    };
    bans.iter()
        .filter(broken)
        .map(|ban| {
            let found = versions[ban.name.as_str()].join(", ");
            format!("`{}` {found} is banned: {}", ban.name, ban.reason)
        })
        .collect()
}

/// Every shared version is exact, so that a build of today and one of next year are the same.
fn check_workspace_manifest(manifest: &Table) -> Vec<String> {
    let shared = manifest
        .get("workspace")
        .and_then(|workspace| workspace.get("dependencies"));
    let Some(shared) = shared.and_then(toml::Value::as_table) else {
        return vec!["Cargo.toml has no [workspace.dependencies]".to_owned()];
    };
    let exact = |value: &toml::Value| {
        let version = value.as_str().or_else(|| value.get("version")?.as_str());
        value.get("path").is_some() || version.is_some_and(|version| version.starts_with('='))
    };
    shared
        .iter()
        .filter(|(_, value)| !exact(value))
        .map(|(name, _)| format!("`{name}` in [workspace.dependencies] has no exact version (`=1.2.3`)"))
        .collect()
}

/// No member names a version of its own.
fn check_member_manifest(member: &str, manifest: &Table) -> Vec<String> {
    let mut tables = vec![manifest];
    if let Some(targets) = manifest.get("target").and_then(toml::Value::as_table) {
        tables.extend(targets.values().filter_map(toml::Value::as_table));
    }
    let kinds = ["dependencies", "dev-dependencies", "build-dependencies"];
    let shared = |value: &toml::Value| value.get("workspace").and_then(toml::Value::as_bool) == Some(true);
    tables
        .into_iter()
        .flat_map(|table| kinds.map(|kind| table.get(kind).and_then(toml::Value::as_table)))
        .flatten()
        .flatten()
        .filter(|(_, value)| !shared(value))
        .map(|(name, _)| format!("`{member}` depends on `{name}` without `workspace = true`"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allow() -> Vec<String> {
        ["MIT", "ISC", "Apache-2.0", "Apache-2.0 WITH LLVM-exception"]
            .map(str::to_owned)
            .into()
    }

    #[test]
    fn the_tree_keeps_the_policy() {
        let faults = check().unwrap();
        assert!(faults.is_empty(), "{}", faults.join("\n"));
    }

    #[test]
    fn a_licence_expression_is_met_by_one_side_of_or_and_by_both_of_and() {
        for (expression, allowed) in [
            ("MIT", true),
            ("GPL-3.0", false),
            ("MIT OR GPL-3.0", true),
            ("GPL-3.0 OR MIT", true),
            ("MIT/GPL-3.0", true),
            ("MIT AND GPL-3.0", false),
            ("MIT AND ISC", true),
            ("GPL-3.0 OR MIT AND ISC", true),
            ("GPL-3.0 AND (MIT OR ISC)", false),
            ("(MIT OR GPL-3.0) AND ISC", true),
            ("Apache-2.0 WITH LLVM-exception", true),
            ("Apache-2.0 WITH other-exception", false),
            ("", false),
            ("MIT MIT", false),
        ] {
            assert_eq!(is_allowed(expression, &allow()), allowed, "{expression}");
        }
    }

    fn package(name: &str, version: &str) -> Package {
        Package {
            name: name.to_owned(),
            version: version.to_owned(),
            license: None,
            source: Some("registry+crates.io".to_owned()),
            manifest: "/elsewhere/Cargo.toml".into(),
            dependencies: std::collections::BTreeSet::new(),
            is_member: false,
        }
    }

    #[test]
    fn a_banned_crate_is_found_and_so_is_a_second_version_of_a_heavy_one() {
        let ban = |name: &str, only_multiple| Ban {
            name: name.to_owned(),
            only_multiple,
            reason: "so it is".to_owned(),
        };
        let packages = [
            package("openssl", "0.10.0"),
            package("tokio", "1.0.0"),
            package("rustls", "0.22.0"),
            package("rustls", "0.23.0"),
        ];
        let bans = [
            ban("openssl", false),
            ban("native-tls", false),
            ban("tokio", true),
            ban("rustls", true),
        ];
        assert_eq!(
            check_bans(&packages, &bans),
            [
                "`openssl` 0.10.0 is banned: so it is",
                "`rustls` 0.22.0, 0.23.0 is banned: so it is"
            ]
        );
    }

    #[test]
    fn packages_come_from_the_registry_or_the_tree() {
        let root = Path::new("/tree");
        let from = |source: Option<&str>, manifest: &str| {
            let package = Package {
                source: source.map(str::to_owned),
                manifest: manifest.into(),
                ..package("some", "1.0.0")
            };
            check_source(&package, root).is_none()
        };
        assert!(from(Some("registry+crates.io"), "/cache/Cargo.toml"));
        assert!(from(None, "/tree/crates/some/Cargo.toml"));
        assert!(!from(None, "/elsewhere/Cargo.toml"));
        assert!(!from(Some("git+some-host"), "/cache/Cargo.toml"));
        assert!(!from(Some("registry+another"), "/cache/Cargo.toml"));
    }

    #[test]
    fn versions_are_exact_and_stand_in_one_place() {
        let workspace =
            "[workspace.dependencies]\na = '=1.0'\nb = '1.0'\nc = { version = '2' }\nd = { path = 'd' }";
        let faults = check_workspace_manifest(&toml::from_str(workspace).unwrap());
        assert_eq!(faults.len(), 2, "{faults:?}");
        let member =
            "[dependencies]\na.workspace = true\nb = '1'\n[target.'cfg(unix)'.dev-dependencies]\nc = '1'";
        let faults = check_member_manifest("m", &toml::from_str(member).unwrap());
        assert_eq!(
            faults,
            [
                "`m` depends on `b` without `workspace = true`",
                "`m` depends on `c` without `workspace = true`"
            ]
        );
    }
}
