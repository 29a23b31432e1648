//! Owns the notifications that are sent: a signed body in Nylas's shape, 1 KiB long, with an id of its own each.
//! It must not know who receives them, nor any clock: the time of sending is an argument.

use anyhow::{Context, Result};
use bytes::Bytes;
use hyper::header::HeaderValue;
use ring::hmac;

/// Bytes in every body.
pub(crate) const BODY_BYTES: usize = 1024;
/// The header that carries the signature.
pub(crate) const SIGNATURE_HEADER: &str = "x-nylas-signature";
/// The shared secret of the measured source: the shape of the ones Nylas hands out.
pub(crate) const SECRET: &str = "bE9-benchSecret_1234";

const ID_DIGITS: usize = 32;
const TIME_DIGITS: usize = 20;
const SENT_AT_KEY: &[u8] = b"\"sent_at_ns\":";
const HEX: &[u8; 16] = b"0123456789abcdef";
const PAD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Writes one notification after another: copies a template, patches the id and the time, signs.
pub(crate) struct Notifications {
    template: Vec<u8>,
    id_at: usize,
    time_at: usize,
    key: hmac::Key,
    nonce: u64,
    serial: u64,
}

/// One notification, ready to send.
pub(crate) struct Notification {
    /// The raw body, `BODY_BYTES` long.
    pub(crate) body: Bytes,
    /// The lower-case hex HMAC-SHA256 of the body.
    pub(crate) signature: HeaderValue,
}

impl Notifications {
    /// A stream of notifications whose ids start with `nonce`; two streams with different nonces never share an id.
    pub(crate) fn new(nonce: u64, secret: &str) -> Result<Self> {
        Self::with(nonce, secret, r#""webhook_delivery_attempt":1,"#)
    }

    /// The same, as an application publishes them: nobody has tried to deliver them yet.
    pub(crate) fn to_publish(nonce: u64, secret: &str) -> Result<Self> {
        Self::with(nonce, secret, "")
    }

    fn with(nonce: u64, secret: &str, attempt: &str) -> Result<Self> {
        let head = format!(
            r#"{{"specversion":"1.0","type":"message.created","source":"/google/emails/realtime","id":"{}","time":1790000000,{attempt}"data":{{"sent_at_ns":{},"application_id":"NYLAS_APPLICATION_ID","object":{{"body":""#,
            "0".repeat(ID_DIGITS),
            "1".repeat(TIME_DIGITS),
        );
        let tail = r#"","date":1790000000,"folders":["INBOX","UNREAD"],"from":[{"email":"sender@example.com","name":"Sender"}],"grant_id":"41009df5-bf11-4c97-aa18-b285b5f2e386","id":"17d2b0e1a8c4f3d2","object":"message","starred":false,"subject":"Quarterly figures","thread_id":"17d2b0e1a8c4f3d2","to":[{"email":"reader@example.com","name":"Reader"}],"unread":true}}}"#;
        let pad = BODY_BYTES
            .checked_sub(head.len() + tail.len())
            .context("the template is over 1 KiB")?;
        let id_at = head.find(r#","id":""#).context("the template has no id")? + r#","id":""#.len();
        let time_at = sent_at_position(head.as_bytes()).context("the template has no sent_at_ns")?;
        let mut template = head.into_bytes();
        template.extend(padding(nonce, pad));
        template.extend(tail.as_bytes());
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        Ok(Self {
            template,
            id_at,
            time_at,
            key,
            nonce,
            serial: 0,
        })
    }

    /// The next notification, sent at `sent_at` (nanoseconds since 1970).
    pub(crate) fn next(&mut self, sent_at: u64) -> Result<Notification> {
        write_hex(&mut self.template[self.id_at..], self.nonce);
        write_hex(&mut self.template[self.id_at + 16..], self.serial);
        self.serial += 1;
        write_decimal(
            &mut self.template[self.time_at..self.time_at + TIME_DIGITS],
            sent_at,
        );
        let tag = hmac::sign(&self.key, &self.template);
        let mut digits = [0; 64];
        for (pair, byte) in digits.chunks_exact_mut(2).zip(tag.as_ref()) {
            pair[0] = HEX[usize::from(byte >> 4)];
            pair[1] = HEX[usize::from(byte & 15)];
        }
        Ok(Notification {
            body: Bytes::copy_from_slice(&self.template),
            signature: HeaderValue::from_bytes(&digits)?,
        })
    }
}

/// Whether `signature` (hex) is that of `body` under `key`, in constant time.
pub(crate) fn is_signed(key: &hmac::Key, body: &[u8], signature: &[u8]) -> bool {
    let mut tag = [0; 32];
    if signature.len() != 64 {
        return false;
    }
    for (byte, pair) in tag.iter_mut().zip(signature.chunks_exact(2)) {
        match (hex_digit(pair[0]), hex_digit(pair[1])) {
            (Some(high), Some(low)) => *byte = high << 4 | low,
            _ => return false,
        }
    }
    hmac::verify(key, body, &tag).is_ok()
}

/// When `body` says it was sent, in nanoseconds since 1970.
pub(crate) fn sent_at(body: &[u8]) -> Option<u64> {
    let digits = &body[sent_at_position(body)?..];
    let end = digits.iter().position(|byte| !byte.is_ascii_digit())?;
    std::str::from_utf8(&digits[..end]).ok()?.parse().ok()
}

fn sent_at_position(body: &[u8]) -> Option<usize> {
    body.windows(SENT_AT_KEY.len())
        .position(|window| window == SENT_AT_KEY)
        .map(|at| at + SENT_AT_KEY.len())
}

fn hex_digit(byte: u8) -> Option<u8> {
    (byte as char).to_digit(16).map(|digit| digit as u8)
}

fn write_hex(at: &mut [u8], value: u64) {
    for (index, digit) in at[..16].iter_mut().enumerate() {
        *digit = HEX[(value >> (60 - 4 * index) & 15) as usize];
    }
}

/// Fills the field with the decimal digits of `value`, then spaces: JSON forbids leading zeros and allows those.
fn write_decimal(field: &mut [u8], value: u64) {
    field.fill(b' ');
    let digits = value.checked_ilog10().unwrap_or(0) as usize + 1;
    let mut rest = value;
    for digit in field[..digits].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
}

/// Text that does not compress, so that no server gains by a repetition real mail would not have.
fn padding(seed: u64, length: usize) -> impl Iterator<Item = u8> {
    let mut state = seed | 1;
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        PAD[(state >> 58) as usize]
    })
    .take(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(notification: &Notification) -> serde_json::Value {
        serde_json::from_slice(&notification.body).unwrap()
    }

    #[test]
    fn a_body_is_one_kibibyte_of_json_in_the_order_nylas_writes() {
        let notification = Notifications::new(7, SECRET)
            .unwrap()
            .next(1_790_000_000_123_456_789)
            .unwrap();
        assert_eq!(notification.body.len(), BODY_BYTES);
        let text = std::str::from_utf8(&notification.body).unwrap();
        let keys = [
            "specversion",
            "type",
            "source",
            "id",
            "time",
            "webhook_delivery_attempt",
            "data",
        ];
        let places: Vec<_> = keys
            .iter()
            .map(|key| text.find(&format!("\"{key}\":")).unwrap())
            .collect();
        assert!(places.is_sorted(), "{text}");
        assert_eq!(
            json(&notification)["data"]["sent_at_ns"],
            1_790_000_000_123_456_789u64
        );
    }

    #[test]
    fn each_body_has_its_own_id() {
        let (mut first, mut second) = (
            Notifications::new(0xab, SECRET).unwrap(),
            Notifications::new(0xac, SECRET).unwrap(),
        );
        let ids = [
            first.next(1).unwrap(),
            first.next(1).unwrap(),
            second.next(1).unwrap(),
        ]
        .map(|notification| json(&notification)["id"].as_str().unwrap().to_owned());
        assert_eq!(
            ids,
            [
                "00000000000000ab0000000000000000",
                "00000000000000ab0000000000000001",
                "00000000000000ac0000000000000000",
            ]
        );
    }

    #[test]
    fn the_time_of_sending_is_read_back_whatever_its_length() {
        let mut notifications = Notifications::new(1, SECRET).unwrap();
        for nanos in [0, 9, 10, 1_790_000_000_123_456_789, u64::MAX] {
            assert_eq!(sent_at(&notifications.next(nanos).unwrap().body), Some(nanos));
        }
        assert_eq!(sent_at(b"{}"), None);
    }

    #[test]
    fn the_signature_is_the_hex_hmac_of_the_body_and_of_no_other() {
        let mut notifications = Notifications::new(3, SECRET).unwrap();
        let (first, second) = (notifications.next(1).unwrap(), notifications.next(1).unwrap());
        let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
        assert!(is_signed(&key, &first.body, first.signature.as_bytes()));
        assert!(!is_signed(&key, &second.body, first.signature.as_bytes()));
        assert!(!is_signed(&key, &first.body, b"not hex"));
        assert_eq!(first.signature.len(), 64);
    }

    #[test]
    fn a_known_signature_is_accepted() {
        // RFC 4231, test case 2.
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"Jefe");
        let expected = b"5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert!(is_signed(&key, b"what do ya want for nothing?", expected));
    }
}
