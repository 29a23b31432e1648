//! Owns the design people write by hand: verify, one INSERT, one synced commit, then 200, for each request alone.
//! The database is the one Hookfast embeds, with the same durability. It keeps no delivery rows, which is to its
//! advantage. It must not know any trick that would make it less naive.

use std::path::Path;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::{Request, StatusCode};
use ring::hmac;
use rusqlite::{Connection, OpenFlags};
use serde::Deserialize;

use crate::clock;
use crate::http::{answer, serve};
use crate::notification::{SECRET, SIGNATURE_HEADER, is_signed};

const FILE: &str = "naive.db";

struct Receiver {
    key: hmac::Key,
    database: Mutex<Connection>,
}

#[derive(Deserialize)]
struct Event {
    id: String,
}

/// Serves until standard input ends, with the database in `directory`.
pub(crate) async fn run(directory: &Path) -> Result<()> {
    let receiver = Arc::new(Receiver {
        key: hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes()),
        database: Mutex::new(open(directory)?),
    });
    serve(move |request| {
        let receiver = receiver.clone();
        async move { answer(receive(receiver, request).await, "") }
    })
    .await
}

/// How many events the database in `directory` has, read after its server is gone.
pub(crate) fn stored(directory: &Path) -> Result<u64> {
    let database = Connection::open_with_flags(directory.join(FILE), OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let count = database.query_row("SELECT count(*) FROM events", [], |row| row.get::<_, i64>(0))?;
    u64::try_from(count).context("the database counts less than no events")
}

fn open(directory: &Path) -> Result<Connection> {
    let path = directory.join(FILE);
    let database = Connection::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
    database.execute_batch(
        "PRAGMA journal_mode = WAL;
         PRAGMA synchronous = FULL;
         CREATE TABLE IF NOT EXISTS events (id TEXT PRIMARY KEY, received_at INTEGER NOT NULL, body BLOB NOT NULL);",
    )?;
    Ok(database)
}

async fn receive(receiver: Arc<Receiver>, request: Request<Incoming>) -> StatusCode {
    let (head, body) = request.into_parts();
    let Ok(body) = body.collect().await else {
        return StatusCode::BAD_REQUEST;
    };
    let body = body.to_bytes();
    let signature = head.headers.get(SIGNATURE_HEADER);
    if !signature.is_some_and(|signature| is_signed(&receiver.key, &body, signature.as_bytes())) {
        return StatusCode::UNAUTHORIZED;
    }
    match tokio::task::spawn_blocking(move || store(&receiver, &body)).await {
        Ok(Ok(())) => StatusCode::OK,
        Ok(Err(_)) | Err(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn store(receiver: &Receiver, body: &Bytes) -> Result<()> {
    let event: Event = serde_json::from_slice(body)?;
    let database = receiver
        .database
        .lock()
        .map_err(|_| anyhow::anyhow!("an earlier request panicked"))?;
    // Outside an explicit transaction a statement is one, and its commit is synced before this returns.
    let mut insert = database.prepare_cached(
        "INSERT INTO events (id, received_at, body) VALUES (?1, ?2, ?3) ON CONFLICT (id) DO NOTHING",
    )?;
    insert.execute((&event.id, clock::unix_nanos().cast_signed(), body.as_ref()))?;
    Ok(())
}
