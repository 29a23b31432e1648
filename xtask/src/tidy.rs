//! Owns `cargo xtask tidy`: the rules of the tree that no compiler knows, as checks; also run as a test.
//! It must not repair anything.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

use crate::output::{conclude, root};

mod documents;
mod edges;
mod errors;
mod sources;

/// A file of the tree that git tracks or would track.
pub(crate) struct TreeFile {
    /// Its path from the root, with slashes.
    pub(crate) path: String,
    /// Its text; empty where it is none.
    pub(crate) text: String,
}

impl TreeFile {
    /// Whether its name ends so.
    pub(crate) fn is(&self, ending: &str) -> bool {
        self.path.ends_with(ending)
    }
}

/// Checks all of it.
pub(crate) fn run() -> Result<ExitCode> {
    conclude("tidy", &check()?)?;
    Ok(ExitCode::SUCCESS)
}

/// What is wrong.
fn check() -> Result<Vec<String>> {
    let files = files()?;
    let mut faults = edges::check()?;
    faults.extend(sources::check(&files));
    faults.extend(documents::check(&files));
    faults.extend(errors::check(&files));
    Ok(faults)
}

fn files() -> Result<Vec<TreeFile>> {
    let output = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .context("cannot start git, which says what belongs to the tree")?;
    if !output.status.success() {
        bail!("git ls-files: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let names = String::from_utf8(output.stdout).context("a file's name is not UTF-8")?;
    let mut files = Vec::new();
    for name in names.split_terminator('\0') {
        let path: PathBuf = root().join(name);
        // A file that git still lists may be deleted already.
        if let Ok(bytes) = fs::read(&path) {
            files.push(TreeFile {
                path: name.to_owned(),
                text: String::from_utf8(bytes).unwrap_or_default(),
            });
        }
    }
    Ok(files)
}

#[cfg(test)]
fn file(path: &str, text: &str) -> TreeFile {
    TreeFile {
        path: path.to_owned(),
        text: text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_is_tidy() {
        let faults = check().unwrap();
        assert!(faults.is_empty(), "{}", faults.join("\n"));
    }
}
