//! Which connections are kept, and what it costs when one is gone.

use std::time::Duration;

use crate::receiver::{Receiver, Step, answer, ok};
use hookfast::clock::Clock;
use hookfast::deliver::resolve::Guard;
use hookfast::deliver::transport::Transport;
use hookfast::settings::DeliveryLimits;
use hookfast_engine::outcome::Failure;
use hookfast_engine::topology::Destination;
use rustls::RootCertStore;

use crate::setup::*;

#[tokio::test]
async fn one_connection_serves_request_after_request() {
    let receiver = Receiver::start(vec![Step::Reply(answer("200 OK", "", "hello"))]).await;
    let (transport, destination) = (transport(), to(&receiver.url("/")));
    for _ in 0..20 {
        assert_eq!(attempt(&transport, &destination).await.outcome, answered(200));
    }
    assert_eq!(receiver.connections(), 1);
    assert_eq!(receiver.received().len(), 20);
}

#[tokio::test]
async fn a_connection_that_is_to_be_closed_is_not_kept() {
    for headers in ["connection: close\r\n", "keep-alive: timeout=1\r\n"] {
        let receiver = Receiver::start(vec![Step::Reply(answer("200 OK", headers, ""))]).await;
        let (transport, destination) = (transport(), to(&receiver.url("/")));
        attempt(&transport, &destination).await;
        receiver.closed(1).await;
        attempt(&transport, &destination).await;
        assert_eq!(receiver.connections(), 2);
    }
}

#[tokio::test]
async fn an_unused_connection_is_closed_after_its_time() {
    let receiver = Receiver::start(vec![ok()]).await;
    let limits = DeliveryLimits {
        idle_connection: Duration::from_millis(50),
        ..limits()
    };
    let transport = Transport::new(&limits, Guard::new(vec![], vec![]), RootCertStore::empty(), Clock);
    attempt(&transport, &to(&receiver.url("/"))).await;
    tokio::time::timeout(PATIENT, receiver.closed(1)).await.unwrap();
}

#[tokio::test]
async fn destinations_with_other_permissions_never_share_a_connection() {
    let receiver = Receiver::start(vec![ok()]).await;
    let networks = vec!["127.0.0.0/8".parse().unwrap()];
    let transport = transport_with(Guard::new(networks, vec![]), RootCertStore::empty());
    for allow_private in [true, false] {
        let destination = Destination {
            allow_private,
            ..destination(&receiver.url("/"), PATIENT)
        };
        assert_eq!(
            attempt(&transport, &ready(destination, &[])).await.outcome,
            answered(200)
        );
    }
    assert_eq!(receiver.connections(), 2);
}

#[tokio::test]
async fn a_kept_connection_that_was_closed_meanwhile_costs_no_attempt() {
    for broken in [Step::Close, Step::Reset] {
        let receiver = Receiver::start(vec![ok(), broken, ok()]).await;
        let (transport, destination) = (transport(), to(&receiver.url("/")));
        assert_eq!(attempt(&transport, &destination).await.outcome, answered(200));
        // The receiver closes the connection upon the second request; it comes again on a new one.
        assert_eq!(attempt(&transport, &destination).await.outcome, answered(200));
        let connections: Vec<_> = receiver
            .received()
            .iter()
            .map(|request| request.connection)
            .collect();
        assert_eq!(connections, [0, 0, 1]);
    }
}

#[tokio::test]
async fn a_request_is_sent_again_only_once_and_only_if_nothing_of_an_answer_came() {
    let receiver = Receiver::start(vec![ok(), Step::Close]).await;
    let (transport_one, destination) = (transport(), to(&receiver.url("/")));
    attempt(&transport_one, &destination).await;
    let attempted = attempt(&transport_one, &destination).await;
    assert_failed(&attempted, Failure::ConnectionReset, "closed");
    assert_eq!(receiver.received().len(), 3);

    let receiver = Receiver::start(vec![ok(), Step::ReplyAndClose(b"HTTP/1.1 2".to_vec()), ok()]).await;
    let (transport_two, destination) = (transport(), to(&receiver.url("/")));
    attempt(&transport_two, &destination).await;
    let attempted = attempt(&transport_two, &destination).await;
    assert_failed(&attempted, Failure::ConnectionReset, "closed");
    assert_eq!(receiver.received().len(), 2);
}
