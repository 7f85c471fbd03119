//! Decrypts images and keeps them: content-addressed files that are written once.
//!
//! Who sends: the exchanges. Whom it asks: nobody. An image is streamed to a temporary file, hashed on
//! the way, synced, renamed, and its folder synced; the caller then keeps the row. A full disk or
//! quota is an answer of its own and leaves what is staged alone; a temporary file left by a kill is
//! removed at the start.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use actix::{Actor, Handler, Message, MessageResult, SyncContext};
use posthouse_circuits::cipher;
use posthouse_protocol::gateway::Decrypted;
use posthouse_protocol::id::{KeyId, UpdateId};
use posthouse_protocol::secret::{KeyR, PayloadKey};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

/// Bytes in memory while an image is streamed.
const CHUNK: usize = 64 * 1024;
/// Ending of a file that is not whole.
const PARTIAL: &str = "partial";

/// The actor: one thread, so that images are staged one after the other.
pub struct Stage {
    folder: PathBuf,
    quota: u64,
}

impl Stage {
    /// Keeps images in `folder`, at most `quota` bytes in all.
    pub fn new(folder: PathBuf, quota: u64) -> Self {
        Self { folder, quota }
    }
}

impl Actor for Stage {
    type Context = SyncContext<Self>;

    fn started(&mut self, _: &mut Self::Context) {
        for path in files(&self.folder) {
            if path.extension().is_some_and(|ending| ending == PARTIAL) {
                // What cannot be removed now is overwritten later.
                let _left = fs::remove_file(path);
            }
        }
    }
}

/// Where an image is kept.
pub fn image_path(folder: &Path, u_id: &UpdateId) -> PathBuf {
    folder.join(u_id.to_string())
}

/// What an image is made from.
#[derive(Debug, Clone)]
pub enum Source {
    /// File mode: the cipher is the image's own.
    File,
    /// Key mode: the cipher holds the key of a body on disk.
    Key {
        /// `H(K)`.
        key_id: KeyId,
        /// The encrypted image.
        body: PathBuf,
    },
}

/// Decrypts an offer and stages the image.
#[derive(Debug, Clone, Message)]
#[rtype(result = "StageOutcome")]
pub struct StageImage {
    /// Digest of the image.
    pub u_id: UpdateId,
    /// Its size.
    pub size: u64,
    /// What it is made from.
    pub source: Source,
    /// The offer's key.
    pub r: KeyR,
    /// The offer's cipher.
    pub cipher: Vec<u8>,
    /// Images that must stay when room is made.
    pub keep: Vec<UpdateId>,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageOutcome {
    /// For the exchange.
    pub outcome: Decrypted,
    /// Images that were removed to make room.
    pub evicted: Vec<UpdateId>,
}

impl Handler<StageImage> for Stage {
    type Result = MessageResult<StageImage>;

    fn handle(&mut self, job: StageImage, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.run(&job))
    }
}

impl Stage {
    fn run(&self, job: &StageImage) -> StageOutcome {
        let mut evicted = Vec::new();
        let outcome = self.stage(job, &mut evicted).unwrap_or_else(|error| {
            tracing::error!(u_id = %job.u_id, %error, "staging failed");
            let full = matches!(
                error.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
            );
            if full { Decrypted::NoSpace } else { Decrypted::Io }
        });
        StageOutcome { outcome, evicted }
    }

    fn stage(&self, job: &StageImage, evicted: &mut Vec<UpdateId>) -> io::Result<Decrypted> {
        fs::create_dir_all(&self.folder)?;
        let path = image_path(&self.folder, &job.u_id);
        if is_image(&path, &job.u_id, job.size)? {
            return Ok(Decrypted::Staged);
        }
        let mut payload = Zeroizing::new(job.cipher.clone());
        cipher::apply_payload(job.r.as_bytes(), &mut payload);
        let image = match &job.source {
            Source::File => Image::Whole(payload),
            Source::Key { key_id, body } => {
                let Ok(key) = <[u8; 32]>::try_from(payload.as_slice()).map(PayloadKey::new) else {
                    return Ok(Decrypted::WrongSecret);
                };
                if key.key_id() != *key_id {
                    return Ok(Decrypted::WrongSecret);
                }
                Image::Body(Box::new(cipher::Body::new(key.as_bytes())), File::open(body)?)
            }
        };
        if !self.make_room(job, evicted)? {
            return Ok(Decrypted::NoSpace);
        }
        self.write(job, image)
    }

    fn write(&self, job: &StageImage, image: Image) -> io::Result<Decrypted> {
        let wrong = image.blame();
        let partial = self.folder.join(format!("{}.{PARTIAL}", job.u_id));
        let mut file = File::create(&partial)?;
        let written = image.write(&mut file).and_then(|digest| {
            file.sync_all()?;
            Ok(digest == job.u_id.to_bytes())
        });
        match written {
            Ok(true) => {
                fs::rename(&partial, image_path(&self.folder, &job.u_id))?;
                File::open(&self.folder)?.sync_all()?;
                Ok(Decrypted::Staged)
            }
            other => {
                // A file that is not the image has no business to stay; it is overwritten otherwise.
                let _left = fs::remove_file(&partial);
                other.map(|_| wrong)
            }
        }
    }

    /// Removes images that nobody needs, oldest first, until this one fits the quota.
    fn make_room(&self, job: &StageImage, evicted: &mut Vec<UpdateId>) -> io::Result<bool> {
        let mut images = Vec::new();
        for path in files(&self.folder) {
            let meta = path.metadata()?;
            images.push((meta.modified()?, meta.len(), path));
        }
        images.sort();
        let mut used: u64 = images.iter().map(|(_, size, _)| size).sum();
        for (_, size, path) in images {
            if used.saturating_add(job.size) <= self.quota {
                break;
            }
            let name = path.file_name().and_then(|name| name.to_str());
            let image = name.and_then(|name| name.parse::<UpdateId>().ok());
            if let Some(image) = image.filter(|image| !job.keep.contains(image)) {
                fs::remove_file(&path)?;
                used -= size;
                evicted.push(image);
            }
        }
        Ok(used.saturating_add(job.size) <= self.quota)
    }
}

/// An image on its way to disk.
enum Image {
    Whole(Zeroizing<Vec<u8>>),
    Body(Box<cipher::Body>, File),
}

impl Image {
    /// Whose fault a wrong digest is: in key mode the secret was right before.
    fn blame(&self) -> Decrypted {
        match self {
            Self::Whole(_) => Decrypted::WrongSecret,
            Self::Body(..) => Decrypted::WrongImage,
        }
    }

    /// Writes all of it and returns its digest.
    fn write(self, to: &mut File) -> io::Result<[u8; 32]> {
        match self {
            Self::Whole(bytes) => {
                to.write_all(&bytes)?;
                Ok(Sha256::digest(&*bytes).into())
            }
            Self::Body(key, mut body) => {
                let mut hasher = Sha256::new();
                let mut offset = 0;
                stream(&mut body, |chunk| {
                    key.apply_at(offset, chunk);
                    offset += chunk.len() as u64;
                    hasher.update(&chunk);
                    to.write_all(chunk)
                })?;
                Ok(hasher.finalize().into())
            }
        }
    }
}

/// Checks a file that was complete once: an image or a body.
#[derive(Debug, Clone, Message)]
#[rtype(result = "bool")]
pub struct Rehash {
    /// Which file.
    pub path: PathBuf,
    /// Its SHA-256.
    pub digest: [u8; 32],
    /// Its size.
    pub size: u64,
}

impl Handler<Rehash> for Stage {
    type Result = bool;

    fn handle(&mut self, job: Rehash, _: &mut Self::Context) -> bool {
        is_image(&job.path, &UpdateId::new(job.digest), job.size).unwrap_or(false)
    }
}

/// Removes a file that is of no use any more.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct Discard(pub PathBuf);

impl Handler<Discard> for Stage {
    type Result = ();

    fn handle(&mut self, Discard(path): Discard, _: &mut Self::Context) {
        match fs::remove_file(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(path = %path.display(), %error, "not removed"),
        }
    }
}

/// Whether the file is there with this size and digest.
fn is_image(path: &Path, digest: &UpdateId, size: u64) -> io::Result<bool> {
    let mut file = match File::open(path) {
        Ok(file) if file.metadata()?.len() == size => file,
        Ok(_) => return Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    let mut hasher = Sha256::new();
    stream(&mut file, |chunk| {
        hasher.update(chunk);
        Ok(())
    })?;
    Ok(digest.to_bytes() == <[u8; 32]>::from(hasher.finalize()))
}

fn stream(from: &mut File, mut each: impl FnMut(&mut [u8]) -> io::Result<()>) -> io::Result<()> {
    let mut buffer = Zeroizing::new(vec![0; CHUNK]);
    loop {
        match from.read(&mut buffer)? {
            0 => return Ok(()),
            read => each(&mut buffer[..read])?,
        }
    }
}

/// Files of a folder; none if it is not there.
fn files(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 32] = [7; 32];

    fn r() -> KeyR {
        KeyR::new([9; 32])
    }

    /// An image with its body, and the job that opens it.
    fn job(folder: &Path, image: &[u8]) -> StageImage {
        let body = folder.join("body");
        let mut bytes = image.to_vec();
        cipher::Body::new(&KEY).apply_at(0, &mut bytes);
        fs::write(&body, bytes).unwrap();
        let mut cipher = KEY.to_vec();
        cipher::apply_payload(r().as_bytes(), &mut cipher);
        StageImage {
            u_id: UpdateId::new(Sha256::digest(image).into()),
            size: image.len() as u64,
            source: Source::Key { key_id: PayloadKey::new(KEY).key_id(), body },
            r: r(),
            cipher,
            keep: Vec::new(),
        }
    }

    fn run(folder: &Path, quota: u64, job: &StageImage) -> (Decrypted, Vec<UpdateId>) {
        let StageOutcome { outcome, evicted } = Stage::new(folder.join("images"), quota).run(job);
        (outcome, evicted)
    }

    #[test]
    fn an_image_is_streamed_from_its_body() {
        let folder = tempfile::tempdir().unwrap();
        let image: Vec<u8> = (0..200_000u32).map(|i| i as u8).collect();
        let job = job(folder.path(), &image);
        assert_eq!(run(folder.path(), 1 << 20, &job).0, Decrypted::Staged);
        let path = image_path(&folder.path().join("images"), &job.u_id);
        assert_eq!(fs::read(&path).unwrap(), image);
        // Damage is noticed and made good.
        fs::write(&path, b"damaged").unwrap();
        assert!(!is_image(&path, &job.u_id, job.size).unwrap());
        assert_eq!(run(folder.path(), 1 << 20, &job).0, Decrypted::Staged);
        assert!(is_image(&path, &job.u_id, job.size).unwrap());
    }

    #[test]
    fn a_wrong_secret_and_a_wrong_body_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let good = job(folder.path(), b"image");
        let mut wrong = good.clone();
        wrong.r = KeyR::new([1; 32]);
        assert_eq!(run(folder.path(), 1 << 20, &wrong).0, Decrypted::WrongSecret);
        fs::write(folder.path().join("body"), b"other").unwrap();
        assert_eq!(run(folder.path(), 1 << 20, &good).0, Decrypted::WrongImage);
        assert_eq!(files(&folder.path().join("images")).count(), 0);
    }

    #[test]
    fn file_mode_holds_the_image_itself() {
        let folder = tempfile::tempdir().unwrap();
        let mut job = job(folder.path(), b"patch");
        job.source = Source::File;
        job.cipher = b"patch".to_vec();
        cipher::apply_payload(r().as_bytes(), &mut job.cipher);
        assert_eq!(run(folder.path(), 1 << 20, &job).0, Decrypted::Staged);
        job.r = KeyR::new([1; 32]);
        fs::remove_file(image_path(&folder.path().join("images"), &job.u_id)).unwrap();
        assert_eq!(run(folder.path(), 1 << 20, &job).0, Decrypted::WrongSecret);
    }

    #[test]
    fn the_quota_evicts_what_nobody_needs_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let first = job(folder.path(), &[1; 600]);
        assert_eq!(run(folder.path(), 1000, &first).0, Decrypted::Staged);
        let mut second = job(folder.path(), &[2; 600]);
        second.keep = vec![first.u_id];
        assert_eq!(run(folder.path(), 1000, &second), (Decrypted::NoSpace, vec![]));
        second.keep.clear();
        assert_eq!(run(folder.path(), 1000, &second), (Decrypted::Staged, vec![first.u_id]));
    }

    /// Set where [`on_a_full_disk`] runs on one.
    const SMALL_DISK: &str = "POSTHOUSE_TEST_SMALL_DISK";

    /// Runs [`on_a_full_disk`] on a file system of 256 KiB, in namespaces of its own.
    #[test]
    #[allow(clippy::print_stderr, reason = "says that it is skipped")]
    fn a_full_disk_refuses_the_new_and_keeps_the_old() {
        let folder = tempfile::tempdir().unwrap();
        let mount = "mount -t tmpfs -o size=256k tmpfs \"$0\" && exec \"$@\"";
        let mut unshare = std::process::Command::new("unshare");
        unshare.args(["--map-root-user", "--mount", "sh", "-c"]);
        let may = unshare.arg("mount -t tmpfs tmpfs /mnt").output();
        if !may.is_ok_and(|tried| tried.status.success()) {
            return eprintln!(
                "SKIPPED: no mounts in a namespace of our own: tried unshare --map-root-user --mount on the PATH {:?}",
                std::env::var_os("PATH").unwrap_or_default()
            );
        }
        let mut unshare = std::process::Command::new("unshare");
        unshare.args(["--map-root-user", "--mount", "sh", "-c", mount]).arg(folder.path());
        unshare.arg(std::env::current_exe().unwrap()).args(["--exact", "stage::tests::on_a_full_disk"]);
        let done = unshare.env(SMALL_DISK, folder.path()).output().unwrap();
        let said = String::from_utf8_lossy(&done.stdout);
        assert!(done.status.success() && said.contains("1 passed"), "{said}");
    }

    #[test]
    fn on_a_full_disk() {
        let Some(disk) = std::env::var_os(SMALL_DISK) else { return };
        let bodies = tempfile::tempdir().unwrap();
        let stage = Stage::new(PathBuf::from(disk).join("images"), u64::MAX);
        let run = |job: &StageImage| stage.run(job).outcome;
        let old = job(bodies.path(), &[1; 100_000]);
        assert_eq!(run(&old), Decrypted::Staged);
        let new = job(bodies.path(), &[2; 200_000]);
        assert_eq!(run(&new), Decrypted::NoSpace);
        let left: Vec<_> = files(&stage.folder).collect();
        assert_eq!(left, [image_path(&stage.folder, &old.u_id)], "the old one, and nothing of the new");
        assert!(is_image(&left[0], &old.u_id, old.size).unwrap());
        fs::remove_file(&left[0]).unwrap();
        assert_eq!(run(&new), Decrypted::Staged, "when there is room");
    }
}
