//! Which sensor may have which update now: the site's rules, and what somebody ordered.

use std::collections::BTreeMap;
use std::time::Duration;

use actix::{
    ActorFutureExt as _, AsyncContext as _, Context, Handler, MailboxError, Message, ResponseActFuture,
    WrapFuture as _,
};
use posthouse_protocol::gateway::{Admission, Input, SensorView};
use posthouse_protocol::id::{Bounty, DeviceId, DeviceKey};
use posthouse_protocol::sensor::{Status, UpdateResult};
use thiserror::Error;

use super::Exchanges;
use crate::campaign::{Campaign, Hold, Order, Orders};
use crate::store::{SaveFailures, SaveOrder, SensorRow, StoreError};

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
    /// Who gives it, as the audit log names them.
    pub who: String,
}

/// Somebody wants a sensor's failures forgotten: status → exchanges.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<(), OrderError>")]
pub struct Retry {
    /// Which sensor.
    pub device: DeviceId,
    /// Who wants it, as the audit log names them.
    pub who: String,
}

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
    pub(super) failures: BTreeMap<(Bounty, DeviceKey), u8>,
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
            Some(group) if *order == Order::Resume => drop(orders.groups.remove(group)),
            Some(group) => drop(orders.groups.insert(group.clone(), *order)),
        }
    }

    /// Drops what there is of an update.
    pub(super) fn forget(&mut self, bounty: &Bounty) {
        self.orders.remove(bounty);
        self.failures.retain(|(of, _), _| of != bounty);
        self.told.retain(|(of, _), _| of != bounty);
    }

    pub(super) fn orders(&self, bounty: &Bounty) -> Orders {
        self.orders.get(bounty).cloned().unwrap_or_default()
    }

    /// Says which orders are of no effect, as the configuration has no such group any more.
    pub(super) fn tell_idle(&self, campaign: &Campaign) {
        for (bounty, orders) in &self.orders {
            for (group, order) in orders.without_group(campaign) {
                tracing::warn!(%bounty, group, %order, "of no effect: campaign.groups has no such group any more");
            }
        }
    }
}

impl Exchanges {
    /// Looks at the clock now and then.
    pub(super) fn watch_windows(ctx: &mut Context<Self>) {
        ctx.run_interval(LOOK, Self::readmit_all);
    }

    fn readmit_all(&mut self, ctx: &mut Context<Self>) {
        let bounties: Vec<Bounty> = self.follows.keys().copied().collect();
        bounties.into_iter().for_each(|bounty| self.readmit(bounty, ctx));
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
        if self.follows.get(&bounty).is_some_and(|follow| !follow.machine.state().is_over()) {
            self.campaigns.told.insert((bounty, view.device), admission);
        }
        Input::Sensor(SensorView { admission, ..view })
    }

    /// Tells an exchange of the sensors that may have more or less than a moment ago.
    fn readmit(&mut self, bounty: Bounty, ctx: &mut Context<Self>) {
        let Some(follow) = self.follows.get(&bounty) else { return };
        if follow.machine.state().is_over() {
            self.campaigns.told.retain(|(of, _), _| *of != bounty);
            self.campaigns.failures.retain(|(of, _), _| *of != bounty);
            return;
        }
        let product = follow.machine.update().product;
        self.now();
        let mut changed = Vec::new();
        for view in self.registry.of_product(&product) {
            let admission = Hold::admission(self.hold(&bounty, &view.device));
            if self.campaigns.told.insert((bounty, view.device), admission) != Some(admission) {
                changed.push((view.device, admission));
            }
        }
        if !changed.is_empty() {
            self.drive(bounty, Input::Admissions(changed), ctx);
        }
    }

    /// Counts what a sensor failed at against the newest update that it is offered. A failure is counted when it is first
    /// told, for the broker keeps the word and a sensor says it again.
    pub(super) fn count_failure(&mut self, before: &SensorRow, status: &Status, ctx: &mut Context<Self>) {
        if !is_new_failure(before, status) {
            return;
        }
        let wanted = self.of_product(&before.product).into_iter().rev().find(|bounty| {
            self.follows.get(bounty).is_some_and(|follow| {
                let offered = follow.intents.contains_key(&before.device);
                offered && !follow.machine.state().is_over()
            })
        });
        let Some(bounty) = wanted else { return };
        let count = self.campaigns.failures.entry((bounty, before.device)).or_insert(0);
        *count = count.saturating_add(1);
        tracing::warn!(device = %before.device.device_id(), %bounty, count, "a sensor failed");
        self.save_failure(bounty, before.device, ctx);
        self.readmit(bounty, ctx);
    }

    /// Whether it ends an order that was given to a group, which may be no more.
    fn ends(&self, order: &GiveOrder, group: &str) -> bool {
        let kept = self.campaigns.orders.get(&order.bounty);
        order.order == Order::Resume && kept.is_some_and(|orders| orders.groups.contains_key(group))
    }

    fn check_order(&self, order: &GiveOrder) -> Result<(), OrderError> {
        if !self.follows.contains_key(&order.bounty) {
            return Err(OrderError::Update(order.bounty));
        }
        match &order.group {
            Some(group) if self.site.campaign.has_group(group) || self.ends(order, group) => Ok(()),
            Some(group) => Err(OrderError::Group(group.clone())),
            None => Ok(()),
        }
    }
}

/// A failure that was not told before: another result, or the same one of a sensor that had some of the image and has begun
/// anew. The result stays while it tries again; one that was cut off goes on where it was.
fn is_new_failure(before: &SensorRow, status: &Status) -> bool {
    let result = Some(status.result as u8);
    let begun_anew = status.next == 0 && before.next > Some(0);
    result.is_some_and(is_failure) && (before.result != result || begun_anew)
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

/// What the store says to an order.
fn kept(saved: Result<Result<(), StoreError>, MailboxError>) -> Result<(), OrderError> {
    let why = match saved {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(error)) => error.to_string(),
        Err(error) => error.to_string(),
    };
    Err(OrderError::Store(why))
}

impl Handler<GiveOrder> for Exchanges {
    type Result = ResponseActFuture<Self, Result<(), OrderError>>;

    /// Kept first: what was answered holds after a power cut.
    fn handle(&mut self, order: GiveOrder, _: &mut Self::Context) -> Self::Result {
        let record = order.record();
        if let Err(error) = self.check_order(&order) {
            return Box::pin(actix::fut::ready(self.tell_order(record, Err(error))));
        }
        let GiveOrder { bounty, group, order, who: _ } = order;
        let save = SaveOrder { bounty, group, order };
        let sent = self.peers.store.send(save.clone());
        Box::pin(sent.into_actor(self).map(move |saved, actor, ctx| {
            actor.tell_order(record, kept(saved))?;
            tracing::info!(%bounty, group = save.group, order = ?save.order, "ordered");
            actor.campaigns.apply(&save);
            actor.readmit(bounty, ctx);
            Ok(())
        }))
    }
}

/// Rules that hold from now on.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct SetCampaign(pub Campaign);

impl Handler<SetCampaign> for Exchanges {
    type Result = ();

    fn handle(&mut self, SetCampaign(campaign): SetCampaign, ctx: &mut Self::Context) {
        self.site.campaign = campaign;
        self.campaigns.tell_idle(&self.site.campaign);
        self.readmit_all(ctx);
    }
}

impl Handler<Retry> for Exchanges {
    type Result = ResponseActFuture<Self, Result<(), OrderError>>;

    /// Kept first, as an order is.
    fn handle(&mut self, retry: Retry, _: &mut Self::Context) -> Self::Result {
        let record = retry.record();
        let known = self.registry.rows.keys().find(|key| key.device_id() == retry.device).copied();
        let Some(device) = known else {
            let refused = self.tell_order(record, Err(OrderError::Sensor(retry.device)));
            return Box::pin(actix::fut::ready(refused));
        };
        let counted = self.campaigns.failures.keys().filter(|(_, of)| *of == device);
        let counted: Vec<Bounty> = counted.map(|(bounty, _)| *bounty).collect();
        let store = self.peers.store.clone();
        let forgotten = async move {
            for bounty in &counted {
                kept(store.send(SaveFailures { bounty: *bounty, device, count: 0 }).await)?;
            }
            Ok(counted)
        };
        Box::pin(forgotten.into_actor(self).map(
            move |counted: Result<Vec<Bounty>, OrderError>, actor, ctx| {
                for bounty in actor.tell_order(record, counted)? {
                    actor.campaigns.failures.remove(&(bounty, device));
                    // One that was counted before may have been written after it was forgotten.
                    actor.save_failure(bounty, device, ctx);
                    actor.readmit(bounty, ctx);
                }
                Ok(())
            },
        ))
    }
}

#[cfg(test)]
mod tests {
    use posthouse_protocol::id::{Curve, ProductId, Version};
    use posthouse_protocol::sensor::State;

    use super::*;
    use crate::messages::Carrier;

    /// Tells the words one after the other, each twice, as the broker does; how many failures they are.
    fn failures(words: &[(State, UpdateResult, u32)]) -> usize {
        let mut row = SensorRow {
            device: DeviceKey::new([2; 33]),
            product: ProductId::new([1; 32]),
            curve: Curve::P256,
            installed: Version::new(1),
            slot: 1 << 20,
            wake: 60,
            carrier: Carrier::Mqtt,
            authenticated: true,
            state: None,
            result: None,
            next: None,
            last_seen: 0,
        };
        let mut count = 0;
        for (state, result, next) in words.iter().flat_map(|word| [*word, *word]) {
            let installed = Version::new(1);
            let status = Status { state, result, installed, next, next_wake: 0, report: None };
            count += usize::from(is_new_failure(&row, &status));
            (row.state, row.result, row.next) = (Some(state as u8), Some(result as u8), Some(next));
        }
        count
    }

    /// What `protocol::device` says when an image is not the manifest's: it is downloading, and has nothing.
    #[test]
    fn each_corrupt_image_counts_once() {
        use State::Downloading;
        use UpdateResult::{Initial, IntegrityFailure};
        let wake = [
            (Downloading, IntegrityFailure, 4096),
            (Downloading, IntegrityFailure, 8192),
            (Downloading, IntegrityFailure, 0),
        ];
        let first =
            [(State::Idle, Initial, 0), (Downloading, Initial, 8192), (Downloading, IntegrityFailure, 0)];
        assert_eq!(failures(&first), 1);
        assert_eq!(failures(&[&first[..], &wake, &wake].concat()), 3);
        // A power cut: it goes on from its last checkpoint.
        let cut = [(Downloading, IntegrityFailure, 8192), (Downloading, IntegrityFailure, 4096)];
        assert_eq!(failures(&[&first[..], &cut].concat()), 1);
    }

    /// An image that does not come up: tried again from the start, then given up.
    #[test]
    fn each_boot_that_failed_counts_once() {
        let told = [
            (State::Updating, UpdateResult::Initial, 9000),
            (State::Downloading, UpdateResult::UpdateFailed, 0),
            (State::Updating, UpdateResult::UpdateFailed, 9000),
            (State::Idle, UpdateResult::UpdateFailed, 0),
        ];
        assert_eq!(failures(&told), 2);
    }

    #[test]
    fn what_is_no_failure_counts_nothing() {
        let told = [
            (State::Downloading, UpdateResult::Initial, 4096),
            (State::Idle, UpdateResult::ConnectionLost, 0),
            (State::Idle, UpdateResult::Deferred, 0),
            (State::Downloading, UpdateResult::Cancelled, 0),
            (State::Idle, UpdateResult::Success, 0),
        ];
        assert_eq!(failures(&told), 0);
    }
}
