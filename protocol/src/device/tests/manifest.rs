//! Which manifests are taken.

use super::*;

fn offer(manifest: &Manifest) -> Result<(), Error> {
    Board::awake().give(Input::Manifest(&sealed(manifest)))
}

#[test]
fn a_manifest_of_another_vendor_is_refused() {
    let product = ProductId::from_parts([8; 16], [7; 16]);
    let manifest = Manifest { product, ..manifest_of(NEW, &firmware(1)) };
    assert_eq!(offer(&manifest), Err(Error::WrongVendor));
}

#[test]
fn a_manifest_for_another_class_is_refused() {
    let product = ProductId::from_parts([7; 16], [8; 16]);
    let manifest = Manifest { product, ..manifest_of(NEW, &firmware(1)) };
    assert_eq!(offer(&manifest), Err(Error::WrongClass));
}

#[test]
fn a_manifest_signed_by_another_key_is_refused_and_said_so() {
    let mut board = Board::awake();
    let forged = crate::suit::build(&manifest_of(NEW, &firmware(1)), &other_release_key());
    assert!(matches!(board.give(Input::Manifest(&forged)), Err(Error::BadManifest(_))));
    assert_eq!(board.refusals(), [ErrorCode::BadManifest]);
}

#[test]
fn rubbish_is_no_manifest() {
    let mut board = Board::awake();
    assert!(matches!(board.give(Input::Manifest(&[0xff; 30])), Err(Error::BadManifest(_))));
}

#[test]
fn the_installed_version_and_older_ones_are_refused() {
    for version in [OLD, Version::new(0), Version::new(3)] {
        let refused = offer(&manifest_of(version, &firmware(1)));
        let error = Error::Downgrade { offered: version, installed: OLD, highest: OLD };
        assert_eq!(refused, Err(error));
    }
}

#[test]
fn a_version_below_the_highest_seen_is_refused_even_after_a_restart() {
    let mut board = Board::awake();
    board.give(Input::Manifest(&envelope(Version::new(9), &firmware(1)))).unwrap();
    board.power_up();
    let refused = board.give(Input::Manifest(&envelope(Version::new(8), &firmware(2))));
    let highest = Version::new(9);
    assert_eq!(refused, Err(Error::Downgrade { offered: Version::new(8), installed: OLD, highest }));
}

#[test]
fn one_version_means_one_image() {
    let mut board = Board::awake();
    board.give(Input::Manifest(&envelope(NEW, &firmware(1)))).unwrap();
    let refused = board.give(Input::Manifest(&envelope(NEW, &firmware(2))));
    assert_eq!(refused, Err(Error::Conflict(NEW)));
}

#[test]
fn an_image_that_does_not_fit_is_refused() {
    for size in [4097, u32::MAX] {
        let mut board = Board::awake();
        let manifest = Manifest { size, ..manifest_of(NEW, &firmware(1)) };
        let refused = board.give(Input::Manifest(&sealed(&manifest)));
        assert_eq!(refused, Err(Error::TooLarge { size, slot: 4096 }));
        assert_eq!(board.sensor.status().result, UpdateResult::NotEnoughFlash);
    }
}

#[test]
fn the_vendors_name_and_version_survive_in_the_state() {
    let mut board = Board::awake();
    board.give(Input::Manifest(&envelope(NEW, &firmware(1)))).unwrap();
    let stored = Stored::from_bytes(&board.persisted).unwrap();
    assert_eq!(stored, *board.sensor.stored());
    assert_eq!((stored.installed, stored.highest), (OLD, NEW));
}

#[test]
fn a_damaged_state_is_refused() {
    let good = Board::new().persisted;
    for at in [0, 17, 18] {
        let mut bytes = good;
        bytes[at] = 0xee;
        assert_eq!(Stored::from_bytes(&bytes), Err(Error::DamagedState), "byte {at}");
    }
}

#[test]
fn the_state_is_a_few_hundred_bytes() {
    const { assert!(Stored::LEN < 640) };
    const { assert!(size_of::<Sensor>() < 1536) };
}
