//! Waking, sleeping, rebooting.

use std::sync::Arc;
use std::time::Duration;

use posthouse_protocol::key::SigningKey;
use serde_json::json;
use thiserror::Error;

use super::Ending;
use super::coap::Coap;
use super::config::{Carrier, Settings};
use super::mqtt::Mqtt;
use super::node::{BoardError, Node, StopReason};
use super::tally::Tally;
use crate::device::Flow;

/// Why a wake was cut short.
#[derive(Debug, Error)]
pub(super) enum WakeError {
    /// The gateway could not be reached; the next wake may.
    #[error("{0}")]
    Link(String),
    /// The board failed.
    #[error(transparent)]
    Board(#[from] BoardError),
}

/// The way to the gateway.
enum Link {
    Mqtt(Mqtt),
    Coap(Coap),
}

impl Link {
    fn new(settings: &Settings) -> Self {
        match settings.carrier {
            Carrier::Mqtt => Self::Mqtt(Mqtt::new(settings)),
            Carrier::Coap => Self::Coap(Coap::new(settings)),
        }
    }

    async fn wake(&mut self, node: &mut Node) -> Result<Flow, WakeError> {
        match self {
            Self::Mqtt(mqtt) => mqtt.wake(node).await,
            Self::Coap(coap) => coap.wake(node).await,
        }
    }
}

/// How a power-up ended.
enum End {
    Reboot,
    Done,
}

/// Lives until the ending, or until the board fails.
pub(super) async fn live(
    settings: Settings,
    key: SigningKey,
    ending: Ending,
    tally: Arc<Tally>,
) -> StopReason {
    let mut link = Link::new(&settings);
    loop {
        match power_up(&settings, &key, ending, &mut link, &tally).await {
            Ok(End::Reboot) => {}
            Ok(End::Done) => return StopReason::Done,
            Err(error) => return StopReason::Failed(error),
        }
    }
}

/// From power-up to reboot or the end.
async fn power_up(
    settings: &Settings,
    key: &SigningKey,
    ending: Ending,
    link: &mut Link,
    tally: &Arc<Tally>,
) -> Result<End, BoardError> {
    let mut node = Node::power_up(settings, key, Arc::clone(tally))?;
    loop {
        node.wakes();
        let told = match link.wake(&mut node).await {
            Ok(Flow::Reboot) => return Ok(End::Reboot),
            Ok(Flow::Continue) => true,
            Err(WakeError::Link(error)) => {
                node.drop_outbox();
                tally.unreachable.add(1);
                node.report("unreachable", json!({ "error": error }));
                false
            }
            Err(WakeError::Board(error)) => return Err(error),
        };
        let status = node.status();
        let reached = ending.until.is_some_and(|until| status.installed >= until);
        if ending.once || (told && reached) {
            return Ok(End::Done);
        }
        tokio::time::sleep(Duration::from_millis(settings.wake_ms)).await;
    }
}
