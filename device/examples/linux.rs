//! A sensor to begin a port from: a board that is a process on Linux, with a file for its flash and CoAP over UDP. All of it but
//! [`Chip`], the key and the socket is what firmware would have.
//!
//! ```text
//! sensor FOLDER                                            makes a key where there is none, and prints the public one
//! sensor FOLDER GATEWAY:PORT RELEASE_KEY VENDOR_ID CLASS_ID
//! ```
//!
//! A reboot is a new turn of the outermost loop. The carrier has no DTLS, so that the gateway asks it to sign only with
//! `sensors.allow_unauthenticated_signing`: for trials.
#![allow(clippy::print_stdout, reason = "what an example is for")]

use std::convert::Infallible;
use std::error::Error;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::net::UdpSocket;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use posthouse_device::boot::{Layout, Nor, Slots, Start};
use posthouse_device::coap::{Coap, MAX_REQUEST, MAX_RESPONSE, Next, Settings};
use posthouse_device::{Device, Flow, Key};
use posthouse_protocol::device::{Config, Stored};
use posthouse_protocol::id::{Curve, DeviceKey, Digest, ProductId, ReleaseKey, Signature, Version};
use posthouse_protocol::key::SigningKey;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Seconds from one wake to the next.
const WAKE: u32 = 10;
const LAYOUT: Layout = Layout { control: 0, a: 0x1_0000, b: 0x11_0000, slot: 0x10_0000 };
/// Bytes of the flash.
const FLASH: usize = 0x21_0000;

const _: () = assert!(Slots::<Chip>::control_len(LAYOUT.slot) <= LAYOUT.a);

/// Flash in a file: erasing sets a page to ones, programming clears bits. Nothing is synced: what cuts its power is `kill -9`.
#[derive(Clone, Copy)]
struct Chip(&'static File);

impl Chip {
    fn open(path: &Path) -> io::Result<Self> {
        if !path.exists() {
            fs::write(path, vec![0xff; FLASH])?;
        }
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        Ok(Self(Box::leak(Box::new(file))))
    }
}

impl Nor for Chip {
    type Error = io::Error;
    const PAGE: u32 = 4096;

    fn read(&self, at: u32, bytes: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(bytes, at.into())
    }

    fn erase(&self, at: u32) -> io::Result<()> {
        self.0.write_all_at(&[0xff; Self::PAGE as usize], at.into())
    }

    fn program(&self, at: u32, bytes: &[u8]) -> io::Result<()> {
        let mut held = vec![0; bytes.len()];
        self.read(at, &mut held)?;
        held.iter_mut().zip(bytes).for_each(|(held, new)| *held &= new);
        self.0.write_all_at(&held, at.into())
    }
}

/// A key in software, where a product has a secure element.
#[derive(Clone)]
struct Software(SigningKey);

impl Software {
    fn open(path: &Path) -> Outcome<Self> {
        if !path.exists() {
            let mut scalar = [0; 32];
            File::open("/dev/urandom")?.read_exact(&mut scalar)?;
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
            file.write_all(&scalar)?;
        }
        let scalar = fs::read(path)?.try_into().map_err(|_| "the key has not 32 bytes")?;
        Ok(Self(SigningKey::from_bytes(Curve::P256, &scalar)?))
    }
}

impl Key for Software {
    type Error = Infallible;

    fn public(&self) -> DeviceKey {
        self.0.device_key()
    }

    fn curve(&self) -> Curve {
        self.0.curve()
    }

    fn sign(&mut self, digest: &Digest) -> Result<Signature, Infallible> {
        Ok(self.0.sign(digest))
    }
}

type Sensor = Device<Slots<Chip>, Software, Slots<Chip>>;

/// Power-up; nothing if a reboot is due. An error ends the process, where a board resets: an image on trial is then exchanged back
/// at the next power-up.
fn opened(slots: Slots<Chip>, key: Software, config: Config) -> Outcome<Option<Sensor>> {
    // The bootloader.
    while slots.power_up()? == Start::Exchanged {}

    // The firmware. Its self-test is that it has come so far, and can read the state.
    let boot = slots.boot()?;
    let mut sensor = Device::open(config, Stored::factory(Version::new(0)), boot, slots, key, slots)?;
    slots.confirm()?;
    if sensor.tick(0, &mut |_| {})? == Flow::Reboot {
        return Ok(None);
    }
    slots.settle()?;
    println!("runs version {}", sensor.status().installed);
    Ok(Some(sensor))
}

/// The carrier. Its message ids and tokens begin elsewhere with each boot.
fn carrier() -> Outcome<Coap> {
    let mut seed = [0; 4];
    File::open("/dev/urandom")?.read_exact(&mut seed)?;
    let seed = u32::from_ne_bytes(seed);
    Ok(Coap::new(Settings { seed, ack_timeout_ms: 2000, awake_ms: 1000, next_wake_s: WAKE }))
}

/// The main loop, to the next reboot.
fn live(mut sensor: Sensor, gateway: &UdpSocket) -> Outcome<()> {
    let born = Instant::now();
    let now = || u64::try_from(born.elapsed().as_millis()).unwrap_or(u64::MAX);
    let mut coap = carrier()?;
    let (mut out, mut datagram) = ([0; MAX_REQUEST], [0; MAX_RESPONSE]);
    coap.wake(&mut sensor, now())?;
    loop {
        match coap.poll(&mut sensor, now(), &mut out)? {
            // A datagram that is lost is sent again.
            Next::Send(len) => drop(gateway.send(&out[..len])),
            Next::Wait(until) => {
                let wait = Duration::from_millis(until.saturating_sub(now()).max(1));
                gateway.set_read_timeout(Some(wait))?;
                if let Ok(len) = gateway.recv(&mut datagram) {
                    coap.receive(&mut sensor, &datagram[..len], now())?;
                }
            }
            Next::Sleep(seconds) => {
                println!("sleeps {seconds} s");
                // As a board does with its radio off: nothing can wake it before.
                sleep(Duration::from_secs(seconds.into()));
                coap.wake(&mut sensor, now())?;
            }
            Next::Reboot => return Ok(()),
        }
    }
}

fn main() -> Outcome<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (folder, site) =
        args.split_first().ok_or("usage: sensor FOLDER [GATEWAY:PORT RELEASE_KEY VENDOR_ID CLASS_ID]")?;
    let key = Software::open(&Path::new(folder).join("key"))?;
    println!("{}", key.public());
    let [gateway, release_key, vendor_id, class_id] = site else { return Ok(()) };
    let product: ProductId = format!("{vendor_id}{class_id}").replace('-', "").parse()?;
    let release_key: ReleaseKey = release_key.parse()?;
    let config = Config {
        key: key.public(),
        curve: key.curve(),
        product,
        release_key,
        slot: LAYOUT.slot,
        wake_s: WAKE,
        block: 512,
        window: 1,
        checkpoint: Chip::PAGE,
        block_timeout_ms: 2000,
        block_tries: 4,
    };
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect(gateway)?;
    let slots = Slots::new(Chip::open(&Path::new(folder).join("flash"))?, LAYOUT);
    loop {
        if let Some(sensor) = opened(slots, key.clone(), config.clone())? {
            live(sensor, &socket)?;
        }
        println!("reboots");
    }
}
