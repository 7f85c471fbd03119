//! The distributor's side of the exchange, with one lie in it.

use std::time::{SystemTime, UNIX_EPOCH};

use posthouse_dsn::{Dsn, Inbound, Reply};
use posthouse_protocol::{
    exchange::{Member, Redeem, Refusal, Request, Response, Terms},
    id::{DeviceKey, Payee},
};
use tokio::sync::mpsc;

use super::{
    Lie, Seen,
    goods::Goods,
    offer::{Secret, fresh},
};

/// How long an offer holds, seconds.
const HOLDS: u64 = 600;
/// How long one holds that is meant to expire: somewhat above the gateway's own margin of five seconds.
const HOLDS_BRIEFLY: u64 = 8;
/// When to ask again, milliseconds.
const AGAIN: u32 = 250;

/// Answers until its peer ends.
pub(super) struct Seller {
    lie: Lie,
    goods: Goods,
    payee: Payee,
    secret: Secret,
    seen: Seen,
    offered: bool,
    /// Who asked and waits for ever: a dropped reply would be an answer of its own.
    unanswered: Vec<Reply>,
    /// Serves the body for as long as the exchange is answered.
    _dsn: Dsn,
}

impl Seller {
    pub(super) fn new(lie: Lie, goods: Goods, payee: Payee, secret: Secret, seen: Seen, dsn: Dsn) -> Self {
        Self { lie, goods, payee, secret, seen, offered: false, unanswered: Vec::new(), _dsn: dsn }
    }

    pub(super) async fn run(mut self, mut inbound: mpsc::Receiver<Inbound>) {
        while let Some(Inbound { body, reply, .. }) = inbound.recv().await {
            let response = match Request::decode(&body) {
                Ok(request) => self.answer(request),
                Err(_) => Some(Response::Refused { reason: Refusal::Malformed }),
            };
            match response {
                // Who asked and went away asks again.
                Some(response) => drop(reply.send(response.to_vec())),
                None => self.keep_waiting(reply),
            }
        }
    }

    fn keep_waiting(&mut self, reply: Reply) {
        self.unanswered.retain(Reply::is_waited_for);
        self.unanswered.push(reply);
    }

    /// `None` where it says nothing.
    fn answer(&mut self, request: Request) -> Option<Response> {
        if let Request::Receipt { device_key, attempt, .. } = &request {
            self.seen.receipt(*device_key, attempt.get());
        }
        let silent = match self.lie {
            Lie::SilentAfterOffer => self.offered,
            Lie::SilentAfterReceipt => !self.seen.receipts().is_empty(),
            _ => false,
        };
        if silent { None } else { Some(self.say(request)) }
    }

    fn say(&mut self, request: Request) -> Response {
        match request {
            Request::Hello { bounty, .. } if bounty != self.goods.bounty => {
                Response::Refused { reason: Refusal::UnknownBounty }
            }
            Request::Hello { .. } => Response::Challenge {
                c: rand::random(),
                payee: self.payee,
                terms: Terms { window_secs: 20, min_receipts: 1, redeem: Redeem::ReserveReveal },
            },
            Request::Auth { .. } => self.offer(),
            Request::Members { .. } if self.lie == Lie::OfferExpires => {
                Response::Pending { retry_after_ms: AGAIN }
            }
            Request::Members { keys, .. } => {
                Response::Members { entries: keys.iter().map(|key| self.member(key)).collect() }
            }
            Request::Receipt { device_key, .. } => match self.goods.fleet.index_of(&device_key) {
                Ok(Some(index)) => Response::Ack { index },
                _ => Response::Refused { reason: Refusal::NotAMember },
            },
            Request::Seal { .. } => Response::Sealed { receipts: self.receipts() },
            Request::Poll { .. } if self.lie == Lie::KeyThatDoesNotFit => {
                Response::Key { r: fresh(&self.payee) }
            }
            Request::Poll { .. } => Response::Pending { retry_after_ms: AGAIN },
            Request::Copy { .. } => Response::Refused { reason: Refusal::UnknownOffer },
        }
    }

    fn offer(&mut self) -> Response {
        self.offered = true;
        let Secret { s, cipher, proof, vk_id } = &self.secret;
        let holds = if self.lie == Lie::OfferExpires { HOLDS_BRIEFLY } else { HOLDS };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        Response::Offer {
            cipher: cipher.clone(),
            s: *s,
            proof: proof.clone(),
            vk_id: *vk_id,
            expires: now + holds,
        }
    }

    fn member(&self, key: &DeviceKey) -> Option<Member> {
        let index = self.goods.fleet.index_of(key).ok()??;
        let path = self.goods.fleet.path(index).ok()?;
        Some(Member { index, path: path.into_iter().map(|node| node.0).collect() })
    }

    fn receipts(&self) -> u32 {
        u32::try_from(self.seen.receipts().len()).unwrap_or(u32::MAX)
    }
}
