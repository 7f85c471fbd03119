//! Whether the actors still answer: what feeds the watchdog.

use std::time::Duration;

use actix::{Handler, Message, Recipient};
use futures::future::join_all;

use crate::chain::Chain;
use crate::coap::Coap;
use crate::dsn::Dsn;
use crate::exchange::Exchanges;
use crate::mqtt::Mqtt;
use crate::sensors::Sensors;

/// To an actor: answer when it is your turn.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct Pulse;

macro_rules! answers {
    ($($actor:ty),*) => {$(
        impl Handler<Pulse> for $actor {
            type Result = ();
            fn handle(&mut self, _: Pulse, _: &mut Self::Context) {}
        }
    )*};
}

answers!(Chain, Coap, Dsn, Exchanges, Mqtt, Sensors);

/// The actors that never work for long at one thing, by name. Staging, verifying and the store are not among them: an image may
/// take longer to decrypt, and a burst of sensors longer to write to a slow card, than a watchdog waits.
#[derive(Default)]
pub(crate) struct Pulses(Vec<(&'static str, Recipient<Pulse>)>);

impl Pulses {
    pub(crate) fn add(&mut self, name: &'static str, actor: Recipient<Pulse>) {
        self.0.push((name, actor));
    }

    /// Those that do not answer in time.
    pub(crate) async fn silent(&self, within: Duration) -> Vec<&'static str> {
        let asked = self.0.iter().map(async |(name, actor)| {
            let answered = actor.send(Pulse).timeout(within).await;
            answered.is_err().then_some(*name)
        });
        join_all(asked).await.into_iter().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use actix::{Actor, Context};

    use super::*;

    /// Answers, or holds its thread until it is let go.
    struct Worker(Option<std::sync::mpsc::Receiver<()>>);

    impl Actor for Worker {
        type Context = Context<Self>;
    }

    impl Handler<Pulse> for Worker {
        type Result = ();
        fn handle(&mut self, _: Pulse, _: &mut Self::Context) {
            if let Some(hold) = &self.0 {
                let _let_go = hold.recv();
            }
        }
    }

    #[actix::test]
    async fn who_hangs_is_named_and_nobody_else() {
        let thread = actix::Arbiter::new();
        let (let_go, hold) = std::sync::mpsc::channel();
        let hung = Worker::start_in_arbiter(&thread.handle(), move |_| Worker(Some(hold)));
        let mut pulses = Pulses::default();
        pulses.add("one", Worker(None).start().recipient());
        assert!(pulses.silent(Duration::from_secs(10)).await.is_empty());
        pulses.add("hung", hung.recipient());
        assert_eq!(pulses.silent(Duration::from_millis(50)).await, ["hung"]);
        drop(let_go);
        thread.stop();
    }
}
