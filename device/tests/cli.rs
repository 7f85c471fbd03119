//! The simulator as a program: what it refuses, it refuses before it touches anything.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

fn sim(dir: &Path, arguments: &[&str]) -> Output {
    let program = env!("CARGO_BIN_EXE_posthouse-sensor-sim");
    Command::new(program).args(arguments).current_dir(dir).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A folder with a key and a configuration; with no gateway to reach.
fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    assert!(sim(dir.path(), &["keygen", "--curve", "p256", "--out", "key"]).status.success());
    write(dir.path(), "");
    dir
}

fn write(dir: &Path, more: &str) {
    let text = format!(
        "carrier = \"coap\"\ngateway = \"127.0.0.1:9\"\nkey_file = \"key\"\ncurve = \"p256\"\n\
         release_key = \"{}\"\nvendor_id = \"{}\"\nclass_id = \"{}\"\nstate_dir = \"state\"\n\
         slot_file = \"slot\"\nblock_timeout_ms = 1\nawake_ms = 1\nwake_ms = 1\n{more}\n",
        "02".repeat(33),
        "11".repeat(16),
        "22".repeat(16)
    );
    std::fs::write(dir.join("sim.toml"), text).unwrap();
}

/// One line that names file and key, exit code 2, and no file made.
fn refused(dir: &Path, names: &[&str]) {
    let before = std::fs::read_dir(dir).unwrap().count();
    let output = sim(dir, &["run", "--config", "sim.toml", "--once"]);
    let error = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert_eq!(error.trim_end().lines().count(), 1, "{error}");
    assert!(names.iter().all(|name| error.contains(name)), "{error}");
    assert_eq!(std::fs::read_dir(dir).unwrap().count(), before);
}

#[test]
fn a_sound_configuration_is_accepted_and_names_the_device() {
    let dir = folder();
    let output = sim(dir.path(), &["check", "--config", "sim.toml"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let line: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(line["device"].as_str().unwrap().len(), 32);
}

#[test]
fn missing_malformed_and_contradictory_configurations_are_refused() {
    let dir = folder();
    write(dir.path(), "block = 100");
    refused(dir.path(), &["sim.toml", "block = 100", "power of two"]);
    write(dir.path(), "block = \"large\"");
    refused(dir.path(), &["sim.toml", "block"]);
    write(dir.path(), "colour = 1");
    refused(dir.path(), &["sim.toml", "colour"]);
    std::fs::write(dir.path().join("sim.toml"), "carrier = [").unwrap();
    refused(dir.path(), &["sim.toml"]);
    std::fs::remove_file(dir.path().join("sim.toml")).unwrap();
    refused(dir.path(), &["sim.toml"]);
}

#[test]
fn a_key_that_others_may_read_is_refused() {
    let dir = folder();
    let key = dir.path().join("key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    refused(dir.path(), &["sim.toml", "key_file = key", "644"]);
    std::fs::remove_file(key).unwrap();
    refused(dir.path(), &["sim.toml", "key_file = key"]);
}

#[test]
fn a_pre_shared_key_that_others_may_read_is_refused_and_never_shown() {
    let dir = folder();
    let psk = dir.path().join("psk");
    write(dir.path(), "coap_psk_identity = \"sensor-1\"\ncoap_psk_key_file = \"psk\"");
    refused(dir.path(), &["sim.toml", "coap_psk_key_file = psk"]);
    for (key, mode, word) in [("5ec2e7".repeat(8), 0o644, "644"), ("5ec2e7".repeat(5), 0o600, "hex digits")] {
        std::fs::write(&psk, key).unwrap();
        std::fs::set_permissions(&psk, std::fs::Permissions::from_mode(mode)).unwrap();
        refused(dir.path(), &["sim.toml", "coap_psk_key_file = psk", word]);
        assert!(!stderr(&sim(dir.path(), &["check", "--config", "sim.toml"])).contains("5ec2e7"));
    }
}

#[test]
fn no_key_is_overwritten() {
    let dir = folder();
    let before = std::fs::read(dir.path().join("key")).unwrap();
    let output = sim(dir.path(), &["keygen", "--out", "key"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(std::fs::read(dir.path().join("key")).unwrap(), before);
}

#[test]
fn a_gateway_that_is_away_is_reported_and_awaited() {
    let dir = folder();
    let output = sim(dir.path(), &["run", "--config", "sim.toml", "--once"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let lines = String::from_utf8(output.stdout).unwrap();
    let events: Vec<serde_json::Value> =
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let events: Vec<_> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
    assert_eq!(events, ["boot", "wake", "unreachable"]);
}

#[test]
fn bad_usage_has_its_own_exit_code() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(sim(dir.path(), &["fly"]).status.code(), Some(2));
    assert_eq!(sim(dir.path(), &["--help"]).status.code(), Some(0));
}
