//! Reading a request's body within its bounds (SPEC I1, I6, P5).
//!
//! Owns the size limit, the slowest rate and the memory that a body may take while it arrives. Must not look
//! into the bytes. No length that a sender claims is believed before the bytes are there.

use std::future::Future as _;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Frame, Incoming};
use tokio::time::Instant;

use super::cause::Cause;
use crate::budget::{Budget, Holder, Reservation};

/// Bodies up to this size may use the whole budget; larger ones leave an eighth of it to them.
const SMALL_BYTES: usize = 64 * 1024;
/// What is reserved for the first bytes of a body, unless more of it comes at once.
const FIRST_BYTES: usize = 8 * 1024;

/// The largest body that a budget of `limit` bytes ever has room for.
#[must_use]
pub const fn largest(limit: usize) -> usize {
    limit - limit / 8
}

/// The bounds of one body.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// The most bytes.
    pub bytes: usize,
    /// The fewest bytes a second, after the grace.
    pub bytes_per_second: u64,
    /// How long it may take to get going.
    pub grace: Duration,
}

/// A body, whole, with the memory it was given. The memory is held until the reservation is dropped.
#[derive(Debug)]
pub struct Whole {
    /// The bytes.
    pub bytes: Bytes,
    /// What they take of the budget.
    pub reservation: Reservation,
}

/// Reads `body` to its end, in memory that counts as `holder`'s.
///
/// # Errors
/// Why it is not taken. The rest of it is then unread.
pub async fn read(
    mut body: Incoming,
    bounds: Bounds,
    budget: &Budget,
    holder: Holder,
) -> Result<Whole, Cause> {
    let declared = body.size_hint().exact();
    if declared.is_some_and(|length| length > bounds.bytes as u64) {
        return Err(Cause::BodyTooLarge);
    }
    let declared = declared.and_then(|length| usize::try_from(length).ok());
    let mut buffer = Buffer {
        bytes: Vec::new(),
        expected: declared.unwrap_or(bounds.bytes),
        ended: false,
        reservation: budget.reservation_of(holder),
        large_ceiling: largest(budget.limit()),
    };
    let start = Instant::now();
    let mut too_slow = None;
    if !body.is_end_stream()
        && let Some(frame) = early_frame(&mut body).await
    {
        buffer.take(frame, bounds.bytes)?;
    }
    while !body.is_end_stream() && !buffer.ended {
        let too_slow =
            too_slow.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(start + bounds.grace)));
        tokio::select! {
            biased;
            frame = body.frame() => buffer.take(frame, bounds.bytes)?,
            () = too_slow.as_mut() => {
                let allowed = start + bounds.allowed(buffer.bytes.len());
                if Instant::now() >= allowed {
                    return Err(Cause::BodyTimeout);
                }
                too_slow.as_mut().reset(allowed);
            }
        }
    }
    if declared.is_some_and(|length| length != buffer.bytes.len()) {
        return Err(Cause::MalformedBody);
    }
    Ok(buffer.finish())
}

/// What a body gives next: a piece, a fault, or its end.
type Arrived = Option<Result<Frame<Bytes>, hyper::Error>>;

/// The first piece of a body that came together with its head; nothing where it has yet to come.
///
/// hyper hands a body over only once it was asked for, so the first look never finds anything and the second one
/// does. This spares most requests a timer.
async fn early_frame(body: &mut Incoming) -> Option<Arrived> {
    let mut looked = false;
    let mut frame = body.frame();
    std::future::poll_fn(|cx| match Pin::new(&mut frame).poll(cx) {
        Poll::Ready(frame) => Poll::Ready(Some(frame)),
        Poll::Pending if looked => Poll::Ready(None),
        Poll::Pending => {
            looked = true;
            cx.waker().wake_by_ref();
            Poll::Pending
        }
    })
    .await
}

impl Bounds {
    /// How long the first `received` bytes may have taken.
    fn allowed(&self, received: usize) -> Duration {
        let rate = self.bytes_per_second.max(1);
        let millis = (received as u64).saturating_mul(1_000) / rate;
        self.grace.saturating_add(Duration::from_millis(millis))
    }
}

struct Buffer {
    bytes: Vec<u8>,
    /// How much will come at most.
    expected: usize,
    /// Nothing more will come.
    ended: bool,
    reservation: Reservation,
    large_ceiling: usize,
}

impl Buffer {
    fn take(&mut self, frame: Arrived, limit: usize) -> Result<(), Cause> {
        match frame {
            None => self.ended = true,
            Some(Err(_)) => return Err(Cause::MalformedBody),
            // Trailers say nothing that is kept.
            Some(Ok(frame)) => {
                if let Some(chunk) = frame.data_ref() {
                    self.push(chunk, limit)?;
                }
            }
        }
        Ok(())
    }

    fn push(&mut self, chunk: &[u8], limit: usize) -> Result<(), Cause> {
        let needed = self.bytes.len().saturating_add(chunk.len());
        if needed > limit {
            return Err(Cause::BodyTooLarge);
        }
        if needed > self.bytes.capacity() {
            self.make_room(needed)?;
        }
        self.bytes.extend_from_slice(chunk);
        Ok(())
    }

    /// Makes room in steps that double, so that what is reserved is never far from what has arrived.
    fn make_room(&mut self, needed: usize) -> Result<(), Cause> {
        let step = self.bytes.capacity().saturating_mul(2).max(FIRST_BYTES);
        let capacity = step.min(self.expected).max(needed);
        let more = capacity.saturating_sub(self.bytes.capacity());
        let reserved = if capacity <= SMALL_BYTES {
            self.reservation.grow(more)
        } else {
            self.reservation.grow_within(more, self.large_ceiling)
        };
        if !reserved {
            return Err(Cause::OutOfMemory);
        }
        self.bytes
            .reserve_exact(capacity.saturating_sub(self.bytes.len()));
        Ok(())
    }

    fn finish(mut self) -> Whole {
        // A chunked body has no declared length, so half of what was made room for may be empty.
        if self.bytes.capacity() / 4 * 3 > self.bytes.len() {
            self.bytes.shrink_to_fit();
        }
        Whole {
            bytes: Bytes::from(self.bytes),
            reservation: self.reservation,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_reserved_follows_what_has_arrived() {
        let budget = Budget::new(1024 * 1024);
        let mut buffer = Buffer {
            bytes: Vec::new(),
            expected: 700_000,
            ended: false,
            reservation: budget.reservation(),
            large_ceiling: budget.limit(),
        };
        assert_eq!(buffer.push(&[1; 10], 700_000), Ok(()));
        assert_eq!(budget.used(), FIRST_BYTES);
        for _ in 0..6_999 {
            assert_eq!(buffer.push(&[1; 100], 700_000), Ok(()));
            assert!(budget.used() <= (2 * buffer.bytes.len()).max(FIRST_BYTES));
        }
        assert_eq!(buffer.push(&[1; 90], 700_000), Ok(()));
        assert_eq!(budget.used(), 700_000);
        assert_eq!(buffer.push(&[1; 1], 700_000), Err(Cause::BodyTooLarge));
        let whole = buffer.finish();
        assert_eq!((whole.bytes.len(), budget.used()), (700_000, 700_000));
        drop(whole);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn large_bodies_leave_room_for_small_ones() {
        let budget = Budget::new(400_000);
        let buffer = |expected| Buffer {
            bytes: Vec::new(),
            expected,
            ended: false,
            reservation: budget.reservation(),
            large_ceiling: largest(budget.limit()),
        };
        let (mut large, mut small) = (buffer(400_000), buffer(1_000));
        assert_eq!(large.push(&vec![1; 350_001], 400_000), Err(Cause::OutOfMemory));
        assert_eq!(large.push(&vec![1; 350_000], 400_000), Ok(()));
        assert_eq!(small.push(&[1; 1_000], 1_000), Ok(()));
        assert_eq!(budget.used(), 351_000);
    }

    #[test]
    fn a_body_may_be_slow_at_first_and_then_keeps_up_the_rate() {
        let bounds = Bounds {
            bytes: 1,
            bytes_per_second: 8_192,
            grace: Duration::from_secs(5),
        };
        assert_eq!(bounds.allowed(0), Duration::from_secs(5));
        assert_eq!(bounds.allowed(81_920), Duration::from_secs(15));
    }
}
