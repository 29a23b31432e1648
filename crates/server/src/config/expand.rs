//! `${NAME}` and `file:PATH` in values.
//!
//! Owns both forms. Must not keep or show what it expands to.

use std::io::Read;
use std::path::{Path, PathBuf};

use super::layers::Environment;

/// The largest file that a value can name: secrets are shorter, and documents have the same bound.
const LARGEST_FILE_BYTES: u64 = 64 * 1024;

/// Why a value cannot be expanded.
#[derive(Debug, thiserror::Error)]
pub(super) enum ExpandError {
    #[error("the environment variable {0} is not set")]
    NotSet(String),
    #[error(
        "`${{` begins a variable that does not end or has no name: write ${{NAME}}, or $${{ for the text itself"
    )]
    NoName,
    #[error("cannot read {0}: {1}")]
    Unreadable(PathBuf, std::io::Error),
    #[error("{0} is not UTF-8 text of at most 64 KiB")]
    NotText(PathBuf),
}

/// `text` with the value of NAME for each `${NAME}`; `$${` stands for `${`.
pub(super) fn variables(text: &str, environment: &Environment) -> Result<String, ExpandError> {
    let mut expanded = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, after) = (&rest[..at], &rest[at + 2..]);
        if let Some(before) = before.strip_suffix('$') {
            expanded.push_str(before);
            expanded.push_str("${");
            rest = after;
            continue;
        }
        let (name, after) = after.split_once('}').ok_or(ExpandError::NoName)?;
        let plain = |character: char| character.is_ascii_alphanumeric() || character == '_';
        if name.is_empty() || !name.chars().all(plain) {
            return Err(ExpandError::NoName);
        }
        let value = environment
            .get(name)
            .ok_or_else(|| ExpandError::NotSet(name.to_owned()))?;
        expanded.push_str(before);
        expanded.push_str(value);
        rest = after;
    }
    expanded.push_str(rest);
    Ok(expanded)
}

/// The text in a file, without the line end that editors put at its end.
pub(super) fn file(path: &Path) -> Result<String, ExpandError> {
    let unreadable = |error| ExpandError::Unreadable(path.to_owned(), error);
    let opened = std::fs::File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    opened
        .take(LARGEST_FILE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    let fits = u64::try_from(bytes.len()).is_ok_and(|length| length <= LARGEST_FILE_BYTES);
    let text = String::from_utf8(bytes).ok().filter(|_| fits);
    let text = text.ok_or_else(|| ExpandError::NotText(path.to_owned()))?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    Ok(text.strip_suffix('\r').unwrap_or(text).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expand(text: &str) -> Result<String, String> {
        let environment =
            Environment::from([("NAME".into(), "value".into()), ("EMPTY".into(), String::new())]);
        variables(text, &environment).map_err(|error| error.to_string())
    }

    #[test]
    fn variables_are_expanded_wherever_they_stand() {
        for (text, expected) in [
            ("", ""),
            ("plain $5 {x}", "plain $5 {x}"),
            ("${NAME}", "value"),
            ("a${NAME}b${NAME}", "avaluebvalue"),
            ("${EMPTY}", ""),
            ("$${NAME}", "${NAME}"),
            ("a$${b}${NAME}", "a${b}value"),
        ] {
            assert_eq!(expand(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn a_variable_that_is_not_set_or_has_no_name_is_refused() {
        assert_eq!(
            expand("${ABSENT}").unwrap_err(),
            "the environment variable ABSENT is not set"
        );
        for text in ["${", "${}", "${a b}", "x${NAME"] {
            assert!(expand(text).unwrap_err().contains("write ${NAME}"), "{text}");
        }
    }

    #[test]
    fn one_line_end_is_taken_from_a_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        for (content, expected) in [
            ("a", "a"),
            ("a\n", "a"),
            ("a\r\n", "a"),
            ("a\n\n", "a\n"),
            (" a ", " a "),
        ] {
            std::fs::write(&path, content).unwrap();
            assert_eq!(file(&path).unwrap(), expected);
        }
        std::fs::write(&path, [0xff]).unwrap();
        assert!(file(&path).unwrap_err().to_string().contains("not UTF-8"));
        assert!(file(&directory.path().join("absent")).is_err());
    }
}
