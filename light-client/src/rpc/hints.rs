//! Logs as one endpoint tells them: not proven, and perhaps not all.

use std::sync::Arc;

use alloy::rpc::types::Log;
use serde_json::json;

use super::node::Node;
use super::{AnswerError, Rpc, RpcError};
use crate::execution::Filter;

/// Blocks asked for in one `eth_getLogs`: public endpoints refuse many more.
const SPAN: u64 = 5_000;

/// What one endpoint says. Only for logs that prove themselves, as a key does that opens its lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hints {
    /// Which endpoint: for [`Rpc::blame`], and to be skipped when it is found to hide a log.
    pub endpoint: usize,
    /// The logs. Address, topics and block number fit the question; no more is checked.
    pub logs: Vec<Log>,
}

impl Rpc {
    /// Logs in the blocks `from..=to`, as told by the first endpoint that answers and is not in `skip`. `None` when no
    /// endpoint is left that is not skipped.
    ///
    /// When a proof shows that a log exists which is not among them, the endpoint hides it: [`blame`](Self::blame) it, add
    /// it to `skip`, and ask again.
    ///
    /// # Errors
    /// [`RpcError::Exhausted`].
    pub async fn hints(
        &self,
        filter: &Filter,
        from: u64,
        to: u64,
        skip: &[usize],
    ) -> Result<Option<Hints>, RpcError> {
        let ask = |node: Arc<Node>| async move {
            let mut logs = Vec::new();
            let mut begin = from;
            while begin <= to {
                let end = to.min(begin.saturating_add(SPAN - 1));
                logs.extend(span(&node, filter, begin, end).await?);
                if logs.len() > RpcError::MAX_LOGS {
                    return Err(AnswerError::TooManyLogs);
                }
                let Some(next) = end.checked_add(1) else { break };
                begin = next;
            }
            Ok(logs)
        };
        let pieces = to.saturating_sub(from) / SPAN + 1;
        match self.pool.first_except(skip, pieces, ask).await {
            Ok((endpoint, logs)) => Ok(Some(Hints { endpoint, logs })),
            Err(failures) if failures.0.is_empty() => Ok(None),
            Err(failures) => Err(failures.into()),
        }
    }

    /// Remembers that an endpoint was caught, with the reason for the status; the others are asked before it for a while.
    pub fn blame(&self, endpoint: usize, why: &dyn std::fmt::Display) {
        self.pool.blame(endpoint, why);
    }
}

async fn span(node: &Node, filter: &Filter, from: u64, to: u64) -> Result<Vec<Log>, AnswerError> {
    let hex = |number: u64| format!("{number:#x}");
    let question = json!([{
        "address": filter.address, "topics": topics(filter), "fromBlock": hex(from), "toBlock": hex(to),
    }]);
    let logs: Vec<Log> = node.required("eth_getLogs", question).await?;
    let asked = |log: &Log| {
        !log.removed
            && filter.matches(&log.inner)
            && log.block_number.is_some_and(|it| (from..=to).contains(&it))
    };
    match logs.iter().find(|log| !asked(log)) {
        Some(log) => Err(AnswerError::Unasked { address: log.address(), block: log.block_number }),
        None => Ok(logs),
    }
}

/// The topics up to the last that is given: some endpoints refuse nulls at the end.
fn topics(filter: &Filter) -> &[Option<alloy::primitives::B256>] {
    let given = filter.topics.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
    &filter.topics[..given]
}
