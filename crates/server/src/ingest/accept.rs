//! From a whole request to a stored event (SPEC I1, I3, I4, I6, I7).
//!
//! Owns the order of work: verify, dedupe key, store, and the answer only after that; and what becomes of a
//! request that is not believed. Must not know sockets. `release` builds its events here too, so that one
//! released from quarantine is the same as one accepted at once.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use hookfast_engine::event::Event;
use hookfast_engine::id::{EventId, QuarantineId, SourceId};
use hookfast_engine::time::Timestamp;
use hookfast_engine::topology::{OnInvalid, Source};
use hookfast_signature::{Answer, HandshakeRefusal};
use hookfast_store::{
    Appended, Dedupe, NewEvent, NewQuarantined, Quarantined, Quarantining, StoreError, Unavailable,
};
use ring::digest::{self, SHA256};

use super::cause::Cause;
use super::extract::{Extracted, Key};
use super::handshake;
use super::verify::{Notification, Refusal, TimeCheck};
use super::{Ingest, Outcome, Refused};
use crate::budget::Reservation;
use crate::clock::Clock;
use crate::snapshot::ReadySource;

/// From this size on, a body is verified off the threads that serve connections, a few at a time.
const LARGE_BYTES: usize = 256 * 1024;
/// What a sender is told to wait after a fault that nobody knows the end of.
const RETRY_AFTER_FAULT: Duration = Duration::from_secs(10);

/// What a look at a whole request shows.
#[derive(Debug)]
pub enum Inspected {
    /// An event that is believed.
    Event(NewEvent),
    /// A handshake that is believed, to be answered so.
    Handshake(Result<Answer, HandshakeRefusal>),
    /// It is not believed.
    Refused(Refusal),
}

/// What inspecting needs beyond the request and its source.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// Time and chance.
    pub clock: Clock,
    /// How the server is seen from outside.
    pub server_url: Option<Arc<str>>,
    /// For how long a born-in-flight delivery is leased beyond its destination's timeout.
    pub lease_margin: Duration,
}

/// Verifies a request and makes the event of it. Costs time by the size of the body, and waits for nothing.
#[must_use]
pub fn inspect(
    around: &Surroundings,
    source: &ReadySource,
    notification: &Notification,
    time: TimeCheck,
) -> Inspected {
    let server_url = around.server_url.as_deref();
    if let Err(refusal) = source.verifier.verify(notification, server_url, time) {
        return Inspected::Refused(refusal);
    }
    if let Some(answer) = handshake::answer(&source.verifier, notification, true) {
        return Inspected::Handshake(answer);
    }
    let extraction = &source.verifier.extraction;
    let extracted = extraction.read(&notification.headers, &notification.body);
    Inspected::Event(new_event(around, &source.source, notification, extracted))
}

fn new_event(
    around: &Surroundings,
    source: &Source,
    notification: &Notification,
    extracted: Extracted,
) -> NewEvent {
    let now = around.clock.now();
    let dedupe = extracted
        .key
        .as_ref()
        .map(|key| dedupe(source, key, &notification.body, now));
    let event = Event {
        id: EventId::new(now, around.clock.entropy()),
        application: source.application,
        source: source.id,
        provider_id: extracted.provider_id,
        event_type: extracted.event_type,
        occurred_at: extracted.occurred_at,
        accepted_at: now,
        headers: notification.headers.clone(),
        body: notification.body.clone(),
    };
    NewEvent {
        event: Arc::new(event),
        dedupe,
        lease_margin: around.lease_margin,
    }
}

fn dedupe(source: &Source, key: &Key, body: &[u8], now: Timestamp) -> Dedupe {
    let expires_at = now.plus(source.dedupe_window);
    match key {
        Key::Text(text) => mark(source.id, &[text.as_bytes()], body, expires_at),
        Key::Body => {
            let hash = digest::digest(&SHA256, body);
            mark(source.id, &[hash.as_ref()], body, expires_at)
        }
    }
}

/// The mark of an event of `source` whose dedupe key has these parts. SHA-256 for the body too: whoever could make
/// two bodies of one short hash could hide a conflict.
#[must_use]
pub fn mark(source: SourceId, key: &[&[u8]], body: &[u8], expires_at: Timestamp) -> Dedupe {
    let mut hash = digest::Context::new(&SHA256);
    hash.update(&source.as_u128().to_be_bytes());
    hash.update(&[0]);
    key.iter().for_each(|part| hash.update(part));
    Dedupe {
        key: first(hash.finish().as_ref()),
        body: first(digest::digest(&SHA256, body).as_ref()),
        expires_at,
    }
}

/// The first bytes of a digest, which is always longer.
fn first<const N: usize>(digest: &[u8]) -> [u8; N] {
    digest.first_chunk().copied().unwrap_or([0; N])
}

impl Ingest {
    /// Takes a whole request: the event is on stable storage when this says that it is accepted.
    pub(super) async fn take(
        &self,
        source: &Arc<ReadySource>,
        notification: Notification,
        reservation: Reservation,
    ) -> Outcome {
        let inspected = if notification.body.len() < LARGE_BYTES {
            Some(inspect(
                &self.around,
                source,
                &notification,
                TimeCheck::AsReceived,
            ))
        } else {
            self.inspect_large(source, &notification).await
        };
        match inspected {
            Some(Inspected::Event(new)) => self.append(source, new, reservation).await,
            Some(Inspected::Handshake(Ok(answer))) => Outcome::Handshake(answer),
            Some(Inspected::Handshake(Err(refusal))) => {
                Outcome::Refused(Refused::new(Cause::BadChallenge).detail(refusal.to_string()))
            }
            Some(Inspected::Refused(refusal)) => {
                self.refuse(source, notification, refusal, reservation).await
            }
            None => Outcome::Refused(Refused::new(Cause::Internal)),
        }
    }

    /// As [`inspect`], on a thread that may take its time; nothing where that thread failed.
    async fn inspect_large(
        &self,
        source: &Arc<ReadySource>,
        notification: &Notification,
    ) -> Option<Inspected> {
        let _turn = self.large_bodies.acquire().await.ok()?;
        let (around, source, notification) = (self.around.clone(), Arc::clone(source), notification.clone());
        let inspecting = move || inspect(&around, &source, &notification, TimeCheck::AsReceived);
        tokio::task::spawn_blocking(inspecting).await.ok()
    }

    async fn append(&self, source: &ReadySource, new: NewEvent, reservation: Reservation) -> Outcome {
        let id = new.event.id;
        let store = Arc::clone(&self.node.store);
        // The bytes stay reserved as long as the store may hold them, also past our patience.
        let mut appending = Box::pin(async move {
            let appended = store.append(new).await;
            drop(reservation);
            appended
        });
        let appended = tokio::time::timeout(self.node.settings.ingest.ack_timeout, &mut appending).await;
        let (metrics, name) = (&self.node.metrics, &source.source.name);
        match appended {
            Ok(Ok(Appended::Accepted { .. })) => {
                source.meter.accepted(metrics, name);
                Outcome::Accepted(id)
            }
            Ok(Ok(Appended::Repeat { first, .. })) => {
                source.meter.repeat(metrics, name);
                Outcome::Accepted(first)
            }
            Ok(Err(error)) => Outcome::Refused(of_store(&error)),
            Err(_) => {
                tokio::spawn(appending);
                Outcome::Refused(Refused::new(Cause::DiskSlow).retry_after(RETRY_AFTER_FAULT))
            }
        }
    }

    /// Keeps a request that is not believed in quarantine, where there is room, and says how it is answered.
    async fn refuse(
        &self,
        source: &ReadySource,
        notification: Notification,
        refusal: Refusal,
        reservation: Reservation,
    ) -> Outcome {
        let kept = self.quarantine(source, notification, &refusal, reservation).await;
        let cause = refusal.cause;
        let refused = Refused::new(cause).detail(refusal.message);
        Outcome::Refused(match kept {
            Ok(Quarantining::Kept) => Refused {
                quarantined: true,
                answered_ok: source.source.on_invalid == OnInvalid::Accept && cause != Cause::UnusableSource,
                ..refused
            },
            Ok(Quarantining::Full) => refused.and("the source's quarantine is full"),
            Ok(Quarantining::PeerFull) => refused.and("the peer has used up its share of the quarantine"),
            // Where the true events are among those that are refused, losing one is our fault.
            Err(not_kept) if matches!(cause, Cause::NoSecret) || is_fault(not_kept.cause) => not_kept,
            Err(_) => refused.and("quarantine takes no more at present"),
        })
    }

    async fn quarantine(
        &self,
        source: &ReadySource,
        notification: Notification,
        refusal: &Refusal,
        reservation: Reservation,
    ) -> Result<Quarantining, Refused> {
        let mut share = self.quarantine_budget.reservation();
        let bytes = notification.body.len() + notification.headers.packed().len();
        if !share.grow(bytes) {
            return Err(Refused::new(Cause::SourceOverloaded).retry_after(Duration::from_secs(1)));
        }
        let now = notification.received_at;
        let new = NewQuarantined {
            item: Quarantined {
                id: QuarantineId::new(now, self.node.clock.entropy()),
                source: source.source.id,
                received_at: now,
                cause: format!("{}: {}", refusal.cause.code(), refusal.message),
                peer: notification.peer.to_string(),
                method: notification.method.as_str().to_owned(),
                target: notification.target,
                headers: notification.headers,
                body: notification.body,
            },
            bounds: self.node.settings.quarantine,
        };
        let store = Arc::clone(&self.node.store);
        let mut keeping = Box::pin(async move {
            let kept = store.quarantine(new).await;
            drop((share, reservation));
            kept
        });
        match tokio::time::timeout(self.node.settings.ingest.ack_timeout, &mut keeping).await {
            Ok(Ok(kept)) => Ok(kept),
            Ok(Err(error)) => Err(of_store(&error)),
            Err(_) => {
                tokio::spawn(keeping);
                // Quarantine comes last in each commit: that it waits is no fault of the disk.
                Err(Refused::new(Cause::SourceOverloaded).retry_after(RETRY_AFTER_FAULT))
            }
        }
    }
}

/// Whether a refusal to keep something is a fault of ours rather than a bound.
fn is_fault(cause: Cause) -> bool {
    cause != Cause::SourceOverloaded
}

/// What a sender is told when the store does not take something: always a 503.
fn of_store(error: &StoreError) -> Refused {
    match error {
        StoreError::Unavailable { reason, retry_after } => {
            let cause = match reason {
                Unavailable::Full => Cause::DiskFull,
                Unavailable::LaneFull => Cause::SourceOverloaded,
                Unavailable::Slow | Unavailable::Busy => Cause::DiskSlow,
                Unavailable::Stopping => Cause::Stopping,
            };
            Refused::new(cause).retry_after(*retry_after)
        }
        StoreError::Unknown { .. }
        | StoreError::Corrupt { .. }
        | StoreError::Incompatible { .. }
        | StoreError::Refused { .. } => {
            tracing::error!(%error, "the store did not take an event");
            Refused::new(Cause::StoreFailed).retry_after(RETRY_AFTER_FAULT)
        }
    }
}

impl Refused {
    fn and(mut self, more: &str) -> Self {
        self.detail = Cow::Owned(format!("{}; {more}", self.detail));
        self
    }
}
