//! Power cuts: a recorded run of a script, cut at chosen places, and the verdict on what the disk then held.
//!
//! Owns where is cut and how a failure is told so that it can be repeated. Must not know what is right: `judge` does.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::chance::Chance;
use crate::disk::{Disk, Image};
use crate::judge::{History, bounds};
use crate::process::{Honesty, Recorded, Role, scratch};
use crate::record::{self, Change};
use crate::script::Plan;

/// The variables that choose one cut: the case, and the file with the record.
pub(crate) const CASE: &str = "HOOKFAST_POWER_CASE";
pub(crate) const RECORD: &str = "HOOKFAST_POWER_RECORD";

/// Of so many of a hundred cuts the opening that follows is cut too.
const SECOND_PERCENT: usize = 25;

/// A run of a script, recorded.
pub(crate) struct Recording {
    pub(crate) plan: Plan,
    pub(crate) changes: Vec<Change>,
    pub(crate) history: History,
    log: PathBuf,
    /// Holds the log, where it is not somebody's own.
    _directory: Option<Recorded>,
}

/// One cut, or two: what is needed to repeat it beside the record.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Case {
    pub(crate) plan: Plan,
    /// How many changes came before the cut.
    pub(crate) cut: usize,
    /// Decides what the disk then held.
    pub(crate) image: u64,
    /// The opening of the store was cut too, as this decides.
    pub(crate) second: Option<u64>,
}

impl fmt::Display for Case {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { plan, cut, image, .. } = self;
        write!(formatter, "{plan}:{cut}:{image}")?;
        self.second
            .map_or(Ok(()), |second| write!(formatter, ":{second}"))
    }
}

impl FromStr for Case {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let not_one = || format!("`{text}` is not PLAN:CUT:IMAGE or PLAN:CUT:IMAGE:SECOND");
        match text.split(':').collect::<Vec<_>>()[..] {
            [plan, cut, image, ref second @ ..] if second.len() < 2 => Ok(Self {
                plan: plan.parse()?,
                cut: cut.parse().map_err(|_| not_one())?,
                image: image.parse().map_err(|_| not_one())?,
                second: second
                    .first()
                    .map(|it| it.parse().map_err(|_| not_one()))
                    .transpose()?,
            }),
            _ => Err(not_one()),
        }
    }
}

impl Recording {
    /// Has a process go through a script, and checks that the record tells all of it.
    pub(crate) fn make(plan: Plan, honesty: Honesty) -> Self {
        let recorded = Recorded::new();
        let role = Role::Script { plan, honesty };
        recorded
            .run(role, None)
            .unwrap_or_else(|error| panic!("{plan}: {error}"));
        let log = recorded.log();
        let root = recorded.root();
        let recording = Self::of(plan, log, Some(recorded));
        let mut disk = Disk::empty();
        recording.changes.iter().for_each(|change| disk.apply(change));
        let escaped = disk.seen().differences(&root);
        assert!(escaped.is_empty(), "something escaped the record: {escaped:?}");
        let all = recording.history.steps();
        assert_eq!(
            bounds(&recording.changes),
            all..=all,
            "{plan}: it went through the script"
        );
        recording
    }

    /// What somebody kept of a run that failed.
    pub(crate) fn kept(case: &Case, log: &Path) -> Self {
        Self::of(case.plan, log.to_owned(), None)
    }

    fn of(plan: Plan, log: PathBuf, directory: Option<Recorded>) -> Self {
        let changes = record::read(&log);
        Self {
            plan,
            history: History::of(plan, &changes),
            changes,
            log,
            _directory: directory,
        }
    }

    /// How often the log was copied into the database while events came in, not while the store was opened or closed.
    pub(crate) fn copies_of_the_log(&self) -> usize {
        let mut made = self.changes.iter().filter_map(Change::made);
        let database = made.find(|(path, _)| path.ends_with(".db")).map(|(_, file)| file);
        let (mut copies, mut written) = (0, false);
        for change in &self.changes {
            if let Change::Write { file, .. } = change {
                written |= Some(*file) == database;
            }
            let words = change.words().unwrap_or_default();
            if words.starts_with("done ") {
                copies += usize::from(written && !words.ends_with(" reopened"));
                written = false;
            } else if words == "asked 0" {
                written = false;
            }
        }
        copies
    }

    /// So many cuts, in order: two of three at a sync (just before it came back, and just after), the others
    /// anywhere. With more than there are syncs, each of them is cut at least once.
    pub(crate) fn cases(&self, count: usize) -> Vec<Case> {
        let mut chance = Chance::of(self.plan.seed, 7);
        let syncs = self
            .changes
            .iter()
            .enumerate()
            .filter(|(_, it)| matches!(it, Change::Sync { .. }));
        let mut boundaries: Vec<_> = syncs.flat_map(|(at, _)| [at, at + 1]).collect();
        boundaries.dedup();
        let mut places = Vec::new();
        while places.len() < count * 2 / 3 && !boundaries.is_empty() {
            places.push(boundaries.swap_remove(chance.below(boundaries.len())));
        }
        places.extend((places.len()..count).map(|_| chance.below(self.changes.len() + 1)));
        places.sort_unstable();
        let case = |cut| Case {
            plan: self.plan,
            cut,
            image: chance.next(),
            second: chance.percent(SECOND_PERCENT).then(|| chance.next()),
        };
        places.into_iter().map(case).collect()
    }

    /// Judges the cuts, which are in order, on a disk to which only the changes happened that `happens` lets
    /// through, until `stop` says that it is enough; how many were judged, and the failures.
    pub(crate) fn judge(
        &self,
        cases: &[Case],
        happens: impl Fn(&Change) -> bool,
        stop: impl Fn(&[(Case, String)]) -> bool,
    ) -> (usize, Vec<(Case, String)>) {
        let mut disk = Disk::empty();
        let mut failures = Vec::new();
        for (number, case) in cases.iter().enumerate() {
            for change in &self.changes[disk.at()..case.cut] {
                if happens(change) {
                    disk.apply(change);
                } else {
                    disk.pass();
                }
            }
            if let Err(error) = self.judge_one(&disk.after_cut(case.image), case) {
                failures.push((*case, error));
                if stop(&failures) {
                    return (number + 1, failures);
                }
            }
        }
        (cases.len(), failures)
    }

    fn judge_one(&self, image: &Image, case: &Case) -> Result<(), String> {
        let steps = bounds(&self.changes[..case.cut]);
        match case.second {
            None => {
                let directory = scratch();
                image.write_to(directory.path());
                self.history.audit(directory.path(), steps)
            }
            Some(second) => {
                let again = cut_while_it_opens(image, &self.history, second)?;
                let directory = scratch();
                again.write_to(directory.path());
                let verdict = self.history.audit(directory.path(), steps);
                verdict.map_err(|error| format!("after a second cut, while it opened: {error}"))
            }
        }
    }

    /// Panics where there are failures, with the command that repeats the first; the record is kept for it.
    pub(crate) fn tell(&self, judged: usize, failures: &[(Case, String)]) {
        let Some((case, error)) = failures.first() else {
            return;
        };
        let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("power-{}.record", self.plan.seed));
        fs::copy(&self.log, &kept).expect("the record can be kept");
        panic!(
            "{} of {judged} cuts lost something; the first: {error}\nrepeat it with: {RECORD}={} {CASE}={case} \
             cargo test -p hookfast-store --test power a_power_cut_takes_nothing_that_was_acknowledged",
            failures.len(),
            kept.display()
        );
    }
}

/// What is left of a disk where the power goes again while the store is opened (and perhaps closed) on it.
fn cut_while_it_opens(image: &Image, history: &History, seed: u64) -> Result<Image, String> {
    let mut chance = Chance::new(seed);
    let recorded = Recorded::new();
    image.write_to(&recorded.root());
    let mut disk = Disk::of_directory(&recorded.root());
    let role = Role::Recover {
        now: history.late,
        close: chance.percent(50),
    };
    recorded.run(role, None)?;
    let changes = record::read(&recorded.log());
    let cut = chance.below(changes.len() + 1);
    changes[..cut].iter().for_each(|change| disk.apply(change));
    Ok(disk.after_cut(chance.next()))
}
