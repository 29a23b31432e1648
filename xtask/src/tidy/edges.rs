//! Owns which crate of the workspace may depend on which, and what keeps the engine pure.
//! It must not know what the crates do.

use anyhow::Result;

use crate::metadata::{Metadata, Package};

/// Each member, the members it may depend on, and what it may not depend on at all.
struct Rule {
    member: &'static str,
    may_use: &'static [&'static str],
    must_not_use: &'static [&'static str],
}

/// Sockets, files, tasks, clocks and chance: what acts.
const ACTING: &[&str] = &[
    "axum",
    "getrandom",
    "hyper",
    "hyper-util",
    "libc",
    "parking_lot",
    "rand",
    "rusqlite",
    "socket2",
    "tokio",
    "tokio-postgres",
    "tokio-util",
    "uuid",
];

const HTTP: &[&str] = &["axum", "hyper", "hyper-util", "socket2", "toml"];

const RULES: &[Rule] = &[
    Rule {
        member: "hookfast-signature",
        may_use: &[],
        must_not_use: ACTING,
    },
    Rule {
        member: "hookfast-engine",
        may_use: &[],
        must_not_use: ACTING,
    },
    Rule {
        member: "hookfast-store",
        may_use: &["hookfast-engine"],
        must_not_use: HTTP,
    },
    Rule {
        member: "hookfast",
        may_use: &["hookfast-engine", "hookfast-signature", "hookfast-store"],
        must_not_use: &[],
    },
    Rule {
        member: "sim",
        may_use: &["hookfast-engine", "hookfast-signature", "hookfast-store"],
        must_not_use: &["hyper", "axum"],
    },
    Rule {
        member: "fuzz",
        may_use: &["hookfast", "hookfast-engine", "hookfast-signature"],
        must_not_use: &[],
    },
    Rule {
        member: "bench",
        may_use: &[
            "hookfast",
            "hookfast-engine",
            "hookfast-signature",
            "hookfast-store",
        ],
        must_not_use: &[],
    },
    Rule {
        member: "xtask",
        may_use: &[],
        must_not_use: &["tokio"],
    },
    Rule {
        member: "axum-app",
        may_use: &["hookfast-signature"],
        must_not_use: &[],
    },
];

/// What is wrong.
pub(crate) fn check() -> Result<Vec<String>> {
    let metadata = Metadata::read()?;
    let members: Vec<&Package> = metadata.members().collect();
    Ok(check_members(&members))
}

fn check_members(members: &[&Package]) -> Vec<String> {
    let mut faults = Vec::new();
    for package in members {
        let name = &package.name;
        let Some(rule) = RULES.iter().find(|rule| rule.member == name) else {
            faults.push(format!(
                "`{name}` has no row in xtask/src/tidy/edges.rs: say what it may depend on"
            ));
            continue;
        };
        for dependency in &package.dependencies {
            let is_member = members.iter().any(|member| member.name == *dependency);
            let points_back = is_member && !rule.may_use.contains(&dependency.as_str());
            if points_back || rule.must_not_use.contains(&dependency.as_str()) {
                faults.push(format!("`{name}` must not depend on `{dependency}`"));
            }
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str, dependencies: &[&str]) -> Package {
        Package {
            name: name.to_owned(),
            version: "0.1.0".to_owned(),
            license: None,
            source: None,
            manifest: "Cargo.toml".into(),
            dependencies: dependencies.iter().map(|name| (*name).to_owned()).collect(),
            is_member: true,
        }
    }

    #[test]
    fn an_edge_that_points_back_is_found_and_so_is_an_engine_that_acts() {
        let members = [
            member("hookfast-engine", &["serde", "tokio", "hookfast-store"]),
            member("hookfast-store", &["hookfast-engine", "rusqlite"]),
            member("hookfast", &["hookfast-store", "tokio"]),
            member("common", &[]),
        ];
        let members: Vec<_> = members.iter().collect();
        assert_eq!(
            check_members(&members),
            [
                "`hookfast-engine` must not depend on `hookfast-store`",
                "`hookfast-engine` must not depend on `tokio`",
                "`common` has no row in xtask/src/tidy/edges.rs: say what it may depend on",
            ]
        );
    }
}
