//! JSON-RPC errors: the codes of the specification and those of Ethereum (EIP-1474).

use alloy::primitives::Bytes;
use alloy::sol_types::decode_revert_reason;
use serde::Serialize;
use serde_json::Value;

use crate::admission::Rejection;
use crate::error::Error;
use crate::evm::EvmError;

/// What goes out under `error`.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct RpcError {
    code: i64,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Value>,
}

impl RpcError {
    fn new(code: i64, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), data: None }
    }

    pub(crate) fn parse(message: impl std::fmt::Display) -> Self {
        Self::new(-32700, format!("parse error: {message}"))
    }

    pub(crate) fn invalid_request(message: impl Into<String>) -> Self {
        Self::new(-32600, message)
    }

    pub(crate) fn is_invalid_request(&self) -> bool {
        self.code == -32600
    }

    pub(crate) fn method_not_found(method: &str) -> Self {
        Self::new(-32601, format!("the method {method} does not exist/is not available"))
    }

    pub(crate) fn invalid_params(message: impl std::fmt::Display) -> Self {
        Self::new(-32602, format!("invalid params: {message}"))
    }

    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(-32603, message)
    }

    /// Geth's code for what the server will not do.
    pub(crate) fn server(message: impl Into<String>) -> Self {
        Self::new(-32000, message)
    }

    /// EIP-1474: the request exceeds a defined limit.
    pub(crate) fn limit(message: impl Into<String>) -> Self {
        Self::new(-32005, message)
    }

    /// EIP-1474: transaction rejected.
    pub(crate) fn rejected(message: impl Into<String>) -> Self {
        Self::new(-32003, message)
    }

    /// Code 3 with the revert data, as geth answers and alloy decodes.
    pub(crate) fn reverted(output: &Bytes) -> Self {
        let message = match decode_revert_reason(output) {
            Some(reason) => format!("execution reverted: {reason}"),
            None => "execution reverted".into(),
        };
        Self { code: 3, message, data: Some(Value::String(output.to_string())) }
    }
}

impl From<Rejection> for RpcError {
    fn from(rejection: Rejection) -> Self {
        match rejection {
            Rejection::Decode => Self::invalid_params(rejection),
            _ => Self::rejected(rejection.to_string()),
        }
    }
}

impl From<EvmError> for RpcError {
    fn from(error: EvmError) -> Self {
        Rejection::from(error).into()
    }
}

impl From<Error> for RpcError {
    fn from(error: Error) -> Self {
        match error {
            Error::Rejected(rejection) => rejection.into(),
            Error::Listen { .. } | Error::Server(_) => Self::internal(error.to_string()),
            Error::TooManyBlocks { .. } => Self::limit(error.to_string()),
            Error::Reorg(_) | Error::Time(_) | Error::UnknownSnapshot(_) => Self::invalid_params(error),
        }
    }
}
