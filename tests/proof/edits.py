#!/usr/bin/env python3
"""Lets others edit the files that Pintail reads, between its runs and during them.

    python3 tests/proof/edits.py                              120 edits: about a minute
    nice python3 tests/proof/edits.py --edits 10000           the long run: about an hour

Two kinds of edits. Those that lose nothing: append (also half a line), rename, hard link, copy, compress (gzip, zstd), restore (a copy in place of
the original), save as an editor does, rotate, rotate and compress, copytruncate with a paused writer, away and back while no run looked, swap two
files or put copies of them in each other's place, cut a file beside a copy of it. Those that lose something: truncate, rewrite in place (with the same beginning or another), delete, replace by another file, edit and put in place as an editor does.

After each run: every whole line that lies in a file is in the output; none is there more often than edits that lose something made Pintail read it
anew; what was lost is reported, as a gap where docs/sources/files.md says so; a run before which nothing was lost reports no gap. Every line has a number of
its own. In every other world each line begins and ends with the same KiB and more, and so do all files, of which many have the same length: only what is
between tells them apart.

Owns: the edits, what they may lead to, the table.
Does not own: what is lost by an edit (see losses.py), the binary's life (see process.py), logrotate (see rotations.py).
"""
import interpreter  # noqa: F401  first: it may start this command again under another Python

import collections
import json
import os
import random
import shutil
import signal
import time
from pathlib import Path

import pyarrow.parquet

import job
from hands_on_files import append, compressed, is_hidden, place, place_grown, sleeps
from losses import LONG_BYTES, content_of, look, lost
from oracle import Broken
from process import Pintail, Unexpected

EDITS_A_WORLD = 60
FRAME = "=" * 1100
"""What stands at both ends of all lines of a world."""
FIRST_LINE = 1_000_000
"""All have as many digits."""
SETTLE_SECONDS = 90
"""More than a minute: for so long a file is waited for that begins as one that vanished, and is shorter."""
LOOKS = 10
"""Sleeps of the thread that reads, of which one before a look and one after it are enough where nothing else makes it wait."""


class World:
    """A directory of files, the dataset that is made of them, and what is known of both."""

    may_be_framed = True

    def __init__(self, binary, directory, chance):
        self.binary, self.directory, self.chance = binary, directory, chance
        self.input = directory / "in"
        self.input.mkdir(parents=True)
        (directory / "away").mkdir()
        self.next_line = FIRST_LINE
        self.next_name = 0
        self.is_framed = self.may_be_framed and chance.random() < 0.5
        self.torn = {}          # the rest of a half line, by inode
        self.read = []          # what lay there after the last run, and was read
        self.gone = []          # what was deleted under the run
        self.excused = collections.Counter()    # how often lines may have been read anew, since something was lost
        self.may_gap = False    # whether something was lost since the last run
        self.twins = set()      # inodes of copies and originals at which Pintail has not looked since
        self.unread = set()     # inodes of files that are new since then
        self.long = {}          # what was then in files that are long enough to be known under any name, by inode
        self.cuts = []          # what was in files that were cut beside a copy since then
        self.parts = set()      # inodes of small files that hold a part of another, and nothing else: nothing is known of them
        self.let_look = lambda: self.run([])
        self.done, self.story = [], []          # the edits, and with the runs, for the report
        self.known_lines, self.known_files, self.known_rows, self.known_notes = {}, set(), collections.Counter(), collections.Counter()

    # What lies there

    def files(self, plain=True):
        names = sorted(path for path in self.input.iterdir() if path.is_file())
        return [path for path in names if not plain or path.suffix not in (".gz", ".zst")]

    def lines_of(self, path):
        status = path.stat()
        key = status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
        if key not in self.known_lines:
            self.known_lines[key] = [json.loads(line)["user_id"] for line in content_of(path).split(b"\n")[:-1]]
        return self.known_lines[key]

    def there(self):
        return set().union(*(self.lines_of(path) for path in self.files(plain=False)))

    def rows(self):
        """Returns how often each line is in the output. A file of that never changes."""
        for path in (self.directory / "out").glob("*.parquet"):
            if path not in self.known_files:
                self.known_files.add(path)
                self.known_rows.update(pyarrow.parquet.read_table(path, columns=["user_id"]).column(0).to_pylist())
        return self.known_rows

    def notes(self):
        """Returns how many notes of each kind the records have."""
        for path in (self.directory / "out/_pintail/commits").rglob("*.json"):
            if path not in self.known_files:
                self.known_files.add(path)
                record = json.loads(path.read_text().splitlines()[0])
                self.known_notes.update(note["kind"] for note in record["source"].get("notes", ()))
        return self.known_notes.copy()

    def look(self):
        return look(self.files(plain=False))

    # Edits

    def text(self, lines, is_framed=None):
        is_framed, texts = self.is_framed if is_framed is None else is_framed, []
        for _ in range(lines):
            pad = FRAME if is_framed else "x" * self.chance.choice([0, 3, 40, 400])
            event = {"timestamp": 1767225600000, "user_id": self.next_line, "region": "eu", "amount": 1.5, "sku": pad}
            texts.append(json.dumps({"agent": FRAME, **event} if is_framed else event) + "\n")
            self.next_line += 1
        return "".join(texts).encode()

    def visible(self):
        """Returns a line, or nothing, before which what is written in place does not look as what was there at both ends."""
        return self.text(1, is_framed=False) if self.is_framed else b""

    def some(self):
        return self.text(self.chance.choice([1, 2, 2, 5] if self.is_framed else [1, 2, 5, 60]))

    def fresh(self, path):
        self.next_name += 1
        return path.with_name(f"{path.name}.{self.next_name}")

    def complete(self, path):
        """Ends a half line: whatever is done to the file next finds whole lines."""
        if path.stat().st_ino in self.torn:
            self.part(path)
            append(path, self.torn.pop(path.stat().st_ino))

    def part(self, path):
        """Is to be called before a file gets lines of its own. If it and its copy do before anybody looks, they cannot be told from two files that only
        begin alike."""
        if path.stat().st_ino in self.twins:
            self.let_look()
        if path.stat().st_ino in self.parts:
            self.parts.remove(path.stat().st_ino)
            self.unread.add(path.stat().st_ino)

    def looked(self):
        """Takes up that Pintail has looked at all files."""
        self.twins.clear()
        self.unread.clear()
        self.cuts.clear()
        # What counts is what was read: whole lines.
        read = lambda path: content_of(path).rfind(b"\n") + 1
        self.long = {path.stat().st_ino: path.read_bytes() for path in self.files() if min(path.stat().st_size, read(path)) >= LONG_BYTES}

    def may_be_part(self, path):
        """Is to be called where a file of which nothing is known may be a part of another. Below a KiB it cannot be told from a file that only begins so:
        it is read as new once it has lines of its own, or the other one is gone."""
        content = path.read_bytes()
        others = (content_of(other) for other in self.files(plain=False))
        if 0 < len(content) < LONG_BYTES and any(len(other) > len(content) and other.startswith(content) for other in others):
            self.parts.add(path.stat().st_ino)

    def place(self, path, target):
        """Copies a file. What is not known of it is not known of the copy, either."""
        unknown = [inodes for inodes in (self.parts, self.twins) if path.stat().st_ino in inodes]
        place(path, target)
        for inodes in unknown:
            inodes.add(target.stat().st_ino)

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
            self.begin(path)
        else:
            getattr(self, name)(path)
        self.done.append(name)
        self.story.append(f"{name} {path.name}")

    def begin(self, path):
        path.write_bytes(self.some())
        self.unread.add(path.stat().st_ino)

    def append(self, path):
        self.part(path)
        append(path, self.some())

    def append_half(self, path):
        self.part(path)
        text = self.some()
        cut = self.chance.randrange(1, len(text))
        append(path, text[:cut])
        self.torn[path.stat().st_ino] = text[cut:]

    def rename(self, path):
        path.rename(self.fresh(path))

    def link(self, path):
        if self.is_framed:
            # Which of its names was replaced by a file that begins alike is for nobody to tell.
            return self.rename(path)
        os.link(path, self.fresh(path))

    def copy(self, path):
        copy = self.fresh(path)
        self.place(path, copy)
        if copy.stat().st_ino in self.parts:
            self.excused.update(self.lines_of(copy))
        self.twins |= {path.stat().st_ino, copy.stat().st_ino}

    def grown_copy(self, path):
        self.part(path)
        copy = self.fresh(path)
        place_grown(path, copy, self.some())
        self.twins |= {path.stat().st_ino, copy.stat().st_ino}
        if path.stat().st_ino in self.unread:
            self.may_be_part(path)
            self.excused.update(self.lines_of(path) if path.stat().st_ino in self.parts else ())

    def compress(self, path):
        compressed(path, self.chance)
        path.unlink()

    def restore(self, path):
        self.place(path, path)

    def save(self, path):
        """As an editor does: another file with more in it takes the name."""
        self.part(path)
        place_grown(path, path, self.some())

    def rotate(self, path):
        path.rename(self.fresh(path))
        self.begin(path)

    def rotate_and_compress(self, path):
        rotated = self.fresh(path)
        path.rename(rotated)
        self.begin(path)
        compressed(rotated, self.chance)
        rotated.unlink()

    def copytruncate(self, path):
        self.place(path, self.fresh(path))
        path.write_bytes(b"")
        append(path, self.visible() + self.some())
        self.parts.discard(path.stat().st_ino)
        self.unread.add(path.stat().st_ino)

    def away_and_back(self, path):
        away = self.directory / "away" / path.name
        place(path, away)
        is_part = path.stat().st_ino in self.parts
        path.unlink()
        shutil.copy2(away, path.with_name("." + path.name))
        path.with_name("." + path.name).rename(path)
        if is_part:
            self.parts.add(path.stat().st_ino)

    def swap(self, path):
        if (other := self.other(path)) is None:
            return self.append(path)
        hidden = path.with_name("." + path.name)
        path.rename(hidden)
        other.rename(path)
        hidden.rename(other)

    def swap_copies(self, path):
        """Puts copies of two files in each other's place. One that has lines of the other looks as that one, edited."""
        if (other := self.other(path)) is None or set(self.lines_of(path)) & set(self.lines_of(other)):
            return self.append(path)
        # While the only copy has a name that does not match, a file in its place that begins and ends alike is that one, edited.
        spare = self.fresh(path) if self.is_framed else path.with_name("." + path.name)
        place(path, spare)
        place(other, path)
        spare.rename(other)
        self.twins |= {path.stat().st_ino, other.stat().st_ino}

    def is_long(self, path):
        # An inode is soon taken by another file.
        was = self.long.get(path.stat().st_ino)
        return was is not None and path.read_bytes().startswith(was)

    def other(self, path):
        """Returns another file, if of both enough was read for them to be known under any name."""
        others = [other for other in self.files() if not other.samefile(path) and self.is_long(other)] if self.is_long(path) else []
        if other := self.chance.choice(others) if others else None:
            self.complete(other)
        return other

    def cut_beside_copy(self, path):
        lines = path.read_bytes().splitlines(keepends=True)
        kept = b"".join(lines[:self.chance.randrange(len(lines))] if lines else [])
        if len(kept) < LONG_BYTES:
            return self.append(path)
        self.part(path)
        self.cuts.append(path.read_bytes())
        self.copy(path)
        os.truncate(path, len(kept))

    def truncate(self, path):
        lines = path.read_bytes().splitlines(keepends=True)
        self.rewritten(path, b"".join(lines[:self.chance.randrange(len(lines))] if lines else []) + self.visible())

    def rewrite(self, path):
        self.rewritten(path, self.visible() + self.some() + self.some())

    def rewrite_behind(self, path):
        lines = path.read_bytes().splitlines(keepends=True)
        self.rewritten(path, b"".join(lines[:len(lines) // 2]) + self.visible() + self.some() + self.some())

    def rewritten(self, path, content):
        if is_hidden(path.read_bytes(), content):
            content = self.text(1, is_framed=False) + content
        path.write_bytes(content)
        self.lossy(path)

    def delete(self, path):
        path.unlink()

    def replace(self, path):
        self.put(path, self.some())

    def edit_and_save(self, path):
        """As an editor does: another file takes the name, with a line more, or less, or another one, somewhere."""
        lines = path.read_bytes().splitlines(keepends=True)
        at = self.chance.randrange(len(lines) + 1)
        content = b"".join(lines[:at] + self.chance.choice([[], [self.text(1)]]) + lines[at + self.chance.choice([0, 1]):])
        self.put(path, content)

    def put(self, path, content):
        hidden = path.with_name("." + path.name)
        hidden.write_bytes(content)
        hidden.rename(path)
        self.lossy(path)

    def excuse_cuts(self, gone):
        """A file that was cut beside a copy is one that was truncated, if the copy went before anybody looked: what is left of it is read anew."""
        cut = [content for content in self.cuts if any(file.whole.startswith(content) for file in gone)]
        for path in self.files(plain=False):
            if any(content.startswith(content_of(path)) for content in cut):
                self.excused.update(self.lines_of(path))

    def lossy(self, path):
        self.may_gap = True
        self.excused.update(self.lines_of(path))
        self.parts.discard(path.stat().st_ino)
        self.may_be_part(path)

    # Runs

    def pintail(self, follow):
        config = {
            "pipeline.out_path": "out", "pipeline.checkpoint_interval": "100ms", "source.type": "file", "source.path": f"{self.input}/*",
            "source.follow": follow, "source.on_gap": "record", "source.poll_interval": "20ms", "transform.threads": 1, "sink.threads": 1,
            "sink.partition_by": [], "log.format": "json",
        }
        return Pintail(self.binary, config, self.directory)

    def run(self, edits):
        """Runs it; with edits, while it follows. Whatever must not be so is an error."""
        follow = bool(edits) or bool(self.torn) or not self.files(plain=False) or self.chance.random() < 0.6
        before = self.notes()
        gaps, vanished = lost(self.read, self.look())
        self.story.append(f"a run, {follow=}, before which was lost {[*map(str, gaps)]}, and vanished {[*map(str, vanished)]}")
        self.may_gap |= bool(gaps)
        self.excuse_cuts(gaps + vanished)
        due = before + collections.Counter(gap=len(gaps), vanished=len(gaps) + len(vanished))
        with self.pintail(follow) as pintail:
            if follow:
                self.settle(pintail)
                between_runs, self.let_look = self.let_look, lambda: self.wait_for_look(pintail)
                for name in edits:
                    self.edit_under(name, pintail)
                    time.sleep(self.chance.choice([0, 0.01, 0.03, 0.1]))
                self.let_look = between_runs
                self.settle(pintail)
                self.wait_for(due, pintail)
                # What comes too much comes late.
                self.wait_for_look(pintail)
                kill = self.chance.random() < 0.2
                pintail.signal(signal.SIGKILL if kill else signal.SIGTERM)
                code = pintail.wait()
                if code != (-9 if kill else 0):
                    raise Broken(f"it ended with {code}:\n{pintail.stderr()[-3000:]}")
            elif code := pintail.wait(SETTLE_SECONDS):
                raise Broken(f"it ended with {code}:\n{pintail.stderr()[-3000:]}")
        self.check(before, due)
        # A file that was deleted under it is held open for a while: the next start says that it is gone, if this run did not.
        over = {kind: self.notes()[kind] - due[kind] for kind in ("gap", "vanished")}
        said = max(0, over["vanished"] - over["gap"])
        self.read, self.gone = self.look() + self.gone[said:], []
        self.looked()
        if not follow:
            # A part is taken for a copy at once.
            self.parts.clear()

    def edit_under(self, name, pintail):
        """Edits while it runs. What was not yet seen may be lost by what is lossy, and nobody could tell; a gap is waited for."""
        if name not in LOSSY:
            return self.edit(name)
        # The edit completes a half line first: if nobody looks before the rest of it, whether that was read is a matter of luck.
        for path in self.files():
            self.complete(path)
        self.wait_for_look(pintail)
        due, before = self.notes(), self.look()
        self.edit(name)
        gaps, vanished = lost(before, self.look())
        due["gap"] += len(gaps)
        self.wait_for(due, pintail)
        self.gone += vanished

    def settle(self, pintail):
        """Waits until all that lies there is in the output."""
        self.wait_until(lambda: not self.there() - set(self.rows()), pintail, lambda: f"lines are not read: {sorted(self.there() - set(self.rows()))[:5]}")

    def wait_for_look(self, pintail):
        """Waits until Pintail has looked at the files, which it does every 20 ms: its thread sleeps before each look."""
        self.settle(pintail)
        slept = sleeps(pintail.pid)
        time.sleep(0.3)
        self.wait_until(lambda: sleeps(pintail.pid) >= slept + LOOKS, pintail, lambda: "it looks at no files")
        self.looked()

    def wait_for(self, due, pintail):
        """Waits until what is due is noted."""
        self.wait_until(lambda: not due - self.notes(), pintail, lambda: f"not reported: {dict(due - self.notes())}")

    def wait_until(self, condition, pintail, what):
        end = time.monotonic() + SETTLE_SECONDS
        while not condition():
            if not pintail.is_running():
                raise Broken(f"it ended:\n{pintail.stderr()[-3000:]}")
            if time.monotonic() > end:
                raise Broken(f"{what()}\n{pintail.stderr()[-3000:]}")
            time.sleep(0.03)

    def check(self, before, due):
        rows, notes = self.rows(), self.notes()
        if missing := self.there() - set(rows):
            raise Broken(f"{len(missing)} lines that lie there are not in the output, first {min(missing)}")
        if twice := {line for line, times in rows.items() if times > 1 + self.excused[line]}:
            raise Broken(f"{len(twice)} lines are there too often, first {min(twice)}")
        if strangers := {line for line in rows if line >= self.next_line}:
            raise Broken(f"lines that nobody wrote: {sorted(strangers)[:5]}")
        if silent := due - notes:
            raise Broken(f"something was lost, and not reported: {dict(silent)}")
        if not self.may_gap and (gaps := notes["gap"] - before["gap"]):
            raise Broken(f"{gaps} gaps are reported, and nothing was lost")
        self.may_gap = False


LOSSLESS = ["append"] * 4 + ["append_half", "append_half", "create", "rename", "rename", "link", "copy", "grown_copy", "compress", "compress", "restore",
                             "save", "rotate", "rotate", "rotate_and_compress", "copytruncate", "away_and_back",
                             "swap", "swap_copies", "cut_beside_copy"]
LOSSY = ["truncate", "rewrite", "rewrite_behind", "delete", "replace", "edit_and_save"]


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
            return [f"world {worlds}: {error}\nafter {'; '.join(world.story[-20:])}"]
        made.update(world.done)
        worlds += 1
        notes = ", ".join(f"{kind} {count}" for kind, count in sorted(world.notes().items()))
        print(f"world {worlds}: {len(world.done)} edits, {world.next_line - FIRST_LINE} lines{', framed' if world.is_framed else ''}, {time.monotonic() - begin:.0f} s; noted: {notes}", flush=True)
        shutil.rmtree(world.directory)
    print(f"\n{sum(made.values())} edits: " + ", ".join(f"{name} {count}" for name, count in made.most_common()))
    return []


def live(world, edits):
    while len(world.done) < edits:
        # A gap is reported where something is lost, and nowhere else: each run is before or after, and of one kind.
        kinds = LOSSLESS if world.chance.random() < 0.7 else LOSSLESS + LOSSY * 2
        between = [world.chance.choice(kinds) for _ in range(world.chance.randrange(0, 9))]
        for name in between:
            world.edit(name)
        world.run([])
        world.run([world.chance.choice(kinds) for _ in range(world.chance.randrange(2, 13))])


def arguments(doc, edits):
    """Reads what edits of files are proved with; `edits` is how many, unless that is said."""
    parser = job.parser(doc)
    add = parser.add_argument
    add("--edits", type=int, metavar="N", default=edits, help="how many (%(default)s)")
    add("--keep", type=Path, metavar="DIR", help="where a world that failed is kept")
    if (options := job.parse(parser)).edits < 1:
        parser.error("it takes at least one edit")
    return options


if __name__ == "__main__":
    options = arguments(__doc__, 120)
    print(f"edits: --edits {options.edits} --seed {options.seed}\n", flush=True)
    job.conclude(prove, options, "edits")
