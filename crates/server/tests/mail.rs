//! Notices by e-mail, given to a real SMTP server (SPEC O7): aiosmtpd as a process, read by Python's email package.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops")]

#[path = "mail/days.rs"]
mod days;
#[path = "mail/smtpd.rs"]
mod smtpd;
mod support;

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use hookfast::clock::Clock;
use hookfast::notify::{self, Change, Letter, Mailer, Notifier, Progress, words};
use hookfast::settings::{Login, Relay, Security, Smtp};
use hookfast::telemetry::{Mailed, Metrics};
use hookfast_engine::id::DestinationId;
use hookfast_engine::time::Timestamp;
use parking_lot::Mutex;
use serde_json::{Value, json};
use smtpd::Smtpd;
use tokio::sync::Notify;

const USER: &str = "hooks@example.com";
/// In no log, error or `Debug`, whatever happens.
const CANARY: &str = "canary-Pässword/1";
/// Longer than anything here takes, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(30);

fn letter(id: u128, recipients: &[&str]) -> Letter {
    let at = Timestamp::from_secs(1_790_000_000);
    Letter {
        id,
        at,
        change: Change::Failed,
        destination: DestinationId::from_u128(7),
        name: "my-app".to_owned(),
        application: "default".to_owned(),
        url: Some("https://app.example.com/hooks".to_owned()),
        since: at.minus(Duration::from_secs(72 * 3_600)),
        reason: Some("Zoë’s server <answers> 502".to_owned()),
        answers: vec![(at, "502 Bad Gateway".to_owned())],
        waiting: 3,
        kept: Duration::from_secs(30 * 86_400),
        page: Some("https://hooks.example.com/destinations/my-app?a=1&b=2".to_owned()),
        recipients: recipients.iter().map(|each| (*each).to_owned()).collect(),
    }
}

fn settings(server: &Smtpd, security: Security, password: Option<&str>) -> Smtp {
    Smtp {
        relay: Relay {
            host: "127.0.0.1".to_owned(),
            port: server.port(),
            security,
            login: password.map(|password| Login {
                user: USER.into(),
                password: password.into(),
            }),
            hello: Some("hooks.example.com".to_owned()),
        },
        from: "Hookfast <hooks@example.com>".parse().unwrap(),
        ca: Some(server.authority()),
    }
}

/// Sends letters as the server would, and shows what was counted and logged.
struct Sender {
    notifier: Notifier,
    metrics: Metrics,
    log: Log,
    _logging: tracing::subscriber::DefaultGuard,
}

impl Sender {
    fn new(smtp: &Smtp) -> Self {
        let log = Log::default();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_ansi(false)
            .with_writer(log.clone())
            .finish();
        let logging = tracing::subscriber::set_default(subscriber);
        let metrics = Metrics::new();
        let mailer = Mailer::new(smtp).unwrap();
        let debug = format!("{smtp:?} {mailer:?}");
        assert!(!debug.contains("canary"), "{debug}");
        Self {
            notifier: Notifier::new(Some(mailer), metrics.clone(), Clock),
            metrics,
            log,
            _logging: logging,
        }
    }

    async fn send(&mut self, letter: &Letter) -> Progress {
        let progress = self.notifier.send(letter).await;
        let debug = format!("{:?}", self.notifier);
        assert!(!debug.contains("canary"), "{debug}");
        progress
    }

    /// How many mails came to each result.
    fn counted(&self) -> Value {
        counted(&self.metrics)
    }

    /// The log, which never holds the password in any form.
    fn log(&self) -> String {
        let log = self.log.text();
        for form in [CANARY, "canary", "Y2FuYXJ5", "AGhvb2tz"] {
            assert!(!log.contains(form), "{log}");
        }
        log
    }
}

fn counted(metrics: &Metrics) -> Value {
    let count = |result| metrics.mails.get_or_create(&Mailed { result }).get();
    let results = ["sent", "deferred", "refused", "unavailable"];
    results
        .iter()
        .filter(|result| count(result) > 0)
        .map(|result| ((*result).to_owned(), json!(count(result))))
        .collect()
}

/// A log that a test can read.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().clone()).unwrap()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl tracing_subscriber::fmt::MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

fn header<'m>(mail: &'m Value, name: &str) -> &'m str {
    let headers = mail["headers"].as_array().unwrap();
    let mut found = headers.iter().filter(|header| header[0] == name);
    let value = found.next().unwrap_or_else(|| panic!("no {name} in {mail}"));
    assert!(found.next().is_none(), "{name} twice in {mail}");
    value[1].as_str().unwrap()
}

#[tokio::test]
async fn a_notice_arrives_by_starttls_with_its_headers_its_text_and_its_html() {
    let server = Smtpd::new("starttls").login(USER, CANARY).started();
    let mut sender = Sender::new(&settings(&server, Security::StartTls, Some(CANARY)));
    let letter = letter(0x2a, &["ops@example.com", "on-call@example.org"]);
    assert_eq!(sender.send(&letter).await, Progress::Done);
    sender.notifier.rest().await;
    assert_eq!(sender.counted(), json!({ "sent": 2 }));
    let logins = server.logins();
    assert_eq!(logins.len(), 1, "both over one connection: {logins:?}");
    assert_eq!(
        (&logins[0]["success"], &logins[0]["encrypted"]),
        (&json!(true), &json!(true))
    );
    let mails = server.mails();
    assert_eq!(mails.len(), 2);
    let said = words(&letter);
    for (place, mail) in mails.iter().enumerate() {
        let to = &letter.recipients[place];
        assert_eq!(mail["encrypted"], true);
        assert_eq!(mail["greeted_by"], "hooks.example.com");
        assert_eq!(mail["from"], "hooks@example.com");
        assert_eq!(mail["to"], json!([to]));
        assert_eq!(header(mail, "To"), to);
        assert_eq!(header(mail, "From"), "Hookfast <hooks@example.com>");
        assert_eq!(header(mail, "Subject"), said.subject);
        assert_eq!(header(mail, "Date"), "Mon, 21 Sep 2026 14:13:20 +0000");
        assert_eq!(header(mail, "Auto-Submitted"), "auto-generated");
        let id = format!("<0000000000000000000000000000002a.{place}@example.com>");
        assert_eq!(header(mail, "Message-ID"), id);
        assert_eq!(mail["type"], "multipart/alternative");
        assert_eq!(mail["parts"], json!(["text/plain", "text/html"]));
        assert_eq!(mail["defects"], json!([]));
        assert_eq!(
            mail["plain"].as_str().unwrap().replace("\r\n", "\n").trim_end(),
            said.text.trim_end()
        );
        assert_eq!(
            mail["html"].as_str().unwrap().replace("\r\n", "\n").trim_end(),
            said.html.trim_end()
        );
    }
    sender.log();
}

#[tokio::test]
async fn tls_from_the_first_byte_and_the_older_way_to_log_in_work_too() {
    let server = Smtpd::new("tls").login(USER, CANARY).without("PLAIN").started();
    let mut sender = Sender::new(&settings(&server, Security::Tls, Some(CANARY)));
    assert_eq!(
        sender.send(&letter(1, &["ops@example.com"])).await,
        Progress::Done
    );
    assert_eq!(server.mails()[0]["encrypted"], true);
    let login = &server.logins()[0];
    assert_eq!(
        (&login["mechanism"], &login["encrypted"]),
        (&json!("LOGIN"), &json!(true))
    );
    sender.log();
}

#[tokio::test]
async fn a_relay_without_tls_and_login_is_used_where_that_was_said() {
    let server = Smtpd::new("none").started();
    let mut smtp = settings(&server, Security::None, None);
    // Has an address that nobody listens on too, on many machines.
    smtp.relay.host = "localhost".to_owned();
    let mut sender = Sender::new(&smtp);
    assert_eq!(
        sender.send(&letter(1, &["ops@example.com"])).await,
        Progress::Done
    );
    assert_eq!(server.mails()[0]["encrypted"], false);
}

#[tokio::test]
async fn where_the_server_offers_no_starttls_neither_password_nor_mail_is_sent() {
    // It would take both in clear text.
    let server = Smtpd::new("none").login(USER, CANARY).started();
    let mut sender = Sender::new(&settings(&server, Security::StartTls, Some(CANARY)));
    let progress = sender.send(&letter(1, &["ops@example.com"])).await;
    assert!(matches!(progress, Progress::Later(_)), "{progress:?}");
    assert_eq!(sender.counted(), json!({ "unavailable": 1 }));
    let log = sender.log();
    assert!(
        log.contains("does not offer STARTTLS, so nothing was sent"),
        "{log}"
    );
    assert!(server.logins().is_empty() && server.mails().is_empty());
}

#[tokio::test]
async fn a_server_whose_certificate_is_not_trusted_gets_neither_password_nor_mail() {
    let other = Smtpd::new("none");
    for (security, spoken) in [(Security::StartTls, "starttls"), (Security::Tls, "tls")] {
        for (host, ca, expected) in [
            ("127.0.0.1", Some(&other), "not issued by a trusted authority"),
            ("127.0.0.1", None, "not issued by a trusted authority"),
            ("mail.example.com", Some(&other), "its certificate is"),
        ] {
            let server = Smtpd::of_host(spoken, host).login(USER, CANARY).started();
            let mut smtp = settings(&server, security, Some(CANARY));
            smtp.ca = ca.map(Smtpd::authority);
            assert_untrusted(&smtp, &server, expected).await;
        }
        let server = Smtpd::of_host(spoken, "mail.example.com")
            .login(USER, CANARY)
            .started();
        let smtp = settings(&server, security, Some(CANARY));
        assert_untrusted(&smtp, &server, "its certificate is for another host").await;
    }
}

async fn assert_untrusted(smtp: &Smtp, server: &Smtpd, expected: &str) {
    let mut sender = Sender::new(smtp);
    let progress = sender.send(&letter(1, &["ops@example.com"])).await;
    assert!(matches!(progress, Progress::Later(_)), "{progress:?}");
    let log = sender.log();
    assert!(log.contains(expected), "{log}");
    assert!(server.logins().is_empty() && server.mails().is_empty());
}

#[tokio::test]
async fn a_wrong_password_is_told_without_showing_it_and_everything_waits() {
    let server = Smtpd::new("starttls").login(USER, "another").started();
    let mut sender = Sender::new(&settings(&server, Security::StartTls, Some(CANARY)));
    let letter = letter(1, &["ops@example.com"]);
    let progress = sender.send(&letter).await;
    assert!(matches!(progress, Progress::Later(_)), "{progress:?}");
    // The server is left alone until the pause is over.
    let progress = sender.send(&letter).await;
    assert!(matches!(progress, Progress::Later(_)), "{progress:?}");
    assert_eq!(server.logins().len(), 1);
    let log = sender.log();
    let expected = "refuses the user and password of smtp.url: 535 5.7.8 not [redacted]";
    assert!(log.contains(expected), "{log}");
    assert!(server.mails().is_empty());
}

#[tokio::test]
async fn a_server_that_wants_a_login_or_another_sender_is_waited_for() {
    let mut server = Smtpd::new("starttls").login(USER, CANARY).started();
    let mut sender = Sender::new(&settings(&server, Security::StartTls, None));
    sender.send(&letter(1, &["ops@example.com"])).await;
    let log = sender.log();
    assert!(
        log.contains("takes no mail from hooks@example.com: 530 5.7.0"),
        "{log}"
    );
    server.reply("from:hooks@example.com", Some("553 5.7.1 not your address"));
    let mut sender = Sender::new(&settings(&server, Security::StartTls, Some(CANARY)));
    sender.send(&letter(1, &["ops@example.com"])).await;
    assert_eq!(sender.counted(), json!({ "unavailable": 1 }));
    let log = sender.log();
    assert!(
        log.contains("takes no mail from hooks@example.com: 553 5.7.1"),
        "{log}"
    );
    // Nothing was given up: it goes once that is put right.
    server.reply("from:hooks@example.com", None);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(
        sender.send(&letter(1, &["ops@example.com"])).await,
        Progress::Done
    );
}

#[tokio::test]
async fn a_recipient_that_is_refused_costs_no_other_and_one_that_is_put_off_gets_it_later() {
    let mut server = Smtpd::new("none").started();
    server.reply("gone@example.com", Some("550 5.1.1 no such user"));
    server.reply("busy@example.com", Some("451 4.2.1 try again later"));
    server.reply("barred@example.com", Some("550 5.7.1 relaying denied"));
    server.reply("data:spam@example.com", Some("554 5.6.0 looks like spam"));
    let mut sender = Sender::new(&settings(&server, Security::None, None));
    let recipients = [
        "gone@example.com",
        "busy@example.com",
        "no address",
        "barred@example.com",
        "spam@example.com",
        "ops@example.com",
    ];
    let first = letter(1, &recipients);
    let progress = sender.send(&first).await;
    assert!(matches!(progress, Progress::Later(_)), "{progress:?}");
    assert_eq!(
        sender.counted(),
        json!({ "sent": 1, "deferred": 2, "refused": 3 })
    );
    // It holds up no other letter.
    assert_eq!(
        sender.send(&letter(2, &["dev@example.com"])).await,
        Progress::Done
    );
    server.reply("busy@example.com", None);
    server.reply("barred@example.com", None);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(sender.send(&first).await, Progress::Done);
    let taken: Vec<_> = server
        .mails()
        .iter()
        .map(|mail| header(mail, "To").to_owned())
        .collect();
    assert_eq!(
        taken,
        [
            "spam@example.com",
            "ops@example.com",
            "dev@example.com",
            "busy@example.com",
            "barred@example.com"
        ]
    );
    let log = sender.log();
    for said in [
        "550 5.1.1 no such user",
        "it is not an e-mail address",
        "554 5.6.0 looks like spam",
    ] {
        assert!(log.contains(said), "{log}");
    }
}

#[tokio::test]
async fn an_address_that_is_not_ascii_is_written_to_where_the_server_can() {
    let server = Smtpd::new("none").started();
    let mut sender = Sender::new(&settings(&server, Security::None, None));
    let letter = letter(1, &["zoë@example.com", "ops@bücher.example"]);
    assert_eq!(sender.send(&letter).await, Progress::Done);
    assert_eq!(sender.counted(), json!({ "sent": 2 }));
    let mails = server.mails();
    assert_eq!(mails[0]["to"], json!(["zoë@example.com"]));
    assert_eq!(mails[1]["to"], json!(["ops@xn--bcher-kva.example"]));
    assert!(mails[1]["raw"].as_str().unwrap().is_ascii());
}

#[tokio::test]
async fn a_letter_that_is_sent_again_after_a_crash_is_the_same_message() {
    let server = Smtpd::new("none").started();
    for _ in 0..2 {
        let mut sender = Sender::new(&settings(&server, Security::None, None));
        assert_eq!(
            sender.send(&letter(9, &["ops@example.com"])).await,
            Progress::Done
        );
    }
    let mails = server.mails();
    assert_eq!(mails.len(), 2);
    assert_eq!(mails[0]["raw"], mails[1]["raw"]);
}

#[tokio::test]
async fn a_server_that_says_nothing_is_given_up_after_ten_seconds() {
    let server = Smtpd::new("none");
    let _silent = std::net::TcpListener::bind(("127.0.0.1", server.port())).unwrap();
    let mut sender = Sender::new(&settings(&server, Security::None, None));
    let letter = letter(1, &["ops@example.com"]);
    let progress = tokio::time::timeout(PATIENCE, sender.send(&letter));
    assert!(matches!(progress.await, Ok(Progress::Later(_))));
    let log = sender.log();
    assert!(log.contains("cannot be reached: no answer within 10 s"), "{log}");
}

/// Letters as a store would keep them.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<Letter>>>);

impl Kept {
    /// Runs the whole of it on these letters, in a task of its own.
    fn run(&self, notifier: Notifier) -> Arc<Notify> {
        let changed = Arc::new(Notify::new());
        let (kept, told) = (self.clone(), changed.clone());
        tokio::spawn(async move {
            let waiting = || {
                let letters = kept.0.lock().clone();
                async move { Some(letters) }
            };
            let done = |id| {
                kept.0.lock().retain(|letter| letter.id != id);
                async move { true }
            };
            notify::run(notifier, &told, waiting, done).await;
        });
        changed
    }

    async fn wait_until_empty(&self) {
        wait_until(|| self.0.lock().is_empty()).await;
    }
}

async fn wait_until(so: impl Fn() -> bool) {
    let looking = async {
        while !so() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, looking).await.unwrap();
}

#[tokio::test]
async fn notices_wait_while_the_server_is_down_and_go_out_once_when_it_is_back() {
    let mut server = Smtpd::new("starttls").login(USER, CANARY);
    let metrics = Metrics::new();
    let mailer = Mailer::new(&settings(&server, Security::StartTls, Some(CANARY))).unwrap();
    let kept = Kept::default();
    kept.0
        .lock()
        .push(letter(1, &["ops@example.com", "dev@example.com"]));
    let changed = kept.run(Notifier::new(Some(mailer), metrics.clone(), Clock));
    wait_until(|| counted(&metrics)["unavailable"].as_u64() >= Some(1)).await;
    kept.0.lock().push(letter(2, &["ops@example.com"]));
    changed.notify_one();
    server.start();
    kept.wait_until_empty().await;
    let ids = |server: &Smtpd| -> Vec<String> {
        let mails = server.mails();
        mails
            .iter()
            .map(|mail| header(mail, "Message-ID").to_owned())
            .collect()
    };
    let id = |letter: u128, place: usize| format!("<{letter:032x}.{place}@example.com>");
    assert_eq!(ids(&server), [id(1, 0), id(1, 1), id(2, 0)]);
    // The next one is sent as soon as it is told of, and down again it waits again.
    kept.0.lock().push(letter(3, &["ops@example.com"]));
    changed.notify_one();
    kept.wait_until_empty().await;
    server.stop();
    let failed = counted(&metrics)["unavailable"].as_u64();
    kept.0.lock().push(letter(4, &["ops@example.com"]));
    changed.notify_one();
    wait_until(|| counted(&metrics)["unavailable"].as_u64() > failed).await;
    server.start();
    kept.wait_until_empty().await;
    assert_eq!(ids(&server)[3..], [id(3, 0), id(4, 0)]);
}

#[tokio::test]
async fn without_an_smtp_server_notices_are_done_with_at_once() {
    let metrics = Metrics::new();
    let kept = Kept::default();
    kept.0
        .lock()
        .extend((0..100).map(|id| letter(id, &["ops@example.com"])));
    let _changed = kept.run(Notifier::new(None, metrics.clone(), Clock));
    kept.wait_until_empty().await;
    assert_eq!(counted(&metrics), json!({}));
}
