//! Datagrams to and from the gateway: UDP of smoltcp on the board's Ethernet.

use posthouse_device::coap::{MAX_REQUEST, MAX_RESPONSE};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet, SocketStorage};
use smoltcp::socket::udp::{PacketBuffer, PacketMetadata, Socket};
use smoltcp::time::Instant;
use smoltcp::wire::{IpAddress, IpCidr, IpEndpoint};

use crate::clock;
use crate::ethernet::Ethernet;

/// The board's address in QEMU's user network.
const ADDRESS: IpCidr = IpCidr::new(IpAddress::v4(10, 0, 2, 15), 24);
const PORT: u16 = 5683;
/// Datagrams that wait, either way.
const WAITING: usize = 2;

/// What the socket keeps its datagrams in.
pub struct Buffers<'a> {
    received: [u8; MAX_RESPONSE + 64],
    received_meta: [PacketMetadata; WAITING],
    sent: [u8; MAX_REQUEST + 64],
    sent_meta: [PacketMetadata; WAITING],
    sockets: [SocketStorage<'a>; 1],
}

impl Default for Buffers<'_> {
    /// Nothing waits. No constant, which would be as long in flash.
    fn default() -> Self {
        Self {
            received: [0; MAX_RESPONSE + 64],
            received_meta: [PacketMetadata::EMPTY; WAITING],
            sent: [0; MAX_REQUEST + 64],
            sent_meta: [PacketMetadata::EMPTY; WAITING],
            sockets: [SocketStorage::EMPTY; 1],
        }
    }
}

/// The network, with a socket to the gateway.
pub struct Network<'a> {
    ethernet: Ethernet,
    interface: Interface,
    sockets: SocketSet<'a>,
    socket: SocketHandle,
    gateway: IpEndpoint,
}

impl<'a> Network<'a> {
    /// Switches it on. `seed` is anything that differs from boot to boot.
    // Not an `Option`: on the stack there is one network.
    #[inline(never)]
    pub fn on(buffers: &'a mut Buffers<'a>, gateway: ([u8; 4], u16), seed: u32) -> Self {
        let mut ethernet = Ethernet::on();
        let mut config = Config::new(ethernet.address().into());
        config.random_seed = seed.into();
        let mut interface = Interface::new(config, &mut ethernet, instant());
        interface.update_ip_addrs(|addresses| {
            let _ = addresses.push(ADDRESS);
        });
        let mut socket = Socket::new(
            PacketBuffer::new(&mut buffers.received_meta[..], &mut buffers.received[..]),
            PacketBuffer::new(&mut buffers.sent_meta[..], &mut buffers.sent[..]),
        );
        // What comes of it `is_open` says.
        let _ = socket.bind(PORT);
        let mut sockets = SocketSet::new(&mut buffers.sockets[..]);
        let socket = sockets.add(socket);
        let ([a, b, c, d], port) = gateway;
        let gateway = IpEndpoint::new(IpAddress::v4(a, b, c, d), port);
        Self { ethernet, interface, sockets, socket, gateway }
    }

    /// Whether it has taken its socket.
    pub fn is_open(&self) -> bool {
        self.sockets.get::<Socket>(self.socket).is_open()
    }

    /// Moves frames between the controller and the socket.
    pub fn poll(&mut self) {
        self.interface.poll(instant(), &mut self.ethernet, &mut self.sockets);
    }

    /// The next datagram of the gateway's; those of others are dropped.
    pub fn receive(&mut self) -> Option<&[u8]> {
        let socket = self.sockets.get_mut::<Socket>(self.socket);
        while let Ok((_, from)) = socket.peek() {
            if from.endpoint == self.gateway {
                break;
            }
            let _ = socket.recv();
        }
        socket.recv().ok().map(|(datagram, _)| datagram)
    }

    /// To the gateway. A full buffer loses the datagram, as the network may.
    pub fn send(&mut self, datagram: &[u8]) {
        let _ = self.sockets.get_mut::<Socket>(self.socket).send_slice(datagram, self.gateway);
    }
}

fn instant() -> Instant {
    Instant::from_millis(clock::now() as i64)
}
