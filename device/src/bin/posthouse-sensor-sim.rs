//! The simulated sensor as a program.

use std::process::ExitCode;

fn main() -> ExitCode {
    posthouse_device::sim::main(std::env::args_os())
}
