"""How long a dataset of many committed files takes to start, to show and to query.

Lays records and small Parquet files as a run would have left them, and measures with the binary: the start, the admin server, and queries with and
without the index. The records have the form of version 1, which holds every position and no hash of the state, with the column ids and statistics
of version 2: an upgraded dataset and a new one take the same ways here.

    python3 tests/proof/many_files.py --files 20000 --files 100000
"""
import argparse
import datetime
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from process import Pintail, default_binary

SECONDS_MAX = 1.0
"""No figure may be above it."""
ROWS = 10
HOURS = 200
REGIONS = 5
QUERIES = {
    "SELECT 1": "SELECT 1",
    "count(*)": "SELECT count(*) AS n FROM events",
    "hive partition": "SELECT count(*) AS n FROM events WHERE region = 'r3'",
    "partition, other column": "SELECT count(ts) AS n FROM events WHERE region = 'r0' AND ts < '2026-01-01 02:00:00'",
    "event time": "SELECT count(ts) AS n FROM events WHERE ts >= '2026-01-02 05:00:00' AND ts < '2026-01-02 06:00:00'",
}


def sealed(value):
    line = json.dumps(value, separators=(",", ":")).encode()
    sha256 = hashlib.sha256(line).hexdigest()
    return line + b'\n{"sha256":"' + sha256.encode() + b'"}\n', sha256


def unsealed(path):
    line = path.read_bytes().split(b"\n")[0]
    return json.loads(line), hashlib.sha256(line).hexdigest()


class Laid:
    """A dataset of many files below `work`."""

    def __init__(self, binary, work, files, per_record):
        self.binary, self.work, self.files, self.per_record = binary, work, files, per_record
        self.settings = {
            "source.type": "simulator", "source.start_time": "2026-01-01T00:00:00Z", "source.seed": 1, "pipeline.out_path": "out",
            "transform.sql": "SELECT epoch_ms(timestamp) AS ts, user_id, region, amount FROM events",
            "sink.partition_by": ["region"], "sink.event_time": "ts",
        }
        self.out = work / "out"
        self.own = self.out / "_pintail"

    def lay(self):
        """Makes a dataset, and replaces what it holds."""
        Pintail(self.binary, self.settings | {"source.limit": 10}, self.work).run(timeout=60)
        records = [unsealed(path)[0] for path in sorted(self.own.glob("commits/*/*.json"))]
        record = next(record for record in records if record.get("trigger"))
        schema = next(record["schema"] for record in records if record.get("schema"))
        for directory in ("commits", "snapshots", "index"):
            shutil.rmtree(self.own / directory, ignore_errors=True)
        template = next(self.out.glob("region=*/*.parquet"))
        fields = pq.read_schema(template).remove_metadata()
        for directory in self.out.glob("region=*"):
            shutil.rmtree(directory)
        templates = [self.template(fields, hour) for hour in range(HOURS)]
        for region in range(REGIONS):
            (self.out / f"region=r{region}").mkdir()
        _, previous = unsealed(self.own / "FORMAT")
        position = record["source"]["partitions"][0]
        ts = next(column["id"] for column in schema if column["name"] == "ts")
        rows = 0
        for sequence in range(1, self.files // self.per_record + 1):
            entries = [self.file(templates, ts, sequence, number) for number in range(self.per_record)]
            count = ROWS * len(entries)
            span = {"id": position["id"], "label": position["label"], "from": rows, "to": rows + count} | ({"new": True} if sequence == 1 else {})
            counts = record["counts"] | {"records_in": count, "rows_out": count, "filtered": 0, "expanded": 0}
            written, previous = sealed({
                "version": 1, "sequence": sequence, "previous": previous, "source": {"kind": "simulator", "partitions": [span]}, "counts": counts,
                "files": entries, "schema": schema, "trigger": "interval", "config_sha256": "0" * 64, "sql_sha256": "0" * 64, "lookups": [],
                "time": "2026-01-09T00:00:00Z", "pintail": "0.1.0"})
            place = self.own / f"commits/{sequence // 10_000:06}/{sequence:010}.json"
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(written)
            rows += count
        shutil.rmtree(self.work / "templates")
        self.rows = rows

    def template(self, fields, hour):
        start = datetime.datetime(2026, 1, 1) + datetime.timedelta(hours=hour)
        times = [start + datetime.timedelta(minutes=minute) for minute in range(ROWS)]
        columns = [pa.array(times, field.type) if field.name == "ts" else pa.nulls(ROWS, field.type) for field in fields]
        path = self.work / f"templates/{hour}.parquet"
        path.parent.mkdir(exist_ok=True)
        pq.write_table(pa.table(columns, names=fields.names), path)
        epoch = datetime.datetime(1970, 1, 1)
        bound = [((time - epoch) // datetime.timedelta(microseconds=1)).to_bytes(8, "little").hex() for time in (times[0], times[-1])]
        spelled = [time.strftime("%Y-%m-%dT%H:%M:%SZ") for time in (times[0], times[-1])]
        return path, hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_size, bound, spelled, start.strftime("%Y-%m-%d-%H")

    def file(self, templates, ts, sequence, number):
        path, sha256, size, (low, high), (first, last), hour = templates[(sequence * self.per_record + number) % HOURS]
        region = (sequence + number) % REGIONS
        name = f"region=r{region}/events-{hour}-{sequence}-{number}.parquet"
        os.link(path, self.out / name)
        return {"path": name, "staged": number, "kind": "parquet", "rows": ROWS, "bytes": size, "sha256": sha256,
                "event_time": {"min": first, "max": last}, "columns": [{"id": ts, "bytes": 80, "nulls": 0, "min": low, "max": high}]}

    def query(self, sql):
        """Returns the seconds, the last cell of the answer, and the number of Parquet files that were opened, if strace is there to tell."""
        command = [self.binary, "query", "--format", "csv", "--set", f"pipeline.out_path={str(self.out)!r}", sql]
        begun = time.monotonic()
        done = subprocess.run(command, capture_output=True, text=True)
        took = time.monotonic() - begun
        if done.returncode:
            raise SystemExit(f"{sql}: exit code {done.returncode}, {done.stderr[-2000:]}")
        return took, done.stdout.split()[-1], self.opened(command)

    def opened(self, command):
        if not shutil.which("strace"):
            return "?"
        trace = self.work / "trace"
        subprocess.run(["strace", "-f", "-e", "trace=openat", "-o", trace, *command], capture_output=True, check=True)
        opened = {line.split('"')[1] for line in trace.read_text().splitlines() if '.parquet"' in line}
        return str(len(opened))


def wait_ready(get):
    while True:
        try:
            return get("/readyz")
        except OSError:
            time.sleep(0.01)


def measure(binary, work, files, per_record):
    laid = Laid(binary, work, files, per_record)
    begun = time.monotonic()
    laid.lay()
    print(f"## {files} files, {per_record} a record ({laid.rows} rows), laid in {time.monotonic() - begun:.1f} s")
    bad = []

    def show(what, seconds, more=""):
        print(f"{what:42} {seconds:7.2f} s  {more}", flush=True)
        if seconds > SECONDS_MAX:
            bad.append(what)

    for name, sql in QUERIES.items():
        took, answer, opened = laid.query(sql)
        print(f"{'without the index: ' + name:42} {took:7.2f} s  answer {answer}, opened {opened}", flush=True)
    service = Pintail(binary, laid.settings | {"source.rate": 1, "pipeline.checkpoint_interval": "1h", "admin.listen": "127.0.0.1:17931", "admin.query": True}, work)
    begun = time.monotonic()
    service.start()
    get = lambda path, body=None: urllib.request.urlopen(urllib.request.Request(
        "http://127.0.0.1:17931" + path, data=body, headers={"content-type": "application/json"}), timeout=30).read()
    wait_ready(get)
    show("start, with the upgrade", time.monotonic() - begun)
    end = files // per_record // 64 * 64
    while not any(int(path.stem.split("-")[1]) >= end for path in laid.own.glob("index/*.json")):
        time.sleep(0.1)
        if time.monotonic() - begun > 600:
            raise SystemExit("no index was written")
    print(f"{'index written after':42} {time.monotonic() - begun:7.2f} s  {sum(p.stat().st_size for p in laid.own.glob('index/*'))} bytes")
    for what, path, body in [("/api/status", "/api/status", None), *((f"page: {name}", "/api/query", json.dumps({"sql": sql}).encode()) for name, sql in QUERIES.items())]:
        begun = time.monotonic()
        get(path, body)
        show(what, time.monotonic() - begun)
    service.child.send_signal(signal.SIGTERM)
    service.child.wait(60)
    begun = time.monotonic()
    service.start()
    wait_ready(get)
    show("start", time.monotonic() - begun)
    service.child.send_signal(signal.SIGTERM)
    service.child.wait(60)
    for name, sql in QUERIES.items():
        took, answer, opened = laid.query(sql)
        show(name, took, f"answer {answer}, opened {opened}")
    return bad


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pintail", type=Path, default=default_binary())
    parser.add_argument("--files", type=int, action="append")
    parser.add_argument("--per-record", type=int, default=10)
    parser.add_argument("--work", type=Path, help="a directory on the disk to be measured")
    given = parser.parse_args()
    bad = []
    for files in given.files or [2_000]:
        with tempfile.TemporaryDirectory(dir=given.work) as work:
            bad += measure(given.pintail.resolve(), Path(work), files, given.per_record)
    if bad:
        sys.exit(f"more than {SECONDS_MAX} s: {', '.join(bad)}")


if __name__ == "__main__":
    main()
