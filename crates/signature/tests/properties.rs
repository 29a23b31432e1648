//! What holds for every request: signed verifies, changed is refused, and nothing panics.
#![expect(clippy::unwrap_used, reason = "a helper of tests may panic")]

use std::time::Duration;

use hookfast_signature::{
    Clock, Encoding, PROVIDERS, Provider, Request, Scheme, Secret, Token, Unsigned, Verifier, diagnose,
};
use proptest::prelude::*;

const URL: &str = "https://hooks.example.com/in/a";

fn any_provider() -> impl Strategy<Value = &'static Provider> {
    (0..PROVIDERS.len()).prop_map(|place| &PROVIDERS[place])
}

fn secret(scheme: &Scheme, seed: [u8; 32]) -> Secret {
    match scheme {
        Scheme::StandardWebhooks(_) if seed[0].is_multiple_of(2) => {
            Secret::generate_asymmetric(&seed).unwrap()
        }
        Scheme::StandardWebhooks(_) => Secret::generate_symmetric(&seed),
        Scheme::Signed(_) | Scheme::Token(_) => Secret::new(Encoding::Base64.encode(&seed)),
    }
}

fn sign(scheme: &Scheme, secret: &Secret, body: &[u8], seconds: u64) -> Vec<(String, Vec<u8>)> {
    let time = Duration::from_secs(seconds);
    let unsigned = Unsigned {
        method: "POST",
        url: Some(URL),
        id: "msg_1",
        time,
        body,
    };
    let headers = scheme.sign(secret, &unsigned).unwrap();
    headers
        .into_iter()
        .map(|(name, value)| (name, value.into_bytes()))
        .collect()
}

proptest! {
    #[test]
    fn what_is_signed_verifies(
        provider in any_provider(),
        seed: [u8; 32],
        body: Vec<u8>,
        seconds in 0..4_000_000_000_u64,
    ) {
        let secret = secret(provider.scheme, seed);
        let headers = sign(provider.scheme, &secret, &body, seconds);
        let request = Request { method: "POST", url: Some(URL), headers: &headers, body: &body };
        let verifier = Verifier::new(provider.scheme, &[secret]).unwrap();
        prop_assert!(verifier.verify(&request, Clock::at_seconds(seconds)).is_ok());
    }

    #[test]
    fn any_flipped_bit_of_the_body_is_refused(
        provider in any_provider(),
        seed: [u8; 32],
        body in prop::collection::vec(any::<u8>(), 1..200),
        place: prop::sample::Index,
        bit in 0..8_u32,
    ) {
        let secret = secret(provider.scheme, seed);
        let headers = sign(provider.scheme, &secret, &body, 1000);
        let mut changed = body;
        let place = place.index(changed.len());
        changed[place] ^= 1 << bit;
        let request = Request { method: "POST", url: Some(URL), headers: &headers, body: &changed };
        let verifier = Verifier::new(provider.scheme, &[secret]).unwrap();
        prop_assert!(verifier.verify(&request, Clock::at_seconds(1000)).is_err());
    }

    #[test]
    fn any_flipped_bit_of_a_header_is_refused(
        provider in any_provider(),
        seed: [u8; 32],
        header: prop::sample::Index,
        place: prop::sample::Index,
        bit in 0..8_u32,
    ) {
        let secret = secret(provider.scheme, seed);
        let mut headers = sign(provider.scheme, &secret, b"{}", 1000);
        let header = header.index(headers.len());
        let value = &mut headers[header].1;
        let place = place.index(value.len());
        value[place] ^= 1 << bit;
        // Hex digits mean the same in either case.
        let hex = matches!(provider.scheme, Scheme::Signed(signed) if signed.encoding == Encoding::Hex);
        prop_assume!(!(hex && bit == 5 && value[place].is_ascii_alphabetic()));
        let request = Request { method: "POST", url: Some(URL), headers: &headers, body: b"{}" };
        let verifier = Verifier::new(provider.scheme, &[secret]).unwrap();
        prop_assert!(verifier.verify(&request, Clock::at_seconds(1000)).is_err());
    }

    #[test]
    fn arbitrary_headers_bodies_and_urls_never_panic(
        values in prop::collection::vec(
            prop_oneof![
                prop::collection::vec(any::<u8>(), 0..300),
                "[tvh01,=;. a-f+/-]{0,80}".prop_map(String::into_bytes),
                "(Basic|Bearer|sha256=|v0=|v1,|t=1,v1=) ?[A-Za-z0-9+/=é]{0,90}".prop_map(String::into_bytes),
            ],
            1..8,
        ),
        body in prop_oneof![any::<Vec<u8>>(), "[{}\\[\\]\":, \\\\/aé\r\n]{0,60}".prop_map(String::into_bytes)],
        url in "[a?&=%+#0-9é]{0,40}",
        now: u64,
    ) {
        let tokens = [Token::Bearer, Token::Basic, Token::Query { parameter: "a".into() }].map(Scheme::Token);
        for scheme in PROVIDERS.iter().map(|provider| provider.scheme).chain(&tokens) {
            let names = [scheme.header().unwrap_or("a"), "webhook-id", "webhook-timestamp",
                "x-slack-request-timestamp", "content-length", "content-encoding"];
            let headers: Vec<_> = names.into_iter().zip(&values).collect();
            let request = Request { method: "POST", url: Some(&url), headers: &headers, body: &body };
            let secret = match scheme {
                Scheme::StandardWebhooks(_) => Secret::generate_symmetric(&[1; 32]),
                Scheme::Signed(_) | Scheme::Token(_) => Secret::new("user:\"c2VjcmV0\""),
            };
            let clock = Clock::at_seconds(now);
            let verifier = Verifier::new(scheme.clone(), std::slice::from_ref(&secret)).unwrap();
            prop_assert!(verifier.verify(&request, clock).is_err());
            let diagnosis = diagnose(scheme, &[secret], &request, clock);
            prop_assert!(diagnosis.is_some());
        }
        let request = Request { method: "GET", url: Some(&url), headers: &[("a", "b")], body: &body };
        for handshake in PROVIDERS.iter().flat_map(|provider| provider.handshakes) {
            let _ = handshake.answer(&request, &|_| None);
        }
    }
}
