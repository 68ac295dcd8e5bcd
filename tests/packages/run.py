#!/usr/bin/env python3
"""Installs each package that `dist/build` made, and uses it as its user would.

    ./dev dist
    dist/build all
    ~/.cache/pintail/dist/bin/python tests/packages/run.py        # as root; about 5 minutes, of which debootstrap takes two

  checksums   SHA256SUMS fit
  archive     unpacked elsewhere: it runs, has completions and a man page; packed again from the same tree, it has the same bytes
  sbom        valid CycloneDX; it has every crate and DuckDB with its version as the binary says it
  deb         into a fresh Debian 12 by debootstrap, with systemd running in it (`systemd-nspawn`)
  wheel       into a fresh environment of Python by pip, without network; its tag is what auditwheel finds
  chart       linted; installed by helm into a server that records what comes; held to the schemas of Kubernetes, and to the example

Owns: the steps, the exit code.
Does not own: how the packages are made (see dist/README.md).
"""
import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "dist/recipes"))

import files  # noqa: E402
import service  # noqa: E402
from debian import Debian  # noqa: E402
from failed import Failed  # noqa: E402

OUT = ROOT / "dist/out"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--only", nargs="*", metavar="STEP", help="of the above")
    parser.add_argument("--base", type=Path, help="a directory for a Debian by debootstrap: used if it is there, else made and kept")
    parser.add_argument("--work", type=Path, default=Path("/var/tmp"), help="where a directory for everything is made (default: %(default)s)")
    arguments = parser.parse_args()
    failed = []
    with tempfile.TemporaryDirectory(prefix="pintail-packages-", dir=arguments.work) as work:
        steps = {"checksums": files.checksums, "archive": files.archive, "sbom": files.sbom, "wheel": files.wheel, "chart": chart,
                 "deb": lambda work: deb(work, arguments.base)}
        for name, step in steps.items():
            if arguments.only and name not in arguments.only:
                continue
            begin, directory = time.monotonic(), Path(work) / name
            directory.mkdir()
            try:
                for line in step(directory):
                    print(f"{name}: {line}", flush=True)
                print(f"{name}: ok, {time.monotonic() - begin:.1f} s", flush=True)
            except (Failed, subprocess.SubprocessError, OSError, ValueError, KeyError) as failure:
                print(f"{name}: FAILED: {failure}", flush=True)
                failed.append(name)
    sys.exit(f"FAILED: {', '.join(failed)}" if failed else 0)


def chart(_):
    # These need packages that the other steps do without.
    import chart as recipe

    import charts
    messages = [message for message in recipe.lint()["Messages"] if message["Severity"] > 1]
    if messages:
        raise Failed(f"helm lint: {messages}")
    yield "helm lint: nothing"
    yield from charts.check(OUT / "pintail")


def deb(work, base):
    with Debian(work, base) as debian:
        yield from service.check(debian, files.product("*.deb"))


if __name__ == "__main__":
    main()
