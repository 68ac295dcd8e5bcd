//! What an answer means, by the kind of the request, the status, and the provider's error code.
//!
//! Owns: the table of it for all three providers, and the way out that is told with a refusal.
//! Does not own: seeing answers (see `http`), what the protocol does then (see [`pintail_storage::bucket`]).
//!
//! Where it is in doubt it says [`Meaning::Unknown`]: the protocol looks what is there, and sends the request again.

use crate::http::Seen;
use crate::location::Provider;
use crate::meters::RequestKind;

/// What an answer that is an error means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// There is no object of that name.
    Absent,
    /// There is one, and the request wanted none.
    Exists,
    /// There is no such upload, or not with these parts.
    UploadGone,
    /// The object ends before the range that was asked for.
    Beyond,
    /// It was not done, for there are too many requests.
    Throttled,
    /// Nobody knows whether it was done.
    Unknown,
    /// It was not done, and will not be.
    Refused,
}

/// Codes of answers 503 that say that nothing was done.
const THROTTLED: [&str; 5] = ["SlowDown", "ServerBusy", "TooManyRequests", "RateLimitExceeded", "ThrottlingException"];

/// Codes of a bucket, a container or an account that is not there.
const NO_BUCKET: [&str; 4] = ["NoSuchBucket", "ContainerNotFound", "ResourceNotFound", "AccountNotFound"];

/// Judges an answer that is an error.
pub(crate) fn meaning(kind: RequestKind, seen: &Seen) -> Meaning {
    use RequestKind::{Abort, Complete, Create, Discard, Get, Head, Part, Parts};
    let Some(status) = seen.status else { return Meaning::Unknown };
    let code = seen.code.as_deref().unwrap_or_default();
    match (status, kind) {
        // S3 completes with 200 and an error inside.
        (200..=299, Complete) if code == "NoSuchUpload" => Meaning::UploadGone,
        (200..=299, _) if THROTTLED.contains(&code) => Meaning::Throttled,
        (200..=299, _) => Meaning::Unknown,
        (304 | 412, Create) => Meaning::Exists,
        (400, Complete) if matches!(code, "InvalidBlockList" | "InvalidPart") => Meaning::UploadGone,
        // What came was not what was sent, or not in time.
        (400, _) if matches!(code, "BadDigest" | "IncompleteBody" | "Md5Mismatch" | "RequestTimeout") => Meaning::Unknown,
        (404, _) if NO_BUCKET.contains(&code) => Meaning::Refused,
        (404, Get | Head | Discard) => Meaning::Absent,
        (404 | 410, Part | Parts | Complete | Abort) => Meaning::UploadGone,
        (408, _) => Meaning::Unknown,
        (409, _) if matches!(code, "BlobImmutableDueToPolicy" | "BlobArchived" | "AuthorizationPermissionMismatch") => Meaning::Refused,
        (409, Create) => Meaning::Exists,
        (409, _) => Meaning::Unknown,
        (416, Get) => Meaning::Beyond,
        (429, _) => Meaning::Throttled,
        (501 | 505, _) => Meaning::Refused,
        (503, _) if THROTTLED.contains(&code) => Meaning::Throttled,
        (500..=599, _) => Meaning::Unknown,
        _ => Meaning::Refused,
    }
}

/// Where an answer came from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct From<'a> {
    pub provider: Provider,
    /// The server, without the path.
    pub endpoint: &'a str,
    /// The bucket.
    pub bucket: &'a str,
    /// Where the credentials are from.
    pub credentials: &'a str,
}

/// Tells of an answer that came from the bucket, or of none: who said what, and the way out.
pub(crate) fn told(kind: RequestKind, seen: &Seen, from: From<'_>) -> String {
    let mut text = match seen.status {
        None => format!("no answer from {} to {kind}", from.endpoint),
        Some(status) if (200..=299).contains(&status) && seen.code.is_none() => {
            format!("{} answered {kind} with {status}, and the rest of it is missing or not readable", from.endpoint)
        }
        Some(status) => format!("{} answered {kind} with {status}", from.endpoint),
    };
    for part in [&seen.code, &seen.said].into_iter().flatten() {
        text = text + ": " + part.trim_end_matches('.');
    }
    match way_out(kind, seen, from) {
        Some(way_out) => text + "; " + &way_out,
        None => text,
    }
}

/// Tells why there are no credentials.
pub(crate) fn no_credentials(seen: &Seen, from: From<'_>) -> String {
    let status = seen.status.map(|status| format!("answered {status}"));
    let why = [status, seen.code.clone(), seen.said.clone()].into_iter().flatten().collect::<Vec<_>>().join(": ");
    let why = if why.is_empty() { "no answer".to_owned() } else { why };
    format!("no credentials for {} from {}: {why}; {}", from.bucket, from.credentials, other_credentials(from.provider))
}

/// Returns the other ways to credentials.
pub(crate) fn other_credentials(provider: Provider) -> &'static str {
    match provider {
        Provider::S3 => {
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or run with a role (IRSA, pod identity, instance profile)"
        }
        Provider::Gcs => {
            "set GOOGLE_APPLICATION_CREDENTIALS to the file of a key, or run with a service account (GKE workload identity, instance)"
        }
        Provider::Azure => {
            "set AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_TOKEN, or the variables of a client secret or workload identity, or run with a managed \
             identity"
        }
    }
}

fn way_out(kind: RequestKind, seen: &Seen, from: From<'_>) -> Option<String> {
    let (status, code) = (seen.status?, seen.code.as_deref().unwrap_or_default());
    Some(match (status, code) {
        (_, "RequestTimeTooSkewed") => "set the clock of this machine".to_owned(),
        (_, "ExpiredToken" | "TokenRefreshRequired") => format!("the credentials have expired: renew those of {}", from.credentials),
        (300..=399, _) | (400, "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException") => match &seen.region {
            Some(region) => format!("the bucket is in another region: set `storage.region = \"{region}\"`"),
            None => "the bucket is somewhere else: set `storage.region` or `storage.endpoint` to where it is".to_owned(),
        },
        (404, _) => format!("create {} with the tools of the provider, or set another `pipeline.out_path`", from.bucket),
        (401, _) | (403, "SignatureDoesNotMatch" | "InvalidAccessKeyId" | "AuthenticationFailed" | "InvalidSecurity") => {
            format!("the credentials of {} are not right", from.credentials)
        }
        (403, _) if kind == RequestKind::Head || kind == RequestKind::Get => format!(
            "the credentials of {} must be allowed to read and to list (without the right to list, S3 answers 403 for an object that is not there)",
            from.credentials
        ),
        (403, _) if kind == RequestKind::Parts => format!(
            "the credentials of {} must be allowed to list the parts of uploads ({})",
            from.credentials,
            match from.provider {
                Provider::S3 => "s3:ListMultipartUploadParts",
                Provider::Gcs => "storage.multipartUploads.listParts",
                Provider::Azure => "read",
            }
        ),
        (403, _) => format!("the credentials of {} must be allowed to do that in {}", from.credentials, from.bucket),
        (409, "BlobImmutableDueToPolicy") => {
            "a policy forbids to overwrite: take a container without one, for heartbeats are written again".to_owned()
        }
        (501, _) => "this provider cannot be used: it does not have what the protocol needs".to_owned(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(status: impl Into<Option<u16>>, code: &str) -> Seen {
        Seen { status: status.into(), code: Some(code.to_owned()).filter(|code| !code.is_empty()), ..Seen::default() }
    }

    #[test]
    fn an_answer_is_judged_by_kind_status_and_code() {
        use Meaning::*;
        use RequestKind as Kind;
        for (kind, status, code, expected) in [
            (Kind::Create, 412, "PreconditionFailed", Exists),
            (Kind::Create, 409, "BlobAlreadyExists", Exists),
            (Kind::Create, 409, "ConditionalRequestConflict", Exists),
            (Kind::Create, 404, "NoSuchBucket", Refused),
            (Kind::Create, 501, "NotImplemented", Refused),
            (Kind::Replace, 409, "OperationAborted", Unknown),
            (Kind::Replace, 409, "BlobImmutableDueToPolicy", Refused),
            (Kind::Get, 404, "NoSuchKey", Absent),
            (Kind::Get, 404, "NoSuchBucket", Refused),
            (Kind::Get, 416, "InvalidRange", Beyond),
            (Kind::Head, 404, "", Absent),
            (Kind::Discard, 404, "BlobNotFound", Absent),
            (Kind::Head, 403, "", Refused),
            (Kind::Part, 404, "NoSuchUpload", UploadGone),
            (Kind::Part, 404, "ContainerNotFound", Refused),
            (Kind::Part, 400, "BadDigest", Unknown),
            (Kind::Complete, 404, "NoSuchUpload", UploadGone),
            (Kind::Complete, 400, "InvalidBlockList", UploadGone),
            (Kind::Complete, 400, "EntityTooSmall", Refused),
            (Kind::Complete, 200, "NoSuchUpload", UploadGone),
            (Kind::Complete, 200, "InternalError", Unknown),
            (Kind::Complete, 200, "SlowDown", Throttled),
            (Kind::Complete, 500, "InternalError", Unknown),
            (Kind::Abort, 404, "NoSuchUpload", UploadGone),
            (Kind::Parts, 404, "NoSuchUpload", UploadGone),
            (Kind::Parts, 404, "BlobNotFound", UploadGone),
            (Kind::Parts, 403, "AccessDenied", Refused),
            (Kind::Part, 503, "SlowDown", Throttled),
            (Kind::Part, 503, "", Unknown),
            (Kind::Part, 429, "", Throttled),
            (Kind::Begin, 301, "PermanentRedirect", Refused),
            (Kind::List, 403, "AccessDenied", Refused),
        ] {
            assert_eq!(meaning(kind, &seen(status, code)), expected, "{kind} {status} {code}");
        }
        assert_eq!(meaning(Kind::Create, &seen(None, "")), Unknown);
    }

    #[test]
    fn a_refusal_names_the_server_and_the_way_out() {
        let from = From { provider: Provider::S3, endpoint: "https://s3.example", bucket: "s3://lake", credentials: "AWS_ACCESS_KEY_ID" };
        let redirect = Seen { region: Some("eu-west-1".into()), ..seen(301, "PermanentRedirect") };
        for (kind, seen, part) in [
            (RequestKind::Begin, redirect, "`storage.region = \"eu-west-1\"`"),
            (RequestKind::Head, seen(403, ""), "right to list"),
            (RequestKind::Create, seen(403, "SignatureDoesNotMatch"), "the credentials of AWS_ACCESS_KEY_ID are not right"),
            (RequestKind::Create, seen(404, "NoSuchBucket"), "create s3://lake"),
            (RequestKind::Create, seen(403, "RequestTimeTooSkewed"), "clock"),
        ] {
            let told = told(kind, &seen, from);
            assert!(told.starts_with("https://s3.example answered") && told.contains(part), "{told}");
        }
    }
}
