//! What may be sent in full to addresses that have not shown that anybody is there.
//!
//! A client that is given a smaller block than it asked for keeps to that size to the end (RFC 7959 §2.4), so that caution
//! with its first question would cost it eight times the round trips. A few answers in full are no weapon.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

/// Answers in full to one host in a [`WINDOW`].
const ANSWERS: u8 = 3;
/// Hosts in a window that are given any; with blocks of 1024 bytes that is 50 KiB/s in all.
const HOSTS: usize = 1024;
/// ms.
const WINDOW: u64 = 60_000;

/// Who was given how many in this window.
#[derive(Debug, Default)]
pub(super) struct Allowance {
    window: u64,
    given: HashMap<[u8; 8], u8>,
}

impl Allowance {
    /// Whether this answer may be in full.
    pub(super) fn take(&mut self, address: SocketAddr, now: u64) -> bool {
        if self.window != now / WINDOW {
            self.window = now / WINDOW;
            self.given.clear();
        }
        let host = host(address.ip());
        if self.given.len() >= HOSTS && !self.given.contains_key(&host) {
            return false;
        }
        let given = self.given.entry(host).or_default();
        *given = given.saturating_add(1);
        *given <= ANSWERS
    }
}

/// Whom an address is taken to belong to: an IPv6 host has 64 bits to choose from.
pub(in crate::coap) fn host(address: IpAddr) -> [u8; 8] {
    let mut host = [0; 8];
    match address.to_canonical() {
        IpAddr::V4(address) => host[..4].copy_from_slice(&address.octets()),
        IpAddr::V6(address) => host.copy_from_slice(&address.octets()[..8]),
    }
    host
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_hosts_are_given_few_answers_a_minute() {
        let mut allowance = Allowance::default();
        let at = |host: u32, port| SocketAddr::new(IpAddr::V4(host.into()), port);
        let taken = |allowance: &mut Allowance, now| {
            (1..100).filter(|port| allowance.take(at(7, *port), now)).count()
        };
        assert_eq!(taken(&mut allowance, 0), usize::from(ANSWERS), "whatever the port");
        assert_eq!((8..10_000).filter(|host| allowance.take(at(*host, 1), 0)).count(), HOSTS - 1);
        assert_eq!(allowance.given.len(), HOSTS);
        assert_eq!(taken(&mut allowance, WINDOW), usize::from(ANSWERS));
    }

    #[test]
    fn an_ipv6_host_is_64_bits() {
        let host = |text: &str| host(text.parse().unwrap());
        assert_eq!(host("2001:db8::1"), host("2001:db8::ffff:1"));
        assert_ne!(host("2001:db8::1"), host("2001:db8:0:1::1"));
        assert_eq!(host("::ffff:192.0.2.1"), host("192.0.2.1"));
    }
}
