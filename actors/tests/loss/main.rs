//! A hundred sensors on a lossy link: all of them are updated, and over CoAP little more is sent again than was lost.
//!
//! The kernel loses packets by chance (`nft`), both ways, to and from CoAP's port or the broker's, in a network namespace for
//! each run; `sim::proxy` loses, delays, doubles and reorders datagrams. `cargo ci --full` runs a part of the table,
//! `cargo xtask figures sensors` all of it, by `POSTHOUSE_LOSS=whole`. Each figure is a line, `name value unit`.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr, reason = "tests and figures")]

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use self::run::{Came, Carrier, Run, SENSORS, Way};

#[path = "../carriers/broker.rs"]
#[allow(dead_code, reason = "shared with the carriers' tests")]
mod broker;
#[path = "../carriers/fleet.rs"]
#[allow(dead_code, reason = "shared with the carriers' tests")]
mod fleet;
mod run;
#[path = "../carriers/site.rs"]
#[allow(dead_code, reason = "shared with the carriers' tests")]
mod site;

/// Which part of the table is wanted.
const TABLE: &str = "POSTHOUSE_LOSS";
/// Up to this loss, percent, every transfer completes.
const ALL_COMPLETE: u32 = 10;
/// Bytes sent again over CoAP, for each that was lost, at most.
const RESENT: f64 = 1.5;
/// From this loss on, percent.
const HELD: u32 = 10;

/// Not a test: a child that lives as simulated sensors, with the arguments that its parent left in the environment.
#[test]
fn child_sensor() {
    if let Some(arguments) = std::env::var_os(fleet::CHILD) {
        let arguments = arguments.into_string().unwrap();
        let code = posthouse_device::sim::main(arguments.split('\n').map(OsString::from));
        std::process::exit(if code == std::process::ExitCode::SUCCESS { 0 } else { 1 });
    }
}

/// Not a test: a child that is one run, in a network namespace of its own.
#[actix::test]
async fn child_run() {
    if let Ok(run) = std::env::var(run::CHILD) {
        println!(
            "{}",
            serde_json::to_string(&serde_json::from_str::<Run>(&run).unwrap().play().await).unwrap()
        );
    }
}

/// Where programs are; users' own paths leave out where distributions put those of administrators.
fn path() -> OsString {
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/local/sbin:/usr/sbin:/sbin");
    path
}

fn find(program: &str) -> Option<PathBuf> {
    std::env::split_paths(&path()).map(|place| place.join(program)).find(|file| file.is_file())
}

/// How to start a program in a network namespace where it may lose packets: as a user where the kernel lets users have
/// namespaces, else as root.
fn namespace() -> Option<[&'static str; 2]> {
    let ways = [["unshare", "-Urn"], ["unshare", "-n"]];
    let works = |way: &[&str; 2]| {
        let mut tried = Command::new(way[0]);
        tried.args([way[1], "sh", "-c", "ip link set lo up && nft add table inet loss"]).env("PATH", path());
        tried.stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    };
    ways.into_iter().find(works)
}

fn child(run: &Run, within: Option<[&str; 2]>) -> Came {
    let this = std::env::current_exe().unwrap();
    let mut command = match within {
        Some([unshare, which]) => {
            let mut command = Command::new(unshare);
            command.arg(which).arg(this);
            command
        }
        None => Command::new(this),
    };
    command
        .args(["--exact", "child_run", "--nocapture"])
        .env(run::CHILD, serde_json::to_string(run).unwrap());
    let output = command.stderr(Stdio::inherit()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{run:?}: {text}");
    let line = text.lines().find(|line| line.starts_with('{')).unwrap_or_else(|| panic!("{run:?}: {text}"));
    serde_json::from_str(line).unwrap()
}

/// Runs, and says what came of it. Bytes sent again for each that was lost, where that is known.
fn figures(run: &Run, within: Option<[&str; 2]>) -> Option<f64> {
    let came = child(run, within);
    let name = run.name();
    println!("{name}_complete {} 1", came.complete);
    println!("{name}_s {:.1} s", came.s);
    let up_to = run.lost <= ALL_COMPLETE;
    assert!(!up_to || came.complete == SENSORS, "{name}: {came:?}");
    let counted = run.way == Way::Kernel && run.carrier == Carrier::Coap && came.complete == SENSORS;
    let ratio = counted.then(|| came.resent_ratio())?;
    println!("{name}_lost {} B", came.carried - came.arrived);
    println!("{name}_resent_ratio {ratio:.3} 1");
    up_to.then_some(ratio)
}

#[test]
fn all_are_updated_and_little_more_is_sent_again_than_was_lost() {
    let whole = std::env::var(TABLE).is_ok_and(|table| table == "whole");
    let (losses, blocks): (&[u32], &[u16]) =
        if whole { (&[1, 5, 10, 30], &[64, 512, 1024]) } else { (&[1, 10], &[64, 1024]) };
    println!(); // the harness has begun a line
    run::tell_terms(blocks);
    let mut ratios = Vec::new();
    match namespace() {
        Some(within) => {
            for carrier in [Carrier::Coap, Carrier::Mqtt] {
                for (lost, block) in
                    losses.iter().flat_map(|lost| blocks.iter().map(move |block| (lost, block)))
                {
                    let run = Run { carrier, way: Way::Kernel, lost: *lost, block: *block };
                    ratios.extend(figures(&run, Some(within)).map(|ratio| (run, ratio)));
                }
            }
        }
        None => eprintln!(
            "SKIPPED: the kernel loses nothing: no nft, no ip, or neither root nor namespaces for users (unshare -Urn, unshare -n) on the \
             PATH {:?}",
            path()
        ),
    }
    for (lost, block) in losses.iter().flat_map(|lost| blocks.iter().map(move |block| (lost, block))) {
        if *lost <= ALL_COMPLETE {
            figures(&Run { carrier: Carrier::Coap, way: Way::Proxy, lost: *lost, block: *block }, None);
        }
    }
    let most = |held: bool| {
        let ratios = ratios.iter().filter(|(run, _)| !held || run.is_held()).map(|(_, ratio)| *ratio);
        ratios.reduce(f64::max)
    };
    if let Some(most) = most(false) {
        println!("resent_ratio_max {most:.3} 1");
    }
    assert!(most(true).is_none_or(|most| most <= RESENT), "{ratios:?}");
}
