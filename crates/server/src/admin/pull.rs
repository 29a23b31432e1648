//! Pulling: workers lease deliveries over HTTP (SPEC I12).
//!
//! Owns these routes, the form of receipts and how a puller waits. What a lease and a receipt are worth is
//! decided by the store: a receipt names an attempt, and an old attempt settles nothing.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body as AnswerBody;
use axum::extract::{Path, State};
use axum::response::Response;
use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::stream::unfold;
use hookfast_engine::delivery::{DeliveryState, DestinationNumber};
use hookfast_engine::event::HeaderBlock;
use hookfast_engine::id::{DeliveryId, DestinationId};
use hookfast_engine::outcome::Outcome;
use hookfast_engine::time::Timestamp;
use hookfast_engine::topology::{Destination, DestinationKind};
use hookfast_store::{Attempt, AttemptEnd, Claim, Claimed, ClaimedDelivery, Settled, Stats, StoreError};
use http::{HeaderValue, header};
use tokio::sync::OwnedSemaphorePermit;

use super::auth::{Caller, Puller};
use super::error::{Code, Fault};
use super::read::{Body, OptionalBody};
use super::redact::Redactor;
use super::{Answer, Api, convert, wire};

const MAX: std::ops::RangeInclusive<u32> = 1..=1_000;
const WAIT_MOST: Duration = Duration::from_secs(30);
const LEASE_DEFAULT: Duration = Duration::from_secs(30);
const LEASE_LEAST: Duration = Duration::from_secs(1);
const LEASE_MOST: Duration = Duration::from_secs(12 * 3_600);
const RECEIPTS_MOST: usize = 1_000;
/// Receipts that are settled at the same time: the store puts them into one commit.
const RECEIPTS_AT_ONCE: usize = 100;
/// Bytes of bodies in one answer; a delivery that is larger comes alone.
const ANSWER_BYTES: usize = 2 * 1024 * 1024;
/// The answer is sent in pieces of this size.
const PIECE_BYTES: usize = 64 * 1024;
/// How long a puller waits for room for its answer.
const ROOM_PATIENCE: Duration = Duration::from_secs(5);
/// A waiting puller looks at the store's counts this often …
const GLANCE: Duration = Duration::from_millis(100);
/// … and asks for deliveries at least this often: a lease may have run out without any count changing.
const LOOK: Duration = Duration::from_secs(1);

/// Leases deliveries to a worker.
#[utoipa::path(post, path = "/api/v1/destinations/{destination}/pull", tag = "pull", params(("destination" = String, Path, description = "its name or id")),
    request_body = wire::Pull,
    responses((status = 200, body = wire::Pulled, description = "what is leased")))]
pub(super) async fn pull(
    puller: Puller,
    State(api): State<Arc<Api>>,
    Path(named): Path<String>,
    OptionalBody(asked): OptionalBody<wire::Pull>,
) -> Result<Response, Fault> {
    let destination = pulled(&puller, &named)?;
    let max = asked.max.unwrap_or(1);
    if !MAX.contains(&max) {
        return Err(Fault::field(
            "max",
            format!("`{max}` is not from 1 to {}", MAX.end()),
        ));
    }
    let wait = within("wait", asked.wait, Duration::ZERO, Duration::ZERO, WAIT_MOST)?;
    let lease = within("lease", asked.lease, LEASE_DEFAULT, LEASE_LEAST, LEASE_MOST)?;
    let taking = Taking {
        api: &api,
        destination: destination.id,
        max,
        lease,
    };
    let (claimed, room) = taking.wait(wait).await?;
    Ok(answer(&api, &puller.0, claimed, room))
}

/// The destination, which must be one that is pulled from.
fn pulled<'a>(puller: &'a Puller, named: &str) -> Result<&'a Destination, Fault> {
    let destination = puller.destination(named)?;
    match destination.kind {
        DestinationKind::Pull => Ok(destination),
        DestinationKind::Push { .. } => Err(Fault::new(
            Code::Conflict,
            format!(
                "destination `{}` is pushed to; make one of kind pull to lease from",
                destination.name
            ),
        )),
    }
}

fn within(
    field: &str,
    given: Option<wire::Span>,
    default: Duration,
    least: Duration,
    most: Duration,
) -> Result<Duration, Fault> {
    let value = given.map_or(default, |span| span.0);
    if (least..=most).contains(&value) {
        return Ok(value);
    }
    let (value, least, most) = (wire::Span(value), wire::Span(least), wire::Span(most));
    Err(Fault::field(
        field,
        format!("`{value}` is not from {least} to {most}"),
    ))
}

/// One worker's wish for deliveries.
struct Taking<'a> {
    api: &'a Api,
    destination: DestinationId,
    max: u32,
    lease: Duration,
}

impl Taking<'_> {
    /// Claims what is due; where nothing is, waits for it, up to `patience`.
    async fn wait(&self, patience: Duration) -> Result<(Vec<ClaimedDelivery>, OwnedSemaphorePermit), Fault> {
        let node = &self.api.node;
        let waited = node.clock.start();
        let first = self.claim().await?;
        if !first.0.deliveries.is_empty() || patience.is_zero() {
            return Ok((first.0.deliveries, first.1));
        }
        let empty = first.1;
        let poller = node.admin.poller(self.destination);
        let left = || patience.saturating_sub(waited.elapsed());
        // One worker of a destination looks, the others wait for their turn.
        let turn = tokio::select! {
            turn = poller.lock() => turn,
            () = tokio::time::sleep(left()) => return Ok((Vec::new(), empty)),
            () = node.stopping.cancelled() => return Ok((Vec::new(), empty)),
        };
        drop(empty);
        loop {
            let (claimed, room) = self.claim().await?;
            if !claimed.deliveries.is_empty() || left().is_zero() || node.stopping.is_cancelled() {
                drop(turn);
                return Ok((claimed.deliveries, room));
            }
            drop(room);
            self.until_changed(claimed.next_due, left()).await?;
        }
    }

    /// Returns once there may be something to claim, or after `patience`.
    async fn until_changed(&self, next_due: Option<Timestamp>, patience: Duration) -> Result<(), Fault> {
        let node = &self.api.node;
        let waited = node.clock.start();
        let patience = patience.min(LOOK);
        let before = waiting(
            &*node.admin.stats(&*node.store, node.clock).await?,
            self.destination,
        );
        while waited.elapsed() < patience {
            let left = patience.saturating_sub(waited.elapsed());
            let due_in = next_due.map_or(GLANCE, |due_at| {
                due_at.since(node.clock.now()).max(Duration::from_millis(1))
            });
            tokio::select! {
                () = tokio::time::sleep(GLANCE.min(left).min(due_in)) => {}
                () = node.stopping.cancelled() => return Ok(()),
            }
            if next_due.is_some_and(|due_at| due_at <= node.clock.now()) {
                return Ok(());
            }
            let now = waiting(
                &*node.admin.stats(&*node.store, node.clock).await?,
                self.destination,
            );
            if now != before {
                return Ok(());
            }
        }
        Ok(())
    }

    async fn claim(&self) -> Result<(Claimed, OwnedSemaphorePermit), Fault> {
        let node = &self.api.node;
        let room = Arc::clone(&node.admin.pulls).acquire_owned();
        let Ok(Ok(room)) = tokio::time::timeout(ROOM_PATIENCE, room).await else {
            let detail = "as many answers are on their way to workers as may be; ask again";
            return Err(Fault::new(Code::Busy, detail).after(Duration::from_secs(1)));
        };
        let claim = Claim {
            destination: self.destination,
            now: node.clock.now(),
            due_from: None,
            limit: self.max,
            bytes: ANSWER_BYTES,
            lease: self.lease,
        };
        Ok((node.store.claim(claim).await?, room))
    }
}

/// How many deliveries of the destination wait, by state.
fn waiting(stats: &Stats, destination: DestinationId) -> (u64, u64) {
    let count = |wanted| {
        let all = stats.deliveries.iter();
        all.filter(|(id, state, _)| *id == destination && *state == wanted)
            .map(|(.., count)| count)
            .sum()
    };
    (count(DeliveryState::Pending), count(DeliveryState::Retrying))
}

fn answer(api: &Api, caller: &Caller, claimed: Vec<ClaimedDelivery>, room: OwnedSemaphorePermit) -> Response {
    let mut redactors = HashMap::new();
    let deliveries = claimed
        .into_iter()
        .map(|each| {
            let source = each.event.source;
            let new = || Redactor::of_source(&caller.topology, &api.node.vault, source);
            in_words(api, caller, each, redactors.entry(source).or_insert_with(new))
        })
        .collect();
    let json = serde_json::to_vec(&wire::Pulled { deliveries }).unwrap_or_default();
    // In pieces, so that the room is kept until all but the last is on its way.
    let sending = unfold((Bytes::from(json), room), |(mut left, room)| async move {
        let piece = left.split_to(left.len().min(PIECE_BYTES));
        (!piece.is_empty()).then_some((Ok::<_, Infallible>(piece), (left, room)))
    });
    let mut response = Response::new(AnswerBody::from_stream(sending));
    let form = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, form);
    response
}

fn in_words(
    api: &Api,
    caller: &Caller,
    claimed: ClaimedDelivery,
    redactor: &Redactor,
) -> wire::PulledDelivery {
    let event = &claimed.event;
    let (replay, new_id) = claimed
        .replay
        .map_or((None, None), |(replay, id)| (Some(replay), id));
    let receipt = Receipt {
        delivery: claimed.id,
        attempt: claimed.attempt,
        started_at: api.node.clock.now(),
    };
    wire::PulledDelivery {
        delivery: claimed.id.to_string(),
        receipt: receipt.to_string(),
        event: wire::PulledEvent {
            id: new_id.unwrap_or(event.id).to_string(),
            r#type: event.event_type.clone(),
            source: convert::source_name(&caller.topology, event.source),
            provider_id: event.provider_id.clone(),
            occurred_at: event.occurred_at.map(wire::Time),
            accepted_at: wire::Time(event.accepted_at),
        },
        headers: redactor.headers(&event.headers),
        body_base64: convert::base64(&event.body),
        attempt: claimed.attempt,
        replay: replay.map(|id| id.to_string()),
        lease_until: wire::Time(claimed.lease_until),
    }
}

/// What proves a lease: the delivery, the attempt, and when it began (for the record alone).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Receipt {
    delivery: DeliveryId,
    attempt: u32,
    started_at: Timestamp,
}

impl std::fmt::Display for Receipt {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            delivery,
            attempt,
            started_at,
        } = self;
        write!(formatter, "{delivery}.{attempt:x}-{:x}", started_at.as_micros())
    }
}

impl Receipt {
    fn parse(text: &str) -> Option<Self> {
        let (delivery, token) = text.split_once('.')?;
        let (attempt, started_at) = token.split_once('-')?;
        Some(Self {
            delivery: delivery.parse().ok()?,
            attempt: u32::from_str_radix(attempt, 16).ok()?,
            started_at: Timestamp::from_micros(i64::from_str_radix(started_at, 16).ok()?),
        })
    }
}

/// Settles leased deliveries as done.
#[utoipa::path(post, path = "/api/v1/destinations/{destination}/ack", tag = "pull", params(("destination" = String, Path, description = "its name or id")),
    request_body = wire::Ack,
    responses((status = 200, body = wire::Receipts, description = "what became of each")))]
pub(super) async fn ack(
    puller: Puller,
    State(api): State<Arc<Api>>,
    Path(named): Path<String>,
    Body(asked): Body<wire::Ack>,
) -> Answer<wire::Receipts> {
    let destination = pulled(&puller, &named)?.number;
    let settle = |receipt| settle(&api, receipt, Outcome::Acknowledged);
    each(destination, asked.receipts, settle).await
}

/// Gives leased deliveries back; they may be leased again after `delay`.
#[utoipa::path(post, path = "/api/v1/destinations/{destination}/nack", tag = "pull", params(("destination" = String, Path, description = "its name or id")),
    request_body = wire::Nack,
    responses((status = 200, body = wire::Receipts, description = "what became of each")))]
pub(super) async fn nack(
    puller: Puller,
    State(api): State<Arc<Api>>,
    Path(named): Path<String>,
    Body(asked): Body<wire::Nack>,
) -> Answer<wire::Receipts> {
    let destination = pulled(&puller, &named)?.number;
    let delay = within("delay", asked.delay, Duration::ZERO, Duration::ZERO, LEASE_MOST)?;
    let settle = |receipt| settle(&api, receipt, Outcome::Returned { delay });
    each(destination, asked.receipts, settle).await
}

/// Leases deliveries for longer.
#[utoipa::path(post, path = "/api/v1/destinations/{destination}/extend", tag = "pull", params(("destination" = String, Path, description = "its name or id")),
    request_body = wire::Extend,
    responses((status = 200, body = wire::Receipts, description = "what became of each")))]
pub(super) async fn extend(
    puller: Puller,
    State(api): State<Arc<Api>>,
    Path(named): Path<String>,
    Body(asked): Body<wire::Extend>,
) -> Answer<wire::Receipts> {
    let destination = pulled(&puller, &named)?.number;
    let lease = within("lease", asked.lease, LEASE_DEFAULT, LEASE_LEAST, LEASE_MOST)?;
    let api = &api;
    let extend = |receipt: Receipt| async move {
        let until = api.node.clock.now().plus(lease);
        api.node
            .store
            .extend(receipt.delivery, receipt.attempt, until)
            .await
    };
    each(destination, asked.receipts, extend).await
}

async fn settle(api: &Api, receipt: Receipt, outcome: Outcome) -> Result<bool, StoreError> {
    let now = api.node.clock.now();
    // A receipt's time is the worker's word: it never lies in the future nor before the delivery.
    let started_at = receipt
        .started_at
        .min(now)
        .max(receipt.delivery.made_at().min(now));
    let end = AttemptEnd {
        delivery: receipt.delivery,
        token: receipt.attempt,
        now,
        attempt: Attempt {
            number: receipt.attempt,
            started_at,
            duration: now.since(started_at),
            outcome,
            error: None,
            response_headers: HeaderBlock::default(),
            response_body: Bytes::new(),
        },
    };
    match api.node.store.settle(end).await? {
        Settled::Moved { .. } => Ok(true),
        Settled::Stale => Ok(false),
    }
}

/// Does `act` for each receipt that is of this destination; the others are stale.
async fn each<F: Future<Output = Result<bool, StoreError>>>(
    destination: DestinationNumber,
    receipts: Vec<String>,
    act: impl Fn(Receipt) -> F,
) -> Answer<wire::Receipts> {
    if receipts.is_empty() || receipts.len() > RECEIPTS_MOST {
        return Err(Fault::field(
            "receipts",
            format!("give from 1 to {RECEIPTS_MOST}"),
        ));
    }
    let parsed = receipts.iter().map(|text| {
        Receipt::parse(text).ok_or_else(|| {
            Fault::field(
                "receipts",
                "one of them is no receipt; give them as `pull` gave them",
            )
        })
    });
    let parsed: Vec<Receipt> = parsed.collect::<Result<_, _>>()?;
    let act = &act;
    let one = |receipt: &Receipt| {
        let receipt = *receipt;
        async move {
            // The id tells its destination; whether there is such a delivery, the store compares.
            let own = receipt.delivery.key().destination() == destination;
            Ok::<bool, Fault>(own && act(receipt).await?)
        }
    };
    let mut results = Vec::with_capacity(receipts.len());
    for (texts, parsed) in receipts
        .chunks(RECEIPTS_AT_ONCE)
        .zip(parsed.chunks(RECEIPTS_AT_ONCE))
    {
        let done = join_all(parsed.iter().map(one)).await;
        for (receipt, done) in texts.iter().zip(done) {
            let result = if done? {
                wire::ReceiptOutcome::Done
            } else {
                wire::ReceiptOutcome::Stale
            };
            results.push(wire::ReceiptResult {
                receipt: receipt.clone(),
                result,
            });
        }
    }
    Ok(Json(wire::Receipts { results }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receipt_is_read_as_it_was_written_and_nothing_else_is_one() {
        let receipt = Receipt {
            delivery: DeliveryId::from_u128(u128::MAX / 3),
            attempt: 77,
            started_at: Timestamp::from_secs(1_790_000_000),
        };
        assert_eq!(Receipt::parse(&receipt.to_string()), Some(receipt));
        for wrong in ["", "dlv_1.1-1", "x.1-1", ".", "-"] {
            assert_eq!(Receipt::parse(wrong), None, "{wrong}");
        }
    }
}
