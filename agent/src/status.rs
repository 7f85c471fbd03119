//! `posthouse status`: what a running gateway tells of itself.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use posthouse_actors::status::{Device, Exchange, Status};
use serde::de::DeserializeOwned;

/// The gateway answers from memory.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Longest answer that is read: thousands of sensors.
const MAX_ANSWER: u64 = 16 << 20;

/// Asks the gateway at `address` and prints a table, or one line of JSON.
#[allow(clippy::print_stdout, reason = "what the command is for")]
pub(crate) fn print(address: SocketAddr, json: bool) -> Result<()> {
    let status: Status = get(address, "status")?;
    let devices: Vec<Device> = get(address, "devices")?;
    let exchanges: Vec<Exchange> = get(address, "exchanges")?;
    if json {
        println!("{}", serde_json::json!({ "status": status, "devices": devices, "exchanges": exchanges }));
        return Ok(());
    }
    let chain = &status.chain;
    let finalized = chain.finalized.map_or_else(|| "none yet".into(), |n| n.to_string());
    println!("posthouse {} · peer {}", status.agent.version, status.agent.peer_id);
    let age = chain.age_secs.map(|age| format!(", {age} s ago")).unwrap_or_default();
    println!("chain {} by {} · finalized {finalized}{age}", chain.id, chain.trust);
    if let Some(alarm) = &chain.alarm {
        println!("chain alarm: {alarm}");
    }
    if let Some(why) = &chain.last_error {
        println!("light client: {why}");
    }
    if let Some(why) = &chain.error {
        println!("chain: {why}");
    }
    for one in &exchanges {
        let why = one.failure.as_deref().map(|f| format!(": {f}")).unwrap_or_default();
        println!("\nupdate {} of {} · {}{why}", one.version, one.product, one.state);
        for left in &one.left {
            println!("  left {}: {}", left.peer, left.why);
        }
    }
    if !devices.is_empty() {
        println!("\n{:<34}{:<8}{:>10}{:>10}  ", "sensor", "carrier", "installed", "target");
    }
    for device in &devices {
        let target = device.target.map_or_else(|| "-".into(), |t| t.to_string());
        let fault = device.fault.as_deref().unwrap_or_default();
        println!("{:<34}{:<8}{:>10}{target:>10}  {fault}", device.device, device.carrier, device.installed);
    }
    Ok(())
}

/// One request on a connection of its own: a local status needs no HTTP library.
fn get<T: DeserializeOwned>(address: SocketAddr, resource: &str) -> Result<T> {
    let what = || format!("http://{address}/v1/{resource}");
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT).with_context(what)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let request = format!("GET /v1/{resource} HTTP/1.0\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).with_context(what)?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer).with_context(what)?;
    let split = answer
        .windows(4)
        .position(|w| w == b"\r\n\r\n")
        .with_context(|| format!("{}: no HTTP answer", what()))?;
    let head = String::from_utf8_lossy(&answer[..split]);
    let first = head.lines().next().unwrap_or_default();
    ensure!(first.contains(" 200 "), "{}: {first}", what());
    serde_json::from_slice(&answer[split + 4..]).with_context(what)
}
