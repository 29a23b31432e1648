//! The targets, by what they read.
//!
//! Owns how an input is cut: its parts lie between bytes 0x1e ("record separator"), so that a corpus can be read and
//! written by people, and a part that is missing is empty.

pub(crate) mod envelope;
pub(crate) mod notification;
pub(crate) mod signature;
pub(crate) mod text;

/// What separates the parts of an input.
const SEPARATOR: u8 = 0x1e;

/// An input that is read part by part.
struct Parts<'a>(&'a [u8]);

impl<'a> Parts<'a> {
    /// The next part.
    fn next(&mut self) -> &'a [u8] {
        let end = self.0.iter().position(|byte| *byte == SEPARATOR);
        let part = &self.0[..end.unwrap_or(self.0.len())];
        self.0 = self.0.get(part.len() + 1..).unwrap_or_default();
        part
    }

    /// The next part as text, what is no UTF-8 replaced.
    fn text(&mut self) -> String {
        String::from_utf8_lossy(self.next()).into_owned()
    }

    /// The next part as headers, one `name: value` in each line. Values keep every byte.
    fn headers(&mut self) -> Vec<(String, Vec<u8>)> {
        let lines = self.next().split(|byte| *byte == b'\n');
        let header = |line: &[u8]| {
            let colon = line.iter().position(|byte| *byte == b':')?;
            let name = std::str::from_utf8(&line[..colon]).ok()?.to_owned();
            Some((name, line[colon + 1..].trim_ascii().to_vec()))
        };
        lines.filter_map(header).collect()
    }

    /// All that is left, separators too.
    fn rest(self) -> &'a [u8] {
        self.0
    }
}
