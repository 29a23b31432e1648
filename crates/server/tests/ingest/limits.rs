//! Each refusal at its limit, and none one below it (SPEC I6).

use std::time::Duration;

use hookfast_engine::topology::OnInvalid;
use hookfast_store::Unavailable;
use hookfast_store::memory::Fault;

use crate::support::{Answer, EVENT, Setup, Wire, bare, post, serve, serve_with, settings, signed};

/// A head of exactly `bytes` bytes that asks for the health.
fn head_of(bytes: usize) -> String {
    let start = "GET /healthz HTTP/1.1\r\nHost: x\r\nX-Fill: ";
    let end = "\r\n\r\n";
    let fill = bytes - start.len() - end.len();
    format!("{start}{}{end}", "f".repeat(fill))
}

/// A target of exactly `bytes` bytes.
fn target_of(bytes: usize) -> String {
    let start = "/in/nylas?x=";
    format!("{start}{}", "f".repeat(bytes - start.len()))
}

fn says(answer: &Answer, status: u16, code: &str) {
    assert_eq!(answer.status, status, "{}", answer.head);
    let body = String::from_utf8_lossy(&answer.body);
    assert!(body.starts_with(&format!("{code}: ")), "{body}");
}

#[tokio::test]
async fn what_is_not_http_is_400_and_recorded() {
    let served = serve().await;
    let heads = [
        "nonsense\r\n\r\n",
        "GET /healthz HTTP/9.9\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nno colon\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nBad Name: x\r\n\r\n",
        "POST /in/nylas HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        "POST /in/nylas HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "POST /in/nylas HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n",
        "POST /in/nylas HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ];
    for head in heads {
        let mut wire = served.connect().await;
        wire.send(head).await;
        assert_eq!(wire.answer().await.unwrap().status, 400, "{head}");
        assert!(wire.ends().await);
    }
    let rejected = served.rejected().await;
    assert_eq!(
        (rejected.len(), rejected[0].cause.as_str()),
        (1, "malformed-request")
    );
    assert_eq!(rejected[0].count, heads.len() as u64);
    assert_eq!(served.received("", "malformed-request"), heads.len() as u64);
}

#[tokio::test]
async fn a_body_that_breaks_off_or_is_badly_chunked_is_400() {
    let served = serve().await;
    let bodies = [
        "Content-Length: 10\r\n\r\nabc",
        "Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nab",
    ];
    for body in bodies {
        let mut wire = served.connect().await;
        wire.send(format!("POST /in/open HTTP/1.1\r\nHost: x\r\n{body}"))
            .await;
        wire.finish_sending().await;
        says(&wire.answer().await.unwrap(), 400, "malformed-body");
        assert!(wire.ends().await);
    }
    assert_eq!(served.events().await.len(), 0);
    assert_eq!(served.node.ingest_budget.used(), 0);
}

#[tokio::test]
async fn a_head_is_taken_up_to_its_limit() {
    let served = serve().await;
    let limit = settings().ingest.head_bytes;
    assert_eq!(served.ask(head_of(limit)).await.status, 200);
    assert_eq!(served.ask(head_of(limit + 1)).await.status, 431);
    let many = |count: usize| {
        let headers: String = (0..count - 1)
            .map(|number| format!("X-{number}: x\r\n"))
            .collect();
        format!("GET /healthz HTTP/1.1\r\nHost: x\r\n{headers}\r\n")
    };
    assert_eq!(served.ask(many(100)).await.status, 200);
    assert_eq!(served.ask(many(101)).await.status, 431);
    // One that never ends is refused once the limit is there.
    let mut endless = served.connect().await;
    endless.send(&head_of(limit + 1).as_bytes()[..limit]).await;
    assert_eq!(endless.answer().await.unwrap().status, 431);
    assert_eq!(served.causes().await, ["head-too-large"]);
    assert_eq!(served.received("", "head-too-large"), 3);
}

#[tokio::test]
async fn a_target_is_taken_up_to_its_limit() {
    let served = serve().await;
    assert_eq!(served.ask(bare("GET", &target_of(8_192))).await.status, 200);
    let longer = served.ask(bare("GET", &target_of(8_193))).await;
    says(&longer, 414, "uri-too-long");
    let rejected = served.rejected().await;
    assert_eq!(rejected[0].cause, "uri-too-long");
    assert_eq!(rejected[0].path, "/in/nylas");
}

#[tokio::test]
async fn a_body_is_taken_up_to_the_limit_of_its_source() {
    let served = serve().await;
    let limit = settings().ingest.body_bytes;
    let chunked = |bytes: usize| {
        let head = "POST /in/open HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
        let whole = format!("{head}{bytes:x}\r\n{}\r\n0\r\n\r\n", "x".repeat(bytes));
        whole.into_bytes()
    };
    let declared = |bytes: usize| post("/in/open", &[], &vec![b'x'; bytes]);
    for (own, limit) in [
        (None, limit),
        (Some(1_000), 1_000),
        (Some(200_000), 200_000),
        (Some(0), 0),
    ] {
        served.change("open", |_, source| source.body_limit = own).await;
        assert_eq!(served.ask(declared(limit)).await.status, 200);
        assert_eq!(served.ask(chunked(limit)).await.status, 200);
        for larger in [declared(limit + 1), chunked(limit + 1)] {
            let mut wire = served.connect().await;
            // The answer may come before all is sent.
            let _ = wire.try_send(larger).await;
            says(&wire.answer().await.unwrap(), 413, "body-too-large");
            assert!(wire.ends().await);
        }
    }
    assert_eq!(served.node.ingest_budget.used(), 0);
}

#[tokio::test]
async fn a_body_that_is_declared_too_large_is_refused_before_it_is_sent() {
    let served = serve().await;
    // GitHub's preset takes 25 MiB, whatever the server's default is.
    let declared = |length: usize| {
        format!(
            "POST /in/github HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n"
        )
    };
    let preset = 25 * 1024 * 1024;
    assert_eq!(served.ask(declared(preset)).await.status, 100);
    says(&served.ask(declared(preset + 1)).await, 413, "body-too-large");
    says(&served.ask(declared(usize::MAX / 2)).await, 413, "body-too-large");
}

#[tokio::test]
async fn the_answer_to_a_body_that_is_too_large_reaches_a_sender_that_sends_it_all_first() {
    let served = serve().await;
    served
        .change("open", |_, source| source.body_limit = Some(1_000))
        .await;
    let mut wire = served.connect().await;
    wire.send(post("/in/open", &[], &vec![b'x'; 900_000])).await;
    assert_eq!(wire.answer().await.unwrap().status, 413);
}

#[tokio::test]
async fn unknown_sources_paths_and_methods_are_refused() {
    let served = serve().await;
    for target in ["/in/none", "/in/", "/in/nylas/", "/in/nylas/x", "/in/%6eylas"] {
        says(&served.ask(post(target, &[], b"")).await, 404, "unknown-source");
    }
    for target in ["/", "/in", "/IN/nylas", "/metrics", "/api/v1/events", "*"] {
        says(&served.ask(bare("OPTIONS", target)).await, 404, "unknown-path");
    }
    for method in ["PUT", "DELETE", "PATCH", "TRACE", "BREW"] {
        let refused = served.ask(bare(method, "/in/nylas")).await;
        says(&refused, 405, "method-not-allowed");
        assert_eq!(refused.header("allow"), Some("post, get, head, options"));
    }
    let health = served.ask(post("/healthz", &[], b"")).await;
    assert_eq!((health.status, health.header("allow")), (405, Some("get, head")));
    let causes = served.causes().await;
    assert_eq!(causes.len(), 4, "one row for each cause and source: {causes:?}");
    assert_eq!(served.received("nylas", "method-not-allowed"), 5);
}

#[tokio::test]
async fn a_source_takes_its_rate_and_no_more() {
    let served = serve().await;
    served
        .change("open", |_, source| source.rate_limit = Some(5))
        .await;
    let mut wire = served.connect().await;
    let mut statuses = Vec::new();
    for _ in 0..6 {
        wire.send(post("/in/open", &[], b"{}")).await;
        let answer = wire.answer().await.unwrap();
        if answer.status == 429 {
            assert_eq!(answer.header("retry-after"), Some("1"));
        }
        statuses.push(answer.status);
    }
    assert_eq!(statuses, [200, 200, 200, 200, 200, 429]);
    assert_eq!(served.ask(signed("/in/nylas", EVENT)).await.status, 200);
}

#[tokio::test]
async fn a_slow_head_is_408_and_an_idle_connection_is_not() {
    let mut quick = settings();
    quick.ingest.head_timeout = Duration::from_millis(200);
    let served = serve_with(Setup {
        settings: Some(quick),
        ..Setup::default()
    })
    .await;
    let mut slow = served.connect().await;
    slow.send("POST /in/nylas HT").await;
    assert_eq!(slow.answer().await.unwrap().status, 408);
    assert!(slow.ends().await);
    assert_eq!(served.causes().await, ["head-timeout"]);

    // One that sent nothing is told nothing, and is not counted.
    let mut silent = served.connect().await;
    assert!(silent.ends().await);
    assert_eq!(served.received("", "head-timeout"), 1);

    // Between requests there is more time, and none of it counts for the next head.
    let mut kept = served.connect().await;
    kept.send(bare("GET", "/healthz")).await;
    assert_eq!(kept.answer().await.unwrap().status, 200);
    let waited = tokio::time::timeout(Duration::from_millis(500), kept.answer()).await;
    assert!(waited.is_err(), "it was closed");
    kept.send(bare("GET", "/healthz")).await;
    assert_eq!(kept.answer().await.unwrap().status, 200);
    kept.send("GET /hea").await;
    assert_eq!(kept.answer().await.unwrap().status, 408);
}

#[tokio::test]
async fn a_body_must_keep_up_the_rate_and_one_that_does_is_taken() {
    let mut quick = settings();
    // A grace of 100 ms, and then 1,000 bytes a second.
    quick.ingest.head_timeout = Duration::from_millis(200);
    quick.ingest.body_bytes_per_second = 1_000;
    let served = serve_with(Setup {
        settings: Some(quick),
        ..Setup::default()
    })
    .await;
    let mut stalled = served.connect().await;
    stalled
        .send("POST /in/open HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc")
        .await;
    says(&stalled.answer().await.unwrap(), 408, "body-timeout");
    assert!(stalled.ends().await);
    assert_eq!(served.node.ingest_budget.used(), 0);

    let mut steady = served.connect().await;
    steady
        .send("POST /in/open HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n")
        .await;
    for _ in 0..10 {
        steady.send([b'x'; 100]).await;
        tokio::time::sleep(Duration::from_millis(40)).await;
    }
    assert_eq!(steady.answer().await.unwrap().status, 200);
}

#[tokio::test]
async fn bodies_beyond_the_budget_are_503_until_there_is_room() {
    let served = serve_with(Setup {
        budget: Some(100_000),
        ..Setup::default()
    })
    .await;
    let part = |bytes: usize, sent: usize| {
        let head = format!("POST /in/open HTTP/1.1\r\nHost: x\r\nContent-Length: {bytes}\r\n\r\n");
        format!("{head}{}", "x".repeat(sent))
    };
    // Claiming much reserves nothing: only what arrives counts.
    let mut claims: Vec<Wire> = Vec::new();
    for _ in 0..8 {
        let mut wire = served.connect().await;
        wire.send(part(60_000, 0)).await;
        claims.push(wire);
    }
    assert_eq!(
        served.ask(post("/in/open", &[], &[b'x'; 50_000])).await.status,
        200
    );
    let mut holder = served.connect().await;
    holder.send(part(60_000, 59_999)).await;
    until(|| served.node.ingest_budget.used() >= 59_999).await;
    let refused = served.ask(post("/in/open", &[], &[b'x'; 50_000])).await;
    says(&refused, 503, "out-of-memory");
    assert_eq!(refused.header("retry-after"), Some("1"));
    holder.send("x").await;
    assert_eq!(holder.answer().await.unwrap().status, 200);
    assert_eq!(
        served.ask(post("/in/open", &[], &[b'x'; 50_000])).await.status,
        200
    );
    drop(claims);
    until(|| served.node.ingest_budget.used() == 0).await;
}

async fn until(condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(crate::support::PATIENCE, waiting)
        .await
        .expect("in time");
}

#[tokio::test]
async fn more_connections_than_may_be_open_are_told_so() {
    let mut few = settings();
    few.ingest.connections = 2;
    let served = serve_with(Setup {
        settings: Some(few),
        ..Setup::default()
    })
    .await;
    let (mut one, mut two) = (served.connect().await, served.connect().await);
    for wire in [&mut one, &mut two] {
        wire.send(bare("GET", "/healthz")).await;
        assert_eq!(wire.answer().await.unwrap().status, 200);
    }
    let refused = served.ask(signed("/in/nylas", EVENT)).await;
    says(&refused, 503, "too-many-connections");
    assert_eq!(refused.header("connection"), Some("close"));
    drop(one);
    let mut status = 503;
    while status == 503 {
        status = served.ask(signed("/in/nylas", EVENT)).await.status;
    }
    assert_eq!(status, 200);
}

#[tokio::test]
async fn idle_connections_make_room_when_there_are_nearly_too_many() {
    let mut few = settings();
    few.ingest.connections = 2;
    let served = serve_with(Setup {
        settings: Some(few),
        ..Setup::default()
    })
    .await;
    let (mut one, mut two) = (served.connect().await, served.connect().await);
    for wire in [&mut one, &mut two] {
        wire.send(bare("GET", "/healthz")).await;
        assert_eq!(wire.answer().await.unwrap().status, 200);
    }
    assert!(one.ends().await);
}

#[tokio::test]
async fn a_store_that_takes_nothing_is_503_and_never_a_4xx() {
    let served = serve().await;
    let table = [
        (Fault::Refuse(Unavailable::Full), "disk-full"),
        (Fault::Refuse(Unavailable::LaneFull), "source-overloaded"),
        (Fault::Refuse(Unavailable::Slow), "disk-slow"),
        (Fault::Refuse(Unavailable::Stopping), "stopping"),
    ];
    for (fault, code) in table {
        served.store.fail_next(fault, 1);
        let refused = served.ask(signed("/in/nylas", EVENT)).await;
        says(&refused, 503, code);
        assert!(refused.header("retry-after").is_some());
    }
    served
        .change("fresh", |_, source| source.on_invalid = OnInvalid::Refuse)
        .await;
    served.store.fail_next(Fault::Refuse(Unavailable::Full), 1);
    says(&served.ask(signed("/in/fresh", EVENT)).await, 503, "disk-full");
    served.store.fail_next(Fault::Lose, 1);
    says(&served.ask(signed("/in/nylas", EVENT)).await, 503, "store-failed");
    assert_eq!(served.node.ingest_budget.used(), 0);
}
