//! `pintail health`: whether a process works on the dataset, for the container's health check.
//!
//! Owns: how old a sign of life may be, and asking the admin server of the process whether it takes and commits records.
//! Does not own: giving the sign (the supervisor touches the lock, but not while the disk is full), the answer (see `admin::health`).

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use pintail_core::error::{Error, Result};
use pintail_core::invocation::forgotten;
use pintail_storage::checkpoint::lock::{self, Seen};
use pintail_storage::checkpoint::paths::Paths;
use serde::Deserialize;

/// The lock is touched every few seconds: this long without a touch, the process hangs or waits for room on the disk.
const AGE_MAX: Duration = Duration::from_secs(30);
/// Time for the admin server to answer; the container's health check waits 5 s.
const ANSWER_MAX: Duration = Duration::from_secs(3);
/// Bytes of its answer.
const ANSWER_BYTES_MAX: u64 = 64 << 10;

/// Succeeds if the lock of an instance of a dataset is held and was touched lately, and its holder's admin server, if it has one that is reached
/// from here, does not say that it cannot go on. Recovering and draining pass: they are no fault, and a restart would only prolong them.
///
/// # Errors
/// [`pintail_core::error::ErrorKind::TryAgain`] if the lock is free or stale, or with what the server says.
pub fn run(paths: impl Into<Paths>) -> Result<()> {
    let paths = paths.into();
    let out = paths.root();
    let admin = match lock::look(paths.clone())? {
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
        assert!(run(dir.path()).unwrap_err().to_string().contains("no pintail runs"));
        let held = Lock::take(dir.path(), chrono::DateTime::UNIX_EPOCH, None).unwrap();
        run(dir.path()).unwrap();
        let file = std::fs::File::options().write(true).open(Paths::new(dir.path()).lock()).unwrap();
        file.set_modified(std::time::SystemTime::now() - Duration::from_secs(31)).unwrap();
        assert!(run(dir.path()).unwrap_err().to_string().contains("no sign of life for 31s"));
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
            run(dir.path()).map_err(|error| error.to_string())
        };
        let full = health(answer(r#"{"ready":false,"state":"running","not_ready":["the disk is full"]}"#)).unwrap_err();
        assert!(full.ends_with("is not ready: the disk is full"), "{full}");
        health(answer(r#"{"ready":false,"state":"draining","not_ready":["draining"]}"#)).unwrap();
        health(answer(r#"{"ready":true,"state":"running","not_ready":[]}"#)).unwrap();
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert!(health(closed).unwrap_err().contains("does not answer"));
    }
}
