//! The programs as services: what systemd is told, when its watchdog is fed, and what ends them.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

use rusqlite::Connection;

use crate::world::{PATIENCE, Running, World, until};

/// The end of `sd_notify(3)` that systemd holds, for one program. It takes what comes, as whoever says something waits until it is taken.
struct Systemd {
    socket: PathBuf,
    said: Receiver<String>,
}

impl Systemd {
    fn listen(socket: PathBuf) -> Self {
        let listener = UnixDatagram::bind(&socket).unwrap();
        let (sender, said) = channel();
        std::thread::spawn(move || {
            let mut message = [0; 512];
            while let Ok(len) = listener.recv(&mut message) {
                let lines = String::from_utf8_lossy(&message[..len]).into_owned();
                if lines.lines().try_for_each(|line| sender.send(line.to_owned())).is_err() {
                    return;
                }
            }
        });
        Self { socket, said }
    }

    /// Starts a program that it listens to, which is alive four times in 400 ms.
    fn starts(&self, command: &mut Command) -> Service {
        command.env("NOTIFY_SOCKET", &self.socket).env("WATCHDOG_USEC", "400000");
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (sender, log) = channel();
        // To its end, as whoever writes waits for who reads.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(|line| drop(sender.send(line))));
        Service { child, log }
    }

    fn is_told(&self, state: &str) {
        let begun = Instant::now();
        while self.said.recv_timeout(PATIENCE.saturating_sub(begun.elapsed())).expect(state) != state {}
    }

    fn is_told_that_it_lives(&self) {
        self.is_told("READY=1");
        (0..3).for_each(|_| self.is_told("WATCHDOG=1"));
    }
}

struct Service {
    child: Child,
    log: Receiver<String>,
}

impl Service {
    /// Waits for a line of its log that has all of these words.
    fn logs(&self, words: &[&str]) {
        let (begun, mut log) = (Instant::now(), Vec::new());
        while !log.last().is_some_and(|line: &String| words.iter().all(|word| line.contains(word))) {
            let line = self.log.recv_timeout(PATIENCE.saturating_sub(begun.elapsed()));
            log.push(line.unwrap_or_else(|_| panic!("no word of {words:?} in {log:#?}")));
        }
    }

    /// Tells it to end, as systemd does.
    fn stop(&mut self) -> ExitStatus {
        let told = Command::new("kill").arg(self.child.id().to_string()).status().unwrap();
        assert!(told.success());
        self.child.wait().unwrap()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A chain, and a distributor of the vendor whose seeder this is.
fn world() -> (World, Running) {
    let mut world = World::new();
    world.enrol_and_deploy();
    let seeder = world.seed();
    world.write_distributor("d", 1, &seeder);
    (world, seeder)
}

#[test]
fn a_seeder_is_ready_lives_and_says_when_it_stops() {
    let mut world = World::new();
    world.enrol_and_deploy();
    let systemd = Systemd::listen(world.path("notify"));
    let mut seeder = systemd.starts(&mut world.vendor_command(&["seed"]));
    systemd.is_told_that_it_lives();
    assert!(seeder.stop().success());
    systemd.is_told("STOPPING=1");
}

/// They have twenty seconds for each answer.
#[test]
fn a_distributor_that_waits_for_silent_endpoints_lives() {
    let (mut world, seeder) = world();
    let (silent, beacon) = (TcpListener::bind("127.0.0.1:0").unwrap(), world.beacon.url().to_owned());
    let url = format!("http://{}", silent.local_addr().unwrap());
    world.rpc = vec![url.clone()];
    world.write_distributor("d", 1, &seeder);
    let settings = std::fs::read_to_string(world.path("d.toml")).unwrap();
    std::fs::write(world.path("d.toml"), settings.replace(&beacon, &url)).unwrap();

    let systemd = Systemd::listen(world.path("notify"));
    let mut distributor = systemd.starts(&mut world.distributor_command("d", &["run"]));
    // It has been asked, and answers nothing.
    let _asked = silent.accept().unwrap();
    systemd.is_told_that_it_lives();
    assert!(distributor.stop().success());
    systemd.is_told("STOPPING=1");
}

#[test]
fn a_distributor_whose_engine_hangs_is_not_fed_and_ends_where_it_cannot_keep_its_state() {
    let (world, _seeder) = world();
    let systemd = Systemd::listen(world.path("notify"));
    let mut distributor = systemd.starts(&mut world.distributor_command("d", &["run"]));
    systemd.is_told_that_it_lives();
    // Somebody else writes: for the next thing that it has to keep it waits ten seconds.
    let database = Connection::open(world.path("d/distributor.db")).unwrap();
    database.execute_batch("BEGIN IMMEDIATE").unwrap();
    distributor.logs(&["the watchdog is not fed", "engine"]);
    distributor.logs(&["error: database: database is locked"]);
    assert_eq!(distributor.child.wait().unwrap().code(), Some(1));
}

#[test]
fn a_light_client_that_cannot_go_on_is_an_alarm() {
    let (world, _seeder) = world();
    let network = std::fs::read_to_string(world.path("network.yaml")).unwrap();
    let key = "WEAK_SUBJECTIVITY_PERIOD_EPOCHS: ";
    let rest = network.split_once(key).unwrap().1.lines().next().unwrap();
    // So that any checkpoint is too old.
    let none = network.replace(&format!("{key}{rest}"), &format!("{key}0"));
    std::fs::write(world.path("network.yaml"), none).unwrap();

    let systemd = Systemd::listen(world.path("notify"));
    let mut distributor = systemd.starts(&mut world.distributor_command("d", &["run"]));
    distributor.logs(&["the light client cannot go on", "the checkpoint: "]);
    systemd.is_told_that_it_lives();
    until("the alarm", || world.distributor("d", &["status"])["chain"]["alarm"].is_string());
    assert!(distributor.stop().success());
}
