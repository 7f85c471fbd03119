//! A process of the testbed: its output goes to a file, and it ends with its owner.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use crate::roles::{AS, Role};

/// The executable that has every role, see [`crate::roles::dispatch`], and programs that are run instead in some.
#[derive(Clone, Debug)]
pub struct Programs {
    own: PathBuf,
    others: Vec<(Role, Vec<OsString>)>,
}

impl Programs {
    /// `executable` must call [`crate::roles::dispatch`] first thing in its `main`.
    #[must_use]
    pub fn new(executable: impl Into<PathBuf>) -> Self {
        Self { own: executable.into(), others: Vec::new() }
    }

    /// Has `line` run as `role`: a program, or one that runs it, such as an emulator and its options.
    #[must_use]
    pub fn instead<S: Into<OsString>>(mut self, role: Role, line: impl IntoIterator<Item = S>) -> Self {
        self.others.push((role, line.into_iter().map(Into::into).collect()));
        self
    }

    /// A command that runs as `role`; add arguments to it.
    #[must_use]
    pub fn command(&self, role: Role) -> Command {
        let other = self.others.iter().find(|(other, _)| *other == role);
        if let Some((program, first)) = other.and_then(|(_, line)| line.split_first()) {
            let mut command = Command::new(program);
            command.args(first);
            return command;
        }
        let mut command = Command::new(&self.own);
        command.arg(AS).arg(role.program());
        command
    }

    /// Run to the end and return what was printed on standard output; any other exit than 0 is an error that carries
    /// the standard error.
    pub async fn output<S: AsRef<OsStr>>(
        &self,
        role: Role,
        args: impl IntoIterator<Item = S>,
    ) -> Result<String> {
        let mut command = self.command(role);
        command.args(args).stdin(Stdio::null()).kill_on_drop(true);
        let out = command.output().await.with_context(|| format!("cannot start {}", role.program()))?;
        let err = String::from_utf8_lossy(&out.stderr);
        ensure!(out.status.success(), "{} ended with {}: {err}", role.program(), out.status);
        Ok(String::from_utf8(out.stdout)?)
    }
}

/// A running process. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Start `command`; both output streams are appended to `log`.
    pub fn start(name: impl Into<String>, mut command: Command, log: &Path) -> Result<Self> {
        let name = name.into();
        let file =
            File::options().create(true).append(true).open(log).with_context(|| log.display().to_string())?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).kill_on_drop(true);
        let child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        Ok(Self { name, child, log: log.to_path_buf() })
    }

    /// What it is called in messages.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id, while it runs.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Everything that it has printed, over all its runs.
    #[must_use]
    pub fn printed(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// `kill -9`, and wait until it is gone.
    pub async fn kill(&mut self) -> Result<()> {
        self.child.kill().await.with_context(|| format!("cannot kill {}", self.name))
    }

    /// SIGTERM, as systemd sends it, and wait for the exit.
    pub async fn terminate(&mut self) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        self.exit().await
    }

    /// SIGHUP, with which systemd has it read its configuration again.
    pub fn reload(&self) -> Result<()> {
        self.signal(Signal::HUP)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        if let Some(pid) = self.child.id().and_then(|id| Pid::from_raw(id.cast_signed())) {
            kill_process(pid, signal)?;
        }
        Ok(())
    }

    /// Wait for the exit.
    pub async fn exit(&mut self) -> Result<ExitStatus> {
        self.child.wait().await.with_context(|| format!("cannot wait for {}", self.name))
    }

    /// The exit status if it has ended.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().with_context(|| format!("cannot ask for {}", self.name))
    }
}
