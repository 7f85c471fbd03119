//! Proving keys as files.
//!
//! ```text
//! "posthouse/pk/1\0\0"   16 bytes
//! n                      u64, big-endian
//! circuit_id             32 bytes
//! verifying key          as VerifyingKey::to_bytes
//! β₁ δ₁                  G1
//! A B₁                   G1, one for each variable
//! B₂                     G2, one for each variable
//! H                      G1, one less than the evaluation domain has points
//! L                      G1, one for each witness
//! ```
//!
//! Points are uncompressed (arkworks' form: 64 and 128 bytes), because taking 300,000 square roots to save ten
//! megabytes is a bad bargain. All lengths follow from `n`, so a file of the wrong size is refused before it is
//! read. `pk_id` is the SHA-256 of the whole file.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use ark_bn254::{Bn254, G2Affine, G2Projective};
use ark_ec::short_weierstrass::{Affine, SWCurveConfig};
use ark_ec::{AffineRepr, CurveGroup, VariableBaseMSM};
use ark_poly::{EvaluationDomain, GeneralEvaluationDomain};
use ark_serialize::{CanonicalDeserialize, CanonicalSerialize};
use ark_std::rand::rngs::StdRng;
use ark_std::rand::{RngCore, SeedableRng};
use sha2::{Digest, Sha256};

use crate::points::{G1_LEN, G2_LEN, PointError};
use crate::prove::Circuit;
use crate::statement::{MAX_PAYLOAD_LEN, input_count};
use crate::verify::{FIXED_LEN, VerifyingKeyError};
use crate::{Fr, ProvingKey, Shape, VerifyingKey, circuit_id};

/// Linear combinations in the subgroup check.
const COMBINATIONS: usize = 8;

const MAGIC: &[u8; 16] = b"posthouse/pk/1\0\0";

/// Why a proving key was not read or written.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The file could not be opened, read, written or put in place.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// The file does not begin as a proving key does.
    #[error("not a proving key")]
    NotAKey,
    /// The payload length is above [`MAX_PAYLOAD_LEN`].
    #[error("proving key for a payload of {0} bytes, the most is {MAX_PAYLOAD_LEN}")]
    PayloadLength(u64),
    /// The file is shorter or longer than a key of its payload length.
    #[error("proving key of {found} bytes, its payload length needs {expected}")]
    Size {
        /// The size that follows from the payload length.
        expected: u64,
        /// The file's size.
        found: u64,
    },
    /// The key is for another constraint system than this program's.
    #[error("proving key for another circuit")]
    Circuit,
    /// The verifying key inside is not one.
    #[error(transparent)]
    VerifyingKey(#[from] VerifyingKeyError),
    /// The verifying key inside is for another payload length.
    #[error("the verifying key inside is for another payload length")]
    VerifyingKeyLength,
    /// An element is not an acceptable point.
    #[error("proving key element {section}: {error}")]
    Element {
        /// Name of the vector that it is in.
        section: &'static str,
        /// What is wrong with it.
        error: PointError,
    },
    /// The file is not the one that was asked for.
    #[error("the file is not the proving key that was asked for")]
    Id,
}

/// How much of a file is checked.
#[derive(Clone, Copy)]
enum Trust<'a> {
    /// Everything, subgroups included.
    Nothing,
    /// The file's hash, and then only that points are on the curve.
    Pinned(&'a [u8; 32]),
}

impl ProvingKey {
    /// Writes the key to `path`: whole or not at all.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), KeyFileError> {
        self.write_atomically(path).map_err(|source| io_error(path, source))
    }

    /// Reads a key and checks all of it, about half a second for key mode with two cores.
    ///
    /// # Errors
    /// When the file is not a well-formed key for this program's circuit.
    pub fn read(path: &Path) -> Result<Self, KeyFileError> {
        read_file(path, Trust::Nothing)
    }

    /// Reads the key whose `pk_id` is `id`, a fraction of a second for key mode: a file with this hash was
    /// checked when the hash was made, so the subgroup checks are left out.
    ///
    /// # Errors
    /// As [`read`](Self::read), and when the file has another hash.
    pub fn read_pinned(path: &Path, id: &[u8; 32]) -> Result<Self, KeyFileError> {
        read_file(path, Trust::Pinned(id))
    }

    /// The size of the key's file in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        Layout::new(self.payload_len, self.circuit.shape).size()
    }

    pub(crate) fn hash(&self) -> [u8; 32] {
        let mut writer = BufWriter::new(Hashing { inner: io::sink(), hash: Sha256::new() });
        self.write_to(&mut writer).expect("nothing is written");
        let Ok(hashing) = writer.into_inner() else { unreachable!("nothing is written") };
        hashing.hash.finalize().into()
    }

    fn write_atomically(&self, path: &Path) -> io::Result<()> {
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        let mut writer = BufWriter::new(file.as_file_mut());
        self.write_to(&mut writer)?;
        writer.flush()?;
        drop(writer);
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        File::open(folder)?.sync_all()
    }

    fn write_to(&self, out: &mut impl Write) -> io::Result<()> {
        out.write_all(MAGIC)?;
        out.write_all(&(self.payload_len as u64).to_be_bytes())?;
        out.write_all(&circuit_id(self.payload_len))?;
        out.write_all(&self.verifying.to_bytes())?;
        let key = &self.key;
        write_points(out, &[key.beta_g1, key.delta_g1])?;
        write_points(out, &key.a_query)?;
        write_points(out, &key.b_g1_query)?;
        write_points(out, &key.b_g2_query)?;
        write_points(out, &key.h_query)?;
        write_points(out, &key.l_query)
    }
}

/// How many elements the parts of a key have.
#[derive(Clone, Copy)]
struct Layout {
    verifying_key_len: usize,
    variables: usize,
    witnesses: usize,
    powers: usize,
}

impl Layout {
    const HEADER: usize = MAGIC.len() + 8 + 32;

    fn new(payload_len: usize, shape: Shape) -> Self {
        let rows = shape.constraints + 1 + shape.inputs;
        let domain = GeneralEvaluationDomain::<Fr>::new(rows).expect("far below 2^28 constraints");
        Self {
            verifying_key_len: FIXED_LEN + G1_LEN * (1 + input_count(payload_len)),
            variables: shape.variables(),
            witnesses: shape.witnesses,
            powers: domain.size() - 1,
        }
    }

    fn size(self) -> u64 {
        let g1 = 2 + 2 * self.variables + self.powers + self.witnesses;
        let points = 2 * G1_LEN * g1 + 2 * G2_LEN * self.variables;
        (Self::HEADER + self.verifying_key_len + points) as u64
    }
}

fn read_file(path: &Path, trust: Trust<'_>) -> Result<ProvingKey, KeyFileError> {
    let file = File::open(path).map_err(|source| io_error(path, source))?;
    let size = file.metadata().map_err(|source| io_error(path, source))?.len();
    let inner = BufReader::with_capacity(1 << 20, file);
    let mut source = Source { path, inner: Hashing { inner, hash: Sha256::new() } };
    let (payload_len, circuit) = read_header(&mut source, size)?;
    let key = read_elements(&mut source, payload_len, circuit.shape)?;
    let id = source.inner.hash.finalize().into();
    match trust {
        Trust::Pinned(pinned) if *pinned != id => return Err(KeyFileError::Id),
        Trust::Pinned(_) => {}
        // G1 has no subgroup to be outside of.
        Trust::Nothing if all_in_subgroup(&key.b_g2_query, id) => {}
        Trust::Nothing => return Err(element("B2")(PointError::OutOfSubgroup)),
    }
    let verifying = VerifyingKey::new(payload_len, &key.vk);
    Ok(ProvingKey { payload_len, key, circuit, verifying, id })
}

fn read_header(source: &mut Source<'_, impl Read>, size: u64) -> Result<(usize, Circuit), KeyFileError> {
    if size < Layout::HEADER as u64 || source.array()? != *MAGIC {
        return Err(KeyFileError::NotAKey);
    }
    let claimed = u64::from_be_bytes(source.array()?);
    let payload_len = match usize::try_from(claimed) {
        Ok(len) if len <= MAX_PAYLOAD_LEN => len,
        _ => return Err(KeyFileError::PayloadLength(claimed)),
    };
    let expected = Layout::new(payload_len, crate::shape(payload_len)).size();
    if size != expected {
        return Err(KeyFileError::Size { expected, found: size });
    }
    if source.array()? != circuit_id(payload_len) {
        return Err(KeyFileError::Circuit);
    }
    Ok((payload_len, Circuit::new(payload_len)))
}

fn read_elements(
    source: &mut Source<'_, impl Read>,
    payload_len: usize,
    shape: Shape,
) -> Result<ark_groth16::ProvingKey<Bn254>, KeyFileError> {
    let layout = Layout::new(payload_len, shape);
    let mut verifying = vec![0; layout.verifying_key_len];
    source.fill(&mut verifying)?;
    let verifying = VerifyingKey::from_bytes(&verifying)?;
    if verifying.payload_len() != payload_len {
        return Err(KeyFileError::VerifyingKeyLength);
    }
    let [beta_g1, delta_g1] = source.points::<_, { 2 * G1_LEN }>("beta and delta", 2)?[..] else {
        unreachable!("two points were asked for");
    };
    if beta_g1.is_zero() || delta_g1.is_zero() {
        return Err(element("beta and delta")(PointError::Identity));
    }
    Ok(ark_groth16::ProvingKey {
        vk: verifying.groth16().clone(),
        beta_g1,
        delta_g1,
        a_query: source.points::<_, { 2 * G1_LEN }>("A", layout.variables)?,
        b_g1_query: source.points::<_, { 2 * G1_LEN }>("B1", layout.variables)?,
        b_g2_query: source.points::<_, { 2 * G2_LEN }>("B2", layout.variables)?,
        h_query: source.points::<_, { 2 * G1_LEN }>("H", layout.powers)?,
        l_query: source.points::<_, { 2 * G1_LEN }>("L", layout.witnesses)?,
    })
}

/// Whether all points, which are on the curve, are in the subgroup of prime order.
///
/// Random linear combinations are checked in place of the points, at a ninth of the time. A point outside has a
/// component of prime order in the cofactor, whose least prime factor is 10,069; a combination with 16-bit
/// coefficients loses it with a probability of at most 7 in 2^16, all of them with one of 2^-105. The
/// coefficients follow from the file's hash: who makes the file cannot choose it by them.
fn all_in_subgroup(points: &[G2Affine], seed: [u8; 32]) -> bool {
    let mut random = StdRng::from_seed(seed);
    (0..COMBINATIONS).all(|_| {
        let coefficients: Vec<u16> = points.iter().map(|_| random.next_u32() as u16).collect();
        let sum = G2Projective::msm_u16(points, &coefficients).into_affine();
        sum.is_in_correct_subgroup_assuming_on_curve()
    })
}

/// A file that is hashed while it is read.
struct Source<'a, R> {
    path: &'a Path,
    inner: Hashing<R>,
}

impl<R: Read> Source<'_, R> {
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), KeyFileError> {
        self.inner.inner.read_exact(bytes).map_err(|source| io_error(self.path, source))?;
        self.inner.hash.update(bytes);
        Ok(())
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], KeyFileError> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    /// `count` points of `N` bytes each, canonical and on the curve.
    fn points<P: SWCurveConfig, const N: usize>(
        &mut self,
        section: &'static str,
        count: usize,
    ) -> Result<Vec<Affine<P>>, KeyFileError> {
        let read = |_| {
            let bytes: [u8; N] = self.array()?;
            let point = Affine::<P>::deserialize_uncompressed_unchecked(&bytes[..])
                .map_err(|_| element(section)(PointError::NonCanonical))?;
            match point.is_on_curve() {
                true => Ok(point),
                false => Err(element(section)(PointError::OffCurve)),
            }
        };
        (0..count).map(read).collect()
    }
}

struct Hashing<T> {
    inner: T,
    hash: Sha256,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hash.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

fn write_points(out: &mut impl Write, points: &[impl CanonicalSerialize]) -> io::Result<()> {
    points.iter().try_for_each(|point| point.serialize_uncompressed(&mut *out)).map_err(io::Error::other)
}

fn element(section: &'static str) -> impl Fn(PointError) -> KeyFileError {
    move |error| KeyFileError::Element { section, error }
}

fn io_error(path: &Path, source: io::Error) -> KeyFileError {
    KeyFileError::Io { path: path.to_owned(), source }
}
