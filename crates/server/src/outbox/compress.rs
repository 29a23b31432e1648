//! The compressed form of a notification.
//!
//! Owns that the same bytes always compress to the same bytes. Must not know what they are: the signature is
//! made over what comes out of here (SPEC O2).

use std::io::Read;

use bytes::Bytes;
use flate2::Compression;
use flate2::bufread::GzEncoder;

/// `bytes` in the gzip format (RFC 1952), with neither a time nor a name in its header.
#[must_use]
pub fn gzip(bytes: &[u8]) -> Bytes {
    let mut packed = Vec::with_capacity(bytes.len() / 4 + 64);
    GzEncoder::new(bytes, Compression::default())
        .read_to_end(&mut packed)
        .unwrap_or_else(|error| unreachable!("memory is read and written without fail: {error}"));
    Bytes::from(packed)
}

#[cfg(test)]
mod tests {
    use flate2::bufread::GzDecoder;

    use super::*;

    fn unpacked(packed: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        GzDecoder::new(packed).read_to_end(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn what_is_packed_unpacks_to_the_same_bytes() {
        let large: Vec<u8> = (0..1_000_000_u32).map(|each| (each % 251) as u8).collect();
        for bytes in [&b""[..], b"{}", &large] {
            assert_eq!(unpacked(&gzip(bytes)), bytes);
        }
        assert!(gzip(&large).len() < large.len() / 10);
    }

    #[test]
    fn the_header_holds_nothing_that_changes_with_time_or_place() {
        let packed = gzip(b"{\"a\":1}");
        let (magic, deflate, no_flags, no_time, unknown_system) = (&[0x1f, 0x8b], 8, 0, [0; 4], 255);
        assert_eq!(&packed[..2], magic);
        assert_eq!((packed[2], packed[3]), (deflate, no_flags));
        assert_eq!(packed[4..8], no_time);
        assert_eq!(packed[9], unknown_system);
        assert_eq!(packed, gzip(b"{\"a\":1}"));
    }
}
