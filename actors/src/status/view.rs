//! What the status shows, as JSON. Identifiers are lower-case hex, times Unix milliseconds, sizes bytes.

use std::collections::BTreeMap;

use actix::dev::{MessageResponse, OneshotSender};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::GetSnapshot;

/// Everything, at one instant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// For `/v1/status`.
    pub status: Status,
    /// For `/v1/updates`.
    pub updates: Vec<Update>,
    /// For `/v1/devices`.
    pub devices: Vec<Device>,
    /// For `/v1/exchanges`.
    pub exchanges: Vec<Exchange>,
}

impl<A: actix::Actor> MessageResponse<A, GetSnapshot> for Snapshot {
    fn handle(self, _: &mut A::Context, tx: Option<OneshotSender<Self>>) {
        if let Some(tx) = tx {
            // Whoever asked may have given up; there is nobody to tell.
            let _gone = tx.send(self);
        }
    }
}

/// `/v1/status`: the agent at a glance.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// The agent itself.
    pub agent: Agent,
    /// The chain as this agent sees it.
    pub chain: ChainStatus,
    /// Staged images.
    pub staging: Staging,
    /// The audit log.
    #[serde(default)]
    pub audit: AuditStatus,
}

/// The audit log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditStatus {
    /// Why what was told is not on disk, if it should be: somebody should look into it.
    pub error: Option<String>,
    /// Records that were left out since the start, as there were too many or the disk took none.
    pub left_out: u64,
}

/// The agent itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Agent {
    /// Version of the program.
    pub version: String,
    /// libp2p peer id.
    pub peer_id: String,
    /// When it started.
    pub started: u64,
    /// Configured products.
    pub products: usize,
    /// Registered sensors.
    pub devices: usize,
    /// Exchanges that are neither done, failed nor superseded.
    pub active_exchanges: usize,
}

/// The chain as this agent sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChainStatus {
    /// `light-client`: nobody is believed; `rpc`: the endpoints are.
    pub trust: String,
    /// EIP-155 chain id.
    pub id: u64,
    /// Number of the newest finalized block that was read; none yet.
    pub finalized: Option<u64>,
    /// Slot of the final beacon block that proves it, under a light client.
    pub finalized_slot: Option<u64>,
    /// Its timestamp, Unix seconds.
    pub finalized_at: Option<u64>,
    /// Seconds since then.
    pub age_secs: Option<u64>,
    /// What somebody should look into: finality that does not come, a clock that is wrong.
    pub alarm: Option<String>,
    /// Why the light client's last synchronisation ended early, if it did: one line of at most 200 characters.
    #[serde(default)]
    pub last_error: Option<String>,
    /// Why the last reading failed, if it did, in whole or in part.
    pub error: Option<String>,
}

/// Staged images.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Staging {
    /// How many.
    pub images: usize,
    /// Their sum.
    pub bytes: u64,
    /// How many bytes they may take.
    pub quota: u64,
}

/// `/v1/updates`: one announced update.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Update {
    /// The vendor's Ethereum address.
    pub vendor: String,
    /// Product: vendor id and class id.
    pub product: String,
    /// SUIT sequence number.
    pub version: u64,
    /// The bounty contract.
    pub bounty: String,
    /// Digest of the image, once the release is verified.
    pub u_id: Option<String>,
    /// Size of the image, once the release is verified.
    pub size: Option<u64>,
    /// `file` or `key`, once the release is verified.
    pub mode: Option<String>,
    /// End of claims, Unix seconds.
    pub claim_by: u64,
    /// State of its exchange.
    pub state: String,
    /// Why it is not to be had, if so.
    pub error: Option<String>,
    /// What somebody ordered for all sensors: `resume`, `approve`, `pause` or `cancel`.
    #[serde(default)]
    pub order: String,
    /// What somebody ordered for groups of sensors, by name.
    #[serde(default)]
    pub group_orders: BTreeMap<String, String>,
    /// Of these groups such as `campaign.groups` does not have any more: their orders are of no effect, and `resume` ends them.
    #[serde(default)]
    pub idle_orders: Vec<String>,
}

/// `/v1/devices`: one registered sensor.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Device {
    /// Device id: the name in topics and paths.
    pub device: String,
    /// Public key.
    pub key: String,
    /// Product: vendor id and class id.
    pub product: String,
    /// `mqtt` or `coap`.
    pub carrier: String,
    /// What it runs.
    pub installed: u64,
    /// The version that is meant for it, if newer.
    pub target: Option<u64>,
    /// LwM2M firmware update state (object 5, resource 3).
    pub state: Option<u8>,
    /// LwM2M firmware update result (object 5, resource 5).
    pub result: Option<u8>,
    /// Next byte that it wants.
    pub next: Option<u32>,
    /// When it was last heard.
    pub last_seen: u64,
    /// Whether the carrier knew that it was this device.
    pub authenticated: bool,
    /// Why it gets nothing, if so.
    pub fault: Option<String>,
    /// Its group, if it is in one.
    #[serde(default)]
    pub group: Option<String>,
    /// Why it waits for the newest update, by the site's rules or somebody's order.
    #[serde(default)]
    pub held: Option<String>,
}

/// `/v1/exchanges`: one exchange, from its announcement on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Exchange {
    /// The bounty contract.
    pub bounty: String,
    /// Product: vendor id and class id.
    pub product: String,
    /// SUIT sequence number.
    pub version: u64,
    /// State.
    pub state: String,
    /// Why it failed, if it did.
    pub failure: Option<String>,
    /// The version that took its place, if one did.
    pub superseded_by: Option<u64>,
    /// Peer id of the distributor that it is with now.
    pub distributor: Option<String>,
    /// Distributors that were left, and why.
    pub left: Vec<Left>,
    /// Offers held.
    pub offers: Vec<Offer>,
    /// Sensors that take part.
    pub sensors: Vec<Sensor>,
    /// Keys that came and fitted no offer.
    pub keys_ignored: u64,
    /// What happened, oldest first; the newest few hundred.
    pub events: Vec<Event>,
}

/// A distributor that was left.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Left {
    /// Peer id.
    pub peer: String,
    /// Why, the last time.
    pub why: String,
    /// When.
    pub at: u64,
    /// Whether it is never asked again for this update.
    pub banned: bool,
}

/// An offer for which receipts are asked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Offer {
    /// Peer id.
    pub peer: String,
    /// Who is paid.
    pub payee: String,
    /// Its lock, `H(r)`.
    pub s: String,
    /// Receipts signed.
    pub signed: usize,
    /// Receipts that the distributor has.
    pub acked: usize,
    /// Whether the batch is sealed.
    pub sealed: bool,
    /// Whether the key is known.
    pub revealed: bool,
}

/// A sensor in an exchange.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Sensor {
    /// Device id.
    pub device: String,
    /// Index in the fleet, once proven.
    pub index: Option<u32>,
    /// Distinct receipts asked of it.
    pub attempts: u8,
    /// Whether it signed one for an offer that is held.
    pub signed: bool,
    /// Whether its share is paid, by the last reading.
    pub claimed: bool,
    /// Whether the image is served to it.
    pub served: bool,
    /// Whether it reported, signed, that it runs the update.
    pub reported: bool,
    /// Why it gets nothing, if so.
    pub fault: Option<String>,
}

/// Something that happened.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// When.
    pub at: u64,
    /// What, in words.
    pub text: String,
}

/// Any answer but 200.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// What is wrong, in one line.
    pub error: String,
}
