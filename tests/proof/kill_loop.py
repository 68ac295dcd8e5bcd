#!/usr/bin/env python3
"""Kills Pintail under load, over and over, while others read what it writes; then counts whether anything is lost or doubled.

    python3 tests/proof/kill_loop.py                                        50 kills: below 90 seconds
    nice python3 tests/proof/kill_loop.py --kills 1000 --events 20_000_000  the long run: about half an hour

Of ten rounds there are
  3 running     SIGKILL up to 300 ms after the first commit of this run
  2 drain       SIGTERM up to 100 ms after the first commit, SIGKILL up to 40 ms later
  2 aimed       SIGKILL up to 4 ms after the name of the second commit record has appeared: while its files are being published;
                every other time with renames that take 2 ms longer (by strace), and then up to 40 ms after it
  3 any time    SIGKILL up to 120 ms after the start: in the start, before the first commit; if there is something to publish,
    recovery    up to 60 ms after the start, or, with slow renames, up to 20 ms after the first file that was published

Owns: the rounds, the kills, the log, the histogram of what each restart found.
Does not own: what a sound dataset is (oracle.py), what a kill has left (witness.py), the readers (readers.py).
"""
import interpreter  # noqa: F401  first: it may start this command again under another Python

import random
import shutil
import signal
import time
from collections import Counter
from dataclasses import dataclass

import job
import oracle
from process import Pintail, Unexpected
from readers import Readers
from reference import Reference
from trial import MULTIPLE
from witness import LABELS, NOTHING, ROLL_FORWARD, Witness

SETTINGS = {
    "source.type": "simulator", "source.start_time": "2026-01-01T00:00:00Z", "source.rate": 200_000,
    "pipeline.out_path": "out", "pipeline.checkpoint_interval": "100ms", "pipeline.batch_rows": 5_000,
    # 15 hive partitions instead of 5: publishing takes longer, so that more kills fall into it.
    "sink.partition_by": ["region", "bucket"],
}
ROUNDS = ("aimed", "start", "running", "drain", "start", "running", "aimed", "start", "drain", "running")
SLOW_RENAMES = ("strace", "-f", "--seccomp-bpf", "-qq", "-o", "/dev/null", "-e", "trace=renameat2", "-e", "inject=renameat2:delay_exit=2000")


@dataclass
class Round:
    """One life of a process."""
    kind: str
    how: str
    after_first_commit: bool
    drained: bool
    up_ms: float


class Killer:
    """Starts Pintail and kills it, at moments that the seed names."""

    def __init__(self, options, work):
        self.pintail, self.work, self.moments = options.pintail, work, random.Random(options.seed)
        self.settings = SETTINGS | {"source.seed": options.seed}
        self.aimed_rounds = self.recoveries = 0

    def round(self, number, left, events):
        """Lets a process live and ends it. `events`: what should be committed by now, if the round may wait for it."""
        kind = ROUNDS[number % len(ROUNDS)]
        if kind == "start":
            kind = "recovery" if left.label in ROLL_FORWARD else "any time"
        slow = self.is_slow(kind)
        with Pintail(self.pintail, self.settings, self.work, prefix=SLOW_RENAMES if slow else ()) as process:
            process.find()
            dataset = oracle.Dataset(process.out)
            how = getattr(self, kind.replace(" ", "_"))(process, dataset, left, slow, events)
            up_ms = (time.monotonic() - process.started) * 1000
            drained = not process.is_running() and process.child.returncode == 0 and kind == "drain"
            if not process.is_running() and not drained:
                raise Unexpected(f"it ended by itself with {process.child.returncode}:\n{process.stderr()[-2000:]}")
            if not drained:
                process.signal(signal.SIGKILL)
            process.wait()
            return Round(kind, how + (" slow" if slow else ""), dataset.has_checkpoint_after(left.number), drained, up_ms)

    def is_slow(self, kind):
        """Every other one of those that it helps."""
        self.aimed_rounds += kind == "aimed"
        self.recoveries += kind == "recovery"
        return kind == "aimed" and self.aimed_rounds % 2 == 0 or kind == "recovery" and self.recoveries % 2 == 0

    def any_time(self, *_):
        return self.pause(120)

    def recovery(self, process, dataset, left, slow, _):
        if not slow or not left.missing:
            return self.pause(60)
        first = dataset.path / left.missing[0]
        watch_for(process, first)
        return f"file 1 {self.pause(20)}"

    def running(self, process, dataset, left, _, events):
        process.wait_commits_after(dataset, left.number)
        # Rounds that end early take few events with them; here the load catches up.
        process.wait_until(lambda: dataset.next_offset() >= events, f"event {events}")
        return self.pause(300)

    def drain(self, process, dataset, left, *_):
        process.wait_commits_after(dataset, left.number)
        first = self.pause(100)
        process.signal(signal.SIGTERM)
        return f"{first}, SIGTERM, {self.pause(40)}"

    def aimed(self, process, dataset, left, slow, _):
        process.wait_commits_after(dataset, left.number)
        number = dataset.last_number() + 1
        watch_for(process, dataset.record_path(number))
        return f"record {number} {self.pause(40 if slow else 4)}"

    def pause(self, most_ms):
        wait = self.moments.uniform(0, most_ms)
        end = time.monotonic() + wait / 1000
        # A sleep takes longer than it was asked for, by about as much as what is aimed at takes.
        time.sleep(max(0, wait / 1000 - 0.002))
        while time.monotonic() < end:
            pass
        return f"+{wait:.1f} ms"


def watch_for(process, path):
    """Waits for a file without a pause: what follows it is over within milliseconds."""
    end = time.monotonic() + 10
    while not path.exists() and time.monotonic() < end:
        if not process.is_running():
            return


class Tally:
    """What the rounds came to."""

    def __init__(self):
        self.found, self.kinds = Counter(), Counter()
        self.first_commits = self.drained = self.recoveries_killed = self.recoveries_cut = 0

    def add(self, done, before, left):
        self.found[left.label] += 1
        self.kinds[done.kind] += 1
        self.first_commits += done.after_first_commit
        self.drained += done.drained
        if before.label in ROLL_FORWARD and left.label in ROLL_FORWARD and before.number == left.number:
            self.recoveries_killed += 1
            self.recoveries_cut += left.published > before.published

    @property
    def rounds(self):
        return self.found.total()

    @property
    def roll_forwards(self):
        return sum(self.found[label] for label in ROLL_FORWARD)

    def print(self, wanted):
        kinds = ", ".join(f"{count} {kind}" for kind, count in self.kinds.most_common())
        print(f"{self.rounds} rounds: {kinds}; {self.rounds - self.drained} ended by SIGKILL, {self.drained} drained before it")
        print(f"{self.first_commits} of them after the run's first commit; {self.recoveries_killed} restarts killed again before a record "
              f"was completed, {self.recoveries_cut} of these between two files\n")
        print("what the restarts found:")
        for label in LABELS:
            print(f"  {label:30} {self.found[label]:6}  {'#' * round(50 * self.found[label] / self.rounds)}")
        print(f"  {'to roll forward':30} {self.roll_forwards:6}  (at least {wanted} wanted)\n")


def run(options, work):
    """Runs the loop; returns why it proves nothing, if so."""
    begin, killer, tally = time.monotonic(), Killer(options, work), Tally()
    (work / "out").mkdir()
    dataset = oracle.Dataset(work / "out")
    reference = Reference(options.pintail, work, {k: killer.settings[k] for k in ("source.type", "source.start_time", "source.seed")})
    witness, readers = Witness(dataset, reference), Readers(dataset.path, reference)
    try:
        left = witness.look()
        for number in range(1, options.kills + 1):
            done, before = killer.round(number, left, options.events * number // options.kills), left
            left = witness.look()
            readers.check()
            tally.add(done, before, left)
            print(f"{number:5} {done.kind:8} {done.how:34} up {done.up_ms:4.0f} ms, records {before.number:6} to {left.number:6}, "
                  f"events {before.offset:9} to {left.offset:9}; left: {left.label}", flush=True)
        end = -(-max(left.offset + 1, options.events) // MULTIPLE) * MULTIPLE
        print(f"\nlast run, undisturbed, to event {end}", flush=True)
        Pintail(options.pintail, killer.settings | {"source.rate": 0, "source.limit": end}, work).run(timeout=600)
        events_killed, left = left.offset, witness.look()
        readers.check()
    finally:
        readers.end()
    check_whole(options, work, dataset, reference, end)
    print(f"{end} events ({events_killed} of them under kills), each once, in {len(dataset.visible_names())} files of {witness.checkpoints} "
          f"checkpoints: `pintail verify`, the oracle and an undisturbed run agree; {time.monotonic() - begin:.0f} s")
    readers.print()
    tally.print(options.roll_forwards)
    return faults(options, tally, readers, left)


def check_whole(options, work, dataset, reference, end):
    """Checks everything once more, from the start, when all is over."""
    Pintail(options.pintail, {"pipeline.out_path": "out"}, work, command=["verify"]).run(timeout=600)
    dataset.check()
    reference.cover(end, exactly=True)
    if dataset.columns() != reference.dataset.columns():
        raise oracle.Broken(f"the columns are {dataset.columns()}, undisturbed {reference.dataset.columns()}")
    found, expected = dataset.sums(), reference.sums(0, end)[:2]
    if found != expected:
        raise oracle.Broken(f"the dataset has {found}, the events 0 to {end} are {expected}")
    if dataset.dead_letters():
        raise oracle.Broken("there are dead letters, and no event is one")


def faults(options, tally, readers, left):
    """Names what makes this run no proof, though nothing was broken."""
    if tally.roll_forwards < options.roll_forwards:
        yield f"only {tally.roll_forwards} restarts had to roll forward"
    if tally.first_commits * 2 < options.kills:
        yield f"only {tally.first_commits} rounds came to the run's first commit"
    if left.label != NOTHING:
        yield f"the undisturbed run has left: {left.label}"
    yield from readers.faults()


def arguments():
    parser = job.parser(__doc__)
    add = parser.add_argument
    add("--kills", type=int, metavar="N", default=50, help="rounds (%(default)s)")
    add("--events", type=int, metavar="N", default=1_000_000, help="events that are committed at least (%(default)s)")
    add("--roll-forwards", type=int, metavar="N", help="restarts that must find a record with files to publish; fewer prove too little "
        "(a tenth of the rounds, but 1 to 10)")
    options = job.parse(parser)
    if options.kills < 1:
        parser.error("it takes at least one kill")
    if not shutil.which("strace"):
        parser.error("it takes strace, for slow renames: apt-get install strace")
    options.roll_forwards = min(10, max(1, options.kills // 10)) if options.roll_forwards is None else options.roll_forwards
    return options


def main():
    options = arguments()
    print(f"kill loop: {options.kills} rounds, {options.events} events, --seed {options.seed}", flush=True)
    job.conclude(run, options, "kills")


if __name__ == "__main__":
    main()
