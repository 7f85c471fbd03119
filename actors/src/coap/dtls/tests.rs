use std::path::Path;

use dimpl::PskResolver;

use super::*;

const NOW: u64 = 1_000_000;

fn peer(port: u16) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], port))
}

fn device(seed: u8) -> DeviceId {
    DeviceId::new([seed; 16])
}

/// Keys `a`, `b` and `c` of devices 1, 2 and 3.
fn keys(dir: &Path) -> Keys {
    use std::os::unix::fs::PermissionsExt as _;
    let path = dir.join("keys");
    let line = |(seed, identity): (u8, &str)| {
        format!("{identity} {} {}\n", device(seed), format!("{seed:02x}").repeat(16))
    };
    std::fs::write(&path, [(1, "a"), (2, "b"), (3, "c")].map(line).concat()).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    Keys::load(&path).unwrap()
}

struct Secret(Vec<u8>);

impl PskResolver for Secret {
    fn resolve(&self, _: &[u8]) -> Option<Vec<u8>> {
        Some(self.0.clone())
    }
}

/// dimpl as a client.
struct Client {
    dtls: Dtls,
    connected: bool,
    closed: bool,
    received: Vec<Vec<u8>>,
}

impl Client {
    fn new(identity: &str, secret: u8, origin: Instant) -> Self {
        let config = dimpl::Config::builder()
            .with_crypto_provider(dimpl::crypto::rust_crypto::default_provider())
            .with_psk_client(identity.as_bytes().to_vec(), Arc::new(Secret(vec![secret; 16])))
            .dtls12_cipher_suites(&[Dtls12CipherSuite::PSK_AES128_CCM_8])
            .dtls13_cipher_suites(&[])
            .build()
            .unwrap();
        let mut dtls = Dtls::new_12_psk(Arc::new(config), origin);
        dtls.set_active(true);
        dtls.handle_timeout(origin + Duration::from_millis(NOW)).unwrap();
        Self { dtls, connected: false, closed: false, received: Vec::new() }
    }

    fn datagrams(&mut self) -> Vec<Vec<u8>> {
        let mut buffer = vec![0; 4096];
        let mut datagrams = Vec::new();
        loop {
            match self.dtls.poll_output(&mut buffer) {
                Output::Packet(datagram) => datagrams.push(datagram.to_vec()),
                Output::Connected => self.connected = true,
                Output::ApplicationData(data) => self.received.push(data.to_vec()),
                Output::CloseNotify => self.closed = true,
                Output::Timeout(_) => return datagrams,
                _ => {}
            }
        }
    }
}

struct Bench {
    sessions: Sessions,
    origin: Instant,
    data: Vec<(SocketAddr, Bytes)>,
    began: Vec<SocketAddr>,
    ended: Vec<SocketAddr>,
    refused: Vec<(SocketAddr, Unproven)>,
    _dir: tempfile::TempDir,
}

impl Bench {
    fn new(limits: SessionLimits) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let origin = Instant::now();
        let sessions = Sessions::new(keys(dir.path()), limits, origin, [7; 32]);
        let (data, began, ended, refused) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { sessions, origin, data, began, ended, refused, _dir: dir }
    }

    fn client(&self, identity: &str, secret: u8) -> Client {
        Client::new(identity, secret, self.origin)
    }

    /// What the server sends to one address.
    fn events(&mut self, to: SocketAddr) -> Vec<Bytes> {
        let mut datagrams = Vec::new();
        while let Some(event) = self.sessions.poll() {
            match event {
                Event::Send(peer, datagram) if peer == to => datagrams.push(datagram),
                Event::Send(..) => {}
                Event::Began(peer) => self.began.push(peer),
                Event::Data(peer, data) => self.data.push((peer, data)),
                Event::Ended(peer) => self.ended.push(peer),
                Event::Refused(peer, why) => self.refused.push((peer, why)),
            }
        }
        datagrams
    }

    /// Carries datagrams both ways until there are no more.
    fn run(&mut self, client: &mut Client, from: SocketAddr, now: u64) {
        loop {
            let up = client.datagrams();
            up.iter().for_each(|datagram| self.sessions.receive(from, datagram, now));
            let down = self.events(from);
            if up.is_empty() && down.is_empty() {
                return;
            }
            for datagram in down {
                // A client that has ended hears nothing.
                let _ = client.dtls.handle_packet(&datagram);
            }
        }
    }

    fn connect(&mut self, identity: &str, secret: u8, from: SocketAddr) -> Client {
        let mut client = self.client(identity, secret);
        self.run(&mut client, from, NOW);
        client
    }
}

fn bench() -> Bench {
    Bench::new(SessionLimits::default())
}

#[test]
fn a_session_carries_data_both_ways_and_is_its_devices() {
    let mut bench = bench();
    let mut client = bench.connect("b", 2, peer(1));
    assert!(client.connected);
    assert_eq!((bench.sessions.device(&peer(1)), bench.sessions.len()), (Some(device(2)), (1, 0)));
    client.dtls.send_application_data(b"up").unwrap();
    bench.run(&mut client, peer(1), NOW + 1);
    assert_eq!(bench.data, [(peer(1), Bytes::from_static(b"up"))]);
    bench.sessions.send(peer(1), b"down", NOW + 2);
    bench.run(&mut client, peer(1), NOW + 2);
    assert_eq!(client.received, [b"down"]);
    bench.sessions.send(peer(2), b"to nobody", NOW + 2);
    assert_eq!((bench.events(peer(2)).len(), bench.began.len()), (0, 1));
    assert_eq!(bench.refused, []);
}

#[test]
fn a_wrong_key_and_an_unknown_identity_make_no_session_and_are_told_apart() {
    let unknown = |identity: &str| Unproven::Identity(identity.into());
    for (identity, secret, why) in
        [("a", 2, Unproven::Key(b"a".to_vec(), device(1))), ("z", 1, unknown("z")), ("", 1, unknown(""))]
    {
        let mut bench = bench();
        let client = bench.connect(identity, secret, peer(1));
        assert!(!client.connected, "{identity}");
        assert_eq!(bench.sessions.device(&peer(1)), None);
        assert_eq!((bench.sessions.len(), bench.began.len()), ((0, 0), 0));
        assert_eq!(bench.refused, [(peer(1), why)]);
    }
}

/// Who offers another suite only is refused when it has shown that it is there, and told apart from who has no key.
#[test]
fn who_speaks_another_suite_is_told_of() {
    let mut bench = bench();
    let mut client = bench.client("a", 1);
    let other = |mut hello: Vec<u8>| {
        let at = hello.windows(2).position(|pair| pair == [0xc0, 0xa8]).unwrap();
        // TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, which dimpl knows.
        hello[at + 1] = 0x2b;
        hello
    };
    bench.sessions.receive(peer(1), &other(client.datagrams().remove(0)), NOW);
    let verify = bench.events(peer(1)).remove(0);
    assert_eq!(bench.refused, []);
    client.dtls.handle_packet(&verify).unwrap();
    bench.sessions.receive(peer(1), &other(client.datagrams().remove(0)), NOW);
    bench.events(peer(1));
    let [(from, Unproven::Handshake(why))] = &bench.refused[..] else { panic!("{:?}", bench.refused) };
    assert!(*from == peer(1) && why.contains("cipher suite"), "{why}");
    assert_eq!(bench.sessions.len(), (0, 0));
}

#[test]
fn a_session_strays_once() {
    let mut bench = bench();
    assert!(!bench.sessions.strays(&peer(1)), "there is none");
    bench.connect("a", 1, peer(1));
    assert!(bench.sessions.strays(&peer(1)) && !bench.sessions.strays(&peer(1)));
    bench.connect("a", 1, peer(1));
    assert!(bench.sessions.strays(&peer(1)), "it is another");
}

/// RFC 6347 §4.2.1: a hello without a cookie is answered with fewer bytes than it has, and leaves nothing behind.
#[test]
fn a_flood_of_hellos_leaves_nothing_behind() {
    let mut bench = bench();
    let hello = bench.client("a", 1).datagrams().remove(0);
    assert!(Hello::parse(&hello).unwrap().cookie.is_empty());
    for port in 1..=20_000 {
        bench.sessions.receive(peer(port), &hello, NOW);
        let answers = bench.events(peer(port));
        assert!(answers.len() == 1 && answers[0].len() < hello.len());
    }
    assert_eq!(
        (bench.sessions.len(), bench.sessions.slots.len(), bench.sessions.deadline()),
        ((0, 0), 0, None)
    );
}

/// A cookie is of one address, and of one hello.
#[test]
fn somebody_elses_cookie_begins_nothing() {
    let mut bench = bench();
    let mut client = bench.client("a", 1);
    let first = client.datagrams().remove(0);
    bench.sessions.receive(peer(1), &first, NOW);
    let verify = bench.events(peer(1)).remove(0);
    client.dtls.handle_packet(&verify).unwrap();
    let second = client.datagrams().remove(0);
    for (from, now) in
        [(peer(2), NOW), (SocketAddr::from(([192, 0, 2, 2], 1)), NOW), (peer(1), NOW + 120_000)]
    {
        bench.sessions.receive(from, &second, now);
        assert_eq!(bench.sessions.len(), (0, 0));
        assert_eq!(bench.events(from).len(), 1, "a new cookie");
    }
    let mut other = second.clone();
    other[13 + 12 + 2] ^= 1;
    bench.sessions.receive(peer(1), &other, NOW);
    assert_eq!(bench.sessions.len(), (0, 0));
    bench.events(peer(1));
    bench.sessions.receive(peer(1), &second, NOW);
    assert_eq!(bench.sessions.len(), (0, 1));
}

/// dimpl panics if the first packet comes before the time: whatever comes first here, it does not.
#[test]
fn the_first_packet_does_not_come_before_the_time() {
    let mut bench = bench();
    let mut client = bench.client("a", 1);
    let first = client.datagrams().remove(0);
    let hello = Hello::parse(&first).unwrap();
    // The very first call that a session sees, with the clock at zero.
    let cookie = bench.sessions.baker.bake(peer(1), hello.random, 0);
    assert!(bench.sessions.begin(&hello, cookie, 0).is_some());
    bench.sessions.receive(peer(1), &first, 0);
    let verify = bench.events(peer(1)).remove(0);
    client.dtls.handle_packet(&verify).unwrap();
    client.datagrams().iter().for_each(|datagram| bench.sessions.receive(peer(1), datagram, 0));
    assert_eq!(bench.sessions.len(), (0, 1), "the handshake goes on");
    assert!(!bench.events(peer(1)).is_empty());
}

/// RFC 6347 §4.2.8: a sensor that was reset begins anew from its old address; until it has shown its key, the old session
/// stays.
#[test]
fn a_new_handshake_takes_the_place_of_the_session_when_it_is_complete() {
    let mut bench = bench();
    let mut old = bench.connect("a", 1, peer(1));
    old.dtls.send_application_data(b"x").unwrap();
    bench.run(&mut old, peer(1), NOW);
    let mut forger = bench.client("a", 9);
    bench.run(&mut forger, peer(1), NOW);
    old.dtls.send_application_data(b"still here").unwrap();
    bench.run(&mut old, peer(1), NOW);
    assert_eq!(bench.data.last().unwrap().1, "still here");
    let new = bench.connect("b", 2, peer(1));
    assert!(new.connected);
    assert_eq!((bench.sessions.device(&peer(1)), bench.sessions.len()), (Some(device(2)), (1, 0)));
    assert_eq!(bench.began.len(), 2, "what was known of the peer is forgotten");
}

#[test]
fn sessions_are_bounded_and_the_most_silent_ends() {
    let mut bench = Bench::new(SessionLimits { max_sessions: 2, ..SessionLimits::default() });
    let mut first = bench.connect("a", 1, peer(1));
    let _second = bench.connect("b", 2, peer(2));
    first.dtls.send_application_data(b"x").unwrap();
    bench.run(&mut first, peer(1), NOW + 1);
    let third = bench.connect("c", 3, peer(3));
    assert!(third.connected);
    assert_eq!((bench.sessions.len(), bench.ended.as_slice()), ((2, 0), &[peer(2)][..]));
}

#[test]
fn one_device_has_few_sessions() {
    let mut bench = bench();
    for port in 1..=20 {
        assert!(bench.connect("a", 1, peer(port)).connected);
    }
    assert_eq!(bench.sessions.len(), (MAX_PER_DEVICE, 0));
    assert_eq!(bench.ended.len(), 20 - MAX_PER_DEVICE);
}

/// Handshakes that are never completed: of one host a quarter of all, and then its own oldest goes.
#[test]
fn handshakes_are_bounded_and_an_honest_sensor_gets_through() {
    let mut bench = Bench::new(SessionLimits { max_handshakes: 8, ..SessionLimits::default() });
    let half = |bench: &mut Bench, from: SocketAddr| {
        let mut client = bench.client("a", 1);
        bench.sessions.receive(from, &client.datagrams()[0], NOW);
        let verify = bench.events(from).remove(0);
        client.dtls.handle_packet(&verify).unwrap();
        bench.sessions.receive(from, &client.datagrams()[0], NOW);
        client
    };
    let honest = SocketAddr::from(([198, 51, 100, 1], 1));
    let mut sensor = half(&mut bench, honest);
    let answers = bench.events(honest);
    for port in 1..=50 {
        half(&mut bench, peer(port));
        assert!(bench.sessions.len().1 <= 3);
    }
    answers.iter().for_each(|datagram| sensor.dtls.handle_packet(datagram).unwrap());
    bench.run(&mut sensor, honest, NOW);
    assert!(sensor.connected);
    for last in 1..=50 {
        half(&mut bench, SocketAddr::from(([203, 0, 113, last], 1)));
        assert!(bench.sessions.len().1 <= 8);
    }
    // They are given up in time, and nothing is left of them.
    let mut now = NOW;
    while let Some(at) = bench.sessions.deadline().filter(|at| *at < NOW + 60_000) {
        now = at;
        bench.sessions.tick(now);
    }
    assert!(now <= NOW + HANDSHAKE_MS + 1);
    assert_eq!(bench.refused, [], "that may be the network's fault");
    assert_eq!((bench.sessions.len(), bench.sessions.slots.len()), ((1, 0), 1));
}

/// A good cookie on a hello that dimpl does not take: it has set itself no time by which it gives up.
#[test]
fn a_handshake_that_never_begins_is_given_up() {
    let mut bench = bench();
    let mut client = bench.client("a", 1);
    bench.sessions.receive(peer(1), &client.datagrams()[0], NOW);
    let verify = bench.events(peer(1)).remove(0);
    client.dtls.handle_packet(&verify).unwrap();
    let mut hello = client.datagrams().remove(0);
    // The version of the record, which no cookie is of.
    hello[1] = 0;
    bench.sessions.receive(peer(1), &hello, NOW);
    assert_eq!(bench.sessions.len(), (0, 1));
    while let Some(at) = bench.sessions.deadline() {
        assert!(at <= NOW + HANDSHAKE_MS, "{at}");
        bench.sessions.tick(at);
    }
    assert_eq!((bench.sessions.len(), bench.sessions.slots.len()), ((0, 0), 0));
}

#[test]
fn who_has_its_key_withdrawn_is_heard_no_more_and_the_others_are() {
    let mut bench = bench();
    let mut clients = [("a", 1), ("b", 2)]
        .map(|(identity, secret)| bench.connect(identity, secret, peer(u16::from(secret))));
    assert_eq!(bench.sessions.len(), (2, 0));
    let dir = tempfile::tempdir().unwrap();
    let mut newer = keys(dir.path());
    newer.remove("a");
    newer.remove("c");
    bench.sessions.rekey(newer, NOW);
    assert_eq!(bench.sessions.len(), (1, 0));
    assert_eq!(bench.sessions.device(&peer(1)), None);
    assert_eq!(bench.sessions.device(&peer(2)), Some(device(2)));
    let [_, client] = &mut clients;
    client.dtls.send_application_data(b"word").unwrap();
    bench.run(client, peer(2), NOW);
    assert_eq!(bench.data.last().map(|(from, data)| (*from, &data[..])), Some((peer(2), &b"word"[..])));
    let mut again = bench.client("a", 1);
    bench.run(&mut again, peer(1), NOW);
    assert!(!again.connected);
    assert_eq!(bench.sessions.len().0, 1);
    assert_eq!(bench.refused, [(peer(1), Unproven::Identity(b"a".to_vec()))]);
    // And back again.
    bench.sessions.rekey(keys(dir.path()), NOW);
    bench.connect("a", 1, peer(4));
    assert_eq!(bench.sessions.device(&peer(4)), Some(device(1)));
}

#[test]
fn a_silent_session_ends() {
    let mut bench = Bench::new(SessionLimits { idle_secs: 60, ..SessionLimits::default() });
    let mut client = bench.connect("a", 1, peer(1));
    while bench.sessions.deadline().is_some_and(|at| at < NOW + 60_000) {
        let at = bench.sessions.deadline().unwrap();
        bench.sessions.tick(at);
        assert_eq!(bench.sessions.len().0, 1);
    }
    bench.sessions.tick(NOW + 60_000);
    assert_eq!((bench.sessions.len(), bench.sessions.slots.len()), ((0, 0), 0));
    for datagram in bench.events(peer(1)) {
        client.dtls.handle_packet(&datagram).unwrap();
    }
    client.datagrams();
    assert!(client.closed && bench.ended == [peer(1)]);
    assert_eq!(bench.sessions.deadline(), None);
}

#[test]
fn a_client_that_takes_its_leave_is_forgotten() {
    let mut bench = bench();
    let mut client = bench.connect("a", 1, peer(1));
    client.dtls.close().unwrap();
    bench.run(&mut client, peer(1), NOW);
    assert_eq!((bench.sessions.len(), bench.ended.as_slice()), ((0, 0), &[peer(1)][..]));
}

/// Whatever anybody sends without the keys, from the address of a session: the session goes on.
#[test]
fn what_is_forged_harms_no_session() {
    let mut bench = bench();
    let mut client = bench.connect("a", 1, peer(1));
    client.dtls.send_application_data(b"x").unwrap();
    bench.run(&mut client, peer(1), NOW);
    let record = |kind: u8, epoch: u8, sequence: u8, body: &[u8]| {
        [&[kind, 0xfe, 0xfd, 0, epoch, 0, 0, 0, 0, 0, sequence, 0, body.len() as u8][..], body].concat()
    };
    let mut forged: Vec<Vec<u8>> = vec![Vec::new(), vec![0; 13], vec![0xff; 100]];
    for sequence in 0..100 {
        forged.push(record(21, 0, sequence, &[2, 40])); // a fatal alert
        forged.push(record(20, 0, sequence, &[1])); // change cipher spec
        forged.push(record(22, 0, sequence, &[0; 20])); // handshake
        forged.push(record(23, 1, sequence, &[7; 30])); // data under no key
        forged.push(record(21, 1, sequence, &[7; 18]));
    }
    for datagram in &forged {
        bench.sessions.receive(peer(1), datagram, NOW);
    }
    bench.events(peer(1));
    client.dtls.send_application_data(b"still here").unwrap();
    bench.run(&mut client, peer(1), NOW);
    assert_eq!(bench.data.last().unwrap().1, "still here");
}

proptest::proptest! {
    /// Hellos that are bent in any place, alone and after a handshake has begun.
    #[test]
    fn bent_hellos_do_no_harm(bends in proptest::collection::vec((proptest::num::usize::ANY, proptest::num::u8::ANY), 1..4), cut in 0..300_usize) {
        let mut bench = bench();
        let mut client = bench.client("a", 1);
        let mut hello = client.datagrams().remove(0);
        for (at, byte) in bends {
            let len = hello.len();
            hello[at % len] ^= byte;
        }
        hello.truncate(hello.len().min(cut + 13));
        bench.sessions.receive(peer(1), &hello, NOW);
        for verify in bench.events(peer(1)) {
            let _ = client.dtls.handle_packet(&verify);
        }
        for datagram in client.datagrams() {
            bench.sessions.receive(peer(1), &datagram, NOW);
        }
        bench.sessions.receive(peer(1), &hello, NOW);
        proptest::prop_assert!(bench.sessions.len().1 <= 1);
    }
}
