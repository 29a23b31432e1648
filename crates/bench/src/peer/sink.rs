//! Owns the receiving application: answers 200 at once, counts what came and how old it was.
//! It must not know who delivers.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode};
use serde::{Deserialize, Serialize};

use crate::histogram::Histogram;
use crate::http::{answer, call, serve};
use crate::{clock, notification};

/// What the sink has seen, at one moment. Times are nanoseconds, moments nanoseconds since 1970.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Seen {
    /// When this was counted.
    pub(crate) at: u64,
    /// Different `webhook-id`s since the start.
    pub(crate) unique: u64,
    /// Further requests with an id that was there already.
    pub(crate) repeated: u64,
    /// Requests without an id the load generator could have made.
    pub(crate) foreign: u64,
    /// When the last new id came; 0 before the first.
    pub(crate) last_new_at: u64,
    /// Age of the notifications on arrival, since the window began: the median.
    pub(crate) age_p50: Option<u64>,
    /// The same, 99 in 100.
    pub(crate) age_p99: Option<u64>,
    /// The same, 999 in 1000.
    pub(crate) age_p999: Option<u64>,
}

#[derive(Default)]
struct State {
    ids: HashSet<u128>,
    repeated: u64,
    foreign: u64,
    last_new_at: u64,
    age: Histogram,
}

/// Serves until standard input ends: `GET /count` tells what was seen, `POST /window` tells it and starts the
/// ages anew, every other request is a delivery.
pub(crate) async fn run() -> Result<()> {
    let state = Arc::new(Mutex::new(State::default()));
    serve(move |request| respond(state.clone(), request)).await
}

/// Asks the sink at `address` what it has seen.
pub(crate) async fn seen(address: SocketAddr) -> Result<Seen> {
    parse(call(address, Method::GET, "/count", None).await?)
}

/// Asks the same and starts the ages anew.
pub(crate) async fn begin_window(address: SocketAddr) -> Result<Seen> {
    parse(call(address, Method::POST, "/window", None).await?)
}

fn parse(body: Bytes) -> Result<Seen> {
    serde_json::from_slice(&body).context("the sink answered something else than its counts")
}

async fn respond(state: Arc<Mutex<State>>, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let begins = request.uri().path() == "/window";
    if begins || request.uri().path() == "/count" {
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = state.seen(clock::unix_nanos());
        if begins {
            state.age = Histogram::default();
        }
        return match serde_json::to_vec(&seen) {
            Ok(body) => answer(StatusCode::OK, body),
            Err(error) => answer(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        };
    }
    let (head, body) = request.into_parts();
    let Ok(body) = body.collect().await else {
        return answer(StatusCode::BAD_REQUEST, "");
    };
    let id = head
        .headers
        .get("webhook-id")
        .and_then(|id| u128::from_str_radix(id.to_str().ok()?, 16).ok());
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    state.receive(clock::unix_nanos(), id, notification::sent_at(&body.to_bytes()));
    answer(StatusCode::OK, "")
}

impl State {
    fn receive(&mut self, now: u64, id: Option<u128>, sent_at: Option<u64>) {
        let (Some(id), Some(sent_at)) = (id, sent_at) else {
            self.foreign += 1;
            return;
        };
        if self.ids.insert(id) {
            self.last_new_at = now;
            self.age.record(now.saturating_sub(sent_at));
        } else {
            self.repeated += 1;
        }
    }

    fn seen(&self, now: u64) -> Seen {
        Seen {
            at: now,
            unique: self.ids.len() as u64,
            repeated: self.repeated,
            foreign: self.foreign,
            last_new_at: self.last_new_at,
            age_p50: self.age.quantile(0.5),
            age_p99: self.age.quantile(0.99),
            age_p999: self.age.quantile(0.999),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_id_is_counted_apart_and_has_no_age() {
        let mut state = State::default();
        state.receive(1_000, Some(1), Some(900));
        state.receive(2_000, Some(1), Some(900));
        state.receive(3_000, Some(2), Some(2_900));
        state.receive(4_000, None, Some(1));
        let seen = state.seen(5_000);
        assert_eq!(
            (seen.unique, seen.repeated, seen.foreign, seen.last_new_at),
            (2, 1, 1, 3_000)
        );
        assert_eq!(seen.age_p99, Some(100));
    }
}
