//! Owns the check that every error code is explained: each code of the tables has a heading in `docs/errors.md`.
//! It must not know what the codes mean.

use super::TreeFile;
use super::documents::anchors;

/// The files with tables of codes: lines of the form `Name = "code", …`.
const TABLES: &[&str] = &[
    "crates/server/src/admin/error.rs",
    "crates/server/src/ingest/cause.rs",
];
const EXPLAINED: &str = "docs/errors.md";

/// What is wrong.
pub(crate) fn check(files: &[TreeFile]) -> Vec<String> {
    let Some(explained) = files.iter().find(|file| file.path == EXPLAINED) else {
        return Vec::new();
    };
    let explained = anchors(&explained.text);
    let mut faults = Vec::new();
    for table in files.iter().filter(|file| TABLES.contains(&file.path.as_str())) {
        let codes = codes(&table.text);
        if codes.is_empty() {
            faults.push(format!(
                "{} has no line of the form `Name = \"code\", …`",
                table.path
            ));
        }
        for code in codes.iter().filter(|code| !explained.contains(**code)) {
            faults.push(format!(
                "{EXPLAINED} has no heading `{code}`, a code of {}",
                table.path
            ));
        }
    }
    faults
}

fn codes(text: &str) -> Vec<&str> {
    text.lines().filter_map(code).collect()
}

fn code(line: &str) -> Option<&str> {
    let (name, rest) = line.trim().split_once(" = \"")?;
    let (code, _) = rest.split_once("\",")?;
    let is_name = name.starts_with(|first: char| first.is_ascii_uppercase())
        && name.chars().all(|one| one.is_ascii_alphanumeric());
    let is_code = |one: u8| one.is_ascii_lowercase() || one.is_ascii_digit() || matches!(one, b'-' | b'_');
    (is_name && code.bytes().all(is_code)).then_some(code)
}

#[cfg(test)]
mod tests {
    use super::super::file;
    use super::*;

    #[test]
    fn a_code_without_a_heading_is_found() {
        let table = "causes! {\n    Slow = \"disk-slow\", X;\n    Full = \"disk-full\", Y, \"the disk = \\\"full\\\"\";\n}\n";
        let files = [
            file(TABLES[1], table),
            file(EXPLAINED, "# Errors\n\n### `disk-slow`\nIt is.\n"),
        ];
        assert_eq!(
            check(&files),
            [format!(
                "docs/errors.md has no heading `disk-full`, a code of {}",
                TABLES[1]
            )]
        );
    }

    #[test]
    fn a_table_in_which_no_code_is_found_is_itself_a_fault() {
        let files = [file(TABLES[0], "//! Nothing.\n"), file(EXPLAINED, "")];
        assert_eq!(check(&files).len(), 1);
    }
}
