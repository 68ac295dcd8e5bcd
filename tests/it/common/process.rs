//! The binary as a child process.
//!
//! Owns: its configuration file, its pipes, its signals, and that it never outlives the test.
//! Does not own: what it leaves on disk (see [`Dataset`]).

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, Read, Write as _};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStderr, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::{Dataset, PATIENCE, wait_until};

/// A run of the binary to be.
#[derive(Clone)]
pub(crate) struct Pintail<'a> {
    dataset: &'a Dataset,
    binary: OsString,
    settings: BTreeMap<String, Value>,
    tables: String,
    args: Vec<OsString>,
    example: Option<&'a str>,
    environment: Vec<(String, String)>,
    stdin: Stdin,
    through: Vec<OsString>,
    is_log_read: bool,
    is_bare: bool,
}

#[derive(Clone)]
enum Stdin {
    Null,
    Bytes(Vec<u8>),
    Open,
}

impl<'a> Pintail<'a> {
    pub(super) fn new(dataset: &'a Dataset) -> Self {
        let out = dataset.out().to_str().unwrap().to_owned();
        // No admin server but where a test asks for one: the default address is one for all.
        let settings = BTreeMap::from([("pipeline.out_path".to_owned(), Value::from(out)), ("admin.listen".to_owned(), Value::from(""))]);
        let binary = env!("CARGO_BIN_EXE_pintail").into();
        Self {
            dataset,
            binary,
            settings,
            tables: String::new(),
            args: Vec::new(),
            example: None,
            environment: Vec::new(),
            stdin: Stdin::Null,
            through: Vec::new(),
            is_log_read: true,
            is_bare: false,
        }
    }

    /// Runs another binary: that of an earlier version.
    pub(crate) fn binary(mut self, path: impl AsRef<OsStr>) -> Self {
        self.binary = path.as_ref().to_owned();
        self
    }

    /// Sets a key of the configuration file; the last value counts.
    pub(crate) fn set(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.settings.insert(key.to_owned(), value.into());
        self
    }

    /// Leaves a key out of the configuration file.
    pub(crate) fn unset(mut self, key: &str) -> Self {
        self.settings.remove(key);
        self
    }

    /// Appends tables to the configuration file.
    pub(crate) fn tables(mut self, toml: &str) -> Self {
        self.tables.push_str(toml);
        self
    }

    /// Takes a configuration as it is, and lays the settings over it from the command line.
    pub(crate) fn example(mut self, path: &'a str) -> Self {
        self.example = Some(path);
        self
    }

    /// Gives it no configuration file.
    pub(crate) fn bare(mut self) -> Self {
        self.is_bare = true;
        self
    }

    /// Adds arguments behind `--config FILE`.
    pub(crate) fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Adds a variable to the otherwise nearly empty environment.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Feeds standard input, then closes it.
    pub(crate) fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = Stdin::Bytes(bytes.into());
        self
    }

    /// Leaves standard input open, for [`Process::feed`].
    pub(crate) fn stdin_open(mut self) -> Self {
        self.stdin = Stdin::Open;
        self
    }

    /// Runs it through a program that becomes it: a shell that closes a stream, one that binds it to a core.
    pub(crate) fn through<S: AsRef<OsStr>>(mut self, program: impl IntoIterator<Item = S>) -> Self {
        self.through = program.into_iter().map(|arg| arg.as_ref().to_owned()).collect();
        self
    }

    /// Leaves standard error open and unread.
    pub(crate) fn log_unread(mut self) -> Self {
        self.is_log_read = false;
        self
    }

    /// Starts the process.
    pub(crate) fn spawn(self) -> Process<'a> {
        static FILES: AtomicU32 = AtomicU32::new(0);
        let lines: String = self.settings.iter().map(|(key, value)| format!("{key} = {}\n", toml(value))).collect();
        let config = format!("pintail-{}.toml", FILES.fetch_add(1, Ordering::Relaxed));
        let config = self.dataset.write(&config, lines + &self.tables);

        // No variable of the machine may configure it, but a few it needs to run at all.
        let kept = ["PATH", "HOME", "TMPDIR", "LLVM_PROFILE_FILE"].into_iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
        let program = [self.through.as_slice(), std::slice::from_ref(&self.binary)].concat();
        let mut command = Command::new(&program[0]);
        command.args(&program[1..]);
        command.env_clear().envs(kept).envs(self.environment).current_dir(self.dataset.root());
        match self.example {
            Some(example) => {
                command.args(["--config", example]);
                for (key, value) in &self.settings {
                    command.args(["--set", &format!("{key}={}", toml(value))]);
                }
            }
            None if self.is_bare => {}
            None => drop(command.arg("--config").arg(&config)),
        }
        command.args(&self.args);
        command.stdin(if matches!(self.stdin, Stdin::Null) { Stdio::null() } else { Stdio::piped() });
        let begin = Instant::now();
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary starts");

        let stdout = Collected::new(child.stdout.take().unwrap());
        let stderr = child.stderr.take().unwrap();
        let (stderr, log) = if self.is_log_read { (Collected::new(stderr), None) } else { (Collected::new(io::empty()), Some(stderr)) };
        let mut stdin = child.stdin.take();
        if let Stdin::Bytes(bytes) = self.stdin {
            let mut pipe = stdin.take().unwrap();
            // It may stop before it has read everything: that is for the test to judge, not an error here.
            thread::spawn(move || drop(pipe.write_all(&bytes)));
        }
        Process { dataset: self.dataset, child, stdin, stdout, stderr, log, begin }
    }

    /// Runs the process to its end.
    pub(crate) fn run(self) -> Outcome {
        self.spawn().wait()
    }

    /// Runs the process to its end, which must be a good one.
    pub(crate) fn run_ok(self) -> Outcome {
        let outcome = self.run();
        outcome.assert_code(0);
        outcome
    }
}

/// Writes a value as TOML: JSON but for objects.
fn toml(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let fields: Vec<_> = fields.iter().map(|(key, value)| format!("{key} = {}", toml(value))).collect();
            format!("{{ {} }}", fields.join(", "))
        }
        Value::Array(values) => format!("[{}]", values.iter().map(toml).collect::<Vec<_>>().join(", ")),
        scalar => scalar.to_string(),
    }
}

/// A pipe that a thread empties.
struct Collected {
    bytes: Arc<Mutex<Vec<u8>>>,
    thread: Option<JoinHandle<()>>,
}

impl Collected {
    fn new(mut pipe: impl Read + Send + 'static) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let all = bytes.clone();
        let thread = thread::spawn(move || {
            let mut buffer = [0; 8192];
            while let Ok(n @ 1..) = pipe.read(&mut buffer) {
                all.lock().unwrap().extend_from_slice(&buffer[..n]);
            }
        });
        Self { bytes, thread: Some(thread) }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().unwrap()).into_owned()
    }

    fn all(&mut self) -> String {
        self.thread.take().map(JoinHandle::join);
        self.text()
    }
}

/// A running process; killed when dropped.
pub(crate) struct Process<'a> {
    dataset: &'a Dataset,
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Collected,
    stderr: Collected,
    /// Standard error, if nobody reads it.
    log: Option<ChildStderr>,
    begin: Instant,
}

impl Process<'_> {
    /// Returns the process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal, not before the process has its handler in place: a process that is still being loaded would die of it.
    pub(crate) fn signal(&self, signal: Signal) {
        wait_until("the signal's handler", || self.handles(signal));
        kill_process(Pid::from_child(&self.child), signal).expect("the process is there to be signalled");
    }

    /// Returns whether a signal does what it is meant to: also one that no process can handle, or to a process that has ended.
    fn handles(&self, signal: Signal) -> bool {
        if [Signal::KILL, Signal::STOP, Signal::CONT].contains(&signal) {
            return true;
        }
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let field = |name| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim();
        let handled = u64::from_str_radix(field("SigCgt:"), 16).unwrap();
        field("State:").starts_with('Z') || handled & (1 << (signal.as_raw() - 1)) != 0
    }

    /// Returns whether it still runs.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Returns the log so far.
    pub(crate) fn log(&self) -> String {
        self.stderr.text()
    }

    /// Begins to read standard error.
    pub(crate) fn read_log(&mut self) {
        self.stderr = Collected::new(self.log.take().expect("nobody reads it yet"));
    }

    /// Closes the reading end of standard error.
    pub(crate) fn close_log(&mut self) {
        self.log = None;
    }

    /// Writes to standard input and waits until the process has taken it out of the pipe.
    pub(crate) fn feed(&mut self, bytes: impl AsRef<[u8]>) {
        let stdin = self.stdin.as_mut().expect("standard input was left open");
        stdin.write_all(bytes.as_ref()).unwrap();
        wait_until("standard input to be read", || rustix::io::ioctl_fionread(&*stdin).unwrap() == 0);
    }

    /// Closes standard input.
    pub(crate) fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Waits until something holds; fails the test, showing the log, if the process ends before.
    pub(crate) fn wait_until(&mut self, what: &str, mut done: impl FnMut(&Dataset) -> bool) {
        wait_until(what, || {
            let ended = !self.is_running();
            done(self.dataset) || {
                assert!(!ended, "the process ended before {what}:\n{}", self.log());
                false
            }
        });
    }

    /// Waits until the dataset has `count` commit records.
    pub(crate) fn wait_for_commits(&mut self, count: usize) {
        self.wait_until(&format!("{count} commits"), |dataset| dataset.commits_len() >= count);
    }

    /// Waits until `count` rows are visible.
    pub(crate) fn wait_for_rows(&mut self, count: usize) {
        self.wait_until(&format!("{count} visible rows"), |dataset| dataset.rows_len() >= count);
    }

    /// Waits until the process holds the dataset, which is a new one.
    pub(crate) fn wait_until_started(&mut self) {
        self.wait_until("the dataset is made", |dataset| dataset.internal("FORMAT").exists());
    }

    /// Kills it, as a power cut or the kernel would.
    pub(crate) fn kill(mut self) -> Outcome {
        self.child.kill().unwrap();
        self.wait()
    }

    /// Waits for the end; a process that does not come to one is killed and fails the test.
    pub(crate) fn wait(self) -> Outcome {
        self.wait_within(PATIENCE)
    }

    /// As [`Self::wait`], with a shorter patience.
    pub(crate) fn wait_within(mut self, patience: Duration) -> Outcome {
        let begin = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(begin.elapsed() < patience, "the process did not end within {patience:?}:\n{}", self.log());
            thread::sleep(Duration::from_millis(2));
        };
        let waited = begin.elapsed();
        Outcome { status, stdout: self.stdout.all(), stderr: self.stderr.all(), waited, took: self.begin.elapsed() }
    }

    /// Sends a signal and waits for the end.
    pub(crate) fn stop(self, signal: Signal) -> Outcome {
        self.signal(signal);
        self.wait()
    }
}

impl Drop for Process<'_> {
    fn drop(&mut self) {
        // Both fail only for a process that has ended and was waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How a process ended.
pub(crate) struct Outcome {
    status: ExitStatus,
    /// What it printed.
    pub stdout: String,
    /// What it logged.
    pub stderr: String,
    /// How long the test waited for the end.
    pub waited: Duration,
    /// How long it ran.
    pub took: Duration,
}

impl Outcome {
    /// Returns the exit code as a shell shows it: 128 + n for a process that died of signal n.
    pub(crate) fn code(&self) -> i32 {
        self.status.code().or_else(|| self.status.signal().map(|signal| 128 + signal)).unwrap()
    }

    /// Asserts the exit code; shows what the process said otherwise.
    #[track_caller]
    pub(crate) fn assert_code(&self, code: i32) {
        assert_eq!(self.code(), code, "exit code\n--- stderr\n{}\n--- stdout\n{}", self.stderr, self.stdout);
    }

    /// Asserts the exit code of a refusal, and that what it says of the cause (not merely its log) names every one of `words`, in
    /// whatever case.
    #[track_caller]
    pub(crate) fn assert_refused(&self, code: i32, words: &[&str]) {
        self.assert_code(code);
        let errors = self.errors().to_lowercase();
        let missing: Vec<_> = words.iter().filter(|word| !errors.contains(&word.to_lowercase())).collect();
        assert!(missing.is_empty(), "the refusal does not name {missing:?}:\n{errors}\n--- the whole log\n{}", self.stderr);
    }

    /// Returns what it said of errors: plain lines, and log lines of that level.
    pub(crate) fn errors(&self) -> String {
        log_lines(&self.stderr, &["ERROR"])
    }
}

/// Returns the plain lines of a log and the text of its JSON lines of the given levels.
pub(crate) fn log_lines(log: &str, levels: &[&str]) -> String {
    let mut text = String::new();
    for line in log.lines() {
        match serde_json::from_str::<Value>(line) {
            Ok(Value::Object(entry)) if !levels.contains(&entry.get("level").and_then(Value::as_str).unwrap_or_default()) => {}
            Ok(Value::Object(entry)) => entry.values().for_each(|value| strings(value, &mut text)),
            _ => text.extend([line, "\n"]),
        }
    }
    text
}

/// Collects the texts in a value, as they are without JSON's escapes.
fn strings(value: &Value, text: &mut String) {
    match value {
        Value::Object(fields) => fields.values().for_each(|value| strings(value, text)),
        Value::Array(values) => values.iter().for_each(|value| strings(value, text)),
        Value::String(string) => text.extend([string, "\n"]),
        other => text.extend([&other.to_string(), "\n"]),
    }
}

/// Returns the fields of the log lines with the given message, in their order.
pub(crate) fn messages(log: &str, message: &str) -> Vec<Value> {
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let fields = lines.map(|line| if line["fields"].is_object() { line["fields"].clone() } else { line });
    fields.filter(|fields| fields["message"] == message).collect()
}
