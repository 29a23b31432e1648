//! Where Hookfast does not send (SPEC O11).

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::receiver::{Receiver, Step, answer, ok};
use hookfast::deliver::resolve::{BlockedReason, Guard, Lookup};
use hookfast_engine::outcome::Failure;
use hookfast_engine::topology::Destination;
use rustls::RootCertStore;

use crate::setup::*;

#[tokio::test]
async fn a_private_address_is_refused_unless_it_is_allowed() {
    let receiver = Receiver::start(vec![ok()]).await;
    let not_allowed = ready(
        Destination {
            allow_private: false,
            ..destination(&receiver.url("/"), PATIENT)
        },
        &[],
    );
    let attempted = attempt(&transport(), &not_allowed).await;
    assert_failed(&attempted, Failure::AddressBlocked, "use https");
    assert_eq!(receiver.connections(), 0);

    let networks = vec!["127.0.0.0/8".parse().unwrap()];
    let transport = transport_with(Guard::new(networks, vec![]), RootCertStore::empty());
    assert_eq!(attempt(&transport, &not_allowed).await.outcome, answered(200));
}

#[tokio::test]
async fn a_url_in_disguise_is_refused_before_anything_is_resolved() {
    let guard = Guard::new(vec![], vec![]).with_blocked_hosts(vec!["ngrok.io".to_owned()]);
    let lines = [
        "https://127.0.0.1/",
        "https://2130706433/",
        "https://0x7f.0.0.1/",
        "https://0177.0.0.1/",
        "https://127.1/",
        "https://127.0.0.1./",
        "https://%31%32%37.0.0.1/",
        "https://１２７.0.0.1/",
        "https://8.8.2056/",
        "https://[::1]/",
        "https://[::ffff:127.0.0.1]/",
        "https://[::ffff:8.8.8.8]/",
        "https://[64:ff9b::10.0.0.1]/",
        "https://[64:ff9b::8.8.8.8]/",
        "https://[2002:7f00:1::]/",
        "https://169.254.169.254/",
        "https://user@example.com/",
        "https://user:secret@example.com/",
        "https://@example.com/",
        "https:///example.com/",
        "https:example.com/",
        "https:\\\\example.com\\",
        "https://example.com\\@127.0.0.1/",
        "https://exam\tple.com/",
        "https://example.com/a b",
        "http://example.com/",
        "ftp://example.com/",
        "file:///etc/passwd",
        "example.com",
        "",
        "https://a.ngrok.io/",
        "https://ngrok.io./",
        "https://notngrok.io/",
        "https://example.com./",
        "HTTPS://EXAMPLE.COM:8443/x",
        "https://8.8.8.8/",
        "https://[2606:4700::1111]/",
    ];
    let table = lines.map(|line| match guard.check_url(line, false) {
        Ok(target) => format!("{line:?}\n    calls {} port {}", target.host(), target.port()),
        Err(reason) => format!("{line:?}\n    {reason}"),
    });
    insta::assert_snapshot!(table.join("\n"), @r#"
    "https://127.0.0.1/"
        the address is not public: loopback; to call it, set allow_private for this destination or allowed_networks
    "https://2130706433/"
        the host `2130706433` is another way to write 127.0.0.1; write the address plainly
    "https://0x7f.0.0.1/"
        the host `0x7f.0.0.1` is another way to write 127.0.0.1; write the address plainly
    "https://0177.0.0.1/"
        the host `0177.0.0.1` is another way to write 127.0.0.1; write the address plainly
    "https://127.1/"
        the host `127.1` is another way to write 127.0.0.1; write the address plainly
    "https://127.0.0.1./"
        the host `127.0.0.1.` is another way to write 127.0.0.1; write the address plainly
    "https://%31%32%37.0.0.1/"
        the host `%31%32%37.0.0.1` is another way to write 127.0.0.1; write the address plainly
    "https://１２７.0.0.1/"
        the host `１２７.0.0.1` is another way to write 127.0.0.1; write the address plainly
    "https://8.8.2056/"
        the host `8.8.2056` is another way to write 8.8.8.8; write the address plainly
    "https://[::1]/"
        the address is not public: loopback; to call it, set allow_private for this destination or allowed_networks
    "https://[::ffff:127.0.0.1]/"
        the address is an IPv4 address inside an IPv6 address (IPv4-mapped); use the IPv4 address itself
    "https://[::ffff:8.8.8.8]/"
        the address is an IPv4 address inside an IPv6 address (IPv4-mapped); use the IPv4 address itself
    "https://[64:ff9b::10.0.0.1]/"
        the address is an IPv4 address inside an IPv6 address (NAT64); use the IPv4 address itself
    "https://[64:ff9b::8.8.8.8]/"
        the address is an IPv4 address inside an IPv6 address (NAT64); use the IPv4 address itself
    "https://[2002:7f00:1::]/"
        the address is an IPv4 address inside an IPv6 address (6to4); use the IPv4 address itself
    "https://169.254.169.254/"
        the address is that of a cloud's metadata service, which is never called
    "https://user@example.com/"
        the URL carries a user name or password; take out what is before the @
    "https://user:secret@example.com/"
        the URL carries a user name or password; take out what is before the @
    "https://@example.com/"
        the URL carries a user name or password; take out what is before the @
    "https:///example.com/"
        this is not a URL of the form https://host/path: its host does not follow right after ://
    "https:example.com/"
        this is not a URL of the form https://host/path: its host does not follow right after ://
    "https:\\\\example.com\\"
        this is not a URL of the form https://host/path: its host does not follow right after ://
    "https://example.com\\@127.0.0.1/"
        this is not a URL of the form https://host/path: it has a backslash in its host
    "https://exam\tple.com/"
        this is not a URL of the form https://host/path: it has spaces or control characters in it
    "https://example.com/a b"
        this is not a URL of the form https://host/path: it has spaces or control characters in it
    "http://example.com/"
        the URL is http; use https, or set allow_private for this destination
    "ftp://example.com/"
        the URL's scheme is `ftp`; only https is called
    "file:///etc/passwd"
        the URL's scheme is `file`; only https is called
    "example.com"
        this is not a URL of the form https://host/path: relative URL without a base
    ""
        this is not a URL of the form https://host/path: relative URL without a base
    "https://a.ngrok.io/"
        the host `a.ngrok.io` is on the blocklist
    "https://ngrok.io./"
        the host `ngrok.io` is on the blocklist
    "https://notngrok.io/"
        calls notngrok.io port 443
    "https://example.com./"
        calls example.com port 443
    "HTTPS://EXAMPLE.COM:8443/x"
        calls example.com port 8443
    "https://8.8.8.8/"
        calls 8.8.8.8 port 443
    "https://[2606:4700::1111]/"
        calls 2606:4700::1111 port 443
    "#);
}

#[tokio::test]
async fn names_of_this_machine_are_judged_by_what_they_resolve_to() {
    let receiver = Receiver::start(vec![ok()]).await;
    for host in ["localhost", "localhost.", "LOCALHOST"] {
        let url = format!("https://{host}:{}/", receiver.address.port());
        let destination = Destination {
            allow_private: false,
            ..destination(&url, PATIENT)
        };
        let attempted = attempt(&transport(), &ready(destination, &[])).await;
        assert_failed(&attempted, Failure::AddressBlocked, "not public: loopback");
    }
    assert_eq!(receiver.connections(), 0);
}

#[tokio::test]
async fn a_name_that_answers_differently_the_second_time_gains_nothing() {
    // 127.0.0.1 stands for a public address here: it is allowed. The second answer is not.
    let receiver = Receiver::start(vec![Step::Reply(answer("200 OK", "connection: close\r\n", ""))]).await;
    let inner = Receiver::listen(
        &format!("127.0.0.2:{}", receiver.address.port()),
        None,
        vec![ok()],
    )
    .await;
    let (outer_address, inner_address) = (receiver.address, inner.address);
    let asked = Arc::new(AtomicUsize::new(0));
    let lookup: Lookup = Arc::new(move |_, _| {
        let first = asked.fetch_add(1, Ordering::SeqCst) == 0;
        Box::pin(async move { Ok(vec![if first { outer_address } else { inner_address }]) })
    });
    let guard = Guard::new(vec!["127.0.0.1/32".parse().unwrap()], vec![]).with_lookup(lookup);
    let transport = transport_with(guard, RootCertStore::empty());
    let destination = ready(
        Destination {
            allow_private: false,
            ..destination("http://rebinding.example/", PATIENT)
        },
        &[],
    );
    assert_eq!(attempt(&transport, &destination).await.outcome, answered(200));
    let attempted = attempt(&transport, &destination).await;
    assert_failed(&attempted, Failure::AddressBlocked, "rebinding.example");
    assert!(
        !attempted.error.unwrap().contains("127.0.0.2"),
        "it must not tell how names resolve here"
    );
    assert_eq!(inner.connections(), 0);
}

#[tokio::test]
async fn of_several_addresses_only_those_that_are_allowed_are_tried() {
    let receiver = Receiver::start(vec![ok()]).await;
    let port = receiver.address.port();
    let inner = Receiver::listen(&format!("127.0.0.2:{port}"), None, vec![ok()]).await;
    let addresses = vec![inner.address, receiver.address];
    let lookup: Lookup = Arc::new(move |_, _| {
        let addresses = addresses.clone();
        Box::pin(async move { Ok(addresses) })
    });
    let guard = Guard::new(vec!["127.0.0.1/32".parse().unwrap()], vec![]).with_lookup(lookup);
    let transport = transport_with(guard, RootCertStore::empty());
    let destination = Destination {
        allow_private: false,
        ..destination("http://mixed.example/", PATIENT)
    };
    assert_eq!(
        attempt(&transport, &ready(destination, &[])).await.outcome,
        answered(200)
    );
    assert_eq!((receiver.connections(), inner.connections()), (1, 0));
}

#[tokio::test]
async fn our_own_listeners_are_never_called() {
    let own = Receiver::start(vec![ok()]).await;
    let wildcard = Receiver::listen("0.0.0.0:0", None, vec![ok()]).await;
    let networks = vec!["0.0.0.0/0".parse().unwrap()];
    let guard = Guard::new(networks, vec![own.address, wildcard.address]);
    let transport = transport_with(guard, RootCertStore::empty());
    let port = wildcard.address.port();
    for url in [
        own.url("/"),
        format!("http://127.0.0.1:{port}/"),
        format!("http://127.9.9.9:{port}/"),
        format!("http://localhost:{port}/"),
        format!("http://0.0.0.0:{port}/"),
    ] {
        let attempted = attempt(&transport, &to(&url)).await;
        assert_failed(&attempted, Failure::AddressBlocked, "own listeners");
    }
    assert_eq!((own.received().len(), wildcard.received().len()), (0, 0));
}

#[test]
fn a_connection_to_this_machine_does_not_reach_a_wildcard_listener() {
    let guard = Guard::new(vec![], vec!["0.0.0.0:8080".parse().unwrap()]);
    let address = |text: &str| text.parse::<SocketAddr>().unwrap();
    let (peer, other) = (address("192.0.2.7:8080"), address("192.0.2.8:8080"));
    assert_eq!(guard.confirm(peer, peer, address("192.0.2.9:5555")), Ok(()));
    assert_eq!(
        guard.confirm(peer, peer, address("192.0.2.7:5555")),
        Err(BlockedReason::OwnListener)
    );
    assert_eq!(
        guard.confirm(peer, other, address("192.0.2.9:5555")),
        Err(BlockedReason::OtherPeer)
    );
}
