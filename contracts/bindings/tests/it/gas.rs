//! What a distributor expects of gas is what the contracts take.

use alloy::primitives::U256;
use posthouse_contracts::calls::{self, Call};
use posthouse_contracts::receipts::Batch;
use posthouse_protocol::distributor::Gas;
use posthouse_protocol::id::Curve;

use crate::fixture::{Market, secret};

const PAYEE: usize = 1;

/// Enough, and not much more: a batch must not be thought worth its gas when it is not, nor wait for nothing.
async fn takes(market: &Market, what: &str, call: Call, expected: u64) -> Option<String> {
    let receipt = market.send(PAYEE, call).await;
    assert!(receipt.status(), "{what}");
    let took = receipt.gas_used;
    let fits = took <= expected && expected * 100 <= took * 135;
    (!fits).then(|| format!("{what}: {took} for {expected}"))
}

#[tokio::test]
async fn calls_take_the_gas_that_is_expected_of_them() {
    let mut wrong = Vec::new();
    for curve in [Curve::Secp256k1, Curve::P256] {
        let market = Market::open(curve, 128).await;
        // Each in rows of its own, so that its slots are fresh: alone, a site, and scattered.
        let batches: [Vec<u32>; 3] = [vec![3], (26..46).collect(), vec![51, 77, 102]];
        for (at, indices) in batches.into_iter().enumerate() {
            let t = secret(at as u8 + 7);
            let deal = market.deal(PAYEE, &t);
            let batch = Batch::new(deal, market.receipts(&deal, &indices, 1), market.fleet.tree()).unwrap();
            let gas = Gas::of(&indices, market.fleet.depth(), curve);
            let what = format!("{curve:?} {indices:?}");
            let reserve = calls::reserve(batch, U256::ONE);
            wrong.extend(takes(&market, &format!("reserve {what}"), reserve, gas.reserve).await);
            let reveal = calls::reveal(&market.bounty, &deal.payee, &t, indices);
            wrong.extend(takes(&market, &format!("reveal {what}"), reveal, gas.reveal).await);
        }
        let market = Market::open(curve, 128).await;
        for (at, indices) in [vec![3], (26..46).collect(), vec![51u32, 77, 102]].into_iter().enumerate() {
            let t = secret(at as u8 + 7);
            let deal = market.deal(PAYEE, &t);
            let batch = Batch::new(deal, market.receipts(&deal, &indices, 1), market.fleet.tree()).unwrap();
            let gas = Gas::of(&indices, market.fleet.depth(), curve).claim;
            let what = format!("claim {curve:?} {indices:?}");
            wrong.extend(takes(&market, &what, calls::publish_proofs(batch, &t, U256::ONE), gas).await);
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
