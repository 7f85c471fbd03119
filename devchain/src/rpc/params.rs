//! Positional parameters.

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::rpc::error::RpcError;

/// The parameters of one call. An object counts as the only one.
pub(crate) struct Params(Vec<Value>);

impl Params {
    pub(crate) fn new(params: Option<Value>) -> Result<Self, RpcError> {
        match params {
            None | Some(Value::Null) => Ok(Self(Vec::new())),
            Some(Value::Array(params)) => Ok(Self(params)),
            Some(object @ Value::Object(_)) => Ok(Self(vec![object])),
            Some(_) => Err(RpcError::invalid_params("not an array")),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The parameter at `index`, which must be there.
    pub(crate) fn required<T: DeserializeOwned>(&mut self, index: usize, name: &str) -> Result<T, RpcError> {
        self.optional(index, name)?.ok_or_else(|| {
            RpcError::invalid_params(format!("missing value for required argument {index} ({name})"))
        })
    }

    /// The parameter at `index`, if it is there and not null. It can be taken once.
    pub(crate) fn optional<T: DeserializeOwned>(
        &mut self,
        index: usize,
        name: &str,
    ) -> Result<Option<T>, RpcError> {
        let Some(value) = self.0.get_mut(index).map(Value::take) else { return Ok(None) };
        serde_json::from_value(value)
            .map_err(|error| RpcError::invalid_params(format!("argument {index} ({name}): {error}")))
    }
}
