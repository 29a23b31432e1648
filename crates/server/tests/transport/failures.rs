//! Every way in which there is no answer (SPEC O3).

use std::net::SocketAddr;
use std::sync::Arc;

use crate::receiver::{Receiver, Step, ok};
use hookfast::deliver::resolve::{Guard, Lookup};
use hookfast_engine::outcome::{Failure, Outcome};
use hookfast_engine::topology::{Destination, DestinationKind};
use rustls::RootCertStore;

use crate::setup::*;

#[tokio::test]
async fn silence_is_a_timeout_that_says_what_was_waited_for() {
    for step in [
        Step::Hang,
        Step::Late(PATIENT, b"HTTP/1.1 200 OK\r\n\r\n".to_vec()),
        Step::Reply(b"HTTP/1.1 200 OK\r\nx-unfinished: ".to_vec()),
    ] {
        let receiver = Receiver::start(vec![step]).await;
        let destination = ready(destination(&receiver.url("/"), HASTY), &[]);
        let attempted = attempt(&transport(), &destination).await;
        assert_eq!(attempted.outcome, Outcome::TimedOut);
        assert_eq!(
            attempted.error.as_deref(),
            Some("no answer within 150ms, while waiting for the answer")
        );
        assert!(attempted.duration >= HASTY);
    }
}

#[tokio::test]
async fn a_name_that_takes_too_long_to_resolve_is_a_timeout() {
    let lookup: Lookup = Arc::new(|_, _| Box::pin(std::future::pending()));
    let transport = transport_with(
        Guard::new(vec![], vec![]).with_lookup(lookup),
        RootCertStore::empty(),
    );
    let attempted = attempt(
        &transport,
        &ready(destination("https://slow.example/", HASTY), &[]),
    )
    .await;
    assert_eq!(attempted.outcome, Outcome::TimedOut);
    assert_eq!(
        attempted.error.as_deref(),
        Some("no answer within 150ms, while resolving the name and connecting")
    );
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_told_apart() {
    let missing: Lookup = Arc::new(|_, _| Box::pin(async { Err(std::io::Error::other("no such host")) }));
    let empty: Lookup = Arc::new(|_, _| Box::pin(async { Ok(Vec::new()) }));
    for (lookup, words) in [(missing, "no such host"), (empty, "it has no address")] {
        let guard = Guard::new(vec![], vec![]).with_lookup(lookup);
        let transport = transport_with(guard, RootCertStore::empty());
        let attempted = attempt(&transport, &to("https://nowhere.example/")).await;
        assert_failed(&attempted, Failure::NameResolution, words);
    }
}

#[tokio::test]
async fn a_closed_port_is_a_refused_connection() {
    let closed = Receiver::start(vec![ok()]).await.address;
    tokio::task::yield_now().await;
    let attempted = attempt(&transport(), &to(&format!("http://{closed}/"))).await;
    assert_failed(&attempted, Failure::ConnectionRefused, "refused");
}

#[tokio::test]
async fn the_next_address_is_tried_when_one_refuses() {
    let receiver = Receiver::start(vec![ok()]).await;
    let addresses = vec![
        SocketAddr::new([127, 0, 0, 2].into(), receiver.address.port()),
        receiver.address,
    ];
    let lookup: Lookup = Arc::new(move |_, _| {
        let addresses = addresses.clone();
        Box::pin(async move { Ok(addresses) })
    });
    let transport = transport_with(
        Guard::new(vec![], vec![]).with_lookup(lookup),
        RootCertStore::empty(),
    );
    let attempted = attempt(&transport, &to("http://two.example/")).await;
    assert_eq!(attempted.outcome, answered(200));
    assert_eq!(receiver.only().values("host"), ["two.example"]);
}

#[tokio::test]
async fn a_connection_that_breaks_before_the_answer_is_a_reset() {
    for step in [
        Step::Close,
        Step::Reset,
        Step::ReplyAndClose(b"HTTP/1.1 200 OK\r\nx-unfin".to_vec()),
    ] {
        let receiver = Receiver::start(vec![step]).await;
        let attempted = attempt(&transport(), &to(&receiver.url("/"))).await;
        assert_failed(&attempted, Failure::ConnectionReset, "connection");
        assert_eq!(receiver.received().len(), 1, "not sent again on a new connection");
    }
}

#[tokio::test]
async fn what_is_not_http_is_told_apart() {
    for bytes in [
        &b"220 mail.example ESMTP\r\n\r\n"[..],
        b"\x15\x03\x01\x00\x02\x02\x46\x00\x00\x00\x00",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
    ] {
        let receiver = Receiver::start(vec![Step::ReplyAndClose(bytes.to_vec())]).await;
        let attempted = attempt(&transport(), &to(&receiver.url("/"))).await;
        assert_failed(&attempted, Failure::NotHttp, "not HTTP");
    }
}

#[tokio::test]
async fn a_pull_destination_is_not_pushed_to() {
    let pull = Destination {
        kind: DestinationKind::Pull,
        ..destination("", PATIENT)
    };
    let attempted = attempt(&transport(), &ready(pull, &[])).await;
    assert_failed(&attempted, Failure::RequestInvalid, "pulled");
}

#[tokio::test]
async fn a_panic_while_sending_is_a_fault_of_ours() {
    let lookup: Lookup = Arc::new(|_, _| panic!("a fault in a resolver"));
    let transport = transport_with(
        Guard::new(vec![], vec![]).with_lookup(lookup),
        RootCertStore::empty(),
    );
    let attempted = attempt(&transport, &to("https://example.com/")).await;
    assert_failed(&attempted, Failure::Internal, "hookfast itself");
}
