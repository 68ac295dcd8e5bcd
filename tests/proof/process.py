"""The binary as a child process.

Owns: its settings, its process group, its signals, and that it never outlives the proof.
Does not own: what it leaves on disk (see oracle.py).
"""
import atexit
import contextlib
import json
import os
import re
import signal
import subprocess
import tempfile
import time
from pathlib import Path

UNHANDLED = {signal.SIGKILL, signal.SIGSTOP, signal.SIGCONT}
"""Signals that do what they are meant to without a handler."""
POLL_SECONDS = 0.002
SETTINGS = re.compile(r"(PINTAIL_.*|BATCH_ROWS|CHECKPOINT_SECONDS|OUT_PATH|RUST_LOG)$")
running = set()


def default_binary():
    target = os.environ.get("CARGO_TARGET_DIR") or "~/.cache/pintail/target"
    return Path(target).expanduser() / "release/pintail"


class Unexpected(Exception):
    """The process did not do what it should; with its log."""


class Pintail:
    """One run of the binary. `prefix` is a command that runs it, such as strace; signals go to the binary itself all the same."""

    def __init__(self, binary, config, cwd, env=None, prefix=(), command=(), stdin=subprocess.DEVNULL):
        # No admin server: several proofs run on one machine, and system calls of its thread are none of the line's.
        self.binary, self.config, self.cwd = Path(binary).resolve(), {"admin.listen": ""} | dict(config), Path(cwd)
        self.env, self.prefix, self.command, self.stdin = env or {}, tuple(map(str, prefix)), tuple(command), stdin
        self.child = self.log = None
        self.pid = 0

    @property
    def out(self):
        return self.cwd / self.config.get("pipeline.out_path", "checkpoints")

    def start(self):
        """Starts it in a process group of its own. Returns itself."""
        sets = [part for key, value in self.config.items() for part in ("--set", f"{key}={toml(value)}")]
        env = {k: v for k, v in os.environ.items() if not SETTINGS.match(k)} | {"NO_COLOR": "1"} | self.env
        # A file, not a pipe: a log that nobody reads in time must not hold it up. Elsewhere than the dataset, whose disk may be full.
        self.log = tempfile.TemporaryFile()
        argv = [*self.prefix, str(self.binary), *self.command, *sets]
        self.started = time.monotonic()
        self.child = subprocess.Popen(argv, cwd=self.cwd, env=env, stdin=self.stdin, stdout=subprocess.DEVNULL, stderr=self.log,
                                      start_new_session=True)
        running.add(self)
        self.pid = 0 if self.prefix else self.child.pid
        return self

    def find(self, timeout=5):
        """Returns the process id of the binary; below a prefix it is not that of the child."""
        end = time.monotonic() + timeout
        while not self.pid:
            self.pid = process_of(self.child.pid, self.binary)
            if not self.pid and (self.child.poll() is not None or time.monotonic() > end):
                raise Unexpected(f"there is no {self.binary.name} below {self.prefix}:\n{self.stderr()[-2000:]}")
        return self.pid

    def is_running(self):
        return self.child.poll() is None

    def checkpoints(self):
        """Returns how many checkpoints there are. Only their records have a trigger."""
        return sum(b'"trigger":"' in path.read_bytes() for path in (self.out / "_pintail/commits").glob("*/*.json"))

    def wait_commits(self, n, timeout=30):
        """Waits until the dataset has `n` checkpoints, those of earlier runs included."""
        self.wait_until(lambda: self.checkpoints() >= n, f"checkpoint {n}", timeout)

    def wait_commits_after(self, dataset, number, timeout=30):
        """Waits until the dataset has a checkpoint after record `number`: cheaper than counting where there are many."""
        self.wait_until(lambda: dataset.has_checkpoint_after(number), f"checkpoint after record {number}", timeout)

    def wait_log(self, needle, timeout=30):
        """Waits until the log says something."""
        self.wait_until(lambda: needle in self.stderr(), f"{needle!r} in the log", timeout)

    def wait_until(self, condition, what, timeout=30):
        """Waits until a condition holds. A process that has ended meanwhile, or takes too long, is an error that shows its log."""
        end = time.monotonic() + timeout
        while not condition():
            if not self.is_running() and not condition():
                raise Unexpected(f"it ended with {self.child.returncode} before {what}:\n{self.stderr()[-2000:]}")
            if time.monotonic() > end:
                raise Unexpected(f"no {what} within {timeout} s:\n{self.stderr()[-2000:]}")
            time.sleep(POLL_SECONDS)

    def signal(self, number):
        """Sends a signal; one that can be handled not before it is: a process that is still being loaded would die of it."""
        pid, end = self.find(), time.monotonic() + 30
        while number not in UNHANDLED and not handles(pid, number) and time.monotonic() < end:
            time.sleep(POLL_SECONDS)
        os.kill(pid, number)

    def wait(self, timeout=60):
        """Waits for its end and returns its exit code, negative for a signal. Stderr can still be read afterwards."""
        try:
            code = self.child.wait(timeout)
        except subprocess.TimeoutExpired:
            raise Unexpected(f"it still runs after {timeout} s:\n{self.stderr()[-2000:]}") from None
        running.discard(self)
        return code

    def run(self, timeout=120):
        """Runs it to its end, which must be a good one."""
        code = self.start().wait(timeout)
        if code != 0:
            raise Unexpected(f"exit code {code}:\n{self.stderr()[-2000:]}")
        return self

    def stderr(self):
        # At an offset of its own: the child shares the file's position.
        return os.pread(self.log.fileno(), os.fstat(self.log.fileno()).st_size, 0).decode(errors="replace")

    def messages(self):
        """Returns the lines of the log that are JSON."""
        return [json.loads(line) for line in self.stderr().splitlines() if line.startswith("{")]

    def end(self):
        """Ends the process group, whatever state it is in."""
        running.discard(self)
        if self.child:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.child.pid, signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.child.wait(10)

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.end()


def process_of(root, binary):
    """Returns the id of the process at or below `root` that runs the binary; 0 if there is none."""
    waiting = [root]
    while waiting:
        pid = waiting.pop()
        try:
            if os.readlink(f"/proc/{pid}/exe") == str(binary):
                return pid
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        waiting += children_of(pid)
    return 0


def children_of(pid):
    """Returns the ids of the children of a process; none if it has ended. A thread may end while it is looked at."""
    children = []
    with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                children += map(int, Path(f"/proc/{pid}/task/{thread}/children").read_text().split())
    return children


def handles(pid, number):
    """Returns whether a process has a handler for a signal, or has ended."""
    status = Path(f"/proc/{pid}/status").read_text()
    field = lambda name: re.search(rf"^{name}:\s*(\S+)", status, re.MULTILINE)[1]
    return field("State") == "Z" or int(field("SigCgt"), 16) >> (number - 1) & 1 == 1


def toml(value):
    """Writes a value as TOML: JSON but for objects."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {toml(item)}" for key, item in value.items()) + " }"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps(value)


@atexit.register
def end_all():
    for process in list(running):
        process.end()
