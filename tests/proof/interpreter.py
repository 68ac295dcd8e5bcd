"""The interpreter that a proof runs under.

Owns: that importing this module ends up in a Python that has duckdb and pyarrow: this one, `PINTAIL_TEST_PYTHON`, or the virtual
environment that `./dev` makes.
Does not own: installing anything.
"""
import importlib.util
import os
import sys
from pathlib import Path

NEEDED = ("duckdb", "pyarrow")
VENV = Path(os.environ.get("PINTAIL_VENV") or Path.home() / ".cache/pintail/venv").expanduser()
TRIED = "PINTAIL_PROOF_INTERPRETER_TRIED"


def lacks_packages():
    return any(importlib.util.find_spec(package) is None for package in NEEDED)


def ensure_packages():
    """Starts the same command again under an interpreter that has the packages, if this one lacks them."""
    if not lacks_packages():
        return
    tried = os.environ.get(TRIED, "").split(os.pathsep)
    for interpreter in (os.environ.get("PINTAIL_TEST_PYTHON", ""), str(VENV / "bin/python")):
        if interpreter and interpreter not in tried and os.access(interpreter, os.X_OK):
            os.environ[TRIED] = os.pathsep.join([*tried, interpreter])
            os.execv(interpreter, [interpreter, *sys.orig_argv[1:]])
    sys.exit(f"{sys.executable} lacks {' or '.join(NEEDED)}: run `./dev proofs` once, or set PINTAIL_TEST_PYTHON to an interpreter that has them")


ensure_packages()
