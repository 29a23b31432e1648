//! An application that publishes very much for a destination that is dead, beside one that publishes little (SPEC O14).

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::neighbours::expect_little_delay;
use crate::support::api::text;
use crate::support::app::App;
use crate::support::http::{self, Connection};
use crate::support::server::Server;
use crate::support::time::now;
use crate::support::timed::{first_arrivals, quantile};
use crate::support::turn::Turn;

/// How much the loud one publishes, and how much of it in one request.
const FLOOD: usize = 100_000;
const AT_ONCE: usize = 5_000;
const POSTS: usize = 200;

fn event(id: &str) -> Value {
    json!({
        "specversion": "1.0", "type": "message.created", "source": "/mail", "id": id,
        "data": {"object": {"id": id, "object": "message"}},
    })
}

/// An application with one destination; its key.
fn application(server: &Server, name: &str, app: &App) -> String {
    server.order("/api/v1/applications", &json!({"name": name}));
    let asked = json!({"name": name, "scope": "application", "application": name});
    let made = server.order("/api/v1/keys", &asked);
    let key = text(&made["key"]);
    let asked = json!({"name": "sink", "url": app.url(), "trigger_types": ["message.*"]});
    let made = server.call_with(key, "POST", "/api/v1/destinations", Some(&asked));
    assert_eq!(made.status, 201, "{}", made.text());
    key.to_owned()
}

/// Publishes a few events at a steady pace, to both servers in turn, so that what else happens on the machine happens
/// to both. Gives the 99th percentile from publishing to arrival of each.
fn run(number: usize, servers: &[(&Server, &str, &App)]) -> Vec<Duration> {
    let mut connections: Vec<_> = servers
        .iter()
        .map(|(server, ..)| Connection::open(server.admin()).expect("it accepts"))
        .collect();
    let mut sent: Vec<Vec<(String, Instant)>> = vec![Vec::new(); servers.len()];
    for serial in 0..POSTS {
        let id = format!("run{number}-{serial}");
        let body = event(&id).to_string();
        for (index, (_, key, _)) in servers.iter().enumerate() {
            let bearer = format!("Bearer {key}");
            let headers = [
                ("authorization", bearer.as_str()),
                ("content-type", "application/json"),
            ];
            let at = now();
            let connection = &mut connections[index];
            connection
                .write_request("POST", "/api/v1/events", &headers, body.as_bytes())
                .expect("it is sent");
            let answer = connection.read_answer("POST").expect("it is answered");
            assert_eq!(answer.status, 202, "{}", answer.text());
            sent[index].push((id.clone(), at));
            std::thread::sleep(Duration::from_millis(4));
        }
    }
    let of_server = |(index, (_, _, app)): (usize, &(&Server, &str, &App))| {
        app.wait_for_ids(sent[index].iter().map(|(id, _)| id));
        let received = app.received();
        let arrivals = first_arrivals(&received);
        let delays: Vec<_> = sent[index]
            .iter()
            .map(|(id, at)| arrivals[id.as_str()] - *at)
            .collect();
        quantile(&delays, 0.99)
    };
    servers.iter().enumerate().map(of_server).collect()
}

fn flood(server: &Server, key: &str) {
    let bearer = format!("Bearer {key}");
    let headers = [
        ("authorization", bearer.as_str()),
        ("content-type", "application/x-ndjson"),
    ];
    for first in (0..FLOOD).step_by(AT_ONCE) {
        let lines: Vec<_> = (first..first + AT_ONCE)
            .map(|number| event(&format!("loud-{number}")).to_string())
            .collect();
        let body = lines.join("\n");
        let answer = http::request(
            server.admin(),
            "POST",
            "/api/v1/events",
            &headers,
            body.as_bytes(),
        );
        assert_eq!(answer.status, 202);
    }
}

#[test]
fn very_much_for_a_dead_destination_of_one_application_does_not_delay_another_application() {
    let _turn = Turn::take();
    let config = "[outbox]\nallowed_networks = [\"127.0.0.0/8\"]\n";
    let (alone_app, beside_app, mut dead) = (App::start(), App::start(), App::start());
    for app in [&alone_app, &beside_app, &dead] {
        app.echo_challenges();
    }
    let (alone, beside) = (Server::with(config), Server::with(config));
    let alone_key = application(&alone, "quiet", &alone_app);
    let beside_key = application(&beside, "quiet", &beside_app);
    let loud_key = application(&beside, "loud", &dead);
    dead.stop();
    flood(&beside, &loud_key);

    let servers = [
        (&alone, alone_key.as_str(), &alone_app),
        (&beside, beside_key.as_str(), &beside_app),
    ];
    let neighbour = "an application that floods";
    expect_little_delay(&[neighbour], |number| run(number, &servers));
    let stats = beside.call_with(&loud_key, "GET", "/api/v1/stats", None).json();
    let count = |state: &str| stats["deliveries"][state].as_u64().unwrap_or(0);
    let waiting = count("pending") + count("retrying");
    assert!(
        waiting > FLOOD as u64 * 9 / 10,
        "the flood was there all the time: {stats}"
    );
}
