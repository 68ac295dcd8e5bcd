#!/usr/bin/env python3
"""Stops Pintail in every way, and gets in its way while it runs.

    python3 tests/proof/stop.py                         6 drains: below a minute
    nice python3 tests/proof/stop.py --rounds 100       the long run: about 10 minutes

  drain               SIGTERM or SIGINT under full load with 20 ms to each fsync: exit 0 within 8 s, all that was read is committed,
                      staging is empty, the next run begins where this one ended
  second signal       exit 143 or 130 within 0.5 s: on the slow disk, on an idle pipe; and with an fsync that does not return or a frozen
                      file system (as root only): there the stuck thread holds the process, as it would hold it after SIGKILL; within
                      0.5 s all others are gone, and the process as soon as the kernel (here: the tracer) lets go
  second instance     refused with exit 75, naming the holder; no byte of the dataset changes
  clock               set back and forth by hours (by faketime) over kills and restarts
  errors              in the producer, the transformer and the writer: the right exit code, one line, the restart completes

Needs strace; faketime for the clock. What cannot be done here says so, and fails unless --allow-skips is given.

Owns: the list of what is done, the table.
Does not own: how it is done (see drains.py, disturbances.py), the datasets (see trial.py).
"""
import interpreter  # noqa: F401  first: it may start this command again under another Python

import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import disturbances
import drains
import job
import oracle
from process import Unexpected
from trial import Trials

# What, of --rounds, the unit of the figures, the limit, how.
CASES = {
    "drain": ("drain under full load on a slow disk", 1, "s", drains.DRAIN_SECONDS, drains.drain),
    "second-slow": ("second signal, slow disk", 10, "s", drains.AT_ONCE_SECONDS, drains.second_on_a_slow_disk),
    "second-stuck": ("second signal, an fsync does not return", 10, "s", drains.AT_ONCE_SECONDS, drains.second_on_a_stuck_disk),
    "second-frozen": ("second signal, stuck in the kernel: all other threads", 10, "s", drains.AT_ONCE_SECONDS,
                      drains.second_on_a_frozen_file_system),
    "pipe": ("one or two signals, idle pipe", 5, "s", drains.AT_ONCE_SECONDS, drains.signals_on_an_idle_pipe),
    "pipe-stuck": ("second signal, idle pipe, an fsync does not return", 10, "s", drains.AT_ONCE_SECONDS,
                   drains.second_on_an_idle_pipe_and_a_stuck_disk),
    "instance": ("second instance refused", 1, "s", None, disturbances.second_instance),
    "clock": ("clock set back or forth, seen in the records", 10, "h", None, disturbances.clock),
    "errors": ("error in producer, transformer, writer", 1, "s", None, disturbances.errors),
}
LEAST_ROUNDS = 2


def run(options, work):
    trials, failed = Trials(options.pintail, work, options.seed), []
    print(f"{'what':56} {'times':>5}  {'median':>8}  {'most':>8}  {'limit':>6}   took")
    for case in options.only:
        what, share, unit, limit, prove = CASES[case]
        begin = time.monotonic()
        try:
            figures, result = prove(trials, max(LEAST_ROUNDS, options.rounds // share)), ""
        except (oracle.Broken, Unexpected) as error:
            figures, result = [], f"FAILED: {error}"
            failed.append(what)
        if figures is None:
            figures, result = [], "not possible here"
            failed += [f"{what}: not possible here"] * (not options.allow_skips)
        shown = f"{median(figures):6.2f} {unit}  {max(figures):6.2f} {unit}" if figures else f"{'–':>8}  {'–':>8}"
        print(f"{what:56} {len(figures):5}  {shown}  {f'{limit} {unit}' if limit else '–':>6}  {time.monotonic() - begin:3.0f} s  {result}",
              flush=True)
    return failed


def arguments():
    parser = job.parser(__doc__)
    add = parser.add_argument
    add("--rounds", type=int, metavar="N", default=6, help="drains, and refusals; a tenth of it of what takes long (%(default)s)")
    add("--only", nargs="+", metavar="CASE", choices=CASES, default=list(CASES), help=f"cases to run: {', '.join(CASES)}")
    add("--allow-skips", action="store_true", help="what this machine cannot do is no failure")
    options = job.parse(parser)
    if options.rounds < 1:
        parser.error("it takes at least one round")
    if not shutil.which("strace"):
        parser.error("it takes strace: apt-get install strace")
    return options


def main():
    options = arguments()
    # As an exception, so that a frozen file system thaws, what was started is ended and what was made is removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    print(f"stop: --rounds {options.rounds} --seed {options.seed}\n", flush=True)
    work, begin = Path(tempfile.mkdtemp(prefix="pintail-stop-", dir=options.work)), time.monotonic()
    try:
        failed = run(options, work)
    finally:
        shutil.rmtree(work)
    verdict = f"failed: {', '.join(failed)}" if failed else "passed"
    print(f"\n{verdict}, {time.monotonic() - begin:.0f} s")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
