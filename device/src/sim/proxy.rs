//! Bad weather between CoAP sensors and their gateway: a relay that loses, delays, duplicates and reorders datagrams.
//!
//! What befalls a datagram is drawn from the seed, its client (the first, the second, …), its direction and its place
//! there, so that the same traffic meets the same weather in every run.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

/// Clients at once; beyond, the one that was silent longest makes room. A sensor is a new client at each wake.
const MAX_CLIENTS: usize = 512;
/// Datagrams under way at once; further ones are lost.
const MAX_UNDER_WAY: usize = 4096;
/// Answers of the gateway that wait for the relay; then its sockets' buffers fill.
const MAX_WAITING: usize = 1024;
/// Longer datagrams are cut, and nobody here sends such.
const MAX_DATAGRAM: usize = 2048;

/// What happens to datagrams on their way, in both directions.
#[derive(Debug, Clone)]
pub struct Weather {
    /// Seed of all decisions.
    pub seed: u64,
    /// Lost, percent.
    pub lost: u32,
    /// Of the others, those that arrive twice, percent.
    pub duplicated: u32,
    /// Each copy takes a time of its own, ms: so they overtake each other.
    pub delay: RangeInclusive<u64>,
}

/// Datagrams by what happened to them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seen {
    /// Delivered, copies among them.
    pub delivered: u64,
    /// Lost.
    pub lost: u64,
    /// Sent on twice.
    pub duplicated: u64,
    /// Delivered after one that had been sent later.
    pub overtaken: u64,
}

/// Stands between sensors and their gateway. Dropping it ends it.
#[derive(Debug)]
pub struct Proxy {
    /// Where the sensors find it.
    pub address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Proxy {
    /// In front of `gateway`, on loopback.
    ///
    /// # Errors
    /// No socket is to be had.
    pub async fn before(gateway: SocketAddr, weather: Weather) -> io::Result<Self> {
        let below = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = below.local_addr()?;
        let seen = Arc::new(Mutex::new(Seen::default()));
        let (arrivals, answers) = mpsc::channel(MAX_WAITING);
        let relay = Relay {
            below,
            gateway,
            weather,
            seen: Arc::clone(&seen),
            clients: HashMap::new(),
            begun: 0,
            air: BinaryHeap::new(),
            flown: 0,
            arrivals,
        };
        let task = tokio::spawn(relay.run(answers));
        Ok(Self { address, seen, task })
    }

    /// What has happened so far.
    pub fn seen(&self) -> Seen {
        *lock(&self.seen)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Towards {
    Gateway,
    Client,
}

/// A datagram under way. The order is that of arrival.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Flight {
    due: Instant,
    /// Of all that flew.
    number: u64,
    client: SocketAddr,
    towards: Towards,
    /// Of those that its client sent, or was sent.
    place: u64,
    bytes: Bytes,
}

/// One direction of one client.
#[derive(Debug)]
struct Way {
    dice: StdRng,
    /// Datagrams that came.
    taken: u64,
    /// Place of the latest one that was delivered.
    latest: u64,
}

impl Way {
    fn new(seed: u64, client: u64, towards: Towards) -> Self {
        // Weyl's sequence by the golden ratio: neighbours get seeds that have nothing in common.
        let stream = (2 * client + towards as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Self { dice: StdRng::seed_from_u64(seed ^ stream), taken: 0, latest: 0 }
    }

    /// How long each copy of the next datagram takes; none of a lost one.
    fn copies(&mut self, weather: &Weather) -> Vec<Duration> {
        self.taken += 1;
        let mut percent = |of: u32| self.dice.random_range(0..100) < of;
        let copies = match (percent(weather.lost), percent(weather.duplicated)) {
            (true, _) => 0,
            (false, twice) => 1 + usize::from(twice),
        };
        let delay = || Duration::from_millis(self.dice.random_range(weather.delay.clone()));
        std::iter::repeat_with(delay).take(copies).collect()
    }

    /// Whether a later datagram has been delivered before this one.
    fn overtaken(&mut self, place: u64) -> bool {
        let overtaken = place < self.latest;
        self.latest = self.latest.max(place);
        overtaken
    }
}

/// Whoever sends to the proxy, with a socket of its own towards the gateway: which takes it for a peer of its own.
#[derive(Debug)]
struct Client {
    socket: Arc<UdpSocket>,
    up: Way,
    down: Way,
    heard: Instant,
    task: JoinHandle<()>,
}

impl Drop for Client {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A datagram of the gateway, and to whom.
type Answer = (SocketAddr, Bytes);

struct Relay {
    below: UdpSocket,
    gateway: SocketAddr,
    weather: Weather,
    seen: Arc<Mutex<Seen>>,
    clients: HashMap<SocketAddr, Client>,
    /// Clients so far.
    begun: u64,
    air: BinaryHeap<Reverse<Flight>>,
    flown: u64,
    arrivals: mpsc::Sender<Answer>,
}

impl Relay {
    async fn run(mut self, mut answers: mpsc::Receiver<Answer>) {
        let mut buffer = [0; MAX_DATAGRAM];
        loop {
            let due = self.air.peek().map(|Reverse(flight)| flight.due);
            tokio::select! {
                Ok((len, from)) = self.below.recv_from(&mut buffer) => {
                    // Without a socket for it the datagram is lost.
                    if self.meet(from).await.is_ok() {
                        self.take(from, Towards::Gateway, Bytes::copy_from_slice(&buffer[..len]));
                    }
                }
                Some((client, bytes)) = answers.recv() => self.take(client, Towards::Client, bytes),
                () = arrival(due) => self.deliver().await,
            }
        }
    }

    /// Makes sure that there is a socket for the client.
    async fn meet(&mut self, from: SocketAddr) -> io::Result<()> {
        if let Some(client) = self.clients.get_mut(&from) {
            client.heard = Instant::now();
            return Ok(());
        }
        if self.clients.len() >= MAX_CLIENTS {
            let oldest = self.clients.iter().min_by_key(|(_, client)| client.heard).map(|(at, _)| *at);
            oldest.and_then(|oldest| self.clients.remove(&oldest));
        }
        let socket = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?);
        socket.connect(self.gateway).await?;
        let task = tokio::spawn(listen(Arc::clone(&socket), from, self.arrivals.clone()));
        let way = |towards| Way::new(self.weather.seed, self.begun, towards);
        let (up, down) = (way(Towards::Gateway), way(Towards::Client));
        self.begun += 1;
        self.clients.insert(from, Client { socket, up, down, heard: Instant::now(), task });
        Ok(())
    }

    /// Sends a datagram on its way, or two, or none.
    fn take(&mut self, from: SocketAddr, towards: Towards, bytes: Bytes) {
        let Some(client) = self.clients.get_mut(&from) else { return };
        let way = client.way(towards);
        let mut copies = way.copies(&self.weather);
        let place = way.taken;
        copies.truncate(MAX_UNDER_WAY.saturating_sub(self.air.len()));
        let now = Instant::now();
        for delay in &copies {
            self.flown += 1;
            let (due, number, bytes) = (now + *delay, self.flown, bytes.clone());
            self.air.push(Reverse(Flight { due, number, client: from, towards, place, bytes }));
        }
        self.note(|seen| match copies.len() {
            0 => seen.lost += 1,
            1 => {}
            _ => seen.duplicated += 1,
        });
    }

    /// Hands over all that is due.
    async fn deliver(&mut self) {
        let now = Instant::now();
        while self.air.peek().is_some_and(|Reverse(flight)| flight.due <= now)
            && let Some(Reverse(Flight { client: address, towards, place, bytes, .. })) = self.air.pop()
        {
            let Some(client) = self.clients.get_mut(&address) else { continue };
            let overtaken = client.way(towards).overtaken(place);
            let sent = match towards {
                Towards::Gateway => client.socket.send(&bytes).await,
                Towards::Client => self.below.send_to(&bytes, address).await,
            };
            self.note(|seen| {
                seen.delivered += u64::from(sent.is_ok());
                seen.overtaken += u64::from(sent.is_ok() && overtaken);
            });
        }
    }

    fn note(&self, change: impl FnOnce(&mut Seen)) {
        change(&mut lock(&self.seen));
    }
}

/// Each change is whole when it is made.
fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Client {
    fn way(&mut self, towards: Towards) -> &mut Way {
        match towards {
            Towards::Gateway => &mut self.up,
            Towards::Client => &mut self.down,
        }
    }
}

/// The time of the next arrival; never, if nothing flies.
async fn arrival(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// Hands what the gateway answers to the relay, until that has gone.
async fn listen(socket: Arc<UdpSocket>, client: SocketAddr, arrivals: mpsc::Sender<Answer>) {
    let mut buffer = [0; MAX_DATAGRAM];
    loop {
        // That nobody listens at the gateway's port is said here; it may come back.
        let Ok(len) = socket.recv(&mut buffer).await else { continue };
        if arrivals.send((client, Bytes::copy_from_slice(&buffer[..len]))).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weather(lost: u32, duplicated: u32) -> Weather {
        Weather { seed: 7, lost, duplicated, delay: 1..=20 }
    }

    #[test]
    fn the_same_traffic_meets_the_same_weather() {
        let weather = weather(10, 20);
        let of = |client, towards| {
            let mut way = Way::new(weather.seed, client, towards);
            (0..10_000).map(|_| way.copies(&weather)).collect::<Vec<_>>()
        };
        let first = of(0, Towards::Gateway);
        assert_eq!(first, of(0, Towards::Gateway));
        assert_ne!(first, of(0, Towards::Client));
        assert_ne!(first, of(1, Towards::Gateway));
        let (lost, twice) = (0..=2).fold((0, 0), |(lost, twice), copies| {
            let count = first.iter().filter(|one| one.len() == copies).count();
            (lost + usize::from(copies == 0) * count, twice + usize::from(copies == 2) * count)
        });
        // Of 10,000: 1000 ± 30 are lost, 9000 × 20 % ± 38 come twice.
        assert!((850..1150).contains(&lost) && (1600..2000).contains(&twice), "{lost} {twice}");
        assert!(first.iter().flatten().all(|delay| (1..=20).contains(&delay.as_millis())));
    }

    /// Sends `count` datagrams through a proxy to one that sends them back.
    async fn there_and_back(weather: Weather, count: u64) -> (UdpSocket, Proxy) {
        let gateway = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let proxy = Proxy::before(gateway.local_addr().unwrap(), weather).await.unwrap();
        tokio::spawn(async move {
            let mut buffer = [0; 16];
            loop {
                let (len, from) = gateway.recv_from(&mut buffer).await.unwrap();
                gateway.send_to(&buffer[..len], from).await.unwrap();
            }
        });
        let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        client.connect(proxy.address).await.unwrap();
        for number in 0..count {
            client.send(&number.to_be_bytes()).await.unwrap();
        }
        (client, proxy)
    }

    #[tokio::test]
    async fn each_datagram_comes_four_times_if_all_are_doubled_and_not_in_order() {
        let (client, proxy) = there_and_back(weather(0, 100), 20).await;
        let mut came = Vec::new();
        for _ in 0..80 {
            let mut buffer = [0; 16];
            let len = client.recv(&mut buffer).await.unwrap();
            came.push(u64::from_be_bytes(buffer[..len].try_into().unwrap()));
        }
        assert!(!came.is_sorted());
        came.sort_unstable();
        assert!(came.chunks(4).zip(0..20).all(|(four, number)| *four == [number; 4]), "{came:?}");
        let seen = proxy.seen();
        assert_eq!((seen.delivered, seen.lost, seen.duplicated), (120, 0, 60));
        assert!(seen.overtaken > 0);
    }
}
