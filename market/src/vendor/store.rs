//! What the vendor must not forget.

use std::path::Path;

use alloy::primitives::B256;
use posthouse_contracts::terms::Group;
use posthouse_protocol::id::{Bounty, KeyId, PackageId, UpdateId};
use posthouse_protocol::release::Mode;
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use zeroize::Zeroizing;

use super::terms::{Bonus, Shares};
use crate::database::{self, DatabaseError};
use crate::settings::Span;

/// Each makes a database of the version before it one of its own; never edited once released.
pub(super) const MIGRATIONS: &[&str] = &["
-- One row for each version that was ever begun.
CREATE TABLE releases (
    version     INTEGER PRIMARY KEY,    -- SUIT sequence number
    state       TEXT NOT NULL CHECK (state IN ('staged', 'prepared', 'published')),
    mode        TEXT NOT NULL CHECK (mode IN ('key', 'file')),
    u_id        BLOB NOT NULL,          -- SHA-256 of the image
    size        INTEGER NOT NULL,       -- bytes of the image
    secret      BLOB NOT NULL,          -- what is sold: K, or the image in file mode
    key_id      BLOB,                   -- H(K), key mode only
    share       TEXT NOT NULL,          -- wei for each device, decimal
    claim_by    INTEGER NOT NULL,       -- unix seconds
    lock_secs   INTEGER NOT NULL,
    p_id        BLOB,                   -- digest of the root block, from 'prepared' on
    root        BLOB,                   -- the root block itself, from 'prepared' on
    bounty      BLOB,                   -- its contract, when 'published'
    start       INTEGER,                -- unix seconds of its block, when 'published'
    gas         INTEGER                 -- what publishing cost, when 'published'
) STRICT;
-- Every key that was ever drawn: none is used for two releases.
CREATE TABLE key_ids (
    key_id      BLOB PRIMARY KEY
) STRICT, WITHOUT ROWID;
-- Transactions that were signed and whose outcome is not known yet.
CREATE TABLE transactions (
    purpose     TEXT PRIMARY KEY,       -- 'deploy', 'publish VERSION', 'refund BOUNTY'
    nonce       INTEGER NOT NULL,
    bumps       INTEGER NOT NULL,       -- times that the fee was raised
    raw         BLOB NOT NULL           -- the last one signed (EIP-2718)
) STRICT;
-- Hashes of all that were signed for a purpose: any of them may be the one that is mined.
CREATE TABLE attempts (
    hash        BLOB PRIMARY KEY,
    purpose     TEXT NOT NULL REFERENCES transactions ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
", "
-- Shares by ranges of indices. A release without rows here has `releases.share` for all its devices.
CREATE TABLE groups (
    version     INTEGER NOT NULL REFERENCES releases,
    end_index   INTEGER NOT NULL,       -- first index after the range, which begins where the one before ends
    share       TEXT NOT NULL,          -- wei for each device, decimal
    PRIMARY KEY (version, end_index)
) STRICT, WITHOUT ROWID;
ALTER TABLE releases ADD COLUMN bonus_bps INTEGER NOT NULL DEFAULT 0;   -- 1/10000 of a share; 0 without a bonus
ALTER TABLE releases ADD COLUMN bonus_secs INTEGER NOT NULL DEFAULT 0;  -- from publication until it is nothing
"];

/// A version that was begun.
#[derive(Clone)]
pub(super) struct ReleaseRow {
    pub(super) version: u64,
    pub(super) state: State,
    pub(super) mode: Mode,
    pub(super) u_id: UpdateId,
    pub(super) size: u64,
    pub(super) secret: Zeroizing<Vec<u8>>,
    pub(super) key_id: Option<KeyId>,
    pub(super) shares: Shares,
    pub(super) bonus: Option<Bonus>,
    pub(super) claim_by: u64,
    pub(super) lock_secs: u32,
}

/// How far a version is, with what is known then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    /// Its secret is kept; the package is not whole yet.
    Staged,
    /// The package is whole.
    Prepared(Root),
    /// Its bounty is on chain.
    Published(Root, Published),
}

/// The package's root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Root {
    pub(super) p_id: PackageId,
    pub(super) block: Vec<u8>,
}

/// Where a release is paid for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Published {
    pub(super) bounty: Bounty,
    pub(super) start: u64,
    pub(super) gas: u64,
}

/// A signed transaction of unknown outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pending {
    pub(super) nonce: u64,
    pub(super) bumps: u8,
    pub(super) raw: Vec<u8>,
    pub(super) hashes: Vec<B256>,
}

pub(super) struct Store(Connection);

type Result<T> = std::result::Result<T, DatabaseError>;

impl Store {
    pub(super) fn open(folder: &Path) -> Result<Self> {
        database::open(&folder.join("vendor.db"), MIGRATIONS).map(Self)
    }

    /// To look only; `None` before the first command that writes.
    pub(super) fn look(folder: &Path) -> Result<Option<Self>> {
        Ok(database::look(&folder.join("vendor.db"), MIGRATIONS)?.map(Self))
    }

    /// Keeps a version's secret. A key that was drawn before is an error of the database.
    pub(super) fn stage(&mut self, row: &ReleaseRow) -> Result<()> {
        let transaction = self.0.transaction()?;
        if let Some(key_id) = &row.key_id {
            transaction.execute("INSERT INTO key_ids VALUES (?1)", [key_id.as_bytes()])?;
        }
        transaction.execute(
            "INSERT INTO releases (version, state, mode, u_id, size, secret, key_id, share, claim_by, lock_secs,
                                   bonus_bps, bonus_secs)
             VALUES (?1, 'staged', ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
            params![
                row.version as i64,
                mode_name(row.mode),
                row.u_id.as_bytes(),
                row.size as i64,
                row.secret.as_slice(),
                row.key_id.as_ref().map(|id| id.as_bytes()),
                match row.shares {
                    Shares::Single(share) => share.to_string(),
                    Shares::Groups(_) => "0".into(),
                },
                row.claim_by as i64,
                row.lock_secs,
                row.bonus.map_or(0, |bonus| bonus.bps),
                row.bonus.map_or(0, |bonus| bonus.span.0) as i64,
            ],
        )?;
        if let Shares::Groups(groups) = &row.shares {
            for group in groups {
                let values = params![row.version as i64, group.end_index, group.share.to_string()];
                transaction.execute("INSERT INTO groups VALUES (?1, ?2, ?3)", values)?;
            }
        }
        Ok(transaction.commit()?)
    }

    pub(super) fn key_is_used(&self, key_id: &KeyId) -> Result<bool> {
        let mut found = self.0.prepare("SELECT 1 FROM key_ids WHERE key_id = ?1")?;
        Ok(found.exists([key_id.as_bytes()])?)
    }

    pub(super) fn prepared(&self, version: u64, root: &Root) -> Result<()> {
        self.0.execute(
            "UPDATE releases SET state = 'prepared', p_id = ?2, root = ?3 WHERE version = ?1",
            params![version as i64, root.p_id.as_bytes(), root.block],
        )?;
        Ok(())
    }

    /// Its bounty is on chain: the transaction's outcome is known.
    pub(super) fn published(&mut self, version: u64, at: &Published) -> Result<()> {
        let transaction = self.0.transaction()?;
        transaction.execute(
            "UPDATE releases SET state = 'published', bounty = ?2, start = ?3, gas = ?4 WHERE version = ?1",
            params![version as i64, at.bounty.as_bytes(), at.start as i64, at.gas as i64],
        )?;
        transaction.execute("DELETE FROM transactions WHERE purpose = ?1", [purpose_of(version)])?;
        Ok(transaction.commit()?)
    }

    pub(super) fn release(&self, version: u64) -> Result<Option<ReleaseRow>> {
        let sql = format!("{SELECT} WHERE version = ?1");
        let row = self.0.query_row(&sql, [version as i64], |row| Ok(release(row))).optional()?;
        row.transpose()?.map(|row| self.with_groups(row)).transpose()
    }

    /// Oldest first.
    pub(super) fn releases(&self) -> Result<Vec<ReleaseRow>> {
        let mut rows = self.0.prepare(&format!("{SELECT} ORDER BY version"))?;
        let rows = rows.query_map([], |row| Ok(release(row)))?;
        rows.map(|row| self.with_groups(row??)).collect()
    }

    fn with_groups(&self, mut release: ReleaseRow) -> Result<ReleaseRow> {
        let sql = "SELECT end_index, share FROM groups WHERE version = ?1 ORDER BY end_index";
        let mut rows = self.0.prepare(sql)?;
        let rows =
            rows.query_map([release.version as i64], |row| Ok((row.get(0)?, row.get::<_, String>(1)?)))?;
        let group = |row: rusqlite::Result<(u32, String)>| {
            let (end_index, share) = row?;
            let share = share.parse().map_err(|_| DatabaseError::Row("groups.share"))?;
            Ok(Group { end_index, share })
        };
        let groups = rows.map(group).collect::<Result<Vec<_>>>()?;
        if !groups.is_empty() {
            release.shares = Shares::Groups(groups);
        }
        Ok(release)
    }

    pub(super) fn pending(&self, purpose: &str) -> Result<Option<Pending>> {
        let sql = "SELECT nonce, bumps, raw FROM transactions WHERE purpose = ?1";
        let row = self.0.query_row(sql, [purpose], |row| {
            Ok(Pending {
                nonce: row.get::<_, i64>(0)? as u64,
                bumps: row.get(1)?,
                raw: row.get(2)?,
                hashes: Vec::new(),
            })
        });
        let Some(mut pending) = row.optional()? else { return Ok(None) };
        let mut hashes = self.0.prepare("SELECT hash FROM attempts WHERE purpose = ?1")?;
        let hashes = hashes.query_map([purpose], |row| row.get::<_, [u8; 32]>(0))?;
        pending.hashes = hashes.map(|hash| hash.map(B256::from)).collect::<rusqlite::Result<_>>()?;
        Ok(Some(pending))
    }

    /// Keeps a signed transaction, before it is sent.
    pub(super) fn signed(
        &mut self,
        purpose: &str,
        nonce: u64,
        bumps: u8,
        signed: &crate::wallet::Signed,
    ) -> Result<()> {
        let transaction = self.0.transaction()?;
        transaction.execute(
            "INSERT INTO transactions VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (purpose) DO UPDATE SET nonce = ?2, bumps = ?3, raw = ?4",
            params![purpose, nonce as i64, bumps, signed.raw.as_ref()],
        )?;
        transaction.execute(
            "INSERT OR IGNORE INTO attempts VALUES (?1, ?2)",
            params![signed.hash.as_slice(), purpose],
        )?;
        Ok(transaction.commit()?)
    }

    /// The outcome is known, or can no longer be the one that was wanted.
    pub(super) fn settled(&self, purpose: &str) -> Result<()> {
        self.0.execute("DELETE FROM transactions WHERE purpose = ?1", [purpose])?;
        Ok(())
    }
}

/// Names the transaction that publishes a version.
pub(super) fn purpose_of(version: u64) -> String {
    format!("publish {version}")
}

const SELECT: &str = "SELECT version, state, mode, u_id, size, secret, key_id, share, claim_by, \
     lock_secs, p_id, root, bounty, start, gas, bonus_bps, bonus_secs FROM releases";

pub(super) fn mode_name(mode: Mode) -> &'static str {
    match mode {
        Mode::Key => "key",
        Mode::File => "file",
    }
}

fn release(row: &Row<'_>) -> Result<ReleaseRow> {
    let root =
        || -> Result<Root> { Ok(Root { p_id: row.get::<_, [u8; 32]>(10)?.into(), block: row.get(11)? }) };
    let state = match row.get::<_, String>(1)?.as_str() {
        "staged" => State::Staged,
        "prepared" => State::Prepared(root()?),
        _ => State::Published(
            root()?,
            Published {
                bounty: row.get::<_, [u8; 20]>(12)?.into(),
                start: row.get::<_, i64>(13)? as u64,
                gas: row.get::<_, i64>(14)? as u64,
            },
        ),
    };
    let share: String = row.get(7)?;
    let (bps, span) = (row.get(15)?, Span(row.get::<_, i64>(16)? as u64));
    Ok(ReleaseRow {
        version: row.get::<_, i64>(0)? as u64,
        state,
        mode: if row.get::<_, String>(2)? == "key" { Mode::Key } else { Mode::File },
        u_id: row.get::<_, [u8; 32]>(3)?.into(),
        size: row.get::<_, i64>(4)? as u64,
        secret: Zeroizing::new(row.get(5)?),
        key_id: row.get::<_, Option<[u8; 32]>>(6)?.map(KeyId::from),
        shares: Shares::Single(share.parse().map_err(|_| DatabaseError::Row("releases.share"))?),
        bonus: (bps != 0).then_some(Bonus { bps, span }),
        claim_by: row.get::<_, i64>(8)? as u64,
        lock_secs: row.get(9)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(version: u64, key_id: Option<KeyId>) -> ReleaseRow {
        ReleaseRow {
            version,
            state: State::Staged,
            mode: Mode::Key,
            u_id: UpdateId::new([1; 32]),
            size: 10,
            secret: Zeroizing::new(vec![2; 32]),
            key_id,
            shares: Shares::Single(u128::from(u64::MAX) + 1),
            bonus: None,
            claim_by: 1000,
            lock_secs: 1800,
        }
    }

    #[test]
    fn a_release_is_taken_up_where_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = Store::open(folder.path()).unwrap();
        store.stage(&row(4, Some(KeyId::new([3; 32])))).unwrap();
        let root = Root { p_id: PackageId::new([4; 32]), block: vec![5] };
        store.prepared(4, &root).unwrap();
        drop(store);
        let mut store = Store::open(folder.path()).unwrap();
        let found = store.release(4).unwrap().unwrap();
        assert_eq!(found.state, State::Prepared(root.clone()));
        assert_eq!((found.shares, found.bonus), (Shares::Single(u128::from(u64::MAX) + 1), None));
        assert_eq!(found.secret.len(), 32);
        let at = Published { bounty: Bounty::new([6; 20]), start: 7, gas: 8 };
        store.published(4, &at).unwrap();
        assert_eq!(store.releases().unwrap()[0].state, State::Published(root, at));
    }

    #[test]
    fn groups_and_bonus_are_kept_with_their_release() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = Store::open(folder.path()).unwrap();
        let group = |end_index, share| Group { end_index, share };
        let shares = Shares::Groups(vec![group(9, 1 << 95), group(10, 7), group(u32::MAX, 1)]);
        let bonus = Some(Bonus { bps: u16::MAX, span: Span(172_800) });
        let grouped = ReleaseRow { shares: shares.clone(), bonus, ..row(1, None) };
        store.stage(&grouped).unwrap();
        store.stage(&row(2, None)).unwrap();
        let rows = store.releases().unwrap();
        assert_eq!((&rows[0].shares, rows[0].bonus), (&shares, bonus));
        assert_eq!((&rows[1].shares, rows[1].bonus), (&row(2, None).shares, None));
        assert_eq!(store.release(1).unwrap().unwrap().shares, shares);
    }

    #[test]
    fn a_key_serves_one_release_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = Store::open(folder.path()).unwrap();
        let key_id = KeyId::new([3; 32]);
        store.stage(&row(1, Some(key_id))).unwrap();
        assert!(store.key_is_used(&key_id).unwrap());
        assert!(store.stage(&row(2, Some(key_id))).is_err());
        assert!(store.release(2).unwrap().is_none());
    }

    #[test]
    fn a_transaction_is_known_by_all_its_hashes() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = Store::open(folder.path()).unwrap();
        for bumps in 0..2u8 {
            let hash = B256::repeat_byte(bumps);
            let signed = crate::wallet::Signed { raw: vec![bumps].into(), hash };
            store.signed("deploy", 5, bumps, &signed).unwrap();
        }
        let pending = store.pending("deploy").unwrap().unwrap();
        assert_eq!((pending.nonce, pending.bumps, pending.raw), (5, 1, vec![1]));
        assert_eq!(pending.hashes.len(), 2);
        store.settled("deploy").unwrap();
        assert_eq!(store.pending("deploy").unwrap(), None);
    }

    /// A change of the schema is a migration of its own: this digest changes only with one more of them.
    #[test]
    fn the_schema_is_pinned() {
        use sha2::Digest as _;
        let digest = hex::encode(sha2::Sha256::digest(MIGRATIONS.concat()));
        assert_eq!(digest, "aed92c603a12f0717a948013062cbf014fce1d7c4ec1c2029910b26e1e71c3e2");
    }
}
