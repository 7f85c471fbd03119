//! The audit log: what was signed, accepted, refused or paid, one JSON object a line, appended and never changed.
//!
//! [`Audit`] is told [`Record`]s and writes them on a thread of its own ([`mod@file`] says how they survive kills and power cuts, and how
//! much there may be of them). It holds nobody up: what finds no room is counted, and a disk that takes nothing is an alarm
//! ([`Audit::health`]) and no stop. [`read`] finds records again. `docs/audit.md` has the kinds with an example of each.
//!
//! **Invariant:** a record has no field for a secret: keys, tokens and passwords are not told to it.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod file;
mod limit;
pub mod read;
mod record;
mod writer;

pub use self::file::Bounds;
pub use self::limit::Limit;
pub use self::record::{Kind, Record, now};
pub use self::writer::{Audit, Health};
