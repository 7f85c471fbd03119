//! SIGKILL at every named point, then a restart: nothing is lost, nothing happens twice.
#![cfg(feature = "fault-injection")]

use alloy::primitives::{Address, U256};
use posthouse_protocol::exchange::Response;

use crate::gateway::Gateway;
use crate::world::{Running, SHARE, World, until};

const SIGKILL: i32 = 9;

#[test]
fn a_publication_goes_on_where_it_was_killed() {
    use std::os::unix::process::ExitStatusExt as _;
    let mut world = World::new();
    world.set_up_vendor();
    let points = ["vendor.staged", "vendor.prepared", "vendor.signed", "vendor.sent"];
    for (at, point) in points.into_iter().enumerate() {
        let image = world.image(point, 1000 + at);
        let mut command = world.vendor_command(&["publish", &image]);
        let killed = command.env("POSTHOUSE_CRASH_AT", point).output().unwrap();
        assert_eq!(killed.status.signal(), Some(SIGKILL), "{point}");
        let published = world.vendor(&["publish", &image]);
        assert_eq!(published["version"], at as u64 + 1, "{point}");
        let bounty: Address = published["bounty"].as_str().unwrap().parse().unwrap();
        assert_eq!(world.chain.balance(bounty), U256::from(5 * SHARE), "{point}");
    }
    let releases = world.vendor(&["status"]);
    let paid = releases["releases"].as_array().unwrap();
    assert_eq!(paid.len(), points.len());
    assert!(paid.iter().all(|release| release["state"] == "published"));
}

/// Each state in turn: the distributor dies when the state is on disk and nobody knows yet.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sale_survives_a_kill_in_each_state() {
    let mut world = World::new();
    world.set_up_vendor();
    let seeder = world.seed();
    world.write_distributor("d1", 1, &seeder);
    let points = [
        "joined",
        "proving",
        "offered",
        "receipt",
        "collecting",
        "reserving",
        "transaction",
        "locked",
        "revealing",
        "paid",
        "claiming",
    ];
    for (at, point) in points.into_iter().enumerate() {
        let image = world.image(point, 2000 + at);
        let published = world.vendor(&["publish", &image]);
        let mut command = world.distributor_command("d1", &["run"]);
        command.env("POSTHOUSE_CRASH_AT", format!("distributor.{point}"));
        let mut killed = Some(Running::start(command));
        let mut restarted = None;
        let mut gateway = Gateway::start(&world, &seeder, &published).await;
        if point == "joined" {
            killed.take().unwrap().wait();
            restarted = Some(Running::start(world.distributor_command("d1", &["run"])));
        }
        let mut tries = 0;
        let opened = loop {
            if let Some(opened) = buy(&mut gateway, &world).await {
                break opened;
            }
            tries += 1;
            assert!(tries < 20, "{point}");
            if let Some(mut running) = killed.take() {
                running.wait();
                restarted = Some(Running::start(world.distributor_command("d1", &["run"])));
            }
        };
        assert_eq!(opened, std::fs::read(&image).unwrap(), "{point}");
        if let Some(mut running) = killed.take() {
            running.wait();
            restarted = Some(Running::start(world.distributor_command("d1", &["run"])));
        }
        let bounty = &published["bounty"];
        until("all are paid", || {
            let status = world.distributor("d1", &["status"]);
            let bounties = status["bounties"].as_array().unwrap();
            bounties.iter().any(|row| row["bounty"] == *bounty && row["devices_paid"] == 4)
        });
        let address: Address = bounty.as_str().unwrap().parse().unwrap();
        assert_eq!(world.chain.balance(address), U256::from(SHARE), "{point}");
        drop(restarted);
        gateway.dsn.clone().stop().await;
    }
}

/// One attempt to buy for three sensors and a late one, from the beginning: all requests are
/// idempotent.
async fn buy(gateway: &mut Gateway, world: &World) -> Option<Vec<u8>> {
    let peer = gateway.find().await;
    let offer = gateway.offer(world, peer).await?;
    for device in 0..3 {
        let ack = gateway.try_ask(peer, &gateway.receipt(world, &offer, device)).await?;
        assert_eq!(ack, Response::Ack { index: device as u32 });
    }
    gateway.try_ask(peer, &gateway.seal(&offer)).await?;
    match gateway.try_ask(peer, &gateway.poll(&offer)).await? {
        Response::Key { r } => {
            let late = gateway.try_ask(peer, &gateway.receipt(world, &offer, 3)).await?;
            assert_eq!(late, Response::Ack { index: 3 });
            Some(gateway.open(&offer, &r, peer).await)
        }
        other => panic!("{other:?}"),
    }
}

/// Two versions of one image for one fleet; the first is over, and the distributor dies when that is on disk.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_package_of_a_bounty_that_is_over_is_deleted_and_no_other() {
    let mut world = World::new();
    world.set_up_vendor();
    let image = world.image("image", 2000);
    let seeder = world.seed();
    world.write_distributor("d1", 1, &seeder);
    let mut command = world.distributor_command("d1", &["run"]);
    command.env("POSTHOUSE_CRASH_AT", "distributor.over");
    let mut killed = Running::start(command);
    let sold = || world.distributor("d1", &["status"])["bounties"].as_array().unwrap().len();
    let first = world.vendor(&["publish", &image, "--claim-by", "2h", "--lock", "30m"]);
    until("the first is joined", || sold() == 1);
    let second = world.vendor(&["publish", &image, "--version", "2"]);
    until("the second is joined", || sold() == 2);
    let folder = |published: &serde_json::Value| {
        let bounty = published["bounty"].as_str().unwrap().trim_start_matches("0x").to_lowercase();
        world.path("d1/packages").join(bounty)
    };
    assert!(folder(&first).join("body").exists() && folder(&second).join("body").exists());

    world.chain.increase_time(std::time::Duration::from_secs(86_400)).unwrap();
    killed.wait();
    assert!(folder(&first).join("body").exists());
    let _restarted = Running::start(world.distributor_command("d1", &["run"]));
    until("the first is deleted", || !folder(&first).exists());
    assert_eq!(sold(), 1);
    let mut gateway = Gateway::start(&world, &seeder, &second).await;
    assert_eq!(buy(&mut gateway, &world).await.unwrap(), std::fs::read(&image).unwrap());
    assert!(folder(&second).join("body").exists());
}
