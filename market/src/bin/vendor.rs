//! See `posthouse_market::vendor`.
fn main() -> std::process::ExitCode {
    posthouse_market::vendor::main(std::env::args_os())
}
