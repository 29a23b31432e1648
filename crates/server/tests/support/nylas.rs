//! Owns notifications in Nylas's shape and their signature, as a provider would send them.
//! It must not know who receives them.

use std::net::SocketAddr;

use ring::hmac;

use super::http::{self, Answer};

/// The shared secret of the tests' source.
pub(crate) const SECRET: &str = "bE9-testSecret_1234";
/// Where the tests' source takes its notifications.
pub(crate) const PATH: &str = "/in/nylas";
/// The header with the signature.
pub(crate) const SIGNATURE_HEADER: &str = "x-nylas-signature";

/// The body of the notification with that id: always the same bytes, so that they can be compared later.
pub(crate) fn notification(id: &str) -> Vec<u8> {
    notification_of("message.created", id, 0)
}

/// The notification with that id as an event to be published: without the attempt's number, which is ours to say.
pub(crate) fn event(id: &str) -> Vec<u8> {
    let notification = String::from_utf8(notification(id)).expect("it is text");
    notification
        .replace(r#""webhook_delivery_attempt":1,"#, "")
        .into_bytes()
}

/// The body of a notification of that type, with so many bytes of text in it.
pub(crate) fn notification_of(kind: &str, id: &str, text_bytes: usize) -> Vec<u8> {
    let text: String = id.chars().cycle().take(text_bytes).collect();
    format!(
        r#"{{"specversion":"1.0","type":"{kind}","source":"/google/emails/realtime","id":"{id}","time":1790000000,"webhook_delivery_attempt":1,"data":{{"application_id":"app","object":{{"body":"{text}","grant_id":"grant","id":"object-{id}","object":"message"}}}}}}"#
    )
    .into_bytes()
}

/// The signature of a body: lower-case hex HMAC-SHA256.
pub(crate) fn sign(secret: &str, body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let tag = hmac::sign(&key, body);
    tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Posts the notification with that id, well signed, on a connection of its own.
pub(crate) fn post(to: SocketAddr, id: &str) -> Answer {
    post_body(to, SECRET, &notification(id))
}

/// Posts a body, signed with that secret, on a connection of its own.
pub(crate) fn post_body(to: SocketAddr, secret: &str, body: &[u8]) -> Answer {
    let signature = sign(secret, body);
    let headers = [
        ("content-type", "application/json"),
        (SIGNATURE_HEADER, signature.as_str()),
    ];
    http::request(to, "POST", PATH, &headers, body)
}

/// Posts the notification with that id; the test fails where it is not acknowledged.
pub(crate) fn deliver(to: SocketAddr, id: &str) {
    let answer = post(to, id);
    assert_eq!(answer.status, 200, "{id}: {}", answer.text());
}

/// A source of Nylas and a destination for its events, as the configuration file says it.
pub(crate) fn config(destination_url: &str) -> String {
    format!(
        "[[source]]\nname = \"nylas\"\nprovider = \"nylas\"\nsecrets = [\"{SECRET}\"]\n\n\
         [[destination]]\nname = \"app\"\nurl = \"{destination_url}\"\nsources = [\"nylas\"]\nallow_private = true\n"
    )
}
