//! The runner of replay jobs (SPEC I16).
//!
//! Owns the pace: each running job is taken on in small steps that keep to its rate, and goes on where it stopped
//! after a restart, because the store keeps its cursor. Decides nothing about deliveries: the store does, and
//! tells the delivery side what is due.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use hookfast_engine::id::ReplayId;
use hookfast_store::{Page, ReplayState, StoreError, rules};
use tokio::task::{Id, JoinSet};

use crate::node::Node;

/// Steps a second, at the most.
const STEPS: u32 = 20;
/// How often jobs are looked for that nobody told of.
const LOOK: Duration = Duration::from_secs(30);
/// How long a job rests after the store failed it.
const REST: Duration = Duration::from_secs(1);

/// Runs replay jobs until the node stops.
pub async fn run(node: Arc<Node>) {
    let mut tasks = JoinSet::new();
    let mut running: HashMap<ReplayId, Id> = HashMap::new();
    loop {
        match find_running(&node).await {
            Ok(found) => {
                for (id, rate) in found {
                    running
                        .entry(id)
                        .or_insert_with(|| tasks.spawn(take_on(node.clone(), id, rate)).id());
                }
            }
            Err(error) => tracing::warn!(%error, "replay jobs could not be looked for"),
        }
        tokio::select! {
            () = node.stopping.cancelled() => break,
            () = node.admin.replay_started.notified() => {}
            Some(ended) = tasks.join_next_with_id() => {
                let ended = match ended {
                    Ok((task, ())) => task,
                    Err(error) => error.id(),
                };
                running.retain(|_, task| *task != ended);
            }
            () = tokio::time::sleep(LOOK) => {}
        }
    }
    // What a step made due stays so, and the cursor moved with it: the next start goes on from there.
    tasks.shutdown().await;
}

/// The jobs that go on, with their rates.
async fn find_running(node: &Node) -> Result<Vec<(ReplayId, u32)>, StoreError> {
    let mut found = Vec::new();
    let mut page = Page {
        limit: rules::PAGE_LIMIT,
        cursor: None,
    };
    loop {
        let listed = node.store.replays(page.clone()).await?;
        let running = listed
            .items
            .into_iter()
            .filter(|replay| replay.state == ReplayState::Running);
        found.extend(running.map(|replay| (replay.new.id, replay.new.rate)));
        page.cursor = listed.next_cursor;
        if page.cursor.is_none() {
            return Ok(found);
        }
    }
}

/// Takes one job on until it ends.
async fn take_on(node: Arc<Node>, id: ReplayId, rate: u32) {
    let pace = Pace::new(rate);
    let watch = node.clock.start();
    let mut steps = 0_u32;
    loop {
        let now = node.clock.now();
        match node.store.step_replay(id, now, pace.events).await {
            Ok(Some(replay)) if replay.state == ReplayState::Running => {}
            Ok(Some(replay)) => {
                tracing::info!(replay.id = %id, replay.looked_at = replay.looked_at, "a replay job ended");
                return;
            }
            Ok(None) => return,
            Err(StoreError::Unavailable { retry_after, .. }) => {
                tokio::time::sleep(retry_after.max(REST)).await;
                continue;
            }
            Err(error) => {
                tracing::error!(replay.id = %id, %error, "a replay job cannot go on");
                return;
            }
        }
        steps = steps.saturating_add(1);
        // Measured from the start, so that the time of the steps themselves does not slow the job; a job that
        // was held up does not make up for it in a burst.
        let due = pace.period.saturating_mul(steps);
        let early = due.saturating_sub(watch.elapsed());
        tokio::time::sleep(early.max(pace.period / 4)).await;
    }
}

/// How many events a step takes, and how often one is made.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Pace {
    events: u32,
    period: Duration,
}

impl Pace {
    /// The pace that keeps to `rate` events a second.
    fn new(rate: u32) -> Self {
        let rate = rate.max(1);
        let events = rate.div_ceil(STEPS);
        Self {
            events,
            period: Duration::from_secs(1).mul_f64(f64::from(events) / f64::from(rate)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pace_never_passes_its_rate_and_makes_at_least_ten_steps_a_second_where_it_can() {
        for rate in [1, 2, 9, 10, 19, 20, 21, 100, 999, 10_000] {
            let pace = Pace::new(rate);
            let a_second = f64::from(pace.events) / pace.period.as_secs_f64();
            assert!((a_second - f64::from(rate)).abs() < 0.01, "{rate}: {pace:?}");
            let steps = 1.0 / pace.period.as_secs_f64();
            assert!(rate < 10 || steps >= 9.99, "{rate}: {pace:?}");
        }
    }
}
