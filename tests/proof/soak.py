#!/usr/bin/env python3
"""Runs the binary at a steady rate with a checkpoint every second, and watches what it holds: memory, threads, open files.

    python3 tests/proof/soak.py                   15 seconds, to see that everything runs; slopes are not judged below 10 minutes
    python3 tests/proof/soak.py --minutes 60      the long form
    python3 tests/proof/soak.py --minutes 60 --idle     following a file that does not grow
    python3 tests/proof/soak.py --minutes 60 --rate 200000 --interval 100      ten times as many checkpoints: ten times as fine a sieve

After a warm-up (a third of the time) a line is laid through the samples by least squares; its slope must stay below a bound. Memory is
what is the process's own (RssAnon); RSS, which also counts the pages of the binary that happen to be mapped, is shown. At the end: exit
code 0, staging empty, the rows those of a run at full speed.

Owns: the rate, the samples, the bounds.
Does not own: what a sound dataset is (see oracle.py).
"""
import interpreter  # noqa: F401  first: it may start this command again under another Python

import argparse
import os
import random
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from job import conclude, last_message
from oracle import Broken, Dataset
from process import Pintail, default_binary

WARM_UP = 1 / 3
JUDGED_MINUTES = 10
"""Below this a single thread that comes or goes makes any slope."""


@dataclass(frozen=True)
class Figure:
    """What is watched. `per_hour` bounds the slope; a rise of `step` over the whole time is let through, however steep."""
    name: str
    unit: str
    per_hour: "float | None"
    step: float


FIGURES = [
    # The allocators keep what a busy moment of the machine has taken, so that memory steps up and down by some 20 MiB with its load.
    Figure("memory", "MiB", 16, 24),
    Figure("RSS", "MiB", None, 0),
    Figure("threads", "", 1, 3),
    Figure("open files", "", 1, 4),
]


def sample(pid):
    """Returns the figures of a process, in the order of `FIGURES`."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    kib = lambda key: int(status[key].split()[0]) / 1024
    return kib("RssAnon"), kib("VmRSS"), int(status["Threads"]), len(os.listdir(f"/proc/{pid}/fd"))


def slope_per_hour(points):
    """Lays a line through (seconds, figure) by least squares."""
    count = len(points)
    mean_time, mean_value = (sum(column) / count for column in zip(*points))
    spread = sum((seconds - mean_time) ** 2 for seconds, _ in points)
    return 3600 * sum((seconds - mean_time) * (value - mean_value) for seconds, value in points) / spread if spread else 0.0


def watch(pintail, seconds, every, samples):
    """Samples until the process ends, or `seconds` have passed."""
    begin = shown = time.monotonic()
    while pintail.is_running() and time.monotonic() - begin < seconds:
        try:
            samples.append((time.monotonic() - begin, sample(pintail.find())))
        except (FileNotFoundError, ProcessLookupError, KeyError):
            # It is ending: the process is gone, or has no memory any more.
            break
        if time.monotonic() - shown >= 60:
            shown = time.monotonic()
            print(f"{(shown - begin) / 60:5.0f} min  " + "  ".join(told(figure, value) for figure, value in zip(FIGURES, samples[-1][1])), flush=True)
        time.sleep(every)


def told(figure, value):
    return f"{figure.name} {value:.1f} {figure.unit}".rstrip() if figure.unit else f"{figure.name} {value:.0f}"


def judge(samples, judged):
    """Prints the table. Returns what is not flat."""
    warm = samples[-1][0] * WARM_UP
    samples = [point for point in samples if point[0] >= warm]
    hours = (samples[-1][0] - samples[0][0]) / 3600
    print(f"\n{len(samples)} samples over {hours * 60:.1f} minutes after the warm-up\n")
    print(f"{'':12}{'first':>9}{'last':>9}{'least':>9}{'most':>9}{'slope/hour':>12}{'bound':>9}")
    rising = []
    for index, figure in enumerate(FIGURES):
        points = [(seconds, values[index]) for seconds, values in samples]
        values = [value for _, value in points]
        slope = slope_per_hour(points)
        bound = None if figure.per_hour is None else max(figure.per_hour, figure.step / hours)
        cells = [values[0], values[-1], min(values), max(values)]
        digits = 1 if figure.unit else 0
        shown = f"{bound:9.1f}" if judged and bound is not None else f"{'–':>9}"
        print(f"{f'{figure.name} {figure.unit}'.strip():12}" + "".join(f"{cell:9.{digits}f}" for cell in cells) + f"{slope:12.2f}{shown}")
        if judged and bound is not None and slope > bound:
            rising.append(f"{figure.name} rises by {slope:.1f} {figure.unit} an hour, more than {bound:.1f}")
    if not judged:
        print(f"slopes are not judged below {JUDGED_MINUTES} minutes")
    return rising


def settings(arguments, work):
    common = {"pipeline.checkpoint_interval": f"{arguments.interval}ms", "log.format": "json"}
    if arguments.idle:
        (work / "events.ndjson").write_text('{"timestamp": 1767225600000, "user_id": 1, "region": "us", "amount": 1.5, "sku": "a"}\n')
        return common | {"source.type": "file", "source.path": str(work / "events.ndjson"), "source.follow": True}
    limit = int(arguments.rate * arguments.minutes * 60)
    return common | {"source.seed": arguments.seed, "source.start_time": "2026-01-01T00:00:00Z", "source.rate": arguments.rate, "source.limit": limit}


def prove(arguments, work):
    seconds = arguments.minutes * 60
    config, samples = settings(arguments, work), []
    what = "following a file that does not grow" if arguments.idle else f"{arguments.rate:,} events/s, seed {arguments.seed}"
    print(f"{arguments.minutes:g} minutes of {what}, a checkpoint every {arguments.interval} ms", flush=True)
    out = work / "soak" / "out"
    out.parent.mkdir()
    with Pintail(arguments.pintail, config | {"pipeline.out_path": "out"}, out.parent) as pintail:
        # A machine that is too slow for the rate takes longer: the dataset must be complete all the same.
        watch(pintail, seconds if arguments.idle else seconds * 2 + 60, min(5, seconds / 60), samples)
        if arguments.idle:
            pintail.signal(signal.SIGTERM)
        code = pintail.wait(60)
    if code != 0:
        raise Broken(f"it ended with {code}: {last_message(code, pintail.stderr())}")
    rising = judge(samples, arguments.minutes >= JUDGED_MINUTES)

    dataset = Dataset(out)
    dataset.check()
    checkpoints, rows = len(dataset.checkpoints()), dataset.sums()[0]
    if not arguments.idle:
        reference = work / "reference" / "out"
        reference.parent.mkdir()
        full_speed = config | {"pipeline.out_path": "out", "source.rate": 0, "pipeline.checkpoint_interval": "30s"}
        Pintail(arguments.pintail, full_speed, reference.parent).run(600)
        dataset.equals(Dataset(reference))
        if checkpoints < samples[-1][0] * 1000 / arguments.interval / 2:
            raise Broken(f"{checkpoints} checkpoints in {samples[-1][0]:.0f} s: not what was asked for")
    elif checkpoints != 1:
        raise Broken(f"{checkpoints} checkpoints of a file that did not grow")
    print(f"\n{checkpoints} checkpoints, {rows:,} rows, each once; staging empty")
    return rising


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pintail", type=Path, default=default_binary(), help="the binary (default: %(default)s)")
    parser.add_argument("--minutes", type=float, default=0.25, help="how long (default: %(default)s)")
    parser.add_argument("--rate", type=int, default=20_000, help="events a second (default: %(default)s)")
    parser.add_argument("--interval", type=int, default=1000, help="milliseconds from checkpoint to checkpoint (default: %(default)s)")
    parser.add_argument("--idle", action="store_true", help="follow a file that does not grow, instead of the simulator")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32), help="of the simulator (default: a new one, printed)")
    parser.add_argument("--work", type=Path, help="directory to work in (default: a temporary one)")
    arguments = parser.parse_args()
    conclude(prove, arguments, "soak")


if __name__ == "__main__":
    main()
