"""A disk that forgets what was not made durable, as a file system that a power cut may hit at any operation.

    python3 tests/proof/forgetful.py DIRECTORY [LIE]    mounts one there; speaks JSON lines on its standard streams (see `Session`)

What a cut may leave is what the crash model allows, and nothing more (the header of crates/storage/tests/it/model.rs says it in full): a name becomes durable
by the fsync of its directory; until then each change of names has reached the disk or not, in any combination, but those of the same name keep
their order; a rename is one step. Bytes become durable by the fsync of their file; until then none of them, half, zeros or all are there.

Owns: both trees, what is pending between them, the choice of what a cut lets through, the moment of a cut.
Does not own: the kernel's requests (see fuse.py), whose process is killed, what must hold afterwards (see power.py).
"""
import errno
import json
import os
import random
import re
import select
import subprocess
import sys
import time
from pathlib import Path

import fuse

ROOT = 1
LEFT = ("none", "half", "zeros", "all")
"""What a cut may leave of bytes that are not durable."""


class File:
    def __init__(self, path):
        self.path, self.bytes, self.mtime = path, bytearray(), time.time_ns()
        self.same = 0
        """So many leading bytes are durable and unchanged."""
        self.kept = None
        """What is durable, if more than those."""

    def change_at(self, offset):
        if offset < self.same:
            self.kept = self.kept if self.kept is not None else bytes(self.bytes[:self.same])
            self.same = offset

    def sync(self):
        self.same, self.kept = len(self.bytes), None

    def is_torn(self):
        return self.kept is not None or len(self.bytes) > self.same

    def after_cut(self, left):
        """Makes it what a cut leaves of it."""
        same, half = self.same, self.same + (len(self.bytes) - self.same) // 2
        if left == "none":
            self.bytes = bytearray(self.kept if self.kept is not None else self.bytes[:same])
        elif left == "half":
            del self.bytes[half:]
        elif left == "zeros":
            self.bytes[same:] = bytes(len(self.bytes) - same)
        self.sync()


class Dir:
    def __init__(self, path=""):
        self.path, self.names, self.durable, self.mtime = path, {}, {}, time.time_ns()


class Change:
    """A change of names, whole or not at all: (directory, name) → node, or None for a name that is gone."""

    def __init__(self, *effects):
        self.effects = dict(effects)

    def needs(self, earlier):
        return not self.effects.keys().isdisjoint(earlier.effects)

    def apply(self, nodes, tree):
        for (directory, entry), node in self.effects.items():
            names = getattr(nodes[directory], tree)
            if node is None:
                names.pop(entry, None)
            else:
                names[entry] = node


class Disk:
    """`lie` matches the paths (those at which they were made, from the root on, such as `out/_pintail`) whose fsync does nothing."""

    def __init__(self, lie=None):
        self.nodes, self.next, self.pending, self.lie = {ROOT: Dir()}, ROOT + 1, [], lie and re.compile(lie)
        self.made = []
        """Names that came to be since this was last emptied."""

    # What the kernel asks for.

    def lookup(self, directory, entry):
        try:
            return self._dir(directory).names[entry]
        except KeyError:
            raise OSError(errno.ENOENT, entry) from None

    def attributes(self, node):
        """Returns whether it is a directory, its size, its time in nanoseconds, its number of links."""
        there = self.nodes[node]
        return isinstance(there, Dir), len(getattr(there, "bytes", b"")), there.mtime, 1

    def names(self, directory):
        return [(entry, node, isinstance(self.nodes[node], Dir)) for entry, node in self._dir(directory).names.items()]

    def read(self, file, offset, size):
        return bytes(self.nodes[file].bytes[offset:offset + size])

    def write(self, file, offset, data):
        there = self.nodes[file]
        there.change_at(offset)
        if len(there.bytes) < offset:
            there.bytes.extend(bytes(offset - len(there.bytes)))
        there.bytes[offset:offset + len(data)] = data
        there.mtime = time.time_ns()

    def truncate(self, file, size):
        there = self.nodes[file]
        there.change_at(size)
        del there.bytes[size:]
        there.bytes.extend(bytes(size - len(there.bytes)))

    def touch(self, node, nanos):
        self.nodes[node].mtime = nanos

    def make_file(self, directory, entry):
        return self._make(directory, entry, File(self._path(directory, entry)))

    def make_dir(self, directory, entry):
        return self._make(directory, entry, Dir(self._path(directory, entry)))

    def link(self, node, directory, entry):
        self._check_free(directory, entry)
        self._change(Change(((directory, entry), node)))
        return node

    def remove(self, directory, entry):
        self.lookup(directory, entry)
        self._change(Change(((directory, entry), None)))

    def remove_dir(self, directory, entry):
        if self._dir(self.lookup(directory, entry)).names:
            raise OSError(errno.ENOTEMPTY, entry)
        self._change(Change(((directory, entry), None)))

    def rename(self, directory, entry, target, new, replace):
        node = self.lookup(directory, entry)
        if not replace:
            self._check_free(target, new)
        if isinstance(self.nodes[node], Dir):
            # What a cut may leave of one that has moved is not in the crash model, and Pintail moves none.
            raise OSError(errno.EPERM, "rename of a directory")
        self._change(Change(((directory, entry), None), ((target, new), node)))

    def sync(self, node):
        there = self.nodes[node]
        if self.lie and self.lie.search(there.path):
            return
        if isinstance(there, File):
            there.sync()
        else:
            reached = self._with_needed([any(directory == node for directory, _ in change.effects) for change in self.pending])
            self._reach(reached)

    # What a cut leaves.

    def cut(self, moments):
        """Makes the disk one that a power cut may leave. Returns what was pending and how much of it got through."""
        pending, reached = len(self.pending), self._without_baseless(self._draw(moments))
        self._reach(reached)
        self.pending = []
        kept = {}
        self._keep(ROOT, kept)
        torn = sorted(node for node, there in kept.items() if isinstance(there, File) and there.is_torn())
        # As often all of them the same way as each its own.
        alike = moments.choice((*LEFT, None, None, None, None))
        left = [alike or moments.choice(LEFT) for _ in torn]
        for node, choice in zip(torn, left):
            kept[node].after_cut(choice)
        for there in kept.values():
            if isinstance(there, File):
                there.sync()
            else:
                there.names = dict(there.durable)
        self.nodes = kept
        return {"pending": pending, "reached": sum(reached), "torn": {choice: left.count(choice) for choice in LEFT if choice in left}}

    def _draw(self, moments):
        """Draws which pending changes reach the disk: all, none, all but one, one alone, or each with a probability."""
        count = len(self.pending)
        kind = moments.choice(("all", "none", "all but one", "one", "first", "some", "some"))
        at, share = moments.randrange(count + 1), moments.choice((0.2, 0.5, 0.8, 0.95))
        draws = [moments.random() < share for _ in range(count)]
        if kind == "one":
            return self._with_needed([index == at for index in range(count)])
        return {"all": [True] * count, "none": [False] * count, "all but one": [index != at for index in range(count)],
                "first": [index < at for index in range(count)], "some": draws}[kind]

    def _with_needed(self, reached):
        """Adds what is needed by something in it."""
        wanted = set()
        for index in reversed(range(len(reached))):
            effects = self.pending[index].effects.keys()
            reached[index] = reached[index] or not wanted.isdisjoint(effects)
            if reached[index]:
                wanted |= effects
        return reached

    def _without_baseless(self, reached):
        """Takes away what lacks something that it needs."""
        lacking = set()
        for index, change in enumerate(self.pending):
            reached[index] = reached[index] and lacking.isdisjoint(change.effects)
            if not reached[index]:
                lacking |= change.effects.keys()
        return reached

    def _reach(self, reached):
        for change, through in zip(self.pending, reached):
            if through:
                change.apply(self.nodes, "durable")
        self.pending = [change for change, through in zip(self.pending, reached) if not through]

    def _keep(self, node, kept):
        kept[node] = self.nodes[node]
        if isinstance(kept[node], Dir):
            for inner in kept[node].durable.values():
                self._keep(inner, kept)

    def _dir(self, node):
        there = self.nodes[node]
        if not isinstance(there, Dir):
            raise OSError(errno.ENOTDIR, str(node))
        return there

    def _path(self, directory, entry):
        return f"{self._dir(directory).path}/{entry}".lstrip("/")

    def _check_free(self, directory, entry):
        if entry in self._dir(directory).names:
            raise OSError(errno.EEXIST, entry)

    def _make(self, directory, entry, node):
        self._check_free(directory, entry)
        number, self.next = self.next, self.next + 1
        self.nodes[number] = node
        self._change(Change(((directory, entry), number)))
        return number

    def _change(self, change):
        change.apply(self.nodes, "names")
        self.pending.append(change)
        for (directory, entry), node in change.effects.items():
            self.nodes[directory].mtime = time.time_ns()
            if node is not None:
                self.made.append(entry)


class Session:
    """Serves the disk, and takes commands, one JSON object a line:

    {"arm": n, "name": pattern, "times": k}     cut the power at the n-th change after the k-th new name that matches; says {"cut": ...} when it has
    {"cut": true}                               cut it now, if it has not been
    {"mount": seed, "links": bool}              forget, if there was a cut, as the seed chooses; be mounted again; says what was forgotten

    From a cut on nothing is answered: the process that uses the disk waits for ever, and must be killed before `mount`.
    """

    def __init__(self, path, lie=None):
        self.path, self.disk = path, Disk(lie)
        self.mount = fuse.Mount(path, self.disk)
        self.changes = self.count = self.times = 0
        self.pattern, self.is_cut = None, False

    def serve(self):
        say({"mounted": True})
        commands = ""
        while True:
            waiting = [sys.stdin.fileno()] + ([] if self.is_cut else [self.mount.fd])
            ready, _, _ = select.select(waiting, [], [])
            if sys.stdin.fileno() in ready:
                read = os.read(sys.stdin.fileno(), 65536)
                if not read:
                    return self.mount.end()
                *lines, commands = (commands + read.decode()).split("\n")
                for line in lines:
                    self.obey(json.loads(line))
            elif self.mount.fd in ready and not self.is_cut:
                self.serve_one()

    def serve_one(self):
        request = self.mount.take()
        if request is None:
            return
        if request[0] in fuse.CHANGING and self.hits():
            self.is_cut = True
            say({"cut": self.changes})
            return
        self.mount.answer(request)

    def hits(self):
        """Returns whether the change that was just made is the last one."""
        self.changes += 1
        made, self.disk.made = self.disk.made, []
        if self.count and not self.times:
            self.count -= 1
            return not self.count
        if self.pattern:
            self.times = max(0, self.times - sum(bool(self.pattern.search(entry)) for entry in made))
        return False

    def obey(self, command):
        if "arm" in command:
            self.count, self.times, self.pattern = command["arm"], command["times"], re.compile(command["name"])
        elif "cut" in command:
            if not self.is_cut:
                say({"cut": self.changes})
            self.is_cut = True
        elif "mount" in command:
            self.mount.end()
            left = self.disk.cut(random.Random(command["mount"])) if self.is_cut else {}
            self.changes, self.count, self.is_cut = 0, 0, False
            self.mount = fuse.Mount(self.path, self.disk, command["links"])
            say(left)


class Power:
    """A forgetful disk in a process of its own, mounted at `path`. A context: unmounted at its end."""

    def __init__(self, path, lie=None):
        self.path, self.lie, self.heard = Path(path), lie, b""

    def __enter__(self):
        self.path.mkdir(parents=True)
        command = [sys.executable, __file__, self.path, *([self.lie] if self.lie else [])]
        self.child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        self.hear(10)
        return self

    def __exit__(self, *_):
        self.child.stdin.close()
        self.child.wait(10)
        self.child.stdout.close()

    def arm(self, changes, name="", times=0):
        """Cuts the power at so many changes from now, or after the name that matches has been made so many times."""
        self.say(arm=changes, name=name, times=times)

    def is_cut(self, seconds):
        """Waits for a cut. Returns whether there was one."""
        return self.hear(seconds) is not None

    def cut(self):
        """Cuts the power now, unless it is cut."""
        self.say(cut=True)

    def renew(self, seed, links=False):
        """Forgets, and mounts what is left. Returns what was forgotten. Whoever used the disk must have been killed."""
        self.say(mount=seed, links=links)
        while True:
            # That of a cut comes before it, unless it has been heard.
            heard = self.hear(30)
            if heard is None:
                raise OSError(f"the disk at {self.path} does not answer")
            if "cut" not in heard:
                return heard

    def say(self, **command):
        self.child.stdin.write(json.dumps(command).encode() + b"\n")

    def hear(self, seconds):
        """Returns what it says next; None if it says nothing for so long."""
        end = time.monotonic() + seconds
        while b"\n" not in self.heard:
            ready, _, _ = select.select([self.child.stdout], [], [], max(0, end - time.monotonic()))
            if not ready:
                return None
            read = os.read(self.child.stdout.fileno(), 65536)
            if not read:
                raise OSError(f"the disk at {self.path} has gone: {self.child.wait(10)}")
            self.heard += read
        line, _, self.heard = self.heard.partition(b"\n")
        return json.loads(line)


def say(message):
    print(json.dumps(message), flush=True)


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__.partition("\n\nWhat")[0])
    Session(sys.argv[1], *sys.argv[2:]).serve()


if __name__ == "__main__":
    main()
