//! A node on the memory store with its admin and API listeners on port 0, and a client of them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hookfast::admin::Surface;
use hookfast::clock::Clock;
use hookfast::deliver::Deliveries;
use hookfast::node::Node;
use hookfast::settings::{DeliveryLimits, IngestLimits, OutboxSettings, Settings};
use hookfast::vault::Vault;
use hookfast_engine::id::{ApplicationId, KeyId};
use hookfast_engine::time::Timestamp;
use hookfast_engine::topology::{ApiKey, Application, Scope, TopologyChange};
use hookfast_store::memory::MemoryStore;
use hookfast_store::{NoSlots, QuarantineBounds, Retention, Store};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

const DAY: Duration = Duration::from_secs(86_400);
/// Longer than anything here takes, unless it hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn settings(data: &std::path::Path) -> Settings {
    Settings {
        listen: ([127, 0, 0, 1], 0).into(),
        admin: ([127, 0, 0, 1], 0).into(),
        api: None,
        data: data.to_owned(),
        public_url: Some("https://hooks.example.com".to_owned()),
        hosts: vec!["hooks.internal".to_owned()],
        trusted_proxies: Vec::new(),
        tls: None,
        ingest: IngestLimits {
            body_bytes: 64 * 1024,
            head_timeout: Duration::from_secs(10),
            body_bytes_per_second: 8 * 1024,
            head_bytes: 16 * 1024,
            connections: 100,
            ack_timeout: Duration::from_secs(5),
        },
        delivery: DeliveryLimits {
            attempts: 1,
            body_bytes: 64 * 1024 * 1024,
            lease_margin: Duration::from_secs(30),
            response_read_bytes: 64 * 1024,
            response_kept_bytes: 16 * 1024,
            idle_connection: Duration::from_secs(30),
        },
        quarantine: QuarantineBounds {
            events: 10_000,
            bytes: 256 * 1024 * 1024,
            events_per_peer: 5_000,
        },
        retention: Retention {
            settled: 30 * DAY,
            dead: 90 * DAY,
            waiting: 30 * DAY,
            quarantine: 7 * DAY,
        },
        grace: Duration::from_secs(10),
        outbox: OutboxSettings::default(),
        smtp: None,
    }
}

/// A node on `store`.
pub(crate) fn node(store: Arc<MemoryStore>, data: &std::path::Path) -> Arc<Node> {
    node_with(store, settings(data))
}

fn node_with(store: Arc<MemoryStore>, settings: Settings) -> Arc<Node> {
    let (deliveries, _driver) = Deliveries::new(&settings.delivery, Clock);
    Arc::new(Node::new(Clock, store, deliveries, settings, Vault::new([7; 32])))
}

/// A running node.
pub(crate) struct Served {
    pub(crate) node: Arc<Node>,
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) admin: SocketAddr,
    pub(crate) api: SocketAddr,
    pub(crate) serving: Vec<JoinHandle<()>>,
    client: Client<HttpConnector, Full<Bytes>>,
    _data: tempfile::TempDir,
}

pub(crate) const ADMIN_KEY: &str = "hf_admin_key_of_this_test_0001";
pub(crate) const DEFAULT: ApplicationId = ApplicationId::from_u128((0x7 << 76) | 0xdefa);

/// Serves a node with the application `default` and the key [`ADMIN_KEY`].
pub(crate) async fn serve() -> Served {
    serve_with(OutboxSettings::default()).await
}

/// The same, with these settings of the outbox.
pub(crate) async fn serve_with(outbox: OutboxSettings) -> Served {
    let store = MemoryStore::new(Arc::new(NoSlots));
    let data = tempfile::tempdir().unwrap();
    let settings = Settings {
        outbox,
        ..settings(data.path())
    };
    let node = node_with(Arc::clone(&store), settings);
    let application = Application::new(DEFAULT, "default", node.clock.now());
    let key = key(&node, 1, ADMIN_KEY, Scope::Admin);
    let changes = vec![
        TopologyChange::PutApplication(application),
        TopologyChange::PutKey(key),
    ];
    node.change_topology("test", changes).await.unwrap();
    let mut serving = Vec::new();
    let mut addresses = Vec::new();
    for surface in [Surface::Admin, Surface::Api] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        addresses.push(listener.local_addr().unwrap());
        serving.push(tokio::spawn(hookfast::admin::serve(
            Arc::clone(&node),
            listener,
            surface,
            None,
        )));
    }
    Served {
        node,
        store,
        admin: addresses[0],
        api: addresses[1],
        serving,
        client: Client::builder(TokioExecutor::new()).build_http(),
        _data: data,
    }
}

pub(crate) fn key(node: &Node, id: u128, text: &str, scope: Scope) -> ApiKey {
    ApiKey {
        id: KeyId::from_u128(id),
        name: format!("key {id}"),
        hash: hookfast::admin::auth::hash(text),
        scope,
        created_at: node.clock.now(),
        expires_at: None,
        revoked_at: None,
    }
}

/// An answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| {
            panic!("{error}: {} {}", self.status, String::from_utf8_lossy(&self.body))
        })
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The answer as JSON, where it has this status.
    #[track_caller]
    pub(crate) fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", self.text());
        if self.body.is_empty() {
            Value::Null
        } else {
            self.json()
        }
    }

    /// What Nylas's shape holds: the data of a 200, with the request's id beside it.
    #[track_caller]
    pub(crate) fn nylas(&self) -> Value {
        let reply = self.expect(200);
        assert_eq!(reply.as_object().unwrap().len(), 2, "{reply}");
        self.check_nylas_headers(&reply);
        reply["data"].clone()
    }

    /// The message of an error in Nylas's shape with this status and type.
    #[track_caller]
    pub(crate) fn nylas_error(&self, status: u16, kind: &str) -> String {
        let reply = self.expect(status);
        self.check_nylas_headers(&reply);
        assert_eq!(reply.as_object().unwrap().len(), 2, "{reply}");
        assert_eq!(reply["error"].as_object().unwrap().len(), 2, "{reply}");
        assert_eq!(reply["error"]["type"], kind, "{reply}");
        let message = reply["error"]["message"].as_str().unwrap();
        assert!(!message.is_empty() && !message.ends_with('.'), "{reply}");
        message.to_owned()
    }

    #[track_caller]
    fn check_nylas_headers(&self, reply: &Value) {
        assert_eq!(self.headers["content-type"], "application/json");
        let id = self.headers["x-request-id"].to_str().unwrap();
        assert_eq!(reply["request_id"], id);
    }

    /// The detail of a problem with this status and code.
    #[track_caller]
    pub(crate) fn problem(&self, status: u16, code: &str) -> String {
        let problem = self.expect(status);
        assert_eq!(self.headers["content-type"], "application/problem+json");
        assert_eq!(problem["code"], code, "{problem}");
        assert_eq!(problem["status"], status);
        assert_eq!(problem["type"], format!("https://hookfast.dev/errors#{code}"));
        assert_eq!(
            problem["request_id"],
            self.headers["x-request-id"].to_str().unwrap()
        );
        for member in ["title", "detail"] {
            let text = problem[member].as_str().unwrap();
            assert!(!text.is_empty() && !text.ends_with('.'), "{problem}");
        }
        problem["detail"].as_str().unwrap().to_owned()
    }
}

/// A request to the admin listener, with the admin key unless another is named.
pub(crate) struct Asking<'a> {
    served: &'a Served,
    address: SocketAddr,
    request: http::request::Builder,
    key: Option<String>,
    body: Bytes,
}

impl Served {
    pub(crate) fn ask(&self, method: &str, path: &str) -> Asking<'_> {
        Asking {
            served: self,
            address: self.admin,
            request: Request::builder()
                .method(method.parse::<Method>().unwrap())
                .uri(path),
            key: Some(ADMIN_KEY.to_owned()),
            body: Bytes::new(),
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path).send().await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.ask("POST", path).json(&body).send().await
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.node.clock.now()
    }

    pub(crate) async fn put_key(&self, key: ApiKey) {
        self.node
            .change_topology("test", vec![TopologyChange::PutKey(key)])
            .await
            .unwrap();
    }

    pub(crate) fn events_stored(&self) -> impl Future<Output = u64> {
        let store = Arc::clone(&self.store);
        async move { store.stats().await.unwrap().events }
    }
}

impl Asking<'_> {
    pub(crate) fn key(mut self, key: Option<&str>) -> Self {
        self.key = key.map(str::to_owned);
        self
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.request = self.request.header(name, value);
        self
    }

    pub(crate) fn of(self, application: &str) -> Self {
        self.header("hookfast-application", application)
    }

    pub(crate) fn at_api(mut self) -> Self {
        self.address = self.served.api;
        self
    }

    pub(crate) fn json(self, body: &Value) -> Self {
        self.raw("application/json", body.to_string())
    }

    pub(crate) fn raw(mut self, content_type: &str, body: impl Into<Bytes>) -> Self {
        self.request = self.request.header("content-type", content_type);
        self.body = body.into();
        self
    }

    pub(crate) async fn open(self) -> http::Response<hyper::body::Incoming> {
        let mut request = self.request;
        if let Some(key) = &self.key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        let mut request = request.body(Full::new(self.body)).unwrap();
        let path = request.uri().path_and_query().unwrap().clone();
        *request.uri_mut() = format!("http://{}{path}", self.address).parse().unwrap();
        let asked = self.served.client.request(request);
        tokio::time::timeout(PATIENCE, asked).await.unwrap().unwrap()
    }

    pub(crate) async fn send(self) -> Answer {
        let response = self.open().await;
        let (parts, body) = response.into_parts();
        let body = tokio::time::timeout(PATIENCE, body.collect())
            .await
            .unwrap()
            .unwrap();
        Answer {
            status: parts.status,
            headers: parts.headers,
            body: body.to_bytes(),
        }
    }
}
