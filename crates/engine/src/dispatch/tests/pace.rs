//! The pace of a lane: which failures slow it down, and how it recovers.

use super::*;
use crate::outcome::Failure;
use crate::retry::CodeSet;

/// The window's limit in these tests.
const LIMIT: u32 = 64;

/// A destination that answers within 50 ms and takes everything.
fn world() -> World {
    let mut world = World::new(1_000, vec![limits(1, LIMIT)]);
    world.latency.insert(id(1), Duration::from_millis(50));
    world
}

/// `percent` of the ends are `failure`, spread by a chance that is the same in each run.
fn by_chance(percent: u64, failure: EndResult) -> Box<dyn FnMut(usize) -> EndResult> {
    let mut seed = 7_u64;
    Box::new(move |_| {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        if (seed >> 33) % 100 < percent {
            failure
        } else {
            EndResult::Succeeded
        }
    })
}

/// What a while of a thousand new events a second shows.
#[derive(Debug)]
struct Seen {
    /// The smallest window.
    least: u32,
    /// The mean window.
    mean: f64,
    /// Attempts that ended, a second.
    pace: f64,
    /// How many of them failed, of a hundred.
    failed: f64,
}

impl World {
    fn window(&self) -> u32 {
        self.dispatcher.lanes[&id(1)].window()
    }

    /// A thousand new events a second, for so many seconds.
    fn offer(&mut self, seconds: u64) -> Seen {
        let start = self.now;
        let (delivered, not_taken) = (self.delivered.len(), self.not_taken);
        let (mut least, mut sum) = (u32::MAX, 0);
        for millis in 0..seconds * 1_000 {
            self.run(start.plus(Duration::from_millis(millis)));
            self.accept(id(1));
            least = least.min(self.window());
            sum += u64::from(self.window());
        }
        let failed = (self.not_taken - not_taken) as f64;
        let ended = (self.delivered.len() - delivered) as f64 + failed;
        Seen {
            least,
            mean: sum as f64 / (seconds * 1_000) as f64,
            pace: ended / seconds as f64,
            failed: 100.0 * failed / ended,
        }
    }
}

/// The time until `reached` holds of the window, looked at every ten milliseconds while events keep coming.
fn time_until(world: &mut World, reached: impl Fn(u32) -> bool) -> Duration {
    let start = world.now;
    while !reached(world.window()) {
        for _ in 0..10 {
            world.run(world.now.plus(Duration::from_millis(1)));
            world.accept(id(1));
        }
        assert!(
            world.now.since(start) < Duration::from_secs(60),
            "window {}",
            world.window()
        );
    }
    world.now.since(start)
}

#[test]
fn refusals_leave_the_window_at_its_limit() {
    for percent in [1, 3, 10, 50, 100] {
        let mut world = world();
        world.offer(2);
        world.ends = by_chance(percent, EndResult::Refused);
        let seen = world.offer(10);
        assert_eq!(seen.least, LIMIT, "{percent} %: {seen:?}");
        assert!(seen.pace > 990.0, "{percent} %: {seen:?}");
    }
}

#[test]
fn a_small_share_of_overload_does_not_slow_a_destination_down() {
    for percent in [1, 3] {
        let mut world = world();
        world.ends = by_chance(percent, EndResult::Overloaded);
        world.offer(2);
        let seen = world.offer(60);
        assert!(seen.mean > 60.0 && seen.pace > 990.0, "{percent} %: {seen:?}");
    }
}

#[test]
fn much_overload_cuts_the_window_at_once_and_its_end_is_noticed_soon() {
    let mut world = world();
    world.offer(2);
    world.ends = by_chance(50, EndResult::Overloaded);
    let cut = time_until(&mut world, |window| window <= 4);
    assert!(cut < Duration::from_secs(1), "{cut:?}");
    let seen = world.offer(10);
    assert!(seen.mean < 5.0, "{seen:?}");
    world.ends = by_chance(0, EndResult::Overloaded);
    let half = time_until(&mut world, |window| window >= LIMIT / 2);
    let whole = half + time_until(&mut world, |window| window == LIMIT);
    // One more for each latency of 50 ms.
    assert!(
        half < Duration::from_secs(2) && whole < Duration::from_secs(4),
        "{half:?} {whole:?}"
    );
}

#[test]
fn a_destination_with_room_for_twenty_is_found_out_and_seldom_asked_for_more() {
    const ROOM: usize = 20;
    let mut world = world();
    world.ends = Box::new(|under_way| {
        if under_way > ROOM {
            EndResult::Overloaded
        } else {
            EndResult::Succeeded
        }
    });
    world.offer(5);
    let seen = world.offer(20);
    // Twenty at once, 50 ms each, are 400 a second.
    assert!((12.0..21.0).contains(&seen.mean) && seen.pace > 260.0, "{seen:?}");
    assert!(seen.failed < 15.0, "{seen:?}");
}

#[test]
fn only_what_overload_looks_like_counts_as_overload() {
    let answered = |status| Outcome::Answered {
        status,
        retry_after: None,
    };
    let unreachable = |failure| Outcome::Unreachable { failure };
    for (outcome, result) in [
        (answered(200), EndResult::Succeeded),
        (answered(400), EndResult::Refused),
        (answered(404), EndResult::Refused),
        (answered(410), EndResult::Refused),
        (answered(429), EndResult::Overloaded),
        (answered(500), EndResult::Refused),
        (answered(501), EndResult::Refused),
        (answered(502), EndResult::Overloaded),
        (answered(503), EndResult::Overloaded),
        (answered(504), EndResult::Overloaded),
        (answered(505), EndResult::Refused),
        (Outcome::TimedOut, EndResult::Overloaded),
        (unreachable(Failure::ConnectionRefused), EndResult::Overloaded),
        (unreachable(Failure::ConnectionReset), EndResult::Overloaded),
        (unreachable(Failure::AddressBlocked), EndResult::Refused),
        (unreachable(Failure::RequestInvalid), EndResult::Refused),
        (Outcome::Released, EndResult::Unknown),
        (Outcome::Lost, EndResult::Unknown),
    ] {
        assert_eq!(EndResult::of(&Policy::inbox(), &outcome), result, "{outcome:?}");
    }
    let strange = Policy {
        success: CodeSet::ranges(&[(503, 503)]),
        ..Policy::inbox()
    };
    assert_eq!(EndResult::of(&strange, &answered(503)), EndResult::Succeeded);
}
