//! Questions to execution endpoints, each answer proven against a block that is proven already.
//!
//! An endpoint that gives a wrong answer, or none, is passed over for the next one; the error names each with its reason.
//! The two answers that nothing proves are marked: [`Rpc::hints`], for logs that prove themselves, and a transaction that
//! [`Rpc::receipt`] does not find.

mod error;
mod hints;
mod history;
mod node;
mod receipt;
mod state;
mod walk;

use alloy::primitives::B256;
use serde_json::json;

pub use error::{AnswerError, RpcError};
pub use hints::Hints;
pub use receipt::Receipt;

use crate::execution::{Block, verify_header};
use crate::http::{Limits, Pool, Report};
use node::Node;
use walk::Walked;

/// Execution endpoints of one chain, in order of preference. Cheap to clone; clones share what they learn.
#[derive(Debug, Clone)]
pub struct Rpc {
    pool: Pool<Node>,
    walked: Walked,
}

impl Rpc {
    /// Nothing is dialled yet. An endpoint has to give the chain id (EIP-155) before it is asked anything else, so that a
    /// wrong URL is called by its name.
    ///
    /// # Errors
    /// [`RpcError::Url`]: no URL, or one that cannot be used.
    pub fn new(urls: &[String], chain_id: u64, limits: Limits) -> Result<Self, RpcError> {
        let nodes: Result<Vec<_>, _> = urls.iter().map(|url| Node::new(url, chain_id, limits)).collect();
        Ok(Self { pool: Pool::new(nodes?)?, walked: Walked::default() })
    }

    /// Whether all endpoints run on this machine.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.pool.is_local()
    }

    /// How each endpoint has been doing, in order of preference.
    #[must_use]
    pub fn report(&self) -> Vec<Report> {
        self.pool.report()
    }

    /// The block with this hash, which somebody has proven.
    ///
    /// # Errors
    /// [`RpcError::Exhausted`]: no endpoint has its header.
    pub async fn header(&self, hash: B256) -> Result<Block, RpcError> {
        let ask = |node: std::sync::Arc<Node>| async move {
            let header = node.required("eth_getBlockByHash", json!([hash, false])).await?;
            verify_header(hash, &header).map_err(AnswerError::refused("eth_getBlockByHash"))
        };
        Ok(self.pool.first(ask).await?)
    }

    /// Passes a JSON-RPC request on to the first endpoint that answers it by JSON. Nothing of the answer is proven: this is
    /// for sending transactions, and for what a transaction needs.
    ///
    /// # Errors
    /// [`RpcError::Exhausted`].
    pub async fn relay(&self, request: &[u8]) -> Result<Vec<u8>, RpcError> {
        Ok(self.pool.first(|node| async move { node.relay(request.to_vec()).await }).await?)
    }
}
