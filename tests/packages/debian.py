"""A Debian of its own to install into: a root by debootstrap, and systemd in it.

Owns: the directory, the processes in it, and that both are gone at the end.
Does not own: what is installed (see service.py).
"""
import contextlib
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

from failed import Failed

SUITE = "bookworm"
# A package changes these whatever it is, or the system does while it runs.
PASSING = ("var/lib/dpkg", "var/log", "var/cache", "var/lib/systemd", "var/tmp", "run", "tmp", "proc", "sys", "dev")
ACCOUNTS = {"etc/passwd", "etc/group", "etc/shadow", "etc/gshadow"}


class Debian:
    """A context: a fresh root, or a copy of `base`, which is made there if it is not."""

    def __init__(self, work, base=None):
        self.root, self.base = Path(work) / "root", Path(base or Path(work) / "base")
        self.system = None

    def __enter__(self):
        for tool, package in (("debootstrap", "debootstrap"), ("systemd-nspawn", "systemd-container")):
            if not shutil.which(tool, path=f"{os.environ['PATH']}:/usr/sbin"):
                raise Failed(f"`{tool}` is missing: apt-get install {package}")
        if not self.base.exists():
            partial = self.base.with_name(self.base.name + ".partial")
            call("debootstrap", "--variant=minbase", "--include=systemd-sysv,dbus", SUITE, partial, timeout=1800)
            partial.rename(self.base)
        call("cp", "-a", "--reflink=auto", self.base, self.root)
        return self

    def __exit__(self, *_):
        self.halt()
        shutil.rmtree(self.root, ignore_errors=True)

    def run(self, *command, user=None, check=True, timeout=120):
        """Runs a command in the root, where its systemd runs if it was booted, and returns it, done."""
        enter = ["nsenter", "--target", str(self.leader()), "--mount", "--uts", "--ipc", "--net", "--pid", "--"] if self.system else ["chroot", self.root]
        as_user = ["runuser", "-u", user, "--"] if user else []
        done = subprocess.run([*map(str, (*enter, *as_user, *command))], capture_output=True, text=True, timeout=timeout,
                              env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"})
        if check and done.returncode != 0:
            raise Failed(f"`{' '.join(map(str, command))}` ended with {done.returncode}: {(done.stderr or done.stdout).strip()[-2000:]}")
        return done

    def boot(self):
        """Starts its systemd, with a network that has nothing but the loopback."""
        command = ["systemd-nspawn", "--directory", self.root, "--boot", "--register=no", "--keep-unit", "--private-network", "--console=passive"]
        with open(self.root.with_suffix(".log"), "wb") as log:
            self.system = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        wait_until(lambda: self.leader() and self.run("systemctl", "is-system-running", check=False).stdout.strip() in ("running", "degraded"),
                   "systemd runs", 60)

    def leader(self):
        """The id of the first process in it, None as long as there is none."""
        children = Path(f"/proc/{self.system.pid}/task/{self.system.pid}/children").read_text().split()
        return int(children[0]) if children else None

    def halt(self):
        if not self.system:
            return
        with contextlib.suppress(ProcessLookupError, TypeError):
            # What systemd calls a request to power off.
            os.kill(self.leader(), signal.SIGRTMIN + 4)
        try:
            self.system.wait(40)
        except subprocess.TimeoutExpired:
            self.system.kill()
            self.system.wait()
        self.system = None

    def files(self):
        """Returns the names of all files and directories that stay where they are while nobody installs anything."""
        found = set()
        for directory, names, files in os.walk(self.root):
            below = os.path.relpath(directory, self.root)
            names[:] = [name for name in names if os.path.normpath(f"{below}/{name}") not in PASSING]
            found |= {os.path.normpath(f"{below}/{name}") for name in (*names, *files)}
        # Backups of the files of accounts.
        return {name for name in found if name.removesuffix("-") not in ACCOUNTS}


def call(*command, timeout=300):
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=timeout)
    if done.returncode != 0:
        raise Failed(f"`{' '.join(map(str, command))}` ended with {done.returncode}: {(done.stderr or done.stdout).strip()[-2000:]}")
    return done.stdout


def wait_until(condition, what, seconds):
    """Waits until a condition holds, and returns what it gave."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > end:
            raise Failed(f"not within {seconds} s: {what}")
        time.sleep(0.1)
    return found
