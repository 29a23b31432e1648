//! Owns the rules for documents: links lead somewhere, the changelog has a place for what is not released.
//! It must not reach for the network: only links within the tree are followed.

use std::collections::BTreeSet;

use super::TreeFile;

/// What is wrong.
pub(crate) fn check(files: &[TreeFile]) -> Vec<String> {
    let mut faults = check_changelog(files);
    for file in files.iter().filter(|file| file.is(".md")) {
        for (number, target) in links(&file.text) {
            if let Some(fault) = check_link(files, file, &target) {
                faults.push(format!("{}:{number}: {fault}", file.path));
            }
        }
    }
    faults
}

fn check_changelog(files: &[TreeFile]) -> Vec<String> {
    let unreleased = |line: &str| matches!(line.trim(), "## Unreleased" | "## [Unreleased]");
    let changelog = files.iter().find(|file| file.path == "CHANGELOG.md");
    if changelog.is_some_and(|file| file.text.lines().any(unreleased)) {
        return Vec::new();
    }
    vec!["CHANGELOG.md has no section `## Unreleased`".to_owned()]
}

/// The targets of `[text](target)` outside code, with their lines.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut links = Vec::new();
    let mut in_code = false;
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        if in_code {
            continue;
        }
        // Every second part is between backticks.
        for part in line.split('`').step_by(2) {
            for (at, _) in part.match_indices("](") {
                let rest = &part[at + 2..];
                if let Some(end) = rest.find(')') {
                    links.push((index + 1, rest[..end].to_owned()));
                }
            }
        }
    }
    links
}

fn check_link(files: &[TreeFile], from: &TreeFile, target: &str) -> Option<String> {
    if target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
    let path = if path.is_empty() {
        from.path.clone()
    } else {
        resolve(&from.path, path)
    };
    let directory = format!("{path}/");
    if files.iter().any(|file| file.path.starts_with(&directory)) {
        return None;
    }
    let Some(found) = files.iter().find(|file| file.path == path) else {
        return Some(format!("the link to `{target}` leads nowhere"));
    };
    let missing = found.is(".md") && !anchor.is_empty() && !anchors(&found.text).contains(anchor);
    missing.then(|| format!("`{path}` has no heading for `#{anchor}`"))
}

/// The path that `link` means, seen from the file `from`.
fn resolve(from: &str, link: &str) -> String {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in link.trim_end_matches('/').split('/') {
        match part {
            "." | "" => {}
            ".." => drop(parts.pop()),
            name => parts.push(name),
        }
    }
    parts.join("/")
}

/// The headings of a document as anchors are made of them.
pub(crate) fn anchors(text: &str) -> BTreeSet<String> {
    text.lines()
        .filter(|line| line.starts_with('#'))
        .map(|line| {
            let heading = line.trim_start_matches('#').trim().to_lowercase();
            let kept = heading
                .chars()
                .filter(|one| one.is_alphanumeric() || matches!(one, ' ' | '-' | '_'));
            kept.map(|one| if one == ' ' { '-' } else { one }).collect()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::file;
    use super::*;

    #[test]
    fn links_lead_to_files_directories_and_headings() {
        let files = [
            file("CHANGELOG.md", "## Unreleased\n"),
            file("docs/guide.md", "# The Guide: a `start`\n"),
            file(
                "docs/other.md",
                "[a](guide.md) [b](../CHANGELOG.md#unreleased) [c](guide.md#the-guide-a-start) [d](../docs/)\n\
                 [e](https://example.com/x) `[f](nowhere.md)`\n```\n[g](nowhere.md)\n```\n",
            ),
        ];
        assert!(check(&files).is_empty(), "{:?}", check(&files));
    }

    #[test]
    fn links_that_lead_nowhere_are_found_with_their_line() {
        let files = [
            file("CHANGELOG.md", "## [Unreleased]\n"),
            file("docs/a.md", "\n[a](b.md) and [c](a.md#d)\n"),
        ];
        assert_eq!(
            check(&files),
            [
                "docs/a.md:2: the link to `b.md` leads nowhere",
                "docs/a.md:2: `docs/a.md` has no heading for `#d`"
            ]
        );
    }

    #[test]
    fn a_changelog_without_a_place_for_the_new_is_found() {
        assert_eq!(check(&[file("CHANGELOG.md", "## 1.0.0\n")]).len(), 1);
        assert_eq!(check(&[]).len(), 1);
    }
}
