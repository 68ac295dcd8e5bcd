//! TLS: the certificate that a server shows.
//!
//! Owns: reading certificate and key, and saying which of the two is wrong.
//! Does not own: when they are read (at start; a new certificate needs a restart).

use std::path::Path;
use std::sync::Arc;

use pintail_core::error::{Error, Result};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Reads a chain of certificates and its key, both PEM.
///
/// # Errors
/// [`pintail_core::error::ErrorKind::Config`], naming the file.
pub fn acceptor(certificate: &Path, key: &Path) -> Result<TlsAcceptor> {
    let unreadable = |what: &str, path: &Path, why: &dyn std::fmt::Display| {
        Error::config(format!("`{}` cannot be used as the TLS {what}: {why}", path.display()))
    };
    let refused = |why: &dyn std::fmt::Display| unreadable("certificate", certificate, why);
    let chain = CertificateDer::pem_file_iter(certificate).map_err(|e| refused(&e))?;
    let chain: Vec<_> = chain.collect::<Result<_, _>>().map_err(|e| refused(&e))?;
    if chain.is_empty() {
        return Err(refused(&"it holds no certificate in PEM (-----BEGIN CERTIFICATE-----)"));
    }
    let key = PrivateKeyDer::from_pem_file(key).map_err(|e| unreadable("key", key, &e))?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let config = config.with_safe_default_protocol_versions().map_err(|e| refused(&e))?;
    let mut config = config.with_no_client_auth().with_single_cert(chain, key).map_err(|e| refused(&e))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
