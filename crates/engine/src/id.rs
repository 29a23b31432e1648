//! Public identifiers: a `UUIDv7` behind a prefix of its kind, such as `evt_019…`.
//!
//! Owns their form, their text and their order. Must not know where the time or the chance in them comes
//! from: both are arguments. An id never says what it may be used for; access is checked where it is used.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// Why a text is not an identifier.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{text}` is not an id of this kind: expected `{prefix}_` and 32 hexadecimal digits")]
pub struct IdError {
    text: String,
    prefix: &'static str,
}

/// A `UUIDv7` (RFC 9562 section 5.7): 48 bits of milliseconds, then 74 bits of `low`.
fn version_7(at: Timestamp, low: u128) -> u128 {
    const RANDOM_A_BITS: u128 = 0xfff;
    const RANDOM_B_BITS: u128 = (1 << 62) - 1;
    let millis = (at.as_millis().max(0).cast_unsigned() as u128) & ((1 << 48) - 1);
    let random_a = (low >> 62) & RANDOM_A_BITS;
    (millis << 80) | (0x7 << 76) | (random_a << 64) | (0b10 << 62) | (low & RANDOM_B_BITS)
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident = $prefix:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub struct $name(u128);

        impl $name {
            /// What stands before the underscore in the text of such an id.
            pub const PREFIX: &'static str = $prefix;

            /// A new id made at `at` from 74 bits of `entropy`.
            #[must_use]
            pub fn new(at: Timestamp, entropy: u128) -> Self {
                Self(version_7(at, entropy))
            }

            /// The id with these bits, as a store kept it.
            #[must_use]
            pub const fn from_u128(bits: u128) -> Self {
                Self(bits)
            }

            /// The bits of the id, as a store keeps it.
            #[must_use]
            pub const fn as_u128(self) -> u128 {
                self.0
            }

            /// When the id was made, to the millisecond.
            #[must_use]
            pub fn made_at(self) -> Timestamp {
                let millis = i64::try_from(self.0 >> 80).unwrap_or(0);
                Timestamp::from_micros(millis.saturating_mul(1_000))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(formatter, concat!($prefix, "_{:032x}"), self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, formatter)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                parse(text, $prefix).map(Self).ok_or_else(|| IdError {
                    text: text.chars().take(80).collect(),
                    prefix: $prefix,
                })
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}

ids! {
    /// An application: the tenant that owns everything else.
    ApplicationId = "app";
    /// A source of events.
    SourceId = "src";
    /// A destination of events.
    DestinationId = "dst";
    /// An event.
    EventId = "evt";
    /// A delivery: one event to one destination.
    DeliveryId = "dlv";
    /// An API key (not the key itself).
    KeyId = "key";
    /// A replay job.
    ReplayId = "rpl";
    /// An event in quarantine.
    QuarantineId = "qrn";
    /// A notice that people are owed about a destination.
    NoticeId = "ntc";
}

fn parse(text: &str, prefix: &str) -> Option<u128> {
    let digits = text.strip_prefix(prefix)?.strip_prefix('_')?;
    let well_formed = digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    if well_formed {
        u128::from_str_radix(digits, 16).ok()
    } else {
        None
    }
}

impl DeliveryId {
    /// The id of the delivery that the store keeps under `key`, of an event accepted at `accepted_at`.
    ///
    /// The key stands in the id's low bits, so no index is needed to find a delivery by its id.
    #[must_use]
    pub fn of_key(accepted_at: Timestamp, key: crate::delivery::DeliveryKey) -> Self {
        Self(version_7(accepted_at, key.as_i64().cast_unsigned().into()))
    }

    /// The key in the id. It proves nothing: whoever looks it up compares the whole id.
    #[must_use]
    pub fn key(self) -> crate::delivery::DeliveryKey {
        let random_b = self.0 & ((1 << 62) - 1);
        let random_a = (self.0 >> 64) & 0xfff;
        let low = u64::try_from(((random_a & 1) << 62) | random_b).unwrap_or(0);
        crate::delivery::DeliveryKey::from_i64(low.cast_signed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::{DeliveryKey, DestinationNumber, EventSequence};

    #[test]
    fn an_id_survives_its_text_and_keeps_its_time() {
        let at = Timestamp::from_micros(1_790_000_000_123_456);
        let id = EventId::new(at, u128::MAX);
        assert_eq!(id.to_string().parse::<EventId>(), Ok(id));
        assert_eq!(id.made_at(), Timestamp::from_micros(1_790_000_000_123_000));
        assert_eq!(id.to_string().as_bytes()["evt_".len() + 12], b'7');
    }

    #[test]
    fn ids_sort_by_the_time_they_were_made() {
        let early = EventId::new(Timestamp::from_secs(1), u128::MAX);
        let late = EventId::new(Timestamp::from_secs(2), 0);
        assert!(early < late);
    }

    #[test]
    fn a_text_of_another_kind_is_refused() {
        let id = EventId::new(Timestamp::from_secs(1), 1).to_string();
        for wrong in [
            id.replace("evt", "dst"),
            id.replace('_', ""),
            format!("{id}0"),
            String::new(),
            "evt_+1".into(),
        ] {
            assert!(wrong.parse::<EventId>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_delivery_id_carries_its_key() {
        for (sequence, number) in [(1, 0), (1, 1_048_575), ((1 << 43) - 1, 7)] {
            let key = DeliveryKey::new(EventSequence(sequence), DestinationNumber(number));
            assert_eq!(
                DeliveryId::of_key(Timestamp::from_secs(1_790_000_000), key).key(),
                key
            );
        }
    }
}
