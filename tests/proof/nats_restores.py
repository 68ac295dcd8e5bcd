"""The server's store restored to an older copy between kills of Pintail, while messages come in.

Each round copies the store of the server, waits until Pintail has committed more than the copy holds, kills it, and puts the copy in the
place of the store; in every other round it is the store that was replaced in the round before, with messages that nobody has read. Then other messages
come in, up to 300 ms long. A start is refused (65). One with `source.on_gap = "record"` notes one gap and goes on; it is killed, too. At
the end, undisturbed: the rows of every message that the stream has, or had when they were read, each once, unless the gap says that some may be
there twice.

Owns: the copies, the rounds, the comparison.
Does not own: the server and the publisher (nats_server.py), the events of one history (nats_kills.py gives them), what a sound dataset is (oracle.py).
"""
import shutil
import signal
import time

import duckdb

from nats_server import Publisher, ask
from process import Unexpected

import oracle

# Numbers of events between two histories: far more than are published in one.
APART = 100_000_000
REFUSED = 65


class Histories:
    """Events of a stream that goes back now and then: behind a restore, its sequences have others than those that are lost."""

    def __init__(self, events):
        self.events = events
        # How many messages the stream had, and the number of the event that came then.
        self.branches = [(0, 0)]
        self.last = 0

    def branch(self, count, branches):
        """Goes on behind so many messages of another history."""
        self.last += APART
        self.branches = [branch for branch in branches if branch[0] < count or branch == (0, 0)] + [(count, self.last)]

    def number(self, n):
        """Returns the number of the event that is the message with sequence n + 1."""
        count, first = next(branch for branch in reversed(self.branches) if branch[0] <= n)
        return first + n - count

    def message(self, n):
        return self.events.message(self.number(n))

    def rows(self, count):
        """Returns the ids of all rows of a stream with so many messages."""
        numbers = map(self.number, range(count))
        return {number for number in numbers if self.events.kind(self.events.facts(number)) == "row"}


class Restores:
    """One stream, and the rounds over it. `loop` has server, dataset and settings of a kill loop."""

    def __init__(self, loop, rounds):
        self.loop, self.rounds, self.server, self.dataset = loop, rounds, loop.server, loop.dataset
        self.histories, self.moments = Histories(loop.events), loop.moments
        self.store, self.older, self.newer = loop.work / "js", loop.work / "older", loop.work / "newer"
        # The history of the store that was replaced last.
        self.replaced = None
        self.publisher = None

    def run(self):
        begin = time.monotonic()
        self.loop.make_stream()
        self.publish()
        try:
            for number in range(1, self.rounds + 1):
                self.round(number)
        finally:
            published = self.publisher.finish()
        self.loop.last_run(published)
        self.compare(published)
        print(f"{self.loop.retention}: {self.rounds} restores, each refused and then recorded once; the {published} messages of the last history are "
              f"there; {time.monotonic() - begin:.0f} s\n", flush=True)

    def publish(self):
        self.publisher = Publisher(self.server, self.loop.stream, self.histories.message, self.loop.options.rate)
        self.publisher.start()

    def round(self, number):
        before = self.dataset.last_number()
        with self.loop.pintail() as process:
            process.wait_commits_after(self.dataset, before)
            self.server.stop()
            replace(self.older, self.store)
            self.server.start()
            copied = self.loop.last_sequence()
            process.wait_until(lambda: self.dataset.next_offset() > copied + 1, f"more than the copy's {copied} messages")
            process.signal(signal.SIGKILL)
            process.wait()
        self.publisher.finish()
        held, how = self.restore()
        read = self.dataset.next_offset() - 1
        self.publish()
        self.loop.pause(300)
        with self.loop.pintail() as process:
            if (code := process.wait()) != REFUSED:
                raise Unexpected(f"a stream that was read up to {read} and restored to {held} is not refused: exit code {code}:\n{process.stderr()[-2000:]}")
        with self.loop.pintail(on_gap="record") as process:
            process.wait_until(lambda: len(self.gaps()) == number, f"gap {number} to be recorded")
            killed = self.loop.pause(200)
            process.signal(signal.SIGKILL)
            process.wait()
        print(f"{number:5} {how:10} read up to {read}, restored to {held}: refused, recorded, {killed}, next sequence "
              f"{self.dataset.next_offset():8}", flush=True)

    def restore(self):
        """Puts a copy in the place of the store. Returns how many messages it has had, and which it is."""
        self.server.kill()
        branches = self.histories.branches
        if self.replaced:
            how, copy, branches, self.replaced = "newer", self.newer, self.replaced, None
        else:
            how, copy, self.replaced = "older", self.older, branches
            replace(self.newer, self.store)
        replace(self.store, copy)
        self.server.start()
        held = self.loop.last_sequence()
        self.histories.branch(held, branches)
        return held, how

    def gaps(self):
        notes = (note for record in self.dataset.records() for note in record["source"].get("notes", ()))
        return [note for note in notes if note["kind"] == "gap"]

    def compare(self, published):
        """Holds the rows against the events: those of the last history must be there, others may, nothing twice."""
        self.loop.pintail(("verify",)).run(timeout=600)
        self.dataset.check()
        found = [row for row, in duckdb.connect().execute(f"SELECT id FROM {self.dataset.scan()}").fetchall()]
        # Of messages that are acknowledged, and gone, the source cannot always tell which were read: then it says so.
        if len(found) != len(set(found)) and not any("may be there twice" in note["text"] for note in self.gaps()):
            raise oracle.Broken(f"{len(found) - len(set(found))} rows are there twice")
        if lost := self.histories.rows(published) - set(found):
            raise oracle.Broken(f"{len(lost)} rows of messages that the stream has are lost; one: {min(lost)}")
        if (gaps := len(self.gaps())) != self.rounds:
            raise oracle.Broken(f"{gaps} gaps are recorded for {self.rounds} restores")


def replace(directory, copied):
    shutil.rmtree(directory, ignore_errors=True)
    shutil.copytree(copied, directory)
