//! What is signed, and what never is.

use super::*;

/// A sensor that has accepted the manifest.
fn ready(image: &[u8]) -> Board {
    let mut board = Board::awake();
    board.give(Input::Manifest(&envelope(NEW, image))).unwrap();
    board.take_sent();
    board
}

fn signatures(board: &mut Board) -> Vec<SignatureMsg> {
    let sig = |message| if let Message::Signature(sig) = message { Some(sig) } else { None };
    board.take_sent().into_iter().filter_map(sig).collect()
}

fn sign(board: &mut Board, request: &SignRequest) -> Result<Vec<SignatureMsg>, Error> {
    board.give(Input::Sign(request))?;
    Ok(signatures(board))
}

#[test]
fn a_receipt_is_signed_and_verifies() {
    let image = firmware(1);
    let mut board = ready(&image);
    let request = receipt(&image, 1, 1);
    let [message] = sign(&mut board, &request).unwrap()[..] else { panic!("one signature") };
    assert_eq!(message.digest, request.digest());
    crate::key::verify(Curve::P256, &config().key, &message.digest, &message.sig).unwrap();
}

#[test]
fn without_a_manifest_or_for_another_image_no_receipt_is_signed() {
    let other = u_id(&firmware(2));
    let refused = Err(Error::NotThisUpdate(other));
    assert_eq!(sign(&mut Board::awake(), &receipt(&firmware(2), 1, 1)), refused);
    assert_eq!(sign(&mut ready(&firmware(1)), &receipt(&firmware(2), 1, 1)), refused);
}

#[test]
fn the_same_digest_gets_the_same_answer_and_does_not_count() {
    let image = firmware(1);
    let mut board = ready(&image);
    let first = sign(&mut board, &receipt(&image, 1, 1)).unwrap();
    board.power_up();
    assert_eq!(sign(&mut board, &receipt(&image, 1, 1)).unwrap(), first);
    assert_eq!(sign(&mut board, &receipt(&image, 2, 2)).unwrap().len(), 1);
    assert_eq!(sign(&mut board, &receipt(&image, 1, 1)).unwrap(), first);
}

#[test]
fn a_second_receipt_under_a_used_or_skipped_attempt_is_refused() {
    let image = firmware(1);
    let mut board = ready(&image);
    sign(&mut board, &receipt(&image, 1, 1)).unwrap();
    for got in [0, 1, 3, 255] {
        let refused = sign(&mut board, &receipt(&image, 2, got));
        assert_eq!(refused, Err(Error::WrongAttempt { got, next: 2 }));
    }
    assert_eq!(board.refusals(), [ErrorCode::BadAttempt; 4]);
}

#[test]
fn attempts_are_bounded() {
    let image = firmware(1);
    let mut board = ready(&image);
    for attempt in 1..=MAX_ATTEMPTS {
        sign(&mut board, &receipt(&image, attempt, attempt)).unwrap();
    }
    let one_more = sign(&mut board, &receipt(&image, 99, MAX_ATTEMPTS + 1));
    assert_eq!(one_more, Err(Error::AttemptExhausted(MAX_ATTEMPTS)));
    assert_eq!(sign(&mut board, &receipt(&image, 1, 1)).unwrap().len(), 1, "a repeat still is answered");
}

#[test]
fn a_newer_version_starts_counting_again() {
    let (image, newer) = (firmware(1), firmware(2));
    let mut board = ready(&image);
    sign(&mut board, &receipt(&image, 1, 1)).unwrap();
    board.give(Input::Manifest(&envelope(Version::new(6), &newer))).unwrap();
    board.take_sent();
    assert_eq!(sign(&mut board, &receipt(&newer, 1, 1)).unwrap().len(), 1);
    assert_eq!(
        sign(&mut board, &receipt(&image, 1, 1)),
        Err(Error::NotThisUpdate(u_id(&image))),
        "the superseded update is over"
    );
}

#[test]
fn a_bounty_is_delegated_once() {
    let mut board = Board::awake();
    let first = sign(&mut board, &delegate(1, 1)).unwrap();
    board.power_up();
    assert_eq!(sign(&mut board, &delegate(1, 1)).unwrap(), first);
    assert_eq!(sign(&mut board, &delegate(1, 2)), Err(Error::AlreadyDelegated));
    assert_eq!(sign(&mut board, &delegate(2, 2)).unwrap().len(), 1, "another bounty, another gateway");
}

#[test]
fn the_last_delegations_are_remembered() {
    let mut board = Board::awake();
    for bounty in 1..=10 {
        sign(&mut board, &delegate(bounty, 1)).unwrap();
    }
    for bounty in 8..=10 {
        assert_eq!(sign(&mut board, &delegate(bounty, 2)), Err(Error::AlreadyDelegated));
    }
}

#[test]
fn the_state_is_durable_before_the_signature_exists() {
    let image = firmware(1);
    let mut board = ready(&image);
    board.sensor.handle(Input::Sign(&receipt(&image, 1, 1)), 0).unwrap();
    assert_eq!(board.sensor.poll(0), Some(Output::Persist));
    assert_eq!(board.sensor.poll(0), Some(Output::Sign(receipt(&image, 1, 1).digest())));
    assert_eq!(
        board.sensor.handle(Input::Sign(&receipt(&image, 2, 2)), 0),
        Err(Error::Busy),
        "one at a time"
    );
}
