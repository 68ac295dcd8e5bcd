//! A small HTTP/1.1 client over a plain socket.
//!
//! Owns: one request a connection, and the stream of events.
//! Does not own: what the answers mean.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::PATIENCE;
use super::process::{Process, messages};

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The status code.
    pub status: u16,
    /// The head, as it came.
    pub head: String,
    /// The body.
    pub body: String,
}

impl Answer {
    /// Returns the body as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// Returns the value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let headers = self.head.lines().filter_map(|line| line.split_once(": "));
        headers.into_iter().find_map(|(known, value)| known.eq_ignore_ascii_case(name).then_some(value))
    }

    /// Returns the value of a sample in Prometheus' text format, as `name` or `name{label="value"}`.
    #[track_caller]
    pub(crate) fn metric(&self, name: &str) -> f64 {
        self.try_metric(name).unwrap_or_else(|| panic!("no sample {name} in:\n{}", self.body))
    }

    /// Returns the value of a sample, if it is there.
    pub(crate) fn try_metric(&self, name: &str) -> Option<f64> {
        self.body.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
    }
}

/// Asks for a path.
pub(crate) fn get(address: SocketAddr, path: &str) -> Answer {
    request(address, "GET", path, &[], "")
}

/// Sends a request with headers and a body.
pub(crate) fn request(address: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Answer {
    try_request(address, method, path, headers, body).unwrap()
}

/// As [`request`]; an error if there is nobody, or no whole answer.
pub(crate) fn try_request(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: impl AsRef<[u8]>,
) -> io::Result<Answer> {
    answer(connect(address, method, path, headers, body.as_ref())?)
}

/// Reads an answer to its end, which is that of the connection.
pub(crate) fn answer(mut stream: TcpStream) -> io::Result<Answer> {
    let mut text = Vec::new();
    stream.read_to_end(&mut text)?;
    let text = String::from_utf8(text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("no status in {head:?}"));
    Ok(Answer { status, head: head.to_owned(), body: body.to_owned() })
}

fn connect(address: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    // HTTP/1.0: the answer is not cut into pieces, and ends with the connection.
    let mut head = format!("{method} {path} HTTP/1.0\r\n");
    if !headers.iter().any(|(name, _)| *name == "Host") {
        head += &format!("Host: {address}\r\n");
    }
    headers.iter().for_each(|(name, value)| head += &format!("{name}: {value}\r\n"));
    if method == "POST" {
        head += &format!("Content-Length: {}\r\n", body.len());
    }
    // The server may have refused and closed before it has all.
    let _ = stream.write_all(&[format!("{head}\r\n").as_bytes(), body].concat());
    Ok(stream)
}

/// Listens to `/api/events`: the status of each event.
pub(crate) fn events(address: SocketAddr) -> impl Iterator<Item = Value> {
    let lines = BufReader::new(connect(address, "GET", "/api/events", &[], b"").unwrap()).lines();
    lines.map_while(Result::ok).filter_map(|line| serde_json::from_str(line.strip_prefix("data: ")?).ok())
}

impl Process<'_> {
    /// Waits until the admin server listens, and returns where.
    pub(crate) fn admin(&mut self) -> SocketAddr {
        self.listening("admin server listens")
    }

    /// Waits until a message with an address is logged, and returns that.
    pub(crate) fn listening(&mut self, message: &str) -> SocketAddr {
        let begin = Instant::now();
        loop {
            let log = self.log();
            if let Some(listens) = messages(&log, message).first() {
                return listens["address"].as_str().unwrap().parse().unwrap();
            }
            assert!(self.is_running() && begin.elapsed() < PATIENCE, "no \"{message}\":\n{log}");
            thread::sleep(Duration::from_millis(5));
        }
    }
}
