//! The endpoints of a chain as alloy's transport: for what is sent, and for what is believed.
//!
//! alloy's errors quote what an endpoint says, however much that is and whatever is in it. So what an endpoint says against a
//! call is made fit to be shown here, before alloy sees it.

use std::task::{Context, Poll};

use alloy::transports::{TransportError, TransportErrorKind, TransportFut};
use alloy_json_rpc::{RequestPacket, Response, ResponsePacket, ResponsePayload};
use posthouse_light_client::rpc::Rpc;
use posthouse_light_client::words;
use tower_service::Service;

/// Passes requests on to the first endpoint that answers.
#[derive(Clone)]
pub(super) struct Relay(pub(super) Rpc);

impl Relay {
    async fn send(self, request: RequestPacket) -> Result<ResponsePacket, TransportError> {
        let body = serde_json::to_vec(&request).map_err(TransportError::ser_err)?;
        let answer = self.0.relay(&body).await.map_err(TransportErrorKind::custom)?;
        let mut packet = serde_json::from_slice(&answer)
            .map_err(|_| TransportErrorKind::custom_str("the endpoint's answer is no JSON-RPC"))?;
        match &mut packet {
            ResponsePacket::Single(response) => bound(response),
            ResponsePacket::Batch(responses) => responses.iter_mut().for_each(bound),
        }
        Ok(packet)
    }
}

/// What a contract of ours reverts with is an error of a few words; the reason that another one gives may be longer.
const MAX_DATA: usize = 4096;

fn bound(response: &mut Response) {
    if let ResponsePayload::Failure(error) = &mut response.payload {
        error.message = words(&error.message).into();
        error.data.take_if(|data| data.get().len() > MAX_DATA);
    }
}

/// An error of alloy's, without what it quotes of an answer.
pub(super) fn shown(error: &TransportError) -> String {
    match error {
        TransportError::DeserError { .. } => "the answer has another form than what was asked for".into(),
        // Ours, each endpoint's part of it bounded.
        TransportError::Transport(TransportErrorKind::Custom(ours)) => ours.to_string(),
        other => words(&other.to_string()),
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
