//! Hex and base64, strictly: the one alphabet that is due, at the one length that is due.
//!
//! Owns decoding of signatures into caller-given buffers and the naming of what is wrong with them. Must not
//! know headers or schemes.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};

use crate::refusal::Flaw;

/// How a signature is written in its header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// Two digits a byte. Written in lower case; read in either.
    Hex,
    /// The standard alphabet (`+` and `/`) with padding.
    Base64,
}

impl Encoding {
    /// The encoded form of `bytes`.
    pub fn encode(self, bytes: &[u8]) -> String {
        match self {
            Self::Hex => {
                const DIGITS: &[u8; 16] = b"0123456789abcdef";
                let mut text = String::with_capacity(bytes.len() * 2);
                for byte in bytes {
                    text.push(char::from(DIGITS[usize::from(byte >> 4)]));
                    text.push(char::from(DIGITS[usize::from(byte & 15)]));
                }
                text
            }
            Self::Base64 => STANDARD.encode(bytes),
        }
    }

    /// How many characters `bytes` bytes take.
    pub fn encoded_length(self, bytes: usize) -> usize {
        match self {
            Self::Hex => bytes * 2,
            Self::Base64 => bytes.div_ceil(3) * 4,
        }
    }

    /// Decodes text of any length; `None` when it is not in this encoding.
    pub fn decode(self, text: &str) -> Option<Vec<u8>> {
        match self {
            Self::Hex => {
                let mut bytes = vec![0; text.len() / 2];
                (text.len().is_multiple_of(2) && decode_hex(text.as_bytes(), &mut bytes)).then_some(bytes)
            }
            Self::Base64 => STANDARD.decode(text).ok(),
        }
    }

    /// Decodes text that must fill `bytes` exactly.
    pub(crate) fn decode_exactly(self, text: &str, bytes: &mut [u8]) -> Result<(), Flaw> {
        let fits = text.len() == self.encoded_length(bytes.len());
        let decoded = fits
            && match self {
                Self::Hex => decode_hex(text.as_bytes(), bytes),
                Self::Base64 => {
                    matches!(STANDARD.decode_slice(text, bytes), Ok(length) if length == bytes.len())
                }
            };
        if decoded {
            Ok(())
        } else {
            Err(self.flaw(text, bytes.len()))
        }
    }

    /// Says what is wrong with text that did not decode to `length` bytes.
    fn flaw(self, text: &str, length: usize) -> Flaw {
        let other = match self {
            Self::Hex => Self::Base64,
            Self::Base64 => Self::Hex,
        };
        if text.is_empty() {
            return Flaw::Empty;
        }
        if other.decode(text).is_some_and(|bytes| bytes.len() == length) {
            return Flaw::OtherEncoding {
                expected: self,
                found: other,
            };
        }
        let expected = self.encoded_length(length);
        if text.len() != expected {
            return Flaw::WrongLength {
                encoding: self,
                expected,
                found: text.len(),
            };
        }
        let url_safe = self == Self::Base64 && URL_SAFE.decode(text).is_ok();
        Flaw::WrongAlphabet {
            encoding: self,
            url_safe,
        }
    }
}

fn decode_hex(text: &[u8], bytes: &mut [u8]) -> bool {
    fn digit(character: u8) -> Option<u8> {
        match character {
            b'0'..=b'9' => Some(character - b'0'),
            b'a'..=b'f' => Some(character - b'a' + 10),
            b'A'..=b'F' => Some(character - b'A' + 10),
            _ => None,
        }
    }
    text.len() == bytes.len() * 2
        && text.chunks_exact(2).zip(bytes).all(|(pair, byte)| {
            digit(pair[0])
                .zip(digit(pair[1]))
                .map(|(high, low)| *byte = high << 4 | low)
                .is_some()
        })
}

impl fmt::Display for Encoding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Hex => "hex",
            Self::Base64 => "base64",
        })
    }
}

/// The word in a configuration names no known choice.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{found}` is not a {what}; use one of: {choices}")]
pub struct UnknownWord {
    pub(crate) what: &'static str,
    pub(crate) found: String,
    pub(crate) choices: &'static str,
}

impl FromStr for Encoding {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        match text {
            "hex" => Ok(Self::Hex),
            "base64" => Ok(Self::Base64),
            _ => Err(UnknownWord {
                what: "signature encoding",
                found: text.into(),
                choices: "hex, base64",
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(encoding: Encoding, text: &str) -> Result<[u8; 4], Flaw> {
        let mut bytes = [0; 4];
        encoding.decode_exactly(text, &mut bytes).map(|()| bytes)
    }

    #[test]
    fn what_is_encoded_decodes_again() {
        for encoding in [Encoding::Hex, Encoding::Base64] {
            let text = encoding.encode(&[0, 127, 128, 255]);
            assert_eq!(decode(encoding, &text), Ok([0, 127, 128, 255]));
            assert_eq!(text.len(), encoding.encoded_length(4));
        }
        assert_eq!(decode(Encoding::Hex, "007F80ff"), Ok([0, 127, 128, 255]));
    }

    #[test]
    fn a_wrong_encoding_is_named() {
        assert_eq!(decode(Encoding::Hex, ""), Err(Flaw::Empty));
        assert_eq!(
            decode(Encoding::Hex, "AH+A/w=="),
            Err(Flaw::OtherEncoding {
                expected: Encoding::Hex,
                found: Encoding::Base64
            })
        );
        assert_eq!(
            decode(Encoding::Base64, "007f80ff"),
            Err(Flaw::OtherEncoding {
                expected: Encoding::Base64,
                found: Encoding::Hex
            })
        );
        assert_eq!(
            decode(Encoding::Base64, "AH-A_w=="),
            Err(Flaw::WrongAlphabet {
                encoding: Encoding::Base64,
                url_safe: true
            })
        );
        assert_eq!(
            decode(Encoding::Hex, "zzzzzzzz"),
            Err(Flaw::WrongAlphabet {
                encoding: Encoding::Hex,
                url_safe: false
            })
        );
        assert_eq!(
            decode(Encoding::Hex, "00"),
            Err(Flaw::WrongLength {
                encoding: Encoding::Hex,
                expected: 8,
                found: 2
            })
        );
    }
}
