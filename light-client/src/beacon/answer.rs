//! From bytes to what they say, by the content type that the endpoint gives.

use super::BeaconError;
use crate::http::Answer;
use crate::spec::{
    Bootstrap, Fork, Kind, Network, Refused, Update, updates_from_json, updates_from_octet_stream,
};

/// The two encodings of the beacon API.
enum Encoding {
    Ssz,
    Json,
}

fn encoding(answer: &Answer) -> Result<Encoding, BeaconError> {
    match answer.content_type.as_str() {
        "application/octet-stream" => Ok(Encoding::Ssz),
        "application/json" => Ok(Encoding::Json),
        other => Err(BeaconError::ContentType(other.chars().take(64).collect())),
    }
}

pub(super) fn bootstrap(network: &Network, answer: &Answer) -> Result<Bootstrap, BeaconError> {
    let bootstrap = match encoding(answer)? {
        Encoding::Ssz => Bootstrap::from_ssz(network, &answer.body)?,
        Encoding::Json => Bootstrap::from_json(network, &answer.body)?,
    };
    is_version(network, answer, bootstrap.header.beacon.slot)?;
    Ok(bootstrap)
}

pub(super) fn update(network: &Network, kind: Kind, answer: &Answer) -> Result<Update, BeaconError> {
    let update = match encoding(answer)? {
        Encoding::Ssz => Update::from_ssz(network, kind, &answer.body)?,
        Encoding::Json => Update::from_json(network, &answer.body)?,
    };
    is_version(network, answer, update.attested.beacon.slot)?;
    Ok(update)
}

/// A list names the fork of each update by itself.
pub(super) fn updates(network: &Network, answer: &Answer, max: usize) -> Result<Vec<Update>, BeaconError> {
    Ok(match encoding(answer)? {
        Encoding::Ssz => updates_from_octet_stream(network, &answer.body, max)?,
        Encoding::Json => updates_from_json(network, &answer.body, max)?,
    })
}

/// `Eth-Consensus-Version`, where it is given, is the fork at the slot: SSZ does not say which layout it has.
fn is_version(network: &Network, answer: &Answer, slot: u64) -> Result<(), Refused> {
    let Some(version) = &answer.consensus_version else { return Ok(()) };
    let (named, at_slot) = (Fork::named(version)?, network.fork_at(slot)?);
    if named == at_slot { Ok(()) } else { Err(Refused::OtherFork { named, at_slot, slot }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_for_people_is_no_answer() {
        let answer = Answer {
            content_type: "text/html".into(),
            consensus_version: None,
            body: b"<html>Please sign in</html>".to_vec(),
        };
        let refused = BeaconError::ContentType("text/html".into());
        let network = Network::mainnet();
        assert_eq!(bootstrap(&network, &answer).unwrap_err(), refused);
        assert_eq!(update(&network, Kind::Finality, &answer).unwrap_err(), refused);
        assert_eq!(updates(&network, &answer, 1).unwrap_err(), refused);
    }

    #[test]
    fn the_version_is_held_against_the_slot_and_an_unknown_one_refused() {
        let network = Network::mainnet();
        let version = |version: &str| Answer {
            content_type: String::new(),
            consensus_version: Some(version.into()),
            body: Vec::new(),
        };
        let slot = 269_568 * 32; // Deneb's first
        assert_eq!(is_version(&network, &version("deneb"), slot), Ok(()));
        let other = Refused::OtherFork { named: Fork::Deneb, at_slot: Fork::Capella, slot: slot - 1 };
        assert_eq!(is_version(&network, &version("deneb"), slot - 1), Err(other));
        let unknown = Refused::UnknownFork("gloas".into());
        assert_eq!(is_version(&network, &version("gloas"), slot), Err(unknown));
    }
}
