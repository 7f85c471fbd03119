//! See `posthouse_market::distributor`.
fn main() -> std::process::ExitCode {
    posthouse_market::distributor::main(std::env::args_os())
}
