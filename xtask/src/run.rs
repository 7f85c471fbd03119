//! Running programs: what they print goes on to the terminal and is kept, for the counts at the end.

use std::{
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    thread,
};

use anyhow::{Context as _, Result, bail};

/// The repository's root: the parent of this crate's folder, as cargo says it now. The folder that the program was built in
/// may be another checkout, where the two share a target folder.
pub(crate) fn root() -> Result<PathBuf> {
    let here = std::env::var_os("CARGO_MANIFEST_DIR").context("run by cargo: `cargo ci`, `cargo xtask`")?;
    Ok(Path::new(&here).parent().context("xtask has a parent folder")?.to_path_buf())
}

/// A command line, split at white space. No shell reads it.
///
/// It is not told what cargo tells a program that it runs: ring, and all that is made with it, would be built again whenever a person
/// runs cargo and we do in turn.
pub(crate) fn cmd(line: &str) -> Command {
    let mut words = line.split_whitespace();
    let mut command = Command::new(words.next().unwrap_or("true"));
    command.args(words);
    let cargos = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(cargos)) {
        command.env_remove(name);
    }
    command
}

/// Run to the end, echo both streams, return them joined; an exit other than 0 is an error that names the command.
pub(crate) fn run(command: &mut Command) -> Result<String> {
    let (text, status) = run_to_end(command)?;
    if !status.success() {
        bail!("{command:?} ended with {status}");
    }
    Ok(text)
}

/// Run to the end, echo both streams, return them joined, and the exit status.
pub(crate) fn run_to_end(command: &mut Command) -> Result<(String, ExitStatus)> {
    let name = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {name}"))?;
    let out = child.stdout.take().map(|s| thread::spawn(move || echo(s)));
    let err = child.stderr.take().map(|s| thread::spawn(move || echo(s)));
    let text = [out, err].into_iter().flatten().map(|t| t.join().unwrap_or_default()).collect::<String>();
    Ok((text, child.wait()?))
}

/// Whether the program answers at all.
pub(crate) fn answers(line: &str) -> bool {
    cmd(line)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|s| s.success())
}

fn echo(stream: impl Read) -> String {
    let mut kept = String::new();
    let mut reader = BufReader::new(stream);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
        let text = String::from_utf8_lossy(&line);
        eprint!("{text}");
        kept.push_str(&text);
        line.clear();
    }
    kept
}
