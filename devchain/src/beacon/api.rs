//! The methods of the beacon API that light clients use.

use alloy::primitives::B256;
use serde_json::{Map, Value, json};

use super::container::{Container, Decimal, Field};
use super::ledger::{Entry, Ledger};
use super::lie::{Lie, Topic};
use super::network::{SLOTS_PER_EPOCH, SLOTS_PER_PERIOD};
use super::reply::{Answer, Encoding, Reply, Versioned};
use super::shared::Shared;
use super::types::INFINITY;
use super::wire::{Bootstrap, Kind, Update};

/// Updates that one request gets (MAX_REQUEST_LIGHT_CLIENT_UPDATES).
const MAX_UPDATES: u64 = 128;

/// The ledger as the world sees it.
pub(super) struct View<'a> {
    pub(super) ledger: &'a Ledger,
    /// Blocks that show, oldest first.
    pub(super) entries: &'a [Entry],
    pub(super) now: u64,
    lie: Option<&'a Lie>,
}

pub(super) fn reply(shared: &Shared, path: &str, query: &str, encoding: Encoding) -> Reply {
    let separator = if query.is_empty() { "" } else { "?" };
    shared.requests().push(format!("{path}{separator}{query}"));
    let lie = shared.lie_about(topic(path));
    if let Some(reply) = lie.as_ref().and_then(Lie::instead) {
        return reply;
    }
    let ledger = shared.caught_up();
    let showing = shared.head(&ledger).map_or(0, |head| head + 1);
    let (entries, now) = (&ledger.entries()[..showing], shared.now(&ledger));
    let view = View { ledger: &ledger, entries, now, lie: lie.as_ref() };
    let mut reply = Reply::encode(&view.answer(path, query), encoding);
    if let Some(lie) = lie {
        lie.bend_reply(encoding, &mut reply);
    }
    reply
}

fn topic(path: &str) -> Topic {
    let method = path.strip_prefix("/eth/v1/beacon/light_client/").unwrap_or_default();
    match method.split('/').next() {
        Some("bootstrap") => Topic::Bootstrap,
        Some("updates") => Topic::Updates,
        Some("finality_update") => Topic::Finality,
        Some("optimistic_update") => Topic::Optimistic,
        _ => Topic::Other,
    }
}

impl View<'_> {
    fn answer(&self, path: &str, query: &str) -> Answer {
        let segments: Vec<_> = path.trim_start_matches('/').split('/').collect();
        match segments[..] {
            ["eth", "v1", "beacon", "light_client", method] => self.light_client(method, query),
            ["eth", "v1", "beacon", "light_client", "bootstrap", root] => self.bootstrap(root),
            ["eth", "v1", "beacon", "genesis"] => self.genesis(),
            ["eth", "v1", "beacon", "headers", id] => self.header(id),
            ["eth", "v1", "beacon", "blocks", id, "root"] => self.root(id),
            ["eth", "v2", "beacon", "blocks", id] => self.block(id),
            ["eth", "v1", "config", "spec"] => self.spec(),
            ["eth", "v1", "node", "health"] => Answer::Empty,
            ["eth", "v1", "node", "syncing"] => self.syncing(),
            ["eth", "v1", "node", "version"] => {
                let version = concat!("posthouse-devchain/", env!("CARGO_PKG_VERSION"));
                Answer::Json(json!({ "data": { "version": version } }))
            }
            _ => Answer::Refused(404, "no such method"),
        }
    }

    fn light_client(&self, method: &str, query: &str) -> Answer {
        match method {
            "updates" => match (number(query, "start_period"), number(query, "count")) {
                (Some(start), Some(count)) => self.updates(start, count),
                _ => Answer::Refused(400, "start_period and count are numbers"),
            },
            "finality_update" => match self.entries.last().filter(|entry| entry.finalized.is_some()) {
                Some(entry) => Answer::One(self.update(entry, Kind::Finality)),
                None => Answer::Refused(404, "nothing is finalized yet"),
            },
            "optimistic_update" => match self.entries.last() {
                Some(entry) => Answer::One(self.update(entry, Kind::Optimistic)),
                None => Answer::Refused(404, "no block is signed yet"),
            },
            _ => Answer::Refused(404, "no such method"),
        }
    }

    fn update(&self, entry: &Entry, kind: Kind) -> Versioned {
        let entry = self.lie.and_then(|lie| lie.attested(self.entries)).unwrap_or(entry);
        let mut update = Update::of(self.ledger, entry);
        let mut layout = entry.fork;
        if let Some(lie) = self.lie {
            lie.bend_update(self.ledger, self.now, entry, &mut update);
            layout = lie.layout(layout);
        }
        self.versioned(entry, update.container(kind, layout))
    }

    fn versioned(&self, entry: &Entry, data: Container) -> Versioned {
        let digest = self.ledger.network.digest(entry.slot());
        let mut versioned = Versioned { version: entry.fork.name(), digest, data };
        if let Some(lie) = self.lie {
            lie.bend_label(self.ledger, &mut versioned);
        }
        versioned
    }

    fn updates(&self, start: u64, count: u64) -> Answer {
        let start = start.saturating_add(u64::from(self.lie == Some(&Lie::SkippedPeriod)));
        let periods = start..start.saturating_add(count.min(MAX_UPDATES));
        let mut best: Vec<_> = periods.filter_map(|period| self.best_of(period)).collect();
        if let Some(last) = best.last().copied().filter(|_| self.lie == Some(&Lie::MoreUpdates)) {
            let wanted = usize::try_from(count).unwrap_or(usize::MAX).min(MAX_UPDATES as usize);
            best.resize(wanted + 1, last);
        }
        Answer::Many(best.into_iter().map(|entry| self.update(entry, Kind::Period)).collect())
    }

    /// The best update of a period (`is_better_update`): by the period's own committee, finality in the
    /// same period, any finality, most signers, oldest.
    fn best_of(&self, period: u64) -> Option<&Entry> {
        let first = self.entries.partition_point(|entry| entry.period() < period);
        let last = self.entries.partition_point(|entry| entry.period() <= period);
        let own = |entry: &&Entry| entry.signature_slot() / SLOTS_PER_PERIOD == period;
        self.entries[first..last].iter().rev().filter(own).max_by_key(|entry| self.worth(entry))
    }

    fn worth(&self, entry: &Entry) -> (bool, bool, bool, u32) {
        let bits = entry.aggregate.sync_committee_bits;
        let signers: u32 = bits.iter().map(|byte| byte.count_ones()).sum();
        let finalized = entry.finalized.map(|height| &self.entries[height]);
        let same_period = finalized.is_some_and(|finalized| finalized.period() == entry.period());
        (signers * 3 >= 512 * 2, same_period, finalized.is_some(), signers)
    }

    fn bootstrap(&self, root: &str) -> Answer {
        if root.parse::<B256>().is_err() {
            return Answer::Refused(400, "a root is 0x and 64 hex digits");
        }
        let Some((entry, _)) = self.find(root) else {
            return Answer::Refused(404, "no bootstrap for this root");
        };
        let mut bootstrap = Bootstrap::of(self.ledger, entry);
        let mut layout = entry.fork;
        if let Some(lie) = self.lie {
            lie.bend_bootstrap(self.ledger, entry, &mut bootstrap);
            layout = lie.layout(layout);
        }
        Answer::One(self.versioned(entry, bootstrap.container(layout)))
    }

    fn genesis(&self) -> Answer {
        let network = &self.ledger.network;
        Answer::Json(json!({ "data": {
            "genesis_time": network.genesis_time.to_string(),
            "genesis_validators_root": network.genesis_validators_root,
            "genesis_fork_version": network.genesis_version(),
        } }))
    }

    fn spec(&self) -> Answer {
        let settings = self.ledger.network.settings().into_iter();
        let mut settings: Map<_, _> = settings.map(|(key, value)| (key, json!(value))).collect();
        let blobs = self.ledger.network.blobs().iter().map(
            |(epoch, most)| json!({ "EPOCH": epoch.to_string(), "MAX_BLOBS_PER_BLOCK": most.to_string() }),
        );
        settings.insert("BLOB_SCHEDULE".to_owned(), blobs.collect());
        settings.insert("SLOTS_PER_EPOCH".to_owned(), json!(SLOTS_PER_EPOCH.to_string()));
        let epochs = (SLOTS_PER_PERIOD / SLOTS_PER_EPOCH).to_string();
        settings.insert("EPOCHS_PER_SYNC_COMMITTEE_PERIOD".to_owned(), json!(epochs));
        Answer::Json(json!({ "data": Value::Object(settings) }))
    }

    fn syncing(&self) -> Answer {
        let head = self.entries.last().map_or(0, Entry::slot);
        Answer::Json(json!({ "data": {
            "head_slot": head.to_string(),
            "sync_distance": self.now.saturating_sub(head).to_string(),
            "is_syncing": false,
            "is_optimistic": false,
            "el_offline": false,
        } }))
    }

    /// A block by `head`, `finalized`, slot or root. Slot 0 has none.
    fn find(&self, id: &str) -> Option<(&Entry, bool)> {
        let head = self.entries.last()?;
        let finalized = head.finalized;
        let found = match id {
            "head" => self.entries.len() - 1,
            "finalized" | "justified" => finalized?,
            root if root.starts_with("0x") => {
                let root = root.parse::<B256>().ok()?;
                self.entries.iter().rposition(|entry| entry.root == root)?
            }
            slot => {
                let slot = slot.parse().ok()?;
                self.entries.binary_search_by_key(&slot, Entry::slot).ok()?
            }
        };
        let entry = self.lie.and_then(|lie| lie.block(self.entries, found)).unwrap_or(&self.entries[found]);
        Some((entry, finalized.is_some_and(|finalized| found <= finalized)))
    }

    fn header(&self, id: &str) -> Answer {
        let Some((entry, finalized)) = self.find(id) else { return NO_BLOCK };
        Answer::Json(json!({
            "execution_optimistic": false,
            "finalized": finalized,
            "data": {
                "root": entry.root,
                "canonical": true,
                "header": { "message": entry.header.json(), "signature": INFINITY },
            },
        }))
    }

    fn root(&self, id: &str) -> Answer {
        let Some((entry, finalized)) = self.find(id) else { return NO_BLOCK };
        let data = json!({ "root": entry.root });
        Answer::Json(json!({ "execution_optimistic": false, "finalized": finalized, "data": data }))
    }

    fn block(&self, id: &str) -> Answer {
        let Some((entry, finalized)) = self.find(id) else { return NO_BLOCK };
        let block = self.versioned(entry, signed_block(entry));
        Answer::Block { block, finalized }
    }
}

const NO_BLOCK: Answer = Answer::Refused(404, "no such block");

/// `SignedBeaconBlock`. Proposers have no keys here, so the signature is nobody's.
fn signed_block(entry: &Entry) -> Container {
    let header = entry.header;
    let message = Container::default()
        .with("slot", Decimal(header.slot))
        .with("proposer_index", Decimal(header.proposer_index))
        .with("parent_root", header.parent_root)
        .with("state_root", header.state_root)
        .with("body", entry.body());
    Container::default().with("message", message).with("signature", INFINITY)
}

fn number(query: &str, key: &str) -> Option<u64> {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(name, _)| *name == key)?.1.parse().ok()
}
