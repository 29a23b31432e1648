//! Owns senders as providers are: each posts unique signed notifications and remembers which were acknowledged.
//! It must not know what becomes of them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::http::Connection;
use super::nylas;
use super::server::ADMIN_KEY;
use super::time::wait_for;

/// How the senders go about it.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// What all ids begin with; two loads on one server need two.
    pub(crate) prefix: String,
    /// How many senders there are, each with a connection of its own.
    pub(crate) senders: usize,
    /// After how many notifications each stops by itself.
    pub(crate) each: Option<usize>,
    /// Whether what was not answered 200 is posted again until it is, as a provider does.
    pub(crate) repeat: bool,
    /// How often each notification that was answered 200 is posted again all the same.
    pub(crate) copies: usize,
    /// How long a sender waits between two notifications.
    pub(crate) pause: Duration,
    /// Whether each is published at the admin listener, as an application does, in place of posted to the source.
    pub(crate) publishes: bool,
}

impl Plan {
    /// Eight senders that go on until they are stopped and never repeat.
    pub(crate) fn new(prefix: &str) -> Self {
        Self {
            prefix: prefix.to_owned(),
            senders: 8,
            each: None,
            repeat: false,
            copies: 0,
            pause: Duration::ZERO,
            publishes: false,
        }
    }

    /// The same, ending after so many notifications in all (rounded up to the same number for each sender).
    pub(crate) fn total(mut self, count: usize) -> Self {
        self.each = Some(count.div_ceil(self.senders));
        self
    }

    /// The same, with what was not answered 200 posted again until it is.
    pub(crate) fn repeating(mut self) -> Self {
        self.repeat = true;
        self
    }

    /// Begins to post at `to`.
    pub(crate) fn start(self, to: SocketAddr) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let acknowledged = Arc::new(AtomicUsize::new(0));
        let senders = (0..self.senders)
            .map(|number| {
                let sender = Sender {
                    plan: self.clone(),
                    number,
                    to,
                    stop: Arc::clone(&stop),
                    acknowledged: Arc::clone(&acknowledged),
                    connection: None,
                    sent: Sent::default(),
                };
                std::thread::spawn(move || sender.run())
            })
            .collect();
        Load {
            stop,
            acknowledged,
            senders,
        }
    }

    /// Posts all of it and waits for the end; for a plan with a `total`.
    pub(crate) fn run(self, to: SocketAddr) -> Sent {
        assert!(
            self.each.is_some(),
            "a load without a total does not end by itself"
        );
        self.start(to).wait()
    }
}

/// What was sent and what came of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sent {
    /// The ids that were posted at all, whatever was answered.
    pub(crate) posted: BTreeSet<String>,
    /// The ids that were acknowledged at least once.
    pub(crate) acknowledged: BTreeSet<String>,
    /// How often each other status was answered.
    pub(crate) refused: BTreeMap<u16, usize>,
    /// How often no answer came.
    pub(crate) unanswered: usize,
    /// How many requests were acknowledged, repeats among them.
    pub(crate) answered: usize,
}

impl Sent {
    /// Adds what others sent.
    pub(crate) fn add(&mut self, other: Self) {
        self.posted.extend(other.posted);
        self.acknowledged.extend(other.acknowledged);
        for (status, count) in other.refused {
            *self.refused.entry(status).or_default() += count;
        }
        self.unanswered += other.unanswered;
        self.answered += other.answered;
    }
}

/// Senders at work.
#[derive(Debug)]
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicUsize>,
    senders: Vec<JoinHandle<Sent>>,
}

impl Load {
    /// How many ids have been acknowledged so far.
    pub(crate) fn acknowledged(&self) -> usize {
        self.acknowledged.load(Ordering::SeqCst)
    }

    /// Waits until at least so many ids have been acknowledged.
    pub(crate) fn wait_for_acknowledged(&self, count: usize) {
        wait_for(&format!("{count} acknowledgements"), || {
            (self.acknowledged() >= count).then_some(())
        });
    }

    /// Stops the senders, each after its request in hand, and gives what they sent.
    pub(crate) fn stop(self) -> Sent {
        self.stop.store(true, Ordering::SeqCst);
        self.wait()
    }

    /// Waits until they end by themselves.
    pub(crate) fn wait(self) -> Sent {
        let mut sent = Sent::default();
        for sender in self.senders {
            sent.add(sender.join().expect("a sender does not fail"));
        }
        sent
    }
}

struct Sender {
    plan: Plan,
    number: usize,
    to: SocketAddr,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicUsize>,
    connection: Option<Connection>,
    sent: Sent,
}

impl Sender {
    fn run(mut self) -> Sent {
        for serial in 0..self.plan.each.unwrap_or(usize::MAX) {
            if self.stopped() {
                break;
            }
            let id = format!("{}-{}-{serial}", self.plan.prefix, self.number);
            let request = if self.plan.publishes {
                Request::publishing(&id)
            } else {
                Request::notifying(&id)
            };
            self.sent.posted.insert(id.clone());
            let mut taken = self.post(&request);
            while !taken && self.plan.repeat && !self.stopped() {
                std::thread::sleep(Duration::from_millis(20));
                taken = self.post(&request);
            }
            if taken {
                self.acknowledged.fetch_add(1, Ordering::SeqCst);
                self.sent.acknowledged.insert(id);
                for _ in 0..self.plan.copies {
                    self.post(&request);
                }
            } else if self.connection.is_none() {
                // The server is down: no busy loop.
                std::thread::sleep(Duration::from_millis(5));
            }
            std::thread::sleep(self.plan.pause);
        }
        self.sent
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    /// Whether it was acknowledged.
    fn post(&mut self, request: &Request) -> bool {
        let connection = match self.connection.take() {
            Some(connection) => Ok(connection),
            None => Connection::open(self.to),
        };
        let (name, value) = &request.proof;
        let headers = [("content-type", "application/json"), (*name, value.as_str())];
        let answer = connection.and_then(|mut connection| {
            let answer = connection.send("POST", request.path, &headers, &request.body)?;
            if answer.header("connection") != Some("close") {
                self.connection = Some(connection);
            }
            Ok(answer.status)
        });
        match answer {
            Ok(status) if status == request.acknowledged => self.sent.answered += 1,
            Ok(status) => *self.sent.refused.entry(status).or_default() += 1,
            Err(_) => self.sent.unanswered += 1,
        }
        answer.is_ok_and(|status| status == request.acknowledged)
    }
}

/// What is posted for one id, and the status that acknowledges it.
struct Request {
    path: &'static str,
    proof: (&'static str, String),
    body: Vec<u8>,
    acknowledged: u16,
}

impl Request {
    /// The signed notification, as a provider posts it.
    fn notifying(id: &str) -> Self {
        let body = nylas::notification(id);
        Self {
            path: nylas::PATH,
            proof: (nylas::SIGNATURE_HEADER, nylas::sign(nylas::SECRET, &body)),
            body,
            acknowledged: 200,
        }
    }

    /// The same as an event that an application publishes.
    fn publishing(id: &str) -> Self {
        Self {
            path: "/api/v1/events",
            proof: ("authorization", format!("Bearer {ADMIN_KEY}")),
            body: nylas::event(id),
            acknowledged: 202,
        }
    }
}
