//! `pintail health`: whether a process works on the dataset, for the container's health check.
//!
//! Owns: which process is meant, how old a sign of life may be, and asking the admin server of the process whether it takes and commits records.
//! Does not own: giving the sign (the lock is touched, but not while the disk is full), the answer (see `crate::health`).

use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use itertools::Itertools as _;
use pintail_core::error::{Error, Result};
use pintail_core::invocation::forgotten;
use pintail_storage::checkpoint::lock::{self, Seen};
use pintail_storage::checkpoint::paths::Paths;
use serde::Deserialize;

use crate::cli::{Cli, Command};

/// The lock is touched every few seconds: this long without a touch, the process hangs or waits for room on the disk.
const AGE_MAX: Duration = Duration::from_secs(30);
/// Time for the admin server to answer; the container's health check waits 5 s.
const ANSWER_MAX: Duration = Duration::from_secs(3);
/// Bytes of its answer.
const ANSWER_BYTES_MAX: u64 = 64 << 10;

/// Succeeds if the lock of an instance of the dataset at `out` is held and was touched lately, and its holder's admin server, if it has one that is reached
/// from here, does not say that it cannot go on. Recovering and draining pass: they are no fault, and a restart would only prolong them.
///
/// # Errors
/// [`pintail_core::error::ErrorKind::TryAgain`] if the lock is free or stale, or with what the server says.
pub fn run(paths: impl Into<Paths>, out: &Path) -> Result<()> {
    let admin = match lock::look(paths)? {
        Seen::Held { age, admin } if age <= AGE_MAX => admin,
        Seen::Held { age, .. } => {
            return Err(Error::try_again(format!(
                "pintail on `{}` gave no sign of life for {} (at most {}): it hangs, or its disk is full",
                out.display(),
                humantime::format_duration(Duration::from_secs(age.as_secs())),
                humantime::format_duration(AGE_MAX)
            )));
        }
        Seen::Free => return Err(Error::try_again(format!("no pintail runs on `{}`{}", out.display(), forgotten("pipeline.out_path")))),
    };
    let Some(admin) = admin else { return Ok(()) };
    let said = ask(admin).map_err(|e| Error::try_again(format!("the admin server at {admin} does not answer: {e}")))?;
    if said.ready || said.state != "running" {
        return Ok(());
    }
    Err(Error::try_again(format!("pintail on `{}` is not ready: {}", out.display(), said.not_ready.join("; "))))
}

/// What `/readyz` says.
#[derive(Deserialize)]
struct Readiness {
    ready: bool,
    state: String,
    not_ready: Vec<String>,
}

/// Asks by HTTP/1.0, whose answer ends with the connection.
fn ask(admin: SocketAddr) -> std::io::Result<Readiness> {
    let mut stream = TcpStream::connect_timeout(&reachable(admin), ANSWER_MAX)?;
    stream.set_read_timeout(Some(ANSWER_MAX))?;
    stream.set_write_timeout(Some(ANSWER_MAX))?;
    stream.write_all(b"GET /readyz HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer)?;
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    Ok(serde_json::from_str(body)?)
}

/// A service of this user that runs this very program.
pub(crate) struct Service {
    /// Its arguments.
    pub cli: Cli,
    /// Its environment.
    pub environment: Vec<(String, String)>,
    /// The directory that its paths are relative to.
    pub directory: PathBuf,
}

impl Service {
    /// Finds the one that there is; `None` where there are several: then it must be said which is meant.
    pub(crate) fn find() -> Option<Self> {
        let own = fs::metadata("/proc/self/exe").ok()?;
        let processes = fs::read_dir("/proc").ok()?.flatten();
        processes.filter_map(|process| Self::of(&process.path(), &own)).exactly_one().ok()
    }

    fn of(process: &Path, own: &Metadata) -> Option<Self> {
        let program = fs::metadata(process.join("exe")).ok()?;
        if (program.dev(), program.ino()) != (own.dev(), own.ino()) {
            return None;
        }
        let parts = |name: &str| {
            let content = fs::read(process.join(name)).ok()?;
            Some(content.split(|byte| *byte == 0).filter(|part| !part.is_empty()).map(<[u8]>::to_vec).collect::<Vec<_>>())
        };
        let cli = Cli::read(parts("cmdline")?.into_iter().map(OsString::from_vec)).ok()?;
        if !matches!(cli.command(), Command::Run { .. } | Command::DeadLetters { replay: true, .. }) {
            return None;
        }
        let variable = |text: &[u8]| String::from_utf8_lossy(text).split_once('=').map(|(name, value)| (name.into(), value.into()));
        let environment = parts("environ")?.iter().filter_map(|text| variable(text)).collect();
        Some(Self { cli, environment, directory: fs::read_link(process.join("cwd")).ok()? })
    }
}

/// Turns "every address" into one.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
mod tests {
    use pintail_storage::checkpoint::lock::Lock;
    use pintail_storage::checkpoint::paths::Paths;

    use super::*;

    #[test]
    fn a_process_that_touches_its_lock_is_healthy_and_a_silent_or_absent_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        assert!(run(dir.path(), dir.path()).unwrap_err().to_string().contains("no pintail runs"));
        let held = Lock::take(dir.path(), chrono::DateTime::UNIX_EPOCH, None).unwrap();
        run(dir.path(), dir.path()).unwrap();
        let file = fs::File::options().write(true).open(Paths::new(dir.path()).lock()).unwrap();
        file.set_modified(std::time::SystemTime::now() - Duration::from_secs(31)).unwrap();
        assert!(run(dir.path(), dir.path()).unwrap_err().to_string().contains("no sign of life for 31s"));
        drop(held);
    }

    /// Answers one request as the admin server does.
    fn answer(body: &'static str) -> SocketAddr {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 1024]).unwrap();
            write!(stream, "HTTP/1.0 503 Service Unavailable\r\nContent-Type: application/json\r\n\r\n{body}").unwrap();
        });
        address
    }

    #[test]
    fn a_process_is_asked_where_its_lock_says() {
        let dir = tempfile::tempdir().unwrap();
        let health = |admin| {
            let _held = Lock::take(dir.path(), chrono::DateTime::UNIX_EPOCH, Some(admin)).unwrap();
            run(dir.path(), dir.path()).map_err(|error| error.to_string())
        };
        let full = health(answer(r#"{"ready":false,"state":"running","not_ready":["the disk is full"]}"#)).unwrap_err();
        assert!(full.ends_with("is not ready: the disk is full"), "{full}");
        health(answer(r#"{"ready":false,"state":"draining","not_ready":["draining"]}"#)).unwrap();
        health(answer(r#"{"ready":true,"state":"running","not_ready":[]}"#)).unwrap();
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert!(health(closed).unwrap_err().contains("does not answer"));
    }
}
