//! `posthouse audit`: what the gateway wrote down.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use posthouse_audit::now;
use posthouse_audit::read::{Filter, moment, read, words};

/// Which records are shown, and how.
#[derive(clap::Args)]
pub(crate) struct Wanted {
    /// As they are in the file, one JSON object a line.
    #[arg(long)]
    json: bool,
    /// Since then: `2026-11-23T14:00:00Z`, a day as `2026-11-23` (UTC), or how long ago, as `90s`, `15m`, `6h`, `30d`.
    #[arg(long, value_name = "TIME", value_parser = |text: &str| moment(text, now()))]
    since: Option<u64>,
    /// Of this log instead of the gateway's, as the vendor's and the distributor's; no configuration is read then.
    #[arg(long, value_name = "FILE", conflicts_with = "config")]
    pub(crate) file: Option<PathBuf>,
    /// About this sensor, by its device id.
    #[arg(long)]
    device: Option<String>,
    /// About this update, by its bounty.
    #[arg(long)]
    bounty: Option<String>,
}

/// Prints the records of the log at `path`, the oldest first. Nothing need run.
#[allow(clippy::print_stderr, reason = "what is not among the records")]
pub(crate) fn print(path: &Path, wanted: Wanted) -> Result<()> {
    let Wanted { json, since, device, bounty, .. } = wanted;
    let mut out = io::BufWriter::new(io::stdout().lock());
    let odd = read(path, &Filter { since, device, bounty }, |_, line| match json {
        true => writeln!(out, "{line}"),
        false => writeln!(out, "{}", words(line)),
    });
    let odd = match odd {
        // Whoever reads has enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
        odd => odd.with_context(|| path.display().to_string())?,
    };
    out.flush()?;
    if odd > 0 {
        eprintln!("posthouse: {odd} lines of {} are no records", path.display());
    }
    Ok(())
}
