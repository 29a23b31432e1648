//! The offline check names the accident that made a signature fail.
#![expect(clippy::unwrap_used, reason = "a helper of tests may panic")]

use std::time::Duration;

use hookfast_signature::{
    BodyChange, Cause, Clock, Encoding, GenericHmac, Hash, KeyForm, Request, Scheme, Secret, Suspicion,
    Unsigned, diagnose, provider,
};

const NOW: u64 = 1_700_000_000;
const BODY: &str = r#"{"id":"evt_1","name":"José/\"x\"","data":{"n":1.0}}"#;
const SECRET: &str = "c2VjcmV0IHRoYXQgaXMgbG9uZw==";

fn scheme(slug: &str) -> &'static Scheme {
    provider(slug).unwrap().scheme
}

fn signed(scheme: &Scheme, secret: &str, body: &str) -> Vec<(String, String)> {
    let time = Duration::from_secs(NOW);
    let unsigned = Unsigned {
        method: "POST",
        url: None,
        id: "msg_1",
        time,
        body: body.as_bytes(),
    };
    scheme.sign(&Secret::new(secret), &unsigned).unwrap()
}

fn causes(scheme: &Scheme, secret: &str, headers: &Vec<(String, String)>, body: &str) -> Vec<Cause> {
    let request = Request {
        method: "POST",
        url: None,
        headers,
        body: body.as_bytes(),
    };
    let diagnosis = diagnose(scheme, &[secret.into()], &request, Clock::at_seconds(NOW)).unwrap();
    assert_eq!(diagnosis.suspicions, [], "{diagnosis}");
    diagnosis.causes
}

#[test]
fn a_valid_request_has_no_diagnosis() {
    let headers = signed(scheme("stripe"), SECRET, BODY);
    let request = Request {
        method: "POST",
        url: None,
        headers: &headers,
        body: BODY.as_bytes(),
    };
    assert_eq!(
        diagnose(
            scheme("stripe"),
            &[SECRET.into()],
            &request,
            Clock::at_seconds(NOW)
        ),
        None
    );
}

#[test]
fn a_change_of_the_body_is_named() {
    let spaced = BODY.replace(':', ": ").replace(',', ", ");
    let escaped = BODY.replace('é', "\\u00e9");
    let table = [
        (BODY, format!("{BODY}\n"), BodyChange::LineEndAdded),
        (BODY, format!("{BODY}\r\n"), BodyChange::LineEndAdded),
        (&format!("{BODY}\n"), BODY.to_owned(), BodyChange::LineEndLost),
        (BODY, format!("\u{feff}{BODY}"), BodyChange::ByteOrderMarkAdded),
        ("a\r\nb", "a\nb".to_owned(), BodyChange::CarriageReturnsLost),
        ("a\nb", "a\r\nb".to_owned(), BodyChange::CarriageReturnsAdded),
        (BODY, BODY.replace(',', ",\n  "), BodyChange::WhitespaceAdded),
        (&spaced, BODY.to_owned(), BodyChange::WhitespaceLost),
        (&escaped, BODY.to_owned(), BodyChange::EscapesLost),
        (
            &BODY.replace('/', "\\/"),
            BODY.to_owned(),
            BodyChange::SlashEscapesLost,
        ),
    ];
    for slug in ["nylas", "stripe", "slack", "shopify"] {
        for (sent, got, expected) in &table {
            let headers = signed(scheme(slug), SECRET, sent);
            assert_eq!(
                causes(scheme(slug), SECRET, &headers, got),
                [Cause::Body(*expected)],
                "{slug} {got}"
            );
        }
    }
}

#[test]
fn an_accident_with_the_secret_is_named() {
    let headers = signed(scheme("github"), SECRET, BODY);
    let github = |secret: &str| causes(scheme("github"), secret, &headers, BODY);
    assert_eq!(github(&format!("{SECRET}\n")), [Cause::SecretWhitespace]);
    assert_eq!(github(&format!("\"{SECRET}\"")), [Cause::SecretQuoted]);
    assert_eq!(github(&format!("whsec_{SECRET}")), [Cause::SecretWithoutPrefix]);

    let Scheme::Signed(github) = scheme("github") else {
        panic!("github signs in a header")
    };
    let mut decoding = github.clone();
    decoding.key = KeyForm::Base64;
    let headers = signed(&Scheme::Signed(decoding), SECRET, BODY);
    let found = causes(scheme("github"), SECRET, &headers, BODY);
    assert_eq!(found, [Cause::SecretForm(KeyForm::Base64)]);
}

#[test]
fn another_encoding_hash_or_prefix_is_named() {
    let Scheme::Signed(nylas) = scheme("nylas") else {
        panic!("nylas signs in a header")
    };
    let sent = |change: &dyn Fn(&mut hookfast_signature::Signed)| {
        let mut other = nylas.clone();
        change(&mut other);
        let headers = signed(&Scheme::Signed(other), SECRET, BODY);
        causes(scheme("nylas"), SECRET, &headers, BODY)
    };
    let sha512 = hookfast_signature::Algorithm::Hmac(Hash::Sha512);
    let prefixed = hookfast_signature::Carrier::Header {
        name: "x-nylas-signature".into(),
        prefix: "sha256=".into(),
    };
    assert_eq!(
        sent(&|each| each.encoding = Encoding::Base64),
        [Cause::Encoding(Encoding::Base64)]
    );
    assert_eq!(sent(&|each| each.algorithm = sha512), [Cause::Hash(Hash::Sha512)]);
    assert_eq!(
        sent(&|each| each.carrier = prefixed.clone()),
        [Cause::Prefix("sha256=")]
    );
}

#[test]
fn two_accidents_at_once_are_both_named() {
    let headers = signed(scheme("nylas"), SECRET, BODY);
    assert_eq!(
        causes(
            scheme("nylas"),
            &format!(" {SECRET}"),
            &headers,
            &format!("{BODY}\n")
        ),
        [Cause::SecretWhitespace, Cause::Body(BodyChange::LineEndAdded)]
    );
}

#[test]
fn when_nothing_helps_the_likelier_culprit_is_named() {
    let check = |extra: &[(&str, &str)], body: &[u8]| {
        let mut headers = signed(scheme("nylas"), "another secret", BODY);
        headers.extend(
            extra
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
        );
        let request = Request {
            method: "POST",
            url: None,
            headers: &headers,
            body,
        };
        let diagnosis = diagnose(
            scheme("nylas"),
            &[SECRET.into()],
            &request,
            Clock::at_seconds(NOW),
        );
        let diagnosis = diagnosis.unwrap();
        assert_eq!(diagnosis.causes, []);
        assert!(!diagnosis.to_string().contains(SECRET));
        diagnosis.suspicions
    };
    let length = BODY.len().to_string();
    assert_eq!(check(&[], BODY.as_bytes()), [Suspicion::SecretOrBody]);
    assert_eq!(
        check(&[("content-length", &length)], BODY.as_bytes()),
        [Suspicion::ProbablySecret]
    );
    assert_eq!(
        check(&[("content-length", "5")], BODY.as_bytes()),
        [
            Suspicion::Length {
                said: 5,
                found: BODY.len()
            },
            Suspicion::ProbablyBody
        ]
    );
    assert_eq!(
        check(&[("content-encoding", "gzip")], BODY.as_bytes()),
        [Suspicion::Decompressed, Suspicion::ProbablyBody]
    );
    assert_eq!(check(&[], b"\x1f\x8b\x08")[0], Suspicion::Compressed);
    assert_eq!(check(&[], b"")[0], Suspicion::EmptyBody);
    assert_eq!(check(&[], b"\xff")[0], Suspicion::NotUtf8);
}

#[test]
fn where_the_url_is_signed_it_is_among_the_suspects() {
    let mut generic = GenericHmac::new("x-signature");
    generic.content = "{url}{body}".into();
    let scheme = generic.scheme().unwrap();
    let unsigned = Unsigned {
        method: "POST",
        url: Some("https://public.example/in/a"),
        id: "",
        time: Duration::ZERO,
        body: BODY.as_bytes(),
    };
    let headers = scheme.sign(&Secret::new(SECRET), &unsigned).unwrap();
    let url = Some("http://inside.example/in/a");
    let request = Request {
        method: "POST",
        url,
        headers: &headers,
        body: BODY.as_bytes(),
    };
    let diagnosis = diagnose(&scheme, &[SECRET.into()], &request, Clock::at_seconds(NOW)).unwrap();
    assert_eq!(
        diagnosis.suspicions,
        [Suspicion::SignedUrl, Suspicion::SecretOrBody]
    );
}
