#!/usr/bin/env python3
"""Cuts the power under Pintail, over and over, on a disk that forgets what was not made durable; then counts whether anything is lost or doubled.

    python3 tests/proof/power.py                       10 cuts with each source, and disks that lie: below a minute
    nice python3 tests/proof/power.py --cuts 100       the long form: a hundred with each source

The disk is a file system in user space (forgetful.py; needs /dev/fuse, and root or user namespaces). Each cut comes at a change that the seed
names, such as the fifth after the second commit record got its name; no operation after it is carried out. The process is killed, what
is left of the disk is drawn from all that the crash model allows, and the next process starts on that. One mount in three knows no rename
without replacing, so that Pintail links and unlinks there.

After each cut what had been acknowledged must be there: checkpoints that the log calls committed, and requests that were answered with 200.
A disk that lies, that is, answers some kind of fsync and does nothing, must be found out, or this would prove nothing.

Owns: the cuts, what was acknowledged, the histogram.
Does not own: what a cut leaves of a disk (forgetful.py), what must hold then (witness.py, oracle.py), the clients that push (push.py).
"""
import interpreter  # noqa: F401  first: it may start this command again under another Python

import contextlib
import json
import os
import random
import signal
import time
from collections import Counter

import job
import mounts
import oracle
import push
from forgetful import Power
from kill_loop import check_whole
from process import Pintail, Unexpected
from reference import Reference
from trial import MULTIPLE
from witness import LABELS, ROLL_FORWARD, Witness

SIMULATOR = {
    "source.type": "simulator", "source.start_time": "2026-01-01T00:00:00Z", "source.rate": 30_000, "log.format": "json",
    "pipeline.out_path": "out", "pipeline.checkpoint_interval": "50ms", "pipeline.batch_rows": 2_000,
}
PUSH = push.SETTINGS | {"log.format": "json", "pipeline.checkpoint_interval": "100ms"}
RECORD = r"^\d{10}\.json$"
MOMENTS = (
    # Kind, most changes, after the k-th name that matches.
    ("start", 60, "", 0),
    ("any time", 400, "", 0),
    ("record", 16, RECORD, 4),
    ("staging", 40, r"^\d{10}(-\d+)?$", 4),
    ("record", 16, RECORD, 2),
)
PATIENCE_SECONDS = 3
"""A cut that has not come by then is made."""
LIES = {
    "every directory": r"^(?!.*\.(inprogress|parquet|json)$)", "every file": r"\.inprogress$|/LOCK$|/journal/.",
    "directories of commit records": r"/commits/\d+$", "directories of hive partitions": r"region=[^/]*$", "staging": r"/staging/[\d-]+$",
}
LIE_CUTS = 40
"""So many cuts must find out each lie."""


class Cutter:
    """Starts Pintail and cuts the power, at moments that the seed names."""

    def __init__(self, options, power, settings, seed):
        self.options, self.power, self.settings, self.moments = options, power, settings, random.Random(seed)
        self.dataset = oracle.Dataset(power.path / "out")
        self.acknowledged = 0
        """The last checkpoint that a log has called committed."""
        self.found, self.torn, self.counts = Counter(), Counter(), Counter()

    def cut(self, number, started=lambda process: None):
        """Lets a process live until the power goes. Returns a line that says when that was, and what it left."""
        kind, most, name, times = MOMENTS[number % len(MOMENTS)]
        changes, after = self.moments.randint(1, most), self.moments.randint(1, times) if times else 0
        self.power.arm(changes, name, after)
        with Pintail(self.options.pintail, self.settings, self.power.path) as process:
            end, cut = time.monotonic() + PATIENCE_SECONDS, False
            while not cut and time.monotonic() < end:
                cut = self.power.is_cut(0.02)
                started(process)
                if not cut and not process.is_running():
                    raise Unexpected(f"it ended by itself with {process.child.returncode}:\n{process.stderr()[-2000:]}")
            if not cut:
                self.power.cut()
                self.counts["late"] += 1
            process.signal(signal.SIGKILL)
            links = self.moments.random() < 1 / 3
            left = self.power.renew(self.moments.getrandbits(32), links)
            process.wait()
            self.acknowledged = max(self.acknowledged, committed(process.stderr()))
        self.check_acknowledged()
        self.counts["something pending"] += bool(left["pending"] or left["torn"])
        self.counts["something lost"] += left["pending"] > left["reached"] or left["torn"].keys() - {"all"} != set()
        self.counts["links"] += links
        self.torn.update(left["torn"])
        when = f"change {changes}" + (f" after {kind} {after}" if times else "")
        torn = ", ".join(f"{count} {how}" for how, count in left["torn"].items())
        return f"{kind:9} {when:25} {left['reached']:3} of {left['pending']:3} names through, bytes: {torn or '-':30}"

    def check_acknowledged(self):
        """Checks that each checkpoint that was called committed is there, with all of its files."""
        if self.dataset.last_number() < self.acknowledged:
            raise oracle.Broken(f"checkpoint {self.acknowledged} was committed, after the cut the last is {self.dataset.last_number()}")
        if self.acknowledged:
            for file in self.dataset.record(self.acknowledged)["files"]:
                oracle.check_file(self.dataset.path, self.acknowledged, file)

    def print(self, cuts):
        print(f"{cuts} cuts: {self.counts['something pending']} with something pending, {self.counts['something lost']} lost some of it, "
              f"{self.counts['links']} mounts without a rename that does not replace; bytes not durable: {dict(self.torn)}")
        if self.found:
            print("what the restarts found: " + ", ".join(f"{label} {self.found[label]}" for label in LABELS))

    def faults(self, cuts):
        """Names what makes these cuts no proof, though nothing was broken."""
        if self.counts["something lost"] * 4 < cuts:
            yield f"only {self.counts['something lost']} of {cuts} cuts lost anything"
        if self.counts["late"] * 2 > cuts:
            yield f"{self.counts['late']} of {cuts} cuts did not come where they were to"


def committed(log):
    """Returns the last checkpoint that a log calls committed; 0 if there is none. The last line may be torn."""
    last = 0
    for line in log.splitlines():
        if "checkpoint committed" in line:
            with contextlib.suppress(ValueError):
                last = json.loads(line)["seq"]
    return last


def simulated(options, work, cuts, lie=None, quiet=False):
    """Cuts under the simulator. Returns why they prove nothing, if so."""
    begin, settings = time.monotonic(), SIMULATOR | {"source.seed": options.seed}
    work.mkdir()
    with Power(work / "disk", lie) as power:
        cutter = Cutter(options, power, settings, options.seed)
        reference = Reference(options.pintail, work, {k: settings[k] for k in ("source.type", "source.start_time", "source.seed")})
        witness = Witness(cutter.dataset, reference, staging_returns=True)
        for number in range(cuts):
            told = cutter.cut(number)
            left = witness.look()
            cutter.found[left.label] += 1
            if not quiet:
                print(f"{number + 1:4} {told} events {left.offset:8}; left: {left.label}", flush=True)
        end = (left.offset // MULTIPLE + 1) * MULTIPLE
        Pintail(options.pintail, settings | {"source.rate": 0, "source.limit": end}, power.path).run(timeout=600)
        check_whole(options, power.path, cutter.dataset, reference, end)
        if quiet:
            return []
        cutter.print(cuts)
        print(f"{end} events, each once: `pintail verify`, the oracle and an undisturbed run agree; {time.monotonic() - begin:.0f} s\n", flush=True)
        rolled = sum(cutter.found[label] for label in ROLL_FORWARD)
        return [*cutter.faults(cuts), *([f"only {rolled} restarts had to roll forward"] if rolled * 10 < cuts else [])]


def pushed(options, work, cuts):
    """Cuts while clients push to a journal on the same disk. Returns why they prove nothing, if so."""
    begin, clients = time.monotonic(), push.Clients(options.seed)
    work.mkdir()
    with Power(work / "disk") as power:
        cutter = Cutter(options, power, PUSH, options.seed + 1)
        for thread in clients.threads:
            thread.start()

        def address(process):
            if found := push.ADDRESS.search(process.stderr()):
                clients.address = found[1], int(found[2])

        for number in range(cuts):
            told = cutter.cut(number, address)
            answered = sum(accepted for _, accepted in list(clients.receipts.values()))
            offset = cutter.dataset.next_offset()
            print(f"{number + 1:4} {told} answered {answered:8}, committed {offset:8}", flush=True)
        events = push.finish(options, power.path, clients, PUSH)
        cutter.print(cuts)
        print(f"{events} events in {len(clients.receipts)} requests, each once, none that was answered with 200 lost; answers "
              f"{dict(clients.statuses)}; {time.monotonic() - begin:.0f} s\n", flush=True)
        return list(cutter.faults(cuts))


def lies(options, work, chosen):
    """Runs on disks that lie. Returns which were not found out."""
    for number, what in enumerate(chosen):
        begin = time.monotonic()
        try:
            simulated(options, work / f"lie-{number}", LIE_CUTS, LIES[what], quiet=True)
        except (oracle.Broken, Unexpected) as found:
            first, _, _ = str(found).strip().partition("\n")
            print(f"a disk that ignores fsync of {what} is found out in {time.monotonic() - begin:.0f} s: {first[:150]}", flush=True)
        else:
            yield f"a disk that ignores fsync of {what} is not found out by {LIE_CUTS} cuts"


def prove(options, work):
    run = {"simulator": simulated, "push": pushed}
    for source in options.sources:
        print(f"{source}:", flush=True)
        yield from run[source](options, work / source, options.cuts)
    yield from lies(options, work, options.lying)


def arguments():
    parser = job.parser(__doc__)
    add = parser.add_argument
    add("--cuts", type=int, metavar="N", default=10, help="with each source (%(default)s)")
    add("--sources", metavar="SOURCE,...", default="simulator,push", help="of these (%(default)s); none: only the lies")
    add("--lying", metavar="WHAT,...", help=f"disks that lie, of {', '.join(map(repr, LIES))} (the first two; all from 100 cuts on); none: no such disk")
    options = job.parse(parser)
    options.sources = [source for source in options.sources.split(",") if source != "none"]
    whole = list(LIES) if options.cuts >= 100 else list(LIES)[:2]
    options.lying = whole if options.lying is None else [what for what in options.lying.split(",") if what != "none"]
    if options.cuts < 1:
        parser.error("it takes at least one cut")
    if {*options.sources} - {"simulator", "push"} or {*options.lying} - LIES.keys():
        parser.error("there is no such source, or no such lie")
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        parser.error("it takes /dev/fuse")
    return options


def main():
    options = arguments()
    mounts.enter_namespace()
    print(f"power: {options.cuts} cuts, --seed {options.seed}", flush=True)
    job.conclude(prove, options, "power")


if __name__ == "__main__":
    main()
