//! What the programs say and how they end: results on stdout, everything else on stderr.

use std::ffi::OsString;
use std::fmt::Display;
use std::io::{self, BufRead as _, IsTerminal as _, Read as _, Write as _};
use std::process::ExitCode;

use clap::Parser;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use serde_json::Value;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::secret_file::SecretFileError;
use crate::settings::SettingsError;

/// Exit code of bad usage and bad configuration.
const USAGE: u8 = 2;
/// Longest answer that is read.
const MAX_ANSWER: u64 = 100;

/// Parses the arguments and runs the program: 0 if it went well, 1 if not, 2 if it was called or
/// configured wrongly.
pub(crate) fn run<P: Parser>(
    args: impl IntoIterator<Item = OsString>,
    program: impl FnOnce(P) -> anyhow::Result<()>,
) -> ExitCode {
    let parsed = match P::try_parse_from(args) {
        Ok(parsed) => parsed,
        Err(error) => {
            // Nothing is left to tell anybody if stderr is gone.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(USAGE));
        }
    };
    log_to_stderr();
    match program(parsed) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: {}", line(&error));
            ExitCode::from(if is_configuration(&error) { USAGE } else { 1 })
        }
    }
}

/// What failed and why, in one line: a cause that has been said already is not said again.
fn line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if line.is_empty() {
            line = cause;
        } else if !line.ends_with(&cause) {
            line = format!("{line}: {cause}");
        }
    }
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn is_configuration(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| cause.is::<SettingsError>() || cause.is::<SecretFileError>())
}

/// What is logged where `RUST_LOG` does not say it: what an operator wants to know. Who publishes is a peer under a name of the moment.
const LOG: &str = "info,libp2p_swarm=warn";

/// `RUST_LOG` says how much.
fn log_to_stderr() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(LOG));
    let colours = io::stderr().is_terminal();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    // A program that runs this one as a part of itself has set its own.
    let _ = builder.with_ansi(colours).try_init();
}

/// Prints a result: one line of JSON, or a line for each field.
pub(crate) fn report(json: bool, result: &impl Serialize) -> anyhow::Result<()> {
    let value = serde_json::to_value(result)?;
    let mut out = io::stdout().lock();
    if json {
        writeln!(out, "{value}")?;
    } else {
        plain(&mut out, &value, "")?;
    }
    Ok(out.flush()?)
}

/// Prints a text as the result.
pub(crate) fn say(text: &impl Display) -> anyhow::Result<()> {
    Ok(writeln!(io::stdout(), "{text}")?)
}

/// Prints a text beside the result.
pub(crate) fn note(text: &impl Display) -> anyhow::Result<()> {
    Ok(writeln!(io::stderr(), "{text}")?)
}

/// Asks on the terminal and waits for the answer; `None` where there is none. Blocks.
pub(crate) fn ask(question: &str) -> io::Result<Option<bool>> {
    if !io::stdin().is_terminal() {
        return Ok(None);
    }
    write!(io::stderr(), "{question} [y/N] ")?;
    let mut answer = String::new();
    io::stdin().lock().take(MAX_ANSWER).read_line(&mut answer)?;
    Ok(Some(is_yes(&answer)))
}

fn is_yes(answer: &str) -> bool {
    matches!(answer.trim().to_lowercase().as_str(), "y" | "yes")
}

fn plain(out: &mut impl io::Write, value: &Value, indent: &str) -> io::Result<()> {
    let deeper = format!("{indent}  ");
    match value {
        Value::Object(fields) => fields.iter().try_for_each(|(name, value)| match value {
            Value::Object(_) | Value::Array(_) => {
                writeln!(out, "{indent}{name}:")?;
                plain(out, value, &deeper)
            }
            value => writeln!(out, "{indent}{name}: {}", scalar(value)),
        }),
        Value::Array(items) => items.iter().enumerate().try_for_each(|(at, item)| {
            if at > 0 && item.is_object() {
                writeln!(out)?;
            }
            plain(out, item, indent)
        }),
        value => writeln!(out, "{indent}{}", scalar(value)),
    }
}

fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".into(),
        value => value.to_string(),
    }
}

/// The async threads of a program.
pub(crate) fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()
}

/// Says when the program is to stop: SIGINT or SIGTERM.
pub(crate) struct StopSignal {
    interrupt: Signal,
    terminate: Signal,
}

/// Must be called within a runtime.
pub(crate) fn stop_signal() -> io::Result<StopSignal> {
    let (interrupt, terminate) = (SignalKind::interrupt(), SignalKind::terminate());
    Ok(StopSignal { interrupt: signal(interrupt)?, terminate: signal(terminate)? })
}

impl StopSignal {
    pub(crate) async fn recv(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// A bar for work of known length in bytes; shown on a terminal only.
pub(crate) fn bytes_bar(label: &'static str, length: u64) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr());
    let style = "{msg:24} {bar:32} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
    bar.set_style(ProgressStyle::with_template(style).expect("a template that a test draws"));
    bar.with_message(label)
}

/// A bar for work on devices, whose number [`counts`] is told; shown on a terminal only, if at all.
pub(crate) fn devices_bar(label: &'static str, shown: bool) -> ProgressBar {
    let target = if shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(Some(0), target);
    let style = "{msg:24} {bar:32} {human_pos}/{human_len} {eta}";
    bar.set_style(ProgressStyle::with_template(style).expect("a template that a test draws"));
    bar.with_message(label)
}

/// Moves the bar to so many devices of so many.
pub(crate) fn counts(bar: &ProgressBar) -> impl FnMut(u32, u32) {
    let bar = bar.clone();
    move |done, of| {
        bar.set_length(u64::from(of));
        bar.set_position(u64::from(done));
    }
}

/// A spinner for work of unknown length.
pub(crate) fn spinner(label: &'static str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    bar.enable_steady_tick(std::time::Duration::from_millis(120));
    bar.with_message(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_read_well_without_json() {
        let mut out = Vec::new();
        let value = serde_json::json!({"version": 3, "releases": [{"a": "x"}, {"a": null}]});
        plain(&mut out, &value, "").unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "releases:\n  a: x\n\n  a: -\nversion: 3\n");
    }

    #[test]
    fn what_failed_is_said_once() {
        let missing = || SecretFileError::Io { path: "a.key".into(), source: io::Error::other("gone\naway") };
        assert_eq!(line(&missing().into()), "a.key: gone away");
        assert_eq!(line(&anyhow::Error::from(missing()).context("keys")), "keys: a.key: gone away");
    }

    #[test]
    fn only_yes_is_yes() {
        assert!(is_yes("y\n") && is_yes(" YES \n"));
        assert!(!is_yes("") && !is_yes("\n") && !is_yes("yep\n") && !is_yes("n\n"));
    }

    #[test]
    fn bars_draw() {
        bytes_bar("encrypting", 10).inc(10);
        counts(&devices_bar("enrolling", true))(1, 2);
        spinner("proving").finish_and_clear();
    }
}
