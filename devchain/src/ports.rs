//! Ports for programs that are told theirs before they have it.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};

/// First of them, and how many: below those that Linux gives to whoever asks for any, 32,768 on (`ip_local_port_range`).
const FIRST: u32 = 10_000;
const COUNT: u32 = 20_000;
/// Of one process, before it comes to the next one's.
const SHARE: u32 = 16;

/// An address on loopback that nobody has, for TCP and UDP, and that nobody is given who asks the system for any port: a
/// program that is told it has it for itself. No address is given twice by one process, and processes begin at different ones.
///
/// # Errors
/// None is free.
pub fn free_port() -> io::Result<SocketAddr> {
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    let first = std::process::id().wrapping_mul(SHARE);
    let nth = |_| FIRST + first.wrapping_add(GIVEN.fetch_add(1, Ordering::Relaxed)) % COUNT;
    let address = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port as u16));
    let free = |at: &SocketAddr| TcpListener::bind(at).is_ok() && UdpSocket::bind(at).is_ok();
    (0..COUNT).map(nth).map(address).find(free).ok_or(io::ErrorKind::AddrInUse.into())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_port_is_given_once_and_not_while_somebody_has_it() {
        let first = free_port().unwrap().port();
        // Where the first of them is the last of all, the next is the first of all.
        let next = (u32::from(first) - FIRST + 1) % COUNT + FIRST;
        let taken = UdpSocket::bind((Ipv4Addr::LOCALHOST, next as u16)).unwrap();
        let ports: BTreeSet<u16> = (0..SHARE).map(|_| free_port().unwrap().port()).collect();
        assert_eq!(ports.len(), SHARE as usize);
        assert!(!ports.contains(&first) && !ports.contains(&taken.local_addr().unwrap().port()));
    }
}
