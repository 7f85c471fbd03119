//! Consensus: what a sync committee signed.
//!
//! The light client of the consensus specifications (`specs/*/light-client/sync-protocol.md`), Capella to Fulu, as
//! values and functions: no clock, no network, no disk, so that a test, a tool and the running client check the same
//! way. An endpoint's answer is parsed by [`Bootstrap`] and [`Update`], both of which may still be lies, and only
//! [`State`] says what follows from them and the checkpoint.
//!
//! Three departures, all towards refusing more:
//! - An update that fewer than two thirds signed has no effect. The specification lets the optimistic header follow
//!   half of the best participation seen.
//! - There is no `process_light_client_store_force_update`: that would take a header for finalized that nobody
//!   finalized, and whoever withholds updates would choose when.
//! - Headers before Capella are refused, for they commit to no execution header.

mod bls;
mod committee;
mod fork;
mod header;
mod json;
mod known;
mod merkle;
mod network;
mod refused;
mod saved;
mod ssz;
mod state;
mod stream;
mod update;
mod validate;
#[cfg(test)]
mod vectors;
mod yaml;

pub use committee::{SyncAggregate, SyncCommittee};
pub use fork::{BlobLimit, Fork, ForkSchedule, Scheduled};
pub use header::{BeaconBlockHeader, BlobGas, ExecutionHeader, Header};
pub(crate) use json::complaint;
pub use network::{Network, Preset};
pub use refused::Refused;
pub(crate) use ssz::slot_behind_offset as slot_of_ssz;
pub use state::{Applied, State};
pub(crate) use stream::{any_bootstrap, any_updates};
pub use stream::{updates_from_json, updates_from_octet_stream};
pub use update::{Bootstrap, Finality, Kind, NextCommittee, Update};
pub use yaml::NetworkError;
