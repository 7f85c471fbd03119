//! The swarm's task: takes commands, drives the swarm, passes on what happens.
//!
//! It never blocks: disk and long hashing are elsewhere. It ends when told to, or when the last handle is gone,
//! and takes every connection with it.

mod dials;

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use cid::Cid;
use futures::StreamExt;
use libp2p::core::transport::ListenerId;
use libp2p::core::{ConnectedPoint, Endpoint};
use libp2p::kad::store::RecordStore;
use libp2p::kad::{self, GetProvidersOk, QueryId, QueryResult};
use libp2p::multiaddr::Protocol;
use libp2p::swarm::{ConnectionId, NetworkBehaviour, Swarm, SwarmEvent};
use libp2p::{Multiaddr, PeerId, StreamProtocol, identify};
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::time::{Interval, MissedTickBehavior, interval};

use self::dials::Dial;
use super::behaviour::{Behaviour, BehaviourEvent};
use super::records::{Records, key};
use super::{Command, Event, ProvideError, StartError, Status, transport};
use crate::bitswap::{self, Broken};
use crate::config::{Config, Limits, peer_of};
use crate::lookup::{Lookup, Lookups, Provider};
use crate::request::Inbound;
use crate::store::Store;

/// How often a peer without connections dials its bootstrap peers again.
const LONELY: Duration = Duration::from_secs(15);
/// How long after news of a DHT server the own records are announced again: several come at once.
const SETTLE: Duration = Duration::from_millis(300);
/// Up to so many servers each one newly met is one of the closest (k = 20), so it should hold our records.
const SMALL_NETWORK: usize = 20;
/// Addresses taken of one peer's identification.
const MAX_ADDRESSES: usize = 8;

/// What a start yields: the way in, and where the task's listening addresses are kept.
pub(crate) struct Started {
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) addresses: Arc<RwLock<Vec<Multiaddr>>>,
}

struct Actor {
    swarm: Swarm<Behaviour>,
    commands: mpsc::Receiver<Command>,
    events: broadcast::Sender<Event>,
    kad_protocol: StreamProtocol,
    bootstrap: Vec<(PeerId, Multiaddr)>,
    /// DHT servers of earlier runs, tried where those do not answer.
    remembered: Vec<(PeerId, Multiaddr)>,
    /// Where connected peers were reached by our own dials.
    reached: HashMap<PeerId, Multiaddr>,
    store: Store,
    limits: Limits,
    announce_listeners: bool,
    /// Nothing but loopback is listened on, so that is what others have to know.
    all_loopback: bool,
    addresses: Arc<RwLock<Vec<Multiaddr>>>,
    dials: HashMap<ConnectionId, Dial>,
    /// Dials to a peer that is being dialled for somebody else.
    awaited: HashMap<PeerId, Vec<Dial>>,
    provides: HashMap<QueryId, (Cid, oneshot::Sender<Result<(), ProvideError>>)>,
    provided: HashSet<Cid>,
    lookups: Lookups,
    records: Records,
    lonely: Interval,
    settled: Option<tokio::time::Instant>,
}

/// Binds the listeners and spawns the task. `known` is the content of earlier runs.
pub(crate) async fn start(
    config: &Config,
    known: Vec<Cid>,
    source: bitswap::Source,
    inbound: mpsc::Sender<Inbound>,
    events: broadcast::Sender<Event>,
) -> Result<Started, StartError> {
    let store = source.store.clone();
    let remembered = store.remembered().await?;
    let behaviour = Behaviour::new(config, source, inbound)?;
    let swarm = transport::swarm(config, behaviour).map_err(StartError::Transport)?;
    let (sender, commands) = mpsc::channel(super::COMMANDS);
    let mut actor = Actor::new(config, store, swarm, commands, events)?;
    actor.remembered = remembered.into_iter().filter_map(|addr| Some((peer_of(&addr)?, addr))).collect();
    known.iter().for_each(|cid| actor.records.know(cid));
    actor.listen(&config.listen).await?;
    for addr in &config.external {
        actor.swarm.add_external_address(addr.clone());
    }
    actor.bootstrap_if_lonely();
    let addresses = actor.addresses.clone();
    tokio::spawn(actor.run());
    Ok(Started { commands: sender, addresses })
}

impl Actor {
    fn new(
        config: &Config,
        store: Store,
        swarm: Swarm<Behaviour>,
        commands: mpsc::Receiver<Command>,
        events: broadcast::Sender<Event>,
    ) -> Result<Self, StartError> {
        let mut lonely = interval(LONELY);
        lonely.set_missed_tick_behavior(MissedTickBehavior::Delay);
        lonely.reset();
        Ok(Self {
            swarm,
            commands,
            events,
            kad_protocol: config.network.kad_protocol()?,
            bootstrap: config.bootstrap_peers()?,
            remembered: Vec::new(),
            reached: HashMap::new(),
            store,
            limits: config.limits.clone(),
            announce_listeners: config.external.is_empty(),
            all_loopback: config.listen.iter().all(is_loopback),
            addresses: Arc::default(),
            dials: HashMap::new(),
            awaited: HashMap::new(),
            provides: HashMap::new(),
            provided: HashSet::new(),
            lookups: Lookups::default(),
            records: Records::new(config.records, config.limits.provided_keys),
            lonely,
            settled: None,
        })
    }

    /// Waits until each listener has an address, so that a start that returned can be dialled.
    async fn listen(&mut self, wanted: &[Multiaddr]) -> Result<(), StartError> {
        let mut pending: HashMap<ListenerId, Multiaddr> = HashMap::new();
        for addr in wanted {
            let failed = |error: libp2p::TransportError<io::Error>| StartError::Listen {
                addr: addr.clone(),
                why: error.to_string(),
            };
            pending.insert(self.swarm.listen_on(addr.clone()).map_err(failed)?, addr.clone());
        }
        while !pending.is_empty() {
            let event = self.swarm.select_next_some().await;
            if let SwarmEvent::NewListenAddr { listener_id, .. } = &event {
                pending.remove(listener_id);
            }
            if let SwarmEvent::ListenerClosed { listener_id, reason, .. } = &event
                && let Some(addr) = pending.remove(listener_id)
            {
                let why = reason.as_ref().err().map_or_else(|| "closed".to_owned(), ToString::to_string);
                return Err(StartError::Listen { addr, why });
            }
            self.on_swarm(event);
        }
        Ok(())
    }

    async fn run(mut self) {
        loop {
            let settled = self.settled;
            tokio::select! {
                event = self.swarm.select_next_some() => self.on_swarm(event),
                command = self.commands.recv() => match command {
                    Some(Command::Stop { done }) => {
                        // Listeners and connections close with the swarm, before the caller goes on.
                        drop(self);
                        done.send(()).ok();
                        return;
                    }
                    Some(command) => self.on_command(command),
                    None => return,
                },
                lookup = self.lookups.due() => self.look_up(lookup),
                _ = self.lonely.tick() => self.bootstrap_if_lonely(),
                () = sleep_until(settled), if settled.is_some() => self.announce_again(),
            }
        }
    }

    fn on_command(&mut self, command: Command) {
        match command {
            Command::Dial { addr, done } => self.dial(addr, done),
            Command::Name { peer, addr } => self.swarm.behaviour_mut().addresses.name(peer, addr),
            Command::Provide { cid, done } => self.provide(cid, done),
            Command::Unprovide { cid } => {
                self.provided.remove(&cid);
                self.swarm.behaviour_mut().kad.stop_providing(&key(&cid));
            }
            Command::Providers { cid, providers } => {
                self.records.know(&cid);
                let Limits { lookup_retries, lookup_backoff, .. } = self.limits;
                self.look_up(Lookup::new(cid, providers, lookup_retries, lookup_backoff));
            }
            Command::Expect { cid } => self.records.know(&cid),
            Command::Request { peer, protocol, body, answer } => {
                self.swarm.behaviour_mut().request.ask(peer, &protocol, body, answer);
            }
            Command::Want(want) => self.swarm.behaviour_mut().bitswap.ask(want),
            Command::Status { done } => {
                done.send(self.status()).ok();
            }
            Command::Stop { .. } => unreachable!("taken by `run`"),
        }
    }

    fn provide(&mut self, cid: Cid, done: oneshot::Sender<Result<(), ProvideError>>) {
        self.records.know(&cid);
        match self.swarm.behaviour_mut().kad.start_providing(key(&cid)) {
            Ok(query) => {
                self.provided.insert(cid);
                self.provides.insert(query, (cid, done));
            }
            Err(_) => drop(done.send(Err(ProvideError::Full))),
        }
    }

    fn look_up(&mut self, lookup: Lookup) {
        self.bootstrap_if_lonely();
        let query = self.swarm.behaviour_mut().kad.get_providers(key(&lookup.cid));
        self.lookups.started(query, lookup);
    }

    fn status(&mut self) -> Status {
        let routing = self.swarm.behaviour_mut().kad.kbuckets().map(|bucket| bucket.num_entries()).sum();
        let connected = self.swarm.connected_peers().copied().collect();
        Status { connected, routing, provided: self.provided.len(), ..Status::default() }
    }

    fn bootstrap_if_lonely(&mut self) {
        if self.swarm.connected_peers().next().is_none() {
            self.bootstrap();
            for (peer, addr) in self.remembered.clone() {
                self.swarm.behaviour_mut().kad.add_address(&peer, addr.clone());
                self.swarm.behaviour_mut().addresses.learn(peer, addr);
                self.swarm.dial(peer).ok();
            }
        }
    }

    fn bootstrap(&mut self) {
        for (peer, addr) in self.bootstrap.clone() {
            // The DHT drops addresses that failed once; these are to be tried for ever.
            self.swarm.behaviour_mut().kad.add_address(&peer, addr);
            self.swarm.dial(peer).ok();
        }
    }

    /// Announces the own records to servers that have come since they were announced.
    fn announce_again(&mut self) {
        self.settled = None;
        for cid in &self.provided {
            self.swarm.behaviour_mut().kad.start_providing(key(cid)).ok();
        }
    }

    fn on_swarm(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(event) => self.on_behaviour(event),
            SwarmEvent::NewListenAddr { address, .. } => self.on_address(address),
            SwarmEvent::ExpiredListenAddr { address, .. } => self.on_address_gone(&address),
            SwarmEvent::ConnectionEstablished {
                peer_id, connection_id, num_established, endpoint, ..
            } => {
                if let ConnectedPoint::Dialer { address, .. } = endpoint {
                    self.reached.insert(peer_id, address);
                }
                self.on_connected(peer_id, connection_id);
                if num_established.get() == 1 {
                    self.tell(Event::Connected(peer_id));
                }
            }
            SwarmEvent::ConnectionClosed { peer_id, num_established: 0, .. } => {
                self.reached.remove(&peer_id);
                self.tell(Event::Disconnected(peer_id));
            }
            SwarmEvent::OutgoingConnectionError { peer_id, connection_id, error } => {
                self.on_dial_failed(peer_id, connection_id, &error);
            }
            SwarmEvent::IncomingConnectionError { error, send_back_addr, .. } => {
                tracing::debug!(%send_back_addr, %error, "inbound connection refused or broken");
            }
            _ => {}
        }
    }

    fn on_address(&mut self, addr: Multiaddr) {
        if self.announce_listeners && (self.all_loopback || !is_loopback(&addr)) {
            // ADD_PROVIDER carries external addresses only; without them a record leads nowhere.
            self.swarm.add_external_address(addr.clone());
        }
        let peer = *self.swarm.local_peer_id();
        self.addresses.write().expect("never poisoned").push(addr.with(Protocol::P2p(peer)));
    }

    fn on_address_gone(&mut self, addr: &Multiaddr) {
        self.swarm.remove_external_address(addr);
        let gone = addr.clone().with(Protocol::P2p(*self.swarm.local_peer_id()));
        self.addresses.write().expect("never poisoned").retain(|known| *known != gone);
    }

    fn on_behaviour(&mut self, event: BehaviourEvent) {
        match event {
            BehaviourEvent::Kad(event) => self.on_kad(event),
            BehaviourEvent::Identify(identify::Event::Received { peer_id, info, .. }) => {
                self.on_identified(peer_id, info);
            }
            BehaviourEvent::Bitswap(Broken { peer, rule }) => {
                tracing::debug!(%peer, rule, "bitswap rule broken");
                self.tell(Event::Violation { peer, rule });
            }
            _ => {}
        }
    }

    /// A peer that answers DHT queries belongs into the routing table, also where it was it that dialled.
    fn on_identified(&mut self, peer: PeerId, info: identify::Info) {
        if info.protocols.contains(&self.kad_protocol) {
            self.remember(peer);
            for addr in info.listen_addrs.into_iter().take(MAX_ADDRESSES) {
                self.swarm.behaviour_mut().kad.add_address(&peer, addr);
            }
        }
    }

    /// Keeps where a DHT server was reached for the next start.
    fn remember(&self, peer: PeerId) {
        let Some(addr) = self.reached.get(&peer).cloned() else { return };
        let Ok(addr) = addr.with_p2p(peer) else { return };
        let store = self.store.clone();
        tokio::spawn(async move {
            if let Err(error) = store.remember(&addr).await {
                tracing::warn!(%error, "a peer's address is not kept");
            }
        });
    }

    fn on_kad(&mut self, event: kad::Event) {
        match event {
            kad::Event::OutboundQueryProgressed { id, result, step, .. } => {
                self.on_query(id, result, step.last)
            }
            kad::Event::InboundRequest {
                request: kad::InboundRequest::AddProvider { record: Some(record) },
            } => {
                self.on_record(record);
            }
            kad::Event::RoutingUpdated { is_new_peer: true, .. } => self.on_new_server(),
            _ => {}
        }
    }

    fn on_query(&mut self, id: QueryId, result: QueryResult, last: bool) {
        match result {
            QueryResult::GetProviders(result) => {
                if let Ok(GetProvidersOk::FoundProviders { providers, .. }) = result {
                    self.on_providers(id, providers);
                }
                if last {
                    self.lookups.finished(id);
                }
            }
            QueryResult::StartProviding(result) => {
                if let Some((cid, done)) = self.provides.remove(&id) {
                    done.send(result.map(drop).map_err(|_| ProvideError::Timeout(cid))).ok();
                }
            }
            _ => {}
        }
    }

    fn on_providers(&mut self, query: QueryId, providers: HashSet<PeerId>) {
        let local = *self.swarm.local_peer_id();
        for peer in providers {
            if peer == local || !self.lookups.wants(query, &peer) {
                continue;
            }
            let addresses = self.addresses_in_queries(peer);
            for addr in &addresses {
                self.swarm.behaviour_mut().addresses.learn(peer, addr.clone());
            }
            if !self.lookups.found(query, Provider { peer, addresses })
                && let Some(mut query) = self.swarm.behaviour_mut().kad.query_mut(&query)
            {
                query.finish();
            }
        }
    }

    /// The DHT gives out a provider's addresses only to the dials of a query under way, so they are asked for
    /// as such a dial would, and kept.
    fn addresses_in_queries(&mut self, peer: PeerId) -> Vec<Multiaddr> {
        let kad = &mut self.swarm.behaviour_mut().kad;
        let no_connection = ConnectionId::new_unchecked(usize::MAX);
        let addresses =
            kad.handle_pending_outbound_connection(no_connection, Some(peer), &[], Endpoint::Dialer);
        addresses.unwrap_or_default()
    }

    fn on_record(&mut self, record: kad::ProviderRecord) {
        let store = self.swarm.behaviour_mut().kad.store_mut();
        let peer = record.provider;
        let kept =
            self.records.admit(&record.key, store, Instant::now()) && store.add_provider(record).is_ok();
        self.tell(if kept { Event::RecordKept(peer) } else { Event::RecordRefused });
    }

    fn on_new_server(&mut self) {
        if !self.provided.is_empty() && self.status().routing <= SMALL_NETWORK {
            self.settled.get_or_insert_with(|| tokio::time::Instant::now() + SETTLE);
        }
    }

    /// Nobody may listen, which is not an error.
    fn tell(&self, event: Event) {
        self.events.send(event).ok();
    }
}

/// Listening on every interface includes loopback, which is no use to others, and their own at that.
fn is_loopback(addr: &Multiaddr) -> bool {
    addr.iter().any(|part| match part {
        Protocol::Ip4(ip) => ip.is_loopback(),
        Protocol::Ip6(ip) => ip.is_loopback(),
        _ => false,
    })
}

async fn sleep_until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_told_from_the_rest() {
        for (addr, expected) in
            [("/ip4/127.0.0.1/tcp/1", true), ("/ip6/::1/tcp/1", true), ("/ip4/10.0.0.1/tcp/1", false)]
        {
            assert_eq!(is_loopback(&addr.parse().unwrap()), expected, "{addr}");
        }
    }
}
