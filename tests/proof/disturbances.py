"""What else happens to a running service: a second instance, a clock that jumps, an error in a stage.

Owns: these, and what must hold in each.
Does not own: signals (see drains.py), the datasets (see trial.py).
"""
import glob
import hashlib
import json
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import oracle
from process import Unexpected

REFUSALS_AT_ONCE = 10
JUMPS_PER_RUN = 3


def second_instance(trials, rounds):
    """Starts a second instance beside a running one: refused, naming the holder, and not a byte is changed."""
    trial = trials.new(source__rate=0, source__limit=100_000)
    trial.pintail().run()
    # The clock alone would let an event through every second; none gets as far as a file within this hour.
    with trial.pintail({"source.rate": 1, "source.limit": 0, "pipeline.checkpoint_interval": "1h"}) as holder:
        holder.wait_log("line ready")
        before = tree(trial.directory / "out")
        with ThreadPoolExecutor(REFUSALS_AT_ONCE) as pool:
            seconds = list(pool.map(lambda _: refused(trial, holder.pid), range(rounds)))
        if (after := tree(trial.directory / "out")) != before:
            raise oracle.Broken(f"{rounds} refused instances have changed {sorted(set(before.items()) ^ set(after.items()))[:3]}")
        holder.signal(signal.SIGTERM)
        if (code := holder.wait()) != 0:
            raise Unexpected(f"the holder ended with {code}:\n{holder.stderr()[-2000:]}")
    trial.finish()
    return seconds


def refused(trial, holder):
    with trial.pintail({"source.rate": 0, "source.limit": 0}) as second:
        code = second.wait(20)
        seconds, errors = time.monotonic() - second.started, error_lines(second)
        if code != 75 or len(errors) != 1 or f"process {holder} on " not in errors[0]:
            raise Unexpected(f"a second instance ended with {code}, expected 75 and one line that names process {holder}:\n{second.stderr()}")
        return seconds


def tree(directory):
    """Returns every path below a directory with the SHA-256 of its content."""
    return {str(path): path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(directory.glob("**/*"))}


def error_lines(process):
    """Returns what an operator reads of a failure: all lines of the level ERROR, and all that are no log lines."""
    lines = [line for line in process.stderr().splitlines() if line]
    errors = [json.loads(line)["message"] for line in lines if line.startswith("{") and json.loads(line)["level"] == "ERROR"]
    return errors + [line for line in lines if not line.startswith("{")]


def clock(trials, rounds):
    """Sets the clock back and forth by hours while it runs, and runs are killed, stopped and started. Returns the jumps seen in
    the records; None without faketime."""
    libraries = [path for lib in ("/usr/lib/*/faketime", "/usr/lib64/faketime", "/usr/local/lib/faketime")
                 for path in glob.glob(f"{lib}/libfaketimeMT.so.1")]
    if not libraries:
        return None
    # Names by the clock, so that its hour is in them; and by the event time, as is the default.
    jumps = []
    for event_time in ("", "ts"):
        trial = trials.new(source__rate=200_000, pipeline__checkpoint_interval="50ms", pipeline__batch_rows=5_000, sink__event_time=event_time)
        offset = trial.directory / "clock"
        env = {"LD_PRELOAD": libraries[0], "FAKETIME_TIMESTAMP_FILE": str(offset), "FAKETIME_NO_CACHE": "1",
               "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
        for number in range(rounds):
            set_clock(offset, trials.moments)
            with trial.pintail(env=env) as process:
                for _ in range(JUMPS_PER_RUN):
                    process.wait_commits_after(trial.dataset, trial.dataset.last_number())
                    set_clock(offset, trials.moments)
                process.wait_commits_after(trial.dataset, trial.dataset.last_number() + 1)
                process.signal((signal.SIGKILL, signal.SIGTERM)[number % 2])
                if (code := process.wait(10)) not in (-signal.SIGKILL, 0):
                    raise Unexpected(f"with a clock that jumps it ended with {code}:\n{process.stderr()[-2000:]}")
        times = [datetime.fromisoformat(record["time"][:19]) for record in trial.dataset.records()]
        jumps += [hours for a, b in zip(times, times[1:]) if abs(hours := (b - a).total_seconds() / 3600) > 0.5]
        trial.finish()
    if not any(hours < 0 for hours in jumps) or not any(hours > 0 for hours in jumps):
        raise oracle.Broken(f"the clock of the process did not go back and forth: {jumps}")
    return [abs(hours) for hours in jumps]


def set_clock(path, moments):
    """Sets the fake clock up to two days off. As one step: a process that reads a torn file would see another time."""
    fresh = path.with_suffix(".new")
    fresh.write_text(f"{moments.randint(-48, 48):+}h\n")
    os.replace(fresh, path)


FAILING_SQL = ("SELECT epoch_ms(\"timestamp\") AS ts, user_id, region, round(amount, 2) AS amount, sku, "
               "CASE WHEN user_id >= 0 THEN error('planted') ELSE 'x' END::VARCHAR AS bucket FROM events")


def errors(trials, _):
    """Plants an error in each stage that can have one: exit code, one line, nothing by halves, and the restart completes."""
    seconds = []
    for stage, code, needle, plant in (
        ("producer", 74, "cannot read `", producer_error),
        ("transformer", 65, "planted", transformer_error),
        ("writer", 74, "Input/output error (os error 5)", writer_error),
    ):
        trial = trials.new(source__rate=200_000, source__limit=200_000, pipeline__checkpoint_interval="100ms", pipeline__batch_rows=5_000)
        with plant(trial) as process:
            found = process.wait(60)
            seconds.append(time.monotonic() - process.started)
            said = error_lines(process)
            if found != code or len(said) != 1 or needle not in said[0]:
                raise Unexpected(f"an error in the {stage}: exit code {found} and {said}, expected {code} and one line with {needle!r}")
        check_restart(trial, stage)
    return seconds


def producer_error(trial):
    """A source file of which a read fails, after some were good."""
    source = trial.directory / "events.ndjson"
    event = {"timestamp": 1_767_225_600_000, "region": "us", "amount": 1.0, "sku": "SKU-00001"}
    source.write_text("".join(json.dumps(event | {"user_id": n}) + "\n" for n in range(200_000)))
    trial.settings = {"pipeline.out_path": "out", "source.type": "file", "source.path": str(source), "pipeline.batch_rows": 5_000}
    fail = ("strace", "-f", "-qq", "-o", "/dev/null", "-P", str(source), "-e", "trace=read,pread64,preadv",
            "-e", "inject=read,pread64,preadv:error=EIO:when=4+")
    return trial.pintail(prefix=fail)


def transformer_error(trial):
    """SQL that plans and runs on no records, and fails on each."""
    return trial.pintail({"transform.sql": FAILING_SQL})


def writer_error(trial):
    """An fsync that fails, some checkpoints after the start."""
    fail = ("strace", "-f", "--seccomp-bpf", "-qq", "-o", "/dev/null", "-e", "trace=fsync", "-e", "inject=fsync:error=EIO:when=30+")
    return trial.pintail(prefix=fail)


def check_restart(trial, stage):
    if stage != "producer":
        trial.finish()
        return
    trial.pintail().run()
    trial.dataset.check()
    if (rows := trial.dataset.sums()[0]) != 200_000:
        raise oracle.Broken(f"after a failed read there are {rows} rows of 200000")
    trial.remove()
