#!/usr/bin/env python3
"""Lets others edit the files that Pintail reads, between its runs and during them.

    python3 tests/proof/edits.py                              120 edits: about a minute
    nice python3 tests/proof/edits.py --edits 10000           the long run: about an hour

Two kinds of edits. Those that lose nothing: append (also half a line), rename, hard link, copy, compress (gzip, zstd), restore (a copy in place of
the original), save as an editor does, rotate, rotate and compress, copytruncate with a paused writer, away and back while no run looked. Those that
lose something: truncate, rewrite in place (with the same beginning or another), delete, delete with half a line unread, away for a run.

After each run: every whole line that lies in a file is in the output; none is there twice, but what a reported gap made Pintail read anew; a run before
which nothing was lost reports no gap. Every line has a number of its own.

Owns: the edits, what they may lead to, the table.
Does not own: the binary's life (see process.py), logrotate (see rotations.py).
"""
import interpreter  # noqa: F401  first: it may start this command again under another Python

import collections
import gzip
import json
import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import duckdb

import job
from oracle import Broken
from process import Pintail, Unexpected

EDITS_A_WORLD = 60
SETTLE_SECONDS = 60
LONG_BYTES = 1024
"""Below, a file is known by its name as well."""


class World:
    """A directory of files, the dataset that is made of them, and what is known of both."""

    def __init__(self, binary, directory, chance):
        self.binary, self.directory, self.chance = binary, directory, chance
        self.input = directory / "in"
        self.input.mkdir(parents=True)
        (directory / "away").mkdir()
        self.next_line = self.next_name = 0
        self.torn = {}          # the rest of a half line, by file
        self.excused = set()    # lines that may be there twice: a reported gap made Pintail read them anew
        self.may_gap = False    # whether something was lost since the last run
        self.done = []          # the edits, for the report

    # What lies there

    def files(self, plain=True):
        names = sorted(path for path in self.input.iterdir() if path.is_file())
        return [path for path in names if not plain or path.suffix not in (".gz", ".zst")]

    def lines_of(self, path):
        data = path.read_bytes()
        if path.suffix == ".gz":
            data = gzip.decompress(data)
        elif path.suffix == ".zst":
            data = subprocess.run(["zstd", "-dcq", path], check=True, capture_output=True).stdout
        return [json.loads(line)["user_id"] for line in data.split(b"\n")[:-1]]

    def there(self):
        return set().union(*(self.lines_of(path) for path in self.files(plain=False)))

    def rows(self):
        if not any((self.directory / "out").rglob("*.parquet")):
            return collections.Counter()
        rows = duckdb.sql(f"SELECT user_id FROM read_parquet('{self.directory}/out/**/*.parquet', hive_partitioning = false)").fetchall()
        return collections.Counter(row[0] for row in rows)

    def gaps(self):
        kinds = collections.Counter()
        for path in (self.directory / "out/_pintail/commits").rglob("*.json"):
            record = json.loads(path.read_text().splitlines()[0])
            kinds.update(note["kind"] for note in record["source"].get("notes", ()))
        return kinds

    # Edits

    def text(self, lines):
        texts = []
        for _ in range(lines):
            pad = "x" * self.chance.choice([0, 3, 40, 400])
            event = {"timestamp": 1767225600000, "user_id": self.next_line, "region": "eu", "amount": 1.5, "sku": pad}
            texts.append(json.dumps(event) + "\n")
            self.next_line += 1
        return "".join(texts).encode()

    def some(self):
        return self.text(self.chance.choice([1, 2, 5, 60]))

    def fresh(self, path):
        self.next_name += 1
        return path.with_name(f"{path.name}.{self.next_name}")

    def complete(self, path):
        """Ends a half line: whatever is done to the file next finds whole lines."""
        if rest := self.torn.pop(path, None):
            append(path, rest)

    def pick(self):
        files = self.files()
        path = self.chance.choice(files) if files else None
        if path:
            self.complete(path)
        return path

    def edit(self, name):
        path = None if name == "create" else self.pick()
        if path is None:
            name, path = "create", self.input / f"app{self.next_name}.log"
            self.next_name += 1
            path.write_bytes(self.some())
        else:
            getattr(self, name)(path)
        self.done.append(f"{name} {path.name}")

    def append(self, path):
        append(path, self.some())

    def append_half(self, path):
        text = self.some()
        cut = self.chance.randrange(1, len(text))
        append(path, text[:cut])
        self.torn[path] = text[cut:]

    def rename(self, path):
        path.rename(self.fresh(path))

    def link(self, path):
        os.link(path, self.fresh(path))

    def copy(self, path):
        place(path, self.fresh(path))

    def grown_copy(self, path):
        copy = self.fresh(path)
        hidden = copy.with_name("." + copy.name)
        shutil.copy2(path, hidden)
        append(hidden, self.some())
        hidden.rename(copy)

    def compress(self, path):
        compressed(path, self.chance)
        path.unlink()

    def restore(self, path):
        place(path, path)

    def save(self, path):
        """As an editor does: another file with more in it takes the name."""
        hidden = path.with_name("." + path.name)
        shutil.copy2(path, hidden)
        append(hidden, self.some())
        hidden.rename(path)

    def rotate(self, path):
        path.rename(self.fresh(path))
        path.write_bytes(self.some())

    def rotate_and_compress(self, path):
        rotated = self.fresh(path)
        path.rename(rotated)
        path.write_bytes(self.some())
        compressed(rotated, self.chance)
        rotated.unlink()

    def copytruncate(self, path):
        place(path, self.fresh(path))
        path.write_bytes(b"")
        append(path, self.some())

    def away_and_back(self, path):
        place(path, self.directory / "away" / path.name)
        path.unlink()
        shutil.copy2(self.directory / "away" / path.name, path.with_name("." + path.name))
        path.with_name("." + path.name).rename(path)

    def truncate(self, path):
        lines = path.read_bytes().splitlines(keepends=True)
        self.rewritten(path, b"".join(lines[:self.chance.randrange(len(lines))] if lines else []))

    def rewrite(self, path):
        self.rewritten(path, self.some() + self.some())

    def rewrite_behind(self, path):
        lines = path.read_bytes().splitlines(keepends=True)
        self.rewritten(path, b"".join(lines[:len(lines) // 2]) + self.some() + self.some())

    def rewritten(self, path, content):
        path.write_bytes(content)
        self.lossy(path)

    def delete(self, path):
        path.unlink()
        self.lossy()

    def replace(self, path):
        hidden = path.with_name("." + path.name)
        hidden.write_bytes(self.some())
        hidden.rename(path)
        self.lossy(path)

    def lossy(self, path=None):
        self.may_gap = True
        if path:
            self.excused.update(self.lines_of(path))

    # Runs

    def pintail(self, follow):
        config = {
            "pipeline.out_path": "out", "pipeline.checkpoint_interval": "100ms", "source.type": "file", "source.path": f"{self.input}/*",
            "source.follow": follow, "source.on_gap": "record", "source.poll_interval": "20ms", "transform.threads": 1, "sink.threads": 1,
            "sink.partition_by": [], "log.format": "json",
        }
        return Pintail(self.binary, config, self.directory)

    def run(self, edits):
        """Runs it; with edits, while it follows. Returns what must not be so."""
        follow = bool(edits) or bool(self.torn) or self.chance.random() < 0.6
        before = self.gaps()
        with self.pintail(follow) as pintail:
            if follow:
                self.settle(pintail)
                for name in edits:
                    # What is not yet read may be lost by what is lossy.
                    if name in LOSSY:
                        self.settle(pintail)
                    self.edit(name)
                    time.sleep(self.chance.choice([0, 0.01, 0.03, 0.1]))
                self.settle(pintail)
                # What comes too much comes late.
                time.sleep(0.15)
                kill = self.chance.random() < 0.2
                pintail.signal(signal.SIGKILL if kill else signal.SIGTERM)
                code = pintail.wait()
                if code != (-9 if kill else 0):
                    raise Broken(f"it ended with {code}:\n{pintail.stderr()[-3000:]}")
            elif code := pintail.wait(SETTLE_SECONDS):
                raise Broken(f"it ended with {code}:\n{pintail.stderr()[-3000:]}")
        gaps = self.gaps()["gap"] - before["gap"]
        self.check(gaps)

    def settle(self, pintail):
        """Waits until all that lies there is in the output."""
        end = time.monotonic() + SETTLE_SECONDS
        while missing := self.there() - set(self.rows()):
            if not pintail.is_running():
                raise Broken(f"it ended:\n{pintail.stderr()[-3000:]}")
            if time.monotonic() > end:
                raise Broken(f"{len(missing)} lines are not read, first {min(missing)}:\n{pintail.stderr()[-3000:]}")
            time.sleep(0.03)

    def check(self, gaps):
        rows = self.rows()
        if missing := self.there() - set(rows):
            raise Broken(f"{len(missing)} lines that lie there are not in the output, first {min(missing)}")
        if twice := {line for line, times in rows.items() if times > 1 and line not in self.excused}:
            raise Broken(f"{len(twice)} lines are there twice, first {min(twice)}")
        if strangers := {line for line in rows if line >= self.next_line}:
            raise Broken(f"lines that nobody wrote: {sorted(strangers)[:5]}")
        if gaps and not self.may_gap:
            raise Broken(f"{gaps} gaps are reported, and nothing was lost")
        self.may_gap = False


def append(path, data):
    with path.open("ab") as file:
        file.write(data)


def place(path, target):
    """Copies with times and all, as `cp -a`; the copy appears whole."""
    hidden = target.with_name("." + target.name + ".copy")
    subprocess.run(["cp", "-a", path, hidden], check=True)
    hidden.rename(target)


def compressed(path, chance):
    if chance.random() < 0.5 or not shutil.which("zstd"):
        subprocess.run(["gzip", "-k", path], check=True)
    else:
        subprocess.run(["zstd", "-q", "-k", path], check=True)


LOSSLESS = ["append"] * 4 + ["append_half", "append_half", "create", "rename", "rename", "link", "copy", "grown_copy", "compress", "compress", "restore",
                             "save", "rotate", "rotate", "rotate_and_compress", "copytruncate", "away_and_back"]
LOSSY = ["truncate", "rewrite", "rewrite_behind", "delete", "replace"]


def prove(options, work):
    made = collections.Counter()
    seeds = random.Random(options.seed)
    worlds = 0
    while sum(made.values()) < options.edits:
        seed = seeds.randrange(2**31)
        world = World(options.pintail, work / f"world-{worlds}", random.Random(seed))
        begin = time.monotonic()
        try:
            live(world, min(EDITS_A_WORLD, options.edits - sum(made.values())))
        except (Broken, Unexpected) as error:
            if options.keep:
                shutil.copytree(world.directory, options.keep / f"seed-{seed}", symlinks=True)
            return [f"world {worlds}: {error}\nafter the edits: {'; '.join(world.done[-12:])}"]
        made.update(text.split()[0] for text in world.done)
        worlds += 1
        notes = ", ".join(f"{kind} {count}" for kind, count in sorted(world.gaps().items()))
        print(f"world {worlds}: {len(world.done)} edits, {world.next_line} lines, {time.monotonic() - begin:.0f} s; noted: {notes}", flush=True)
        shutil.rmtree(world.directory)
    print(f"\n{sum(made.values())} edits: " + ", ".join(f"{name} {count}" for name, count in made.most_common()))
    return []


def live(world, edits):
    while len(world.done) < edits:
        # A gap is reported where something is lost, and nowhere else: each run is before or after, and of one kind.
        kinds = LOSSLESS if world.chance.random() < 0.7 else LOSSLESS + LOSSY * 2
        between = [world.chance.choice(kinds) for _ in range(world.chance.randrange(0, 5))]
        for name in between:
            world.edit(name)
        world.run([])
        world.run([world.chance.choice(kinds) for _ in range(world.chance.randrange(1, 7))])


def arguments():
    parser = job.parser(__doc__)
    add = parser.add_argument
    add("--edits", type=int, metavar="N", default=120, help="how many (%(default)s)")
    add("--keep", type=Path, metavar="DIR", help="where a world that failed is kept")
    options = job.parse(parser)
    if options.edits < 1:
        parser.error("it takes at least one edit")
    return options


if __name__ == "__main__":
    options = arguments()
    print(f"edits: --edits {options.edits} --seed {options.seed}\n", flush=True)
    job.conclude(prove, options, "edits")
