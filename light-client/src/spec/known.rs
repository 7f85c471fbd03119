//! The networks that everybody means, from the `config.yaml` of eth-clients/{mainnet,sepolia,hoodi}.

use alloy::primitives::{B256, b256};

use super::fork::{BlobLimit, Fork, ForkSchedule, Scheduled};
use super::network::{Network, Preset};

/// Two weeks of mainnet. With 34 million ether at stake, `compute_weak_subjectivity_period` gives 3 500 epochs; other
/// clients say two weeks too.
pub(super) const WEAK_SUBJECTIVITY_EPOCHS: u64 = 3150;

/// `MAX_BLOBS_PER_BLOCK_ELECTRA`.
pub(super) const MAX_BLOBS_ELECTRA: u64 = 9;

fn network(
    (name, chain_id): (&str, u64),
    (genesis_time, genesis_validators_root): (u64, B256),
    versions: [u32; 4],
    epochs: [u64; 4],
    blobs: [(u64, u64); 2],
) -> Network {
    let known = Fork::ALL.into_iter().zip(versions).zip(epochs);
    let known =
        known.map(|((fork, version), epoch)| Scheduled { fork, epoch, version: version.to_be_bytes() });
    Network {
        name: name.to_owned(),
        preset: Preset::Mainnet,
        genesis_time,
        genesis_validators_root,
        slot_ms: 12_000,
        forks: ForkSchedule::new(known, None).expect("written in order"),
        blob_schedule: blobs.map(|(epoch, max_blobs)| BlobLimit { epoch, max_blobs }).to_vec(),
        max_blobs_electra: MAX_BLOBS_ELECTRA,
        execution_chain_id: Some(chain_id),
        weak_subjectivity_epochs: WEAK_SUBJECTIVITY_EPOCHS,
    }
}

pub(super) fn mainnet() -> Network {
    network(
        ("mainnet", 1),
        (1_606_824_023, b256!("4b363db94e286120d76eb905340fdd4e54bfe9f06bf33ff6cf5ad27f511bfe95")),
        [0x0300_0000, 0x0400_0000, 0x0500_0000, 0x0600_0000],
        [194_048, 269_568, 364_032, 411_392],
        [(412_672, 15), (419_072, 21)],
    )
}

pub(super) fn sepolia() -> Network {
    network(
        ("sepolia", 11_155_111),
        (1_655_733_600, b256!("d8ea171f3c94aea21ebc42a1ed61052acf3f9209c00e4efbaaddac09ed9b8078")),
        [0x9000_0072, 0x9000_0073, 0x9000_0074, 0x9000_0075],
        [56_832, 132_608, 222_464, 272_640],
        [(274_176, 15), (275_712, 21)],
    )
}

pub(super) fn hoodi() -> Network {
    network(
        ("hoodi", 560_048),
        (1_742_213_400, b256!("212f13fc4df078b6cb7db228f1c8307566dcecf900867401a92023d7ba99cb5f")),
        [0x4000_0910, 0x5000_0910, 0x6000_0910, 0x7000_0910],
        [0, 0, 2_048, 50_688],
        [(52_480, 15), (54_016, 21)],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The digests that Sepolia's nodes gossip under.
    #[test]
    fn fork_digests_of_sepolia() {
        let sepolia = sepolia();
        for (epoch, digest) in
            [(222_464, "14045b5a"), (272_640, "7e0d3447"), (274_176, "fd32b622"), (275_712, "74d01459")]
        {
            assert_eq!(hex::encode(sepolia.fork_digest(epoch * 32).unwrap()), digest, "epoch {epoch}");
            assert_ne!(
                hex::encode(sepolia.fork_digest(epoch * 32 - 1).unwrap()),
                digest,
                "before epoch {epoch}"
            );
        }
    }

    /// Those of mainnet before blob schedules.
    #[test]
    fn fork_digests_of_mainnet() {
        let mainnet = mainnet();
        for (epoch, digest) in [(194_048, "bba4da96"), (269_568, "6a95a1a9"), (364_032, "ad532ceb")] {
            assert_eq!(hex::encode(mainnet.fork_digest(epoch * 32).unwrap()), digest, "epoch {epoch}");
        }
    }
}
