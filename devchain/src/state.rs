//! The accounts at one point of the chain, as the EVM reads them and as headers commit to them.

use alloy::consensus::constants::KECCAK_EMPTY;
use alloy::primitives::{Address, B256, Bytes, U256, keccak256};
use alloy_trie::TrieAccount;
use revm::bytecode::Bytecode;
use revm::primitives::StorageKey;
use revm::state::{Account as Touched, AccountInfo, EvmState};

use crate::trie::{Trie, Value};

/// One account with its code and storage.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    pub(crate) nonce: u64,
    pub(crate) balance: U256,
    pub(crate) code_hash: B256,
    pub(crate) code: Bytecode,
    storage: Trie<U256>,
}

/// All accounts. A copy costs one reference count, see [`crate::trie`].
#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    accounts: Trie<Account>,
}

/// The parts of an EIP-1186 answer.
pub(crate) struct AccountProof {
    pub(crate) account: TrieAccount,
    pub(crate) nodes: Vec<Bytes>,
    pub(crate) slots: Vec<(U256, Vec<Bytes>)>,
}

impl Value for U256 {
    fn rlp(&self) -> Vec<u8> {
        alloy::rlp::encode(self)
    }
}

impl Value for Account {
    fn rlp(&self) -> Vec<u8> {
        alloy::rlp::encode(self.committed())
    }
}

impl Default for Account {
    fn default() -> Self {
        Self {
            nonce: 0,
            balance: U256::ZERO,
            code_hash: KECCAK_EMPTY,
            code: Bytecode::default(),
            storage: Trie::default(),
        }
    }
}

impl Account {
    fn committed(&self) -> TrieAccount {
        TrieAccount::new(self.nonce, self.balance, self.storage.root(), self.code_hash)
    }

    pub(crate) fn info(&self) -> AccountInfo {
        AccountInfo {
            balance: self.balance,
            nonce: self.nonce,
            code_hash: self.code_hash,
            account_id: None,
            code: Some(self.code.clone()),
        }
    }

    fn storage(&self, slot: U256) -> U256 {
        self.storage.get(&hashed(slot)).copied().unwrap_or_default()
    }

    fn set_info(&mut self, info: &AccountInfo) {
        self.nonce = info.nonce;
        self.balance = info.balance;
        self.code_hash = info.code_hash;
        if let Some(code) = &info.code {
            self.code = code.clone();
        }
    }

    fn set_storage(&mut self, slot: StorageKey, value: U256) {
        if value.is_zero() {
            self.storage.remove(&hashed(slot));
        } else {
            self.storage.insert(&hashed(slot), value);
        }
    }
}

impl State {
    pub(crate) fn account(&self, address: Address) -> Option<&Account> {
        self.accounts.get(&keccak256(address))
    }

    pub(crate) fn nonce(&self, address: Address) -> u64 {
        self.account(address).map_or(0, |account| account.nonce)
    }

    pub(crate) fn balance(&self, address: Address) -> U256 {
        self.account(address).map_or(U256::ZERO, |account| account.balance)
    }

    pub(crate) fn code(&self, address: Address) -> Bytes {
        self.account(address).map_or_else(Bytes::new, |account| account.code.original_bytes())
    }

    pub(crate) fn storage(&self, address: Address, slot: U256) -> U256 {
        self.account(address).map_or(U256::ZERO, |account| account.storage(slot))
    }

    pub(crate) fn root(&self) -> B256 {
        self.accounts.root()
    }

    pub(crate) fn set_balance(&mut self, address: Address, balance: U256) {
        let mut account = self.account(address).cloned().unwrap_or_default();
        account.balance = balance;
        self.put(address, account);
    }

    pub(crate) fn set_code(&mut self, address: Address, code: Bytes) {
        let mut account = self.account(address).cloned().unwrap_or_default();
        account.code_hash = keccak256(&code);
        account.code = Bytecode::new_legacy(code);
        self.put(address, account);
    }

    pub(crate) fn prove(&self, address: Address, slots: &[U256]) -> AccountProof {
        let account = self.account(address).cloned().unwrap_or_default();
        AccountProof {
            account: account.committed(),
            nodes: self.accounts.prove(&keccak256(address)),
            slots: slots
                .iter()
                .map(|slot| (account.storage(*slot), account.storage.prove(&hashed(*slot))))
                .collect(),
        }
    }

    /// Takes over what one transaction changed.
    pub(crate) fn apply(&mut self, changes: &EvmState) {
        for (address, touched) in changes {
            if touched.is_touched() {
                self.apply_account(*address, touched);
            }
        }
    }

    fn apply_account(&mut self, address: Address, touched: &Touched) {
        // EIP-6780: an account is destroyed only in the transaction that created it.
        if touched.is_selfdestructed() {
            self.accounts.remove(&keccak256(address));
            return;
        }
        let mut account = self.account(address).cloned().unwrap_or_default();
        if touched.is_created() {
            account.storage = Trie::default();
        }
        account.set_info(&touched.info);
        for (slot, value) in touched.changed_storage_slots() {
            account.set_storage(*slot, value.present_value());
        }
        self.put(address, account);
    }

    /// EIP-161: an account that is empty does not exist.
    fn put(&mut self, address: Address, account: Account) {
        let key = keccak256(address);
        if account.nonce == 0 && account.balance.is_zero() && account.code_hash == KECCAK_EMPTY {
            self.accounts.remove(&key);
        } else {
            self.accounts.insert(&key, account);
        }
    }
}

fn hashed(slot: U256) -> B256 {
    keccak256(slot.to_be_bytes::<32>())
}
