//! One connection's bitswap streams.
//!
//! Ours: opened when there is something to say, used for all that follows at once, closed when nothing does
//! (Helia aborts a stream that is silent for seconds). Theirs: any number of messages each. Reading is bounded
//! thrice: by streams, by one long message at a time, and by what may be long at all; a peer that we ask nothing
//! of has no reason to send blocks.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{AsyncWriteExt, FutureExt, StreamExt};
use libp2p::core::upgrade::ReadyUpgrade;
use libp2p::swarm::handler::{
    ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound,
};
use libp2p::swarm::{ConnectionHandler, ConnectionHandlerEvent, StreamUpgradeError, SubstreamProtocol};
use libp2p::{Stream, StreamProtocol};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::PROTOCOL;
use super::message::{MAX_MESSAGE, MessageError, Received};
use crate::frame::{self, FrameError};

/// Streams of one peer that are read from at the same time; further ones are reset.
const MAX_INBOUND: usize = 32;
/// Streams of ours that still wait for the other side to take note of their end.
const MAX_CLOSING: usize = 8;
/// Messages of ours that wait. The behaviour keeps itself to far fewer.
const MAX_QUEUE: usize = 256;
/// A message up to this length is read beside others; longer ones one by one.
const SHORT: usize = 64 * 1024;
/// Longest message of a peer that we ask nothing of: a full wantlist and room.
const MAX_UNASKED: usize = 256 * 1024;
/// Hashing this much takes less time than handing it to another thread.
const HASH_HERE: usize = 16 * 1024;

type Upgrade = ReadyUpgrade<StreamProtocol>;

/// What a connection has to tell.
#[derive(Debug)]
pub(crate) enum Told {
    /// A message has come.
    Received(Received),
    /// A message of this many bytes has left.
    Sent(usize),
    /// Messages of this many bytes were lost, or the peer does not speak the protocol: what was asked will not be answered.
    Failed(usize),
    /// The peer broke a rule; its stream has been reset.
    Broke(String),
}

/// Why a stream of theirs was given up.
enum Bad {
    /// The end, or a broken connection: nobody's fault.
    Ended,
    Rule(String),
}

/// The stream that we send on.
enum Outbound {
    None,
    Opening,
    Writing(BoxFuture<'static, (usize, io::Result<Stream>)>),
}

/// The state of one connection.
pub(crate) struct Handler {
    /// Wants of ours that this peer has not answered.
    wanted: Arc<AtomicUsize>,
    /// How long one message may take, from its first byte to its last, in either direction.
    deadline: Duration,
    queue: VecDeque<Vec<u8>>,
    outbound: Outbound,
    closing: FuturesUnordered<BoxFuture<'static, ()>>,
    inbound: FuturesUnordered<BoxFuture<'static, Result<(Stream, Received), Bad>>>,
    long: Arc<Semaphore>,
    told: VecDeque<Told>,
}

impl Handler {
    pub(super) fn new(wanted: Arc<AtomicUsize>, deadline: Duration) -> Self {
        Self {
            wanted,
            deadline,
            queue: VecDeque::new(),
            outbound: Outbound::None,
            closing: FuturesUnordered::new(),
            inbound: FuturesUnordered::new(),
            long: Arc::new(Semaphore::new(1)),
            told: VecDeque::new(),
        }
    }

    fn read_from(&mut self, stream: Stream) {
        let read = read(stream, self.wanted.clone(), self.long.clone(), self.deadline);
        self.inbound.push(read.boxed());
    }

    fn write_to(&mut self, stream: Stream) {
        match self.queue.pop_front() {
            Some(message) => {
                let len = message.len();
                self.outbound = Outbound::Writing(
                    write(stream, message, self.deadline).map(move |done| (len, done)).boxed(),
                );
            }
            None => {
                self.outbound = Outbound::None;
                self.close(stream);
            }
        }
    }

    fn close(&mut self, mut stream: Stream) {
        if self.closing.len() < MAX_CLOSING {
            let deadline = self.deadline;
            let close = async move { drop(timeout(deadline, stream.close()).await) };
            self.closing.push(close.boxed());
        }
    }

    /// Everything queued is lost; who waits for answers is to know.
    fn fail(&mut self, sending: usize) {
        self.outbound = Outbound::None;
        let lost: usize = self.queue.drain(..).map(|message| message.len()).sum();
        self.told.push_back(Told::Failed(lost + sending));
    }

    fn poll_outbound(&mut self, cx: &mut Context<'_>) -> Poll<Option<SubstreamProtocol<Upgrade, ()>>> {
        match &mut self.outbound {
            Outbound::None if !self.queue.is_empty() => {
                self.outbound = Outbound::Opening;
                let protocol = SubstreamProtocol::new(ReadyUpgrade::new(PROTOCOL), ());
                Poll::Ready(Some(protocol.with_timeout(self.deadline)))
            }
            Outbound::None | Outbound::Opening => Poll::Pending,
            Outbound::Writing(write) => match write.poll_unpin(cx) {
                Poll::Ready((len, Ok(stream))) => {
                    self.told.push_back(Told::Sent(len));
                    self.write_to(stream);
                    Poll::Ready(None)
                }
                Poll::Ready((len, Err(_))) => {
                    self.fail(len);
                    Poll::Ready(None)
                }
                Poll::Pending => Poll::Pending,
            },
        }
    }

    fn poll_inbound(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self.inbound.poll_next_unpin(cx) {
            Poll::Ready(Some(Ok((stream, received)))) => {
                self.told.push_back(Told::Received(received));
                self.read_from(stream);
                Poll::Ready(())
            }
            Poll::Ready(Some(Err(bad))) => {
                if let Bad::Rule(rule) = bad {
                    self.told.push_back(Told::Broke(rule));
                }
                Poll::Ready(())
            }
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }
}

/// Reads the next message of a stream.
async fn read(
    mut stream: Stream,
    wanted: Arc<AtomicUsize>,
    long: Arc<Semaphore>,
    deadline: Duration,
) -> Result<(Stream, Received), Bad> {
    // Waiting for a first byte is no reason to keep a connection; what is under way keeps it by itself.
    stream.ignore_for_keep_alive();
    let len = frame::read_len(&mut stream).await?.ok_or(Bad::Ended)?;
    let max = if wanted.load(Ordering::Relaxed) > 0 { MAX_MESSAGE } else { MAX_UNASKED };
    if len > max {
        return Err(FrameError::TooLong { len, max }.into());
    }
    let _turn = match len > SHORT {
        true => Some(long.acquire().await.map_err(|_| Bad::Ended)?),
        false => None,
    };
    let body = timeout(deadline, frame::read_body(&mut stream, len)).await;
    let body = Bytes::from(body.map_err(|_| Bad::Rule("a message took too long".to_owned()))??);
    let received = decode(body).await?;
    Ok((stream, received))
}

async fn decode(body: Bytes) -> Result<Received, Bad> {
    let received = match body.len() <= HASH_HERE {
        true => Received::decode(body),
        false => tokio::task::spawn_blocking(|| Received::decode(body)).await.map_err(|_| Bad::Ended)?,
    };
    Ok(received?)
}

async fn write(mut stream: Stream, message: Vec<u8>, deadline: Duration) -> io::Result<Stream> {
    timeout(deadline, frame::write(&mut stream, &message)).await??;
    Ok(stream)
}

impl From<FrameError> for Bad {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::Io(_) => Self::Ended,
            FrameError::TooLong { .. } | FrameError::BadLength => Self::Rule(error.to_string()),
        }
    }
}

impl From<MessageError> for Bad {
    fn from(error: MessageError) -> Self {
        Self::Rule(error.to_string())
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Vec<u8>;
    type ToBehaviour = Told;
    type InboundProtocol = Upgrade;
    type OutboundProtocol = Upgrade;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<Upgrade> {
        SubstreamProtocol::new(ReadyUpgrade::new(PROTOCOL), ())
    }

    fn connection_keep_alive(&self) -> bool {
        self.wanted.load(Ordering::Relaxed) > 0 || !self.queue.is_empty()
    }

    fn on_behaviour_event(&mut self, message: Vec<u8>) {
        if self.queue.len() < MAX_QUEUE {
            self.queue.push_back(message);
        } else {
            self.told.push_back(Told::Failed(message.len()));
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ConnectionHandlerEvent<Upgrade, (), Told>> {
        loop {
            if let Some(told) = self.told.pop_front() {
                return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(told));
            }
            match self.poll_outbound(cx) {
                Poll::Ready(Some(protocol)) => {
                    return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
                }
                Poll::Ready(None) => continue,
                Poll::Pending => {}
            }
            if self.poll_inbound(cx).is_ready() {
                continue;
            }
            match self.closing.poll_next_unpin(cx) {
                Poll::Ready(Some(())) => {}
                Poll::Ready(None) | Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<'_, Upgrade, Upgrade>) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol, .. }) => {
                if self.inbound.len() < MAX_INBOUND {
                    self.read_from(protocol);
                } else {
                    self.told.push_back(Told::Broke("too many streams".to_owned()));
                }
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol, .. }) => {
                self.write_to(protocol);
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { error, .. }) => {
                let _: StreamUpgradeError<Infallible> = error;
                self.fail(0);
            }
            _ => {}
        }
    }
}
