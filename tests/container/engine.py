"""The container engine: one of our own that leaves nothing behind, or the one that runs.

Owns: `dockerd` with its data, the base image, and that all of it is gone at the end, whatever the end is.
Does not own: Pintail's image and what is done with it (see image.py, service.py).
"""
import contextlib
import os
import shutil
import subprocess
import time
from pathlib import Path

BASE = "debian:bookworm-slim"
SUITE = "bookworm"
CGROUPS = Path("/sys/fs/cgroup")


class Failed(Exception):
    """A step did not do what it should."""


class Engine:
    """A context. `docker` runs a command of the client against it."""

    def __init__(self, work, base_tar=None, own=True, client="docker"):
        self.work, self.base_tar, self.own, self.client = Path(work), base_tar, own, client
        self.data, self.run = self.work / "data", self.work / "run"
        self.group = f"pintail-test-{os.getpid()}"
        self.env = dict(os.environ)
        self.daemon = self.log = None

    def __enter__(self):
        if self.own:
            self.env["DOCKER_HOST"] = f"unix://{self.work}/docker.sock"
            try:
                self._start()
            except BaseException:
                self.__exit__()
                raise
        return self

    def docker(self, *arguments, check=True, env=None, timeout=600, input=None):
        """Runs a command of the client and returns it, done; its output is text."""
        command = [self.client, *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, env=self.env | (env or {}), timeout=timeout, input=input)
        if check and done.returncode != 0:
            raise Failed(f"`{' '.join(command)}` ended with {done.returncode}: {(done.stderr or done.stdout).strip()[-2000:]}")
        return done

    def info(self, *fields):
        """Returns fields of `docker info`."""
        return self.docker("info", "--format", " ".join("{{." + field + "}}" for field in fields)).stdout.strip()

    def provide_base(self):
        """Makes sure that the image which the Dockerfile begins from is there. Returns where it came from."""
        if self.docker("image", "inspect", BASE, check=False).returncode == 0:
            return "was there"
        if not self.own:
            self.docker("pull", BASE)
            return "pulled"
        tar = Path(self.base_tar) if self.base_tar else self.work / "base.tar"
        made = not tar.exists()
        if made:
            bootstrap(self.work / "base", tar)
        self.docker("import", tar, BASE)
        return "made by debootstrap" if made else f"imported from {tar}"

    def _start(self):
        if os.geteuid() != 0:
            raise Failed("an engine of its own needs root; --engine running takes the one that runs")
        for tool in ("dockerd", self.client, "debootstrap"):
            if not shutil.which(tool):
                raise Failed(f"`{tool}` is missing: apt-get install docker.io debootstrap")
        self.data.mkdir(parents=True)
        # No bridge and no iptables: nothing on this machine's network is changed, and no container of ours needs one.
        command = ["dockerd", "--data-root", self.data, "--exec-root", self.run, "--pidfile", self.work / "dockerd.pid", "--bridge", "none",
                   "--iptables=false", "--ip6tables=false", "--ip-forward=false", "--cgroup-parent", f"/{self.group}", "--shutdown-timeout", "15",
                   "--host", self.env["DOCKER_HOST"]]
        self.log = open(self.work / "dockerd.log", "wb")
        # A process group of its own: Ctrl-C is for us, who then stop it in order.
        self.daemon = subprocess.Popen([str(part) for part in command], stdout=self.log, stderr=self.log, start_new_session=True)
        end = time.monotonic() + 60
        while self.docker("version", check=False).returncode != 0:
            if self.daemon.poll() is not None or time.monotonic() > end:
                raise Failed(f"dockerd did not start:\n{(self.work / 'dockerd.log').read_text()[-3000:]}")
            time.sleep(0.2)

    def __exit__(self, *_):
        if self.daemon:
            for container in self.docker("ps", "-aq", check=False).stdout.split():
                self.docker("rm", "-f", "-v", container, check=False)
            self.daemon.terminate()
            try:
                self.daemon.wait(60)
            except subprocess.TimeoutExpired:
                self.daemon.kill()
                self.daemon.wait()
            self.log.close()
        if self.own:
            for point in mounts_below(self.work):
                subprocess.run(["umount", "-l", point], check=False)
            # BuildKit leaves groups of its own inside.
            for group in self._groups():
                for directory, _, _ in os.walk(group, topdown=False):
                    with contextlib.suppress(OSError):
                        os.rmdir(directory)

    def left(self):
        """Returns what is still there after the end."""
        left = [str(self.work)] if self.work.exists() else []
        return left + mounts_below(self.work) + [str(group) for group in self._groups()] if self.own else left

    def _groups(self):
        # v2 at the top, v1 in each hierarchy.
        return [group for parent in (CGROUPS, *CGROUPS.glob("*/")) if (group := parent / self.group).is_dir()]


def bootstrap(directory, tar):
    """Makes a minimal Debian and packs it. It is what the image of that name holds, but for some documentation."""
    done = subprocess.run(["debootstrap", "--variant=minbase", SUITE, str(directory)], capture_output=True, text=True)
    if done.returncode != 0:
        raise Failed(f"debootstrap ended with {done.returncode}: {(done.stdout + done.stderr)[-2000:]}")
    partial = Path(f"{tar}.partial")
    exclude = ["--exclude=./var/cache/apt/archives/*.deb", "--exclude=./var/lib/apt/lists/*", "--exclude=./usr/share/doc/*",
               "--exclude=./usr/share/man/*", "--exclude=./usr/share/locale/*"]
    subprocess.run(["tar", "-C", str(directory), *exclude, "-cf", str(partial), "."], check=True)
    partial.rename(tar)
    shutil.rmtree(directory)


def mounts_below(directory):
    """Returns the mount points below a directory, the innermost first."""
    points = (line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines())
    return sorted((point for point in points if point.startswith(f"{directory}/")), key=len, reverse=True)
