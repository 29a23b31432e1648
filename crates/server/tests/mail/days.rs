//! Three bad days of a destination, from the first refusal to its reactivation (SPEC O6, O7). The days are written by
//! `hookfast_store` with times passed in, into the data directory of a server that is stopped; the server itself then
//! owes the letters, while nobody takes them, and sends them when somebody does.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hookfast_engine::event::{Event, HeaderBlock};
use hookfast_engine::id::{DestinationId, EventId, SourceId};
use hookfast_engine::outcome::Outcome;
use hookfast_engine::time::Timestamp;
use hookfast_engine::topology::DestinationStatus;
use hookfast_store::conformance::attempt_end;
use hookfast_store::embedded::{EmbeddedOptions, EmbeddedStore};
use hookfast_store::{Claim, NewEvent, NoSlots, Settled, Store};
use serde_json::{Value, json};

use crate::header;
use crate::smtpd::Smtpd;
use crate::support::app::App;
use crate::support::server::Server;
use crate::support::time::{unix_seconds, wait_for};

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const PEOPLE: [&str; 2] = ["ann@example.com", "bob@example.com"];
/// What was published last, after the destination had failed.
const HELD: &str = "held";

/// The data directory of a server that is stopped.
struct Days {
    store: Arc<EmbeddedStore>,
    destination: DestinationId,
    first: Timestamp,
}

impl Days {
    fn open(server: &Server, first: Timestamp) -> Self {
        let options = EmbeddedOptions::new(server.data());
        let store = EmbeddedStore::open(options, Arc::new(NoSlots), first).unwrap();
        let destination = *store.topology().destinations.keys().next().unwrap();
        Self {
            store,
            destination,
            first,
        }
    }

    /// A message is published, so many seconds after the first.
    async fn publish(&self, id: &str, seconds: u64) {
        let accepted_at = self.first.plus(Duration::from_secs(seconds));
        let application = self.store.topology().destinations[&self.destination].application;
        let body = json!({
            "specversion": "1.0", "type": "message.created", "source": "/mail", "id": id, "data": {},
        });
        let event = Event {
            id: EventId::new(accepted_at, seconds.into()),
            application,
            source: SourceId::of_outbox(application),
            provider_id: Some(id.to_owned()),
            event_type: Some("message.created".to_owned()),
            occurred_at: None,
            accepted_at,
            headers: HeaderBlock::pack([(&b"content-type"[..], &b"application/cloudevents+json"[..])]),
            body: Bytes::from(body.to_string()),
        };
        let new = NewEvent {
            event: Arc::new(event),
            dedupe: None,
            lease_margin: Duration::ZERO,
        };
        self.store.append(new).await.unwrap();
    }

    /// A message is published and answered 500; the destination's new status, where it changed.
    async fn refuse(&self, seconds: u64) -> Option<DestinationStatus> {
        self.publish(&format!("refused-{seconds}"), seconds).await;
        let now = self.first.plus(Duration::from_secs(seconds));
        let claim = Claim {
            destination: self.destination,
            now,
            due_from: None,
            limit: 1,
            bytes: 1 << 20,
            lease: Duration::from_secs(60),
        };
        let claimed = self.store.claim(claim).await.unwrap().deliveries.remove(0);
        let outcome = Outcome::Answered {
            status: 500,
            retry_after: None,
        };
        match self
            .store
            .settle(attempt_end(&claimed, now, outcome))
            .await
            .unwrap()
        {
            Settled::Moved { status, .. } => status,
            Settled::Stale => panic!("stale"),
        }
    }

    /// From active to failed.
    async fn pass(&self) {
        for seconds in (0..15 * MINUTE).step_by(30) {
            assert_eq!(self.refuse(seconds).await, None, "{seconds}");
        }
        assert_eq!(self.refuse(15 * MINUTE).await, Some(DestinationStatus::Failing));
        for hour in 1..72 {
            assert_eq!(self.refuse(15 * MINUTE + hour * HOUR).await, None, "{hour}");
        }
        let end = 15 * MINUTE + 72 * HOUR;
        let failed = self.refuse(end).await;
        assert_eq!(
            failed,
            Some(DestinationStatus::Failed),
            "{:?}",
            self.store.topology().destinations
        );
        self.publish(HELD, end + 1).await;
        self.store.close().await;
    }
}

/// Subject and recipient of each letter, in their order.
fn letters(smtp: &Smtpd) -> Vec<(String, String)> {
    let mails = smtp.mails();
    let told = |mail: &Value| {
        let to = mail["to"][0].as_str().unwrap();
        (header(mail, "Subject").to_owned(), to.to_owned())
    };
    mails.iter().map(told).collect()
}

fn wait_for_letters(smtp: &Smtpd, count: usize) -> Vec<(String, String)> {
    wait_for(&format!("{count} letters"), || {
        let letters = letters(smtp);
        (letters.len() >= count).then_some(letters)
    })
}

#[test]
fn three_bad_days_are_told_once_for_each_step_and_what_was_held_comes_after_the_reactivation() {
    let mut smtp = Smtpd::new("none");
    let app = App::start();
    app.echo_challenges();
    let mut server = Server::with(&format!(
        "[outbox]\nallowed_networks = [\"127.0.0.0/8\"]\n\n\
         [smtp]\nurl = \"smtp://127.0.0.1:{}?tls=none\"\nfrom = \"Hookfast <hooks@example.com>\"\n",
        smtp.port()
    ));
    let asked = json!({
        "name": "crm", "url": app.url(), "trigger_types": ["message.created"], "policy": "nylas",
        "notification_email_addresses": PEOPLE,
    });
    assert_eq!(server.order("/api/v1/destinations", &asked)["status"], "active");
    server.terminate();

    let now = Timestamp::from_secs(unix_seconds().try_into().unwrap());
    let first = now.minus(Duration::from_secs(72 * HOUR + 16 * MINUTE));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(Days::open(&server, first).pass());

    server.start();
    wait_for("the mail server to be missed", || {
        server.log().contains("cannot be reached").then_some(())
    });
    assert_eq!(server.get("/api/v1/destinations/crm")["status"], "failed");
    server.wait_for_state(HELD, "held");
    smtp.start();
    let told = wait_for_letters(&smtp, 4);
    let (failing, failed) = (&told[..2], &told[2..]);
    for (letters, word) in [(failing, "is failing"), (failed, "has failed")] {
        assert!(
            letters.iter().all(|(subject, _)| subject.contains(word)),
            "{told:?}"
        );
        let to: Vec<_> = letters.iter().map(|(_, to)| to.as_str()).collect();
        assert_eq!(to, PEOPLE);
    }
    let last = smtp.mails().remove(3)["raw"].as_str().unwrap().to_owned();
    for expected in ["crm", "500", "hookfast webhook reactivate crm"] {
        assert!(last.contains(expected), "{expected}: {last}");
    }
    assert!(
        app.received().iter().all(|request| request.method == "GET"),
        "nothing was sent"
    );

    // A restart writes to nobody again.
    server.terminate();
    server.start();
    let back = server.order("/api/v1/destinations/crm/reactivate", &json!({}));
    assert_eq!(back["status"], "active");
    server.wait_for_state(HELD, "delivered");
    let posted: Vec<_> = app
        .received()
        .into_iter()
        .filter(|request| request.method == "POST")
        .collect();
    assert_eq!(posted.len(), 1, "what was refused is not sent again");
    assert_eq!(posted[0].webhook_id(), HELD);
    let told = wait_for_letters(&smtp, 6);
    assert!(
        told[4..]
            .iter()
            .all(|(subject, _)| subject.contains("is active again")),
        "{told:?}"
    );
    assert_eq!(told.len(), 6);
}
