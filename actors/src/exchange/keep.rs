//! What is kept of sensors together: their rows and their failures, in one transaction a second.

use std::collections::BTreeSet;
use std::time::Duration;

use actix::{
    ActorFutureExt as _, AsyncContext as _, Context, Handler, Message, ResponseActFuture, WrapFuture as _,
};
use posthouse_protocol::gateway::Input;
use posthouse_protocol::id::{Bounty, DeviceKey};
use thiserror::Error;

use super::Exchanges;
use crate::store::{SaveFailures, SaveSensors};

/// Rows of sensors are kept together that come within this: each transaction waits for the disk.
const GATHER: Duration = Duration::from_secs(1);

/// Of what the next transaction writes the newest.
#[derive(Default)]
pub(super) struct Unsaved {
    rows: BTreeSet<DeviceKey>,
    failures: BTreeSet<(Bounty, DeviceKey)>,
    /// Whether the transaction is due.
    due: bool,
    /// Rows of which the last transaction was refused.
    refused: usize,
}

impl Exchanges {
    /// Has a sensor's row kept, with those of all that speak within [`GATHER`]. If it is lost before, the sensor says it again.
    pub(super) fn save_sensor(&mut self, device: DeviceKey, ctx: &mut Context<Self>) {
        self.unsaved.rows.insert(device);
        self.save_soon(ctx);
    }

    /// Has a failure kept, and in the same transaction the row that tells it from one that is said again.
    pub(super) fn save_failure(&mut self, bounty: Bounty, device: DeviceKey, ctx: &mut Context<Self>) {
        self.unsaved.failures.insert((bounty, device));
        self.save_sensor(device, ctx);
    }

    fn save_soon(&mut self, ctx: &mut Context<Self>) {
        if !std::mem::replace(&mut self.unsaved.due, true) {
            ctx.run_later(GATHER, |actor, ctx| {
                let saved = actor.save_unsaved();
                ctx.spawn(saved);
            });
        }
    }

    /// Writes all that waits, and all before it: the store does one thing after the other. What it does not take waits again.
    fn save_unsaved(&mut self) -> ResponseActFuture<Self, ()> {
        let Unsaved { rows, failures, .. } = std::mem::take(&mut self.unsaved);
        let count = |(bounty, device): &(Bounty, DeviceKey)| {
            let count = self.campaigns.failures.get(&(*bounty, *device)).copied().unwrap_or(0);
            SaveFailures { bounty: *bounty, device: *device, count }
        };
        let save = SaveSensors {
            sensors: rows.iter().filter_map(|device| self.registry.rows.get(device).cloned()).collect(),
            failures: failures.iter().map(count).collect(),
        };
        let saved = self.peers.store.send(save).into_actor(self);
        Box::pin(saved.map(move |saved, actor: &mut Self, ctx: &mut Context<Self>| {
            let why = match saved {
                Ok(Ok(())) => return,
                Ok(Err(why)) => why.to_string(),
                Err(why) => why.to_string(),
            };
            tracing::error!(sensors = rows.len(), why, "not kept, tried again");
            actor.unsaved.rows.extend(rows);
            actor.unsaved.failures.extend(failures);
            actor.unsaved.refused = actor.unsaved.rows.len();
            actor.save_soon(ctx);
        }))
    }
}

/// Everything that waits is to be written; the answer comes when it is, or the store has refused it: gateway → exchanges, before the end.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Result<(), NotKept>")]
pub struct Flush;

/// What so many sensors said last is not kept; the log says why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the store refused what {0} sensors said")]
pub struct NotKept(pub usize);

impl Handler<Flush> for Exchanges {
    type Result = ResponseActFuture<Self, Result<(), NotKept>>;

    fn handle(&mut self, _: Flush, ctx: &mut Self::Context) -> Self::Result {
        let undecided = self.follows.iter().filter(|(_, follow)| follow.undecided);
        let undecided: Vec<Bounty> = undecided.map(|(bounty, _)| *bounty).collect();
        undecided.into_iter().for_each(|bounty| self.drive(bounty, Input::Tick, ctx));
        // One that was under way before may have been refused as well, and its rows wait again.
        Box::pin(self.save_unsaved().map(|(), actor, _| match actor.unsaved.refused {
            0 => Ok(()),
            sensors => Err(NotKept(sensors)),
        }))
    }
}
