//! `posthouse status`: what a running gateway tells of itself.

use anyhow::{Result, ensure};
use posthouse_actors::Config;
use posthouse_actors::status::{Device, Exchange, Status, Update};
use serde::de::DeserializeOwned;

use crate::client::Gateway;

/// What is asked for at once: of sensors, and of exchanges, each of which has all its sensors.
const DEVICES: usize = 1000;
const EXCHANGES: usize = 8;

/// Asks the gateway and prints a table, or one line of JSON.
#[allow(clippy::print_stdout, reason = "what the command is for")]
pub(crate) fn print(gateway: &Gateway, json: bool) -> Result<()> {
    let status: Status = gateway.get("status")?;
    let updates: Vec<Update> = gateway.get("updates")?;
    let devices = pages(gateway, "devices", DEVICES, |device: &Device| &device.key)?;
    let exchanges = pages(gateway, "exchanges", EXCHANGES, |exchange: &Exchange| &exchange.bounty)?;
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
            println!(
                "  an order for the group {group:?}, which campaign.groups has no more, is of no effect"
            );
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

/// All that there is of a resource, a page after the other.
fn pages<T: DeserializeOwned>(
    gateway: &Gateway,
    resource: &str,
    limit: usize,
    name: fn(&T) -> &str,
) -> Result<Vec<T>> {
    let mut all: Vec<T> = Vec::new();
    loop {
        let cursor = all.last().map(|last| format!("&cursor={}", name(last))).unwrap_or_default();
        let page: Vec<T> = gateway.get(&format!("{resource}?limit={limit}{cursor}"))?;
        // A gateway of an earlier version knows no pages and gives all each time.
        if let (Some(known), Some(first)) = (all.last(), page.first())
            && name(first) <= name(known)
        {
            return Ok(page);
        }
        let last = page.len() < limit;
        all.extend(page);
        if last {
            return Ok(all);
        }
    }
}

/// Orders something for an update.
pub(crate) fn order(config: &Config, order: &str, bounty: &str, group: Option<&str>) -> Result<()> {
    let bounty = bounty.strip_prefix("0x").unwrap_or(bounty);
    let is_address = bounty.len() == 40 && bounty.bytes().all(|c| c.is_ascii_hexdigit());
    ensure!(is_address, "{bounty}: an update is named by its bounty, 40 hex digits");
    let query = group.map(|group| {
        let pair = url::form_urlencoded::Serializer::new(String::new()).append_pair("group", group).finish();
        format!("?{pair}")
    });
    let query = query.unwrap_or_default();
    Gateway::to_order(config)?.post(config, &format!("updates/{bounty}/{order}{query}"))
}

/// Gives a sensor another try.
pub(crate) fn retry(config: &Config, device: &str) -> Result<()> {
    let is_id = device.len() == 32 && device.bytes().all(|c| c.is_ascii_hexdigit());
    ensure!(is_id, "{device}: a sensor is named by its device id, 32 hex digits");
    Gateway::to_order(config)?.post(config, &format!("devices/{device}/retry"))
}
