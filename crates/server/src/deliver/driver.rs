//! The driver: one short loop that carries out what the dispatcher decides.
//!
//! Owns the channel into the dispatcher and the tasks that it starts: one per claim, one per attempt. Must
//! not decide anything, and never waits for the store or a destination itself.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use hookfast_engine::dispatch::{Claim, Dispatcher, Effect, Input, Limits};
use hookfast_engine::id::DestinationId;
use hookfast_engine::time::Timestamp;
use hookfast_engine::topology::DestinationKind;
use hookfast_store::{ClaimedDelivery, Slots, Standing, StoreError};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::attempt::Attempter;
use super::transport::Transport;
use crate::clock::Clock;
use crate::node::Node;
use crate::settings::DeliveryLimits;

/// A claim that failed is tried again after this long.
const CLAIM_RETRY: Duration = Duration::from_secs(1);
/// How many messages the loop takes before it looks at timers again.
const MESSAGES_AT_ONCE: usize = 256;

/// The delivery side as others see it: where deliveries are handed in and looks are asked for.
pub struct Deliveries {
    clock: Clock,
    dispatcher: Mutex<Dispatcher>,
    messages: mpsc::UnboundedSender<Message>,
    /// Cancelled when no attempt may begin any more.
    closed: CancellationToken,
}

/// What reaches the driver. Its number is bounded by what is in flight and what is being stored.
enum Message {
    Input(Input),
    Attempt(Vec<ClaimedDelivery>),
    LookEverywhere,
}

/// The receiving end, to be given to [`Deliveries::run`].
pub struct Driver {
    messages: mpsc::UnboundedReceiver<Message>,
}

impl Deliveries {
    /// The delivery side with these limits, and the driver that will run it.
    #[must_use]
    pub fn new(limits: &DeliveryLimits, clock: Clock) -> (Arc<Self>, Driver) {
        let (messages, receiver) = mpsc::unbounded_channel();
        let limits = Limits {
            attempts: limits.attempts,
            bytes: limits.body_bytes / 2,
        };
        let dispatcher = Mutex::new(Dispatcher::new(limits));
        let deliveries = Self {
            clock,
            dispatcher,
            messages,
            closed: CancellationToken::new(),
        };
        (Arc::new(deliveries), Driver { messages: receiver })
    }

    /// Something may wait that nobody told the delivery side of: the store is asked for every destination.
    pub fn look_everywhere(&self) {
        self.send(Message::LookEverywhere);
    }

    /// Attempts under way or reserved.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.dispatcher.lock().in_flight()
    }

    /// From now on nothing is attempted that is not under way.
    pub fn close(&self) {
        self.closed.cancel();
    }

    pub(super) fn report(&self, input: Input) {
        self.send(Message::Input(input));
    }

    fn send(&self, message: Message) {
        // The receiver is gone only once the server has stopped; then nobody needs the message.
        drop(self.messages.send(message));
    }

    /// Carries deliveries out until the node stops and what was under way has ended, or until `abandon` is
    /// cancelled, when what is under way is given back untried or unanswered.
    pub async fn run(
        self: Arc<Self>,
        node: Arc<Node>,
        mut driver: Driver,
        transport: Arc<Transport>,
        abandon: CancellationToken,
    ) {
        let tasks = TaskTracker::new();
        let attempter = Arc::new(Attempter::new(node.clone(), self.clone(), transport, abandon));
        let mut snapshot_changed = node.snapshot_changed.subscribe();
        let mut open = self
            .set_destinations(&node, &attempter, &tasks, &BTreeSet::new())
            .await;
        let mut messages = Vec::with_capacity(MESSAGES_AT_ONCE);
        while !self.closed.is_cancelled() {
            let wake_at = self.dispatcher.lock().wake_at();
            tokio::select! {
                _ = driver.messages.recv_many(&mut messages, MESSAGES_AT_ONCE) => {}
                changed = snapshot_changed.changed() => {
                    if changed.is_err() { break }
                    open = self.set_destinations(&node, &attempter, &tasks, &open).await;
                }
                () = sleep_until(self.clock, wake_at) => messages.push(Message::Input(Input::Wake)),
                () = self.closed.cancelled() => break,
            }
            for message in messages.drain(..) {
                self.take(message, &open, &attempter, &tasks);
            }
        }
        driver.messages.close();
        while let Some(message) = driver.messages.recv().await {
            // What was claimed and not begun goes back; the rest was of use to the dispatcher alone.
            if let Message::Attempt(claimed) = message {
                claimed
                    .into_iter()
                    .for_each(|delivery| _ = tasks.spawn(attempter.clone().give_back(delivery)));
            }
        }
        tasks.close();
        tasks.wait().await;
    }

    fn take(
        self: &Arc<Self>,
        message: Message,
        open: &BTreeSet<DestinationId>,
        attempter: &Arc<Attempter>,
        tasks: &TaskTracker,
    ) {
        match message {
            Message::Input(input) => self.handle(input, attempter, tasks),
            Message::LookEverywhere => {
                let open = open.iter().copied().collect();
                tasks.spawn(self.clone().look(open, attempter.node().clone()));
            }
            Message::Attempt(claimed) => {
                claimed
                    .into_iter()
                    .for_each(|delivery| _ = tasks.spawn(attempter.clone().run(delivery)));
            }
        }
    }

    fn handle(self: &Arc<Self>, input: Input, attempter: &Arc<Attempter>, tasks: &TaskTracker) {
        let mut effects = Vec::new();
        self.dispatcher
            .lock()
            .handle(self.clock.now(), input, &mut effects);
        for Effect::Claim { destination, claim } in effects {
            tasks.spawn(self.clone().claim(destination, claim, attempter.node().clone()));
        }
    }

    /// Carries out a claim and reports what it gave; the attempts are started by the loop.
    async fn claim(self: Arc<Self>, destination: DestinationId, claim: Claim, node: Arc<Node>) {
        let now = self.clock.now();
        let timeout = node
            .snapshot
            .load()
            .destination(destination)
            .map(|ready| ready.destination.timeout);
        let lease = timeout.unwrap_or_default() + node.settings.delivery.lease_margin;
        let wanted = hookfast_store::Claim {
            destination,
            now,
            due_from: claim.due_from,
            limit: claim.limit,
            bytes: claim.bytes,
            lease,
        };
        match node.store.claim(wanted).await {
            Ok(claimed) => {
                let deliveries = claimed.deliveries.iter();
                let deliveries =
                    deliveries.map(|delivery| (delivery.event.body.len(), delivery.event.accepted_at));
                let next_due = claimed.next_due;
                self.report(Input::Claimed {
                    destination,
                    claim,
                    deliveries: deliveries.collect(),
                    next_due,
                });
                if !claimed.deliveries.is_empty() {
                    self.send(Message::Attempt(claimed.deliveries));
                }
            }
            Err(error) => {
                if !matches!(error, StoreError::Unavailable { .. }) {
                    tracing::error!(destination.id = %destination, error = %error, "deliveries cannot be claimed");
                }
                self.report(Input::ClaimFailed {
                    destination,
                    claim,
                    retry_at: now.plus(CLAIM_RETRY),
                });
            }
        }
    }

    /// Reports what waits for these destinations.
    async fn look(self: Arc<Self>, destinations: Vec<DestinationId>, node: Arc<Node>) {
        for standing in self.standings(destinations, &node).await {
            if let Some(due_at) = standing.next_due {
                self.report(Input::Waiting {
                    destination: standing.destination,
                    due_at,
                });
            }
        }
    }

    /// How these destinations stand; of those that the store says nothing of, nothing is known.
    async fn standings(&self, destinations: Vec<DestinationId>, node: &Node) -> Vec<Standing> {
        if destinations.is_empty() {
            return Vec::new();
        }
        let standings = node.store.standings(destinations, self.clock.now()).await;
        standings.unwrap_or_else(|error| {
            if !matches!(error, StoreError::Unavailable { .. }) {
                tracing::error!(error = %error, "how destinations stand cannot be read");
            }
            Vec::new()
        })
    }

    /// Tells the dispatcher which destinations take deliveries by push now. It learns how those stand that were open
    /// before from their attempts; of the others the store knows it.
    async fn set_destinations(
        self: &Arc<Self>,
        node: &Arc<Node>,
        attempter: &Arc<Attempter>,
        tasks: &TaskTracker,
        open_before: &BTreeSet<DestinationId>,
    ) -> BTreeSet<DestinationId> {
        let snapshot = node.snapshot.load_full();
        let push = snapshot.topology.destinations.values().filter(|destination| {
            destination.is_open() && matches!(destination.kind, DestinationKind::Push { .. })
        });
        let push: Vec<_> = push.collect();
        let met = |id: &DestinationId| open_before.contains(id);
        let new = push
            .iter()
            .map(|destination| destination.id)
            .filter(|id| !met(id));
        let standings = self.standings(new.collect(), node).await;
        let limits = Standing::limits(push, standings);
        let open = limits.iter().map(|limits| limits.destination).collect();
        self.handle(Input::Destinations(limits), attempter, tasks);
        open
    }
}

impl Slots for Deliveries {
    fn reserve(&self, now: Timestamp, destination: DestinationId, bytes: usize) -> bool {
        !self.closed.is_cancelled() && self.dispatcher.lock().reserve(now, destination, bytes)
    }

    fn give_back(&self, destination: DestinationId, bytes: usize) {
        self.report(Input::GivenBack { destination, bytes });
    }

    fn hand_over(&self, claimed: Vec<ClaimedDelivery>) {
        self.send(Message::Attempt(claimed));
    }

    fn waiting(&self, destination: DestinationId, due_at: Timestamp) {
        self.report(Input::Waiting { destination, due_at });
    }
}

async fn sleep_until(clock: Clock, at: Option<Timestamp>) {
    match at {
        Some(at) => tokio::time::sleep(at.since(clock.now())).await,
        None => std::future::pending().await,
    }
}
