//! What is not believed, and how it is let out again (SPEC I4, I7).

use hookfast::ingest::release::{ReleaseReport, Selection, release};
use hookfast_engine::topology::{OnInvalid, Verify};
use hookfast_store::memory::Fault;
use hookfast_store::{SourceFilter, Unavailable};

use crate::support::{
    EVENT, SECRET, Served, Setup, post, sealed, serve, serve_with, settings, signature, signed,
};

async fn release_all(served: &Served, ignore_timestamp: bool) -> ReleaseReport {
    let all = Selection::All(SourceFilter::default());
    release(&served.node, all, ignore_timestamp).await.unwrap()
}

async fn set_secret(served: &Served, name: &str, secret: &str) {
    served
        .change(name, |node, source| {
            source.secrets = vec![sealed(node, source, secret)]
        })
        .await;
}

#[tokio::test]
async fn a_wrong_signature_is_401_and_kept_and_released_once_the_secret_is_right() {
    let served = serve().await;
    set_secret(&served, "nylas", "the wrong secret").await;
    let request = post(
        "/in/nylas?a=b",
        &[("X-Nylas-Signature", &signature(EVENT)), ("X-Own", "1")],
        EVENT,
    );
    let refused = served.ask(request).await;
    assert_eq!(refused.status, 401);
    assert!(String::from_utf8_lossy(&refused.body).starts_with("signature-mismatch: "));
    assert_eq!(served.events().await.len(), 0);
    let kept = &served.quarantined().await[0];
    assert_eq!(
        (kept.body.as_ref(), kept.target.as_str()),
        (EVENT, "/in/nylas?a=b")
    );
    assert_eq!((kept.method.as_str(), kept.peer.as_str()), ("POST", "127.0.0.1"));
    assert!(kept.cause.starts_with("signature-mismatch: "), "{}", kept.cause);
    assert_eq!(kept.headers.get("x-own"), Some(&b"1"[..]));
    assert_eq!(served.received("nylas", "quarantined"), 1);
    assert_eq!(served.causes().await, ["signature-mismatch"]);

    let report = release_all(&served, false).await;
    assert_eq!((report.released, report.still_invalid.len()), (0, 1));
    assert!(report.still_invalid[0].1.starts_with("signature-mismatch: "));
    set_secret(&served, "nylas", SECRET).await;
    assert_eq!(release_all(&served, false).await.released, 1);
    assert_eq!(release_all(&served, false).await, ReleaseReport::default());
    let event = &served.events().await[0].event;
    assert_eq!(
        (event.body.as_ref(), event.provider_id.as_deref()),
        (EVENT, Some("n-1"))
    );
    assert_eq!(event.headers.get("x-own"), Some(&b"1"[..]));
    // What was released is known: the sender's repeat is one.
    assert_eq!(served.ask(signed("/in/nylas", EVENT)).await.status, 200);
    assert_eq!(served.events().await.len(), 1);
}

#[tokio::test]
async fn quarantine_writes_no_dedupe_mark() {
    let served = serve().await;
    let forged = post("/in/nylas", &[("X-Nylas-Signature", &"0".repeat(64))], EVENT);
    assert_eq!(served.ask(forged).await.status, 401);
    let true_one = served.ask(signed("/in/nylas", EVENT)).await;
    let id = served.events().await[0].event.id.to_string();
    assert_eq!(
        (true_one.status, true_one.header("hookfast-event-id")),
        (200, Some(id.as_str()))
    );
}

#[tokio::test]
async fn a_source_without_a_secret_keeps_what_is_posted_until_it_has_one() {
    let served = serve().await;
    for number in 0..3 {
        let body = format!(r#"{{"id":"{number}"}}"#);
        let refused = served.ask(signed("/in/fresh", body.as_bytes())).await;
        assert_eq!(refused.status, 401);
        assert!(refused.body.starts_with(b"no-secret: "));
    }
    set_secret(&served, "fresh", SECRET).await;
    assert_eq!(release_all(&served, false).await.released, 3);
    let ids: Vec<_> = served
        .events()
        .await
        .iter()
        .map(|stored| stored.event.provider_id.clone())
        .collect();
    assert_eq!(ids, ["0", "1", "2"].map(|id| Some(id.to_owned())), "oldest first");
}

#[tokio::test]
async fn a_source_may_want_its_bad_signatures_answered_200() {
    let served = serve().await;
    served
        .change("nylas", |_, source| source.on_invalid = OnInvalid::Accept)
        .await;
    let forged = post("/in/nylas", &[("X-Nylas-Signature", &"0".repeat(64))], EVENT);
    let answer = served.ask(&forged).await;
    assert_eq!((answer.status, answer.header("hookfast-event-id")), (200, None));
    assert_eq!(served.quarantined().await.len(), 1);
    // But not what could not be kept.
    served.store.fail_next(Fault::Refuse(Unavailable::LaneFull), 1);
    assert_eq!(served.ask(&forged).await.status, 401);
    served.store.fail_next(Fault::Refuse(Unavailable::Full), 1);
    assert_eq!(served.ask(&forged).await.status, 503);
}

#[tokio::test]
async fn a_stale_timestamp_is_kept_and_released_only_where_timestamps_are_ignored() {
    let served = serve().await;
    let old = served.node.clock.now().as_secs() - 301;
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, SECRET.as_bytes());
    let body =
        br#"{"type":"event_callback","event_id":"Ev1","event":{"type":"message"},"event_time":1700000000}"#;
    let content = [format!("v0:{old}:").as_bytes(), body].concat();
    let tag = ring::hmac::sign(&key, &content);
    let tag: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let headers = [
        ("X-Slack-Signature", &*format!("v0={tag}")),
        ("X-Slack-Request-Timestamp", &*old.to_string()),
    ];
    let refused = served.ask(post("/in/slack", &headers, body)).await;
    assert_eq!(refused.status, 401);
    assert!(refused.body.starts_with(b"timestamp-too-old: "));
    assert_eq!(release_all(&served, false).await.still_invalid.len(), 1);
    assert_eq!(release_all(&served, true).await.released, 1);
    let event = &served.events().await[0].event;
    assert_eq!(
        (event.provider_id.as_deref(), event.event_type.as_deref()),
        (Some("Ev1"), Some("message"))
    );
}

#[tokio::test]
async fn what_is_kept_is_judged_as_of_the_time_it_came() {
    let served = serve().await;
    let then = served.node.clock.now().as_secs();
    served
        .change("slack", |_, source| {
            source.tolerance = Some(std::time::Duration::from_secs(2))
        })
        .await;
    set_secret(&served, "slack", "wrong").await;
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, SECRET.as_bytes());
    let tag = ring::hmac::sign(&key, format!("v0:{then}:{{}}").as_bytes());
    let tag: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let headers = [
        ("X-Slack-Signature", &*format!("v0={tag}")),
        ("X-Slack-Request-Timestamp", &*then.to_string()),
    ];
    assert_eq!(served.ask(post("/in/slack", &headers, b"{}")).await.status, 401);
    set_secret(&served, "slack", SECRET).await;
    tokio::time::sleep(std::time::Duration::from_millis(3_100)).await;
    assert_eq!(served.ask(post("/in/slack", &headers, b"{}")).await.status, 401);
    let report = release_all(&served, false).await;
    assert_eq!((report.released, report.still_invalid.len()), (1, 1));
}

#[tokio::test]
async fn a_full_quarantine_still_answers_401_and_counts() {
    let mut small = settings();
    small.quarantine.events = 2;
    let served = serve_with(Setup {
        settings: Some(small),
        ..Setup::default()
    })
    .await;
    let forged = post("/in/nylas", &[("X-Nylas-Signature", &"0".repeat(64))], EVENT);
    for _ in 0..3 {
        assert_eq!(served.ask(&forged).await.status, 401);
    }
    assert_eq!(served.quarantined().await.len(), 2);
    assert_eq!(served.received("nylas", "quarantined"), 2);
    assert_eq!(served.received("nylas", "signature-mismatch"), 1);
}

#[tokio::test]
async fn a_source_that_cannot_verify_keeps_what_comes_and_asks_for_it_again() {
    let served = serve().await;
    served
        .change("nylas", |_, source| {
            source.provider = "no-such-provider".to_owned()
        })
        .await;
    let answer = served.ask(signed("/in/nylas", EVENT)).await;
    assert_eq!(answer.status, 503);
    assert!(answer.body.starts_with(b"unusable-source: "));
    served
        .change("nylas", |_, source| source.provider = "nylas".to_owned())
        .await;
    assert_eq!(release_all(&served, false).await.released, 1);
}

#[tokio::test]
async fn a_generic_source_verifies_by_its_settings() {
    let served = serve().await;
    let settings = [
        ("header", "X-Acme"),
        ("prefix", "sha256="),
        ("type_path", "kind"),
        ("id_header", "X-Acme-Id"),
        ("time_path", "at"),
    ];
    served
        .change("open", |node, source| {
            source.verify = Verify::Signature;
            source.scheme = settings
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into();
            source.secrets = vec![sealed(node, source, SECRET)];
        })
        .await;
    let body = br#"{"kind":"made","at":"2023-11-14T22:13:20Z"}"#;
    let headers = [
        ("X-Acme", &*format!("sha256={}", signature(body))),
        ("X-Acme-Id", "7"),
    ];
    assert_eq!(served.ask(post("/in/open", &headers, body)).await.status, 200);
    let event = &served.events().await[0].event;
    assert_eq!(
        (event.provider_id.as_deref(), event.event_type.as_deref()),
        (Some("7"), Some("made"))
    );
    assert_eq!(event.occurred_at.unwrap().as_secs(), 1_700_000_000);
    assert_eq!(served.ask(post("/in/open", &headers, b"{}")).await.status, 401);
}
