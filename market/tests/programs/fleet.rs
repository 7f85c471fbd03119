//! Fleets: how they are enrolled, and one that is larger than any block.

use std::fs;

use posthouse_contracts::fleet::{address, file_len, leaf, verify};
use posthouse_protocol::exchange::Response;
use posthouse_protocol::id::{Codec, Curve, DeviceKey};

use crate::gateway::Gateway;
use crate::world::{Running, World, until};

/// Bytes of the longest block that peers exchange.
const MAX_BLOCK: u64 = 2 << 20;

/// As many different points, whoever has their secrets: both of each x that has any.
fn points(count: u32) -> Vec<DeviceKey> {
    let point = |x: u32, prefix: u8| {
        let mut key = [0; 33];
        key[0] = prefix;
        key[29..].copy_from_slice(&x.to_be_bytes());
        DeviceKey::new(key)
    };
    let both = |x| [point(x, 2), point(x, 3)];
    let xs = (1u32..).filter(|x| address(&point(*x, 2)).is_some());
    xs.flat_map(both).take(count as usize).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_beyond_one_block_is_sold_to() {
    let mut world = World::new();
    world.silent = points(65_536);
    world.set_up_vendor();
    let published = world.vendor(&["publish", &world.image("image", 1000)]);
    let seeder = world.seed();
    world.write_distributor("d1", 1, &seeder);
    let distributor = Running::start(world.distributor_command("d1", &["run"]));
    let mut gateway = Gateway::start(&world, &seeder, &published).await;
    assert_eq!(gateway.package.fleet.codec(), Codec::DagPb, "a file of several blocks");
    assert!(file_len(gateway.release.fleet_size) > MAX_BLOCK);
    let peer = gateway.find().await;
    let offer = gateway.offer(&world, peer).await.unwrap();
    is_proven(&gateway, &world, peer).await;
    let ack = gateway.ask(peer, &gateway.receipt(&world, &offer, 3)).await;
    assert_eq!(ack, Response::Ack { index: 65_539 });
    gateway.ask(peer, &gateway.seal(&offer)).await;
    until("it is paid", || world.distributor("d1", &["status"])["bounties"][0]["devices_paid"] == 1);

    // A distributor whose index is torn makes it again, from the file that it has.
    drop((distributor, seeder));
    let index =
        world.path("d1/packages").join(published["bounty"].as_str().unwrap().trim_start_matches("0x"));
    let index = index.join("fleet.index");
    let whole = fs::read(&index).unwrap();
    fs::write(&index, &whole[..whole.len() / 2]).unwrap();
    let _distributor = Running::start(world.distributor_command("d1", &["run"]));
    until("the index is whole", || fs::read(&index).unwrap() == whole);
    is_proven(&gateway, &world, peer).await;
}

/// The distributor gives the places of the devices that it is asked for, with paths to the root on chain.
async fn is_proven(gateway: &Gateway, world: &World, peer: posthouse_dsn::PeerId) {
    let Response::Members { entries } = gateway.ask(peer, &gateway.members(world, &[0, 4])).await else {
        panic!("no members")
    };
    for (entry, (device, place)) in entries.into_iter().zip([(0, 65_536), (4, 65_540)]) {
        let (entry, release) = (entry.unwrap(), &gateway.release);
        let leaf = leaf(Curve::Secp256k1, &world.devices[device].device_key(), place).unwrap();
        let path: Vec<_> = entry.path.iter().map(Into::into).collect();
        assert_eq!((entry.index, path.len()), (place, 17));
        let (root, depth, size) = (&release.fleet_root, release.fleet_depth, release.fleet_size);
        verify(root, depth, size, place, leaf, &path).unwrap();
    }
}

#[test]
fn a_list_that_is_wrong_is_refused_by_its_line_and_leaves_the_fleet() {
    let world = World::new();
    world.write_vendor();
    let mut keys = points(4);
    let enrolled = world.vendor(&["enrol", &world.list("good", &keys)]);
    assert_eq!((&enrolled["devices"], &enrolled["depth"]), (&4.into(), &2.into()));
    let files = || {
        let files = fs::read_dir(world.path("vendor")).unwrap();
        let files = files.map(|file| file.unwrap()).filter(|file| file.file_name() != "vendor.lock");
        let mut files: Vec<_> =
            files.map(|file| (file.file_name(), fs::read(file.path()).unwrap())).collect();
        files.sort();
        files
    };
    let before = files();
    assert_eq!(
        before.iter().map(|(name, _)| name.to_str().unwrap()).collect::<Vec<_>>(),
        ["fleet", "fleet.index"]
    );

    keys.push(keys[1]);
    let said = world.vendor_fails(&["enrol", &world.list("twice", &keys)]);
    assert!(said.contains("twice: lines 3 and 6: devices 1 and 4 have the same key"), "{said}");
    keys[4] = DeviceKey::new([2; 33]);
    keys[2] = DeviceKey::new([5; 33]);
    let said = world.vendor_fails(&["enrol", &world.list("off", &keys)]);
    assert!(said.contains("off: line 4: device 2: 0505"), "{said}");
    let said = world.vendor_fails(&["enrol", &world.list("none", &[])]);
    assert!(said.contains("none: the fleet is empty"), "{said}");
    fs::write(world.path("torn"), "0203").unwrap();
    let said = world.vendor_fails(&["enrol", world.path("torn").to_str().unwrap()]);
    assert!(said.contains("torn: line 1: \"0203\": "), "{said}");
    assert_eq!(files(), before);
}
