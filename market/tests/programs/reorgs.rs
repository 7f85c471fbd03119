//! SIGKILL and reorganisations together: a distributor that dies at every step, on a chain that takes back each of its
//! transactions once, is paid for every receipt, once, and shows nothing too soon.
#![cfg(feature = "fault-injection")]

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use alloy::consensus::Transaction as _;
use alloy::primitives::{Address, U256};
use alloy::sol_types::{SolCall as _, SolEvent as _};
use posthouse_contracts::abi::UpdateBounty::{KeyRevealed, publishProofsCall, reserveCall, revealCall};
use posthouse_devchain::{Block, Config, DevChain, Proxy, Reorg};
use posthouse_protocol::exchange::Response;
use serde_json::Value;

use crate::gateway::Gateway;
use crate::world::{Running, SHARE, World, until};

const SIGKILL: i32 = 9;
/// The sensors of a site; the last one is late.
const SENSORS: usize = 4;
/// Blocks behind the head of which the newest is final; the deepest reorganisation drops as many.
const FINALITY: u64 = 5;
const BLOCK: Duration = Duration::from_millis(60);
const D: &str = "d1";

/// Every step that the distributor persists and every transaction that it sends, before and after, in the order in which a
/// sale comes to them.
const POINTS: [&str; 30] = [
    "before-proving",
    "proving",
    "before-offered",
    "offered",
    "before-receipt",
    "receipt",
    "collecting",
    "before-reserving",
    "reserving",
    "before-transaction-reserve",
    "transaction-reserve",
    "signed-reserve",
    "sent-reserve",
    "before-locked",
    "locked",
    "before-transaction-reveal",
    "transaction-reveal",
    "signed-reveal",
    "sent-reveal",
    "before-fate",
    "fate",
    "before-settled",
    "settled",
    "before-claiming",
    "claiming",
    "before-transaction-claim",
    "transaction-claim",
    "signed-claim",
    "sent-claim",
    "read-to",
];

/// What becomes of a dropped block's transactions.
#[derive(Debug, Clone, Copy)]
enum Branch {
    /// Nobody has them any more.
    Without,
    /// They wait in the pools again.
    Pending,
    /// The new branch has them too, in another block.
    Elsewhere,
}

/// Each transaction of the distributor loses its block once, when that is so deep.
struct Shake {
    depth: u64,
    branch: Branch,
    /// Nonces whose blocks were dropped.
    done: BTreeSet<u64>,
}

/// Mines, and shakes.
struct Miner {
    shake: Arc<Mutex<Shake>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Miner {
    fn start(chain: &Arc<DevChain>, of: Address) -> Self {
        chain.set_interval_mining(None);
        chain.set_automine(false);
        let shake = Shake { depth: 0, branch: Branch::Without, done: BTreeSet::new() };
        let (shake, stop) = (Arc::new(Mutex::new(shake)), Arc::new(AtomicBool::new(false)));
        let (chain, plan, end) = (chain.clone(), shake.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            while !end.load(Ordering::Relaxed) {
                std::thread::park_timeout(BLOCK);
                chain.mine();
                plan.lock().unwrap().look(&chain, of);
            }
        });
        Self { shake, stop, thread: Some(thread) }
    }

    fn plan(&self, depth: u64, branch: Branch) {
        *self.shake.lock().unwrap() = Shake { depth, branch, done: BTreeSet::new() };
    }

    fn shaken(&self) -> usize {
        self.shake.lock().unwrap().done.len()
    }
}

impl Drop for Miner {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        drop(self.thread.take().map(JoinHandle::join));
    }
}

impl Shake {
    fn look(&mut self, chain: &DevChain, of: Address) {
        let head = chain.head().number();
        let Some(block) = head.checked_sub(self.depth.wrapping_sub(1)).and_then(|at| chain.block(at)) else {
            return;
        };
        let ours: Vec<_> = block.transactions().iter().filter(|tx| tx.signer() == of).collect();
        if ours.iter().all(|tx| self.done.contains(&tx.nonce())) {
            return;
        }
        self.done.extend(ours.iter().map(|tx| tx.nonce()));
        let mut reorg = Reorg { depth: self.depth, ..Reorg::default() };
        match self.branch {
            Branch::Without => {}
            Branch::Pending => reorg.resubmit = true,
            Branch::Elsewhere => {
                let dropped = (block.number()..=head).filter_map(|at| chain.block(at));
                let all = dropped.flat_map(|block| block.transactions().to_vec());
                reorg.transactions = all.map(|tx| (tx.into_inner(), self.depth - 1)).collect();
            }
        }
        chain.reorg(reorg).unwrap();
    }
}

/// What an endpoint was asked, and how high the chain was then.
type Heard = Arc<Mutex<Vec<(u64, String)>>>;

/// An endpoint that writes down everything that it is told.
fn endpoint(chain: &DevChain, heard: &Heard) -> Proxy {
    let (heads, heard) = (chain.heads(), heard.clone());
    let note = move |method: &str, params: &Value, _: &mut Value| {
        let height = heads.borrow().number;
        heard.lock().unwrap().push((height, format!("{method} {params}")));
    };
    Proxy::start(chain.url(), note).unwrap()
}

/// A transaction of the distributor as the chain has it in the end.
struct Mined {
    block: Arc<Block>,
    call: &'static str,
    input: Vec<u8>,
    /// Wei for its gas.
    cost: U256,
}

fn mined(chain: &DevChain, of: Address, from: u64) -> Vec<Mined> {
    let blocks = (from..=chain.head().number()).filter_map(|at| chain.block(at));
    blocks.flat_map(|block| in_block(&block, of)).collect()
}

fn in_block(block: &Arc<Block>, of: Address) -> Vec<Mined> {
    let mut used = 0;
    let mut mined = Vec::new();
    for (tx, receipt) in block.transactions().iter().zip(block.receipts()) {
        let gas = receipt.cumulative_gas_used() - used;
        used = receipt.cumulative_gas_used();
        if tx.signer() != of {
            continue;
        }
        assert!(receipt.status(), "a transaction reverted");
        let price = tx.effective_gas_price(block.header().base_fee_per_gas);
        let input = tx.input().to_vec();
        let call = match input[..4].try_into().unwrap() {
            reserveCall::SELECTOR => "reserve",
            revealCall::SELECTOR => "reveal",
            publishProofsCall::SELECTOR => "claim",
            other => panic!("another call: {other:?}"),
        };
        mined.push(Mined { block: block.clone(), call, input, cost: U256::from(gas) * U256::from(price) });
    }
    mined
}

/// What was paid in final blocks since this one, by device.
fn paid(chain: &DevChain, from: u64) -> Vec<(u32, U256)> {
    let blocks = (from..=chain.finalized().number()).filter_map(|at| chain.block(at));
    let logs =
        blocks.flat_map(|block| block.receipts().iter().flat_map(|r| r.logs().to_vec()).collect::<Vec<_>>());
    let events = logs.filter_map(|log| KeyRevealed::decode_log(&log).ok());
    events.map(|event| (event.index, event.amount)).collect()
}

/// A distributor that dies at each of some points in turn, and then lives until this is dropped.
struct Mortal {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Option<Running>>>,
}

impl Mortal {
    fn start(deaths: Vec<(Command, String)>, last: Command) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let end = stop.clone();
        let thread = std::thread::spawn(move || {
            for (command, point) in deaths {
                let mut running = Running::start(command);
                until(&point, || running.has_died() || end.load(Ordering::Relaxed));
                if end.load(Ordering::Relaxed) {
                    return None;
                }
                assert_eq!(running.wait().signal(), Some(SIGKILL), "{point}");
            }
            Some(Running::start(last))
        });
        Self { stop, thread: Some(thread) }
    }

    /// Waits until it has died as often as it was to.
    fn lives(mut self) -> Running {
        self.thread.take().unwrap().join().unwrap().unwrap()
    }
}

impl Drop for Mortal {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        drop(self.thread.take().map(JoinHandle::join));
    }
}

struct Stage {
    // The processes end before the chain, and the miner before both.
    miner: Miner,
    world: World,
    seeder: Running,
    published: Value,
    payee: Address,
    heard: Heard,
    _endpoints: [Proxy; 2],
}

impl Stage {
    fn set(sites: usize) -> Self {
        let config = Config { finality_depth: FINALITY, ..Config::default() };
        let mut world = World::with(config, (sites * SENSORS) as u8);
        world.set_up_vendor();
        let heard = Heard::default();
        let endpoints = [endpoint(&world.chain, &heard), endpoint(&world.chain, &heard)];
        world.rpc = endpoints.iter().map(|proxy| proxy.url().to_owned()).collect();
        let image = world.image("image", 2000);
        let published = world.vendor(&["publish", &image]);
        let seeder = world.seed();
        world.write_distributor(D, 1, &seeder);
        let payee = world.chain.accounts()[1].address();
        let miner = Miner::start(&world.chain, payee);
        Self { miner, world, seeder, published, payee, heard, _endpoints: endpoints }
    }

    fn log(&self) -> PathBuf {
        self.world.path("distributor.log")
    }

    fn command(&self) -> Command {
        let log = File::options().create(true).append(true).open(self.log()).unwrap();
        let mut command = self.world.distributor_command(D, &["run"]);
        command.env("RUST_LOG", "debug").stderr(Stdio::from(log));
        command
    }

    fn dying(&self, point: &str) -> (Command, String) {
        let mut command = self.command();
        let point = format!("distributor.{point}");
        command.env("POSTHOUSE_CRASH_AT", &point);
        (command, point)
    }

    /// A sale to one site, with all that is to go wrong.
    async fn sale(&self, site: usize, points: &[&str]) {
        let chain = &self.world.chain;
        let (from, before) = (chain.head().number() + 1, chain.balance(self.payee));
        let first = self.heard.lock().unwrap().len();
        let deaths = points.iter().map(|point| self.dying(point)).collect();
        let distributor = Mortal::start(deaths, self.command());
        let mut gateway = Gateway::of_site(&self.world, &self.seeder, &self.published, site * SENSORS).await;
        let r = self.buy(&mut gateway).await;
        until("all are paid", || paid(chain, from).len() == SENSORS);
        let distributor = tokio::task::spawn_blocking(move || distributor.lives()).await.unwrap();
        let so_far = (site + 1) * SENSORS;
        until("the distributor knows", || {
            let status = self.world.distributor(D, &["status"]);
            let done = status["transactions"].as_array().unwrap().is_empty();
            done && status["bounties"][0]["devices_paid"] == so_far
        });
        drop(distributor);
        gateway.dsn.clone().stop().await;

        let sent = mined(chain, self.payee, from);
        let calls: Vec<&str> = sent.iter().map(|tx| tx.call).collect();
        assert_eq!(calls, ["reserve", "reveal", "claim"], "each once: no gas is paid twice");
        assert_eq!(self.miner.shaken(), 3, "each was taken back once");
        let paid = paid(chain, from);
        let devices: Vec<u32> = paid.iter().map(|(device, _)| *device).collect();
        let site_devices = site * SENSORS..so_far;
        assert_eq!(devices, site_devices.map(|device| device as u32).collect::<Vec<_>>());
        let earned: U256 = paid.iter().map(|(_, amount)| amount).sum();
        assert_eq!(earned, U256::from(SENSORS as u64 * SHARE));
        let gas: U256 = sent.iter().map(|tx| tx.cost).sum();
        assert_eq!(
            chain.balance(self.payee) + gas,
            before + earned,
            "paid for receipts, paying for that gas alone"
        );
        self.check_secrets(&sent, &r, first);
    }

    /// Asks until it has the key and the late receipt is acknowledged; gives `r`, and the chain's height at which it came.
    async fn buy(&self, gateway: &mut Gateway) -> (Vec<u8>, u64) {
        let start = std::time::Instant::now();
        loop {
            let peer = gateway.find().await;
            if let Some(shown) = self.try_to_buy(gateway, peer).await {
                return shown;
            }
            assert!(start.elapsed() < Duration::from_secs(120), "nothing is sold");
            tokio::time::sleep(BLOCK).await;
        }
    }

    async fn try_to_buy(&self, gateway: &mut Gateway, peer: posthouse_dsn::PeerId) -> Option<(Vec<u8>, u64)> {
        let offer = gateway.offer(&self.world, peer).await?;
        for device in 0..SENSORS - 1 {
            let ack = gateway.try_ask(peer, &gateway.receipt(&self.world, &offer, device)).await?;
            assert!(matches!(ack, Response::Ack { .. }), "{ack:?}");
        }
        gateway.try_ask(peer, &gateway.seal(&offer)).await?;
        let Response::Key { r } = gateway.try_ask(peer, &gateway.poll(&offer)).await? else { return None };
        let height = self.world.chain.head().number();
        let late = gateway.try_ask(peer, &gateway.receipt(&self.world, &offer, SENSORS - 1)).await?;
        matches!(late, Response::Ack { .. }).then(|| (r.as_bytes().to_vec(), height))
    }

    /// `t` and `r` stand in nothing that left the program before a final block had the reservation, and in no line of its log.
    fn check_secrets(&self, sent: &[Mined], (r, shown_at): &(Vec<u8>, u64), first: usize) {
        let t = sent[1].input[4..36].to_vec();
        let final_at = sent[0].block.number() + FINALITY;
        assert!(*shown_at >= final_at, "r was given away at {shown_at}, the lock is final from {final_at}");
        let secrets = [hex::encode(&t), hex::encode(r)];
        let has = |text: &str| secrets.iter().any(|secret| text.to_lowercase().contains(secret));
        let heard = self.heard.lock().unwrap();
        let told: Vec<_> = heard[first..].iter().filter(|(_, asked)| has(asked)).collect();
        assert!(!told.is_empty(), "the transaction that reveals goes through the endpoints");
        for (height, asked) in told {
            assert!(*height >= final_at, "at {height}, the lock is final from {final_at}: {asked}");
        }
        let log = fs::read_to_string(self.log()).unwrap();
        assert!(log.contains("DEBUG") && log.contains("sent"), "there is a log");
        assert!(!has(&log), "a secret stands in the log");
    }
}

/// Five sites, reorganisations of depth 1 to 5. Each sale dies at every fifth point, so that all are died at, and each of
/// its transactions, reservation, reveal and claim, loses its block once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_claim_is_paid_once_whatever_dies_and_is_taken_back() {
    const DEPTHS: usize = FINALITY as usize;
    let stage = Stage::set(DEPTHS);
    let branches = [Branch::Without, Branch::Pending, Branch::Elsewhere];
    for depth in 1..=DEPTHS {
        stage.miner.plan(depth as u64, branches[depth % branches.len()]);
        let points: Vec<&str> = POINTS.into_iter().skip(depth - 1).step_by(DEPTHS).collect();
        stage.sale(depth - 1, &points).await;
    }
}
