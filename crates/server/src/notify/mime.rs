//! A letter as an e-mail to one recipient: headers and MIME (RFC 5322, RFC 2046).
//!
//! Owns the headers. Must not choose words. Each recipient gets a mail of their own, so that none learns the
//! others' addresses and one that is refused costs no other. The same letter always gives the same bytes, so that
//! a mail that is sent again after a crash is seen to be the same one.

use std::time::{Duration, SystemTime};

use lettre::Address;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Mailbox, Message, MultiPart, MultiPartKind, SinglePart};

use super::message::{Letter, Words};

/// An e-mail, ready to be sent.
#[derive(Clone, Debug)]
pub struct Mail {
    /// Whom it goes to.
    pub to: Address,
    /// The headers and the body.
    pub bytes: Vec<u8>,
}

/// Says that no person wrote it, so that no machine answers it (RFC 3834).
const AUTO_SUBMITTED: HeaderName = HeaderName::new_from_ascii_str("Auto-Submitted");

/// The e-mail to the recipient at this place of the letter.
///
/// # Errors
/// Where the recipient is no address that can be written to.
pub fn compose(letter: &Letter, words: &Words, from: &Mailbox, place: usize) -> Result<Mail, String> {
    let to = letter.recipients.get(place).map_or("", String::as_str);
    let to = address(to)?;
    let id = letter.id;
    let domain = from.email.domain();
    let micros = u64::try_from(letter.at.as_micros()).unwrap_or(0);
    let part = |kind: ContentType, content: &str| SinglePart::builder().header(kind).body(content.to_owned());
    let body = MultiPart::builder()
        .kind(MultiPartKind::Alternative)
        .boundary(format!("notice-{id:032x}"))
        .singlepart(part(ContentType::TEXT_PLAIN, &words.text))
        .singlepart(part(ContentType::TEXT_HTML, &words.html));
    let message = Message::builder()
        .message_id(Some(format!("<{id:032x}.{place}@{domain}>")))
        .date(SystemTime::UNIX_EPOCH + Duration::from_micros(micros))
        .from(from.clone())
        .to(to.clone().into())
        .subject(words.subject.as_str())
        .raw_header(HeaderValue::new(AUTO_SUBMITTED, "auto-generated".to_owned()))
        .multipart(body)
        .map_err(|error| error.to_string())?;
    Ok(Mail {
        to,
        bytes: message.formatted(),
    })
}

/// An address that can stand in a header and in a command to a server, its domain in the form that all understand.
fn address(text: &str) -> Result<Address, String> {
    let harmless = |one: char| !one.is_control() && !one.is_whitespace() && !matches!(one, '<' | '>' | '"');
    let parsed: Option<Address> = text.parse().ok().filter(|_| text.chars().all(harmless));
    let address = parsed.ok_or_else(|| "it is not an e-mail address".to_owned())?;
    match url::Host::parse(address.domain()) {
        Ok(url::Host::Domain(ascii)) => {
            Address::new(address.user(), ascii).map_err(|error| error.to_string())
        }
        Ok(url::Host::Ipv4(_) | url::Host::Ipv6(_)) | Err(_) => Ok(address),
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::tests::letter;
    use super::super::message::{Change, words};
    use super::*;

    fn composed(letter: &Letter, place: usize) -> Result<String, String> {
        let from = "Hookfast <hooks@example.com>".parse().unwrap();
        let mail = compose(letter, &words(letter), &from, place)?;
        Ok(String::from_utf8(mail.bytes).unwrap())
    }

    #[test]
    fn a_mail_says_who_what_and_when_and_is_the_same_every_time() {
        let letter = letter(Change::Failing);
        let mail = composed(&letter, 1).unwrap();
        assert_eq!(mail, composed(&letter, 1).unwrap());
        let (head, _) = mail.split_once("\r\n\r\n").unwrap();
        insta::assert_snapshot!(head.replace("\r\n", "\n"));
        assert!(mail.is_ascii());
        assert!(
            mail.split("\r\n")
                .all(|line| line.len() <= 998 && !line.contains('\n'))
        );
    }

    #[test]
    fn recipients_do_not_see_each_other() {
        let letter = letter(Change::Failed);
        for (place, own) in letter.recipients.iter().enumerate() {
            let mail = composed(&letter, place).unwrap();
            for other in letter.recipients.iter().filter(|other| *other != own) {
                assert!(!mail.contains(other), "{mail}");
            }
        }
    }

    #[test]
    fn what_is_no_address_is_refused_and_never_gets_into_a_mail() {
        for wrong in [
            "",
            "nobody",
            "a@",
            "@example.com",
            "a b@example.com",
            "Ann <ann@example.com>",
            "a@example.com\r\nBcc: b@example.com",
            "a@example.com\n",
            "a@example.com> SIZE=1\r\nRCPT TO:<b@example.com",
            "\"a\r\nb\"@example.com",
            "a@example.com,b@example.com",
        ] {
            let mut letter = letter(Change::Failing);
            letter.recipients = vec![wrong.to_owned()];
            assert!(composed(&letter, 0).is_err(), "{wrong:?}");
        }
        assert!(composed(&letter(Change::Failing), 9).is_err());
    }

    #[test]
    fn nothing_that_comes_from_outside_can_add_a_header() {
        let evil = "x\r\nBcc: canary@example.com\r\n\r\n\u{85}\u{2028}<script>alert(1)</script>";
        let mut letter = letter(Change::Failing);
        letter.name = evil.to_owned();
        letter.application = evil.to_owned();
        letter.reason = Some(evil.to_owned());
        letter.url = Some(evil.to_owned());
        letter.page = Some(evil.to_owned());
        letter.answers = vec![(letter.at, evil.to_owned())];
        let mail = composed(&letter, 0).unwrap();
        let (head, _) = mail.split_once("\r\n\r\n").unwrap();
        let names: Vec<_> = head
            .split("\r\n")
            .filter(|line| !line.starts_with(' '))
            .filter_map(|line| line.split_once(':'))
            .map(|(name, _)| name)
            .collect();
        assert_eq!(
            names,
            [
                "Message-ID",
                "Date",
                "From",
                "To",
                "Subject",
                "Auto-Submitted",
                "MIME-Version",
                "Content-Type"
            ]
        );
        assert!(
            !words(&letter).html.contains("<script"),
            "{}",
            words(&letter).html
        );
        assert!(words(&letter).text.lines().all(|line| !line.starts_with("Bcc")));
    }
}
