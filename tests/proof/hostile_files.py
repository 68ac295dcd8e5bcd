"""Hostile files, each in a directory among good ones: read once, or followed.

Owns: making what lies there, and the comparison: good files are there once, whatever lies beside them; what cannot be read is named and waits.
Does not own: what lies there (see hostile_inputs/files.py), the process (see victim.py).
"""
import os
import socket
import time
from itertools import count

from hostile_inputs.files import lines, text_of
from victim import WAIT_SECONDS, Victim

COLUMNS = [{"name": "id", "type": "int64", "required": True}, {"name": "kind", "type": "text"}, {"name": "text", "type": "text"}]
SETTINGS = {
    "source.type": "file", "schema.columns": COLUMNS, "transform.sql": "SELECT id, kind, text FROM events", "monitor.group_by": "kind",
    "monitor.value": "id",
}
FOLLOWED = {
    "source.follow": True, "source.poll_interval": "50ms", "source.on_gap": "record", "source.path": "in/**/*", "admin.listen": "127.0.0.1:0",
    "admin.query": True,
}
WAITING = 74
"""Exit code of a run that could not read everything (docs/commands.md: I/O)."""
NAMED = 10
"""Files that wait which the log names in a second; it counts further ones."""
GOOD_LINES = 5
OLD_SECONDS = 3_600
FILES_OPEN = 200
"""Followed files that may still be open at the end."""


class Good:
    """The good files, and the ids of their records."""

    def __init__(self):
        self.ids, self.next = [], count(1)

    def lines(self, number=GOOD_LINES):
        ids = [next(self.next) for _ in range(number)]
        self.ids += ids
        return lines(ids)


def run(options, directory, inputs):
    """Lays these inputs and good files around each; reads all of it once. Returns the victim, with what does not hold."""
    good, work = Good(), [input.content for input in inputs]
    victim = Victim(options.pintail, directory, SETTINGS | {"source.path": work[0].path})
    for place, tree in places(directory, work):
        make(place, ("file", "a-good.ndjson", good.lines()))
        for entry in tree.entries:
            make(place, entry)
        make(place, ("file", "z-good.ndjson", good.lines()))
    waiting = [tree for tree in work if tree.waits]
    read(victim, WAITING if waiting else 0, good, inputs, [tree for tree in work if not tree.waits])
    for place, tree in places(directory, work):
        if tree.mended:
            make(place, ("file", tree.entries[0][1], tree.mended))
        elif tree.waits:
            for _, name, _ in tree.entries:
                os.unlink(place / name)
    if waiting:
        read(victim, 0, good, inputs, work)
    victim.check_at_rest()
    victim.check_restart()
    return victim


def read(victim, code, good, inputs, complete):
    """Reads what is there. The good files are committed then, and what is complete, and what waits is named."""
    process = victim.read(code)
    check_good(victim, good)
    for tree in complete:
        victim.check_once(tree.ids, f"records of {told(tree)}")
    rows, expected = victim.rows("id").total(), len(good.ids) + sum(len(tree.ids) for tree in complete)
    if not code and rows != expected:
        victim.faults.append(f"{rows} rows are there, not {expected}")
    if code:
        named = {message["path"] for message in process.messages() if message["level"] == "WARN" and "path" in message}
        silent = [input for number, input in enumerate(inputs) if input.content.waits and f"in/{number}/{input.content.entries[0][1]}" not in named]
        if silent and len(named) < NAMED:
            victim.faults += [f"{input.kind}: {told(input.content)} is not named" for input in silent]
    letters = sum(tree.letters for tree in complete)
    if len(victim.letters()) != letters:
        victim.faults.append(f"{len(victim.letters())} dead letters, not {letters}; the first: {str(victim.letters()[:1])[:300]}")


def follow(options, directory, inputs):
    """Does what these inputs say to a directory that is followed. Returns the victim, with what does not hold."""
    good, shown = Good(), directory / "in"
    victim = Victim(options.pintail, directory, SETTINGS | FOLLOWED)
    shown.mkdir(parents=True)
    with victim.serve(spare=FILES_OPEN) as service:
        for place, tree in places(directory, [input.content for input in inputs]):
            for entry in (*tree.entries, *tree.steps):
                time.sleep(entry) if isinstance(entry, float) else make(place, entry, old=False)
            append_good(victim, service, shown / "good.ndjson", good)
            if tree.waits:
                name = tree.entries[0][1]
                service.process.wait_until(lambda: name in service.readiness(), f"`{name}` in /readyz", WAIT_SECONDS)
                make(place, ("file", name, tree.mended)) if tree.mended else os.unlink(place / name)
            service.process.wait_until(lambda: not service.not_ready(), f"readiness behind {told(tree)}", WAIT_SECONDS)
            service.process.wait_until(lambda: all_there(victim, tree.ids), f"the records of {told(tree)}", WAIT_SECONDS)
    check_good(victim, good)
    for input in inputs:
        victim.check_once(input.content.ids, f"records of {told(input.content)}")
    victim.check_at_rest()
    victim.check_restart()
    return victim


def check_good(victim, good):
    """The good records are there once, and no row is another than the record with its id."""
    victim.check_once(good.ids, "good records")
    if wrong := [row for row in victim.rows("id, kind, text") if row != (row[0], "hostile", text_of(row[0]))]:
        victim.faults.append(f"{len(wrong)} rows have values that no record has: {wrong[:3]}")


def append_good(victim, service, path, good):
    """A good file that grows is read on, whatever happens beside it."""
    with open(path, "ab") as file:
        file.write(good.lines(1))
    service.process.wait_until(lambda: all_there(victim, good.ids[-1:]), "the next good record", WAIT_SECONDS)


def all_there(victim, ids):
    return not ids or {(id,) for id in ids} <= victim.rows("id").keys()


def places(directory, trees):
    """Gives each input a directory of its own."""
    for number, tree in enumerate(trees):
        place = directory / "in" / str(number)
        place.mkdir(parents=True, exist_ok=True)
        yield place, tree


def make(place, entry, old=True):
    """Does one thing in a directory. `old` gives a file a time in the past: it stands still."""
    what, name, argument = entry
    path = place / name
    match what:
        case "file" | "append":
            with open(path, "ab" if what == "append" else "wb") as file:
                file.write(argument)
        case "sparse":
            with open(path, "wb") as file:
                file.truncate(argument)
        case "truncate":
            os.truncate(path, argument)
        case "directory":
            path.mkdir(parents=True, exist_ok=True)
        case "fifo":
            os.mkfifo(path)
        case "socket":
            bind(place, name)
        case "device":
            os.mknod(path, 0o20600, os.makedev(*argument))
        case "symlink":
            os.symlink(argument, path)
        case "hardlink":
            os.link(place / argument, path)
        case "rename":
            os.rename(path, place / argument)
        case "remove":
            os.unlink(path)
        case "rmdir":
            os.rmdir(path)
    if old and what in ("file", "sparse"):
        past = time.time() - OLD_SECONDS
        os.utime(path, (past, past))


def bind(place, name):
    """Makes a socket. Its address may be short only, so it goes through a descriptor of the directory."""
    directory = os.open(place, os.O_RDONLY)
    try:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(f"/proc/self/fd/{directory}/{name}")
    finally:
        os.close(directory)


def told(tree):
    return str([entry if isinstance(entry, float) else (*entry[:2], str(entry[2])[:80]) for entry in (*tree.entries, *tree.steps)][:4])
