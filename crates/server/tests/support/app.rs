//! Owns a scripted application behind Hookfast: a threaded HTTP server that answers as told, as late as told, and
//! remembers every request. It can be stopped and started again on the same port. It must not know Hookfast.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::ports::Port;
use super::time::{LIMIT, now};

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    /// When all of it had come.
    pub(crate) at: Instant,
    /// Which connection it came on, counted from 0.
    pub(crate) connection: usize,
    /// Its method.
    pub(crate) method: String,
    /// Its path with the query.
    pub(crate) path: String,
    /// Its headers in their order, names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    /// Its body.
    pub(crate) body: Vec<u8>,
}

impl Received {
    /// The first header of that name (in lower case).
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key == name)?;
        Some(&found.1)
    }

    /// The id that stays the same over repeats.
    pub(crate) fn webhook_id(&self) -> &str {
        self.header("webhook-id").unwrap_or_default()
    }
}

/// What to do with a request.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    status: u16,
    delay: Duration,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    hang_up: bool,
}

impl Reply {
    /// That status, at once, with an empty body.
    pub(crate) fn status(status: u16) -> Self {
        Self {
            status,
            delay: Duration::ZERO,
            headers: Vec::new(),
            body: Vec::new(),
            hang_up: false,
        }
    }

    /// No answer: the connection is closed.
    pub(crate) fn hang_up() -> Self {
        Self {
            hang_up: true,
            ..Self::status(0)
        }
    }

    /// The same, later.
    pub(crate) fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// The same with a header.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The same with a body.
    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }
}

type Script = Box<dyn FnMut(&Received) -> Reply + Send>;

struct Shared {
    script: Mutex<Script>,
    received: Mutex<Vec<Received>>,
    more: Condvar,
    open: Mutex<Vec<(usize, TcpStream)>>,
    stopped: AtomicBool,
    connections: Mutex<usize>,
    /// How much of each body is remembered, in bytes.
    remembered: AtomicUsize,
}

/// An application that answers every request with 200 until it is told otherwise.
pub(crate) struct App {
    port: Port,
    shared: Arc<Shared>,
    listener: Option<JoinHandle<()>>,
}

impl App {
    /// Starts one.
    pub(crate) fn start() -> Self {
        let mut app = Self::down();
        app.start_again();
        app
    }

    /// Starts one at another address of the loopback network than 127.0.0.1.
    pub(crate) fn start_at(host: Ipv4Addr) -> Self {
        let mut app = Self::down_at(Port::take_at(host));
        app.start_again();
        app
    }

    /// One that is down: its port is its own, and nobody listens.
    pub(crate) fn down() -> Self {
        Self::down_at(Port::take())
    }

    fn down_at(port: Port) -> Self {
        Self {
            port,
            shared: Arc::new(Shared {
                script: Mutex::new(Box::new(|_| Reply::status(200))),
                received: Mutex::default(),
                more: Condvar::new(),
                open: Mutex::default(),
                stopped: AtomicBool::new(true),
                connections: Mutex::default(),
                remembered: AtomicUsize::new(usize::MAX),
            }),
            listener: None,
        }
    }

    /// Starts it on its port; what it remembers stays.
    pub(crate) fn start_again(&mut self) {
        assert!(self.listener.is_none(), "the application runs already");
        let listener = TcpListener::bind(self.address()).expect("the application's port is free");
        self.shared.stopped.store(false, Ordering::SeqCst);
        let shared = Arc::clone(&self.shared);
        self.listener = Some(std::thread::spawn(move || accept(&listener, &shared)));
    }

    /// Stops it as a crash would: nobody listens any more, and every connection is cut.
    pub(crate) fn stop(&mut self) {
        let Some(listener) = self.listener.take() else {
            return;
        };
        self.shared.stopped.store(true, Ordering::SeqCst);
        // The connection wakes the thread that accepts; if it fails, the thread has ended already.
        drop(TcpStream::connect(self.address()));
        drop(listener.join());
        for (_, stream) in locked(&self.shared.open).drain(..) {
            // It may be closed already.
            drop(stream.shutdown(Shutdown::Both));
        }
    }

    /// From now on answers as `script` says, which is asked for one request after another.
    pub(crate) fn answer(&self, script: impl FnMut(&Received) -> Reply + Send + 'static) {
        *locked(&self.shared.script) = Box::new(script);
    }

    /// From now on echoes challenges, as the receiver of a webhook does that is being verified, and answers 200.
    pub(crate) fn echo_challenges(&self) {
        self.answer(|request| {
            let challenge = request.path.split_once("challenge=").map(|(_, value)| value);
            Reply::status(200).body(challenge.unwrap_or_default())
        });
    }

    /// From now on answers always so.
    pub(crate) fn always(&self, reply: Reply) {
        self.answer(move |_| reply.clone());
    }

    /// From now on remembers only the beginning of each body: for bodies that do not all fit into memory.
    pub(crate) fn remember_of_bodies(&self, bytes: usize) {
        self.shared.remembered.store(bytes, Ordering::SeqCst);
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.port.address
    }

    /// A URL of it.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/webhooks", self.address())
    }

    /// All requests until now, in the order in which they came, whatever was answered.
    pub(crate) fn received(&self) -> Vec<Received> {
        locked(&self.shared.received).clone()
    }

    /// How often each webhook id came.
    pub(crate) fn counts(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for request in locked(&self.shared.received).iter() {
            *counts.entry(request.webhook_id().to_owned()).or_default() += 1;
        }
        counts
    }

    /// Waits until `enough` holds of the requests until now, and gives them. The test fails after a minute.
    pub(crate) fn wait_until(&self, what: &str, enough: impl Fn(&[Received]) -> bool) -> Vec<Received> {
        let end = now() + LIMIT;
        let mut received = locked(&self.shared.received);
        while !enough(&received) {
            let left = end.saturating_duration_since(now());
            assert!(
                !left.is_zero(),
                "waited {LIMIT:?} in vain for {what}; {} requests came",
                received.len()
            );
            received = self
                .shared
                .more
                .wait_timeout(received, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        received.clone()
    }

    /// Waits until so many requests have come, and gives them.
    pub(crate) fn wait_for(&self, count: usize) -> Vec<Received> {
        self.wait_until(&format!("{count} requests"), |received| received.len() >= count)
    }

    /// Waits until each of the ids has come at least once.
    pub(crate) fn wait_for_ids<'a>(&self, ids: impl IntoIterator<Item = &'a String>) {
        let mut missing: std::collections::BTreeSet<&str> = ids.into_iter().map(String::as_str).collect();
        let wanted = missing.len();
        let seen = std::cell::RefCell::new((0, &mut missing));
        self.wait_until(&format!("{wanted} different webhook ids"), |received| {
            let mut seen = seen.borrow_mut();
            for request in &received[seen.0..] {
                seen.1.remove(request.webhook_id());
            }
            seen.0 = received.len();
            seen.1.is_empty()
        });
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.stop();
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A script that failed its test has poisoned the lock; the requests are still worth reading.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if shared.stopped.load(Ordering::SeqCst) {
            return;
        }
        let Ok(stream) = stream else { continue };
        let Ok(copy) = stream.try_clone() else { continue };
        let number = {
            let mut connections = locked(&shared.connections);
            *connections += 1;
            *connections - 1
        };
        locked(&shared.open).push((number, copy));
        let shared = Arc::clone(shared);
        std::thread::spawn(move || {
            // The other end may hang up at any time; that is its right.
            drop(serve(&stream, number, &shared));
            locked(&shared.open).retain(|(one, _)| *one != number);
        });
    }
}

fn serve(stream: &TcpStream, connection: usize, shared: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    while let Some(mut request) = read_request(&mut reader, connection)? {
        request.body.truncate(shared.remembered.load(Ordering::SeqCst));
        request.body.shrink_to_fit();
        let reply = (locked(&shared.script))(&request);
        locked(&shared.received).push(request);
        shared.more.notify_all();
        std::thread::sleep(reply.delay);
        if reply.hang_up || shared.stopped.load(Ordering::SeqCst) {
            break;
        }
        write_reply(stream, &reply)?;
    }
    stream.shutdown(Shutdown::Both)
}

fn read_request(reader: &mut impl BufRead, connection: usize) -> io::Result<Option<Received>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace().map(str::to_owned);
    let method = words.next().unwrap_or_default();
    let path = words.next().unwrap_or_default();
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.split_once(':') else {
            break;
        };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let header = |name: &str| {
        headers
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    };
    let mut body = Vec::new();
    if header("transfer-encoding") == Some("chunked") {
        read_chunks(reader, &mut body)?;
    } else {
        let length = header("content-length")
            .and_then(|length| length.parse().ok())
            .unwrap_or(0);
        body.resize(length, 0);
        reader.read_exact(&mut body)?;
    }
    Ok(Some(Received {
        at: now(),
        connection,
        method,
        path,
        headers,
        body,
    }))
}

fn read_chunks(reader: &mut impl BufRead, body: &mut Vec<u8>) -> io::Result<()> {
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let length = usize::from_str_radix(line.trim(), 16)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "the length of a chunk is no number"))?;
        let start = body.len();
        body.resize(start + length + 2, 0);
        reader.read_exact(&mut body[start..])?;
        body.truncate(start + length);
        if length == 0 {
            return Ok(());
        }
    }
}

fn write_reply(mut stream: &TcpStream, reply: &Reply) -> io::Result<()> {
    let mut head = format!(
        "HTTP/1.1 {} Scripted\r\ncontent-length: {}\r\n",
        reply.status,
        reply.body.len()
    );
    for (name, value) in &reply.headers {
        head += &format!("{name}: {value}\r\n");
    }
    head += "\r\n";
    let mut bytes = head.into_bytes();
    bytes.extend(&reply.body);
    stream.write_all(&bytes)
}
