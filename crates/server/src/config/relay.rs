//! The URL of an SMTP server: `smtp://user:password@host:587`.
//!
//! Owns its form and what of it is refused. Must not connect, and must not repeat any part of the URL in a
//! message: it holds a password.

use std::net::IpAddr;

use hookfast_signature::Secret;
use percent_encoding::percent_decode_str;
use rustls::pki_types::ServerName;
use url::Url;

use crate::settings::{Login, Relay, Security};

/// The port for mail from clients (RFC 6409).
const SUBMISSION: u16 = 587;
/// The same with TLS from the first byte (RFC 8314).
const SUBMISSION_TLS: u16 = 465;
/// The port of relays (RFC 5321).
const RELAY: u16 = 25;

const NOT_A_URL: &str = "not a URL such as smtp://user:password@mail.example.com:587; \
    special characters in user and password must be percent-encoded (@ as %40, / as %2F, # as %23)";
const WRONG_SCHEME: &str = "expected smtp:// (STARTTLS is required) or smtps:// (TLS from the first byte)";
const NO_HOST: &str = "names no host name or IP address of a server";
const HALF_A_LOGIN: &str = "give both a user and a password, or neither";
const WRONG_TLS: &str =
    "after ? there may be tls=required, which is the default of smtp://, or tls=none; smtps:// needs neither";
const OPPORTUNISTIC: &str = "tls=opportunistic would send the password in clear text to whoever suppresses \
    STARTTLS on the way: leave it out where the server offers STARTTLS, or write tls=none";
const LOGIN_IN_THE_CLEAR: &str = "tls=none would send user and password readable over the network: leave out \
    either of them; both together are for a server on this machine";
const WRONG_HELLO: &str =
    "the path may only be the name to greet the server with, such as /hooks.example.com";

/// Reads the URL.
///
/// # Errors
/// What is wrong with it, without any part of it.
pub(super) fn parse(text: &str) -> Result<Relay, &'static str> {
    let url = Url::parse(text).map_err(|_| NOT_A_URL)?;
    let security = security(&url)?;
    if url.fragment().is_some() {
        return Err(NOT_A_URL);
    }
    let host = url.host_str().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    if ServerName::try_from(host.as_str()).is_err() {
        return Err(NO_HOST);
    }
    let login = login(&url)?;
    if login.is_some() && security == Security::None && !is_this_machine(&host) {
        return Err(LOGIN_IN_THE_CLEAR);
    }
    let usual_port = match security {
        Security::StartTls => SUBMISSION,
        Security::Tls => SUBMISSION_TLS,
        Security::None => RELAY,
    };
    Ok(Relay {
        port: url.port().unwrap_or(usual_port),
        host,
        security,
        login,
        hello: hello(&url)?,
    })
}

fn security(url: &Url) -> Result<Security, &'static str> {
    let queries: Vec<_> = url.query_pairs().collect();
    let asked: Vec<_> = queries
        .iter()
        .map(|(name, value)| (name.as_ref(), value.as_ref()))
        .collect();
    match (url.scheme(), asked.as_slice()) {
        ("smtps", []) => Ok(Security::Tls),
        ("smtp", [] | [("tls", "required")]) => Ok(Security::StartTls),
        ("smtp", [("tls", "none")]) => Ok(Security::None),
        ("smtp", [("tls", "opportunistic")]) => Err(OPPORTUNISTIC),
        ("smtp" | "smtps", _) => Err(WRONG_TLS),
        (_, _) => Err(WRONG_SCHEME),
    }
}

fn login(url: &Url) -> Result<Option<Login>, &'static str> {
    let decoded = |text: &str| {
        let text = percent_decode_str(text).decode_utf8().map_err(|_| NOT_A_URL)?;
        // A zero byte parts user and password on the way to the server.
        if text.contains('\0') {
            return Err(NOT_A_URL);
        }
        Ok(Secret::new(text))
    };
    match (url.username(), url.password().unwrap_or_default()) {
        ("", "") => Ok(None),
        ("", _) | (_, "") => Err(HALF_A_LOGIN),
        (user, password) => Ok(Some(Login {
            user: decoded(user)?,
            password: decoded(password)?,
        })),
    }
}

fn hello(url: &Url) -> Result<Option<String>, &'static str> {
    match url.path().strip_prefix('/').unwrap_or(url.path()) {
        "" => Ok(None),
        name => match ServerName::try_from(name) {
            Ok(ServerName::DnsName(name)) => Ok(Some(name.as_ref().to_owned())),
            // Addresses are not written so in a greeting.
            Ok(_) | Err(_) => Err(WRONG_HELLO),
        },
    }
}

fn is_this_machine(host: &str) -> bool {
    match host.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a URL means, in one line, with the login in the clear.
    fn meaning(url: &str) -> String {
        let relay = parse(url).unwrap_or_else(|problem| panic!("{url}: {problem}"));
        let login = relay.login.map_or("no login".to_owned(), |login| {
            format!("{} / {}", login.user.expose(), login.password.expose())
        });
        let Relay {
            host, port, security, ..
        } = relay;
        let hello = relay.hello.unwrap_or("no name".to_owned());
        format!("{host} {port} {security:?}, {login}, {hello}")
    }

    #[test]
    fn a_url_says_where_the_server_is_and_how_it_is_spoken_to() {
        for (url, expected) in [
            (
                "smtp://hooks:pass@mail.example.com",
                "mail.example.com 587 StartTls, hooks / pass, no name",
            ),
            (
                "smtp://mail.example.com:2525?tls=required",
                "mail.example.com 2525 StartTls, no login, no name",
            ),
            (
                "smtps://hooks%40example.com:a%2Fb%3A%40%23%C3%A9@mail.example.com",
                "mail.example.com 465 Tls, hooks@example.com / a/b:@#é, no name",
            ),
            (
                "smtp://localhost?tls=none",
                "localhost 25 None, no login, no name",
            ),
            (
                "smtp://me:pass@127.0.0.1:1025/?tls=none",
                "127.0.0.1 1025 None, me / pass, no name",
            ),
            ("smtp://me:pass@[::1]?tls=none", "::1 25 None, me / pass, no name"),
            (
                "smtps://relay.example.com/hooks.example.com",
                "relay.example.com 465 Tls, no login, hooks.example.com",
            ),
        ] {
            assert_eq!(meaning(url), expected, "{url}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused_without_a_word_of_the_url() {
        for (url, expected) in [
            ("", NOT_A_URL),
            ("mail.example.com:587", WRONG_SCHEME),
            ("smtp:", NO_HOST),
            ("smtp://", NO_HOST),
            ("smtp://user:canary@", NOT_A_URL),
            ("smtp://user:can/ary@mail.example.com", NOT_A_URL),
            ("smtp://user:can#ary@mail.example.com", NOT_A_URL),
            ("smtp://user:canary%00@mail.example.com", NOT_A_URL),
            ("smtp://user:canary%FF@mail.example.com", NOT_A_URL),
            ("https://user:canary@mail.example.com", WRONG_SCHEME),
            ("smtp://user:canary@mail%0d%0aexample.com", NO_HOST),
            ("smtp://user@mail.example.com", HALF_A_LOGIN),
            ("smtp://:canary@mail.example.com", HALF_A_LOGIN),
            ("smtp://mail.example.com?tls=maybe", WRONG_TLS),
            ("smtp://mail.example.com?tls=none&tls=required", WRONG_TLS),
            ("smtps://mail.example.com?tls=none", WRONG_TLS),
            ("smtp://mail.example.com?tls=opportunistic", OPPORTUNISTIC),
            ("smtp://user:canary@mail.example.com?tls=none", LOGIN_IN_THE_CLEAR),
            ("smtp://user:canary@10.0.0.1?tls=none", LOGIN_IN_THE_CLEAR),
            ("smtp://mail.example.com/a%0d%0ab", WRONG_HELLO),
            ("smtp://mail.example.com/a/b", WRONG_HELLO),
        ] {
            let problem = parse(url).expect_err(url);
            assert_eq!(problem, expected, "{url}");
        }
    }

    #[test]
    fn neither_user_nor_password_are_shown_by_debug() {
        let relay = parse("smtp://canary:canary@mail.example.com").unwrap();
        assert!(!format!("{relay:?}").contains("canary"));
    }
}
