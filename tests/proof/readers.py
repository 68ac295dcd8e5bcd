"""Readers that scan a dataset over and over by a plain glob while it is written and killed.

    python3 tests/proof/readers.py duckdb|pyarrow OUT       until SIGTERM; a line of JSON for each scan

Owns: the scans, and what must hold in each: no error, never fewer rows than before, at least what was published before it began, at
most what was committed when it ended; and the sums over what was certainly published before it, which are those of its events.
Does not own: the events (see reference.py), what happens to the dataset meanwhile.
"""
import interpreter  # noqa: F401  first: it may start this command again under another Python

import glob
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, namedtuple
from pathlib import Path

import duckdb
import pyarrow.compute
import pyarrow.dataset

import oracle

WHOLE_EVERY = 8
"""Each scan reads one column; every so many, all of them."""
CHECKPOINT = r"events-\d+-\d+-\d+-\d+-(\d+)(-\d+)?\.parquet$"

Scan = namedtuple("Scan", "rows closed_rows closed_users closed_hash")


def scan_duckdb(out, last, whole):
    """Reads as `SELECT … FROM '**/*.parquet'` does, each time anew."""
    connection = duckdb.connect(config={"threads": 1})
    connection.execute("SET enable_external_file_cache = false")
    dataset = oracle.Dataset(out)
    row_hash = "0"
    if whole:
        row_hash = oracle.hash_of(name for name, _ in dataset.columns(connection))
    # All in one scan: two would see two states.
    source = dataset.scan().removesuffix(")") + ", filename = true)"
    rows, closed, users, hashes = connection.execute(f"""SELECT count(*), count(*) FILTER (closed), sum(user_id) FILTER (closed),
        sum(row_hash::HUGEINT) FILTER (closed) FROM (SELECT user_id, {row_hash} AS row_hash,
        regexp_extract(filename, '{CHECKPOINT}', 1)::BIGINT < {last} AS closed FROM {source})""").fetchone()
    return Scan(rows, closed, int(users or 0), int(hashes or 0) if whole else None)


def scan_pyarrow(out, last, whole):
    """Reads what `glob` finds, as a data set."""
    files = glob.glob(f"{out}/**/*.parquet", recursive=True)
    closed = [file for file in files if int(re.search(CHECKPOINT, file)[1]) < last]
    rows, users = 0, 0
    for group, counted in ((closed, True), (sorted(set(files) - set(closed)), False)):
        if not group:
            continue
        scanner = pyarrow.dataset.dataset(group, format="parquet").scanner(columns=None if whole else ["user_id"], use_threads=False)
        for batch in scanner.to_batches():
            rows += batch.num_rows
            users += (pyarrow.compute.sum(batch["user_id"]).as_py() or 0) if counted else 0
        if counted:
            closed_rows = rows
    return Scan(rows, closed_rows if closed else 0, users, None)


SCANS = {"duckdb": scan_duckdb, "pyarrow": scan_pyarrow}


def read_for_ever(reader, out):
    dataset, rows_before, number = oracle.Dataset(out), 0, 0
    while True:
        # The files of the last record may still be on their way; those of all earlier ones are in their places.
        record = dataset.last()
        if not dataset.visible_names():
            time.sleep(0.01)
            continue
        spans = record["source"]["partitions"] if record else []
        published = spans[0]["from"] if spans else dataset.next_offset(record["sequence"]) if record else 0
        number += 1
        whole, begin = number % WHOLE_EVERY == 0, time.monotonic()
        scan = SCANS[reader](out, record["sequence"] if record else 0, whole)
        seconds, committed = time.monotonic() - begin, dataset.next_offset()
        if scan.rows < rows_before:
            raise oracle.Broken(f"scan {number} has {scan.rows} rows, the one before had {rows_before}")
        if not published <= scan.rows <= committed:
            raise oracle.Broken(f"scan {number} has {scan.rows} rows; {published} were published before it, {committed} committed after it")
        rows_before = scan.rows
        print(json.dumps(scan._asdict() | {"published": published, "whole": whole, "seconds": round(seconds, 4)}), flush=True)


class Readers:
    """One reader of each kind, and what their scans have said."""

    def __init__(self, out, reference):
        self.reference, self.scans, self.whole, self.slowest = reference, Counter(), Counter(), Counter()
        self.readers = [Reader(name, out) for name in SCANS]

    def check(self):
        """Holds what was read in published checkpoints against the events that they stand for."""
        for reader in self.readers:
            for scan in reader.reports():
                rows, row_hash, users = self.reference.sums(0, scan["published"])
                if (scan["closed_rows"], scan["closed_users"]) != (rows, users) or scan["closed_hash"] not in (None, row_hash):
                    raise oracle.Broken(f"the {reader.name} reader read {scan}, the events are {rows} with {users} and {row_hash}")
                self.scans[reader.name] += 1
                self.whole[reader.name] += scan["whole"]
                self.slowest[reader.name] = max(self.slowest[reader.name], scan["seconds"])

    def print(self):
        for name in SCANS:
            print(f"{name} reader: {self.scans[name]} scans, {self.whole[name]} of them of all columns, none failed, fell back, lacked or "
                  f"doubled a row; the slowest took {self.slowest[name]:.2f} s")

    def faults(self):
        """Names what makes the readers no proof."""
        return [f"the {name} reader made {self.scans[name]} scans, none of all columns" for name in SCANS if not self.whole[name]]

    def end(self):
        for reader in self.readers:
            reader.end()


class Reader:
    """A reader in a process of its own."""

    def __init__(self, reader, out):
        self.name, self.stdout, self.stderr = reader, tempfile.TemporaryFile(), tempfile.TemporaryFile()
        command = [sys.executable, str(Path(__file__).resolve()), reader, str(out)]
        self.child = subprocess.Popen(["nice", "-n", "10", *command], stdout=self.stdout, stderr=self.stderr, stdin=subprocess.DEVNULL)
        self.position = 0

    def reports(self):
        """Returns the scans since the last call. A reader that has ended by itself is a broken promise."""
        if self.child.poll() is not None:
            self.stderr.seek(0)
            raise oracle.Broken(f"the {self.name} reader: {self.stderr.read().decode(errors='replace').strip()}")
        size = os.fstat(self.stdout.fileno()).st_size
        content = os.pread(self.stdout.fileno(), size - self.position, self.position)
        whole_lines = content[:content.rfind(b"\n") + 1]
        self.position += len(whole_lines)
        return [json.loads(line) for line in whole_lines.splitlines()]

    def end(self):
        if self.child.poll() is None:
            self.child.kill()
            self.child.wait()


def main():
    if len(sys.argv) != 3 or sys.argv[1] not in SCANS:
        sys.exit(__doc__.partition("\n\nOwns")[0])
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    try:
        read_for_ever(sys.argv[1], sys.argv[2])
    except oracle.Broken as broken:
        sys.exit(f"broken: {broken}")


if __name__ == "__main__":
    main()
