//! No key, signature, SAS or token is in any error or log, whatever a provider answers.

use std::io::Write;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use pintail_bucket::{Bucket, Client, Environment, Location, Provider, StorageConfig};
use pintail_storage::blob::{Blob, Fault, UploadId};

use crate::dataset::{key, work};
use crate::gcs::{Fake, error};
use crate::line::Line;
use crate::servers::{ACCOUNT, S3_KEY, environment, server};

/// What was logged, at every level.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Sends requests of all kinds with credentials that are not right. Returns all that was said, and all that went over the line.
async fn all_said(location: &Location, config: &StorageConfig, credentials: &Environment) -> (String, Vec<String>) {
    let log = Log::default();
    let writer = log.clone();
    let subscriber =
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_ansi(false).with_writer(move || writer.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let line = Line::new(Arc::new(Client::new(config).unwrap()), None);
    let bucket = Arc::new(Bucket::connect_by(location, config, credentials, Arc::new(line.clone())).unwrap());
    let (name, upload, bytes) = (key("a"), UploadId("upload".into()), Bytes::from_static(b"x"));
    let tags = [pintail_storage::blob::PartTag("tag".into())];
    let mut faults: Vec<Fault> = [
        bucket.get(&name, 0..10).await.err(),
        bucket.head(&name).await.err(),
        bucket.put_if_absent(&name, bytes.clone()).await.err(),
        bucket.replace(&name, bytes.clone()).await.err(),
        bucket.create_upload(&name).await.err(),
        bucket.put_part(&name, &upload, 0, bytes).await.err(),
        bucket.complete(&name, &upload, &tags).await.err(),
        bucket.list(10).await.err(),
    ]
    .into_iter()
    .flatten()
    .collect();
    assert!(faults.len() >= 7, "they must not be right: {faults:?}");
    faults.extend(bucket.abort(&name, &upload).await.err());
    let scratch = tempfile::tempdir().unwrap();
    let error = work(location, bucket.clone(), scratch.path(), "00000000000000aa").await.unwrap_err();
    let logged = String::from_utf8_lossy(&log.0.lock().unwrap()).into_owned();
    (format!("{faults:?} {faults:#?} {error} {error:?} {bucket:?} {logged}"), line.sent())
}

/// Checks that nothing is said of what is secret: what was given, and every signature that went over the line.
fn check(said: &str, sent: &[String], given: &[&str]) {
    for secret in given {
        assert!(!said.contains(secret), "{secret} is in: {said}");
    }
    let mut signatures = 0;
    for text in sent {
        let text = text.rsplit_once("Signature=").or_else(|| text.rsplit_once("SharedKey ")).or_else(|| text.rsplit_once("Bearer "));
        if let Some((_, signature)) = text {
            signatures += 1;
            assert!(!said.contains(signature), "{signature} is in: {said}");
        }
    }
    assert!(signatures >= 7 || given.iter().any(|given| given.contains("sig=")), "{sent:?}");
}

#[tokio::test]
async fn keys_of_s3_that_are_not_right_are_in_no_error_and_no_log() {
    let server = server(Provider::S3);
    for (id, secret) in [(S3_KEY, "wrong-secret-0123456789abcdef"), ("AKIAWRONGKEY00000001", "wrong-secret-0123456789abcdef")] {
        let keys =
            environment(&[("AWS_ACCESS_KEY_ID", id), ("AWS_SECRET_ACCESS_KEY", secret), ("AWS_SESSION_TOKEN", "wrong-session-token")]);
        let (said, sent) = all_said(&server.new_place(), &server.config(), &keys).await;
        assert!(said.contains("the credentials of the variable AWS_ACCESS_KEY_ID are not right"), "{said}");
        check(&said, &sent, &[id, secret, "wrong-session-token"]);
    }
}

#[tokio::test]
async fn keys_and_a_sas_of_azure_that_are_not_right_are_in_no_error_and_no_log() {
    let server = server(Provider::Azure);
    let (key, sas) =
        ("d3Jvbmcta2V5LW9mLXRoZS10ZXN0cy0wMTIzNDU2Nzg5", "sv=2022-11-02&ss=b&srt=sco&sp=rwl&se=2099-01-01&sig=d3Jvbmctc2lnbmF0dXJl");
    for (variable, value) in [("AZURE_STORAGE_ACCOUNT_KEY", key), ("AZURE_STORAGE_SAS_TOKEN", sas)] {
        let credentials = environment(&[("AZURE_STORAGE_ACCOUNT_NAME", ACCOUNT), (variable, value)]);
        let (said, sent) = all_said(&server.new_place(), &server.config(), &credentials).await;
        assert!(said.contains(&format!("the credentials of the variable {variable}")), "{said}");
        check(&said, &sent, &[value, "d3Jvbmctc2lnbmF0dXJl"]);
    }
}

#[tokio::test]
async fn a_token_of_gcs_that_is_not_right_is_in_no_error_and_no_log() {
    let server = server(Provider::Gcs);
    let (said, sent) =
        all_said(&server.new_place(), &server.config(), &environment(&[("GOOGLE_BEARER_TOKEN", "ya29.a-wrong-token")])).await;
    assert!(said.contains("the credentials of the variable GOOGLE_BEARER_TOKEN are not right"), "{said}");
    check(&said, &sent, &["ya29.a-wrong-token"]);
}

#[tokio::test]
async fn what_a_server_repeats_of_a_request_is_not_shown() {
    let fake = Fake::serve(|request, _| {
        let authorization = request.headers()["authorization"].to_str().unwrap();
        let signature = authorization.rsplit_once('=').unwrap().1;
        match request.method().as_str() {
            "PUT" => error(403, "AccessDenied", &format!("signed {}", authorization.replace('/', " "))),
            "POST" => error(500, "InternalError", &format!("signature {signature}")),
            _ => error(403, "AccessDenied", "you may not do that\nand this is a second line \u{1b}[2J"),
        }
    });
    let location = Location::parse("s3://lake/x").unwrap().unwrap();
    let config = StorageConfig { endpoint: Some(fake.endpoint().parse().unwrap()), ..StorageConfig::default() };
    let keys = environment(&[("AWS_ACCESS_KEY_ID", "AKIAWRONGKEY00000001"), ("AWS_SECRET_ACCESS_KEY", "hunter2")]);
    let bucket = Bucket::connect(&location, &config, &keys).unwrap();
    let denied = bucket.replace(&key("a"), Bytes::new()).await.unwrap_err().to_string();
    assert!(denied.contains("AccessDenied") && !denied.contains("AKIAWRONGKEY") && !denied.contains("signed"), "{denied}");
    let broken = bucket.create_upload(&key("a")).await.unwrap_err().to_string();
    assert!(broken.contains("InternalError") && !broken.contains("signature"), "{broken}");
    let told = bucket.get(&key("a"), 0..1).await.unwrap_err().to_string();
    assert!(told.contains("you may not do that") && !told.contains("second line") && !told.contains('\u{1b}'), "{told}");
}

#[tokio::test]
async fn why_an_object_may_not_be_looked_at_is_told_though_an_answer_to_head_has_no_body() {
    for (code, expected) in [
        ("SignatureDoesNotMatch", "the credentials of the variable AWS_ACCESS_KEY_ID are not right"),
        ("RequestTimeTooSkewed", "set the clock of this machine"),
        ("AccessDenied", "must be allowed to read and to list"),
    ] {
        let fake = Fake::serve(move |_, _| error(403, code, "no"));
        let location = Location::parse("s3://lake/x").unwrap().unwrap();
        let config = StorageConfig { endpoint: Some(fake.endpoint().parse().unwrap()), ..StorageConfig::default() };
        let keys = environment(&[("AWS_ACCESS_KEY_ID", "AKIAWRONGKEY00000001"), ("AWS_SECRET_ACCESS_KEY", "hunter2")]);
        let bucket = Bucket::connect(&location, &config, &keys).unwrap();
        let told = bucket.head(&key("a")).await.unwrap_err().to_string();
        assert!(told.contains(code) && told.contains(expected), "{told}");
    }
}
