//! Looks at the chain at every interval: for new bounties, and for what the machine waits for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use posthouse_contracts::chain::{Health, Latest};
use posthouse_protocol::distributor::Watch;
use posthouse_protocol::id::{Bounty, ProductId};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::config::{Config, Vendor};
use super::engine::Message;
use super::join::{JoinError, Joiner};
use super::market::{Goods, Shelf};
use super::reader::{ReadError, Reader};
use super::store::CampaignRow;
use crate::service::Beat;

/// Longest wait after a bounty could not be joined.
const MAX_BACKOFF: Duration = Duration::from_secs(300);

/// Reads what the machine watches, and tells it when a bounty is over.
pub(super) async fn poll(
    reader: Reader,
    shelf: Shelf,
    engine: mpsc::Sender<Message>,
    every: Duration,
    beat: Beat,
) {
    let mut timer = tokio::time::interval(every);
    timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut poll = Poll { reader, shelf, engine, read_to: BTreeMap::new(), health: None, audit: None };
    while !poll.engine.is_closed() {
        timer.tick().await;
        beat.moved();
        poll.tell_audit().await;
        if let Err(error) = poll.read().await {
            tracing::warn!(%error, "the chain cannot be read");
        }
        poll.tell_health().await;
    }
}

struct Poll {
    reader: Reader,
    shelf: Shelf,
    engine: mpsc::Sender<Message>,
    /// Up to which final block each bounty's events were told. What of that is on disk the goods say.
    read_to: BTreeMap<Bounty, u64>,
    /// What was told last.
    health: Option<Health>,
    audit: Option<posthouse_audit::Health>,
}

impl Poll {
    async fn read(&mut self) -> Result<(), ReadError> {
        let head = self.reader.head().await?;
        let _ = self.engine.send(Message::Head(head)).await;
        // Both before the watches: what nobody waits for then cannot have been paid up to there.
        let (finalized, open) = (self.reader.finalized().await?, self.shelf.all());
        let watches = watches(&self.engine).await;
        for goods in open.iter().filter(|goods| !watches.contains_key(&goods.bounty)) {
            self.has_read(goods.bounty, finalized.number).await;
        }
        for (bounty, watches) in watches {
            // One bounty that cannot be read keeps no other waiting.
            if let Err(error) = self.observe(bounty, watches).await {
                tracing::warn!(%bounty, %error, "a bounty cannot be read");
            }
        }
        for goods in self.shelf.all() {
            // Final, and all payments up to there told: nothing that is ours is still to come, nor can be taken back.
            let told = self.read_to.get(&goods.bounty).is_some_and(|read| *read >= finalized.number);
            if told && finalized.timestamp >= goods.terms.refund_from() {
                self.read_to.remove(&goods.bounty);
                let _ = self.engine.send(Message::Over(goods.bounty)).await;
            }
        }
        Ok(())
    }

    /// How reading fares is for the log and for the status, where it has changed.
    async fn tell_health(&mut self) {
        let health = self.reader.chain.health();
        let before = self.health.as_ref();
        let (alarm, error) =
            (before.and_then(|it| it.alarm.as_deref()), before.and_then(|it| it.last_error.as_deref()));
        let (other_alarm, other_error) =
            (differ(alarm, health.alarm.as_deref()), differ(error, health.last_error.as_deref()));
        if other_alarm {
            match &health.alarm {
                Some(alarm) => tracing::error!(%alarm, "the chain"),
                None => tracing::info!("the chain's alarm is over"),
            }
        }
        if let Some(error) = health.last_error.as_ref().filter(|_| other_error) {
            tracing::warn!(%error, "the light client is not up to date");
        }
        if other_alarm || other_error || before.is_none_or(|before| before.slot != health.slot) {
            let _ = self.engine.send(Message::Health(health.clone())).await;
            self.health = Some(health);
        }
    }

    /// How the audit log fares is for the status.
    async fn tell_audit(&mut self) {
        let health = self.reader.wallet.audit().health();
        if self.audit.as_ref() != Some(&health) {
            let _ = self.engine.send(Message::AuditHealth(health.clone())).await;
            self.audit = Some(health);
        }
    }

    async fn observe(&mut self, bounty: Bounty, watches: Vec<Watch>) -> Result<(), ReadError> {
        let Some(goods) = self.shelf.get(&bounty) else { return Ok(()) };
        let from = self.read_to.get(&bounty).map_or(goods.unread, |read| read + 1);
        let (observations, read) = self.reader.observe(&bounty, watches, from).await?;
        for observation in observations {
            let _ = self.engine.send(Message::Observed(observation)).await;
        }
        if let Some(read) = read {
            self.has_read(bounty, read).await;
        }
        Ok(())
    }

    /// Kept behind the observations, so that what was told is on disk before it is not told again.
    async fn has_read(&mut self, bounty: Bounty, block: u64) {
        let before = self.read_to.insert(bounty, block);
        if before != Some(block) {
            let _ = self.engine.send(Message::ReadTo(bounty, block)).await;
        }
    }
}

async fn watches(engine: &mpsc::Sender<Message>) -> BTreeMap<Bounty, Vec<Watch>> {
    let (ask, answer) = oneshot::channel();
    let _ = engine.send(Message::Watching(ask)).await;
    let mut by_bounty: BTreeMap<Bounty, Vec<Watch>> = BTreeMap::new();
    for watch in answer.await.unwrap_or_default() {
        by_bounty.entry(watch.bounty).or_default().push(watch);
    }
    by_bounty
}

/// Follows the configured products; one bounty of a product is joined at a time.
pub(super) struct Follower {
    pub(super) config: Arc<Config>,
    pub(super) joiner: Joiner,
    pub(super) engine: mpsc::Sender<Message>,
    /// Bounties that were joined, or never will be.
    pub(super) settled: BTreeSet<Bounty>,
    pub(super) beat: Beat,
}

/// A bounty that is being joined, or that waits for another try.
struct Attempt {
    bounty: Bounty,
    task: Option<JoinHandle<Result<Joined, JoinError>>>,
    wait: Duration,
    next: Instant,
}

type Joined = (CampaignRow, Arc<Goods>);

impl Follower {
    pub(super) async fn run(mut self) {
        let mut timer = tokio::time::interval(self.config.chain.poll());
        timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut attempts: BTreeMap<ProductId, Attempt> = BTreeMap::new();
        while !self.engine.is_closed() {
            timer.tick().await;
            self.beat.moved();
            for vendor in self.config.clone().vendors.iter() {
                for product in vendor.products() {
                    self.look(vendor, product, &mut attempts).await;
                }
            }
        }
    }

    async fn look(
        &mut self,
        vendor: &Vendor,
        product: ProductId,
        attempts: &mut BTreeMap<ProductId, Attempt>,
    ) {
        let latest = match self.joiner.chain.latest(vendor.address.0, &product).await {
            Ok(Some(latest)) => latest,
            Ok(None) => return,
            Err(error) => return tracing::warn!(%product, %error, "the factory cannot be read"),
        };
        if let Some(attempt) = attempts.get_mut(&product) {
            self.finish(attempt).await;
        }
        if self.settled.contains(&latest.bounty) {
            return;
        }
        let fresh = || Attempt {
            bounty: latest.bounty,
            task: None,
            wait: self.config.chain.poll(),
            next: Instant::now(),
        };
        let attempt = attempts.entry(product).or_insert_with(fresh);
        if attempt.bounty != latest.bounty && attempt.task.is_none() {
            *attempt = fresh();
        }
        self.begin(attempt, vendor, product, latest);
    }

    fn begin(&self, attempt: &mut Attempt, vendor: &Vendor, product: ProductId, latest: Latest) {
        if attempt.task.is_some() || Instant::now() < attempt.next {
            return;
        }
        let (joiner, vendor) = (self.joiner.clone(), vendor.clone());
        tracing::info!(bounty = %latest.bounty, version = %latest.version, "joining");
        attempt.task = Some(tokio::spawn(async move { joiner.join(&vendor, product, latest).await }));
    }

    /// Takes in what became of a try that has ended.
    async fn finish(&mut self, attempt: &mut Attempt) {
        let Some(task) = attempt.task.take_if(|task| task.is_finished()) else { return };
        let bounty = attempt.bounty;
        match task.await {
            Ok(Ok((row, goods))) => {
                self.settled.insert(bounty);
                let _ = self.engine.send(Message::Joined(Some(Box::new(row)), goods)).await;
            }
            Ok(Err(error)) if error.is_final() => {
                tracing::error!(%bounty, %error, "not joined, and never will be");
                self.settled.insert(bounty);
            }
            Ok(Err(error)) => {
                tracing::warn!(%bounty, %error, "not joined yet");
                attempt.retry();
            }
            Err(error) => {
                tracing::error!(%bounty, %error, "joining died");
                attempt.retry();
            }
        }
    }
}

impl Attempt {
    fn retry(&mut self) {
        self.next = Instant::now() + self.wait;
        self.wait = (self.wait * 2).min(MAX_BACKOFF);
    }
}

/// Whether two troubles differ in more than numbers: ages and slots in the words change all the time.
fn differ(before: Option<&str>, now: Option<&str>) -> bool {
    let words = |text: &str| text.chars().filter(|c| !c.is_ascii_digit()).collect::<String>();
    before.map(words) != now.map(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_no_news_and_another_trouble_is() {
        let old = Some("no block is final since slot 5, 3601 s ago");
        assert!(!differ(old, Some("no block is final since slot 5, 13601 s ago")));
        assert!(differ(old, Some("the clock is before the network's genesis")));
        assert!(differ(old, None) && differ(None, old) && !differ(None, None));
    }
}
