"""The binary in confinement: few descriptors, cores, bytes of memory and threads, stderr and /tmp as bad as they can be.

Owns: how each limit is put on.
Does not own: the process itself (see process.py), its peaks (see sampled.py), what is run in it.
"""
import os
import resource
import shutil
import threading
import time
from contextlib import suppress
from pathlib import Path

from sampled import Sampled

GROUPS = Path("/sys/fs/cgroup")
STARVED_SECONDS, STARTING_SECONDS = 0.1, 0.4
# Below it are the standard streams, which are open.
FIRST_FREE = 3


class Impossible(Exception):
    """A limit that cannot be put on here."""


class Group:
    """A control group of version 1 or 2, of its own for each controller in version 1."""

    def __init__(self, name, limits):
        unified = (GROUPS / "cgroup.controllers").exists()
        self.directories = []
        for controller, files, value in limits:
            directory = (GROUPS if unified else GROUPS / controller) / name
            try:
                directory.mkdir(exist_ok=True)
                self.directories.append(directory)
                file = next((directory / file for file in files if (directory / file).exists()), None)
                if not file:
                    raise OSError(f"{directory} has none of {', '.join(files)}")
                file.write_text(str(value))
            except OSError as error:
                self.remove()
                raise Impossible(f"no control group with a limit of {controller}: {error}") from None

    def remove(self):
        for directory in self.directories:
            for _ in range(100):
                with suppress(FileNotFoundError):
                    try:
                        directory.rmdir()
                    except OSError:
                        # The process that was in it is not quite gone.
                        time.sleep(0.02)
                        continue
                break


class Confined(Sampled):
    """One run in confinement. `peaks` gets a pair of the greatest resident memory in bytes and the greatest number of descriptors."""

    def __init__(self, binary, config, cwd, limits, peaks, **how):
        self.limits, self.peaks = limits, peaks
        self.group = self.reader = None
        super().__init__(binary, config, cwd, **how)

    def start(self):
        limits = [("memory", ("memory.max", "memory.limit_in_bytes"), self.limits["memory"])]
        if "threads" in self.limits:
            limits.append(("pids", ("pids.max",), self.limits["threads"]))
        self.group = Group(f"pintail-small-{os.getpid()}", limits)
        self.prefix = ("sh", "-c", "; ".join(self.script()), "sh")
        if "tmp" in self.limits:
            unshare = shutil.which("unshare")
            if not unshare:
                raise Impossible("`unshare` is missing")
            self.prefix = (unshare, "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"]), *self.prefix)
        super().start()
        if self.limits.get("starved"):
            threading.Thread(target=self.starve, daemon=True).start()
        return self

    def starve(self):
        """Takes all free descriptors away, again and again, for a moment; what is open stays so."""
        with suppress(Exception):
            pid, descriptors = self.find(), self.limits["descriptors"]
            # A start may fail for want of descriptors.
            time.sleep(STARTING_SECONDS)
            while self.child.poll() is None:
                for limit, seconds in ((FIRST_FREE, STARVED_SECONDS), (descriptors, 3 * STARVED_SECONDS)):
                    resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit, descriptors))
                    time.sleep(seconds)

    def script(self):
        """Returns the commands of a shell that becomes the binary."""
        yield "set -e"
        for directory in self.group.directories:
            yield f"echo $$ > {directory}/cgroup.procs"
        match self.limits.get("tmp"):
            case "full":
                yield "mount -t tmpfs -o size=16384 tmpfs /tmp && { head -c 65536 /dev/zero > /tmp/ballast 2> /dev/null || true; }"
            case "read-only":
                yield "mount -t tmpfs -o ro tmpfs /tmp"
        yield f"ulimit -n {self.limits['descriptors']}"
        cores = sorted(os.sched_getaffinity(0))[:self.limits["cores"]]
        yield f"exec taskset -c {','.join(map(str, cores))} \"$@\" {self.stderr_of_child()}"

    def stderr_of_child(self):
        match self.limits.get("stderr"):
            case "closed":
                return "2>&-"
            case "full":
                return "2>/dev/full"
            case "unread":
                fifo = self.cwd / "stderr"
                if not fifo.exists():
                    os.mkfifo(fifo)
                # Somebody has it open for reading, and does not read.
                self.reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
                fill(fifo)
                return f"2>{fifo}"
        return ""

    def wait(self, timeout=60):
        code = super().wait(timeout)
        self.peaks.append(tuple(self.peak))
        self.release()
        return code

    def end(self):
        super().end()
        self.release()

    def release(self):
        if self.group:
            self.group.remove()
            self.group = None
        if self.reader is not None:
            os.close(self.reader)
            self.reader = None


def fill(fifo):
    """Leaves no room in a pipe."""
    writer = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
    with suppress(BlockingIOError):
        while os.write(writer, bytes(4096)):
            pass
    os.close(writer)
