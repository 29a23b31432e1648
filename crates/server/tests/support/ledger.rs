//! Owns the account of what was acknowledged against what was delivered (SPEC P1, P2).
//! It must not know how either came about.

use std::collections::BTreeMap;

use serde_json::Value;

use super::app::App;
use super::load::Sent;
use super::nylas;

/// Waits until every acknowledged notification has been delivered; then nothing may have been delivered that was not
/// sent, and no body may have changed on the way. Gives how often each id came.
pub(crate) fn check(sent: &Sent, app: &App) -> BTreeMap<String, usize> {
    check_bodies(sent, app, |id, body| body == nylas::notification(id))
}

/// The same for what was published: what goes out says which attempt it is, and is the event in all else.
pub(crate) fn check_published(sent: &Sent, app: &App) -> BTreeMap<String, usize> {
    let value = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).expect("it is JSON");
    check_bodies(sent, app, |id, body| {
        let mut sent = value(body);
        let attempt = sent
            .as_object_mut()
            .and_then(|sent| sent.remove("webhook_delivery_attempt"));
        attempt.is_some_and(|attempt| attempt.is_u64()) && sent == value(&nylas::event(id))
    })
}

fn check_bodies(sent: &Sent, app: &App, is_right: impl Fn(&str, &[u8]) -> bool) -> BTreeMap<String, usize> {
    app.wait_for_ids(&sent.acknowledged);
    for request in app.received() {
        let id = request.webhook_id();
        assert!(sent.posted.contains(id), "`{id}` was delivered and never sent");
        assert!(
            is_right(id, &request.body),
            "the body of `{id}` changed on the way: {}",
            String::from_utf8_lossy(&request.body)
        );
    }
    app.counts()
}

/// Like `check`, and each came once only: for a run without a crash or a failed delivery.
pub(crate) fn check_each_once(sent: &Sent, app: &App) {
    let often: Vec<_> = check(sent, app)
        .into_iter()
        .filter(|(_, count)| *count > 1)
        .collect();
    assert!(often.is_empty(), "delivered more than once: {often:?}");
}
