//! What the init script of the OpenWrt package makes of UCI is a configuration that the gateway takes, and when it starts it.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use posthouse_actors::Config;
use tempfile::TempDir;

fn files() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/openwrt/posthouse/files")
}

/// The shipped configuration, with what its comments show in the sections of chain and product. The checkpoint there is none.
fn filled() -> String {
    let shipped = std::fs::read_to_string(files().join("posthouse.config")).unwrap();
    let (chain, after) = (shipped.find("config chain").unwrap(), shipped.find("config dsn").unwrap());
    let sections = &shipped[chain..after];
    let sections = sections.replace("\t# list ", "\tlist ").replace("\t# option ", "\toption ");
    let sections: Vec<&str> = sections.lines().filter(|line| !line.contains("option checkpoint")).collect();
    format!("{}{}\n{}", &shipped[..chain], sections.join("\n"), &shipped[after..])
}

/// A router with the service: its shell, with OpenWrt's functions and the init script, and a stick that is mounted at `stick`.
struct Router(TempDir);

impl Router {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("stick")).unwrap();
        std::fs::create_dir_all(folder.path().join("flash")).unwrap();
        let router = Self(folder);
        let stick = router.path("stick");
        let mounts = format!(
            "overlayfs:/overlay / overlay rw 0 0\n/dev/ubi0_1 /overlay ubifs rw 0 0\n/dev/sda1 {stick} ext4 rw 0 0\n"
        );
        std::fs::write(router.path("mounts"), mounts).unwrap();
        router
    }

    fn path(&self, name: &str) -> String {
        self.0.path().canonicalize().unwrap().join(name).to_str().unwrap().to_owned()
    }

    /// Writes a file with the shipped configuration, filled and turned on, the state on the stick, and `more` in its first section.
    fn uci(&self, name: &str, more: &str) -> String {
        let on = filled().replace("option enabled '0'", &format!("option enabled '1'\n\t{more}"));
        let on = on.replace("'/srv/posthouse'", &format!("'{}'", self.path("stick/a/posthouse")));
        std::fs::write(self.path(name), &on).unwrap();
        on
    }

    /// What `steps` print in its shell.
    fn runs(&self, steps: &str) -> String {
        const SHELL: &str = r#"cd "$1"; . "$2/functions.sh"; . "$3"; . "$2/procd.sh"
            posthouse() { "$PROGRAMS" __as posthouse "$@"; }
            PROGRAM=posthouse MADE=$1/etc/posthouse.toml NEW=$1/etc/new SECRETS=$1/secrets MOUNTS=$1/mounts UCI=$1/uci"#;
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("{SHELL}\n{steps}"), "sh", &self.path("")]);
        shell.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/openwrt"));
        shell.arg(files().join("posthouse.init")).env("PROGRAMS", env!("CARGO_BIN_EXE_posthouse-demo"));
        let done = shell.output().unwrap();
        assert!(done.status.success() && done.stderr.is_empty(), "{}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap()
    }
}

/// The gateway's reading of a configuration in UCI's format.
fn made_of(uci: &str) -> Config {
    let router = Router::new();
    std::fs::write(router.path("uci"), uci).unwrap();
    let made = router.runs("config_load posthouse; ph_configuration");
    let toml = router.path("posthouse.toml");
    std::fs::write(&toml, &made).unwrap();
    posthouse_agent::config::load(Path::new(&toml)).unwrap_or_else(|why| panic!("{why}: {made}"))
}

#[test]
fn the_shipped_configuration_once_filled_is_one_to_run_with() {
    let config = made_of(&filled());
    assert_eq!(config.state_dir, Path::new("/srv/posthouse"));
    assert_eq!((config.products.len(), config.staging.quota), (1, 64 << 20));
    assert_eq!((config.chain.beacon.len(), config.chain.rpc.len()), (1, 1));
    assert!(config.sensors.mqtt.is_some() && config.sensors.coap.is_none());
    assert!(config.status.listen.unwrap().ip().is_loopback());
}

#[test]
fn as_shipped_nothing_in_it_names_a_machine_or_a_product() {
    let router = Router::new();
    let shipped = std::fs::read_to_string(files().join("posthouse.config")).unwrap();
    std::fs::write(router.path("uci"), shipped).unwrap();
    assert_eq!(router.runs("start"), "");
    let made = router.runs("config_load posthouse; ph_configuration");
    for key in ["beacon", "rpc", "checkpoint", "vendor", "vendor_id", "class_id", "release_key"] {
        assert!(!made.lines().any(|line| line.starts_with(&format!("{key} = "))), "{made}");
    }
}

#[test]
fn a_reload_starts_anew_what_has_changed_and_has_keys_read_again_where_nothing_has() {
    let router = Router::new();
    router.uci("uci", "");
    router.uci("other", "");
    let other = std::fs::read_to_string(router.path("other")).unwrap().replace("'512'", "'64'");
    std::fs::write(router.path("other"), other).unwrap();
    let said = router.runs(
        "start; reload; start; cp other uci; reload; sed -i \"s/enabled '1'/enabled '0'/\" uci; reload",
    );
    assert_eq!(said, "started\nsignal HUP\nkept\nstarted\nended\n");
    assert!(
        std::fs::read_to_string(router.path("etc/posthouse.toml")).unwrap().contains("max_registered = 64")
    );
}

#[test]
fn a_gateway_runs_on_while_the_new_configuration_cannot_be_run_with() {
    let router = Router::new();
    let on = router.uci("uci", "");
    std::fs::write(router.path("typo"), on.replace("'512'", "'-1'")).unwrap();
    std::fs::write(router.path("quote"), on.replace("'512'", "'512")).unwrap();
    let said = router.runs("start; cp typo uci; reload; cp quote uci; reload");
    let [started, typo, quote] = said.lines().collect::<Vec<_>>()[..] else { panic!("{said}") };
    assert_eq!(started, "started");
    assert!(typo.starts_with("log: not reloaded: ") && typo.contains("max_registered"), "{typo}");
    assert_eq!(quote, "log: not reloaded: /etc/config/posthouse cannot be read");
    assert!(
        std::fs::read_to_string(router.path("etc/posthouse.toml")).unwrap().contains("max_registered = 512")
    );
    let said = router.runs("cp typo uci; start; cp quote uci; start");
    assert!(
        said.lines().count() == 2 && said.lines().all(|line| line.starts_with("log: not started: ")),
        "{said}"
    );
}

#[test]
fn the_state_is_where_something_is_mounted_and_for_the_gateway_alone() {
    let router = Router::new();
    let on = router.uci("uci", "");
    assert_eq!(router.runs("start"), "started\n");
    let mode = |name: &str| std::fs::metadata(router.path(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("stick/a/posthouse"), mode("etc/posthouse.toml")), (0o700, 0o600));
    // Others' as well.
    assert_eq!((mode("stick/a") & 0o055, mode("etc") & 0o055), (0o055, 0o055));

    let flash = on.replace("stick/a/posthouse", "flash/posthouse");
    std::fs::write(router.path("uci"), &flash).unwrap();
    let said = router.runs("start");
    assert!(
        said.starts_with("log: not started: nothing is mounted at ") && said.contains("flash/posthouse"),
        "{said}"
    );
    assert!(!Path::new(&router.path("flash/posthouse")).exists());
    let allowed = flash.replace("option enabled '1'", "option enabled '1'\n\toption state_on_flash '1'");
    std::fs::write(router.path("uci"), allowed).unwrap();
    assert_eq!(router.runs("start"), "started\n");

    for (state, shown) in [("", "''"), ("stick/b", "'stick/b'")] {
        let wrong = on.replace(&router.path("stick/a/posthouse"), state);
        std::fs::write(router.path("uci"), wrong).unwrap();
        let want = format!("log: not started: state_dir must be a path that begins with /, not {shown}\n");
        assert_eq!(router.runs("start"), want);
    }
}

#[test]
fn the_state_is_never_in_memory() {
    let router = Router::new();
    let on = router.uci("uci", "option state_on_flash '1'");
    let held = |mounts: &[(&str, &str, &str)], state: &str| {
        let line = |(device, target, kind): &(&str, &str, &str)| {
            format!("{device} {} {kind} rw,relatime 0 0\n", router.path(target).trim_end_matches('/'))
        };
        let mounts: String = mounts.iter().map(line).collect();
        std::fs::write(router.path("mounts"), format!("overlayfs:/overlay / overlay rw 0 0\n{mounts}"))
            .unwrap();
        std::fs::create_dir_all(router.path("memory/run/sda1")).unwrap();
        let uci = on.replace(&router.path("stick/a/posthouse"), &router.path(state));
        std::fs::write(router.path("uci"), uci).unwrap();
        let said = router.runs("start");
        let refused = said.starts_with("log: not started: ") && said.contains(" is in memory, ");
        assert!(refused || said == "started\n", "{said}");
        assert_eq!(refused, !Path::new(&router.path(state)).exists());
        refused
    };
    // /var is a link to /tmp, and what is not there yet is made where it leads.
    std::os::unix::fs::symlink(router.path("memory"), router.path("var")).unwrap();
    let memory = ("tmpfs", "memory", "tmpfs");
    assert!(held(&[memory], "memory/a"));
    assert!(held(&[memory], "var/lib/a"));
    assert!(held(&[("/dev/zram0", "memory", "ext4")], "var/lib/a"));
    assert!(held(&[("rootfs", "", "rootfs")], "flash/a"));
    // A stick that is mounted below, as by blockd; one that hides memory, and one that memory hides.
    assert!(!held(&[memory, ("/dev/sda1", "memory/run/sda1", "ext4")], "var/run/sda1/a"));
    assert!(held(&[memory, ("/dev/sda1", "memory/run/sda1", "ext4")], "var/run/sda2/a"));
    assert!(!held(&[memory, ("/dev/sda1", "memory", "vfat")], "memory/b"));
    assert!(held(&[("/dev/sda1", "memory", "vfat"), memory], "memory/c"));
    // A folder beside a mount, whose name only begins as the mount's.
    assert!(!held(&[memory], "memory-stick/a"));
}

#[test]
fn a_configuration_of_ones_own_has_its_folder_made_too() {
    let router = Router::new();
    let own = router.path("own.toml");
    router.uci("uci", &format!("option config '{own}'"));
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/config/posthouse.toml");
    let example = std::fs::read_to_string(example).unwrap();
    let on = |state: &str| example.replace("/var/lib/posthouse", &router.path(state));
    std::fs::write(&own, on("stick/own")).unwrap();
    assert_eq!(router.runs("start; reload"), "started\nsignal HUP\n");
    assert!(Path::new(&router.path("stick/own")).is_dir() && !Path::new(&router.path("stick/a")).exists());
    std::fs::write(&own, on("flash/own")).unwrap();
    assert!(router.runs("start").starts_with("log: not started: nothing is mounted at "));
}

#[test]
fn every_option_arrives_as_it_was_written() {
    let filled = filled();
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
    let (before, after) = filled.split_once("config dsn 'dsn'").unwrap();
    let config = made_of(&format!("{before}config dsn 'dsn'{more}{after}"));
    assert_eq!(config.dsn.fleet.as_deref(), Some(r#"of "many" \ words"#));
    assert_eq!((config.dsn.bootstrap.len(), config.products.len()), (2, 2));
    assert_eq!(config.sensors.coap.as_ref().unwrap().max_bytes_per_sec, Some(131_072));
    assert!(config.chain.allow_stale_checkpoint && !config.sensors.allow_unauthenticated_signing);
    assert_eq!(config.chain.poll_ms, 6000);
    assert!(format!("{:?}", config.campaign).contains("10"));
}
