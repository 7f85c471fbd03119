//! `posthouse status`: what a running gateway tells of itself.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use posthouse_actors::Config;
use posthouse_actors::status::{Device, ErrorBody, Exchange, Status, Update};
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

/// The gateway answers from memory.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Sensors that are asked for at once.
const PAGE: usize = 1000;
/// Longest answer that is read: thousands of sensors.
const MAX_ANSWER: u64 = 16 << 20;

/// Asks the gateway at `address` and prints a table, or one line of JSON.
#[allow(clippy::print_stdout, reason = "what the command is for")]
pub(crate) fn print(address: SocketAddr, json: bool) -> Result<()> {
    let status: Status = get(address, "status")?;
    let updates: Vec<Update> = get(address, "updates")?;
    let devices = devices(address)?;
    let exchanges: Vec<Exchange> = get(address, "exchanges")?;
    if json {
        let all = serde_json::json!({ "status": status, "updates": updates, "devices": devices, "exchanges": exchanges });
        println!("{all}");
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
        println!("  bounty {}", one.bounty);
        for left in &one.left {
            println!("  left {}: {}", left.peer, left.why);
        }
        let update = updates.iter().find(|update| update.bounty == one.bounty);
        for group in update.into_iter().flat_map(|update| &update.idle_orders) {
            println!("  an order for the group {group:?}, which campaign.groups has no more, holds nobody");
        }
    }
    if !devices.is_empty() {
        println!("\n{:<34}{:<8}{:>10}{:>10}  ", "sensor", "carrier", "installed", "target");
    }
    for device in &devices {
        let target = device.target.map_or_else(|| "-".into(), |t| t.to_string());
        let fault = device.held.as_deref().or(device.fault.as_deref()).unwrap_or_default();
        println!("{:<34}{:<8}{:>10}{target:>10}  {fault}", device.device, device.carrier, device.installed);
    }
    Ok(())
}

/// Whether the gateway says that it can buy what is announced.
pub(crate) fn ready(address: SocketAddr) -> Result<()> {
    request(address, "GET", "/readyz", "").map(drop)
}

/// All sensors, a page after the other.
fn devices(address: SocketAddr) -> Result<Vec<Device>> {
    let mut all: Vec<Device> = Vec::new();
    loop {
        let cursor = all.last().map(|device| format!("&cursor={}", device.key)).unwrap_or_default();
        let page: Vec<Device> = get(address, &format!("devices?limit={PAGE}{cursor}"))?;
        // A gateway of an earlier version knows no pages and gives all each time.
        if let (Some(known), Some(first)) = (all.last(), page.first())
            && first.key <= known.key
        {
            return Ok(page);
        }
        let last = page.len() < PAGE;
        all.extend(page);
        if last {
            return Ok(all);
        }
    }
}

/// Orders something for an update.
pub(crate) fn order(
    config: &Config,
    address: SocketAddr,
    order: &str,
    bounty: &str,
    group: Option<&str>,
) -> Result<()> {
    let bounty = bounty.strip_prefix("0x").unwrap_or(bounty);
    let is_address = bounty.len() == 40 && bounty.bytes().all(|c| c.is_ascii_hexdigit());
    ensure!(is_address, "{bounty}: an update is named by its bounty, 40 hex digits");
    let query = group.map(|group| {
        let pair = url::form_urlencoded::Serializer::new(String::new()).append_pair("group", group).finish();
        format!("?{pair}")
    });
    let query = query.unwrap_or_default();
    post(config, address, &format!("updates/{bounty}/{order}{query}"))
}

/// Gives a sensor another try.
pub(crate) fn retry(config: &Config, address: SocketAddr, device: &str) -> Result<()> {
    let is_id = device.len() == 32 && device.bytes().all(|c| c.is_ascii_hexdigit());
    ensure!(is_id, "{device}: a sensor is named by its device id, 32 hex digits");
    post(config, address, &format!("devices/{device}/retry"))
}

fn post(config: &Config, address: SocketAddr, resource: &str) -> Result<()> {
    let file = config.status.token_file.as_ref();
    let file = file.context("status.token_file is not set: the gateway takes no orders")?;
    let token = Zeroizing::new(std::fs::read_to_string(file).with_context(|| file.display().to_string())?);
    let bearer = Zeroizing::new(format!("Authorization: Bearer {}\r\nContent-Length: 0\r\n", token.trim()));
    request(address, "POST", &format!("/v1/{resource}"), &bearer).map(drop)
}

fn get<T: DeserializeOwned>(address: SocketAddr, resource: &str) -> Result<T> {
    let body = request(address, "GET", &format!("/v1/{resource}"), "")?;
    serde_json::from_slice(&body).with_context(|| format!("http://{address}/v1/{resource}"))
}

/// One request on a connection of its own, and the body of its answer: a local status needs no HTTP library.
fn request(address: SocketAddr, method: &str, path: &str, headers: &str) -> Result<Vec<u8>> {
    let what = || format!("http://{address}{path}");
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT).with_context(what)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let head = format!("{method} {path} HTTP/1.0\r\nHost: {address}\r\nConnection: close\r\n");
    for part in [head.as_str(), headers, "\r\n"] {
        stream.write_all(part.as_bytes()).with_context(what)?;
    }
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer).with_context(what)?;
    let split = answer
        .windows(4)
        .position(|w| w == b"\r\n\r\n")
        .with_context(|| format!("{}: no HTTP answer", what()))?;
    let head = String::from_utf8_lossy(&answer[..split]);
    let first = head.lines().next().unwrap_or_default();
    let body = answer[split + 4..].to_vec();
    if !first.split(' ').nth(1).is_some_and(|code| code.starts_with('2')) {
        let said =
            serde_json::from_slice(&body).map_or_else(|_| first.to_owned(), |said: ErrorBody| said.error);
        bail!("{}: {said}", what());
    }
    Ok(body)
}
