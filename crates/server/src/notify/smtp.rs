//! Talking to the SMTP server.
//!
//! Owns connections to it: TLS, login, one mail after the other, and what each answer means. Must not know what
//! the mails say. The user's password goes to the server, and only after TLS where TLS was asked for; it appears
//! in no error, whatever the server answers.

use std::error::Error as StdError;
use std::fmt::{self, Display};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use lettre::Address;
use lettre::message::Mailbox;
use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::{AsyncSmtpConnection, Certificate, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail as MailFrom, Rcpt, Rset};
use lettre::transport::smtp::extension::{ClientId, Extension, MailBodyParameter, MailParameter};
use lettre::transport::smtp::response::Response;
use tokio::net::lookup_host;
use tokio::time::timeout;

use super::mime::Mail;
use crate::deliver::connect::in_words;
use crate::settings::{Login, Relay, Security, Smtp};
use crate::tls::certificates;

/// How long each of the server's addresses may take for its greeting, and then the server for each answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long it may take to accept a mail that it has: many look through it first. Whoever gives up too early sends
/// it twice (RFC 5321 section 4.5.3.2.6).
const PATIENCE_FOR_CONTENT: Duration = Duration::from_secs(60);
/// So many of the server's addresses are tried.
const MOST_ADDRESSES: usize = 4;
/// How long the farewell may take.
const PATIENCE_FOR_FAREWELL: Duration = Duration::from_secs(1);
/// How much of an answer of the server is kept, in characters.
const LONGEST_ANSWER: usize = 200;
/// What stands in the place of the password.
const REDACTED: &str = "[redacted]";

/// Why no mail can be sent now, to anybody. It may be different later.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0}")]
pub struct Unavailable(String);

/// What the server made of a mail.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// It took it.
    Sent,
    /// It does not take it now: so it answered.
    Deferred(String),
    /// It never takes it: so it answered.
    Refused(String),
}

/// The SMTP server, and how mail is given to it.
pub struct Mailer {
    relay: Relay,
    from: Mailbox,
    tls: Option<TlsParameters>,
    hello: ClientId,
}

impl fmt::Debug for Mailer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Mailer({}:{})", self.relay.host, self.relay.port)
    }
}

impl Mailer {
    /// A mailer for these settings. Nothing is connected to yet.
    ///
    /// # Errors
    /// Where the file with further authorities cannot be read or holds none.
    pub fn new(smtp: &Smtp) -> anyhow::Result<Self> {
        let relay = smtp.relay.clone();
        // The system's authorities are read as for deliveries, by rustls-native-certs.
        let mut tls = TlsParameters::builder(relay.host.clone());
        for authority in smtp.ca.iter().map(|file| certificates(file)) {
            for certificate in authority? {
                tls = tls.add_root_certificate(Certificate::from_der(certificate.to_vec())?);
            }
        }
        let tls = match relay.security {
            Security::StartTls | Security::Tls => Some(tls.build()?),
            Security::None => None,
        };
        let hello = relay.hello.clone().or_else(full_host_name);
        Ok(Self {
            relay,
            from: smtp.from.clone(),
            tls,
            hello: hello.map_or_else(ClientId::default, ClientId::Domain),
        })
    }

    /// Whom the mails come from.
    #[must_use]
    pub fn from(&self) -> &Mailbox {
        &self.from
    }

    /// Connects and logs in.
    ///
    /// # Errors
    /// Where the server cannot be reached or trusted, or refuses the login.
    pub async fn open(self: &Arc<Self>) -> Result<Session, Unavailable> {
        let connection = self.connect().await;
        let connection = connection.map_err(|fault| self.unavailable("cannot be reached", &fault))?;
        let mut session = Session {
            mailer: self.clone(),
            connection,
            used: false,
        };
        session.start_tls().await?;
        session.log_in().await?;
        Ok(session)
    }

    /// A connection to the first of the server's addresses that greets.
    async fn connect(&self) -> Result<AsyncSmtpConnection, Fault> {
        let Relay { host, port, .. } = &self.relay;
        let from_the_start = match self.relay.security {
            Security::Tls => self.tls.clone(),
            Security::StartTls | Security::None => None,
        };
        let found = timeout(PATIENCE, lookup_host((host.as_str(), *port))).await;
        let addresses = match found {
            Ok(Ok(addresses)) => addresses,
            Ok(Err(error)) => return Err(Fault::Broken(in_words(&error))),
            Err(_) => return Err(Fault::Broken("its name was not resolved in time".to_owned())),
        };
        let mut last = Fault::Broken("its name has no address".to_owned());
        for address in addresses.take(MOST_ADDRESSES) {
            let connecting =
                AsyncSmtpConnection::connect_tokio1(address, None, &self.hello, from_the_start.clone(), None);
            match self.within(PATIENCE, connecting).await {
                Ok(connection) => return Ok(connection),
                Err(fault) => last = fault,
            }
        }
        Err(last)
    }

    /// Waits for one answer.
    async fn within<T>(
        &self,
        patience: Duration,
        answer: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Fault> {
        match timeout(patience, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(self.fault(&error)),
            Err(_) => Err(Fault::Broken(format!(
                "no answer within {} s",
                patience.as_secs()
            ))),
        }
    }

    fn fault(&self, error: &Error) -> Fault {
        let text = match (error.status(), error.source()) {
            (Some(code), Some(answer)) => format!("{code} {answer}"),
            (Some(code), None) => code.to_string(),
            (None, _) => match io_error(error) {
                Some(error) => in_words(error),
                // Of the client's own; the server's words are in `source` alone.
                None => error
                    .source()
                    .map_or_else(|| error.to_string(), ToString::to_string),
            },
        };
        let text = self
            .relay
            .login
            .as_ref()
            .map_or(text.clone(), |login| without(login, &text));
        let text = shortened(&text);
        match error.status().map(u16::from) {
            // 421 is the farewell of a server that goes down, whatever it was asked.
            Some(421) | None => Fault::Broken(text),
            Some(code) => Fault::Answered(code, text),
        }
    }

    fn unavailable(&self, what: &str, fault: &Fault) -> Unavailable {
        let Relay { host, port, .. } = &self.relay;
        Unavailable(format!("the SMTP server {host}:{port} {what}: {fault}"))
    }
}

/// What went wrong with one command.
#[derive(Debug)]
enum Fault {
    /// The connection is of no use any more.
    Broken(String),
    /// The server said no.
    Answered(u16, String),
}

impl Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken(text) | Self::Answered(_, text) => formatter.write_str(text),
        }
    }
}

/// A connection on which mail can be given to the server.
pub struct Session {
    mailer: Arc<Mailer>,
    connection: AsyncSmtpConnection,
    /// Whether a mail was begun on it.
    used: bool,
}

impl fmt::Debug for Session {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Session({:?})", self.mailer)
    }
}

impl Session {
    /// Makes it TLS where that is asked for: before it is, nothing but greetings goes over it.
    async fn start_tls(&mut self) -> Result<(), Unavailable> {
        let mailer = self.mailer.clone();
        let (Security::StartTls, Some(tls)) = (mailer.relay.security, &mailer.tls) else {
            return Ok(());
        };
        if !self.connection.can_starttls() {
            let remedy = Fault::Broken(
                "write smtps:// in smtp.url where it speaks TLS from the first byte, or ?tls=none where it is \
                 a server of your own without TLS"
                    .to_owned(),
            );
            return Err(mailer.unavailable("does not offer STARTTLS, so nothing was sent", &remedy));
        }
        let upgrading = self.connection.starttls(tls.clone(), &mailer.hello);
        let upgraded = mailer.within(PATIENCE, upgrading).await;
        upgraded.map_err(|fault| mailer.unavailable("cannot be spoken to by TLS", &fault))
    }

    async fn log_in(&mut self) -> Result<(), Unavailable> {
        let mailer = self.mailer.clone();
        let Some(Login { user, password }) = &mailer.relay.login else {
            return Ok(());
        };
        let info = self.connection.server_info();
        if info.get_auth_mechanism(DEFAULT_MECHANISMS).is_none() {
            let offered = Fault::Broken("it offers neither AUTH PLAIN nor AUTH LOGIN".to_owned());
            return Err(mailer.unavailable("takes no user and password", &offered));
        }
        let credentials = Credentials::new(user.expose().to_owned(), password.expose().to_owned());
        let proving = self.connection.auth(DEFAULT_MECHANISMS, &credentials);
        match mailer.within(PATIENCE, proving).await {
            Ok(_) => Ok(()),
            Err(fault) => Err(mailer.unavailable("refuses the user and password of smtp.url", &fault)),
        }
    }

    /// Gives one mail to the server.
    ///
    /// # Errors
    /// Where the connection broke, or the server takes no mail from this sender at all.
    pub async fn send(&mut self, mail: &Mail) -> Result<Verdict, Unavailable> {
        let mailer = self.mailer.clone();
        let sender = &mailer.from.email;
        if std::mem::replace(&mut self.used, true)
            && let Err(fault) = self.command(Rset).await
        {
            return Err(mailer.unavailable("took no further mail", &fault));
        }
        let mut parameters = Vec::new();
        if [sender, &mail.to].into_iter().any(is_foreign) {
            if !self
                .connection
                .server_info()
                .supports_feature(Extension::SmtpUtfEight)
            {
                return Ok(Verdict::Refused(
                    "the address is not ASCII, and the SMTP server does not offer SMTPUTF8".to_owned(),
                ));
            }
            parameters.push(MailParameter::SmtpUtfEight);
            parameters.push(MailParameter::Body(MailBodyParameter::EightBitMime));
        }
        if let Err(fault) = self
            .command(MailFrom::new(Some(sender.clone()), parameters))
            .await
        {
            let what = format!("takes no mail from {sender}");
            return Err(mailer.unavailable(&what, &fault));
        }
        let given = self.give(mail).await;
        match given {
            Ok(_) => Ok(Verdict::Sent),
            Err(Fault::Answered(code, text)) if is_final(code, &text) => Ok(Verdict::Refused(text)),
            Err(Fault::Answered(_, text)) => Ok(Verdict::Deferred(text)),
            Err(fault @ Fault::Broken(_)) => Err(mailer.unavailable("did not take a mail", &fault)),
        }
    }

    async fn give(&mut self, mail: &Mail) -> Result<Response, Fault> {
        self.command(Rcpt::new(mail.to.clone(), Vec::new())).await?;
        self.command(Data).await?;
        let content = self.connection.message(&mail.bytes);
        self.mailer.within(PATIENCE_FOR_CONTENT, content).await
    }

    async fn command(&mut self, command: impl Display) -> Result<Response, Fault> {
        let answer = self.connection.command(command);
        self.mailer.within(PATIENCE, answer).await
    }

    /// Says goodbye, as far as the server listens.
    pub async fn close(mut self) {
        // A server that does not answer this has every mail all the same.
        drop(timeout(PATIENCE_FOR_FAREWELL, self.connection.abort()).await);
    }
}

/// Whether a refusal is the last word about this mail. One for lack of rights (RFC 3463: X.7) is not: it is the
/// server's setup or ours that is wrong, such as "relaying denied", and once that is put right the mail is taken.
fn is_final(code: u16, text: &str) -> bool {
    let enhanced = text.split_whitespace().nth(1).unwrap_or_default();
    (500..600).contains(&code) && code != 530 && !enhanced.starts_with("5.7.")
}

/// Whether only a server that offers SMTPUTF8 understands the address (RFC 6531).
fn is_foreign(address: &Address) -> bool {
    !AsRef::<str>::as_ref(address).is_ascii()
}

/// The IO error that caused it, where one did.
fn io_error(error: &Error) -> Option<&io::Error> {
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(error) = cause.downcast_ref() {
            return Some(error);
        }
        source = cause.source();
    }
    None
}

/// `text` without the password: a server may repeat what it was sent.
fn without(login: &Login, text: &str) -> String {
    let (user, password) = (login.user.expose(), login.password.expose());
    let sent = [
        BASE64.encode(format!("\0{user}\0{password}")),
        BASE64.encode(password),
        password.to_owned(),
    ];
    let sought = sent.iter().filter(|each| !each.is_empty());
    sought.fold(text.to_owned(), |text, each| {
        text.replace(each.as_str(), REDACTED)
    })
}

/// An answer as one line that a log can hold.
fn shortened(text: &str) -> String {
    let line = text.chars().map(|one| if one.is_control() { ' ' } else { one });
    line.take(LONGEST_ANSWER).collect()
}

/// This machine's name, where it is a full one. Many servers refuse to be greeted by half a name.
fn full_host_name() -> Option<String> {
    let name = rustix::system::uname().nodename().to_str().ok()?.to_owned();
    let full = name.contains('.') && rustls::pki_types::DnsName::try_from(name.as_str()).is_ok();
    full.then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_final_unless_rights_are_missing() {
        for (code, text, expected) in [
            (550, "550 5.1.1 no such user", true),
            (552, "552 5.2.2 the mailbox is full", true),
            (554, "554 no", true),
            (550, "550 5.7.1 relaying denied", false),
            (530, "530 authentication required", false),
            (451, "451 4.7.1 greylisted", false),
            (452, "452 too many", false),
        ] {
            assert_eq!(is_final(code, text), expected, "{text}");
        }
    }

    #[test]
    fn a_server_that_repeats_the_password_is_not_quoted() {
        let login = Login {
            user: "hooks".into(),
            password: "canary".into(),
        };
        let blob = BASE64.encode("\0hooks\0canary");
        let said = format!("535 no: canary, {}, AUTH PLAIN {blob}", BASE64.encode("canary"));
        assert_eq!(
            without(&login, &said),
            "535 no: [redacted], [redacted], AUTH PLAIN [redacted]"
        );
    }
}
