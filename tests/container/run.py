#!/usr/bin/env python3
"""Builds the image, runs it as a careful operator would, and tries what is promised of it.

    python3 tests/container/run.py                    about 6 minutes; needs root, a built binary, and: apt-get install docker.io debootstrap
    python3 tests/container/run.py --engine running   with the engine that runs; pulls the base image

  image         `docker build` with a binary that is there, by the classic builder and, where the client has it, by BuildKit
  hardened      --read-only --cap-drop ALL --security-opt no-new-privileges --memory 1g: it runs as uid 10001 without capabilities, gets
                healthy, and takes its sizes and threads from the limits of the container
  cgroup v2     the same limits from a tree of files of v2, nested as Kubernetes nests them; the engine's own may be v1
  stop          `docker stop` under full load: exit 0 in under 8 s, every row is that of its event
  kill          `docker kill` under full load and `docker start`, several times: the same
  environment   BATCH_ROWS, CHECKPOINT_SECONDS and OUT_PATH
  full volume   unhealthy while the volume is full, healthy and complete after there is room
  memory        the default configuration at full load with 1 GB: no OOM kill, the peak

After each, `pintail verify` in a container, and the oracle of ../proof outside of it. The engine is one of its own, without network; at the
end, also after a failure, it is gone with its containers, volumes, images and mounts.

Owns: the steps, the figures, the exit code.
Does not own: how it is done (see engine.py, service.py), what a sound dataset is (see ../proof/oracle.py).
"""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "proof"))
import interpreter  # noqa: F401,E402  first: it may start this command again under another Python

import argparse  # noqa: E402
import random  # noqa: E402
import shutil  # noqa: E402
import signal  # noqa: E402
import subprocess  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402
from datetime import datetime  # noqa: E402
from itertools import pairwise  # noqa: E402
from statistics import median  # noqa: E402

import cgroups  # noqa: E402
import oracle  # noqa: E402
from engine import BASE, Engine, Failed  # noqa: E402
from process import Unexpected, default_binary  # noqa: E402
from reference import Reference  # noqa: E402
from service import DATASET, START, Pintail  # noqa: E402

MIB = 1 << 20
STOP_SECONDS_MAX = 8
EVENTS = (f"source.start_time={START}", "source.seed=42")
FULL_LOAD = (*EVENTS, "source.rate=0")
# A sign of life counts for 30 s; the default interval of 30 s would only add to that.
QUICK_HEALTH = ("--health-interval", "2s", "--health-retries", "2")


def main():
    arguments = parse()
    binary = Path(arguments.binary)
    if not binary.is_file():
        sys.exit(f"there is no binary {binary}: cargo build --release, or --binary")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    failures = []
    work = Path(tempfile.mkdtemp(prefix="pintail-container-", dir=arguments.work))
    try:
        engine = Engine(work, arguments.base_tar, own=arguments.engine == "own", client=arguments.client)
        with engine, Pintail(engine, binary, work) as pintail:
            steps = Steps(engine, pintail, Reference(binary, work, {"source.start_time": START, "source.seed": 42}), arguments)
            failures = steps.run()
    except (Failed, Unexpected, subprocess.SubprocessError) as failure:
        failures = [f"the engine or the image: {failure}"]
    finally:
        shutil.rmtree(work, ignore_errors=True)
    left = engine.left()
    print(f"left behind: {', '.join(left) or 'nothing'}")
    sys.exit(f"FAILED: {', '.join(failures + left)}" if failures or left else 0)


def parse():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--binary", default=default_binary(), help="a built pintail, for Debian 12 or older (default: %(default)s)")
    parser.add_argument("--engine", choices=("own", "running"), default="own", help="whose dockerd (default: %(default)s)")
    parser.add_argument("--client", default="docker", help="another client, such as /usr/bin/docker")
    parser.add_argument("--base-tar", help=f"a tar of {BASE}; made there if it is not, and kept")
    parser.add_argument("--work", default="/var/tmp", help="where a directory for everything is made (default: %(default)s)")
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--minutes", type=float, default=1, help="of the step `memory` (default: %(default)s)")
    parser.add_argument("--only", nargs="*", metavar="STEP", help="beside `image`")
    return parser.parse_args()


class Steps:
    def __init__(self, engine, pintail, reference, arguments):
        self.engine, self.pintail, self.reference, self.arguments = engine, pintail, reference, arguments

    def run(self):
        """Runs all steps, whatever the first ones say, and prints a line of figures for each. Returns the names of those that failed."""
        print(f"engine: {self.engine.info('ServerVersion', 'Driver')}, cgroup v{self.engine.info('CgroupVersion')}; "
              f"{BASE} {self.engine.provide_base()}", flush=True)
        self.step("image", self.image)
        steps = {"hardened": self.hardened, "cgroup v2": self.cgroup_v2, "stop": self.stop, "kill": self.kill, "environment": self.environment,
                 "full volume": self.full_volume, "memory": self.memory}
        failures = []
        for name, step in steps.items():
            if self.arguments.only and name not in self.arguments.only:
                continue
            try:
                self.step(name, step)
            except (Failed, Unexpected, oracle.Broken, subprocess.SubprocessError, OSError) as failure:
                print(f"{name}: FAILED: {failure}", flush=True)
                failures.append(name)
        return failures

    def step(self, name, step):
        begin = time.monotonic()
        for line in step():
            print(f"{name}: {line}", flush=True)
        print(f"{name}: ok, {time.monotonic() - begin:.1f} s", flush=True)

    # The steps.

    def image(self):
        yield from self.build("the classic builder", buildkit=False)
        yield from self.build("BuildKit", buildkit=True)
        if not self.pintail.images:
            raise Failed("no builder made the image")
        image = self.pintail.images[0]
        size = int(self.engine.docker("image", "inspect", "--format", "{{.Size}}", image).stdout)
        base = int(self.engine.docker("image", "inspect", "--format", "{{.Size}}", BASE).stdout)
        yield f"{size / 1e6:.0f} MB, of which {BASE} {base / 1e6:.0f} MB"

    def build(self, builder, buildkit):
        begin = time.monotonic()
        try:
            self.pintail.build(buildkit)
            yield f"built by {builder} in {time.monotonic() - begin:.1f} s"
        except Failed as failure:
            yield f"not built by {builder}: {reason(failure)}"

    def hardened(self):
        volume = self.pintail.volume()
        container = self.pintail.start(volume, *EVENTS, options=("--memory", "1g", "--cpus", "1", *QUICK_HEALTH))
        seconds = container.wait_health("healthy")
        user, capabilities, no_new, seccomp = container.process("Uid", "CapEff", "NoNewPrivs", "Seccomp")
        expect("process", (user.split()[0], int(capabilities, 16), no_new), ("10001", 0, "1"))
        yield f"healthy after {seconds:.1f} s; uid {user.split()[0]}, capabilities {capabilities}, no new privileges {no_new}, seccomp {seccomp}"
        yield limits(container.wait_log("limits")[0], cores=1, memory=1024 * MIB, memory_limit=256 * MIB, buffer=128 * MIB, row_group=64 * MIB, batch=16 * MIB)
        seconds, code = container.stop()
        expect("exit code", code, 0)
        rows = self.verify(volume)
        yield f"stopped at the default rate in {seconds:.1f} s; {rows:,} rows verified"
        small = self.pintail.start(self.pintail.volume(), *FULL_LOAD, options=("--memory", "256m", "--cpus", "0.5"))
        yield limits(small.wait_log("limits")[0], cores=1, memory=256 * MIB, memory_limit=64 * MIB, buffer=32 * MIB, row_group=16 * MIB, batch=4 * MIB)
        small.kill()

    def cgroup_v2(self):
        lines = cgroups.run_limited(self.reference.binary, self.reference.work, 512 * MIB, "--set", "source.limit=1000")
        yield limits(next(line for line in lines if line["message"] == "limits"),
                     cores=1, memory=512 * MIB, memory_limit=128 * MIB, buffer=64 * MIB, row_group=32 * MIB, batch=8 * MIB)

    def stop(self):
        volume = self.pintail.volume()
        container = self.pintail.start(volume, *FULL_LOAD, options=("--memory", "1g", "--env", "CHECKPOINT_SECONDS=2"))
        container.wait_log("checkpoint committed", count=3)
        seconds, code = container.stop()
        expect("exit code", code, 0)
        if seconds >= STOP_SECONDS_MAX:
            raise Failed(f"`docker stop` took {seconds:.1f} s, at most {STOP_SECONDS_MAX} are allowed")
        yield f"`docker stop` took {seconds:.2f} s, exit code 0; {self.whole(volume)}"

    def kill(self):
        volume, moments = self.pintail.volume(), random.Random(2026)
        container = self.pintail.start(volume, *FULL_LOAD, options=("--memory", "1g", "--env", "CHECKPOINT_SECONDS=0.5"))
        dataset, killed_after = oracle.Dataset(volume.path), [0]
        for _ in range(self.arguments.kills):
            container.wait_until(lambda: dataset.has_checkpoint_after(killed_after[-1]), "a commit since the start")
            time.sleep(moments.uniform(0, 1.5))
            container.kill()
            # Sound whatever the moment was; files may wait for the next start to publish them.
            killed_after.append(len(dataset.records()))
            container.restart()
            # Beside the service that has just recovered.
            container.wait_log("line ready", count=len(killed_after))
            self.verify(volume)
        container.wait_until(lambda: dataset.has_checkpoint_after(killed_after[-1]), "a commit after the last kill")
        _, code = container.stop()
        expect("exit code", code, 0)
        yield f"{self.arguments.kills} × `docker kill` after records {', '.join(map(str, killed_after[1:]))}, `pintail verify` clean after each start; then {self.whole(volume)}"

    def environment(self):
        volume = self.pintail.volume()
        container = self.pintail.start(volume, *EVENTS, options=(
            "--env", "BATCH_ROWS=777", "--env", "CHECKPOINT_SECONDS=1", "--env", f"OUT_PATH={DATASET}/lake", "--env", "RUST_LOG=info,pintail=debug"))
        container.wait_log("checkpoint committed", count=4)
        batches = {fields["records"] for fields in container.wait_log("batch transformed")}
        _, code = container.stop()
        expect("exit code", code, 0)
        expect("the largest batch", max(batches), 777)
        records = oracle.Dataset(volume.path / "lake").checkpoints()
        expect("what else is in the volume", sorted(path.name for path in volume.path.iterdir()), ["lake"])
        times = [datetime.fromisoformat(record["time"]) for record in records]
        interval = median((after - before).total_seconds() for before, after in pairwise(times[:-1]))
        if not 0.8 <= interval <= 1.2:
            raise Failed(f"{interval:.2f} s from checkpoint to checkpoint")
        rows = self.verify(volume, f"{DATASET}/lake")
        yield f"batches of at most {max(batches)} records, {len(records)} checkpoints {interval:.2f} s apart, {rows:,} rows in {DATASET}/lake"

    def full_volume(self):
        volume = self.pintail.volume("--driver", "local", "--opt", "type=tmpfs", "--opt", "device=tmpfs", "--opt", "o=size=24m,uid=10001,gid=10001")
        # Some seconds until it is full: at full load it would be before the first look at its health.
        service = (*EVENTS, "source.rate=400000")
        container = self.pintail.start(volume, *service, options=("--memory", "1g", "--env", "CHECKPOINT_SECONDS=2", *QUICK_HEALTH))
        healthy = container.wait_health("healthy")
        unhealthy = container.wait_health("unhealthy")
        container.wait_log("the disk is full: writing waits for room")
        said = container.inspect()["State"]["Health"]["Log"][-1]["Output"].strip()
        committed = oracle.Dataset(volume.path).last_number()
        checkpoints = len(oracle.Dataset(volume.path).checkpoints())
        yield f"24 MiB: healthy after {healthy:.1f} s, unhealthy {unhealthy:.1f} s later with {checkpoints} checkpoints: {said!r}"
        subprocess.run(["mount", "-o", "remount,size=8g", volume.path], check=True)
        again = container.wait_health("healthy")
        container.wait_until(lambda: oracle.Dataset(volume.path).last_number() > committed, "a commit after room was made")
        # The volume is gone when its last container ends: look while it is held.
        with self.pintail.held(volume):
            _, code = container.stop()
            expect("exit code", code, 0)
            yield f"healthy {again:.1f} s after room was made; {self.whole(volume)}"

    def memory(self):
        volume = self.pintail.volume()
        container = self.pintail.start(volume, "source.rate=0", options=("--memory", "1g", "--memory-swap", "1g"))
        begin, peak = time.monotonic(), 0
        while time.monotonic() < begin + 60 * self.arguments.minutes:
            peak = max(peak, int(container.process("VmHWM")[0].split()[0]))
            time.sleep(1)
        kills = container.oom_kills()
        expect("OOM kills", kills, 0)
        took = time.monotonic() - begin
        seconds, code = container.stop()
        state = container.inspect()
        expect("exit code, OOM killed, restarts", (code, state["State"]["OOMKilled"], state["RestartCount"]), (0, False, 0))
        rows = self.verify(volume)
        yield (f"{took:.0f} s at full load: {rows:,} rows, {rows / (took + seconds):,.0f} a second; peak {peak / 1024:.0f} MiB of 1,024; "
               f"no OOM kill; stopped in {seconds:.1f} s")

    # What is expected after each.

    def verify(self, volume, out=DATASET):
        """Runs `pintail verify` over a volume. Returns the rows of its records."""
        done = self.pintail.command(volume, "verify", out)
        if done.returncode != 0:
            raise Failed(f"`pintail verify` ended with {done.returncode}: {(done.stdout + done.stderr)[-2000:]}")
        dataset = oracle.Dataset(volume.path / Path(out).relative_to(DATASET))
        records = dataset.records()
        rows = sum(record["counts"]["rows_out"] for record in records)
        taken = rows + sum(record["counts"]["filtered"] + sum(record["counts"]["dead_letters"].values()) for record in records)
        expect("records accounted for", taken, dataset.next_offset())
        return rows

    def whole(self, volume):
        """Checks that the volume has exactly the events 1…N, row by row. Returns words about it."""
        rows = self.verify(volume)
        dataset = oracle.Dataset(volume.path)
        dataset.check()
        events = dataset.next_offset()
        found, expected = dataset.sums(), self.reference.sums(0, events)[:2]
        if found != expected:
            raise oracle.Broken(f"the volume has {found}, the events 0 to {events} are {expected}")
        return f"events 1 to {events:,} are {rows:,} rows in {len(dataset.checkpoints())} checkpoints, each once; `pintail verify` clean"


def limits(found, cores, memory, memory_limit, buffer, row_group, batch):
    """Holds the line of the log about limits against what it should say. Returns it as words."""
    expected = {"cores": cores, "memory": str(memory), "transform_threads": cores + 1, "sink_threads": cores, "transform_memory_limit": memory_limit,
                "sink_buffer_bytes_max": buffer, "sink_row_group_bytes": row_group, "batch_bytes_max": batch}
    expect("limits", {name: found[name] for name in expected}, expected)
    return ", ".join(f"{name} {value}" for name, value in expected.items())


def reason(failure):
    """Returns the line of a long message that names the error."""
    lines = [line.strip() for line in str(failure).splitlines() if line.strip()]
    return next((line for line in lines if "error" in line.lower()), lines[0]).rpartition("ERROR: ")[2]


def expect(what, found, expected):
    if found != expected:
        raise Failed(f"{what}: {found}, expected {expected}")


if __name__ == "__main__":
    main()
