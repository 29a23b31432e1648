//! What proves who sent something: signatures, schemes of people's own, handshakes.

use std::time::Duration;

use hookfast::ingest::scan::Scan;
use hookfast_signature::{
    Clock, Encoding, GenericHmac, Hash, MAX_CHALLENGE_BYTES, NylasSigner, PROVIDERS, Provider, Request,
    Scheme, Secret, StandardSigner, TimeUnit, Verifier, diagnose, provider,
};

use super::Parts;

const NOW: u64 = 1_700_000_000;

/// `PROVIDER SECRET METHOD URL HEADERS BODY`: by every scheme of that provider, the verdict and its explanation agree,
/// and a signature that is good over a body is good over no other.
pub(crate) fn verify(bytes: &[u8]) {
    let mut parts = Parts(bytes);
    let name = parts.text();
    let asked = provider(&name).map_or(PROVIDERS, std::slice::from_ref);
    let secret = Secret::new(parts.text());
    let posted = Posted::of(parts);
    for scheme in asked.iter().flat_map(schemes) {
        judge(scheme, &secret, &posted.request());
    }
}

/// A request as it came: `METHOD URL HEADERS BODY`.
struct Posted<'a> {
    method: String,
    url: String,
    headers: Vec<(String, Vec<u8>)>,
    body: &'a [u8],
}

impl<'a> Posted<'a> {
    fn of(mut parts: Parts<'a>) -> Self {
        Self {
            method: parts.text(),
            url: parts.text(),
            headers: parts.headers(),
            body: parts.rest(),
        }
    }

    fn request(&self) -> Request<'_> {
        Request {
            method: &self.method,
            url: Some(&self.url),
            headers: &self.headers,
            body: self.body,
        }
    }
}

fn schemes(provider: &'static Provider) -> impl Iterator<Item = &'static Scheme> {
    let variants = provider.variants.iter().map(|(_, scheme)| scheme);
    std::iter::once(provider.scheme).chain(variants)
}

fn judge(scheme: &Scheme, secret: &Secret, request: &Request<'_>) {
    let secrets = std::slice::from_ref(secret);
    let clock = Clock::at_seconds(NOW);
    let Ok(verifier) = Verifier::new(scheme.clone(), secrets) else {
        assert!(
            scheme.check_secret(secret).is_err(),
            "a secret is refused and is not"
        );
        return;
    };
    let verdict = verifier.verify(request, clock);
    let diagnosis = diagnose(scheme, secrets, request, clock);
    assert_eq!(verdict.is_ok(), diagnosis.is_none(), "{verdict:?} {diagnosis:?}");
    if let Some(diagnosis) = diagnosis {
        drop(diagnosis.to_string());
    }
    if verdict.is_ok() && scheme.covers_body() {
        let longer = [request.body, b" "].concat();
        let forged = Request {
            body: &longer,
            ..*request
        };
        assert!(verifier.verify(&forged, clock).is_err(), "another body is taken");
    }
}

/// `CONTENT HEADER PREFIX TIMESTAMP_HEADER CHOICES SECRET HEADERS BODY`: a scheme of people's own holds together, or
/// says why not.
pub(crate) fn generic(bytes: &[u8]) {
    let mut parts = Parts(bytes);
    let content = parts.text();
    let mut scheme = GenericHmac::new(parts.text());
    scheme.content = content;
    scheme.prefix = parts.text();
    let timestamp_header = parts.text();
    scheme.timestamp_header = (!timestamp_header.is_empty()).then_some(timestamp_header);
    let choices = parts.next();
    let choice = |place: usize, of: usize| usize::from(choices.get(place).copied().unwrap_or(0)) % of;
    scheme.hash = [Hash::Sha1, Hash::Sha256, Hash::Sha512][choice(0, 3)];
    scheme.encoding = [Encoding::Hex, Encoding::Base64][choice(1, 2)];
    scheme.timestamp_unit = [TimeUnit::Seconds, TimeUnit::Milliseconds, TimeUnit::Rfc3339][choice(2, 3)];
    let secret = Secret::new(parts.text());
    let (headers, body) = (parts.headers(), parts.rest());
    let request = Request {
        method: "POST",
        url: Some("/in/fuzz"),
        headers: &headers,
        body,
    };
    match scheme.scheme() {
        Ok(scheme) => {
            assert!(scheme.covers_body(), "a scheme must protect the body");
            judge(&scheme, &secret, &request);
        }
        Err(error) => drop(error.to_string()),
    }
}

/// `METHOD URL HEADERS BODY`: whatever is echoed is short.
pub(crate) fn handshake(bytes: &[u8]) {
    let posted = Posted::of(Parts(bytes));
    let request = posted.request();
    let field = |path: &[&str]| {
        let path = path.iter().map(|name| (*name).to_owned().into()).collect();
        Scan::of(posted.body, &[path]).value(0).map(str::to_owned)
    };
    for handshake in PROVIDERS.iter().flat_map(|provider| provider.handshakes) {
        match handshake.answer(&request, &field) {
            Some(Ok(answer)) => assert!(answer.body.len() <= MAX_CHALLENGE_BYTES, "{answer:?}"),
            Some(Err(refusal)) => drop(refusal.to_string()),
            None => {}
        }
    }
}

/// `ID BODY`: what is signed verifies, by both of our own signers.
pub(crate) fn sign(bytes: &[u8]) {
    let mut parts = Parts(bytes);
    let (id, body) = (parts.text(), parts.rest());
    let id: String = id.chars().filter(char::is_ascii_alphanumeric).collect();
    let mut entropy = [7; 32];
    entropy
        .iter_mut()
        .zip(body)
        .for_each(|(one, other)| *one ^= other);
    let secret = Secret::generate_symmetric(&entropy);
    let signer = StandardSigner::new(std::slice::from_ref(&secret)).expect("a secret of its own");
    let headers = [
        ("webhook-id", id.clone()),
        ("webhook-timestamp", NOW.to_string()),
        ("webhook-signature", signer.sign(&id, NOW, body)),
    ];
    if !id.is_empty() {
        check("standard-webhooks", &secret, &headers, body);
    }
    let nylas = Secret::new("fuzz");
    let signature = NylasSigner::new(&nylas).expect("any text signs").sign(body);
    check("nylas", &nylas, &[("x-nylas-signature", signature)], body);
}

fn check<const LENGTH: usize>(name: &str, secret: &Secret, headers: &[(&str, String); LENGTH], body: &[u8]) {
    let scheme = provider(name).expect("a provider of that name").scheme;
    let verifier = Verifier::new(scheme, std::slice::from_ref(secret)).expect("the secret fits");
    let request = Request {
        method: "POST",
        url: None,
        headers,
        body,
    };
    let clock = Clock::at(Duration::from_secs(NOW));
    assert!(verifier.verify(&request, clock).is_ok(), "{name} refuses its own");
}
