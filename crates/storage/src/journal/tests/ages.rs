//! Keys and the clocks of the machine.

use super::*;

const HOUR: u64 = 3_600_000;

struct Machine {
    dir: tempfile::TempDir,
    clocks: Arc<Hand>,
}

impl Machine {
    fn new() -> Self {
        let clocks = Arc::new(Hand::default());
        clocks.pass(1_000 * HOUR);
        Self { dir: tempfile::tempdir().unwrap(), clocks }
    }

    fn open(&self) -> Log {
        let settings = Settings { clocks: self.clocks.clone(), key_ttl: Duration::from_millis(24 * HOUR), ..settings(self.dir.path()) };
        Log::open(Arc::new(Posix::unwaiting()), settings, Some(0)).unwrap()
    }

    fn reboot(&self, off_ms: u64) {
        self.clocks.boot.fetch_add(1, Ordering::SeqCst);
        self.clocks.up_ms.store(0, Ordering::SeqCst);
        self.clocks.wall_ms.fetch_add(off_ms, Ordering::SeqCst);
    }
}

/// Returns whether the key of the first request is known.
fn knows(log: &mut Log) -> bool {
    append(log, "a", 1, Some("a")) == receipt(0, 1)
}

#[test]
fn a_wall_clock_that_jumps_while_it_runs_or_is_stopped_neither_forgets_a_key_nor_keeps_it() {
    for jump_to in [0, 5_000 * HOUR, u64::MAX / 2] {
        for stopped in [false, true] {
            let machine = Machine::new();
            let mut log = machine.open();
            append(&mut log, "a", 1, Some("a")).unwrap();
            machine.clocks.wall_ms.store(jump_to, Ordering::SeqCst);
            if stopped {
                drop(log);
                log = machine.open();
            }
            machine.clocks.pass(24 * HOUR - 1);
            assert!(knows(&mut log), "forgotten early, {jump_to}, {stopped}");
            if stopped {
                drop(log);
                log = machine.open();
            }
            machine.clocks.pass(1);
            assert!(!knows(&mut log), "kept, {jump_to}, {stopped}");
        }
    }
}

#[test]
fn over_a_reboot_with_a_wrong_clock_a_key_is_not_forgotten_early_and_time_goes_on_with_the_uptime() {
    for wall_ms in [0, 1_000_000 * HOUR] {
        let machine = Machine::new();
        let mut log = machine.open();
        append(&mut log, "a", 1, Some("a")).unwrap();
        drop(log);
        machine.reboot(HOUR);
        machine.clocks.wall_ms.store(wall_ms, Ordering::SeqCst);
        log = machine.open();
        assert!(knows(&mut log));
        machine.clocks.pass(24 * HOUR);
        assert!(!knows(&mut log));
    }
}

#[test]
fn a_key_ages_while_the_service_is_down_for_a_day_and_nothing_else_is_written() {
    let machine = Machine::new();
    let mut log = machine.open();
    append(&mut log, "a", 1, Some("a")).unwrap();
    drop(log);
    machine.reboot(2 * HOUR);
    machine.clocks.pass(23 * HOUR);
    for _ in 0..3 {
        drop(machine.open());
    }
    assert!(knows(&mut machine.open()), "only the uptime is sure");
    machine.clocks.pass(HOUR);
    assert!(!knows(&mut machine.open()));
}

#[test]
fn a_service_that_is_killed_again_and_again_keeps_no_key_for_ever() {
    let machine = Machine::new();
    append(&mut machine.open(), "a", 1, Some("a")).unwrap();
    for hour in 0..24 {
        assert!(knows(&mut machine.open()), "hour {hour}");
        machine.clocks.pass(HOUR / 2);
        drop(machine.open());
        machine.reboot(0);
        machine.clocks.pass(HOUR / 2);
    }
    assert!(!knows(&mut machine.open()));
}
