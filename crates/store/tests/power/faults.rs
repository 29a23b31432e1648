//! Calls that fail: the n-th write, sync or truncation of a process goes wrong, and the verdict on what it then said
//! and left.
//!
//! Owns the kinds of faults and the rounds. Must not know what is right: `judge` does.

use std::str::FromStr;

use crate::chance::Chance;
use crate::cuts::Recording;
use crate::disk::Disk;
use crate::judge::{History, bounds};
use crate::process::{Fault, Honesty, Recorded, Role, scratch};
use crate::record::{self, Change};
use crate::script::Plan;

/// Which class of calls fails, and how, in the words of the shim. The numbers are EIO and ENOSPC; `kill` ends the
/// process.
pub(crate) type Kind = (&'static str, &'static str);

/// All that goes wrong.
pub(crate) const KINDS: [Kind; 9] = [
    ("write", "5"),
    ("write", "28"),
    ("write", "short"),
    ("sync", "5"),
    ("size", "5"),
    ("size", "28"),
    ("name", "5"),
    ("open", "5"),
    ("any", "kill"),
];

/// The variable that chooses one round, instead of those of a test.
pub(crate) const ROUND: &str = "HOOKFAST_POWER_FAULT";

/// One fault in a script. In words: `PLAN:CLASS:HOW:NUMBER`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Round {
    pub(crate) plan: Plan,
    pub(crate) fault: Fault,
}

impl FromStr for Round {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let not_one = || format!("`{text}` is not PLAN:CLASS:HOW:NUMBER");
        let words: Vec<_> = text.split(':').collect();
        let [plan, class, how, number] = words[..] else {
            return Err(not_one());
        };
        let kind = KINDS.into_iter().find(|kind| *kind == (class, how));
        let (class, how) = kind.ok_or_else(not_one)?;
        let number = number.parse().map_err(|_| not_one())?;
        Ok(Self {
            plan: plan.parse()?,
            fault: Fault { class, how, number },
        })
    }
}

impl Round {
    /// Runs the script with the fault, opens the store again without it, and judges what is there: after a power
    /// cut at some places from the fault on, and in the end. Whether the fault met anything.
    pub(crate) fn play(&self, cuts: usize) -> Result<bool, String> {
        let recorded = Recorded::new();
        let role = Role::Script {
            plan: self.plan,
            honesty: Honesty::AfterTheAnswer,
        };
        recorded.run(role, Some(self.fault))?;
        let changes = record::read(&recorded.log());
        let Some(met) = changes.iter().position(|it| matches!(it, Change::Fault { .. })) else {
            return Ok(false);
        };
        let history = History::of(self.plan, &changes);
        history.check_answers(&changes)?;
        let all = history.steps();
        let mut said = changes.iter().filter_map(Change::words);
        let stopped = said.any(|words| words.starts_with("stopped "));
        if !stopped && !self.fault.kills() && bounds(&changes) != (all..=all) {
            return Err("the process ended before its script did, and did not say why".to_owned());
        }
        let role = Role::Recover {
            now: history.late,
            close: false,
        };
        recorded.run(role, None)?;
        let changes = record::read(&recorded.log());
        let second = changes
            .iter()
            .rposition(|it| matches!(it, Change::Start { .. }))
            .unwrap_or(0);
        if let Some(words) = changes[second..].iter().find_map(Change::words) {
            return Err(format!("it cannot be opened again: {words}"));
        }
        self.judge(&recorded, &history, &changes, met, cuts)?;
        Ok(true)
    }

    fn judge(
        &self,
        recorded: &Recorded,
        history: &History,
        changes: &[Change],
        met: usize,
        cuts: usize,
    ) -> Result<(), String> {
        let mut chance = Chance::of(self.plan.seed, self.fault.number as u64);
        let mut places: Vec<_> = (0..cuts)
            .map(|_| met + chance.below(changes.len() - met + 1))
            .collect();
        places.sort_unstable();
        let mut disk = Disk::empty();
        for cut in places {
            changes[disk.at()..cut]
                .iter()
                .for_each(|change| disk.apply(change));
            let directory = scratch();
            disk.after_cut(chance.next()).write_to(directory.path());
            let verdict = history.audit(directory.path(), bounds(&changes[..cut]));
            verdict.map_err(|error| format!("after a cut at {cut}, the fault was at {met}: {error}"))?;
        }
        history.audit(&recorded.root(), bounds(changes))
    }

    /// The same with the command that repeats it.
    pub(crate) fn play_or_tell(&self, cuts: usize) -> bool {
        let Self { plan, fault } = self;
        self.play(cuts).unwrap_or_else(|error| {
            panic!(
                "call {} of {}: {error}\nrepeat it with: {ROUND}={plan}:{}:{}:{} cargo test \
                 -p hookfast-store --test power {}",
                fault.number,
                fault.class,
                fault.class,
                fault.how,
                fault.number,
                test_of(fault.class)
            )
        })
    }
}

/// The test that lets calls of that class fail.
fn test_of(class: &str) -> &'static str {
    match class {
        "write" => "a_write_that_fails_is_never_acknowledged",
        "sync" => "a_sync_that_fails_is_never_acknowledged",
        "any" => "a_process_that_is_killed_at_a_call_loses_nothing",
        _ => "a_length_a_name_or_an_opening_that_fails_loses_nothing",
    }
}

/// About how many calls of a class a whole run makes.
pub(crate) fn calls(recording: &Recording, class: &str) -> usize {
    let counts = |change: &&Change| match class {
        "write" => matches!(change, Change::Write { .. }),
        "sync" => matches!(change, Change::Sync { .. }),
        "size" => matches!(change, Change::Resize { .. }),
        "name" => matches!(
            change,
            Change::Make { .. } | Change::Rename { .. } | Change::Remove { .. }
        ),
        // Openings of what is there are not recorded.
        "open" => matches!(change, Change::Create { .. } | Change::Start { .. }),
        _ => !matches!(change, Change::Mark(_)),
    };
    recording.changes.iter().filter(counts).count()
}
