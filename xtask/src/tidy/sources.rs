//! Owns the rules for files: their head, their length, what must not stand in them.
//! It must not know any file's contents beyond that. The words it looks for are put together from halves, so that it
//! does not find itself.

use super::TreeFile;

/// The most lines of a source file.
const MAX_LINES: usize = 800;

/// What must not stand in any Rust file, and why.
const RUST: &[(&str, &str)] = &[
    (concat!("#[", "ignore"), "no test is switched off"),
    (concat!("to", "do!("), "nothing is left for later"),
    (concat!("unimpl", "emented!("), "nothing is left for later"),
    (concat!("#[", "allow("), "use #[expect(…, reason = \"…\")]"),
    (concat!("#![", "allow("), "use #![expect(…, reason = \"…\")]"),
];

/// Whole words that must not stand in any file.
const MARKERS: &[&str] = &[
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
    concat!("HA", "CK"),
];

/// Where the machines lie that this was written on, and the hosts of registries: a clone elsewhere has others.
const PLACES: &[&str] = &[
    concat!("/wo", "rk/"),
    concat!("/ro", "ot/"),
    concat!("/ho", "me/"),
    concat!("registry.", "npmjs.org"),
    concat!("registry.", "yarnpkg.com"),
    concat!("py", "pi.org"),
    concat!("files.python", "hosted.org"),
    concat!("index.", "crates.io"),
    concat!("static.", "crates.io"),
    concat!("deb.", "debian.org"),
    concat!("\"resol", "ved\":"),
];

/// What is wrong.
pub(crate) fn check(files: &[TreeFile]) -> Vec<String> {
    files.iter().flat_map(check_file).collect()
}

fn check_file(file: &TreeFile) -> Vec<String> {
    let mut faults = Vec::new();
    let path = &file.path;
    if file.is(".rs") {
        if !file.text.starts_with("//! ") {
            faults.push(format!(
                "{path} does not open with `//!`: what it owns and must not know"
            ));
        }
        for (number, line) in numbered(&file.text) {
            for (word, why) in RUST.iter().filter(|(word, _)| line.contains(word)) {
                faults.push(format!("{path}:{number}: `{word}`: {why}"));
            }
        }
    }
    if has_comments(file) && !file.is(".rs") && !opens_with_comment(&file.text) {
        faults.push(format!(
            "{path} does not open with a comment: what it owns and must not know"
        ));
    }
    if is_source(file) {
        let lines = file.text.lines().count();
        if lines > MAX_LINES {
            faults.push(format!("{path} has {lines} lines, over {MAX_LINES}: split it"));
        }
    }
    for (number, line) in numbered(&file.text) {
        for word in MARKERS.iter().filter(|word| has_word(line, word)) {
            faults.push(format!("{path}:{number}: `{word}`: do it, or open an issue"));
        }
        for place in PLACES.iter().filter(|place| line.contains(**place)) {
            faults.push(format!(
                "{path}:{number}: `{place}` is not the same on every machine"
            ));
        }
    }
    faults
}

fn is_source(file: &TreeFile) -> bool {
    file.is(".rs") || file.is(".sql") || has_comments(file)
}

fn has_comments(file: &TreeFile) -> bool {
    let endings = [".c", ".js", ".py", ".sh", ".rs"];
    endings.iter().any(|ending| file.is(ending)) || file.path.starts_with(".ci/")
}

fn opens_with_comment(text: &str) -> bool {
    let first = text
        .lines()
        .find(|line| !line.starts_with("#!"))
        .unwrap_or_default();
    ["//", "/*", "#", "\"\"\"", "'use strict'", "\"use strict\""]
        .iter()
        .any(|start| first.starts_with(start))
}

fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(index, line)| (index + 1, line))
}

fn has_word(line: &str, word: &str) -> bool {
    let is_part = |part: char| part.is_ascii_alphanumeric() || part == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        !before.is_some_and(is_part) && !after.is_some_and(is_part)
    })
}

#[cfg(test)]
mod tests {
    use super::super::file;
    use super::*;

    fn faults(path: &str, text: &str) -> Vec<String> {
        check(&[file(path, text)])
    }

    #[test]
    fn a_file_without_its_head_or_too_long_is_found() {
        assert!(faults("a.rs", "//! Owns nothing.\n").is_empty());
        assert_eq!(faults("a.rs", "use std::fs;\n").len(), 1);
        assert!(faults("a.py", "#!/usr/bin/env python3\n\"\"\"Owns nothing.\"\"\"\n").is_empty());
        assert_eq!(faults("a.js", "const a = 1;\n").len(), 1);
        let long = "//! Long.\n".repeat(MAX_LINES + 1);
        assert_eq!(faults("a.rs", &long).len(), 1);
        assert!(faults("a.md", &long).is_empty());
    }

    #[test]
    fn every_forbidden_word_of_rust_is_found_in_rust_alone() {
        for (word, _) in RUST {
            let text = format!("//! Head.\n    {word}\n");
            assert_eq!(faults("a.rs", &text).len(), 1, "{word}");
            assert!(faults("a.md", &text).is_empty(), "{word}");
        }
    }

    #[test]
    fn markers_are_found_as_whole_words() {
        for word in MARKERS {
            assert_eq!(
                faults("a.md", &format!("see {word}: later")),
                [format!("a.md:1: `{word}`: do it, or open an issue")]
            );
            assert!(faults("a.md", &format!("{word}S and A{word} and {word}_")).is_empty());
        }
    }

    #[test]
    fn places_that_other_machines_do_not_have_are_found() {
        for place in PLACES {
            assert_eq!(faults("a.toml", &format!("a = '{place}x'")).len(), 1, "{place}");
        }
    }
}
