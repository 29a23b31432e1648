//! Owns the counting of durations: a log-linear histogram with a fixed relative error.
//! It must not know what was measured, nor any clock.

/// Sub-buckets in each power of two: 128, so a reported value is at most 1/128 (0.8 %) too high.
const SUB_BITS: u32 = 7;
const SUB: u64 = 1 << SUB_BITS;
/// Covers every `u64`: one linear part, then one row of `SUB` for each further power of two.
const BUCKETS: usize = ((64 - SUB_BITS as usize) + 1) * SUB as usize;

/// Counts of durations in nanoseconds. Recording is one addition, and merging is exact.
#[derive(Clone)]
pub(crate) struct Histogram {
    buckets: Vec<u64>,
    total: u64,
    max: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            buckets: vec![0; BUCKETS],
            total: 0,
            max: 0,
        }
    }
}

impl Histogram {
    /// Counts one duration of `nanos` nanoseconds.
    pub(crate) fn record(&mut self, nanos: u64) {
        self.buckets[bucket_of(nanos)] += 1;
        self.total += 1;
        self.max = self.max.max(nanos);
    }

    /// Adds all of `other` to this one.
    pub(crate) fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            *mine += theirs;
        }
        self.total += other.total;
        self.max = self.max.max(other.max);
    }

    /// How many durations were counted.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// The smallest value, in nanoseconds, that at least `fraction` (0 to 1) of the durations do not exceed,
    /// rounded up to its bucket's upper edge; `None` while nothing was counted.
    pub(crate) fn quantile(&self, fraction: f64) -> Option<u64> {
        if self.total == 0 {
            return None;
        }
        let wanted = ((self.total as f64 * fraction).ceil() as u64).clamp(1, self.total);
        let mut seen = 0;
        for (index, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return Some(upper_edge(index).min(self.max));
            }
        }
        Some(self.max)
    }
}

fn bucket_of(nanos: u64) -> usize {
    if nanos < SUB {
        return nanos as usize;
    }
    let shift = nanos.ilog2() - SUB_BITS;
    let row = u64::from(shift) + 1;
    (row * SUB + ((nanos >> shift) - SUB)) as usize
}

fn upper_edge(index: usize) -> u64 {
    let (row, column) = (index as u64 / SUB, index as u64 % SUB);
    if row == 0 {
        return column;
    }
    let shift = row - 1;
    let lowest = (SUB + column) << shift;
    lowest + ((1u64 << shift) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_histogram_has_no_quantiles() {
        assert_eq!(Histogram::default().quantile(0.5), None);
    }

    #[test]
    fn small_values_are_exact() {
        let mut histogram = Histogram::default();
        for nanos in 1..=100 {
            histogram.record(nanos);
        }
        assert_eq!(histogram.quantile(0.5), Some(50));
        assert_eq!(histogram.quantile(0.99), Some(99));
        assert_eq!(histogram.quantile(1.0), Some(100));
        assert_eq!(histogram.quantile(0.0), Some(1));
    }

    #[test]
    fn every_bucket_holds_its_own_upper_edge_and_the_next_value_starts_the_next_bucket() {
        for index in 0..BUCKETS {
            let edge = upper_edge(index);
            assert_eq!(bucket_of(edge), index);
            if let Some(next) = edge.checked_add(1) {
                assert_eq!(bucket_of(next), index + 1);
            } else {
                assert_eq!(index, BUCKETS - 1);
            }
        }
    }

    #[test]
    fn a_quantile_is_at_most_one_part_in_128_too_high_and_never_too_low() {
        for exact in [1_000, 123_456, 9_999_999, 60_000_000_000, u64::MAX / 3] {
            let mut histogram = Histogram::default();
            histogram.record(exact);
            histogram.record(u64::MAX);
            let reported = histogram.quantile(0.5).unwrap();
            assert!(
                reported >= exact && reported - exact <= exact / 128,
                "{exact} came back as {reported}"
            );
        }
    }

    #[test]
    fn merging_is_the_same_as_recording_everything_in_one() {
        let (mut left, mut right, mut both) = Default::default();
        for nanos in (0..50_000u64).map(|n| n * n) {
            let half: &mut Histogram = if nanos % 2 == 0 { &mut left } else { &mut right };
            half.record(nanos);
            Histogram::record(&mut both, nanos);
        }
        left.merge(&right);
        assert_eq!(left.total(), both.total());
        for fraction in [0.1, 0.5, 0.9, 0.99, 0.999, 1.0] {
            assert_eq!(left.quantile(fraction), both.quantile(fraction));
        }
    }
}
