"""Programs from outside, and the tree that is packed.

Owns: how a program is run and what is said where one is missing, the time that every product carries, and reproducible tar archives.
Does not own: what the programs are run for (see the recipes beside this file).
"""
import functools
import gzip
import io
import os
import shutil
import subprocess
import tarfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "dist/out"
VENV = Path(os.environ.get("PINTAIL_DIST_VENV") or "~/.cache/pintail/dist").expanduser()
"""Where `./dev dist` installs tools of Python."""


class Failed(Exception):
    """A recipe cannot make its product; the message says what to do."""


def tool(name):
    """Returns the path of a program: from PATH, or from the environment that `./dev dist` makes."""
    found = shutil.which(name) or shutil.which(name, path=str(VENV / "bin"))
    if not found:
        raise Failed(f"`{name}` is missing: ./dev dist installs it, `./dev --no-install dist` names the command")
    return found


def run(*command, **options):
    """Runs a command of the tools and returns what it printed."""
    command = [tool(command[0]), *map(str, command[1:])]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, **options)
    if done.returncode != 0:
        raise Failed(f"`{' '.join(command)}` ended with {done.returncode}{': ' + done.stderr.strip() if done.stderr else ''}")
    return done.stdout


@functools.cache
def version():
    """Returns Pintail's version as Cargo.toml has it."""
    return tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["version"]


@functools.cache
def epoch():
    """Returns the time that files of the products carry, in seconds: SOURCE_DATE_EPOCH, or that of the last commit."""
    given = os.environ.get("SOURCE_DATE_EPOCH")
    return int(given or run("git", "-C", ROOT, "log", "-1", "--format=%ct"))


def pages():
    """Returns the pages of the book, which the README links to, and their pictures: name below the top of the repository to bytes."""
    paths = sorted(path for path in (ROOT / "docs").rglob("*") if path.suffix in (".md", ".png"))
    return {str(path.relative_to(ROOT)): path.read_bytes() for path in paths}


def tar_gz(path, top, files):
    """Packs `files` (a name in the archive to its bytes and mode) below the directory `top`. The same files give the same bytes."""
    with open(path, "wb") as raw, gzip.GzipFile("", "wb", 9, raw, mtime=0) as packed, tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, (content, mode) in sorted(files.items()):
            info = tarfile.TarInfo(f"{top}/{name}")
            info.size, info.mode, info.mtime = len(content), mode, epoch()
            info.uname = info.gname = "root"
            tar.addfile(info, io.BytesIO(content))


def tree(directory):
    """Returns the files below a directory for `tar_gz`."""
    paths = (path for path in Path(directory).rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): (path.read_bytes(), 0o644) for path in paths}
