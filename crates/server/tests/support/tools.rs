//! Owns where the tests find Node and Python, and the example applications as processes.
//! It must not look for tools itself: `cargo xtask test` installs them and says where they are.

use std::ffi::OsString;
use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::http;
use super::ports::Port;
use super::time::wait_for;

/// The Python of an environment with Flask, standardwebhooks, aiosmtpd and nylas.
pub(crate) fn python() -> Command {
    Command::new(variable("HOOKFAST_TEST_PYTHON"))
}

/// A Node that finds express, standardwebhooks and nylas.
pub(crate) fn node() -> Command {
    let mut command = Command::new(variable("HOOKFAST_TEST_NODE"));
    command.env("NODE_PATH", variable("HOOKFAST_TEST_NODE_PATH"));
    command
}

fn variable(name: &str) -> OsString {
    std::env::var_os(name).unwrap_or_else(|| panic!("{name} is not set; run `cargo xtask test`"))
}

/// The examples of the repository.
fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples")
}

/// One of the example applications as a process.
#[derive(Debug)]
pub(crate) struct Example {
    port: Port,
    directory: TempDir,
    command: Command,
    process: Option<Child>,
}

impl Example {
    /// `examples/express-app`, not started yet.
    pub(crate) fn express() -> Self {
        let mut command = node();
        command.arg(examples().join("express-app/server.js"));
        Self::new(command)
    }

    /// `examples/flask-app`, not started yet.
    pub(crate) fn flask() -> Self {
        let mut command = python();
        command.arg(examples().join("flask-app/server.py"));
        Self::new(command)
    }

    /// `examples/axum-app`, not started yet. A build of the whole workspace has put it beside the server.
    pub(crate) fn axum() -> Self {
        let program = Path::new(env!("CARGO_BIN_EXE_hookfast")).with_file_name("axum-app");
        assert!(
            program.exists(),
            "{} is not built; run `cargo xtask test`",
            program.display()
        );
        Self::new(Command::new(program))
    }

    fn new(mut command: Command) -> Self {
        let port = Port::take();
        let directory =
            TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory for the example can be made");
        command
            .env("PORT", port.address.port().to_string())
            .env("EFFECTS_FILE", directory.path().join("effects.jsonl"));
        Self {
            port,
            directory,
            command,
            process: None,
        }
    }

    /// With that variable.
    pub(crate) fn environment(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Without that variable, from the next start on.
    pub(crate) fn forget(&mut self, name: &str) {
        self.command.env_remove(name);
    }

    /// Starts it, with the same effects file as before, and waits until it answers.
    pub(crate) fn start(&mut self) {
        let log = File::options().create(true).append(true).open(self.log_file());
        self.command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.expect("the log can be opened"));
        self.process = Some(self.command.spawn().expect("the example starts"));
        wait_for("the example to answer", || {
            assert!(
                self.runs(),
                "the example ended at its start; it said:\n{}",
                self.log()
            );
            let answer = http::try_request(self.address(), "GET", "/effects", &[], b"");
            answer.is_ok_and(|answer| answer.status == 200).then_some(())
        });
    }

    /// Whether it has not ended by itself.
    pub(crate) fn runs(&mut self) -> bool {
        let process = self.process.as_mut().expect("the example was started");
        process
            .try_wait()
            .expect("the example can be waited for")
            .is_none()
    }

    /// Kills it.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            // It may have crashed on its own.
            drop(process.kill());
            process.wait().expect("the example ends");
        }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.port.address
    }

    /// Where it takes webhooks.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/webhooks/nylas", self.address())
    }

    /// How many times each webhook id took effect.
    pub(crate) fn effects(&self) -> serde_json::Map<String, serde_json::Value> {
        self.counts("/effects")
    }

    /// How many times each webhook id came with a good signature, whatever was answered, since the start.
    pub(crate) fn deliveries(&self) -> serde_json::Map<String, serde_json::Value> {
        self.counts("/deliveries")
    }

    fn counts(&self, path: &str) -> serde_json::Map<String, serde_json::Value> {
        let answer = http::get(self.address(), path).json();
        answer.as_object().expect("the counts are an object").clone()
    }

    /// What it wrote to standard error.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    fn log_file(&self) -> PathBuf {
        self.directory.path().join("log")
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        self.kill();
        super::quote_where_failing("example", &self.log());
    }
}
