#!/usr/bin/env python3
"""Kills Pintail while it commits to a bucket, over and over, while others read it by a glob; then counts whether anything is lost or doubled.

    python3 tests/proof/bucket_kills.py                 40 kills: a minute, and several on a busy machine
    nice python3 tests/proof/bucket_kills.py --kills 100 --server-kills 10

The bucket is that of a SeaweedFS on this machine. Of five rounds two wait for the first upload of a checkpoint, and two for its record; the fifth
hits any time from the start on. What a kill has cut is told by what lies in the bucket right after it:

  uploading    uploads were begun, and the record is not there: rolled back by the next start
  publishing   the record is there, and files that it names are not: made visible by the next start
  between      neither

Kills of the server take SeaweedFS away for a moment; Pintail has to wait for it.

Readers of DuckDB and pyarrow list the bucket by its files' names and read all of them, all the time: no fault, never fewer rows than before, and no
event twice.

Owns: the kills, telling what they cut, the readers, the comparison.
Does not own: the server (bucket_server.py), what a sound dataset is (oracle.py), what the events are (reference.py).
"""
import interpreter  # noqa: F401  first: it may start this command again under another Python

import argparse
import json
import multiprocessing
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import duckdb
import pyarrow.dataset
import pyarrow.fs

import oracle
from bucket_server import BUCKET, KEY, SECRET, Server
from process import Pintail, Unexpected, default_binary
from reference import Reference

NAME = "kills"
SETTINGS = {
    "source.type": "simulator", "source.start_time": "2026-01-01T00:00:00Z", "source.rate": 60_000,
    "pipeline.out_path": f"s3://{BUCKET}/{NAME}", "pipeline.checkpoint_interval": "20ms", "pipeline.batch_rows": 2_000,
    # A stop commits what was read, and each commit takes seconds where something else keeps the machine busy.
    "pipeline.shutdown_timeout": "60s",
    # A request that a busy server forgets is sent again well within the patience below.
    "storage.heartbeat": "1s", "storage.request_timeout": "10s", "sink.partition_by": ["region", "bucket"], "log.format": "json",
}
MULTIPLE = 10_000
PATIENCE = 120
"""Seconds for a commit: longer than several requests without an answer take, on a machine that is busy with something else."""


class Dataset:
    """The dataset in the bucket, seen by requests."""

    def __init__(self, server):
        self.server, self.last_known, self.old_uploads = server, 0, set()

    def record_key(self, number):
        return f"{NAME}/_pintail/commits/{number // 10_000:06}/{number:010}.json"

    def last_number(self):
        while self.server.has(self.record_key(self.last_known + 1)):
            self.last_known += 1
        return self.last_known

    def record(self, number):
        return json.loads(self.server.get(self.record_key(number)).partition(b"\n")[0])

    def cut(self):
        """Tells what a kill has cut."""
        number, keys, uploads = self.last_number(), self.server.keys(NAME + "/"), self.server.uploads(NAME + "/")
        new, self.old_uploads = uploads - self.old_uploads, uploads
        if not number:
            return "before the first record"
        record = self.record(number)
        files = record.get("files", [])
        missing = [file for file in files if f"{NAME}/{file['path']}" not in keys]
        if missing:
            return "publishing"
        return "uploading" if new else "between"


def aim(dataset, at_record):
    """Waits for the next record, or for an upload that was not there before; not long: a kill at any other moment is one as well."""
    end, known = time.monotonic() + 2, dataset.server.uploads(NAME + "/")
    number = dataset.last_number()
    while time.monotonic() < end:
        if dataset.last_number() > number if at_record else dataset.server.uploads(NAME + "/") - known:
            return


def read_for_ever(kind, port, results):
    """Reads all files by their names, again and again; reports rows and distinct events, or the fault, with the time that it began."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    bucket = pyarrow.fs.S3FileSystem(access_key=KEY, secret_key=SECRET, endpoint_override=f"127.0.0.1:{port}", scheme="http", region="us-east-1")
    connection = duckdb.connect()
    connection.execute("SET enable_progress_bar = false")
    while True:
        begun = time.monotonic()
        try:
            found = bucket.get_file_info(pyarrow.fs.FileSelector(f"{BUCKET}/{NAME}", recursive=True, allow_not_found=True))
            files = [file.path for file in found if file.path.endswith(".parquet") and "/_pintail/" not in file.path]
            if not files:
                time.sleep(0.05)
                continue
            data = pyarrow.dataset.dataset(files, filesystem=bucket, format="parquet")
            if kind == "pyarrow":
                ids = data.to_table(columns=["ts", "user_id", "amount", "sku"])
                rows, distinct = ids.num_rows, ids.group_by(ids.column_names).aggregate([]).num_rows
            else:
                rows, distinct = connection.execute("SELECT count(*), count(DISTINCT (ts, user_id, amount, sku)) FROM data").fetchone()
            results.put((kind, rows, distinct, None, begun))
        except Exception as fault:  # whatever it is, a reader met it
            results.put((kind, 0, 0, repr(fault)[:500], begun))
            time.sleep(0.1)


class Readers:
    def __init__(self, port, kinds=("duckdb", "pyarrow")):
        context = multiprocessing.get_context("spawn")
        self.results, self.scans, self.most, self.faults = context.Queue(), Counter(), Counter(), []
        # When the server was taken away last, and when it was back; it is, before the first time.
        self.away, self.back = 0, 0
        self.children = [context.Process(target=read_for_ever, args=(kind, port, self.results), daemon=True) for kind in kinds]
        for child in self.children:
            child.start()

    def take(self):
        while not self.results.empty():
            kind, rows, distinct, fault, begun = self.results.get()
            if fault:
                # A server that is away answers nobody, and a client tries for seconds before it says so: what counts is when the scan began. The clock
                # is that of the machine.
                if begun > self.back >= self.away:
                    self.faults.append(f"{kind}: {fault}")
                continue
            self.scans[kind] += 1
            if rows < self.most[kind]:
                self.faults.append(f"{kind} saw {rows} rows after {self.most[kind]}")
            if distinct != rows:
                self.faults.append(f"{kind} saw {rows} rows of {distinct} events")
            self.most[kind] = max(rows, self.most[kind])

    def end(self):
        self.take()
        for child in self.children:
            child.kill()
            child.join()


def run(options, work):
    server, moments = Server(work / "server"), random.Random(options.seed)
    server.start()
    settings = SETTINGS | {"source.seed": options.seed, "storage.endpoint": server.endpoint, "storage.scratch": str(work / "scratch")}
    dataset, cuts, begun = Dataset(server), Counter(), time.monotonic()
    readers = Readers(server.port)
    try:
        for number in range(options.kills):
            before = dataset.last_number()
            with Pintail(options.pintail, settings, work, env=server.env) as process:
                if number % 5 == 4:
                    time.sleep(moments.uniform(0, 0.3))
                else:
                    process.wait_until(lambda: dataset.last_number() >= before + 2, f"record {before + 2}", PATIENCE)
                    aim(dataset, number % 2 == 0)
                    # Files become visible within milliseconds of their record.
                    time.sleep(0 if number % 2 == 0 else moments.uniform(0, 0.02))
                if not process.is_running():
                    raise Unexpected(f"it ended by itself with {process.child.returncode}:\n{process.stderr()[-2000:]}")
                process.signal(signal.SIGKILL)
                process.wait()
            cuts[dataset.cut()] += 1
            readers.take()
        for _ in range(options.server_kills):
            with Pintail(options.pintail, settings, work, env=server.env) as process:
                before = dataset.last_number()
                process.wait_until(lambda: dataset.last_number() >= before + 2, f"record {before + 2}", PATIENCE)
                readers.take()
                readers.away = time.monotonic()
                server.kill()
                time.sleep(moments.uniform(0.2, 1))
                server.start()
                readers.back = time.monotonic()
                before = dataset.last_number()
                process.wait_until(lambda: dataset.last_number() >= before + 2, f"record {before + 2} after the server was away", PATIENCE)
                readers.take()
                process.signal(signal.SIGTERM)
                if (code := process.wait(PATIENCE)) != 0:
                    raise Unexpected(f"exit code {code}:\n{process.stderr()[-2000:]}")
    finally:
        readers.end()
    spans = [span["to"] for span in dataset.record(dataset.last_number())["source"]["partitions"]]
    end = ((max(spans, default=0)) // MULTIPLE + 5) * MULTIPLE
    Pintail(options.pintail, settings | {"source.rate": 0, "source.limit": end}, work, env=server.env).run()
    server.copy(NAME, work / "copy")
    copy = oracle.Dataset(work / "copy")
    copy.check()
    reference = Reference(options.pintail, work, {key: value for key, value in settings.items() if not key.startswith(("storage.", "pipeline."))})
    reference.cover(end, exactly=True)
    found, expected = copy.sums(), reference.sums(0, end)[:2]
    if found != expected:
        raise oracle.Broken(f"the dataset has {found}, the events 0 to {end} are {expected}")
    in_commit = cuts["uploading"] + cuts["publishing"]
    print(f"{options.kills} kills: " + ", ".join(f"{count} {what}" for what, count in sorted(cuts.items())) + f"; {in_commit} with a commit in flight")
    print(f"{options.server_kills} kills of the server")
    print("scans: " + ", ".join(f"{count} of {kind}" for kind, count in sorted(readers.scans.items())) + f"; faults of readers: {len(readers.faults)}")
    print(f"{end} events, each once; {dataset.last_number()} records; {time.monotonic() - begun:.0f} s")
    for fault in readers.faults[:10]:
        print(f"  {fault}")
    if readers.faults:
        raise oracle.Broken(f"{len(readers.faults)} faults of readers")
    if not min(readers.scans[kind] for kind in ("duckdb", "pyarrow")):
        raise oracle.Broken("a reader came to no answer")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--server-kills", type=int, default=2)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 31))
    parser.add_argument("--pintail", type=Path, default=default_binary())
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    print(f"kills on a bucket: {options.kills} rounds, --seed {options.seed}", flush=True)
    work = Path(tempfile.mkdtemp(prefix="pintail-bucket-kills-"))
    try:
        run(options, work)
    except (Unexpected, oracle.Broken) as error:
        print(f"failed: {error}\nrepeat with --seed {options.seed}")
        sys.exit(1)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    print("passed")


if __name__ == "__main__":
    main()
