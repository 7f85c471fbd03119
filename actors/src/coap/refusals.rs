//! Whom the endpoint with DTLS refuses, and why: in the log and in the audit log.
//!
//! Strangers can have themselves refused as often as they like, from as many addresses as they have. Of each kind some lines a minute
//! are written, as [`Limit`] bounds them, and the rest is counted.

use std::fmt;
use std::net::SocketAddr;
use std::time::Instant;

use posthouse_audit::{Audit, Kind, Limit, Record};
use posthouse_protocol::id::DeviceId;
use tracing::warn;

use super::dtls::Unproven;

/// Bytes of an identity that are shown: it is as long as a stranger likes. It travels in the clear, and is no secret.
const SHOWN: usize = 64;

/// Why somebody is refused.
pub(super) enum Refusal {
    /// It has shown no key.
    Unproven(Unproven),
    /// It speaks for one device under the key of another.
    Another { named: DeviceId, shown: DeviceId },
}

impl Refusal {
    /// What is counted together.
    fn kind(&self) -> &'static str {
        match self {
            Self::Unproven(Unproven::Identity(_)) => "unknown identity",
            Self::Unproven(Unproven::Key(..)) => "wrong key",
            Self::Unproven(Unproven::Handshake(_)) => "handshake failed",
            Self::Another { .. } => "another device's key",
        }
    }

    /// The device that is refused, as far as it is known.
    fn device(&self) -> Option<DeviceId> {
        match self {
            Self::Unproven(Unproven::Key(_, device)) => Some(*device),
            Self::Another { named, .. } => Some(*named),
            Self::Unproven(_) => None,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.kind();
        match self {
            Self::Unproven(Unproven::Identity(identity) | Unproven::Key(identity, _)) => {
                let more = if identity.len() > SHOWN { "..." } else { "" };
                let shown = identity[..identity.len().min(SHOWN)].escape_ascii();
                write!(f, "{kind}: \"{shown}{more}\"")
            }
            Self::Unproven(Unproven::Handshake(why)) => write!(f, "{kind}: {why}"),
            Self::Another { shown, .. } => write!(f, "{kind}: {shown}'s"),
        }
    }
}

/// Those of one endpoint.
pub(super) struct Refusals {
    audit: Audit,
    limit: Limit<&'static str>,
}

impl Refusals {
    pub(super) fn new(audit: Audit) -> Self {
        Self { audit, limit: Limit::default() }
    }

    /// Says whom, if there is room, and writes it down.
    pub(super) fn tell(&mut self, peer: SocketAddr, refusal: &Refusal, now: Instant) {
        self.count(now);
        let device = refusal.device().map(|device| device.to_string());
        if self.limit.admit(refusal.kind(), now) {
            warn!(%peer, device, reason = %refusal, "refused over DTLS");
        }
        let (who, reason) = (Some(peer.to_string()), Some(format!("over DTLS: {refusal}")));
        self.audit.tell(Record { device, who, reason, ..Record::new(Kind::SensorRefused) });
    }

    /// Says how many there were for which there was no room, a minute after the first; to be called now and then.
    pub(super) fn count(&mut self, now: Instant) {
        for (reason, count) in self.limit.over(now, false) {
            warn!(count, reason, "more were refused over DTLS");
        }
    }
}

#[cfg(test)]
mod tests;
