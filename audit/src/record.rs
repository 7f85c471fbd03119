//! One record.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// Longest text in a record, bytes: some of it is others'.
const MAX_TEXT: usize = 400;

/// What happened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The program began.
    #[default]
    Started,
    /// It ended as it was told to.
    Stopped,
    /// The configuration was read again.
    Reloaded,
    /// It was to be read again, and cannot be used.
    ReloadRefused,
    /// A release that the chain announced agrees with the chain and carries the vendor's signature.
    ReleaseAccepted,
    /// It does not.
    ReleaseRefused,
    /// A sensor signed that the gateway speaks for it.
    DelegationSigned,
    /// A distributor's offer was verified.
    OfferAccepted,
    /// It was not.
    OfferRefused,
    /// A distributor was left for another reason.
    DistributorLeft,
    /// A sensor signed a receipt.
    ReceiptSigned,
    /// A distributor has it.
    ReceiptDelivered,
    /// A distributor will not have it.
    ReceiptRefused,
    /// A distributor was told that no more receipts come for an offer.
    BatchSealed,
    /// An offer's key came.
    KeyAccepted,
    /// A key came that fits no offer.
    KeyRefused,
    /// The contract showed that a distributor was paid for a sensor of this site, or by a key of an offer that is held here.
    PaymentSeen,
    /// An image was decrypted, and is the announced one: the exchange is verified.
    ImageStaged,
    /// An exchange ended without its image.
    ExchangeFailed,
    /// A sensor runs an update.
    SensorInstalled,
    /// A sensor gets nothing, or what it said is not taken.
    SensorRefused,
    /// Somebody gave an order.
    OrderGiven,
    /// Somebody gave one and may not, or it cannot be kept.
    OrderRefused,
    /// The wallet signed a transaction.
    TransactionSigned,
    /// The peer made an offer.
    OfferMade,
    /// Records of one kind that were too many, or for which there was no room.
    LeftOut,
    /// What was cut off at a power cut was taken away.
    Healed,
    /// What this version does not know: read, and never written.
    #[serde(other)]
    Unknown,
}

impl Kind {
    /// All that are written.
    pub const ALL: [Self; 27] = [
        Self::Started,
        Self::Stopped,
        Self::Reloaded,
        Self::ReloadRefused,
        Self::ReleaseAccepted,
        Self::ReleaseRefused,
        Self::DelegationSigned,
        Self::OfferAccepted,
        Self::OfferRefused,
        Self::DistributorLeft,
        Self::ReceiptSigned,
        Self::ReceiptDelivered,
        Self::ReceiptRefused,
        Self::BatchSealed,
        Self::KeyAccepted,
        Self::KeyRefused,
        Self::PaymentSeen,
        Self::ImageStaged,
        Self::ExchangeFailed,
        Self::SensorInstalled,
        Self::SensorRefused,
        Self::OrderGiven,
        Self::OrderRefused,
        Self::TransactionSigned,
        Self::OfferMade,
        Self::LeftOut,
        Self::Healed,
    ];

    /// Whether strangers can cause it as often as they like: then only some of them are written.
    pub(crate) const fn is_strangers(self) -> bool {
        matches!(self, Self::KeyRefused | Self::SensorRefused | Self::OrderRefused | Self::ReceiptRefused)
    }
}

/// One line of the log. What does not apply is left out; lines of later versions may say more.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Unix milliseconds.
    pub time: u64,
    /// What happened.
    pub kind: Kind,
    /// The bounty of the update that it is about, `0x` and 40 hex digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bounty: Option<String>,
    /// SUIT sequence number of the update.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sequence: Option<u64>,
    /// The sensor, by its device id, 32 hex digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// The other side's libp2p peer id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// The lock `s` of the offer, or with [`Kind::ReleaseAccepted`] the digest of the image; 64 hex digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
    /// The receipt's attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u8>,
    /// Whose Ethereum address is paid, or a transaction is sent to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Wei that a transaction carries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub amount: Option<String>,
    /// The transaction's hash.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transaction: Option<String>,
    /// What was ordered: `pause`, `resume`, `cancel` or `retry`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order: Option<String>,
    /// For which group of sensors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Who did it: for orders `token`, `uid N`, or where the request came from, as for who is refused over DTLS, for keys `chain` or `distributor`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub who: Option<String>,
    /// Why, or what more there is to say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The kind that was left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub of: Option<Kind>,
    /// How many: receipts of a batch, keys of sensors that hold, records left out, bytes cut off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
}

/// Unix milliseconds.
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

impl Record {
    /// Of this kind, at this moment.
    pub fn new(kind: Kind) -> Self {
        Self { time: now(), kind, ..Self::default() }
    }

    /// As a line, with its end. Texts are cut to what a line may have.
    pub(crate) fn line(mut self) -> Vec<u8> {
        let texts = [&mut self.reason, &mut self.who, &mut self.group, &mut self.peer, &mut self.address];
        for text in texts.into_iter().flatten() {
            let end = text.floor_char_boundary(MAX_TEXT);
            text.truncate(end);
        }
        let mut line = serde_json::to_vec(&self).unwrap_or_default();
        line.push(b'\n');
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_line_whatever_is_said_and_has_a_bound() {
        let said =
            Record { reason: Some("a\nb\u{2028}\u{0}é".repeat(1000)), ..Record::new(Kind::SensorRefused) };
        let line = said.line();
        assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
        assert!(line.len() < 10 * MAX_TEXT);
        let read: Record = serde_json::from_slice(&line).unwrap();
        assert!(read.reason.unwrap().starts_with("a\nb"));
    }

    /// The page says what there is: each kind has its row and its example, and the examples are records.
    #[test]
    fn each_kind_is_documented_with_an_example_and_nothing_else_is() {
        let page = include_str!("../../docs/audit.md");
        let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` |"));
        let named: Vec<&str> = rows.map(|(name, _)| name).collect();
        let name = |kind: &Kind| serde_json::to_value(kind).unwrap().as_str().unwrap().to_owned();
        let kinds: Vec<String> = Kind::ALL.iter().map(name).collect();
        let fields = serde_json::to_value(full()).unwrap();
        let fields: Vec<&str> = fields.as_object().unwrap().keys().map(String::as_str).collect();
        let (of_kinds, of_fields): (Vec<&str>, Vec<&str>) =
            named.iter().partition(|name| kinds.iter().any(|kind| kind == *name));
        assert_eq!(of_kinds, kinds);
        let (mut of_fields, mut fields) = (of_fields, fields);
        of_fields.sort_unstable();
        fields.sort_unstable();
        assert_eq!(of_fields, fields);
        let examples = page.lines().filter(|line| line.starts_with('{'));
        let read = |line: &str| {
            let record: Record = serde_json::from_str(line).unwrap();
            assert_eq!(serde_json::to_string(&record).unwrap(), line, "no field that a record does not have");
            record
        };
        let examples: Vec<Record> = examples.map(read).collect();
        let shown: Vec<Kind> = examples.iter().map(|record| record.kind).collect();
        assert_eq!(shown, Kind::ALL);
    }

    fn full() -> Record {
        let text = || Some(String::new());
        Record {
            time: 1,
            kind: Kind::LeftOut,
            bounty: text(),
            sequence: Some(1),
            device: text(),
            peer: text(),
            hash: text(),
            attempt: Some(1),
            address: text(),
            amount: text(),
            transaction: text(),
            order: text(),
            group: text(),
            who: text(),
            reason: text(),
            of: Some(Kind::Started),
            count: Some(1),
        }
    }
}
