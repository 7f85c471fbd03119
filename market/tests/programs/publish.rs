//! Publications: what is refused, what is taken up again, what comes back.

use std::time::Duration;

use alloy::primitives::{Address, U256, bytes};
use alloy::providers::{Provider as _, RootProvider};
use posthouse_contracts::chain::{Limits, provider};
use posthouse_contracts::deployment::{FACTORY, P256_BOUNTY, SECP256K1_BOUNTY};
use posthouse_protocol::id::ChainId;
use serde_json::json;

use crate::world::{CHAIN, SHARE, World};

fn balance(world: &World) -> U256 {
    world.chain.balance(world.chain.accounts()[0].address())
}

#[test]
fn an_update_is_published_once_and_refunded_once() {
    let mut world = World::new();
    world.set_up_vendor();
    let image = world.image("image", 300_000);
    let args = ["publish", &image, "--claim-by", "1h", "--lock", "30m"];
    let published = world.vendor(&args);
    assert_eq!(published["version"], 1);
    assert_eq!(published["deposit_wei"], "5000000000000000");
    assert!(published["gas_used"].as_u64().unwrap() > 100_000);
    let bounty: Address = published["bounty"].as_str().unwrap().parse().unwrap();
    assert_eq!(world.chain.balance(bounty), U256::from(5 * SHARE));

    let again = world.vendor(&["publish", &image, "--version", "1"]);
    assert_eq!(again, published, "the same image as the same version is the same publication");
    let other = world.image("other", 1000);
    let said = world.vendor_fails(&["publish", &other, "--version", "1"]);
    assert!(said.contains("version 1 was begun with another image"), "{said}");
    assert_eq!(world.vendor(&["publish", &other, "--version", "7"])["version"], 7);
    let third = world.image("third", 500);
    let said = world.vendor_fails(&["publish", &third, "--version", "3"]);
    assert!(said.contains("version 3 is not above 7"), "{said}");

    let said = world.vendor_fails(&["refund", "--version", "1"]);
    assert!(said.contains("claims are open"), "{said}");
    // Far enough: with ten blocks a second the chain is ahead of the clock that this is added to.
    world.chain.increase_time(Duration::from_secs(86_400)).unwrap();
    world.chain.mine();
    let before = balance(&world);
    let refund = world.vendor(&["refund", "--version", "1"]);
    assert_eq!(refund["amount_wei"], "5000000000000000");
    assert!(balance(&world) > before - U256::from(10).pow(U256::from(15)), "gas and no more");
    assert_eq!(world.chain.balance(bounty), U256::ZERO);
    let said = world.vendor_fails(&["refund", "--version", "1"]);
    assert!(said.contains("nothing to refund"), "{said}");
    let status = world.vendor(&["status"]);
    assert_eq!(status["releases"][0]["chain"]["balance_wei"], "0");
    assert_eq!(status["releases"][1]["chain"]["devices"], 5);
}

fn node(world: &World) -> RootProvider {
    provider(&[world.chain.url().into()], ChainId::new(CHAIN), Limits::default()).unwrap()
}

/// The deposit goes to the factory of this release, by its address and by its code, or nowhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn money_goes_to_this_releases_factory_and_nowhere_else() {
    let mut world = World::new();
    world.enrol_and_deploy();
    let image = world.image("image", 1000);
    let (paid, node) = (balance(&world), node(&world));
    let fails = |code: i32, words: &[&str]| {
        for how in ["--yes", "--dry-run"] {
            let output = world.asking_vendor_command(&["publish", &image, how]).output().unwrap();
            let said = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(code), "{said}");
            words.iter().for_each(|word| assert!(said.contains(word), "{word}: {said}"));
        }
        assert_eq!(world.vendor(&["status"])["releases"], json!([]));
        assert_eq!(balance(&world), paid, "nothing is sent");
    };
    for contract in [FACTORY, SECP256K1_BOUNTY, P256_BOUNTY] {
        let ours = node.get_code_at(contract.address).await.unwrap();
        // Takes whatever it is sent (STOP), and says nothing.
        world.chain.set_code(contract.address, bytes!("00"));
        fails(1, &[&format!("at {} stands something else than {}", contract.address, contract.name)]);
        world.chain.set_code(contract.address, ours);
    }
    let ours = node.get_code_at(FACTORY.address).await.unwrap();
    world.chain.set_code(FACTORY.address, bytes!(""));
    fails(1, &[&FACTORY.address.to_string(), "has no code", "posthouse-vendor deploy"]);
    world.chain.set_code(FACTORY.address, ours);

    let settings = std::fs::read_to_string(world.path("vendor.toml")).unwrap();
    let named = format!("factory = \"{}\"\n", FACTORY.address);
    let other = Address::repeat_byte(7).to_string();
    std::fs::write(world.path("vendor.toml"), settings.replace(&FACTORY.address.to_string(), &other))
        .unwrap();
    fails(2, &["chain.factory", &other, &FACTORY.address.to_string()]);
    // Settings need not name it.
    std::fs::write(world.path("vendor.toml"), settings.replace(&named, "")).unwrap();
    let plan = world.vendor(&["publish", &image, "--dry-run"]);
    assert_eq!(plan["deposit_wei"], "5000000000000000");
}

#[test]
fn what_cannot_be_published_says_why() {
    let mut world = World::new();
    world.set_up_vendor();
    let large = world.image("large", 513);
    let said = world.vendor_fails(&["publish", &large, "--mode", "file"]);
    assert!(said.contains("513 bytes in file mode, at most 512") && said.contains("--mode key"));
    let empty = world.image("empty", 0);
    let said = world.vendor_fails(&["publish", &empty]);
    assert!(said.contains("the image has 0 bytes"), "{said}");
    let said = world.vendor_fails(&["publish", "/nonexistent/image"]);
    assert!(said.contains("/nonexistent/image"), "{said}");
    let said = world.vendor_fails(&["publish", &large, "--lock", "1m"]);
    assert!(said.contains("lock") && said.contains("30m to 24h"), "{said}");
    assert_eq!(world.vendor(&["status"])["releases"], serde_json::json!([]));
    let said = world.vendor_fails(&["refund"]);
    assert!(said.contains("nothing was published"), "{said}");
}
