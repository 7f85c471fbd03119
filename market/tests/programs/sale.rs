//! A sale from publication to payment, with the programs as processes.

use std::time::Duration;

use alloy::consensus::Transaction as _;
use alloy::primitives::U256;
use posthouse_devchain::Proxy;
use posthouse_protocol::exchange::{Refusal, Response};
use posthouse_protocol::id::ContentId;

use crate::gateway::Gateway;
use crate::world::{Running, World, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_buys_for_its_sensors_and_the_distributor_is_paid() {
    let mut world = World::new();
    world.set_up_vendor();
    let image = world.image("image", 700_000);
    let published = world.vendor(&["publish", &image]);
    let seeder = world.seed();
    world.write_distributor("d1", 1, &seeder);
    let distributor = Running::start(world.distributor_command("d1", &["run"]));
    let joined = distributor.says();
    assert_eq!((&joined["joined"], &joined["version"]), (&published["bounty"], &published["version"]));

    let mut gateway = Gateway::start(&world, &seeder, &published).await;
    let peer = gateway.find().await;
    assert_eq!(peer.to_string(), distributor.ready["peer_id"].as_str().unwrap());

    let secret = ContentId::raw(gateway.release.u_id.to_bytes());
    gateway.wants_block(peer, secret).await.unwrap_err();
    let secret = ContentId::raw(gateway.release.key_id.unwrap().to_bytes());
    gateway.wants_block(peer, secret).await.unwrap_err();

    let offer = gateway.offer(&world, peer).await.unwrap();
    for device in 0..4 {
        let ack = gateway.ask(peer, &gateway.receipt(&world, &offer, device)).await;
        assert_eq!(ack, Response::Ack { index: device as u32 });
    }
    let sealed = gateway.ask(peer, &gateway.seal(&offer)).await;
    assert_eq!(sealed, Response::Sealed { receipts: 4 });
    let Response::Key { r } = gateway.ask(peer, &gateway.poll(&offer)).await else { panic!("no key") };
    let opened = gateway.open(&offer, &r, peer).await;
    assert_eq!(opened, std::fs::read(&image).unwrap());

    // The fifth sensor wakes after the key was shown.
    let late = gateway.ask(peer, &gateway.receipt(&world, &offer, 4)).await;
    assert_eq!(late, Response::Ack { index: 4 });
    until("all are paid", || world.distributor("d1", &["status"])["bounties"][0]["devices_paid"] == 5);
    let copy = gateway.ask(peer, &gateway.copy(&world, &offer, 4)).await;
    assert!(matches!(copy, Response::Offer { s, .. } if s == offer.s));
    let status = world.vendor(&["status"]);
    assert_eq!(status["releases"][0]["chain"]["devices_paid"], 5);
    assert_eq!(status["releases"][0]["chain"]["paid_wei"], "5000000000000000");
    let status = world.distributor("d1", &["status"]);
    assert_eq!(status["bounties"][0]["earned_wei"], "5000000000000000");
    let chain = &status["chain"];
    assert_eq!(chain["trust"], "light-client");
    assert!(chain["finalized_slot"].is_u64() && chain["alarm"].is_null(), "{chain}");

    let second = world.distributor_command("d1", &["run"]).output().unwrap();
    let said = String::from_utf8(second.stderr).unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert!(said.contains("another process works in this folder"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_distributor_says_why_it_does_not_know_the_chain() {
    let mut world = World::new();
    world.set_up_vendor();
    let image = world.image("image", 64);
    world.vendor(&["publish", &image]);
    let seeder = world.seed();
    world.write_distributor("d1", 1, &seeder);
    let file = world.path("d1.toml");
    let settings = std::fs::read_to_string(&file).unwrap();
    // Nobody answers there.
    std::fs::write(&file, settings.replace(world.beacon.url(), "http://127.0.0.1:1")).unwrap();
    let _distributor = Running::start(world.distributor_command("d1", &["run"]));
    let mut chain = serde_json::Value::Null;
    until("its status says so", || {
        chain = world.distributor("d1", &["status"])["chain"].clone();
        chain["last_error"].is_string()
    });
    assert!(chain["last_error"].as_str().unwrap().contains("127.0.0.1:1"), "{chain}");
    assert!(chain["finalized_slot"].is_null() && chain["since"].as_u64().unwrap() > 0, "{chain}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_small_patch_is_sold_whole() {
    let mut world = World::new();
    world.set_up_vendor();
    let image = world.image("patch", 64);
    let published = world.vendor(&["publish", &image, "--mode", "file"]);
    assert_eq!(published["mode"], "file");
    let seeder = world.seed();
    world.write_distributor("d1", 1, &seeder);
    let _distributor = Running::start(world.distributor_command("d1", &["run"]));
    let mut gateway = Gateway::start(&world, &seeder, &published).await;
    let peer = gateway.find().await;
    let offer = gateway.offer(&world, peer).await.unwrap();
    gateway.ask(peer, &gateway.receipt(&world, &offer, 0)).await;
    gateway.ask(peer, &gateway.seal(&offer)).await;
    let Response::Key { r } = gateway.ask(peer, &gateway.poll(&offer)).await else { panic!("no key") };
    assert_eq!(gateway.open(&offer, &r, peer).await, std::fs::read(&image).unwrap());
    let copy = gateway.ask(peer, &gateway.copy(&world, &offer, 3)).await;
    assert_eq!(copy, Response::Refused { reason: Refusal::NotAuthenticated });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wallet_that_is_too_small_is_told_and_sends_nothing_until_it_is_filled() {
    let mut world = World::new();
    world.set_up_vendor();
    let image = world.image("image", 2000);
    let published = world.vendor(&["publish", &image]);
    let seeder = world.seed();
    world.write_distributor("d1", 1, &seeder);
    let payee = world.chain.accounts()[1].address();
    let full = world.chain.balance(payee);
    world.chain.set_balance(payee, U256::from(1_000_000));
    let _distributor = Running::start(world.distributor_command("d1", &["run"]));
    // The audit log cannot be written, which stops nothing: a folder is in its place.
    let log = world.path("d1/audit.jsonl");
    std::fs::create_dir(&log).unwrap();
    let mut gateway = Gateway::start(&world, &seeder, &published).await;
    let peer = gateway.find().await;
    let offer = gateway.offer(&world, peer).await.unwrap();
    gateway.ask(peer, &gateway.receipt(&world, &offer, 0)).await;
    gateway.ask(peer, &gateway.seal(&offer)).await;
    let lacks = || world.distributor("d1", &["status"])["exchanges"][0]["wallet_lacks_wei"].clone();
    until("its status says so", || lacks().is_string());
    let status = world.distributor("d1", &["status"]);
    assert_eq!(status["transactions"], serde_json::json!([]));
    assert_eq!(status["exchanges"][0]["waits_for_price"], false);
    let missing: U256 = lacks().as_str().unwrap().parse().unwrap();
    assert!(missing > U256::from(100_000) * U256::from(1_000_000_000), "{missing}");

    world.chain.set_balance(payee, full);
    until("it is paid", || world.distributor("d1", &["status"])["bounties"][0]["devices_paid"] == 1);
    assert!(lacks().is_null());

    let audit = || world.distributor("d1", &["status"])["audit"]["error"].clone();
    until("its status says that nothing is written down", || audit().is_string());
    std::fs::remove_dir(log).unwrap();
    until("its status says that all is written down", || audit().is_null());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_private_relay_alone_is_shown_the_claim_in_one_step() {
    let mut world = World::new();
    world.set_up_vendor();
    let image = world.image("image", 2000);
    let published = world.vendor(&["publish", &image]);
    let seeder = world.seed();
    let [public, relay] = [(), ()].map(|()| Proxy::start(world.chain.url(), |_, _, _| ()).unwrap());
    (world.rpc, world.relay) = (vec![public.url().into()], Some(relay.url().into()));
    // However slowly it is mined and seen here: what is counted is the first one.
    world.resubmit = Duration::from_secs(600);
    world.write_distributor("d1", 1, &seeder);
    let distributor = Running::start(world.distributor_command("d1", &["run"]));
    let mut gateway = Gateway::start(&world, &seeder, &published).await;
    let peer = gateway.find().await;
    let offer = gateway.offer(&world, peer).await.unwrap();
    for device in 0..2 {
        gateway.ask(peer, &gateway.receipt(&world, &offer, device)).await;
    }
    gateway.ask(peer, &gateway.seal(&offer)).await;
    let Response::Key { r } = gateway.ask(peer, &gateway.poll(&offer)).await else { panic!("no key") };
    assert_eq!(gateway.open(&offer, &r, peer).await, std::fs::read(&image).unwrap());
    until("all are paid", || world.distributor("d1", &["status"])["bounties"][0]["devices_paid"] == 2);
    drop(distributor);

    assert_eq!(relay.count("eth_sendRawTransaction"), 1);
    assert_eq!(public.count("eth_sendRawTransaction"), 0);
    let payee = world.chain.accounts()[1].address();
    let blocks = (0..=world.chain.head().number()).filter_map(|at| world.chain.block(at));
    let sent: Vec<_> = blocks.flat_map(|block| block.transactions().to_vec()).collect();
    let sent: Vec<_> = sent.iter().filter(|tx| tx.signer() == payee).collect();
    assert_eq!(sent.len(), 1, "in one step");
    let secrets = [hex::encode(&sent[0].input()[4..36]), hex::encode(r.as_bytes())];
    let shown = |(_, asked): &(String, serde_json::Value)| {
        secrets.iter().any(|secret| asked.to_string().contains(secret))
    };
    assert!(relay.seen().iter().any(shown), "t goes to the relay");
    assert!(!public.seen().iter().any(shown), "and to nobody else");
}
