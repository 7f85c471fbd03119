//! The client against beacon endpoints that lie, lag, are silent or disagree: a real sync committee of 512 keys signs the
//! blocks of the development chain, and what stands between it and the client changes what it says.
#![cfg(feature = "client")]
#![allow(clippy::unwrap_used, unreachable_pub)]

mod answers;
mod checkpoint;
mod disagree;
mod following;
mod lagging;
mod liar;
mod lies;
mod time;
mod world;
