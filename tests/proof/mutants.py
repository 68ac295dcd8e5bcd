#!/usr/bin/env python3
"""Breaks the commit protocol in its sources, one patch at a time, and expects the tests to be red each time.

    python3 tests/proof/mutants.py                  all patches in tests/proof/mutants/: about 30 minutes on two busy cores
    python3 tests/proof/mutants.py --only 07        those whose name begins so
    python3 tests/proof/mutants.py --target DIR     where to build, and the copy of the sources; a first build takes 10 minutes, each mutant half a minute

These are the mutants that the traits `Fs` and `Blob` cannot express: a changed order of whole steps, a check left out. Those that they can (a call left
out, swapped, replacing) are tried by `crates/storage/tests/it/mutants.rs` and `bucket/mutants.rs` there in each test run. Of each mutant only the member
`pintail-storage` is built, in a copy of the sources; the sources here are not touched. The unchanged sources must be green first.

Owns: copying, patching, building, the table. Exit code 1 if a mutant survives, does not apply or does not build.
Does not own: the mutants (see mutants/*.patch), the tests that catch them.
"""
import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
PATCHES = pathlib.Path(__file__).resolve().parent / "mutants"

# What must catch a mutant. Not `mutants::every_call`: a changed order has other calls, and its list of reasons would be red for that alone.
TESTS = {
    "--lib": ["bucket::", "checkpoint::", "durable::"],
    "--test=it": [
        "bucket::mutants::the_protocol", "bucket::situations::", "crash_points::", "fence::", "recovery::", "sequences::", "mutants::a_rename"
    ],
}


# Each mutant differs by a few lines and runs once: what matters is the time that it takes to compile.
QUICKLY = [part for key in ["opt-level=1", "codegen-units=64"] for part in ["--config", f"profile.release.package.pintail-storage.{key}"]]


def copy(work):
    """Copies the workspace to `work`."""
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    for name in ["benches", "crates", "src", "tests/it"]:
        shutil.copytree(REPOSITORY / name, work / name)
    shutil.copytree(REPOSITORY / "tests/fuzz/seeds", work / "tests/fuzz/seeds")
    for name in ["Cargo.lock", "Cargo.toml"]:
        shutil.copy(REPOSITORY / name, work)
    # The times of the copies are those of the originals: cargo would take an older build of another copy for this one's.
    (work / "crates/storage/src/lib.rs").touch()


def run_tests(work, target):
    """Returns the tests that fail: the unit tests, or if all of them pass, the others. Raises RuntimeError if nothing was built."""
    environment = {**os.environ, "CARGO_TARGET_DIR": str(target), "CARGO_TERM_COLOR": "never", "CARGO_INCREMENTAL": "1"}
    failed = []
    for which, tests in TESTS.items():
        command = ["cargo", "test", "--release", "--package", "pintail-storage", *QUICKLY, which]
        built = subprocess.run([*command, "--no-run"], cwd=work, env=environment, capture_output=True, text=True)
        if built.returncode != 0:
            raise RuntimeError("does not build:\n" + built.stderr[-3000:])
        ran = subprocess.run([*command, "--", *tests], cwd=work, env=environment, capture_output=True, text=True)
        counted = re.search(r"test result: \w+\. (\d+) passed; (\d+) failed", ran.stdout)
        if counted is None or int(counted[1]) + int(counted[2]) == 0:
            raise RuntimeError(f"no test ran:\n{ran.stdout[-1000:]}{ran.stderr[-2000:]}")
        failed += re.findall(r"^test (\S+) \.\.\. .*FAILED$|^    (\w+::\S+)$", ran.stdout, re.MULTILINE)
        if ran.returncode != 0 and not failed:
            raise RuntimeError(f"red, but no test failed:\n{ran.stdout[-1000:]}{ran.stderr[-2000:]}")
        if failed:
            break
    return sorted({one or other for one, other in failed})


def try_patch(patch, work, target):
    """Applies `patch` to the copy, runs the tests, takes it back. Returns the tests that failed."""
    touched = [line.split()[1].removeprefix("b/") for line in patch.read_text().splitlines() if line.startswith("+++ ")]
    sources = {path: (work / path).read_bytes() for path in touched}
    applied = subprocess.run(["patch", "-p1", "--no-backup-if-mismatch", "-i", patch], cwd=work, capture_output=True, text=True)
    try:
        if applied.returncode != 0:
            raise RuntimeError("does not apply: " + applied.stdout)
        return run_tests(work, target)
    finally:
        for path, source in sources.items():
            (work / path).write_bytes(source)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cache = os.environ.get("CARGO_TARGET_DIR", os.path.expanduser("~/.cache/pintail/target"))
    parser.add_argument("--only", default="", metavar="PREFIX", help="only patches whose name begins so")
    parser.add_argument("--target", type=pathlib.Path, default=pathlib.Path(cache) / "mutants", metavar="DIR", help="build directory (%(default)s)")
    options = parser.parse_args()
    patches = sorted(path for path in PATCHES.glob("*.patch") if path.name.startswith(options.only))
    if not patches:
        sys.exit(f"no patch in {PATCHES} begins with {options.only}")

    work = options.target / "sources"
    copy(work)
    print("the sources as they are", flush=True)
    try:
        failed = run_tests(work, options.target)
    except RuntimeError as error:
        sys.exit(f"  {error}")
    if failed:
        sys.exit(f"  red without any mutant: {', '.join(failed)}")
    rows, bad = [], 0
    for patch in patches:
        begin = time.monotonic()
        try:
            failed = try_patch(patch, work, options.target)
            verdict = "caught by " + ", ".join(name.split("::", 1)[-1] if name.startswith("checkpoint::") else name for name in failed) if failed else "SURVIVED"
            bad += not failed
        except RuntimeError as error:
            verdict, bad = f"ERROR {error}", bad + 1
        rows.append((patch.stem, verdict))
        print(f"  {patch.stem}: {verdict} ({time.monotonic() - begin:.0f} s)", flush=True)

    print(f"\n{len(rows)} mutants, {len(rows) - bad} caught\n\n| mutant | tests that fail |\n|---|---|")
    for name, verdict in rows:
        print(f"| {name[3:].replace('-', ' ')} | {verdict.removeprefix('caught by ')} |")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
