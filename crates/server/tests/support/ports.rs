//! Owns ports that stay one's own while a server is down: below the range that the system hands out, and locked
//! against other tests on the machine. It must not know who listens on them.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

/// The ports to choose from: over the well-known ones, under Linux's own choices (32768 and up).
const FIRST: u16 = 12_000;
const COUNT: u16 = 20_000;

/// A port of this machine that no other test takes while this value lives.
#[derive(Debug)]
pub(crate) struct Port {
    /// Where to listen.
    pub(crate) address: SocketAddr,
    _lock: File,
}

impl Port {
    /// Takes a free port of 127.0.0.1.
    pub(crate) fn take() -> Self {
        Self::take_at(Ipv4Addr::LOCALHOST)
    }

    /// Takes a free port of another address of the loopback network.
    pub(crate) fn take_at(host: Ipv4Addr) -> Self {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        let directory = std::env::temp_dir().join("hookfast-test-ports");
        fs::create_dir_all(&directory).expect("the directory of port locks can be made");
        let start = u16::try_from(std::process::id().wrapping_mul(97) % u32::from(COUNT)).unwrap_or(0);
        for _ in 0..COUNT {
            let step = NEXT.fetch_add(1, Ordering::Relaxed);
            let number = FIRST + (u32::from(start) + u32::from(step)).rem_euclid(u32::from(COUNT)) as u16;
            let address = SocketAddr::from((host, number));
            let lock = File::create(directory.join(number.to_string())).expect("a port lock can be made");
            if lock.try_lock().is_ok() && TcpListener::bind(address).is_ok() {
                return Self { address, _lock: lock };
            }
        }
        panic!("no port from {FIRST} on is free");
    }
}
