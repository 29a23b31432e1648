//! Keeping secrets out of what is shown (SPEC P6).
//!
//! Owns which headers and targets of a kept request are shown as `[redacted]`: some senders prove themselves by
//! a token in a header or in the query, and that token is kept with the event. Must not change what is stored
//! or delivered.

use hookfast_engine::event::HeaderBlock;
use hookfast_engine::id::SourceId;
use hookfast_engine::topology::Topology;
use hookfast_signature::{Scheme, Token};

use super::wire::Header;
use crate::ingest::scheme::scheme_of;
use crate::vault::Vault;

/// What stands in the place of a secret.
pub(super) const REDACTED: &str = "[redacted]";

/// Headers whose values are credentials, whoever sends them.
const CREDENTIALS: [&str; 12] = [
    "authorization",
    "proxy-authorization",
    "cookie",
    "set-cookie",
    "x-api-key",
    "api-key",
    "apikey",
    "x-auth-token",
    "x-access-token",
    "x-gitlab-token",
    "x-csrf-token",
    "ce-access-token",
];
/// Headers whose values are URLs, which may hold a token.
const TARGETS: [&str; 3] = ["location", "content-location", "referer"];
/// Secrets shorter than this are not looked for inside of values: they would match by chance.
const SHORTEST_SOUGHT: usize = 6;

/// Knows what must not be shown of requests to one source, or of answers of destinations.
#[derive(Default)]
pub(super) struct Redactor {
    /// The header that carries the source's token.
    header: Option<String>,
    /// The parameter that carries the source's token.
    parameter: Option<String>,
    secrets: Vec<String>,
}

impl Redactor {
    /// For requests to `source`. A source that is deleted has no secrets any more; what it calls its token is
    /// then not known either.
    pub(super) fn of_source(topology: &Topology, vault: &Vault, source: SourceId) -> Self {
        let Some(source) = topology.sources.get(&source) else {
            return Self::default();
        };
        let opened = source
            .secrets
            .iter()
            .filter_map(|secret| vault.open_sealed(source.id.as_u128(), &secret.sealed));
        let secrets = opened.filter_map(|secret| String::from_utf8(secret).ok());
        let mut redactor = Self {
            secrets: secrets.filter(|secret| secret.len() >= SHORTEST_SOUGHT).collect(),
            ..Self::default()
        };
        if let Ok(scheme) = scheme_of(source)
            && let Scheme::Token(token) = &*scheme
        {
            match token {
                Token::Header { name } => redactor.header = Some(name.to_string()),
                Token::Query { parameter } => redactor.parameter = Some(parameter.to_string()),
                Token::Bearer | Token::Basic => {}
            }
        }
        redactor
    }

    /// The headers, as they may be shown.
    pub(super) fn headers(&self, block: &HeaderBlock) -> Vec<Header> {
        block
            .iter()
            .map(|(name, value)| {
                let name = String::from_utf8_lossy(name).into_owned();
                let value = String::from_utf8_lossy(value).into_owned();
                let value = if self.hides(&name, &value) {
                    REDACTED.to_owned()
                } else if TARGETS.iter().any(|each| name.eq_ignore_ascii_case(each)) {
                    self.target(&value)
                } else {
                    value
                };
                Header { name, value }
            })
            .collect()
    }

    fn hides(&self, name: &str, value: &str) -> bool {
        CREDENTIALS.iter().any(|each| name.eq_ignore_ascii_case(each))
            || self
                .header
                .as_ref()
                .is_some_and(|header| name.eq_ignore_ascii_case(header))
            || self.secrets.iter().any(|secret| value.contains(secret.as_str()))
    }

    /// The path and query, as they may be shown.
    pub(super) fn target(&self, target: &str) -> String {
        let Some((path, query)) = target.split_once('?') else {
            return self.text(target);
        };
        let pairs = query.split('&').map(|pair| {
            let name = pair.split('=').next().unwrap_or_default();
            let names_token = self
                .parameter
                .as_deref()
                .is_some_and(|parameter| name == parameter)
                || ["access_token", "token", "secret", "key", "api_key"].contains(&name);
            if names_token {
                format!("{name}={REDACTED}")
            } else {
                pair.to_owned()
            }
        });
        self.text(&format!("{path}?{}", pairs.collect::<Vec<_>>().join("&")))
    }

    fn text(&self, text: &str) -> String {
        let mut shown = text.to_owned();
        for secret in &self.secrets {
            shown = shown.replace(secret.as_str(), REDACTED);
        }
        shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redactor() -> Redactor {
        Redactor {
            header: Some("x-acme-token".to_owned()),
            parameter: Some("pass".to_owned()),
            secrets: vec!["canary-secret".to_owned()],
        }
    }

    #[test]
    fn credentials_are_hidden_and_signatures_shown() {
        let block = HeaderBlock::pack([
            (&b"Authorization"[..], &b"Basic abc"[..]),
            (b"X-Acme-Token", b"wrong one"),
            (b"X-Other", b"prefix canary-secret suffix"),
            (b"X-Nylas-Signature", b"00ff"),
            (
                b"Location",
                b"https://app.example.com/login?next=%2F&token=canary",
            ),
        ]);
        let shown = redactor().headers(&block);
        let values: Vec<_> = shown.iter().map(|header| header.value.as_str()).collect();
        let location = format!("https://app.example.com/login?next=%2F&token={REDACTED}");
        assert_eq!(values, [REDACTED, REDACTED, REDACTED, "00ff", &location]);
    }

    #[test]
    fn tokens_in_a_query_are_hidden() {
        let shown = redactor().target("/in/acme?a=1&pass=x&b=canary-secret&token=y");
        assert_eq!(
            shown,
            format!("/in/acme?a=1&pass={REDACTED}&b={REDACTED}&token={REDACTED}")
        );
        assert_eq!(redactor().target("/in/acme"), "/in/acme");
    }
}
