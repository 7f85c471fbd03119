//! What continuous integration runs, so that a person runs the same: `cargo ci`, `cargo xtask figures <area>`.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a tool for terminals")]

mod arm64;
mod board;
mod chroot;
mod ci;
mod containers;
mod debian;
mod figures;
mod licences;
mod openwrt;
mod package;
mod podman;
mod run;
mod testbed;
mod tools;
mod yocto;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(about, version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install what is absent and run every check; ends with the count of tests.
    Ci {
        /// Add the slow named suites.
        #[arg(long)]
        full: bool,
        /// Run only the steps whose name contains this.
        #[arg(long)]
        only: Option<String>,
    },
    /// Build the firmware for the emulated Cortex-M3, and print the folder where it is.
    Board,
    /// Make a package and print where it is.
    Package {
        #[command(subcommand)]
        package: package::Package,
    },
    /// Write what the Yocto layer takes from Cargo.lock and from git: its crates and its commit.
    Yocto,
    /// Start, try or stop the testbed: containers for a chain, a vendor, two distributors and two sites.
    Testbed {
        #[command(subcommand)]
        order: testbed::Testbed,
    },
    /// Run podman as the testbed does, with storage of its own under the target folder: `cargo xtask podman -- ps --all`.
    Podman {
        /// What follows `podman`.
        #[arg(last = true)]
        arguments: Vec<std::ffi::OsString>,
    },
    /// Measure an area now and print one `name value unit` line for each figure.
    Figures {
        /// One of the areas that `--help` lists.
        #[arg(value_enum)]
        area: figures::Area,
    },
}

fn main() -> anyhow::Result<()> {
    std::env::set_current_dir(run::root()?)?;
    match Cli::parse().command {
        Command::Ci { full, only } => ci::check(full, only.as_deref()),
        Command::Board => board::build().map(|folder| println!("{}", folder.display())),
        Command::Package { package } => package::make(package),
        Command::Yocto => yocto::update(),
        Command::Testbed { order } => testbed::carry_out(order),
        Command::Podman { arguments } => podman::Podman::ready()?.pass(&arguments),
        Command::Figures { area } => figures::run(area),
    }
}
