"""The binary that is packed, and what it says of itself.

Owns: the stripped copy in dist/out, and the facts about it: version, architecture, oldest glibc and libstdc++, completions, man page.
Does not own: how it is built.
"""
import functools
import os
import re
import subprocess
from pathlib import Path

from tools import OUT, Failed, run, tool, version

MACHINES = {"Advanced Micro Devices X86-64": "x86_64", "AArch64": "aarch64"}
DEBIAN = {"x86_64": "amd64", "aarch64": "arm64"}
SHELLS = {"bash": "pintail.bash", "zsh": "_pintail", "fish": "pintail.fish"}
"""The names under which each shell looks for completions."""


def default():
    """Returns where `cargo build --release` leaves the binary."""
    target = os.environ.get("CARGO_TARGET_DIR") or Path(__file__).resolve().parents[2] / "target"
    return Path(target) / "release/pintail"


class Binary:
    """A binary of this version, stripped, at dist/out/pintail."""

    def __init__(self, built):
        if not built.is_file():
            raise Failed(f"there is no binary {built}: cargo build --release --locked, or --binary PATH")
        self.path = OUT / "pintail"
        OUT.mkdir(exist_ok=True)
        run("install", "-m", "0755", "-s", f"--strip-program={tool('strip')}", built, self.path)
        said = self.says("--version")
        if said.split() != ["pintail", version()]:
            raise Failed(f"{built} says that it is {said.strip()!r}, and Cargo.toml that this is {version()}: build it from this tree")

    def says(self, *arguments):
        """Returns what a command of the binary prints."""
        done = subprocess.run([self.path, *arguments], capture_output=True, text=True, env={"PATH": os.environ["PATH"]})
        if done.returncode != 0 or not done.stdout:
            raise Failed(f"`pintail {' '.join(arguments)}` ended with {done.returncode}: {done.stderr.strip()[:300]}")
        return done.stdout

    def completions(self):
        """Returns the completions: file name to text."""
        return {name: self.says("completions", shell) for shell, name in SHELLS.items()}

    def man(self):
        """Returns the man pages: file name to text. That of the program names those of its commands."""
        program = self.says("man")
        commands = [name.replace("\\-", "-") for name in re.findall(r"^pintail\\-([a-z\\-]+)\(1\)", program, re.MULTILINE)]
        return {"pintail.1": program} | {f"pintail-{name}.1": self.says("man", name) for name in commands if name != "help"}

    @functools.cached_property
    def arch(self):
        """x86_64 or aarch64."""
        machine = re.search(r"Machine:\s+(.+)", run("readelf", "--file-header", self.path))[1]
        if machine not in MACHINES:
            raise Failed(f"{self.path} is for {machine}: packages are made for {', '.join(MACHINES.values())}")
        return MACHINES[machine]

    @functools.cached_property
    def target(self):
        """The target triple, from the file itself: a binary that wants another C library than glibc gets no name of glibc's."""
        interpreter = re.search(r"program interpreter: ([^]]+)", run("readelf", "--program-headers", self.path))
        if not interpreter or "/ld-linux-" not in interpreter[1]:
            raise Failed(f"{self.path} is not linked to glibc ({interpreter[1] if interpreter else 'static'}), the packages are named after it")
        return f"{self.arch}-unknown-linux-gnu"

    @functools.cached_property
    def needs(self):
        """The newest symbol version of each library, by prefix: {"GLIBC": (2, 34), "GLIBCXX": (3, 4, 30), …}."""
        newest = {}
        for prefix, number in re.findall(r"\((GLIBC|GLIBCXX|CXXABI|GCC)_([0-9.]+)\)", run("objdump", "--dynamic-syms", self.path)):
            newest[prefix] = max(newest.get(prefix, ()), tuple(map(int, number.split("."))))
        return newest

    @functools.cached_property
    def requirements(self):
        """One sentence for people."""
        needs = {prefix: ".".join(map(str, number)) for prefix, number in self.needs.items()}
        return f"Linux on {self.arch} with glibc {needs['GLIBC']} or newer, libgcc, and a libstdc++ that has GLIBCXX_{needs['GLIBCXX']}"
