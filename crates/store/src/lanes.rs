//! Fair, bounded lanes: what waits for the writer, and what goes into its next batch (SPEC I2).
//!
//! Owns the order of waiting operations: a lane per source that takes turns by bytes, a reserved share for
//! settlements, claims and administration, and a small lane that comes last. Must not know what the
//! operations are, nor threads, nor SQL.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// What one operation weighs beside its bytes, so that a flood of empty ones has its price too.
const OVERHEAD: usize = 512;

/// How much a lane may take each time its turn comes.
const QUANTUM: usize = 16 * 1024;

/// Bounds of a lane or of a batch.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Bounds {
    /// At most this many operations.
    pub operations: usize,
    /// At most this many bytes; a single operation may be larger where it is alone.
    pub bytes: usize,
}

/// The bounds of the lanes and of a batch.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LaneBounds {
    /// Of each source's lane.
    pub source: Bounds,
    /// Of the lane of settlements, claims and administration.
    pub inner: Bounds,
    /// Of the lane that comes last.
    pub last: Bounds,
    /// Of a batch. A quarter of it is reserved for the inner lane.
    pub batch: Bounds,
    /// At most this many operations of the last lane in a batch, beside the batch's own bound.
    pub last_per_batch: usize,
}

impl Default for LaneBounds {
    fn default() -> Self {
        const MIB: usize = 1024 * 1024;
        let bounds = |operations, bytes| Bounds { operations, bytes };
        Self {
            source: bounds(4_096, 24 * MIB),
            inner: bounds(65_536, 256 * MIB),
            last: bounds(256, 8 * MIB),
            batch: bounds(512, 4 * MIB),
            last_per_batch: 32,
        }
    }
}

/// Which lane an operation waits in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LaneKey<K> {
    /// A source's own.
    Source(K),
    /// The one of settlements, claims and administration.
    Inner,
    /// The one that comes last: quarantine and the list of refused requests.
    Last,
}

/// Operations that wait for the writer.
#[derive(Debug)]
pub struct Lanes<K, T> {
    bounds: LaneBounds,
    sources: HashMap<K, Lane<T>>,
    /// The sources' lanes that hold something, in the order of their turns.
    turns: VecDeque<K>,
    inner: Lane<T>,
    last: Lane<T>,
}

#[derive(Debug)]
struct Lane<T> {
    waiting: VecDeque<(usize, T)>,
    bytes: usize,
    /// How many bytes it may still take before the others have had their turn.
    credit: usize,
}

impl<T> Default for Lane<T> {
    fn default() -> Self {
        Self {
            waiting: VecDeque::new(),
            bytes: 0,
            credit: 0,
        }
    }
}

impl<T> Lane<T> {
    fn push(&mut self, bounds: Bounds, weight: usize, item: T) -> Result<(), T> {
        let fits = self.waiting.is_empty()
            || (self.waiting.len() < bounds.operations && self.bytes.saturating_add(weight) <= bounds.bytes);
        if !fits {
            return Err(item);
        }
        self.bytes = self.bytes.saturating_add(weight);
        self.waiting.push_back((weight, item));
        Ok(())
    }

    fn pop(&mut self) -> Option<(usize, T)> {
        let (weight, item) = self.waiting.pop_front()?;
        self.bytes = self.bytes.saturating_sub(weight);
        Some((weight, item))
    }

    fn next_weight(&self) -> Option<usize> {
        self.waiting.front().map(|(weight, _)| *weight)
    }
}

/// What has been taken into a batch so far.
struct Taking<T> {
    items: Vec<T>,
    bytes: usize,
}

impl<T> Taking<T> {
    /// Takes from the front of `lane` while there is room in `room` operations and `bytes` bytes, both
    /// counted from now; the first is taken whatever its size.
    fn take_from(&mut self, lane: &mut Lane<T>, operations: usize, bytes: usize) {
        let mut taken = 0;
        let mut left = bytes;
        while taken < operations
            && let Some(weight) = lane.next_weight()
        {
            if taken > 0 && weight > left {
                break;
            }
            let Some((weight, item)) = lane.pop() else { break };
            left = left.saturating_sub(weight);
            taken += 1;
            self.bytes = self.bytes.saturating_add(weight);
            self.items.push(item);
        }
    }
}

impl<K: Clone + Eq + Hash, T> Lanes<K, T> {
    /// Empty lanes with these bounds.
    #[must_use]
    pub fn new(bounds: LaneBounds) -> Self {
        Self {
            bounds,
            sources: HashMap::new(),
            turns: VecDeque::new(),
            inner: Lane::default(),
            last: Lane::default(),
        }
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.turns.is_empty() && self.inner.waiting.is_empty() && self.last.waiting.is_empty()
    }

    /// Adds an operation that carries `bytes` bytes.
    ///
    /// # Errors
    /// Gives the operation back where its lane is full. The other lanes are not affected.
    pub fn push(&mut self, key: LaneKey<K>, bytes: usize, item: T) -> Result<(), T> {
        let weight = bytes.saturating_add(OVERHEAD);
        match key {
            LaneKey::Inner => self.inner.push(self.bounds.inner, weight, item),
            LaneKey::Last => self.last.push(self.bounds.last, weight, item),
            LaneKey::Source(source) => {
                let lane = self.sources.entry(source.clone()).or_default();
                let was_empty = lane.waiting.is_empty();
                lane.push(self.bounds.source, weight, item)?;
                if was_empty {
                    self.turns.push_back(source);
                }
                Ok(())
            }
        }
    }

    /// Takes everything, in no order that matters: for the end.
    #[must_use]
    pub fn drain(&mut self) -> Vec<T> {
        let sources = std::mem::take(&mut self.sources).into_values();
        self.turns.clear();
        sources
            .chain([std::mem::take(&mut self.inner), std::mem::take(&mut self.last)])
            .flat_map(|lane| lane.waiting)
            .map(|(_, item)| item)
            .collect()
    }

    /// Takes the next batch: first up to a quarter of it from the inner lane, then the sources' lanes in
    /// turn, then as much of the inner lane as there is room for, and last a few of the last lane.
    #[must_use]
    pub fn take(&mut self) -> Vec<T> {
        let batch = self.bounds.batch;
        let mut taking = Taking {
            items: Vec::new(),
            bytes: 0,
        };
        let reserved = batch.operations.div_ceil(4);
        taking.take_from(&mut self.inner, reserved, batch.bytes / 4);
        self.take_turns(&mut taking);
        let operations = batch.operations.saturating_sub(taking.items.len());
        let bytes = batch.bytes.saturating_sub(taking.bytes);
        if bytes > 0 {
            taking.take_from(&mut self.inner, operations, bytes);
        }
        taking.take_from(&mut self.last, self.bounds.last_per_batch, batch.bytes / 4);
        taking.items
    }

    /// Deficit round robin: a lane whose next operation costs more than its credit gets a quantum and goes
    /// to the end of the line.
    fn take_turns(&mut self, taking: &mut Taking<T>) {
        let batch = self.bounds.batch;
        let mut taken_any = false;
        while taking.items.len() < batch.operations
            && let Some(source) = self.turns.front().cloned()
        {
            let Some(lane) = self.sources.get_mut(&source) else {
                self.turns.pop_front();
                continue;
            };
            let Some(weight) = lane.next_weight() else {
                self.turns.pop_front();
                self.sources.remove(&source);
                continue;
            };
            if lane.credit < weight {
                lane.credit = lane.credit.saturating_add(QUANTUM);
                self.turns.rotate_left(1);
                continue;
            }
            // What is larger than a whole batch goes in one of its own, with no other source's.
            if taken_any && taking.bytes.saturating_add(weight) > batch.bytes {
                break;
            }
            let Some((_, item)) = lane.pop() else { break };
            lane.credit -= weight;
            if lane.waiting.is_empty() {
                // An idle lane keeps no credit, and a source that has gone leaves nothing behind.
                self.turns.pop_front();
                self.sources.remove(&source);
            }
            taking.bytes = taking.bytes.saturating_add(weight);
            taking.items.push(item);
            taken_any = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: usize = 1024;

    fn lanes() -> Lanes<&'static str, (&'static str, usize)> {
        Lanes::new(LaneBounds::default())
    }

    fn count(batch: &[(&str, usize)], name: &str) -> usize {
        batch.iter().filter(|(lane, _)| *lane == name).count()
    }

    #[test]
    fn a_flooding_lane_leaves_another_lanes_item_in_the_next_batch() {
        let mut lanes = lanes();
        for n in 0..4_000 {
            lanes.push(LaneKey::Source("flood"), KIB, ("flood", n)).unwrap();
        }
        lanes.push(LaneKey::Source("quiet"), KIB, ("quiet", 0)).unwrap();
        let batch = lanes.take();
        assert_eq!(count(&batch, "quiet"), 1);
        assert_eq!(batch.len(), 512);
    }

    #[test]
    fn lanes_share_a_batch_by_bytes_and_keep_their_own_order() {
        let mut lanes = lanes();
        for n in 0..1_000 {
            lanes
                .push(LaneKey::Source("large"), 20 * KIB, ("large", n))
                .unwrap();
            lanes
                .push(LaneKey::Source("small"), 2 * KIB, ("small", n))
                .unwrap();
        }
        let batch = lanes.take();
        let (large, small) = (count(&batch, "large"), count(&batch, "small"));
        assert!(
            (6..=10).contains(&(small / large)),
            "{small} small and {large} large"
        );
        for name in ["large", "small"] {
            let order: Vec<_> = batch
                .iter()
                .filter(|(lane, _)| *lane == name)
                .map(|(_, n)| *n)
                .collect();
            assert!(order.is_sorted(), "{name}");
        }
    }

    #[test]
    fn only_the_lane_that_is_full_refuses() {
        let mut lanes = lanes();
        for n in 0..4_096 {
            lanes.push(LaneKey::Source("full"), 10, ("full", n)).unwrap();
        }
        assert!(lanes.push(LaneKey::Source("full"), 10, ("full", 0)).is_err());
        assert!(
            lanes
                .push(LaneKey::Source("other"), 30 * KIB * KIB, ("other", 0))
                .is_ok()
        );
        assert!(
            lanes.push(LaneKey::Source("other"), 1, ("other", 1)).is_err(),
            "by bytes"
        );
        assert!(lanes.push(LaneKey::Inner, 0, ("inner", 0)).is_ok());
    }

    #[test]
    fn settlements_have_a_quarter_and_what_the_others_leave() {
        let mut lanes = lanes();
        for n in 0..2_000 {
            lanes.push(LaneKey::Inner, 0, ("inner", n)).unwrap();
            lanes.push(LaneKey::Source("source"), 100, ("source", n)).unwrap();
        }
        let batch = lanes.take();
        assert_eq!((count(&batch, "inner"), count(&batch, "source")), (128, 384));
        while count(&lanes.take(), "source") > 0 {}
        for n in 0..2_000 {
            lanes.push(LaneKey::Inner, 0, ("inner", n)).unwrap();
        }
        assert_eq!(count(&lanes.take(), "inner"), 512);
    }

    #[test]
    fn quarantine_comes_last_and_a_few_at_a_time_even_when_the_batch_is_full() {
        let mut lanes = lanes();
        for n in 0..600 {
            lanes.push(LaneKey::Source("source"), 100, ("source", n)).unwrap();
        }
        let kept = (0..1_000)
            .filter(|n| lanes.push(LaneKey::Last, 100, ("last", *n)).is_ok())
            .count();
        assert_eq!(kept, 256);
        let batch = lanes.take();
        assert_eq!(batch.len(), 512 + 32);
        assert!(batch[512..].iter().all(|(lane, _)| *lane == "last"));
    }

    #[test]
    fn an_operation_larger_than_a_batch_goes_without_other_sources_operations_and_starves_nobody() {
        let mut lanes = lanes();
        lanes
            .push(LaneKey::Source("huge"), 20 * KIB * KIB, ("huge", 0))
            .unwrap();
        for n in 0..100 {
            lanes.push(LaneKey::Source("small"), KIB, ("small", n)).unwrap();
        }
        assert_eq!(count(&lanes.take(), "small"), 100, "while the large one saves up");
        lanes.push(LaneKey::Inner, 0, ("inner", 0)).unwrap();
        let batch = lanes.take();
        assert_eq!((count(&batch, "huge"), count(&batch, "inner")), (1, 1));
        assert!(lanes.is_empty());
    }

    #[test]
    fn a_source_that_has_gone_leaves_nothing_behind() {
        let mut lanes = lanes();
        lanes.push(LaneKey::Source("gone"), 1, ("gone", 0)).unwrap();
        assert_eq!(lanes.take().len(), 1);
        assert!(lanes.take().is_empty());
        assert!(lanes.sources.is_empty() && lanes.turns.is_empty());
    }
}
