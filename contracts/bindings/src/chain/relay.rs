//! The endpoints of a chain as alloy's transport: for what is sent, and for what is believed.

use std::task::{Context, Poll};

use alloy::transports::{TransportError, TransportErrorKind, TransportFut};
use alloy_json_rpc::{RequestPacket, ResponsePacket};
use posthouse_light_client::rpc::Rpc;
use tower_service::Service;

/// Passes requests on to the first endpoint that answers.
#[derive(Clone)]
pub(super) struct Relay(pub(super) Rpc);

impl Relay {
    async fn send(self, request: RequestPacket) -> Result<ResponsePacket, TransportError> {
        let body = serde_json::to_vec(&request).map_err(TransportError::ser_err)?;
        let answer = self.0.relay(&body).await.map_err(TransportErrorKind::custom)?;
        serde_json::from_slice(&answer)
            .map_err(|error| TransportError::deser_err(error, String::from_utf8_lossy(&answer)))
    }
}

impl Service<RequestPacket> for Relay {
    type Response = ResponsePacket;
    type Error = TransportError;
    type Future = TransportFut<'static>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: RequestPacket) -> Self::Future {
        Box::pin(self.clone().send(request))
    }
}
