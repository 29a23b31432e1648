//! How destinations behave.
//!
//! Owns what a destination answers, when, and whether it took the event. Must not know what an answer means to us.

use std::time::Duration;

use hookfast_engine::outcome::{Failure, Outcome};

use crate::chance::Chance;

/// How a destination behaves at present.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Behaviour {
    /// It takes everything at once.
    Well,
    /// It takes everything, in seconds.
    Slow,
    /// Nothing listens there.
    Down,
    /// It fails all it is sent.
    Broken,
    /// It takes some and fails some.
    Flapping,
    /// It says nothing.
    Hanging,
    /// It takes an event and answers too late.
    Late,
    /// It takes an event and breaks the connection before the answer.
    Resetting,
    /// It refuses some for good.
    Picky,
    /// It asks for fewer.
    Overloaded,
}

impl Behaviour {
    /// All of them.
    pub(crate) const ALL: [Self; 10] = [
        Self::Well,
        Self::Slow,
        Self::Down,
        Self::Broken,
        Self::Flapping,
        Self::Hanging,
        Self::Late,
        Self::Resetting,
        Self::Picky,
        Self::Overloaded,
    ];
}

/// What came of a request.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    /// How long it took.
    pub(crate) after: Duration,
    pub(crate) outcome: Outcome,
    /// The destination has the event, whatever was heard of it.
    pub(crate) took: bool,
}

/// What a destination makes of a request.
pub(crate) fn reply(chance: &mut Chance, behaviour: Behaviour, timeout: Duration) -> Reply {
    let quick = chance.millis(1, 200);
    match behaviour {
        Behaviour::Well => answered(chance.millis(1, 50), 200),
        Behaviour::Slow => answered(chance.millis(1_000, timeout.as_millis() as u64 * 2 / 3), 200),
        Behaviour::Down => failed(chance.millis(0, 5), Failure::ConnectionRefused, false),
        Behaviour::Broken => answered(quick, chance.pick(&[502, 503, 504])),
        Behaviour::Flapping => answered(quick, chance.pick(&[200, 200, 500, 502, 503])),
        Behaviour::Hanging => timed_out(timeout, false),
        Behaviour::Late => timed_out(timeout, true),
        Behaviour::Resetting => failed(quick, Failure::ConnectionReset, true),
        Behaviour::Picky => answered(quick, chance.pick(&[200, 200, 200, 410, 204])),
        Behaviour::Overloaded => Reply {
            after: quick,
            outcome: Outcome::Answered {
                status: 429,
                retry_after: Some(chance.millis(1_000, 120_000)),
            },
            took: false,
        },
    }
}

fn answered(after: Duration, status: u16) -> Reply {
    Reply {
        after,
        outcome: Outcome::Answered {
            status,
            retry_after: None,
        },
        took: (200..300).contains(&status),
    }
}

fn timed_out(after: Duration, took: bool) -> Reply {
    Reply {
        after,
        outcome: Outcome::TimedOut,
        took,
    }
}

fn failed(after: Duration, failure: Failure, took: bool) -> Reply {
    Reply {
        after,
        outcome: Outcome::Unreachable { failure },
        took,
    }
}
