//! Owns the plain HTTP/1.1 that the bench speaks: one client connection, one single call, one server loop.
//! It must not know what is measured, nor what the paths mean.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

use crate::output;

/// How long a single call may take.
const CALL_LIMIT: Duration = Duration::from_secs(10);

/// Opens one connection of its own, which no other request shares.
pub(crate) async fn connect(address: SocketAddr) -> Result<SendRequest<Full<Bytes>>> {
    let stream = TcpStream::connect(address)
        .await
        .with_context(|| format!("cannot connect to {address}"))?;
    stream.set_nodelay(true)?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

/// Sends one request without a body on a connection of its own and returns the body of a 2xx answer.
pub(crate) async fn call(
    address: SocketAddr,
    method: Method,
    path: &str,
    bearer: Option<&str>,
) -> Result<Bytes> {
    let mut request = Request::builder()
        .method(&method)
        .uri(path)
        .header(HOST, address.to_string())
        .header(CONTENT_TYPE, "application/json");
    if let Some(key) = bearer {
        request = request.header(AUTHORIZATION, format!("Bearer {key}"));
    }
    let request = request.body(Full::default())?;
    let exchange = async {
        let response = connect(address).await?.send_request(request).await?;
        let status = response.status();
        anyhow::Ok((status, response.into_body().collect().await?.to_bytes()))
    };
    let (status, body) = tokio::time::timeout(CALL_LIMIT, exchange)
        .await
        .with_context(|| {
            format!(
                "no answer to {method} http://{address}{path} in {} s",
                CALL_LIMIT.as_secs()
            )
        })?
        .with_context(|| format!("{method} http://{address}{path} failed"))?;
    if !status.is_success() {
        bail!(
            "{method} http://{address}{path} answered {status}: {}",
            String::from_utf8_lossy(&body)
        );
    }
    Ok(body)
}

/// Serves `handler` on a free local port, says `ready listen=ADDR`, and returns when standard input ends: that is
/// when the process that started this one is gone.
pub(crate) async fn serve<H, F>(handler: H) -> Result<()>
where
    H: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Response<Full<Bytes>>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    output::line(&format!("ready listen={}", listener.local_addr()?))?;
    let (tell, orphaned) = tokio::sync::oneshot::channel::<()>();
    std::thread::spawn(move || {
        // Whether it ends well or with an error: there is nobody left to serve.
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        drop(tell);
    });
    tokio::select! {
        ended = accept(listener, handler) => ended,
        _ = orphaned => Ok(()),
    }
}

async fn accept<H, F>(listener: TcpListener, handler: H) -> Result<()>
where
    H: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Response<Full<Bytes>>> + Send + 'static,
{
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let handler = handler.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let answer = handler(request);
                async move { Ok::<_, Infallible>(answer.await) }
            });
            // A client that goes away in the middle is its own affair: it counts the answer as missing.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

/// An answer of `status` with `body`.
pub(crate) fn answer(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response
}
