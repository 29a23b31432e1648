//! Which addresses are public, which may be allowed, and which are never called (SPEC O11).
//!
//! Owns the table of special ranges, after the special-purpose registries of IANA (RFC 6890 and its updates).
//! Pure: knows neither names nor sockets.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;

use super::resolve::BlockedReason;

/// What the one who calls is permitted.
#[derive(Clone, Copy, Debug)]
pub struct Permissions<'a> {
    /// Whether private addresses are, and clear text.
    pub allow_private: bool,
    /// Whether the call is without TLS.
    pub clear_text: bool,
    /// Networks that the operator allows, clear text included.
    pub allowed_networks: &'a [IpNet],
    /// Where this process listens.
    pub own_listeners: &'a [SocketAddr],
}

/// Whether `address` may be called.
///
/// # Errors
/// Why it may not.
pub fn judge(address: SocketAddr, permissions: &Permissions<'_>) -> Result<(), BlockedReason> {
    let ip = address.ip();
    if is_metadata(ip) {
        return Err(BlockedReason::Metadata);
    }
    if permissions.own_listeners.iter().any(|own| is_own(address, *own)) {
        return Err(BlockedReason::OwnListener);
    }
    let operator_allows = permissions
        .allowed_networks
        .iter()
        .any(|network| network.contains(&ip));
    match ip {
        IpAddr::V4(ip) => judge_v4(ip, permissions.allow_private || operator_allows)?,
        IpAddr::V6(ip) => {
            if let Some((form, inner)) = inner_v4(ip) {
                return judge_wrapped(form, inner, operator_allows, permissions);
            }
            judge_v6(ip, permissions.allow_private || operator_allows)?;
        }
    }
    if permissions.clear_text && !permissions.allow_private && !operator_allows {
        return Err(BlockedReason::ClearText);
    }
    Ok(())
}

/// Whether a range may be allowed.
#[derive(Clone, Copy, PartialEq)]
enum Rule {
    Private,
    Never,
}

type RangeV4 = (Ipv4Addr, u32, &'static str, Rule);
type RangeV6 = (Ipv6Addr, u32, &'static str, Rule);

const fn v4(a: u8, b: u8, c: u8, d: u8) -> Ipv4Addr {
    Ipv4Addr::new(a, b, c, d)
}

const fn v6(a: u16, b: u16, c: u16, d: u16) -> Ipv6Addr {
    Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0)
}

#[rustfmt::skip]
const RANGES_V4: [RangeV4; 16] = [
    (v4(10, 0, 0, 0),        8, "private",                         Rule::Private),
    (v4(127, 0, 0, 0),       8, "loopback",                        Rule::Private),
    (v4(172, 16, 0, 0),     12, "private",                         Rule::Private),
    (v4(192, 168, 0, 0),    16, "private",                         Rule::Private),
    (v4(100, 64, 0, 0),     10, "shared by carriers (CGNAT)",      Rule::Private),
    (v4(169, 254, 0, 0),    16, "link-local",                      Rule::Private),
    (v4(0, 0, 0, 0),         8, "unspecified",                     Rule::Never),
    (v4(192, 0, 0, 0),      24, "reserved for protocols",          Rule::Never),
    (v4(192, 0, 2, 0),      24, "reserved for documentation",      Rule::Never),
    (v4(192, 88, 99, 0),    24, "6to4 relay",                      Rule::Never),
    (v4(198, 18, 0, 0),     15, "reserved for benchmarks",         Rule::Never),
    (v4(198, 51, 100, 0),   24, "reserved for documentation",      Rule::Never),
    (v4(203, 0, 113, 0),    24, "reserved for documentation",      Rule::Never),
    (v4(224, 0, 0, 0),       4, "multicast",                       Rule::Never),
    (v4(255, 255, 255, 255), 32, "broadcast",                      Rule::Never),
    (v4(240, 0, 0, 0),       4, "reserved",                        Rule::Never),
];

#[rustfmt::skip]
const RANGES_V6: [RangeV6; 13] = [
    (Ipv6Addr::LOCALHOST,         128, "loopback",                   Rule::Private),
    (v6(0xfc00, 0, 0, 0),           7, "private (unique local)",     Rule::Private),
    (v6(0xfe80, 0, 0, 0),          10, "link-local",                 Rule::Private),
    (v6(0xfec0, 0, 0, 0),          10, "private (site-local)",       Rule::Private),
    (Ipv6Addr::UNSPECIFIED,       128, "unspecified",                Rule::Never),
    (v6(0x100, 0, 0, 0),           64, "discard-only",               Rule::Never),
    (v6(0x100, 0, 0, 1),           64, "dummy prefix",               Rule::Never),
    // Among them ORCHID (2001:10::/28, 2001:20::/28) and the benchmarks (2001:2::/48).
    (v6(0x2001, 0, 0, 0),          23, "reserved for protocols",     Rule::Never),
    (v6(0x2001, 0xdb8, 0, 0),      32, "reserved for documentation", Rule::Never),
    (v6(0x3fff, 0, 0, 0),          20, "reserved for documentation", Rule::Never),
    (v6(0x5f00, 0, 0, 0),          16, "segment routing",            Rule::Never),
    (v6(0xff00, 0, 0, 0),           8, "multicast",                  Rule::Never),
    // Last, for what follows: only 2000::/3 has been given out for global unicast.
    (v6(0, 0, 0, 0),                0, "not global unicast",         Rule::Never),
];

/// Where clouds hand out credentials or control the machine. Link-local neighbours of the usual ones are included.
fn is_metadata(ip: IpAddr) -> bool {
    // AWS, Azure, Google and most others; AWS for containers; Tencent; Scaleway.
    const LINK_LOCAL: [[u8; 2]; 4] = [[169, 0], [170, 0], [0, 23], [42, 42]];
    // Alibaba; Azure's wire server; Oracle's former one.
    const OTHERS: [Ipv4Addr; 3] = [v4(100, 100, 100, 200), v4(168, 63, 129, 16), v4(192, 0, 0, 192)];
    const V6: [Ipv6Addr; 4] = [
        Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254), // AWS
        Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23),  // AWS, for containers
        Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),  // Google
        Ipv6Addr::new(0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42),   // Scaleway
    ];
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets();
            let link_local = [a, b] == [169, 254]
                && LINK_LOCAL
                    .iter()
                    .any(|[third, fourth]| c == *third && (*fourth == 0 || d == *fourth));
            link_local || OTHERS.contains(&ip)
        }
        IpAddr::V6(ip) => {
            V6.contains(&ip) || inner_v4(ip).is_some_and(|(_, inner)| is_metadata(IpAddr::V4(inner)))
        }
    }
}

/// Whether `address` leads to the listener `own`, as far as the address tells. A wildcard listener on another
/// address of this machine shows only once connected (`Guard::confirm`).
fn is_own(address: SocketAddr, own: SocketAddr) -> bool {
    let (ip, own_ip) = (address.ip().to_canonical(), own.ip().to_canonical());
    let here = ip.is_loopback() || ip.is_unspecified();
    address.port() == own.port()
        && (ip == own_ip || (here && (own_ip.is_unspecified() || ip.is_unspecified())))
}

fn judge_v4(ip: Ipv4Addr, private_allowed: bool) -> Result<(), BlockedReason> {
    let within = |(base, length, ..): &&RangeV4| {
        let shift = 32 - length;
        ip.to_bits().checked_shr(shift) == base.to_bits().checked_shr(shift)
    };
    allowed(
        RANGES_V4
            .iter()
            .find(within)
            .map(|(.., what, rule)| (*what, *rule)),
        private_allowed,
    )
}

fn judge_v6(ip: Ipv6Addr, private_allowed: bool) -> Result<(), BlockedReason> {
    let global_unicast = ip.segments()[0] >> 13 == 1;
    let within = |(base, length, ..): &&RangeV6| match length {
        0 => !global_unicast,
        length => ip.to_bits() >> (128 - length) == base.to_bits() >> (128 - length),
    };
    allowed(
        RANGES_V6
            .iter()
            .find(within)
            .map(|(.., what, rule)| (*what, *rule)),
        private_allowed,
    )
}

fn allowed(found: Option<(&'static str, Rule)>, private_allowed: bool) -> Result<(), BlockedReason> {
    match found {
        None => Ok(()),
        Some((_, Rule::Private)) if private_allowed => Ok(()),
        Some((what, Rule::Private)) => Err(BlockedReason::Private(what)),
        Some((what, Rule::Never)) => Err(BlockedReason::Special(what)),
    }
}

/// The IPv4 address in an IPv6 address that has one in it, and the form.
fn inner_v4(ip: Ipv6Addr) -> Option<(&'static str, Ipv4Addr)> {
    let s = ip.segments();
    let join = |high: u16, low: u16| Ipv4Addr::from_bits((u32::from(high) << 16) | u32::from(low));
    match s {
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        [0, 0, 0, 0, 0, 0xffff, high, low] => Some(("IPv4-mapped", join(high, low))),
        [0, 0, 0, 0, 0xffff, 0, high, low] => Some(("IPv4-translated", join(high, low))),
        [0, 0, 0, 0, 0, 0, high, low] => Some(("IPv4-compatible", join(high, low))),
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some((NAT64, join(high, low))),
        // RFC 6052 section 2.2, for a prefix of 48 bits: the address lies around the eighth octet.
        [0x64, 0xff9b, 1, high, low, rest, ..] => {
            Some(("NAT64, local use", join(high, ((low & 0xff) << 8) | (rest >> 8))))
        }
        [0x2002, high, low, ..] => Some(("6to4", join(high, low))),
        [0x2001, 0, .., high, low] => Some(("Teredo", join(!high, !low))),
        _ => None,
    }
}

const NAT64: &str = "NAT64";

/// A network that has only IPv6 reaches IPv4 through NAT64: there the operator may allow `64:ff9b::/96`, and the
/// inner address is judged as if it were called itself. Nothing else opens a wrapped address.
fn judge_wrapped(
    form: &'static str,
    inner: Ipv4Addr,
    operator_allows: bool,
    permissions: &Permissions<'_>,
) -> Result<(), BlockedReason> {
    if form == NAT64 && operator_allows && !permissions.clear_text {
        return judge_v4(inner, false);
    }
    Err(BlockedReason::Wrapped { form })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said of an address to four callers: nobody special, `allow_private`, an operator who allows
    /// everything, and one who calls in clear text.
    fn line(ip: &str) -> String {
        let everything = ["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()];
        let verdict = |allow_private, clear_text, allowed_networks| {
            let permissions = Permissions {
                allow_private,
                clear_text,
                allowed_networks,
                own_listeners: &[],
            };
            match judge(SocketAddr::new(ip.parse().unwrap(), 443), &permissions) {
                Ok(()) => "called".to_owned(),
                Err(BlockedReason::Private(what)) => what.to_owned(),
                Err(BlockedReason::Special(what)) => format!("never: {what}"),
                Err(BlockedReason::Wrapped { form }) => format!("never: {form}"),
                Err(BlockedReason::Metadata) => "never: metadata".to_owned(),
                Err(other) => format!("{other:?}"),
            }
        };
        let columns = [
            verdict(false, false, &[]),
            verdict(true, false, &[]),
            verdict(false, false, &everything),
            verdict(false, true, &[]),
        ];
        if columns.iter().all(|column| *column == columns[0]) {
            return format!("{ip} | {}", columns[0]);
        }
        format!("{ip} | {}", columns.join(" | "))
    }

    #[test]
    fn every_special_range_is_judged_at_both_its_ends() {
        let addresses = "0.0.0.0 0.255.255.255 1.0.0.0 9.255.255.255 10.0.0.0 10.255.255.255 11.0.0.0 \
            100.63.255.255 100.64.0.0 100.127.255.255 100.128.0.0 100.100.100.200 126.255.255.255 127.0.0.1 \
            127.255.255.255 128.0.0.0 168.63.129.16 169.253.255.255 169.254.0.1 169.254.0.23 169.254.169.254 \
            169.254.170.2 169.254.255.255 172.15.255.255 172.16.0.0 172.31.255.255 172.32.0.0 191.255.255.255 \
            192.0.0.1 192.0.0.192 192.0.2.1 192.0.3.0 192.88.99.1 192.167.255.255 192.168.0.0 192.168.255.255 \
            192.169.0.0 198.17.255.255 198.18.0.0 198.19.255.255 198.20.0.0 198.51.100.1 203.0.113.1 \
            223.255.255.255 224.0.0.0 239.255.255.255 240.0.0.0 255.255.255.255 8.8.8.8 \
            :: ::1 ::2 ::7f00:1 ::ffff:127.0.0.1 ::ffff:8.8.8.8 ::ffff:169.254.169.254 ::ffff:0:8.8.8.8 \
            64:ff9b::8.8.8.8 64:ff9b::10.0.0.1 64:ff9b::169.254.169.254 64:ff9b:1:808:8:800:: \
            64:ff9b:1:a9fe:a9:fe00:: 100::1 100:0:0:1::1 1fff:: 2000:: 2001::1 2001:2::1 2001:10::1 2001:20::1 \
            2001:1ff:: 2001:200:: 2001:db8::1 2002:808:808:: 2002:a00:1:: 2606:4700::1111 3ffe:: 3fff::1 \
            3fff:1000:: 4000:: 5f00::1 fbff:: fc00:: fd00:ec2::254 fd00:ec2::255 fdff:: fe7f:: fe80::1 febf::1 \
            fec0::1 feff:: ff00:: ff02::1";
        let table: Vec<_> = addresses.split_whitespace().map(line).collect();
        insta::assert_snapshot!(table.join("\n"), @r#"
        0.0.0.0 | never: unspecified
        0.255.255.255 | never: unspecified
        1.0.0.0 | called | called | called | ClearText
        9.255.255.255 | called | called | called | ClearText
        10.0.0.0 | private | called | called | private
        10.255.255.255 | private | called | called | private
        11.0.0.0 | called | called | called | ClearText
        100.63.255.255 | called | called | called | ClearText
        100.64.0.0 | shared by carriers (CGNAT) | called | called | shared by carriers (CGNAT)
        100.127.255.255 | shared by carriers (CGNAT) | called | called | shared by carriers (CGNAT)
        100.128.0.0 | called | called | called | ClearText
        100.100.100.200 | never: metadata
        126.255.255.255 | called | called | called | ClearText
        127.0.0.1 | loopback | called | called | loopback
        127.255.255.255 | loopback | called | called | loopback
        128.0.0.0 | called | called | called | ClearText
        168.63.129.16 | never: metadata
        169.253.255.255 | called | called | called | ClearText
        169.254.0.1 | link-local | called | called | link-local
        169.254.0.23 | never: metadata
        169.254.169.254 | never: metadata
        169.254.170.2 | never: metadata
        169.254.255.255 | link-local | called | called | link-local
        172.15.255.255 | called | called | called | ClearText
        172.16.0.0 | private | called | called | private
        172.31.255.255 | private | called | called | private
        172.32.0.0 | called | called | called | ClearText
        191.255.255.255 | called | called | called | ClearText
        192.0.0.1 | never: reserved for protocols
        192.0.0.192 | never: metadata
        192.0.2.1 | never: reserved for documentation
        192.0.3.0 | called | called | called | ClearText
        192.88.99.1 | never: 6to4 relay
        192.167.255.255 | called | called | called | ClearText
        192.168.0.0 | private | called | called | private
        192.168.255.255 | private | called | called | private
        192.169.0.0 | called | called | called | ClearText
        198.17.255.255 | called | called | called | ClearText
        198.18.0.0 | never: reserved for benchmarks
        198.19.255.255 | never: reserved for benchmarks
        198.20.0.0 | called | called | called | ClearText
        198.51.100.1 | never: reserved for documentation
        203.0.113.1 | never: reserved for documentation
        223.255.255.255 | called | called | called | ClearText
        224.0.0.0 | never: multicast
        239.255.255.255 | never: multicast
        240.0.0.0 | never: reserved
        255.255.255.255 | never: broadcast
        8.8.8.8 | called | called | called | ClearText
        :: | never: unspecified
        ::1 | loopback | called | called | loopback
        ::2 | never: IPv4-compatible
        ::7f00:1 | never: IPv4-compatible
        ::ffff:127.0.0.1 | never: IPv4-mapped
        ::ffff:8.8.8.8 | never: IPv4-mapped
        ::ffff:169.254.169.254 | never: metadata
        ::ffff:0:8.8.8.8 | never: IPv4-translated
        64:ff9b::8.8.8.8 | never: NAT64 | never: NAT64 | called | never: NAT64
        64:ff9b::10.0.0.1 | never: NAT64 | never: NAT64 | private | never: NAT64
        64:ff9b::169.254.169.254 | never: metadata
        64:ff9b:1:808:8:800:: | never: NAT64, local use
        64:ff9b:1:a9fe:a9:fe00:: | never: metadata
        100::1 | never: discard-only
        100:0:0:1::1 | never: dummy prefix
        1fff:: | never: not global unicast
        2000:: | called | called | called | ClearText
        2001::1 | never: Teredo
        2001:2::1 | never: reserved for protocols
        2001:10::1 | never: reserved for protocols
        2001:20::1 | never: reserved for protocols
        2001:1ff:: | never: reserved for protocols
        2001:200:: | called | called | called | ClearText
        2001:db8::1 | never: reserved for documentation
        2002:808:808:: | never: 6to4
        2002:a00:1:: | never: 6to4
        2606:4700::1111 | called | called | called | ClearText
        3ffe:: | called | called | called | ClearText
        3fff::1 | never: reserved for documentation
        3fff:1000:: | called | called | called | ClearText
        4000:: | never: not global unicast
        5f00::1 | never: segment routing
        fbff:: | never: not global unicast
        fc00:: | private (unique local) | called | called | private (unique local)
        fd00:ec2::254 | never: metadata
        fd00:ec2::255 | private (unique local) | called | called | private (unique local)
        fdff:: | private (unique local) | called | called | private (unique local)
        fe7f:: | never: not global unicast
        fe80::1 | link-local | called | called | link-local
        febf::1 | link-local | called | called | link-local
        fec0::1 | private (site-local) | called | called | private (site-local)
        feff:: | private (site-local) | called | called | private (site-local)
        ff00:: | never: multicast
        ff02::1 | never: multicast
        "#);
    }

    #[test]
    fn an_own_listener_is_known_by_every_address_that_leads_to_it() {
        let table = [
            ("127.0.0.1:8080", "127.0.0.1:8080", true),
            ("127.0.0.1:8080", "127.0.0.1:8081", false),
            ("127.0.0.1:8080", "127.0.0.2:8080", false),
            ("0.0.0.0:8080", "127.0.0.2:8080", true),
            ("0.0.0.0:8080", "[::1]:8080", true),
            ("[::]:8080", "127.0.0.1:8080", true),
            ("[::]:8080", "[::1]:8080", true),
            ("127.0.0.1:8080", "0.0.0.0:8080", true),
            ("127.0.0.1:8080", "[::]:8080", true),
            ("127.0.0.1:8080", "[::ffff:127.0.0.1]:8080", true),
            ("192.168.1.5:8080", "192.168.1.5:8080", true),
            ("192.168.1.5:8080", "127.0.0.1:8080", false),
        ];
        for (listener, called, own) in table {
            let (listener, called) = (listener.parse().unwrap(), called.parse().unwrap());
            let permissions = Permissions {
                allow_private: true,
                clear_text: true,
                allowed_networks: &[],
                own_listeners: &[listener],
            };
            let found = judge(called, &permissions) == Err(BlockedReason::OwnListener);
            assert_eq!(found, own, "{called} with a listener at {listener}");
        }
    }
}
