//! From bytes to what they say, by the content type that the endpoint gives.

use super::BeaconError;
use crate::http::Answer;
use crate::spec::{
    Bootstrap, Fork, Kind, Network, Refused, Update, slot_of_ssz, updates_from_json,
    updates_from_octet_stream,
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
    let (encoding, named) = (encoding(answer)?, named(answer)?);
    let bootstrap = match encoding {
        Encoding::Ssz => {
            is_version(network, named, slot_of_ssz(&answer.body)?)?;
            Bootstrap::from_ssz(network, &answer.body)?
        }
        Encoding::Json => Bootstrap::from_json(network, &answer.body)?,
    };
    is_version(network, named, bootstrap.header.beacon.slot)?;
    Ok(bootstrap)
}

pub(super) fn update(network: &Network, kind: Kind, answer: &Answer) -> Result<Update, BeaconError> {
    let (encoding, named) = (encoding(answer)?, named(answer)?);
    let update = match encoding {
        Encoding::Ssz => {
            is_version(network, named, slot_of_ssz(&answer.body)?)?;
            Update::from_ssz(network, kind, &answer.body)?
        }
        Encoding::Json => Update::from_json(network, &answer.body)?,
    };
    is_version(network, named, update.attested.beacon.slot)?;
    Ok(update)
}

/// A list names the fork of each update by itself.
pub(super) fn updates(network: &Network, answer: &Answer, max: usize) -> Result<Vec<Update>, BeaconError> {
    Ok(match encoding(answer)? {
        Encoding::Ssz => updates_from_octet_stream(network, &answer.body, max)?,
        Encoding::Json => updates_from_json(network, &answer.body, max)?,
    })
}

/// `Eth-Consensus-Version`, where it is given. Read before the body: a fork that came after this program has a layout that
/// nothing here can read, and that is another thing to tell than a body that is damaged.
fn named(answer: &Answer) -> Result<Option<Fork>, Refused> {
    answer.consensus_version.as_deref().map(Fork::named).transpose()
}

/// What is named is the fork at the slot: SSZ does not say which layout it has.
fn is_version(network: &Network, named: Option<Fork>, slot: u64) -> Result<(), Refused> {
    let Some(named) = named else { return Ok(()) };
    let at_slot = network.fork_at(slot)?;
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

    /// A body in which only the slot can be read, for a fork whose layout is none of ours.
    fn unreadable(content_type: &str, version: &str, slot: u64) -> Answer {
        let body = [&4u32.to_le_bytes()[..], &slot.to_le_bytes()].concat();
        Answer { content_type: content_type.into(), consensus_version: Some(version.into()), body }
    }

    #[test]
    fn the_version_is_read_before_the_body() {
        let network = Network::mainnet();
        let slot = 269_568 * 32; // Deneb's first
        let refusals = |answer: &Answer| {
            [bootstrap(&network, answer).unwrap_err(), update(&network, Kind::Finality, answer).unwrap_err()]
        };
        let (ssz, json) = ("application/octet-stream", "application/json");
        for encoding in [ssz, json] {
            let unknown = BeaconError::Refused(Refused::UnknownFork("gloas".into()));
            assert_eq!(refusals(&unreadable(encoding, "gloas", slot)), [unknown.clone(), unknown]);
        }
        let other = Refused::OtherFork { named: Fork::Deneb, at_slot: Fork::Capella, slot: slot - 1 };
        let other = BeaconError::Refused(other);
        assert_eq!(refusals(&unreadable(ssz, "deneb", slot - 1)), [other.clone(), other]);
        let damaged = refusals(&unreadable(ssz, "deneb", slot));
        assert!(
            damaged.iter().all(|why| matches!(why, BeaconError::Refused(Refused::Ssz { .. }))),
            "{damaged:?}"
        );
    }
}
