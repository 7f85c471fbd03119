//! The state's folder: one gateway's, with its key and its database.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use posthouse_dsn::Keypair;

use super::StartError;
use crate::store::{Database, Loaded};

/// Where everything is kept.
pub(super) struct Folders {
    root: PathBuf,
    pub(super) database: PathBuf,
    pub(super) light_client: PathBuf,
    pub(super) blocks: PathBuf,
    pub(super) bodies: PathBuf,
    pub(super) images: PathBuf,
    key: PathBuf,
}

impl Folders {
    pub(super) fn make(root: &Path) -> Result<Self, StartError> {
        let folders = Self {
            root: root.to_owned(),
            database: root.join("gateway.db"),
            light_client: root.join("light-client.db"),
            blocks: root.join("blocks"),
            bodies: root.join("bodies"),
            images: root.join("images"),
            key: root.join("peer.key"),
        };
        for folder in [&folders.root, &folders.blocks, &folders.bodies, &folders.images] {
            fs::create_dir_all(folder).map_err(state(folder))?;
        }
        Ok(folders)
    }

    /// One gateway a folder: two would sign for one peer id and overwrite each other's rows.
    pub(super) fn lock(&self) -> Result<File, StartError> {
        let path = self.root.join("lock");
        let file = File::create(&path).map_err(state(&path))?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(fs::TryLockError::WouldBlock) => Err(StartError::Busy(self.root.clone())),
            Err(fs::TryLockError::Error(error)) => Err(state(&path)(error)),
        }
    }

    /// Opens the database once here, so that a bad one stops the start, and reads all of it.
    pub(super) fn load(&self) -> Result<Loaded, StartError> {
        let failed = |error| StartError::Store { path: self.database.clone(), error };
        Database::open(&self.database).and_then(|database| database.load()).map_err(failed)
    }

    /// The peer key: made at the first start, and refused if others can read it.
    pub(super) fn peer_key(&self) -> Result<Keypair, StartError> {
        let path = &self.key;
        match fs::read(path) {
            Ok(bytes) => {
                let mode = fs::metadata(path).map_err(state(path))?.permissions().mode();
                if mode & 0o077 != 0 {
                    return Err(StartError::KeyMode(path.clone()));
                }
                Keypair::from_protobuf_encoding(&bytes).map_err(|_| StartError::Key(path.clone()))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.new_peer_key(),
            Err(error) => Err(state(path)(error)),
        }
    }

    fn new_peer_key(&self) -> Result<Keypair, StartError> {
        let key = Keypair::generate_ed25519();
        let bytes = key.to_protobuf_encoding().map_err(|_| StartError::Key(self.key.clone()))?;
        let partial = self.root.join("peer.key.partial");
        let write = || -> io::Result<()> {
            let mut file =
                OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&partial)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            fs::rename(&partial, &self.key)?;
            File::open(&self.root)?.sync_all()
        };
        write().map_err(state(&self.key))?;
        Ok(key)
    }
}

fn state(path: &Path) -> impl FnOnce(io::Error) -> StartError {
    let path = path.to_owned();
    move |error| StartError::State { path, error }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peer_key_stays_and_is_for_its_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let folders = Folders::make(folder.path()).unwrap();
        let key = folders.peer_key().unwrap().public();
        assert_eq!(folders.peer_key().unwrap().public(), key);
        fs::set_permissions(&folders.key, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(folders.peer_key(), Err(StartError::KeyMode(_))));
        fs::set_permissions(&folders.key, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&folders.key, b"no key").unwrap();
        assert!(matches!(folders.peer_key(), Err(StartError::Key(_))));
    }

    #[test]
    fn a_folder_has_one_gateway() {
        let folder = tempfile::tempdir().unwrap();
        let folders = Folders::make(folder.path()).unwrap();
        let _lock = folders.lock().unwrap();
        assert!(matches!(folders.lock(), Err(StartError::Busy(_))));
    }
}
