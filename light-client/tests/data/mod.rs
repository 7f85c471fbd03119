//! Data that is not part of the project.

use std::path::{Path, PathBuf};

/// `$POSTHOUSE_SHARED`, or `shared` beside the repository.
pub(crate) fn shared() -> PathBuf {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    std::env::var_os("POSTHOUSE_SHARED").map_or_else(beside, PathBuf::from)
}

/// A file of the test data, or `None`, said where it was looked for.
pub(crate) fn read(folder: &str, name: &str) -> Option<Vec<u8>> {
    let path = shared().join("testdata").join(folder).join(name);
    let bytes = std::fs::read(&path).ok();
    if bytes.is_none() {
        eprintln!("skipped: {} is not there; POSTHOUSE_SHARED may say where the data is", path.display());
    }
    bytes
}
