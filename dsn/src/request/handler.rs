//! One connection's requests, each a stream of its own.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{AsyncWriteExt, FutureExt, StreamExt};
use libp2p::core::upgrade::{InboundUpgrade, ReadyUpgrade, UpgradeInfo};
use libp2p::swarm::handler::{
    ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound,
};
use libp2p::swarm::{ConnectionHandler, ConnectionHandlerEvent, StreamUpgradeError, SubstreamProtocol};
use libp2p::{PeerId, Stream, StreamProtocol};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::{MAX_BODY, RequestError};
use crate::frame::{self, FrameError};

/// Requests that one connection may have under way, in each direction. A stranger's 8 bodies of 64 KiB are all
/// the memory that its connection can take here.
const MAX_STREAMS: usize = 8;
/// Requests of ours that wait for one of those places.
const MAX_QUEUE: usize = 64;

/// A request of ours on its way to a connection.
#[derive(Debug)]
pub(crate) struct Ask {
    pub(super) protocol: StreamProtocol,
    pub(super) body: Vec<u8>,
    pub(super) answer: oneshot::Sender<Result<Vec<u8>, RequestError>>,
}

/// A request of theirs.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(super) protocol: StreamProtocol,
    pub(super) body: Vec<u8>,
    pub(super) reply: oneshot::Sender<Vec<u8>>,
}

/// What a stream came to.
enum Done {
    /// A request has been read; the stream waits for its answer.
    Read(Stream, StreamProtocol, Vec<u8>),
    /// Nothing more to do.
    Inbound,
    Outbound,
}

/// The state of one connection.
pub(crate) struct Handler {
    peer: PeerId,
    protocols: Vec<StreamProtocol>,
    deadline: Duration,
    queue: VecDeque<Ask>,
    /// Streams of theirs, and of ours including those being opened.
    inbound: usize,
    outbound: usize,
    streams: FuturesUnordered<BoxFuture<'static, Done>>,
    requests: VecDeque<Asked>,
}

impl Handler {
    pub(super) fn new(peer: PeerId, protocols: Vec<StreamProtocol>, deadline: Duration) -> Self {
        Self {
            peer,
            protocols,
            deadline,
            queue: VecDeque::new(),
            inbound: 0,
            outbound: 0,
            streams: FuturesUnordered::new(),
            requests: VecDeque::new(),
        }
    }

    fn on_inbound(&mut self, mut stream: Stream, protocol: StreamProtocol) {
        if self.inbound >= MAX_STREAMS {
            // Dropping it resets it.
            return;
        }
        self.inbound += 1;
        let read = timeout(self.deadline, async move {
            let body = frame::read(&mut stream, MAX_BODY).await;
            (stream, body)
        });
        let read = read.map(|read| match read {
            Ok((stream, Ok(Some(body)))) => Done::Read(stream, protocol, body),
            Ok((_, Ok(None) | Err(_))) | Err(_) => Done::Inbound,
        });
        self.streams.push(read.boxed());
    }

    fn on_read(&mut self, mut stream: Stream, protocol: StreamProtocol, body: Vec<u8>) {
        let (reply, answer) = oneshot::channel::<Vec<u8>>();
        self.requests.push_back(Asked { protocol, body, reply });
        let write = timeout(self.deadline, async move {
            if let Ok(body) = answer.await {
                frame::write(&mut stream, &body).await.ok();
                // Dropped without a close, the stream is reset and the answer may be lost.
                stream.close().await.ok();
            }
        });
        self.streams.push(write.map(|_| Done::Inbound).boxed());
    }

    fn on_outbound(&mut self, stream: Stream, ask: Ask) {
        let Ask { body, mut answer, .. } = ask;
        let (peer, deadline) = (self.peer, self.deadline);
        let talk = async move {
            let result = tokio::select! {
                result = timeout(deadline, talk(peer, stream, &body)) => result,
                // Nobody waits any more.
                () = answer.closed() => return Done::Outbound,
            };
            answer.send(result.unwrap_or(Err(RequestError::Timeout(peer)))).ok();
            Done::Outbound
        };
        self.streams.push(talk.boxed());
    }

    fn on_refused(&mut self, error: StreamUpgradeError<Infallible>, ask: Ask) {
        self.outbound -= 1;
        let peer = self.peer;
        let error = match error {
            StreamUpgradeError::Timeout => RequestError::Timeout(peer),
            StreamUpgradeError::NegotiationFailed => {
                RequestError::Unsupported { peer, protocol: ask.protocol.to_string() }
            }
            StreamUpgradeError::Io(_) => RequestError::NoAnswer(peer),
            StreamUpgradeError::Apply(never) => match never {},
        };
        ask.answer.send(Err(error)).ok();
    }
}

/// One request of ours: a frame out, a frame back.
async fn talk(peer: PeerId, mut stream: Stream, body: &[u8]) -> Result<Vec<u8>, RequestError> {
    let sent = async {
        frame::write(&mut stream, body).await?;
        stream.close().await
    };
    // The other side may refuse the body before it has read it all; then the answer says so, not the write.
    let sent = sent.await;
    match frame::read(&mut stream, MAX_BODY).await {
        Ok(Some(answer)) if sent.is_ok() => Ok(answer),
        Ok(_) => Err(RequestError::NoAnswer(peer)),
        Err(FrameError::Io(_)) => Err(RequestError::NoAnswer(peer)),
        Err(error) => Err(RequestError::BadAnswer { peer, why: error.to_string() }),
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Ask;
    type ToBehaviour = Asked;
    type InboundProtocol = AnyOf;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Ask;

    fn listen_protocol(&self) -> SubstreamProtocol<AnyOf> {
        SubstreamProtocol::new(AnyOf(self.protocols.clone()), ())
    }

    fn on_behaviour_event(&mut self, ask: Ask) {
        if self.queue.len() >= MAX_QUEUE {
            ask.answer.send(Err(RequestError::Busy(self.peer))).ok();
        } else {
            self.queue.push_back(ask);
        }
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<ReadyUpgrade<StreamProtocol>, Ask, Asked>> {
        loop {
            if let Some(asked) = self.requests.pop_front() {
                return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(asked));
            }
            if self.outbound < MAX_STREAMS
                && let Some(ask) = self.queue.pop_front()
            {
                self.outbound += 1;
                let upgrade = ReadyUpgrade::new(ask.protocol.clone());
                let protocol = SubstreamProtocol::new(upgrade, ask).with_timeout(self.deadline);
                return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
            }
            match self.streams.poll_next_unpin(cx) {
                Poll::Ready(Some(Done::Read(stream, protocol, body))) => self.on_read(stream, protocol, body),
                Poll::Ready(Some(Done::Inbound)) => self.inbound -= 1,
                Poll::Ready(Some(Done::Outbound)) => self.outbound -= 1,
                Poll::Ready(None) | Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<'_, AnyOf, ReadyUpgrade<StreamProtocol>, (), Ask>,
    ) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol, .. }) => {
                self.on_inbound(protocol.0, protocol.1);
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol, info }) => {
                self.on_outbound(protocol, info);
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info, error }) => {
                self.on_refused(error, info)
            }
            _ => {}
        }
    }
}

/// Accepts a stream of any of these protocols, and says which.
#[derive(Debug, Clone)]
pub(crate) struct AnyOf(Vec<StreamProtocol>);

impl UpgradeInfo for AnyOf {
    type Info = StreamProtocol;
    type InfoIter = std::vec::IntoIter<StreamProtocol>;

    fn protocol_info(&self) -> Self::InfoIter {
        self.0.clone().into_iter()
    }
}

impl InboundUpgrade<Stream> for AnyOf {
    type Output = (Stream, StreamProtocol);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_inbound(self, stream: Stream, protocol: StreamProtocol) -> Self::Future {
        ready(Ok((stream, protocol)))
    }
}
