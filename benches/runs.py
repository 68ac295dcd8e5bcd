"""Jobs and their runs.

Owns: the inputs, one run of a job with its clock and memory, the check of every output.
Does not own: which jobs are compared and what is shown of them (see compare.py), the figures of an output (see yardsticks/figures.py).
"""
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from yardsticks.shapes import SHAPES

YARDSTICKS = Path(__file__).resolve().parent / "yardsticks"
PRINTED = re.compile(r"^(\d+) events in [\d.]+ s = ([\d,]+) events/s$", re.MULTILINE)


class Failure(Exception):
    """A run that did not do what it should: the figures would be worth nothing."""


@dataclass(frozen=True)
class Reference:
    """What an output is compared with."""
    shape: str
    source: Path | str
    """The input, or a name under which the first output is kept for the later ones."""
    even: bool = False
    """Halves are rounded to even."""


@dataclass(frozen=True)
class Job:
    name: str
    events: int
    argv: Callable[[Path], list]
    """Output directory → command line."""
    reads: Path | None = None
    reference: Reference | None = None
    """None: it writes nothing."""
    own_clock: bool = True
    """It prints its events/s; else the wall clock counts."""


@dataclass(frozen=True)
class Sample:
    seconds: float
    rate: float
    """Events a second."""
    peak: float
    """MiB."""
    cpu_seconds: float
    bytes_per_row: float


class Inputs:
    """The generated files, each made when first asked for. A file that has its final name is whole."""

    def __init__(self, directory):
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)

    def events(self, count):
        return self._made(f"events-{count}.ndjson", lambda out: yardstick("gen_events.py", count, out))

    def repeated(self, count, times):
        return self._made(f"events-{count}-x{times}.ndjson", lambda out: concatenate([self.events(count)] * times, out))

    def shaped(self, shape, count):
        return self._made(f"{shape}-{count}.ndjson", lambda out: yardstick("gen_shape.py", shape, count, out))

    def compressed(self, count, codec):
        return self._made(f"events-{count}.ndjson.{codec}", lambda out: yardstick("compress.py", self.events(count), out, codec))

    def config(self, shape):
        return self._made(f"{shape}.toml", lambda out: out.write_text(SHAPES[shape].toml()))

    def _made(self, name, make):
        path = self.directory / name
        if not path.exists():
            note(f"making {name}")
            part = self.directory / f"part-{name}"
            make(part)
            part.rename(path)
        return path


def yardstick(script, *arguments):
    """Runs a script that only prepares or checks, and returns what it prints."""
    done = subprocess.run([*python(script), *map(str, arguments)], env=clean_environment(), capture_output=True, text=True)
    if done.returncode != 0:
        raise Failure(f"{script} {' '.join(map(str, arguments))}:\n{done.stderr}")
    return done.stdout


def python(script):
    return [sys.executable, str(YARDSTICKS / script)]


def concatenate(files, out):
    with open(out, "wb") as whole:
        for file in files:
            with open(file, "rb") as part:
                shutil.copyfileobj(part, whole, 1 << 20)


def warm(path):
    """Reads a file once, so that every job finds it in the page cache."""
    piece = bytearray(1 << 20)
    with open(path, "rb", buffering=0) as file:
        while file.readinto(piece):
            pass


def clean_environment():
    """Returns the environment without what would change a job's settings."""
    settings = re.compile(r"(PINTAIL_.*|POLARS_.*|BATCH_ROWS|CHECKPOINT_SECONDS|OUT_PATH|RUST_LOG)$")
    return {k: v for k, v in os.environ.items() if not settings.match(k)} | {"PYTHONDONTWRITEBYTECODE": "1"}


class Bench:
    """Runs jobs and keeps what was measured."""

    def __init__(self, options, pintail, root):
        self.events, self.pairs, self.quick, self.cases = options.events, options.pairs, options.quick, options.only
        self.binary = pintail
        self.run_directory = root / "run"
        self.inputs = Inputs(root / "inputs")
        self.figures = {}
        self.samples = {}

    def pintail(self, name, events, path=None, shape="default", reference=None, **settings):
        """Returns the job of Pintail on a file, or on the simulator."""
        source = {"type": "file", "path": path} if path else \
            {"type": "simulator", "rate": 0, "limit": events, "start_time": "2026-01-01T00:00:00Z"}
        settings = {f"source.{key}": value for key, value in source.items()} | {k.replace("__", "."): v for k, v in settings.items()}
        sets = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
        config = [] if shape == "default" else ["--config", self.inputs.config(shape)]
        argv = lambda out: [self.binary, *config, *sets, "--set", f"pipeline.out_path={out}"]
        return Job(name, events, argv, path, reference or Reference(shape, path or f"simulator {events}"), own_clock=False)

    def rounds(self, case, jobs, count=None):
        """Runs the jobs in turns and returns the samples of each."""
        samples = self.samples[case] = {job.name: [] for job in jobs}
        for turn in range(1, (count or self.pairs) + 1):
            for job in jobs:
                sample = self.run(job, f"{case}, round {turn}, {job.name}")
                samples[job.name].append(sample)
        return samples

    def run(self, job, label):
        out = self.fresh_output()
        if job.reads:
            warm(job.reads)
        # What the last run left to be written must not burden this one.
        os.sync()
        wall, usage = self.spawn(job.argv(out), label)
        rate = self.printed_rate(job, label) if job.own_clock else job.events / wall
        size = self.check(job, out, label) / job.events if job.reference else 0
        sample = Sample(job.events / rate, rate, usage.ru_maxrss / 1024, usage.ru_utime + usage.ru_stime, size)
        note(f"{label}: {sample.seconds:.2f} s, {rate:,.0f} events/s, {sample.peak:.0f} MiB")
        return sample

    def fresh_output(self):
        shutil.rmtree(self.run_directory, ignore_errors=True)
        self.run_directory.mkdir(parents=True)
        return self.run_directory / "out"

    def start(self, argv):
        with open(self.run_directory / "stdout", "wb") as stdout, open(self.run_directory / "stderr", "wb") as stderr:
            return subprocess.Popen(list(map(str, argv)), cwd=self.run_directory, env=clean_environment(),
                                    stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr)

    def spawn(self, argv, label):
        """Runs a command to its end and returns its wall clock and resource usage."""
        # `ru_maxrss` of a child begins with what this process had when it was forked: never import DuckDB or Polars here.
        begin = time.monotonic()
        child = self.start(argv)
        try:
            _, status, usage = os.wait4(child.pid, 0)
            wall = time.monotonic() - begin
        except BaseException:
            child.kill()
            child.wait()
            raise
        child.returncode = os.waitstatus_to_exitcode(status)
        self.check_exit(child, label)
        return wall, usage

    def check_exit(self, child, label):
        if child.returncode != 0:
            tails = [(self.run_directory / name).read_text(errors="replace")[-2_000:] for name in ("stdout", "stderr")]
            raise Failure("\n".join([f"{label}: exit code {child.returncode}", *tails]))

    def printed_rate(self, job, label):
        printed = (self.run_directory / "stdout").read_text(errors="replace")
        match = PRINTED.search(printed)
        if not match or int(match[1]) != job.events:
            raise Failure(f"{label}: expected a line with {job.events} events, it printed {printed!r}")
        return float(match[2].replace(",", ""))

    def check(self, job, out, label):
        """Compares an output with its reference and returns its bytes."""
        reference = job.reference
        found = json.loads(yardstick("figures.py", reference.shape, out))
        expected = self.expected(reference, found)
        cells = {(region, figure) for side in (found, expected) for region in side for figure in side[region]}
        wrong = [f"region {region}, {figure}: expected {expected.get(region, {}).get(figure)}, found {found.get(region, {}).get(figure)}"
                 for region, figure in sorted(cells, key=str) if expected.get(region, {}).get(figure) != found.get(region, {}).get(figure)]
        rows = sum(figures["rows"] for figures in found.values())
        if rows != job.events:
            wrong.insert(0, f"rows: expected {job.events}, found {rows}")
        if wrong:
            raise Failure(f"{label}: the output is not what the input holds\n  " + "\n  ".join(wrong))
        return sum(file.stat().st_size for file in out.glob("**/*.parquet"))

    def expected(self, reference, found):
        if reference not in self.figures:
            even = ["--even"] if reference.even else []
            from_input = isinstance(reference.source, Path)
            self.figures[reference] = json.loads(yardstick("figures.py", reference.shape, reference.source, *even)) if from_input else found
        return self.figures[reference]


def note(text):
    print(text, file=sys.stderr, flush=True)
