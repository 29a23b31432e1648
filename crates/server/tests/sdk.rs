//! Owns the proof that Standard Webhooks' own libraries, from npm and from PyPI, understand what Hookfast sends and
//! are understood by it (SPEC I9, I20). It must not check signatures itself.

mod support;

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Map, Value, json};
use support::app::{App, Received};
use support::server::Server;
use support::time::unix_seconds;
use support::{http, tools};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const OTHER_SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
const PATH: &str = "/in/partner";
/// With what is not ASCII, and with spaces that a parser would lose.
const BODY: &str = r#"{ "type": "contact.updated", "data": {"name": "Zoë", "emoji": "🪝"} }"#;

/// A library and how it is called.
struct Library {
    name: &'static str,
    command: fn() -> Command,
    script: &'static str,
}

const LIBRARIES: [Library; 2] = [
    Library {
        name: "npm",
        command: tools::node,
        script: "sdk.js",
    },
    Library {
        name: "PyPI",
        command: tools::python,
        script: "sdk.py",
    },
];

impl Library {
    fn run(&self, verb: &str, given: &Value) -> String {
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sdk");
        let mut child = (self.command)()
            .arg(scripts.join(self.script))
            .arg(verb)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the library's script starts");
        let mut stdin = child.stdin.take().expect("standard input is piped");
        stdin
            .write_all(given.to_string().as_bytes())
            .expect("the script reads");
        drop(stdin);
        let output = child.wait_with_output().expect("the script ends");
        assert!(output.status.success(), "{}: {}", self.name, output.status);
        String::from_utf8(output.stdout).expect("the script prints text")
    }

    fn sign(&self, secret: &str, id: &str, seconds: u64) -> String {
        let given = json!({ "secret": secret, "id": id, "seconds": seconds, "body": BODY });
        self.run("sign", &given)
    }

    fn verify(&self, secret: &str, headers: &Map<String, Value>, body: &str) -> String {
        let given = json!({ "secret": secret, "headers": headers, "body": body });
        self.run("verify", &given)
    }
}

/// A source and a destination that speak Standard Webhooks, with different secrets.
fn server(app: &App) -> Server {
    Server::with(&format!(
        "[[source]]\nname = \"partner\"\nprovider = \"standard-webhooks\"\nsecrets = [\"{OTHER_SECRET}\"]\n\n\
         [[destination]]\nname = \"app\"\nurl = \"{}\"\nsources = [\"partner\"]\nsecret = \"{SECRET}\"\n\
         allow_private = true\n",
        app.url()
    ))
}

/// Posts the body as a provider that uses the library would; gives the status.
fn post(server: &Server, library: &Library, secret: &str, id: &str) -> u16 {
    let seconds = unix_seconds();
    let timestamp = seconds.to_string();
    let signature = library.sign(secret, id, seconds);
    let headers = [
        ("content-type", "application/json"),
        ("webhook-id", id),
        ("webhook-timestamp", &timestamp),
        ("webhook-signature", &signature),
    ];
    http::request(server.listen(), "POST", PATH, &headers, BODY.as_bytes()).status
}

fn headers_of(request: &Received) -> Map<String, Value> {
    let pairs = request.headers.iter();
    pairs
        .map(|(name, value)| (name.clone(), Value::from(value.as_str())))
        .collect()
}

#[test]
fn webhooks_signed_by_the_libraries_are_accepted_and_what_is_delivered_is_valid_to_them() {
    let app = App::start();
    let server = server(&app);
    for library in &LIBRARIES {
        let id = format!("msg_{}", library.name);
        assert_eq!(post(&server, library, OTHER_SECRET, &id), 200, "{}", library.name);
    }
    for request in app.wait_for(LIBRARIES.len()) {
        let headers = headers_of(&request);
        let body = String::from_utf8(request.body.clone()).expect("the body is the text that was sent");
        assert_eq!(body, BODY);
        for library in &LIBRARIES {
            let name = library.name;
            assert_eq!(
                library.verify(SECRET, &headers, &body),
                "valid",
                "{name}: {headers:?}"
            );
            let changed = body.replace("Zoë", "Zoe");
            assert_ne!(library.verify(SECRET, &headers, &changed), "valid", "{name}");
            assert_ne!(library.verify(OTHER_SECRET, &headers, &body), "valid", "{name}");
        }
    }
    let ids: Vec<_> = app.counts().into_keys().collect();
    assert_eq!(ids, ["msg_PyPI", "msg_npm"]);
}

#[test]
fn webhooks_signed_by_the_libraries_with_another_secret_are_refused_and_not_delivered() {
    let app = App::start();
    let server = server(&app);
    for library in &LIBRARIES {
        assert_eq!(
            post(&server, library, SECRET, "msg_forged"),
            401,
            "{}",
            library.name
        );
    }
    assert_eq!(post(&server, &LIBRARIES[0], OTHER_SECRET, "msg_true"), 200);
    app.wait_for(1);
    assert_eq!(app.counts().into_keys().collect::<Vec<_>>(), ["msg_true"]);
}
