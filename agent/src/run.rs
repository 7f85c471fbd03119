//! `posthouse run`: the actors in one system, until a signal ends it.

use std::io::IsTerminal as _;

use anyhow::{Context as _, Result};
use posthouse_actors::{Config, Gateway};
use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, warn};
use tracing_subscriber::EnvFilter;

use crate::check;

/// Runs until SIGTERM or SIGINT. All that matters is on disk at any moment, so that stopping loses nothing.
pub(crate) fn run(config: &Config) -> Result<()> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    // A program that runs this one as a part of itself has set its own.
    let _already = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .try_init();
    for warning in check::warnings(config) {
        warn!("{warning}");
    }
    actix::System::new().block_on(serve(config))
}

async fn serve(config: &Config) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let gateway = Gateway::start(config).await.context("the gateway does not start")?;
    info!(peer = %gateway.peer_id(), status = ?gateway.status, coap = ?gateway.coap, "the gateway runs");
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    info!("stopping");
    gateway.stop().await;
    Ok(())
}
