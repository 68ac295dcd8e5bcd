#!/usr/bin/env python3
"""Lets the disk fill up under the binary, at a different point each time, then makes room.

    python3 tests/proof/disk_full.py                 12 sizes: half a minute
    python3 tests/proof/disk_full.py --sizes 100     the long form

Each disk is a tmpfs with too little room for the job: too few pages, or too few inodes. While it is full the binary must wait where it is: it
lives, reports it, commits nothing, shows no torn file. Then, in turns:
  freed         room is made (a larger mount, a removed file): it goes on without a restart and ends with 0
  killed        SIGKILL while it waits, a start on the full disk, then room
  terminated    SIGTERM while it waits: 75 when the 8 s of `pipeline.shutdown_timeout` have passed; room; a start completes
  drained       SIGTERM while it waits, room within the 8 s: the last checkpoint, 0; a start completes
At the end everything is there once, the dead letters too.

Owns: the sizes, the ways, what must hold, the table.
Does not own: the disks (see mounts.py), the job (see job.py), what a sound dataset is (see oracle.py).
"""
import math
import interpreter  # noqa: F401  first: it may start this command again under another Python
import mounts

import argparse
import itertools
import json
import random
import re
import signal
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from job import WAIT_SECONDS, Job, Workers, check_visible_now, conclude, last_message
from oracle import Broken, Dataset
from process import Unexpected, default_binary

STILL_SECONDS = 0.3
"""Waiting for room is waiting if it lasts this long without a commit."""
DEADLINE_SECONDS, SLACK_SECONDS = 8, 1.5
FILES, LINES = 40, 60
NOT_FULL, REFUSED = "not full", "lock: refused with 75"
ENDED = {NOT_FULL, REFUSED}


@dataclass(frozen=True)
class Case:
    disk: type
    what: str
    room: int
    way: str

    def __str__(self):
        return f"{self.disk.__name__.lower()} with {self.room} {self.what}, {self.way}"


@dataclass
class Outcome:
    case: Case
    step: str = "nowhere"
    again: "str | None" = None
    broken: "str | None" = None


class Proof:
    def __init__(self, binary, work):
        self.work, self.numbers = work, itertools.count(1)
        # Plain pages: they make the job large enough to fill a hundred disks of different sizes.
        self.job = Job(binary, work, FILES, LINES, sink__compression="none")

    def needed(self, disk):
        """Returns how many blocks and inodes the job takes on an ample disk."""
        with disk(self.directory(), pages=4000) as ample:
            before = ample.used()
            self.job.run_to_end(ample.path / "out")
            return [after - start for start, after in zip(before, ample.used())]

    def directory(self):
        return self.work / f"disk-{next(self.numbers)}"

    def run(self, case):
        outcome = Outcome(case)
        try:
            with case.disk(self.directory(), **{case.what: case.room}) as disk:
                WAYS[case.way](self, disk, outcome)
                self.job.check_complete(disk.path / "out")
        except (Broken, Unexpected, OSError) as error:
            outcome.broken = f"{case}, stuck at {outcome.again or outcome.step}: {error}"
        return outcome

    def start(self, disk):
        return self.job.pintail(disk.path / "out")

    def fill(self, pintail):
        """Waits until it stands still on a full disk. Returns the step that waits; or how it ended, if it did: refused at the lock, or done."""
        dataset, since, seen = Dataset(pintail.out), time.monotonic(), None
        while pintail.is_running():
            now = (waits_for(pintail.stderr()), dataset.last_number())
            if now != seen:
                seen, since = now, time.monotonic()
            if now[0] and time.monotonic() - since > STILL_SECONDS:
                check_visible_now(dataset)
                return step(now[0], dataset)
            if time.monotonic() - since > WAIT_SECONDS:
                raise Unexpected(f"it neither waits for room nor goes on:\n{pintail.stderr()[-2000:]}")
            time.sleep(0.02)
        code = pintail.wait()
        if code == 0:
            return NOT_FULL
        message = last_message(code, pintail.stderr())
        # The lock is taken before anything else, and nothing has been read then: there is nothing to wait with.
        if code != 75 or ("LOCK`" not in message and "make the directory" not in message):
            raise Broken(f"a full disk ended it with {code}: {message}")
        return REFUSED

    def complete(self, disk):
        """Starts it with room and lets it end."""
        disk.make_room()
        self.job.run_to_end(disk.path / "out")

    def freed(self, disk, outcome):
        with self.start(disk) as pintail:
            outcome.step = self.fill(pintail)
            if outcome.step in ENDED:
                return self.complete(disk)
            disk.make_room()
            end_well(pintail)

    def killed(self, disk, outcome):
        with self.start(disk) as pintail:
            outcome.step = self.fill(pintail)
            if outcome.step in ENDED:
                return self.complete(disk)
            pintail.signal(signal.SIGKILL)
            pintail.wait()
        check_visible_now(Dataset(disk.path / "out"))
        with self.start(disk) as pintail:
            outcome.again = self.fill(pintail)
            if outcome.again in ENDED:
                return self.complete(disk)
            disk.make_room()
            end_well(pintail)

    def terminated(self, disk, outcome):
        with self.start(disk) as pintail:
            outcome.step = self.fill(pintail)
            if outcome.step not in ENDED:
                begin = time.monotonic()
                pintail.signal(signal.SIGTERM)
                code = pintail.wait(DEADLINE_SECONDS + SLACK_SECONDS)
                took = time.monotonic() - begin
                # A start that is not open has nothing to commit, and waits no more.
                least, most = (DEADLINE_SECONDS - SLACK_SECONDS, math.inf) if is_open(pintail) else (0, SLACK_SECONDS)
                if code != 75 or not least <= took <= most:
                    raise Broken(f"SIGTERM on a full disk ended it with {code} after {took:.1f} s:\n{pintail.stderr()[-2000:]}")
                last_message(code, pintail.stderr())
                check_visible_now(Dataset(disk.path / "out"))
        self.complete(disk)

    def drained(self, disk, outcome):
        with self.start(disk) as pintail:
            outcome.step = self.fill(pintail)
            if outcome.step not in ENDED:
                pintail.signal(signal.SIGTERM)
                time.sleep(0.5)
                if not is_open(pintail):
                    return self.complete(disk)
                if not pintail.is_running():
                    raise Broken(f"SIGTERM on a full disk ended it at once:\n{pintail.stderr()[-2000:]}")
                disk.make_room()
                end_well(pintail)
                Dataset(disk.path / "out").check()
        self.complete(disk)


WAYS = {"freed": Proof.freed, "killed": Proof.killed, "terminated": Proof.terminated, "drained": Proof.drained}


def is_open(pintail):
    return "line ready" in pintail.stderr()


def end_well(pintail):
    """Waits for the end of a run that has room again."""
    code = pintail.wait(WAIT_SECONDS)
    if code != 0:
        raise Broken(f"with room again it ended with {code}:\n{pintail.stderr()[-2000:]}")
    if "writing goes on" not in pintail.stderr():
        raise Broken(f"it ended well, but never said that the disk has room again:\n{pintail.stderr()[-2000:]}")


def waits_for(log):
    """Returns the operation that the log says waits for room; None if none does."""
    waiting = Counter()
    for message in (json.loads(line) for line in log.splitlines() if re.search('the disk is full|writing goes on', line)):
        waiting[message["doing"]] += 1 if message["message"].startswith("the disk is full") else -1
    return next(iter(+waiting), None)


def step(doing, dataset):
    """Names the step that waits, from the operation and what lies on the disk."""
    private = dataset.private
    names = {path.name for path in private.iterdir()}
    if any(name.startswith("probe") for name in names):
        return f"probe: {doing}"
    if "FORMAT" not in names:
        return f"FORMAT: {doing}"
    if "KEY" not in names:
        return f"KEY: {doing}"
    if dataset.last_number() == 0:
        return f"open record: {doing}"
    if list(private.glob("commits/**/*.inprogress")):
        return f"record: {doing}"
    staged = dataset.staged()
    if not staged:
        return f"{'new staging or start' if doing == 'mkdir' else 'start'}: {doing}"
    if dataset.unpublished_by(dataset.last()):
        return f"publish: {doing}"
    return f"{'directories of the commit' if doing == 'mkdir' else 'staging'}: {doing}"


def cases(proof, arguments, generator):
    """Spreads the sizes over all that are too small; a third of them lack inodes."""
    needed = {disk: proof.needed(disk) for disk in arguments.disks}
    for disk, (blocks, inodes) in needed.items():
        print(f"the job takes {blocks} blocks and {inodes} inodes on {disk.__name__.lower()}")
    ways = itertools.cycle(["freed", "killed", "freed", "terminated", "freed", "drained", "freed"])
    disks = itertools.cycle(arguments.disks)
    few_inodes = arguments.sizes // 3
    # Up to nine tenths of what the job takes: how many checkpoints it makes, and so its size, varies from run to run.
    chosen = [Case(mounts.Tmpfs, "inodes", room, next(ways))
              for room in spread(3, needed[mounts.Tmpfs][1] * 9 // 10, few_inodes, generator)]
    for share in spread(0, 900, arguments.sizes - few_inodes, generator):
        disk = next(disks)
        chosen.append(Case(disk, "pages", 1 + needed[disk][0] * share // 1000, next(ways)))
    return chosen


def spread(first, end, count, generator):
    """Returns `count` numbers of the range, one at random from each of as many equal parts."""
    return [first + int((end - first) * (part + generator.random()) / count) for part in range(count)]


def prove(arguments, work):
    begin = time.monotonic()
    generator = random.Random(arguments.seed)
    proof = Proof(arguments.pintail, work)
    chosen = cases(proof, arguments, generator)
    print(f"seed {arguments.seed}: {len(chosen)} disks", flush=True)
    # The longest first: SIGTERM waits for the deadline.
    chosen.sort(key=lambda case: case.way != "terminated")
    with Workers(arguments.jobs) as pool:
        outcomes = list(pool.map(proof.run, chosen))
    print(f"\n{'stuck at':40}" + "".join(f"{way:>12}" for way in WAYS) + f"{'recovered':>12}")
    for name in sorted({outcome.step for outcome in outcomes}):
        group = [outcome for outcome in outcomes if outcome.step == name]
        counts = Counter(outcome.case.way for outcome in group)
        sound = "no" if any(outcome.broken for outcome in group) else "all"
        print(f"{name:40}" + "".join(f"{counts[way] or '':>12}" for way in WAYS) + f"{sound:>12}")
    again = Counter(outcome.again for outcome in outcomes if outcome.again)
    print("started again on the full disk, stuck at: " + ", ".join(f"{name} ({count})" for name, count in again.most_common()))
    stuck = [outcome for outcome in outcomes if outcome.step not in ENDED]
    broken = [outcome.broken for outcome in outcomes if outcome.broken]
    print(f"\n{len(outcomes)} disks, {len(stuck)} were waited for, {len(broken)} broken, {time.monotonic() - begin:.0f} s")
    untried = [way for way in WAYS if not any(outcome.case.way == way for outcome in stuck)]
    if untried or len(stuck) < len(outcomes) // 2:
        broken.append(f"too little was proven: {len(stuck)} of {len(outcomes)} disks were waited for; never tried while waiting: {untried}")
    return broken


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pintail", type=Path, default=default_binary(), help="the binary (default: %(default)s)")
    parser.add_argument("--sizes", type=int, default=12, help="how many disks (default: %(default)s)")
    parser.add_argument("--ext4", action="store_true", help="every third disk an ext4 image, for root")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32), help="of the sizes (default: a new one, printed)")
    parser.add_argument("--jobs", type=int, default=4, help="disks side by side (default: %(default)s)")
    parser.add_argument("--work", type=Path, help="directory to work in (default: a temporary one)")
    arguments = parser.parse_args()
    mounts.enter_namespace()
    arguments.disks = [mounts.Tmpfs, mounts.Ballast] + [mounts.Ext4] * arguments.ext4
    conclude(prove, arguments, "disk-full")


if __name__ == "__main__":
    main()
