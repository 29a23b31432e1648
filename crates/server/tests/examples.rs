//! Owns the proof that Hookfast makes ordinary applications safe: the examples of the repository run behind it, in
//! the real Express, Flask and axum (SPEC I1, I3, I9, P2). It must not know how the examples are written.

mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use support::load::Plan;
use support::server::Server;
use support::time::{now, wait_for};
use support::tools::Example;
use support::{http, nylas};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// The configuration that the example ships, as one puts in one's own address and secrets.
fn server_before(example: &Example, shipped: &str) -> Server {
    let config = shipped
        .replace("http://127.0.0.1:3000/webhooks/nylas", &example.url())
        .replace("${NYLAS_WEBHOOK_SECRET}", nylas::SECRET)
        .replace("${WEBHOOK_SECRET}", SECRET);
    // The policy that is the default waits for minutes in the end, as it should; a test has no minutes.
    let delays = ["\"300ms\""; 100].join(",");
    let config =
        format!("{config}policy = \"quick\"\n\n[policy.quick]\nbase = \"inbox\"\ndelays = [{delays}]\n");
    assert!(config.contains(&example.url()) && config.contains(SECRET) && !config.contains("${"));
    Server::with(&config)
}

/// The provider repeats every event, the application fails some of them and dies once with its work done: in the
/// end every event that was answered 200 took effect once.
fn repeats_failures_and_a_crash_are_harmless(example: Example, shipped: &str) {
    let mut example = example
        .environment("WEBHOOK_SECRET", SECRET)
        .environment("FAIL_RATE", "0.2")
        .environment("FAIL_OF_THREE", "1")
        .environment("CRASH_AT", "7");
    example.start();
    let server = server_before(&example, shipped);
    let sent = Plan {
        copies: 1,
        ..Plan::new("shop").total(24)
    }
    .run(server.listen());
    assert_eq!(sent.acknowledged.len(), 24, "{sent:?}");
    assert_eq!(sent.answered, 48, "{sent:?}");

    wait_for("the example to crash", || (!example.runs()).then_some(()));
    example.kill();
    example.forget("CRASH_AT");
    example.start();
    let known_after_the_crash = example.effects().len();
    assert!(
        known_after_the_crash < 24,
        "the crash came too late to prove anything"
    );

    let effects = wait_for("every event to take effect", || {
        let effects = example.effects();
        (effects.len() >= 24).then_some(effects)
    });
    assert_eq!(
        effects.keys().cloned().collect::<BTreeSet<_>>(),
        sent.acknowledged
    );
    assert!(effects.values().all(|count| *count == 1), "{effects:?}");
}

/// An application that takes two seconds for each event does not make the provider wait.
fn the_provider_does_not_wait_for_a_slow_application(example: Example, shipped: &str) {
    let mut example = example
        .environment("WEBHOOK_SECRET", SECRET)
        .environment("DELAY_MS", "2000");
    example.start();
    let server = server_before(&example, shipped);
    let body = nylas::notification("slow");
    let signature = nylas::sign(nylas::SECRET, &body);
    let start = now();
    let headers = [(nylas::SIGNATURE_HEADER, signature.as_str())];
    let answer = http::request(server.listen(), "POST", nylas::PATH, &headers, &body);
    let took = start.elapsed();
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(took < Duration::from_secs(1), "the 200 took {took:?}");
    assert!(example.effects().is_empty());
    wait_for("the event to take effect", || {
        example.effects().contains_key("slow").then_some(())
    });
    assert!(start.elapsed() >= Duration::from_secs(2));
}

const EXPRESS: &str = include_str!("../../../examples/express-app/hookfast.toml");
const FLASK: &str = include_str!("../../../examples/flask-app/hookfast.toml");
const AXUM: &str = include_str!("../../../examples/axum-app/hookfast.toml");

#[test]
fn an_express_application_is_not_harmed_by_repeats_failures_and_a_crash() {
    repeats_failures_and_a_crash_are_harmless(Example::express(), EXPRESS);
}

#[test]
fn a_flask_application_is_not_harmed_by_repeats_failures_and_a_crash() {
    repeats_failures_and_a_crash_are_harmless(Example::flask(), FLASK);
}

#[test]
fn a_slow_express_application_does_not_delay_the_200() {
    the_provider_does_not_wait_for_a_slow_application(Example::express(), EXPRESS);
}

#[test]
fn a_slow_flask_application_does_not_delay_the_200() {
    the_provider_does_not_wait_for_a_slow_application(Example::flask(), FLASK);
}

#[test]
fn an_axum_application_is_not_harmed_by_repeats_failures_and_a_crash() {
    repeats_failures_and_a_crash_are_harmless(Example::axum(), AXUM);
}

#[test]
fn a_slow_axum_application_does_not_delay_the_200() {
    the_provider_does_not_wait_for_a_slow_application(Example::axum(), AXUM);
}
