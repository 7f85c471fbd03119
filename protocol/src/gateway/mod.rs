//! The gateway's side of one exchange, without I/O: everything a sleeping sensor cannot do.
//!
//! An [`Exchange`] follows one update from its announcement to the flash of every sensor:
//!
//! ```text
//! Announced → Locating → Authenticating → Offered → Committed → Revealed → Staged → Done
//!                 ↑             └────────────┴──────────┴── the distributor stalls or lies
//!                 └── the next distributor                    Failed(why) · Superseded
//! ```
//!
//! Facts come in by [`Exchange::handle`], what to do comes out of [`Exchange::poll`], in an order
//! that the caller keeps: a [`Record`] is on disk before the outputs behind it are acted on. There is
//! no clock, socket or randomness here; `now` is Unix time in milliseconds. An input that says
//! nothing new does nothing, and [`Exchange::restore`] rebuilds the machine from its records in any
//! state.
//!
//! Three rules hold whatever the network does, and the property tests are about them:
//!
//! - a receipt is asked for only with a [`VerifiedOffer`], which only [`OfferCheck::run`] makes;
//! - two different receipts of one sensor never carry the same attempt;
//! - a message leaves only after the record that it depends on.

mod answer;
mod ask;
mod book;
mod drive;
mod exchange;
mod io;
mod offer;
mod peer;
mod policy;
mod receipts;
mod record;
mod restore;
mod reveals;
mod roster;
mod state;
mod status;
mod update;

pub use self::exchange::{Exchange, VerifyPath};
pub use self::io::{
    Admission, ClaimEntry, ClaimState, Decrypted, Event, Fault, Input, Intent, KeySource, Output, Report,
    RequestId, SensorFault, SensorView,
};
pub use self::offer::{Offer, OfferCheck, OfferFault, OfferVerdict, OfferVerifier, VerifiedOffer};
pub use self::peer::Peer;
pub use self::policy::Policy;
pub use self::record::{Record, Slot};
pub use self::state::{Failure, State, StateName};
pub use self::status::{ExchangeStatus, OfferStatus, PeerStatus, SensorStatus};
pub use self::update::{CheckedRelease, PackageFault, Update};
