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

use std::sync::{Arc, Mutex};

use alloy::primitives::{B256, Bytes};
use serde_json::json;

pub use error::{AnswerError, RpcError};
pub use hints::Hints;
pub use receipt::Receipt;

use crate::execution::{Block, verify_header};
use crate::http::{Limits, Pool, Report};
use crate::jsonrpc;
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
        let ask = |node: Arc<Node>| async move {
            let header = node.required("eth_getBlockByHash", json!([hash, false])).await?;
            verify_header(hash, &header).map_err(AnswerError::refused("eth_getBlockByHash"))
        };
        Ok(self.pool.first(ask).await?)
    }

    /// Passes a JSON-RPC request on to the first endpoint that answers it by JSON. Nothing of the answer is proven: this is
    /// for what a transaction needs. An error that no contract gave, such as a limit on requests, sends the request on to
    /// the next endpoint; where none does better, the last one's error is the answer.
    ///
    /// # Errors
    /// [`RpcError::Exhausted`].
    pub async fn relay(&self, request: &[u8]) -> Result<Vec<u8>, RpcError> {
        let refusal = Mutex::new(None);
        let ask = |node: Arc<Node>| {
            let refusal = &refusal;
            async move {
                let body = node.relay(request.to_vec()).await?;
                let Some(complaint) = jsonrpc::complaint_without_revert(&body) else { return Ok(body) };
                *refusal.lock().expect("nothing panics under it") = Some(body);
                Err(AnswerError::Complaint { method: "relayed request", complaint })
            }
        };
        let answer = self.pool.first(ask).await;
        let refusal = refusal.into_inner().expect("nothing panics under it");
        answer.or_else(|error| refusal.ok_or(error.into()))
    }

    /// Hands a signed transaction to all endpoints at once, so that none of them can keep it from the chain. One that has
    /// it already has taken it.
    ///
    /// # Errors
    /// [`RpcError::Exhausted`]: none took it, with the reason of each.
    pub async fn broadcast(&self, raw: &[u8]) -> Result<(), RpcError> {
        let raw = Bytes::copy_from_slice(raw);
        let send = |node: Arc<Node>| {
            let raw = raw.clone();
            async move { node.send(&raw).await }
        };
        Ok(self.pool.all(send).await?)
    }
}
