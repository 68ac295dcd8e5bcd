#!/usr/bin/env python3
"""Kills `pintail compact` over and over, while others read the dataset by a plain glob; then counts whether anything is lost, doubled or changed.

    python3 tests/proof/compact.py                            24 kills: below a minute
    nice python3 tests/proof/compact.py --kills 300 --events 2_000_000

Of four rounds there are
  merging     SIGKILL at any time up to 400 ms after the start
  record      SIGKILL up to 4 ms after the name of the record of a rewrite has appeared; every other time with renames that take 4 ms longer (by
              strace), so that the exchange of the directories is still to come
  exchange    SIGKILL up to 4 ms after a merged file is visible; every other time with removals that take 1 ms longer
  start       SIGKILL up to 60 ms after the start, where there is something to complete

A scan by a glob has all rows with all their values, or ends with "no such file", and is repeated.

Owns: the rounds, the kills, the readers of a dataset whose rows do not change, the histogram of what each kill has left.
Does not own: running Pintail (process.py), the service at work (kill_loop.py).
"""
import interpreter  # noqa: F401  first: it may start this command again under another Python

import glob
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import duckdb
import pyarrow.compute
import pyarrow.dataset

import job
from oracle import Broken
from process import Pintail, Unexpected

SETTINGS = {
    "source.type": "simulator", "source.start_time": "2026-01-01T00:00:00Z", "pipeline.out_path": "out", "pipeline.checkpoint_interval": "20ms",
    "pipeline.batch_rows": 1_000, "sink.partition_by": ["region"], "sink.event_time": "ts", "source.rate": 200_000,
    # An hour of events for each second of theirs: 600,000 are twelve.
    "transform.sql": "SELECT epoch_ms(1767225600000 + (timestamp - 1767225600000) * 3600) AS ts, user_id, amount, sku, region FROM events",
}
ROUNDS = ("merging", "record", "exchange", "start", "record", "exchange")
STRACE = ("strace", "-f", "--seccomp-bpf", "-qq", "-o", "/dev/null")
SLOW = {
    "record": (*STRACE, "-e", "trace=renameat2", "-e", "inject=renameat2:delay_enter=4000"),
    "exchange": (*STRACE, "-e", "trace=unlink,unlinkat,rmdir", "-e", "inject=unlink,unlinkat,rmdir:delay_enter=1000"),
}
LABELS = ("nothing", "merged, no record", "record, not exchanged", "exchanged, the old directory left", "exchanged, staging left")
GONE = ("No such file", "Cannot open file", "cannot open file", "does not exist", "FileNotFoundError", "No files found")


def scan_duckdb(out):
    connection = duckdb.connect(config={"threads": 1})
    connection.execute("SET enable_external_file_cache = false")
    rows, users, hashes = connection.execute(f"""SELECT count(*), sum(user_id), sum(hash(events)::HUGEINT)
        FROM (SELECT * FROM read_parquet('{out}/**/*.parquet', hive_types = {{region: VARCHAR}})) AS events""").fetchone()
    return [rows, int(users or 0), str(hashes)]


def scan_pyarrow(out):
    files = glob.glob(f"{out}/**/*.parquet", recursive=True)
    rows = users = 0
    for batch in pyarrow.dataset.dataset(files, format="parquet").scanner(columns=["user_id"], use_threads=False).to_batches():
        rows += batch.num_rows
        users += pyarrow.compute.sum(batch["user_id"]).as_py() or 0
    return [rows, users, None]


SCANS = {"duckdb": scan_duckdb, "pyarrow": scan_pyarrow}


def read_for_ever(reader, out):
    while True:
        try:
            said = {"scan": SCANS[reader](out)}
        except (duckdb.Error, OSError, pyarrow.ArrowException) as error:
            if not any(gone in f"{type(error).__name__}: {error}" for gone in GONE):
                raise
            said = {"gone": str(error)[:200]}
        print(json.dumps(said), flush=True)


class Reader:
    """A reader in a process of its own."""

    def __init__(self, name, out):
        self.name, self.stdout, self.stderr, self.position = name, tempfile.TemporaryFile(), tempfile.TemporaryFile(), 0
        command = ["nice", "-n", "5", sys.executable, str(Path(__file__).resolve()), "--reader", name, str(out)]
        self.child = subprocess.Popen(command, stdout=self.stdout, stderr=self.stderr, stdin=subprocess.DEVNULL)
        self.scans = self.gone = 0

    def check(self, expected):
        if self.child.poll() is not None:
            self.stderr.seek(0)
            raise Broken(f"the {self.name} reader ended: {self.stderr.read().decode(errors='replace').strip()[-2000:]}")
        size = os.fstat(self.stdout.fileno()).st_size
        content = os.pread(self.stdout.fileno(), size - self.position, self.position)
        whole = content[:content.rfind(b"\n") + 1]
        self.position += len(whole)
        for said in map(json.loads, whole.splitlines()):
            if "gone" in said:
                self.gone += 1
                continue
            rows, users, hashes = said["scan"]
            if (rows, users) != tuple(expected[:2]) or hashes not in (None, expected[2]):
                raise Broken(f"the {self.name} reader read {said['scan']}, the dataset is {expected}")
            self.scans += 1

    def scan_once(self, expected):
        """Waits a while for a scan that found every file: what a kill has left lies still."""
        before, end = self.scans, time.monotonic() + 3
        while self.scans == before and time.monotonic() < end:
            time.sleep(0.02)
            self.check(expected)

    def end(self):
        self.child.kill()
        self.child.wait()


class Proof:
    def __init__(self, options, work):
        self.options, self.work, self.out, self.moments = options, work, work / "out", random.Random(options.seed)
        self.settings = SETTINGS | {"source.seed": options.seed}
        self.turns, self.left = Counter(), Counter()

    def compact(self, prefix=()):
        return Pintail(self.options.pintail, self.settings, self.work, prefix=prefix, command=["compact"])

    def last_record(self):
        return max(int(path.stem) for path in (self.out / "_pintail/commits").glob("*/*.json"))

    def rewrites(self):
        """The records of rewrites behind the last start, newest first."""
        for path in sorted((self.out / "_pintail/commits").glob("*/*.json"), reverse=True):
            record = json.loads(path.read_bytes().split(b"\n")[0])
            if record.get("opened"):
                return
            if record.get("rewrite"):
                yield record

    def files(self):
        return {str(path.relative_to(self.out)) for path in self.out.glob("region=*/*.parquet")}

    def look(self):
        """Says what a kill has left."""
        workspace, staging = self.work / ".out.compaction", self.out / "_pintail/staging"
        staged = [path for path in staging.glob("*") if path.is_dir()]
        last = next(self.rewrites(), None)
        if last and last["sequence"] == self.last_record():
            if last["files"][0]["path"] not in self.files():
                return LABELS[2]
            if workspace.is_dir() and any(workspace.iterdir()):
                return LABELS[3]
            if staged:
                return LABELS[4]
        return LABELS[1] if staged else LABELS[0]

    def round(self, number, before):
        kind = ROUNDS[number % len(ROUNDS)]
        if kind == "start" and before in (LABELS[0], LABELS[1]):
            kind = "merging"
        self.turns[kind] += 1
        slow = kind in SLOW and self.turns[kind] % 2 == 0
        known, begun = self.files(), time.monotonic()
        with self.compact(SLOW[kind] if slow else ()) as process:
            process.find()
            if kind == "record":
                self.wait(process, lambda first=self.last_record() + 2: self.record_path(first).exists())
                self.pause(4)
            elif kind == "exchange":
                self.wait(process, lambda: self.files() - known)
                self.pause(4)
            else:
                self.pause(400 if kind == "merging" else 60)
            ended = not process.is_running()
            if ended and process.child.returncode != 0:
                raise Unexpected(f"it ended by itself with {process.child.returncode}:\n{process.stderr()[-2000:]}")
            if not ended:
                process.signal(signal.SIGKILL)
            process.wait()
        left = self.look()
        self.left[left] += 1
        print(f"{number + 1:5} {kind:9}{' slow' if slow else '':5} up {(time.monotonic() - begun) * 1000:5.0f} ms, {len(self.files()):5} files; left: {left}", flush=True)
        return left

    def record_path(self, number):
        return self.out / "_pintail/commits" / f"{number // 10_000:06}" / f"{number:010}.json"

    def wait(self, process, condition):
        end = time.monotonic() + 30
        while process.is_running() and time.monotonic() < end and not condition():
            pass

    def pause(self, most_ms):
        time.sleep(self.moments.uniform(0, most_ms) / 1000)

    def fill(self):
        """Makes a dataset of many small files, and a copy of it that nothing happens to."""
        Pintail(self.options.pintail, self.settings | {"source.limit": self.options.events}, self.work).run(timeout=600)
        shutil.copytree(self.out, self.work / "before")
        self.files_before = len(self.files())


def run(options, work):
    begun, proof = time.monotonic(), Proof(options, work)
    proof.fill()
    expected, readers = scan_duckdb(proof.out), [Reader(name, proof.out) for name in SCANS]
    print(f"{expected[0]} rows in {proof.files_before} files", flush=True)
    left = LABELS[0]
    try:
        for number in range(options.kills):
            left = proof.round(number, left)
            for reader in readers:
                reader.check(expected)
                reader.scan_once(expected)
        files_killed = len(proof.files())
        proof.compact().run(timeout=600)
        for reader in readers:
            reader.check(expected)
    finally:
        for reader in readers:
            reader.end()
    Pintail(options.pintail, {"pipeline.out_path": "out"}, work, command=["verify"]).run(timeout=600)
    check_same(work / "before", proof.out)
    left = proof.look()
    if left != LABELS[0] or (work / ".out.compaction").exists():
        raise Broken(f"the undisturbed run has left: {left}, {[path.name for path in work.iterdir()]}")
    files = len(proof.files())
    print(f"\n{proof.files_before} files became {files_killed} under kills and {files} in the end; verify and the rows of the copy agree; "
          f"{time.monotonic() - begun:.0f} s")
    for label in LABELS:
        print(f"  {label:36} {proof.left[label]:5}")
    for reader in readers:
        print(f"{reader.name} reader: {reader.scans} scans with every row once, {reader.gone} that found no file and were repeated")
        if not reader.scans:
            yield f"the {reader.name} reader made no scan"
    if files >= proof.files_before:
        yield "nothing was compacted"
    for label in (LABELS[2], LABELS[3]):
        if not proof.left[label]:
            yield f"no kill has left: {label}"


def check_same(before, after):
    """Holds the rows of two datasets against each other."""
    scan = lambda path: f"read_parquet('{path}/**/*.parquet', hive_types = {{region: VARCHAR}})"
    for one, other in ((before, after), (after, before)):
        more = duckdb.sql(f"SELECT count(*) FROM (SELECT * FROM {scan(one)} EXCEPT ALL SELECT * FROM {scan(other)})").fetchall()[0][0]
        if more:
            raise Broken(f"{more} rows of {one} are not in {other}")


def main():
    if sys.argv[1:2] == ["--reader"]:
        read_for_ever(sys.argv[2], sys.argv[3])
    parser = job.parser(__doc__)
    parser.add_argument("--kills", type=int, metavar="N", default=24, help="rounds (%(default)s)")
    parser.add_argument("--events", type=int, metavar="N", default=600_000, help="events of the dataset (%(default)s)")
    options = job.parse(parser)
    if not shutil.which("strace"):
        parser.error("it takes strace, for slow system calls: apt-get install strace")
    print(f"compaction: {options.kills} rounds, {options.events} events, --seed {options.seed}", flush=True)
    job.conclude(run, options, "compact")


if __name__ == "__main__":
    main()
