#!/usr/bin/env python3
"""Shows the live table on terminals of many sizes: it never scrolls what it drew into their history. Needs tmux.

    python3 tests/proof/terminal.py                   six sizes, half a minute

Owns: the terminals, what may not be so afterwards.
Does not own: how the table looks (see src/terminal/tests.rs).
"""
import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from process import default_binary

SIZES = [(80, 24), (80, 5), (80, 3), (80, 2), (20, 24), (1, 1)]
SETTLED_SECONDS = 1.5
WATCHED_SECONDS = 3
"""Twelve drawings."""


class Terminal:
    """A pane of a tmux of its own, with a shell in it whose only command is Pintail."""

    def __init__(self, binary, directory, width, height):
        self.socket = f"pintail-{os.getpid()}-{width}x{height}"
        # Nothing is logged: each line of the history would be of the table.
        settings = ["log.level=error", "source.rate=1000", "pipeline.checkpoint_interval=1s", "admin.listen=''"]
        command = " ".join([str(binary), *(f'--set "{setting}"' for setting in settings)])
        self.tmux("new-session", "-d", "-s", "x", "-x", str(width), "-y", str(height), "-c", str(directory), f"{command}; sleep 60")

    def tmux(self, *args):
        return subprocess.run(["tmux", "-L", self.socket, *args], check=True, capture_output=True, text=True).stdout

    def history(self):
        return int(self.tmux("display-message", "-p", "-t", "x", "#{history_size}"))

    def text(self):
        return self.tmux("capture-pane", "-p", "-S", "-", "-t", "x")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        subprocess.run(["tmux", "-L", self.socket, "kill-server"], check=False)


def watch(binary, width, height):
    """Returns what is wrong with a terminal of this size."""
    with tempfile.TemporaryDirectory(prefix="pintail-terminal-") as directory, Terminal(binary, directory, width, height) as terminal:
        time.sleep(SETTLED_SECONDS)
        before = terminal.history()
        time.sleep(WATCHED_SECONDS)
        grown = terminal.history() - before
        shown = terminal.text()
        terminal.tmux("send-keys", "-t", "x", "C-c")
        time.sleep(SETTLED_SECONDS)
        last = terminal.text()
        print(f"{width:>3} x {height:<3} {grown} lines of history in {WATCHED_SECONDS} s")
        faults = [f"{grown} lines were scrolled off"] * (grown > 0)
        faults += ["it shows no table"] * (width >= 80 and height > 2 and "bucket" not in shown)
        faults += ["its last table is not whole"] * (width >= 80 and not all(word in last for word in ("bucket", "medium", "checkpoint")))
        return [f"{width} x {height}: {fault}" for fault in faults]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pintail", type=Path, default=default_binary())
    args = parser.parse_args()
    faults = [fault for size in SIZES for fault in watch(args.pintail.resolve(), *size)]
    print("\n".join(faults) or "no terminal was flooded")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
