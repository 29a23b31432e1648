//! A node with the memory store, its public listener on port 0, and a client that writes raw bytes.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hookfast::clock::Clock;
use hookfast::deliver::Deliveries;
use hookfast::ingest::rejections;
use hookfast::node::Node;
use hookfast::settings::{DeliveryLimits, IngestLimits, OutboxSettings, Settings};
use hookfast::tls::Tls;
use hookfast::vault::Vault;
use hookfast_engine::id::{ApplicationId, SourceId};
use hookfast_engine::time::Timestamp;
use hookfast_engine::topology::{Application, SealedSecret, Source, TopologyChange, Verify};
use hookfast_signature::{Secret, sign_nylas};
use hookfast_store::memory::MemoryStore;
use hookfast_store::{
    EventFilter, NoSlots, Page, QuarantineBounds, Quarantined, Rejected, Retention, SourceFilter, Store,
    StoredEvent,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

pub(crate) const SECRET: &str = "41dD3-nXTUfebYuk81Gr";
pub(crate) const EVENT: &[u8] =
    br#"{"specversion":"1.0","type":"message.created","source":"/nylas","id":"n-1","time":1700000000,"data":{"object":{"id":"o-1"}}}"#;
const DAY: Duration = Duration::from_secs(86_400);
/// Longer than anything here takes, unless it hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn settings() -> Settings {
    Settings {
        listen: ([127, 0, 0, 1], 0).into(),
        admin: ([127, 0, 0, 1], 0).into(),
        api: None,
        data: "unused".into(),
        public_url: None,
        hosts: Vec::new(),
        trusted_proxies: Vec::new(),
        tls: None,
        ingest: IngestLimits {
            body_bytes: 64 * 1024,
            head_timeout: Duration::from_secs(10),
            body_bytes_per_second: 8 * 1024,
            head_bytes: 16 * 1024,
            connections: 1_000,
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

/// A running public listener.
pub(crate) struct Served {
    pub(crate) node: Arc<Node>,
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) address: SocketAddr,
    pub(crate) serving: JoinHandle<()>,
}

/// Puts something before the memory store.
type Wrap = Box<dyn FnOnce(Arc<MemoryStore>) -> Arc<dyn Store> + Send>;

/// What a test changes about the node before it serves.
#[derive(Default)]
pub(crate) struct Setup {
    pub(crate) settings: Option<Settings>,
    /// Stands before the memory store, where the test wants the store to behave in a certain way.
    pub(crate) wrap: Option<Wrap>,
    pub(crate) tls: Option<Arc<Tls>>,
    pub(crate) budget: Option<usize>,
}

/// Serves with the sources `nylas` (with [`SECRET`]), `github`, `slack`, `open` (verifies nothing) and `fresh`
/// (a Nylas source with no secret yet).
pub(crate) async fn serve() -> Served {
    serve_with(Setup::default()).await
}

pub(crate) async fn serve_with(setup: Setup) -> Served {
    let store = MemoryStore::new(Arc::new(NoSlots));
    let shown: Arc<dyn Store> = match setup.wrap {
        Some(wrap) => wrap(Arc::clone(&store)),
        None => Arc::clone(&store) as Arc<dyn Store>,
    };
    let vault = Vault::new([7; 32]);
    let mut settings = setup.settings.unwrap_or_else(settings);
    if let Some(budget) = setup.budget {
        settings.delivery.body_bytes = 2 * budget;
    }
    let (deliveries, _driver) = Deliveries::new(&settings.delivery, Clock);
    let node = Arc::new(Node::new(Clock, shown, deliveries, settings, vault));
    let id = ApplicationId::from_u128(1);
    let application = Application::new(id, "default", Clock.now());
    let mut changes = vec![TopologyChange::PutApplication(application)];
    for (number, (name, provider)) in SOURCES.into_iter().enumerate() {
        let mut source = source(&node, name, provider, number as u128);
        if name == "open" {
            source.verify = Verify::None;
        }
        if name != "fresh" && name != "open" {
            source.secrets = vec![sealed(&node, &source, SECRET)];
        }
        changes.push(TopologyChange::PutSource(source));
    }
    node.change_topology("test", changes).await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(hookfast::ingest::serve(Arc::clone(&node), listener, setup.tls));
    Served {
        node,
        store,
        address,
        serving,
    }
}

const SOURCES: [(&str, &str); 5] = [
    ("nylas", "nylas"),
    ("github", "github"),
    ("slack", "slack"),
    ("open", "generic"),
    ("fresh", "nylas"),
];

pub(crate) fn source(node: &Node, name: &str, provider: &str, number: u128) -> Source {
    let now = node.clock.now();
    let id = SourceId::new(now, number);
    Source::new(id, ApplicationId::from_u128(1), name, provider, now)
}

pub(crate) fn sealed(node: &Node, source: &Source, secret: &str) -> SealedSecret {
    SealedSecret {
        sealed: node
            .vault
            .seal(source.id.as_u128(), secret.as_bytes(), node.clock),
        created_at: node.clock.now(),
        expires_at: None,
    }
}

impl Served {
    /// Changes a source, as somebody at the API would.
    pub(crate) async fn change(&self, name: &str, change: impl FnOnce(&Node, &mut Source)) {
        let mut source = self.source(name);
        change(&self.node, &mut source);
        let changes = vec![TopologyChange::PutSource(source)];
        self.node.change_topology("test", changes).await.unwrap();
    }

    pub(crate) fn source(&self, name: &str) -> Source {
        self.node
            .snapshot
            .load()
            .topology
            .source_named(name)
            .unwrap()
            .clone()
    }

    pub(crate) async fn connect(&self) -> Wire {
        Wire::new(TcpStream::connect(self.address).await.unwrap())
    }

    /// One request on a connection of its own.
    pub(crate) async fn ask(&self, request: impl AsRef<[u8]>) -> Answer {
        let mut wire = self.connect().await;
        wire.send(request).await;
        wire.answer().await.expect("an answer")
    }

    /// All events, oldest first.
    pub(crate) async fn events(&self) -> Vec<StoredEvent> {
        let page = Page {
            limit: 1_000,
            cursor: None,
        };
        let listed = self.store.events(EventFilter::default(), page).await.unwrap();
        let mut events = Vec::new();
        for summary in listed.items.iter().rev() {
            events.push(self.store.event(summary.id).await.unwrap().unwrap());
        }
        events
    }

    /// Everything in quarantine, newest first.
    pub(crate) async fn quarantined(&self) -> Vec<Quarantined> {
        let page = Page {
            limit: 1_000,
            cursor: None,
        };
        let listed = self
            .store
            .quarantined(SourceFilter::default(), page)
            .await
            .unwrap();
        let mut kept = Vec::new();
        for summary in listed.items {
            kept.push(self.store.quarantined_event(summary.id).await.unwrap().unwrap());
        }
        kept
    }

    /// The refused requests that the store has, newest first, once those on their way are written.
    pub(crate) async fn rejected(&self) -> Vec<Rejected> {
        rejections::write(&self.node).await;
        let page = Page {
            limit: 1_000,
            cursor: None,
        };
        let listed = self.store.rejected(SourceFilter::default(), page).await.unwrap();
        listed.items
    }

    /// The causes of [`Served::rejected`].
    pub(crate) async fn causes(&self) -> Vec<String> {
        self.rejected().await.into_iter().map(|row| row.cause).collect()
    }

    /// The value of a counter of `received`.
    pub(crate) fn received(&self, source: &str, result: &str) -> u64 {
        let text = self.node.metrics.encode().unwrap();
        let start = format!("hookfast_received_total{{source=\"{source}\",result=\"{result}\"}} ");
        let line = text.lines().find_map(|line| line.strip_prefix(&start));
        line.map_or(0, |value| value.parse().unwrap())
    }
}

/// A connection that bytes are written to as they are.
pub(crate) struct Wire {
    stream: TcpStream,
    read: Vec<u8>,
}

/// An answer, taken apart.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The head as it came, in lower case.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (each, value) = line.split_once(':')?;
            (each == name).then(|| value.trim())
        })
    }
}

impl Wire {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            read: Vec::new(),
        }
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    /// As [`Wire::send`], where the peer may have closed already.
    pub(crate) async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref()).await
    }

    pub(crate) async fn finish_sending(&mut self) {
        self.stream.shutdown().await.unwrap();
    }

    /// The next answer; `None` where the connection ended instead.
    pub(crate) async fn answer(&mut self) -> Option<Answer> {
        tokio::time::timeout(PATIENCE, self.read_answer())
            .await
            .expect("an answer or an end in time")
    }

    async fn read_answer(&mut self) -> Option<Answer> {
        loop {
            if let Some(end) = find(&self.read, b"\r\n\r\n") {
                let head = String::from_utf8(self.read[..end].to_vec())
                    .unwrap()
                    .to_ascii_lowercase();
                let status = head.split(' ').nth(1).unwrap().parse().unwrap();
                let mut answer = Answer {
                    status,
                    head,
                    body: Vec::new(),
                };
                let length = match answer.header("content-length") {
                    Some(length) => length.parse::<usize>().unwrap(),
                    None => {
                        assert!(answer.header("transfer-encoding").is_none());
                        0
                    }
                };
                let whole = end + 4 + length;
                if self.read.len() >= whole {
                    answer.body = self.read[end + 4..whole].to_vec();
                    self.read.drain(..whole);
                    return Some(answer);
                }
            }
            let mut chunk = [0; 4096];
            match self.stream.read(&mut chunk).await {
                Ok(0) | Err(_) => return None,
                Ok(read) => self.read.extend_from_slice(&chunk[..read]),
            }
        }
    }

    /// Reads whatever comes until the connection ends.
    pub(crate) async fn ends_somehow(&mut self) {
        let mut chunk = [0; 1024];
        while matches!(self.stream.read(&mut chunk).await, Ok(read) if read > 0) {}
    }

    /// Whether the peer closes the connection without a further byte.
    pub(crate) async fn ends(&mut self) -> bool {
        self.answer().await.is_none()
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

/// A POST with a body and a Content-Length.
pub(crate) fn post(path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut request = format!(
        "POST {path} HTTP/1.1\r\nHost: hookfast.test\r\nContent-Length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        request += &format!("{name}: {value}\r\n");
    }
    request += "\r\n";
    [request.as_bytes(), body].concat()
}

/// A notification of Nylas's, signed.
pub(crate) fn signed(path: &str, body: &[u8]) -> Vec<u8> {
    post(path, &[("X-Nylas-Signature", &signature(body))], body)
}

pub(crate) fn signature(body: &[u8]) -> String {
    sign_nylas(&Secret::new(SECRET), body).unwrap()
}

/// A request without a body.
pub(crate) fn bare(method: &str, target: &str) -> String {
    format!("{method} {target} HTTP/1.1\r\nHost: hookfast.test\r\n\r\n")
}

pub(crate) fn seconds(time: Timestamp) -> i64 {
    time.as_secs()
}
