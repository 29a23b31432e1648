//! What a notice says: subject, text and HTML.
//!
//! Owns the words. Must not know SMTP, the store or the clock. Both forms are written from the same blocks, so they
//! say the same. Whatever comes from outside (names, URLs, answers) is put on one line and escaped; the HTML loads
//! nothing and sets no background, so it can be read in dark and in light.

use std::fmt::Write as _;
use std::time::Duration;

use hookfast_engine::id::DestinationId;
use hookfast_engine::time::Timestamp;
use hookfast_engine::topology::DEFAULT_APPLICATION;

use crate::units::duration_text;

/// The widest line of the text, in characters.
const WIDTH: usize = 76;
/// The most that is shown of one thing from outside, in characters.
const LONGEST: usize = 300;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// All that one notice tells.
#[derive(Clone, Debug)]
pub struct Letter {
    /// The notice's id, the same on every try: the Message-ID is made of it.
    pub id: u128,
    /// When the status changed.
    pub at: Timestamp,
    /// How it changed.
    pub change: Change,
    /// The destination's id.
    pub destination: DestinationId,
    /// Its name.
    pub name: String,
    /// The name of its application.
    pub application: String,
    /// Where it is, where it has a URL.
    pub url: Option<String>,
    /// When the failures began that this is about.
    pub since: Timestamp,
    /// Why the status changed.
    pub reason: Option<String>,
    /// When it was last tried and what was answered each time, the latest first.
    pub answers: Vec<(Timestamp, String)>,
    /// How many deliveries wait for it.
    pub waiting: u64,
    /// How long what is held is kept.
    pub kept: Duration,
    /// The page where the destination can be seen and reactivated, where there is one.
    pub page: Option<String>,
    /// Whom to tell.
    pub recipients: Vec<String>,
}

/// How a destination's status changed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Change {
    /// From active to failing.
    Failing,
    /// From failing to failed.
    Failed,
    /// From failing to active: an attempt succeeded.
    Recovered,
    /// From failed to active: somebody reactivated it.
    Reactivated,
}

/// What a notice says, in all its forms.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Words {
    /// One line.
    pub subject: String,
    /// For those who read text.
    pub text: String,
    /// For those who read HTML.
    pub html: String,
}

/// A piece of a notice.
enum Block {
    Lead(String),
    Facts(Vec<(&'static str, String)>),
    Heading(&'static str),
    Paragraph(String),
    Command(String),
    Link(String),
    Small(String),
}

/// What `letter` says.
#[must_use]
pub fn words(letter: &Letter) -> Words {
    let name = line(&letter.name);
    let who = match line(&letter.application) {
        application if application == DEFAULT_APPLICATION => name,
        application => format!("{name} ({application})"),
    };
    let subject = match letter.change {
        Change::Failing => format!("[Hookfast] {who} is failing"),
        Change::Failed => format!("[Hookfast] {who} has failed and must be reactivated"),
        Change::Recovered | Change::Reactivated => format!("[Hookfast] {who} is active again"),
    };
    let blocks = blocks(letter);
    Words {
        text: text(&blocks),
        html: html(&subject, &blocks),
        subject,
    }
}

fn blocks(letter: &Letter) -> Vec<Block> {
    let name = line(&letter.name);
    let mut blocks = vec![
        Block::Lead(match letter.change {
            Change::Failing => format!("{name} is failing: almost every attempt to deliver to it fails."),
            Change::Failed => {
                format!("{name} has failed. Nothing is sent to it any more until somebody reactivates it.")
            }
            Change::Recovered => format!("{name} answers again, and everything is sent to it again."),
            Change::Reactivated => format!("{name} was reactivated, and everything is sent to it again."),
        }),
        Block::Facts(facts(letter)),
    ];
    if !letter.answers.is_empty() {
        blocks.push(Block::Heading("The last answers"));
        let answers = letter.answers.iter();
        let said = answers.map(|(at, answer)| format!("{}  {}", time(*at), line(answer)));
        blocks.push(Block::Command(said.collect::<Vec<_>>().join("\n")));
    }
    blocks.push(Block::Heading("What Hookfast does now"));
    blocks.push(Block::Paragraph(what_is_done(letter)));
    match letter.change {
        Change::Failing => {
            blocks.push(Block::Heading("What you can do"));
            blocks.push(Block::Paragraph(
                "Make the application behind the URL succeed again. Hookfast finds out by itself, and tells you."
                    .to_owned(),
            ));
        }
        Change::Failed => blocks.extend(how_to_reactivate(letter)),
        Change::Recovered | Change::Reactivated => {}
    }
    blocks.extend(match (letter.change, &letter.page) {
        (Change::Failing | Change::Recovered | Change::Reactivated, Some(page)) => {
            Some(Block::Link(line(page)))
        }
        (Change::Failed, _) | (_, None) => None,
    });
    blocks.push(Block::Small(format!(
        "You get this message because your address is one of the notification addresses of {name} in Hookfast."
    )));
    blocks
}

fn facts(letter: &Letter) -> Vec<(&'static str, String)> {
    let mut facts = vec![(
        "Destination",
        format!("{} ({})", line(&letter.name), letter.destination),
    )];
    if letter.application != DEFAULT_APPLICATION {
        facts.push(("Application", line(&letter.application)));
    }
    if let Some(url) = &letter.url {
        facts.push(("URL", shown_url(url)));
    }
    let since = time(letter.since);
    match letter.change {
        Change::Failing => facts.push(("Failing since", since)),
        Change::Failed => {
            facts.push(("Failing since", since));
            facts.push(("Failed since", time(letter.at)));
        }
        Change::Recovered | Change::Reactivated => {
            facts.push(("Was failing from", since));
            facts.push(("Active since", time(letter.at)));
        }
    }
    if let Some(reason) = &letter.reason {
        facts.push(("Reason", line(reason)));
    }
    facts
}

fn what_is_done(letter: &Letter) -> String {
    let waiting = letter.waiting;
    match letter.change {
        Change::Failing => {
            let wait = match waiting {
                0 => "No delivery waits so far".to_owned(),
                1 => "1 delivery waits".to_owned(),
                _ => format!("{waiting} deliveries wait"),
            };
            format!(
                "It tries one delivery at a time, with growing pauses, until one succeeds; then it sends all that \
                 waits. {wait}; none is lost by waiting. Should this go on for 72 hours, the destination is marked \
                 as failed and must be reactivated by hand."
            )
        }
        Change::Failed => {
            let held = match waiting {
                0 => "No delivery is held so far".to_owned(),
                1 => "1 delivery is held".to_owned(),
                _ => format!("{waiting} deliveries are held"),
            };
            let kept = in_words(letter.kept);
            format!(
                "It sends nothing. {held}, and so is each one that comes from now on. A delivery that is held for \
                 {kept} is discarded."
            )
        }
        Change::Recovered | Change::Reactivated => {
            let sent = match waiting {
                0 => return "Nothing waits. There is nothing you need to do.".to_owned(),
                1 => "1 delivery waits and is sent now.".to_owned(),
                _ => format!(
                    "{waiting} deliveries wait and are sent now, slowly at first and faster while they succeed."
                ),
            };
            format!("{sent} There is nothing you need to do.")
        }
    }
}

fn how_to_reactivate(letter: &Letter) -> Vec<Block> {
    let mut command = format!("hookfast webhook reactivate {}", quoted(&line(&letter.name)));
    if letter.application != DEFAULT_APPLICATION {
        // Writing to a text does not fail.
        let _ = write!(command, " --application {}", quoted(&line(&letter.application)));
    }
    let mut blocks = vec![
        Block::Heading("How to reactivate it"),
        Block::Paragraph(
            "First make the application behind the URL answer again. Then run this on the machine that Hookfast \
             runs on, or elsewhere with --server and --key:"
                .to_owned(),
        ),
        Block::Command(command),
    ];
    if let Some(page) = &letter.page {
        blocks.push(Block::Paragraph("or do it on this page:".to_owned()));
        blocks.push(Block::Link(line(page)));
    }
    blocks.push(Block::Paragraph(
        "Hookfast then checks the URL with a challenge. What is held is sent slowly, or discarded, as you choose."
            .to_owned(),
    ));
    blocks
}

/// `text` from outside as one line that cannot act on what stands around it: no line ends, no controls, nothing that
/// turns the direction of writing.
fn line(text: &str) -> String {
    let acts = |one: char| {
        one.is_control()
            || matches!(one, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}')
            || ('\u{202a}'..='\u{202e}').contains(&one)
            || ('\u{2066}'..='\u{2069}').contains(&one)
    };
    let plain: String = text
        .chars()
        .map(|one| if acts(one) { ' ' } else { one })
        .collect();
    let plain = plain.trim();
    match plain.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &plain[..end]),
        None => plain.to_owned(),
    }
}

/// A URL without what may be secret in it: user, password and query.
fn shown_url(url: &str) -> String {
    let Ok(mut parsed) = url::Url::parse(url) else {
        return line(url.split(['?', '#']).next().unwrap_or_default());
    };
    let had_query = parsed.query().is_some();
    parsed.set_query(None);
    parsed.set_fragment(None);
    // These fail for URLs that have no host, and so no user either.
    let _ = parsed.set_username("");
    let _ = parsed.set_password(None);
    line(&format!("{parsed}{}", if had_query { "?…" } else { "" }))
}

/// A time for people, in UTC.
fn time(at: Timestamp) -> String {
    match jiff::Timestamp::from_second(at.as_secs()) {
        Ok(time) => time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
        // Beyond the years that calendars know; such a time is never stored.
        Err(_) => "a time that cannot be written".to_owned(),
    }
}

fn in_words(length: Duration) -> String {
    match length.as_secs() / DAY.as_secs() {
        1 if length == DAY => "1 day".to_owned(),
        days if length == Duration::from_secs(days * DAY.as_secs()) => format!("{days} days"),
        _ => duration_text(length),
    }
}

/// A word as a shell reads it back.
fn quoted(word: &str) -> String {
    let plain = |one: char| one.is_ascii_alphanumeric() || matches!(one, '-' | '_' | '.');
    if !word.is_empty() && !word.starts_with('-') && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

fn text(blocks: &[Block]) -> String {
    let mut text = String::new();
    for block in blocks {
        let piece = match block {
            Block::Lead(said) | Block::Paragraph(said) => wrapped(said),
            Block::Facts(facts) => {
                let widest = facts.iter().map(|(label, _)| label.len()).max().unwrap_or(0) + 1;
                let lines = facts
                    .iter()
                    .map(|(label, value)| format!("  {:<widest$} {value}", format!("{label}:")));
                lines.collect::<Vec<_>>().join("\n")
            }
            Block::Heading(said) => format!("{said}\n{}", "-".repeat(said.len())),
            Block::Command(lines) => {
                let lines = lines.lines().map(|line| format!("  {line}"));
                lines.collect::<Vec<_>>().join("\n")
            }
            Block::Link(url) => format!("  {url}"),
            Block::Small(said) => format!("-- \n{}", wrapped(said)),
        };
        text.push_str(&piece);
        text.push_str(if matches!(block, Block::Heading(_)) {
            "\n"
        } else {
            "\n\n"
        });
    }
    format!("{}\n", text.trim_end())
}

fn wrapped(said: &str) -> String {
    let mut lines = vec![String::new()];
    for word in said.split_whitespace() {
        let last = lines.len() - 1;
        let length = lines[last].chars().count();
        if length > 0 && length + 1 + word.chars().count() > WIDTH {
            lines.push(word.to_owned());
        } else {
            let space = if length > 0 { " " } else { "" };
            lines[last] = format!("{}{space}{word}", lines[last]);
        }
    }
    lines.join("\n")
}

fn html(subject: &str, blocks: &[Block]) -> String {
    const BODY: &str = "margin:0 auto;max-width:42em;padding:1em;font:16px/1.5 system-ui,-apple-system,'Segoe UI',Roboto,sans-serif";
    const MONO: &str = "margin:0;padding:.6em .8em;border-left:3px solid #888;white-space:pre-wrap;\
         overflow-wrap:anywhere;font:14px/1.5 ui-monospace,Menlo,Consolas,monospace";
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{}</title>\n</head>\n<body style=\"{BODY}\">\n",
        escaped(subject)
    );
    for block in blocks {
        let piece = match block {
            Block::Lead(said) => {
                format!(
                    "<p style=\"font-size:18px\"><strong>{}</strong></p>",
                    escaped(said)
                )
            }
            Block::Facts(facts) => {
                let row = |(label, value): &(&str, String)| {
                    let cell = "padding:.1em 1em .1em 0;vertical-align:top;text-align:left";
                    format!(
                        "<tr><th scope=\"row\" style=\"{cell};font-weight:normal;white-space:nowrap;opacity:.75\">{label}</th>\
                         <td style=\"{cell};overflow-wrap:anywhere\">{}</td></tr>\n",
                        escaped(value)
                    )
                };
                let rows: String = facts.iter().map(row).collect();
                format!("<table style=\"border-collapse:collapse\">\n{rows}</table>")
            }
            Block::Heading(said) => format!("<h2 style=\"font-size:16px;margin:1.5em 0 .5em\">{said}</h2>"),
            Block::Paragraph(said) => format!("<p style=\"margin:.5em 0\">{}</p>", escaped(said)),
            Block::Command(lines) => format!("<pre style=\"{MONO}\">{}</pre>", escaped(lines)),
            Block::Link(url) if url.starts_with("https://") || url.starts_with("http://") => {
                format!(
                    "<p style=\"margin:.5em 0\"><a href=\"{0}\">{0}</a></p>",
                    escaped(url)
                )
            }
            Block::Link(url) => format!("<p style=\"margin:.5em 0\">{}</p>", escaped(url)),
            Block::Small(said) => format!(
                "<p style=\"margin-top:2em;font-size:13px;opacity:.75\">{}</p>",
                escaped(said)
            ),
        };
        html.push_str(&piece);
        html.push('\n');
    }
    html.push_str("</body>\n</html>\n");
    html
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for one in text.chars() {
        match one {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn letter(change: Change) -> Letter {
        let at = Timestamp::from_secs(1_790_000_000);
        let ago = |seconds| at.minus(Duration::from_secs(seconds));
        Letter {
            id: 0x0199_6b00_0000_7000_8000_0000_0000_0042,
            at,
            change,
            destination: DestinationId::from_u128(0x0195_0000_0000_7000_8000_0000_0000_0007),
            name: "my-app".to_owned(),
            application: DEFAULT_APPLICATION.to_owned(),
            url: Some("https://hooks:canary@app.example.com/hooks?token=canary#canary".to_owned()),
            since: ago(1_020),
            reason: Some("98 % of 1204 attempts over 15 minutes failed".to_owned()),
            answers: vec![
                (ago(2), "502 Bad Gateway".to_owned()),
                (ago(9), "502 Bad Gateway".to_owned()),
                (ago(17), "the connection was refused".to_owned()),
            ],
            waiting: 321,
            kept: Duration::from_secs(30 * 86_400),
            page: None,
            recipients: vec!["ops@example.com".to_owned(), "dev@example.org".to_owned()],
        }
    }

    /// All forms in one text.
    fn shown(letter: &Letter) -> String {
        let Words { subject, text, html } = words(letter);
        format!("{subject}\n\n=== text\n{text}\n=== html\n{html}")
    }

    #[test]
    fn a_failing_destination_is_told_with_its_last_answers_and_what_happens_now() {
        insta::assert_snapshot!(shown(&letter(Change::Failing)));
    }

    #[test]
    fn a_failed_destination_is_told_with_how_to_reactivate_it() {
        let mut letter = letter(Change::Failed);
        letter.application = "acme".to_owned();
        letter.page = Some("https://hooks.example.com/destinations/my-app".to_owned());
        insta::assert_snapshot!(shown(&letter));
    }

    #[test]
    fn recovery_is_told_with_what_waits() {
        let mut letter = letter(Change::Recovered);
        letter.reason = None;
        letter.answers = Vec::new();
        insta::assert_snapshot!(shown(&letter));
    }

    #[test]
    fn a_reactivation_is_told_too() {
        let mut letter = letter(Change::Reactivated);
        letter.answers = Vec::new();
        letter.waiting = 1;
        insta::assert_snapshot!(words(&letter).text);
    }

    #[test]
    fn what_may_be_secret_in_a_url_is_not_shown() {
        for change in [
            Change::Failing,
            Change::Failed,
            Change::Recovered,
            Change::Reactivated,
        ] {
            let shown = shown(&letter(change));
            assert!(!shown.contains("canary"), "{shown}");
            assert!(shown.contains("https://app.example.com/hooks?…"), "{shown}");
        }
        assert_eq!(shown_url("no url?canary"), "no url");
    }

    #[test]
    fn text_from_outside_stays_one_line_and_does_not_turn_around() {
        for (text, expected) in [
            ("plain é 🪝", "plain é 🪝"),
            (" a\r\nb\tc\0d ", "a  b c d"),
            ("a\u{202e}b\u{2067}c\u{2028}d\u{200f}e", "a b c d e"),
        ] {
            assert_eq!(line(text), expected);
        }
        assert_eq!(
            line(&"é".repeat(LONGEST + 1)),
            format!("{}…", "é".repeat(LONGEST))
        );
    }

    #[test]
    fn the_html_loads_nothing_and_escapes_everything() {
        let mut letter = letter(Change::Failed);
        letter.name = "<img src=x onerror=alert(1)>&\"'".to_owned();
        letter.page = Some("javascript:alert(1)".to_owned());
        letter.answers = vec![(letter.at, "</pre><script>".to_owned())];
        let html = words(&letter).html;
        for forbidden in [
            "<img",
            "<script",
            "src=\"",
            "href=\"",
            "url(",
            "background",
            "<link",
        ] {
            assert!(!html.contains(forbidden), "{forbidden}: {html}");
        }
    }

    #[test]
    fn a_command_can_be_pasted_whatever_the_name_is() {
        for (word, expected) in [
            ("my-app", "my-app"),
            ("", "''"),
            ("-rf", "'-rf'"),
            ("a b", "'a b'"),
            ("it's; rm -rf", r"'it'\''s; rm -rf'"),
        ] {
            assert_eq!(quoted(word), expected);
        }
    }

    #[test]
    fn numbers_and_lengths_read_well() {
        let said = |change, waiting| {
            let mut letter = letter(change);
            letter.waiting = waiting;
            what_is_done(&letter)
        };
        assert!(said(Change::Failing, 0).contains("No delivery waits so far; none"));
        assert!(said(Change::Failing, 1).contains(" 1 delivery waits; none"));
        assert!(said(Change::Failed, 0).contains("No delivery is held so far, and so"));
        assert!(said(Change::Failed, 1).contains(" 1 delivery is held, and so"));
        assert!(said(Change::Recovered, 0).starts_with("Nothing waits."));
        for (seconds, expected) in [(86_400, "1 day"), (30 * 86_400, "30 days"), (90 * 60, "1h30m")] {
            assert_eq!(in_words(Duration::from_secs(seconds)), expected);
        }
    }
}
