//! The modules of the gateway's `coap`, and in place of its socket and actor [`bench::run`].

pub use self::dtls::{KeyFileError, Keys, SessionLimits, Sessions};
pub use self::endpoint::{Endpoint, Incoming, Limits, Output, Ticket};
pub use self::message::{Format, Method, Request, Response};
pub use self::option::BlockOption;

pub mod dtls;
pub mod endpoint;
pub mod message;
pub mod option;
pub mod peer;
pub mod resource;

/// As in the gateway.
pub const MAX_DATAGRAM: usize = 2048;

#[path = "bench.rs"]
pub mod bench;
