//! Requests that nobody means well (SPEC I6, P5).
//!
//! A seeded generator: a failure names its seed and the request.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::{EVENT, Served, Setup, serve_with, settings, signature, signed};

const REQUESTS: u64 = 10_000;
const WORKERS: u64 = 16;
const NAMED: [u16; 14] = [
    100, 200, 400, 401, 403, 404, 405, 408, 411, 413, 414, 429, 431, 503,
];

/// A small generator of numbers (splitmix64): the same ones for the same seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count)
            .map(|_| u8::try_from(self.below(256)).unwrap())
            .collect()
    }
}

/// The pieces in which a hostile sender writes what it writes, with a pause after each.
fn pieces(random: &mut Random) -> Vec<Vec<u8>> {
    let mut bytes = Vec::new();
    for _ in 0..=random.below(3) {
        bytes.extend_from_slice(&request(random));
    }
    if random.one_in(8) {
        let length = bytes.len();
        let noise = 1 + random.below(8);
        for _ in 0..noise {
            let at = random.below(length);
            bytes[at] = u8::try_from(random.below(256)).unwrap();
        }
    }
    if random.one_in(6) {
        bytes.truncate(random.below(bytes.len() + 1));
    }
    let mut cuts: Vec<usize> = (0..random.below(4))
        .map(|_| random.below(bytes.len() + 1))
        .collect();
    cuts.extend([0, bytes.len()]);
    cuts.sort_unstable();
    cuts.windows(2)
        .map(|cut| bytes[cut[0]..cut[1]].to_vec())
        .collect()
}

fn request(random: &mut Random) -> Vec<u8> {
    let end = if random.one_in(10) { "\n" } else { "\r\n" };
    let method = random.pick(&[
        "POST", "POST", "POST", "POST", "GET", "HEAD", "OPTIONS", "PUT", "CONNECT", "\u{1}",
    ]);
    let long = format!("/in/nylas?{}", "q".repeat(random.below(20_000)));
    let target = random.pick(&[
        "/in/nylas",
        "/in/nylas",
        "/in/open",
        "/in/fresh",
        "/in/none",
        "/in/nylas?challenge=x",
        "/in/nylas?challenge=%zz",
        "/healthz",
        "*",
        "/in/../in/nylas",
        "http://other/in/nylas",
        "//in/nylas",
        "/in/nylas#x",
        "",
        "/in/\u{e9}",
        &long,
    ]);
    let version = random.pick(&[
        "HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/2.0", "HTTP/0.9", "",
    ]);
    let body = body(random);
    let mut head = format!("{method} {target} {version}{end}");
    if !random.one_in(10) {
        head += &format!("Host: x{end}");
    }
    for _ in 0..random.below(4) {
        head += &header(random, &body);
        head += end;
    }
    if random.one_in(30) {
        head += &format!("X-Huge: {}{end}", "h".repeat(random.below(40_000)));
    }
    if random.one_in(30) {
        head += &format!("X: y{end}").repeat(random.below(150));
    }
    let mut bytes = head.into_bytes();
    frame(random, &mut bytes, &body, end);
    bytes
}

fn body(random: &mut Random) -> Vec<u8> {
    match random.below(6) {
        0 => EVENT.to_vec(),
        1 => format!(r#"{{"id":"{}","type":"t"}}"#, random.next()).into_bytes(),
        2 => Vec::new(),
        3 => b"[".repeat(random.below(200_000)),
        4 => br#"{"id":"\ud800","type":{"#.to_vec(),
        _ => {
            let length = random.below(3_000);
            random.bytes(length)
        }
    }
}

fn header(random: &mut Random, body: &[u8]) -> String {
    match random.below(40) {
        0..=20 => format!("X-Nylas-Signature: {}", signature(body)),
        21 => "X-Nylas-Signature: \u{e9}\u{0}".to_owned(),
        22..=24 => "Content-Encoding: gzip".to_owned(),
        25..=28 => "Expect: 100-continue".to_owned(),
        29 => "Connection: upgrade, close, keep-alive".to_owned(),
        30 => "Upgrade: h2c".to_owned(),
        31 => " folded: header".to_owned(),
        32 => "No colon at all".to_owned(),
        33 => ": no name".to_owned(),
        _ => "X-Forwarded-For: 1.2.3.4, nonsense".to_owned(),
    }
}

/// Says how long the body is, rightly or not, and sends it.
fn frame(random: &mut Random, bytes: &mut Vec<u8>, body: &[u8], end: &str) {
    let length = body.len();
    let chunked = format!("Transfer-Encoding: chunked{end}");
    let lines = match random.below(30) {
        0..=20 => format!("Content-Length: {length}{end}"),
        21..=23 => chunked.clone(),
        24 => format!("Content-Length: {length}{end}{chunked}"),
        25 => format!("{chunked}Content-Length: {}{end}", random.below(100)),
        26 => format!(
            "Content-Length: {length}{end}Content-Length: {}{end}",
            random.below(3_000)
        ),
        27 => format!(
            "Content-Length: {}{end}",
            random.pick(&["-1", "+5", "0x10", "99999999999999999999", "5, 5", ""])
        ),
        28 => format!(
            "Transfer-Encoding: {}{end}",
            random.pick(&["identity", "gzip, chunked", "chunked, gzip", "xchunked"])
        ),
        _ => String::new(),
    };
    bytes.extend_from_slice(lines.as_bytes());
    bytes.extend_from_slice(end.as_bytes());
    if lines.contains("chunked") {
        let size = if random.one_in(4) {
            "zz;"
        } else {
            &format!("{length:x}")
        };
        bytes.extend_from_slice(format!("{size}\r\n").as_bytes());
        bytes.extend_from_slice(body);
        bytes.extend_from_slice(b"\r\n0\r\n\r\n");
    } else {
        bytes.extend_from_slice(body);
    }
}

/// Writes a hostile sender's pieces and returns the codes of the answers.
async fn attack(served: &Served, random: &mut Random) -> Vec<u16> {
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    for piece in pieces(random) {
        // The server may have had enough.
        if stream.write_all(&piece).await.is_err() {
            break;
        }
        if random.one_in(50) {
            tokio::time::sleep(Duration::from_millis(random.next() % 30)).await;
        }
    }
    if random.one_in(4) {
        return Vec::new();
    }
    let _ = stream.shutdown().await;
    let mut answers = Vec::new();
    // A reset ends it as well as an end does.
    let _ = timeout(Duration::from_secs(10), stream.read_to_end(&mut answers))
        .await
        .expect("an end in time");
    codes(&answers)
}

/// The codes of status lines. Our bodies hold none, and challenges come back only where they were sent.
fn codes(answers: &[u8]) -> Vec<u16> {
    let text = String::from_utf8_lossy(answers);
    text.match_indices("HTTP/1.")
        .map(|(at, _)| text[at + 9..at + 12].parse().unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_hostile_requests_harm_nobody() {
    let mut quick = settings();
    quick.ingest.head_timeout = Duration::from_millis(1_000);
    let served = Arc::new(
        serve_with(Setup {
            settings: Some(quick),
            budget: Some(8 * 1024 * 1024),
            ..Setup::default()
        })
        .await,
    );
    let over = Arc::new(AtomicBool::new(false));
    let good = tokio::spawn(well_behaved(Arc::clone(&served), Arc::clone(&over)));
    let attackers = (0..WORKERS).map(|worker| {
        let served = Arc::clone(&served);
        tokio::spawn(async move {
            let mut seen = BTreeMap::new();
            for number in 0..REQUESTS / WORKERS {
                let seed = worker << 32 | number;
                for code in attack(&served, &mut Random(seed)).await {
                    assert!(NAMED.contains(&code), "seed {seed:#x} was answered {code}");
                    *seen.entry(code).or_insert(0_u64) += 1;
                }
            }
            seen
        })
    });
    let attackers: Vec<_> = attackers.collect();
    let mut seen = BTreeMap::new();
    for attacker in attackers {
        for (code, count) in attacker.await.unwrap() {
            *seen.entry(code).or_insert(0) += count;
        }
    }
    over.store(true, Ordering::Relaxed);
    let (answered, slowest) = good.await.unwrap();
    assert!(
        answered > 100,
        "the well-behaved client got only {answered} answers"
    );
    assert!(slowest < Duration::from_secs(2), "it once waited {slowest:?}");
    for code in [200, 400, 401, 404, 405, 413, 414, 431] {
        assert!(seen.contains_key(&code), "the generator reaches {code}: {seen:?}");
    }
    served.node.stopping.cancel();
    served.node.stopped.cancel();
    let served = Arc::into_inner(served).unwrap();
    timeout(Duration::from_secs(15), served.serving)
        .await
        .expect("every connection ends")
        .unwrap();
    assert_eq!(served.node.ingest_budget.used(), 0);
    assert_eq!(served.store.audit(), Vec::<String>::new());
}

/// Posts one good notification after the other; how many, and how long the slowest took.
async fn well_behaved(served: Arc<Served>, over: Arc<AtomicBool>) -> (u64, Duration) {
    let (mut answered, mut slowest) = (0, Duration::ZERO);
    let mut wire = served.connect().await;
    while !over.load(Ordering::Relaxed) {
        let body = format!(r#"{{"id":"good-{answered}"}}"#);
        let start = served.node.clock.start();
        wire.send(signed("/in/nylas", body.as_bytes())).await;
        let answer = wire.answer().await.expect("an answer");
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
        slowest = slowest.max(start.elapsed());
        answered += 1;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    (answered, slowest)
}
