//! Following what happens (SPEC D4).

use hookfast_engine::id::SourceId;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::{Value, json};

use crate::support::{DEFAULT, PATIENCE, Served, key, serve};
use crate::world::append;

/// A stream as it is read.
struct Listening {
    body: Incoming,
    text: String,
}

/// One event of a stream.
#[derive(Debug)]
struct Told {
    name: String,
    id: Option<String>,
    data: Value,
}

impl Listening {
    async fn open(served: &Served, path: &str, last: Option<&str>) -> Self {
        let mut asking = served.ask("GET", path);
        if let Some(last) = last {
            asking = asking.header("last-event-id", last);
        }
        let response = asking.open().await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let mut listening = Self {
            body: response.into_body(),
            text: String::new(),
        };
        // The first words say that whatever happens from now on is told.
        listening.block().await.unwrap();
        listening
    }

    /// The next block of lines, or nothing where the stream ended.
    async fn block(&mut self) -> Option<String> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.text = rest;
                return Some(block);
            }
            let frame = tokio::time::timeout(PATIENCE, self.body.frame()).await.unwrap()?;
            if let Ok(data) = frame.unwrap().into_data() {
                self.text.push_str(std::str::from_utf8(&data).unwrap());
            }
        }
    }

    async fn next(&mut self) -> Option<Told> {
        loop {
            let block = self.block().await?;
            let field = |name: &str| {
                let line = block
                    .lines()
                    .find_map(|line| line.strip_prefix(&format!("{name}: ")));
                line.map(str::to_owned)
            };
            if let (Some(name), Some(data)) = (field("event"), field("data")) {
                return Some(Told {
                    name,
                    id: field("id"),
                    data: serde_json::from_str(&data).unwrap(),
                });
            }
        }
    }
}

async fn sourced() -> (Served, SourceId) {
    let served = serve().await;
    let source = served
        .post("/api/v1/sources", json!({"name": "in", "provider": "nylas"}))
        .await
        .expect(201);
    let id = source["id"].as_str().unwrap().parse().unwrap();
    (served, id)
}

#[tokio::test]
async fn events_are_told_in_order_and_a_client_that_comes_back_misses_none() {
    let (served, source) = sourced().await;
    append(&served, DEFAULT, source, "before").await;
    let mut listening = Listening::open(&served, "/api/v1/stream", None).await;
    let first = append(&served, DEFAULT, source, "one").await.to_string();
    let told = listening.next().await.unwrap();
    assert_eq!(
        (told.name.as_str(), told.id.as_deref()),
        ("event", Some(first.as_str()))
    );
    assert_eq!(told.data["type"], "one");
    drop(listening);
    for missed in ["two", "three"] {
        append(&served, DEFAULT, source, missed).await;
    }
    let mut listening = Listening::open(&served, "/api/v1/stream", Some(&first)).await;
    for expected in ["two", "three"] {
        assert_eq!(listening.next().await.unwrap().data["type"], expected);
    }
}

#[tokio::test]
async fn changes_of_deliveries_are_told_and_other_sources_are_not() {
    let (served, source) = sourced().await;
    let other = served
        .post("/api/v1/sources", json!({"name": "other", "provider": "nylas"}))
        .await
        .expect(201);
    let other: SourceId = other["id"].as_str().unwrap().parse().unwrap();
    served
        .post(
            "/api/v1/destinations",
            json!({"name": "queue", "sources": ["in"]}),
        )
        .await
        .expect(201);
    let mut listening = Listening::open(&served, "/api/v1/stream?source=in&type=message.*", None).await;
    append(&served, DEFAULT, other, "message.created").await;
    append(&served, DEFAULT, source, "grant.created").await;
    let event = append(&served, DEFAULT, source, "message.created")
        .await
        .to_string();
    let mut told = listening.next().await.unwrap();
    while told.name != "event" {
        told = listening.next().await.unwrap();
    }
    assert_eq!(told.id, Some(event.clone()));
    let leased = served
        .post("/api/v1/destinations/queue/pull", json!({"max": 10}))
        .await
        .expect(200);
    assert_eq!(leased["deliveries"].as_array().unwrap().len(), 2);
    loop {
        let told = listening.next().await.unwrap();
        if told.name == "delivery" && told.data["event"] == event && told.data["state"] == "in_flight" {
            break;
        }
    }
}

#[tokio::test]
async fn a_stream_ends_when_its_key_is_revoked_and_when_the_node_stops() {
    let (served, _) = sourced().await;
    let text = "hf_listener_00000000000000";
    let scope = hookfast_engine::topology::Scope::Read(DEFAULT);
    let mut listener = key(&served.node, 55, text, scope);
    served.put_key(listener.clone()).await;
    let response = served.ask("GET", "/api/v1/stream").key(Some(text)).open().await;
    let mut revoked = Listening {
        body: response.into_body(),
        text: String::new(),
    };
    let mut open = Listening::open(&served, "/api/v1/stream", None).await;
    listener.revoked_at = Some(served.now());
    served.put_key(listener).await;
    assert!(revoked.next().await.is_none());
    served.node.stopping.cancel();
    assert!(open.next().await.is_none());
    for serving in served.serving {
        tokio::time::timeout(PATIENCE, serving).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn only_so_many_listen_at_once() {
    let (served, _) = sourced().await;
    let mut open = Vec::new();
    for _ in 0..32 {
        open.push(Listening::open(&served, "/api/v1/stream", None).await);
    }
    let refused = served.get("/api/v1/stream").await;
    refused.problem(503, "busy");
    assert!(refused.headers.contains_key("retry-after"));
    drop(open);
}
