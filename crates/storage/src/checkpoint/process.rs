//! Process: who writes to a dataset, so that a person can find them and a later start can tell whether they still run.
//!
//! Owns: host, boot, process id with its start time, user, and the number that tells two starts of them apart.
//! Does not own: what follows from it (see `store::open`), the lock.

use std::fmt;
use std::fs;

use serde::{Deserialize, Serialize};

/// A process that opened a dataset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Host name.
    pub host: String,
    /// The kernel's number for this boot: a process id means nothing after another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_id: Option<String>,
    /// Process id, as the process sees itself (in a container often 1).
    pub pid: u32,
    /// When the process started, in clock ticks since the boot: a process id is given again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<u64>,
    /// The user that it runs as.
    pub user: String,
    /// Random bits of this start, as 16 hexadecimal digits.
    pub nonce: String,
}

impl Process {
    /// Describes this process.
    pub fn this() -> Self {
        Self {
            host: host(),
            boot_id: fs::read_to_string("/proc/sys/kernel/random/boot_id").ok().map(|id| id.trim().to_owned()),
            pid: std::process::id(),
            started: started("self"),
            user: user(),
            nonce: format!("{:016x}", rand::random::<u64>()),
        }
    }
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} of {} on {}", self.pid, self.user, self.host)
    }
}

/// Returns the name of this host.
pub fn host() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().trim().to_owned();
    if name.is_empty() { "an unknown host".into() } else { name }
}

/// Returns the name of the user, or the number where there is no name.
fn user() -> String {
    let named = ["USER", "LOGNAME"].into_iter().find_map(|name| std::env::var(name).ok().filter(|user| !user.is_empty()));
    named.unwrap_or_else(|| format!("uid {}", rustix::process::geteuid().as_raw()))
}

/// Returns when the process of an id started, in clock ticks since the boot; `None` if there is none.
pub fn started_of(pid: u32) -> Option<u64> {
    started(&pid.to_string())
}

/// Returns field 22 of `/proc/…/stat` (proc(5)); the name in field 2 may hold spaces and parentheses.
fn started(process: &str) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_starts_of_the_same_process_are_told_apart_by_their_nonce_alone() {
        let (first, second) = (Process::this(), Process::this());
        assert_ne!(first.nonce, second.nonce);
        assert_eq!(Process { nonce: second.nonce.clone(), ..first }, second);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn boot_and_start_time_are_known_on_linux() {
        let process = Process::this();
        assert!(process.boot_id.is_some_and(|id| id.len() == 36) && process.started.is_some_and(|ticks| ticks > 0));
    }
}
