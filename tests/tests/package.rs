//! The .deb on a machine with systemd, from its installation to its purge: what an administrator does with it, and what may
//! happen to it meanwhile. The gateway is the package's, the broker Debian's; chain, vendor, distributor and sensors are the
//! testbed's, on the same loopback.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use posthouse_tests::{
    broker::Broker,
    chain::Chain,
    machine::Machine,
    poll::until,
    process::Programs,
    site::{Plan, Published, Site},
};
use tempfile::TempDir;

/// Where Debian's mosquitto listens, for whoever is on the same machine.
const MOSQUITTO: ([u8; 4], u16) = ([127, 0, 0, 1], 1883);
/// The file that the administrator edits.
const CONFIG: &str = "/etc/posthouse/posthouse.toml";
/// Units that the package brings.
const UNITS: [&str; 3] =
    ["posthouse.service", "posthouse-vendor-seed.service", "posthouse-distributor.service"];
const BLOCK_TIME: Duration = Duration::from_millis(250);
/// Bytes of an image, so many that a sensor wakes often before it has all.
const IMAGE: usize = 64 * 1024;
/// How long any one step may take before it counts as broken, on a machine that does other things as well: who was asked too early is asked again late.
const PATIENCE: Duration = Duration::from_secs(600);
/// The watchdog of the service, for the test: the package's is a minute.
const WATCHDOG: Duration = Duration::from_secs(10);

fn set(variable: &str) -> String {
    std::env::var(variable).expect("run by `cargo ci --full --only package`, which sets it")
}

/// A machine of Debian's packages alone.
async fn machine() -> Machine {
    Machine::boot(&set("POSTHOUSE_MACHINE")).await.unwrap()
}

async fn install(machine: &Machine) {
    machine.copy(&PathBuf::from(set("POSTHOUSE_DEB")), "/root/posthouse.deb").await.unwrap();
    machine.line("apt-get install --yes /root/posthouse.deb").await.unwrap();
}

/// The testbed around the machine's gateway.
struct Around {
    site: Site,
    folder: TempDir,
}

impl Around {
    /// Two sensors, one of them the broker's, and a distributor.
    async fn prepare() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let programs = Programs::new(env!("CARGO_BIN_EXE_posthouse-demo"));
        let plan = Plan { sensors: 2, distributors: 1, ..Plan::new(programs, folder.path()) };
        let broker = Broker::elsewhere(SocketAddr::from(MOSQUITTO));
        let site = Site::prepare(plan, Chain::devchain(BLOCK_TIME).unwrap(), broker).await.unwrap();
        Self { site, folder }
    }

    /// Edits the package's configuration as an administrator of this site would. (A real chain needs no second file; this one's
    /// constants come with it.)
    async fn configure(&self, machine: &Machine) {
        let parse = |text: &str| text.parse::<toml::Table>().unwrap();
        let mut edited = parse(&machine.line(&format!("cat {CONFIG}")).await.unwrap());
        let ours = parse(&std::fs::read_to_string(self.site.gateway_config()).unwrap());
        for (section, values) in ours {
            match (edited.get_mut(&section), values) {
                (Some(toml::Value::Table(there)), toml::Value::Table(ours)) => there.extend(ours),
                // It stays where the package puts it.
                _ if section == "state_dir" => {}
                (_, values) => drop(edited.insert(section, values)),
            }
        }
        let network = edited["chain"]["network"].as_str().unwrap().to_owned();
        machine.copy(network.as_ref(), "/etc/posthouse/network.yaml").await.unwrap();
        edited["chain"]["network"] = "/etc/posthouse/network.yaml".into();
        let status = edited["status"].as_table_mut().unwrap();
        status.insert("socket".into(), "/run/posthouse/posthouse.sock".into());
        machine.write(CONFIG, toml::to_string(&edited).unwrap().as_bytes()).await.unwrap();
        // As the package has it.
        machine.line(&format!("chown root:posthouse {CONFIG}")).await.unwrap();
        machine.line(&format!("chmod 640 {CONFIG}")).await.unwrap();
        machine.line("chmod 644 /etc/posthouse/network.yaml").await.unwrap();
    }

    /// Publishes an image that begins with this byte.
    async fn publish(&self, first: u8) -> (Published, Vec<u8>) {
        let image: Vec<u8> = (0..IMAGE).map(|at| (at % 251) as u8 ^ first).collect();
        let file = self.folder.path().join("image");
        std::fs::write(&file, &image).unwrap();
        (self.site.publish(&file, "key").await.unwrap(), image)
    }

    /// Starts vendor and distributor, and waits until the update is on sale.
    async fn sell(&mut self) {
        self.site.start_seeder().unwrap();
        self.site.start_distributor(0, &[]).unwrap();
        let sells = async || {
            // It has no database yet when it is asked for the first time.
            let Ok(status) = self.site.distributor_says(0, &["status"]).await else { return Ok(None) };
            Ok(status["bounties"].as_array().is_some_and(|all| !all.is_empty()).then_some(()))
        };
        until("the distributor to join", PATIENCE, sells).await.unwrap();
    }

    /// Waits until the gateway has bought an update, some of which its sensors lack.
    async fn bought(&self, published: &Published, image: &[u8]) {
        let bought = async || {
            let exchanges = self.site.exchanges().await;
            let ours = exchanges.iter().find(|one| one.version == published.version);
            Ok(ours.is_some_and(|one| !one.offers.is_empty()).then_some(()))
        };
        until("an offer", PATIENCE, bought).await.unwrap();
        assert!(self.site.holding(image) < self.site.sensors.len(), "it went too fast to be disturbed");
    }

    async fn updated(&mut self, machine: &Machine, published: &Published, image: &[u8]) {
        if let Err(error) = self.site.updated(image, PATIENCE).await {
            let log = machine.line("journalctl --unit posthouse --no-pager --output cat --lines 60").await;
            panic!("{error:#}\n{}", log.unwrap_or_default());
        }
        self.site.reported(published.version, PATIENCE).await.unwrap();
    }
}

/// Whose settings these are: URLs of endpoints may hold keys.
async fn settings_are_for_their_services(machine: &Machine) {
    for (settings, group) in
        [("posthouse", "posthouse"), ("vendor", "posthouse-vendor"), ("distributor", "posthouse-distributor")]
    {
        let stat = format!("stat --format %U:%G:%a /etc/posthouse/{settings}.toml");
        assert_eq!(machine.line(&stat).await.unwrap().trim(), format!("root:{group}:640"));
    }
}

async fn restarts(machine: &Machine) -> u32 {
    machine.property("posthouse", "NRestarts").await.unwrap().parse().unwrap()
}

/// Waits until systemd has started the service once more, and it is ready.
async fn restarted(machine: &Machine, before: u32) {
    let again = async || {
        let active = machine.property("posthouse", "ActiveState").await?;
        Ok((restarts(machine).await > before && active == "active").then_some(()))
    };
    until("systemd to start the service again", PATIENCE, again).await.unwrap();
}

/// Stops one thread of the service in its next system call, the one that the sensors' actors run on; no other thread notices.
async fn hang(machine: &Machine) -> tokio::process::Child {
    let main = machine.property("posthouse", "MainPID").await.unwrap();
    let threads =
        machine.run(["sh", "-c", &format!("grep -l actix-rt /proc/{main}/task/*/comm")]).await.unwrap();
    // Theirs is the first that was made; the status has another.
    let numbers = threads.lines().filter_map(|path| path.rsplit('/').nth(1)?.parse::<u32>().ok());
    let first = numbers.min().unwrap_or_else(|| panic!("no thread of actors in {threads:?}"));
    let strace = format!("strace --output=/dev/null --inject=all:delay_enter=600000000 --attach={first}");
    machine.start(&strace).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn it_updates_sensors_whatever_happens_to_it_is_upgraded_and_leaves_nothing() {
    let machine = machine().await;
    machine.line("systemctl start mosquitto").await.unwrap();
    let mut around = Around::prepare().await;

    // Installed, it does nothing by itself. One file is edited, and an update reaches the sensors.
    install(&machine).await;
    assert!(!machine.holds("systemctl is-active posthouse").await.unwrap());
    assert!(!machine.holds("systemctl is-enabled posthouse").await.unwrap());
    settings_are_for_their_services(&machine).await;
    let (first, image) = around.publish(1).await;
    around.sell().await;
    around.configure(&machine).await;
    machine.line("runuser -u posthouse -- posthouse check-config").await.unwrap();
    machine.line("systemctl enable --now posthouse").await.unwrap();
    around.site.start_sensors().unwrap();
    around.updated(&machine, &first, &image).await;

    // A member of its group orders over its socket, without a token, and is named in the audit log; others may not.
    machine.line("useradd --groups posthouse member").await.unwrap();
    machine.line("useradd other").await.unwrap();
    let bounty = around.site.exchanges().await[0].bounty.clone();
    machine.line(&format!("runuser -u member -- posthouse update pause {bounty}")).await.unwrap();
    machine.line(&format!("runuser -u member -- posthouse update resume {bounty}")).await.unwrap();
    assert!(!machine.holds(&format!("runuser -u other -- cat {CONFIG}")).await.unwrap());
    // Somebody who knows them all the same.
    machine.line(&format!("install --mode=644 {CONFIG} /srv/known.toml")).await.unwrap();
    let order = format!("posthouse update pause {bounty} --config /srv/known.toml");
    let refused = machine.line(&format!("runuser -u other -- {order}")).await;
    let refused = format!("{:#}", refused.unwrap_err());
    assert!(refused.contains("Permission denied") && !refused.contains("known.toml: "), "{refused}");
    let uid = machine.line("id --user member").await.unwrap();
    let written = machine.line("runuser -u posthouse -- posthouse audit --json").await.unwrap();
    assert_eq!(written.matches(&format!("\"who\":\"uid {}\"", uid.trim())).count(), 2, "{written}");

    // Killed while an update is under way: it is started again, and goes on.
    let (second, image) = around.publish(2).await;
    around.bought(&second, &image).await;
    machine.line("systemctl kill --signal=KILL posthouse").await.unwrap();
    restarted(&machine, 0).await;
    around.updated(&machine, &second, &image).await;

    // Some actors hang: systemd is not told any more that all is well, and ends it.
    let watchdog = format!("[Service]\nWatchdogSec={}\n", WATCHDOG.as_secs());
    machine.line("mkdir --parents /run/systemd/system/posthouse.service.d").await.unwrap();
    machine
        .write("/run/systemd/system/posthouse.service.d/watchdog.conf", watchdog.as_bytes())
        .await
        .unwrap();
    machine.line("systemctl daemon-reload").await.unwrap();
    machine.line("systemctl restart posthouse").await.unwrap();
    let (third, image) = around.publish(3).await;
    around.bought(&third, &image).await;
    let before = restarts(&machine).await;
    let hung = hang(&machine).await;
    let bitten = async || {
        let log = machine.line("journalctl --unit posthouse --no-pager").await?;
        Ok(log.contains("Watchdog timeout").then_some(log))
    };
    let log = until("the watchdog", PATIENCE, bitten).await.unwrap();
    let silent = log.lines().find(|line| line.contains("the watchdog is not fed"));
    let silent = silent.unwrap_or_else(|| panic!("no word of actors that hang: {log}"));
    assert!(silent.contains("sensors") && !silent.contains("chain"), "{silent}");
    // A thread that is held so cannot die either.
    machine.line("pkill --exact strace").await.unwrap();
    drop(hung);
    restarted(&machine, before).await;
    around.updated(&machine, &third, &image).await;
    around.site.paid(third.version, around.site.sensors.len(), PATIENCE).await.unwrap();

    upgraded(&machine, &around).await;
    purged(&machine).await;
}

/// A package of a later version, with other examples: edited files, state and the running service stay.
async fn upgraded(machine: &Machine, around: &Around) {
    let pack = "dpkg-deb --raw-extract /root/posthouse.deb /root/next
        sed --in-place s/^Version:.*/Version:99.0.0-1/ /root/next/DEBIAN/control
        sed --in-place $a#new /root/next/etc/posthouse/posthouse.toml /root/next/etc/posthouse/vendor.toml
        dpkg-deb -Znone --build /root/next /root/next.deb
        rm --recursive /root/next";
    for line in pack.lines() {
        machine.line(line).await.unwrap();
    }
    let edited = machine.line(&format!("cat {CONFIG}")).await.unwrap();
    let before = around.site.get("status").await.unwrap();
    let keep = "apt-get install --yes --option Dpkg::Options::=--force-confold /root/next.deb";
    let said = machine.line(keep).await.unwrap();
    assert_eq!(
        machine.line("dpkg-query --show --showformat ${Version} posthouse").await.unwrap(),
        "99.0.0-1"
    );
    assert_eq!(machine.line(&format!("cat {CONFIG}")).await.unwrap(), edited, "{said}");
    assert!(machine.holds(&format!("test -f {CONFIG}.dpkg-dist")).await.unwrap(), "{said}");
    assert!(machine.holds("grep --quiet #new /etc/posthouse/vendor.toml").await.unwrap(), "{said}");
    settings_are_for_their_services(machine).await;

    // It was started again, by the package, and is who it was.
    assert!(machine.holds("systemctl is-active posthouse").await.unwrap(), "{said}");
    let after = until("the status", PATIENCE, async || Ok(around.site.get("status").await)).await.unwrap();
    assert!(after["agent"]["started"].as_u64() > before["agent"]["started"].as_u64(), "{said}");
    assert_eq!(after["agent"]["peer_id"], before["agent"]["peer_id"]);
    assert_eq!(around.site.exchanges().await.len(), 3);
    assert_eq!(after["staging"], before["staging"]);
}

/// Removed, it keeps what the administrator has; purged, what the administrator has put there, what keys may be paid, and what cannot
/// be removed.
async fn purged(machine: &Machine) {
    machine.line("rm --recursive /run/systemd/system/posthouse.service.d").await.unwrap();
    machine.line("rm /root/posthouse.deb /root/next.deb").await.unwrap();
    machine.line("apt-get remove --yes posthouse").await.unwrap();
    assert!(!machine.holds("pgrep --exact posthouse").await.unwrap());
    assert!(machine.holds(&format!("test -f {CONFIG} -a -d /var/lib/posthouse")).await.unwrap());
    // Another disk has the vendor's state, and a part of the gateway's.
    let before = "mkdir --parents /srv/vendor/keys /srv/vendor/dsn /srv/vendor/releases/1 /var/lib/posthouse/disk
        touch /srv/vendor/keys/ethereum.key /srv/vendor/vendor.db /srv/vendor/vendor.db-wal /srv/vendor/dsn/block /srv/vendor/releases/1/body
        rmdir /var/lib/posthouse-vendor
        ln --symbolic /srv/vendor /var/lib/posthouse-vendor
        mount -t tmpfs none /var/lib/posthouse/disk";
    for line in before.lines() {
        machine.line(line).await.unwrap();
    }
    let said = machine.line("apt-get purge --yes posthouse").await.unwrap();
    let left =
        machine.line("find / /run /etc/posthouse /var/lib/posthouse -xdev -path *posthouse*").await.unwrap();
    let mut left: Vec<&str> = left.lines().collect();
    left.sort_unstable();
    left.dedup();
    let kept = [
        "/etc/posthouse",
        "/etc/posthouse/network.yaml",
        "/var/lib/posthouse",
        "/var/lib/posthouse-vendor",
        "/var/lib/posthouse/disk",
    ];
    assert_eq!(left, kept, "{said}");
    let mut state: Vec<_> =
        machine.line("find /srv/vendor -type f").await.unwrap().lines().map(str::to_owned).collect();
    state.sort_unstable();
    let worth = ["keys/ethereum.key", "releases/1/body", "vendor.db", "vendor.db-wal"]
        .map(|file| format!("/srv/vendor/{file}"));
    assert_eq!(state, worth, "{said}");
    let units = machine.line("systemctl list-units --all --plain --no-legend posthouse*").await.unwrap();
    assert_eq!(units, "");
}

/// What the sandboxes are worth by systemd's own measure, out of 10.0, and whether it understands the units.
#[tokio::test(flavor = "multi_thread")]
async fn its_units_are_sandboxed() {
    let machine = machine().await;
    install(&machine).await;
    for unit in UNITS {
        let path = format!("/usr/lib/systemd/system/{unit}");
        // What it has to say goes to standard error.
        let verify = format!("systemd-analyze verify --man=no --recursive-errors=no {path} 2>&1");
        let verified = machine.run(["sh", "-c", &verify]).await.unwrap();
        assert_eq!(verified, "");
        // Threshold in tenths.
        machine
            .line(&format!("systemd-analyze security --no-pager --offline=true --threshold=20 {path}"))
            .await
            .unwrap();
        assert!(!machine.holds(&format!("systemctl is-enabled {unit}")).await.unwrap());
    }
}

/// Vendor and distributor, with as little as they take: each says that it is ready and alive, and what hangs is started again.
#[tokio::test(flavor = "multi_thread")]
async fn its_other_services_are_ready_and_watched() {
    let machine = machine().await;
    install(&machine).await;
    // Nobody has such a block, and no endpoint answers: the distributor waits for them.
    let checkpoint = format!("Environment=POSTHOUSE_CHAIN__CHECKPOINT=0x{}", "11".repeat(32));
    for (program, unit, own) in [
        ("posthouse-vendor", "posthouse-vendor-seed", ""),
        ("posthouse-distributor", "posthouse-distributor", checkpoint.as_str()),
    ] {
        let folder = format!("/run/systemd/system/{unit}.service.d");
        machine.line(&format!("mkdir --parents {folder}")).await.unwrap();
        let drop_in = format!("[Service]\nWatchdogSec={}\n{own}\n", WATCHDOG.as_secs());
        machine.write(&format!("{folder}/test.conf"), drop_in.as_bytes()).await.unwrap();
        machine.line("systemctl daemon-reload").await.unwrap();
        machine.line(&format!("runuser -u {program} -- {program} keygen")).await.unwrap();
        machine.line(&format!("systemctl start {unit}")).await.unwrap();
        let alive = async |than: u64| {
            let at = machine.property(unit, "WatchdogTimestampMonotonic").await?.parse::<u64>()?;
            Ok((at > than).then_some(at))
        };
        // The first is that it is ready.
        let ready = until("the service to be ready", PATIENCE, async || alive(0).await).await.unwrap();
        until("its next sign of life", PATIENCE, async || alive(ready).await).await.unwrap();
        machine.line(&format!("systemctl kill --signal=STOP {unit}")).await.unwrap();
        let again = async || {
            let restarts = machine.property(unit, "NRestarts").await?;
            let state = machine.property(unit, "ActiveState").await?;
            Ok((restarts != "0" && state == "active").then_some(()))
        };
        until("systemd to start it again", PATIENCE, again).await.unwrap();
        machine.line(&format!("systemctl stop {unit}")).await.unwrap();
        assert_eq!(machine.property(unit, "Result").await.unwrap(), "success");
    }
}
