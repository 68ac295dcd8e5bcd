//! The URL of a dataset in a bucket.
//!
//! Owns: its syntax, and what is said of URLs that are not taken.
//! Does not own: how the bucket is reached (see [`crate::StorageConfig`]), paths on a disk.

use std::fmt;

/// Who keeps a bucket, and so which protocol it speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provider {
    /// Amazon S3, and all that speak its protocol.
    S3,
    /// Google Cloud Storage, by its XML API.
    Gcs,
    /// Azure Blob Storage.
    Azure,
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::S3 => "S3",
            Self::Gcs => "GCS",
            Self::Azure => "Azure",
        })
    }
}

/// Where a dataset lies in a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// Who keeps it.
    pub provider: Provider,
    /// The bucket; with Azure the container.
    pub bucket: String,
    /// The names of all objects begin so, with a `/` behind it. May be empty.
    pub prefix: String,
    /// Of Azure: the account and the rest of the host's name, where the URL says so.
    pub account: Option<(String, String)>,
    url: String,
}

impl Location {
    /// Parses what was given as the place of a dataset; `None` if that is a path on a disk.
    ///
    /// # Errors
    /// Says what was expected.
    pub fn parse(text: &str) -> Option<Result<Self, String>> {
        let Some((scheme, rest)) = text.split_once("://") else {
            return text.split_once(":/").and_then(|(scheme, _)| slashless(scheme)).map(Err);
        };
        let provider = match scheme {
            "s3" => Provider::S3,
            "gs" => Provider::Gcs,
            "az" | "abfss" => Provider::Azure,
            "file" => return None,
            _ => return Some(Err(unknown(scheme))),
        };
        Some(Self::parse_rest(provider, scheme, rest))
    }

    fn parse_rest(provider: Provider, scheme: &str, rest: &str) -> Result<Self, String> {
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let prefix = path.trim_end_matches('/');
        let (bucket, account) = match scheme {
            "abfss" => {
                let parts = host.split_once('@').and_then(|(container, host)| Some((container, account(host)?)));
                let (container, account) = parts
                    .ok_or("expected a container, an account and its host, as in \"abfss://lake@account.dfs.core.windows.net/events\"")?;
                (container, Some(account))
            }
            _ if host.contains('@') => {
                return Err("a URL here holds no credentials: they come from the environment (see `[storage]`)".into());
            }
            _ => (host, None),
        };
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if bucket.is_empty() || !bucket.chars().all(is_name) {
            return Err(format!("expected the name of a bucket behind \"{scheme}://\", as in \"{scheme}://lake/events\""));
        }
        if prefix.contains(['?', '#', '\\']) || prefix.chars().any(char::is_control) {
            return Err("a URL here is a bucket and a path: it has no ?, # or \\, and no control characters".into());
        }
        if !prefix.is_empty() && prefix.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err("expected a path without empty parts, \".\" and \"..\" behind the bucket".into());
        }
        let url = if prefix.is_empty() { format!("{scheme}://{host}") } else { format!("{scheme}://{host}/{prefix}") };
        Ok(Self { provider, bucket: bucket.to_owned(), prefix: prefix.to_owned(), account, url })
    }

    /// Returns the URL, without a `/` at its end: how messages call the dataset.
    pub fn as_str(&self) -> &str {
        &self.url
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url)
    }
}

/// Splits the host of an account: `account.dfs.core.windows.net`.
fn account(host: &str) -> Option<(String, String)> {
    let (account, rest) = host.split_once('.')?;
    let rest = rest.strip_prefix("dfs.").or_else(|| rest.strip_prefix("blob."))?;
    let is_account = !account.is_empty() && account.chars().all(|c| c.is_ascii_alphanumeric());
    (is_account && !rest.is_empty()).then(|| (account.to_owned(), rest.to_owned()))
}

/// Refuses the scheme of a bucket with one slash behind it.
fn slashless(scheme: &str) -> Option<String> {
    let is_known = matches!(scheme, "s3" | "s3a" | "s3n" | "gs" | "gcs" | "az" | "abfs" | "abfss");
    is_known.then(|| format!("expected two slashes behind \"{scheme}:\"; a path on a disk is written \"./{scheme}:/…\""))
}

fn unknown(scheme: &str) -> String {
    let meant = match scheme.to_ascii_lowercase().as_str() {
        "s3" | "s3a" | "s3n" => "write it as \"s3://\"",
        "gs" | "gcs" => "write it as \"gs://\"",
        "az" | "azure" | "adl" | "wasb" | "wasbs" => "write it as \"az://\" or \"abfss://\"",
        "abfs" => "write it as \"abfss://\": \"abfs://\" is without TLS",
        "http" | "https" => "write it as \"s3://BUCKET/…\", and the server's URL as `storage.endpoint`",
        _ => "expected a path, or a URL of a bucket: \"s3://\", \"gs://\", \"az://\" or \"abfss://\"",
    };
    format!("no bucket is known by \"{}://\": {meant}", scheme.escape_debug())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Location {
        Location::parse(text).unwrap().unwrap()
    }

    fn fault(text: &str) -> String {
        Location::parse(text).unwrap().unwrap_err()
    }

    #[test]
    fn urls_of_all_providers_are_parsed_and_paths_are_left_alone() {
        let s3 = parsed("s3://lake/events/v1/");
        assert_eq!(
            (s3.provider, s3.bucket.as_str(), s3.prefix.as_str(), s3.as_str()),
            (Provider::S3, "lake", "events/v1", "s3://lake/events/v1")
        );
        let root = parsed("gs://lake");
        assert_eq!((root.provider, root.bucket.as_str(), root.prefix.as_str(), root.as_str()), (Provider::Gcs, "lake", "", "gs://lake"));
        let az = parsed("az://lake/events");
        assert_eq!((az.provider, az.account), (Provider::Azure, None));
        let abfss = parsed("abfss://lake@acme.dfs.core.windows.net/events");
        assert_eq!((abfss.bucket.as_str(), abfss.account), ("lake", Some(("acme".into(), "core.windows.net".into()))));
        for path in ["checkpoints", "/var/lib/pintail", "file:///var/lib/pintail", "a:b", "a:/b", "./s3:/b"] {
            assert_eq!(Location::parse(path), None, "{path}");
        }
    }

    #[test]
    fn what_is_no_url_of_a_bucket_is_told_what_was_expected() {
        for (text, part) in [
            ("s3a://lake/x", "\"s3://\""),
            ("S3://lake/x", "\"s3://\""),
            ("abfs://lake@acme.dfs.core.windows.net", "without TLS"),
            ("https://lake.s3.amazonaws.com/x", "storage.endpoint"),
            ("ftp://lake", "expected a path"),
            ("s3:/lake/x", "two slashes behind \"s3:\""),
            ("abfss:/lake", "two slashes"),
            ("s3://", "name of a bucket"),
            ("s3:///x", "name of a bucket"),
            ("s3://key:secret@lake/x", "no credentials"),
            ("s3://lake/a//b", "empty parts"),
            ("s3://lake/a/../b", "empty parts"),
            ("az://lake/x?sv=2022&sig=abc", "no ?"),
            ("abfss://lake/x", "abfss://lake@account"),
        ] {
            let fault = fault(text);
            assert!(fault.contains(part), "{text}: {fault}");
            assert!(!fault.contains("secret") && !fault.contains("sig="), "{fault}");
        }
    }
}
