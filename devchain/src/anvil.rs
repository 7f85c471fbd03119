//! Somebody else's chain for tests, to hold this one against.

use std::io::{self, BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// An anvil of one's own, on a free port of loopback; it ends with this.
#[derive(Debug)]
pub struct Anvil {
    process: Child,
    url: String,
}

impl Anvil {
    /// Starts it under the rules of `hardfork`, with the cap on a transaction's gas (EIP-7825), and with `args`.
    ///
    /// # Errors
    /// There is none ([`Anvil::program`] looks for it), or it ends before it listens.
    pub fn start(hardfork: &str, args: &[&str]) -> io::Result<Self> {
        let absent = "no anvil (npm ci in contracts/, or POSTHOUSE_ANVIL)";
        let program = Self::program().ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, absent))?;
        let mut process = Command::new(program)
            .args(["--port", "0", "--hardfork", hardfork, "--enable-tx-gas-limit"])
            .args(args)
            .stdout(Stdio::piped())
            .spawn()?;
        let output = process.stdout.take();
        let mut anvil = Self { process, url: String::new() };
        for line in output.into_iter().flat_map(|output| BufReader::new(output).lines()) {
            if let Some(address) = line?.strip_prefix("Listening on ") {
                anvil.url = format!("http://{address}");
                return Ok(anvil);
            }
        }
        Err(io::Error::new(io::ErrorKind::UnexpectedEof, "anvil ended before it listened"))
    }

    /// `$POSTHOUSE_ANVIL`, or what `npm ci` in `contracts/` installs; npm's own `anvil` is a script that starts this.
    /// `None` if there is no such file.
    pub fn program() -> Option<PathBuf> {
        let given = std::env::var_os("POSTHOUSE_ANVIL").map(PathBuf::from);
        let installed = "../contracts/node_modules/@foundry-rs/anvil-linux-amd64/bin/anvil";
        let program = given.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join(installed));
        program.is_file().then_some(program)
    }

    /// JSON-RPC endpoint.
    pub fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for Anvil {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
