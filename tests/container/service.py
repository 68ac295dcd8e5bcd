"""Pintail in containers: the image, its runs, its volumes.

Owns: how the image is built and containers are hardened, and the removal of each container, volume and image.
Does not own: the engine (see engine.py), what is expected of a run (see run.py), what a sound dataset is (see ../proof/oracle.py).
"""
import contextlib
import json
import shutil
import subprocess
import time
import uuid
from pathlib import Path

from engine import Failed

ROOT = Path(__file__).resolve().parents[2]
CONTEXT = ("Dockerfile", ".dockerignore", "Cargo.toml", "Cargo.lock", "src", "benches", "tests")
# As a careful operator runs it. The service needs no network for what is tried here.
HARDENED = ("--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--network", "none")
DATASET = "/checkpoints"
START = "2026-01-01T00:00:00Z"
POLL_SECONDS = 0.05


class Pintail:
    """The image, and all that is made from it. A context: at its end everything is removed."""

    def __init__(self, engine, binary, work):
        self.engine, self.binary, self.context = engine, Path(binary), Path(work) / "context"
        self.name = f"pintail-test-{uuid.uuid4().hex[:8]}"
        self.containers, self.volumes, self.images = [], [], []

    def build(self, buildkit):
        """Builds the image from the tree and the binary that is there. Returns its name."""
        if not self.context.exists():
            self._make_context()
        image = f"{self.name}:{'buildkit' if buildkit else 'classic'}"
        self.engine.docker("build", "--tag", image, "--target", "prebuilt", "--network", "none", self.context, env={"DOCKER_BUILDKIT": str(int(buildkit))})
        self.images.append(image)
        return image

    def _make_context(self):
        self.context.mkdir()
        for name in CONTEXT:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, self.context / name, ignore=shutil.ignore_patterns("target", "__pycache__"))
            else:
                shutil.copy(source, self.context / name)
        # As the Dockerfile says.
        subprocess.run(["install", "-D", "-s", self.binary, self.context / "dist/out/pintail"], check=True)

    def volume(self, *options):
        """Makes a volume. Returns it."""
        volume = Volume(self.engine, f"{self.name}-{len(self.volumes)}", options)
        self.volumes.append(volume)
        return volume

    def start(self, volume, *settings, options=()):
        """Starts the service on a volume, hardened. Returns its container."""
        sets = [part for setting in settings for part in ("--set", setting)]
        created = self.engine.docker("run", "--detach", *HARDENED, "--volume", f"{volume.name}:{DATASET}", *options, self.images[0], *sets)
        container = Container(self.engine, created.stdout.strip())
        self.containers.append(container)
        return container

    def command(self, volume, *arguments):
        """Runs a command over a volume to its end, hardened as the service. Returns it, done."""
        return self.engine.docker("run", "--rm", *HARDENED, "--volume", f"{volume.name}:{DATASET}", self.images[0], *arguments, check=False)

    @contextlib.contextmanager
    def held(self, volume):
        """Keeps a volume mounted that is not there without a container."""
        holder = self.engine.docker("run", "--detach", "--network", "none", "--volume", f"{volume.name}:{DATASET}", "--entrypoint", "/bin/sleep",
                                    self.images[0], "infinity").stdout.strip()
        self.containers.append(Container(self.engine, holder))
        yield
        self.containers[-1].remove()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for container in self.containers:
            container.remove()
        for volume in self.volumes:
            volume.remove()
        for image in self.images:
            self.engine.docker("image", "rm", "--force", image, check=False)


class Volume:
    def __init__(self, engine, name, options):
        self.engine, self.name = engine, name
        engine.docker("volume", "create", *options, name)
        self.path = Path(engine.docker("volume", "inspect", "--format", "{{.Mountpoint}}", name).stdout.strip())

    def remove(self):
        self.engine.docker("volume", "rm", "--force", self.name, check=False)


class Container:
    def __init__(self, engine, name):
        self.engine, self.name = engine, name

    def inspect(self):
        return json.loads(self.engine.docker("inspect", self.name).stdout)[0]

    @property
    def pid(self):
        """The id of its first process as the host sees it; 0 when it does not run."""
        return self.inspect()["State"]["Pid"]

    def log(self):
        """Returns what it logged, line by line, as JSON."""
        done = self.engine.docker("logs", self.name)
        return [json.loads(line) for line in (done.stdout + done.stderr).splitlines() if line.startswith("{")]

    def wait_log(self, message, count=1, timeout=60):
        """Waits until a message was logged so often. Returns its fields, in order."""
        def logged():
            fields = [line for line in self.log() if line["message"] == message]
            return fields if len(fields) >= count else None
        return self.wait_until(logged, f"{count} × {message!r} in the log", timeout)

    def wait_health(self, status, timeout=120):
        """Waits until the engine calls it healthy or unhealthy. Returns the seconds it took."""
        begin = time.monotonic()
        self.wait_until(lambda: self.inspect()["State"]["Health"]["Status"] == status, status, timeout)
        return time.monotonic() - begin

    def wait_until(self, condition, what, timeout=60):
        end = time.monotonic() + timeout
        while not (found := condition()):
            state = self.inspect()["State"]
            if not state["Running"] and not (found := condition()):
                raise Failed(f"it ended with {state['ExitCode']} before {what}: {self.tail()}")
            if time.monotonic() > end:
                raise Failed(f"no {what} within {timeout} s: {self.tail()}")
            time.sleep(POLL_SECONDS)
        return found

    def stop(self):
        """Runs `docker stop` as it is. Returns the seconds it took and the exit code."""
        begin = time.monotonic()
        self.engine.docker("stop", self.name)
        return time.monotonic() - begin, self.inspect()["State"]["ExitCode"]

    def kill(self):
        self.engine.docker("kill", self.name)

    def restart(self):
        """Starts it again after it has ended."""
        self.engine.docker("start", self.name)

    def tail(self):
        done = self.engine.docker("logs", "--tail", "5", self.name, check=False)
        return (done.stdout + done.stderr).strip()[-2000:]

    def process(self, *fields):
        """Returns lines of its first process' status, by name."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        found = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        return [found[field].strip() for field in fields]

    def oom_kills(self):
        """Returns how often the kernel has killed in its control group; None where that cannot be read."""
        for line in Path(f"/proc/{self.pid}/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            file = {"memory": Path("/sys/fs/cgroup/memory" + path) / "memory.oom_control",
                    "": Path("/sys/fs/cgroup" + path) / "memory.events"}.get(controllers)
            if file and file.exists():
                return int(dict(line.split() for line in file.read_text().splitlines())["oom_kill"])
        return None

    def remove(self):
        self.engine.docker("rm", "--force", "--volumes", self.name, check=False)
