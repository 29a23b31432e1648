//! A receiver of webhooks on an address of the loopback network, which nothing else of these tests may call.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use axum::Router;
use axum::body::Body;
use axum::extract::{Query, Request, State};
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use http_body_util::BodyExt as _;
use parking_lot::Mutex;
use tokio::net::TcpListener;

/// Where receivers listen: the settings of a test allow this one address.
pub(crate) const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

#[derive(Default)]
struct Record {
    challenges: AtomicUsize,
    refuses: AtomicBool,
    posted: Mutex<Vec<(HeaderMap, Bytes)>>,
}

/// It echoes challenges, unless it is told not to, and answers what is posted with 200, but at `/500` with that.
#[derive(Clone)]
pub(crate) struct Receiver {
    record: Arc<Record>,
    address: std::net::SocketAddr,
}

impl Receiver {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind((ADDRESS, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let record = Arc::new(Record::default());
        let router = Router::new().fallback(answer).with_state(Arc::clone(&record));
        // It ends with the test's runtime.
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { record, address }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// From now on, whether challenges are answered with 404.
    pub(crate) fn refuse_challenges(&self, refuses: bool) {
        self.record.refuses.store(refuses, Ordering::SeqCst);
    }

    pub(crate) fn challenges(&self) -> usize {
        self.record.challenges.load(Ordering::SeqCst)
    }

    pub(crate) fn posted(&self) -> Vec<(HeaderMap, Bytes)> {
        self.record.posted.lock().clone()
    }
}

async fn answer(
    State(record): State<Arc<Record>>,
    Query(query): Query<HashMap<String, String>>,
    request: Request,
) -> (StatusCode, Body) {
    if request.method() == Method::GET {
        record.challenges.fetch_add(1, Ordering::SeqCst);
        if record.refuses.load(Ordering::SeqCst) {
            return (StatusCode::NOT_FOUND, Body::empty());
        }
        return (StatusCode::OK, Body::from(query["challenge"].clone()));
    }
    let fails = request.uri().path() == "/500";
    let (parts, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    record.posted.lock().push((parts.headers, body));
    let status = if fails {
        StatusCode::INTERNAL_SERVER_ERROR
    } else {
        StatusCode::OK
    };
    (status, Body::empty())
}
