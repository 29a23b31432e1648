//! `hookfast webhook test`: mock notifications, shown or sent, without a server (SPEC O13).
//!
//! Owns what such a request is signed with and when its answer is good. It goes out by the same transport and through
//! the same guard as a delivery.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use clap::{Args, Subcommand};
use hookfast_engine::id::{ApplicationId, DestinationId};
use hookfast_engine::retry::{Meaning, Policy, meaning};
use hookfast_engine::topology::{Destination, DestinationKind, Signing};
use hookfast_signature::Secret;
use serde_json::Value;

use crate::admin::{tested, wire};
use crate::cli::connection::{block_on, secret, span};
use crate::cli::destination::print_tested;
use crate::cli::output;
use crate::clock::Clock;
use crate::deliver::resolve::Guard;
use crate::deliver::sign::{Signer, check_secret};
use crate::deliver::transport::{Transport, trusted_roots};
use crate::outbox::catalogue::{Catalogue, NYLAS};
use crate::outbox::mock;
use crate::settings::DeliveryLimits;
use crate::snapshot::ReadyDestination;

/// What Nylas signs its test events with (its API reference, "Send test event").
const MOCK_SECRET: &str = "mock-webhook-secret";
/// How much of an answer is read and shown.
const ANSWER_BYTES: usize = 2_048;

/// What is done with a mock notification.
#[derive(Debug, Subcommand)]
pub(super) enum Test {
    /// Sends a mock notification to a URL and says how it was answered.
    #[command(after_help = "Examples:
  hookfast webhook test send https://hooks.example.com/nylas
  hookfast webhook test send https://hooks.example.com/nylas --trigger grant.expired --secret file:secret.txt
  hookfast webhook test send http://127.0.0.1:3000/webhooks --allow-private

Needs no server. It is signed as Nylas signs (X-Nylas-Signature), with the secret `mock-webhook-secret` where none is
given, as Nylas signs its own test events. Exits 1 where the answer is not 200.")]
    Send(Send),
    /// Prints a mock notification of a trigger type.
    #[command(after_help = "Examples:
  hookfast webhook test payload message.created
  hookfast webhook test payload booking.created | curl -d @- http://127.0.0.1:3000/webhooks

Needs no server; `hookfast webhook triggers` lists the types.")]
    Payload {
        /// The trigger type.
        trigger: String,
        /// Prints it on one line.
        #[arg(long)]
        compact: bool,
    },
}

#[derive(Args, Debug)]
pub(super) struct Send {
    /// Where it is posted to.
    url: String,
    /// The trigger type.
    #[arg(long, value_name = "TYPE", default_value = "message.created")]
    trigger: String,
    /// The secret that it is signed with; `file:PATH`, or `-` for stdin.
    #[arg(long, value_name = "SECRET", default_value = MOCK_SECRET)]
    secret: String,
    /// Lets the URL be private and clear text: it is mine and local.
    #[arg(long)]
    allow_private: bool,
    /// The longest that the answer may take.
    #[arg(long, value_name = "DURATION", value_parser = span, default_value = "10s")]
    timeout: wire::Span,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(test: Test) -> anyhow::Result<ExitCode> {
    match test {
        Test::Send(send) => {
            let tested = block_on(send.run())?;
            print_tested(&tested, send.json, "only 200 means that it arrived")
        }
        Test::Payload { trigger, compact } => {
            let payload = payload(&trigger)?;
            if compact {
                output::json_line(&payload)?;
            } else {
                output::json(&payload)?;
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn payload(trigger: &str) -> anyhow::Result<Value> {
    let application = ApplicationId::from_u128(0).to_string();
    mock::payload(trigger, &application, Clock.now()).ok_or_else(|| no_example(trigger))
}

fn no_example(trigger: &str) -> anyhow::Error {
    let known = Catalogue::new(Some(NYLAS), [""; 0], false);
    match known.map(|catalogue| catalogue.check_published(trigger)) {
        Ok(Err(error)) => anyhow!(error),
        // A notification may carry that suffix, and is otherwise like the type without it.
        Ok(Ok(())) | Err(_) => anyhow!(
            "there is no example of `{trigger}` by itself; take that of the type without its suffixes"
        ),
    }
}

impl Send {
    async fn run(&self) -> anyhow::Result<wire::Tested> {
        let mut event = payload(&self.trigger)?;
        // A receiver that drops repeats takes each test.
        event["id"] = Value::from(format!("mock-{:032x}", Clock.entropy()));
        let destination = self.destination()?;
        let guard = Guard::new(Vec::new(), Vec::new());
        let limits = DeliveryLimits {
            attempts: 1,
            body_bytes: 0,
            lease_margin: Duration::ZERO,
            response_read_bytes: ANSWER_BYTES,
            response_kept_bytes: ANSWER_BYTES,
            idle_connection: Duration::ZERO,
        };
        let transport = Transport::new(&limits, guard, trusted_roots([]), Clock);
        let attempted = transport.test(&destination, &event, Clock).await;
        let success = meaning(&destination.policy, &attempted.outcome) == Meaning::Success;
        Ok(tested(self.trigger.clone(), success, attempted))
    }

    /// The URL as a destination that nobody stores.
    fn destination(&self) -> anyhow::Result<ReadyDestination> {
        let kind = DestinationKind::Push {
            url: self.url.clone(),
        };
        let (id, application) = (DestinationId::from_u128(0), ApplicationId::from_u128(0));
        let destination = Destination {
            signing: Signing::Nylas,
            timeout: self.timeout.0,
            allow_private: self.allow_private,
            ..Destination::new(id, application, "test", kind, Clock.now())
        };
        let secret = secret(&self.secret)?;
        check_secret(Signing::Nylas, &Secret::new(secret.as_str())).context("--secret cannot sign")?;
        let signer = Signer::new(&destination, &[secret.into_bytes()]);
        Ok(ReadyDestination {
            destination,
            policy: Policy::nylas(),
            signer,
        })
    }
}
