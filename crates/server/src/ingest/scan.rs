//! One partial scan of JSON bytes for the few values that accepting needs (DESIGN "accept").
//!
//! Owns finding strings and numbers at given paths without parsing the document. Must not know what the values
//! mean. It reads any bytes without panicking and stops as soon as every path is settled, so what follows may
//! be no JSON at all (SPEC I8).
//!
//! Where an object has a name twice, the first one counts: the scan never looks back, and a later one cannot
//! change what an earlier one said.

use std::borrow::Cow;

/// The most paths in one scan.
pub const MAX_PATHS: usize = 16;
/// The most names in one path, which bounds how deep the scan descends.
pub const MAX_PATH_NAMES: usize = 16;

/// The names on the way to a value; a name of digits also counts into an array.
pub type Path = Vec<Cow<'static, str>>;

/// What a scan found.
#[derive(Debug)]
pub struct Scan<'b> {
    values: [Option<Cow<'b, str>>; MAX_PATHS],
    /// Whether more bytes could have changed nothing: every path is settled, or the document was read to its
    /// end. False where the bytes ended too early or are not JSON.
    pub complete: bool,
}

impl<'b> Scan<'b> {
    /// A scan of nothing.
    #[must_use]
    pub fn empty() -> Self {
        Self {
            values: [const { None }; MAX_PATHS],
            complete: false,
        }
    }

    /// Looks for a string or number at each of `paths` (the first [`MAX_PATHS`] of them).
    #[must_use]
    pub fn of(json: &'b [u8], paths: &[Path]) -> Self {
        let paths = paths.get(..MAX_PATHS).unwrap_or(paths);
        let mut scanner = Scanner {
            bytes: json.strip_prefix(b"\xef\xbb\xbf").unwrap_or(json),
            at: 0,
            paths,
            open: Mask::first(paths.len()),
            scan: Self::empty(),
        };
        let whole = scanner.value(scanner.open, 0);
        let complete = whole.is_some() || scanner.open.is_empty();
        Self {
            complete,
            ..scanner.scan
        }
    }

    /// The value at the path of that index.
    #[must_use]
    pub fn value(&self, path: usize) -> Option<&str> {
        self.values.get(path)?.as_deref()
    }
}

/// A set of paths, by index.
#[derive(Clone, Copy)]
struct Mask(u32);

impl Mask {
    const NONE: Self = Self(0);

    fn first(count: usize) -> Self {
        (0..count.min(MAX_PATHS)).fold(Self::NONE, Self::with)
    }

    fn with(self, index: usize) -> Self {
        Self(self.0 | 1 << index)
    }

    fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    fn is_empty(self) -> bool {
        self.0 == 0
    }

    fn iter(self) -> impl Iterator<Item = usize> {
        (0..MAX_PATHS).filter(move |index| self.0 & (1 << index) != 0)
    }
}

struct Scanner<'b, 'p> {
    bytes: &'b [u8],
    at: usize,
    paths: &'p [Path],
    /// The paths that may still be found.
    open: Mask,
    scan: Scan<'b>,
}

/// `None` ends the scan: nothing is left to be found, the bytes ended, or they are not JSON.
type Step<T = ()> = Option<T>;

impl<'b> Scanner<'b, '_> {
    /// Reads one value that the paths `live` lead to or through; `depth` names of theirs are used up.
    fn value(&mut self, live: Mask, depth: usize) -> Step {
        let ending = self.choose(live, |path| path.len() == depth);
        let passing = self.choose(live, |path| path.len() > depth);
        match self.next_token()? {
            b'{' if !passing.is_empty() => self.object(passing, depth)?,
            b'[' if !passing.is_empty() => self.array(passing, depth)?,
            b'{' | b'[' => self.skip_container()?,
            b'"' => {
                let text = self.string()?;
                if !ending.is_empty() {
                    self.found(ending, text.decode());
                }
            }
            b'-' | b'0'..=b'9' => {
                let text = self.number()?;
                self.found(ending, text.map(Cow::Borrowed));
            }
            b'a'..=b'z' => self.skip_while(|byte| byte.is_ascii_lowercase())?,
            _ => return None,
        }
        self.open = self.open.without(live);
        (!self.open.is_empty() || depth == 0).then_some(())
    }

    fn object(&mut self, live: Mask, depth: usize) -> Step {
        self.at += 1;
        if self.next_token()? == b'}' {
            self.at += 1;
            return Some(());
        }
        loop {
            if self.next_token()? != b'"' {
                return None;
            }
            let name = self.string()?;
            let matching = self.choose(live.and(self.open), |path| {
                path.get(depth).is_some_and(|wanted| name.is(wanted))
            });
            if self.next_token()? != b':' {
                return None;
            }
            self.at += 1;
            self.value(matching, depth + 1)?;
            match self.next_token()? {
                b',' => self.at += 1,
                b'}' => break,
                _ => return None,
            }
        }
        self.at += 1;
        Some(())
    }

    fn array(&mut self, live: Mask, depth: usize) -> Step {
        self.at += 1;
        if self.next_token()? == b']' {
            self.at += 1;
            return Some(());
        }
        for index in 0_usize.. {
            let matching = self.choose(live.and(self.open), |path| {
                path.get(depth).is_some_and(|name| is_index(name, index))
            });
            self.value(matching, depth + 1)?;
            match self.next_token()? {
                b',' => self.at += 1,
                b']' => break,
                _ => return None,
            }
        }
        self.at += 1;
        Some(())
    }

    fn choose(&self, among: Mask, wanted: impl Fn(&Path) -> bool) -> Mask {
        let chosen = among
            .iter()
            .filter(|index| self.paths.get(*index).is_some_and(&wanted));
        chosen.fold(Mask::NONE, Mask::with)
    }

    fn found(&mut self, paths: Mask, value: Option<Cow<'b, str>>) {
        for index in paths.iter() {
            if let Some(slot) = self.scan.values.get_mut(index) {
                slot.clone_from(&value);
            }
        }
    }

    /// The byte at which the next token begins.
    fn next_token(&mut self) -> Step<u8> {
        while let Some(byte) = self.bytes.get(self.at) {
            if !matches!(byte, b' ' | b'\t' | b'\r' | b'\n') {
                return Some(*byte);
            }
            self.at += 1;
        }
        None
    }

    /// Reads a string from its opening quotation mark to past its closing one.
    fn string(&mut self) -> Step<Text<'b>> {
        let start = self.at + 1;
        let mut escaped = false;
        let mut end = start;
        loop {
            match self.bytes.get(end)? {
                b'"' => break,
                b'\\' => {
                    escaped = true;
                    end += 2;
                }
                _ => end += 1,
            }
        }
        self.at = end + 1;
        let raw = self.bytes.get(start..end)?;
        Some(Text { raw, escaped })
    }

    /// Reads a number. One that ends with the bytes may have lost its end and counts for nothing.
    fn number(&mut self) -> Step<Option<&'b str>> {
        let start = self.at;
        self.skip_while(|byte| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E'))?;
        let raw = self.bytes.get(start..self.at)?;
        Some(std::str::from_utf8(raw).ok())
    }

    /// Passes over bytes; nothing where they reach the end.
    fn skip_while(&mut self, inside: impl Fn(u8) -> bool) -> Step {
        let rest = self.bytes.get(self.at..)?;
        self.at += rest.iter().position(|byte| !inside(*byte))?;
        Some(())
    }

    /// Passes over an object or array, however deep it is.
    fn skip_container(&mut self) -> Step {
        let mut depth = 0_usize;
        loop {
            match self.bytes.get(self.at)? {
                b'"' => {
                    self.string()?;
                    continue;
                }
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth = depth.checked_sub(1)?,
                _ => {}
            }
            self.at += 1;
            if depth == 0 {
                return Some(());
            }
        }
    }
}

fn is_index(name: &str, index: usize) -> bool {
    name.bytes().all(|byte| byte.is_ascii_digit()) && name.parse() == Ok(index)
}

/// A JSON string between its quotation marks.
struct Text<'b> {
    raw: &'b [u8],
    escaped: bool,
}

impl<'b> Text<'b> {
    fn is(&self, name: &str) -> bool {
        if self.escaped {
            self.decode().is_some_and(|text| text == name)
        } else {
            self.raw == name.as_bytes()
        }
    }

    /// The text; nothing where it is not UTF-8 or an escape is wrong.
    fn decode(&self) -> Option<Cow<'b, str>> {
        let raw = std::str::from_utf8(self.raw).ok()?;
        if !self.escaped {
            return Some(Cow::Borrowed(raw));
        }
        let mut text = String::with_capacity(raw.len());
        let mut rest = raw;
        while let Some((before, after)) = rest.split_once('\\') {
            text.push_str(before);
            let mut characters = after.chars();
            let escape = characters.next()?;
            rest = characters.as_str();
            let character = match escape {
                '"' | '\\' | '/' => escape,
                'b' => '\u{8}',
                'f' => '\u{c}',
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                'u' => unicode_escape(&mut rest)?,
                _ => return None,
            };
            text.push(character);
        }
        text.push_str(rest);
        Some(Cow::Owned(text))
    }
}

/// The character of `XXXX` or `XXXX\\uXXXX` at the start of `rest`, which moves past it.
fn unicode_escape(rest: &mut &str) -> Option<char> {
    let first = code_unit(rest)?;
    let high_surrogate = matches!(first, 0xd800..=0xdbff);
    let second = if high_surrogate {
        *rest = rest.strip_prefix("\\u")?;
        Some(code_unit(rest)?)
    } else {
        None
    };
    let units = std::iter::once(first).chain(second);
    char::decode_utf16(units).next()?.ok()
}

fn code_unit(rest: &mut &str) -> Option<u16> {
    let (digits, after) = rest.split_at_checked(4)?;
    *rest = after;
    let hexadecimal = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    u16::from_str_radix(digits, 16).ok().filter(|_| hexadecimal)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn path(text: &str) -> Path {
        text.split('.').map(|name| Cow::Owned(name.to_owned())).collect()
    }

    fn find(json: &str, wanted: &str) -> Option<String> {
        Scan::of(json.as_bytes(), &[path(wanted)])
            .value(0)
            .map(str::to_owned)
    }

    #[test]
    fn values_are_found_by_their_path() {
        let table = [
            (r#"{"id":"a"}"#, "id", Some("a")),
            (r#" { "x" : [ 1 , {"id":"no"} ] , "id" : "a" } "#, "id", Some("a")),
            (r#"{"data":{"id":7},"id":"a"}"#, "data.id", Some("7")),
            (
                r#"{"data":{"object":{"id":"deep"}}}"#,
                "data.object.id",
                Some("deep"),
            ),
            (r#"[{"id":"first"},{"id":"second"}]"#, "1.id", Some("second")),
            (r#"{"1":"name"}"#, "1", Some("name")),
            (
                r#"{"id":"a\"\\\/\n\u00e9\ud83d\ude00"}"#,
                "id",
                Some("a\"\\/\n\u{e9}\u{1f600}"),
            ),
            (r#"{"\u0069d":"a"}"#, "id", Some("a")),
            (r#"{"id":-1.5e3}"#, "id", Some("-1.5e3")),
            (r#"{"id":true}"#, "id", None),
            (r#"{"id":null,"x":1}"#, "id", None),
            (r#"{"id":{"id":"inner"}}"#, "id", None),
            (r#"{"data":"text"}"#, "data.id", None),
            (r#"{"id":"\ud83d"}"#, "id", None),
            (r#"{"id":"\q"}"#, "id", None),
            (r#"{"id":"cut"#, "id", None),
            (r#"{"id":12"#, "id", None),
            ("", "id", None),
            ("not json", "id", None),
            ("\u{feff}{\"id\":\"a\"}", "id", Some("a")),
            (r#"{"id":"a"} and then no JSON"#, "id", Some("a")),
        ];
        for (json, wanted, expected) in table {
            assert_eq!(find(json, wanted).as_deref(), expected, "{wanted} in {json}");
        }
    }

    #[test]
    fn the_first_of_two_equal_names_counts() {
        assert_eq!(find(r#"{"id":"a","id":"b"}"#, "id").as_deref(), Some("a"));
        assert_eq!(find(r#"{"id":null,"id":"b"}"#, "id"), None);
        assert_eq!(find(r#"{"data":{},"data":{"id":"b"}}"#, "data.id"), None);
    }

    #[test]
    fn a_scan_is_complete_once_nothing_more_can_be_found() {
        let complete = |json: &str| Scan::of(json.as_bytes(), &[path("id"), path("type")]).complete;
        assert!(complete(r#"{"id":1,"type":"x","data":"#));
        assert!(complete(r#"{"id":1}"#));
        assert!(!complete(r#"{"id":1,"ty"#));
        assert!(!complete(r#"{"id":1,"type":"#));
        assert!(!complete("oops"));
    }

    #[test]
    fn deep_nesting_neither_overflows_nor_hides_what_follows() {
        let deep = format!(
            r#"{{"x":{}{},"id":"a"}}"#,
            "[".repeat(200_000),
            "]".repeat(200_000)
        );
        assert_eq!(find(&deep, "id").as_deref(), Some("a"));
        let open = "[".repeat(200_000);
        assert_eq!(find(&open, "0.0.0.id"), None);
    }

    const NAMES: [&str; 5] = ["id", "type", "data", "0", "a\"\\\u{e9}\n"];

    fn document() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            ".{0,8}".prop_map(Value::from),
            r#"[\\"\u{0}-\u{1f}/\u{1f600}]{0,8}"#.prop_map(Value::from),
        ];
        leaf.prop_recursive(5, 64, 6, |inner| {
            let members =
                proptest::collection::btree_map(proptest::sample::select(&NAMES), inner.clone(), 0..5);
            prop_oneof![
                proptest::collection::vec(inner, 0..4).prop_map(Value::from),
                members.prop_map(|members| members
                    .into_iter()
                    .map(|(name, value)| (name.to_owned(), value))
                    .collect()),
            ]
        })
    }

    fn paths() -> impl Strategy<Value = Vec<Path>> {
        let name = proptest::sample::select(&NAMES).prop_map(Cow::Borrowed);
        proptest::collection::vec(proptest::collection::vec(name, 1..4), 1..6)
    }

    /// What `serde_json` finds.
    fn lookup(document: &Value, path: &Path) -> Option<String> {
        let at = path.iter().try_fold(document, |value, name| match value {
            Value::Object(members) => members.get(name.as_ref()),
            Value::Array(items) => items.get(name.parse::<usize>().ok()?),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
        })?;
        match at {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
        }
    }

    proptest! {
        #[test]
        fn it_agrees_with_serde_json(document in document(), paths in paths(), pretty: bool) {
            let text = if pretty { serde_json::to_string_pretty(&document) } else { serde_json::to_string(&document) };
            let text = text.unwrap();
            let scan = Scan::of(text.as_bytes(), &paths);
            for (index, path) in paths.iter().enumerate() {
                let expected = lookup(&document, path);
                prop_assert_eq!(scan.value(index), expected.as_deref(), "{:?} in {}", path, text);
            }
        }

        #[test]
        fn no_bytes_make_it_panic(document in document(), paths in paths(), cut: usize, flips in proptest::collection::vec(any::<(usize, u8)>(), 0..4)) {
            let mut bytes = serde_json::to_vec(&document).unwrap();
            bytes.truncate(cut % (bytes.len() + 1));
            for (at, byte) in flips {
                if !bytes.is_empty() {
                    let at = at % bytes.len();
                    bytes[at] = byte;
                }
            }
            let _ = Scan::of(&bytes, &paths);
        }
    }
}
