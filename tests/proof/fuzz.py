#!/usr/bin/env python3
"""Runs the fuzz targets of tests/fuzz for a time each, and says how far they came.

    python3 tests/proof/fuzz.py                                 a minute each
    python3 tests/proof/fuzz.py --seconds 3600                  the long form
    python3 tests/proof/fuzz.py --only decoder --seconds 10

It needs a nightly compiler (`rustup toolchain install nightly`) and `cargo install cargo-fuzz`. The first run compiles Arrow once more, without
DuckDB and Polars, in a target directory of its own (CARGO_TARGET_DIR, or ~/.cache/pintail/target-fuzz). What was found interesting is kept in
`--work` for the next run. A finding ends its target with a file to repeat it:

    cargo +nightly fuzz run --sanitizer none --fuzz-dir tests/fuzz TARGET FILE

Exit code 1 if a target found something, or ran nothing.

Owns: the limits that a target runs under, the table.
Does not own: the targets (see ../fuzz/targets).
"""
import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

FUZZ = Path(__file__).resolve().parent.parent / "fuzz"
CACHE = Path.home() / ".cache/pintail"
TARGETS = ("decoder", "decoder_bytes", "config", "commit_record", "hive_path")
# Twenty seconds for 4 KiB are a hang, 1 GiB is a leak.
LIMITS = ("-max_len=4096", "-timeout=20", "-rss_limit_mb=1024", "-print_final_stats=1")
PULSE = re.compile(r"cov: (\d+) ft: (\d+) corp: (\d+)")
STAT = re.compile(r"^stat::(\w+):\s+(\d+)$", re.MULTILINE)


def cargo(*arguments, **more):
    environment = {"CARGO_TARGET_DIR": str(CACHE / "target-fuzz")} | os.environ
    # No sanitizer: the modules have no unsafe code, and with one Arrow takes thrice the time to compile. Overflows and assertions are checked.
    command = ["cargo", "+nightly", "fuzz", arguments[0], "--sanitizer", "none", "--fuzz-dir", str(FUZZ), *map(str, arguments[1:])]
    return subprocess.run(command, env=environment, cwd=FUZZ.parent.parent, **more)


def run(target, seconds, work):
    """Runs a target. Returns its row of the table, and whether it found something or nothing ran."""
    corpus, artifacts = work / "corpus" / target, work / "artifacts" / target
    corpus.mkdir(parents=True, exist_ok=True)
    artifacts.mkdir(parents=True, exist_ok=True)
    seeds = [path for path in [FUZZ / "seeds" / target] if path.is_dir()]
    if target == "config":
        # Without its comments it is short enough to be taken whole.
        lines = (FUZZ.parent.parent / "config.example.toml").read_text().splitlines(keepends=True)
        (corpus / "example").write_text("".join(line for line in lines if line.strip() and not line.startswith("#")))
    words = {"decoder_bytes": "json.dict", "commit_record": "json.dict", "config": "config.dict"}.get(target)
    words = [f"-dict={FUZZ / words}"] if words else []
    done = cargo("run", target, corpus, *seeds, "--", f"-max_total_time={seconds}", f"-artifact_prefix={artifacts}/", *LIMITS, *words,
                 capture_output=True, text=True, errors="replace")
    stats = {name: int(value) for name, value in STAT.findall(done.stderr)}
    executed = stats.get("number_of_executed_units", 0)
    coverage, features, kept = (PULSE.findall(done.stderr) or [("–", "–", "–")])[-1]
    found = done.returncode != 0
    if found or not executed:
        print(done.stderr[-3000:], file=sys.stderr)
    rate, peak = stats.get("average_exec_per_sec", 0), stats.get("peak_rss_mb", 0)
    row = f"| {target} | {executed:,} | {rate:,} | {coverage} | {features} | {kept} | {peak} | {'FOUND' if found else 'nothing'} |"
    return row, found or not executed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=60, help="for each target (default: %(default)s)")
    parser.add_argument("--only", nargs="+", choices=TARGETS, default=TARGETS, metavar="TARGET", help=f"of {', '.join(TARGETS)}")
    parser.add_argument("--work", type=Path, default=CACHE / "fuzz", help="corpora and findings (default: %(default)s)")
    arguments = parser.parse_args()
    if cargo("build").returncode != 0:
        return 1
    rows, bad = [], []
    for target in arguments.only:
        print(f"{target}: {arguments.seconds} s", flush=True)
        row, is_bad = run(target, arguments.seconds, arguments.work.resolve())
        rows.append(row)
        bad += [target] if is_bad else []
    print("\n| target | inputs run | a second | coverage (edges) | features | corpus | peak MiB | found |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |")
    print("\n".join(rows))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
