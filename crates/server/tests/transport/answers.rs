//! What is made of an answer, however long, broken or misleading (SPEC I9, O5, P5).

use std::time::Duration;

use crate::receiver::{Receiver, Step, answer, ok};
use bytes::Bytes;
use hookfast::clock::Clock;
use hookfast_engine::event::Event;
use hookfast_engine::outcome::{Failure, Outcome};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::setup::*;

#[tokio::test]
async fn an_answer_is_kept_with_its_headers_and_body_whatever_its_status() {
    for status in [200_u16, 204, 301, 404, 410, 429, 500, 599] {
        let body = if status == 204 { "" } else { "why" };
        let bytes = format!(
            "HTTP/1.1 {status} Whatever\r\nX-One: 1\r\nx-one: 2\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let receiver = Receiver::start(vec![Step::Reply(bytes.into_bytes())]).await;
        let attempted = attempt(&transport(), &to(&receiver.url("/"))).await;
        assert_eq!(attempted.outcome, answered(status));
        assert_eq!(attempted.error, None);
        assert_eq!(attempted.response_body, body);
        assert_eq!(attempted.response_headers.get("x-one"), Some(&b"1"[..]));
        assert!(attempted.duration < PATIENT);
        let kept = attempted.clone().into_attempt(3);
        assert_eq!((kept.number, kept.outcome), (3, attempted.outcome));
    }
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_is_not_followed() {
    let elsewhere = Receiver::start(vec![ok()]).await;
    for location in [
        "http://169.254.169.254/latest/meta-data/".to_owned(),
        elsewhere.url("/"),
    ] {
        let headers = format!("location: {location}\r\n");
        let receiver = Receiver::start(vec![Step::Reply(answer("307 Moved", &headers, ""))]).await;
        let attempted = attempt(&transport(), &to(&receiver.url("/"))).await;
        assert_eq!(attempted.outcome, answered(307));
        assert_eq!(receiver.received().len(), 1);
    }
    assert_eq!(elsewhere.connections(), 0);
}

#[tokio::test]
async fn retry_after_is_read_in_seconds_and_as_a_date() {
    let in_two_minutes = Clock.now().plus(Duration::from_secs(120));
    let date = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(in_two_minutes.as_secs() as u64);
    let date = httpdate::fmt_http_date(date);
    let seconds = Duration::from_secs;
    let table = [
        ("7", Some(seconds(7)..=seconds(7))),
        (" 0 ", Some(seconds(0)..=seconds(0))),
        (date.as_str(), Some(seconds(90)..=seconds(120))),
        ("Wed, 21 Oct 2015 07:28:00 GMT", Some(seconds(0)..=seconds(0))),
        ("99999999999999999999999", Some(seconds(86_400)..=Duration::MAX)),
        ("-5", None),
        ("soon", None),
        ("", None),
    ];
    for (value, expected) in table {
        let headers = format!("retry-after: {value}\r\n");
        let receiver = Receiver::start(vec![Step::Reply(answer("503 Busy", &headers, ""))]).await;
        let attempted = attempt(&transport(), &to(&receiver.url("/"))).await;
        let Outcome::Answered {
            status: 503,
            retry_after,
        } = attempted.outcome
        else {
            panic!("{attempted:?}");
        };
        match (retry_after, expected) {
            (None, None) => {}
            (Some(found), Some(range)) => assert!(range.contains(&found), "{value}: {found:?}"),
            (found, expected) => panic!("{value}: {found:?}, expected {expected:?}"),
        }
    }
}

#[tokio::test]
async fn interim_answers_are_passed_over() {
    let bytes = [
        b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n".to_vec(),
        answer("200 OK", "", "done"),
    ]
    .concat();
    let receiver = Receiver::start(vec![Step::Reply(bytes)]).await;
    let attempted = attempt(&transport(), &to(&receiver.url("/"))).await;
    assert_eq!(
        (attempted.outcome, &*attempted.response_body),
        (answered(200), &b"done"[..])
    );
}

#[tokio::test]
async fn a_chunked_answer_and_one_that_ends_with_the_connection_are_read() {
    let chunked =
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n".to_vec();
    let until_close = b"HTTP/1.0 200 OK\r\n\r\nabc".to_vec();
    for step in [Step::Reply(chunked), Step::ReplyAndClose(until_close)] {
        let receiver = Receiver::start(vec![step]).await;
        let attempted = attempt(&transport(), &to(&receiver.url("/"))).await;
        assert_eq!(
            (attempted.outcome, &*attempted.response_body),
            (answered(200), &b"abc"[..])
        );
    }
}

#[tokio::test]
async fn at_most_16_kib_of_a_body_are_kept_and_64_kib_read() {
    // Up to 64 KiB the body is read to its end and the connection serves again; above it is dropped.
    for (length, connections) in [
        (16 * 1024, 1),
        (16 * 1024 + 1, 1),
        (64 * 1024, 1),
        (64 * 1024 + 1, 2),
    ] {
        let body = "x".repeat(length);
        let receiver = Receiver::start(vec![Step::Reply(answer("200 OK", "", &body))]).await;
        let transport = transport();
        for _ in 0..2 {
            let attempted = attempt(&transport, &to(&receiver.url("/"))).await;
            assert_eq!(attempted.outcome, answered(200));
            assert_eq!(attempted.response_body.len(), 16 * 1024);
        }
        assert_eq!(receiver.connections(), connections, "{length}");
    }
}

#[tokio::test]
async fn a_body_that_never_ends_does_not_undo_the_answer() {
    let head = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
    let receiver = Receiver::start(vec![Step::Endless(head, vec![b'x'; 4096])]).await;
    let attempted = attempt(&transport(), &to(&receiver.url("/"))).await;
    assert_eq!(attempted.outcome, answered(200));
    assert_eq!(attempted.response_body.len(), 16 * 1024);
    receiver.closed(1).await;
}

#[tokio::test]
async fn a_body_that_stalls_or_breaks_off_does_not_undo_the_answer() {
    let head = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nabc".to_vec();
    for step in [Step::Reply(head.clone()), Step::ReplyAndClose(head)] {
        let receiver = Receiver::start(vec![step]).await;
        let destination = ready(destination(&receiver.url("/"), HASTY), &[]);
        let attempted = attempt(&transport(), &destination).await;
        assert_eq!(attempted.outcome, answered(200));
        assert_eq!(attempted.response_body, "abc");
        assert!(attempted.duration < HASTY);
        receiver.closed(1).await;
    }
}

#[tokio::test]
async fn headers_that_never_end_are_not_http() {
    let receiver = Receiver::start(vec![Step::Endless(
        b"HTTP/1.1 200 OK\r\nx-endless: ".to_vec(),
        vec![b'x'; 4096],
    )])
    .await;
    let attempted = attempt(&transport(), &to(&receiver.url("/"))).await;
    assert_failed(&attempted, Failure::NotHttp, "larger than 64 KiB");
    receiver.closed(1).await;
    assert!(receiver.written() < 16 << 20);
}

#[tokio::test]
async fn large_response_headers_are_kept_up_to_16_kib() {
    let line = format!("x-large: {}\r\n", "y".repeat(5000));
    let receiver = Receiver::start(vec![Step::Reply(answer("200 OK", &line.repeat(8), ""))]).await;
    let attempted = attempt(&transport(), &to(&receiver.url("/"))).await;
    assert_eq!(attempted.outcome, answered(200));
    assert_eq!(attempted.response_headers.iter().count(), 3);
}

#[tokio::test]
async fn an_answer_that_comes_before_the_request_was_taken_counts() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (gone, told) = tokio::sync::oneshot::channel::<()>();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = [0; 1024];
        stream.read_exact(&mut head).await.unwrap();
        stream
            .write_all(&answer("413 Too Large", "", "no"))
            .await
            .unwrap();
        // Takes nothing more until the other side gives up.
        let _ = told.await;
    });
    let large = Event {
        body: Bytes::from(vec![b'x'; 16 << 20]),
        ..event()
    };
    let attempted = transport()
        .attempt(&to(&format!("http://{address}/")), &claimed(large), "orders")
        .await;
    drop(gone);
    assert_eq!(attempted.outcome, answered(413));
    assert_eq!(attempted.response_body, "no");
}
