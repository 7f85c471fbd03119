//! Which sensor may have which update now: the site's rules, and what somebody ordered.

use std::collections::BTreeMap;
use std::time::Duration;

use actix::{
    ActorFutureExt as _, AsyncContext as _, Context, Handler, Message, ResponseActFuture, WrapFuture as _,
};
use posthouse_protocol::gateway::{Admission, Input, SensorView};
use posthouse_protocol::id::{Bounty, DeviceId, DeviceKey};
use posthouse_protocol::sensor::{State, Status, UpdateResult};
use thiserror::Error;

use super::Exchanges;
use crate::campaign::{Hold, Order, Orders};
use crate::store::{SaveFailures, SaveOrder, SensorRow};

/// How often it is looked whether a window has opened or closed: they are of minutes.
const LOOK: Duration = Duration::from_secs(10);

/// Somebody orders something for an update: status → exchanges.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<(), OrderError>")]
pub struct GiveOrder {
    /// Which update.
    pub bounty: Bounty,
    /// For which group; for all if absent.
    pub group: Option<String>,
    /// What.
    pub order: Order,
}

/// Somebody wants a sensor's failures forgotten: status → exchanges.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Result<(), OrderError>")]
pub struct Retry(pub DeviceId);

/// Why an order is not taken.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum OrderError {
    /// No such update.
    #[error("no update with the bounty 0x{0}")]
    Update(Bounty),
    /// No such group.
    #[error("no group {0:?} in the configuration")]
    Group(String),
    /// No such sensor.
    #[error("no sensor {0}")]
    Sensor(DeviceId),
    /// It could not be kept, and is not in force.
    #[error("not kept: {0}")]
    Store(String),
}

/// What lies beside the exchanges.
#[derive(Debug, Default)]
pub(super) struct Campaigns {
    orders: BTreeMap<Bounty, Orders>,
    failures: BTreeMap<(Bounty, DeviceKey), u8>,
    /// As the machines were told last.
    told: BTreeMap<(Bounty, DeviceKey), Admission>,
}

impl Campaigns {
    pub(super) fn restore(&mut self, orders: Vec<SaveOrder>, failures: Vec<SaveFailures>) {
        orders.into_iter().for_each(|kept| self.apply(&kept));
        self.failures = failures.into_iter().map(|kept| ((kept.bounty, kept.device), kept.count)).collect();
    }

    fn apply(&mut self, SaveOrder { bounty, group, order }: &SaveOrder) {
        let orders = self.orders.entry(*bounty).or_default();
        match group {
            None => orders.all = *order,
            Some(group) => drop(orders.groups.insert(group.clone(), *order)),
        }
    }

    pub(super) fn orders(&self, bounty: &Bounty) -> Orders {
        self.orders.get(bounty).cloned().unwrap_or_default()
    }
}

impl Exchanges {
    /// Looks at the clock now and then.
    pub(super) fn watch_windows(ctx: &mut Context<Self>) {
        ctx.run_interval(LOOK, |actor, ctx| {
            let bounties: Vec<Bounty> = actor.follows.keys().copied().collect();
            bounties.into_iter().for_each(|bounty| actor.readmit(bounty, ctx));
        });
    }

    /// Why a sensor does not get an update now.
    pub(super) fn hold(&self, bounty: &Bounty, device: &DeviceKey) -> Option<Hold> {
        let orders = self.campaigns.orders.get(bounty);
        let failures = self.campaigns.failures.get(&(*bounty, *device)).copied().unwrap_or(0);
        let none = Orders::default();
        let id = device.device_id();
        self.site.campaign.hold(bounty, &id, orders.unwrap_or(&none), failures, self.last_now)
    }

    /// A sensor as one exchange is to see it.
    pub(super) fn admit(&mut self, bounty: Bounty, view: SensorView) -> Input {
        let admission = Hold::admission(self.hold(&bounty, &view.device));
        self.campaigns.told.insert((bounty, view.device), admission);
        Input::Sensor(SensorView { admission, ..view })
    }

    /// Tells an exchange of the sensors that may have more or less than a moment ago.
    fn readmit(&mut self, bounty: Bounty, ctx: &mut Context<Self>) {
        let Some(follow) = self.follows.get(&bounty) else { return };
        if follow.machine.state().is_over() {
            return;
        }
        let product = follow.machine.update().product;
        self.now();
        for view in self.registry.of_product(&product) {
            let device = view.device;
            let admission = Hold::admission(self.hold(&bounty, &device));
            if self.campaigns.told.insert((bounty, device), admission) != Some(admission) {
                self.drive(bounty, Input::Admission { device, admission }, ctx);
            }
        }
    }

    /// Counts what a sensor failed at against the newest update that it lacks. A failure is counted when it is first told:
    /// the broker keeps the word, and a sensor says it again.
    pub(super) fn count_failure(&mut self, before: &SensorRow, status: &Status, ctx: &mut Context<Self>) {
        let failed = |state: Option<u8>, result: Option<u8>| {
            state == Some(State::Idle as u8) && result.is_some_and(is_failure)
        };
        let now = (Some(status.state as u8), Some(status.result as u8));
        if !failed(now.0, now.1) || (failed(before.state, before.result) && before.result == now.1) {
            return;
        }
        let wanted = self.of_product(&before.product).into_iter().rev().find(|bounty| {
            self.follows.get(bounty).is_some_and(|follow| {
                !follow.machine.state().is_over() && follow.machine.update().version > status.installed
            })
        });
        let Some(bounty) = wanted else { return };
        let count = self.campaigns.failures.entry((bounty, before.device)).or_insert(0);
        *count = count.saturating_add(1);
        let save = SaveFailures { bounty, device: before.device, count: *count };
        tracing::warn!(device = %before.device.device_id(), %bounty, count = save.count, "a sensor failed");
        // If this is lost, the sensor is tried once more.
        self.peers.store.do_send(save);
        self.readmit(bounty, ctx);
    }

    fn check_order(&self, order: &GiveOrder) -> Result<(), OrderError> {
        if !self.follows.contains_key(&order.bounty) {
            return Err(OrderError::Update(order.bounty));
        }
        match &order.group {
            Some(group) if !self.site.campaign.has_group(group) => Err(OrderError::Group(group.clone())),
            _ => Ok(()),
        }
    }
}

/// LwM2M results that say that something is wrong with the update or the sensor, and not that it was too early.
fn is_failure(result: u8) -> bool {
    [
        UpdateResult::NotEnoughFlash,
        UpdateResult::OutOfMemory,
        UpdateResult::IntegrityFailure,
        UpdateResult::UnsupportedPackage,
        UpdateResult::InvalidUri,
        UpdateResult::UpdateFailed,
        UpdateResult::UnsupportedProtocol,
    ]
    .iter()
    .any(|failure| *failure as u8 == result)
}

impl Handler<GiveOrder> for Exchanges {
    type Result = ResponseActFuture<Self, Result<(), OrderError>>;

    /// Kept first: what was answered holds after a power cut.
    fn handle(&mut self, order: GiveOrder, _: &mut Self::Context) -> Self::Result {
        if let Err(error) = self.check_order(&order) {
            return Box::pin(actix::fut::err(error));
        }
        let GiveOrder { bounty, group, order } = order;
        let save = SaveOrder { bounty, group, order };
        let sent = self.peers.store.send(save.clone());
        Box::pin(sent.into_actor(self).map(move |saved, actor, ctx| {
            match saved {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return Err(OrderError::Store(error.to_string())),
                Err(error) => return Err(OrderError::Store(error.to_string())),
            }
            tracing::info!(%bounty, group = save.group, order = ?save.order, "ordered");
            actor.campaigns.apply(&save);
            actor.readmit(bounty, ctx);
            Ok(())
        }))
    }
}

impl Handler<Retry> for Exchanges {
    type Result = Result<(), OrderError>;

    fn handle(&mut self, Retry(device): Retry, ctx: &mut Self::Context) -> Self::Result {
        let known = self.registry.rows.keys().find(|key| key.device_id() == device).copied();
        let device = known.ok_or(OrderError::Sensor(device))?;
        let mut counted: Vec<Bounty> = Vec::new();
        self.campaigns.failures.retain(|(bounty, of), _| {
            let its_own = *of == device;
            counted.extend(its_own.then_some(*bounty));
            !its_own
        });
        for bounty in counted {
            self.peers.store.do_send(SaveFailures { bounty, device, count: 0 });
            self.readmit(bounty, ctx);
        }
        Ok(())
    }
}
