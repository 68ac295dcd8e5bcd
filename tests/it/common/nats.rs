//! A real `nats-server` of the test's own.
//!
//! Owns: the process (a free port, a directory for JetStream, stopped by its id), and publishing to it.
//! Does not own: what Pintail makes of it.

use std::fs::{self, File};
use std::future::Future;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use async_nats::jetstream::consumer::Info as ConsumerInfo;
use async_nats::jetstream::context::GetStreamErrorKind;
use async_nats::jetstream::stream::{Config, Info, RetentionPolicy};
use async_nats::jetstream::{self, Context};
use async_nats::{ConnectOptions, HeaderMap};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::lines::line;
use super::process::Pintail;
use super::{Commit, Dataset, PATIENCE, checkout, each_object, wait_until};

/// The stream of the tests, unless they make another.
pub(crate) const STREAM: &str = "EVENTS";

/// A server that runs, or is down for a while; it goes away with its files.
pub(crate) struct Broker {
    dir: TempDir,
    port: u16,
    options: Vec<String>,
    /// How the tests themselves connect.
    connect: Box<dyn Fn() -> ConnectOptions + Send + Sync>,
    server: Mutex<Option<Child>>,
    runtime: Runtime,
    client: Mutex<Option<async_nats::Client>>,
}

impl Broker {
    /// Starts a server.
    pub(crate) fn start() -> Self {
        let broker = Self::down();
        broker.up();
        broker
    }

    /// Starts a server over what JetStream had stored in a directory.
    pub(crate) fn over(js: &Path) -> Self {
        let broker = Self::down();
        fs::rename(js, broker.dir.path().join("js")).unwrap();
        broker.up();
        broker
    }

    /// Starts a server with options of its own, and a way for the tests to connect to it.
    fn with<const N: usize>(options: [&str; N], connect: impl Fn() -> ConnectOptions + Send + Sync + 'static) -> Self {
        let mut broker = Self::down();
        broker.options = options.map(str::to_owned).into();
        broker.connect = Box::new(connect);
        broker.up();
        broker
    }

    /// Starts a server that lets one user in.
    pub(crate) fn with_login(user: &'static str, password: &'static str) -> Self {
        Self::with(["--user", user, "--pass", password], move || ConnectOptions::with_user_and_password(user.into(), password.into()))
    }

    /// Starts a server that lets in who knows a token.
    pub(crate) fn with_token(token: &'static str) -> Self {
        Self::with(["--auth", token], move || ConnectOptions::with_token(token.into()))
    }

    /// Starts a server that lets in who holds a JWT of its operator and the key to it: `user.creds`.
    pub(crate) fn with_credentials() -> Self {
        let creds = fs::read_to_string(Self::login_file("user.creds")).unwrap();
        Self::with(["-c", &Self::login_file("jwt.conf")], move || ConnectOptions::with_credentials(&creds).unwrap())
    }

    /// Starts a server that lets in who holds the seed of an nkey: `user.nk`.
    pub(crate) fn with_nkey() -> Self {
        let seed = fs::read_to_string(Self::login_file("user.nk")).unwrap().trim().to_owned();
        Self::with(["-c", &Self::login_file("nkey.conf")], move || ConnectOptions::with_nkey(seed.clone()))
    }

    /// Starts a server that lets in `ann`, and `ben`, whose request to delete a consumer is never answered.
    pub(crate) fn that_deletes_nothing_for_ben(password: &'static str) -> Self {
        Self::with(["-c", &Self::login_file("no_delete.conf")], move || {
            ConnectOptions::with_user_and_password("ann".into(), password.into())
        })
    }

    /// Starts a server that wants TLS and a certificate of its clients.
    pub(crate) fn with_tls() -> Self {
        let files = [Self::tls_file("server.pem"), Self::tls_file("server.key"), Self::tls_file("ca.pem")];
        let options = ["--tls", "--tlsverify", "--tlscert", &files[0], "--tlskey", &files[1], "--tlscacert", &files[2]];
        Self::with(options, || {
            let options = ConnectOptions::new().add_root_certificates(Self::tls_file("ca.pem").into());
            options.add_client_certificate(Self::tls_file("client.pem").into(), Self::tls_file("client.key").into())
        })
    }

    /// Returns a file of a login. The keys were made for these tests, and are good for nothing else.
    pub(crate) fn login_file(name: &str) -> String {
        checkout(&format!("tests/it/nats/login/{name}"))
    }

    /// Returns a certificate or key: `ca.pem`, `pintail_server` and `client` with `.pem` and `.key`. Made with `openssl`, good for a hundred years, and
    /// for nothing but these tests.
    pub(crate) fn tls_file(name: &str) -> String {
        checkout(&format!("tests/it/nats/tls/{name}"))
    }

    /// Chooses a port for a server that is not there yet.
    pub(crate) fn down() -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Self {
            dir: tempfile::Builder::new().prefix("pintail-nats-").tempdir().unwrap(),
            port,
            options: Vec::new(),
            connect: Box::new(ConnectOptions::new),
            server: Mutex::new(None),
            runtime: tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap(),
            client: Mutex::new(None),
        }
    }

    /// Starts the server, with what it had.
    pub(crate) fn up(&self) {
        let log = File::options().create(true).append(true).open(self.dir.path().join("log")).unwrap();
        let mut command = Command::new(program());
        command.args(["-a", "127.0.0.1", "-p", &self.port.to_string(), "-js", "-sd"]).arg(self.dir.path().join("js")).args(&self.options);
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        *self.server.lock().unwrap() = Some(command.spawn().expect("nats-server starts"));
        wait_until("nats-server to listen", || TcpStream::connect(("127.0.0.1", self.port)).is_ok());
        let url = self.url();
        let options = (self.connect)().request_timeout(Some(PATIENCE)).max_reconnects(None);
        *self.client.lock().unwrap() = Some(self.run(options.retry_on_initial_connect().connect(url)).unwrap());
        let js = self.js();
        // Any answer will do. The one about the account cannot be read from a server of 2.9.
        wait_until("JetStream", || match self.run(js.get_stream("none")) {
            Ok(_) => true,
            Err(error) => matches!(error.kind(), GetStreamErrorKind::JetStream(_)),
        });
    }

    /// Kills the server.
    pub(crate) fn stop(&self) {
        if let Some(mut server) = self.server.lock().unwrap().take() {
            server.kill().unwrap();
            server.wait().unwrap();
        }
    }

    /// Copies the disk of JetStream, as a backup does while the server stands still. The server is asked to end for it, and started again. (One of
    /// 2.9 that is killed right after it became empty may forget how many messages it had.)
    pub(crate) fn back_up(&self) {
        self.back_up_as("backup");
    }

    /// Copies the disk of JetStream under a name.
    pub(crate) fn back_up_as(&self, name: &str) {
        if let Some(mut server) = self.server.lock().unwrap().take() {
            kill_process(Pid::from_child(&server), Signal::TERM).unwrap();
            server.wait().unwrap();
        }
        copy(&self.dir.path().join("js"), &self.dir.path().join(name));
        self.up();
    }

    /// Puts the copy in the place of the disk. The server has to be stopped before, and started after.
    pub(crate) fn restore(&self) {
        self.restore_from("backup");
    }

    /// Puts the copy of that name in the place of the disk.
    pub(crate) fn restore_from(&self, name: &str) {
        let js = self.dir.path().join("js");
        fs::remove_dir_all(&js).unwrap();
        copy(&self.dir.path().join(name), &js);
    }

    /// Returns the port that it listens at, or will.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Returns the server's address.
    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Waits for something, as long as anything here may take.
    pub(crate) fn run<F: Future>(&self, what: F) -> F::Output {
        self.runtime.block_on(async { tokio::time::timeout(PATIENCE, what).await.expect("the server answers in time") })
    }

    /// Returns JetStream.
    pub(crate) fn js(&self) -> Context {
        // It starts a task of its own.
        let _inside = self.runtime.enter();
        let mut js = jetstream::new(self.client.lock().unwrap().clone().expect("the server was started"));
        js.set_timeout(PATIENCE);
        js
    }

    /// Makes the stream, over the subjects below `events`.
    pub(crate) fn make_stream(&self, retention: RetentionPolicy) {
        let config = Config { name: STREAM.into(), subjects: vec!["events.>".into()], retention, ..Config::default() };
        self.run(self.js().create_stream(config)).unwrap();
    }

    /// Deletes the stream.
    pub(crate) fn delete_stream(&self) {
        self.run(self.js().delete_stream(STREAM)).unwrap();
    }

    /// Publishes messages to a subject, and waits until the stream has them.
    pub(crate) fn publish<P: Into<Vec<u8>>>(&self, subject: &str, messages: impl IntoIterator<Item = P>) {
        let js = self.js();
        self.run(async {
            let mut acks = Vec::new();
            for message in messages {
                acks.push(js.publish(subject.to_owned(), message.into().into()).await.unwrap());
            }
            for ack in acks {
                ack.await.unwrap();
            }
        });
    }

    /// Publishes small events.
    pub(crate) fn publish_ids(&self, ids: std::ops::Range<i64>) {
        self.publish("events.eu", ids.map(line));
    }

    /// Publishes until the stream has had `count` messages, also if the server goes away meanwhile; `message(n)` gives subject and payload of
    /// the one with sequence n + 1. Nobody else may publish. The server takes each message in its place only: its memory of message ids would
    /// not do, since a server that starts again has forgotten those of messages that were acknowledged.
    pub(crate) fn publish_up_to(&self, count: u64, message: impl Fn(u64) -> (&'static str, String)) {
        let js = self.js();
        self.run(async {
            while let Some(n) = Self::publish_once(&js, count, &message).await {
                assert!(n <= count, "{n} messages of {count}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
    }

    /// Publishes what is missing. Returns how many messages there were before, unless it was all of them.
    async fn publish_once(js: &Context, count: u64, message: impl Fn(u64) -> (&'static str, String)) -> Option<u64> {
        let second = Duration::from_secs(1);
        let Ok(Ok(stream)) = tokio::time::timeout(second, js.get_stream(STREAM)).await else { return Some(0) };
        let has = stream.cached_info().state.last_sequence;
        let mut acks = Vec::new();
        for n in has..count {
            let mut headers = HeaderMap::new();
            headers.insert("Nats-Expected-Last-Sequence", n.to_string().as_str());
            let (subject, payload) = message(n);
            acks.extend(js.publish_with_headers(subject, headers, payload.into()).await);
        }
        for ack in acks {
            if !matches!(tokio::time::timeout(second, ack.into_future()).await, Ok(Ok(_))) {
                break;
            }
        }
        (has != count).then_some(has)
    }

    /// Returns what the server says of the stream.
    pub(crate) fn stream(&self) -> Info {
        self.run(self.js().get_stream_no_info(STREAM)).map(|stream| self.run(stream.get_info()).unwrap()).unwrap()
    }

    /// Returns what the server says of the durable consumer; `None` while there is none, or another follows it.
    pub(crate) fn consumer(&self) -> Option<ConsumerInfo> {
        let stream = self.run(self.js().get_stream_no_info(STREAM)).unwrap();
        let mut found: Vec<_> =
            ["pintail", "pintail-1", "pintail-2"].iter().filter_map(|name| self.run(stream.consumer_info(name)).ok()).collect();
        found.pop().filter(|_| found.is_empty())
    }

    /// Removes all messages.
    pub(crate) fn purge(&self) {
        let stream = self.run(self.js().get_stream_no_info(STREAM)).unwrap();
        self.run(async { stream.purge().await }).unwrap();
    }

    /// Deletes one message.
    pub(crate) fn delete(&self, sequence: u64) {
        let stream = self.run(self.js().get_stream_no_info(STREAM)).unwrap();
        self.run(stream.delete_message(sequence)).unwrap();
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.stop();
        if std::thread::panicking() {
            let log = fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
            let lines: Vec<_> = log.lines().collect();
            println!("--- nats-server\n{}", lines[lines.len().saturating_sub(20)..].join("\n"));
        }
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to),
            false => drop(fs::copy(entry.path(), to).unwrap()),
        }
    }
}

/// Finds the program. Debian's package puts it where users that are not root do not look.
fn program() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories = std::env::split_paths(&path).chain(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from));
    let found = directories.map(|directory| directory.join("nats-server")).find(|program| program.is_file());
    found.expect("nats-server is not installed, which these tests need: `apt-get install nats-server`")
}

impl Commit {
    /// Returns kind and text of what the source noted.
    pub(crate) fn notes(&self) -> Vec<(String, String)> {
        let mut notes = Vec::new();
        each_object(&self.value, &mut |object| {
            if let (Some(kind), Some(text)) = (object["kind"].as_str(), object["text"].as_str()) {
                notes.push((kind.to_owned(), text.to_owned()));
            }
        });
        notes
    }
}

impl Dataset {
    /// Returns the kinds of all that the source noted, in order.
    pub(crate) fn noted(&self) -> Vec<String> {
        self.commits().iter().flat_map(Commit::notes).map(|(kind, _)| kind).collect()
    }

    /// Prepares a run that reads small events from the stream and commits several times a second.
    pub(crate) fn nats(&self, broker: &Broker) -> Pintail<'_> {
        let pintail = self.small_events().set("source.type", "nats").set("source.url", broker.url()).set("source.stream", STREAM);
        pintail.set("pipeline.checkpoint_interval", "100ms")
    }
}
