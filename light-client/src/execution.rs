//! Execution: what a verified block commits to, and whether an answer is in it.
//!
//! A [`Block`] is only made from what is proven already: the execution header that a sync committee signed, or a header
//! whose hash a proven block names. All else hangs on its roots: accounts and storage by Merkle proofs (EIP-1186), code by
//! its hash, receipts and transactions by building their tries again. Nothing that an endpoint writes beside that is
//! believed: block and transaction hashes, indices and positions of logs are worked out here.

mod block;
mod error;
mod filter;
mod proof;
mod receipts;
mod transactions;

pub use block::{Block, verify_header};
pub use error::Refused;
pub use filter::Filter;
pub use proof::{Account, verify_account, verify_code, verify_storage};
pub use receipts::{Log, Receipt, Receipts, verify_receipts};
pub use transactions::{Transactions, verify_transactions};
