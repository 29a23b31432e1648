//! Everything that must be refused, for every provider of the table and every scheme it offers.
#![expect(clippy::unwrap_used, reason = "a helper of tests may panic")]

use std::slice::from_ref;
use std::time::Duration;

use hookfast_signature::{
    Clock, Flaw, GenericHmac, Hash, MAX_HEADER_BYTES, MAX_PUBLIC_KEY_SIGNATURES, PROVIDERS, Refusal, Request,
    Scheme, Secret, Token, Tolerance, Unsigned, Verified, Verifier,
};

const NOW: u64 = 1_700_000_000;
const BODY: &[u8] = br#"{"id":"evt_1","type":"ping","data":{"n":1.0}}"#;

type SentHeaders = Vec<(String, String)>;

/// Every scheme of the table, by name.
fn schemes() -> Vec<(String, &'static Scheme)> {
    let mut schemes = Vec::new();
    for provider in PROVIDERS {
        schemes.push((provider.slug.to_owned(), provider.scheme));
        let variants = provider.variants.iter();
        schemes.extend(variants.map(|(name, scheme)| (format!("{} {name}", provider.slug), scheme)));
    }
    schemes
}

fn secret(scheme: &Scheme, seed: u8) -> Secret {
    match scheme {
        Scheme::StandardWebhooks(_) => Secret::generate_symmetric(&[seed; 32]),
        Scheme::Signed(_) | Scheme::Token(_) => Secret::new(format!("a secret, number {seed}")),
    }
}

fn sign_at(scheme: &Scheme, secret: &Secret, body: &[u8], seconds: u64) -> SentHeaders {
    let time = Duration::from_secs(seconds);
    let url = Some("https://hooks.example.com/in/a");
    scheme
        .sign(
            secret,
            &Unsigned {
                method: "POST",
                url,
                id: "msg_1",
                time,
                body,
            },
        )
        .unwrap()
}

fn check(
    scheme: &'static Scheme,
    secrets: &[Secret],
    headers: &SentHeaders,
    body: &[u8],
) -> Result<Verified, Refusal> {
    let request = Request {
        method: "POST",
        url: Some("https://hooks.example.com/in/a"),
        headers,
        body,
    };
    Verifier::new(scheme, secrets)
        .unwrap()
        .verify(&request, Clock::at_seconds(NOW))
}

/// The headers with the signature header changed.
fn with_signature(scheme: &Scheme, headers: &SentHeaders, change: impl Fn(&str) -> String) -> SentHeaders {
    let mut headers = headers.clone();
    for (name, value) in &mut headers {
        if Some(name.as_str()) == scheme.header() {
            *value = change(value);
        }
    }
    headers
}

fn is_list(scheme: &Scheme) -> bool {
    match scheme {
        Scheme::Signed(signed) => matches!(signed.carrier, hookfast_signature::Carrier::Elements { .. }),
        Scheme::StandardWebhooks(_) => true,
        Scheme::Token(_) => false,
    }
}

/// Runs a case for every scheme with a fresh secret and a genuine request.
fn for_every_scheme(case: impl Fn(&str, &'static Scheme, &Secret, &SentHeaders)) {
    for (name, scheme) in schemes() {
        let secret = secret(scheme, 1);
        let headers = sign_at(scheme, &secret, BODY, NOW);
        case(&name, scheme, &secret, &headers);
    }
}

#[test]
fn a_genuine_request_is_verified() {
    for_every_scheme(|name, scheme, secret, headers| {
        let verified = check(scheme, from_ref(secret), headers, BODY).unwrap();
        assert_eq!(verified.secret, 0, "{name}");
        let signed_time = scheme.tolerance().map(|_| Duration::from_secs(NOW));
        assert_eq!(verified.timestamp, signed_time, "{name}");
    });
}

#[test]
fn a_changed_or_reserialised_body_is_refused() {
    for_every_scheme(|name, scheme, secret, headers| {
        let spaced = String::from_utf8_lossy(BODY).replace(':', ": ").into_bytes();
        let renumbered = String::from_utf8_lossy(BODY).replace("1.0", "1").into_bytes();
        let mut flipped = BODY.to_vec();
        flipped[3] ^= 1;
        for body in [spaced, renumbered, flipped, Vec::new(), [BODY, b"\n"].concat()] {
            let refusal = check(scheme, from_ref(secret), headers, &body).unwrap_err();
            assert_eq!(
                refusal,
                Refusal::Mismatch {
                    what: "signature",
                    secrets: 1
                },
                "{name}"
            );
        }
    });
}

#[test]
fn a_wrong_secret_is_refused_and_no_secret_is_never_valid() {
    for_every_scheme(|name, scheme, _, headers| {
        let wrong = [secret(scheme, 2), secret(scheme, 3)];
        let refusal = check(scheme, &wrong, headers, BODY).unwrap_err();
        assert_eq!(
            refusal,
            Refusal::Mismatch {
                what: "signature",
                secrets: 2
            },
            "{name}"
        );
        assert_eq!(
            check(scheme, &[], headers, BODY),
            Err(Refusal::NoSecret),
            "{name}"
        );
    });
}

#[test]
fn either_secret_of_a_rotation_is_accepted_and_named() {
    for_every_scheme(|name, scheme, old, headers| {
        let secrets = [secret(scheme, 2), old.clone()];
        let verified = check(scheme, &secrets, headers, BODY).unwrap();
        assert_eq!(verified.secret, 1, "{name}");
    });
}

#[test]
fn an_old_and_a_future_timestamp_are_refused_with_the_difference() {
    for (name, scheme) in schemes() {
        let Some(tolerance) = scheme.tolerance() else {
            continue;
        };
        let secret = secret(scheme, 1);
        let far = tolerance + Duration::from_secs(1);
        let at = |seconds| {
            check(
                scheme,
                from_ref(&secret),
                &sign_at(scheme, &secret, BODY, seconds),
                BODY,
            )
        };
        let old = at(NOW - far.as_secs()).unwrap_err();
        assert_eq!(old, Refusal::TimestampTooOld { age: far, tolerance }, "{name}");
        assert!(
            old.is_only_time() && old.to_string().contains("301 s old"),
            "{name}: {old}"
        );
        let new = at(NOW + far.as_secs()).unwrap_err();
        assert_eq!(
            new,
            Refusal::TimestampTooNew {
                ahead: far,
                tolerance
            },
            "{name}"
        );
        assert!(
            at(NOW - tolerance.as_secs()).is_ok() && at(NOW + tolerance.as_secs()).is_ok(),
            "{name}"
        );
    }
}

#[test]
fn a_stale_request_verifies_as_of_the_time_it_came_or_with_the_time_ignored() {
    for (name, scheme) in schemes() {
        let secret = secret(scheme, 1);
        let headers = sign_at(scheme, &secret, BODY, NOW - 86_400);
        let url = Some("https://hooks.example.com/in/a");
        let request = Request {
            method: "POST",
            url,
            headers: &headers,
            body: BODY,
        };
        let verifier = Verifier::new(scheme, &[secret]).unwrap();
        assert!(
            verifier.verify(&request, Clock::at_seconds(NOW - 86_400)).is_ok(),
            "{name}"
        );
        let ignored = Clock::at_seconds(NOW).with(Tolerance::Any);
        assert!(verifier.verify(&request, ignored).is_ok(), "{name}");
        let wide = Clock::at_seconds(NOW).with(Tolerance::Within(Duration::from_secs(86_400)));
        assert!(verifier.verify(&request, wide).is_ok(), "{name}");
    }
}

#[test]
fn a_changed_timestamp_is_refused_although_it_is_fresh() {
    for (name, scheme) in schemes() {
        if scheme.tolerance().is_none() {
            continue;
        }
        let secret = secret(scheme, 1);
        let mut headers = sign_at(scheme, &secret, BODY, NOW - 86_400);
        for (_, value) in &mut headers {
            *value = value.replace(&(NOW - 86_400).to_string(), &NOW.to_string());
        }
        let refusal = check(scheme, &[secret], &headers, BODY).unwrap_err();
        assert!(matches!(refusal, Refusal::Mismatch { .. }), "{name}: {refusal}");
    }
}

#[test]
fn a_missing_header_is_named() {
    for_every_scheme(|name, scheme, secret, headers| {
        for (missing, _) in headers {
            let rest: SentHeaders = headers
                .iter()
                .filter(|(each, _)| each != missing)
                .cloned()
                .collect();
            let refusal = check(scheme, from_ref(secret), &rest, BODY).unwrap_err();
            let header = missing.clone().into();
            let expected = if missing.ends_with("timestamp") {
                Refusal::TimestampMissing { header }
            } else {
                Refusal::HeaderMissing { header }
            };
            assert_eq!(refusal, expected, "{name}");
            assert!(refusal.to_string().contains(missing), "{name}: {refusal}");
        }
    });
}

#[test]
fn a_header_given_twice_is_refused_unless_both_say_the_same() {
    for_every_scheme(|name, scheme, secret, headers| {
        for (doubled, value) in headers {
            let mut same = headers.clone();
            same.push((doubled.to_uppercase(), value.clone()));
            assert!(check(scheme, from_ref(secret), &same, BODY).is_ok(), "{name}");
            let mut different = headers.clone();
            different.push((doubled.clone(), "other".into()));
            let refusal = check(scheme, from_ref(secret), &different, BODY).unwrap_err();
            assert_eq!(
                refusal,
                Refusal::HeaderConflict {
                    header: doubled.clone().into()
                },
                "{name}"
            );
        }
    });
}

#[test]
fn the_second_of_two_signatures_may_be_the_valid_one() {
    for (name, scheme) in schemes() {
        let (good, other) = (secret(scheme, 1), secret(scheme, 2));
        let headers = sign_at(scheme, &good, BODY, NOW);
        let wrong = sign_at(scheme, &other, BODY, NOW).pop().unwrap().1;
        let both = with_signature(scheme, &headers, |value| match scheme {
            Scheme::StandardWebhooks(_) => format!("{wrong} {value}"),
            // The time stands first, once.
            Scheme::Signed(_) | Scheme::Token(_) => format!(
                "{wrong},{}",
                value.split_once(',').map_or(value, |(_, rest)| rest)
            ),
        });
        let result = check(scheme, &[good], &both, BODY);
        if is_list(scheme) {
            assert!(result.is_ok(), "{name}: {result:?}");
        } else {
            assert!(
                matches!(result, Err(Refusal::Malformed { .. })),
                "{name}: {result:?}"
            );
        }
    }
}

#[test]
fn an_unknown_version_is_skipped() {
    for (name, scheme) in schemes() {
        if !is_list(scheme) {
            continue;
        }
        let secret = secret(scheme, 1);
        let headers = sign_at(scheme, &secret, BODY, NOW);
        let more = with_signature(scheme, &headers, |value| match scheme {
            Scheme::StandardWebhooks(_) => format!("v2,abc nonsense {value}"),
            Scheme::Signed(_) | Scheme::Token(_) => format!("{value},v0=abc,nonsense"),
        });
        assert!(check(scheme, &[secret], &more, BODY).is_ok(), "{name}");
    }
}

#[test]
fn an_empty_body_and_one_that_is_not_utf_8_are_verified_like_any() {
    for (name, scheme) in schemes() {
        for body in [b"".as_slice(), b"\xff\xfe\x00\x80", b"\x1f\x8b\x08\x00"] {
            let secret = secret(scheme, 1);
            let headers = sign_at(scheme, &secret, body, NOW);
            assert!(check(scheme, &[secret], &headers, body).is_ok(), "{name}");
        }
    }
}

#[test]
fn a_signature_of_the_right_length_and_the_wrong_alphabet_is_malformed() {
    for_every_scheme(|name, scheme, secret, headers| {
        let spoilt = with_signature(scheme, headers, |value| {
            let at = value.len() - 3;
            format!("{}*{}", &value[..at], &value[at + 1..])
        });
        let refusal = check(scheme, from_ref(secret), &spoilt, BODY).unwrap_err();
        assert!(
            matches!(
                refusal,
                Refusal::Malformed {
                    flaw: Flaw::WrongAlphabet { .. },
                    ..
                }
            ),
            "{name}: {refusal:?}"
        );
    });
}

#[test]
fn an_empty_a_cut_and_an_over_long_signature_are_told_apart() {
    for_every_scheme(|name, scheme, secret, headers| {
        let change = |change: &dyn Fn(&str) -> String| {
            let headers = with_signature(scheme, headers, change);
            check(scheme, from_ref(secret), &headers, BODY).unwrap_err()
        };
        let empty = change(&|_| String::new());
        assert!(
            matches!(
                empty,
                Refusal::Malformed {
                    flaw: Flaw::Empty,
                    ..
                }
            ),
            "{name}: {empty:?}"
        );
        let cut = change(&|value| value[..value.len() - 4].to_owned());
        assert!(
            matches!(
                cut,
                Refusal::Malformed {
                    flaw: Flaw::WrongLength { .. },
                    ..
                }
            ),
            "{name}: {cut:?}"
        );
        let long = change(&|_| "a".repeat(MAX_HEADER_BYTES + 1));
        assert!(matches!(long, Refusal::HeaderTooLong { .. }), "{name}: {long:?}");
        let foreign = change(&|_| "sha999:abc".into());
        assert!(
            matches!(foreign, Refusal::Malformed { .. }),
            "{name}: {foreign:?}"
        );
    });
}

#[test]
fn more_than_thirty_two_signatures_are_refused_before_any_is_tried() {
    for_every_scheme(|name, scheme, secret, headers| {
        if !is_list(scheme) {
            return;
        }
        let repeat = |times: usize| {
            let separator = if matches!(scheme, Scheme::StandardWebhooks(_)) {
                ' '
            } else {
                ','
            };
            with_signature(scheme, headers, |value| {
                let (head, signature) = match scheme {
                    Scheme::StandardWebhooks(_) => ("", value),
                    Scheme::Signed(_) | Scheme::Token(_) => value.split_at(value.find("v1=").unwrap()),
                };
                let list = vec![signature; times].join(&separator.to_string());
                format!("{head}{list}")
            })
        };
        assert!(
            check(scheme, from_ref(secret), &repeat(32), BODY).is_ok(),
            "{name}"
        );
        let refusal = check(scheme, from_ref(secret), &repeat(33), BODY).unwrap_err();
        assert!(
            matches!(
                refusal,
                Refusal::TooManySignatures {
                    count: 33,
                    limit: 32,
                    ..
                }
            ),
            "{name}: {refusal:?}"
        );
    });
}

#[test]
fn a_standard_signature_of_the_version_that_no_secret_can_check_is_named() {
    let scheme = hookfast_signature::provider("standard-webhooks").unwrap().scheme;
    let symmetric = Secret::generate_symmetric(&[1; 32]);
    let asymmetric = Secret::generate_asymmetric(&[1; 32]).unwrap();
    let headers = sign_at(scheme, &symmetric, BODY, NOW);
    let refusal = check(scheme, &[asymmetric.public().unwrap()], &headers, BODY).unwrap_err();
    assert!(
        matches!(refusal, Refusal::NoUsableVersion { wanted: "v1a", .. }),
        "{refusal:?}"
    );
    let headers = sign_at(scheme, &asymmetric, BODY, NOW);
    let refusal = check(scheme, from_ref(&symmetric), &headers, BODY).unwrap_err();
    assert!(
        matches!(refusal, Refusal::NoUsableVersion { wanted: "v1", .. }),
        "{refusal:?}"
    );
    let both = [symmetric, asymmetric.public().unwrap()];
    assert_eq!(
        check(scheme, &both, &headers, BODY).map(|verified| verified.secret),
        Ok(1)
    );
}

#[test]
fn only_a_few_public_key_signatures_are_tried_and_only_where_a_public_key_is_configured() {
    let scheme = hookfast_signature::provider("standard-webhooks").unwrap().scheme;
    let symmetric = Secret::generate_symmetric(&[1; 32]);
    let asymmetric = Secret::generate_asymmetric(&[1; 32]).unwrap();
    let list = |times: usize| {
        let signature = sign_at(scheme, &asymmetric, BODY, NOW).pop().unwrap().1;
        let headers = sign_at(scheme, &symmetric, BODY, NOW);
        with_signature(scheme, &headers, |value| {
            format!("{value} {}", vec![signature.as_str(); times].join(" "))
        })
    };
    let limit = MAX_PUBLIC_KEY_SIGNATURES;
    assert!(check(scheme, from_ref(&asymmetric), &list(limit), BODY).is_ok());
    let refusal = check(scheme, from_ref(&asymmetric), &list(limit + 1), BODY).unwrap_err();
    let header = "webhook-signature".into();
    assert_eq!(
        refusal,
        Refusal::TooManySignatures {
            header,
            count: limit + 1,
            limit
        }
    );
    assert!(check(scheme, from_ref(&symmetric), &list(limit + 1), BODY).is_ok());
}

#[test]
fn an_empty_id_is_refused_because_repeats_would_all_look_alike() {
    let scheme = hookfast_signature::provider("standard-webhooks").unwrap().scheme;
    let secret = secret(scheme, 1);
    let time = Duration::from_secs(NOW);
    let unsigned = Unsigned {
        method: "POST",
        url: None,
        id: "",
        time,
        body: BODY,
    };
    let headers = scheme.sign(&secret, &unsigned).unwrap();
    let refusal = check(scheme, &[secret], &headers, BODY).unwrap_err();
    assert_eq!(
        refusal,
        Refusal::Malformed {
            header: "webhook-id".into(),
            flaw: Flaw::Empty
        }
    );
}

#[test]
fn two_times_in_one_signature_header_are_refused() {
    let scheme = hookfast_signature::provider("stripe").unwrap().scheme;
    let secret = secret(scheme, 1);
    let headers = sign_at(scheme, &secret, BODY, NOW);
    let twice = with_signature(scheme, &headers, |value| format!("{value},t={NOW}"));
    let refusal = check(scheme, from_ref(&secret), &twice, BODY).unwrap_err();
    assert!(
        matches!(
            refusal,
            Refusal::Malformed {
                flaw: Flaw::ElementTwice { .. },
                ..
            }
        ),
        "{refusal:?}"
    );
    let word = with_signature(scheme, &headers, |value| value.replace(&NOW.to_string(), "soon"));
    let refusal = check(scheme, &[secret], &word, BODY).unwrap_err();
    assert!(matches!(refusal, Refusal::Mismatch { .. }), "{refusal:?}");
}

#[test]
fn tokens_are_compared_whole_and_do_not_claim_to_cover_the_body() {
    let header = || Token::Header {
        name: "X-Gitlab-Token".into(),
    };
    let table = [
        (header(), "s3cret", "x-gitlab-token", "s3cret", None),
        (header(), "s3cret", "x-gitlab-token", "s3cre", Some("mismatch")),
        (header(), "s3cret", "x-gitlab-token", "", Some("malformed")),
        (header(), "s3cret", "x-other", "s3cret", Some("header_missing")),
        (Token::Bearer, "abc", "Authorization", "bearer abc", None),
        (
            Token::Bearer,
            "abc",
            "Authorization",
            "Bearer abcd",
            Some("mismatch"),
        ),
        (
            Token::Bearer,
            "abc",
            "Authorization",
            "Basic abc",
            Some("malformed"),
        ),
        (Token::Bearer, "abc", "Authorization", "Bearer", Some("malformed")),
        (
            Token::Basic,
            "me:pass:word",
            "Authorization",
            "Basic bWU6cGFzczp3b3Jk",
            None,
        ),
        (
            Token::Basic,
            "me:other",
            "Authorization",
            "Basic bWU6cGFzczp3b3Jk",
            Some("mismatch"),
        ),
        (
            Token::Basic,
            "me:other",
            "Authorization",
            "Basic !!",
            Some("malformed"),
        ),
    ];
    for (token, secret, name, value, expected) in table {
        let scheme = Scheme::Token(token);
        assert!(!scheme.covers_body());
        let verifier = Verifier::new(scheme, &["first:wrong".into(), secret.into()]).unwrap();
        let headers = [(name, value)];
        let request = Request {
            method: "POST",
            url: None,
            headers: &headers,
            body: b"",
        };
        let result = verifier.verify(&request, Clock::at_seconds(NOW));
        assert_eq!(result.as_ref().err().map(Refusal::code), expected, "{value}");
        assert_eq!(
            result.ok().map(|verified| verified.secret),
            expected.is_none().then_some(1)
        );
    }
}

#[test]
fn a_token_in_the_query_is_found_there() {
    let scheme = Scheme::Token(Token::Query {
        parameter: "access_token".into(),
    });
    let verifier = Verifier::new(scheme, &["a b".into()]).unwrap();
    let check = |url: Option<&str>| {
        let headers: [(&str, &str); 0] = [];
        let request = Request {
            method: "POST",
            url,
            headers: &headers,
            body: b"",
        };
        verifier
            .verify(&request, Clock::at_seconds(NOW))
            .map_err(|refusal| refusal.code())
    };
    assert!(check(Some("/in/a?access_token=a%20b")).is_ok());
    assert_eq!(check(Some("/in/a?access_token=a")), Err("mismatch"));
    assert_eq!(check(Some("/in/a")), Err("query_parameter"));
    assert_eq!(check(None), Err("url_missing"));
}

#[test]
fn a_generic_scheme_verifies_what_it_describes() {
    for hash in [Hash::Sha1, Hash::Sha256, Hash::Sha512] {
        let mut generic = GenericHmac::new("X-Acme-Signature");
        generic.hash = hash;
        generic.prefix = "v0=".into();
        generic.encoding = "base64".parse().unwrap();
        generic.key = "hex".parse().unwrap();
        generic.content = "{method} {url}:{timestamp}:{header:x-id}:{body}".into();
        generic.timestamp_header = Some("X-Acme-Time".into());
        let scheme: &'static Scheme = Box::leak(Box::new(generic.scheme().unwrap()));
        let secret = Secret::new("00ff10");
        let headers = sign_at(scheme, &secret, BODY, NOW);
        assert!(check(scheme, from_ref(&secret), &headers, BODY).is_ok());
        assert!(check(scheme, &[Secret::new("00ff11")], &headers, BODY).is_err());
        let request = Request {
            method: "POST",
            url: None,
            headers: &headers,
            body: BODY,
        };
        let verifier = Verifier::new(scheme, &[secret]).unwrap();
        assert_eq!(
            verifier.verify(&request, Clock::at_seconds(NOW)),
            Err(Refusal::UrlMissing)
        );
    }
}

#[test]
fn no_refusal_shows_the_secret_or_the_expected_signature() {
    for_every_scheme(|name, scheme, secret, headers| {
        let expected = &headers.last().unwrap().1;
        let refusal = check(scheme, from_ref(secret), headers, b"changed").unwrap_err();
        let shown = format!(
            "{refusal} {refusal:?} {:?}",
            Verifier::new(scheme, from_ref(secret))
        );
        assert!(
            !shown.contains(secret.expose()) && !shown.contains(expected.as_str()),
            "{name}: {shown}"
        );
    });
}
