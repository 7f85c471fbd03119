//! The carriers with real peers: the simulated sensor in a process of its own, libcoap's client,
//! mosquitto, and the broker that the demonstration embeds.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "tests")]

mod acl;
mod attacks;
mod broker;
mod broker_busy;
mod fleet;
mod herd;
mod libcoap;
mod mirror;
mod power;
mod psk;
mod served;
mod site;
mod update;

/// Not a test: a child of the tests that lives as a simulated sensor, with the arguments that its
/// parent left in the environment.
#[test]
fn child_sensor() {
    if let Some(arguments) = std::env::var_os(fleet::CHILD) {
        let arguments = arguments.into_string().unwrap();
        let code = posthouse_device::sim::main(arguments.split('\n').map(std::ffi::OsString::from));
        std::process::exit(if code == std::process::ExitCode::SUCCESS { 0 } else { 1 });
    }
}

/// Where a program is, looking in the places where distributions put it.
fn find(program: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places: Vec<_> = std::env::split_paths(&path).collect();
    places.extend(["/usr/sbin", "/usr/local/sbin"].map(std::path::PathBuf::from));
    let found = places.iter().map(|place| place.join(program)).find(|file| file.is_file());
    if found.is_none() {
        eprintln!("SKIPPED: {program} is in none of {places:?}");
    }
    found
}
