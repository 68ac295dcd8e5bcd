#!/usr/bin/env python3
"""Gives Pintail input that is too much of something, and holds it to its limits: a clear dead letter or refusal, in bounded memory and time.

    python3 tests/proof/limits.py                       the short form: a 1 GiB line, smaller bombs; less than a minute
    python3 tests/proof/limits.py --full                bombs of 10 GiB, a million of everything
    python3 tests/proof/limits.py --only line-gz deep   some cases

Each case is one run of the real binary. Checked are the exit code, what was said (in the log, or as the reason of dead letters), rows and dead
letters, the dataset as a whole (see oracle.py), the peak of the process' memory (`ru_maxrss`) against the bound of the case, and the time.

Owns: the cases, what each must come to, the table.
Does not own: the inputs (see too_much.py), reading a dataset (see oracle.py), the process (see process.py).
"""
import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import process
from letters import read_letters
from process import Pintail
from too_much import Inputs

HERE = Path(__file__).resolve().parent
MIB = 1 << 20
GIB = 1 << 30

TOO_LONG = "is longer than `source.record_bytes_max`"
TOO_DEEP = "nested deeper than 127 objects and arrays"
RATIO = "were rejected, more than dead_letters.ratio_max"


class Failure(Exception):
    """A limit that did not bite, or bit too hard."""


@dataclass(frozen=True)
class Case:
    what: str
    config: dict
    peak: int
    """MiB."""
    said: tuple = ()
    """What the log has; where something is committed, what the reasons of dead letters have."""
    exit: int = 0
    rows: int | None = None
    """None: nothing is committed."""
    letters: int = 0
    groups: int | None = None
    """Most groups in a line of the log."""
    command: tuple = ()
    """Another command than `run`."""
    arguments: tuple = ()
    piped: Path | None = None
    """A file that comes through a pipe."""
    seconds: int = 60


def cases(inputs, full):
    """Yields each case's name and what makes it, with its inputs, when it is its turn."""
    many = 1_000_000 if full else 100_000
    bomb = (10 if full else 1) * GIB
    slow = 15 * 60 if full else 60

    def reading(path, more=None):
        return {"source.type": "file", "source.path": str(path)} | (more or {})

    too_long = dict(said=(f"a record of {GIB + 1} bytes {TOO_LONG}",), rows=2, letters=1, peak=160)
    yield "line", lambda: Case("a line of 1 GiB in a file", reading(inputs.line(GIB)), **too_long)
    yield "line-stdin", lambda: Case("the same through a pipe", {"source.type": "stdin"}, piped=inputs.line(GIB), **too_long)
    yield "line-gz", lambda: Case("the same in a .gz of 1 MiB", reading(inputs.line_gz(GIB)), **too_long)
    yield "line-zst", lambda: Case("the same in a .zst of 32 KiB", reading(inputs.line_zst(GIB)), **too_long)
    yield "infer", lambda: Case("`pintail infer` of it", {}, command=("infer", str(inputs.line_first(GIB))), exit=78, peak=160,
                                said=("a line of the sample is longer than 16777216 bytes",))

    def bomb_of(make, size, what, **more):
        path, lines = make(size)
        return lines, Case(f"{lines:,} {what} in a .gz of {path.stat().st_size / MIB:.2f} MiB", reading(path), seconds=slow, **more)

    def good_bomb():
        lines, case = bomb_of(inputs.bomb, bomb, "good records of 1 KB", peak=512)
        return replace(case, rows=lines)

    def bad_bomb():
        lines, case = bomb_of(inputs.bad_bomb, 2 * many, "broken lines", peak=256, exit=65)
        return replace(case, said=(f"{lines} of {lines} records {RATIO}",))

    yield "bomb", good_bomb
    yield "bomb-blank", lambda: bomb_of(inputs.blank_bomb, bomb // 16, "blank lines", rows=0, peak=160)[1]
    yield "bomb-bad", bad_bomb
    yield "zst-window", lambda: Case("a .zst that asks for a window of 2 GiB", reading(inputs.window_zst()), exit=74, said=("memory",), peak=160)

    deep = 10**6
    yield "deep", lambda: Case("arrays and objects 1e6 deep, closed and not", reading(inputs.deep(deep), {"source.record_bytes_max": "16MiB"}),
                               said=(TOO_DEEP,), rows=2, letters=4, peak=256)
    yield "deep-default", lambda: Case("the same with the default limits", reading(inputs.deep(deep)), said=(TOO_LONG, TOO_DEEP), rows=2, letters=4, peak=160)

    yield "values", lambda: Case(f"{many:,} distinct partition values", reading(inputs.regions(many)), exit=65,
                                 said=(f"{many - 1000} of {many} records {RATIO}",), peak=768, seconds=slow)
    yield "values-kept", lambda: Case("the same, any number of dead letters allowed", reading(inputs.regions(many), {"dead_letters.ratio_max": 1.0}),
                                      said=("is one more than the 1000 of sink.partitions_max in one checkpoint",), rows=1000, letters=many - 1000,
                                      peak=768, seconds=slow)
    yield "groups", lambda: Case(f"{many:,} distinct groups of the monitor",
                                 reading(inputs.regions(many), {"sink.partition_by": [], "monitor.group_by": "region"}), rows=many, groups=20, peak=512)

    within = [("timestamp", "int64", None), ("region", "text", None), *((f"k{n}", "int64", f"within.k{n}") for n in range(50))]
    sql = 'SELECT epoch_ms("timestamp") AS ts, region, k7 FROM events'
    yield "keys", lambda: Case("1,000,000 keys in a record, in an object, one key 1,000,000 times; 50 nested columns",
                               reading(inputs.keys(10**6), {"source.record_bytes_max": "64MiB", "pipeline.batch_bytes_max": "64MiB"}),
                               arguments=("--config", str(inputs.config("keys", within, sql))), rows=4, peak=1024)
    yield "keys-default", lambda: Case("the same with the default limits", reading(inputs.keys(10**6)), said=(TOO_LONG,), rows=1, letters=3, peak=160)
    yield "keys-other", lambda: Case(f"{many:,} records, each with a key of its own", reading(inputs.other_keys(many)), rows=many, peak=512)

    name = "k" * 65_535
    columns = [("timestamp", "int64", None), ("region", "text", None), (name, "int64", None)]
    sql_of_key = f'SELECT epoch_ms("timestamp") AS ts, region, "{name}" AS k FROM events'
    yield "key-long", lambda: Case("a key of 65,535 bytes, declared, and another", reading(inputs.long_key(name)), rows=2, peak=160,
                                   arguments=("--config", str(inputs.config("long-key", columns, sql_of_key))))

    def numbers():
        path, good, bad = inputs.numbers()
        return Case("1e400, 1e999999999999, 100,000 digits", reading(path), rows=good, letters=bad, peak=160,
                    said=("column `amount`: expected float64, got ", "column `user_id`: expected int64, got "))

    yield "numbers", numbers
    yield "sql-long", lambda: Case("SQL of 100 MB", {"transform.sql_file": str(inputs.sql_long())}, exit=78, peak=96,
                                   said=("cannot read it: it has more than 1048576 bytes",))
    yield "sql-deep", lambda: Case("SQL of 20,000 subqueries in each other", {"transform.sql_file": str(inputs.sql_deep(20_000))}, exit=78, peak=96,
                                   said=("it has more than 1000 parentheses inside each other",))
    yield "sql-wide", lambda: Case("SQL of 250,000 terms", {"transform.sql_file": str(inputs.sql_wide())}, exit=78, peak=768, said=("cannot be parsed",))
    yield "config-long", lambda: Case("a configuration of 100 MB", {}, arguments=("--config", str(inputs.config_long())), exit=78, peak=96,
                                      said=("it has more than 4194304 bytes",))
    yield "config-deep", lambda: Case("`--set` with a key of 50,000 names", {".".join(["a"] * 50_000): 1}, exit=78, peak=96,
                                      said=("unknown key, of 50000 names inside each other",))


@dataclass(frozen=True)
class Result:
    name: str
    case: Case
    code: int
    said: str
    peak: float
    seconds: float
    faults: list


def run(name, case, binary, directory):
    config = {"pipeline.out_path": "out"} | ({} if "source.type" in case.config else {"source.limit": 1000, "source.rate": 0}) | case.config
    command = case.command or ("run", *case.arguments)
    with subprocess.Popen(["cat", case.piped], stdout=subprocess.PIPE) if case.piped else contextlib.nullcontext() as feeder:
        pintail = Pintail(binary, {} if case.command else config, directory, command=command, stdin=feeder.stdout if feeder else subprocess.DEVNULL)
        pintail.start()
        code, peak = measured(name, pintail, case)
    seconds = time.monotonic() - pintail.started
    said, faults = check(case, pintail, code, directory / "out")
    if peak > case.peak:
        faults.append(f"{peak:.0f} MiB, at most {case.peak} expected")
    return Result(name, case, code, said, peak, seconds, faults)


def measured(name, pintail, case):
    """Waits for the end. Returns the exit code and the peak of its memory in MiB; ends it when it takes far too much of anything.

    The peak is no less than that of this process, whose memory a child begins with: nothing large is made here.
    """
    pid, end = pintail.child.pid, time.monotonic() + case.seconds
    while True:
        done, status, usage = os.wait4(pid, os.WNOHANG)
        if done:
            pintail.child.returncode = os.waitstatus_to_exitcode(status)
            process.running.discard(pintail)
            return pintail.child.returncode, usage.ru_maxrss / 1024
        if time.monotonic() > end or resident(pid) > 4 * case.peak:
            pintail.end()
            raise Failure(f"{name}: ended by force after {case.seconds} s or {4 * case.peak} MiB:\n{pintail.stderr()[-2000:]}")
        time.sleep(0.01)


def resident(pid):
    """Returns the resident memory in MiB; 0 when the process has just ended."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / MIB
    except (FileNotFoundError, IndexError, ProcessLookupError):
        return 0


def check(case, pintail, code, out):
    """Returns what was said, and what is not as it must be."""
    faults, log = [], pintail.stderr()
    if code != case.exit:
        faults.append(f"exit code {code}, {case.exit} expected: {log[-500:]}")
    reasons, letters, rows = Counter(), 0, None
    if case.rows is None:
        said = last_line(log)
        faults += [f"the log lacks {needle!r}: {said[:300]}" for needle in case.said if needle not in log]
        if any("trigger" in record for record in read_records(out)):
            faults.append("something was committed")
    else:
        rows = sum(record["counts"]["rows_out"] for record in read_records(out))
        for path in sorted((out / "_pintail/dead_letters").glob("*.ndjson")):
            for letter in read_letters(path):
                letters += 1
                reasons[next((needle for needle in case.said if needle in letter["reason"]), letter["reason"])] += 1
        said = "; ".join(f"{count:,} × {reason}" for reason, count in reasons.items()) or "–"
        faults += [f"unexpected reason: {reason[:200]}" for reason in reasons if reason not in case.said]
        faults += [f"no dead letter says {needle!r}" for needle in case.said if needle not in reasons]
        checked = subprocess.run([sys.executable, str(HERE / "oracle.py"), str(out)], capture_output=True, text=True)
        if checked.returncode != 0:
            faults.append(f"the oracle: {(checked.stdout + checked.stderr)[-500:]}")
    if (rows, letters) != (case.rows, case.letters):
        faults.append(f"{rows} rows and {letters} dead letters, {case.rows} and {case.letters} expected")
    shown = [message["groups"].count("n=") for message in pintail.messages() if message.get("groups")]
    if case.groups is not None and max(shown, default=0) != case.groups:
        faults.append(f"{shown} groups in lines of the log, {case.groups} expected")
    longest = max(map(len, log.splitlines()), default=0)
    if longest > 20_000:
        faults.append(f"a line of the log has {longest} characters")
    return said, faults


def read_records(out):
    return [json.loads(path.read_bytes().split(b"\n")[0]) for path in sorted((out / "_pintail/commits").rglob("*.json"))]


def last_line(log):
    last = next((line for line in reversed(log.splitlines()) if line.strip()), "")
    return json.loads(last).get("message", last) if last.startswith("{") else last


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pintail", type=Path, default=process.default_binary(), help="the binary (default: %(default)s)")
    parser.add_argument("--full", action="store_true", help="the long form: bombs of 10 GiB, a million of everything")
    parser.add_argument("--only", nargs="+", metavar="NAME", default=[], help="only these cases")
    parser.add_argument("--work", type=Path, help="work there, and leave it (default: a temporary directory)")
    arguments = parser.parse_args()
    work = arguments.work or Path(tempfile.mkdtemp(prefix="pintail-limits-"))
    begin = time.monotonic()
    try:
        results = []
        for name, make in cases(Inputs(work), arguments.full):
            if arguments.only and name not in arguments.only:
                continue
            case, directory = make(), work / name
            shutil.rmtree(directory, ignore_errors=True)
            directory.mkdir(parents=True)
            print(f"{name}: {case.what}", flush=True)
            result = run(name, case, arguments.pintail, directory)
            results.append(result)
            for fault in result.faults:
                print(f"  WRONG: {fault}", flush=True)
            if not arguments.work:
                shutil.rmtree(directory)
        table(results)
        wrong = [result.name for result in results if result.faults]
        print(f"\n{len(results)} cases in {time.monotonic() - begin:.0f} s" + (f"; WRONG: {', '.join(wrong)}" if wrong else "; every limit holds"))
        return 1 if wrong or not results else 0
    except Failure as failure:
        print(f"WRONG: {failure}", file=sys.stderr)
        return 1
    finally:
        if not arguments.work:
            shutil.rmtree(work, ignore_errors=True)


def table(results):
    print("\n| case | what | exit | rows | dead letters | what was said | peak MiB (bound) | seconds |")
    print("| --- | --- | ---: | ---: | ---: | --- | ---: | ---: |")
    for result in results:
        case = result.case
        said = result.said if len(result.said) <= 110 else result.said[:109] + "…"
        rows = "–" if case.rows is None else f"{case.rows:,}"
        print(f"| {result.name} | {case.what} | {result.code} | {rows} | {case.letters:,} | {said} | {result.peak:.0f} ({case.peak}) | {result.seconds:.1f} |")


if __name__ == "__main__":
    sys.exit(main())
