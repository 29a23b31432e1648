//! The provider of the demo: it sends signed notifications, repeats some, and retries what was not taken.
//!
//! Owns the sending task and the book of what was sent and what was answered. Must not know the server's
//! insides: all it sees is the answers.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hookfast_signature::{NylasSigner, Secret};
use http_body_util::Full;
use hyper::Request;
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use parking_lot::Mutex;
use tokio::task::JoinSet;

use crate::clock::Clock;

/// One notification is sent in this time.
const INTERVAL: Duration = Duration::from_millis(12);
/// Every so many notifications, one is sent twice.
const REPEAT_EVERY: u64 = 5;
/// What was not taken is sent again after this long, as a provider would, if sooner.
const RETRY_AFTER: Duration = Duration::from_millis(300);
/// How often it is sent again before the provider gives up.
const RETRIES: u32 = 100;

/// What the provider has sent.
#[derive(Clone, Default)]
pub(super) struct Sent {
    /// Every id that was sent at least once.
    pub(super) tried: HashSet<String>,
    /// Every id that was answered 200.
    pub(super) accepted: HashSet<String>,
    /// How many further copies of ids that had been accepted were answered 200.
    pub(super) repeats_accepted: usize,
    /// Nothing more will be sent.
    pub(super) finished: bool,
}

/// The running provider.
pub(super) struct Provider {
    sent: Arc<Mutex<Sent>>,
}

struct Sender {
    client: Client<HttpConnector, Full<Bytes>>,
    url: String,
    signer: NylasSigner,
    sent: Arc<Mutex<Sent>>,
}

impl Provider {
    /// Starts to send to the server at `listen` for `duration`.
    pub(super) fn start(listen: SocketAddr, secret: &str, duration: Duration) -> Self {
        let sent = Arc::new(Mutex::new(Sent::default()));
        if let Ok(signer) = NylasSigner::new(&Secret::new(secret)) {
            let client = Client::builder(TokioExecutor::new()).build_http();
            let url = format!("http://{listen}/in/nylas");
            tokio::spawn(send_all(
                Arc::new(Sender {
                    client,
                    url,
                    signer,
                    sent: sent.clone(),
                }),
                duration,
            ));
        }
        Self { sent }
    }

    /// What has been sent up to now.
    pub(super) fn sent(&self) -> Sent {
        self.sent.lock().clone()
    }
}

async fn send_all(sender: Arc<Sender>, duration: Duration) {
    let started = Clock.start();
    let mut ticks = tokio::time::interval(INTERVAL);
    let mut notifications = JoinSet::new();
    let mut number = 0;
    while started.elapsed() < duration {
        ticks.tick().await;
        number += 1;
        let copies = if number % REPEAT_EVERY == 0 { 2 } else { 1 };
        notifications.spawn(sender.clone().notify(number, copies));
        while notifications.try_join_next().is_some() {}
    }
    while notifications.join_next().await.is_some() {}
    sender.sent.lock().finished = true;
}

impl Sender {
    /// Sends notification `number` until it is taken, `copies` times.
    async fn notify(self: Arc<Self>, number: u64, copies: u32) {
        let id = format!("demo-{number:06}");
        self.sent.lock().tried.insert(id.clone());
        let body = Bytes::from(format!(
            r#"{{"specversion":"1.0","type":"message.created","source":"/google/emails/realtime","id":"{id}","time":{},"webhook_delivery_attempt":1,"data":{{"application_id":"demo","object":{{"id":"message-{number}","object":"message"}}}}}}"#,
            Clock.now().as_secs()
        ));
        for _ in 0..copies {
            for _ in 0..RETRIES {
                if self.post(&body).await {
                    self.note_accepted(&id);
                    break;
                }
                tokio::time::sleep(RETRY_AFTER).await;
            }
        }
    }

    async fn post(&self, body: &Bytes) -> bool {
        let request = Request::post(&self.url)
            .header("content-type", "application/json")
            .header("x-nylas-signature", self.signer.sign(body))
            .body(Full::new(body.clone()));
        let Ok(request) = request else { return false };
        let answer = tokio::time::timeout(Duration::from_secs(10), self.client.request(request)).await;
        matches!(answer, Ok(Ok(answer)) if answer.status() == 200)
    }

    fn note_accepted(&self, id: &str) {
        let mut sent = self.sent.lock();
        if !sent.accepted.insert(id.to_owned()) {
            sent.repeats_accepted += 1;
        }
    }
}
