//! Whom Hookfast speaks TLS with.

use std::sync::Arc;

use crate::receiver::{Receiver, ok};
use hookfast::deliver::resolve::{Guard, Lookup};
use hookfast::deliver::transport::Attempted;
use hookfast_engine::outcome::Failure;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;

use crate::setup::*;

struct Authority {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

fn authority() -> Authority {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
        .distinguished_name
        .push(DnType::CommonName, "an authority of the tests");
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap().der().clone();
    Authority {
        certificate,
        issuer: Issuer::new(params, key),
    }
}

fn acceptor(certificate: CertificateDer<'static>, key: &KeyPair) -> TlsAcceptor {
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

/// One attempt to `host` over TLS, with a certificate made by `issue`.
async fn over_tls(
    host: &str,
    issue: impl FnOnce(&Authority, &KeyPair) -> CertificateDer<'static>,
) -> (Receiver, Attempted) {
    let authority = authority();
    let key = KeyPair::generate().unwrap();
    let certificate = issue(&authority, &key);
    let receiver = Receiver::start_tls(acceptor(certificate, &key), vec![ok()]).await;
    let mut roots = RootCertStore::empty();
    roots.add(authority.certificate.clone()).unwrap();
    let address = receiver.address;
    let lookup: Lookup = Arc::new(move |_, _| Box::pin(async move { Ok(vec![address]) }));
    let transport = transport_with(Guard::new(vec![], vec![]).with_lookup(lookup), roots);
    let destination = to(&format!("https://{host}:{}/hook", address.port()));
    let mut attempted = attempt(&transport, &destination).await;
    if attempted.outcome == answered(200) {
        attempted = attempt(&transport, &destination).await;
    }
    (receiver, attempted)
}

fn params(host: &str) -> CertificateParams {
    CertificateParams::new(vec![host.to_owned()]).unwrap()
}

#[tokio::test]
async fn a_trusted_certificate_of_the_right_host_is_spoken_to_on_one_connection() {
    for host in ["hooks.example.com", "127.0.0.1"] {
        let (receiver, attempted) = over_tls(host, |authority, key| {
            params(host)
                .signed_by(key, &authority.issuer)
                .unwrap()
                .der()
                .clone()
        })
        .await;
        assert_eq!(attempted.outcome, answered(200), "{attempted:?}");
        assert_eq!((receiver.connections(), receiver.received().len()), (1, 2));
    }
}

#[tokio::test]
async fn a_certificate_of_another_host_is_refused() {
    let (receiver, attempted) = over_tls("hooks.example.com", |authority, key| {
        params("other.example.com")
            .signed_by(key, &authority.issuer)
            .unwrap()
            .der()
            .clone()
    })
    .await;
    assert_failed(&attempted, Failure::TlsHandshake, "for another host");
    assert!(receiver.received().is_empty());
}

#[tokio::test]
async fn an_expired_certificate_is_refused() {
    let (_, attempted) = over_tls("hooks.example.com", |authority, key| {
        let mut params = params("hooks.example.com");
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
        params.signed_by(key, &authority.issuer).unwrap().der().clone()
    })
    .await;
    assert_failed(&attempted, Failure::TlsHandshake, "has expired");
}

#[tokio::test]
async fn a_self_signed_certificate_is_refused() {
    let (_, attempted) = over_tls("hooks.example.com", |_, key| {
        params("hooks.example.com")
            .self_signed(key)
            .unwrap()
            .der()
            .clone()
    })
    .await;
    assert_failed(&attempted, Failure::TlsHandshake, "self-signed");
}

#[tokio::test]
async fn clear_text_behind_an_https_url_is_a_failed_handshake() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream
            .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .await
            .unwrap();
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
    });
    let attempted = attempt(&transport(), &to(&format!("https://{address}/"))).await;
    assert_failed(&attempted, Failure::TlsHandshake, "does not speak TLS");
}
