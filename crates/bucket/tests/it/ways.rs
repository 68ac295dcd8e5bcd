//! How a server is reached: TLS, a private authority, a proxy.
//!
//! Owns: that each of these settings has its effect, and what is said where one is missing.
//! Does not own: reading the settings (see `StorageConfig`).

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use pintail_bucket::{Bucket, Location, StorageConfig};
use pintail_storage::blob::{Blob, Fault};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::dataset::key;
use crate::gcs::{Fake, Reply, reply};
use crate::servers::environment;

/// Returns a certificate or key that was made for tests, of an authority that nobody else knows.
fn tls_file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/it/nats/tls").join(name)
}

fn acceptor() -> TlsAcceptor {
    let chain = CertificateDer::pem_file_iter(tls_file("server.pem")).unwrap().collect::<Result<Vec<_>, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_file(tls_file("server.key")).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider())).with_safe_default_protocol_versions().unwrap();
    TlsAcceptor::from(Arc::new(config.with_no_client_auth().with_single_cert(chain, key).unwrap()))
}

/// An answer to a request that writes an object.
fn written() -> Reply {
    let mut written = reply(200, "");
    written.headers_mut().insert("etag", "\"e\"".parse().unwrap());
    written
}

async fn create(config: &StorageConfig) -> Result<(), Fault> {
    let location = Location::parse("s3://lake/x").unwrap().unwrap();
    let keys = environment(&[("AWS_ACCESS_KEY_ID", "AKIA"), ("AWS_SECRET_ACCESS_KEY", "hunter2")]);
    let bucket = Bucket::connect(&location, config, &keys).unwrap();
    bucket.put_if_absent(&key("a"), Bytes::from_static(b"x")).await
}

#[tokio::test]
async fn a_server_with_a_private_authority_is_believed_if_that_was_set_and_else_not() {
    let fake = Fake::serve_by(Some(acceptor()), |_, _| written());
    let endpoint = fake.endpoint().replace("http://", "https://");
    let mut config = StorageConfig { endpoint: Some(endpoint.parse().unwrap()), ..StorageConfig::default() };
    let unknown = create(&config).await.unwrap_err();
    let Fault::Unknown(why) = &unknown else { panic!("{unknown:?}") };
    assert!(why.contains(&endpoint) && why.contains("certificate"), "{why}");
    let ca = tls_file("ca.pem");
    let pem = std::fs::read_to_string(&ca).unwrap();
    config.ca = Some((ca, pem));
    create(&config).await.unwrap();
}

#[tokio::test]
async fn a_proxy_is_spoken_to_for_servers_beyond_this_machine_alone() {
    // A proxy is told the whole URL, a server only the path.
    let proxy = Fake::serve(|request, _| match request.uri().host() {
        Some("s3.example.invalid") => written(),
        _ => reply(500, "not for a proxy"),
    });
    let server = Fake::serve(|request, _| if request.uri().host().is_none() { written() } else { reply(500, "not by a proxy") });
    for endpoint in ["http://s3.example.invalid".to_owned(), server.endpoint()] {
        let config = StorageConfig {
            endpoint: Some(endpoint.parse().unwrap()),
            proxy: Some(proxy.endpoint().parse().unwrap()),
            allow_http: true,
            ..StorageConfig::default()
        };
        create(&config).await.unwrap();
    }
}
