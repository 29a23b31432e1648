//! Handshakes: requests by which a provider asks whether this URL wants its webhooks (SPEC I5).
//!
//! Owns turning a provider's handshakes into answers. They are counted and logged, never stored. Must not
//! verify signatures: a handshake that needs one is asked for after the check.

use hookfast_signature::{Answer, Handshake, HandshakeRefusal, Request};

use super::scan::Scan;
use super::verify::{Notification, Packed, Verifier};

/// The answer to `notification`, where it is one of the source's handshakes. `signed` says whether its
/// signature was checked; the others of the provider's handshakes are looked at only without.
///
/// # Errors
/// Why it is not answered as asked.
pub fn answer(
    verifier: &Verifier,
    notification: &Notification,
    signed: bool,
) -> Option<Result<Answer, HandshakeRefusal>> {
    let handshakes = verifier.provider()?.handshakes;
    if handshakes.is_empty() {
        return None;
    }
    let packed = Packed(&notification.headers);
    let request = Request {
        method: notification.method.as_str(),
        url: Some(&notification.target),
        headers: &packed,
        body: &notification.body,
    };
    let field = |path: &[&str]| field(&notification.body, path);
    let due = |handshake: &&Handshake| handshake.needs_signature() == signed;
    let mut answers = handshakes.iter().filter(due);
    answers.find_map(|handshake| handshake.answer(&request, &field))
}

fn field(body: &[u8], path: &[&str]) -> Option<String> {
    let path = path.iter().map(|name| (*name).to_owned().into()).collect();
    Scan::of(body, &[path]).value(0).map(str::to_owned)
}
