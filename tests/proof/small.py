#!/usr/bin/env python3
"""Runs Pintail where everything is small, and kills it there. Is anything lost or doubled?

    python3 tests/proof/small.py                        2 kills in each case: about 40 seconds
    nice python3 tests/proof/small.py --kills 20        the long run
    python3 tests/proof/small.py --only files pids      some cases

Each case has 256 descriptors (soft and hard), one core, and a control group of 512 MB; and one thing more: followed files (300, in the long run
2,000) over 64 hive partitions with connections to the admin server, moments without any free descriptor, 500 connections that ask nothing, 64
open hive partitions, 400 columns over them, a full disk with deleted inputs, stderr closed, full or a pipe that nobody reads, /tmp full or read-
only, 64 threads.
It ingests a known number of events over kills, ends with exit code 0, and has each event once. Peaks of memory and descriptors are held to the
limits as well.

Needs control groups (v1 or v2) that this user may make groups in, and mount namespaces. What cannot be done here says so, and fails unless
--allow-skips is given.

Owns: the cases, the events that are not the simulator's, the table.
Does not own: the limits (see confined.py), small disks (see mounts.py), clients that push (see push.py), what a sound dataset is (see oracle.py).
"""
import interpreter  # noqa: F401  first: it may start this command again under another Python

import json
import os
import random
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

import duckdb

import job
import mounts
import oracle
import push
from confined import Confined, Impossible
from process import Unexpected
from trial import Trials

DESCRIPTORS = 256
MEMORY = 512_000_000
THREADS = 64
FILES, FILES_SHORT, LINES = 2_000, 300, 10
CONNECTIONS, ADMIN_CONNECTIONS = 500, 100
COLUMNS, PARTITIONS = 400, 64
STREAM = {"pipeline.checkpoint_interval": "100ms", "source.rate": 200_000}


class Case:
    """What one case needs; kills are its own."""

    def __init__(self, options, work, name, limits):
        self.options, self.work, self.name = options, work, name
        self.limits = {"descriptors": DESCRIPTORS, "cores": 1, "memory": MEMORY} | limits
        self.moments = random.Random(f"{options.seed} {name}")
        self.peaks = []

    def run(self, settings, **how):
        return Confined(self.options.pintail, settings, self.work, self.limits, peaks=self.peaks, **how)

    def kill(self, settings, dataset, between=lambda: None):
        """Starts and kills as often as is asked for, each time after a checkpoint and a moment."""
        for _ in range(self.options.kills):
            with self.run(settings) as process:
                process.wait_commits_after(dataset, dataset.last_number(), timeout=60)
                time.sleep(self.moments.uniform(0, 0.2))
                process.signal(signal.SIGKILL)
                process.wait()
            between()

    def stop(self, process, dataset, events):
        process.wait_until(lambda: dataset.last_number() > 0 and dataset.next_offset() >= events, f"event {events}", timeout=60)
        process.signal(signal.SIGTERM)
        if code := process.wait():
            raise Unexpected(f"exit code {code}:\n{process.stderr()[-2000:]}")


def simulated(case, more=None):
    """Simulated events, compared with those of a run that nobody disturbed."""
    trials = Trials(case.options.pintail, case.work, case.options.seed)
    trial = trials.new(case.work / "trial", **{key.replace(".", "__"): value for key, value in (STREAM | (more or {})).items()})
    case.work = trial.directory
    case.kill(trial.settings, trial.dataset)
    end = trial.dataset.next_offset() + 100_000
    case.run(trial.settings | {"source.rate": 0, "source.limit": end}).run()
    trial.dataset.check()
    if trial.dataset.sums() != trials.reference.sums(0, end)[:2]:
        raise oracle.Broken(f"the dataset does not have the events 0 to {end}")
    return end


def reading(path, columns, partition):
    """Settings for files of NDJSON."""
    return {
        "source.type": "file", "source.path": str(path), "pipeline.out_path": "out", "pipeline.checkpoint_interval": "100ms",
        "schema.columns": [{"name": "id", "type": "int64", "required": True}, *({"name": name, "type": "text"} for name in columns)],
        "transform.sql": "SELECT * FROM events", "sink.partition_by": [partition] if partition else [], "sink.event_time": "",
        "monitor.group_by": "id", "monitor.value": "id",
    }


def check_ids(case, events):
    """Each id below `events` is in the rows, once."""
    oracle.Dataset(case.work / "out").check()
    found = duckdb.sql(f"SELECT count(*), count(DISTINCT id), min(id), max(id) FROM read_parquet('{case.work}/out/**/*.parquet')").fetchall()[0]
    if found != (events, events, 0, events - 1):
        raise oracle.Broken(f"rows, distinct ids, least, largest: {found}; {events} were written")
    return events


def committed_rows(dataset):
    return sum(record["counts"]["rows_out"] for record in dataset.checkpoints()) if dataset.last_number() else 0


def files(case):
    """Files that all grow between the kills, rows for as many hive partitions as may be open, and connections to the admin server."""
    (case.work / "in").mkdir()
    count, written = FILES if case.options.kills > 2 else FILES_SHORT, 0

    def append():
        nonlocal written
        for number in range(count):
            with open(case.work / f"in/{number}.ndjson", "a") as file:
                records = ({"id": id, "partition": f"p{id % PARTITIONS}", "text": f"{id * 7919:0200x}"} for id in range(written, written + LINES))
                file.writelines(json.dumps(record) + "\n" for record in records)
            written += LINES

    append()
    settings = reading(case.work / "in/*.ndjson", ["partition", "text"], "partition") | {
        "source.follow": True, "source.poll_interval": "50ms", "sink.row_group_bytes": "64KiB", "admin.listen": "127.0.0.1:0",
        "pipeline.checkpoint_interval": "300ms",
    }
    dataset = oracle.Dataset(case.work / "out")
    case.kill(settings, dataset, append)
    with case.run(settings) as process:
        idle = [socket.create_connection(admin_address(process), timeout=5) for _ in range(ADMIN_CONNECTIONS)]
        process.wait_until(lambda: committed_rows(dataset) >= written, f"{written} rows", timeout=60)
        # All of them again, while it runs: those without a descriptor are opened again.
        append()
        process.wait_until(lambda: committed_rows(dataset) >= written, f"{written} rows", timeout=60)
        with urllib.request.urlopen("http://{}:{}/healthz".format(*admin_address(process)), timeout=5) as answer:
            if answer.status != 200:
                raise Unexpected(f"/healthz says {answer.status}")
        for connection in idle:
            connection.close()
        process.signal(signal.SIGTERM)
        if code := process.wait():
            raise Unexpected(f"exit code {code}:\n{process.stderr()[-2000:]}")
    return check_ids(case, written)


def admin_address(process):
    """Returns where the admin server listens."""
    process.wait_log("admin server listens", timeout=10)
    address = next(line["address"] for line in process.messages() if line["message"] == "admin server listens")
    host, _, port = address.rpartition(":")
    return host, int(port)


def connections(case):
    """Clients that push, among connections that send half a head and nothing more."""
    clients = push.Clients(case.options.seed)
    ending, idle = threading.Event(), []

    def hold():
        while not ending.is_set():
            address = clients.address
            idle[:] = [held for held in idle if is_open(held)]
            try:
                if address and len(idle) < CONNECTIONS:
                    held = socket.create_connection(address, timeout=0.2)
                    held.send(b"POST /v1/events HTTP/1.1\r\n")
                    held.setblocking(False)
                    idle.append(held)
                    continue
            except OSError:
                pass
            time.sleep(0.01)

    holder = threading.Thread(target=hold, daemon=True)
    settings = push.SETTINGS | {"source.idle_timeout": "500ms"}
    dataset = oracle.Dataset(case.work / "out")
    for thread in (holder, *clients.threads):
        thread.start()
    for _ in range(case.options.kills):
        with case.run(settings) as process:
            clients.listen_to(process)
            process.wait_commits_after(dataset, dataset.last_number(), timeout=60)
            time.sleep(case.moments.uniform(0, 0.5))
            process.signal(signal.SIGKILL)
            process.wait()
    with case.run(settings) as process:
        clients.listen_to(process)
        process.wait_until(lambda: len(idle) >= DESCRIPTORS // 4, "idle connections", timeout=60)
        clients.end()
        events = clients.check()
        case.stop(process, dataset, events)
    ending.set()
    push.check_dataset(case.work / "out", events)
    return events


def is_open(connection):
    try:
        return connection.recv(1) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False


def partitioned(case, columns, events, **settings):
    """Records of so many columns over 64 hive partitions, read once: the kills come while they are read."""
    names = [f"c{number}" for number in range(columns)]
    text = random.Random(case.options.seed)
    with open(case.work / "in.ndjson", "w") as file:
        for id in range(events):
            record = {"id": id, "partition": f"p{id % PARTITIONS}"} | {name: f"{text.getrandbits(112):028x}" for name in names}
            file.write(json.dumps(record) + "\n")
    settings = reading(case.work / "in.ndjson", ["partition", *names], "partition") | settings
    for _ in range(case.options.kills):
        with case.run(settings) as process:
            time.sleep(case.moments.uniform(0.1, 1))
            # It may be through already.
            if process.is_running():
                process.signal(signal.SIGKILL)
            process.wait()
    case.run(settings).run()
    return check_ids(case, events)


def wide(case):
    # A checkpoint every 100 ms would cut what is to be held open.
    return partitioned(case, COLUMNS, 1_000, **{"pipeline.checkpoint_interval": "1h"})


def many_partitions(case):
    return partitioned(case, 2, 50_000, **{"sink.open_files_max": PARTITIONS, "sink.row_group_bytes": "64KiB", "pipeline.batch_rows": 5_000})


def deleted(case):
    """Two files, one after the other, on a disk with room for three: the first one's room is needed, and it is deleted and committed."""
    with mounts.Tmpfs(case.work / "disk", pages=(24 << 20) // mounts.PAGE):
        case.work = case.work / "disk"
        (case.work / "in").mkdir()
        settings = reading(case.work / "in/*.ndjson", ["text"], None) | {"source.follow": True, "sink.compression": "none"}
        events = 60_000
        with case.run(settings) as process:
            dataset = oracle.Dataset(case.work / "out")
            for part in range(2):
                write_texts(case, part * events, (part + 1) * events)
                process.wait_until(lambda: committed_rows(dataset) >= (part + 1) * events, f"part {part}", timeout=30)
                (case.work / f"in/{part * events}.ndjson").unlink()
            process.signal(signal.SIGTERM)
            if code := process.wait():
                raise Unexpected(f"exit code {code}:\n{process.stderr()[-2000:]}")
        return check_ids(case, 2 * events)


def write_texts(case, begin, end):
    """Writes records of about 120 bytes, which take as much in a Parquet file."""
    text = random.Random(begin)
    # Under its name only when it is whole: what is made of it would take its room.
    part = case.work / "part"
    with open(part, "w") as file:
        file.writelines(json.dumps({"id": id, "text": f"{text.getrandbits(400):0100x}"}) + "\n" for id in range(begin, end))
    part.rename(case.work / f"in/{begin}.ndjson")


CASES = {
    "plain": ("nothing else", simulated, {}),
    "files": (f"{FILES_SHORT} or {FILES:,} followed files that grow, {PARTITIONS} hive partitions, {ADMIN_CONNECTIONS} idle connections", files, {}),
    "starved": ("moments without a free descriptor", simulated, {"starved": True}),
    "files-starved": ("the files, and such moments", files, {"starved": True}),
    "connections": (f"{CONNECTIONS} connections that ask nothing, clients that push", connections, {}),
    "partitions": (f"{PARTITIONS} open hive partitions", many_partitions, {}),
    "wide": (f"{COLUMNS} text columns over {PARTITIONS} hive partitions", wide, {}),
    "deleted": ("a full disk, and deleted inputs on it", deleted, {}),
    "stderr-closed": ("stderr is closed", simulated, {"stderr": "closed"}),
    "stderr-full": ("stderr is /dev/full", simulated, {"stderr": "full"}),
    "stderr-unread": ("stderr is a pipe that nobody reads, log level trace", lambda case: simulated(case, {"log.level": "pintail=trace"}),
                      {"stderr": "unread"}),
    "tmp-full": ("/tmp is full", simulated, {"tmp": "full"}),
    "tmp-read-only": ("/tmp is read-only", simulated, {"tmp": "read-only"}),
    "threads": (f"{THREADS} threads", simulated, {"threads": THREADS}),
}


def judge(case):
    """Returns the greatest peaks, and what is above its limit."""
    memory, descriptors = (max((peak[at] for peak in case.peaks), default=0) for at in (0, 1))
    wrong = []
    if memory > MEMORY:
        wrong.append(f"{memory:,} bytes of memory, of {MEMORY:,}")
    if descriptors > DESCRIPTORS:
        wrong.append(f"{descriptors} descriptors, of {DESCRIPTORS}")
    return memory, descriptors, wrong


def run(options, name, work):
    what, body, limits = CASES[name]
    case = Case(options, work / name, name, limits)
    case.work.mkdir()
    begin, events, faults = time.monotonic(), 0, []
    try:
        events = body(case)
    except Impossible as why:
        faults.append(f"skipped: {why}")
    except (oracle.Broken, Unexpected) as error:
        faults.append(str(error))
    memory, descriptors, wrong = judge(case)
    faults += wrong
    print(f"{name:14} {events:>11,} {memory / 2**20:8.0f} {descriptors:12} {time.monotonic() - begin:8.1f}  {what}", flush=True)
    for fault in faults:
        print(f"  {'SKIPPED' if fault.startswith('skipped') else 'FAILED'}: {fault}", flush=True)
    shutil.rmtree(work / name, ignore_errors=True)
    return [fault for fault in faults if not (options.allow_skips and fault.startswith("skipped"))]


def arguments():
    parser = job.parser(__doc__)
    # Not below /tmp, which is full in some cases.
    parser.set_defaults(work=Path("/var/tmp"))
    add = parser.add_argument
    add("--kills", type=int, metavar="N", default=2, help="kills in each case (%(default)s)")
    add("--only", nargs="+", choices=CASES, metavar="CASE", default=list(CASES), help=f"of {', '.join(CASES)}")
    add("--allow-skips", action="store_true", help="what cannot be done here is no failure")
    return job.parse(parser)


def main():
    options = arguments()
    mounts.enter_namespace()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    print(f"small: {options.kills} kills in each case, --seed {options.seed}")
    print(f"{'case':14} {'events':>11} {'peak MiB':>8} {'descriptors':>12} {'seconds':>8}")
    begin, work = time.monotonic(), Path(tempfile.mkdtemp(prefix="pintail-small-", dir=options.work))
    # Logs of the runs: /tmp may be full.
    tempfile.tempdir = str(work)
    try:
        failed = [name for name in options.only if run(options, name, work)]
    finally:
        shutil.rmtree(work, ignore_errors=True)
    print(f"passed, {time.monotonic() - begin:.0f} s" if not failed else f"failed: {', '.join(failed)}; repeat with --seed {options.seed}")
    sys.stdout.flush()
    # Clients that still wait for an answer are not waited for.
    os._exit(bool(failed))


if __name__ == "__main__":
    main()
