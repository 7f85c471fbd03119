//! The program `posthouse`; see [`posthouse_agent::main`].

fn main() -> std::process::ExitCode {
    posthouse_agent::main(std::env::args_os())
}
