//! The files behind TLS to the broker: the authority that its certificate must be by, and the gateway's own
//! certificate with its key.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use thiserror::Error;
use zeroize::Zeroizing;

/// Anything for those who are neither owner nor group: systemd hands credentials over with mode 0440.
const OTHERS: u32 = 0o007;

/// What a file of the configuration lacks.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("{0}")]
    Io(io::ErrorKind),
    /// It is secret, and everybody may read it.
    #[error("mode {0:04o} lets everybody read it, it must be 0600")]
    Mode(u32),
    /// Not UTF-8.
    #[error("not text")]
    Text,
    /// A secret that can be guessed.
    #[error("shorter than {0} characters")]
    Short(usize),
    /// No PEM, or not of this kind.
    #[error("no {0} in PEM form")]
    Pem(&'static str),
    /// TLS does not take it.
    #[error("{0}")]
    Tls(String),
}

/// A secret of a few lines.
pub(super) fn secret(path: &Path) -> Result<Zeroizing<Vec<u8>>, FileError> {
    let mode = fs::metadata(path).map_err(|error| FileError::Io(error.kind()))?.permissions().mode() & 0o7777;
    if mode & OTHERS != 0 {
        return Err(FileError::Mode(mode));
    }
    fs::read(path).map(Zeroizing::new).map_err(|error| FileError::Io(error.kind()))
}

/// TLS 1.2 and 1.3 to a server by this authority alone; the error comes with the file that it is about.
pub(super) fn client<'a>(
    ca: &'a Path,
    own: Option<(&'a Path, &'a Path)>,
) -> Result<Arc<ClientConfig>, (&'a Path, FileError)> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(ca).map_err(|error| (ca, error))? {
        roots.add(certificate).map_err(|error| (ca, FileError::Tls(error.to_string())))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| (ca, FileError::Tls(error.to_string())))?
        .with_root_certificates(roots);
    let Some((certificate, key)) = own else { return Ok(Arc::new(builder.with_no_client_auth())) };
    let chain = certificates(certificate).map_err(|error| (certificate, error))?;
    let secret = secret(key).map_err(|error| (key, error))?;
    let secret = PrivateKeyDer::from_pem_slice(&secret).map_err(|_| (key, FileError::Pem("private key")))?;
    let config = builder.with_client_auth_cert(chain, secret);
    config.map(Arc::new).map_err(|error| (key, FileError::Tls(error.to_string())))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let text = fs::read(path).map_err(|error| FileError::Io(error.kind()))?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    found.ok().filter(|found| !found.is_empty()).ok_or(FileError::Pem("certificate"))
}
