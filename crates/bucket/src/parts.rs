//! The requests that object_store does not have: for the parts of an upload that is not completed, and to remove one object.
//!
//! Owns: these requests to each provider, and reading their answers.
//! Does not own: credentials and signatures (object_store's), what follows from it (see `pintail_storage::bucket`).

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use object_store::aws::AmazonS3;
use object_store::azure::{AzureAuthorizer, MicrosoftAzure};
use object_store::client::{HttpClient, HttpRequest};
use object_store::gcp::GoogleCloudStorage;
use object_store::path::Path;
use object_store::signer::{SignedUrlOptions, Signer};
use object_store::{Error, Result};
use pintail_storage::blob::PartTag;
use reqwest::{Method, Url};

/// How long a signed question is good for: it is sent at once.
const SIGNED_FOR: Duration = Duration::from_secs(60);

/// Lists parts.
#[derive(Debug)]
pub(crate) struct Uploads {
    pub client: HttpClient,
    pub provider: Asked,
}

/// Who is asked, and how a question is signed.
#[derive(Debug)]
pub(crate) enum Asked {
    S3(Arc<AmazonS3>),
    Gcs { store: Arc<GoogleCloudStorage>, bucket: Url },
    Azure { store: Arc<MicrosoftAzure>, container: Url, account: String },
}

impl Uploads {
    /// Returns whether an upload that is not completed has these parts.
    ///
    /// # Errors
    /// Also if there is no such upload.
    pub(crate) async fn have(&self, path: &Path, upload: &str, parts: &[PartTag]) -> Result<bool> {
        if matches!(self.provider, Asked::Azure { .. }) {
            // Blocks belong to the name; a list names all that are not part of an object yet.
            let answer = self.ask(Method::GET, path, &[("comp", "blocklist"), ("blocklisttype", "uncommitted")]).await?;
            let blocks: Vec<Vec<u8>> = elements(&answer, "Name").filter_map(|name| BASE64_STANDARD.decode(name).ok()).collect();
            return Ok(parts.iter().all(|part| blocks.iter().any(|block| block == part.0.as_bytes())));
        }
        let (mut number, mut next) = (0, String::new());
        loop {
            let answer = self.ask(Method::GET, path, &[("uploadId", upload), ("part-number-marker", &next)]).await?;
            for part in elements(&answer, "Part") {
                number += 1;
                let is_named = |part: &str| {
                    // A record has it as a header does, with quotes, and beside checksums if there are any.
                    let tag = bare(elements(part, "ETag").next()?);
                    let is_number = elements(part, "PartNumber").next()?.parse() == Ok(number);
                    Some(is_number && parts.get(number - 1).is_some_and(|named| named.0.contains(tag)))
                };
                if is_named(part) != Some(true) {
                    return Ok(false);
                }
            }
            let is_last = elements(&answer, "IsTruncated").next() != Some("true");
            match elements(&answer, "NextPartNumberMarker").next() {
                Some(marker) if !is_last && marker != next => next = marker.to_owned(),
                _ => return Ok(number == parts.len()),
            }
        }
    }

    /// Removes an object. object_store does so by batches only, whose answers it does not read from every server.
    ///
    /// # Errors
    /// Also if there is none.
    pub(crate) async fn remove(&self, path: &Path) -> Result<()> {
        self.ask(Method::DELETE, path, &[]).await.map(drop)
    }

    async fn ask(&self, method: Method, path: &Path, query: &[(&str, &str)]) -> Result<String> {
        let query = query.iter().filter(|(_, value)| !value.is_empty());
        let mut request = HttpRequest::new(Bytes::new().into());
        *request.method_mut() = method.clone();
        match &self.provider {
            Asked::S3(store) => {
                let options = SignedUrlOptions::default().with_query(query.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
                let url = store.signed_url_opts(method, path, SIGNED_FOR, &options).await?;
                *request.uri_mut() = url.as_str().parse().map_err(unusable)?;
            }
            Asked::Gcs { store, bucket } => {
                *request.uri_mut() = url(bucket, path, query)?.as_str().parse().map_err(unusable)?;
                let credential = store.credentials().get_credential().await?;
                let bearer = format!("Bearer {}", credential.bearer).parse().map_err(unusable)?;
                request.headers_mut().insert("authorization", bearer);
            }
            Asked::Azure { store, container, account } => {
                *request.uri_mut() = url(container, path, query)?.as_str().parse().map_err(unusable)?;
                let credential = store.credentials().get_credential().await?;
                AzureAuthorizer::new(&credential, account).try_authorize(&mut request)?;
            }
        }
        let (parts, body) = self.client.execute(request).await.map_err(unusable)?.into_parts();
        if !parts.status.is_success() {
            return Err(unusable(format!("status {}", parts.status)));
        }
        let body = body.bytes().await.map_err(unusable)?;
        String::from_utf8(body.into()).map_err(unusable)
    }
}

/// Returns the place of an object, with a query.
fn url<'a>(above: &Url, path: &Path, query: impl Iterator<Item = &'a (&'a str, &'a str)>) -> Result<Url> {
    let mut url = above.clone();
    url.path_segments_mut().map_err(|()| unusable("an endpoint without a path"))?.pop_if_empty().extend(path.parts());
    let query: Vec<_> = query.collect();
    if !query.is_empty() {
        url.query_pairs_mut().extend_pairs(query);
    }
    Ok(url)
}

/// What went wrong is told by the answer that was seen.
fn unusable(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Generic { store: "parts", source: source.into() }
}

/// Returns a tag without its quotes, however XML writes them.
fn bare(tag: &str) -> &str {
    const QUOTES: [&str; 4] = ["\"", "&quot;", "&#34;", "&#x22;"];
    let quote = QUOTES.into_iter().find(|quote| tag.starts_with(quote)).unwrap_or_default();
    tag.strip_prefix(quote).and_then(|tag| tag.strip_suffix(quote)).unwrap_or(tag)
}

/// Returns what stands in the elements of a name, one after another. Of what providers list none holds one of its own name.
fn elements<'a>(text: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    let (begin, end) = (format!("<{name}>"), format!("</{name}>"));
    let mut rest = text;
    std::iter::from_fn(move || {
        let (_, behind) = rest.split_once(&begin)?;
        let (inside, behind) = behind.split_once(&end)?;
        rest = behind;
        Some(inside)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_elements_of_a_name_are_found_one_after_another() {
        let text = "<L><Part><ETag>&quot;a&quot;</ETag></Part><PartNumberMarker>7</PartNumberMarker><Part><ETag>\"b\"</ETag></Part></L>";
        assert_eq!(elements(text, "Part").count(), 2);
        assert_eq!(elements(text, "ETag").collect::<Vec<_>>(), ["&quot;a&quot;", "\"b\""]);
        assert_eq!(elements(text, "IsTruncated").next(), None);
    }

    #[test]
    fn a_tag_is_the_same_however_its_quotes_are_written() {
        for tag in ["\"a-1\"", "&quot;a-1&quot;", "&#34;a-1&#34;", "&#x22;a-1&#x22;", "a-1"] {
            assert_eq!(bare(tag), "a-1");
        }
    }

    #[test]
    fn the_place_of_an_object_is_its_name_below_the_bucket() {
        let above = Url::parse("http://127.0.0.1:1/account/lake").unwrap();
        let path = Path::parse("x/region=\u{e4} b%2F+c/1.parquet").unwrap();
        let url = url(&above, &path, [("comp", "blocklist")].iter()).unwrap();
        assert_eq!(url.as_str(), "http://127.0.0.1:1/account/lake/x/region=%C3%A4%20b%252F+c/1.parquet?comp=blocklist");
    }
}
