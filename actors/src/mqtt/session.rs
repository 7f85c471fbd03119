//! The broker keeps the gateway's session while it is away; the gateway keeps nothing of it.

use std::future::Future;
use std::pin::Pin;

use rumqttc::{PersistedAckMode, PersistedSession, SessionStore, SessionStoreError, SessionStoreKey};

type StoreFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, SessionStoreError>> + Send + 'a>>;

/// The client goes on with a session only with its own half of it. Ours is always empty: nothing of
/// ours was in flight that will not be said again.
#[derive(Debug)]
pub(super) struct EmptyHalf {
    /// As in the options, which are compared.
    pub(super) in_flight: Option<u16>,
}

impl EmptyHalf {
    fn session(&self, key: &SessionStoreKey) -> PersistedSession {
        PersistedSession {
            format_version: 1,
            client_id: key.client_id().to_owned(),
            clean_start: false,
            session_expiry_interval: None,
            outgoing_inflight_upper_limit: self.in_flight,
            ack_mode: PersistedAckMode::Automatic,
            last_pkid: 0,
            last_puback: 0,
            replay: Vec::new(),
            incoming_qos2: Vec::new(),
        }
    }
}

impl SessionStore for EmptyHalf {
    fn load<'a>(&'a self, key: &'a SessionStoreKey) -> StoreFuture<'a, Option<PersistedSession>> {
        Box::pin(async move { Ok(Some(self.session(key))) })
    }

    fn save<'a>(&'a self, _: &'a SessionStoreKey, _: &'a PersistedSession) -> StoreFuture<'a, ()> {
        Box::pin(async { Ok(()) })
    }

    fn clear<'a>(&'a self, _: &'a SessionStoreKey) -> StoreFuture<'a, ()> {
        Box::pin(async { Ok(()) })
    }
}
