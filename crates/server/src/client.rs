//! A client of the admin API, for the command line.
//!
//! Owns requests, pages, the stream of what happens, and the words for what can go wrong on the way. Must not
//! print, nor know what the answers are for.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use url::Url;

use crate::admin::wire;

mod sse;

pub use sse::{Happening, Stream};

const JSON: &str = "application/json";
/// The longest that a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest that an answer may take, but for streams.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// The largest answer that is taken.
const LARGEST_ANSWER: usize = 128 * 1024 * 1024;
/// The largest page that the server gives.
const LARGEST_PAGE: usize = 1_000;
/// How much of an answer that is no problem document is repeated.
const SHOWN_CHARACTERS: usize = 200;

/// Why a request was not done.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The server's URL cannot be used.
    #[error("`{0}` is not the URL of a server: write it as http://127.0.0.1:8081")]
    Server(String),
    /// The key cannot be sent.
    #[error("the key holds characters that no key has: copy it again, whole")]
    Key,
    /// Nobody listens.
    #[error(
        "nothing listens at {0}: start a server with `hookfast serve`, or name another with --server or HOOKFAST_SERVER"
    )]
    Refused(String),
    /// It cannot be reached otherwise.
    #[error("cannot reach {server}: {reason}; is --server (or HOOKFAST_SERVER) right?")]
    Unreachable {
        /// The server.
        server: String,
        /// Why.
        reason: String,
    },
    /// It does not answer.
    #[error("{server} did not answer within {} s; look at its log", .after.as_secs())]
    Silent {
        /// The server.
        server: String,
        /// How long it was given.
        after: Duration,
    },
    /// It answered that it did not do it, and why.
    #[error("{0}")]
    Problem(Box<wire::Problem>),
    /// It answered something that no Hookfast answers.
    #[error("{server} answered {status} and not as a Hookfast does ({said}): is --server the admin address?")]
    Foreign {
        /// The server.
        server: String,
        /// Its status.
        status: StatusCode,
        /// The beginning of what it said.
        said: String,
    },
}

impl fmt::Display for wire::Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.detail.as_str() {
            "" => formatter.write_str(&self.title)?,
            detail => formatter.write_str(detail)?,
        }
        match (self.code.as_str(), &self.request_id) {
            ("internal-error", Some(id)) => write!(formatter, " (request {id} in the server's log)"),
            ("key-missing" | "key-unknown" | "key-expired" | "key-revoked", _) => formatter.write_str(
                "; give a key with --key or HOOKFAST_KEY, or name the server's data directory with --data",
            ),
            ("unknown-path", _) => {
                formatter.write_str("; this server cannot do that: is it of another version?")
            }
            _ => Ok(()),
        }
    }
}

/// The parts of a query, in their order; those without a value are left out.
#[derive(Clone, Debug, Default)]
pub struct Query(Vec<(&'static str, String)>);

impl Query {
    /// Adds `name` where there is a value.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: Option<impl fmt::Display>) -> Self {
        self.0.extend(value.map(|value| (name, value.to_string())));
        self
    }

    /// Adds `name=true` where `value` is so.
    #[must_use]
    pub fn flag(self, name: &'static str, value: bool) -> Self {
        self.with(name, value.then_some(true))
    }
}

/// Items of a list, and whether there are more.
#[derive(Debug)]
pub struct Listed {
    /// The items, as the server gave them.
    pub items: Vec<Value>,
    /// Whether there are more than were asked for.
    pub more: bool,
}

/// A client of one server.
pub struct Client {
    http: HttpClient<HttpsConnector<HttpConnector>, Full<Bytes>>,
    server: Url,
    key: Option<HeaderValue>,
    application: Option<HeaderValue>,
    /// The longest that an answer may take; as long as it takes where there is none.
    patience: Option<Duration>,
}

impl Client {
    /// A client of `server` with this key, acting on this application.
    ///
    /// # Errors
    /// Where the URL is none, or the key or the application hold what no header can.
    pub fn new(server: &str, key: Option<&str>, application: Option<&str>) -> Result<Self, ClientError> {
        let wrong = || ClientError::Server(server.to_owned());
        let url = Url::parse(server)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
            .ok_or_else(wrong)?;
        let bearer = |key: &str| {
            let mut value = HeaderValue::from_str(&format!("Bearer {key}")).map_err(|_| ClientError::Key)?;
            value.set_sensitive(true);
            Ok(value)
        };
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        connector.set_nodelay(true);
        connector.enforce_http(false);
        let tls = HttpsConnectorBuilder::new();
        let tls = if url.scheme() == "https" {
            let roots = tls.with_provider_and_native_roots(rustls::crypto::ring::default_provider());
            roots.map_err(|error| ClientError::Unreachable {
                server: server.to_owned(),
                reason: format!("this system has no certificates to check it by ({error})"),
            })?
        } else {
            tls.with_tls_config(without_certificates())
        };
        let connector = tls.https_or_http().enable_http1().wrap_connector(connector);
        Ok(Self {
            http: HttpClient::builder(TokioExecutor::new()).build(connector),
            server: url,
            key: key.map(bearer).transpose()?,
            application: application
                .map(HeaderValue::from_str)
                .transpose()
                .map_err(|_| wrong())?,
            patience: Some(ANSWER_TIMEOUT),
        })
    }

    /// The same client, for work that takes as long as it takes.
    #[must_use]
    pub fn patient(self) -> Self {
        Self {
            patience: None,
            ..self
        }
    }

    /// The server, for messages.
    #[must_use]
    pub fn server(&self) -> String {
        self.server.as_str().trim_end_matches('/').to_owned()
    }

    /// Gets the JSON at `path`.
    ///
    /// # Errors
    /// Those of [`ClientError`].
    pub async fn get<T: DeserializeOwned>(&self, path: &str, query: &Query) -> Result<T, ClientError> {
        let (status, body) = self.send(Method::GET, path, query, None).await?;
        self.decode(status, &body)
    }

    /// Gets the bytes at `path`.
    ///
    /// # Errors
    /// Those of [`ClientError`].
    pub async fn get_bytes(&self, path: &str) -> Result<Bytes, ClientError> {
        let (_, body) = self.send(Method::GET, path, &Query::default(), None).await?;
        Ok(body)
    }

    /// Posts `body` to `path` and gets the JSON of the answer.
    ///
    /// # Errors
    /// Those of [`ClientError`].
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        self.change(Method::POST, path, body).await
    }

    /// Posts bytes of that media type to `path` and gets the bytes of the answer.
    ///
    /// # Errors
    /// Those of [`ClientError`].
    pub async fn post_bytes(
        &self,
        path: &str,
        media_type: &'static str,
        body: Bytes,
    ) -> Result<Bytes, ClientError> {
        let content = Some((media_type, body));
        let (_, answer) = self.send(Method::POST, path, &Query::default(), content).await?;
        Ok(answer)
    }

    /// Patches what is at `path` and gets the JSON of the answer.
    ///
    /// # Errors
    /// Those of [`ClientError`].
    pub async fn patch<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        self.change(Method::PATCH, path, body).await
    }

    /// Deletes what is at `path`.
    ///
    /// # Errors
    /// Those of [`ClientError`].
    pub async fn delete(&self, path: &str) -> Result<(), ClientError> {
        self.send(Method::DELETE, path, &Query::default(), None).await?;
        Ok(())
    }

    async fn change<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        let body = serde_json::to_vec(body).unwrap_or_default();
        let content = Some((JSON, Bytes::from(body)));
        let (status, body) = self.send(method, path, &Query::default(), content).await?;
        self.decode(status, &body)
    }

    /// Gets the items of a list, page after page, until there are `most`; all of them where that is `None`.
    ///
    /// # Errors
    /// Those of [`ClientError`].
    pub async fn list(&self, path: &str, query: &Query, most: Option<usize>) -> Result<Listed, ClientError> {
        let mut items = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let page = most.map_or(LARGEST_PAGE, |most| (most - items.len()).min(LARGEST_PAGE));
            let query = query
                .clone()
                .with("limit", Some(page))
                .with("cursor", cursor.as_ref());
            let list: wire::List<Value> = self.get(path, &query).await?;
            items.extend(list.data);
            cursor = list.next_cursor;
            let enough = most.is_some_and(|most| items.len() >= most);
            if cursor.is_none() || enough {
                let more = cursor.is_some();
                return Ok(Listed { items, more });
            }
        }
    }

    /// Follows the stream at `path`, from after `last` on where it is given.
    ///
    /// # Errors
    /// Those of [`ClientError`].
    pub async fn stream(&self, path: &str, query: &Query, last: Option<&str>) -> Result<Stream, ClientError> {
        let mut request = self.request(Method::GET, path, query, None)?;
        request
            .headers_mut()
            .insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
        if let Some(last) = last.and_then(|last| HeaderValue::from_str(last).ok()) {
            request.headers_mut().insert("last-event-id", last);
        }
        let response = self.answer(request).await?;
        if response.status() == StatusCode::OK {
            return Ok(Stream::new(response.into_body()));
        }
        let status = response.status();
        let body = self.whole(response.into_body()).await?;
        Err(self.refusal(status, &body))
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        query: &Query,
        content: Option<(&'static str, Bytes)>,
    ) -> Result<Request<Full<Bytes>>, ClientError> {
        let mut url = self.server.clone();
        url.set_path(&format!("{}{path}", self.server.path().trim_end_matches('/')));
        if !query.0.is_empty() {
            url.query_pairs_mut().extend_pairs(&query.0);
        }
        let mut request = Request::builder()
            .method(method)
            .uri(url.as_str())
            .header(ACCEPT, "application/json, application/problem+json");
        if let Some(key) = &self.key {
            request = request.header(AUTHORIZATION, key);
        }
        if let Some(application) = &self.application {
            request = request.header("hookfast-application", application);
        }
        let (media_type, body) = content.unzip();
        if let Some(media_type) = media_type {
            request = request.header(CONTENT_TYPE, media_type);
        }
        let body = Full::new(body.unwrap_or_default());
        request.body(body).map_err(|_| ClientError::Server(self.server()))
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        query: &Query,
        content: Option<(&'static str, Bytes)>,
    ) -> Result<(StatusCode, Bytes), ClientError> {
        let request = self.request(method, path, query, content)?;
        let exchange = async {
            let response = self.answer(request).await?;
            let status = response.status();
            Ok((status, self.whole(response.into_body()).await?))
        };
        let (status, body) = match self.patience {
            None => exchange.await?,
            Some(patience) => {
                let silent = |_| ClientError::Silent {
                    server: self.server(),
                    after: patience,
                };
                tokio::time::timeout(patience, exchange).await.map_err(silent)??
            }
        };
        if status.is_success() {
            Ok((status, body))
        } else {
            Err(self.refusal(status, &body))
        }
    }

    async fn answer(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, ClientError> {
        let answered = self.http.request(request).await;
        answered.map_err(|error| {
            let mut innermost: &dyn std::error::Error = &error;
            while let Some(reason) = innermost.source() {
                let refused = std::io::ErrorKind::ConnectionRefused;
                if reason
                    .downcast_ref::<std::io::Error>()
                    .is_some_and(|error| error.kind() == refused)
                {
                    return ClientError::Refused(self.server());
                }
                innermost = reason;
            }
            self.unreachable(innermost.to_string())
        })
    }

    async fn whole(&self, body: Incoming) -> Result<Bytes, ClientError> {
        match Limited::new(body, LARGEST_ANSWER).collect().await {
            Ok(collected) => Ok(collected.to_bytes()),
            Err(error) if error.is::<LengthLimitError>() => {
                Err(self.unreachable("its answer is larger than 128 MiB".to_owned()))
            }
            Err(error) => Err(self.unreachable(error.to_string())),
        }
    }

    fn unreachable(&self, reason: String) -> ClientError {
        ClientError::Unreachable {
            server: self.server(),
            reason,
        }
    }

    fn decode<T: DeserializeOwned>(&self, status: StatusCode, body: &[u8]) -> Result<T, ClientError> {
        // What has no content reads as null.
        let body = if body.is_empty() { b"null" } else { body };
        serde_json::from_slice(body).map_err(|error| self.foreign(status, &error.to_string()))
    }

    fn refusal(&self, status: StatusCode, body: &[u8]) -> ClientError {
        match serde_json::from_slice::<wire::Problem>(body) {
            Ok(problem) => ClientError::Problem(Box::new(problem)),
            Err(_) => self.foreign(status, &String::from_utf8_lossy(body)),
        }
    }

    fn foreign(&self, status: StatusCode, said: &str) -> ClientError {
        let plain = said
            .chars()
            .map(|character| if character.is_control() { ' ' } else { character });
        let said: String = plain.take(SHOWN_CHARACTERS).collect();
        ClientError::Foreign {
            server: self.server(),
            status,
            said: if said.is_empty() {
                "nothing".to_owned()
            } else {
                said
            },
        }
    }
}

/// TLS that trusts nobody, where it is not used.
fn without_certificates() -> rustls::ClientConfig {
    let builder =
        rustls::ClientConfig::builder_with_provider(rustls::crypto::ring::default_provider().into());
    // The provider's own versions are safe by its own definition.
    match builder.with_safe_default_protocol_versions() {
        Ok(builder) => builder
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth(),
        Err(error) => unreachable!("ring speaks TLS 1.2 and 1.3: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn answered(answer: &'static str) -> Result<Value, ClientError> {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 4096];
            let length = stream.read(&mut request).await.unwrap();
            let request = String::from_utf8_lossy(&request[..length]).to_lowercase();
            assert!(
                request.starts_with("get /api/v1/x?type=a%26b http/1.1"),
                "{request}"
            );
            assert!(request.contains("authorization: bearer k"), "{request}");
            stream.write_all(answer.as_bytes()).await.unwrap();
        });
        let client = Client::new(&server, Some("k"), None).unwrap();
        client
            .get(
                "/api/v1/x",
                &Query::default()
                    .with("type", Some("a&b"))
                    .with("none", None::<u8>),
            )
            .await
    }

    #[tokio::test]
    async fn json_is_decoded() {
        let value = answered("HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n{\"a\":1}")
            .await
            .unwrap();
        assert_eq!(value["a"], 1);
    }

    #[tokio::test]
    async fn a_problem_is_told_in_its_own_words_with_what_to_do() {
        let problem = concat!(
            "HTTP/1.1 401 Unauthorized\r\nConnection: close\r\n\r\n",
            "{\"type\":\"t\",\"title\":\"x\",\"status\":401,\"code\":\"key-unknown\",\"detail\":\"there is no such key\"}"
        );
        let message = answered(problem).await.unwrap_err().to_string();
        assert!(
            message.starts_with("there is no such key; give a key with --key"),
            "{message}"
        );
    }

    #[tokio::test]
    async fn an_answer_of_something_else_is_told_apart() {
        let answer = "HTTP/1.1 502 Bad Gateway\r\nConnection: close\r\n\r\n<html>\u{1b}[31m";
        let message = answered(answer).await.unwrap_err().to_string();
        assert!(message.contains("502 Bad Gateway"), "{message}");
        assert!(!message.contains('\u{1b}'), "{message}");
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_told_with_how_to_start_one() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        let client = Client::new(&server, None, None).unwrap();
        let error = client
            .get::<Value>("/healthz", &Query::default())
            .await
            .unwrap_err();
        assert!(matches!(error, ClientError::Refused(_)), "{error}");
        assert!(error.to_string().contains("hookfast serve"), "{error}");
    }

    #[test]
    fn what_is_no_server_or_key_is_refused() {
        for server in ["", "127.0.0.1:8081", "ftp://x", "http://"] {
            assert!(
                matches!(Client::new(server, None, None), Err(ClientError::Server(_))),
                "{server}"
            );
        }
        assert!(matches!(
            Client::new("http://x", Some("a\nb"), None),
            Err(ClientError::Key)
        ));
    }
}
