//! The canaries: texts that stand nowhere else, the forms in which one may show, and the search for them.
//! It must not know where they were planted.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};

/// What a canary stands for, and so where it may be seen.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    /// A secret: nobody shows it.
    Secret,
    /// What a sender or a receiver said: only who is asked for exactly that shows it.
    Content,
}

/// A planted text.
#[derive(Clone, Debug)]
pub(crate) struct Canary {
    /// What it stands for.
    pub(crate) what: &'static str,
    /// Where it may be seen.
    pub(crate) kind: Kind,
    /// Each form in which it may show, in lower case, with its name.
    forms: Vec<(&'static str, Vec<u8>)>,
}

impl Canary {
    /// The canary that is this text.
    pub(crate) fn new(what: &'static str, kind: Kind, text: &str) -> Self {
        assert!(text.len() >= 12, "{what}: a short text is found by chance");
        let of_each = |write: fn(u8) -> String| text.bytes().map(write).collect::<String>();
        let mut forms = vec![
            ("as it is", text.to_owned()),
            ("in hex", of_each(|byte| format!("{byte:02x}"))),
            ("percent-encoded", percent_encoded(text)),
            (
                "percent-encoded throughout",
                of_each(|byte| format!("%{byte:02x}")),
            ),
            ("as a list of bytes", of_each(|byte| format!("{byte}, "))),
            ("escaped in JSON", escaped(text)),
        ];
        // Within a longer text it may begin at each of three places of base64's groups; its ends depend on what
        // stands beside it, so they are left out.
        for (name, before) in [
            ("in base64", ""),
            ("in base64, moved by one", "x"),
            ("in base64, moved by two", "xx"),
        ] {
            for engine in [&STANDARD, &URL_SAFE] {
                let whole = engine.encode(format!("{before}{text}"));
                let ends = whole.len() - 4;
                forms.push((name, whole[before.len() * 2..ends].to_owned()));
            }
        }
        let forms = forms
            .into_iter()
            .map(|(name, form)| {
                (
                    name,
                    form.to_ascii_lowercase()
                        .trim_end_matches([',', ' '])
                        .as_bytes()
                        .to_vec(),
                )
            })
            .collect();
        Self { what, kind, forms }
    }

    /// The form in which `bytes` show it, where they do.
    pub(crate) fn shown_in(&self, lower_case: &[u8]) -> Option<&'static str> {
        let found = self.forms.iter().find(|(_, form)| contains(lower_case, form));
        found.map(|(name, _)| *name)
    }
}

fn percent_encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~');
    let each = text.bytes().map(|byte| match plain(byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02x}"),
    });
    each.collect()
}

fn escaped(text: &str) -> String {
    let quoted = serde_json::to_string(text).expect("a text is JSON");
    quoted[1..quoted.len() - 1].to_owned()
}

/// Whether `needle` stands in `bytes`. Its first byte is looked for first: logs are long.
fn contains(bytes: &[u8], needle: &[u8]) -> bool {
    let Some((first, rest)) = needle.split_first() else {
        return false;
    };
    let starts = bytes.iter().enumerate().filter(|(_, byte)| *byte == first);
    starts
        .map(|(at, _)| &bytes[at + 1..])
        .any(|after| after.starts_with(rest))
}

#[test]
fn a_canary_is_found_in_every_form_and_its_absence_is_too() {
    let text = "c4n/ry+of \"tests\"=";
    let canary = Canary::new("a test's", Kind::Secret, text);
    let found = |text: &str| canary.shown_in(text.to_ascii_lowercase().as_bytes());
    let json = serde_json::json!({ "inside": format!("before {text} after") }).to_string();
    let hex: String = text.bytes().map(|byte| format!("{byte:02X}")).collect();
    let url = url::Url::parse_with_params("http://x/", [("q", text)]).expect("a URL");
    for form in [
        text.to_owned(),
        json,
        format!("signature={hex}"),
        format!("{:?}", text.as_bytes()),
        url.as_str().replace('+', "%20"),
        STANDARD.encode(text),
        STANDARD.encode(format!("user:{text}")),
        STANDARD.encode(format!("users:{text} and more")),
        URL_SAFE.encode(format!("user1.{text}!")),
        text.to_uppercase(),
    ] {
        assert!(found(&form).is_some(), "{form}");
    }
    assert_eq!(found("c4n/ry of tests, and other words"), None);
}
