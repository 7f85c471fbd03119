//! A CoAP peer that sends whatever it likes, and counts what it is sent.

use std::net::SocketAddr;

use coap_lite::{CoapOption, MessageClass, MessageType, Packet, RequestType, ResponseType};
use posthouse_actors::coap::BlockOption;
use tokio::net::UdpSocket;
use tokio::time::timeout;

use crate::fleet::PATIENCE;

/// Number of the Echo option (RFC 9175).
pub(super) const ECHO: CoapOption = CoapOption::Unknown(252);

pub(super) struct Asker {
    socket: UdpSocket,
    next: u16,
    /// Bytes to the gateway, and from it.
    pub(super) sent: usize,
    pub(super) received: usize,
    /// Whether it answers pings.
    pub(super) answers_pings: bool,
}

impl Asker {
    /// Sends from this address, with any port.
    pub(super) async fn new(own: std::net::IpAddr, gateway: SocketAddr) -> Self {
        let socket = UdpSocket::bind((own, 0)).await.unwrap();
        socket.connect(gateway).await.unwrap();
        Self { socket, next: 0, sent: 0, received: 0, answers_pings: false }
    }

    /// A confirmable request with the next id, which is its token as well.
    pub(super) fn request(&mut self, method: RequestType, path: &str) -> Packet {
        self.next += 1;
        let mut packet = Packet::new();
        packet.header.set_version(1);
        packet.header.set_type(MessageType::Confirmable);
        packet.header.code = MessageClass::Request(method);
        packet.header.message_id = self.next;
        packet.set_token(self.next.to_be_bytes().to_vec());
        let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
        path.split('/').for_each(|part| packet.add_option(CoapOption::UriPath, part.as_bytes().to_vec()));
        query.iter().for_each(|query| packet.add_option(CoapOption::UriQuery, query.as_bytes().to_vec()));
        packet
    }

    pub(super) async fn send(&mut self, datagram: &[u8]) {
        self.socket.send(datagram).await.unwrap();
        self.sent += datagram.len();
    }

    async fn hear(&mut self) -> Packet {
        let mut buffer = [0; 2048];
        let len = timeout(PATIENCE, self.socket.recv(&mut buffer)).await.expect("an answer").unwrap();
        self.received += len;
        let packet = Packet::from_bytes(&buffer[..len]).unwrap();
        let is_ping = packet.header.get_type() == MessageType::Confirmable && len == 4;
        if is_ping && self.answers_pings {
            let [high, low] = packet.header.message_id.to_be_bytes();
            self.send(&[0x70, 0, high, low]).await;
        }
        packet
    }

    /// Sends a confirmable message, and waits for its answer or its reset. An answer of its own is acknowledged.
    pub(super) async fn exchange(&mut self, datagram: &[u8]) -> Packet {
        let id = u16::from_be_bytes([datagram[2], datagram[3]]);
        self.send(datagram).await;
        loop {
            let heard = self.hear().await;
            let empty = heard.header.code == MessageClass::Empty;
            match heard.header.get_type() {
                MessageType::Reset if heard.header.message_id == id => return heard,
                MessageType::Acknowledgement if heard.header.message_id == id && !empty => return heard,
                MessageType::Confirmable if !empty => {
                    let [high, low] = heard.header.message_id.to_be_bytes();
                    self.send(&[0x60, 0, high, low]).await;
                    return heard;
                }
                _ => {}
            }
        }
    }

    pub(super) async fn ask(&mut self, packet: &Packet) -> Packet {
        self.exchange(&packet.to_bytes_unlimited().unwrap()).await
    }

    /// All that was sent before has been taken: the gateway takes one after the other.
    pub(super) async fn settled(&mut self) {
        self.next += 1;
        let [high, low] = self.next.to_be_bytes();
        self.exchange(&[0x40, 0, high, low]).await;
    }

    /// Asks for a block of up to `16 << szx` bytes.
    pub(super) async fn block(&mut self, path: &str, number: u32, szx: u8, echo: Option<Vec<u8>>) -> Packet {
        let mut packet = self.request(RequestType::Get, path);
        let value = (number << 4) | u32::from(szx);
        let bytes = value.to_be_bytes().into_iter().skip_while(|byte| *byte == 0);
        packet.add_option(CoapOption::Block2, bytes.collect());
        echo.into_iter().for_each(|echo| packet.add_option(ECHO, echo));
        self.ask(&packet).await
    }
}

/// The code of a response.
pub(super) fn code(packet: &Packet) -> ResponseType {
    match packet.header.code {
        MessageClass::Response(code) => code,
        other => panic!("no response: {other:?}"),
    }
}

/// Bytes of the blocks of a response.
pub(super) fn block_size(packet: &Packet) -> u16 {
    let value = packet.get_first_option(CoapOption::Block2).expect("a block");
    let szx = value.last().copied().unwrap_or(0) & 7;
    BlockOption { number: 0, more: false, szx }.size()
}
