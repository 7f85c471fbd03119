//! `cargo demo`: the main job on this machine, with nothing but this executable.
fn main() -> std::process::ExitCode {
    if let Some(code) = posthouse_tests::roles::dispatch(std::env::args_os()) {
        return code;
    }
    posthouse_tests::demo::main()
}
