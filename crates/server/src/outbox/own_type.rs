//! What may be said of a trigger type of an application's own (SPEC O9).
//!
//! Owns the bounds and the words for what is wrong; the API and the configuration file both ask here. Must not know
//! who says it, nor where types are kept.

use hookfast_engine::route::{check_pattern, is_operational};
use serde_json::Value;

/// The most types of an application's own.
pub const TYPES_MOST: usize = 10_000;
/// The longest description, in characters.
const DESCRIPTION_CHARACTERS: usize = 1_000;
/// The largest schema or example, in bytes.
const DOCUMENT_BYTES: usize = 64 * 1024;

/// Checks that a type can have this name.
///
/// # Errors
/// Why it cannot.
pub fn check_name(name: &str) -> Result<(), String> {
    check_pattern(name).map_err(|error| error.to_string())?;
    if name.contains('*') {
        return Err("`*` stands for several types; name one".to_owned());
    }
    if is_operational(name) {
        let reason =
            "types that begin with `destination.` or `source.` are Hookfast's own; take another name";
        return Err(reason.to_owned());
    }
    Ok(())
}

/// Checks that a type can be described so.
///
/// # Errors
/// Why it cannot.
pub fn check_description(description: &str) -> Result<(), String> {
    if description.chars().count() > DESCRIPTION_CHARACTERS {
        return Err(format!("it is longer than {DESCRIPTION_CHARACTERS} characters"));
    }
    Ok(())
}

/// A JSON schema, as it is kept.
///
/// # Errors
/// Where it is none, or too large.
pub fn schema(given: &Value) -> Result<String, String> {
    if !given.is_object() && !given.is_boolean() {
        return Err("a JSON schema is an object, or true or false".to_owned());
    }
    document(given)
}

/// An example of the data, as it is kept.
///
/// # Errors
/// Where it is too large.
pub fn example(given: &Value) -> Result<String, String> {
    document(given)
}

fn document(given: &Value) -> Result<String, String> {
    let text = given.to_string();
    if text.len() > DOCUMENT_BYTES {
        return Err(format!("it is larger than {DOCUMENT_BYTES} bytes"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_name_is_one_whole_type_that_is_not_hookfasts_own() {
        for good in ["invoice.paid", "message.created", "shipped"] {
            assert_eq!(check_name(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "*",
            "invoice.*",
            "in voice",
            "destination.failed",
            "source.quiet",
        ] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_schema_is_an_object_or_a_boolean_and_a_document_has_a_bound() {
        assert_eq!(
            schema(&json!({ "type": "object" })).unwrap(),
            r#"{"type":"object"}"#
        );
        assert_eq!(schema(&json!(true)).unwrap(), "true");
        assert!(schema(&json!("object")).is_err());
        let fits = "x".repeat(DOCUMENT_BYTES - 2);
        assert!(example(&json!(fits)).is_ok());
        assert!(example(&json!(format!("{fits}x"))).is_err());
        assert!(check_description(&"é".repeat(DESCRIPTION_CHARACTERS)).is_ok());
        assert!(check_description(&"é".repeat(DESCRIPTION_CHARACTERS + 1)).is_err());
    }
}
