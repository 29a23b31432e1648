//! Events: what came in, byte for byte.
//!
//! Owns the immutable record of one notification and the compact form of its headers. Must not know how it
//! came (HTTP, API) nor what its body means.

use bytes::{BufMut, Bytes, BytesMut};

use crate::id::{ApplicationId, EventId, SourceId};
use crate::time::Timestamp;

/// One notification, immutable.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Event {
    /// Our identifier.
    pub id: EventId,
    /// The tenant that owns the source.
    pub application: ApplicationId,
    /// Where it came in.
    pub source: SourceId,
    /// The provider's own identifier, where it has one.
    pub provider_id: Option<String>,
    /// The event type, where one is known.
    pub event_type: Option<String>,
    /// When the provider says that it happened.
    pub occurred_at: Option<Timestamp>,
    /// When it was taken in, before it was stored.
    pub accepted_at: Timestamp,
    /// The headers as they came: order, case and repetitions kept.
    pub headers: HeaderBlock,
    /// The body as it came.
    pub body: Bytes,
}

/// A list of headers in one piece of memory: for each, two big-endian lengths (16 and 32 bits), name, value.
///
/// Stores keep it as it is; nothing is parsed between accepting an event and delivering it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct HeaderBlock(Bytes);

impl HeaderBlock {
    /// Packs `headers` in their order. A name longer than 65,535 bytes is left out: HTTP never lets one in.
    pub fn pack<'a>(headers: impl IntoIterator<Item = (&'a [u8], &'a [u8])>) -> Self {
        let mut packed = BytesMut::with_capacity(512);
        for (name, value) in headers {
            let (Ok(name_length), Ok(value_length)) = (u16::try_from(name.len()), u32::try_from(value.len()))
            else {
                continue;
            };
            packed.put_u16(name_length);
            packed.put_u32(value_length);
            packed.put_slice(name);
            packed.put_slice(value);
        }
        Self(packed.freeze())
    }

    /// The block that a store kept. What cannot be read of it is passed over by [`HeaderBlock::iter`].
    #[must_use]
    pub fn from_packed(packed: Bytes) -> Self {
        Self(packed)
    }

    /// The packed form, for a store to keep.
    #[must_use]
    pub fn packed(&self) -> &Bytes {
        &self.0
    }

    /// The headers in the order they came, repetitions included.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut rest: &[u8] = &self.0;
        std::iter::from_fn(move || {
            let (lengths, after) = rest.split_at_checked(6)?;
            let name_length = usize::from(u16::from_be_bytes([lengths[0], lengths[1]]));
            let value_length = u32::from_be_bytes([lengths[2], lengths[3], lengths[4], lengths[5]]);
            let (name, after) = after.split_at_checked(name_length)?;
            let (value, after) = after.split_at_checked(usize::try_from(value_length).ok()?)?;
            rest = after;
            Some((name, value))
        })
    }

    /// The first value of the header `name`, compared without regard to case.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.iter()
            .find(|(candidate, _)| candidate.eq_ignore_ascii_case(name.as_bytes()))
            .map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_keep_order_case_and_repetitions() {
        let given: [(&[u8], &[u8]); 3] = [(b"X-One", b"1"), (b"x-one", b""), (b"Two", b"\xff\x00")];
        let block = HeaderBlock::pack(given);
        assert_eq!(block.iter().collect::<Vec<_>>(), given);
        assert_eq!(block.get("x-ONE"), Some(&b"1"[..]));
        assert_eq!(HeaderBlock::from_packed(block.packed().clone()), block);
    }

    #[test]
    fn a_damaged_block_ends_early_instead_of_panicking() {
        let whole = HeaderBlock::pack([(&b"name"[..], &b"value"[..])]);
        for length in 0..whole.packed().len() {
            let cut = HeaderBlock::from_packed(whole.packed().slice(..length));
            assert_eq!(cut.iter().count(), 0);
        }
    }
}
