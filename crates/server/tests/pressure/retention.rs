//! What is no longer kept, and what stays (SPEC P7). The shortest times that the configuration takes are too long for a
//! test: the past is written by `hookfast_store` with times passed in, into the data directory of a server that is
//! stopped. The server itself then cleans up, with its defaults.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hookfast_engine::event::{Event, HeaderBlock};
use hookfast_engine::id::{EventId, QuarantineId};
use hookfast_engine::outcome::Outcome;
use hookfast_engine::time::Timestamp;
use hookfast_store::conformance::attempt_end;
use hookfast_store::embedded::{EmbeddedOptions, EmbeddedStore};
use hookfast_store::{
    Claim, NewEvent, NewQuarantined, NoSlots, QuarantineBounds, Quarantined, Settled, Store,
};
use serde_json::Value;

use crate::support::app::App;
use crate::support::extent::short_or_nightly;
use crate::support::nylas::SECRET;
use crate::support::server::Server;
use crate::support::time::{unix_seconds, wait_for};
use crate::support::timed::{Posted, Poster, quantile};
use crate::support::turn::Turn;

const DAY: u64 = 24 * 60 * 60;

fn config(up: &App, down: &App) -> String {
    let mut config = String::new();
    for name in ["good", "failing", "resting", "fetched", "bulk"] {
        config +=
            &format!("[[source]]\nname = \"{name}\"\nprovider = \"nylas\"\nsecrets = [\"{SECRET}\"]\n\n");
    }
    let push = |name: &str, app: &App| {
        format!(
            "[[destination]]\nname = \"{name}\"\nurl = \"{}\"\nsources = [\"{name}\"]\nallow_private = true\n\n",
            app.url()
        )
    };
    config += &push("good", up);
    config += &push("failing", down);
    config += &push("resting", up);
    config + "[[destination]]\nname = \"fetched\"\nkind = \"pull\"\nsources = [\"fetched\"]\n"
}

/// The data directory of a server that is stopped, and the time it is filled at.
struct Past {
    store: Arc<EmbeddedStore>,
    now: Timestamp,
    made: AtomicU64,
}

impl Past {
    fn days_ago(&self, days: u64) -> Timestamp {
        self.now.minus(Duration::from_secs(days * DAY))
    }

    fn event(&self, source: &str, id: &str, accepted_at: Timestamp) -> NewEvent {
        let topology = self.store.topology();
        let source = topology.source_named(source).expect("the source is set up");
        NewEvent {
            event: Arc::new(Event {
                id: EventId::new(accepted_at, self.made.fetch_add(1, Ordering::SeqCst).into()),
                application: source.application,
                source: source.id,
                provider_id: Some(id.to_owned()),
                event_type: None,
                occurred_at: None,
                accepted_at,
                headers: HeaderBlock::default(),
                body: Bytes::from(vec![b'x'; 500]),
            }),
            dedupe: None,
            lease_margin: Duration::ZERO,
        }
    }

    /// An event that was accepted so many days ago, and the answers its destination gave, each at its time.
    async fn accept(&self, source: &str, id: &str, accepted: u64, answers: &[(u64, u16)]) {
        let event = self.event(source, id, self.days_ago(accepted));
        self.store.append(event).await.expect("it is taken");
        for (days, status) in answers {
            self.answer(source, self.days_ago(*days), *status).await;
        }
    }

    /// The one delivery to the destination of that name that is due is answered so.
    async fn answer(&self, destination: &str, now: Timestamp, status: u16) {
        let topology = self.store.topology();
        let all = topology.destinations.values();
        let mut named = all.filter(|each| each.name == destination);
        let claim = Claim {
            destination: named.next().expect("the destination is set up").id,
            now,
            due_from: None,
            limit: 10,
            bytes: 1 << 20,
            lease: Duration::from_secs(60),
        };
        let claimed = self.store.claim(claim).await.expect("the store gives").deliveries;
        assert_eq!(claimed.len(), 1, "one delivery to {destination} is due");
        let outcome = Outcome::Answered {
            status,
            retry_after: None,
        };
        let end = attempt_end(&claimed[0], now, outcome);
        let settled = self.store.settle(end).await.expect("the store takes it");
        assert!(matches!(settled, Settled::Moved { .. }), "{settled:?}");
    }

    async fn quarantine(&self, days: u64) {
        let topology = self.store.topology();
        let source = topology.source_named("good").expect("the source is set up").id;
        let received_at = self.days_ago(days);
        let item = Quarantined {
            id: QuarantineId::new(received_at, u128::from(days)),
            source,
            received_at,
            cause: "signature-mismatch".to_owned(),
            peer: format!("{days}-days-ago"),
            method: "POST".to_owned(),
            target: "/in/good".to_owned(),
            headers: HeaderBlock::default(),
            body: Bytes::new(),
        };
        let bounds = QuarantineBounds {
            events: 10,
            bytes: 1000,
            events_per_peer: 10,
        };
        self.store
            .quarantine(NewQuarantined { item, bounds })
            .await
            .expect("it is kept");
    }

    /// Many events that no destination took.
    async fn bulk(&self, count: u64) {
        let first = self.days_ago(40);
        for chunk in 0..count / 500 {
            let events = (0..500).map(|n| {
                let number = chunk * 500 + n;
                self.event(
                    "bulk",
                    &format!("bulk-{number}"),
                    first.plus(Duration::from_micros(number)),
                )
            });
            let appending: Vec<_> = events
                .map(|event| {
                    let store = Arc::clone(&self.store);
                    tokio::spawn(async move { store.append(event).await })
                })
                .collect();
            for append in appending {
                append.await.expect("it does not panic").expect("it is taken");
            }
        }
    }
}

/// The events there are of a source, by the provider's id, with the state and cause of their delivery.
fn events(server: &Server, source: &str) -> BTreeMap<String, (String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let list = server.get(&format!("/api/v1/events?source={source}&limit=1000"));
    let events = list["data"].as_array().expect("the list has data").iter();
    events
        .map(|event| {
            let event = server.get(&format!("/api/v1/events/{}", text(&event["id"])));
            let delivery = &event["deliveries"][0];
            (
                text(&event["provider_id"]),
                (text(&delivery["state"]), text(&delivery["cause"])),
            )
        })
        .collect()
}

fn state(state: &str, cause: &str) -> (String, String) {
    (state.to_owned(), cause.to_owned())
}

#[test]
fn what_is_settled_goes_in_time_what_is_dead_held_or_for_pullers_stays_longer_and_nothing_else_is_slowed() {
    let _turn = Turn::take();
    let (up, down) = (App::start(), App::down());
    let mut server = Server::with(&config(&up, &down));
    let all = server.get("/api/v1/destinations?limit=100");
    let all = all["data"].as_array().expect("the list has data");
    let resting = all
        .iter()
        .find(|each| each["name"] == "resting")
        .expect("it is set up");
    let pause = format!(
        "/api/v1/destinations/{}/pause",
        resting["id"].as_str().unwrap_or_default()
    );
    assert_eq!(server.call("POST", &pause, None).status, 200);
    let bulk = short_or_nightly(10_000, 100_000);

    // Without what is to be removed.
    let plain = post(&server, "plain", 400);
    assert!(server.terminate().success());

    let runtime = tokio::runtime::Runtime::new().expect("a runtime can be made");
    runtime.block_on(async {
        let now = Timestamp::from_secs(i64::try_from(unix_seconds()).expect("the time is a time"));
        let options = EmbeddedOptions::new(server.data());
        let store = EmbeddedStore::open(options, Arc::new(NoSlots), now).expect("the store opens");
        let past = Past {
            store,
            now,
            made: AtomicU64::new(1),
        };
        past.accept("good", "delivered 31 days ago", 31, &[(31, 200)])
            .await;
        past.accept("good", "delivered 29 days ago", 29, &[(29, 200)])
            .await;
        past.accept(
            "good",
            "accepted 60 days ago, delivered yesterday",
            60,
            &[(1, 200)],
        )
        .await;
        past.accept("good", "rejected 31 days ago", 31, &[(31, 410)])
            .await;
        past.accept("good", "rejected 29 days ago", 29, &[(29, 410)])
            .await;
        past.accept("failing", "dead 91 days ago", 95, &[(95, 500), (91, 500)])
            .await;
        past.accept("failing", "dead 89 days ago", 93, &[(93, 500), (89, 500)])
            .await;
        past.accept("failing", "waiting for 100 days", 100, &[]).await;
        past.accept("resting", "held for 31 days", 31, &[]).await;
        past.accept("resting", "held for 29 days", 29, &[]).await;
        past.accept("fetched", "not fetched for 31 days", 31, &[]).await;
        past.accept("fetched", "not fetched for 29 days", 29, &[]).await;
        past.quarantine(8).await;
        past.quarantine(6).await;
        past.bulk(bulk).await;
        assert_eq!(
            past.store.check().await.expect("it can be checked"),
            Vec::<String>::new()
        );
        past.store.close().await;
    });

    server.start();
    let busy = post(&server, "busy", 400);
    wait_for("the events that no destination took to go", || {
        let list = server.get("/api/v1/events?source=bulk&limit=1");
        list["data"]
            .as_array()
            .expect("the list has data")
            .is_empty()
            .then_some(())
    });
    let good = events(&server, "good");
    assert!(
        !good.contains_key("delivered 31 days ago") && !good.contains_key("rejected 31 days ago"),
        "{good:?}"
    );
    assert_eq!(good["delivered 29 days ago"].0, "delivered");
    assert_eq!(good["accepted 60 days ago, delivered yesterday"].0, "delivered");
    assert_eq!(good["rejected 29 days ago"].0, "rejected");
    let failing = events(&server, "failing");
    assert!(!failing.contains_key("dead 91 days ago"), "{failing:?}");
    assert_eq!(failing["dead 89 days ago"].0, "dead");
    assert!(
        ["retrying", "in_flight", "pending"].contains(&failing["waiting for 100 days"].0.as_str()),
        "{failing:?}"
    );
    let resting = events(&server, "resting");
    assert_eq!(resting["held for 31 days"], state("discarded", "retention"));
    assert_eq!(resting["held for 29 days"].0, "held");
    let fetched = events(&server, "fetched");
    assert_eq!(
        fetched["not fetched for 31 days"],
        state("discarded", "retention")
    );
    assert_eq!(fetched["not fetched for 29 days"].0, "pending");
    let kept = server.get("/api/v1/quarantine?limit=100");
    let kept: Vec<_> = kept["data"]
        .as_array()
        .expect("the list has data")
        .iter()
        .map(|item| &item["peer"])
        .collect();
    assert_eq!(kept, ["6-days-ago"]);

    let p99 = |posted: &[Posted]| quantile(&posted.iter().map(Posted::ack_time).collect::<Vec<_>>(), 0.99);
    let (plain, busy) = (p99(&plain), p99(&busy));
    println!("p99 of acknowledgements {plain:?} before, {busy:?} while {bulk} events were removed");
    assert!(
        busy <= plain.mul_f64(3.0) + Duration::from_millis(30),
        "{busy:?} during removal, {plain:?} before"
    );

    assert!(server.terminate().success());
    runtime.block_on(async {
        let options = EmbeddedOptions::new(server.data());
        let store = EmbeddedStore::open(options, Arc::new(NoSlots), Timestamp::from_secs(0));
        let store = store.expect("the store opens");
        assert_eq!(
            store.check().await.expect("it can be checked"),
            Vec::<String>::new()
        );
        store.close().await;
    });
}

fn post(server: &Server, prefix: &str, count: usize) -> Vec<Posted> {
    let mut poster = Poster::new(server.listen(), "good");
    let posted: Vec<_> = (0..count)
        .map(|serial| {
            std::thread::sleep(Duration::from_millis(1));
            poster.post(&format!("{prefix}-{serial}"), 500)
        })
        .collect();
    posted.iter().for_each(Posted::expect_taken);
    posted
}
