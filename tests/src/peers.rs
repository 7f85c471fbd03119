//! Other people's clients, which `npm ci --ignore-scripts` installs in `tests/peers`, and a browser, by what it installs in
//! `tests/page`: what a test says to them and hears from them are lines of JSON.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

/// A Node program of `tests`, alone with its children in a process group that ends with its owner.
#[derive(Debug)]
pub struct Peer {
    name: String,
    child: Child,
    group: Option<Pid>,
    said: ChildStdin,
    heard: Lines<BufReader<ChildStdout>>,
    log: PathBuf,
}

impl Peer {
    /// Start `script` of `tests/peers` with Node; what it prints on standard error goes to a file in `folder`.
    pub fn start<S: AsRef<std::ffi::OsStr>>(
        script: &str,
        args: impl IntoIterator<Item = S>,
        folder: &Path,
    ) -> Result<Self> {
        Self::start_of("peers", script, args, folder)
    }

    /// The same of another folder of `tests`.
    pub fn start_of<S: AsRef<std::ffi::OsStr>>(
        home: &str,
        script: &str,
        args: impl IntoIterator<Item = S>,
        folder: &Path,
    ) -> Result<Self> {
        let home = Path::new(env!("CARGO_MANIFEST_DIR")).join(home);
        ensure!(
            home.join("node_modules").is_dir(),
            "what it needs is not installed: run npm ci --ignore-scripts in {}",
            home.display()
        );
        let log = folder.join(script).with_extension("log");
        let mut command = Command::new("node");
        command.arg(home.join(script)).args(args).current_dir(folder).process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(File::create(&log)?);
        let mut child = command.spawn().context("cannot start node")?;
        let group = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        let said = child.stdin.take().context("standard input is a pipe")?;
        let heard = BufReader::new(child.stdout.take().context("standard output is a pipe")?).lines();
        Ok(Self { name: script.to_owned(), child, group, said, heard, log })
    }

    /// The next line that it prints.
    pub async fn hear(&mut self, limit: Duration) -> Result<Value> {
        match timeout(limit, self.heard.next_line()).await {
            Ok(line) => match line? {
                Some(line) => Ok(serde_json::from_str(&line)?),
                None => bail!("{} ended: {}", self.name, self.complaints()),
            },
            Err(_) => bail!("{} said nothing for {limit:?}: {}", self.name, self.complaints()),
        }
    }

    /// Say a line, and hear the next.
    pub async fn ask(&mut self, question: &Value, limit: Duration) -> Result<Value> {
        self.said.write_all(format!("{question}\n").as_bytes()).await?;
        self.hear(limit).await
    }

    /// What it has printed on standard error.
    #[must_use]
    pub fn complaints(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Not waited for yet, so the number is still its group's and nobody else's.
        if let Some(group) = self.group.filter(|_| self.child.id().is_some()) {
            let _gone = kill_process_group(group, Signal::KILL);
        }
    }
}
