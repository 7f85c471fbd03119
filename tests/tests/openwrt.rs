//! What the init script of the OpenWrt package makes of UCI is a configuration that the gateway takes.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};
use std::process::Command;

use posthouse_actors::Config;

fn files() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/openwrt/posthouse/files")
}

/// The gateway's reading of a file in UCI's format.
fn made_of(uci: &Path) -> Config {
    const SCRIPT: &str = r#"UCI=$3; . "$1"; . "$2"; config_load posthouse; configuration"#;
    let functions = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/openwrt/functions.sh");
    let mut shell = Command::new("sh");
    shell.args(["-c", SCRIPT, "sh"]).args([&functions, &files().join("posthouse.init")]).arg(uci);
    let made = shell.output().unwrap();
    assert!(made.status.success() && made.stderr.is_empty(), "{}", String::from_utf8_lossy(&made.stderr));
    let folder = tempfile::tempdir().unwrap();
    let toml = folder.path().join("posthouse.toml");
    std::fs::write(&toml, &made.stdout).unwrap();
    posthouse_agent::config::load(&toml)
        .unwrap_or_else(|why| panic!("{why}: {}", String::from_utf8_lossy(&made.stdout)))
}

#[test]
fn the_shipped_configuration_is_one_to_run_with() {
    let config = made_of(&files().join("posthouse.config"));
    assert_eq!(config.state_dir, Path::new("/srv/posthouse"));
    assert_eq!((config.products.len(), config.staging.quota), (1, 64 << 20));
    assert!(config.sensors.mqtt.is_some() && config.sensors.coap.is_none());
    assert!(config.status.listen.unwrap().ip().is_loopback());
}

#[test]
fn every_option_arrives_as_it_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let uci = folder.path().join("posthouse");
    let shipped = std::fs::read_to_string(files().join("posthouse.config")).unwrap();
    let more = r#"
        option fleet 'of "many" \ words'
        list bootstrap '/ip4/10.0.0.1/tcp/4001/p2p/12D3KooWGzBUXcbCHMHUE7Prfw44KPpHmTYdPwHSRA2gMbexBKCu'
        list bootstrap '/ip4/10.0.0.2/tcp/4001/p2p/12D3KooWGzBUXcbCHMHUE7Prfw44KPpHmTYdPwHSRA2gMbexBKCu'
        config product
        option vendor '0x0000000000000000000000000000000000000003'
        option vendor_id 'fa6b4a53-d5ad-5fdf-be9d-e663e4d41fff'
        option class_id '1492af14-2569-5e48-bf42-9b2d51f2ab45'
        option release_key '036b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296'
        config coap 'coap'
        option listen '0.0.0.0:5683'
        option max_bytes_per_sec '131072'
        config campaign 'campaign'
        option percent '10'
        list windows 'Mon-Fri,Sun 22:00-05:30'
        list windows '01:00-02:00'
        config chain 'chain'
        option allow_stale_checkpoint 'yes'
        option poll_ms '6000'
        config sensors 'sensors'
        option allow_unauthenticated_signing '0'
    "#;
    let (before, after) = shipped.split_once("config dsn 'dsn'").unwrap();
    std::fs::write(&uci, format!("{before}config dsn 'dsn'{more}{after}")).unwrap();
    let config = made_of(&uci);
    assert_eq!(config.dsn.fleet.as_deref(), Some(r#"of "many" \ words"#));
    assert_eq!((config.dsn.bootstrap.len(), config.products.len()), (2, 2));
    assert_eq!(config.sensors.coap.as_ref().unwrap().max_bytes_per_sec, Some(131_072));
    assert!(config.chain.allow_stale_checkpoint && !config.sensors.allow_unauthenticated_signing);
    assert_eq!(config.chain.poll_ms, 6000);
    assert!(format!("{:?}", config.campaign).contains("10"));
}
