//! Why a signature does not match: tries the usual accidents, one and two at a time, and reports the one that
//! makes it match.
//!
//! Owns the list of accidents. For people at a terminal, never for the path of a request: it tries hundreds of
//! combinations. Must not print secrets or expected signatures, and must not decompress.

use std::borrow::Cow;
use std::fmt;

use crate::encoding::Encoding;
use crate::refusal::Refusal;
use crate::request::{Headers, Request};
use crate::scheme::{Algorithm, Carrier, Hash, Scheme, Verifier};
use crate::secret::{KeyForm, SYMMETRIC_PREFIX, Secret};
use crate::time::{Clock, Tolerance};

/// What stands against a request and what probably caused it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnosis {
    /// Why the request is refused as it is.
    pub refusal: Refusal,
    /// What has to be changed for the signature to match, all of it together. Certain, for it was tried; empty
    /// when nothing that was tried helped.
    pub causes: Vec<Cause>,
    /// What looks odd, when nothing that was tried helped. The last one says which of secret and body is the
    /// likelier culprit.
    pub suspicions: Vec<Suspicion>,
}

/// An accident that was proven by undoing it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Cause {
    /// Spaces or line ends around the secret.
    #[error("the configured secret has white space around it; remove it")]
    SecretWhitespace,
    /// Quotation marks around the secret.
    #[error("the configured secret has quotation marks around it; remove them")]
    SecretQuoted,
    /// The `whsec_` belongs or does not belong to the key.
    #[error("the secret matches without its `whsec_` in front")]
    SecretWithoutPrefix,
    /// The secret is decoded where it should not be, or the other way round.
    #[error("the secret matches when it is used as {}", form_name(*.0))]
    SecretForm(KeyForm),
    /// The sender's hash is another.
    #[error("the signature is made with {}; set the hash to it", .0.name())]
    Hash(Hash),
    /// The sender's encoding is another.
    #[error("the signature is written in {0}; set the encoding to it")]
    Encoding(Encoding),
    /// The prefix is another.
    #[error("the signature has {}", prefix_name(.0))]
    Prefix(&'static str),
    /// The body was changed.
    #[error("the body was changed after it was signed: {0}; verify the raw bytes as they came")]
    Body(BodyChange),
}

/// A change of the body that was proven by undoing it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyChange {
    /// One line end too many.
    #[error("it matches without the line end at its end (editors and `echo` add one)")]
    LineEndAdded,
    /// One line end too few.
    #[error("it matches with a line end at its end")]
    LineEndLost,
    /// CR LF became LF.
    #[error("it matches with CR LF line ends")]
    CarriageReturnsLost,
    /// LF became CR LF.
    #[error("it matches with LF line ends")]
    CarriageReturnsAdded,
    /// A byte order mark came in front.
    #[error("it matches without the byte order mark in front")]
    ByteOrderMarkAdded,
    /// Compact JSON was spread out.
    #[error("it matches as compact JSON, so it was parsed and written again with white space")]
    WhitespaceAdded,
    /// JSON with a space after each colon and comma was made compact or otherwise spread out.
    #[error(
        "it matches as JSON with one space after each colon and comma, so it was parsed and written again"
    )]
    WhitespaceLost,
    /// Escaped characters were written plainly.
    #[error(
        "it matches with every non-ASCII character escaped as \\uXXXX, so it was parsed and written again"
    )]
    EscapesLost,
    /// Slashes were escaped in what was signed.
    #[error("it matches with `/` written as `\\/`, so it was parsed and written again")]
    SlashEscapesLost,
}

/// Something odd that may be the cause.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Suspicion {
    /// Compressed body in hand.
    #[error("the body is gzip; if this is not what the provider signed, decompress it and try again")]
    Compressed,
    /// The header says gzip and the body is not.
    #[error(
        "content-encoding says gzip but the body is not: something decompressed it, and the signature is over the compressed bytes"
    )]
    Decompressed,
    /// The body has another length than the sender said.
    #[error("content-length says {said} bytes but the body has {found}: it was changed or cut on the way")]
    Length {
        /// What the header says.
        said: u64,
        /// What is there.
        found: usize,
    },
    /// No body at all.
    #[error("the body is empty; was it read before it was verified?")]
    EmptyBody,
    /// Letters are not UTF-8 where JSON is said.
    #[error("the body is not UTF-8; was it re-encoded on the way?")]
    NotUtf8,
    /// The URL is signed, and is taken from the configuration.
    #[error(
        "this scheme signs the URL: is it exactly what the provider was given, with scheme, port, path and query?"
    )]
    SignedUrl,
    /// The secret has a form that another scheme uses.
    #[error(
        "the secret looks like {0}, which this scheme does not use so; is it the secret of this provider?"
    )]
    SecretLooksLike(&'static str),
    /// Everything speaks for the secret.
    #[error(
        "the body has the length the sender gave, so probably the secret is wrong: is it the one of this webhook, this mode (test or live), this rotation?"
    )]
    ProbablySecret,
    /// Everything speaks for the body.
    #[error("probably the body was changed after it was signed")]
    ProbablyBody,
    /// It cannot be told.
    #[error("either the secret is another one or the body was changed; check the secret first")]
    SecretOrBody,
}

fn form_name(form: KeyForm) -> &'static str {
    match form {
        KeyForm::Text => "plain text, not decoded",
        KeyForm::Base64 => "base64, decoded first",
        KeyForm::Hex => "hex, decoded first",
    }
}

fn prefix_name(prefix: &str) -> String {
    match prefix {
        "" => "no prefix; set the prefix to nothing".to_owned(),
        _ => format!("the prefix `{prefix}`; set the prefix to it"),
    }
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.refusal)?;
        for cause in &self.causes {
            write!(formatter, "; {cause}")?;
        }
        for suspicion in &self.suspicions {
            write!(formatter, "; {suspicion}")?;
        }
        Ok(())
    }
}

/// Says why a request is refused and what probably caused it; `None` when it verifies.
///
/// Secrets that cannot be used with the scheme are left out: check them first with [`Scheme::check_secret`].
pub fn diagnose(
    scheme: &Scheme,
    secrets: &[Secret],
    request: &Request<'_>,
    clock: Clock,
) -> Option<Diagnosis> {
    let usable: Vec<Secret> = secrets
        .iter()
        .filter(|secret| scheme.check_secret(secret).is_ok())
        .cloned()
        .collect();
    let verifier = Verifier::new(scheme.clone(), &usable).ok()?;
    let refusal = verifier.verify(request, clock).err()?;
    let searchable = matches!(
        refusal,
        Refusal::Mismatch { .. } | Refusal::Malformed { .. } | Refusal::NoSecret
    ) && !secrets.is_empty();
    let causes = if searchable {
        search(scheme, secrets, request)
    } else {
        Vec::new()
    };
    let puzzling = causes.is_empty() && matches!(refusal, Refusal::Mismatch { .. });
    let suspicions = if puzzling {
        suspect(scheme, secrets, request)
    } else {
        Vec::new()
    };
    Some(Diagnosis {
        refusal,
        causes,
        suspicions,
    })
}

/// One thing as it is or with one accident undone.
type Variants<T> = Vec<(T, Option<Cause>)>;

fn search(scheme: &Scheme, secrets: &[Secret], request: &Request<'_>) -> Vec<Cause> {
    let schemes = scheme_variants(scheme, request);
    let secrets: Variants<Secret> = secrets.iter().flat_map(secret_variants).collect();
    let bodies = if scheme.covers_body() {
        body_variants(request.body)
    } else {
        vec![(Cow::Borrowed(request.body), None)]
    };
    let mut best: Option<Vec<Cause>> = None;
    for (scheme, scheme_causes) in &schemes {
        for (secret, secret_cause) in &secrets {
            let accidents = scheme_causes.len() + usize::from(secret_cause.is_some());
            if best.as_ref().is_some_and(|best| best.len() <= accidents) {
                continue;
            }
            let Ok(verifier) = Verifier::new(scheme.clone(), std::slice::from_ref(secret)) else {
                continue;
            };
            for (body, body_cause) in &bodies {
                let accidents = accidents + usize::from(body_cause.is_some());
                let better = best.as_ref().is_none_or(|best| best.len() > accidents);
                let changed = Request { body, ..*request };
                let clock = Clock::at_seconds(0).with(Tolerance::Any);
                if accidents > 0 && better && verifier.verify(&changed, clock).is_ok() {
                    let all = scheme_causes.iter().chain(secret_cause).chain(body_cause);
                    best = Some(all.copied().collect());
                }
            }
        }
    }
    best.unwrap_or_default()
}

/// The scheme with another hash, encoding, form of key or prefix, and with two of these.
fn scheme_variants(scheme: &Scheme, request: &Request<'_>) -> Vec<(Scheme, Vec<Cause>)> {
    let mut variants = vec![(scheme.clone(), Vec::new())];
    let Scheme::Signed(original) = scheme else {
        return variants;
    };
    let Algorithm::Hmac(hash) = original.algorithm else {
        return variants;
    };
    let once = |variants: &mut Vec<(Scheme, Vec<Cause>)>, change: &dyn Fn(&mut crate::Signed), cause| {
        let changed: Vec<_> = variants
            .iter()
            .filter(|(_, causes)| causes.len() < 2)
            .filter_map(|(scheme, causes)| match scheme {
                Scheme::Signed(signed) => {
                    let mut signed = signed.clone();
                    change(&mut signed);
                    let causes = causes.iter().copied().chain([cause]).collect();
                    Some((Scheme::Signed(signed), causes))
                }
                Scheme::StandardWebhooks(_) | Scheme::Token(_) => None,
            })
            .filter(|(changed, _)| variants.iter().all(|(known, _)| known != changed))
            .collect();
        variants.extend(changed);
    };
    let other = match original.encoding {
        Encoding::Hex => Encoding::Base64,
        Encoding::Base64 => Encoding::Hex,
    };
    once(
        &mut variants,
        &|signed| signed.encoding = other,
        Cause::Encoding(other),
    );
    for each in [Hash::Sha1, Hash::Sha256, Hash::Sha512]
        .into_iter()
        .filter(|each| *each != hash)
    {
        once(
            &mut variants,
            &|signed| signed.algorithm = Algorithm::Hmac(each),
            Cause::Hash(each),
        );
    }
    for each in [KeyForm::Text, KeyForm::Base64, KeyForm::Hex]
        .into_iter()
        .filter(|each| *each != original.key)
    {
        once(
            &mut variants,
            &|signed| signed.key = each,
            Cause::SecretForm(each),
        );
    }
    if let Carrier::Header { name, prefix } = &original.carrier {
        let mut starts = [false; PREFIXES.len()];
        request.headers.visit(name, &mut |value| {
            for (start, prefix) in starts.iter_mut().zip(PREFIXES) {
                *start |= value.starts_with(prefix.as_bytes());
            }
        });
        let present = PREFIXES
            .into_iter()
            .zip(starts)
            .filter(|(each, start)| *start && each != prefix);
        for (each, _) in present {
            let change = |signed: &mut crate::Signed| {
                if let Carrier::Header { prefix, .. } = &mut signed.carrier {
                    *prefix = Cow::Borrowed(each);
                }
            };
            once(&mut variants, &change, Cause::Prefix(each));
        }
    }
    variants
}

/// What senders put before a signature.
const PREFIXES: [&str; 6] = ["", "sha1=", "sha256=", "sha512=", "v0=", "v1="];

fn secret_variants(secret: &Secret) -> Variants<Secret> {
    let text = secret.expose();
    let mut variants = vec![(secret.clone(), None)];
    let mut add = |changed: &str, cause| {
        if changed != text && !changed.is_empty() {
            variants.push((Secret::new(changed), Some(cause)));
        }
    };
    let trimmed = text.trim();
    add(trimmed, Cause::SecretWhitespace);
    for quote in ['"', '\''] {
        if let Some(inside) = trimmed
            .strip_prefix(quote)
            .and_then(|rest| rest.strip_suffix(quote))
        {
            add(inside, Cause::SecretQuoted);
        }
    }
    if let Some(rest) = trimmed.strip_prefix(SYMMETRIC_PREFIX) {
        add(rest, Cause::SecretWithoutPrefix);
    }
    variants
}

fn body_variants(body: &[u8]) -> Variants<Cow<'_, [u8]>> {
    let mut variants: Variants<Cow<'_, [u8]>> = vec![(Cow::Borrowed(body), None)];
    let mut add = |changed: Cow<'static, [u8]>, change| {
        if changed.as_ref() != body {
            variants.push((changed, Some(Cause::Body(change))));
        }
    };
    let mut owned = |changed: &[u8], change| add(Cow::Owned(changed.to_vec()), change);
    for line_end in [b"\r\n".as_slice(), b"\n"] {
        if let Some(shorter) = body.strip_suffix(line_end) {
            owned(shorter, BodyChange::LineEndAdded);
        }
        owned(&[body, line_end].concat(), BodyChange::LineEndLost);
    }
    if let Some(rest) = body.strip_prefix(b"\xEF\xBB\xBF") {
        owned(rest, BodyChange::ByteOrderMarkAdded);
    }
    let without_returns = replace(body, b"\r\n", b"\n");
    owned(
        &replace(&without_returns, b"\n", b"\r\n"),
        BodyChange::CarriageReturnsLost,
    );
    owned(&without_returns, BodyChange::CarriageReturnsAdded);
    if let Ok(text) = std::str::from_utf8(body) {
        let compact = respace(text, false);
        owned(compact.as_bytes(), BodyChange::WhitespaceAdded);
        owned(respace(text, true).as_bytes(), BodyChange::WhitespaceLost);
        owned(escape(&compact).as_bytes(), BodyChange::EscapesLost);
        owned(escape(&respace(text, true)).as_bytes(), BodyChange::EscapesLost);
        let slashes = compact.replace("\\/", "/").replace('/', "\\/");
        owned(slashes.as_bytes(), BodyChange::SlashEscapesLost);
        owned(escape(&slashes).as_bytes(), BodyChange::SlashEscapesLost);
    }
    variants
}

fn replace(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut replaced = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(first) = rest.first() {
        match rest.strip_prefix(from) {
            Some(after) => {
                replaced.extend_from_slice(to);
                rest = after;
            }
            None => {
                replaced.push(*first);
                rest = &rest[1..];
            }
        }
    }
    replaced
}

/// JSON without white space outside strings or, `spaced`, with one space after each colon and comma. Key order
/// and numbers stay as they are, which parsing and writing would not promise.
fn respace(json: &str, spaced: bool) -> String {
    let mut result = String::with_capacity(json.len());
    let (mut in_string, mut escaped) = (false, false);
    for character in json.chars() {
        if in_string {
            result.push(character);
            in_string = escaped || character != '"';
            escaped = !escaped && character == '\\';
            continue;
        }
        match character {
            ' ' | '\t' | '\r' | '\n' => {}
            ',' | ':' if spaced => result.extend([character, ' ']),
            _ => result.push(character),
        }
        in_string = character == '"';
    }
    result
}

fn escape(json: &str) -> String {
    let mut result = String::with_capacity(json.len());
    for character in json.chars() {
        if character.is_ascii() {
            result.push(character);
            continue;
        }
        let mut units = [0; 2];
        for unit in character.encode_utf16(&mut units) {
            result.push_str(&format!("\\u{unit:04x}"));
        }
    }
    result
}

fn suspect(scheme: &Scheme, secrets: &[Secret], request: &Request<'_>) -> Vec<Suspicion> {
    let mut suspicions = Vec::new();
    if scheme.covers_body() {
        let compressed = request.body.starts_with(b"\x1f\x8b");
        let said_compressed = said(request.headers, "content-encoding").is_some_and(|value| value == "gzip");
        match (compressed, said_compressed) {
            (true, _) => suspicions.push(Suspicion::Compressed),
            (false, true) => suspicions.push(Suspicion::Decompressed),
            (false, false) => {}
        }
        if request.body.is_empty() {
            suspicions.push(Suspicion::EmptyBody);
        }
        if !compressed && std::str::from_utf8(request.body).is_err() {
            suspicions.push(Suspicion::NotUtf8);
        }
    }
    let length = said(request.headers, "content-length").and_then(|value| value.parse::<u64>().ok());
    let found = request.body.len();
    let same_length = length.map(|said| usize::try_from(said).is_ok_and(|said| said == found));
    if let (Some(said), Some(false)) = (length, same_length) {
        suspicions.push(Suspicion::Length { said, found });
    }
    let conclusion = match (scheme.covers_body(), same_length, suspicions.is_empty()) {
        (false, _, _) => Suspicion::ProbablySecret,
        (true, Some(true), true) => Suspicion::ProbablySecret,
        (true, _, false) => Suspicion::ProbablyBody,
        (true, _, true) => Suspicion::SecretOrBody,
    };
    if scheme.covers_url() {
        suspicions.push(Suspicion::SignedUrl);
    }
    if let Some(form) = secrets.iter().find_map(|secret| odd_form(scheme, secret)) {
        suspicions.push(Suspicion::SecretLooksLike(form));
    }
    suspicions.push(conclusion);
    suspicions
}

/// The last value of a header, as text.
fn said(headers: &dyn Headers, name: &str) -> Option<String> {
    let mut found = None;
    headers.visit(name, &mut |value| {
        found = std::str::from_utf8(value).ok().map(str::to_owned)
    });
    found
}

fn odd_form(scheme: &Scheme, secret: &Secret) -> Option<&'static str> {
    let text = secret.expose();
    match scheme {
        Scheme::Signed(_) | Scheme::Token(_) if text.starts_with("whpk_") => {
            Some("a Standard Webhooks public key (whpk_)")
        }
        Scheme::Signed(_) if text.starts_with("sk_live_") || text.starts_with("sk_test_") => {
            Some("an API key (sk_…)")
        }
        Scheme::Signed(_) if text.starts_with("nyk_") => Some("a Nylas API key (nyk_…)"),
        Scheme::Signed(_) | Scheme::StandardWebhooks(_) | Scheme::Token(_) => None,
    }
}
