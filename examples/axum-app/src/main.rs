//! An axum application that receives webhooks, written as people write them: it checks the signature, then does its
//! slow work inside the request, and sometimes fails.
//!
//! Owns its effects and nothing else. It must not know that Hookfast is in front of it, but for the secret that
//! Hookfast signs with.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use axum::{Json, Router};
use hookfast_signature::{Clock, Refusal, Request, Secret, Verifier, provider};

/// How often each webhook id was counted.
type Counts = BTreeMap<String, u64>;

/// What may go wrong, to see what Hookfast makes of it.
struct Faults {
    /// Each webhook takes this long.
    delay: Duration,
    /// Of three webhooks, this many fail.
    fail_of_three: u64,
    /// From the n-th webhook on it dies at one, its work done, unanswered.
    crash_at: u64,
}

struct App {
    verifier: Verifier,
    faults: Faults,
    effects_file: PathBuf,
    state: Mutex<Counted>,
}

#[derive(Default)]
struct Counted {
    /// What was done, by webhook id. The file is the truth, so that a repeat after a crash is known too. A real
    /// application writes the id in the same transaction as its work.
    effects: Counts,
    /// How often each webhook id came since the start.
    deliveries: Counts,
}

#[tokio::main]
async fn main() -> Result<()> {
    let secret = std::env::var("WEBHOOK_SECRET")
        .context("set WEBHOOK_SECRET to the secret of the destination in Hookfast (whsec_…)")?;
    let scheme = provider("standard-webhooks")
        .context("Standard Webhooks is in the table")?
        .scheme;
    let effects_file = PathBuf::from(variable("EFFECTS_FILE", "effects.jsonl".to_owned())?);
    let app = App {
        verifier: Verifier::new(scheme, &[Secret::new(secret)])?,
        faults: Faults {
            delay: Duration::from_millis(variable("DELAY_MS", 0)?),
            fail_of_three: variable("FAIL_OF_THREE", 0)?,
            crash_at: variable("CRASH_AT", 0)?,
        },
        state: Mutex::new(Counted {
            effects: read_effects(&effects_file)?,
            deliveries: Counts::new(),
        }),
        effects_file,
    };
    let routes = Router::new()
        .route("/webhooks/nylas", post(take_webhook))
        .route("/effects", get(show_effects))
        .route("/deliveries", get(show_deliveries))
        .layer(DefaultBodyLimit::max(10 << 20))
        .with_state(Arc::new(app));
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, variable("PORT", 3000)?));
    let listener = tokio::net::TcpListener::bind(address).await?;
    Ok(axum::serve(listener, routes).await?)
}

async fn take_webhook(State(app): State<Arc<App>>, headers: HeaderMap, body: Bytes) -> (StatusCode, String) {
    if let Err(refusal) = app.verify(&headers, &body) {
        return (StatusCode::UNAUTHORIZED, refusal.to_string());
    }
    let id = headers
        .get("webhook-id")
        .and_then(|id| id.to_str().ok())
        .unwrap_or_default();
    let number = {
        let mut state = app.counted();
        *state.deliveries.entry(id.to_owned()).or_default() += 1;
        state.deliveries.values().sum::<u64>()
    };

    tokio::time::sleep(app.faults.delay).await;
    if number % 3 < app.faults.fail_of_three {
        return (StatusCode::BAD_GATEWAY, "out of luck".to_owned());
    }
    if let Err(error) = app.work(id) {
        return (StatusCode::INTERNAL_SERVER_ERROR, error.to_string());
    }
    if app.faults.crash_at > 0 && number >= app.faults.crash_at {
        std::process::abort();
    }
    (StatusCode::OK, "ok".to_owned())
}

async fn show_effects(State(app): State<Arc<App>>) -> Json<Counts> {
    Json(app.counted().effects.clone())
}

async fn show_deliveries(State(app): State<Arc<App>>) -> Json<Counts> {
    Json(app.counted().deliveries.clone())
}

impl App {
    /// The signature is over the raw bytes, so the body is not parsed before it is checked.
    fn verify(&self, headers: &HeaderMap, body: &[u8]) -> Result<(), Refusal> {
        let request = Request {
            method: "POST",
            url: None,
            headers,
            body,
        };
        self.verifier.verify(&request, now()).map(|_| ())
    }

    fn work(&self, id: &str) -> Result<()> {
        let mut state = self.counted();
        if state.effects.contains_key(id) {
            return Ok(()); // a repeat: at-least-once delivery means that it will come
        }
        let mut file = File::options()
            .create(true)
            .append(true)
            .open(&self.effects_file)?;
        // In one write: a crash of the process leaves a whole line, or none.
        let line = format!("{}\n", serde_json::json!({ "id": id }));
        file.write_all(line.as_bytes())?;
        state.effects.insert(id.to_owned(), 1);
        Ok(())
    }

    fn counted(&self) -> MutexGuard<'_, Counted> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read_effects(file: &Path) -> Result<Counts> {
    let mut effects = Counts::new();
    if file.exists() {
        for line in fs::read_to_string(file)?.lines() {
            let done: serde_json::Value = serde_json::from_str(line)?;
            *effects
                .entry(done["id"].as_str().unwrap_or_default().to_owned())
                .or_default() += 1;
        }
    }
    Ok(effects)
}

fn variable<T>(name: &str, default: T) -> Result<T>
where
    T: std::str::FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    match std::env::var(name) {
        Ok(text) => text.parse().with_context(|| format!("{name}={text}")),
        Err(_) => Ok(default),
    }
}

#[expect(clippy::disallowed_methods, reason = "an application may read the clock")]
fn now() -> Clock {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Clock::at(since)
}
