//! The process that goes through a script while its disk is recorded, and how it is started.
//!
//! Owns both sides of that: the roles, the marks and the shim in front of the process. The process is this test's
//! own program, started again with [`ROLE`] set. Must not know what a disk keeps, nor what is right.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hookfast_engine::time::Timestamp;
use hookfast_store::conformance::{Recorder, START};
use hookfast_store::{Store, StoreError};
use tempfile::TempDir;

use crate::script::{Answer, Plan, Script, Step, probes};
use crate::{runtime, subject};

/// The test that is such a process where [`ROLE`] is set.
const TEST: &str = "a_process_goes_through_its_script_and_the_record_tells_all_of_it";
/// What a process is to do.
const ROLE: &str = "HOOKFAST_POWER_ROLE";
/// How long a sync takes: long enough for what is asked at once to be committed together.
const SYNC_MICROS: &str = "200";
/// How often a step that the store could not take yet is asked again.
const AGAIN: usize = 5;

/// What a process is to do with the store in its directory.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Role {
    /// Goes through a script.
    Script { plan: Plan, honesty: Honesty },
    /// Opens the store and ends, with or without closing it.
    Recover { now: Timestamp, close: bool },
}

/// When the process says that a step is done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Honesty {
    /// Once the store answered.
    AfterTheAnswer,
    /// When it asks: a lie, which the judge must see.
    BeforeTheAnswer,
}

impl Role {
    fn words(self) -> String {
        match self {
            Self::Script { plan, honesty } => {
                let lies = honesty == Honesty::BeforeTheAnswer;
                format!("script {plan} {lies}")
            }
            Self::Recover { now, close } => format!("recover {} {close}", now.as_micros()),
        }
    }

    fn parse(words: &str) -> Option<Self> {
        let words: Vec<_> = words.split(' ').collect();
        match words[..] {
            ["script", plan, lies] => Some(Self::Script {
                plan: plan.parse().ok()?,
                honesty: if lies.parse().ok()? {
                    Honesty::BeforeTheAnswer
                } else {
                    Honesty::AfterTheAnswer
                },
            }),
            ["recover", now, close] => Some(Self::Recover {
                now: Timestamp::from_micros(now.parse().ok()?),
                close: close.parse().ok()?,
            }),
            _ => None,
        }
    }
}

/// Which call of a process fails, and how; in the words of `diskshim.c`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Fault {
    pub(crate) class: &'static str,
    pub(crate) how: &'static str,
    pub(crate) number: usize,
}

impl Fault {
    /// How a process ends whose call this is the end of.
    const KILL: &str = "kill";

    /// Whether the process ends with it.
    pub(crate) fn kills(self) -> bool {
        self.how == Self::KILL
    }
}

/// A directory whose changes are recorded.
#[derive(Debug)]
pub(crate) struct Recorded {
    directory: TempDir,
}

impl Recorded {
    pub(crate) fn new() -> Self {
        let directory = scratch();
        fs::create_dir(directory.path().join("root")).expect("the directory can be made");
        Self { directory }
    }

    /// The directory.
    pub(crate) fn root(&self) -> PathBuf {
        self.directory.path().join("root")
    }

    /// What was recorded; one process after the other.
    pub(crate) fn log(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    /// Runs a process to its end. It fails where the process does: a store that refuses is no failure of it, nor is
    /// that it was killed by a fault.
    pub(crate) fn run(&self, role: Role, fault: Option<Fault>) -> Result<(), String> {
        let error_file = self.directory.path().join("errors");
        let errors = File::create(&error_file).expect("the file can be made");
        let may_die = fault.is_some_and(Fault::kills);
        let fault = fault.map(|it| format!("{}:{}:{}", it.class, it.how, it.number));
        let mut child = Command::new(std::env::current_exe().expect("this program has a path"))
            .args(["--exact", TEST, "--nocapture"])
            .env(ROLE, role.words())
            .env("LD_PRELOAD", library())
            .env("DISKSHIM_ROOT", self.root())
            .env("DISKSHIM_LOG", self.log())
            .env("DISKSHIM_MARKS", self.directory.path().join("marks"))
            .env("DISKSHIM_UNRECORDED", subject::UNRECORDED)
            .env("DISKSHIM_SYNC_US", SYNC_MICROS)
            .env("DISKSHIM_FAULT", fault.unwrap_or_default())
            .stdout(Stdio::null())
            .stderr(errors)
            .spawn()
            .expect("this program can be started again");
        let ended = wait(&mut child);
        let killed = |status: ExitStatus| may_die && status.signal() == Some(9);
        if ended.is_some_and(|status| status.success() || killed(status)) {
            return Ok(());
        }
        let said = fs::read_to_string(error_file).unwrap_or_default();
        Err(format!("the process under test failed ({ended:?}):\n{said}"))
    }
}

/// `None` where it had to be killed.
fn wait(child: &mut Child) -> Option<ExitStatus> {
    for _ in 0..12_000 {
        if let Some(status) = child.try_wait().expect("a child can be waited for") {
            return Some(status);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    child.kill().expect("a child can be killed");
    child.wait().expect("a child can be waited for");
    None
}

/// A directory in memory where there is room for it: nothing here relies on this machine's own disk.
pub(crate) fn scratch() -> TempDir {
    const ROOM: u64 = 2 * 1024 * 1024 * 1024;
    let memory = Path::new("/dev/shm");
    let free = |found: rustix::fs::StatVfs| found.f_bavail.saturating_mul(found.f_frsize);
    let roomy = rustix::fs::statvfs(memory).is_ok_and(|found| free(found) > ROOM);
    let base = if roomy {
        memory
    } else {
        Path::new(env!("CARGO_TARGET_TMPDIR"))
    };
    let base = base.canonicalize().expect("the directory is there");
    TempDir::with_prefix_in("hookfast-power-", base).expect("a directory can be made")
}

/// The compiled shim. Two tests may compile it at once: each writes its own file and renames it.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/power/diskshim.c");
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let part = directory.join(format!("diskshim.so.{}", std::process::id()));
        let output = Command::new(std::env::var_os("CC").unwrap_or_else(|| "cc".into()))
            .args([
                "-Wall", "-Wextra", "-Werror", "-O2", "-shared", "-fPIC", "-pthread", "-o",
            ])
            .args([&part, &source])
            .output()
            .expect("a C compiler is there as `cc` or in $CC");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "diskshim.c does not compile:\n{said}");
        let built = directory.join("diskshim.so");
        fs::rename(part, &built).expect("the compiled file can be put in its place");
        built
    })
}

/// Is the process under test, where this process was started as one; false where it was not.
pub(crate) fn play() -> bool {
    let Ok(words) = std::env::var(ROLE) else {
        return false;
    };
    let role = Role::parse(&words).unwrap_or_else(|| panic!("not a role: {words}"));
    let variable = |name| PathBuf::from(std::env::var_os(name).expect("the shim's variables are set"));
    let data = variable("DISKSHIM_ROOT").join(subject::DATA);
    let marks = OpenOptions::new()
        .create(true)
        .append(true)
        .open(variable("DISKSHIM_MARKS"));
    let mut marks = Marks(marks.expect("the marks can be written"));
    runtime().block_on(async {
        match role {
            Role::Recover { now, close } => match subject::open(&data, Arc::new(Recorder::default()), now) {
                Ok(store) if close => store.close().await,
                Ok(_) => {}
                Err(error) => marks.say(&format!("stopped {error}")),
            },
            Role::Script { plan, honesty } => {
                let mut process = Process {
                    data,
                    marks,
                    honesty,
                    step: 0,
                };
                if let Err(stopped) = process.go(Script::new(plan)).await {
                    process.marks.say(&format!("stopped {stopped}"));
                }
            }
        }
    });
    true
}

/// What the process says, in order with what it does to its disk.
#[derive(Debug)]
struct Marks(File);

impl Marks {
    fn say(&mut self, words: &str) {
        self.0
            .write_all(words.as_bytes())
            .expect("the marks can be written");
    }
}

struct Process {
    data: PathBuf,
    marks: Marks,
    honesty: Honesty,
    /// The number of the next step.
    step: usize,
}

/// An open store and its delivery side.
struct Open {
    store: Arc<dyn Store>,
    slots: Arc<Recorder>,
}

impl Process {
    fn open(&self, now: Timestamp) -> Result<Open, StoreError> {
        let slots = Arc::new(Recorder::default());
        let store = subject::open(&self.data, slots.clone(), now)?;
        Ok(Open { store, slots })
    }

    /// Goes through a script, up to its end or to the step after which the store promises nothing any more.
    async fn go(&mut self, mut script: Script) -> Result<(), StoreError> {
        let mut open = Some(self.open(START)?);
        let mut turn = Some(script.setting_up());
        while let Some(steps) = turn {
            if let [Step::Reopen { close, now }] = steps[..] {
                let number = self.asks();
                let old = open.take().expect("the store is open");
                if close {
                    old.store.close().await;
                }
                drop(old);
                open = Some(self.open(now)?);
                self.done(number, &Step::reopened());
            } else {
                let open = open.as_ref().expect("the store is open");
                let appends = steps.iter().all(|step| matches!(step, Step::Append(..)));
                if appends && steps.len() > 1 {
                    self.at_once(open, steps).await?;
                } else {
                    for step in steps {
                        script.learn(&self.one(open, step).await?);
                    }
                }
            }
            turn = script.turn();
        }
        Ok(())
    }

    fn asks(&mut self) -> usize {
        let number = self.step;
        self.step += 1;
        self.marks.say(&format!("asked {number}"));
        if self.honesty == Honesty::BeforeTheAnswer {
            self.marks.say(&format!("done {number}"));
        }
        number
    }

    fn done(&mut self, number: usize, answer: &Answer) {
        if self.honesty == Honesty::AfterTheAnswer {
            self.marks.say(&format!("done {number} {}", answer.text));
        }
    }

    /// Asks one step, again where the store could not take it: as a sender does.
    async fn one(&mut self, open: &Open, step: Step) -> Result<Answer, StoreError> {
        let number = self.asks();
        let mut tries = 0;
        loop {
            tries += 1;
            match step.ask(&*open.store, &open.slots).await {
                Ok(answer) => {
                    self.done(number, &answer);
                    return Ok(answer);
                }
                Err(StoreError::Unavailable { .. }) if tries < AGAIN => {}
                Err(error) => return Err(self.fail(open, error).await),
            }
        }
    }

    /// Asks several at once. One that the store could not take is left out: nothing of it may be there.
    async fn at_once(&mut self, open: &Open, steps: Vec<Step>) -> Result<(), StoreError> {
        let asked: Vec<_> = steps.iter().map(|_| self.asks()).collect();
        let calls: Vec<_> = steps
            .into_iter()
            .map(|step| {
                let (store, slots) = (Arc::clone(&open.store), Arc::clone(&open.slots));
                tokio::spawn(async move { step.ask(&*store, &slots).await })
            })
            .collect();
        for (number, call) in asked.into_iter().zip(calls) {
            match call.await.expect("the call does not panic") {
                Ok(answer) => self.done(number, &answer),
                Err(error @ StoreError::Unavailable { .. }) => {
                    self.marks.say(&format!("refused {number} {error}"))
                }
                Err(error) => return Err(self.fail(open, error).await),
            }
        }
        Ok(())
    }

    /// After an answer that leaves it open whether the step was done, nothing is taken any more.
    async fn fail(&mut self, open: &Open, error: StoreError) -> StoreError {
        let broken = matches!(error, StoreError::Unknown { .. } | StoreError::Corrupt { .. });
        if broken {
            let told = tokio::time::timeout(Duration::from_secs(10), open.store.broken()).await;
            assert!(told.is_ok(), "whoever runs the store is told that it is broken");
            let next = probes(START).next().expect("there is one");
            let next = open.store.append(next).await;
            assert!(next.is_err(), "a broken store takes nothing: {next:?}");
        }
        error
    }
}
