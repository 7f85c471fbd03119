//! `cargo ci`: every check, in the order in which a mistake shows soonest.

use std::{process::Command, time::Instant};

use anyhow::{Result, bail};

use crate::{
    debian,
    run::{cmd, run, run_to_end},
    tools,
};

/// Passed, failed and skipped tests.
#[derive(Default, Clone, Copy)]
struct Count {
    passed: u64,
    failed: u64,
    skipped: u64,
}

struct Step {
    name: &'static str,
    /// Only with `--full`.
    slow: bool,
    run: fn() -> Result<Count>,
}

const STEPS: &[Step] = &[
    Step { name: "install", slow: false, run: || tools::install().map(|()| Count::default()) },
    Step { name: "format", slow: false, run: || quiet("cargo fmt --all --check") },
    Step { name: "shellcheck", slow: false, run: shellcheck },
    Step {
        name: "deny",
        slow: false,
        run: || quiet("cargo deny --all-features check bans licenses sources"),
    },
    Step { name: "audit", slow: false, run: audit },
    Step { name: "yocto", slow: false, run: || crate::yocto::check().map(|()| Count::default()) },
    Step { name: "contracts", slow: false, run: contracts },
    Step { name: "slither", slow: true, run: slither },
    Step {
        name: "clippy",
        slow: false,
        run: || quiet("cargo clippy --workspace --all-targets --all-features -- -D warnings"),
    },
    Step { name: "no-alloc", slow: false, run: no_alloc },
    Step { name: "gateway-small", slow: false, run: gateway_small },
    Step { name: "docs", slow: false, run: docs },
    Step { name: "tests", slow: false, run: tests },
    Step { name: "demo", slow: false, run: || quiet("cargo demo -- --json") },
    Step { name: "demo-large", slow: true, run: demo_large },
    Step { name: "helios", slow: true, run: || peer("helios") },
    Step { name: "lodestar", slow: true, run: || peer("lodestar") },
    Step { name: "suit", slow: true, run: suit },
    Step { name: "rest", slow: true, run: rest },
    Step { name: "package", slow: true, run: package },
    Step { name: "page", slow: true, run: page },
    Step { name: "board", slow: true, run: board },
    Step { name: "arm64", slow: true, run: arm64 },
    Step { name: "openwrt", slow: true, run: openwrt },
    Step { name: "coap-peers", slow: true, run: coap_peers },
    Step { name: "mqtt-peers", slow: true, run: mqtt_peers },
    Step { name: "fuzz", slow: false, run: fuzz },
    Step { name: "loss", slow: true, run: loss },
    Step { name: "testbed", slow: true, run: testbed },
];

/// One suite by its name, with the features of all others: nothing is built twice.
pub(crate) const SUITE: &str = "cargo nextest run --workspace --all-features --no-fail-fast --test";

/// Programs of packages for other processors; what they took is shown.
const FOREIGN: &str =
    "cargo nextest run --workspace --all-features --no-fail-fast --no-capture --test foreign";

pub(crate) fn check(full: bool, only: Option<&str>) -> Result<()> {
    let mut total = Count::default();
    let mut failures = Vec::new();
    let started = Instant::now();
    for step in STEPS.iter().filter(|s| (full || !s.slow) && only.is_none_or(|o| s.name.contains(o))) {
        println!("\n== {}", step.name);
        let begun = Instant::now();
        match (step.run)() {
            Ok(count) => {
                total.passed += count.passed;
                total.failed += count.failed;
                total.skipped += count.skipped;
                let word = if count.failed == 0 { "ok" } else { "FAILED" };
                println!("== {} {word}, {:.0} s", step.name, begun.elapsed().as_secs_f32());
                failures.extend((count.failed > 0).then_some(step.name));
            }
            Err(why) => {
                println!("== {} FAILED, {:.0} s: {why:#}", step.name, begun.elapsed().as_secs_f32());
                failures.push(step.name);
                if step.name == "install" {
                    break; // all that follows would fail for the same reason
                }
            }
        }
    }
    println!("\n{} min in all", started.elapsed().as_secs().div_ceil(60));
    let failed = total.failed.max(failures.len() as u64);
    println!("{} passed, {failed} failed, {} skipped", total.passed, total.skipped);
    if !failures.is_empty() {
        bail!("failed: {}", failures.join(", "));
    }
    Ok(())
}

fn quiet(line: &str) -> Result<Count> {
    run(&mut cmd(line)).map(|_| Count::default())
}

fn shellcheck() -> Result<Count> {
    let files = String::from_utf8(cmd("git ls-files").output()?.stdout)?;
    let others = [".ci/run", "packaging/debian/postinst", "packaging/debian/postrm"];
    let scripts: Vec<&str> = files.lines().filter(|f| f.ends_with(".sh") || others.contains(f)).collect();
    run(cmd("shellcheck").args(scripts))?;
    // OpenWrt's shell is an ash, to which dash is nearest.
    quiet("shellcheck --shell=dash packaging/openwrt/posthouse/files/posthouse.init")
}

fn audit() -> Result<Count> {
    match tools::advisories(&tools::target()?.join("advisory-db"))? {
        Some(folder) => run(cmd("cargo audit --no-fetch --stale --db").arg(folder)),
        None => {
            println!("no advisories in {}; fetching them", tools::shared().display());
            run(&mut cmd("cargo audit"))
        }
    }
    .map(|_| Count::default())
}

fn contracts() -> Result<Count> {
    let count = counted(cmd("npm run --silent test").current_dir("contracts"), "tests passed")?;
    run(cmd("npm run --silent check").current_dir("contracts"))?;
    Ok(count)
}

/// Findings that are none have their reasons in `contracts/slither.config.json` or at their line; any other one fails.
fn slither() -> Result<Count> {
    let scratch = tools::target()?.join("slither");
    let program = tools::slither(&scratch)?;
    // It calls forge by name, makes it build everything anew, and cleans up before: not in the folder of the tests.
    let mut path =
        std::path::absolute("contracts/node_modules/@foundry-rs/forge-linux-amd64/bin")?.into_os_string();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    run(Command::new(program)
        .arg(".")
        .current_dir("contracts")
        .env("PATH", path)
        .env("FOUNDRY_OUT", scratch.join("out"))
        .env("FOUNDRY_CACHE_PATH", scratch.join("cache")))
    .map(|_| Count::default())
}

/// Runs tests; that some failed is in the count, anything else that went wrong is an error.
fn counted(command: &mut Command, mark: &str) -> Result<Count> {
    let (printed, status) = run_to_end(command)?;
    let count = count(&printed, mark);
    if !status.success() && count.failed == 0 {
        bail!("{command:?} ended with {status}");
    }
    Ok(count)
}

/// The sensor's half must build without an allocator, and link into something that has none.
fn no_alloc() -> Result<Count> {
    run(&mut cmd("cargo check -p posthouse-protocol --no-default-features"))?;
    run(&mut cmd("cargo build --locked --manifest-path protocol/freestanding/Cargo.toml"))?;
    quiet("cargo check -p posthouse-device --no-default-features")
}

/// The gateway for routers: its code is free of warnings, and what it leaves out is out.
fn gateway_small() -> Result<Count> {
    const SMALL: &str = "-p posthouse-agent --no-default-features --features gateway-small";
    run(&mut cmd(&format!("cargo clippy {SMALL} -- -D warnings")))?;
    let tree = run(&mut cmd(&format!("cargo tree --edges no-dev {SMALL}")))?;
    let foreign = tree.lines().find(|line| ["quinn", "aws-lc"].iter().any(|name| line.contains(name)));
    foreign.map_or(Ok(Count::default()), |line| bail!("gateway-small has {line}"))
}

fn docs() -> Result<Count> {
    run(cmd("cargo doc --workspace --all-features --no-deps").env("RUSTDOCFLAGS", "-D warnings"))
        .map(|_| Count::default())
}

fn tests() -> Result<Count> {
    counted(&mut cmd("cargo nextest run --workspace --all-features --no-fail-fast"), "Summary [")
}

fn demo_large() -> Result<Count> {
    let folder = tools::target()?.join("demo-large");
    std::fs::create_dir_all(&folder)?;
    let firmware = folder.join("ten-mebibytes");
    // Not random, not constant: block numbers, so that a block in the wrong place shows.
    let image: Vec<u8> = (0..10u32 << 20 >> 2).flat_map(u32::to_le_bytes).collect();
    std::fs::write(&firmware, image)?;
    run(cmd("cargo demo -- --json --sensors 40 --firmware").arg(&firmware))?;
    let patch = folder.join("patch");
    std::fs::write(&patch, (0..512u32).map(|i| (i * 7 % 251) as u8).collect::<Vec<u8>>())?;
    run(cmd("cargo demo -- --json --mode file --firmware").arg(&patch)).map(|_| Count::default())
}

/// A suite against somebody else's client, which plain test runs leave out.
fn peer(name: &str) -> Result<Count> {
    tools::peers()?;
    counted(cmd(SUITE).arg(name), "Summary [")
}

/// Other people's CoAP clients.
fn coap_peers() -> Result<Count> {
    let python = tools::aiocoap(&std::path::absolute(tools::target()?)?)?;
    tools::npm_coap()?;
    counted(cmd(SUITE).arg("coap-peers").env("POSTHOUSE_AIOCOAP", python), "Summary [")
}

/// Other people's MQTT clients.
fn mqtt_peers() -> Result<Count> {
    tools::debian(&[("xxd", "xxd")])?;
    let python = tools::paho(&tools::target()?)?;
    counted(cmd(SUITE).arg("mqtt-peers").env("POSTHOUSE_PAHO", python), "Summary [")
}

/// A hundred sensors on lossy links, a part of the table that `cargo xtask figures sensors` has; it is shown.
fn loss() -> Result<Count> {
    tools::netfilter()?;
    counted(cmd(SUITE).args(["loss", "--no-capture"]), "Summary [")
}

/// SUIT and COSE by Python's libraries.
fn suit() -> Result<Count> {
    let python = tools::pycose(&tools::target()?)?;
    counted(cmd(SUITE).arg("suit").env("POSTHOUSE_PEERS_PYTHON", python), "Summary [")
}

/// The status by those who know what such an interface should be: OpenAPI's validator, schemathesis, promtool.
fn rest() -> Result<Count> {
    let target = tools::target()?;
    let (programs, promtool) = (tools::rest(&target)?, tools::promtool(&target)?);
    let mut suite = cmd(SUITE);
    suite.arg("rest").env("POSTHOUSE_REST_PROGRAMS", programs).env("POSTHOUSE_PROMTOOL", promtool);
    counted(&mut suite, "Summary [")
}

/// The .deb by Debian's own measures, and on machines with systemd.
fn package() -> Result<Count> {
    let deb = debian::deb()?;
    debian::lintian(&deb)?;
    debian::piuparts(&deb)?;
    let machines = debian::Machines::ready()?;
    let counted = counted(&mut machines.suite(&format!("{SUITE} package"), &deb)?, "Summary [");
    machines.end()?;
    counted
}

/// The page at `/` in a browser.
fn page() -> Result<Count> {
    tools::browser()?;
    counted(cmd(SUITE).arg("page"), "Summary [")
}

/// The fuzz targets build; running them takes nightly and as long as one likes (`docs/fuzzing.md`).
fn fuzz() -> Result<Count> {
    for owner in ["protocol", "light-client", "actors"] {
        // Nothing is linked, so that libFuzzer need not be built.
        run(cmd(&format!("cargo check --locked --manifest-path {owner}/fuzz/Cargo.toml"))
            .env("CUSTOM_LIBFUZZER_PATH", "/nowhere/libfuzzer.a"))?;
    }
    Ok(Count::default())
}

/// The emulated Cortex-M3, with firmware that is built for it now.
fn board() -> Result<Count> {
    let firmware = crate::board::build()?;
    counted(cmd(SUITE).arg("board").env("POSTHOUSE_BOARD", firmware), "Summary [")
}

/// Programs of the .deb for arm64 under qemu-user.
fn arm64() -> Result<Count> {
    let (folder, run) = crate::arm64::programs(&tools::target()?)?;
    counted(cmd(FOREIGN).env("POSTHOUSE_FOREIGN", folder).env("POSTHOUSE_FOREIGN_RUN", run), "Summary [")
}

/// The program of the package for OpenWrt under qemu-user, and what memory it takes.
fn openwrt() -> Result<Count> {
    let (folder, run, space) = crate::openwrt::programs(&tools::target()?)?;
    let mut suite = cmd(FOREIGN);
    suite.env("POSTHOUSE_FOREIGN", folder).env("POSTHOUSE_FOREIGN_RUN", run);
    counted(suite.env("POSTHOUSE_FOREIGN_SPACE", space), "Summary [")
}

/// Containers for a chain, a vendor, two distributors and two sites; an update reaches each of their sensors.
fn testbed() -> Result<Count> {
    crate::testbed::carry_out(crate::testbed::Testbed::Run(Default::default())).map(|()| Count::default())
}

/// Read the numbers from the summary lines of nextest (`Summary [ … s] 9 tests run: 9 passed, 0 skipped`) and forge
/// (`… 9 tests passed, 0 failed, 0 skipped (9 total tests)`); the last line that has `mark` counts.
fn count(printed: &str, mark: &str) -> Count {
    let plain: String = strip_colour(printed);
    let Some(line) = plain.lines().rev().find(|l| l.contains(mark)) else { return Count::default() };
    let before = |word: &str| {
        let words: Vec<&str> =
            line.split([' ', ',', ':', '(']).filter(|w| !w.is_empty() && *w != "tests").collect();
        words.windows(2).find(|w| w[1] == word).and_then(|w| w[0].parse().ok()).unwrap_or(0)
    };
    Count { passed: before("passed"), failed: before("failed"), skipped: before("skipped") }
}

fn strip_colour(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\x1b') {
        plain.push_str(&rest[..at]);
        rest = rest[at..].find('m').map_or("", |end| &rest[at + end + 1..]);
    }
    plain.push_str(rest);
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read_from_both_runners() {
        let nextest = "x\n     Summary [   0.005s] 5 tests run: 4 passed, 1 failed, 2 skipped\n";
        let c = count(nextest, "Summary [");
        assert_eq!((c.passed, c.failed, c.skipped), (4, 1, 2));
        let one = "     Summary [ 195.731s] 1 test run: 1 passed (1 slow), 0 skipped";
        let c = count(one, "Summary [");
        assert_eq!((c.passed, c.failed, c.skipped), (1, 0, 0));
        let forge = "Ran 3 test suites in 2s (3s CPU time): \x1b[32m42\x1b[0m tests passed, 0 failed, 1 skipped (43 total tests)";
        let c = count(forge, "tests passed");
        assert_eq!((c.passed, c.failed, c.skipped), (42, 0, 1));
    }
}
