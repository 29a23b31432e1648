//! What may be set up as a destination.
//!
//! Owns the bounds of its fields and the words for what is wrong with them. The addresses behind a URL are
//! checked when it is called, not here: names resolve to other addresses later (SPEC O11).

use std::ops::RangeInclusive;
use std::time::Duration;

use hookfast_engine::id::{ApplicationId, SourceId};
use hookfast_engine::retry::Policy;
use hookfast_engine::route::check_pattern;
use hookfast_engine::topology::{Destination, DestinationKind, Signing, Topology};
use hookfast_signature::Secret;

use super::auth::{Caller, not_found};
use super::error::{Code, Fault};
use super::sources::check_name;
use super::wire;
use crate::deliver::resolve::Guard;
use crate::deliver::sign;
use crate::nearest::nearest;
use crate::outbox::catalogue::Catalogue;
use crate::outbox::recipients::check_addresses;

/// The time for an attempt to a destination of the outbox (SPEC O3).
pub(super) const OUTBOX_TIMEOUT: Duration = Duration::from_secs(10);
/// The most secrets that sign at once.
pub(super) const SECRETS_MOST: usize = 5;
const TIMEOUTS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(15 * 60);
const CONCURRENCY: RangeInclusive<u32> = 1..=1_000;
const RATES: RangeInclusive<u32> = 1..=1_000_000;
const URL_BYTES: usize = 2_048;
const TRIGGER_TYPES: usize = 200;
const SOURCES: usize = 1_000;
const DESCRIPTION_CHARACTERS: usize = 1_000;
const SECRET_BYTES: RangeInclusive<usize> = 8..=256;

/// Only an admin key may let a URL be private (SPEC O11).
pub(super) fn check_allow_private(caller: &Caller, allow_private: bool) -> Result<(), Fault> {
    if allow_private && !caller.is_admin() {
        return Err(Fault::new(
            Code::ScopeTooNarrow,
            "allow_private: only an admin key may set it, or change the URL of a destination that has it",
        ));
    }
    Ok(())
}

/// How it takes deliveries, from the two fields that say so.
pub(super) fn kind(
    kind: Option<wire::DestinationKind>,
    url: Option<String>,
) -> Result<DestinationKind, Fault> {
    match (kind, url) {
        (Some(wire::DestinationKind::Pull) | None, None) => Ok(DestinationKind::Pull),
        (Some(wire::DestinationKind::Push), None) => Err(Fault::field("url", "a push destination needs one")),
        (Some(wire::DestinationKind::Pull), Some(_)) => Err(Fault::field(
            "url",
            "a pull destination has none; leave it out, or make it a push destination",
        )),
        (Some(wire::DestinationKind::Push) | None, Some(url)) => Ok(DestinationKind::Push { url }),
    }
}

/// A pull destination does not become one that is pushed to.
pub(super) fn check_push(destination: &Destination) -> Result<(), Fault> {
    match destination.kind {
        DestinationKind::Push { .. } => Ok(()),
        DestinationKind::Pull => Err(Fault::field(
            "url",
            "a pull destination has none; make a new destination",
        )),
    }
}

/// The policy of a destination that names none.
pub(super) fn policy_default(destination: &Destination) -> &'static str {
    match destination.signing {
        _ if !destination.takes_published() => "inbox",
        Signing::Nylas => "nylas",
        Signing::Standard | Signing::Both => "standard",
    }
}

/// The sources that are named, each once; without any, what the application publishes itself.
pub(super) fn sources(
    caller: &Caller,
    named: &[String],
    application: ApplicationId,
) -> Result<Vec<SourceId>, Fault> {
    if named.is_empty() {
        return Ok(vec![SourceId::of_outbox(application)]);
    }
    if named.len() > SOURCES {
        return Err(Fault::field("sources", format!("name at most {SOURCES}")));
    }
    let mut ids = Vec::new();
    for name in named {
        let found = caller
            .source_id(name)
            .ok()
            .filter(|id| caller.topology.owner_of(*id) == Some(application));
        let id = found.ok_or_else(|| Fault::field("sources", not_found("source", name).detail))?;
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    Ok(ids)
}

/// A signing secret of the user's own.
pub(super) fn check_secret(signing: Signing, secret: String) -> Result<String, Fault> {
    let plain = secret.bytes().all(|byte| byte.is_ascii_graphic());
    if signing == Signing::Nylas && !(plain && SECRET_BYTES.contains(&secret.len())) {
        let (least, most) = (SECRET_BYTES.start(), SECRET_BYTES.end());
        let reason = format!("expected from {least} to {most} visible ASCII characters without spaces");
        return Err(Fault::field("secret", reason));
    }
    match sign::check_secret(signing, &Secret::new(secret.as_str())) {
        Ok(()) => Ok(secret),
        Err(error) => Err(Fault::field("secret", error)),
    }
}

/// Says what is wrong with a destination before it is made.
pub(super) fn check(
    guard: &Guard,
    catalogue: &Catalogue,
    topology: &Topology,
    destination: &Destination,
) -> Result<(), Fault> {
    check_name(&destination.name)?;
    if destination.description.chars().count() > DESCRIPTION_CHARACTERS {
        let reason = format!("it is longer than {DESCRIPTION_CHARACTERS} characters");
        return Err(Fault::field("description", reason));
    }
    if let DestinationKind::Push { url } = &destination.kind {
        let judged = judge_url(guard, url, destination.allow_private);
        judged.map_err(|reason| Fault::field("url", reason))?;
    }
    check_addresses(&destination.notification_email_addresses)
        .map_err(|reason| Fault::field("notification_email_addresses", reason))?;
    check_trigger_types(&destination.trigger_types)?;
    if destination.takes_published() && destination.sources.len() == 1 {
        for pattern in &destination.trigger_types {
            catalogue
                .check_subscription(pattern)
                .map_err(|error| Fault::field("trigger_types", error))?;
        }
    }
    check_policy(topology, &destination.policy)?;
    if !TIMEOUTS.contains(&destination.timeout) {
        let given = wire::Span(destination.timeout);
        return Err(Fault::field(
            "timeout",
            format!("`{given}` is not from 1s to 15m"),
        ));
    }
    if !CONCURRENCY.contains(&destination.concurrency) {
        let given = destination.concurrency;
        return Err(Fault::field(
            "concurrency",
            format!("`{given}` is not from 1 to 1000"),
        ));
    }
    match destination.rate_limit {
        Some(rate) if !RATES.contains(&rate) => Err(Fault::field(
            "rate_limit",
            format!("`{rate}` is not from 1 to {} a second", RATES.end()),
        )),
        Some(_) | None => Ok(()),
    }
}

fn check_trigger_types(types: &[String]) -> Result<(), Fault> {
    if types.is_empty() || types.len() > TRIGGER_TYPES {
        return Err(Fault::field(
            "trigger_types",
            format!("name from 1 to {TRIGGER_TYPES} types, or leave it out to take all"),
        ));
    }
    for pattern in types {
        check_pattern(pattern).map_err(|error| Fault::field("trigger_types", error))?;
    }
    Ok(())
}

fn check_policy(topology: &Topology, name: &str) -> Result<(), Fault> {
    if topology.policy(name).is_some() {
        return Ok(());
    }
    let own = topology.policies.keys().map(String::as_str);
    let known: Vec<&str> = own.chain(Policy::BUILT_IN).collect();
    let shown: String = name.chars().take(80).collect();
    let advice = match nearest(name, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`"),
        None => format!("there are: {}", known.join(", ")),
    };
    Err(Fault::field(
        "policy",
        format!("there is no policy `{shown}`; {advice}"),
    ))
}

/// Refuses URLs that could not be called, or that hold what does not belong into them. The guard judges again when
/// it is called: names resolve to other addresses later.
pub(super) fn judge_url(guard: &Guard, text: &str, allow_private: bool) -> Result<(), String> {
    let refuse = |reason: &str| Err(reason.to_owned());
    if text.len() > URL_BYTES {
        return refuse("it is longer than 2048 bytes");
    }
    // What is wrong with it is said without repeating it: it may hold a password.
    let Ok(url) = url::Url::parse(text) else {
        return refuse("it is not a URL; write it whole, such as https://app.example.com/webhooks");
    };
    if !url.username().is_empty() || url.password().is_some() {
        return refuse("it holds a user or a password; leave them out, deliveries are signed instead");
    }
    if url.fragment().is_some() {
        return refuse("it has a # part, which is never sent; leave it out");
    }
    if url.port() == Some(0) {
        return refuse("port 0 cannot be called");
    }
    let local = |name: &str| name == "localhost" || name.ends_with(".localhost");
    match url.host() {
        Some(url::Host::Domain(name)) if !allow_private && local(name) => {
            return refuse(
                "localhost is not public; have an admin key set allow_private for a URL of your own",
            );
        }
        Some(_) | None => {}
    }
    match guard.check_url(text, allow_private) {
        Ok(_) => Ok(()),
        Err(reason) => Err(reason.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard() -> Guard {
        Guard::new(Vec::new(), Vec::new()).with_blocked_hosts(vec!["ngrok.io".to_owned()])
    }

    #[test]
    fn urls_that_must_not_be_called_are_refused_and_never_repeated() {
        for url in [
            "http://example.com/",
            "ftp://example.com/",
            "https://user:canary@example.com/",
            "https://canary@example.com/",
            "https://example.com/#canary",
            "https://127.0.0.1/",
            "https://10.1.2.3/",
            "https://169.254.169.254/",
            "https://100.64.0.1/",
            "https://[::1]/",
            "https://[::ffff:10.0.0.1]/",
            "https://[fd00::1]/",
            "https://localhost/",
            "https://0x7f000001/",
            "https://example.com:0/",
            "https://abc.ngrok.io/hook",
            "canary",
            "",
        ] {
            let reason = judge_url(&guard(), url, false).unwrap_err();
            assert!(!reason.contains("canary"), "{url}: {reason}");
        }
        for url in [
            "https://example.com/hook?a=b",
            "https://93.184.216.34:8443/",
            "https://[2606:4700::1]/",
        ] {
            judge_url(&guard(), url, false).unwrap();
        }
    }

    #[test]
    fn with_leave_a_url_may_be_private_and_clear_text_but_not_hold_a_password() {
        for url in [
            "http://127.0.0.1:3000/",
            "http://app.internal/",
            "https://10.0.0.1/",
        ] {
            judge_url(&guard(), url, true).unwrap();
        }
        for url in ["http://a:b@127.0.0.1/", "file:///etc/passwd", "http://"] {
            assert!(judge_url(&guard(), url, true).is_err(), "{url}");
        }
    }
}
