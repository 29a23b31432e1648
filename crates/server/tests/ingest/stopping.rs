//! The graceful stop (SPEC P4), TLS, and a store that is slow.

use std::sync::Arc;
use std::time::Duration;

use hookfast::settings::TlsFiles;
use hookfast::tls::Tls;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{EVENT, PATIENCE, Setup, bare, serve, serve_with, signed};

#[tokio::test]
async fn a_stop_finishes_what_is_in_hand_refuses_the_rest_and_returns() {
    let served = serve().await;
    let request = signed("/in/nylas", EVENT);
    let (start, rest) = request.split_at(request.len() - 5);
    let mut in_hand = served.connect().await;
    in_hand.send(start).await;
    let mut idle = served.connect().await;
    idle.send(bare("GET", "/healthz")).await;
    assert_eq!(idle.answer().await.unwrap().status, 200);
    // The one in hand is known to the server once its bytes are.
    while served.node.ingest_budget.used() == 0 {
        tokio::task::yield_now().await;
    }

    served.node.stopping.cancel();
    assert!(idle.ends().await, "an idle connection is closed");
    let late = served.ask(signed("/in/nylas", EVENT)).await;
    assert_eq!((late.status, late.header("connection")), (503, Some("close")));
    assert!(late.header("retry-after").is_some());
    assert!(late.body.starts_with(b"stopping: "));
    in_hand.send(rest).await;
    let answer = in_hand.answer().await.unwrap();
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    assert!(in_hand.ends().await);
    drop((idle, in_hand));
    let later = served.ask(signed("/in/nylas", EVENT)).await;
    assert_eq!(later.status, 503, "while others have something in hand");
    served.node.stopped.cancel();
    tokio::time::timeout(PATIENCE, served.serving)
        .await
        .expect("it returns")
        .unwrap();
    assert!(TcpStream::connect(served.address).await.is_err());
}

#[tokio::test]
async fn a_listener_with_certificates_speaks_tls() {
    let directory = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let files = TlsFiles {
        cert: directory.path().join("cert.pem"),
        key: directory.path().join("key.pem"),
        listeners: Vec::new(),
    };
    std::fs::write(&files.cert, made.cert.pem()).unwrap();
    std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
    let served = serve_with(Setup {
        tls: Some(Arc::new(Tls::load(&files).unwrap())),
        ..Setup::default()
    })
    .await;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let stream = TcpStream::connect(served.address).await.unwrap();
    let name = "localhost".try_into().unwrap();
    let mut stream = connector.connect(name, stream).await.unwrap();
    stream.write_all(&signed("/in/nylas", EVENT)).await.unwrap();
    let mut start = [0; 15];
    stream.read_exact(&mut start).await.unwrap();
    assert_eq!(&start, b"HTTP/1.1 200 OK");
    assert_eq!(served.events().await.len(), 1);

    let mut plain = served.connect().await;
    plain.send(bare("GET", "/healthz")).await;
    let refused = tokio::time::timeout(Duration::from_secs(5), plain.ends_somehow()).await;
    assert!(refused.is_ok());
    while served.received("", "tls-failed") == 0 {
        tokio::task::yield_now().await;
    }
}
