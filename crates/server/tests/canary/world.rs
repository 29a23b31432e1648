//! The server of the story, what stands around it, and what is planted from the start.
//! It must not know the requests.

use std::net::{Ipv4Addr, SocketAddr};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hookfast::ingest::cause::Cause;
use serde_json::Value;

use super::canaries::Kind;
use super::record::Record;
use crate::support::app::{App, Reply};
use crate::support::http::{self, Answer};
use crate::support::ports::Port;
use crate::support::server::{ADMIN_KEY, Server, Setup};
use crate::support::show;
use crate::support::time::unix_seconds;

/// Where the receiver of webhooks is that are made with an application's key, which may call nothing else on this machine.
const RECEIVER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);

/// The secrets of sources, as their providers would give them.
pub(crate) const NYLAS: &str = "Cnry+Nylas/71fae09c44";
pub(crate) const NYLAS_REPLACED: &str = "Cnry+NylasOld/5d0b77e1";
pub(crate) const NYLAS_LATER: &str = "Cnry+NylasLater/c0418ab7";
pub(crate) const STRIPE: &str = "whsec_CnryStripeWholeText19";
pub(crate) const GITHUB: &str = "Cnry \"GitHub\" typed 8e31";
pub(crate) const STANDARD_KEY: &str = "CnryStandardKey00000000000000032";
pub(crate) const TOKEN: &str = "Cnry-token-of-a-header-4c8a";
pub(crate) const QUERY_TOKEN: &str = "Cnry/token+of&a=query-90d2";
pub(crate) const BASIC: &str = "acme:Cnry-basic-password-6b17";
pub(crate) const BEARER: &str = "Cnry-bearer-token-2f6e";
/// The key that a destination's signatures are made with.
pub(crate) const SIGNING_KEY: &str = "CnrySigningKey000000000000000032";
/// The password of the mail relay.
const RELAY: &str = "CnryPasswordOfTheRelay7d";
/// The key that secrets are sealed with, as its 32 bytes.
const ENCRYPTION_KEY: &str = "CnryEncryptionKey000000000000032";
/// A key to the API that nobody gave out.
pub(crate) const WRONG_KEY: &str = "hf_CnryKeyThatNobodyGaveOut77";
/// What senders add of their own, although it proves nothing to us.
pub(crate) const AUTHORIZATION: &str = "CnryAuthorizationOfASender3d";
pub(crate) const COOKIE: &str = "CnryCookieOfASender58";
/// What stands in queries where tokens stand.
pub(crate) const QUERY_SECRET: &str = "CnrySecretInAQuery0c9b";
/// A secret in a file that cannot be applied.
pub(crate) const BROKEN_FILE_SECRET: &str = "CnrySecretInABrokenFile6e";
/// What is said, not a secret, and still nobody's business.
pub(crate) const BODY: &str = "Cnry body of a notification 7c2e";
pub(crate) const FORGED: &str = "Cnry body of a forged one 1b9f";
pub(crate) const FORGED_SIGNATURE: &str = "CnrySignatureThatIsForged41";
pub(crate) const HEADER: &str = "Cnry-header-value-31d0";
pub(crate) const ANSWER: &str = "Cnry answer of an application 88a4";
pub(crate) const ANSWER_HEADER: &str = "Cnry-answer-header-e5c1";
pub(crate) const CHALLENGE: &str = "Cnry-challenge-4471";
pub(crate) const URL_QUERY: &str = "CnryInADestinationsUrl92";
/// What is sent to the API where it does not belong.
pub(crate) const MISPLACED: &str = "CnryValueOfARequestToTheApi15";

/// Those above, each with what it stands for.
const PLANTED: [(&str, Kind, &str); 27] = [
    ("the secret of nylas", Kind::Secret, NYLAS),
    ("the replaced secret of nylas", Kind::Secret, NYLAS_REPLACED),
    ("the later secret of nylas", Kind::Secret, NYLAS_LATER),
    ("the secret of stripe", Kind::Secret, STRIPE),
    ("the secret of github", Kind::Secret, GITHUB),
    ("the key of standard", Kind::Secret, STANDARD_KEY),
    ("the token of token", Kind::Secret, TOKEN),
    ("the token of query", Kind::Secret, QUERY_TOKEN),
    ("the password of basic", Kind::Secret, BASIC),
    ("the token of bearer", Kind::Secret, BEARER),
    ("the signing key of app", Kind::Secret, SIGNING_KEY),
    ("the encryption key", Kind::Secret, ENCRYPTION_KEY),
    ("the relay's password", Kind::Secret, RELAY),
    ("the admin key", Kind::Secret, ADMIN_KEY),
    ("a wrong key", Kind::Secret, WRONG_KEY),
    ("an authorization header", Kind::Secret, AUTHORIZATION),
    ("a cookie", Kind::Secret, COOKIE),
    ("a secret in a query", Kind::Secret, QUERY_SECRET),
    ("a secret in a broken file", Kind::Secret, BROKEN_FILE_SECRET),
    ("a value sent to the API", Kind::Secret, MISPLACED),
    ("a body", Kind::Content, BODY),
    ("a forged body", Kind::Content, FORGED),
    ("a forged signature", Kind::Content, FORGED_SIGNATURE),
    ("a header", Kind::Content, HEADER),
    ("an answer", Kind::Content, ANSWER),
    ("an answer's header", Kind::Content, ANSWER_HEADER),
    ("a challenge", Kind::Content, CHALLENGE),
];

/// The story's server and what was heard of it.
pub(crate) struct World {
    pub(crate) server: Server,
    pub(crate) api: Port,
    pub(crate) app: App,
    pub(crate) refusing: App,
    /// It echoes challenges.
    pub(crate) receiver: App,
    pub(crate) record: Record,
    /// The configuration as it was at the start.
    pub(crate) config: String,
}

/// The signing secret of the key that these bytes are.
pub(crate) fn whsec(key: &str) -> String {
    format!("whsec_{}", STANDARD.encode(key))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn source(name: &str, provider: &str, more: &str) -> String {
    format!("[[source]]\nname = \"{name}\"\nprovider = \"{provider}\"\n{more}\n\n")
}

fn configuration(log_format: &str, app: &App, refusing: &App, gone: SocketAddr) -> String {
    let secret = |secret: &str| format!("secrets = ['{secret}']");
    let generic = |settings: &str, text: &str| format!("scheme = {{ {settings} }}\n{}", secret(text));
    let mut config = format!(
        "[server]\nlog = \"trace\"\nlog_format = \"{log_format}\"\nencryption_key = \"{}\"\n\n\
         [ingest]\nhead_timeout = \"1s\"\n\n\
         [smtp]\nurl = \"smtp://mailer:{RELAY}@127.0.0.1:9\"\nfrom = \"hooks@example.com\"\n\n\
         [outbox]\nallowed_networks = [\"{RECEIVER}\"]\n\n\
         [policy.quick]\ndelays = [\"10ms\"]\nbreaker = false\n\n",
        hex(ENCRYPTION_KEY.as_bytes())
    );
    config += &source(
        "nylas",
        "nylas",
        &format!("secrets = ['{NYLAS}', '{NYLAS_REPLACED}']"),
    );
    config += &source("stripe", "stripe", &secret(STRIPE));
    config += &source("github", "github", &secret(GITHUB));
    config += &source("standard", "standard-webhooks", &secret(&whsec(STANDARD_KEY)));
    config += &source(
        "token",
        "generic",
        &generic("type = \"token\", header = \"x-acme-token\"", TOKEN),
    );
    config += &source(
        "query",
        "generic",
        &generic("type = \"query\", parameter = \"pass\"", QUERY_TOKEN),
    );
    config += &source("basic", "generic", &generic("type = \"basic\"", BASIC));
    config += &source("bearer", "generic", &generic("type = \"bearer\"", BEARER));
    config += &source("limited", "nylas", &format!("rate_limit = 1\n{}", secret(NYLAS)));
    config += &source(
        "small",
        "nylas",
        &format!("body_limit = \"1KiB\"\n{}", secret(NYLAS)),
    );
    config += &source("bare", "nylas", "");
    let all =
        "[\"nylas\", \"stripe\", \"github\", \"standard\", \"token\", \"query\", \"basic\", \"bearer\"]";
    let push = |name: &str, url: &str, more: &str| {
        format!(
            "[[destination]]\nname = \"{name}\"\nurl = \"{url}?token={URL_QUERY}\"\nsources = {all}\n\
             policy = \"quick\"\ntimeout = \"1s\"\n{more}\n\n"
        )
    };
    let signing = format!("allow_private = true\nsecret = \"{}\"", whsec(SIGNING_KEY));
    config += &push("app", &app.url(), &signing);
    config += &push("refusing", &refusing.url(), &signing);
    config += &push("gone", &format!("http://{gone}/"), &signing);
    config += &push("nowhere", "https://nowhere.invalid/", "");
    config += &push("blocked", "https://127.0.0.1:1/", "");
    // What the application itself publishes.
    config += &format!(
        "[[destination]]\nname = \"subscriber\"\nurl = \"{}?token={URL_QUERY}\"\nsources = [\"outbox\"]\n\
         allow_private = true\nsigning = \"both\"\n\n",
        app.url()
    );
    config += &format!("[[destination]]\nname = \"queue\"\nkind = \"pull\"\nsources = {all}\n");
    config
}

impl World {
    pub(crate) fn start(log_format: &str) -> Self {
        let (app, refusing) = (App::start(), App::start());
        app.always(Reply::status(200).body(ANSWER).header("x-canary", ANSWER_HEADER));
        refusing.answer(misbehave());
        let (api, gone) = (Port::take(), Port::take());
        let receiver = App::start_at(RECEIVER);
        receiver.echo_challenges();
        let config = configuration(log_format, &app, &refusing, gone.address);
        let setup = Setup::new(&config)
            .argument("--api")
            .argument(&api.address.to_string());
        let mut record = Record::default();
        for (what, kind, text) in PLANTED {
            record.plant(what, kind, text);
        }
        record.plant("a destination's URL", Kind::Content, URL_QUERY);
        for key in [STANDARD_KEY, SIGNING_KEY] {
            record.plant("a secret as it is written", Kind::Secret, &whsec(key));
        }
        let server = setup.start();
        Self {
            server,
            api,
            app,
            refusing,
            receiver,
            record,
            config,
        }
    }

    /// Asks the admin listener with the admin key.
    pub(crate) fn admin(&mut self, operation: &str, request: (&str, &str), body: Option<&Value>) -> Answer {
        self.ask_api(operation, self.server.admin(), ADMIN_KEY, request, body)
    }

    /// Asks a listener of the API with that key.
    pub(crate) fn ask_api(
        &mut self,
        operation: &str,
        to: SocketAddr,
        key: &str,
        request: (&str, &str),
        body: Option<&Value>,
    ) -> Answer {
        let authorization = format!("Bearer {key}");
        let headers = [
            ("authorization", authorization.as_str()),
            ("content-type", "application/json"),
        ];
        let body = body.map(ToString::to_string).unwrap_or_default();
        self.record.ask(operation, to, request, &headers, body.as_bytes())
    }

    /// Asks for something that shows a new secret this once, in that field: from now on it is a canary.
    pub(crate) fn ask_for_secret(
        &mut self,
        operation: &str,
        (method, path): (&str, &str),
        body: Option<&Value>,
        field: &str,
    ) -> String {
        let answer = self.server.call(method, path, body);
        let secret = answer.json()[field].as_str().unwrap_or_default().to_owned();
        assert!(
            !secret.is_empty(),
            "{operation}: {} {}",
            answer.status,
            answer.text()
        );
        self.record.hear_answer(operation, path, &answer, &[&secret]);
        self.record.plant("a secret that was made", Kind::Secret, &secret);
        secret
    }

    /// Runs a command against the server and remembers what it said.
    pub(crate) fn command(&mut self, line: &str) -> std::process::Output {
        let arguments: Vec<&str> = line.split_whitespace().collect();
        let output = self.server.cli(&arguments);
        self.record.hear_command(&name_of(&arguments), &output, &[]);
        output
    }

    /// Searches everything that was said.
    pub(crate) fn judge(mut self) {
        let log = self.server.log();
        self.record.hear_everyday("the log", log.as_bytes());
        self.record
            .hear_everyday("standard output", self.server.printed().as_bytes());
        // The log was as talkative as it gets, and spoke of what happened.
        for said in [
            "a request was refused",
            "a handshake was answered",
            "applied what the configuration",
        ] {
            assert!(log.contains(said), "the log does not say `{said}`");
        }
        let unprovoked: Vec<_> = Cause::ALL
            .iter()
            .map(|cause| cause.code())
            .filter(|code| !self.record.causes.contains(*code))
            .collect();
        assert_eq!(unprovoked, traffic_cannot_provoke());
        let findings = self.record.findings();
        let (pieces, canaries) = self.record.size();
        show(&format!(
            "{canaries} canaries sought in {pieces} pieces, {} bytes of log",
            log.len()
        ));
        assert!(
            findings.is_empty(),
            "{} findings:\n{}",
            findings.len(),
            findings.join("\n")
        );
        assert_eq!(self.record.idle_exceptions(), Vec::<String>::new());
    }
}

/// The causes that need a full disk, a broken store, or more connections and memory than a test should take.
fn traffic_cannot_provoke() -> Vec<&'static str> {
    [
        Cause::OutOfMemory,
        Cause::TooManyConnections,
        Cause::DiskFull,
        Cause::SourceOverloaded,
        Cause::DiskSlow,
        Cause::StoreFailed,
        Cause::UnusableSource,
        Cause::Internal,
    ]
    .map(Cause::code)
    .to_vec()
}

/// The command that these arguments are, for the record: its noun and verb.
pub(crate) fn name_of(arguments: &[&str]) -> String {
    let words = arguments.iter().take_while(|word| !word.starts_with('-')).take(2);
    words.copied().collect::<Vec<_>>().join(" ")
}

/// Answers in turn as applications in trouble do, each time with a canary where there is an answer.
fn misbehave() -> impl FnMut(&crate::support::app::Received) -> Reply + Send + 'static {
    let mut turn = 0;
    move |_| {
        turn += 1;
        let said = |status| {
            Reply::status(status)
                .body(ANSWER)
                .header("x-canary", ANSWER_HEADER)
        };
        match turn % 7 {
            0 => said(500),
            1 => said(410),
            2 => said(302).header("location", &format!("http://127.0.0.1/?token={QUERY_SECRET}")),
            3 => Reply::hang_up(),
            4 => said(200).after(std::time::Duration::from_millis(1_500)),
            5 => said(503).header("retry-after", "1"),
            _ => said(404),
        }
    }
}

/// Now, as signed times are written.
pub(crate) fn now_text() -> String {
    unix_seconds().to_string()
}

/// A request on a connection of its own whose answer need not be one: what came is remembered.
pub(crate) fn raw(world: &mut World, what: &str, bytes: &[u8]) {
    // The other end may close before all is written; what it said until then counts.
    let said = http::raw(world.server.listen(), bytes).unwrap_or_default();
    let text = String::from_utf8_lossy(&said).into_owned();
    if let Some((_, body)) = text.split_once("\r\n\r\n")
        && let Some((code, _)) = body.split_once(": ")
    {
        world.record.causes.insert(code.to_owned());
    }
    world.record.hear_everyday(what, &said);
}
