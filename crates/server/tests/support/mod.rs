//! Owns the harness for tests of the real binary: a server, its senders, its receivers, and the faults between them.
//! It must not know the crates of Hookfast: what is tested is the program that people run.
//!
//! | module | gives |
//! |---|---|
//! | `server` | `hookfast serve` as a process: start, kill, terminate, pause, restart in place, memory, log |
//! | `api` | what tests ask of a running server |
//! | `http` | a small blocking HTTP/1.1 client, and bytes as they are |
//! | `nylas` | notifications in Nylas's shape, and their signature |
//! | `app` | a scripted application behind Hookfast that remembers what it was sent |
//! | `load` | senders that post unique notifications and remember which got 200 |
//! | `disk` | small disks that can be filled up |
//! | `ledger` | what was acknowledged against what was delivered |
//! | `shim` | the faulty disk: `faults/syncshim.c`, its settings and its log |
//! | `tools` | the Node and Python that `cargo xtask test` found, and the example applications |
//! | `timed` | senders whose posts are timed, and quantiles |
//! | `turn` | the machine for one test alone |
//! | `ports` | ports that stay one's own over a restart |
//! | `time` | clocks and waiting |
//! | `extent` | how long tests with rounds go on, and their chance |

#![expect(dead_code, reason = "each test target uses its own part of the harness")]

pub(crate) mod api;
pub(crate) mod app;
pub(crate) mod disk;
pub(crate) mod extent;
pub(crate) mod http;
pub(crate) mod ledger;
pub(crate) mod load;
pub(crate) mod nylas;
pub(crate) mod ports;
pub(crate) mod server;
pub(crate) mod shim;
pub(crate) mod time;
pub(crate) mod timed;
pub(crate) mod tools;
pub(crate) mod turn;

/// Shows a measured figure, where the test's output is looked at.
#[expect(
    clippy::print_stdout,
    reason = "the output of a test is where its reader looks"
)]
pub(crate) fn show(figure: &str) {
    println!("{figure}");
}

/// Shows what a process said, where the test is failing.
#[expect(
    clippy::print_stderr,
    reason = "the output of a failing test is where its reader looks"
)]
pub(crate) fn quote_where_failing(who: &str, log: &str) {
    if std::thread::panicking() {
        eprintln!("--- the {who} said:\n{log}---");
    }
}
