//! Owns the SMTP server of these tests as a process, `server.py`: how it is set up, its certificate, and what it got.
//! It must not know what is sent.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use crate::support::ports::Port;
use crate::support::tools;

/// An SMTP server in a directory of its own, running or not.
pub(crate) struct Smtpd {
    port: Port,
    directory: TempDir,
    settings: Map<String, Value>,
    replies: Map<String, Value>,
    process: Option<Child>,
}

impl Smtpd {
    /// A server that speaks `starttls`, `tls` or none, for the host 127.0.0.1, not started yet.
    pub(crate) fn new(security: &str) -> Self {
        Self::of_host(security, "127.0.0.1")
    }

    /// The same with a certificate for another host.
    pub(crate) fn of_host(security: &str, host: &str) -> Self {
        let port = Port::take();
        let directory = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let path = |name: &str| directory.path().join(name);
        certify(directory.path(), host);
        let settings = json!({
            "port": port.address.port(),
            "security": security,
            "certificate": path("certificate.pem"),
            "key": path("key.pem"),
            "user": null,
            "password": null,
            "without": [],
            "record": path("record.jsonl"),
            "replies": path("replies.json"),
        });
        let mut server = Self {
            port,
            settings: settings.as_object().unwrap().clone(),
            directory,
            replies: Map::new(),
            process: None,
        };
        server.reply("nobody", None);
        server
    }

    /// It wants this user and password.
    pub(crate) fn login(mut self, user: &str, password: &str) -> Self {
        self.settings.insert("user".to_owned(), json!(user));
        self.settings.insert("password".to_owned(), json!(password));
        self
    }

    /// It does not offer this way to log in.
    pub(crate) fn without(mut self, mechanism: &str) -> Self {
        self.settings.insert("without".to_owned(), json!([mechanism]));
        self
    }

    /// Started.
    pub(crate) fn started(mut self) -> Self {
        self.start();
        self
    }

    /// Starts it and waits until it takes connections.
    pub(crate) fn start(&mut self) {
        let log = File::options().create(true).append(true).open(self.log_file());
        let mut child = tools::python()
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mail/server.py"))
            .arg(Value::Object(self.settings.clone()).to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log.unwrap())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let stdout = child.stdout.take().unwrap();
        self.process = Some(child);
        BufReader::new(stdout).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n", "the SMTP server said:\n{}", self.log());
    }

    /// Kills it.
    pub(crate) fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// From now on, this address is answered so; `from:` and `data:` in front of it mean other commands.
    pub(crate) fn reply(&mut self, address: &str, answer: Option<&str>) {
        match answer {
            Some(answer) => self.replies.insert(address.to_owned(), json!(answer)),
            None => self.replies.remove(address),
        };
        // Put in place at once: the server may be reading.
        let (file, new) = (self.path("replies.json"), self.path("replies.new"));
        fs::write(&new, Value::Object(self.replies.clone()).to_string()).unwrap();
        fs::rename(new, file).unwrap();
    }

    /// Its port.
    pub(crate) fn port(&self) -> u16 {
        self.port.address.port()
    }

    /// The certificate of the authority that issued its own, as a PEM file.
    pub(crate) fn authority(&self) -> PathBuf {
        self.path("authority.pem")
    }

    /// Every login that was tried.
    pub(crate) fn logins(&self) -> Vec<Value> {
        self.recorded("login")
    }

    /// Every mail it got.
    pub(crate) fn mails(&self) -> Vec<Value> {
        self.recorded("mail")
    }

    fn recorded(&self, kind: &str) -> Vec<Value> {
        let record = fs::read_to_string(self.path("record.jsonl")).unwrap_or_default();
        let entries = record
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        entries.filter(|entry| entry["kind"] == kind).collect()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    fn log_file(&self) -> PathBuf {
        self.path("log")
    }
}

impl Drop for Smtpd {
    fn drop(&mut self) {
        self.stop();
        crate::support::quote_where_failing("SMTP server", &self.log());
    }
}

/// Makes an authority, and a certificate of it for `host`.
fn certify(directory: &Path, host: &str) {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    // No two have the same name: each is a stranger to the others.
    let name = directory.display().to_string();
    authority.distinguished_name.push(DnType::CommonName, name);
    let authority_key = KeyPair::generate().unwrap();
    let own = authority.self_signed(&authority_key).unwrap();
    fs::write(directory.join("authority.pem"), own.pem()).unwrap();
    let issuer = Issuer::new(authority, authority_key);
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec![host.to_owned()]).unwrap();
    let certificate = certificate.signed_by(&key, &issuer).unwrap();
    fs::write(directory.join("certificate.pem"), certificate.pem()).unwrap();
    fs::write(directory.join("key.pem"), key.serialize_pem()).unwrap();
}
