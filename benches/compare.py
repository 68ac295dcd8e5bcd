#!/usr/bin/env python3
"""Compares Pintail with what a user would write instead, and prints the table of docs/performance.md.

    python3 benches/compare.py                      every case: about 15 minutes on two cores, 15 GB of disk
    python3 benches/compare.py --quick              the same with little data, to see that everything runs
    python3 benches/compare.py --only file-duckdb   one case

Nothing here is a test and nothing has a time limit: leave the machine alone while it runs. Missing Python packages are installed into a
virtual environment of its own.

Owns: the cases, the table, the environment that they need.
Does not own: how a job is run, measured and checked (see runs.py), the jobs of the others and the events (see yardsticks/).
"""
import argparse
import dataclasses
import datetime
import importlib.metadata
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from runs import Bench, Failure, Job, Reference, note, python

REPOSITORY = Path(__file__).resolve().parent.parent
PACKAGES = ("duckdb==2.0.0", "polars", "pyarrow==26.0.1")
# Work files for each event of --events: the inputs, five times over for the long run, and the output of one run.
DISK_BYTES_PER_EVENT = 1_500

NOTES = """\
M/s: a million events a second. Two figures in a cell are Pintail's and the other's. Ratio: median events/s of Pintail by that of the
other (of memory: the median peaks). The jobs of a row ran in turns, each in a fresh process with an empty output directory, its input
in the page cache, the disk synced before it. Pintail's time is the wall clock of the whole process: start, recovery, `fsync`, commit
and exit. The others' time is their own printed clock, without the start of the interpreter and without syncing to disk, which is in
their favour. Peak memory is the largest `ru_maxrss` of all runs, interpreters included; bytes a row are those of all Parquet files.
After every run the output was compared with the input: rows, and sums over every column within each region (Polars rounds halves to
even; it was compared with that). Decompression is pyarrow's, alone: a compressed file is bound by it where Pintail takes about the
longer of the two times."""


@dataclass(frozen=True)
class Row:
    """A row of the table: one claim."""
    what: str
    pintail: str
    against: str = "–"
    ratio: str = "–"
    spread: str = "–"
    peak: str = "–"
    bytes_per_row: str = "–"


def files(bench):
    """One rotation for three claims, so that one set of runs of Pintail serves them."""
    count, path = bench.events, bench.inputs.events(bench.events)
    jobs = {
        "pintail": bench.pintail("pintail", count, path),
        "duckdb": Job("duckdb", count, lambda out: [*python("duckdb_batch.py"), path, out], path, Reference("default", path)),
        "polars": Job("polars", count, lambda out: [*python("polars_batch.py"), path, out], path, Reference("default", path, even=True)),
        "simulator": bench.pintail("simulator", count),
    }
    claims = {
        "file-duckdb": (f"{size(count)} events from a file", "pintail", "duckdb", "DuckDB, one batch `COPY`"),
        "file-polars": (f"{size(count)} events from a file", "pintail", "polars", "Polars, streaming engine"),
        "simulator": (f"{size(count)} simulated events", "simulator", "duckdb", "DuckDB, the file above"),
    }
    claims = [claim for case, claim in claims.items() if case in bench.cases]
    needed = {name for _, *pair, _ in claims for name in pair}
    samples = bench.rounds("file", [job for name, job in jobs.items() if name in needed])
    return [throughput(what, samples[ours], samples[other], against) for what, ours, other, against in claims]


def python_pipeline(bench):
    count = bench.events // 5
    path = bench.inputs.events(count)
    other = Job("python", count, lambda out: [*python("python_pipeline.py"), out, path], path, Reference("default", path))
    samples = bench.rounds("python", [bench.pintail("pintail", count, path), other])
    return [throughput(f"{size(count)} events from a file", samples["pintail"], samples["python"], "the Python pipeline")]


def checkpoints(bench):
    count = bench.events * 5
    path = bench.inputs.repeated(bench.events, 5)
    often = bench.pintail("1s", count, path, pipeline__checkpoint_interval="1s")
    samples = bench.rounds("checkpoint-1s", [bench.pintail("30s", count, path, pipeline__checkpoint_interval="30s"), often])
    return [throughput(f"{size(count)} events from a file, a checkpoint every second", samples["1s"], samples["30s"], "every 30 s")]


def memory(bench):
    few, many = bench.events // 10, bench.events * 5
    sources = {few: bench.inputs.events(few), bench.events: bench.inputs.events(bench.events), many: bench.inputs.repeated(bench.events, 5)}
    jobs = [bench.pintail(f"file {size(count)}", count, path) for count, path in sources.items()]
    jobs += [bench.pintail(f"simulator {size(count)}", count) for count in (few, many)]
    samples = bench.rounds("memory", jobs)
    pairs = [("file", bench.events), ("file", many), ("simulator", many)]
    return [memory_row(f"peak memory, {size(count)} events from the {source}", samples[f"{source} {size(count)}"],
                       samples[f"{source} {size(few)}"], f"{size(few)} events") for source, count in pairs]


def start(bench):
    samples = bench.rounds("start", [bench.pintail("pintail", 1)], 3 if bench.quick else 20)["pintail"]
    times = [sample.seconds * 1000 for sample in samples]
    what = f"start to exit with one event, median of {len(samples)}"
    return [Row(what, f"{digits(median(times))} ms", spread=f"{digits(min(times))}..{digits(max(times))}", peak=peak(samples))]


def idle(bench):
    """CPU while a followed file does not grow, over one whole checkpoint interval."""
    count, interval = bench.events // 100, 2 if bench.quick else 30
    job = bench.pintail("idle", count, bench.inputs.events(count), source__follow="true", pipeline__checkpoint_interval=f"{interval}s")
    out = bench.fresh_output()
    child = bench.start(job.argv(out))
    try:
        # The first checkpoint takes what was in the file; what comes after it is idle.
        while not any(out.glob("*/*.parquet")) and child.poll() is None:
            time.sleep(0.2)
        time.sleep(3)
        cpu, begin = cpu_seconds(child), time.monotonic()
        time.sleep(interval)
        share = (cpu_seconds(child) - cpu) / (time.monotonic() - begin)
        child.send_signal(signal.SIGTERM)
        child.wait()
    finally:
        child.kill()
    bench.check_exit(child, "idle")
    bench.check(job, out, "idle")
    bench.samples["idle"] = {"pintail": [{"share_of_a_core": share, "seconds": interval}]}
    return [Row(f"following a file that does not grow, {interval} s with a checkpoint", f"{share:.2%} of one core")]


def cpu_seconds(child):
    if child.poll() is not None:
        raise Failure(f"idle: it ended with exit code {child.returncode}")
    fields = Path(f"/proc/{child.pid}/stat").read_text().rsplit(")", 1)[1].split()
    # Fields 14 and 15 of proc_pid_stat(5), utime and stime; the split begins with field 3.
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def shaped(shape, what):
    """Returns the case of a shape other than the default one."""

    def case(bench):
        count = bench.events // 10
        path = bench.inputs.shaped(shape, count)
        reference = Reference(shape, path)
        other = Job("duckdb", count, lambda out: [*python("duckdb_shape.py"), shape, path, out], path, reference)
        samples = bench.rounds(shape, [bench.pintail("pintail", count, path, shape), other])
        return [throughput(f"{size(count)} events {what}", samples["pintail"], samples["duckdb"], "DuckDB, one batch `COPY`")]

    return case


def compressed(bench):
    count, plain = bench.events, bench.inputs.events(bench.events)
    packed = {codec: bench.inputs.compressed(count, codec) for codec in ("gz", "zst")}
    jobs = [bench.pintail("plain", count, plain)]
    for codec, path in packed.items():
        jobs.append(bench.pintail(codec, count, path, reference=Reference("default", plain)))
        jobs.append(Job(f"decompress {codec}", count, lambda out, path=path: [*python("decompress.py"), path, count], path))
    samples = bench.rounds("compressed", jobs)
    rows = []
    for codec in packed:
        what = f"{size(count)} events from a .{codec} file"
        rows.append(throughput(what, samples[codec], samples["plain"], "Pintail, the plain file"))
        rows.append(throughput(what, samples[codec], samples[f"decompress {codec}"], "decompression alone"))
    return rows


CASES = {
    "file-duckdb": files,
    "file-polars": files,
    "simulator": files,
    "python": python_pipeline,
    "wide": shaped("wide", "of 40 columns"),
    "long": shaped("long", "of 1 KB"),
    "compressed": compressed,
    "checkpoint-1s": checkpoints,
    "memory": memory,
    "start": start,
    "idle": idle,
}


def throughput(what, ours, others, against):
    sizes = [f"{samples[0].bytes_per_row:.1f}" if samples[0].bytes_per_row else "–" for samples in (ours, others)]
    return compared(what, ours, others, against, "M/s", lambda sample: sample.rate / 1e6, " / ".join(sizes))


def memory_row(what, ours, others, against):
    return compared(what, ours, others, against, "MiB", lambda sample: sample.peak)


def compared(what, ours, others, against, unit, figure, bytes_per_row="–"):
    """Returns the row of two jobs that differ by a figure of their samples."""
    values = [[figure(sample) for sample in samples] for samples in (ours, others)]
    middle = [median(of_job) for of_job in values]
    spread = " / ".join(f"{digits(min(of_job))}..{digits(max(of_job))}" for of_job in values)
    return Row(what, f"{digits(middle[0])} {unit}", f"{against}: {digits(middle[1])} {unit}", f"{middle[0] / middle[1]:.2f}", spread,
               f"{peak(ours)} / {peak(others)}", bytes_per_row)


def digits(value):
    """Writes a number with at least three digits."""
    return f"{value:#.3g}".rstrip(".") if value < 1_000 else f"{value:,.0f}"


def peak(samples):
    return digits(max(sample.peak for sample in samples))


def size(count):
    return f"{count / 1e6:g} M" if count >= 1e6 else f"{count:,}"


def table(rows):
    head = ["what", "Pintail", "against", "ratio", "min..max", "peak MiB", "bytes a row"]
    lines = [head, ["---", "---:", "---:", "---:", "---:", "---:", "---:"], *(dataclasses.astuple(row) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def machine(root):
    cpu = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory_kib = int(re.search(r"^MemTotal:\s*(\d+)", Path("/proc/meminfo").read_text())[1])
    mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    file_system = max((at for at in mounts if root.is_relative_to(at[0])), key=lambda at: len(at[0]))[1]
    return (f"{cpu[1] if cpu else platform.machine()}, {len(os.sched_getaffinity(0))} cores, {memory_kib / 2**20:.1f} GiB, "
            f"Linux {platform.release()}, {file_system}")


def versions(pintail):
    own = subprocess.run([pintail, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    others = [f"{name} {importlib.metadata.version(name)}" for name in ("duckdb", "polars", "pyarrow")]
    return ", ".join([own, *others, f"Python {platform.python_version()}"])


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\nOwns")[0], formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--pintail", type=Path, metavar="PATH", help="the binary to measure; without it, `cargo build --release` makes one")
    add("--pairs", type=int, metavar="N", help="runs of each job (5; 2 with --quick)")
    add("--events", type=int, metavar="N", help="events of the main file; the other sizes follow it (10_000_000; 100_000 with --quick)")
    add("--work", type=Path, metavar="DIR", default=REPOSITORY / "target", help="where the work files go, about 1.5 KB for each event, on "
        "a real disk; below it, `pintail-bench` is made and removed at the end (target/ of this repository)")
    add("--keep", action="store_true", help="keep the work files; inputs that are found are used again")
    add("--only", nargs="+", metavar="CASE", choices=CASES, default=list(CASES), help=f"cases to run: {', '.join(CASES)}")
    add("--quick", action="store_true", help="little data: shows that everything runs, not how fast")
    add("--json", type=Path, metavar="FILE", help="write every sample to a file")
    options = parser.parse_args()
    options.events = options.events or (100_000 if options.quick else 10_000_000)
    options.pairs = options.pairs or (2 if options.quick else 5)
    if options.events < 1_000 or options.pairs < 1:
        parser.error("it takes at least 1,000 events and one pair")
    if options.pintail and not os.access(options.pintail, os.X_OK):
        parser.error(f"{options.pintail} is no program")
    return options


def ensure_packages():
    """Goes on in a virtual environment that has the packages, if this interpreter lacks them."""
    if not any(lacks(package) for package in PACKAGES):
        return
    home = Path(os.environ.get("PINTAIL_BENCH_VENV") or Path.home() / ".cache/pintail/bench-venv").expanduser()
    if home.exists() and Path(sys.prefix).samefile(home):
        sys.exit(f"compare: {home} has not taken {', '.join(PACKAGES)}: remove it and try again")
    interpreter = home / "bin/python"
    if not interpreter.exists():
        subprocess.run([sys.executable, "-m", "venv", home], check=True)
    subprocess.run([interpreter, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PACKAGES], check=True)
    os.execv(interpreter, [interpreter, *sys.argv])


def lacks(package):
    name, _, version = package.partition("==")
    try:
        found = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return True
    return bool(version) and found != version


def build():
    target = Path(os.environ.get("CARGO_TARGET_DIR") or Path.home() / ".cache/pintail/target").resolve()
    command = ["cargo", "build", "--release", "--locked"]
    subprocess.run(command, cwd=REPOSITORY, env=os.environ | {"CARGO_TARGET_DIR": str(target)}, check=True)
    return target / "release/pintail"


def measure(bench, options, head):
    """Runs the cases; prints what was measured, also if one of them fails."""
    rows, failure = [], None
    try:
        for case in dict.fromkeys(CASES[name] for name in CASES if name in options.only):
            rows += case(bench)
    except Failure as stop:
        failure = stop
    print(f"{head}; {bench.pairs} runs of each{'' if not failure else ', INCOMPLETE'}\n\n{table(rows)}\n\n{NOTES}", flush=True)
    if options.json:
        samples = {"head": head, "rows": rows, "samples": bench.samples}
        options.json.write_text(json.dumps(samples, indent=1, default=dataclasses.asdict) + "\n")
    if failure:
        sys.exit(f"compare: {failure}")


def main():
    options = arguments()
    ensure_packages()
    pintail = (options.pintail or build()).resolve()
    work = options.work.resolve()
    made, root = not work.exists(), work / "pintail-bench"
    root.mkdir(parents=True, exist_ok=True)
    try:
        if shutil.disk_usage(root).free < options.events * DISK_BYTES_PER_EVENT:
            sys.exit(f"compare: {root} has less room than {options.events * DISK_BYTES_PER_EVENT / 1e9:.1f} GB: use --work or --events")
        if os.getloadavg()[0] > len(os.sched_getaffinity(0)) / 2:
            note("this machine is busy with something else: the figures will say little")
        measure(Bench(options, pintail, root), options, f"{datetime.date.today()}, {machine(root)}; {versions(pintail)}")
    finally:
        if not options.keep:
            shutil.rmtree(work if made else root)


if __name__ == "__main__":
    main()
