//! Owns `hookfast serve` as a process: starting, the ready line, signals, the end, starting again in place.
//! It must not know what the configuration says.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use tempfile::TempDir;

use super::http::{self, Answer};
use super::ports::Port;
use super::shim::Shim;
use super::time::{LIMIT, wait_for};

/// The admin key of every server of the tests.
pub(crate) const ADMIN_KEY: &str = "test-only-admin-key-0123456789abcdef";

/// How a server is to be started.
#[derive(Debug)]
pub(crate) struct Setup {
    config: String,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    directory: Option<PathBuf>,
    open_files: Option<String>,
}

impl Setup {
    /// With that configuration file.
    pub(crate) fn new(config: &str) -> Self {
        Self {
            config: config.to_owned(),
            arguments: Vec::new(),
            environment: Vec::new(),
            directory: None,
            open_files: None,
        }
    }

    /// Also with that argument on the command line.
    pub(crate) fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// Also with that variable.
    pub(crate) fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// On a disk with these faults.
    pub(crate) fn shim(mut self, shim: &Shim) -> Self {
        self.environment.extend(shim.environment());
        self
    }

    /// With its configuration and data in a directory of the caller's, such as a small disk of its own.
    pub(crate) fn directory(mut self, directory: &Path) -> Self {
        self.directory = Some(directory.to_owned());
        self
    }

    /// With that soft limit of open files, as a shell or a service manager gives it.
    pub(crate) fn open_files(mut self, count: u32) -> Self {
        self.open_files = Some(format!("-Sn {count}"));
        self
    }

    /// With that limit of open files, which it cannot raise.
    pub(crate) fn hard_open_files(mut self, count: u32) -> Self {
        self.open_files = Some(format!("-n {count}"));
        self
    }

    /// Starts it and waits until it is ready. The test fails where it does not become so.
    pub(crate) fn start(self) -> Server {
        let mut server = self.prepare();
        server.start();
        server
    }

    /// Prepares a server that does not run yet.
    pub(crate) fn prepare(self) -> Server {
        let own =
            TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory for the server can be made");
        let directory = self.directory.clone().unwrap_or_else(|| own.path().to_owned());
        Server {
            setup: self,
            directory,
            listen: Port::take(),
            admin: Port::take(),
            process: None,
            printed: Arc::default(),
            starts: 0,
            _own: own,
        }
    }
}

/// A server in a directory of its own, which lives as long as this value.
#[derive(Debug)]
pub(crate) struct Server {
    setup: Setup,
    directory: PathBuf,
    listen: Port,
    admin: Port,
    process: Option<Child>,
    printed: Arc<Mutex<String>>,
    starts: u32,
    _own: TempDir,
}

impl Server {
    /// Starts a server with that configuration and waits until it is ready.
    pub(crate) fn with(config: &str) -> Self {
        Setup::new(config).start()
    }

    /// Where it takes webhooks.
    pub(crate) fn listen(&self) -> SocketAddr {
        self.listen.address
    }

    /// Where it takes administration.
    pub(crate) fn admin(&self) -> SocketAddr {
        self.admin.address
    }

    /// Its directory of data.
    pub(crate) fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.process.as_ref().expect("the server runs").id()
    }

    /// Replaces the configuration file; the server reads it at its next start or on `hang_up`.
    pub(crate) fn configure(&mut self, config: &str) {
        config.clone_into(&mut self.setup.config);
        fs::write(self.directory.join("hookfast.toml"), config).expect("the configuration can be written");
    }

    /// Replaces a variable for the next start.
    pub(crate) fn set_environment(&mut self, name: &str, value: &str) {
        self.setup.environment.retain(|(key, _)| key != name);
        self.setup.environment.push((name.to_owned(), value.to_owned()));
    }

    /// Starts it on the same directory and the same ports, and waits until it is ready.
    pub(crate) fn start(&mut self) {
        if let Err(log) = self.try_start() {
            panic!("the server did not become ready; it said:\n{log}");
        }
    }

    /// The same; where it ends before it is ready, gives what it said.
    pub(crate) fn try_start(&mut self) -> Result<(), String> {
        assert!(self.process.is_none(), "the server runs already");
        self.starts += 1;
        let config = self.directory.join("hookfast.toml");
        // Left alone where it is right: the disk may be full.
        if fs::read_to_string(&config).ok().as_ref() != Some(&self.setup.config) {
            fs::write(&config, &self.setup.config).expect("the configuration can be written");
        }
        let mut child = self.command(&config).spawn().expect("hookfast starts");
        let ready = wait_until_ready(&mut child, &self.printed);
        self.process = Some(child);
        if let Some(line) = ready {
            let listen = format!("listen={}", self.listen());
            let admin = format!("admin={}", self.admin());
            assert!(line.contains(&listen) && line.contains(&admin), "{line}");
            return Ok(());
        }
        let ended = self.process.as_mut().map(Child::try_wait);
        self.kill();
        Err(format!("{}it ended, or not: {ended:?}\n", self.log()))
    }

    /// Starts it and kills it after that time, ready or not.
    pub(crate) fn start_and_kill(&mut self, after: Duration) {
        assert!(self.process.is_none(), "the server runs already");
        self.starts += 1;
        let config = self.directory.join("hookfast.toml");
        fs::write(&config, &self.setup.config).expect("the configuration can be written");
        let mut child = self.command(&config).spawn().expect("hookfast starts");
        // It writes one line at the most: its standard output never fills up.
        std::thread::sleep(after);
        let ended = child.try_wait().expect("the server can be waited for");
        assert!(
            ended.is_none(),
            "the server ended by itself; it said:\n{}",
            self.log()
        );
        child.kill().expect("the server can be killed");
        child.wait().expect("the server ends");
    }

    fn command(&self, config: &Path) -> Command {
        let mut command = match &self.setup.open_files {
            None => Command::new(env!("CARGO_BIN_EXE_hookfast")),
            Some(limit) => {
                let mut shell = Command::new("sh");
                shell.arg("-c");
                shell.arg(format!("ulimit {limit} && exec \"$0\" \"$@\""));
                shell.arg(env!("CARGO_BIN_EXE_hookfast"));
                shell
            }
        };
        forget_settings(&mut command);
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_file())
            .expect("the log can be opened");
        command
            .arg("serve")
            .arg("--config")
            .arg(config)
            .arg("--data")
            .arg(self.data())
            .arg("--listen")
            .arg(self.listen().to_string())
            .arg("--admin")
            .arg(self.admin().to_string())
            .args(&self.setup.arguments)
            .env("HOOKFAST_ADMIN_KEY", ADMIN_KEY)
            .envs(self.setup.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log);
        command
    }

    /// Kills it with SIGKILL and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().expect("the server can be killed");
            process.wait().expect("the server ends");
        }
    }

    /// Asks it to stop (SIGTERM) and waits for the end.
    pub(crate) fn terminate(&mut self) -> ExitStatus {
        self.signal("TERM");
        self.wait_for_end()
    }

    /// Waits until it ends by itself, for a minute at the most.
    pub(crate) fn wait_for_end(&mut self) -> ExitStatus {
        let process = self.process.as_mut().expect("the server runs");
        let status = wait_for("the server to end", || {
            process.try_wait().expect("the server can be waited for")
        });
        self.process = None;
        status
    }

    /// Whether it has not ended by itself.
    pub(crate) fn runs(&mut self) -> bool {
        let Some(process) = self.process.as_mut() else {
            return false;
        };
        let ended = process.try_wait().expect("the server can be waited for");
        if ended.is_some() {
            self.process = None;
        }
        ended.is_none()
    }

    /// Tells it to read its configuration again (SIGHUP).
    pub(crate) fn hang_up(&self) {
        self.signal("HUP");
    }

    /// Stops it in its tracks (SIGSTOP), until `go_on`.
    pub(crate) fn freeze(&self) {
        self.signal("STOP");
    }

    /// Lets it go on after `freeze`.
    pub(crate) fn go_on(&self) {
        self.signal("CONT");
    }

    /// Sends the signal of that name (without `SIG`).
    pub(crate) fn signal(&self, name: &str) {
        signal(self.pid(), name);
    }

    /// The memory it has resident now, in bytes.
    pub(crate) fn resident_bytes(&self) -> u64 {
        self.memory("VmRSS:")
    }

    /// The most memory it ever had resident since its start, in bytes.
    pub(crate) fn peak_bytes(&self) -> u64 {
        self.memory("VmHWM:")
    }

    fn memory(&self, key: &str) -> u64 {
        let path = format!("/proc/{}/status", self.pid());
        let status = fs::read_to_string(path).expect("the server's memory can be read");
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(key))
            .unwrap_or_default();
        let kilobytes = line.trim().trim_end_matches("kB").trim().parse::<u64>();
        kilobytes.expect("the memory is a number") * 1024
    }

    /// All it wrote to standard error since its first start.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// All it wrote to standard output since its first start.
    pub(crate) fn printed(&self) -> String {
        self.printed.lock().expect("no reader fails").clone()
    }

    fn log_file(&self) -> PathBuf {
        self.directory.join("hookfast.log")
    }

    /// Asks the admin listener with the admin key.
    pub(crate) fn call(&self, method: &str, path: &str, body: Option<&serde_json::Value>) -> Answer {
        self.call_with(ADMIN_KEY, method, path, body)
    }

    /// Asks the admin listener with that key.
    pub(crate) fn call_with(
        &self,
        key: &str,
        method: &str,
        path: &str,
        body: Option<&serde_json::Value>,
    ) -> Answer {
        let authorization = format!("Bearer {key}");
        let headers = [
            ("authorization", authorization.as_str()),
            ("content-type", "application/json"),
        ];
        let body = body.map(ToString::to_string).unwrap_or_default();
        http::request(self.admin(), method, path, &headers, body.as_bytes())
    }

    /// `GET` at the admin listener; the test fails where the answer is not 200 with JSON.
    pub(crate) fn get(&self, path: &str) -> serde_json::Value {
        let answer = self.call("GET", path, None);
        assert_eq!(answer.status, 200, "GET {path}: {}", answer.text());
        answer.json()
    }

    /// Runs another command of the binary against this server.
    pub(crate) fn cli(&self, arguments: &[&str]) -> std::process::Output {
        hookfast()
            .args(arguments)
            .env("HOOKFAST_SERVER", format!("http://{}", self.admin()))
            .env("HOOKFAST_KEY", ADMIN_KEY)
            .stdin(Stdio::null())
            .output()
            .expect("hookfast starts")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        super::quote_where_failing("server", &self.log());
    }
}

/// The binary, without the settings of whoever runs the test.
pub(crate) fn hookfast() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hookfast"));
    forget_settings(&mut command);
    command
}

/// The environment has the last word over the file, and a test must not depend on who runs it.
fn forget_settings(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("HOOKFAST_") {
            command.env_remove(name);
        }
    }
}

/// Sends the signal of that name (without `SIG`) to a process.
pub(crate) fn signal(pid: u32, name: &str) {
    // By the shell's own kill: the workspace forbids the unsafe call.
    let status = Command::new("sh")
        .arg("-c")
        .arg(format!("kill -s {name} {pid}"))
        .status();
    assert!(
        status.is_ok_and(|status| status.success()),
        "SIG{name} to {pid} failed"
    );
}

/// The ready line, or nothing where the process ended or hung before it. All that it prints is added to `printed`.
fn wait_until_ready(child: &mut Child, printed: &Arc<Mutex<String>>) -> Option<String> {
    let stdout = child.stdout.take().expect("standard output is piped");
    let (sender, receiver) = mpsc::channel();
    let printed = Arc::clone(printed);
    std::thread::spawn(move || {
        let mut lines = BufReader::new(stdout);
        let mut line = String::new();
        while matches!(lines.read_line(&mut line), Ok(1..)) {
            printed.lock().expect("no reader fails").push_str(&line);
            if line.starts_with("ready ") {
                // The receiver may have given up; then nobody needs the line.
                drop(sender.send(line.clone()));
            }
            line.clear();
        }
    });
    receiver.recv_timeout(LIMIT).ok()
}
