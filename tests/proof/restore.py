#!/usr/bin/env python3
"""Restores a dataset, its source, or both to an older state, and does what docs/backup.md says then.

    python3 tests/proof/restore.py                     each row of the page's table, with a file and with a stream of NATS: half a minute
    python3 tests/proof/restore.py --only nats

The cases are read against the table of docs/backup.md: each of its rows has one here, the exit code is the one that the row
names, and the command that is run is the one that it gives. After it every event is there as often as the row says, and `pintail verify` is
content.

Owns: the copies, what is restored, how often each event must be there.
Does not own: the server (nats_server.py), what a sound dataset is (oracle.py).
"""
import interpreter  # noqa: F401  first: it may start this command again under another Python

import argparse
import os
import re
import shutil
import signal
import time
from collections import Counter
from pathlib import Path

import duckdb

from job import Workers, conclude
from nats_server import Client, Server, ask, program
from oracle import Broken, Dataset, staged_as
from process import Pintail, Unexpected, default_binary

PAGE = Path(__file__).resolve().parents[2] / "docs/backup.md"
STREAM, SUBJECT = "EVENTS", "events"
CONFIG = """
[pipeline]
out_path = "out"
checkpoint_interval = "50ms"

[transform]
sql = "SELECT id, ts, region FROM events"

[sink]
partition_by = ["region"]
event_time = "ts"

[monitor]
group_by = "region"
value = "id"

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
type = "text"
required = true
"""
BEGIN_MS = 1_767_225_600_000
END_SECONDS = 60
OLD, NEW, OTHER = range(0, 1000), range(1000, 2000), range(5000, 5300)
"""Events up to the older copy, events after it, and others that a restored source gets instead of those."""


def event(n):
    return b'{"id":%d,"ts":%d,"region":"%s"}' % (n, BEGIN_MS + 10 * n, (b"eu", b"us")[n % 2])


class LogFile:
    """A file that somebody appends to."""

    name, row = "files", "the source, a file"
    settings = {"source.type": "file", "source.path": "logs/*.ndjson"}

    def __init__(self, work):
        self.place = work / "logs"
        self.place.mkdir()

    def write(self, events):
        with open(self.place / "app.ndjson", "ab") as log:
            log.writelines(event(n) + b"\n" for n in events)

    def forget(self, count):
        """Drops the oldest events, as a rotation does whose older files are deleted: the rest lies in a file of its own."""
        log = self.place / "app.ndjson"
        lines = log.read_bytes().splitlines(keepends=True)[count:]
        log.unlink()
        (self.place / "app-2.ndjson").write_bytes(b"".join(lines))

    def still(self):
        """Nothing writes to it. To be called before it is copied or restored."""

    def after_gap(self, restored, written):
        """Returns what is read of a restored source, when a gap is accepted: all, from the beginning."""
        return [*restored, *written]

    def stop_at_end(self, process, _):
        """A run reads all there is, and ends."""

    def close(self):
        pass


class Stream:
    """A stream of NATS JetStream."""

    name, row = "nats", "the source, a NATS stream"
    settings = {"source.type": "nats", "source.stream": STREAM}

    def __init__(self, work):
        self.server, self.place = Server(work), work / "js"
        self.settings = self.settings | {"source.url": self.server.url}
        self.server.start()
        ask(self.server, f"STREAM.CREATE.{STREAM}", name=STREAM, subjects=[SUBJECT], storage="file")

    def write(self, events):
        self.running()
        client = Client(self.server.port)
        for n in events:
            client.ask((SUBJECT, event(n)))
        client.close()

    def forget(self, count):
        """Drops the oldest events, as their age does."""
        self.running()
        first = ask(self.server, f"STREAM.INFO.{STREAM}")["state"]["first_seq"]
        ask(self.server, f"STREAM.PURGE.{STREAM}", seq=first + count)

    def still(self):
        self.server.kill()

    def running(self):
        if not self.server.child:
            self.server.start()
            # Until it answers.
            ask(self.server, f"STREAM.INFO.{STREAM}")

    def after_gap(self, _, written):
        """Returns what is read of a restored source, when a gap is accepted: what is newer than what was read."""
        return written

    def stop_at_end(self, process, dataset):
        """Waits until all there is has been committed, and stops the run."""
        end = ask(self.server, f"STREAM.INFO.{STREAM}")["state"]["last_seq"] + 1
        deadline = time.monotonic() + END_SECONDS
        while process.is_running() and dataset.next_offset() != end and time.monotonic() < deadline:
            time.sleep(0.01)
        if process.is_running():
            process.signal(signal.SIGTERM)

    def close(self):
        self.server.kill()


class Case:
    """One row of the table: a dataset with events up to `NEW`, a copy of it and of its source after `OLD`."""

    def __init__(self, binary, work, kind, table, met):
        work.mkdir()
        self.binary, self.work, self.table, self.met, self.ran = binary, work, table, met, []
        self.source, self.dataset = kind(work), Dataset(work / "out")
        (work / "pintail.toml").write_text(CONFIG)
        self.source.write(OLD)
        self.run()
        self.older, self.older_source = self.copy(self.dataset.path), self.copy(self.source.place)
        self.source.write(NEW)
        self.run()
        self.check(Counter([*OLD, *NEW]))

    def pintail(self, *command):
        return Pintail(self.binary, self.source.settings, self.work, command=[*command, "--config", "pintail.toml"])

    def run(self, *how, code=0):
        """Runs the line over all that the source has; it must end with `code`. Returns its log."""
        if hasattr(self.source, "running"):
            self.source.running()
        with self.pintail("run", *how) as process:
            if code == 0:
                self.source.stop_at_end(process, self.dataset)
            self.ended(process, code)
            log = process.stderr()
        self.ran.append(" ".join(["pintail", "run", *how]) if how else "pintail")
        return log

    def command(self, *command, code=0):
        with self.pintail(*command) as process:
            self.ended(process, code)
        self.ran.append(f"pintail {command[0]}")

    @staticmethod
    def ended(process, code):
        if (found := process.wait(END_SECONDS)) != code:
            raise Broken(f"`pintail {' '.join(process.command)}` ended with {found}, expected {code}:\n{process.stderr()[-2000:]}")

    def copy(self, what):
        self.source.still()
        to = self.work / f"copy-{what.name}"
        shutil.copytree(what, to, dirs_exist_ok=True)
        return to

    def restore(self, copy, to):
        self.source.still()
        shutil.rmtree(to)
        shutil.copytree(copy, to)

    def restore_dataset(self):
        self.restore(self.older, self.dataset.path)

    def restore_source(self):
        self.restore(self.older_source, self.source.place)

    def check(self, expected):
        """Checks that the dataset is sound and has each event as often as expected."""
        self.dataset.check()
        self.command("verify")
        found = Counter(row for row, in duckdb.connect().execute(f"SELECT id FROM {self.dataset.scan()}").fetchall())
        if found != expected:
            lacks, more = expected - found, found - expected
            raise Broken(f"it lacks {lacks.total()} events, such as {sorted(lacks)[:3]}, and has {more.total()} too many, such as {sorted(more)[:3]}")

    def gaps(self):
        return [note for record in self.dataset.records() for note in record["source"].get("notes", []) if note["kind"] == "gap"]

    def check_gap(self):
        if not self.gaps():
            raise Broken("what was given up is in no record")

    def check_row(self, row, code=0):
        """Checks that the page says of a row what was just met and run."""
        found = [cells for cells in self.table if cells[0].startswith(row)]
        if len(found) != 1:
            raise Broken(f"the page has {len(found)} rows that begin with {row!r}")
        self.met.add(found[0][0])
        what, commands = found[0][1:]
        if code and f"exit code {code}" not in what:
            raise Broken(f"the page does not say of {row!r} that the exit code is {code}: {what}")
        last = next(command for command in reversed(self.ran) if command != "pintail verify")
        if f"`{last}`" not in commands:
            raise Broken(f"the page does not say of {row!r} to run `{last}`: {commands}")


# Each of these is one row.

def dataset_older(case):
    case.restore_dataset()
    case.run()
    case.check_row("the whole dataset")
    case.check(Counter([*OLD, *NEW]))


def dataset_older_and_source_forgot(case):
    case.restore_dataset()
    case.source.forget(len(OLD) + 500)
    if isinstance(case.source, LogFile):
        # Nothing shows how long the file had become.
        if "app.ndjson" not in case.run():
            raise Broken("the file that is gone is not named")
        case.check_row("… and a file that had grown since is gone")
    else:
        case.run(code=65)
        case.run("--accept")
        case.check_row("… and the stream no longer has it", 65)
        case.check_gap()
    case.check(Counter([*OLD, *NEW[500:]]))


def source_older(case):
    case.restore_source()
    accept_older_source(case, [*OLD, *NEW])
    case.check_row(case.source.row, 65)


def accept_older_source(case, before):
    """Nothing was written since, so it is only shorter; then others write."""
    case.run(code=65)
    case.source.write(OTHER)
    case.run(code=65)
    case.run("--accept")
    case.check(Counter(before) + Counter(case.source.after_gap(OLD, OTHER)))
    case.check_gap()


def both_older_and_the_dataset_more(case):
    newer = case.copy(case.source.place)
    case.source.write(OTHER)
    case.run()
    case.restore_dataset()
    case.restore(newer, case.source.place)
    case.run()
    case.check_row("both, the dataset to the older state")
    case.check(Counter([*OLD, *NEW]))


def both_older_and_alike(case):
    case.restore_dataset()
    case.restore_source()
    case.source.write(OTHER)
    case.run()
    case.check(Counter([*OLD, *OTHER]))


def both_older_and_the_source_more(case):
    newer = case.work / "newer"
    shutil.copytree(case.dataset.path, newer)
    case.source.write(range(2000, 2100))
    case.run()
    case.restore(newer, case.dataset.path)
    case.restore_source()
    accept_older_source(case, [*OLD, *NEW])
    case.check_row("both, the source to the older state")


def ledger_older(case):
    case.restore(case.older / "_pintail", case.dataset.path / "_pintail")
    case.run(code=65)
    case.command("verify", code=65)
    case.command("adopt")
    case.check_row("`_pintail` alone", 65)
    case.run()
    case.check(Counter([*OLD, *NEW, *NEW]))


def ledger_older_then_the_files_too(case):
    case.restore(case.older / "_pintail", case.dataset.path / "_pintail")
    case.run(code=65)
    case.restore_dataset()
    case.run()
    case.check(Counter([*OLD, *NEW]))


def ledger_gone(case):
    shutil.rmtree(case.dataset.path / "_pintail")
    case.run(code=78)
    case.command("adopt")
    case.check_row("the files alone", 78)
    case.check(Counter([*OLD, *NEW]))
    case.run()
    case.check(Counter([*OLD, *NEW] * 2))


def files_gone(case):
    gone = case.dataset.visible_files()[0]
    aside = case.work / "aside"
    gone.rename(aside)
    case.command("verify", code=65)
    case.source.write(OTHER)
    case.run()
    case.command("verify", code=65)
    aside.rename(gone)
    case.check(Counter([*OLD, *NEW, *OTHER]))
    gone.unlink()
    case.command("verify", code=65)
    case.command("expire", "--before", "2027-01-01", "--force")
    case.check_row("some files")
    case.command("verify")


def staging_gone(case):
    """Puts the last checkpoint back to where its publication had just begun, and takes staged files away."""
    case.source.write(OTHER)
    case.run()
    record = case.dataset.last()
    number, epoch = staged_as(record)
    staging = case.dataset.private / "staging" / f"{number:010}-{epoch}"
    staging.mkdir()
    for file in record["files"][1:]:
        (case.dataset.path / file["path"]).rename(staging / f"{file['staged']}.inprogress")
    lost = record["files"][0]
    aside = case.copy(case.dataset.path)
    (case.dataset.path / lost["path"]).unlink()
    if lost["path"] not in case.run(code=65):
        raise Broken("the start does not name the file that cannot be published")
    case.command("verify", code=65)
    case.command("expire", "--before", "2027-01-01", "--force")
    case.check_row("`_pintail/staging` removed", 65)
    case.command("verify")
    case.run()
    # What else was staged is in its place all the same once the lost one is restored.
    case.restore(aside, case.dataset.path)
    case.run()
    case.check(Counter([*OLD, *NEW, *OTHER]))


CASES = (
    dataset_older, dataset_older_and_source_forgot, source_older, both_older_and_alike, both_older_and_the_dataset_more,
    both_older_and_the_source_more, ledger_older, ledger_older_then_the_files_too, ledger_gone, files_gone,
    staging_gone,
)
KINDS = (LogFile, Stream)


def table():
    """Returns the rows of the page's table, each as its three cells."""
    section = PAGE.read_text().partition("\n## What to run after a restore\n")[2].partition("\n## ")[0]
    rows = [re.split(r"\s*\|\s*", line.strip("| ")) for line in section.splitlines() if line.startswith("|")]
    return rows[2:]


def prove(options, work):
    rows, met, failed = table(), set(), []

    def one(kind, lay):
        begin, case, verdict = time.monotonic(), None, ""
        try:
            case = Case(options.pintail, work / f"{kind.name}-{lay.__name__}", kind, rows, met)
            lay(case)
        except (Broken, Unexpected) as error:
            verdict = f"  FAILED: {error}"
            failed.append(f"{kind.name}, {lay.__name__}: {error}")
        finally:
            if case:
                case.source.close()
        print(f"{kind.name:6} {lay.__name__.replace('_', ' '):36} {time.monotonic() - begin:5.1f} s{verdict}", flush=True)

    with Workers(max_workers=4) as workers:
        kinds = [kind for kind in KINDS if kind.name in options.only]
        for done in [workers.submit(one, kind, lay) for kind in kinds for lay in CASES]:
            done.result()
    if len(options.only) == len(KINDS):
        failed += [f"no case is about the row {row[0]!r} of the page" for row in rows if row[0] not in met]
    return failed


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\nOwns")[0], formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--pintail", type=Path, metavar="PATH", default=default_binary(), help="the binary (%(default)s)")
    add("--only", nargs="+", choices=[kind.name for kind in KINDS], default=[kind.name for kind in KINDS], help="these sources (all)")
    add("--work", type=Path, metavar="DIR", help="where a temporary directory is made (the system's)")
    options = parser.parse_args()
    if not os.access(options.pintail, os.X_OK):
        parser.error(f"{options.pintail} must be a program")
    if "nats" in options.only and not program():
        parser.error("it takes nats-server: apt-get install nats-server")
    options.seed = None
    return options


if __name__ == "__main__":
    conclude(prove, arguments(), "restore")
