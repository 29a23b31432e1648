//! The table of providers holds together.

use std::collections::BTreeSet;

use hookfast_signature::{PROVIDERS, Part, Retry, Scheme, provider};

#[test]
fn slugs_are_unique_lower_case_and_found_again() {
    let mut seen = BTreeSet::new();
    for row in PROVIDERS {
        assert!(seen.insert(row.slug), "{} is there twice", row.slug);
        assert!(
            row.slug
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte == b'-'),
            "{}",
            row.slug
        );
        assert_eq!(provider(row.slug).map(|found| found.name), Some(row.name));
        assert_eq!(row.scheme(None), Some(row.scheme));
    }
    assert!(provider("nobody").is_none());
    assert!(provider("github").is_some_and(|github| github.scheme(Some("sha1")).is_some()));
    assert!(provider("github").is_some_and(|github| github.scheme(Some("md5")).is_none()));
}

#[test]
fn every_row_says_where_to_read_more_and_what_it_extracts() {
    for row in PROVIDERS {
        assert!(row.documentation.starts_with("https://"), "{}", row.slug);
        assert!(
            !row.secret_hint.is_empty() && !row.on_failure.is_empty(),
            "{}",
            row.slug
        );
        assert!(!row.event_type.is_empty(), "{}", row.slug);
        assert!(row.body_limit >= 1024 * 1024, "{}", row.slug);
    }
}

#[test]
fn a_signed_time_is_part_of_what_is_signed() {
    for row in PROVIDERS {
        let variants = row.variants.iter().map(|(_, scheme)| scheme);
        for scheme in variants.chain([row.scheme]) {
            if let Scheme::Signed(signed) = scheme {
                let signs_time = signed.content.contains(&Part::Timestamp);
                assert_eq!(signed.timestamp.is_some(), signs_time, "{}", row.slug);
            }
        }
    }
}

#[test]
fn nylas_repeats_only_what_its_documentation_says() {
    let nylas = provider("nylas").map(|nylas| nylas.retry);
    assert_eq!(nylas, Some(Retry::Only(&[408, 429, 502, 503, 504, 507])));
    assert_eq!(
        nylas.map(|retry| (retry.after(503), retry.after(500), retry.after(200))),
        Some((true, false, false))
    );
    assert!(!Retry::Never.after(503));
    assert!(Retry::AnyFailure.after(302) && !Retry::AnyFailure.after(204));
}
