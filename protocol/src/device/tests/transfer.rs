//! From manifest to a running image.

use super::*;

fn started(image: &[u8]) -> Board {
    let mut board = Board::awake();
    board.give(Input::Manifest(&envelope(NEW, image))).unwrap();
    board
}

fn give_block(board: &mut Board, image: &[u8], offset: u32) -> Result<(), Error> {
    let bytes = &image[offset as usize..][..BLOCK.into()];
    board.give(Input::Block(Block { u_id: u_id(image), offset, bytes }))
}

#[test]
fn an_update_arrives_boots_and_is_reported() {
    let image = firmware(1);
    let mut board = started(&image);
    board.serve(&image);
    assert_eq!(board.active, image);
    let status = board.sensor.status();
    assert_eq!((status.state, status.result), (State::Idle, UpdateResult::Success));
    assert_eq!(status.installed, NEW);
    let report = status.report.unwrap();
    assert_eq!((report.version, report.u_id), (NEW, u_id(&image)));
    let digest = report.digest(&PRODUCT);
    crate::key::verify(Curve::P256, &config().key, &digest, &report.sig).unwrap();
}

#[test]
fn the_installed_version_rises_only_after_the_boot() {
    let image = firmware(1);
    let mut board = started(&image);
    board.fuel = Some(u32::MAX);
    let requests = board.requests();
    assert_eq!(requests[0], BlockRequest { u_id: u_id(&image), offset: 0, len: BLOCK, count: 4 });
    for (at, bytes) in image.chunks(BLOCK.into()).enumerate() {
        let block = Block { u_id: u_id(&image), offset: (at * usize::from(BLOCK)) as u32, bytes };
        assert_eq!(board.sensor.stored().installed, OLD);
        board.give(Input::Block(block)).unwrap();
    }
    assert_eq!(board.sensor.stored().installed, NEW);
}

#[test]
fn a_lost_block_is_asked_for_again_after_its_timeout_and_then_left_for_the_next_wake() {
    let image = firmware(1);
    let mut board = started(&image);
    for _ in 0..3 {
        assert_eq!(board.requests().len(), 1);
        board.now = board.sensor.deadline().unwrap();
        board.run();
    }
    assert!(board.requests().is_empty(), "three tries a wake");
    assert_eq!(board.sensor.status().result, UpdateResult::ConnectionLost);
    assert!(!board.sensor.is_busy());
    board.give(Input::Wake).unwrap();
    assert_eq!(board.requests().len(), 1);
}

#[test]
fn progress_resets_the_tries() {
    let image = firmware(1);
    let mut board = started(&image);
    for offset in (0..640).step_by(BLOCK.into()) {
        board.now = board.sensor.deadline().unwrap();
        board.run();
        give_block(&mut board, &image, offset).unwrap();
    }
    assert_eq!(board.sensor.status().next, 640);
}

/// CoAP's early negotiation (RFC 7959 §2.4): what a gateway cuts smaller is gone on with at once.
#[test]
fn blocks_that_are_smaller_than_asked_for_need_no_timeout() {
    let image = firmware(1);
    let mut board = started(&image);
    for (at, part) in image.chunks(usize::from(BLOCK) / 2).enumerate().take(5) {
        let requests = board.requests();
        let offset = at as u32 * u32::from(BLOCK) / 2;
        assert_eq!(requests.last().unwrap().offset, offset);
        board.give(Input::Block(Block { u_id: u_id(&image), offset, bytes: part })).unwrap();
    }
}

#[test]
fn duplicates_and_blocks_from_elsewhere_change_nothing() {
    let image = firmware(1);
    let mut board = started(&image);
    give_block(&mut board, &image, 0).unwrap();
    for offset in [0, 128, 512] {
        give_block(&mut board, &image, offset).unwrap();
    }
    assert_eq!(board.sensor.status().next, 64);
    let foreign = Block { u_id: u_id(&firmware(2)), offset: 64, bytes: &[0; 64] };
    assert_eq!(board.give(Input::Block(foreign)), Err(Error::NotThisUpdate(foreign.u_id)));
}

#[test]
fn bytes_past_the_end_and_empty_blocks_are_refused() {
    let image = firmware(1);
    let mut board = started(&image);
    for bytes in [&[][..], &[0; 1001]] {
        let block = Block { u_id: u_id(&image), offset: 0, bytes };
        assert_eq!(board.give(Input::Block(block)), Err(Error::Unexpected(0)));
    }
    assert_eq!(
        Board::awake().give(Input::Block(Block { u_id: u_id(&image), offset: 0, bytes: &[0] })),
        Err(Error::Unexpected(0))
    );
}

#[test]
fn a_reboot_resumes_at_the_last_checkpoint() {
    let image = firmware(1);
    let mut board = started(&image);
    for offset in (0..640).step_by(BLOCK.into()) {
        give_block(&mut board, &image, offset).unwrap();
    }
    board.power_up();
    board.take_sent();
    board.give(Input::Wake).unwrap();
    assert_eq!(board.requests()[0].offset, 512);
    board.give(Input::Manifest(&envelope(NEW, &image))).unwrap();
    board.serve(&image);
    assert_eq!(board.active, image);
}

#[test]
fn a_wrong_image_is_never_activated_and_is_fetched_anew_at_the_next_wake() {
    let image = firmware(1);
    let mut board = started(&image);
    let mut wrong = image.clone();
    wrong[999] ^= 1;
    board.serve(&wrong);
    assert_eq!(board.sensor.status().result, UpdateResult::IntegrityFailure);
    assert_eq!(board.active, firmware(0));
    // Nor does a gateway that goes on and on make it fetch again before.
    board.give(Input::Manifest(&envelope(NEW, &image))).unwrap();
    board.give(Input::Later { retry_after: 0 }).unwrap();
    assert!(board.requests().is_empty());
    board.give(Input::Wake).unwrap();
    board.serve(&image);
    assert_eq!(board.active, image);
}

#[test]
fn flash_that_forgets_is_noticed_before_activation() {
    let image = firmware(1);
    let mut board = started(&image);
    for (at, bytes) in image.chunks(BLOCK.into()).enumerate() {
        if at == 15 {
            board.spare[3] ^= 0x10;
        }
        let block = Block { u_id: u_id(&image), offset: (at * usize::from(BLOCK)) as u32, bytes };
        board.give(Input::Block(block)).unwrap();
    }
    assert_eq!(board.active, firmware(0));
    assert_eq!(board.sensor.status().result, UpdateResult::IntegrityFailure);
}

#[test]
fn the_gateway_may_put_the_sensor_off() {
    let image = firmware(1);
    let mut board = started(&image);
    board.take_sent();
    board.give(Input::Later { retry_after: 2 }).unwrap();
    assert!(board.requests().is_empty());
    assert!(!board.sensor.is_busy());
    assert_eq!(board.sensor.deadline(), Some(2000));
    board.give(Input::Manifest(&envelope(NEW, &image))).unwrap();
    assert_eq!(board.requests().len(), 1, "the manifest again means that the image is there");
}

#[test]
fn asleep_it_asks_for_nothing_and_says_when_it_wakes() {
    let image = firmware(1);
    let mut board = started(&image);
    board.take_sent();
    board.give(Input::Sleep { next_wake: 60 }).unwrap();
    board.now = 10_000;
    board.run();
    let [Message::Status(status)] = board.take_sent()[..] else { panic!("one status") };
    assert_eq!((status.next_wake, status.state), (60, State::Downloading));
}

#[test]
fn an_image_that_does_not_boot_is_given_up() {
    let image = firmware(1);
    let mut board = started(&image);
    for attempt in 1..=MAX_FAILED_BOOTS {
        board.give(Input::Wake).unwrap();
        let mut stored = board.sensor.stored().clone();
        stored.update.as_mut().unwrap().phase = Phase::Activating;
        board.sensor = Sensor::new(config(), stored, Boot::Reverted);
        board.run();
        assert_eq!(board.sensor.stored().update.as_ref().unwrap().failed_boots, attempt);
        assert_eq!(board.sensor.status().result, UpdateResult::UpdateFailed);
    }
    board.give(Input::Wake).unwrap();
    board.take_sent();
    assert_eq!(board.give(Input::Manifest(&envelope(NEW, &image))), Err(Error::GivenUp(NEW)));
    assert!(board.requests().is_empty());
    let newer = firmware(2);
    board.give(Input::Manifest(&envelope(Version::new(6), &newer))).unwrap();
    board.serve(&newer);
    assert_eq!(board.active, newer);
}

#[test]
fn a_bootloader_that_does_not_swap_and_does_not_say_so_is_given_up() {
    let image = firmware(1);
    let mut board = started(&image);
    board.spare[..image.len()].copy_from_slice(&image);
    let mut stored = board.sensor.stored().clone();
    stored.update.as_mut().unwrap().phase = Phase::Activating;
    board.persisted = stored.to_bytes();
    for power_up in 1..=MAX_ACTIVATIONS {
        let stored = Stored::from_bytes(&board.persisted).unwrap();
        board.sensor = Sensor::new(config(), stored, Boot::Unknown);
        let mut activates = false;
        while let Some(output) = board.sensor.poll(board.now) {
            match output {
                Output::Activate(_) => activates = true,
                output => board.carry_out(output).unwrap(),
            }
        }
        assert_eq!(activates, power_up < MAX_ACTIVATIONS, "{power_up}");
    }
    assert_eq!(board.sensor.status().result, UpdateResult::UpdateFailed);
    // It is awake to hear of a newer one.
    let newer = firmware(2);
    board.give(Input::Wake).unwrap();
    board.give(Input::Manifest(&envelope(Version::new(6), &newer))).unwrap();
    board.serve(&newer);
    assert_eq!(board.active, newer);
}
