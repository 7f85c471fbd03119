//! The program as it is installed, with a configuration that is none: exit code 2, one line on standard error that names
//! file and key, and nothing made.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::process::{Command, Output};

const EXAMPLE: &str = include_str!("../../packaging/config/posthouse.toml");

fn posthouse(args: &[&str], config: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_posthouse"));
    command.env_clear().args(args).arg("--config").arg(config).output().unwrap()
}

/// Commands that read the configuration; the first two read the files that it names as well.
const COMMANDS: [&[&str]; 5] =
    [&["run"], &["check-config"], &["status"], &["chain", "status"], &["chain", "checkpoint"]];

/// Every command that reads the configuration refuses it with this line.
fn refused(config: &Path, says: &[&str]) {
    refused_by(&COMMANDS, config, says);
}

fn refused_by(commands: &[&[&str]], config: &Path, says: &[&str]) {
    for args in commands {
        let output = posthouse(args, config);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
        assert!(output.stdout.is_empty(), "{args:?}");
        assert_eq!(said.lines().count(), 1, "{args:?}: {said}");
        let file = config.display().to_string();
        assert!(said.starts_with(&format!("posthouse: {file}")), "{args:?}: {said}");
        assert!(says.iter().all(|part| said.contains(part)), "{args:?}: {says:?} in {said}");
    }
}

/// A folder with the example, whose state would go into a folder beside it, changed in one place.
fn changed(from: &str, to: &str, says: &[&str]) {
    changed_for(&COMMANDS, from, to, says);
}

fn changed_for(commands: &[&[&str]], from: &str, to: &str, says: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("posthouse.toml");
    let state = folder.path().join("state").display().to_string();
    assert!(EXAMPLE.contains(from), "{from}");
    std::fs::write(&config, EXAMPLE.replacen(from, to, 1).replace("/var/lib/posthouse", &state)).unwrap();
    refused_by(commands, &config, says);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "something was made");
}

#[test]
fn a_configuration_that_is_not_there() {
    let folder = tempfile::tempdir().unwrap();
    refused(&folder.path().join("posthouse.toml"), &["No such file"]);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_configuration_that_cannot_be_read() {
    // Root reads everything, but nobody reads a folder as a file.
    let folder = tempfile::tempdir().unwrap();
    refused(folder.path(), &["directory"]);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    let config = folder.path().join("posthouse.toml");
    std::fs::write(&config, [0xff, 0xfe, 0x00]).unwrap();
    refused(&config, &["UTF-8"]);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_configuration_that_is_malformed() {
    changed("[chain]", "[chain", &["not TOML", "line "]);
    changed("id = 1\n", "id = \"one\"\n", &["chain.id", "one"]);
    changed("id = 1\n", "id = 1\ncolour = 1\n", &["chain.colour"]);
    changed("# factory = \"0xD6", "factory = \"0x", &["chain.factory", "length"]);
    changed("beacon = [\"http://127.0.0.1:5052\"]", "beacon = \"http://127.0.0.1:5052\"", &["chain.beacon"]);
    changed("# checkpoint = \"0x…\"", "checkpoint = \"0x12\"", &["chain.checkpoint"]);
    changed("# trust = \"light-client\"", "trust = \"helios\"", &["chain.trust", "helios"]);
}

#[test]
fn a_configuration_that_contradicts_itself() {
    changed("# trust = \"light-client\"", "trust = \"rpc\"", &["chain.beacon", "light client"]);
    changed("beacon = [\"http://127.0.0.1:5052\"]\n", "", &["chain.beacon", "no endpoint"]);
    changed("# network = \"mainnet\"", "network = \"sepolia\"", &["chain.network", "11155111"]);
    changed("id = 1\n", "id = 31337\n", &["chain.network", "31337"]);
    // Who asks a gateway, or the chain, need not have what the gateway alone may read.
    let (name, its_own) = ("username = \"posthouse\"", &COMMANDS[..2]);
    changed_for(its_own, &format!("# {name}"), name, &["sensors.mqtt", "together"]);
}

#[test]
fn the_command_line_is_checked_as_well() {
    let output = Command::new(env!("CARGO_BIN_EXE_posthouse")).arg("sell").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let output = Command::new(env!("CARGO_BIN_EXE_posthouse")).args(["chain", "replay"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn the_audit_log_of_another_program_needs_no_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("audit.jsonl");
    let line = r#"{"time":1795442400000,"kind":"started","version":"0.1.0"}"#;
    std::fs::write(&log, format!("{line}\n")).unwrap();
    let audit = |file: &Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_posthouse"));
        command.env_clear().args(["audit", "--json", "--file"]).arg(file).output().unwrap()
    };
    assert_eq!(String::from_utf8(audit(&log).stdout).unwrap().trim_end(), line);
    let absent = audit(&folder.path().join("absent.jsonl"));
    let said = String::from_utf8(absent.stderr).unwrap();
    assert_eq!(absent.status.code(), Some(1));
    assert!(said.contains("absent.jsonl") && said.lines().count() == 1, "{said}");
}
