//! `/v1/usage` and `/v1/peers`: what the gateway takes of its machine and its links, and whom it is connected to.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Staging;

/// Ticks of the processor's time in a second: Linux tells programs so on all machines, whatever its own are.
const USER_HZ: u64 = 100;

/// What the gateway takes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Usage {
    /// The process.
    pub process: Process,
    /// Bytes of images that went to sensors since the start; what went twice counts twice.
    pub carried: CarriedBytes,
    /// Staged images.
    pub staging: Staging,
}

/// What the process takes, by `proc(5)`; absent where the system does not say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Process {
    /// Resident memory, bytes.
    pub resident: Option<u64>,
    /// Processor time since the start, user and system, milliseconds.
    pub cpu_ms: Option<u64>,
    /// Open file descriptors.
    pub open_files: Option<usize>,
}

/// Bytes by carrier.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CarriedBytes {
    /// By the broker.
    pub mqtt: u64,
    /// By the gateway's own endpoints.
    pub coap: u64,
}

/// The gateway's place in the storage network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Peers {
    /// Its own peer id.
    pub peer_id: String,
    /// Whom it is connected to, by their peer ids.
    pub connected: Vec<Peer>,
    /// Peers in the routing table of its DHT.
    pub routing: usize,
    /// Provider records of its own that are renewed.
    pub provided: usize,
    /// DHT servers that are kept for the next start.
    pub remembered: usize,
}

/// A peer that it is connected to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Peer {
    /// Its peer id.
    pub peer_id: String,
    /// Whether it is a distributor of `dsn.distributors`.
    pub configured: bool,
}

impl Process {
    /// This process, now.
    pub(super) fn now() -> Self {
        let open_files = std::fs::read_dir("/proc/self/fd").ok().map(Iterator::count);
        Self { resident: resident(), cpu_ms: cpu_ms(), open_files }
    }
}

fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// Fields 14 and 15 of `stat`, counted behind the name, which may hold anything.
fn cpu_ms() -> Option<u64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    user.checked_add(system)?.checked_mul(1000 / USER_HZ)
}
