#!/usr/bin/env python3
"""Kills Pintail while clients push events to it; they try again with their keys. Then fills its disk. Is anything lost or doubled?

    python3 tests/proof/push.py                         10 kills and a full disk: about a minute
    nice python3 tests/proof/push.py --kills 30         the long run

A client sends events as NDJSON, as an array, compressed or not, each request with a key of its own, until it is answered with 200. It forgets
the answer of every tenth request and sends it again: the answer must be the same. A kill comes up to 0.8 s after the address is listened on.
On the full disk (a small tmpfs; root or user namespaces) some requests are refused with 507 and sent again once there is room.

Owns: the clients, the kills, what must hold afterwards: answers cover the offsets without gap or overlap, and the rows are those sent.
Does not own: what a sound dataset is (oracle.py), small disks (mounts.py).
"""
import interpreter  # noqa: F401  first: it may start this command again under another Python

import gzip
import http.client
import json
import random
import re
import signal
import threading
import time
from collections import Counter

import duckdb

import job
import mounts
import oracle
from process import Pintail, Unexpected

CLIENTS = 4
EVENTS = 100
"""Events of a request."""
REGIONS = ("eu", "us", "asia")
SQL = "SELECT id, ts, region, amount FROM events"
SETTINGS = {
    "source.type": "http", "source.listen": "127.0.0.1:0", "pipeline.out_path": "out", "pipeline.checkpoint_interval": "100ms",
    # Segments of 6 MB: some go, and their keys are carried on, between two kills.
    "source.idempotency_keys_max": 100_000, "source.journal_bytes_max": "64MiB",
    "source.body_bytes_max": "256KiB", "source.decompressed_bytes_max": "256KiB", "transform.sql": SQL,
    "schema.columns": [
        {"name": "id", "type": "int64", "required": True}, {"name": "ts", "type": "timestamp_ms", "required": True},
        {"name": "region", "type": "text"}, {"name": "amount", "type": "int64"},
    ],
}
ADDRESS = re.compile(r"HTTP source listens.*?address\W+(127\.0\.0\.1):(\d+)")
AS_SENT = "region = ['eu', 'us', 'asia'][1 + id % 3] AND amount = id * 7919 % 1000 AND epoch_ms(ts) = 1767225600000 + id"


def event(number):
    return {"id": number, "ts": 1767225600000 + number, "region": REGIONS[number % 3], "amount": number * 7919 % 1000}


class Clients:
    """Threads that push, and what they were answered."""

    def __init__(self, seed):
        self.seed, self.lock, self.next, self.address, self.ending = seed, threading.Lock(), 0, None, False
        self.receipts, self.statuses, self.broken = {}, Counter(), []
        self.threads = [threading.Thread(target=self.run, args=(number,), daemon=True) for number in range(CLIENTS)]

    def run(self, number):
        moments = random.Random(self.seed + number)
        try:
            while not self.ending:
                with self.lock:
                    first, self.next = self.next, self.next + EVENTS
                headers, body = encode(first, moments.randrange(4))
                receipt = self.send(first, headers, body)
                if moments.random() < 0.1 and self.send(first, headers, body) != receipt:
                    raise oracle.Broken(f"the events from {first} on were answered in two ways")
                self.receipts[first] = receipt
        except oracle.Broken as broken:
            self.broken.append(str(broken))

    def send(self, first, headers, body):
        """Sends a request until it is taken."""
        while True:
            address = self.address
            try:
                if not address:
                    raise ConnectionRefusedError
                connection = http.client.HTTPConnection(*address, timeout=20)
                connection.request("POST", "/v1/events", body, headers | {"Idempotency-Key": f"from {first}"})
                answer = connection.getresponse()
                content = json.loads(answer.read())
                connection.close()
            except (OSError, http.client.HTTPException):
                self.statuses["broken off"] += 1
                time.sleep(0.005)
                continue
            self.statuses[answer.status] += 1
            if answer.status == 200:
                return content["offset"], content["accepted"]
            if answer.status not in (503, 507):
                raise oracle.Broken(f"answered with {answer.status}: {content}")
            time.sleep(0.05)

    def listen_to(self, process):
        process.wait_until(lambda: ADDRESS.search(process.stderr()), "an address in the log")
        host, port = ADDRESS.search(process.stderr()).groups()
        self.address = host, int(port)

    def end(self):
        self.ending = True
        for thread in self.threads:
            thread.join(60)
            if thread.is_alive():
                raise oracle.Broken("a client is never answered")

    def check(self):
        """Returns the number of events, each accepted once: the answers cover the offsets."""
        if self.broken:
            raise oracle.Broken(self.broken[0])
        offset = 0
        for begin, accepted in sorted(self.receipts.values()):
            if begin != offset or accepted != EVENTS:
                raise oracle.Broken(f"{accepted} events were accepted at offset {begin}, those before end at {offset}")
            offset += accepted
        return offset


def encode(first, form):
    events = [event(number) for number in range(first, first + EVENTS)]
    lines = "".join(json.dumps(event) + "\n" for event in events).encode()
    if form == 0:
        return {"Content-Type": "application/json"}, json.dumps(events, indent=1).encode()
    if form == 1:
        return {"Content-Type": "application/x-ndjson", "Content-Encoding": "gzip"}, gzip.compress(lines, 1)
    return {"Content-Type": "application/x-ndjson"}, lines


def check_dataset(out, events):
    """The rows are the events sent, each once."""
    dataset = oracle.Dataset(out)
    dataset.check()
    if dataset.next_offset() != events:
        raise oracle.Broken(f"committed is offset {dataset.next_offset()}, accepted were {events} events")
    if dataset.dead_letters():
        raise oracle.Broken("there are dead letters, and no event is one")
    rows = f"read_parquet('{out}/**/*.parquet', hive_types = {{region: VARCHAR}})"
    found = duckdb.sql(f"SELECT count(*), count(DISTINCT id), min(id), max(id), count(*) FILTER (WHERE {AS_SENT}) FROM {rows}").fetchall()[0]
    if found != (events, events, 0, events - 1, events):
        raise oracle.Broken(f"rows, distinct ids, least, largest, as sent: {found}; {events} were accepted")


def finish(options, work, clients, settings):
    """A last, undisturbed run until everything is committed, ended by SIGTERM; then everything is checked."""
    with Pintail(options.pintail, settings, work) as process:
        clients.listen_to(process)
        clients.end()
        events = clients.check()
        dataset = oracle.Dataset(work / "out")
        process.wait_until(lambda: dataset.last_number() > 0 and dataset.next_offset() >= events, f"event {events}")
        process.signal(signal.SIGTERM)
        if code := process.wait():
            raise Unexpected(f"exit code {code}:\n{process.stderr()[-2000:]}")
    Pintail(options.pintail, {"pipeline.out_path": "out"}, work, command=["verify"]).run(timeout=600)
    check_dataset(work / "out", events)
    return events


def kills(options, work):
    moments, clients = random.Random(options.seed), Clients(options.seed)
    (work / "out").mkdir(parents=True)
    dataset = oracle.Dataset(work / "out")
    for thread in clients.threads:
        thread.start()
    for number in range(1, options.kills + 1):
        with Pintail(options.pintail, SETTINGS, work) as process:
            # One in five is killed while it opens the journal.
            wait = moments.uniform(0, 800)
            if moments.random() < 0.8:
                clients.listen_to(process)
            else:
                wait /= 8
            time.sleep(wait / 1000)
            if not process.is_running():
                raise Unexpected(f"it ended by itself with {process.child.returncode}:\n{process.stderr()[-2000:]}")
            process.signal(signal.SIGKILL)
            process.wait()
        committed = dataset.next_offset() if dataset.last_number() else 0
        answered = sum(accepted for _, accepted in list(clients.receipts.values()))
        print(f"{number:4} +{wait:5.1f} ms  answered {answered:9}  committed {committed:9}", flush=True)
    events = finish(options, work, clients, SETTINGS)
    again = clients.statuses["broken off"] + clients.statuses[503]
    print(f"{options.kills} kills: {events} events in {len(clients.receipts)} requests, each once; answers {dict(clients.statuses)}\n", flush=True)
    if again < options.kills:
        yield f"only {again} requests met a kill"


def full_disk(options, work):
    clients = Clients(options.seed + 1)
    with mounts.Ballast(work, pages=(24 << 20) // mounts.PAGE) as disk:
        (work / "out").mkdir()
        for thread in clients.threads:
            thread.start()
        # Nothing is committed meanwhile, so that the journal alone takes the room.
        with Pintail(options.pintail, SETTINGS | {"pipeline.checkpoint_interval": "1h"}, work) as process:
            clients.listen_to(process)
            process.wait_until(lambda: clients.statuses[507] >= 20, "20 answers 507", timeout=120)
            if not process.is_running():
                raise Unexpected("a full disk has ended it")
            refused, before = clients.statuses[507], len(clients.receipts)
            disk.make_room()
            process.wait_until(lambda: len(clients.receipts) > before + 100, "answers 200 again")
            process.signal(signal.SIGKILL)
            process.wait()
        events = finish(options, work, clients, SETTINGS)
        print(f"full disk: {refused} answers 507, then taken again; killed; {events} events, each once", flush=True)
    return []


def prove(options, work):
    yield from kills(options, work / "kills")
    yield from full_disk(options, work / "full")


def arguments():
    parser = job.parser(__doc__)
    parser.add_argument("--kills", type=int, metavar="N", default=10, help="rounds (%(default)s)")
    options = job.parse(parser)
    if options.kills < 1:
        parser.error("it takes at least one kill")
    return options


def main():
    options = arguments()
    mounts.enter_namespace()
    print(f"push: {options.kills} kills, --seed {options.seed}", flush=True)
    job.conclude(prove, options, "push")


if __name__ == "__main__":
    main()
