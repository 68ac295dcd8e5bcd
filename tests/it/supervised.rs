//! A service that a supervisor has started, which waits to be told: systemd with `Type=notify`.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use rustix::process::Signal;

use crate::common::Dataset;

/// What the supervisor hears.
struct Ear(UnixDatagram);

impl Ear {
    /// Returns the lines of the next message; nothing where none comes for so long.
    fn next(&self, patience: Duration) -> Vec<String> {
        self.0.set_read_timeout(Some(patience)).unwrap();
        let mut message = [0; 4096];
        let length = self.0.recv(&mut message).unwrap_or(0);
        String::from_utf8(message[..length].to_vec()).unwrap().lines().map(str::to_owned).collect()
    }

    /// Returns all lines up to the one that is waited for.
    fn until(&self, line: &str) -> Vec<String> {
        let mut heard = Vec::new();
        while !heard.iter().any(|known| known == line) {
            let next = self.next(Duration::from_secs(30));
            assert!(!next.is_empty(), "`{line}` was not said, but {heard:?}");
            heard.extend(next);
        }
        heard
    }
}

#[test]
fn the_supervisor_hears_that_the_line_runs_that_it_lives_and_that_it_stops() {
    let dataset = Dataset::new();
    let address = dataset.root().join("notify");
    let ear = Ear(UnixDatagram::bind(&address).unwrap());
    let service = dataset.simulator(0).set("source.rate", 1000).set("admin.listen", "");
    let process = service.env("NOTIFY_SOCKET", address.to_str().unwrap()).env("WATCHDOG_USEC", "600000").spawn();
    let begun = ear.until("READY=1");
    assert!(!begun.contains(&"STOPPING=1".to_owned()), "{begun:?}");
    for _ in 0..5 {
        let signs = ear.next(Duration::from_millis(600));
        assert!(signs.contains(&"WATCHDOG=1".to_owned()), "within its patience: {signs:?}");
    }
    process.stop(Signal::TERM).assert_code(0);
    ear.until("STOPPING=1");
}

#[test]
fn a_service_whose_supervisor_does_not_listen_runs_all_the_same() {
    let dataset = Dataset::new();
    let nowhere = dataset.root().join("nobody");
    let outcome = dataset.simulator(1000).env("NOTIFY_SOCKET", nowhere.to_str().unwrap()).run_ok();
    assert!(outcome.stderr.contains("NOTIFY_SOCKET"), "{}", outcome.stderr);
    assert_eq!(dataset.rows_len(), 1000);
}
