//! One execution endpoint.

use std::sync::atomic::{AtomicBool, Ordering};

use alloy::primitives::Bytes;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::sync::OnceCell;
use tokio::time::Instant;

use super::AnswerError;
use crate::execution::Block;
use crate::http::{Endpoint, HttpError, Limits, UrlError};
use crate::jsonrpc::{self, Call, Complaint, Malformed, Reply};
use crate::spec::complaint;
use crate::words;

/// JSON-RPC: "method not found" (specification §5.1).
const NO_METHOD: i64 = -32601;

/// An endpoint that speaks JSON-RPC, and whether it has been found to serve the chain.
#[derive(Debug)]
pub(super) struct Node {
    endpoint: Endpoint,
    chain_id: u64,
    checked: OnceCell<()>,
    /// Set for good once it has refused a batch; then it is asked one call at a time.
    no_batches: AtomicBool,
}

impl Node {
    pub(super) fn new(url: &str, chain_id: u64, limits: Limits) -> Result<Self, UrlError> {
        let endpoint = Endpoint::new(url, limits)?;
        Ok(Self { endpoint, chain_id, checked: OnceCell::new(), no_batches: AtomicBool::new(false) })
    }

    /// The answer, which may be `null`.
    pub(super) async fn ask<T: DeserializeOwned>(
        &self,
        method: &'static str,
        params: Value,
    ) -> Result<Option<T>, AnswerError> {
        self.check_chain().await?;
        read(method, self.single(Call { method, params }).await?)
    }

    /// An answer that must not be `null`.
    pub(super) async fn required<T: DeserializeOwned>(
        &self,
        method: &'static str,
        params: Value,
    ) -> Result<T, AnswerError> {
        self.ask(method, params).await?.ok_or(AnswerError::Missing { method })
    }

    /// Asks about a block by its hash, and where the endpoint does not take that, by its number. Which block it then
    /// speaks of is for the proof to show.
    pub(super) async fn at_block<T: DeserializeOwned>(
        &self,
        method: &'static str,
        block: &Block,
        params: impl Fn(Value) -> Value,
    ) -> Result<T, AnswerError> {
        // EIP-1898. geth takes the bare hash as well, but not all do, and for eth_getProof none has to.
        let by_hash = params(json!({ "blockHash": block.hash }));
        match self.required(method, by_hash).await {
            Err(error) if error.is_complaint() && !is_unknown_method(&error) => {
                self.required(method, params(json!(format!("{:#x}", block.number)))).await
            }
            outcome => outcome,
        }
    }

    /// Several calls of one method, in one request where the endpoint takes batches. Where it does not they are asked one by
    /// one, for as long as one request may take; then there are fewer replies than calls, but for the first one at least.
    pub(super) async fn batch(
        &self,
        method: &'static str,
        params: Vec<Value>,
    ) -> Result<Vec<Reply>, AnswerError> {
        self.check_chain().await?;
        let calls: Vec<_> = params.into_iter().map(|params| Call { method, params }).collect();
        if calls.len() > 1 && !self.no_batches.load(Ordering::Relaxed) {
            match self.try_batch(method, &calls).await {
                Err(error) if refuses_batches(&error) => self.no_batches.store(true, Ordering::Relaxed),
                outcome => return outcome,
            }
        }
        let (begun, mut replies) = (Instant::now(), Vec::with_capacity(calls.len()));
        for call in calls {
            replies.push(self.single(call).await?);
            if begun.elapsed() >= self.endpoint.limits().timeout {
                break;
            }
        }
        Ok(replies)
    }

    /// A request of somebody else's, answered by somebody else's words: JSON is all that is checked.
    pub(super) async fn relay(&self, request: Vec<u8>) -> Result<Vec<u8>, AnswerError> {
        self.check_chain().await?;
        let body = self.endpoint.post_json(request).await?.body;
        serde_json::from_slice::<&RawValue>(&body).map_err(|error| HttpError::not_json(&error))?;
        Ok(body)
    }

    /// Hands a signed transaction over. An endpoint that has it already is content.
    pub(super) async fn send(&self, raw: &Bytes) -> Result<(), AnswerError> {
        let sent = self.required::<IgnoredAny>("eth_sendRawTransaction", json!([raw])).await;
        match sent {
            Err(AnswerError::Complaint { complaint, .. }) if is_known_already(&complaint) => Ok(()),
            outcome => outcome.map(drop),
        }
    }

    async fn try_batch(&self, method: &'static str, calls: &[Call]) -> Result<Vec<Reply>, AnswerError> {
        let body = self.endpoint.post_json(jsonrpc::batch(calls)).await?.body;
        jsonrpc::read_batch(&body, calls.len()).map_err(|why| AnswerError::Malformed { method, why })
    }

    async fn single(&self, call: Call) -> Result<Reply, AnswerError> {
        let method = call.method;
        let body = self.endpoint.post_json(jsonrpc::single(&call)).await?.body;
        jsonrpc::read_single(&body).map_err(|why| AnswerError::Malformed { method, why })
    }

    async fn check_chain(&self) -> Result<(), AnswerError> {
        self.checked.get_or_try_init(|| self.ask_chain()).await.copied()
    }

    async fn ask_chain(&self) -> Result<(), AnswerError> {
        let method = "eth_chainId";
        let reply = self.single(Call { method, params: json!([]) }).await?;
        let got: String = read(method, reply)?.ok_or(AnswerError::Missing { method })?;
        if got == format!("{:#x}", self.chain_id) {
            return Ok(());
        }
        Err(AnswerError::OtherChain { expected: self.chain_id, got: words(&got).chars().take(40).collect() })
    }
}

impl AsRef<Endpoint> for Node {
    fn as_ref(&self) -> &Endpoint {
        &self.endpoint
    }
}

/// The value of a reply; `None` where it is `null`.
pub(super) fn read<T: DeserializeOwned>(
    method: &'static str,
    reply: Reply,
) -> Result<Option<T>, AnswerError> {
    let result = reply.map_err(|complaint| AnswerError::Complaint { method, complaint })?;
    serde_json::from_str(result.get()).map_err(|error| AnswerError::Form { method, why: complaint(&error) })
}

fn is_unknown_method(error: &AnswerError) -> bool {
    matches!(error, AnswerError::Complaint { complaint: Complaint { code: NO_METHOD, .. }, .. })
}

/// As geth, reth, Nethermind, Besu and Erigon, OpenEthereum and anvil put it.
fn is_known_already(complaint: &Complaint) -> bool {
    let words = complaint.message.to_ascii_lowercase();
    ["already known", "alreadyknown", "known transaction", "already imported"]
        .iter()
        .any(|known| words.contains(known))
}

/// One error in place of a list, or a status by which gateways refuse a body that they do not like.
fn refuses_batches(error: &AnswerError) -> bool {
    matches!(
        error,
        AnswerError::Malformed { why: Malformed::Batch(_), .. }
            | AnswerError::Http(HttpError::Status(400 | 405 | 413 | 415 | 422 | 501))
    )
}
