//! Bad settings: one line with file, key and value, exit code 2, and nothing touched.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

const VENDOR: &str = include_str!("../../../packaging/config/vendor.toml");
const DISTRIBUTOR: &str = include_str!("../../../packaging/config/distributor.toml");

struct Case {
    from: &'static str,
    to: &'static str,
    says: &'static [&'static str],
}

const VENDOR_CASES: &[Case] = &[
    Case { from: "id = 1", to: "id = \"main\"", says: &["chain.id", "\"main\""] },
    Case { from: "id = 1", to: "id = 0", says: &["chain.id", "0"] },
    Case { from: "poll_ms = 4000", to: "poll_ms = 10", says: &["chain.poll_ms", "10"] },
    Case { from: "poll_ms = 4000", to: "poll = 10", says: &["chain.poll", "unknown"] },
    Case { from: "\"1 gwei\"", to: "\"300 gwei\"", says: &["chain.priority_fee", "300000000000"] },
    Case { from: "http://127.0.0.1:8545", to: "ftp://x", says: &["chain.rpc[0]", "neither an http"] },
    Case {
        from: "http://127.0.0.1:8545\"",
        to: "http://127.0.0.1:8545\", \"http://u:APIKEY@[::1/APIKEY\"",
        says: &["chain.rpc[1]", "not a URL"],
    },
    Case { from: "# factory = \"0xD", to: "factory = \"0yD", says: &["chain.factory", "0yD"] },
    Case { from: "admission = \"open\"", to: "admission = \"allow-list\"", says: &["join.payees", "[]"] },
    Case { from: "lock = \"2h\"", to: "lock = \"2d\"", says: &["publish.lock", "172800"] },
    Case { from: "curve = \"secp256k1\"", to: "curve = \"ed25519\"", says: &["product.curve", "ed25519"] },
    Case { from: "vendor_id = \"fa", to: "vendor_id = \"xx", says: &["product.vendor_id", "xx6b4a53"] },
    Case { from: "# max_bytes = 8388608", to: "max_bytes = 100", says: &["audit.max_bytes", "100", "65536"] },
    Case { from: "# files = 7", to: "files = 100", says: &["audit.files", "100", "99"] },
    Case { from: "[product]", to: "[product", says: &[] },
    Case { from: "id = 1", to: "beacon = [\"http://b\"]\nid = 1", says: &["chain.beacon", "light client"] },
    Case { from: "id = 1", to: "trust = \"light-client\"\nid = 1", says: &["chain.trust"] },
];

const DISTRIBUTOR_CASES: &[Case] = &[
    Case {
        from: "# private_relay = \"https://relay.example\"",
        to: "private_relay = \"ftp://relay.example/APIKEY\"",
        says: &["redeem.private_relay", "neither an http"],
    },
    Case { from: "min_receipts = 1", to: "min_receipts = 101", says: &["sale.min_receipts", "101"] },
    Case { from: "max_batch = 100", to: "max_batch = 0", says: &["sale.max_batch", "0"] },
    Case { from: "window = \"10m\"", to: "window = \"ten\"", says: &["sale.window", "\"ten\""] },
    Case { from: "exchanges = 4096", to: "exchanges = 0", says: &["limits.exchanges", "0"] },
    Case { from: "# max_bytes = 8388608", to: "max_bytes = 100", says: &["audit.max_bytes", "100", "65536"] },
    Case { from: "# files = 7", to: "files = 100", says: &["audit.files", "100", "99"] },
    Case { from: "\"036b", to: "\"056b", says: &["vendors.0.release_key", "056b17"] },
    Case {
        from: "peers = []",
        to: "peers = [\"/ip4/1.2.3.4/tcp/1\"]",
        says: &["vendors.0.peers", "1.2.3.4"],
    },
    Case { from: "# factory = \"0xD", to: "factory = \"0yD", says: &["chain.factory", "0yD"] },
    Case {
        from: "beacon = [\"http://127.0.0.1:5052\"]",
        to: "",
        says: &["chain.beacon", "needs an endpoint"],
    },
    Case {
        from: "http://127.0.0.1:5052\"",
        to: "http://127.0.0.1:5052\", \"ftp://x/APIKEY\"",
        says: &["chain.beacon[1]", "neither an http"],
    },
    Case {
        from: "trust = \"light-client\"",
        to: "trust = \"rpc\"",
        says: &["chain.network", "light client"],
    },
    Case { from: "trust = \"light-client\"", to: "trust = \"helios\"", says: &["chain.trust", "helios"] },
    Case { from: "\"mainnet\"", to: "\"hoodi\"", says: &["chain.network", "hoodi", "560048"] },
    Case { from: "\"mainnet\"", to: "\"nowhere.yaml\"", says: &["chain.network", "nowhere.yaml"] },
    Case { from: "# checkpoint = ", to: "checkpoint = ", says: &["chain.checkpoint"] },
];

fn refused(program: &str, config: &Path, command: &str) -> String {
    let output = Command::new(program).arg("--config").arg(config).arg(command).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(output.stdout.is_empty());
    said
}

fn check(program: &str, example: &str, command: &str, cases: &[Case]) {
    for case in cases {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("settings.toml");
        assert!(example.contains(case.from), "{}", case.from);
        let state = folder.path().join("state").display().to_string();
        let text = example.replacen(case.from, case.to, 1).replace("/var/lib/posthouse", &state);
        std::fs::write(&config, text).unwrap();
        let said = refused(program, &config, command);
        assert!(said.contains(config.to_str().unwrap()), "{said}");
        assert!(!said.contains("APIKEY"), "{said}");
        case.says.iter().for_each(|word| assert!(said.contains(word), "{word}: {said}"));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is touched");
    }
}

#[test]
fn the_vendor_says_what_is_wrong_with_its_settings() {
    check(env!("CARGO_BIN_EXE_posthouse-vendor"), VENDOR, "setup", VENDOR_CASES);
}

#[test]
fn the_distributor_says_what_is_wrong_with_its_settings() {
    check(env!("CARGO_BIN_EXE_posthouse-distributor"), DISTRIBUTOR, "run", DISTRIBUTOR_CASES);
}

#[test]
fn missing_settings_and_missing_or_open_keys_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let program = env!("CARGO_BIN_EXE_posthouse-distributor");
    let config = folder.path().join("absent.toml");
    assert!(refused(program, &config, "run").contains("absent.toml: No such file"));

    let state = folder.path().join("state").display().to_string();
    std::fs::write(&config, DISTRIBUTOR.replace("/var/lib/posthouse", &state)).unwrap();
    let said = refused(program, &config, "run");
    assert!(said.contains("keys.ethereum") && said.contains("No such file"), "{said}");

    let made = Command::new(program).arg("--config").arg(&config).arg("keygen").status().unwrap();
    assert!(made.success());
    let key = format!("{state}-distributor/keys/ethereum.key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let said = refused(program, &config, "run");
    assert!(said.contains("keys.ethereum") && said.contains("0644"), "{said}");
    let database = format!("{state}-distributor/distributor.db");
    assert!(!Path::new(&database).exists(), "nothing is touched");
}

#[test]
fn the_environment_is_over_the_file_and_is_named_when_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("settings.toml");
    std::fs::write(&config, VENDOR).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_posthouse-vendor"));
    command.arg("--config").arg(&config).arg("status").env("POSTHOUSE_CHAIN__POLL_MS", "fast");
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("POSTHOUSE_CHAIN__POLL_MS") && said.contains("fast"), "{said}");
}
