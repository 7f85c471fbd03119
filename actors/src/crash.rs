//! Dying on purpose, at points that have names.
//!
//! With the feature `fault-injection`, [`crash_point`] kills the process with SIGKILL when the variable
//! `POSTHOUSE_CRASH_AT` holds the point's name. The points are `gateway.` and the name of the state
//! that an exchange enters: what led there is durable, and nobody outside has learned of it yet.
//! `gateway.receipt` stands after a signed receipt is durable and before it is sent.

/// Kills the process if it is to die here.
#[cfg(feature = "fault-injection")]
pub(crate) fn crash_point(name: &str) {
    if std::env::var_os("POSTHOUSE_CRASH_AT").is_some_and(|at| at == name) {
        let me = rustix::process::getpid();
        let _ = rustix::process::kill_process(me, rustix::process::Signal::KILL);
    }
}

/// Kills the process if it is to die here: never, without the feature `fault-injection`.
#[cfg(not(feature = "fault-injection"))]
pub(crate) fn crash_point(_name: &str) {}
