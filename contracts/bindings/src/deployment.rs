//! Where the contracts stand: at one address on every chain, which follows from their code.
//!
//! A contract that was made with CREATE2 has an address of its maker, a salt and its own code. The maker here is the one that
//! the whole of Ethereum shares (<https://github.com/Arachnid/deterministic-deployment-proxy>): its own address follows from a
//! transaction that no one has the key of, so that it too is the same on every chain, whoever sent that transaction.
//! The factory makes the two implementations of the bounty, first and second; nothing in their code depends on the chain.

use alloy::primitives::{Address, B256, U256, address, b256, hex, keccak256};

use crate::abi::UpdateFactory;
use crate::calls::Call;

/// A contract, and the hash of the code that has to stand at its address, immutables included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contract {
    /// As the source calls it.
    pub name: &'static str,
    /// The same on every chain.
    pub address: Address,
    /// Keccak-256 of its code.
    pub code_hash: B256,
}

impl Contract {
    /// Whether this is its code.
    pub fn is(&self, code: &[u8]) -> bool {
        keccak256(code) == self.code_hash
    }
}

/// The factory.
pub const FACTORY: Contract = Contract {
    name: "UpdateFactory",
    address: address!("D623cD05F01872A1B30171Ff920700f19d1B225b"),
    code_hash: b256!("2b8d831f899773a19032f082031355c97cc8c0062137cd250a63edc3cebbd612"),
};

/// The bounty for secp256k1 devices.
pub const SECP256K1_BOUNTY: Contract = Contract {
    name: "Secp256k1Bounty",
    address: address!("485B464dE5e0C814C645c6B11De76cE54dF35c4c"),
    code_hash: b256!("ee7d5aeaa9cfa92e63bb9242c00a4d6ac76e84da0afa3587fef6b22be09a77d3"),
};

/// The bounty for P-256 devices.
pub const P256_BOUNTY: Contract = Contract {
    name: "P256Bounty",
    address: address!("7532d5591373CbF0DD7ACA18Ab462Af4b314B835"),
    code_hash: b256!("58e99212df8f0ceee813b4c5b379ebdfa682c9171ecf165292aea143f92caddd"),
};

/// What makes contracts with CREATE2 for everybody. Its calldata is a salt of 32 bytes and the code to run.
pub const DEPLOYER: Contract = Contract {
    name: "the deterministic deployment proxy",
    address: address!("4e59b44847b379578588920cA78FbF26c0B4956C"),
    code_hash: b256!("2fa86add0aed31f33a762c9d88e807c475bd51d0f52bd0955754b2608f7e4989"),
};

/// Who "sent" [`DEPLOYER_TRANSACTION`]: its signature was made up, and the address follows from it. The proxy is the first
/// contract of this account.
pub const DEPLOYER_SENDER: Address = address!("3fab184622dc19b6109349b94811493bf2a45362");

/// Wei that the sender needs: 100,000 gas at 100 gwei, of which the gas that is left over is lost.
pub const DEPLOYER_COST: U256 = U256::from_limbs([10_000_000_000_000_000, 0, 0, 0]);

/// The transaction that puts the proxy on a chain. It names no chain, as those from before EIP-155.
pub const DEPLOYER_TRANSACTION: [u8; 167] = hex!(
    "f8a58085174876e800830186a08080b853"
    "604580600e600039806000f350fe"
    "7fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffe03601600081602082378035828234f58015156039578182fd5b8082525050506014600cf3"
    "1ba02222222222222222222222222222222222222222222222222222222222222222"
    "a02222222222222222222222222222222222222222222222222222222222222222"
);

/// Nothing is gained from another one.
const SALT: B256 = B256::ZERO;

/// Deploys the factory at [`FACTORY`]. Reverts if it is there, or if the proxy is not.
pub fn deploy() -> Call {
    let input = [&SALT[..], &UpdateFactory::BYTECODE[..]].concat().into();
    Call { to: Some(DEPLOYER.address), value: U256::ZERO, input }
}

/// The precompile by which P-256 signatures are verified (EIP-7951).
pub const P256_VERIFY: Address = address!("0000000000000000000000000000000000000100");

/// A signature that [`P256_VERIFY`] answers with 1: digest, r, s, x and y, from RFC 6979, A.2.5, SHA-256 of "sample".
pub const P256_VALID: [u8; 160] = hex!(
    "af2bdbe1aa9b6ec1e2ade1d694f41fc71a831d0268e9891562113d8a62add1bf"
    "efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716"
    "f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8"
    "60fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb6"
    "7903fe1008b8bc99a41ae9e95628bc64f2f1b20c2d7e9f5177a3c294d4462299"
);

#[cfg(test)]
mod tests {
    use alloy::consensus::{Transaction as _, TxEnvelope};
    use alloy::eips::eip2718::Decodable2718 as _;

    use super::*;
    use crate::terms::Implementations;

    /// When the contracts change so do these addresses: the constants above, the example configurations and
    /// `contracts/README.md` then name the new ones.
    #[test]
    fn addresses_follow_from_the_code() {
        let factory = DEPLOYER.address.create2_from_code(SALT, &UpdateFactory::BYTECODE);
        let implementations = Implementations::of(factory);
        let derived = [factory, implementations.secp256k1, implementations.p256];
        assert_eq!([FACTORY, SECP256K1_BOUNTY, P256_BOUNTY].map(|contract| contract.address), derived);
    }

    /// The factory's code has their addresses in it, so its hash is shown where it is deployed: `tests/it/deployment.rs`.
    #[test]
    fn the_bounties_have_the_code_of_the_artifacts() {
        let artifacts = [
            (SECP256K1_BOUNTY, include_str!("../../artifacts/Secp256k1Bounty.json")),
            (P256_BOUNTY, include_str!("../../artifacts/P256Bounty.json")),
        ];
        for (contract, artifact) in artifacts {
            let artifact: serde_json::Value = serde_json::from_str(artifact).unwrap();
            let code = hex::decode(artifact["deployedBytecode"].as_str().unwrap()).unwrap();
            assert_eq!(keccak256(code), contract.code_hash, "{}", contract.name);
        }
    }

    #[test]
    fn whoever_is_told_of_the_factory_is_told_this_address() {
        let told = [
            include_str!("../../README.md"),
            include_str!("../../../packaging/config/posthouse.toml"),
            include_str!("../../../packaging/config/distributor.toml"),
            include_str!("../../../packaging/config/vendor.toml"),
        ];
        let address = FACTORY.address.to_string();
        assert!(told.iter().all(|text| text.contains(&address)), "{address}");
    }

    #[test]
    fn the_proxy_follows_from_its_transaction() {
        let tx = TxEnvelope::decode_2718_exact(&DEPLOYER_TRANSACTION).unwrap();
        let signer = tx.signature().recover_address_from_prehash(&tx.signature_hash()).unwrap();
        assert_eq!((signer, tx.nonce(), tx.chain_id()), (DEPLOYER_SENDER, 0, None));
        assert_eq!(signer.create(0), DEPLOYER.address);
        let cost = U256::from(tx.gas_limit()) * U256::from(tx.max_fee_per_gas());
        assert_eq!(cost, DEPLOYER_COST);
        // Its first 14 bytes return the rest.
        assert!(DEPLOYER.is(&tx.input()[14..]));
    }
}
