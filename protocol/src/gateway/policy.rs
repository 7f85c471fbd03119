//! What a site may tune: how long each state waits, and how much of anything there may be.

/// Times in milliseconds and bounds of one exchange.
///
/// The defaults suit a main network with 15 minutes to finality and sensors that wake for seconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// One request to a peer, from sending to giving up.
    pub request_ms: u64,
    /// Making a proof, from `Auth` to the offer.
    pub proving_ms: u64,
    /// Requests in a row that may fail before the distributor counts as silent.
    pub tries: u32,
    /// One search for providers.
    pub locate_ms: u64,
    /// Between two searches that brought nothing to try.
    pub relocate_ms: u64,
    /// How long a distributor rests after its first failure; doubles with each, to 64 times this.
    pub cooldown_ms: u64,
    /// Least and most between two polls for the key.
    pub poll_ms: (u64, u64),
    /// How long no new sensor and no new receipt may come before a batch is sealed early.
    pub quiet_ms: u64,
    /// How long sensors that are asleep hold up those that have signed, if the batch is large enough.
    /// They are served later, under the same offer.
    pub gather_ms: u64,
    /// A sensor counts as awake for this long after it was heard.
    pub awake_ms: u64,
    /// How long a claim check holds.
    pub claim_fresh_ms: u64,
    /// No receipt is asked for when `claimBy` is nearer than this.
    pub claim_margin_ms: u64,
    /// No first receipt is asked for when the offer expires within this.
    pub offer_margin_ms: u64,
    /// Receipts signed, but nothing acknowledged for this long: the distributor is silent.
    pub receipt_ms: u64,
    /// From the seal to the key, unless the chain shows that the batch is locked.
    pub reveal_ms: u64,
    /// How long one sensor is waited for to sign the delegation before another is asked.
    pub delegate_ms: u64,
    /// How long a staged image waits for somebody to prove a sensor's membership.
    pub member_grace_ms: u64,
    /// Between two tries to stage an image when the disk is full or fails.
    pub stage_retry_ms: u64,
    /// Distinct receipts that one sensor may be asked for; a sensor signs eight for a version.
    pub max_attempts: u8,
    /// Sensors followed by one exchange.
    pub max_sensors: usize,
    /// Distributors remembered, without those that lied.
    pub max_peers: usize,
    /// Offers kept for which a receipt was asked.
    pub max_offers: usize,
    /// Requests in flight at once.
    pub max_inflight: usize,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            request_ms: 10_000,
            proving_ms: 300_000,
            tries: 4,
            locate_ms: 20_000,
            relocate_ms: 5_000,
            cooldown_ms: 2_000,
            poll_ms: (250, 30_000),
            quiet_ms: 1_500,
            gather_ms: 300_000,
            awake_ms: 60_000,
            claim_fresh_ms: 120_000,
            claim_margin_ms: 600_000,
            offer_margin_ms: 5_000,
            receipt_ms: 120_000,
            reveal_ms: 1_800_000,
            delegate_ms: 30_000,
            member_grace_ms: 600_000,
            stage_retry_ms: 10_000,
            max_attempts: 8,
            max_sensors: 4096,
            max_peers: 64,
            max_offers: 16,
            max_inflight: 16,
        }
    }
}
