#!/usr/bin/env python3
"""Makes copies of the files that Pintail reads, of different ages and under any name, and edits some of them.

    python3 tests/proof/copies.py                             80 edits: about a minute
    nice python3 tests/proof/copies.py --edits 1500           the long run: about a quarter of an hour

What loses nothing: append, also the same to all copies and in any order; copy, also a copy of a copy; copy with more in it; append to a copy what a longer
one holds already; compress under another name; copy (or compress) and truncate, cut, replace, delete or rename, where another file holds all of it. What
may lose something: edit one of several copies, in place or as an editor does, its first, middle or last lines.

After each run: every whole line that lies in a file is in the output; none is there twice, unless a file that holds it was edited and a gap was reported;
a run before which nothing was edited reports no gap. In some worlds all files begin with the same header of a KiB and a half, in others each begins with
a line of 70 KB of which only the end differs.

Owns: groups of copies, what is done to them, what it may lead to.
Does not own: single files and their edits (see edits.py), the binary's life (see process.py).
"""
import interpreter  # noqa: F401  first: it may start this command again under another Python

import collections
import json
import os
import random
import shutil
import signal
import subprocess
import time

import edits
import job
from hands_on_files import append
from losses import Seen, content_of
from oracle import Broken
from process import Unexpected

HEADER = 1
"""The number of the header that all files of a world begin with. How often it is read says nothing."""
LONG_LINE_BYTES = 70_000
LINES_MIN = 20
"""Own lines of a file: more than a KiB, and so many that a header is not most of them."""


class World(edits.World):
    """A directory of copies."""

    may_be_framed = False

    def __init__(self, binary, directory, chance):
        super().__init__(binary, directory, chance)
        self.kind = chance.choice(["plain", "plain", "header", "long"])
        self.fresh_inodes = set()   # files that nobody has looked at since they got something
        self.edited = set()         # lines of files that were edited since the last check

    # Content

    def event(self, number, pad):
        event = {"timestamp": 1767225600000, "user_id": number, "region": "eu", "amount": 1.5, "sku": pad}
        return (json.dumps({"agent": event.pop("sku"), **event} if len(pad) > 1000 else event) + "\n").encode()

    def own_line(self):
        self.next_line += 1
        return self.event(self.next_line - 1, "x" * self.chance.choice([0, 3, 40, 400]))

    def own(self, most=40):
        return b"".join(self.own_line() for _ in range(self.chance.randrange(1, most)))

    def beginning(self):
        """Returns what a file has that is begun anew."""
        lines = b"".join(self.own_line() for _ in range(self.chance.randrange(LINES_MIN, 3 * LINES_MIN)))
        if self.kind == "header":
            return self.event(HEADER, "=" * 1500) + lines
        if self.kind == "long":
            self.next_line += 1
            return self.event(self.next_line - 1, "=" * LONG_LINE_BYTES) + lines
        return lines

    def new_name(self, ending=""):
        self.next_name += 1
        return self.input / f"{self.chance.choice('amz')}{self.next_name}.log{ending}"

    def others_with(self, path):
        """Returns the other files that hold all of one."""
        content = content_of(path)
        return [other for other in self.files(plain=False) if other != path and content_of(other).startswith(content)]

    def group(self, path):
        """Returns the other plain files of which one is the beginning of the other."""
        content = path.read_bytes()
        shares = lambda other: content.startswith(other) or other.startswith(content)
        return [other for other in self.files() if other != path and shares(other.read_bytes())]

    def changed(self, *paths):
        self.fresh_inodes |= {path.stat().st_ino for path in paths}

    def part(self, path):
        """Is to be called before two files part: if nobody has looked at them as copies, they are two that only begin alike."""
        if any(file.stat().st_ino in self.fresh_inodes for file in [path, *self.group(path)]):
            self.let_look()

    def looked(self):
        super().looked()
        self.fresh_inodes.clear()

    # Edits

    def edit(self, name):
        files = [path for path in self.files() if path.stat().st_size]
        if name == "create" or not files:
            name, path = "create", self.new_name()
            path.write_bytes(self.beginning())
            self.changed(path)
        else:
            path = self.chance.choice(files)
            name = getattr(self, name)(path) or name
        self.done.append(name)
        self.story.append(f"{name} {path.name}")

    def append(self, path):
        self.part(path)
        append(path, self.own())
        self.changed(path)

    def append_to_all(self, path):
        """The same to all copies that are as long."""
        alike = [other for other in self.group(path) if other.read_bytes() == path.read_bytes()] + [path]
        if any(other.stat().st_size > path.stat().st_size for other in self.group(path)):
            return self.catch_up(path)
        more = self.own()
        self.chance.shuffle(alike)
        for other in alike:
            append(other, more)
            time.sleep(self.chance.choice([0, 0, 0.03, 0.1]))
        self.changed(*alike)
        return None

    def catch_up(self, path):
        """A copy gets some of what a longer one holds."""
        longer = [other for other in self.group(path) if other.stat().st_size > path.stat().st_size]
        if not longer:
            self.append(path)
            return "append"
        lines = self.chance.choice(longer).read_bytes()[path.stat().st_size:].splitlines(keepends=True)
        append(path, b"".join(lines[:self.chance.randrange(1, len(lines) + 1)]))
        self.changed(path)
        return "catch_up"

    def copy(self, path, more=b""):
        target = self.new_name()
        self.put(path.read_bytes() + more, target)
        self.changed(path, target)

    def older_and_younger(self, path):
        """Copies of different ages, each of the one before."""
        if self.others_with(path):
            self.part(path)
        for _ in range(self.chance.randrange(1, 4)):
            target = self.new_name()
            self.put(path.read_bytes() + self.own(), target)
            self.changed(path, target)
            path = target

    def put(self, content, target):
        hidden = target.with_name("." + target.name)
        hidden.write_bytes(content)
        hidden.rename(target)

    def compressed(self, path):
        ending, command = self.chance.choice([(".gz", ["gzip", "-c"]), (".zst", ["zstd", "-qc"])])
        target = self.new_name(ending)
        hidden = target.with_name("." + target.name)
        with hidden.open("wb") as file:
            subprocess.run([*command, path], check=True, stdout=file)
        hidden.rename(target)

    def compress(self, path):
        self.compressed(path)
        if self.chance.random() < 0.5:
            path.unlink()

    def rotate(self, path):
        """A copy, plain or compressed, and something new in its place."""
        self.part(path)
        self.compressed(path) if self.chance.random() < 0.4 else self.copy(path)
        if self.chance.random() < 0.3:
            self.let_look()
        self.begin_anew(path)

    def begin_anew(self, path):
        content = self.beginning()
        if self.chance.random() < 0.5:
            path.write_bytes(content)
        else:
            self.put(content, path)
        self.changed(path)

    def held(self, path):
        """Returns whether another file holds all that a file does, and was looked at."""
        self.part(path)
        return bool(self.others_with(path))

    def cut(self, path):
        if not self.held(path):
            self.append(path)
            return "append"
        lines = path.read_bytes().splitlines(keepends=True)
        kept = sum(map(len, lines[:self.chance.randrange(len(lines))]))
        os.truncate(path, kept if kept > 2048 else 0)
        self.changed(path)
        return None

    def replace(self, path):
        if not self.held(path):
            return self.rotate(path) or "rotate"
        return self.begin_anew(path)

    def delete(self, path):
        if not self.held(path):
            return self.rename(path) or "rename"
        return path.unlink()

    def rename(self, path):
        path.rename(self.new_name())

    def edit_one(self, path):
        """A few of its lines are taken, added or changed; a copy of it stays, mostly."""
        if not self.others_with(path) and self.chance.random() < 0.8:
            self.copy(path)
        self.let_look()
        lines = path.read_bytes().splitlines(keepends=True)
        few = self.chance.randrange(1, max(2, len(lines) // 4))
        at = self.chance.choice([0, len(lines) // 2, max(0, len(lines) - few)])
        lines[at:at + self.chance.choice([0, few])] = self.chance.choice([[], [self.own_line()]])
        content = b"".join(lines)
        if content == path.read_bytes() or any(other.startswith(content) for other in map(content_of, self.files(plain=False))):
            content = self.own_line() + content
        self.edited |= set(self.lines_of(path))
        self.may_gap = True
        if self.chance.random() < 0.5:
            path.write_bytes(content)
        else:
            if not Seen(str(path), "", content).shows(path.read_bytes()):
                # It begins and ends otherwise: to whoever looks, another file has its name.
                self.excused.update(self.lines_of(path))
            self.put(content, path)
        self.changed(path)
        self.let_look()

    # Runs

    def run(self, names):
        """Runs it; with edits, while it follows."""
        follow = bool(names) or not self.files(plain=False) or self.chance.random() < 0.5
        self.story.append(f"a run, {follow=}")
        before = self.notes()["gap"]
        with self.pintail(follow) as pintail:
            if follow:
                self.settle(pintail)
                between_runs, self.let_look = self.let_look, lambda: self.wait_for_look(pintail)
                for name in names:
                    self.edit(name)
                    time.sleep(self.chance.choice([0, 0.01, 0.03, 0.1]))
                self.let_look = between_runs
                self.wait_for_look(pintail)
                if self.edited:
                    # What was written in place and has its length is looked at again after a second.
                    time.sleep(1.5)
                    self.wait_for_look(pintail)
                pintail.signal(signal.SIGTERM)
            if code := pintail.wait(edits.SETTLE_SECONDS):
                raise Broken(f"it ended with {code}:\n{pintail.stderr()[-3000:]}")
        gaps = self.notes()["gap"] - before
        rows = self.rows()
        if missing := self.there() - set(rows):
            raise Broken(f"{len(missing)} lines that lie there are not in the output, first {min(missing)}")
        if gaps and not self.may_gap:
            raise Broken(f"{gaps} gaps are reported, and nothing was lost")
        twice = {line for line, times in rows.items() if times > 1 + self.excused[line] and line != HEADER}
        if strangers := twice - (self.edited if gaps else set()):
            raise Broken(f"{len(strangers)} lines are there too often, first {min(strangers)}; {gaps} gaps; edited {bool(self.edited)}")
        self.excused.update({line: rows[line] - 1 - self.excused[line] for line in twice})
        self.may_gap, self.edited = False, set()
        self.looked()


KINDS = ["create", "append", "append", "append_to_all", "append_to_all", "catch_up", "catch_up", "copy", "older_and_younger", "older_and_younger", "compress",
         "rotate", "rotate", "cut", "cut", "replace", "delete", "delete", "rename", "edit_one", "edit_one"]


def live(world, many):
    while len(world.done) < many:
        for _ in range(world.chance.randrange(0, 5)):
            world.edit(world.chance.choice(KINDS))
        world.run([])
        world.run([world.chance.choice(KINDS) for _ in range(world.chance.randrange(2, 9))])


def prove(options, work):
    made, worlds, seeds = collections.Counter(), 0, random.Random(options.seed)
    while sum(made.values()) < options.edits:
        seed = seeds.randrange(2**31)
        world = World(options.pintail, work / f"world-{worlds}", random.Random(seed))
        begin = time.monotonic()
        try:
            live(world, min(40, options.edits - sum(made.values())))
        except (Broken, Unexpected) as error:
            if options.keep:
                shutil.copytree(world.directory, options.keep / f"seed-{seed}", symlinks=True)
            return [f"world {worlds} ({world.kind}): {error}\nafter {'; '.join(world.story[-25:])}"]
        made.update(world.done)
        worlds += 1
        notes = ", ".join(f"{kind} {count}" for kind, count in sorted(world.notes().items()))
        print(f"world {worlds}: {len(world.done)} edits, {world.kind}, {time.monotonic() - begin:.0f} s; noted: {notes}", flush=True)
        shutil.rmtree(world.directory)
    print(f"\n{sum(made.values())} edits: " + ", ".join(f"{name} {count}" for name, count in made.most_common()))
    return []


if __name__ == "__main__":
    options = edits.arguments(__doc__, 80)
    print(f"copies: --edits {options.edits} --seed {options.seed}\n", flush=True)
    job.conclude(prove, options, "copies")
