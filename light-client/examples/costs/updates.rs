//! How long an update takes, ours and Lodestar's, over the same recorded mainnet data.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use posthouse_light_client::spec::{Bootstrap, Network, State, Update};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{median, print};

/// Each side runs through the data this often.
const ROUNDS: usize = 20;
/// Soon after the data's last slot, and long before Capella's successor.
const NOW_SLOT: u64 = 7_110_000;

/// What `replay.mjs` prints.
#[derive(Deserialize)]
struct Peer {
    cold_ms: f64,
    cached_ms: f64,
    finalized_slot: u64,
}

pub(crate) fn print_all() -> Result<(), Box<dyn Error>> {
    let Some(folder) = data() else { return Ok(()) };
    let (cold, cached, slot) = ours(&folder)?;
    print("update_cold_ms", format!("{cold:.2}"), "ms");
    print("update_cached_ms", format!("{cached:.2}"), "ms");
    if let Some(peer) = peer(&folder)? {
        if peer.finalized_slot != slot {
            return Err(format!("we end at slot {slot}, Lodestar at {}", peer.finalized_slot).into());
        }
        print("peer_update_cold_ms", format!("{:.2}", peer.cold_ms), "ms");
        print("peer_update_cached_ms", format!("{:.2}", peer.cached_ms), "ms");
        print("vs_peer", format!("{:.2}", cold / peer.cold_ms), "ratio");
    }
    Ok(())
}

/// Beside the repository, and never part of it.
fn data() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    let shared = std::env::var_os("POSTHOUSE_SHARED").map_or(beside, PathBuf::from);
    let folder = shared.join("testdata/light-client/mainnet-capella");
    if folder.is_dir() {
        return Some(folder);
    }
    eprintln!(
        "SKIPPED update_cold_ms, update_cached_ms, vs_peer: no mainnet updates in {}",
        folder.display()
    );
    None
}

/// Milliseconds of a cold and of a cached update, and the finalized slot at the end.
fn ours(folder: &Path) -> Result<(f64, f64, u64), Box<dyn Error>> {
    let network = Arc::new(Network::mainnet());
    let bootstrap = Bootstrap::from_json(&network, &std::fs::read(folder.join("bootstrap.json"))?)?;
    let updates: Vec<Box<RawValue>> = serde_json::from_slice(&std::fs::read(folder.join("updates.json"))?)?;
    let finality = std::fs::read(folder.join("finality.json"))?;
    let (mut cold, mut cached, mut slot) = (Vec::new(), Vec::new(), 0);
    for _ in 0..ROUNDS {
        let mut state = State::bootstrap(network.clone(), bootstrap.header.beacon.root(), &bootstrap)?;
        for update in &updates {
            cold.push(timed(&mut state, update.get().as_bytes())?);
        }
        cached.push(timed(&mut state, &finality)?);
        slot = state.finalized().beacon.slot;
    }
    Ok((median(cold), median(cached), slot))
}

fn timed(state: &mut State, text: &[u8]) -> Result<f64, Box<dyn Error>> {
    let begun = Instant::now();
    let update = Update::from_json(&state.network().clone(), text)?;
    let applied = state.apply(&update, NOW_SLOT)?;
    let took = begun.elapsed().as_secs_f64() * 1e3;
    if applied.anything() { Ok(took) } else { Err("an update said nothing new".into()) }
}

fn peer(folder: &Path) -> Result<Option<Peer>, Box<dyn Error>> {
    let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/peers");
    if !home.join("node_modules").is_dir() {
        eprintln!("SKIPPED vs_peer: run npm ci --ignore-scripts in {}", home.display());
        return Ok(None);
    }
    let files = ["bootstrap.json", "updates.json", "finality.json"].map(|name| folder.join(name));
    let mut command = Command::new("node");
    let out = command.arg(home.join("replay.mjs")).args(files).arg(ROUNDS.to_string()).output()?;
    if !out.status.success() {
        return Err(format!("replay.mjs: {}", String::from_utf8_lossy(&out.stderr)).into());
    }
    Ok(Some(serde_json::from_slice(&out.stdout)?))
}
