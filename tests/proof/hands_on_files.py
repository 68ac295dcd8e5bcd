"""What others do to a file, and how Pintail's thread is seen to look.

Owns: one file at a time: appending, copying, compressing; whether a change shows at both ends.
Does not own: which edits are made and what they may lead to (see edits.py).
"""
import contextlib
import shutil
import subprocess
from pathlib import Path

from losses import LONG_BYTES


def is_hidden(before, after):
    """Returns whether nobody can tell from what a file is recognized by in its place that it was changed: all is where it was at both ends."""
    end = len(before)
    return before[:LONG_BYTES] == after[:LONG_BYTES] and before[max(0, end - LONG_BYTES):] == after[max(0, end - LONG_BYTES):end]


def sleeps(pid):
    """Returns how often the thread that reads has waited; 0 before there is one."""
    for task in Path(f"/proc/{pid}/task").glob("*"):
        with contextlib.suppress(OSError):
            if (task / "comm").read_text() == "source-file\n":
                return int((task / "status").read_text().partition("\nvoluntary_ctxt_switches:")[2].split()[0])
    return 0


def append(path, data):
    with path.open("ab") as file:
        file.write(data)


def place(path, target):
    """Copies with times and all, as `cp -a`; the copy appears whole."""
    hidden = target.with_name("." + target.name + ".copy")
    subprocess.run(["cp", "-a", path, hidden], check=True)
    hidden.rename(target)


def place_grown(path, target, more):
    """Copies with times, and with more in it."""
    hidden = target.with_name("." + target.name)
    shutil.copy2(path, hidden)
    append(hidden, more)
    hidden.rename(target)


def compressed(path, chance):
    if chance.random() < 0.5 or not shutil.which("zstd"):
        subprocess.run(["gzip", "-kf", path], check=True)
    else:
        subprocess.run(["zstd", "-qkf", path], check=True)
