//! Programs out of packages for other processors, under qemu-user: they say what they are, read their configuration, and do the main job.
//!
//! `cargo ci --full` sets `POSTHOUSE_FOREIGN`, the folder with the programs, and `POSTHOUSE_FOREIGN_RUN`, the emulator and its options; with
//! `POSTHOUSE_FOREIGN_SPACE` (`START-END`, hex) where in its own memory the emulator was told to keep that of the program, what the
//! gateway has of it resident is measured as well. Programs that the folder has not are this build's own.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "tests")]

use std::ffi::OsString;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use posthouse_tests::{
    broker::{Broker, program},
    chain::Chain,
    poll::until,
    process::Programs,
    roles::Role,
    site::{Plan, Site},
};

/// What any step may take: the emulator takes up to twenty times what the processor would, a proof as well.
const PATIENCE: Duration = Duration::from_secs(1200);
/// Bytes of the image.
const IMAGE: usize = 256 * 1024;
const SENSORS: usize = 4;
/// Most that a gateway on a router may have resident, MiB.
const BOUND: f64 = 64.0;
/// Roles that packages have programs for.
const ROLES: [Role; 3] = [Role::Gateway, Role::Vendor, Role::Distributor];

struct Foreign {
    folder: PathBuf,
    run: Vec<OsString>,
    space: Option<Range<u64>>,
}

impl Foreign {
    fn given() -> Self {
        let var = |name: &str| std::env::var(name).ok();
        let folder = var("POSTHOUSE_FOREIGN").expect("POSTHOUSE_FOREIGN, as `cargo ci --full` sets it");
        let run = var("POSTHOUSE_FOREIGN_RUN").expect("POSTHOUSE_FOREIGN_RUN");
        let space = var("POSTHOUSE_FOREIGN_SPACE").map(|space| range(&space).expect("START-END"));
        Self { folder: folder.into(), run: run.split_whitespace().map(Into::into).collect(), space }
    }

    /// The command line of a role, where the package has its program.
    fn line(&self, role: Role) -> Option<Vec<OsString>> {
        let file = self.folder.join(role.program());
        file.is_file().then(|| self.run.iter().cloned().chain([file.into()]).collect())
    }

    fn says(&self, role: Role, args: &[&str]) -> String {
        let line = self.line(role).unwrap();
        let out = Command::new(&line[0]).args(&line[1..]).args(args).output().unwrap();
        assert!(out.status.success(), "{role:?} {args:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap()
    }
}

fn range(text: &str) -> Option<Range<u64>> {
    let (start, end) = text.split_once('-')?;
    Some(u64::from_str_radix(start, 16).ok()?..u64::from_str_radix(end, 16).ok()?)
}

#[test]
fn they_say_what_they_are() {
    let foreign = Foreign::given();
    let roles: Vec<Role> = ROLES.into_iter().filter(|role| foreign.line(*role).is_some()).collect();
    assert!(roles.contains(&Role::Gateway), "{} has no programs", foreign.folder.display());
    for role in roles {
        assert_eq!(
            foreign.says(role, &["--version"]),
            format!("{} {}\n", role.program(), env!("CARGO_PKG_VERSION"))
        );
    }
}

#[test]
fn the_example_configuration_is_one_to_run_with() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/config/posthouse.toml");
    let said = Foreign::given().says(Role::Gateway, &["check-config", "--config", example.to_str().unwrap()]);
    assert!(said.lines().next().unwrap().ends_with("posthouse.toml: ok"), "{said}");
}

/// The demo's: a vendor publishes, a distributor proves and delivers, sensors on both carriers install, each is paid for once.
#[tokio::test(flavor = "multi_thread")]
async fn they_do_the_main_job() {
    let foreign = Foreign::given();
    let folder = tempfile::tempdir().unwrap();
    let own = Programs::new(env!("CARGO_BIN_EXE_posthouse-demo"));
    let programs = ROLES.into_iter().fold(own, |programs, role| match foreign.line(role) {
        Some(line) => programs.instead(role, line),
        None => programs,
    });
    let begun = Instant::now();
    let plan = Plan { sensors: SENSORS, distributors: 1, ..Plan::new(programs, folder.path()) };
    let chain = Chain::devchain(Duration::from_millis(250)).unwrap();
    let mosquitto = program("mosquitto").expect("mosquitto, which `cargo ci` installs");
    let broker = Broker::mosquitto(&mosquitto, folder.path()).await.unwrap();
    let mut site = Site::prepare(plan, chain, broker).await.unwrap();
    let image: Vec<u8> = (0..IMAGE).map(|at| (at % 251) as u8).collect();
    let file = folder.path().join("firmware");
    fs::write(&file, &image).unwrap();
    let published = site.publish(&file, "key").await.unwrap();
    site.start_seeder().unwrap();
    site.start_distributor(0, &[]).unwrap();
    site.start_gateway(&[]).unwrap();
    until("the gateway", PATIENCE, async || {
        site.still_running()?;
        Ok(site.get("status").await.map(drop))
    })
    .await
    .unwrap();
    site.start_sensors().unwrap();
    let memory =
        foreign.space.clone().map(|space| Memory::watch(site.gateway().unwrap().id().unwrap(), space));
    site.updated(&image, PATIENCE).await.unwrap();
    site.paid(published.version, SENSORS, PATIENCE).await.unwrap();
    eprintln!("main_job {:.0} s", begun.elapsed().as_secs_f64());
    if let Some(memory) = memory {
        let most = memory.most();
        eprintln!("gateway_rss {most:.1} MiB");
        assert!(most > 1.0 && most <= BOUND, "{most} MiB are resident, not at most {BOUND}");
    }
    let ended = site.gateway().unwrap().terminate().await.unwrap();
    assert!(ended.success(), "{ended}");
}

/// Looks again and again at what an emulated program has resident.
struct Memory(std::sync::mpsc::Sender<()>, std::thread::JoinHandle<u64>);

impl Memory {
    fn watch(pid: u32, space: Range<u64>) -> Self {
        let (stop, stopped) = std::sync::mpsc::channel();
        let watch = move || {
            let mut most = 0;
            loop {
                most = most.max(resident_kib(pid, &space).unwrap_or(0));
                let wait = stopped.recv_timeout(Duration::from_millis(200));
                if wait != Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                    return most;
                }
            }
        };
        Self(stop, std::thread::spawn(watch))
    }

    /// MiB.
    fn most(self) -> f64 {
        drop(self.0);
        self.1.join().unwrap() as f64 / 1024.0
    }
}

/// What of a process's memory in a range of its addresses is resident, by `/proc/PID/smaps`.
fn resident_kib(pid: u32, space: &Range<u64>) -> Option<u64> {
    let maps = fs::read_to_string(format!("/proc/{pid}/smaps")).ok()?;
    let (mut within, mut kib) = (false, 0);
    for line in maps.lines() {
        let first = line.split_ascii_whitespace().next()?;
        if let Some(mapped) = range(first) {
            within = space.contains(&mapped.start);
        } else if let Some(size) = line.strip_prefix("Rss:").filter(|_| within) {
            kib += size.trim().strip_suffix(" kB")?.parse::<u64>().ok()?;
        }
    }
    Some(kib)
}
