//! One attempt: send, settle, report.
//!
//! Owns the task of a single attempt. Whatever happens in it, including a panic, ends in a settlement and in
//! one report to the dispatcher, so that no slot is ever lost.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hookfast_engine::dispatch::{End, EndResult, Input};
use hookfast_engine::event::HeaderBlock;
use hookfast_engine::outcome::Outcome;
use hookfast_engine::retry::Verdict;
use hookfast_engine::time::Timestamp;
use hookfast_store::{Attempt, AttemptEnd, ClaimedDelivery, Settled, StoreError};
use tokio_util::sync::CancellationToken;

use super::driver::Deliveries;
use super::transport::{Attempted, Transport};
use crate::node::Node;
use crate::snapshot::ReadyDestination;
use crate::telemetry;

/// A settlement that the store could not take is tried again after this long.
const SETTLE_RETRY: Duration = Duration::from_secs(1);

/// Carries out attempts.
pub(super) struct Attempter {
    node: Arc<Node>,
    deliveries: Arc<Deliveries>,
    transport: Arc<Transport>,
    /// Cancelled when what is under way must be given back.
    abandon: CancellationToken,
}

impl Attempter {
    pub(super) fn new(
        node: Arc<Node>,
        deliveries: Arc<Deliveries>,
        transport: Arc<Transport>,
        abandon: CancellationToken,
    ) -> Self {
        Self {
            node,
            deliveries,
            transport,
            abandon,
        }
    }

    pub(super) fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// Sends `delivery` to its destination and settles what came of it.
    pub(super) async fn run(self: Arc<Self>, delivery: ClaimedDelivery) {
        let destination = self
            .node
            .snapshot
            .load()
            .destination(delivery.destination)
            .cloned();
        let attempted = match &destination {
            Some(destination) if destination.destination.is_open() => self.send(destination, &delivery).await,
            // It was paused or deleted between the claim and now.
            Some(_) | None => released(self.node.clock.now()),
        };
        self.settle(&delivery, destination.as_deref(), attempted).await;
    }

    /// Gives `delivery` back untried.
    pub(super) async fn give_back(self: Arc<Self>, delivery: ClaimedDelivery) {
        self.settle(&delivery, None, released(self.node.clock.now()))
            .await;
    }

    async fn send(&self, destination: &ReadyDestination, delivery: &ClaimedDelivery) -> Attempted {
        let snapshot = self.node.snapshot.load();
        let source = snapshot
            .source_by_id(delivery.event.source)
            .map_or("", |ready| ready.source.name.as_str());
        tokio::select! {
            attempted = self.transport.attempt(destination, delivery, source) => attempted,
            () = self.abandon.cancelled() => released(self.node.clock.now()),
        }
    }

    async fn settle(
        &self,
        delivery: &ClaimedDelivery,
        destination: Option<&ReadyDestination>,
        attempted: Attempted,
    ) {
        let latency = attempted.duration;
        let result = destination.map_or(EndResult::Unknown, |ready| {
            EndResult::of(&ready.policy, &attempted.outcome)
        });
        let attempt = attempted.into_attempt(delivery.attempt);
        let (gate, due_at) = match self.settle_until_taken(delivery, attempt).await {
            Some(settled) => {
                self.measure(delivery, destination, &settled);
                match settled {
                    Settled::Moved {
                        verdict,
                        gate,
                        status,
                        ..
                    } => {
                        if status.is_some() {
                            self.node.refresh();
                            self.node.status_changed.notify_one();
                        }
                        (Some(gate), due_at(verdict))
                    }
                    Settled::Stale => (None, None),
                }
            }
            None => (None, None),
        };
        self.deliveries.report(Input::Ended {
            destination: delivery.destination,
            bytes: delivery.event.body.len(),
            accepted_at: delivery.event.accepted_at,
            end: End {
                result,
                latency,
                gate,
                due_at,
            },
        });
    }

    /// Settles, again and again while the store takes nothing; the slot stays in use meanwhile, so a full
    /// disk slows deliveries down instead of repeating them. `None` where the store is broken or closed: the
    /// delivery is settled as lost at the next start.
    async fn settle_until_taken(&self, delivery: &ClaimedDelivery, attempt: Attempt) -> Option<Settled> {
        loop {
            let end = AttemptEnd {
                delivery: delivery.id,
                token: delivery.attempt,
                now: self.node.clock.now(),
                attempt: attempt.clone(),
            };
            match self.node.store.settle(end).await {
                Ok(settled) => return Some(settled),
                Err(StoreError::Unavailable { .. }) if !self.abandon.is_cancelled() => {
                    tokio::select! {
                        () = tokio::time::sleep(SETTLE_RETRY) => {}
                        () = self.abandon.cancelled() => {}
                    }
                }
                Err(error) => {
                    tracing::error!(delivery.id = %delivery.id, error = %error, "an attempt's end was not recorded");
                    return None;
                }
            }
        }
    }

    fn measure(&self, delivery: &ClaimedDelivery, destination: Option<&ReadyDestination>, settled: &Settled) {
        let result = match settled {
            Settled::Moved {
                verdict: Verdict::Delivered,
                ..
            } => "delivered",
            Settled::Moved {
                verdict: Verdict::Rejected,
                ..
            } => "rejected",
            Settled::Moved {
                verdict: Verdict::Dead,
                ..
            } => "dead",
            Settled::Moved {
                verdict: Verdict::RetryAt(_),
                ..
            } => "retrying",
            Settled::Stale => "stale",
        };
        let name = destination.map_or_else(String::new, |ready| ready.destination.name.clone());
        let labels = telemetry::Attempted {
            destination: name,
            result,
        };
        self.node.metrics.attempts.get_or_create(&labels).inc();
        if result == "delivered" && delivery.replay.is_none() {
            let since_accepted = self.node.clock.now().since(delivery.event.accepted_at);
            self.node
                .metrics
                .delivery_seconds
                .observe(since_accepted.as_secs_f64());
        }
    }
}

fn due_at(verdict: Verdict) -> Option<Timestamp> {
    match verdict {
        Verdict::RetryAt(at) => Some(at),
        Verdict::Delivered | Verdict::Rejected | Verdict::Dead => None,
    }
}

/// Nothing was tried.
fn released(now: Timestamp) -> Attempted {
    Attempted {
        started_at: now,
        duration: Duration::ZERO,
        outcome: Outcome::Released,
        error: None,
        response_headers: HeaderBlock::default(),
        response_body: Bytes::new(),
    }
}
