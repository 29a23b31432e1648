//! One destination as the dispatcher sees it.
//!
//! Owns its window (how many attempts may be under way, found out by trying), its rate, its catch-up after
//! downtime and what it wants next. Must not know other lanes: what they share comes as `Totals`.

use std::time::Duration;

use super::{CLAIM_BYTES, CLAIM_LIMIT, Claim, DestinationLimits, End, EndResult, Totals};
use crate::health::Gate;
use crate::mutant::{self, Mutant};
use crate::time::Timestamp;

/// The window of a destination that nothing is known of.
const WINDOW_AT_START: f64 = 8.0;
/// The window of a destination that is back after its breaker closed.
const WINDOW_AFTER_DOWNTIME: f64 = 2.0;
/// Below this window, latency alone never holds back growth.
const WINDOW_FLOOR_FOR_LATENCY: f64 = 8.0;
/// The window is halved at most once in this time, or in one latency where that is longer.
const CUT_INTERVAL: Duration = Duration::from_millis(100);
/// So many ends count as the recent ones.
const RECENT_ENDS: f64 = 64.0;
/// Up to this share of the recent ends may look like overload without a cut: something always fails.
const OVERLOAD_TOLERATED: f64 = 0.1;

/// One destination's lane.
#[derive(Debug)]
pub(super) struct Lane {
    limits: DestinationLimits,
    gate: Gate,
    open: bool,
    /// Attempts under way or reserved, and what claims under way may bring.
    pub(super) in_flight: u32,
    bytes: usize,
    /// Those of events accepted since the catch-up began.
    fresh: u32,
    /// The earliest due time of what waits, as far as known; never later than the truth.
    next_due: Option<Timestamp>,
    /// A delivery of a new event waits while an older backlog drains.
    fresh_waits: bool,
    /// Since when an older backlog drains; events accepted from then on are new.
    catching_up_since: Option<Timestamp>,
    claiming: bool,
    /// The earliest due time heard of while a claim was under way: the claim may not have seen it.
    heard_while_claiming: Option<Timestamp>,
    /// A claim failed: none is made before this time.
    hold_until: Option<Timestamp>,
    probing: bool,
    pace: Pace,
    rate: Option<Bucket>,
    /// Whether it stands in the dispatcher's queue.
    pub(super) queued: bool,
    /// The earliest timer that the dispatcher has for it.
    pub(super) timer: Option<Timestamp>,
}

/// What a lane wants.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Want {
    Claim(Claim),
    NothingBefore(Timestamp),
    /// Nothing until something happens to it.
    Nothing,
    /// It would claim, but what all lanes share is used up.
    Room,
}

impl Lane {
    pub(super) fn new(now: Timestamp, limits: DestinationLimits) -> Self {
        Self {
            limits,
            gate: limits.gate,
            open: true,
            in_flight: 0,
            bytes: 0,
            fresh: 0,
            next_due: limits.next_due,
            fresh_waits: false,
            catching_up_since: limits.next_due.map(|_| now),
            claiming: false,
            heard_while_claiming: None,
            hold_until: None,
            probing: false,
            pace: Pace::new(WINDOW_AT_START, limits.concurrency),
            rate: limits.rate.map(|rate| Bucket::new(now, rate)),
            queued: false,
            timer: None,
        }
    }

    /// A closed lane admits nothing.
    pub(super) fn close(&mut self) {
        self.open = false;
    }

    /// Opens a lane that was closed: it looks at what waits, and takes up speed gently, as after downtime.
    pub(super) fn open_again(&mut self, now: Timestamp, gate: Gate) {
        if self.open {
            return;
        }
        self.open = true;
        self.gate = gate;
        self.catch_up(now);
    }

    pub(super) fn set_limits(&mut self, limits: DestinationLimits) {
        if limits.rate != self.limits.rate {
            self.rate = limits.rate.map(|rate| Bucket::new(Timestamp::EPOCH, rate));
        }
        self.pace.longest = f64::from(limits.concurrency.max(1));
        self.limits = limits;
    }

    pub(super) fn is_needed(&self) -> bool {
        self.open || self.in_flight > 0 || self.claiming
    }

    /// No claim is made before `until`.
    pub(super) fn hold(&mut self, until: Timestamp) {
        self.hold_until = Some(until);
    }

    pub(super) fn note_waiting(&mut self, due_at: Timestamp) {
        self.hear(due_at);
        self.fresh_waits |= self.catching_up_since.is_some_and(|since| since <= due_at);
    }

    fn hear(&mut self, due_at: Timestamp) {
        self.next_due = earlier(self.next_due, Some(due_at));
        if self.claiming && !mutant::is_active(Mutant::LostWakeup) {
            self.heard_while_claiming = earlier(self.heard_while_claiming, Some(due_at));
        }
    }

    /// Whether a new event may pass the queue.
    pub(super) fn admits_new(&mut self, now: Timestamp, totals: &Totals, bytes: usize) -> bool {
        let backlog = self.claiming || self.next_due.is_some_and(|due| due <= now);
        let catching_up = self.catching_up_since.is_some();
        let place = if backlog {
            catching_up && self.fresh_room() > 0
        } else {
            self.room() > 0
        };
        let rate_admits = self
            .rate
            .as_mut()
            .is_none_or(|bucket| bucket.available(now) >= 1.0);
        self.open
            && self.gate == Gate::Ready
            && place
            && totals.free_attempts() > 0
            && self.share(totals) > 0
            && self.fits(totals, bytes)
            && rate_admits
    }

    /// How many attempts may be under way at once, as found out by trying.
    pub(super) fn window(&self) -> u32 {
        self.pace.window()
    }

    /// Slots of the window that are free.
    fn room(&self) -> u32 {
        self.window().saturating_sub(self.in_flight)
    }

    /// Slots free for new events while a backlog drains: a quarter of the window is theirs.
    fn fresh_room(&self) -> u32 {
        self.window()
            .div_ceil(4)
            .saturating_sub(self.fresh)
            .min(self.room())
    }

    /// Slots free for the backlog while it drains: three quarters of the window, or all but what is fresh.
    fn backlog_room(&self) -> u32 {
        let window = self.window();
        let reserved = if window > 1 { window.div_ceil(4) } else { 0 };
        let old = self.in_flight.saturating_sub(self.fresh);
        (window - reserved).saturating_sub(old).min(self.room())
    }

    /// How many more attempts its share of what is free allows. No lane may hold more than is left free for
    /// the others, so that lanes which hang leave room for those which do not.
    fn share(&self, totals: &Totals) -> u32 {
        match totals.free_attempts().saturating_sub(self.in_flight) {
            0 if self.in_flight == 0 => totals.free_attempts().min(1),
            share => share,
        }
    }

    fn fits(&self, totals: &Totals, bytes: usize) -> bool {
        let free = totals.free_bytes();
        let within_share = self.bytes.saturating_add(bytes) <= free;
        within_share || (self.in_flight == 0 && free > 0)
    }

    /// Takes a slot for a delivery of an event accepted at `accepted_at`.
    pub(super) fn take(&mut self, now: Timestamp, bytes: usize, accepted_at: Timestamp) {
        self.in_flight += 1;
        self.bytes += bytes;
        self.fresh += u32::from(self.is_fresh(accepted_at));
        if let Some(bucket) = &mut self.rate {
            bucket.take(now);
        }
    }

    pub(super) fn give_back(&mut self, bytes: usize, accepted_at: Timestamp) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
        if self.is_fresh(accepted_at) {
            self.fresh = self.fresh.saturating_sub(1);
        }
    }

    fn is_fresh(&self, accepted_at: Timestamp) -> bool {
        self.catching_up_since.is_some_and(|since| since <= accepted_at)
    }

    /// What the lane would claim now.
    pub(super) fn wants(&mut self, now: Timestamp, totals: &Totals) -> Want {
        let Some(due) = self.next_due.filter(|_| self.open && !self.claiming) else {
            return Want::Nothing;
        };
        let due = self.hold_until.map_or(due, |hold_until| hold_until.max(due));
        if due > now {
            return Want::NothingBefore(due);
        }
        if let Gate::ProbeAt(probe_at) = self.gate {
            return match probe_at {
                _ if self.probing => Want::Nothing,
                probe_at if probe_at > now => Want::NothingBefore(probe_at),
                _ => Want::Claim(Claim {
                    due_from: None,
                    limit: 1,
                    bytes: CLAIM_BYTES,
                }),
            };
        }
        let (room, due_from) = match self.catching_up_since {
            Some(since) if self.fresh_waits && self.fresh_room() > 0 => (self.fresh_room(), Some(since)),
            Some(_) => (self.backlog_room(), None),
            None => (self.room(), None),
        };
        // Few larger claims cost less than many of one, so a busy lane waits until some slots are free.
        let worthwhile = (self.window() / 8).clamp(1, 8);
        if room == 0 || (room < worthwhile && self.in_flight >= worthwhile && due_from.is_none()) {
            return Want::Nothing;
        }
        if self.share(totals) == 0 || !self.fits(totals, CLAIM_BYTES.min(totals.limits.bytes / 4)) {
            return Want::Room;
        }
        let mut limit = room
            .min(self.share(totals))
            .min(totals.free_attempts())
            .min(CLAIM_LIMIT);
        if let Some(bucket) = &mut self.rate {
            let whole = bucket.available(now) as u32;
            if whole == 0 {
                return Want::NothingBefore(bucket.next_at(now));
            }
            limit = limit.min(whole);
        }
        Want::Claim(Claim {
            due_from,
            limit,
            bytes: CLAIM_BYTES,
        })
    }

    pub(super) fn begin_claim(&mut self, now: Timestamp, claim: Claim) {
        self.claiming = true;
        self.heard_while_claiming = None;
        self.probing = matches!(self.gate, Gate::ProbeAt(probe_at) if probe_at <= now);
        self.in_flight += claim.limit;
        self.bytes += claim.bytes;
    }

    pub(super) fn end_claim(&mut self, claim: Claim) {
        self.claiming = false;
        self.in_flight = self.in_flight.saturating_sub(claim.limit);
        self.bytes = self.bytes.saturating_sub(claim.bytes);
        if matches!(self.gate, Gate::ProbeAt(_)) {
            self.probing = false;
        }
    }

    /// Takes in what a claim gave. The deliveries have already been taken.
    pub(super) fn claimed(
        &mut self,
        claim: Claim,
        deliveries: &[(usize, Timestamp)],
        next_due: Option<Timestamp>,
    ) {
        self.probing = !deliveries.is_empty() && matches!(self.gate, Gate::ProbeAt(_));
        let full = u32::try_from(deliveries.len()).unwrap_or(u32::MAX) >= claim.limit;
        match claim.due_from {
            Some(_) => self.fresh_waits = full,
            None => {
                self.next_due = earlier(next_due, self.heard_while_claiming);
                let reached_new = deliveries
                    .last()
                    .is_some_and(|(_, accepted_at)| self.is_fresh(*accepted_at));
                if self.next_due.is_none() || reached_new {
                    self.end_catch_up();
                }
            }
        }
    }

    fn end_catch_up(&mut self) {
        self.catching_up_since = None;
        self.fresh = 0;
        self.fresh_waits = false;
    }

    /// Takes in how an attempt ended. Its slot has already been given back.
    pub(super) fn ended(&mut self, now: Timestamp, end: End) {
        match end.result {
            EndResult::Succeeded => self.pace.succeeded(end.latency),
            EndResult::Refused => self.pace.note(0.0),
            EndResult::Overloaded => self.pace.overloaded(now),
            EndResult::Unknown => {}
        }
        if let Some(due_at) = end.due_at {
            self.hear(due_at);
        }
        if let Some(gate) = end.gate
            && !self.is_overtaken(now, gate, end.result)
        {
            self.set_gate(now, gate);
        }
        if matches!(self.gate, Gate::ProbeAt(_)) {
            self.probing = false;
        }
    }

    /// Whether what closed the gate was settled after this end, and heard of before it: until its probe is due, only a
    /// success shows that a destination is back.
    fn is_overtaken(&self, now: Timestamp, gate: Gate, result: EndResult) -> bool {
        let probe_waits = matches!(self.gate, Gate::ProbeAt(probe_at) if now < probe_at);
        probe_waits && gate == Gate::Ready && result != EndResult::Succeeded
    }

    fn set_gate(&mut self, now: Timestamp, gate: Gate) {
        let back = gate == Gate::Ready && self.gate != Gate::Ready;
        self.gate = gate;
        if back {
            self.catch_up(now);
        }
    }

    /// What waited while nothing was taken is delivered from a small window on.
    fn catch_up(&mut self, now: Timestamp) {
        self.pace = Pace::new(WINDOW_AFTER_DOWNTIME, self.limits.concurrency);
        self.probing = false;
        self.hear(Timestamp::EPOCH);
        self.catching_up_since = Some(now);
        self.fresh = 0;
        self.fresh_waits = false;
    }
}

fn earlier(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    [one, other].into_iter().flatten().min()
}

/// The adaptive window: it doubles while all goes well; overload in more than a small share of the recent ends halves
/// it, and from there it grows by one per window; a latency well above the least one seen stops its growth. Refusals
/// leave it alone: a handler that refuses some events takes the others as fast as ever.
#[derive(Debug)]
struct Pace {
    window: f64,
    threshold: f64,
    longest: f64,
    /// A moving average of latencies, in seconds.
    latency: Option<f64>,
    /// The least latency seen, creeping up so that it is forgotten in time, in seconds.
    least: f64,
    /// The share of the recent ends that look like overload.
    overload: f64,
    last_cut: Option<Timestamp>,
}

impl Pace {
    fn new(window: f64, concurrency: u32) -> Self {
        let longest = f64::from(concurrency.max(1));
        Self {
            window: window.min(longest),
            threshold: longest,
            longest,
            latency: None,
            least: f64::MAX,
            overload: 0.0,
            last_cut: None,
        }
    }

    fn window(&self) -> u32 {
        self.window.min(self.longest).max(1.0) as u32
    }

    fn succeeded(&mut self, latency: Duration) {
        self.note(0.0);
        let sample = latency.as_secs_f64();
        let average = self
            .latency
            .map_or(sample, |average| average + (sample - average) / 8.0);
        self.latency = Some(average);
        self.least = (self.least * 1.001).min(sample);
        let congested = average > 2.0 * self.least + 0.020 && self.window > WINDOW_FLOOR_FOR_LATENCY;
        if !congested {
            self.window += if self.window < self.threshold {
                1.0
            } else {
                1.0 / self.window
            };
        }
        self.window = self.window.min(self.longest);
    }

    /// Takes an end into the share of the recent ones that look like overload.
    fn note(&mut self, overload: f64) {
        self.overload += (overload - self.overload) / RECENT_ENDS;
    }

    fn overloaded(&mut self, now: Timestamp) {
        self.note(1.0);
        if self.overload <= OVERLOAD_TOLERATED {
            return;
        }
        let interval = CUT_INTERVAL.max(Duration::from_secs_f64(self.latency.unwrap_or(0.0).min(60.0)));
        if self.last_cut.is_none_or(|last| last.plus(interval) <= now) {
            self.threshold = (self.window / 2.0).max(1.0);
            self.window = self.threshold;
            self.last_cut = Some(now);
        }
    }
}

/// A token bucket that holds one second's worth.
#[derive(Debug)]
struct Bucket {
    per_second: f64,
    tokens: f64,
    filled_at: Timestamp,
}

impl Bucket {
    fn new(now: Timestamp, per_second: u32) -> Self {
        Self {
            per_second: f64::from(per_second.max(1)),
            tokens: 1.0,
            filled_at: now,
        }
    }

    fn available(&mut self, now: Timestamp) -> f64 {
        let gained = now.since(self.filled_at).as_secs_f64() * self.per_second;
        self.tokens = (self.tokens + gained).min(self.per_second.max(1.0));
        self.filled_at = self.filled_at.max(now);
        self.tokens
    }

    /// Takes one; may go below zero by what a claim under way brings.
    fn take(&mut self, now: Timestamp) {
        self.available(now);
        self.tokens -= 1.0;
    }

    fn next_at(&self, now: Timestamp) -> Timestamp {
        let missing = (1.0 - self.tokens).max(0.0);
        now.plus(Duration::from_secs_f64(missing / self.per_second))
            .plus(Duration::from_micros(1))
    }
}
