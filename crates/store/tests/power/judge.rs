//! What must be there after a power cut.
//!
//! Owns the history that a record tells of and the verdict on a directory. The memory model goes through the same
//! script. It tells what each step had to be answered, and what a store must show once it was opened again after a
//! part of the history: after each step is one such state, and a directory is right if it shows one that is not
//! older than the last acknowledged step and not newer than the last one asked. So nothing acknowledged is missing,
//! nothing is there twice, in part, or unasked for, and what was settled is so still. The dedupe marks are judged
//! by posting an event of each key again. Must not know how a disk loses things.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hookfast_engine::time::Timestamp;
use hookfast_store::conformance::Recorder;
use hookfast_store::memory::{MemoryStore, Snapshot};
use hookfast_store::{NoSlots, Store};

use crate::record::Change;
use crate::script::{Plan, Script, Step};
use crate::{runtime, shown, subject};

/// A script, what its steps had to be answered, and the states between them.
pub(crate) struct History {
    /// When the store is opened after a cut: after all that the script did.
    pub(crate) late: Timestamp,
    /// Before the first step, and after each.
    states: Vec<Snapshot>,
    answers: Vec<String>,
    expected: RefCell<BTreeMap<usize, Arc<Expected>>>,
    runtime: tokio::runtime::Runtime,
}

/// What a store shows that was opened after a cut.
#[derive(Debug, Eq, PartialEq)]
struct Expected {
    shown: u64,
    marks: Vec<String>,
}

impl History {
    /// Goes through the script with the memory model, without the steps that the store refused to take.
    pub(crate) fn of(plan: Plan, changes: &[Change]) -> Self {
        let refused = refused(changes);
        let mut script = Script::new(plan);
        let mut slots = Arc::new(Recorder::default());
        let mut model = MemoryStore::new(slots.clone());
        let (mut states, mut answers) = (vec![model.clone_state()], Vec::new());
        let runtime = runtime();
        let mut turn = Some(script.setting_up());
        while let Some(steps) = turn {
            for step in steps {
                // An append alone: nothing that follows depends on its answer.
                if refused.contains(&answers.len()) && matches!(step, Step::Append(..)) {
                    answers.push(String::new());
                    states.push(model.clone_state());
                    continue;
                }
                let answer = if let Step::Reopen { now, .. } = step {
                    slots = Arc::new(Recorder::default());
                    model = model.crash(slots.clone(), now);
                    Step::reopened()
                } else {
                    let answer = runtime.block_on(step.ask(&*model, &slots));
                    answer.unwrap_or_else(|error| panic!("the model refuses {step:?}: {error}"))
                };
                script.learn(&answer);
                answers.push(answer.text);
                states.push(model.clone_state());
            }
            turn = script.turn();
        }
        Self {
            late: script.now().plus(Duration::from_secs(60)),
            states,
            answers,
            expected: RefCell::default(),
            runtime,
        }
    }

    /// How many steps the script has.
    pub(crate) fn steps(&self) -> usize {
        self.answers.len()
    }

    /// Where the store answered otherwise than it had to.
    pub(crate) fn check_answers(&self, changes: &[Change]) -> Result<(), String> {
        for (number, answer) in changes.iter().filter_map(done) {
            let answer = answer.unwrap_or_default();
            if self.answers[number] != answer {
                let expected = &self.answers[number];
                return Err(format!(
                    "step {number} was answered\n  {answer}\nand not\n  {expected}"
                ));
            }
        }
        Ok(())
    }

    /// What a store shows that was opened after the first `steps`.
    fn lines(&self, steps: usize) -> (Vec<String>, Arc<dyn Store>) {
        let before = MemoryStore::from_snapshot(self.states[steps].clone(), Arc::new(NoSlots));
        let model: Arc<dyn Store> = before.crash(Arc::new(NoSlots), self.late);
        let lines = self.runtime.block_on(shown::everything(&*model));
        (lines.expect("the model can be read"), model)
    }

    fn expected(&self, steps: usize) -> Arc<Expected> {
        if let Some(known) = self.expected.borrow().get(&steps) {
            return Arc::clone(known);
        }
        let (lines, model) = self.lines(steps);
        let marks = self.runtime.block_on(shown::marks(&model, self.late));
        let expected = Arc::new(Expected {
            shown: digest(&lines),
            marks: marks.expect("the model takes events"),
        });
        self.expected.borrow_mut().insert(steps, Arc::clone(&expected));
        expected
    }

    /// Opens the store below `root` and judges it: right if it shows the history up to one of these numbers of
    /// steps.
    pub(crate) fn audit(&self, root: &Path, steps: RangeInclusive<usize>) -> Result<(), String> {
        let (check, lines, marks) = self
            .runtime
            .block_on(look(&root.join(subject::DATA), self.late))
            .map_err(|error| format!("the store cannot be opened, read and written: {error}"))?;
        if !check.is_empty() {
            return Err(format!("its check finds\n  {}", check.join("\n  ")));
        }
        let found = Expected {
            shown: digest(&lines),
            marks,
        };
        if steps.clone().any(|steps| *self.expected(steps) == found) {
            return Ok(());
        }
        let nearest = steps
            .clone()
            .min_by_key(|steps| differences(&self.lines(*steps).0, &lines).len());
        let nearest = nearest.expect("a range of one at least");
        let mut differences = differences(&self.lines(nearest).0, &lines);
        differences.extend(self::differences(&self.expected(nearest).marks, &found.marks));
        differences.truncate(20);
        Err(format!(
            "it shows none of the states after {} to {} steps; after {nearest} there were\n  {}",
            steps.start(),
            steps.end(),
            differences.join("\n  ")
        ))
    }
}

/// What a store shows, once it was opened: what its checks find (before and after it was written to), everything
/// it holds, and its marks.
async fn look(
    data: &Path,
    now: Timestamp,
) -> hookfast_store::Result<(Vec<String>, Vec<String>, Vec<String>)> {
    let store = subject::open(data, Arc::new(NoSlots), now)?;
    let mut check = store.check().await?;
    if !check.is_empty() {
        return Ok((check, Vec::new(), Vec::new()));
    }
    let lines = shown::everything(&*store).await?;
    let marks = shown::marks(&store, now).await?;
    check = store.check().await?;
    Ok((check, lines, marks))
}

/// The steps that a power cut after these changes must have left, at least and at most.
pub(crate) fn bounds(changes: &[Change]) -> RangeInclusive<usize> {
    let done = changes
        .iter()
        .filter_map(done)
        .map(|(number, _)| number + 1)
        .max();
    let asked = changes.iter().filter_map(|change| number(change, "asked ")).max();
    done.unwrap_or(0)..=asked.map_or(0, |number| number + 1)
}

fn refused(changes: &[Change]) -> BTreeSet<usize> {
    changes
        .iter()
        .filter_map(|change| number(change, "refused "))
        .collect()
}

fn done(change: &Change) -> Option<(usize, Option<&str>)> {
    let rest = change.words()?.strip_prefix("done ")?;
    match rest.split_once(' ') {
        Some((number, answer)) => Some((number.parse().ok()?, Some(answer))),
        None => Some((rest.parse().ok()?, None)),
    }
}

fn number(change: &Change, what: &str) -> Option<usize> {
    change
        .words()?
        .strip_prefix(what)?
        .split(' ')
        .next()?
        .parse()
        .ok()
}

fn digest(lines: &[String]) -> u64 {
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};
    let mut hasher = DefaultHasher::new();
    lines.hash(&mut hasher);
    hasher.finish()
}

/// What is in one of two only.
fn differences(expected: &[String], found: &[String]) -> Vec<String> {
    let (in_expected, in_found): (BTreeSet<_>, BTreeSet<_>) =
        (expected.iter().collect(), found.iter().collect());
    let missing = in_expected
        .difference(&in_found)
        .map(|line| format!("expected: {line}"));
    let unasked = in_found
        .difference(&in_expected)
        .map(|line| format!("found:    {line}"));
    missing.chain(unasked).collect()
}
