//! Six periods of mainnet under Capella, as nodes sent them.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod data;

use std::sync::Arc;

use posthouse_light_client::replay::{ReplayError, replay};
use posthouse_light_client::spec::{
    Bootstrap, Fork, Kind, Network, Refused, State, Update, updates_from_json,
};

const LAST: &str = "finalized slot=7109344 block=17923026 \
                    hash=0xbc8499537876e5406c7a65e25f99063f1cd85a17014a3aa5ade38271b1fbf64f";
/// Two hours after the last file.
const NOW_MS: u64 = (1_606_824_023 + 7_110_000 * 12) * 1000;

struct Mainnet {
    network: Arc<Network>,
    bootstrap: Vec<u8>,
    updates: Vec<u8>,
    finality: Vec<u8>,
    optimistic: Vec<u8>,
}

fn mainnet() -> Option<Mainnet> {
    let read = |name| data::read("light-client/mainnet-capella", name);
    Some(Mainnet {
        network: Arc::new(Network::mainnet()),
        bootstrap: read("bootstrap.json")?,
        updates: read("updates.json")?,
        finality: read("finality.json")?,
        optimistic: read("optimistic.json")?,
    })
}

impl Mainnet {
    fn all(&self) -> Vec<Update> {
        let mut updates = updates_from_json(&self.network, &self.updates, 6).unwrap();
        updates.push(Update::from_json(&self.network, &self.finality).unwrap());
        updates.push(Update::from_json(&self.network, &self.optimistic).unwrap());
        updates
    }

    fn start(&self) -> (State, Bootstrap) {
        let bootstrap = Bootstrap::from_json(&self.network, &self.bootstrap).unwrap();
        let root = bootstrap.header.beacon.root();
        (State::bootstrap(self.network.clone(), root, &bootstrap).unwrap(), bootstrap)
    }
}

fn line(state: &State) -> String {
    let header = state.finalized();
    let execution = &header.execution;
    format!("finalized slot={} block={} hash={}", header.beacon.slot, execution.number, execution.block_hash)
}

#[test]
fn replayed_from_json() {
    let Some(mainnet) = mainnet() else { return };
    let files =
        [("updates", &mainnet.updates), ("finality", &mainnet.finality), ("optimistic", &mainnet.optimistic)];
    let outcome = replay(mainnet.network.clone(), None, &mainnet.bootstrap, files, NOW_MS).unwrap();
    assert_eq!(outcome.line(), LAST);
    assert_eq!(outcome.warnings.len(), 1, "that no checkpoint was given: {:?}", outcome.warnings);
    assert_eq!(outcome.state.optimistic().beacon.slot, 7_109_431);
    assert_eq!(outcome.age_ms, (7_110_000 - 7_109_344) * 12_000);
}

/// Each update alone and in the stream that the beacon API sends, as SSZ.
#[test]
fn replayed_from_ssz() {
    let Some(mainnet) = mainnet() else { return };
    let network = &mainnet.network;
    let (_, bootstrap) = mainnet.start();
    let mut alone = Vec::new();
    let mut stream = Vec::new();
    for update in mainnet.all() {
        let kind = match (&update.next_committee, &update.finalized) {
            (Some(_), _) => Kind::Update,
            (None, Some(_)) => Kind::Finality,
            (None, None) => Kind::Optimistic,
        };
        let bytes = update.to_ssz(network, kind).unwrap();
        assert_eq!(Update::from_ssz(network, kind, &bytes).unwrap(), update);
        stream.extend((bytes.len() as u64 + 4).to_le_bytes());
        stream.extend(network.fork_digest(update.attested.beacon.slot).unwrap());
        stream.extend(&bytes);
        alone.push((format!("{kind:?}"), bytes));
    }
    let root = Some(bootstrap.header.beacon.root());
    let bootstrap = bootstrap.to_ssz(network).unwrap();
    let outcome = replay(network.clone(), root, &bootstrap, alone, NOW_MS).unwrap();
    assert_eq!((outcome.line(), outcome.warnings.len()), (LAST.to_owned(), 0));
    let outcome = replay(network.clone(), root, &bootstrap, [("stream", stream)], NOW_MS).unwrap();
    assert_eq!(outcome.line(), LAST);
}

/// What is stored after each update leads to the same end.
#[test]
fn resumed_after_each_update() {
    let Some(mainnet) = mainnet() else { return };
    let (mut state, _) = mainnet.start();
    for update in mainnet.all() {
        let moved = state.apply(&update, 7_110_000).unwrap();
        assert!(moved.anything(), "slot {}", update.attested.beacon.slot);
        let bytes = state.to_bytes();
        state = State::from_bytes(mainnet.network.clone(), &bytes).unwrap();
        assert_eq!(state.to_bytes(), bytes);
    }
    assert_eq!(line(&state), LAST);
    assert_eq!(state.period(), 867);
}

#[test]
fn replayed_twice_says_so_and_changes_nothing() {
    let Some(mainnet) = mainnet() else { return };
    let files = [("once", &mainnet.updates), ("twice", &mainnet.updates), ("finality", &mainnet.finality)];
    let outcome = replay(mainnet.network.clone(), None, &mainnet.bootstrap, files, NOW_MS).unwrap();
    assert_eq!(outcome.line(), LAST);
    // The sixth attests a slot that is not final yet: true, and nothing new.
    assert_eq!(outcome.warnings.len(), 1 + 5, "{:?}", outcome.warnings);
}

#[test]
fn an_old_checkpoint_is_said() {
    let Some(mainnet) = mainnet() else { return };
    let later = NOW_MS + 30 * 86_400_000;
    let none: [(&str, &[u8]); 0] = [];
    let outcome = replay(mainnet.network.clone(), None, &mainnet.bootstrap, none, later).unwrap();
    assert!(outcome.warnings.iter().any(|warning| warning.contains("days old")), "{:?}", outcome.warnings);
    let before = replay(mainnet.network.clone(), None, &mainnet.bootstrap, none, 0).map(|_| ());
    assert_eq!(before, Err(ReplayError::BeforeGenesis("mainnet".to_owned())));
}

/// What endpoints do wrong, on real data; each by its own error.
#[test]
fn lies_about_mainnet() {
    let Some(mainnet) = mainnet() else { return };
    let (mut state, bootstrap) = mainnet.start();
    let updates = mainnet.all();
    let network = mainnet.network.clone();
    assert!(state.apply(&updates[0], 7_110_000).unwrap().next_committee);
    let before = state.to_bytes();

    let foreign =
        State::bootstrap(network.clone(), updates[0].attested.beacon.root(), &bootstrap).map(|_| ());
    assert!(matches!(foreign, Err(Refused::Checkpoint { .. })), "{foreign:?}");
    let mut sepolia = Network::mainnet();
    sepolia.genesis_validators_root = Network::sepolia().genesis_validators_root;
    let mut other = State::bootstrap(Arc::new(sepolia), bootstrap.header.beacon.root(), &bootstrap).unwrap();
    assert_eq!(other.apply(&updates[0], 7_110_000), Err(Refused::Signature), "another network's signature");
    assert!(matches!(State::from_bytes(other.network().clone(), &before), Err(Refused::Stored(_))));

    let mut lie = |change: &dyn Fn(&mut Update)| {
        let mut update = updates[1].clone();
        change(&mut update);
        state.apply(&update, 7_110_000).unwrap_err()
    };
    let first = |branch: &mut Vec<_>| branch.truncate(branch.len() - 1);
    assert_eq!(lie(&|u| first(&mut u.attested.execution_branch)), Refused::Branch("execution_branch"));
    assert_eq!(
        lie(&|u| first(&mut u.finalized.as_mut().unwrap().branch)),
        Refused::Branch("finality_branch")
    );
    assert_eq!(
        lie(&|u| u.finalized.as_mut().unwrap().branch.push(Default::default())),
        Refused::Branch("finality_branch")
    );
    assert_eq!(
        lie(&|u| u.next_committee.as_mut().unwrap().branch[2].0[5] ^= 1),
        Refused::Branch("next_sync_committee_branch")
    );
    assert_eq!(
        lie(&|u| u.next_committee.as_mut().unwrap().committee.pubkeys.swap(0, 1)),
        Refused::Branch("next_sync_committee_branch")
    );
    assert_eq!(lie(&|u| u.attested.execution.state_root.0[0] ^= 1), Refused::Branch("execution_branch"));
    assert_eq!(
        lie(&|u| u.finalized.as_mut().unwrap().header.beacon.proposer_index ^= 1),
        Refused::Branch("finality_branch")
    );
    assert_eq!(lie(&|u| u.attested.beacon.proposer_index ^= 1), Refused::Signature);
    assert_eq!(lie(&|u| u.aggregate.bits[0] ^= 1), Refused::Signature);
    assert!(matches!(
        lie(&|u| u.aggregate.bits.fill(0)),
        Refused::Participation { signed: 0, committee: 512 }
    ));
    assert!(matches!(lie(&|u| u.aggregate.bits[..22].fill(0)), Refused::Participation { .. }));
    assert!(matches!(lie(&|u| u.aggregate.bits.push(255)), Refused::Length { .. }));
    assert_eq!(lie(&|u| u.aggregate.signature = updates[2].aggregate.signature), Refused::Signature);
    assert_eq!(lie(&|u| u.aggregate.signature = [0; 96]), Refused::SignatureEncoding);
    let infinity = |u: &mut Update| {
        u.aggregate.signature = [0; 96];
        u.aggregate.signature[0] = 0xc0;
    };
    assert_eq!(lie(&infinity), Refused::SignatureEncoding);
    assert!(matches!(lie(&|u| u.signature_slot = 7_110_001), Refused::Future { .. }));
    assert!(matches!(lie(&|u| u.signature_slot = u.attested.beacon.slot), Refused::Order { .. }));
    assert!(matches!(
        lie(&|u| u.finalized.as_mut().unwrap().header.beacon.slot = u.attested.beacon.slot + 1),
        Refused::Order { .. }
    ));
    assert_eq!(
        lie(&|u| u.attested.execution.blob_gas = Some(Default::default())),
        Refused::NotEmpty("execution.blob_gas_used")
    );
    assert!(matches!(state.apply(&updates[3], 7_110_000), Err(Refused::Period { .. })), "a skipped period");
    assert!(matches!(state.apply(&updates[6], 7_110_000), Err(Refused::Period { .. })));
    assert_eq!(state.to_bytes(), before, "nothing refused changed anything");
}

/// `version` counts, and has to be that of the slot.
#[test]
fn versions_and_lengths_in_json() {
    let Some(mainnet) = mainnet() else { return };
    let network = &mainnet.network;
    let text = String::from_utf8(mainnet.finality.clone()).unwrap();
    let read = |text: &str| Update::from_json(network, text.as_bytes()).unwrap_err();
    assert_eq!(
        read(&text.replace("\"capella\"", "\"deneb\"")),
        Refused::OtherFork { named: Fork::Deneb, at_slot: Fork::Capella, slot: 7_109_430 }
    );
    assert_eq!(read(&text.replace("\"capella\"", "\"gloas\"")), Refused::UnknownFork("gloas".to_owned()));
    assert!(matches!(read(&text.replace("\"version\"", "\"verzion\"")), Refused::Json(_)));
    assert!(matches!(read(&text[..text.len() - 3]), Refused::Json(_)));
    assert!(matches!(read(&text.replace("\"7109430\"", "\"+7109430\"")), Refused::Json(_)));
    assert!(matches!(read(&text.replace("\"7109430\"", "\"07109430\"")), Refused::Json(_)));
    assert!(matches!(read(&text.replace("\"7109430\"", "7109430")), Refused::Json(_)));
    assert!(matches!(read(&text.replace("\"7109430\"", "\"99999999999999999999\"")), Refused::Json(_)));
    assert!(matches!(
        read(&text.replace("\"7109430\"", "\"6000000\"")),
        Refused::BeforeCapella { slot: 6_000_000 }
    ));
    let long = format!("{{\"version\":\"capella\",\"data\":\"{}\"}}", "x".repeat(100_000));
    assert!(matches!(read(&long), Refused::Json(message) if message.len() <= 200));
    assert!(matches!(read(&format!("{text}{}", " ".repeat(600_000))), Refused::TooLarge { .. }));
    assert_eq!(updates_from_json(network, &mainnet.updates, 5), Err(Refused::TooManyUpdates(5)));
}
