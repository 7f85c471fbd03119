//! Shows delivery as it happens, from the chain alone: what the paper calls auditable (4.5). Anybody can.
//!
//! [`reader`] keeps the books, [`view`] shows them. An endpoint that fails is reported and asked again.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use posthouse_contracts::chain::{ChainError, RpcChain};
use posthouse_contracts::terms::TermsError;
use posthouse_light_client::words;
use posthouse_protocol::id::Bounty;
use serde_json::json;

use self::reader::{News, Watcher};
use self::view::Snapshot;
use crate::console;

pub use self::ledger::LedgerError;
pub use self::reader::WatchError;

mod ledger;
mod reader;
mod view;

/// What is wanted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wish {
    /// Lines of JSON.
    pub(super) json: bool,
    /// One snapshot.
    pub(super) once: bool,
    /// Ends when all is claimed or refunded, for good.
    pub(super) until_done: bool,
    /// Shows what happened before as well.
    pub(super) history: bool,
    /// Between two looks.
    pub(super) poll: Duration,
}

/// Watches until it is told to stop, or what was wished for is there.
pub(super) async fn run(chain: RpcChain, bounty: Bounty, wish: Wish) -> anyhow::Result<()> {
    let mut stop = console::stop_signal()?;
    tokio::select! {
        outcome = watch(chain, bounty, wish) => outcome,
        () = stop.recv() => Ok(()),
    }
}

async fn watch(chain: RpcChain, bounty: Bounty, wish: Wish) -> anyhow::Result<()> {
    let mut screen = Screen::new(wish.json);
    let mut watcher = None;
    loop {
        match look(&chain, &bounty, wish, &mut watcher, &mut screen).await {
            Ok(snapshot) => {
                screen.show(&snapshot)?;
                if wish.once || wish.until_done && snapshot.is_done() {
                    return Ok(());
                }
            }
            Err(error) if wish.once || is_hopeless(&error) => return Err(error),
            Err(error) => screen.complain(&error)?,
        }
        tokio::time::sleep(wish.poll).await;
    }
}

/// It is no bounty, and will be none; or nobody reads the output any more. Where there is no code, the endpoint may not be as far.
fn is_hopeless(error: &anyhow::Error) -> bool {
    match error.downcast_ref() {
        Some(ChainError::NotABounty { reason, .. }) => *reason != TermsError::NoCode,
        _ => error.is::<io::Error>(),
    }
}

async fn look(
    chain: &RpcChain,
    bounty: &Bounty,
    wish: Wish,
    watcher: &mut Option<Watcher>,
    screen: &mut Screen,
) -> anyhow::Result<Snapshot> {
    let watcher = match watcher {
        Some(watcher) => watcher,
        none => none.insert(Watcher::open(chain.clone(), *bounty, wish.history).await?),
    };
    let mut told = Ok(());
    let mut tell = |news: News| {
        if news.is_shown() && (wish.history || !wish.once) && told.is_ok() {
            told = screen.tell(&news);
        }
    };
    let seen = watcher.look(&mut tell).await;
    told?;
    Ok(Snapshot::new(bounty, &seen?))
}

/// Where it is shown. On a terminal the snapshot stands below the lines and is drawn anew.
struct Screen {
    json: bool,
    is_terminal: bool,
    shown: Option<Snapshot>,
    /// Lines of the snapshot that stand at the bottom of a terminal.
    drawn: usize,
    complaint: Option<String>,
}

impl Screen {
    fn new(json: bool) -> Self {
        let is_terminal = !json && io::stdout().is_terminal();
        Self { json, is_terminal, shown: None, drawn: 0, complaint: None }
    }

    fn tell(&mut self, news: &News) -> io::Result<()> {
        let line = if self.json { view::as_json(news).to_string() } else { view::as_text(news) };
        self.line(&line)
    }

    /// Shows what is new. While only time passes, a terminal has its clock and a file has nothing.
    fn show(&mut self, snapshot: &Snapshot) -> io::Result<()> {
        if self.complaint.take().is_some() {
            let line = if self.json {
                json!({ "event": "reachable" }).to_string()
            } else {
                "chain: answers again".into()
            };
            self.line(&line)?;
        }
        let is_old = self.shown.as_ref().is_some_and(|shown| snapshot.says_no_more_than(shown));
        if is_old && !self.is_terminal {
            return Ok(());
        }
        self.shown = Some(snapshot.clone());
        if self.json {
            return self.line(&serde_json::to_string(snapshot)?);
        }
        let text = snapshot.to_string();
        self.line(&text)?;
        if self.is_terminal {
            self.drawn = text.lines().count();
        }
        Ok(())
    }

    /// Says once what is wrong with the chain. Endpoints word it, so that it must not reach the terminal as it is.
    fn complain(&mut self, error: &anyhow::Error) -> io::Result<()> {
        let why = words(&format!("{error:#}"));
        if self.complaint.as_ref() == Some(&why) {
            return Ok(());
        }
        let line = match self.json {
            true => json!({ "event": "error", "why": &why }).to_string(),
            false => format!("chain: {why}; going on"),
        };
        self.complaint = Some(why);
        self.line(&line)
    }

    fn line(&mut self, text: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        if self.drawn > 0 {
            // Up to where the snapshot begins, and clear from there (ECMA-48 CUU, ED).
            write!(out, "\x1b[{}A\x1b[J", self.drawn)?;
            self.drawn = 0;
        }
        writeln!(out, "{text}")?;
        out.flush()
    }
}
