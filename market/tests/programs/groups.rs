//! Groups and bonus: shown before the money goes, on chain as they were said, and each bad one told by its name.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use alloy::primitives::{Address, U256};
use posthouse_contracts::chain::{Chain as _, Limits, RpcChain, RpcConfig};
use posthouse_contracts::terms::{Group, Terms};
use posthouse_protocol::id::{Bounty, ChainId};
use serde_json::{Value, json};

use crate::world::{CHAIN, SHARE, World};

const GWEI: u128 = 1_000_000_000;
const GROUPED: [&str; 8] =
    ["--group", "2..5=1gwei", "--group", "0..2=2 gwei", "--bonus", "50%/2h", "--claim-by", "1d"];

fn grouped<'a>(image: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    ["publish", image].into_iter().chain(GROUPED).chain(more.iter().copied()).collect()
}

async fn terms(world: &World, published: &Value) -> Terms {
    let bounty: Bounty = published["bounty"].as_str().unwrap().parse().unwrap();
    let config = RpcConfig {
        urls: vec![world.chain.url().into()],
        chain: ChainId::new(CHAIN),
        factory: world.factory().parse().unwrap(),
        limits: Limits::default(),
    };
    RpcChain::new(&config).unwrap().terms(&bounty).await.unwrap()
}

/// Names and lengths of all files in a folder.
fn files(folder: &Path) -> BTreeMap<String, u64> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.insert(entry.path().display().to_string(), entry.metadata().unwrap().len());
        }
    }
    found
}

/// What a publication that is refused must leave as it was.
fn state(world: &World) -> (BTreeMap<String, u64>, U256, Value) {
    let paid = world.chain.balance(world.chain.accounts()[0].address());
    (files(world.folder.path()), paid, world.vendor(&["status"]))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_and_bonus_are_on_chain_as_they_were_shown() {
    let mut world = World::new();
    world.set_up_vendor();
    let image = world.image("image", 1000);
    let before = state(&world);
    let plan = world.vendor(&grouped(&image, &["--dry-run"]));
    assert_eq!(state(&world), before, "a dry run leaves all as it is");
    assert_eq!(plan["devices"], 5);
    assert_eq!(plan["deposit_wei"], (7 * GWEI + 7 * GWEI / 2).to_string());
    assert_eq!(plan["without_bonus_wei"], (7 * GWEI).to_string());
    let row = |begin: u32, end: u32, share: u128| {
        let (devices, largest) = (u128::from(end - begin), share + share / 2);
        json!({ "begin": begin, "end": end, "share_wei": share.to_string(),
                "largest_share_wei": largest.to_string(), "deposit_wei": (devices * largest).to_string() })
    };
    assert_eq!(plan["groups"], json!([row(0, 2, 2 * GWEI), row(2, 5, GWEI)]));
    let number = |field: &str| plan[field].as_u64().unwrap();
    assert_eq!(number("refund_from"), number("claim_by") + 7200 + 1);
    assert_eq!(number("claim_by") - number("bonus_until"), 86_400 - 7200);
    let wei = |field: &str| plan[field].as_str().unwrap().parse::<U256>().unwrap();
    assert_eq!(wei("worst_case_wei"), wei("deposit_wei") + wei("gas_at_most_wei"));
    assert_eq!(wei("gas_now_wei"), wei("fee_wei") * U256::from(number("gas")));
    assert_eq!(wei("gas_at_most_wei"), U256::from(200 * GWEI) * U256::from(number("gas_limit")));

    let output = world.asking_vendor_command(&grouped(&image, &[])).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("deposit") && said.contains("give --yes"), "without a terminal: {said}");
    for no in ["n\n", "\n"] {
        assert!(on_terminal(&world, &image, no).contains("not agreed to"));
    }
    assert_eq!(state(&world), before, "what is not agreed to leaves all as it is");
    let said = on_terminal(&world, &image, "y\n");
    for line in [
        "version 1: 1000 bytes in key mode for 5 devices",
        "0..2                  0.000000002 ether         0.000000003 ether         0.000000006 ether",
        "deposit        0.0000000105 ether",
        "without bonus  0.000000007 ether",
        "bonus          50.00%, falling to nothing by 20",
        "refund from    20",
        "Publish? [y/N]",
        "bounty: 0x",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
    let published = world.vendor(&["publish", &image, "--version", "1"]);
    let terms = terms(&world, &published).await;
    let group = |end_index, share| Group { end_index, share };
    assert_eq!(terms.groups, [group(2, 2 * GWEI), group(5, GWEI)]);
    assert_eq!((terms.bonus_bps, terms.lock_secs), (5000, 7200));
    assert_eq!(terms.deposit(), wei("deposit_wei"));
    assert!(terms.bonus_until <= terms.start + 7200 && terms.bonus_until >= number("bonus_until"));
    assert!(terms.claim_by >= number("claim_by") && terms.claim_by <= terms.start + 86_400);
    let used = published["gas_used"].as_u64().unwrap();
    assert!(number("gas") >= used && number("gas") < used + 2000, "{used}: {plan}");
    let bounty: Address = published["bounty"].as_str().unwrap().parse().unwrap();
    assert_eq!(world.chain.balance(bounty), terms.deposit());
    assert_eq!(published["bonus_until"], terms.bonus_until);
    assert_eq!(published["refund_from"], terms.refund_from());
    let expected = json!([{ "end": 2, "share_wei": "2000000000" }, { "end": 5, "share_wei": "1000000000" }]);
    assert_eq!(published["groups"], expected);

    let again = ["--version", "1"];
    assert_eq!(world.vendor(&grouped(&image, &again)), published, "said again it is the same publication");
    for (other, what) in [(["--share", "1gwei"], "share"), (["--bonus", "50%/1h"], "bonus")] {
        let said = world.vendor_fails(&[&["publish", &image, "--version", "1"], &other[..]].concat());
        assert!(said.contains(&format!("begun with another {what}")), "{said}");
    }
    let said = world.vendor_fails(&["publish", &image, "--version", "1", "--dry-run"]);
    assert!(said.contains("nothing is left to decide"), "{said}");
}

#[test]
fn each_bad_group_and_bonus_is_refused_and_nothing_is_done() {
    let mut world = World::new();
    world.enrol_and_deploy();
    let image = world.image("image", 1000);
    let before = state(&world);
    let nine: Vec<String> = (0..9).map(|i| format!("{i}..{}=1wei", i + 1)).collect();
    let nine: Vec<&str> = nine.iter().flat_map(|group| ["--group", group]).collect();
    let group = |text: &'static str| ["--group", text];
    let refused: &[(&[&str], i32, &[&str])] = &[
        (&[group("0..2=1gwei"), group("3..5=1gwei")].concat(), 1, &["--group", "gap between 2 and 3"]),
        (&group("0..4=1gwei"), 1, &["--group", "gap between 4 and 5"]),
        (&[group("0..3=1gwei"), group("2..5=1gwei")].concat(), 1, &["--group", "overlap", "2..5"]),
        (&group("0..6=1gwei"), 1, &["--group", "0..6", "beyond the fleet, which has 5 devices"]),
        (&group("0..5=0wei"), 1, &["--group", "0..5: 0 wei"]),
        (&group("0..5=79228162514264337593543950336wei"), 1, &["--group", "2^96"]),
        (&group("5..0=1wei"), 1, &["--group", "5..0 is empty"]),
        (&nine, 1, &["--group", "9 groups, at most 8"]),
        (&group("0..5"), 2, &["--group", "0..1000=0.002ether"]),
        (&group("0..5=0.5wei"), 2, &["--group", "amount"]),
        (&[group("0..5=1wei"), ["--share", "1wei"]].concat(), 2, &["--group", "--share"]),
        (&["--bonus", "655.36%/1d"], 2, &["--bonus", "0.01% to 655.35%"]),
        (&["--bonus", "1.005%/1d"], 2, &["--bonus", "two decimals"]),
        (&["--bonus", "50%"], 2, &["--bonus", "50%/48h"]),
        (&["--bonus", "5%/2h", "--claim-by", "1h"], 1, &["--bonus", "7200 s", "3600 s"]),
        (&["--share", "10001 ether"], 1, &["needs up to 50005", "ether) are missing"]),
        (
            &["--share", "79228162514264337593543950335 wei"],
            1,
            &["needs up to 39614081257132", "are missing"],
        ),
    ];
    for (args, code, words) in refused {
        for more in ["--yes", "--dry-run"] {
            let args = [&["publish", &image, more], *args].concat();
            let output = world.asking_vendor_command(&args).output().unwrap();
            let said = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(*code), "{args:?}: {said}");
            words.iter().for_each(|word| assert!(said.contains(word), "{word}: {said}"));
            assert!(output.stdout.is_empty());
        }
    }
    assert_eq!(state(&world), before);

    // Enough for the deposit, too little for the gas: what is missing is told to the wei.
    let vendor = world.chain.accounts()[0].address();
    world.chain.set_balance(vendor, U256::from(5 * SHARE + 1));
    let said = world.vendor_fails(&["publish", &image, "--dry-run"]);
    let word = |after: &str| {
        let rest = &said[said.find(after).unwrap() + after.len()..];
        rest.split(' ').next().unwrap().parse::<U256>().unwrap()
    };
    let (need, missing) = (word("up to "), word("wei: "));
    assert_eq!(need - missing, U256::from(5 * SHARE + 1), "{said}");
    world.chain.set_balance(vendor, need + need);
    assert_eq!(world.vendor(&["publish", &image, "--dry-run"])["deposit_wei"], "5000000000000000");
}

/// What `publish` shows somebody who answers so on a terminal, which `script` (util-linux) makes.
fn on_terminal(world: &World, image: &str, answer: &str) -> String {
    use std::io::Write as _;
    let (program, config) = (env!("CARGO_BIN_EXE_posthouse-vendor"), world.path("vendor.toml"));
    let args: Vec<_> = grouped(image, &[]).iter().map(|arg| format!("'{arg}'")).collect();
    let line = format!("'{program}' --config '{}' {}", config.display(), args.join(" "));
    let mut command = Command::new("script");
    command.args(["-qec", &line, "/dev/null"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.as_mut().unwrap().write_all(answer.as_bytes()).unwrap();
    String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
}
