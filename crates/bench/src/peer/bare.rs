//! Owns the ceiling: a server that reads the body and answers 200, and keeps nothing.
//! It must not know more than that, or it is no ceiling.

use anyhow::Result;
use http_body_util::BodyExt;
use hyper::StatusCode;
use hyper::body::Incoming;

use crate::http::{answer, serve};

/// Serves until standard input ends.
pub(crate) async fn run() -> Result<()> {
    serve(|request: hyper::Request<Incoming>| async {
        match request.into_body().collect().await {
            Ok(_) => answer(StatusCode::OK, ""),
            Err(_) => answer(StatusCode::BAD_REQUEST, ""),
        }
    })
    .await
}
