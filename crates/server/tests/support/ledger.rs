//! Owns the account of what was acknowledged against what was delivered (SPEC P1, P2).
//! It must not know how either came about.

use std::collections::BTreeMap;

use super::app::App;
use super::load::Sent;
use super::nylas;

/// Waits until every acknowledged notification has been delivered; then nothing may have been delivered that was not
/// sent, and no body may have changed on the way. Gives how often each id came.
pub(crate) fn check(sent: &Sent, app: &App) -> BTreeMap<String, usize> {
    app.wait_for_ids(&sent.acknowledged);
    for request in app.received() {
        let id = request.webhook_id();
        assert!(sent.posted.contains(id), "`{id}` was delivered and never sent");
        assert!(
            request.body == nylas::notification(id),
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
