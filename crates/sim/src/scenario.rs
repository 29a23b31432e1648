//! What a seed draws before its run begins.
//!
//! Owns the kind of the world, its store and nodes, its destinations, how long it goes on and what goes wrong in
//! it. Must not know how any of that is played.

use std::time::Duration;

use hookfast_store::Retention;

use crate::chance::Chance;
use crate::faults::Mix;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// Which store a world has.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum StoreKind {
    /// The memory model, shared by so many nodes.
    Memory { nodes: usize },
    /// The embedded store, which has one owner.
    Embedded,
}

impl StoreKind {
    pub(crate) fn nodes(self) -> usize {
        match self {
            Self::Memory { nodes } => nodes,
            Self::Embedded => 1,
        }
    }
}

/// Where a destination's deliveries come from and how it takes them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Side {
    /// An application behind the inbox.
    Inbox,
    /// Workers that pull what came into the inbox.
    Pulled,
    /// A customer of the outbox with this policy.
    Outbox { policy: &'static str },
}

/// A destination before it is made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub(crate) side: Side,
    pub(crate) triggers: &'static [&'static str],
    pub(crate) concurrency: u32,
    pub(crate) rate: Option<u32>,
    pub(crate) timeout: Duration,
    pub(crate) told: bool,
}

/// Everything that is drawn before a run begins.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) store: StoreKind,
    pub(crate) mix: Mix,
    pub(crate) inbox: bool,
    pub(crate) outbox: bool,
    /// How long faults happen.
    pub(crate) safety: Duration,
    /// How long after the last fault everything owed may take.
    pub(crate) liveness: Duration,
    pub(crate) events: u64,
    /// So many events come within a few milliseconds.
    pub(crate) burst: u64,
    pub(crate) destinations: Vec<Wanted>,
    pub(crate) dedupe_window: Duration,
    pub(crate) retention: Retention,
    /// How far each node's clock is from the truth at the start, in microseconds.
    pub(crate) clocks: Vec<i64>,
    /// A provider tries so often before it gives up.
    pub(crate) tries: u32,
}

impl Scenario {
    pub(crate) fn draw(chance: &mut Chance) -> Self {
        let store = chance.pick(&[
            StoreKind::Memory { nodes: 1 },
            StoreKind::Memory { nodes: 1 },
            StoreKind::Memory { nodes: 2 },
            StoreKind::Memory { nodes: 3 },
            StoreKind::Embedded,
        ]);
        let one_node = store.nodes() == 1;
        let (inbox, outbox) = chance.pick(&[(true, false), (true, false), (false, true), (true, true)]);
        let long = outbox && chance.percent(30);
        let safety = if long {
            chance.between(4, 6) * DAY
        } else {
            30 * MINUTE
        };
        let mut mix = Mix::draw(chance, one_node);
        if store == StoreKind::Embedded {
            // Opening a directory takes real time.
            mix.deaths = mix.deaths.min(4);
            mix.death_before = mix.death_before.min(8);
            mix.death_after = mix.death_after.min(8);
            mix.sync_failed = mix.sync_failed.min(8);
        }
        let policy = chance.pick(&["nylas", "standard"]);
        let destinations = Self::draw_destinations(chance, inbox, outbox, policy);
        let slowest = destinations
            .iter()
            .any(|each| each.side == Side::Outbox { policy: "standard" });
        let liveness = if slowest { 31 * HOUR } else { 2 * HOUR };
        let short = Duration::from_secs(chance.pick(&[30 * DAY, 30 * DAY, 10 * MINUTE]));
        let skewed = !one_node && chance.percent(60);
        let mut clock = || {
            if skewed {
                chance.between(0, 600_000_000).cast_signed() - 300_000_000
            } else {
                0
            }
        };
        Self {
            store,
            mix,
            inbox,
            outbox,
            safety: Duration::from_secs(safety),
            liveness: Duration::from_secs(liveness),
            clocks: (0..store.nodes()).map(|_| clock()).collect(),
            events: if long {
                chance.between(200, 500)
            } else {
                chance.between(20, 300)
            },
            burst: if long {
                chance.pick(&[1, 4])
            } else {
                chance.pick(&[1, 10, 60])
            },
            destinations,
            dedupe_window: Duration::from_secs(if long { DAY } else { 7 * DAY }),
            retention: Retention {
                settled: short,
                dead: short * 3,
                waiting: short * 2,
                quarantine: Duration::from_secs(chance.pick(&[7 * DAY, 20 * MINUTE])),
            },
            tries: chance.between(3, 12) as u32,
        }
    }

    fn draw_destinations(
        chance: &mut Chance,
        inbox: bool,
        outbox: bool,
        policy: &'static str,
    ) -> Vec<Wanted> {
        let mut sides = Vec::new();
        if inbox {
            (0..chance.between(1, 3)).for_each(|_| sides.push(Side::Inbox));
            (0..chance.between(0, 1)).for_each(|_| sides.push(Side::Pulled));
        }
        if outbox {
            (0..chance.between(1, 3)).for_each(|_| sides.push(Side::Outbox { policy }));
        }
        sides
            .into_iter()
            .map(|side| Self::draw_destination(chance, side))
            .collect()
    }

    /// Draws one destination.
    pub(crate) fn draw_destination(chance: &mut Chance, side: Side) -> Wanted {
        let outbox = matches!(side, Side::Outbox { .. });
        let plain: &[&[&str]] = &[&["*"], &["*"], &["message.*"], &["message.created"]];
        let told: &[&[&str]] = &[
            &["*"],
            &["message.*", "destination.*"],
            &["grant.expired", "message.created"],
        ];
        Wanted {
            side,
            triggers: chance.pick(if outbox { told } else { plain }),
            concurrency: chance.pick(&[1, 2, 8, 64]),
            rate: chance.pick(&[None, None, None, Some(5)]),
            timeout: Duration::from_secs(if outbox { 10 } else { 30 }),
            told: outbox && chance.percent(60),
        }
    }
}
