//! `[storage]`: how the bucket of a dataset is reached.
//!
//! Owns: its keys, which of them a provider knows, and what is said of the others.
//! Does not own: credentials, which are never settings (see `credentials`), the URL of the dataset (see [`Location`]).

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use pintail_settings::bounds::sizes;
use pintail_settings::raw::read_text;
use pintail_settings::{Section, values};
use reqwest::Url;

use crate::location::{Location, Provider};

/// A bundle of certificates has fewer bytes.
const CA_BYTES_MAX: u64 = 4 << 20;

/// Scratch that a query may fill, unless another size is set.
const QUERY_BYTES_MAX: ByteSize = ByteSize::gb(10);

/// Keys that only S3 knows.
const S3_ONLY: [&str; 6] = ["region", "path_style", "profile", "encryption", "kms_key", "checksum"];

/// All keys.
const KEYS: [&str; 17] = [
    "endpoint",
    "region",
    "path_style",
    "account",
    "profile",
    "proxy",
    "ca_file",
    "allow_http",
    "encryption",
    "kms_key",
    "storage_class",
    "checksum",
    "request_timeout",
    "connect_timeout",
    "scratch",
    "heartbeat",
    "query_bytes_max",
];

/// `[storage]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageConfig {
    /// Where the server is; `None` = the provider's own.
    pub endpoint: Option<Url>,
    /// The region of S3; `None` = that of the environment or of the profile.
    pub region: Option<String>,
    /// Whether the bucket is part of the path and not of the host's name; `None` = with an `endpoint`, or where the bucket's name has a dot.
    pub path_style: Option<bool>,
    /// The account of Azure; `None` = that of the URL or of the environment.
    pub account: Option<String>,
    /// The profile of AWS; `None` = that of the environment.
    pub profile: Option<String>,
    /// The proxy; `None` = that of the environment.
    pub proxy: Option<Url>,
    /// Certificates of authorities that are believed beside those of the system, PEM.
    pub ca: Option<(PathBuf, String)>,
    /// Whether a server beyond this machine may be spoken to without TLS.
    pub allow_http: bool,
    /// How S3 encrypts what is written; `None` = as the bucket says.
    pub encryption: Option<Encryption>,
    /// The storage class of data files; `None` = that of the bucket. Records have always that of the bucket.
    pub storage_class: Option<String>,
    /// The checksum that goes with each upload.
    pub checksum: Option<Checksum>,
    /// The time that a request may take, with its body.
    pub request_timeout: Duration,
    /// The time that a connection may take to be made.
    pub connect_timeout: Duration,
    /// The local directory of what is on its way to the bucket.
    pub scratch: PathBuf,
    /// The time between two signs of life of the process that holds the dataset.
    pub heartbeat: Duration,
    /// Bytes of files that one query may fetch, which lie in `scratch` as long as it runs.
    pub query_bytes_max: u64,
}

/// How S3 encrypts objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Encryption {
    /// With its own keys.
    Aes256,
    /// With a key of KMS; `None` = that of the account.
    Kms(Option<String>),
    /// Twice, with a key of KMS.
    DsseKms(Option<String>),
}

/// A checksum that S3 compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checksum {
    /// SHA-256.
    Sha256,
    /// CRC-64/NVME.
    Crc64Nvme,
}

impl Default for StorageConfig {
    fn default() -> Self {
        Self {
            endpoint: None,
            region: None,
            path_style: None,
            account: None,
            profile: None,
            proxy: None,
            ca: None,
            allow_http: false,
            encryption: None,
            storage_class: None,
            checksum: None,
            request_timeout: Duration::from_secs(60),
            connect_timeout: Duration::from_secs(5),
            scratch: PathBuf::from("scratch/"),
            // Another host goes in when two were missed: half a minute after a host is lost.
            heartbeat: Duration::from_secs(15),
            query_bytes_max: QUERY_BYTES_MAX.as_u64(),
        }
    }
}

impl StorageConfig {
    /// Reads the section for a dataset in a bucket. Where it is on a disk (`None`) each key is a fault.
    pub fn read(section: &mut Section<'_>, location: Option<&Location>) -> Self {
        let Some(location) = location else {
            section.refuse(&KEYS, "of use only where `pipeline.out_path` is a bucket, such as \"s3://lake/events\"");
            return Self::default();
        };
        let provider = location.provider;
        if provider != Provider::S3 {
            section.refuse(&S3_ONLY, &format!("of use only with \"s3://\": with {provider} the bucket or the account says it"));
        }
        if provider != Provider::Azure {
            section.refuse(&["account"], "of use only with \"az://\"");
        } else {
            section.refuse(&["storage_class"], "not with Azure: set the access tier of the account, or a lifecycle rule");
        }
        let default = Self::default();
        let (second, most) = (Duration::from_secs(1), Duration::from_secs(600));
        let allow_http = section.boolean("allow_http", default.allow_http);
        Self {
            endpoint: section.optional_text("endpoint", |text| endpoint(text, allow_http)),
            region: section.optional_text("region", word),
            path_style: section.optional_boolean("path_style"),
            account: section.optional_text("account", |text| account(text, location)),
            profile: section.optional_text("profile", values::name),
            proxy: section.optional_text("proxy", proxy),
            ca: section.optional_text("ca_file", ca),
            allow_http,
            encryption: encryption(section),
            storage_class: section.optional_text("storage_class", |text| storage_class(text, provider)),
            checksum: checksum(section),
            request_timeout: section.duration("request_timeout", default.request_timeout, second..=most),
            connect_timeout: section.duration("connect_timeout", default.connect_timeout, Duration::from_millis(100)..=most),
            scratch: section.text("scratch", "scratch/", values::path),
            heartbeat: section.duration("heartbeat", default.heartbeat, second..=most),
            query_bytes_max: section.size("query_bytes_max", QUERY_BYTES_MAX, sizes(ByteSize::kib(64), ByteSize::tib(1))),
        }
    }
}

/// Parses the URL of a server.
///
/// # Errors
/// Says what was expected, or why it is not spoken to.
pub(crate) fn endpoint(text: &str, allow_http: bool) -> Result<Url, String> {
    let url = server(text, "https://s3.example.com")?;
    if url.scheme() == "http" && !allow_http && !is_loopback(&url) {
        return Err(
            "everything would go there without TLS: write https://, or set `storage.allow_http = true` if the network is trusted".into()
        );
    }
    Ok(url)
}

fn proxy(text: &str) -> Result<Url, String> {
    server(text, "http://proxy.example.com:3128")
        .map_err(|why| if text.contains('@') { format!("{why}; a login belongs into the variable HTTPS_PROXY") } else { why })
}

fn server(text: &str, example: &str) -> Result<Url, String> {
    let expected = || format!("expected the URL of a server without a login and a query, such as \"{example}\"");
    let url = Url::parse(text).map_err(|_| expected())?;
    let is_plain = url.username().is_empty() && url.password().is_none() && url.query().is_none() && url.fragment().is_none();
    let is_server = matches!(url.scheme(), "http" | "https") && url.has_host();
    if is_plain && is_server { Ok(url) } else { Err(expected()) }
}

/// Returns whether a server is on this machine.
pub(crate) fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

fn word(text: &str) -> Result<String, String> {
    let is_word = !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    if is_word { Ok(text.to_owned()) } else { Err("expected a word of letters, digits and hyphens".into()) }
}

fn account(text: &str, location: &Location) -> Result<String, String> {
    match &location.account {
        Some((account, _)) if account != text => Err(format!("`pipeline.out_path` names the account {account:?}: leave one of them out")),
        _ => word(text),
    }
}

fn ca(text: &str) -> Result<(PathBuf, String), String> {
    let path = values::path(text)?;
    let pem = read_text(&path, CA_BYTES_MAX).map_err(|e| format!("cannot read it: {e}"))?;
    let certificates = reqwest::Certificate::from_pem_bundle(pem.as_bytes());
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok((path, pem)),
        _ => Err("it holds no certificates in PEM (-----BEGIN CERTIFICATE-----)".into()),
    }
}

fn encryption(section: &mut Section<'_>) -> Option<Encryption> {
    let kind = section.optional_choice("encryption", &[("AES256", 0), ("aws:kms", 1), ("aws:kms:dsse", 2)]);
    let key = section.optional_text("kms_key", values::name);
    match kind {
        Some(1) => Some(Encryption::Kms(key)),
        Some(2) => Some(Encryption::DsseKms(key)),
        _ if key.is_some() && !section.is_faulty("encryption") => {
            section.fault("kms_key", "of use only with `storage.encryption = \"aws:kms\"` or \"aws:kms:dsse\"");
            None
        }
        Some(_) => Some(Encryption::Aes256),
        None => None,
    }
}

fn checksum(section: &mut Section<'_>) -> Option<Checksum> {
    let choices = [("none", None), ("sha256", Some(Checksum::Sha256)), ("crc64nvme", Some(Checksum::Crc64Nvme))];
    section.optional_choice("checksum", &choices).flatten()
}

fn storage_class(text: &str, provider: Provider) -> Result<String, String> {
    let is_class = !text.is_empty() && text.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
    match text {
        "GLACIER" | "DEEP_ARCHIVE" if provider == Provider::S3 => Err(
            "no query could read a file of that class before it is restored: take \"GLACIER_IR\", or move old files by a lifecycle rule"
                .into(),
        ),
        _ if is_class => Ok(text.to_owned()),
        _ => Err("expected a storage class, such as \"STANDARD_IA\" or \"NEARLINE\"".into()),
    }
}

#[cfg(test)]
mod tests {
    use pintail_settings::raw::RawConfig;
    use pintail_settings::report::Report;

    use super::*;

    /// Reads keys of the section, each as `--set` takes it. Returns what was read, and all faults.
    fn read(out_path: &str, keys: &[&str]) -> (StorageConfig, Vec<String>) {
        let sets: Vec<String> = keys.iter().map(|key| format!("storage.{key}")).collect();
        let mut raw = RawConfig::collect(None, std::iter::empty(), &sets).unwrap();
        let location = Location::parse(out_path).map(Result::unwrap);
        let mut report = Report::default();
        let mut section = Section::open(&mut raw.root, "storage", &mut report);
        let config = StorageConfig::read(&mut section, location.as_ref());
        section.close();
        report.judge_unknown(raw.root, &[]);
        (config, report.faults)
    }

    #[test]
    fn the_keys_of_a_bucket_of_s3_are_read() {
        let keys =
            ["region=eu-central-1", "endpoint=https://s3.example.com", "encryption=aws:kms", "kms_key=alias/lake", "checksum=sha256"];
        let (config, faults) = read("s3://lake/x", &keys);
        assert_eq!(faults, [""; 0]);
        assert_eq!(config.region.as_deref(), Some("eu-central-1"));
        assert_eq!(config.encryption, Some(Encryption::Kms(Some("alias/lake".into()))));
        assert_eq!((config.checksum, config.path_style), (Some(Checksum::Sha256), None));
    }

    #[test]
    fn without_tls_only_a_server_of_this_machine_is_spoken_to_unless_it_was_asked_for() {
        for local in ["http://127.0.0.1:8333", "http://localhost:10000/devstoreaccount1", "http://[::1]:9000"] {
            assert_eq!(read("s3://lake/x", &[&format!("endpoint={local}")]).1, [""; 0], "{local}");
        }
        let (_, faults) = read("s3://lake/x", &["endpoint=http://minio:9000"]);
        assert!(faults[0].contains("without TLS") && faults[0].contains("allow_http"), "{faults:?}");
        assert_eq!(read("s3://lake/x", &["endpoint=http://minio:9000", "allow_http=true"]).1, [""; 0]);
    }

    #[test]
    fn each_key_that_is_of_no_use_is_named_with_its_reason() {
        for (out_path, key, part) in [
            ("checkpoints", "region=eu", "is a bucket"),
            ("checkpoints", "allow_http=true", "is a bucket"),
            ("gs://lake", "encryption=AES256", "only with \"s3://\""),
            ("az://lake", "storage_class=STANDARD_IA", "access tier"),
            ("s3://lake", "account=acme", "only with \"az://\""),
            ("s3://lake", "kms_key=alias/x", "only with `storage.encryption"),
            ("s3://lake", "storage_class=GLACIER", "restored"),
            ("s3://lake", "proxy=http://me:hunter2@proxy:3128", "HTTPS_PROXY"),
            ("s3://lake", "endpoint=lake.example.com", "the URL of a server"),
            ("abfss://lake@acme.dfs.core.windows.net/x", "account=other", "\"acme\""),
            ("s3://lake", "ca_file=/dev/null", "no certificates"),
            ("s3://lake", "regoin=eu", "did you mean `storage.region`?"),
        ] {
            let (_, faults) = read(out_path, &[key]);
            assert_eq!(faults.len(), 1, "{out_path} {key}: {faults:?}");
            assert!(faults[0].starts_with("`storage.") && faults[0].contains(part), "{out_path} {key}: {faults:?}");
            assert!(!faults[0].contains("hunter2"), "{faults:?}");
        }
    }
}
