//! The dispatcher against a small world: a queue per destination, attempts that take their time.

use std::collections::BTreeMap;

use super::*;

mod pace;

const START: Timestamp = Timestamp::from_secs(1_790_000_000);

fn at(millis: u64) -> Timestamp {
    START.plus(Duration::from_millis(millis))
}

fn id(n: u128) -> DestinationId {
    DestinationId::from_u128(n)
}

fn limits(n: u128, concurrency: u32) -> DestinationLimits {
    DestinationLimits {
        destination: id(n),
        concurrency,
        rate: None,
        gate: Gate::Ready,
        // Nobody knows what waits: a look will tell.
        next_due: Some(Timestamp::EPOCH),
    }
}

/// A world in virtual time: what waits, what is under way, and when each attempt will end.
struct World {
    dispatcher: Dispatcher,
    now: Timestamp,
    waiting: BTreeMap<DestinationId, Vec<(Timestamp, Timestamp)>>,
    under_way: Vec<UnderWay>,
    latency: BTreeMap<DestinationId, Duration>,
    /// How each attempt ends, given how many were under way to its destination when it began.
    ends: Box<dyn FnMut(usize) -> EndResult>,
    delivered: Vec<(Timestamp, DestinationId, Timestamp)>,
    not_taken: usize,
    most: BTreeMap<DestinationId, usize>,
}

/// An attempt that has not ended.
struct UnderWay {
    end: Timestamp,
    destination: DestinationId,
    accepted: Timestamp,
    result: EndResult,
}

impl World {
    fn new(attempts: u32, destinations: Vec<DestinationLimits>) -> Self {
        let dispatcher = Dispatcher::new(Limits {
            attempts,
            bytes: 32 << 20,
        });
        let mut world = Self {
            dispatcher,
            now: START,
            waiting: BTreeMap::new(),
            under_way: Vec::new(),
            latency: BTreeMap::new(),
            ends: Box::new(|_| EndResult::Succeeded),
            delivered: Vec::new(),
            not_taken: 0,
            most: BTreeMap::new(),
        };
        world.input(Input::Destinations(destinations));
        world
    }

    fn input(&mut self, input: Input) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let mut effects = Vec::new();
            self.dispatcher.handle(self.now, input, &mut effects);
            for Effect::Claim { destination, claim } in effects {
                inputs.push_back(self.claim(destination, claim));
            }
        }
    }

    fn claim(&mut self, destination: DestinationId, claim: Claim) -> Input {
        let waiting = self.waiting.entry(destination).or_default();
        waiting.sort_unstable();
        let (mut taken, mut left) = (Vec::new(), Vec::new());
        for (due, accepted) in waiting.drain(..) {
            let wanted = due <= self.now && claim.due_from.is_none_or(|from| from <= due);
            if wanted && taken.len() < claim.limit as usize {
                taken.push(accepted)
            } else {
                left.push((due, accepted))
            }
        }
        let next_due = left.first().map(|(due, _)| *due);
        *waiting = left;
        let deliveries = taken.iter().map(|accepted| (1_000, *accepted)).collect();
        taken
            .into_iter()
            .for_each(|accepted| self.start(destination, accepted));
        Input::Claimed {
            destination,
            claim,
            deliveries,
            next_due,
        }
    }

    fn start(&mut self, destination: DestinationId, accepted: Timestamp) {
        let latency = self
            .latency
            .get(&destination)
            .copied()
            .unwrap_or(Duration::from_millis(1));
        let others = self
            .under_way
            .iter()
            .filter(|other| other.destination == destination);
        let count = others.count() + 1;
        let result = (self.ends)(count);
        self.under_way.push(UnderWay {
            end: self.now.plus(latency),
            destination,
            accepted,
            result,
        });
        let most = self.most.entry(destination).or_default();
        *most = (*most).max(count);
    }

    fn accept(&mut self, destination: DestinationId) {
        if self.dispatcher.reserve(self.now, destination, 1_000) {
            self.start(destination, self.now);
        } else {
            self.waiting
                .entry(destination)
                .or_default()
                .push((self.now, self.now));
            self.input(Input::Waiting {
                destination,
                due_at: self.now,
            });
        }
    }

    /// Lets virtual time run until `until`.
    fn run(&mut self, until: Timestamp) {
        loop {
            let next_end = self.under_way.iter().map(|each| each.end).min();
            let wake = self.dispatcher.wake_at();
            let next = [next_end, wake]
                .into_iter()
                .flatten()
                .min()
                .filter(|next| *next <= until);
            let Some(next) = next else { break };
            self.now = self.now.max(next);
            self.input(Input::Wake);
            while let Some(index) = self.under_way.iter().position(|each| each.end <= self.now) {
                let ended = self.under_way.swap_remove(index);
                self.end(&ended);
            }
        }
        self.now = until;
    }

    /// Reports an attempt's end. What was not taken does not come again.
    fn end(&mut self, ended: &UnderWay) {
        let (destination, accepted_at) = (ended.destination, ended.accepted);
        if ended.result == EndResult::Succeeded {
            self.delivered.push((self.now, destination, accepted_at));
        } else {
            self.not_taken += 1;
        }
        let latency = self.latency.get(&destination).copied();
        let end = End {
            result: ended.result,
            latency: latency.unwrap_or(Duration::from_millis(1)),
            gate: Some(Gate::Ready),
            due_at: None,
        };
        self.input(Input::Ended {
            destination,
            bytes: 1_000,
            accepted_at,
            end,
        });
    }
}

#[test]
fn a_new_event_of_an_idle_destination_is_attempted_at_once() {
    let mut world = World::new(100, vec![limits(1, 4)]);
    world.accept(id(1));
    assert_eq!(world.dispatcher.in_flight(), 1);
    world.run(at(10));
    assert_eq!(world.delivered.len(), 1);
    assert_eq!(world.dispatcher.in_flight(), 0);
}

#[test]
fn concurrency_is_reached_and_never_passed_and_everything_is_delivered_in_order() {
    let mut world = World::new(1_000, vec![limits(1, 16)]);
    for n in 0..2_000 {
        world.now = START.plus(Duration::from_micros(n));
        world.accept(id(1));
    }
    world.run(at(10_000));
    assert_eq!(world.delivered.len(), 2_000);
    assert_eq!(world.most[&id(1)], 16);
    let place = |accepted: Timestamp| accepted.since(START).as_micros() as usize;
    let displaced = |(index, accepted): (usize, Timestamp)| index.abs_diff(place(accepted));
    let furthest = world
        .delivered
        .iter()
        .map(|(_, _, accepted)| *accepted)
        .enumerate()
        .map(displaced)
        .max();
    assert!(
        furthest <= Some(32),
        "no further out of place than what is under way: {furthest:?}"
    );
}

#[test]
fn destinations_that_hang_leave_room_for_the_others() {
    let hanging = 50;
    let destinations = (0..=hanging).map(|n| limits(n, 1_000)).collect();
    let mut world = World::new(500, destinations);
    (1..=hanging).for_each(|n| _ = world.latency.insert(id(n), Duration::from_secs(3_600)));
    for n in 1..=hanging {
        (0..1_000).for_each(|_| world.accept(id(n)));
    }
    for n in 0..100 {
        world.now = at(n);
        world.accept(id(0));
    }
    world.run(at(1_000));
    assert_eq!(
        world
            .delivered
            .iter()
            .filter(|(_, destination, _)| *destination == id(0))
            .count(),
        100
    );
}

#[test]
fn a_rate_limit_holds_over_every_second() {
    let mut world = World::new(
        100,
        vec![DestinationLimits {
            rate: Some(10),
            ..limits(1, 50)
        }],
    );
    (0..100).for_each(|_| world.accept(id(1)));
    world.run(at(5_000));
    let count = world.delivered.len();
    assert!(
        (48..=62).contains(&count),
        "{count} in five seconds at ten a second"
    );
    world.run(at(20_000));
    assert_eq!(world.delivered.len(), 100);
}

#[test]
fn one_probe_at_a_time_while_the_breaker_is_open() {
    let probe_at = at(1_000);
    let mut world = World::new(
        100,
        vec![DestinationLimits {
            gate: Gate::ProbeAt(probe_at),
            ..limits(1, 50)
        }],
    );
    (0..20).for_each(|_| world.accept(id(1)));
    world.latency.insert(id(1), Duration::from_millis(500));
    world.run(at(999));
    assert_eq!(world.under_way.len(), 0);
    world.run(at(1_400));
    assert_eq!(world.under_way.len(), 1, "one probe");
    world.run(at(10_000));
    assert_eq!(world.delivered.len(), 20, "its success lets the others go");
}

#[test]
fn a_failure_that_is_heard_of_after_the_breaker_opened_does_not_open_the_gate() {
    let mut dispatcher = Dispatcher::new(Limits {
        attempts: 10,
        bytes: 1 << 20,
    });
    let idle = DestinationLimits {
        next_due: None,
        ..limits(1, 4)
    };
    let mut effects = Vec::new();
    dispatcher.handle(START, Input::Destinations(vec![idle]), &mut effects);
    assert!((0..3).all(|_| dispatcher.reserve(START, id(1), 1_000)));
    let mut end = |result, gate| {
        let end = End {
            result,
            latency: Duration::from_millis(1),
            gate: Some(gate),
            due_at: Some(START),
        };
        let input = Input::Ended {
            destination: id(1),
            bytes: 1_000,
            accepted_at: START,
            end,
        };
        effects.clear();
        dispatcher.handle(at(1), input, &mut effects);
        effects.len()
    };
    assert_eq!(end(EndResult::Refused, Gate::ProbeAt(at(1_000))), 0);
    assert_eq!(
        end(EndResult::Refused, Gate::Ready),
        0,
        "settled before it opened"
    );
    assert_eq!(end(EndResult::Succeeded, Gate::Ready), 1, "it is back");
}

#[test]
fn new_events_keep_a_quarter_of_the_slots_while_a_backlog_drains() {
    let mut world = World::new(
        1_000,
        vec![DestinationLimits {
            gate: Gate::ProbeAt(at(100)),
            ..limits(1, 16)
        }],
    );
    world.latency.insert(id(1), Duration::from_millis(10));
    (0..5_000).for_each(|_| world.accept(id(1)));
    world.run(at(1_000));
    let before = world.delivered.len();
    for n in 0..100 {
        world.now = world.now.max(at(1_000 + n * 10));
        world.accept(id(1));
        world.run(at(1_000 + n * 10 + 9));
    }
    world.run(at(2_100));
    let new = world
        .delivered
        .iter()
        .filter(|(_, _, accepted)| *accepted >= at(1_000))
        .count();
    assert_eq!(new, 100, "new events do not wait for the backlog");
    assert!(world.delivered.len() - before > 1_000, "the backlog goes on");
    world.run(at(60_000));
    assert_eq!(world.delivered.len(), 5_100);
    let backlog: Vec<_> = world
        .delivered
        .iter()
        .filter(|(_, _, accepted)| *accepted < at(1_000))
        .collect();
    assert_eq!(backlog.len(), 5_000);
}

#[test]
fn a_destination_that_is_back_is_not_stampeded() {
    let mut world = World::new(
        1_000,
        vec![DestinationLimits {
            gate: Gate::ProbeAt(at(10)),
            ..limits(1, 64)
        }],
    );
    world.latency.insert(id(1), Duration::from_millis(100));
    (0..1_000).for_each(|_| world.accept(id(1)));
    let mut counts = Vec::new();
    for step in 0..8 {
        world.run(at(50 + step * 100));
        counts.push(world.under_way.len());
    }
    assert_eq!(
        counts[..3],
        [1, 1, 2],
        "one probe, then a window of two: {counts:?}"
    );
    assert!(
        counts.windows(2).all(|pair| pair[1] <= pair[0] * 2 + 1),
        "{counts:?}"
    );
    assert!(counts[7] >= 24, "{counts:?}");
}

#[test]
fn a_failed_claim_is_tried_again_at_its_time() {
    let mut dispatcher = Dispatcher::new(Limits {
        attempts: 10,
        bytes: 1 << 20,
    });
    let mut effects = Vec::new();
    dispatcher.handle(START, Input::Destinations(vec![limits(1, 4)]), &mut effects);
    let Some(Effect::Claim { destination, claim }) = effects.pop() else {
        panic!("no look at the start")
    };
    dispatcher.handle(
        START,
        Input::ClaimFailed {
            destination,
            claim,
            retry_at: at(500),
        },
        &mut effects,
    );
    assert_eq!(dispatcher.in_flight(), 0);
    // What waits is still due since the start, so the failed claim's time must hold it back.
    assert_eq!(effects, []);
    assert_eq!(dispatcher.wake_at(), Some(at(500)));
    dispatcher.handle(at(500), Input::Wake, &mut effects);
    assert_eq!(effects.len(), 1);
}

#[test]
fn a_destination_for_which_nothing_waits_costs_no_look_and_takes_new_events_at_once() {
    let mut dispatcher = Dispatcher::new(Limits {
        attempts: 10,
        bytes: 1 << 20,
    });
    let idle = |n| DestinationLimits {
        next_due: None,
        ..limits(n, 4)
    };
    let waits = DestinationLimits {
        next_due: Some(at(100)),
        ..limits(3, 4)
    };
    let mut effects = Vec::new();
    let destinations = vec![idle(1), idle(2), waits];
    dispatcher.handle(START, Input::Destinations(destinations), &mut effects);
    assert_eq!(effects, []);
    assert_eq!(dispatcher.wake_at(), Some(at(100)));
    assert!(dispatcher.reserve(START, id(1), 1_000));
    dispatcher.handle(at(100), Input::Wake, &mut effects);
    assert_eq!(effects.len(), 1, "only for the one whose time has come");
}

#[test]
fn a_closed_destination_is_left_alone_and_looked_at_when_it_opens_again() {
    let mut world = World::new(100, vec![limits(1, 4)]);
    world.input(Input::Destinations(vec![]));
    world.accept(id(1));
    world.run(at(1_000));
    assert_eq!(world.delivered.len(), 0);
    world.input(Input::Destinations(vec![limits(1, 4)]));
    world.run(at(2_000));
    assert_eq!(world.delivered.len(), 1);
}

#[test]
fn what_is_heard_while_a_claim_is_under_way_is_not_forgotten_when_the_claim_saw_nothing() {
    let mut dispatcher = Dispatcher::new(Limits {
        attempts: 10,
        bytes: 4 << 20,
    });
    let mut effects = Vec::new();
    dispatcher.handle(START, Input::Destinations(vec![limits(1, 4)]), &mut effects);
    let Some(Effect::Claim { destination, claim }) = effects.pop() else {
        panic!("no look at the start")
    };
    dispatcher.handle(
        START,
        Input::Waiting {
            destination,
            due_at: START,
        },
        &mut effects,
    );
    assert_eq!(effects, [], "one claim at a time");
    let nothing = Input::Claimed {
        destination,
        claim,
        deliveries: Vec::new(),
        next_due: None,
    };
    dispatcher.handle(START, nothing, &mut effects);
    assert_eq!(effects.len(), 1, "it looks again");
}
