//! Addresses at which nobody is: loopback is believed, so this takes a network of its own, with addresses that are not.

use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;
use std::time::Instant;

use coap_lite::ResponseType;
use posthouse_actors::coap::{Coap, Config};

use super::asker::{Asker, ECHO, block_size, code};
use super::made_up;
use crate::fleet::Sensor;
use crate::site::Site;
use crate::update::all_arrive;

/// Set where [`on_a_network_of_its_own`] runs on one.
const NETWORK: &str = "POSTHOUSE_TEST_NETWORK";
const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const LEN: usize = 20_000;
/// Header, token, options and a block of 1024 bytes.
const FULL: usize = 1100;

fn host(last: u8) -> IpAddr {
    Ipv4Addr::new(198, 51, 100, last).into()
}

/// Runs [`on_a_network_of_its_own`] in a namespace where two networks are this machine's.
#[test]
fn who_may_be_nowhere_is_sent_little() {
    let network = "ip link set lo up && ip addr add 192.0.2.1/32 dev lo && \
                   ip route add local 198.51.100.0/24 dev lo && exec \"$@\"";
    let unshare = |arguments: &[&std::ffi::OsStr]| {
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--net", "sh", "-c", network, "sh"]).args(arguments);
        command.env(NETWORK, "1").output()
    };
    if !unshare(&["true".as_ref()]).is_ok_and(|tried| tried.status.success()) {
        return eprintln!(
            "SKIPPED: no network in a namespace of our own: tried unshare --map-root-user --net and ip on the PATH {:?}",
            std::env::var_os("PATH").unwrap_or_default()
        );
    }
    let program = std::env::current_exe().unwrap();
    let test = "attacks::spoofed::on_a_network_of_its_own";
    let done = unshare(&[program.as_ref(), "--exact".as_ref(), test.as_ref()]).unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stdout));
}

#[actix::test]
async fn on_a_network_of_its_own() {
    if std::env::var_os(NETWORK).is_none() {
        return;
    }
    let begun = Instant::now();
    let dir = tempfile::tempdir().unwrap();
    let site = Site::start(dir.path(), LEN);
    let (_, gateway) = Coap::start(Config::new((GATEWAY, 0).into()), &site.hub).await.unwrap();
    site.stage_for(made_up(1).key.device_id());
    let path = format!("ph/image/{}", site.u_id);
    // Answers in full that one host may have had until now: three a minute.
    let in_full = || 3 * (1 + begun.elapsed().as_secs() / 60) as usize * FULL;

    // Somebody asks in the name of an address where nobody expects anything.
    let mut victim = Asker::new(host(7), gateway).await;
    let flood = async |victim: &mut Asker| {
        for number in 0..100 {
            let answer = victim.block(&path, number % 19, 6, None).await;
            assert_eq!(code(&answer), ResponseType::Content);
        }
        victim.settled().await;
        assert!(victim.received <= 3 * victim.sent + in_full(), "{} of {}", victim.received, victim.sent);
    };
    flood(&mut victim).await;

    // It guesses: all ids there are, as though the address answered its pings, or acknowledged what it was sent.
    for kind in [0x60, 0x70] {
        for high in 0..=u8::MAX {
            for low in 0..=u8::MAX {
                victim.send(&[kind, 0, high, low]).await;
            }
            victim.settled().await;
        }
    }
    (victim.sent, victim.received) = (0, 0);
    flood(&mut victim).await;
    assert!(block_size(&victim.block(&path, 0, 6, None).await) < 1024);

    // From every port of the host: it has had what it may have.
    let (mut sent, mut received) = (0, 0);
    for _ in 0..200 {
        let mut port = Asker::new(host(7), gateway).await;
        port.block(&path, 0, 6, None).await;
        (sent, received) = (sent + port.sent, received + port.received);
    }
    assert!(received <= 3 * sent + in_full(), "{received} of {sent}");

    // One who sends the Echo back has the image in large blocks, and so has one who answers pings, meanwhile.
    let mut honest = Asker::new(host(8), gateway).await;
    let first = honest.block(&path, 0, 6, None).await;
    let echo = first.get_first_option(ECHO).cloned();
    assert!(echo.is_some());
    let mut image = Vec::new();
    for number in 0..LEN.div_ceil(1024) as u32 {
        let block = honest.block(&path, number, 6, echo.clone()).await;
        assert_eq!(block_size(&block), 1024);
        image.extend_from_slice(&block.payload);
    }
    assert!(image == site.firmware);

    let mut pinged = Asker::new(host(9), gateway).await;
    pinged.answers_pings = true;
    let mut image = Vec::new();
    for number in 0..LEN.div_ceil(1024) as u32 {
        let block = pinged.block(&path, number, 6, None).await;
        assert_eq!(block_size(&block), 1024, "block {number}");
        image.extend_from_slice(&block.payload);
    }
    assert!(image == site.firmware);

    // So has a sensor of ours, all of it.
    all_arrive(&site, &[Sensor::new(dir.path(), 1, "coap", gateway, "block = 1024\n")]).await;
}
