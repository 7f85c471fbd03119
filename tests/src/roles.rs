//! One executable, every program: `PROGRAM __as ROLE ARGS…` is the program of that role.

use std::{ffi::OsString, process::ExitCode};

use anyhow::Result;

/// The first argument that makes this executable act as one of the programs.
pub const AS: &str = "__as";

/// The programs of a testbed, by the names under which they are installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// `posthouse`, the gateway's agent.
    Gateway,
    /// `posthouse-vendor`.
    Vendor,
    /// `posthouse-distributor`.
    Distributor,
    /// `posthouse-sensor-sim`, a simulated sensor.
    Sensor,
}

impl Role {
    /// The program's name.
    #[must_use]
    pub fn program(self) -> &'static str {
        match self {
            Self::Gateway => "posthouse",
            Self::Vendor => "posthouse-vendor",
            Self::Distributor => "posthouse-distributor",
            Self::Sensor => "posthouse-sensor-sim",
        }
    }

    fn named(name: &str) -> Option<Self> {
        [Self::Gateway, Self::Vendor, Self::Distributor, Self::Sensor]
            .into_iter()
            .find(|r| r.program() == name)
    }
}

/// Run as the role that the arguments name, to the end; `None` where they name none.
pub fn dispatch(args: impl IntoIterator<Item = OsString>) -> Option<ExitCode> {
    let mut args = args.into_iter().skip(1);
    if args.next()? != AS {
        return None;
    }
    let name = args.next()?;
    let role = Role::named(name.to_str()?)?;
    let args = std::iter::once(name).chain(args);
    Some(match role {
        Role::Gateway => posthouse_agent::main(args),
        Role::Vendor => posthouse_market::vendor::main(args),
        Role::Distributor => posthouse_market::distributor::main(args),
        Role::Sensor => posthouse_device::sim::main(args),
    })
}

/// The `main` of a program that measures, and starts itself in the other roles for it: says why it has failed, under its name.
#[allow(clippy::print_stderr, reason = "for whoever runs it; its figures are on stdout")]
pub fn measures(name: &str, measure: impl FnOnce() -> Result<()>) -> ExitCode {
    if let Some(code) = dispatch(std::env::args_os()) {
        return code;
    }
    match measure() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{name}: {why:#}");
            ExitCode::FAILURE
        }
    }
}
