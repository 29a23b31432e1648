//! Owns running the program as a person does: arguments in, what it says and its exit code out.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// The program, about to be run.
pub(crate) struct Program {
    command: Command,
    input: Vec<u8>,
}

/// What it said.
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) data: String,
    pub(crate) raw: Vec<u8>,
    pub(crate) talk: String,
}

impl Program {
    /// The program with these arguments and nothing of our environment that it heeds.
    pub(crate) fn new(arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hookfast"));
        command.args(arguments);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("HOOKFAST_") {
                command.env_remove(name);
            }
        }
        Self {
            command,
            input: Vec::new(),
        }
    }

    pub(crate) fn within(mut self, directory: &Path) -> Self {
        self.command.current_dir(directory);
        self
    }

    pub(crate) fn environment(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    pub(crate) fn argument(mut self, argument: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.arg(argument);
        self
    }

    pub(crate) fn input(mut self, input: &[u8]) -> Self {
        self.input = input.to_vec();
        self
    }

    /// Runs it to its end.
    pub(crate) fn run(mut self) -> Said {
        let pipes = self
            .command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = pipes.spawn().expect("the program starts");
        // It may end without reading.
        drop(
            child
                .stdin
                .take()
                .expect("its stdin is ours")
                .write_all(&self.input),
        );
        let Output {
            status,
            stdout,
            stderr,
        } = child.wait_with_output().expect("the program ends");
        Said {
            code: status.code().expect("it ends by itself"),
            data: String::from_utf8_lossy(&stdout).into_owned(),
            raw: stdout,
            talk: String::from_utf8_lossy(&stderr).into_owned(),
        }
    }
}

impl Said {
    /// What it printed, where it did what it was asked.
    pub(crate) fn done(self) -> String {
        assert_eq!(self.code, 0, "{}{}", self.data, self.talk);
        self.data
    }

    /// What it printed, as JSON.
    pub(crate) fn json(self) -> serde_json::Value {
        serde_json::from_str(&self.done()).expect("it prints JSON")
    }
}

/// Runs the program with these arguments.
pub(crate) fn hookfast(arguments: &[&str]) -> Said {
    Program::new(arguments).run()
}
