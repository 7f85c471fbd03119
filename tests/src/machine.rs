//! A machine with systemd as PID 1: a container of podman, in the network namespace that its starter is in.

use std::{
    ffi::OsStr,
    path::Path,
    process::{Output, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use tokio::process::{Child, Command};

use crate::poll::until;

/// How long systemd may take to start all that the image has.
const BOOT: Duration = Duration::from_secs(60);
/// What machines are marked with, so that those of a starter that was killed are found (`podman ps --filter`).
const LABEL: &str = "posthouse=machine";

/// A running machine. It ends with this value.
#[derive(Debug)]
pub struct Machine {
    name: String,
}

impl Drop for Machine {
    fn drop(&mut self) {
        let mut end = std::process::Command::new("podman");
        end.args(["rm", "--force", "--time", "0", &self.name]).stdout(Stdio::null());
        if let Err(error) = end.status() {
            tracing::error!(%error, machine = self.name, "is not ended");
        }
    }
}

impl Machine {
    /// Starts one from an image of podman's and waits until systemd has.
    pub async fn boot(image: &str) -> Result<Self> {
        let name = format!("posthouse-{}", std::process::id());
        let mut start = Command::new("podman");
        start
            .args(["run", "--detach", "--name", &name, "--label", LABEL, "--systemd=always"])
            .args([
                "--network=host",
                "--cap-add=SYS_ADMIN,NET_ADMIN,SYS_PTRACE",
                "--security-opt",
                "seccomp=unconfined",
            ])
            .args([image, "/sbin/init"]);
        // Before it is started: what has begun must end as well where the start fails.
        let machine = Self { name };
        done(&mut start).await?;
        let booted = async || {
            let state = machine.command(["systemctl", "is-system-running"]).output().await?;
            let state = String::from_utf8_lossy(&state.stdout);
            Ok(["running", "degraded"].contains(&state.trim()).then_some(()))
        };
        until("systemd", BOOT, booted).await?;
        Ok(machine)
    }

    /// Runs a program there to its end, and returns what it printed; an exit other than 0 is an error that carries all of it.
    pub async fn run<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Result<String> {
        let output = done(&mut self.command(args)).await?;
        Ok(String::from_utf8(output.stdout)?)
    }

    /// The same for a line, split at white space.
    pub async fn line(&self, line: &str) -> Result<String> {
        self.run(line.split_whitespace()).await
    }

    /// Whether a program there ends with 0.
    pub async fn holds(&self, line: &str) -> Result<bool> {
        Ok(self.command(line.split_whitespace()).output().await?.status.success())
    }

    /// A program there that goes on, as root over all that runs there. It ends with the machine.
    pub fn start(&self, line: &str) -> Result<Child> {
        let mut exec = Command::new("podman");
        exec.args(["exec", "--privileged", &self.name]).args(line.split_whitespace());
        exec.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        exec.spawn().context("podman")
    }

    /// Copies a file of this machine to that one.
    pub async fn copy(&self, file: &Path, to: &str) -> Result<()> {
        let to = format!("{}:{to}", self.name);
        done(Command::new("podman").arg("cp").arg(file).arg(to)).await.map(drop)
    }

    /// Writes a file there, with these bytes.
    pub async fn write(&self, path: &str, content: &[u8]) -> Result<()> {
        let file = tempfile::NamedTempFile::new()?;
        std::fs::write(&file, content)?;
        self.copy(file.path(), path).await
    }

    /// A property of a unit, as `systemctl show` says it.
    pub async fn property(&self, unit: &str, property: &str) -> Result<String> {
        let shown = self.run(["systemctl", "show", "--value", "--property", property, unit]).await?;
        Ok(shown.trim().to_owned())
    }

    fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut exec = Command::new("podman");
        exec.args(["exec", "--env", "DEBIAN_FRONTEND=noninteractive", &self.name]).args(args);
        exec.stdin(Stdio::null()).kill_on_drop(true);
        exec
    }
}

async fn done(command: &mut Command) -> Result<Output> {
    let output =
        command.stdin(Stdio::null()).kill_on_drop(true).output().await.context("podman is needed")?;
    let said = [output.stdout.as_slice(), &output.stderr].map(String::from_utf8_lossy).concat();
    ensure!(output.status.success(), "{command:?} ended with {}: {said}", output.status);
    Ok(output)
}
