#!/usr/bin/env python3
"""Makes the datasets that Pintail 0.1 left, for the tests of the upgrade (tests/it/upgrade.rs).

    git worktree add ../pintail-0.1 ed99171 && (cd ../pintail-0.1 && cargo build --release)
    python3 tests/v1/make.py --pintail .../release/pintail [NAME ...]       all of them, or some; half a minute

Needs what the proofs need, and for `nats` and `workqueue` a nats-server, for `kafka` and `instances` confluent-kafka. Each becomes
`tests/v1/NAME.tar.gz`: the directory in which Pintail ran, and in it

    out/              the dataset, as the last process left it
    input/, js/       what the source reads: files, or the directory of JetStream
    states/NN/        of `killed`: a dataset each
    fixture.json      `settings` (the configuration), `about` (what is in it), and what the test needs to know of it

The events are small: `id` 0, 1, 2, …, all else is a function of it (see `line`). Offsets of files are filed under device and inode, which
nothing can keep in an archive: `inodes` has those of the files as they were.

Owns: the scripts by which they come to be.
Does not own: what must hold after the upgrade.
"""
import argparse
import contextlib
import gzip
import http.client
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "proof"))

import interpreter  # noqa: F401, E402  first: it may start this command again under another Python
import oracle  # noqa: E402
from injection import KILL, Interposer  # noqa: E402
from process import Pintail, Unexpected  # noqa: E402

SETTINGS = {
    "pipeline.out_path": "out", "pipeline.checkpoint_interval": "50ms", "transform.sql": "SELECT id, ts, region FROM events",
    "schema.columns": [{"name": "id", "type": "int64", "required": True}, {"name": "ts", "type": "timestamp_ms", "required": True},
                       {"name": "region", "type": "text"}],
}
ADDRESS = re.compile(r"HTTP source listens.*?address\W+(127\.0\.0\.1):(\d+)")
BROKEN = '{"id":\n'
TOPIC, STREAM = "events", "EVENTS"


def line(n):
    return '{"id":%d,"ts":%d,"region":"%s"}\n' % (n, 1_767_225_600_000 + n, ("eu", "us")[n % 2])


def lines(begin, end):
    return "".join(map(line, range(begin, end)))


class Fixture:
    """One directory, and the runs of Pintail in it."""

    def __init__(self, binary, name, work):
        self.binary, self.name, self.root = binary, name, work / name
        self.root.mkdir()
        self.settings, self.told = dict(SETTINGS), {}
        self.dataset = oracle.Dataset(self.root / "out")

    def pintail(self, more=None, **how):
        return Pintail(self.binary, self.settings | (more or {}), self.root, **how)

    def write(self, name, text, mode="w"):
        path = self.root / name
        path.parent.mkdir(exist_ok=True)
        with open(path, mode) as file:
            file.write(text)

    def run_until(self, rows, more=None, meanwhile=lambda process: None):
        """Runs it until so many rows are committed, then ends it by SIGTERM."""
        with self.pintail(more) as process:
            meanwhile(process)
            self.wait_rows(process, rows)
            process.signal(signal.SIGTERM)
            if code := process.wait():
                raise Unexpected(f"exit code {code}:\n{process.stderr()[-2000:]}")

    def wait_rows(self, process, rows):
        process.wait_until(lambda: self.rows() >= rows, f"{rows} rows")

    def rows(self):
        chains = [self.dataset.private, *sorted(self.dataset.private.glob("instances/*"))]
        return sum(rows_of(chain) for chain in chains if (chain / "commits").is_dir())

    def kill_in_publication(self, more=None):
        """Kills a run when some files of its first checkpoint are published and others are not. Inputs stay as they are."""
        kept = self.root.with_suffix(".kept")
        shutil.copytree(self.dataset.path, kept)
        for n in range(1, 30):
            with Interposer("renameat2", KILL, n, [self.dataset.path]) as injected, self.pintail(more, prefix=injected.prefix) as process:
                process.wait_until(lambda: not process.is_running(), "the kill")
                process.wait()
            record = self.dataset.last()
            files = [(self.dataset.path / file["path"]).exists() for file in record["files"]]
            if record["sequence"] in self.dataset.staged() and any(files) and not all(files):
                shutil.rmtree(kept)
                return
            shutil.rmtree(self.dataset.path)
            shutil.copytree(kept, self.dataset.path)
        raise Unexpected("no kill at a rename came between two files")

    def pack(self, about, **told):
        """Writes the archive, the same for the same content."""
        version = subprocess.run([self.binary, "--version"], capture_output=True, text=True, check=True).stdout.strip()
        text = {"pintail": version, "about": about, "settings": self.settings, **told}
        (self.root / "fixture.json").write_text(json.dumps(text, indent=1) + "\n")
        raw = io.BytesIO()
        with tarfile.open(fileobj=raw, mode="w", format=tarfile.GNU_FORMAT) as archive:
            for path in sorted(self.root.rglob("*")):
                entry = archive.gettarinfo(path, path.relative_to(self.root))
                entry.uid = entry.gid = 0
                entry.uname = entry.gname = ""
                with open(path, "rb") if entry.isfile() else contextlib.nullcontext() as content:
                    archive.addfile(entry, content)
        packed = HERE / f"{self.name}.tar.gz"
        packed.write_bytes(gzip.compress(raw.getvalue(), 9, mtime=0))
        print(f"{self.name:14} {packed.stat().st_size:8} bytes  {about}", flush=True)


def rows_of(chain):
    total = 0
    for path in chain.glob("commits/*/*.json"):
        total += json.loads(path.read_text().partition("\n")[0])["counts"]["rows_out"]
    return total


def inodes(directory):
    """Returns device and inode of each file, as they stand in the id of a partition."""
    return {str(path.relative_to(directory.parent)): f"{path.stat().st_dev:x}-{path.stat().st_ino:x}" for path in sorted(directory.iterdir())}


def simulator(fixture):
    fixture.settings = {"source.type": "simulator", "source.start_time": "2026-01-01T00:00:00Z", "source.seed": 42, "source.rate": 0,
                        "pipeline.out_path": "out", "pipeline.checkpoint_interval": "1ms", "pipeline.batch_rows": 100}
    fixture.pintail({"source.limit": 300}).run()
    fixture.kill_in_publication({"source.limit": 500})
    fixture.pack("simulated events; killed while it published a checkpoint")


def killed(fixture):
    """Every state of `_pintail` that a kill leaves, as far as they differ in more than numbers."""
    fixture.settings = {
        "source.type": "simulator", "source.start_time": "2026-01-01T00:00:00Z", "source.seed": 42, "source.rate": 0, "source.limit": 120,
        "pipeline.out_path": "out", "pipeline.checkpoint_interval": "1ms", "pipeline.batch_rows": 30, "pipeline.chunk_channel": 1,
        "pipeline.batch_channel": 1, "pipeline.frame_channel": 1, "sink.partition_by": ["half"], "sink.event_time": "ts",
        # One in ten is a dead letter, so that these are published as well.
        "transform.sql": "SELECT epoch_ms(timestamp) AS ts, user_id, user_id % 2 AS half, CAST(IF(user_id % 10 = 3, 'x', '7') AS INTEGER) AS n "
                         "FROM events",
        "dead_letters.ratio_max": 0.9, "monitor.group_by": "half", "monitor.value": "n",
    }
    states, grown = {}, fixture.root.with_suffix(".grown")
    fixture.pintail({"source.limit": 60}).run()
    shutil.move(fixture.dataset.path, grown)
    for start in (None, grown):
        for call in ("openat", "mkdir", "write", "fsync", "renameat2", "unlink", "rmdir"):
            for n in range(1, 400):
                if start:
                    shutil.copytree(start, fixture.dataset.path)
                with Interposer(call, KILL, n, [fixture.dataset.path]) as injected, fixture.pintail(prefix=injected.prefix) as process:
                    process.wait()
                label = state_of(fixture.dataset)
                if injected.hit and label and label not in states:
                    states[label] = f"{call} {n}" + (" of a second start" if start else "")
                    shutil.move(fixture.dataset.path, fixture.root / f"states/{len(states):02}")
                shutil.rmtree(fixture.dataset.path, ignore_errors=True)
                if not injected.hit:
                    break
    about = f"{len(states)} datasets, each killed at another step of the start or of a commit"
    fixture.pack(about, states={f"{at:02}": f"{label}; killed at {where}" for at, (label, where) in enumerate(states.items(), 1)})


def state_of(dataset):
    """Names what a kill has left; numbers beyond two are all alike."""
    if not dataset.private.is_dir():
        return None
    few = lambda count: str(count) if count < 2 else "several"
    last, staged = dataset.last(), dataset.staged()
    published = [(dataset.path / file["path"]).exists() for file in last["files"]] if last else []
    parts = ["FORMAT" if dataset.format() else "no FORMAT", f"{few(dataset.last_number())} records"]
    for number in staged:
        inside = sorted(os.listdir(dataset.private / f"staging/{number:010}"))
        torn = any((dataset.private / f"staging/{number:010}/{name}").stat().st_size == 0 for name in inside)
        which = "recorded" if last and number == last["sequence"] else "unrecorded"
        parts.append(f"staging {which} with {len(inside)} files" + (", one empty" if torn else ""))
    if last and not all(published):
        parts.append(f"{sum(published)} of {len(published)} published")
    left = [re.sub(r"\d+", "N", str(path.relative_to(dataset.private))) for path in dataset.in_progress()]
    return ", ".join(parts + ([f"left: {' '.join(left)}"] if left else []))


def files(fixture):
    fixture.settings |= {"source.type": "file", "source.path": "input/*", "source.follow": True, "source.poll_interval": "20ms"}
    fixture.write("input/a.ndjson", lines(0, 60) + BROKEN + lines(60, 100) + BROKEN)
    fixture.write("input/b.ndjson", lines(100, 150))
    fixture.write("input/c.ndjson.gz", gzip.compress(lines(150, 200).encode(), mtime=0), "wb")
    fixture.write("input/d.ndjson", lines(200, 210))

    def rotate(process):
        fixture.wait_rows(process, 210)
        (fixture.root / "input/b.ndjson").rename(fixture.root / "input/b.ndjson.1")
        fixture.write("input/b.ndjson", lines(210, 230))
        fixture.wait_rows(process, 230)
        (fixture.root / "input/d.ndjson").unlink()

    fixture.run_until(230, meanwhile=rotate)
    # What comes while nobody reads.
    fixture.write("input/a.ndjson", lines(230, 240), "a")
    fixture.write("input/b.ndjson", lines(240, 250), "a")
    fixture.kill_in_publication()
    fixture.write("input/b.ndjson", lines(250, 260), "a")
    fixture.write("input/e.ndjson", lines(260, 270))
    fixture.pack("followed files: one rotated, one compressed, one removed after it was read, two that have grown since; killed while it published",
                 ids=270, dead_letters=2, inodes=inodes(fixture.root / "input"))


def once(fixture):
    fixture.settings |= {"source.type": "file", "source.path": "input/*"}
    fixture.write("input/a.ndjson", lines(0, 60))
    fixture.write("input/b.ndjson.gz", gzip.compress(lines(60, 100).encode(), mtime=0), "wb")
    fixture.pintail().run()
    fixture.write("input/a.ndjson", lines(100, 110), "a")
    fixture.write("input/c.ndjson", lines(110, 120))
    fixture.pack("files that are read once: one compressed, one that has grown since, one that is new", ids=120, dead_letters=0,
                 inodes=inodes(fixture.root / "input"))


def dead_letters(fixture):
    fixture.settings |= {"source.type": "file", "source.path": "input/*",
                         "transform.sql": "SELECT id, ts, region FROM events WHERE CAST(IF(id % 20 = 7, 'x', '1') AS INTEGER) = 1"}
    fixture.write("input/a.ndjson", lines(0, 60))
    fixture.pintail().run()
    mended = {"transform.sql": SETTINGS["transform.sql"]}
    fixture.pintail(mended, command=["dead-letters", "--replay"]).run()
    fixture.write("input/b.ndjson", lines(60, 100))
    fixture.pintail().run()
    fixture.settings |= mended
    fixture.pack("dead letters: those of the first checkpoint were replayed, those of the last were not", ids=100,
                 inodes=inodes(fixture.root / "input"))


def stdin(fixture):
    fixture.settings |= {"source.type": "stdin"}
    for begin, end in ((0, 100), (100, 150)):
        fixture.write("fed", lines(begin, end))
        with open(fixture.root / "fed", "rb") as fed:
            fixture.pintail(stdin=fed).run()
    (fixture.root / "fed").unlink()
    fixture.pack("two runs on standard input", ids=150)


class Push:
    """Sends requests to a process."""

    def __init__(self, process):
        process.wait_until(lambda: ADDRESS.search(process.stderr()), "an address in the log")
        self.address = ADDRESS.search(process.stderr()).groups()

    def send(self, key, body):
        connection = http.client.HTTPConnection(*self.address, timeout=20)
        connection.request("POST", "/v1/events", body, {"Content-Type": "application/x-ndjson", "Idempotency-Key": key})
        answer = connection.getresponse()
        content = json.loads(answer.read())
        if answer.status != 200:
            raise Unexpected(f"answered with {answer.status}: {content}")
        connection.close()


def push(fixture):
    fixture.settings |= {"source.type": "http", "source.listen": "127.0.0.1:0", "source.idempotency_keys_max": 10_000}
    fixture.run_until(100, meanwhile=lambda process: [Push(process).send(f"from {n}", lines(n, n + 20)) for n in range(0, 100, 20)])
    with fixture.pintail({"pipeline.checkpoint_interval": "1h"}) as process:
        for n in range(100, 160, 20):
            Push(process).send(f"from {n}", lines(n, n + 20))
        process.signal(signal.SIGKILL)
        process.wait()


def http_journal(fixture):
    push(fixture)
    fixture.pack("pushed events: a journal with five requests that are committed and three that are not, all with keys; killed", ids=160, step=20)


def http_torn(fixture):
    push(fixture)
    segment = sorted((fixture.dataset.private / "journal").iterdir())[-1]
    before = segment.stat().st_size
    with fixture.pintail({"pipeline.checkpoint_interval": "1h"}) as process:
        Push(process).send("from 160", lines(160, 180))
        process.signal(signal.SIGKILL)
        process.wait()
    segment = sorted((fixture.dataset.private / "journal").iterdir())[-1]
    # As if the power had gone before it was durable, and so before it was answered.
    os.truncate(segment, segment.stat().st_size - 200)
    if segment.stat().st_size <= before:
        raise Unexpected(f"{segment} has {segment.stat().st_size} bytes, it had {before}")
    fixture.pack("the same with a torn tail behind it: a request that was not answered", ids=160, step=20)


def with_nats(fixture, retention):
    from nats_server import Client, Server, ask
    fixture.settings |= {"source.type": "nats", "source.stream": STREAM, "source.url": ""}
    server = Server(fixture.root)
    server.start()

    def publish(*messages):
        client = Client(server.port)
        for message in messages:
            client.ask(("events.eu", message.encode()))
        client.close()

    end = time.monotonic() + 10
    while True:
        with contextlib.suppress(Exception):
            ask(server, f"STREAM.CREATE.{STREAM}", name=STREAM, subjects=["events.>"], retention=retention, storage="file")
            break
        if time.monotonic() > end:
            raise Unexpected("the stream was not made")
    url = {"source.url": server.url}
    publish(*map(line, range(60)), BROKEN, *map(line, range(60, 100)))
    fixture.run_until(100, url)
    publish(*map(line, range(100, 150)))
    fixture.kill_in_publication(url)
    publish(*map(line, range(150, 160)))
    server.kill()
    (fixture.root / "nats-server.log").unlink()
    fixture.pack(f"a stream of NATS with {retention} retention, and the server's own directory; killed while it published", ids=160, dead_letters=1)


def with_kafka(fixture, instances):
    from confluent_kafka import Producer
    # librdkafka's own cluster, in this process. It makes a topic of four partitions when it is asked for one.
    producer = Producer({"test.mock.num.brokers": 1, "linger.ms": 1, "log_level": 0})
    broker = next(iter(producer.list_topics(TOPIC, timeout=10).brokers.values()))
    produced = [[] for _ in range(4)]

    def produce(begin, end, *more):
        for n in range(begin, end):
            produced[n // 2 % 4].append(line(n).strip())
        produced[1] += more
        for partition in range(4):
            for message in produced[partition][sent[partition]:]:
                producer.produce(TOPIC, message, partition=partition)
            sent[partition] = len(produced[partition])
        producer.flush(10)

    sent = [0] * 4
    fixture.settings |= {"source.type": "kafka", "source.topics": TOPIC, "source.brokers": "", "pipeline.batch_rows": 10}
    at = {"source.brokers": f"{broker.host}:{broker.port}"}
    produce(0, 60, BROKEN.strip())
    produce(60, 100)
    fixture.run_until(100, at)
    if instances:
        of = lambda index: at | {"source.instance": {"index": index, "count": 2}}
        produce(100, 120)
        with fixture.pintail(of(0), command=["run", "--take-over"]) as first:
            first.wait_until(lambda: (fixture.dataset.private / "instances/take-over-0000000001.json").exists(), "the take-over")
            with fixture.pintail(of(1)) as second:
                fixture.wait_rows(second, 120)
                for process in (first, second):
                    process.signal(signal.SIGTERM)
                    process.wait()
        produce(120, 160)
        fixture.kill_in_publication(of(0))
        about = "two instances that have taken over from one; one of them killed while it published"
    else:
        produce(100, 140)
        fixture.kill_in_publication(at)
        produce(140, 160)
        about = "a topic of Kafka with four partitions; killed while it published"
    fixture.pack(about, ids=160, dead_letters=1, partitions=produced)


MAKE = {
    "simulator": simulator, "killed": killed, "files": files, "once": once, "dead_letters": dead_letters, "stdin": stdin,
    "http": http_journal, "http_torn": http_torn, "nats": lambda fixture: with_nats(fixture, "limits"),
    "workqueue": lambda fixture: with_nats(fixture, "workqueue"), "kafka": lambda fixture: with_kafka(fixture, False),
    "instances": lambda fixture: with_kafka(fixture, True),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\nOwns")[0], formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pintail", type=Path, required=True, metavar="PATH", help="the binary of 0.1")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(MAKE)} (all)")
    options = parser.parse_args()
    if unknown := set(options.names) - MAKE.keys():
        parser.error(f"there is no {', '.join(unknown)}")
    with tempfile.TemporaryDirectory(prefix="pintail-v1-") as work:
        for name in options.names or MAKE:
            MAKE[name](Fixture(options.pintail.resolve(), name, Path(work)))


if __name__ == "__main__":
    main()
