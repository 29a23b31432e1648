//! Two applications that own one of everything.

use std::sync::Arc;

use bytes::Bytes;
use hookfast::settings::OutboxSettings;
use hookfast_engine::event::{Event, HeaderBlock};
use hookfast_engine::id::{ApplicationId, EventId, QuarantineId, SourceId};
use hookfast_engine::topology::{Application, Scope, TopologyChange};
use hookfast_store::{NewEvent, NewQuarantined, QuarantineBounds, Quarantined, Rejected, Store};
use serde_json::{Value, json};

use crate::receiver::{self, Receiver};
use crate::support::{DEFAULT, Served, key, serve_with};

/// A secret that no answer may show.
pub(crate) const CANARY: &str = "canary-0f3b-secret";
/// A signing secret of a destination that no answer may show.
pub(crate) const CANARY_SIGNING: &str = "whsec_Y2FuYXJ5Y2FuYXJ5Y2FuYXJ5Y2FuYXJ5";
pub(crate) const BODY: &[u8] = br#"{"id":"n-1","type":"message.created"}"#;

/// What one application owns.
#[derive(Clone, Debug)]
pub(crate) struct Things {
    pub(crate) name: &'static str,
    pub(crate) application: String,
    pub(crate) source: String,
    pub(crate) source_id: String,
    pub(crate) push: String,
    pub(crate) push_id: String,
    pub(crate) pull: String,
    pub(crate) pull_id: String,
    /// A destination of what the application publishes, made as Nylas's SDKs do.
    pub(crate) webhook: String,
    /// A URL that echoes challenges.
    pub(crate) receiver: String,
    /// A trigger type of the application's own.
    pub(crate) event_type: String,
    pub(crate) event: String,
    pub(crate) delivery: String,
    pub(crate) quarantined: String,
    pub(crate) replay: String,
    pub(crate) receipt: String,
    pub(crate) writer: String,
    pub(crate) reader: String,
    pub(crate) puller: String,
}

impl Things {
    /// Texts that show that something is there.
    pub(crate) fn marks(&self) -> Vec<&str> {
        vec![
            &self.application,
            &self.source,
            &self.source_id,
            &self.push,
            &self.push_id,
            &self.pull,
            &self.pull_id,
            &self.webhook,
            &self.event,
            &self.delivery,
            &self.quarantined,
            &self.replay,
        ]
    }
}

/// Two applications: `default`, and `other`.
pub(crate) struct World {
    pub(crate) served: Served,
    pub(crate) receiver: Receiver,
    pub(crate) own: Things,
    pub(crate) other: Things,
}

pub(crate) async fn world() -> World {
    let served = serve_with(OutboxSettings {
        allowed_networks: vec![receiver::ADDRESS.into()],
        ip_addresses: vec![[192, 0, 2, 10].into()],
        ..OutboxSettings::default()
    })
    .await;
    let receiver = Receiver::start().await;
    let id = ApplicationId::new(served.now(), 0x07e5);
    let application = Application::new(id, "other", served.now());
    let other = application.id;
    served
        .node
        .change_topology("test", vec![TopologyChange::PutApplication(application)])
        .await
        .unwrap();
    let own = things(&served, &receiver, "default", DEFAULT).await;
    let other = things(&served, &receiver, "other", other).await;
    World {
        served,
        receiver,
        own,
        other,
    }
}

/// Makes one of everything through the API and the store.
async fn things(
    served: &Served,
    receiver: &Receiver,
    name: &'static str,
    application: ApplicationId,
) -> Things {
    let create = |path: &'static str, body: Value| async move {
        let answer = served.ask("POST", path).of(name).json(&body).send().await;
        answer.expect(201)
    };
    let source = create(
        "/api/v1/sources",
        json!({"name": format!("{name}-source"), "provider": "generic",
        "scheme": {"type": "token", "header": "x-acme-token"}, "secrets": [CANARY]}),
    )
    .await;
    let source_id: SourceId = source["id"].as_str().unwrap().parse().unwrap();
    let push = create(
        "/api/v1/destinations",
        json!({"name": format!("{name}-push"),
        "url": "https://app.example.com/hook", "sources": [source["name"]], "secret": CANARY_SIGNING}),
    )
    .await;
    let pull = create(
        "/api/v1/destinations",
        json!({"name": format!("{name}-pull"), "sources": [source["id"]]}),
    )
    .await;
    let event_type = create("/api/v1/event-types", json!({"name": format!("{name}.happened")})).await;
    let receiver = receiver.url("/hook");
    let webhook = served
        .ask("POST", "/v3/webhooks")
        .of(name)
        .json(&json!({"webhook_url": receiver, "trigger_types": ["message.created"]}))
        .send()
        .await
        .nylas();
    let event = append(served, application, source_id, "message.created").await;
    let shown = served
        .ask("GET", &format!("/api/v1/events/{event}"))
        .of(name)
        .send()
        .await
        .expect(200);
    let delivery = shown["deliveries"].as_array().unwrap().iter();
    let delivery = delivery
        .clone()
        .find(|each| each["destination_id"] == push["id"])
        .unwrap();
    let quarantined = quarantine(served, source_id).await;
    let replay = served
        .ask("POST", "/api/v1/replays")
        .of(name)
        .json(&json!({"type": "none.*"}))
        .send()
        .await;
    let pulled = format!("/api/v1/destinations/{name}-pull/pull");
    let leased = served
        .ask("POST", &pulled)
        .of(name)
        .json(&json!({"lease": "1h"}))
        .send()
        .await
        .expect(200);
    let (writer, reader, puller) = (
        format!("hf_writer_{name}_00000000"),
        format!("hf_reader_{name}_00000000"),
        format!("hf_puller_{name}_00000000"),
    );
    let first = application.as_u128() * 10;
    served
        .put_key(key(&served.node, first, &writer, Scope::Application(application)))
        .await;
    served
        .put_key(key(&served.node, first + 1, &reader, Scope::Read(application)))
        .await;
    let pull_id = pull["id"].as_str().unwrap().to_owned();
    served
        .put_key(key(
            &served.node,
            first + 2,
            &puller,
            Scope::Pull(pull_id.parse().unwrap()),
        ))
        .await;
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    Things {
        name,
        application: application.to_string(),
        source: text(&source["name"]),
        source_id: source_id.to_string(),
        push: text(&push["name"]),
        push_id: text(&push["id"]),
        pull: text(&pull["name"]),
        pull_id,
        webhook: text(&webhook["id"]),
        receiver,
        event_type: text(&event_type["name"]),
        event: event.to_string(),
        delivery: text(&delivery["id"]),
        quarantined: quarantined.to_string(),
        replay: text(&replay.expect(202)["id"]),
        receipt: text(&leased["deliveries"][0]["receipt"]),
        writer,
        reader,
        puller,
    }
}

/// The headers of a request that proves itself by a token.
pub(crate) fn headers() -> HeaderBlock {
    HeaderBlock::pack([
        (&b"Content-Type"[..], &b"text/html"[..]),
        (b"X-Acme-Token", CANARY.as_bytes()),
        (b"Authorization", b"Bearer canary-0f3b-secret"),
        (b"X-Signature", b"00ff"),
    ])
}

pub(crate) async fn append(
    served: &Served,
    application: ApplicationId,
    source: SourceId,
    event_type: &str,
) -> EventId {
    let now = served.now();
    let event = Event {
        id: EventId::new(now, served.node.clock.entropy()),
        application,
        source,
        provider_id: Some("n-1".to_owned()),
        event_type: Some(event_type.to_owned()),
        occurred_at: Some(now),
        accepted_at: now,
        headers: headers(),
        body: Bytes::from_static(BODY),
    };
    let id = event.id;
    let new = NewEvent {
        event: Arc::new(event),
        dedupe: None,
        lease_margin: std::time::Duration::from_secs(30),
    };
    served.store.append(new).await.unwrap();
    id
}

pub(crate) async fn quarantine(served: &Served, source: SourceId) -> QuarantineId {
    let now = served.now();
    let id = QuarantineId::new(now, served.node.clock.entropy());
    let item = Quarantined {
        id,
        source,
        received_at: now,
        cause: "signature-mismatch".to_owned(),
        peer: "192.0.2.7".to_owned(),
        method: "POST".to_owned(),
        target: format!("/in/x?token={CANARY}"),
        headers: headers(),
        body: Bytes::from_static(BODY),
    };
    let bounds = QuarantineBounds {
        events: 100,
        bytes: 1 << 20,
        events_per_peer: 100,
    };
    served
        .store
        .quarantine(NewQuarantined { item, bounds })
        .await
        .unwrap();
    let rejected = Rejected {
        at: now,
        source: Some(source),
        status: 401,
        cause: "signature-mismatch".to_owned(),
        detail: "it matches none of the source's secrets".to_owned(),
        peer: "192.0.2.7".to_owned(),
        method: "POST".to_owned(),
        path: "/in/x".to_owned(),
        count: 1,
    };
    served.store.record_rejected(vec![rejected]).await.unwrap();
    id
}
