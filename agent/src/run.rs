//! `posthouse run`: the actors in one system, until a signal ends it.

use std::io::IsTerminal as _;
use std::path::Path;
use std::pin::pin;
use std::time::Duration;

use anyhow::{Context as _, Result};
use posthouse_actors::{Config, Gateway, Reloaded};
use posthouse_audit::{Kind, Record};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, info, warn};
use tracing_subscriber::EnvFilter;

use crate::{check, config, systemd};

/// How long the network is taken leave of; systemd kills after 10 s.
const STOP: Duration = Duration::from_secs(5);

/// Runs until SIGTERM or SIGINT. All that matters is on disk at any moment, so that stopping loses nothing. SIGHUP has `path`
/// read again.
pub(crate) fn run(path: &Path, config: Config) -> Result<()> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    // A program that runs this one as a part of itself has set its own.
    let _already = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .try_init();
    for warning in check::warnings(&config) {
        warn!("{warning}");
    }
    actix::System::new().block_on(serve(path, config))
}

async fn serve(path: &Path, config: Config) -> Result<()> {
    let signals = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()];
    let [terminate, interrupt, reload] = signals.map(signal);
    let signals = [terminate?, interrupt?, reload?];
    let gateway = systemd::starting(Gateway::start(&config)).await.context("the gateway does not start")?;
    let (peer, status) = (gateway.peer_id(), gateway.status);
    info!(%peer, ?status, coap = ?gateway.coap, "the gateway runs");
    until_told(&gateway, signals, path, config).await;
    info!("stopping");
    systemd::stopping();
    // Nothing is lost where somebody on the network does not let go.
    if tokio::time::timeout(STOP, gateway.stop()).await.is_err() {
        warn!("the network was left without a word");
    }
    Ok(())
}

/// Until a signal ends it.
async fn until_told(gateway: &Gateway, signals: [Signal; 3], path: &Path, mut config: Config) {
    let [mut terminate, mut interrupt, mut reload] = signals;
    let mut watch = pin!(systemd::watch(gateway));
    systemd::ready(&format!("gateway {}", gateway.peer_id()));
    loop {
        tokio::select! {
            _ = terminate.recv() => return,
            _ = interrupt.recv() => return,
            _ = reload.recv() => take_over(gateway, path, &mut config),
            () = &mut watch => return,
        }
    }
}

/// Reads the configuration again. What cannot be used changes nothing.
fn take_over(gateway: &Gateway, path: &Path, config: &mut Config) {
    let refused = |error: &dyn std::fmt::Display| {
        error!(%error, "the configuration is not read again");
        let reason = Some(error.to_string());
        gateway.audit.tell(Record { reason, ..Record::new(Kind::ReloadRefused) });
    };
    let whole = config::load(path).and_then(|new| config::check_secrets(path, &new).map(|()| new));
    let new = match whole {
        Ok(new) => new,
        Err(error) => return refused(&error),
    };
    match gateway.reload(config, &new) {
        Ok(Reloaded { keys, waiting }) => {
            info!(keys, "the configuration is read again");
            if !waiting.is_empty() {
                warn!(sections = waiting.join(", "), "changed, and hold from the next start on");
            }
        }
        Err(error) => return refused(&error),
    }
    config.campaign = new.campaign;
}
