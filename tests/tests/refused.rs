//! What somebody asks for who should not have it: refused, by programs as they run, with the error that names it.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::{path::Path, time::Duration};

use posthouse_contracts::chain::Chain as _;
use posthouse_dsn::{Codec, Config, Dsn, FetchError, Keypair, Multiaddr, Network, WantError};
use posthouse_protocol::{
    cose::ReleaseSigningKey,
    id::{Attempt, Bounty, ChainId, LockHash, Payee, ProductId, UpdateId, Version},
    package::{MAX_ROOT, Package},
    release,
    sensor::{ErrorCode, ErrorMsg, SignRequest, names},
    suit::{self, Manifest},
};
use posthouse_tests::{
    broker::Broker,
    poll::until,
    process::{Process, Programs},
    roles::Role,
    scene::{Scene, configure, reader},
    site::PATIENCE,
};
use rumqttc::{
    AsyncClient, Event, MqttOptions, PublishOptions,
    mqttbytes::{QoS, v5::Packet},
};
use serde_json::Value;
use tokio::{sync::mpsc, time::timeout};

fn programs() -> Programs {
    Programs::new(env!("CARGO_BIN_EXE_posthouse-demo"))
}

/// Makes a device key and returns what the sensor's program says of it.
async fn keygen(file: &Path) -> Value {
    let printed = programs().output(Role::Sensor, ["keygen", "--out", file.to_str().unwrap()]).await.unwrap();
    serde_json::from_str(&printed).unwrap()
}

fn start_sensor(config: &Path) -> Process {
    let mut command = programs().command(Role::Sensor);
    command.args(["run", "--config"]).arg(config);
    Process::start("sensor", command, &config.with_extension("log")).unwrap()
}

/// A peer that has no part in the site but its network's name.
async fn stranger(folder: &Path) -> Dsn {
    let mut config = Config::new(Keypair::generate_ed25519(), folder);
    config.network = Network::Fleet("testbed".into());
    Dsn::start(config).await.unwrap().0
}

#[tokio::test(flavor = "multi_thread")]
async fn a_want_for_the_secret() {
    let scene = Scene::on_sale(programs(), "").await.unwrap();
    let (vendor, seller) = (&scene.site.vendor, &scene.site.distributors[0]);
    let terms = reader(&scene.site).unwrap().terms(&scene.published.bounty.parse().unwrap()).await.unwrap();
    let root = Codec::DagCbor.cid_of_digest(terms.p_id.to_bytes());
    for (name, address) in [("seeder", &vendor.multiaddr), ("distributor", &seller.multiaddr)] {
        let dsn = stranger(&scene.path(name)).await;
        let peer = dsn.dial(address.parse::<Multiaddr>().unwrap()).await.unwrap();
        // The package is everybody's.
        let block =
            until("the package", PATIENCE, async || Ok(dsn.get_block(root, &[peer], MAX_ROOT).await.ok()));
        let package = Package::decode(&block.await.unwrap()).unwrap();
        let release = release::open(&package.release, &vendor.release_key.parse().unwrap()).unwrap();
        for secret in [release.u_id.to_bytes(), release.key_id.unwrap().to_bytes()] {
            for codec in [Codec::Raw, Codec::DagPb, Codec::DagCbor] {
                let refused = dsn.get_block(codec.cid_of_digest(secret), &[peer], 1 << 20).await;
                let Err(FetchError::NotDelivered { last, .. }) = refused else {
                    panic!("{name}: {refused:?}")
                };
                assert_eq!(last.why, WantError::DontHave, "{name}");
            }
        }
        dsn.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sensor_that_is_not_in_the_fleet() {
    let mut scene = Scene::on_sale(programs(), "").await.unwrap();
    let (config, flash) = (scene.path("stranger.toml"), scene.path("stranger-flash"));
    let key = scene.path("stranger.key");
    let said = keygen(&key).await;
    std::fs::copy(&scene.site.sensors[0].config, &config).unwrap();
    configure(&config, |table| {
        table.insert("key_file".into(), key.to_str().unwrap().into());
        table.insert("state_dir".into(), scene.path("stranger-state").to_str().unwrap().into());
        table.insert("slot_file".into(), flash.to_str().unwrap().into());
    })
    .unwrap();
    let _stranger = start_sensor(&config);
    scene.play().await.unwrap();
    let named = async |resource: Value| {
        let all = resource.as_array().cloned().unwrap_or_default();
        all.into_iter().find(|one| one["device"] == said["device"])
    };
    let faulty = until("the stranger to be named", PATIENCE, async || {
        let device = named(scene.site.get("devices").await.unwrap_or_default()).await;
        Ok(device.filter(|device| device["fault"] == "not in the fleet"))
    });
    faulty.await.unwrap();
    let sensor = named(scene.exchange().await.unwrap()["sensors"].clone()).await.unwrap();
    assert_eq!(sensor["attempts"], 0, "a receipt was asked of it: {sensor}");
    assert_eq!(sensor["served"], false, "{sensor}");
    assert!(!flash.exists() || std::fs::read(&flash).unwrap() != scene.image);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_announcement_that_another_vendor_signed() {
    let mut scene = Scene::on_sale(programs(), "").await.unwrap();
    // The gateway was told of another release key than the one that signed this.
    let other = ReleaseSigningKey::from_bytes(&[7; 32]).unwrap().release_key();
    scene
        .configure_gateway(|config| {
            config["products"][0]
                .as_table_mut()
                .unwrap()
                .insert("release_key".into(), other.to_string().into());
        })
        .unwrap();
    scene.site.start_gateway(&[]).unwrap();
    scene.site.start_sensors().unwrap();
    let refused = until("the announcement to be refused", PATIENCE, async || {
        let updates = scene.site.get("updates").await.unwrap_or_default();
        Ok(updates[0]["error"].as_str().filter(|error| error.contains("release: ")).map(str::to_owned))
    });
    let why = refused.await.unwrap();
    assert!(why.contains("signature"), "{why}");
    let exchange = scene.exchange().await.unwrap();
    assert_eq!(exchange["state"], "failed", "{exchange}");
    assert_eq!(exchange["offers"], serde_json::json!([]), "{exchange}");
    let sensors = exchange["sensors"].as_array().unwrap();
    assert!(sensors.iter().all(|sensor| sensor["attempts"] == 0), "{exchange}");
}

/// Somebody at the broker who says what gateways say.
struct Impostor {
    client: AsyncClient,
    heard: mpsc::Receiver<(String, Vec<u8>)>,
    device: String,
}

impl Impostor {
    async fn at(broker: &Broker, device: &str) -> Self {
        let address = broker.address();
        let options = MqttOptions::new("impostor", (address.ip().to_string(), address.port()));
        let (client, mut events) = AsyncClient::builder(options).capacity(16).try_build().unwrap();
        let (sender, heard) = mpsc::channel(64);
        tokio::spawn(async move {
            while let Ok(event) = events.poll().await {
                let Event::Incoming(Packet::Publish(message)) = event else { continue };
                let topic = String::from_utf8_lossy(&message.topic).into_owned();
                if sender.send((topic, message.payload.to_vec())).await.is_err() {
                    return;
                }
            }
        });
        for name in [names::REFUSED, names::SIGNATURE, names::GET] {
            let topic = format!("{}/{}/{device}/{name}", names::ROOT, names::TOPIC_VERSION);
            client.subscribe(topic, QoS::AtLeastOnce).await.unwrap();
        }
        Self { client, heard, device: device.into() }
    }

    /// Says it, and waits until the sensor refuses it by this name. It must neither sign nor fetch meanwhile.
    async fn is_refused(&mut self, name: &str, message: Vec<u8>, code: ErrorCode) {
        let topic = format!("{}/{}/{}/{name}", names::ROOT, names::TOPIC_VERSION, self.device);
        let once = PublishOptions::at_least_once().retained();
        self.client.publish(topic, message, once).await.unwrap();
        loop {
            let (topic, payload) =
                timeout(Duration::from_secs(60), self.heard.recv()).await.unwrap().unwrap();
            assert!(topic.ends_with(names::REFUSED), "it did as it was told: {topic}");
            if ErrorMsg::decode(&payload).unwrap().code == code {
                return;
            }
        }
    }
}

/// Version that the sensor runs.
const INSTALLED: u64 = 5;

fn manifest(sequence: u64, product: ProductId) -> Manifest {
    Manifest { sequence: Version::new(sequence), product, u_id: UpdateId::new([9; 32]), size: 1024 }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sensor_obeys_nobody_but_its_vendor() {
    let (folder, broker) = (tempfile::tempdir().unwrap(), Broker::embedded().await.unwrap());
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let said = keygen(Path::new(&path("key"))).await;
    let vendor = ReleaseSigningKey::from_bytes(&[1; 32]).unwrap();
    let other = ReleaseSigningKey::from_bytes(&[2; 32]).unwrap();
    let toml = format!(
        "carrier = \"mqtt\"\ngateway = \"{}\"\nkey_file = {:?}\nrelease_key = \"{}\"\nvendor_id = \"{}\"\n\
         class_id = \"{}\"\nstate_dir = {:?}\nslot_file = {:?}\nwake_ms = 200\ninstalled = {INSTALLED}\n",
        broker.address(),
        path("key"),
        vendor.release_key(),
        "11".repeat(16),
        "22".repeat(16),
        path("state"),
        path("flash"),
    );
    let config = folder.path().join("sensor.toml");
    std::fs::write(&config, toml).unwrap();
    let mut impostor = Impostor::at(&broker, said["device"].as_str().unwrap()).await;
    let _sensor = start_sensor(&config);
    let mine = ProductId::from_parts([0x11; 16], [0x22; 16]);
    let theirs = ProductId::from_parts([0x33; 16], [0x22; 16]);
    let newer = INSTALLED + 1;

    let forged = suit::build(&manifest(newer, mine), &other);
    impostor.is_refused(names::MANIFEST, forged, ErrorCode::BadManifest).await;
    let foreign = suit::build(&manifest(newer, theirs), &vendor);
    impostor.is_refused(names::MANIFEST, foreign, ErrorCode::WrongProduct).await;
    let older = suit::build(&manifest(INSTALLED - 1, mine), &vendor);
    impostor.is_refused(names::MANIFEST, older, ErrorCode::Downgrade).await;
    // A receipt for an update that no manifest of the vendor names.
    let receipt = SignRequest::Receipt {
        chain: ChainId::new(1),
        bounty: Bounty::new([3; 20]),
        payee: Payee::new([4; 20]),
        u_id: UpdateId::new([9; 32]),
        s: LockHash::new([5; 32]),
        attempt: Attempt::new(1),
    };
    impostor.is_refused(names::SIGN, receipt.to_vec(), ErrorCode::WrongUpdate).await;
}
