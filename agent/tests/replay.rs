//! `posthouse chain replay` as a reviewer would run it: real blocks of mainnet in, one line out, and no lie taken.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "tests")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const LAST: &str = "finalized slot=7109344 block=17923026 \
                    hash=0xbc8499537876e5406c7a65e25f99063f1cd85a17014a3aa5ade38271b1fbf64f";

/// The folder, if it is here; it is never committed.
fn mainnet() -> Option<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    let shared = std::env::var_os("POSTHOUSE_SHARED").map_or(here, PathBuf::from);
    let folder = shared.join("testdata/light-client/mainnet-capella");
    if !folder.is_dir() {
        eprintln!("SKIPPED: looked for {} (set POSTHOUSE_SHARED)", folder.display());
        return None;
    }
    Some(folder)
}

fn replay(folder: &Path, network: &str, files: &[&str], more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_posthouse"));
    command.args(["chain", "replay", "--network", network, "--bootstrap"]).arg(folder.join("bootstrap.json"));
    command.args(more).arg("--updates").args(files.iter().map(|file| folder.join(file)));
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn blocks_of_mainnet() {
    let Some(folder) = mainnet() else { return };
    let output = replay(&folder, "mainnet", &["updates.json", "finality.json", "optimistic.json"], &[]);
    let (told, warned) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{warned}");
    assert_eq!(told.lines().last(), Some(LAST), "{told}");
    // It says what it was not told and what is old; neither is an error.
    assert!(warned.contains("no checkpoint was given") && warned.contains("days old"), "{warned}");

    let root = warned.split_whitespace().find(|word| word.starts_with("0x")).unwrap();
    let given = replay(&folder, "mainnet", &["updates.json", "finality.json"], &["--checkpoint", root]);
    assert_eq!(text(&given.stdout).lines().last(), Some(LAST));
    assert!(!text(&given.stderr).contains("no checkpoint"));

    let json = replay(&folder, "mainnet", &["updates.json", "finality.json"], &["--json"]);
    let told: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    let finalized = &told["finalized"];
    let line = format!(
        "finalized slot={} block={} hash={}",
        finalized["slot"], finalized["block"], finalized["hash"]
    );
    assert_eq!(line.replace('"', ""), LAST);
}

#[test]
fn what_does_not_follow() {
    let Some(folder) = mainnet() else { return };
    let refused = |output: Output, why: &str| {
        assert_eq!(output.status.code(), Some(1));
        let said = text(&output.stderr);
        assert!(said.contains(why), "{said}");
        assert!(!text(&output.stdout).contains("finalized slot"));
    };
    let other = format!("0x{}", "11".repeat(32));
    refused(replay(&folder, "mainnet", &["updates.json"], &["--checkpoint", &other]), "bootstrap");
    refused(replay(&folder, "sepolia", &["updates.json"], &[]), "bootstrap");
    refused(replay(&folder, "mainnet", &["bootstrap.json"], &[]), "bootstrap.json, update 0");
    refused(replay(&folder, "mainnet", &["absent.json"], &[]), "absent.json");
    refused(replay(&folder, "nowhere.yaml", &["updates.json"], &[]), "nowhere.yaml");
}
