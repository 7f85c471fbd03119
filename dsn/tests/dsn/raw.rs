//! A peer that sends whatever bytes it is told to over bitswap's protocol, and shows what it is sent.

use std::io;

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, StreamExt};
use libp2p::request_response::{self, Codec, Event, Message, ProtocolSupport};
use libp2p::swarm::SwarmEvent;
use libp2p::{Multiaddr, PeerId, StreamProtocol, Swarm, SwarmBuilder, noise, tcp, yamux};
use prost::Message as _;
use tokio::sync::mpsc;

use crate::support::{Node, within};

const BITSWAP: StreamProtocol = StreamProtocol::new("/ipfs/bitswap/1.2.0");

/// Bitswap 1.2.0's message, written down a second time, from the specification.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Bitswap {
    #[prost(message, optional, tag = "1")]
    pub(crate) wantlist: Option<Wantlist>,
    #[prost(message, repeated, tag = "3")]
    pub(crate) payload: Vec<Block>,
    #[prost(message, repeated, tag = "4")]
    pub(crate) presences: Vec<Presence>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Wantlist {
    #[prost(message, repeated, tag = "1")]
    pub(crate) entries: Vec<Entry>,
    #[prost(bool, tag = "2")]
    pub(crate) full: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Entry {
    #[prost(bytes, tag = "1")]
    pub(crate) cid: Vec<u8>,
    #[prost(int32, tag = "2")]
    pub(crate) priority: i32,
    #[prost(bool, tag = "3")]
    pub(crate) cancel: bool,
    #[prost(int32, tag = "4")]
    pub(crate) want_have: i32,
    #[prost(bool, tag = "5")]
    pub(crate) send_dont_have: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Block {
    #[prost(bytes, tag = "1")]
    pub(crate) prefix: Vec<u8>,
    #[prost(bytes, tag = "2")]
    pub(crate) data: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Presence {
    #[prost(bytes, tag = "1")]
    pub(crate) cid: Vec<u8>,
    #[prost(int32, tag = "2")]
    pub(crate) dont_have: i32,
}

/// What the peer is told to do, in order.
enum Order {
    Know(PeerId, Multiaddr),
    Say(PeerId, Say),
}

/// Bytes for one stream.
#[derive(Debug, Clone)]
struct Say {
    bytes: Vec<u8>,
    /// The stream is left open, silent.
    hang: bool,
}

pub(crate) struct Raw {
    pub(crate) peer: PeerId,
    addr: Multiaddr,
    heard: mpsc::UnboundedReceiver<(PeerId, Bitswap)>,
    orders: mpsc::UnboundedSender<Order>,
}

impl Raw {
    pub(crate) async fn start() -> Self {
        let mut swarm = swarm();
        swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse().unwrap()).unwrap();
        let addr = within(async {
            loop {
                if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
                    return address;
                }
            }
        })
        .await;
        let peer = *swarm.local_peer_id();
        let (hear, heard) = mpsc::unbounded_channel();
        let (orders, queue) = mpsc::unbounded_channel();
        tokio::spawn(run(swarm, hear, queue));
        Self { peer, addr, heard, orders }
    }

    /// `node` knows where this peer is, and the other way round.
    pub(crate) async fn meet(&self, node: &Node) {
        node.dsn.add_address(self.peer, self.addr.clone()).await.unwrap();
        for addr in node.dsn.addresses() {
            self.order(Order::Know(node.dsn.peer_id(), addr));
        }
    }

    /// What is sent to this peer next, of what says anything.
    pub(crate) async fn hears(&mut self) -> (PeerId, Bitswap) {
        within(self.heard.recv()).await.unwrap()
    }

    /// The wants that this peer is sent next.
    pub(crate) async fn hears_wants(&mut self) -> (PeerId, Vec<Entry>) {
        loop {
            let (peer, message) = self.hears().await;
            let entries = message.wantlist.unwrap_or_default().entries;
            let wants: Vec<_> = entries.into_iter().filter(|entry| !entry.cancel).collect();
            if !wants.is_empty() {
                return (peer, wants);
            }
        }
    }

    pub(crate) fn says(&self, peer: PeerId, message: &Bitswap) {
        self.says_bytes(peer, message.encode_length_delimited_to_vec());
    }

    /// Any bytes, on a stream of their own.
    pub(crate) fn says_bytes(&self, peer: PeerId, bytes: Vec<u8>) {
        self.order(Order::Say(peer, Say { bytes, hang: false }));
    }

    /// Some bytes, and then nothing, not even an end.
    pub(crate) fn hangs_after(&self, peer: PeerId, bytes: Vec<u8>) {
        self.order(Order::Say(peer, Say { bytes, hang: true }));
    }

    /// Says that it has whatever it is asked about.
    pub(crate) fn has(&self, peer: PeerId, wants: &[Entry]) {
        self.presences(peer, wants, 0);
    }

    pub(crate) fn has_not(&self, peer: PeerId, wants: &[Entry]) {
        self.presences(peer, wants, 1);
    }

    fn order(&self, order: Order) {
        assert!(self.orders.send(order).is_ok(), "the peer's task runs");
    }

    fn presences(&self, peer: PeerId, wants: &[Entry], dont_have: i32) {
        let presences = wants.iter().map(|want| Presence { cid: want.cid.clone(), dont_have }).collect();
        self.says(peer, &Bitswap { presences, ..Bitswap::default() });
    }
}

fn swarm() -> Swarm<request_response::Behaviour<RawCodec>> {
    SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
        .unwrap()
        .with_behaviour(|_| {
            let config = request_response::Config::default().with_max_concurrent_streams(1000);
            request_response::Behaviour::new([(BITSWAP, ProtocolSupport::Full)], config)
        })
        .unwrap()
        .with_swarm_config(|config| config.with_idle_connection_timeout(std::time::Duration::from_secs(600)))
        .build()
}

async fn run(
    mut swarm: Swarm<request_response::Behaviour<RawCodec>>,
    hear: mpsc::UnboundedSender<(PeerId, Bitswap)>,
    mut orders: mpsc::UnboundedReceiver<Order>,
) {
    loop {
        tokio::select! {
            event = swarm.select_next_some() => {
                if let SwarmEvent::Behaviour(Event::Message { peer, message: Message::Request { request, .. }, .. }) = event {
                    let mut bytes = &request.bytes[..];
                    while let Ok(message) = Bitswap::decode_length_delimited(&mut bytes) {
                        hear.send((peer, message)).ok();
                    }
                }
            }
            order = orders.recv() => match order {
                Some(Order::Know(peer, addr)) => swarm.add_peer_address(peer, addr),
                Some(Order::Say(peer, say)) => drop(swarm.behaviour_mut().send_request(&peer, say)),
                None => return,
            },
        }
    }
}

#[derive(Debug, Clone, Default)]
struct RawCodec;

impl Codec for RawCodec {
    type Protocol = StreamProtocol;
    type Request = Say;
    type Response = ();

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Say>
    where
        T: AsyncRead + Unpin + Send,
    {
        let mut bytes = Vec::new();
        io.read_to_end(&mut bytes).await?;
        Ok(Say { bytes, hang: false })
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, _: &mut T) -> io::Result<()>
    where
        T: AsyncRead + Unpin + Send,
    {
        Ok(())
    }

    async fn write_request<T>(&mut self, _: &StreamProtocol, io: &mut T, say: Say) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        io.write_all(&say.bytes).await?;
        io.flush().await?;
        if say.hang {
            futures::future::pending::<()>().await;
        }
        Ok(())
    }

    async fn write_response<T>(&mut self, _: &StreamProtocol, _: &mut T, (): ()) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        Ok(())
    }
}
