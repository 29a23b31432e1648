//! Owns the faulty disk of the tests: compiles `faults/syncshim.c` once, sets it, and reads what it saw.
//! It must not know what is run on it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use tempfile::TempDir;

/// A disk with faults for one process. The settings stand in the head of `faults/syncshim.c`.
#[derive(Debug)]
pub(crate) struct Shim {
    directory: TempDir,
}

/// One line of the shim's log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Seen {
    /// When, in nanoseconds of the monotonic clock.
    pub(crate) nanos: u64,
    /// What.
    pub(crate) what: Event,
}

/// What the shim saw.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Event {
    /// A sync that came back.
    Sync {
        /// `fsync`, `fdatasync` or `sync_file_range`.
        call: String,
        /// The error's number, where it failed.
        error: Option<i32>,
        /// The file.
        path: String,
    },
    /// An acknowledgement that was about to be sent.
    Ack {
        /// 200 or 202.
        status: u16,
        /// The port that it was sent from.
        port: u16,
    },
}

impl Shim {
    /// One without faults that only watches, with these settings from the start (`("delay_ms", "50")`).
    pub(crate) fn new(settings: &[(&str, &str)]) -> Self {
        let directory =
            TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory for the shim can be made");
        let shim = Self { directory };
        shim.set(settings);
        shim
    }

    /// The variables that put it before a process.
    pub(crate) fn environment(&self) -> Vec<(String, String)> {
        let text = |path: PathBuf| path.to_str().expect("the path is UTF-8").to_owned();
        vec![
            ("LD_PRELOAD".to_owned(), text(library().to_owned())),
            ("SYNCSHIM_CONTROL".to_owned(), text(self.control())),
            ("SYNCSHIM_LOG".to_owned(), text(self.log_file())),
        ]
    }

    /// Replaces all settings, also of a process that runs, and lets its counts start anew.
    pub(crate) fn set(&self, settings: &[(&str, &str)]) {
        let lines: String = settings
            .iter()
            .map(|(name, value)| format!("{name}={value}\n"))
            .collect();
        let new = self.directory.path().join("control.new");
        fs::write(&new, lines).expect("the settings can be written");
        fs::rename(new, self.control()).expect("the settings can be replaced");
    }

    /// All it saw until now.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        let text = fs::read_to_string(self.log_file()).unwrap_or_default();
        text.lines()
            .map(|line| parse(line).unwrap_or_else(|| panic!("not a line of the shim: {line}")))
            .collect()
    }

    fn control(&self) -> PathBuf {
        self.directory.path().join("control")
    }

    fn log_file(&self) -> PathBuf {
        self.directory.path().join("log")
    }
}

fn parse(line: &str) -> Option<Seen> {
    let mut words = line.splitn(6, ' ');
    let nanos = words.next()?.parse().ok()?;
    let _thread = words.next()?;
    let what = match words.next()? {
        "sync" => Event::Sync {
            call: words.next()?.to_owned(),
            error: match words.next()? {
                "ok" => None,
                number => Some(number.parse().ok()?),
            },
            path: words.next()?.to_owned(),
        },
        "ack" => Event::Ack {
            status: words.next()?.parse().ok()?,
            port: words.next()?.parse().ok()?,
        },
        _ => return None,
    };
    Some(Seen { nanos, what })
}

/// The compiled shim.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        compile(
            "syncshim.c",
            "syncshim.so",
            &["-O2", "-shared", "-fPIC", "-pthread"],
        )
    })
}

/// Compiles a program of `tests/faults` and gives its place. Two tests may do so at once: each writes its own file
/// and renames it.
pub(crate) fn compile(source: &str, name: &str, flags: &[&str]) -> PathBuf {
    static PARTS: AtomicUsize = AtomicUsize::new(0);
    let source = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/faults")
        .join(source);
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let built = directory.join(name);
    let number = PARTS.fetch_add(1, Ordering::Relaxed);
    let part = directory.join(format!("{name}.{}.{number}", std::process::id()));
    let output = Command::new(std::env::var_os("CC").unwrap_or_else(|| "cc".into()))
        .args(["-Wall", "-Wextra", "-Werror"])
        .args(flags)
        .arg("-o")
        .arg(&part)
        .arg(&source)
        .output()
        .expect("a C compiler is there as `cc` or in $CC");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{} does not compile:\n{said}",
        source.display()
    );
    fs::rename(&part, &built).expect("the compiled file can be put in its place");
    built
}
