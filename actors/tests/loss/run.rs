//! One run: a gateway's side in this process, a herd of sensors in another, and between them what loses.

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use posthouse_actors::coap::{self, Coap};
use posthouse_actors::messages;
use posthouse_actors::sensors::Carried;
use posthouse_device::sim::proxy::{Proxy, Weather};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::process::Child;
use tokio::time::timeout;

use super::broker;
use super::fleet::{self, Sensor};
use super::site::{Site, VERSION};
use super::{ALL_COMPLETE, HELD};

/// The run, as JSON.
pub(crate) const CHILD: &str = "POSTHOUSE_TEST_RUN";
/// Sensors of a run.
pub(crate) const SENSORS: usize = 100;
/// Patience with a block over CoAP, ms: RFC 7252's 2000 are for the Internet, and this is loopback.
const COAP_TIMEOUT_MS: u32 = 200;
/// The same where it is held against a bound how much is sent again: a machine that stands still for longer has each sensor ask for what
/// was not lost.
const HELD_TIMEOUT_MS: u32 = 500;
/// Over MQTT, ms, as sensors have it: TCP sends again by itself, after 200 ms and then twice as long each time.
const MQTT_TIMEOUT_MS: u32 = 2000;
/// A run ends then, whoever is done, s; sooner where not all need be.
const WITHIN: [u64; 2] = [120, 45];
/// Blocks of an image, and its bytes, at most: loss is met often, and a run takes seconds.
const BLOCKS: usize = 128;
const BYTES: usize = 32 << 10;
/// As on an Ethernet: loopback's own 64 KiB would lose dozens of MQTT's blocks at once.
const MTU: &str = "1500";

/// What each signs: that the gateway speaks for it, and one receipt.
const SIGNED: usize = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Carrier {
    Coap,
    Mqtt,
}

/// What stands between the sensors and their gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Way {
    /// The kernel, which loses packets.
    Kernel,
    /// The proxy, which loses, delays, doubles and reorders datagrams.
    Proxy,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Run {
    pub(crate) carrier: Carrier,
    pub(crate) way: Way,
    /// Percent, in each direction.
    pub(crate) lost: u32,
    /// Bytes.
    pub(crate) block: u16,
}

/// What came of a run.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Came {
    /// Sensors that hold the image, byte for byte, and have reported it.
    pub(crate) complete: usize,
    /// Seconds, until the last of them.
    pub(crate) s: f64,
    /// Bytes of images: all that the gateway sent, all that came to the sensors, and what they needed.
    pub(crate) carried: u64,
    pub(crate) arrived: u64,
    needed: u64,
}

impl Came {
    /// Bytes sent again for each byte that was lost.
    pub(crate) fn resent_ratio(&self) -> f64 {
        (self.carried - self.needed) as f64 / (self.carried - self.arrived) as f64
    }
}

fn image_len(block: u16) -> usize {
    (usize::from(block) * BLOCKS).min(BYTES)
}

/// What all runs have in common.
pub(crate) fn tell_terms(blocks: &[u16]) {
    println!("loss_sensors {SENSORS} 1");
    println!("loss_coap_timeout {COAP_TIMEOUT_MS} ms");
    println!("loss_coap_timeout_{HELD} {HELD_TIMEOUT_MS} ms");
    println!("loss_mqtt_timeout {MQTT_TIMEOUT_MS} ms");
    println!("loss_within {} s", WITHIN[0]);
    println!("loss_within_above_{ALL_COMPLETE} {} s", WITHIN[1]);
    for block in blocks {
        println!("loss_image_{block} {} B", image_len(*block));
    }
}

impl Run {
    pub(crate) fn name(&self) -> String {
        let kind = if self.way == Way::Kernel { "loss" } else { "weather" };
        let carrier = self.carrier.counted_as().as_str();
        format!("{kind}_{carrier}_{}_{}", self.lost, self.block)
    }

    /// Whether it is held against a bound how much is sent again: where so much is lost that a stall of the machine, in which each
    /// sensor asks for one block again, is little beside it.
    pub(crate) fn is_held(&self) -> bool {
        self.carrier == Carrier::Coap && self.way == Way::Kernel && (HELD..=ALL_COMPLETE).contains(&self.lost)
    }

    pub(crate) async fn play(&self) -> Came {
        let dir = tempfile::tempdir().unwrap();
        let site = Site::start(dir.path(), image_len(self.block));
        let (gateway, _between) = self.connect(&site, dir.path()).await;
        let told = self.herd(dir.path(), gateway).await;
        let number = |key: &str| told[key].as_u64().unwrap_or_else(|| panic!("{key} in {told}"));
        let carried = site.hub.send(Carried(self.carrier.counted_as())).await.unwrap();
        let complete = (0..SENSORS).filter(|number| {
            let slot = dir.path().join(format!("sensor-{number}.d/flash"));
            std::fs::read(slot).is_ok_and(|slot| slot == site.firmware)
        });
        let complete = complete.count().min(number("done") as usize);
        let heard = site.heard.lock().unwrap();
        let done = heard.signed.values().filter(|signed| signed.len() == SIGNED).count();
        assert!(done >= complete, "who is updated has signed: {done} of {complete}");
        Came {
            complete,
            s: told["s"].as_f64().unwrap(),
            carried,
            arrived: number("block_bytes") + number("stale_bytes"),
            needed: (SENSORS * site.firmware.len()) as u64,
        }
    }

    /// Sets up what the sensors go through; says where it is, and what lasts as long as the run.
    async fn connect(&self, site: &Site, dir: &Path) -> (SocketAddr, (Option<Child>, Option<Proxy>)) {
        if self.way == Way::Kernel {
            assert!(
                Command::new("ip").args(["link", "set", "lo", "mtu", MTU, "up"]).status().unwrap().success()
            );
        }
        match self.carrier {
            Carrier::Coap => {
                let config = coap::Config::new((Ipv4Addr::LOCALHOST, 0).into());
                let gateway = Coap::start(config, &site.hub).await.unwrap().1;
                if self.way == Way::Kernel {
                    lose("udp", gateway.port(), self.lost);
                    return (gateway, (None, None));
                }
                let weather = Weather { seed: 1, lost: self.lost, duplicated: 10, delay: 0..=30 };
                let proxy = Proxy::before(gateway, weather).await.unwrap();
                (proxy.address, (None, Some(proxy)))
            }
            Carrier::Mqtt => {
                let (broker, address) = broker::mosquitto(dir).await.expect("mosquitto is installed");
                lose("tcp", address.port(), self.lost);
                site.meet_at(address, Vec::new());
                (address, (Some(broker), None))
            }
        }
    }

    /// Lets the sensors live; what they say at the end.
    async fn herd(&self, dir: &Path, gateway: SocketAddr) -> Value {
        let carrier = self.carrier.counted_as().as_str();
        let template = Sensor::new(dir, 2, carrier, gateway, &format!("block = {}\n", self.block));
        let config = template.config();
        let patience = match self.carrier {
            Carrier::Coap if self.is_held() => HELD_TIMEOUT_MS,
            Carrier::Coap => COAP_TIMEOUT_MS,
            Carrier::Mqtt => MQTT_TIMEOUT_MS,
        };
        let patience = format!("block_timeout_ms = {patience}");
        let text = std::fs::read_to_string(&config).unwrap().replace("block_timeout_ms = 500", &patience);
        assert!(text.contains(&patience));
        std::fs::write(&config, text).unwrap();
        let seconds = WITHIN[usize::from(self.lost > ALL_COMPLETE)];
        let (count, until, within) = (SENSORS.to_string(), VERSION.to_string(), seconds.to_string());
        let arguments =
            ["sim", "herd", "--config", config.to_str().unwrap(), "--folder", dir.to_str().unwrap()];
        let more = ["--count", &count, "--until", &until, "--within", &within, "--wake-ms", "100-1000"];
        let mut herd = fleet::child(&[&arguments[..], &more].concat());
        // That not all are done in time is no failure here.
        let running = herd.stdout(Stdio::piped()).output();
        let output = timeout(Duration::from_secs(seconds + 60), running).await.expect("a herd ends").unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let last = text.lines().rfind(|line| line.contains("\"event\":\"herd\""));
        serde_json::from_str(last.unwrap_or_else(|| panic!("{output:?}"))).unwrap()
    }
}

impl Carrier {
    fn counted_as(self) -> messages::Carrier {
        match self {
            Self::Coap => messages::Carrier::Coap,
            Self::Mqtt => messages::Carrier::Mqtt,
        }
    }
}

/// From now on so many in a hundred packets to and from the port are lost. On loopback each comes in once.
fn lose(protocol: &str, port: u16, percent: u32) {
    let rule = |end| format!("{protocol} {end} {port} numgen random mod 100 < {percent} counter drop");
    let rules = format!(
        "table inet loss {{\n chain lossy {{\n type filter hook input priority 0\n {}\n {}\n }}\n }}\n",
        rule("dport"),
        rule("sport")
    );
    let mut nft = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    nft.stdin.take().unwrap().write_all(rules.as_bytes()).unwrap();
    assert!(nft.wait().unwrap().success(), "{rules}");
}
