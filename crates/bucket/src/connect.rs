//! A client of object_store for each provider, set up as `[storage]` and the environment say.
//!
//! Owns: endpoints, and all options of the builders: conditional requests on, retries off (see the crate's front page).
//! Does not own: credentials (see `credentials`), the HTTP client (see `http`), the requests (see `bucket`).

use std::fmt;
use std::sync::Arc;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, S3ConditionalPut};
use object_store::azure::MicrosoftAzureBuilder;
use object_store::client::HttpConnector;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::{BackoffConfig, ClientOptions, RetryConfig};
use pintail_core::error::{Error, Result};
use reqwest::Url;

use crate::bucket::{Bucket, Store};
use crate::config::{Checksum, Encryption, StorageConfig, endpoint};
use crate::credentials;
use crate::environment::Environment;
use crate::http::{Client, Noting};
use crate::location::{Location, Provider};
use crate::meters::Meters;
use crate::parts::{Asked, Uploads};

/// Where a bucket is, and how to get in.
struct Reached {
    store: Arc<dyn Store>,
    uploads: Uploads,
    endpoint: Url,
    credentials: String,
}

/// What all builders need.
struct Common<'a> {
    location: &'a Location,
    config: &'a StorageConfig,
    environment: &'a Environment,
    connector: Arc<dyn HttpConnector>,
    meters: Arc<Meters>,
}

impl Bucket {
    /// Prepares a client for the bucket of a dataset. Nothing is asked yet.
    ///
    /// # Errors
    /// [`pintail_core::error::ErrorKind::Config`] if something is missing or cannot be used, naming it.
    pub fn connect(location: &Location, config: &StorageConfig, environment: &Environment) -> Result<Self> {
        Self::connect_by(location, config, environment, Arc::new(Client::new(config)?))
    }

    /// As [`Self::connect`], by another line than [`Client`].
    ///
    /// # Errors
    /// As there.
    pub fn connect_by(
        location: &Location,
        config: &StorageConfig,
        environment: &Environment,
        connector: Arc<dyn HttpConnector>,
    ) -> Result<Self> {
        environment.check()?;
        let meters = Arc::new(Meters::default());
        let common = Common { location, config, environment, connector, meters: meters.clone() };
        let reached = match location.provider {
            Provider::S3 => s3(&common)?,
            Provider::Gcs => gcs(&common)?,
            Provider::Azure => azure(&common)?,
        };
        Ok(Self {
            store: reached.store,
            uploads: reached.uploads,
            location: location.clone(),
            endpoint: reached.endpoint.origin().ascii_serialization(),
            credentials: reached.credentials,
            class: config.storage_class.clone(),
            meters,
        })
    }
}

impl Common<'_> {
    /// Returns the line to a server.
    fn noting(&self, endpoint: &Url) -> Noting {
        Noting { inner: self.connector.clone(), endpoint: endpoint.clone(), meters: self.meters.clone() }
    }

    /// Returns the way to ask for what object_store does not.
    fn uploads(&self, endpoint: &Url, provider: Asked) -> Result<Uploads> {
        let client = self.noting(endpoint).connect(&options(endpoint));
        let client =
            client.map_err(|_| Error::config(format!("cannot prepare the line to {}", endpoint.origin().ascii_serialization())))?;
        Ok(Uploads { client, provider })
    }

    /// Returns the bucket below an endpoint.
    fn below(&self, endpoint: &Url) -> Url {
        let mut url = endpoint.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push(&self.location.bucket);
        }
        url
    }

    /// Returns the endpoint that was set, or the one that the environment names.
    fn endpoint(&self, variables: &[&str], of_profile: Option<&str>) -> Result<Option<Url>> {
        if let Some(endpoint) = &self.config.endpoint {
            return Ok(Some(endpoint.clone()));
        }
        let (name, text) = match (self.environment.first(variables), of_profile) {
            (Some((name, text)), _) => (name, text),
            (None, Some(text)) => ("endpoint_url of the profile of AWS", text),
            (None, None) => return Ok(None),
        };
        endpoint(text, self.config.allow_http).map(Some).map_err(|why| Error::config(format!("{name} = {text:?}: {why}")))
    }
}

/// Lets the HTTP client speak without TLS only if the server has none.
fn options(endpoint: &Url) -> ClientOptions {
    ClientOptions::new().with_allow_http(endpoint.scheme() == "http")
}

fn no_retries() -> RetryConfig {
    RetryConfig { backoff: BackoffConfig::default(), max_retries: 0, retry_timeout: std::time::Duration::ZERO }
}

fn parsed(url: &str, of: impl fmt::Display) -> Result<Url> {
    Url::parse(url).map_err(|e| Error::config(format!("{of} makes no URL of a server: {e}")))
}

/// What object_store says is not shown: it may quote what it was given.
fn unusable(provider: Provider, credentials: &str) -> Error {
    Error::config(format!("cannot use {credentials} as credentials of {provider}: what it holds has not the form that was expected"))
}

fn s3(common: &Common<'_>) -> Result<Reached> {
    let (config, bucket) = (common.config, &common.location.bucket);
    if bucket.ends_with("--x-s3") {
        return Err(Error::config(format!(
            "`{}` is a directory bucket (S3 Express), which was not tried: take another bucket",
            common.location
        )));
    }
    let (found, profile) = credentials::s3(common.environment, config.profile.as_deref())?;
    let server = common.endpoint(&["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"], profile.endpoint.as_deref())?;
    let of_environment = common.environment.first(&["AWS_REGION", "AWS_DEFAULT_REGION"]).map(|(_, region)| region.to_owned());
    let region = config.region.clone().or(of_environment).or(profile.region);
    let region = match (region, &server) {
        (Some(region), _) => region,
        (None, Some(_)) => "us-east-1".to_owned(),
        (None, None) => {
            return Err(Error::config(format!(
                "no region is set for `{}`: set `storage.region` or AWS_REGION to where the bucket is",
                common.location
            )));
        }
    };
    let path_style = config.path_style.unwrap_or(server.is_some() || bucket.contains('.'));
    let server = match server {
        Some(server) => server,
        None => {
            let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
            parsed(&format!("https://s3.{region}.{domain}"), format_args!("the region {region:?}"))?
        }
    };
    let mut endpoint = server.clone();
    if !path_style {
        let host = format!("{bucket}.{}", server.host_str().unwrap_or_default());
        let refused = |_| Error::config(format!("`{bucket}` cannot be a part of a host's name: set `storage.path_style = true`"));
        endpoint.set_host(Some(&host)).map_err(refused)?;
    }
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(bucket)
        .with_region(&region)
        .with_endpoint(endpoint.as_str().trim_end_matches('/'))
        .with_virtual_hosted_style_request(!path_style)
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        .with_disable_tagging(true)
        .with_retry(no_retries())
        .with_client_options(options(&endpoint))
        .with_http_connector(common.noting(&endpoint));
    for (key, value) in found.values {
        builder = builder.with_config(key, value);
    }
    if let Some(checksum) = config.checksum {
        builder = builder.with_checksum_algorithm(match checksum {
            Checksum::Sha256 => object_store::aws::Checksum::SHA256,
            Checksum::Crc64Nvme => object_store::aws::Checksum::CRC64NVME,
        });
    }
    if let Some(encryption) = &config.encryption {
        let (kind, key) = match encryption {
            Encryption::Aes256 => ("AES256", &None),
            Encryption::Kms(key) => ("aws:kms", key),
            Encryption::DsseKms(key) => ("aws:kms:dsse", key),
        };
        let set = |builder: AmazonS3Builder, name: &str, value: &str| {
            let key: AmazonS3ConfigKey = name.parse().expect("object_store knows its own keys");
            builder.with_config(key, value)
        };
        builder = set(builder, "aws_server_side_encryption", kind);
        if let Some(key) = key {
            builder = set(builder, "aws_sse_kms_key_id", key);
        }
    }
    let store = Arc::new(builder.build().map_err(|_| unusable(Provider::S3, &found.from))?);
    let uploads = common.uploads(&endpoint, Asked::S3(store.clone()))?;
    Ok(Reached { store, uploads, endpoint, credentials: found.from })
}

fn gcs(common: &Common<'_>) -> Result<Reached> {
    let found = credentials::gcs(common.environment)?;
    let endpoint = match common.endpoint(&["GOOGLE_BASE_URL"], None)? {
        Some(endpoint) => endpoint,
        None => parsed("https://storage.googleapis.com", "GCS")?,
    };
    let mut builder = GoogleCloudStorageBuilder::new()
        .with_bucket_name(&common.location.bucket)
        .with_base_url(endpoint.as_str().trim_end_matches('/'))
        .with_retry(no_retries())
        .with_client_options(options(&endpoint))
        .with_http_connector(common.noting(&endpoint));
    for (key, value) in found.values {
        builder = builder.with_config(key, value);
    }
    let store = Arc::new(builder.build().map_err(|_| unusable(Provider::Gcs, &found.from))?);
    let uploads = common.uploads(&endpoint, Asked::Gcs { store: store.clone(), bucket: common.below(&endpoint) })?;
    Ok(Reached { store, uploads, endpoint, credentials: found.from })
}

fn azure(common: &Common<'_>) -> Result<Reached> {
    let found = credentials::azure(common.environment)?;
    let of_url = common.location.account.as_ref();
    let of_environment = common.environment.first(&["AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT"]);
    let account = common.config.account.as_deref().or(of_url.map(|(account, _)| account.as_str())).or(of_environment.map(|(_, name)| name));
    let account = account.ok_or_else(|| {
        let container = &common.location.bucket;
        Error::config(format!(
            "no account is set for `{}`: set `storage.account` or AZURE_STORAGE_ACCOUNT_NAME, or write \
             abfss://{container}@ACCOUNT.dfs.core.windows.net/…",
            common.location
        ))
    })?;
    let endpoint = match common.endpoint(&["AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"], None)? {
        Some(endpoint) => endpoint,
        None => {
            let rest = of_url.map_or("core.windows.net", |(_, rest)| rest.as_str());
            parsed(&format!("https://{account}.blob.{rest}"), format_args!("the account {account:?}"))?
        }
    };
    let mut builder = MicrosoftAzureBuilder::new()
        .with_account(account)
        .with_container_name(&common.location.bucket)
        .with_endpoint(endpoint.as_str().trim_end_matches('/').to_owned())
        .with_disable_tagging(true)
        .with_retry(no_retries())
        .with_client_options(options(&endpoint))
        .with_http_connector(common.noting(&endpoint));
    for (key, value) in found.values {
        builder = builder.with_config(key, value);
    }
    let store = Arc::new(builder.build().map_err(|_| unusable(Provider::Azure, &found.from))?);
    let uploads = common
        .uploads(&endpoint, Asked::Azure { store: store.clone(), container: common.below(&endpoint), account: account.to_owned() })?;
    Ok(Reached { store, uploads, endpoint, credentials: found.from })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connected(url: &str, config: StorageConfig, variables: &[(&str, &str)]) -> Result<Bucket> {
        let environment = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Bucket::connect(&Location::parse(url).unwrap().unwrap(), &config, &environment)
    }

    const KEYS: [(&str, &str); 2] = [("AWS_ACCESS_KEY_ID", "AKIA"), ("AWS_SECRET_ACCESS_KEY", "hunter2")];

    #[test]
    fn the_server_of_a_bucket_is_that_of_its_region_and_account_or_the_one_that_was_set() {
        let region = StorageConfig { region: Some("eu-central-1".into()), ..StorageConfig::default() };
        let endpoint = |bucket: Bucket| bucket.endpoint().to_owned();
        assert_eq!(endpoint(connected("s3://lake/x", region.clone(), &KEYS).unwrap()), "https://lake.s3.eu-central-1.amazonaws.com");
        assert_eq!(endpoint(connected("s3://my.lake/x", region, &KEYS).unwrap()), "https://s3.eu-central-1.amazonaws.com");
        let china = [&KEYS[..], &[("AWS_REGION", "cn-north-1")]].concat();
        assert_eq!(
            endpoint(connected("s3://lake", StorageConfig::default(), &china).unwrap()),
            "https://lake.s3.cn-north-1.amazonaws.com.cn"
        );
        let minio = [&KEYS[..], &[("AWS_ENDPOINT_URL", "http://127.0.0.1:9000")]].concat();
        assert_eq!(endpoint(connected("s3://lake", StorageConfig::default(), &minio).unwrap()), "http://127.0.0.1:9000");
        let sas = [("AZURE_STORAGE_SAS_TOKEN", "sv=1&sig=x")];
        let abfss = connected("abfss://lake@acme.dfs.core.windows.net/x", StorageConfig::default(), &sas);
        assert_eq!(endpoint(abfss.unwrap()), "https://acme.blob.core.windows.net");
        let gs = connected("gs://lake", StorageConfig::default(), &[("GOOGLE_BEARER_TOKEN", "x")]);
        assert_eq!(endpoint(gs.unwrap()), "https://storage.googleapis.com");
    }

    #[test]
    fn what_is_missing_is_named_with_the_way_out() {
        for (url, variables, part) in [
            ("s3://lake/x", &KEYS[..], "`storage.region` or AWS_REGION"),
            ("s3://lake--eun1-az1--x-s3/x", &KEYS[..], "directory bucket"),
            ("az://lake/x", &[("AZURE_STORAGE_SAS_TOKEN", "sv=1&sig=x")][..], "`storage.account`"),
            ("s3://lake/x", &[KEYS[0], ("AWS_SECRET_ACCESS_KEY", "x\n")][..], "AWS_SECRET_ACCESS_KEY holds a line end"),
            ("s3://lake/x", &[KEYS[0], KEYS[1], ("AWS_SESSION_TOKEN", "x\r")][..], "AWS_SESSION_TOKEN holds a line end"),
            ("gs://lake", &[("GOOGLE_BEARER_TOKEN", "x\n")][..], "GOOGLE_BEARER_TOKEN"),
            ("az://lake/x", &[("AZURE_STORAGE_ACCOUNT_KEY", "aGVq\n")][..], "AZURE_STORAGE_ACCOUNT_KEY"),
            ("s3://lake/x", &[KEYS[0], KEYS[1], ("AWS_ENDPOINT_URL", "http://minio:9000")][..], "AWS_ENDPOINT_URL = \"http://minio:9000\""),
        ] {
            let refused = connected(url, StorageConfig::default(), variables).unwrap_err();
            assert_eq!(refused.kind(), pintail_core::error::ErrorKind::Config);
            assert!(refused.to_string().contains(part), "{refused}");
        }
    }

    #[test]
    fn a_bucket_that_is_shown_for_debugging_shows_no_key() {
        let region = StorageConfig { region: Some("eu-central-1".into()), ..StorageConfig::default() };
        let shown = format!("{:?}", connected("s3://lake/x", region, &KEYS).unwrap());
        assert!(shown.contains("lake") && !shown.contains("hunter2") && !shown.contains("AKIA"), "{shown}");
    }
}
