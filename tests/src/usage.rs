//! What a process takes of the machine, by `/proc` (proc(5)).

use std::fs;

use anyhow::{Context as _, Result};

/// Ticks of `/proc/PID/stat` in a second: Linux has shown no other number on any processor for decades.
const TICKS: f64 = 100.0;

/// A line of a process's status, KiB: `VmRSS` is what is resident, `VmHWM` the most that was.
pub fn kib(pid: u32, name: &str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = |line: &str| {
        line.strip_prefix(name)?.strip_prefix(':')?.trim().strip_suffix(" kB")?.trim().parse().ok()
    };
    status.lines().find_map(line).with_context(|| format!("no {name}"))
}

/// What a process has had of the processors, in user and kernel mode.
pub fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name, which is in brackets, may have anything in it. utime and stime are the 14th and the 15th field (proc(5)).
    let (_, fields) = stat.rsplit_once(')').context("a name in brackets")?;
    let ticks = fields.split_ascii_whitespace().skip(11).take(2).map(str::parse::<u64>);
    Ok(ticks.sum::<Result<u64, _>>()? as f64 / TICKS)
}

/// Files, sockets and the like that a process holds.
pub fn open_files(pid: u32) -> Result<usize> {
    Ok(fs::read_dir(format!("/proc/{pid}/fd"))?.count())
}
