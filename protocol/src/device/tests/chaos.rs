//! Loss, duplication, reordering, rubbish, and power cuts at every durable operation: whatever
//! happens, what runs is the old image or the new one, no attempt number is signed twice over, and
//! once the world is kind again the update arrives.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// What an unkind world does.
#[derive(Debug, Clone, Copy)]
enum Act {
    Wake,
    Sleep,
    Manifest,
    OldManifest,
    Receipt {
        s: u8,
        attempt: u8,
    },
    Delegate {
        gateway: u8,
    },
    /// Delivers the pending block at this place, `times` times.
    Deliver {
        place: u8,
        times: u8,
    },
    Lose {
        place: u8,
    },
    Spoil {
        place: u8,
    },
    Time(u16),
    Later(u8),
    Cut,
    CutIn {
        operations: u8,
    },
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        2 => Just(Act::Wake),
        1 => Just(Act::Sleep),
        2 => Just(Act::Manifest),
        1 => Just(Act::OldManifest),
        3 => (0..4_u8, 0..5_u8).prop_map(|(s, attempt)| Act::Receipt { s, attempt }),
        1 => (0..3_u8).prop_map(|gateway| Act::Delegate { gateway }),
        12 => (any::<u8>(), 1..3_u8).prop_map(|(place, times)| Act::Deliver { place, times }),
        2 => any::<u8>().prop_map(|place| Act::Lose { place }),
        1 => any::<u8>().prop_map(|place| Act::Spoil { place }),
        3 => (0..2000_u16).prop_map(Act::Time),
        1 => any::<u8>().prop_map(Act::Later),
        1 => Just(Act::Cut),
        3 => (0..6_u8).prop_map(|operations| Act::CutIn { operations }),
    ]
}

struct World {
    board: Board,
    image: Vec<u8>,
    /// Blocks under way.
    pending: Vec<(u32, Vec<u8>)>,
    /// Receipt digests by attempt, and which request has which digest.
    signed: BTreeMap<u8, Digest>,
    delegated: Option<Digest>,
}

impl World {
    fn new() -> Self {
        let image = firmware(1);
        let pending = Vec::new();
        Self { board: Board::awake(), image, pending, signed: BTreeMap::new(), delegated: None }
    }

    fn act(&mut self, act: Act) {
        let board = &mut self.board;
        let _ = match act {
            Act::Wake => board.give(Input::Wake),
            Act::Sleep => board.give(Input::Sleep { next_wake: 9 }),
            Act::Manifest => board.give(Input::Manifest(&envelope(NEW, &self.image))),
            Act::OldManifest => board.give(Input::Manifest(&envelope(OLD, &firmware(0)))),
            Act::Receipt { s, attempt } => board.give(Input::Sign(&receipt(&self.image, s, attempt))),
            Act::Delegate { gateway } => board.give(Input::Sign(&delegate(2, gateway))),
            Act::Later(retry_after) => board.give(Input::Later { retry_after: retry_after.into() }),
            Act::Deliver { place, times } => self.deliver(place, times),
            Act::Lose { place } => self.take(place).map_or(Ok(()), |_| Ok(())),
            Act::Spoil { place } => self.spoil(place),
            Act::Time(ms) => self.pass(ms.into()),
            Act::Cut => self.cut(),
            Act::CutIn { operations } => {
                board.fuel = Some(operations.into());
                Ok(())
            }
        };
        self.observe();
    }

    fn take(&mut self, place: u8) -> Option<(u32, Vec<u8>)> {
        let len = self.pending.len();
        (len > 0).then(|| self.pending.swap_remove(usize::from(place) % len))
    }

    fn deliver(&mut self, place: u8, times: u8) -> Result<(), Error> {
        let Some((offset, bytes)) = self.take(place) else { return Ok(()) };
        let block = Block { u_id: u_id(&self.image), offset, bytes: &bytes };
        (0..times).try_for_each(|_| self.board.give(Input::Block(block)))
    }

    fn spoil(&mut self, place: u8) -> Result<(), Error> {
        let Some((offset, mut bytes)) = self.take(place) else { return Ok(()) };
        bytes[0] ^= 0x80;
        self.board.give(Input::Block(Block { u_id: u_id(&self.image), offset, bytes: &bytes }))
    }

    fn pass(&mut self, ms: u64) -> Result<(), Error> {
        self.board.now += ms;
        self.board.run();
        Ok(())
    }

    fn cut(&mut self) -> Result<(), Error> {
        self.board.power_up();
        self.board.run();
        Ok(())
    }

    /// The invariants, and what the gateway has to answer.
    fn observe(&mut self) {
        for message in self.board.take_sent() {
            match message {
                Message::Get(request) => self.pending.extend(blocks(&request, &self.image)),
                Message::Signature(message) => self.check(message.digest),
                Message::Hello(_) | Message::Refused(_) | Message::Status(_) => {}
            }
        }
        self.pending.truncate(64);
        let active = u_id(&self.board.active);
        assert!(active == u_id(&self.image) || active == u_id(&firmware(0)));
        let installed = Stored::from_bytes(&self.board.persisted).unwrap().installed;
        assert!(installed == OLD || active == u_id(&self.image), "raised only for what runs");
    }

    fn check(&mut self, digest: Digest) {
        let attempts = (0..4).flat_map(|s| (0..5).map(move |attempt| (s, attempt)));
        let receipt_of = attempts.into_iter().find(|(s, a)| receipt(&self.image, *s, *a).digest() == digest);
        let before = match receipt_of {
            Some((_, attempt)) => *self.signed.entry(attempt).or_insert(digest),
            None => *self.delegated.get_or_insert(digest),
        };
        assert_eq!(before, digest, "two answers where there is one");
    }

    fn be_kind(&mut self) {
        self.board.fuel = None;
        for _ in 0..4 {
            self.board.give(Input::Wake).unwrap();
            self.board.give(Input::Manifest(&envelope(NEW, &self.image))).unwrap();
            let image = self.image.clone();
            self.board.serve(&image);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn old_or_new_image_and_one_receipt_an_attempt(acts in proptest::collection::vec(act(), 1..120)) {
        let mut world = World::new();
        acts.into_iter().for_each(|act| world.act(act));
        world.be_kind();
        prop_assert_eq!(&world.board.active, &world.image);
        prop_assert_eq!(world.board.sensor.stored().installed, NEW);
        prop_assert!(world.board.sensor.status().report.is_some());
    }
}

/// Every durable operation of a whole update, cut in turn.
#[test]
fn a_cut_at_each_operation_in_turn() {
    for fuel in 0..40 {
        let mut world = World::new();
        world.board.fuel = Some(fuel);
        let acts = [Act::Manifest, Act::Receipt { s: 1, attempt: 1 }, Act::Receipt { s: 2, attempt: 1 }];
        acts.into_iter().for_each(|act| world.act(act));
        let image = world.image.clone();
        world.board.give(Input::Wake).unwrap();
        world.board.serve(&image);
        world.observe();
        world.be_kind();
        assert_eq!(world.board.active, image, "cut after {fuel} operations");
        assert_eq!(world.board.sensor.stored().installed, NEW);
    }
}
