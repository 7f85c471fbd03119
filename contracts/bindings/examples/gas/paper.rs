//! The paper's Algorithm 1, which lists the devices' keys in storage: `contracts/test/baseline/PaperBounty.sol`.

use alloy::primitives::{Address, B256, U256, keccak256};
use alloy::signers::SignerSync as _;
use alloy::signers::local::PrivateKeySigner;
use alloy::sol_types::{SolCall as _, SolConstructor as _};
use posthouse_contracts::calls::Call;
use posthouse_protocol::secret::{KeyR, PreimageT};
use sha2::{Digest as _, Sha256};

use crate::chains::Chains;
use crate::{Figure, Result, gas};

mod abi {
    #![allow(missing_docs, clippy::too_many_arguments, reason = "generated from the artifact")]
    alloy::sol!(PaperBounty, "../artifacts/baseline/PaperBounty.json");
}
use abi::PaperBounty;

const U_ID: B256 = B256::repeat_byte(2);
const T: PreimageT = PreimageT::new([7; 32]);
/// Wei for each device.
const SHARE: u64 = 1_000_000_000_000;

pub(crate) async fn measure(chains: &mut Chains) -> Result<Vec<Figure>> {
    let hundred = chains.run(publish(100)?).await?;
    let paper = hundred.contract_address.ok_or("no contract was deployed")?;
    let seven_hundred = chains.gas(publish(700)?).await?;
    let redeem = chains.gas(redeem(paper, chains)?).await?;
    Ok(vec![
        gas("paper_publish_1e2", hundred.gas_used),
        gas("paper_publish_700", seven_hundred),
        gas("paper_redeem", redeem),
        Figure { name: "paper_max_n", value: max_n(chains).await?, unit: "devices" },
    ])
}

/// The most devices for which a transaction, with all the gas that it may have, can publish: with one more the
/// contract cannot be deployed.
async fn max_n(chains: &mut Chains) -> Result<u64> {
    let (mut fits, mut exceeds) = (700, 1_000);
    while exceeds - fits > 1 {
        let size = (fits + exceeds) / 2;
        let published = chains.send(publish(size)?).await?.status();
        *(if published { &mut fits } else { &mut exceeds }) = size;
    }
    Ok(fits)
}

fn device(index: u64) -> Result<PrivateKeySigner> {
    Ok(PrivateKeySigner::from_bytes(&keccak256(format!("device {index}")))?)
}

fn publish(size: u64) -> Result<Call> {
    let constructor = PaperBounty::constructorCall {
        uId: U_ID,
        pId: B256::repeat_byte(3),
        refundAfter: U256::from(30 * 86_400),
        devices: (0..size).map(|index| Ok(device(index)?.address())).collect::<Result<_>>()?,
    };
    let input = [&PaperBounty::BYTECODE[..], &constructor.abi_encode()].concat().into();
    Ok(Call { to: None, value: U256::from(SHARE * size), input })
}

fn redeem(paper: Address, chains: &Chains) -> Result<Call> {
    let device = device(0)?;
    let r = KeyR::derive(&chains.payee(), &T);
    let s = B256::new(r.lock().to_bytes());
    let signed = Sha256::new().chain_update(U_ID).chain_update(s).finalize();
    let signature = device.sign_hash_sync(&B256::from_slice(&signed))?;
    let call = PaperBounty::publishProofCall {
        device: device.address(),
        t: (*T.as_bytes()).into(),
        s,
        payee: Address::from(chains.payee().to_bytes()),
        v: 27 + u8::from(signature.v()),
        signature: [signature.r().into(), signature.s().into()],
        r: (*r.as_bytes()).into(),
    };
    Ok(Call { to: Some(paper), value: U256::ZERO, input: call.abi_encode().into() })
}
