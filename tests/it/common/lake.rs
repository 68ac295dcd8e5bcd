//! A SeaweedFS of a test's own, and what lies in its bucket.
//!
//! Owns: the server (free ports of the loopback, ended by its process id), the settings that reach it, copying a dataset out of it.
//! Does not own: what the copy should hold: it is read as any dataset in a directory.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use std::{fs, io, thread};

use pintail_bucket::{Bucket, Environment, Location, StorageConfig};
use pintail_storage::blob::{Blob, ObjectKey, UploadId};
use serde_json::Value;

use super::process::Pintail;
use super::{Dataset, wait_until};

const KEY: &str = "PINTAILTESTKEY000001";
const SECRET: &str = "a-secret-of-the-tests-only-0123456789";

/// A server with the bucket `lake`.
pub(crate) struct Weed {
    dir: tempfile::TempDir,
    ports: Vec<u16>,
    child: Option<Child>,
}

impl Weed {
    /// Starts one, and waits until its bucket can be written.
    pub(crate) fn start() -> Self {
        let dir = tempfile::Builder::new().prefix("pintail-weed-").tempdir().unwrap();
        let identity = format!(
            r#"{{"identities":[{{"name":"lake","credentials":[{{"accessKey":"{KEY}","secretKey":"{SECRET}"}}],"actions":["Admin","Read","Write","List"]}}]}}"#
        );
        fs::write(dir.path().join("s3.json"), identity).unwrap();
        fs::create_dir(dir.path().join("data")).unwrap();
        // All at once, so that they differ.
        let listeners: Vec<_> = (0..12).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()).collect();
        let ports = listeners.iter().map(|listener| listener.local_addr().unwrap().port()).collect();
        drop(listeners);
        let mut weed = Self { dir, ports, child: None };
        weed.go_on();
        weed
    }

    /// Starts it again, with what it held.
    pub(crate) fn go_on(&mut self) {
        let mut command = Command::new(program());
        command.args(["mini", "-dir=data", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3.config=s3.json", "-bucket=lake"]);
        command.args(["-master.telemetry=false", "-admin.ui=false", "-webdav=false", "-s3.autoCreateBucket=false"]);
        for (name, port) in ["master", "volume", "filer", "s3", "admin"].iter().zip(&self.ports) {
            command.arg(format!("-{name}.port={port}"));
        }
        for (name, port) in ["master", "volume", "filer", "s3", "admin"].iter().zip(&self.ports[5..]) {
            command.arg(format!("-{name}.port.grpc={port}"));
        }
        command.arg(format!("-s3.port.iceberg={}", self.ports[10])).arg(format!("-s3.port.lance={}", self.ports[11]));
        command.current_dir(self.dir.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.child = Some(command.spawn().unwrap());
        wait_until("SeaweedFS", || {
            TcpStream::connect((Ipv4Addr::LOCALHOST, self.ports[3])).is_ok()
                && self.ask("ready", async |bucket| bucket.replace(&ObjectKey::new("ready"), "ready".into()).await.is_ok())
        });
    }

    /// Takes it away.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Sets a run up to write to `s3://lake/<name>`.
    pub(crate) fn take<'a>(&self, pintail: Pintail<'a>, name: &str) -> Pintail<'a> {
        let pintail = pintail.set("pipeline.out_path", format!("s3://lake/{name}")).set("storage.endpoint", self.endpoint());
        pintail.set("storage.heartbeat", "1s").env("AWS_ACCESS_KEY_ID", KEY).env("AWS_SECRET_ACCESS_KEY", SECRET)
    }

    /// Returns where it is.
    pub(crate) fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports[3])
    }

    /// Returns the number of commit records of a dataset.
    pub(crate) fn records(&self, name: &str) -> usize {
        self.keys(name).iter().filter(|key| key.starts_with("_pintail/commits/")).count()
    }

    /// Returns the names of a dataset's objects.
    pub(crate) fn keys(&self, name: &str) -> Vec<String> {
        let keys = self.ask(name, async |bucket| bucket.list(100_000).await.unwrap());
        keys.into_iter().map(|key| key.as_str().to_owned()).collect()
    }

    /// Copies a dataset to where one in a directory would lie.
    pub(crate) fn copy_to(&self, name: &str, dataset: &Dataset) {
        let copy = async |bucket: Bucket| {
            // What only a bucket needs is left there.
            let of_bucket =
                |key: &ObjectKey| ["BEAT", "CLOCK", "probe/"].iter().any(|name| key.as_str().starts_with(&format!("_pintail/{name}")));
            for key in bucket.list(100_000).await.unwrap().into_iter().filter(|key| !of_bucket(key)) {
                let object = bucket.get(&key, 0..1 << 32).await.unwrap().expect("it was listed");
                let path = dataset.out().join(key.as_str());
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, object.bytes).unwrap();
            }
        };
        self.ask(name, copy);
    }

    /// Writes an object, whatever was there.
    pub(crate) fn put(&self, name: &str, key: &str, bytes: impl Into<Vec<u8>>) {
        let bytes = bytes.into();
        self.ask(name, async |bucket| bucket.replace(&ObjectKey::new(key), bytes.into()).await.unwrap());
    }

    /// Returns an object.
    pub(crate) fn get(&self, name: &str, key: &str) -> Vec<u8> {
        self.ask(name, async |bucket| bucket.get(&ObjectKey::new(key), 0..1 << 32).await.unwrap().expect("it is there").bytes.to_vec())
    }

    /// Removes an object, by the door of the server that asks for no key. Pintail itself never does.
    pub(crate) fn remove(&self, name: &str, key: &str) {
        let mut filer = TcpStream::connect((Ipv4Addr::LOCALHOST, self.ports[2])).unwrap();
        write!(filer, "DELETE /buckets/lake/{name}/{key} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        filer.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
    }

    /// Gives an upload up, as a rule of the bucket for old ones does.
    pub(crate) fn give_up(&self, name: &str, key: &str, upload: &str) {
        self.ask(name, async |bucket| bucket.abort(&ObjectKey::new(key), &UploadId(upload.to_owned())).await.unwrap());
    }

    /// Returns the last record of a dataset.
    pub(crate) fn last_record(&self, name: &str) -> Value {
        let keys = self.keys(name);
        let last = keys.iter().filter(|key| key.starts_with("_pintail/commits/")).max().expect("there is one");
        serde_json::from_str(String::from_utf8(self.get(name, last)).unwrap().lines().next().unwrap()).unwrap()
    }

    /// Returns a way to the server on which no upload is completed: from the first that is to be on, nothing comes through any more.
    pub(crate) fn way_without_completions(&self) -> String {
        let way = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let (address, server, broken) = (way.local_addr().unwrap(), self.ports[3], Arc::new(AtomicBool::new(false)));
        thread::spawn(move || {
            for client in way.incoming().map_while(Result::ok) {
                if broken.load(Ordering::SeqCst) {
                    continue;
                }
                let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, server)) else { continue };
                let (back, to_client) = (server.try_clone().unwrap(), client.try_clone().unwrap());
                thread::spawn(move || io::copy(&mut &back, &mut &to_client));
                let broken = broken.clone();
                thread::spawn(move || pass_on(&client, &server, &broken));
            }
        });
        format!("http://{address}")
    }

    fn ask<T>(&self, name: &str, ask: impl AsyncFnOnce(Bucket) -> T) -> T {
        let location = Location::parse(&format!("s3://lake/{name}")).unwrap().unwrap();
        let config = StorageConfig { endpoint: Some(self.endpoint().parse().unwrap()), ..StorageConfig::default() };
        let variables = [("AWS_ACCESS_KEY_ID", KEY), ("AWS_SECRET_ACCESS_KEY", SECRET)];
        let environment: Environment = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let bucket = Bucket::connect(&location, &config, &environment).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let answer = runtime.block_on(ask(bucket));
        runtime.shutdown_timeout(Duration::ZERO);
        answer
    }
}

/// Passes requests on until one is to complete an upload.
fn pass_on(mut from: &TcpStream, mut to: &TcpStream, broken: &AtomicBool) {
    let mut bytes = [0; 64 << 10];
    while let Ok(read @ 1..) = from.read(&mut bytes) {
        let line = bytes[..read].split(|byte| *byte == b'\n').next().unwrap_or_default();
        if line.starts_with(b"POST ") && String::from_utf8_lossy(line).contains("uploadId=") {
            broken.store(true, Ordering::SeqCst);
        }
        if broken.load(Ordering::SeqCst) || to.write_all(&bytes[..read]).is_err() {
            break;
        }
    }
    for end in [from, to] {
        let _ = end.shutdown(Shutdown::Both);
    }
}

impl Drop for Weed {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Finds the program as the tests of buckets do.
fn program() -> PathBuf {
    let dir = std::env::var_os("PINTAIL_SERVERS").map(PathBuf::from);
    let dir = dir.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache/pintail/servers")));
    let named = std::env::var_os("PINTAIL_TEST_WEED").map(PathBuf::from).into_iter();
    let mut places = named.chain(dir.map(|dir| dir.join("bin/weed")));
    places.find(|place| place.is_file()).expect("`weed` is not there: `./dev test` installs it, or PINTAIL_TEST_WEED names it")
}
