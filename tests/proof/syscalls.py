#!/usr/bin/env python3
"""Kills the binary, or fails it with EIO or ENOSPC, at the n-th of each system call that it makes on a dataset; then starts it again.

    python3 tests/proof/syscalls.py               a sample of all calls, each kind with each fault: a minute
    python3 tests/proof/syscalls.py --all         every n = 1, 2, … of each kind with each fault, until a run in which nothing was left
                                                  to inject into: 20 minutes on two cores

Four starts are swept: one without a dataset, one on a dataset whose input has grown, one that finds a checkpoint that was staged and not
recorded, and one that finds a checkpoint of which some files are published and others not. First `strace` lists the calls that the binary
really makes; one that this sweep does not know is a failure. After each fault: no panic, a documented exit code, one clear last line; no
file visible that is not whole; after a start without fault everything is there once, the dead letters too.

Owns: the starts, the cases, what must hold after each, the table.
Does not own: how a fault is injected (see injection.py), what a sound dataset is (see oracle.py).
"""
import interpreter  # noqa: F401  first: it may start this command again under another Python

import argparse
import itertools
import random
import re
import shutil
import sys
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

from injection import CALLS, CHANGING, FAULTS, KILL, LASTING, Interposer, supported
from job import WAIT_SECONDS, Job, Workers, check_visible_now, conclude, last_message
from oracle import Broken, Dataset, is_checkpoint, staged_as
from process import Unexpected, default_binary

UNTOUCHED = {"close", "fcntl", "dup", "ioctl", "fadvise64", "munmap", "execve", "chdir", "getcwd", "poll", "epoll_ctl"}
"""Calls on paths of the dataset that change nothing there and whose failure nobody can act upon."""
BY_THE_CLOCK = {"utimensat"}
"""Calls of the sign of life: a run that is over in no time may make none."""
TRIES = 3
"""The number of checkpoints, and so of calls, varies a little from run to run."""


@dataclass(frozen=True)
class Case:
    start: str
    call: str
    fault: str
    n: int

    def __str__(self):
        return f"{self.fault} at {self.call} {self.n}, {self.start}"


@dataclass(frozen=True)
class Outcome:
    case: Case
    hit: "object | None"
    seen: int
    code: "int | None"
    broken: "str | None"


class Sweep:
    def __init__(self, binary, work):
        self.work, self.prepared = work, work / "prepared"
        self.numbers = itertools.count(1)
        self.job = Job(binary, work)
        self.starts = {"fresh": None, "grown input": self.job.run_to_end(self.prepared / "grown", "00[01].ndjson")}
        self.starts["before record"] = self.prepare_killed(lambda published: published is None)
        self.starts["in publication"] = self.prepare_killed(lambda published: published and 0 < published[0] < published[1])

    def prepare_killed(self, wanted):
        """Makes a dataset by kills at one rename after the other, until one left what is wanted: of the files of the unfinished checkpoint,
        how many are published, and how many there are; None if it has no record yet."""
        for n in range(1, 50):
            out = self.fresh("grown input")
            with Interposer("renameat2", KILL, n, [out]) as injected, self.job.pintail(out, prefix=injected.prefix) as pintail:
                pintail.wait(WAIT_SECONDS)
            dataset = Dataset(out)
            records = dataset.records()
            for staged in dataset.staged():
                files = records[-1]["files"] if is_checkpoint(records[-1]) and staged_as(records[-1]) == staged else None
                if wanted(files and (sum((out / file["path"]).exists() for file in files), len(files))):
                    return out
            shutil.rmtree(out.parent)
        raise Broken("no kill at a rename left what a start is to find")

    def list_calls(self, start):
        """Returns how often each call is made, and how often on a path of the dataset."""
        out, log = self.fresh(start), self.work / "strace.log"
        with self.job.pintail(out, prefix=("strace", "-f", "-y", "-qq", "-s", "4096", "-o", log)) as pintail:
            code = pintail.wait(WAIT_SECONDS)
        if code != 0:
            raise Unexpected(f"under strace it ended with {code}:\n{pintail.stderr()[-2000:]}")
        everywhere, here = Counter(), Counter()
        for entry in log.read_text(errors="replace").splitlines():
            if called := re.match(r"\d+ +(\w+)\((.*)", entry):
                everywhere[called[1]] += 1
                here[called[1]] += str(out) in called[2]
        shutil.rmtree(out.parent)
        return everywhere, +here

    def fresh(self, start):
        """Makes the directory of one case, with the dataset that its start finds. Returns the dataset's path."""
        out = self.work / f"case-{next(self.numbers)}" / "out"
        out.parent.mkdir()
        if prepared := self.starts[start]:
            shutil.copytree(prepared, out)
        return out

    def run_sampled(self, case):
        """Runs a case. A run with fewer checkpoints than the one that was listed may end before call n: then at its last such call."""
        outcome = self.run(case)
        for _ in range(TRIES):
            if outcome.hit or outcome.broken:
                break
            outcome = self.run(replace(case, n=max(1, outcome.seen)))
        return outcome

    def run(self, case):
        """Injects one fault, starts again, and says what is broken."""
        out, code, injected = self.fresh(case.start), None, None
        try:
            with Interposer(case.call, case.fault, case.n, [out]) as injected, self.job.pintail(out, prefix=injected.prefix) as pintail:
                code = pintail.wait(WAIT_SECONDS)
            if injected.hit:
                check_end(case, injected.hit, code, pintail.stderr())
            elif code != 0:
                raise Broken(f"nothing was injected, and it ended with {code}")
            check_visible_now(Dataset(out))
            # A start that could not take its count away is not at rest.
            if code != 0 or (out / "_pintail/ATTEMPTS").exists():
                self.job.run_to_end(out)
            self.job.check_complete(out)
        except (Broken, Unexpected, RuntimeError) as error:
            where = f" ({injected.hit.path.replace(str(out.parent) + '/', '')})" if injected and injected.hit else ""
            return Outcome(case, injected and injected.hit, injected.seen if injected else 0, code, f"{case}{where}: {error}")
        finally:
            shutil.rmtree(out.parent)
        return Outcome(case, injected.hit, injected.seen, code, None)


def check_end(case, hit, code, log):
    """Checks the exit code and the last line of a run that was hit."""
    if case.fault == KILL:
        if code != -9:
            raise Broken(f"it was killed and ended with {code}")
        return
    if code not in expected_codes(case, hit):
        raise Broken(f"it ended with {code}, expected {expected_codes(case, hit)}:\n{log[-2000:]}")
    if code == 0:
        return
    message = last_message(code, log)
    named = re.findall("`([^`]+)`", message)
    if "os error" not in message or message.count("os error") > 1 or not any(is_in_dataset(name, hit.path) for name in named):
        raise Broken(f"its last line must name what failed, {hit.path}, and say the cause once: {message}")


def is_in_dataset(name, hit_path):
    """Whether a name in a message is a path of the dataset, whole or from its root on."""
    return name.startswith(hit_path.partition("/out")[0] + "/out") or name.startswith(("region=", "_pintail/"))


def expected_codes(case, hit):
    """What docs/guarantees.md promises: an I/O error stops (74), a full disk is waited for (0)."""
    if case.call == "utimensat":
        # The sign of life for `pintail health`: a warning.
        return {0, 74} if case.fault == LASTING else {0}
    if hit.path.endswith(("/_pintail/ATTEMPTS", "/_pintail/HELD")):
        # The count of starts, and what is said to be held back: a warning.
        return {0, 74} if case.fault == LASTING else {0}
    if case.call == "openat" and case.fault != "ENOSPC" and not is_made(hit.path):
        # It may be the look at the dataset for the page, beside the start: a warning.
        return {0, 74}
    if case.fault != "ENOSPC":
        return {74} if case.call in CHANGING else {0, 74}
    if case.call in ("fsync", "fdatasync") and not hit.is_directory:
        # Never tried again on the same file: the kernel forgets the pages.
        return {75}
    if hit.path.endswith("/_pintail/LOCK") or (case.call == "mkdir" and hit.path.endswith(("/out", "/_pintail"))):
        # The lock is taken before anything is read: there is nothing yet that would wait.
        return {75}
    # Opening in order to read never asks for room; should that fail so all the same, 75 is no wrong end.
    return {0, 75} if case.call == "openat" else {0}


def is_made(path):
    """Whether a path is opened only by whoever makes it."""
    return "/_pintail/staging/" in path or path.endswith((".inprogress", "/_pintail/LOCK"))


def faults_for(call):
    return list(FAULTS) if call in CHANGING else [KILL, "EIO"]


def sample(kinds, count, generator):
    """Chooses cases: each kind of call with each fault once, the rest at random."""
    every = defaultdict(list)
    for (start, call), calls in kinds.items():
        for fault in faults_for(call):
            every[call, fault] += (Case(start, call, fault, n) for n in range(1, calls + 1))
    chosen = [generator.choice(cases) for cases in every.values()]
    rest = sorted(set().union(*every.values()) - set(chosen), key=str)
    # Half of what is left at the calls that change the disk: they are what a commit is made of.
    weights = [4 if case.call in CHANGING else 1 for case in rest]
    more = dict.fromkeys(generator.choices(rest, weights, k=max(0, count - len(chosen))))
    return chosen + list(more)


def sweep_all(sweep, pool, kinds):
    """Runs n = 1, 2, … of each kind and fault, until nothing was injected; up to what strace counted, that is not believed at once."""
    def one(start, call, fault):
        outcomes = []
        for n in itertools.count(1):
            for _ in range(TRIES if n <= kinds[start, call] else 1):
                outcomes.append(sweep.run(Case(start, call, fault, n)))
                if outcomes[-1].hit:
                    break
            else:
                break
            if pool.ended:
                break
        print(f"{start}: {call}, {fault}: {sum(o.hit is not None for o in outcomes)} injected", flush=True)
        return outcomes
    futures = [pool.submit(one, start, call, fault) for start, call in kinds for fault in faults_for(call)]
    return [outcome for future in futures for outcome in future.result()]


def print_calls(listed):
    print("\nsystem calls by strace: all, and those on the dataset\n")
    names = sorted({name for _, here in listed.values() for name in here}, key=lambda name: (name not in CHANGING, name))
    starts = list(listed)
    print(f"{'call':16}" + "".join(f"{start:>20}" for start in starts))
    for name in names:
        cells = (f"{listed[start][0][name]} / {listed[start][1][name]}" for start in starts)
        print(f"{name:16}" + "".join(f"{cell:>20}" for cell in cells) + ("" if name in CALLS else "   not injected into"))


def print_outcomes(outcomes):
    groups = defaultdict(list)
    for outcome in outcomes:
        groups[outcome.case.call, outcome.case.fault].append(outcome)
    print(f"\n{'call':14}{'fault':14}{'injected':>9}  {'exit codes':30}all recovered")
    for (call, fault), group in sorted(groups.items(), key=lambda item: (item[0][0] not in CHANGING, item[0])):
        hits = [outcome for outcome in group if outcome.hit]
        codes = Counter(outcome.code for outcome in hits)
        told = ", ".join(f"{code}: {count}" for code, count in sorted(codes.items(), key=str))
        print(f"{call:14}{fault:14}{len(hits):9}  {told:30}{'no' if any(outcome.broken for outcome in group) else 'yes'}")
    return [key for key, group in groups.items() if not any(outcome.hit for outcome in group)]


def prove(arguments, work):
    begin = time.monotonic()
    sweep = Sweep(arguments.pintail, work)
    listed = {start: sweep.list_calls(start) for start in sweep.starts}
    print_calls(listed)
    unknown = {name for _, here in listed.values() for name in here} - CALLS.keys() - UNTOUCHED
    if unknown:
        raise Broken(f"the binary makes calls on the dataset that the sweep does not know: {sorted(unknown)}")
    wanted = set(arguments.calls.split(",")) if arguments.calls else CALLS.keys()
    kinds = {(start, call): count for start, (_, here) in listed.items() for call, count in here.items() if call in wanted & CALLS.keys()}
    with Workers(arguments.jobs) as pool:
        if arguments.all:
            outcomes = sweep_all(sweep, pool, kinds)
        else:
            cases = sample(kinds, arguments.cases, random.Random(arguments.seed))
            total = sum(count * len(faults_for(call)) for (_, call), count in kinds.items())
            print(f"\nseed {arguments.seed}: {len(cases)} of {total} cases", flush=True)
            outcomes = list(pool.map(sweep.run_sampled, cases))
    never = print_outcomes(outcomes)
    broken = [outcome.broken for outcome in outcomes if outcome.broken]
    hits = sum(outcome.hit is not None for outcome in outcomes)
    print(f"\n{hits} faults injected into {len({o.case.call for o in outcomes if o.hit})} kinds of calls, {len(broken)} broken, "
          f"{time.monotonic() - begin:.0f} s")
    missed = [f"nothing was injected into {call} ({fault})" for call, fault in never if call not in BY_THE_CLOCK]
    return broken + missed + ["nothing was injected"] * (hits == 0)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pintail", type=Path, default=default_binary(), help="the binary (default: %(default)s)")
    parser.add_argument("--all", action="store_true", help="every call, not a sample")
    parser.add_argument("--calls", metavar="CALL,...", help="only these calls, such as fsync,renameat2 (default: all that strace lists)")
    parser.add_argument("--cases", type=int, default=60, help="size of the sample (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32), help="of the sample (default: a new one, printed)")
    parser.add_argument("--jobs", type=int, default=4, help="cases side by side (default: %(default)s)")
    parser.add_argument("--work", type=Path, help="directory to work in (default: a temporary one)")
    arguments = parser.parse_args()
    if why := supported() or (None if shutil.which("strace") else "strace is missing: apt-get install strace"):
        sys.exit(why)
    conclude(prove, arguments, "syscalls")


if __name__ == "__main__":
    main()
