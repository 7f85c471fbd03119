//! Dying on purpose, at points that have names.
//!
//! With the feature `fault-injection`, [`crash_point`] kills the process with SIGKILL when the variable
//! `POSTHOUSE_CRASH_AT` holds the point's name. Each point stands after a transition is durable and
//! before anybody outside learns of it, which is where a crash is most likely to lose or to double
//! something. Without the feature it is nothing.
//!
//! | program | points |
//! |---|---|
//! | vendor, `publish` | `vendor.staged` (secret kept, before the package is written), `vendor.prepared` (package written), `vendor.signed` (transaction kept, not sent), `vendor.sent` (sent, outcome unknown) |
//! | vendor, `deploy` | `vendor.signed` and `vendor.sent` of each of its transactions, and `vendor.funded` (the proxy is paid for, not sent) |
//! | distributor, exchanges | `distributor.` and `proving`, `offered`, `collecting`, `reserving`, `locked`, `revealing`, `paid`, `claiming`, `closed` |
//! | distributor, rows | `distributor.receipt` (kept, not acknowledged), `distributor.fate` (what became of it), `distributor.transaction` or `.transaction-` and `reserve`, `reveal`, `claim`, `cancel` (has its nonce, not sent), `distributor.settled` (its nonce is final), `distributor.forget` |
//! | the same, not yet on disk | the same with `distributor.before-` |
//! | distributor, transactions | `distributor.signed-` and the call (not sent), `distributor.sent-` and the call (sent, outcome unknown) |
//! | distributor, bounties | `distributor.joined` (secret kept, not announced), `distributor.read-to` (payments up to a block kept) |

/// Kills the process if it is to die here.
#[cfg(feature = "fault-injection")]
pub fn crash_point(name: &str) {
    if std::env::var_os("POSTHOUSE_CRASH_AT").is_some_and(|at| at == name) {
        let me = rustix::process::getpid();
        let _ = rustix::process::kill_process(me, rustix::process::Signal::KILL);
    }
}

/// Kills the process if it is to die here: never, without the feature `fault-injection`.
#[cfg(not(feature = "fault-injection"))]
pub fn crash_point(_name: &str) {}
