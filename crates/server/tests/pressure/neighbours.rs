//! Owns how much a neighbour may delay others, and how often that is measured (SPEC O14). It must not know who is delayed,
//! nor by whom.

use std::time::Duration;

use crate::support::show;
use crate::support::timed::median;

/// The 99th percentile beside a neighbour may be this many times the one alone …
const TIMES: f64 = 1.5;
/// … and this much more.
const MORE: Duration = Duration::from_millis(2);
const RUNS: usize = 5;
/// How many sets of runs there are at the most.
const SETS: usize = 3;

/// Fails where one of the `neighbours` delays others by more than it may, in each set of runs. `run`, which is given its
/// number, gives the 99th percentile alone and then that beside each neighbour, in their order.
pub(crate) fn expect_little_delay(neighbours: &[&str], run: impl Fn(usize) -> Vec<Duration>) {
    let faults = measure(neighbours, &run, 0);
    // Others use the machine too: what is the server's own fault happens every time.
    let faults = (1..SETS).fold(faults, |faults, set| {
        if faults.is_empty() {
            faults
        } else {
            measure(neighbours, &run, set)
        }
    });
    assert!(faults.is_empty(), "{faults:#?}");
}

/// One set of runs; gives what is wrong with it.
fn measure(neighbours: &[&str], run: impl Fn(usize) -> Vec<Duration>, set: usize) -> Vec<String> {
    let runs: Vec<Vec<Duration>> = (0..RUNS).map(|number| run(set * RUNS + number)).collect();
    show(&format!(
        "p99 until arrival; alone, beside {neighbours:?}: {runs:?}"
    ));
    let mut faults = Vec::new();
    for (index, name) in (1..).zip(neighbours) {
        let over: Vec<Duration> = runs
            .iter()
            .map(|run| run[index].saturating_sub(run[0].mul_f64(TIMES)))
            .collect();
        if median(&over) > MORE {
            faults.push(format!(
                "beside {name} the 99th percentile is over {TIMES} times the one alone by {over:?}"
            ));
        }
    }
    faults
}
