//! DHT servers that were reached, for the next start: one that has met the network once needs no bootstrap peer.

use libp2p::Multiaddr;

use super::{Store, StoreError};

/// Addresses kept.
const MAX_PEERS: i64 = 32;

impl Store {
    /// Keeps an address at which a DHT server has just been reached.
    pub(crate) async fn remember(&self, addr: &Multiaddr) -> Result<(), StoreError> {
        let addr = addr.to_string();
        self.call(move |db| {
            let transaction = db.transaction()?;
            let sql =
                "INSERT OR REPLACE INTO peer (addr, seen) SELECT ?1, coalesce(max(seen), 0) + 1 FROM peer";
            transaction.execute(sql, [addr])?;
            let sql =
                "DELETE FROM peer WHERE addr NOT IN (SELECT addr FROM peer ORDER BY seen DESC LIMIT ?1)";
            transaction.execute(sql, [MAX_PEERS])?;
            Ok(transaction.commit()?)
        })
        .await
    }

    /// The addresses kept, the latest first.
    pub(crate) async fn remembered(&self) -> Result<Vec<Multiaddr>, StoreError> {
        self.call(|db| {
            let mut statement = db.prepare("SELECT addr FROM peer ORDER BY seen DESC")?;
            let rows = statement.query_map([], |row| row.get::<_, String>(0))?;
            let addrs = rows.collect::<Result<Vec<_>, _>>()?;
            Ok(addrs.iter().filter_map(|addr| addr.parse().ok()).collect())
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_latest_are_kept_and_come_first() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).await.unwrap();
        let addr = |port: i64| -> Multiaddr { format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap() };
        for port in 1..=MAX_PEERS + 1 {
            store.remember(&addr(port)).await.unwrap();
        }
        store.remember(&addr(2)).await.unwrap();
        let kept = store.remembered().await.unwrap();
        assert_eq!(kept.len() as i64, MAX_PEERS);
        assert_eq!(kept[..2], [addr(2), addr(MAX_PEERS + 1)]);
        assert!(!kept.contains(&addr(1)));
    }
}
