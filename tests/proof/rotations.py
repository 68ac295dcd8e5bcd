#!/usr/bin/env python3
"""Lets the real logrotate rotate a file that Pintail reads under a glob that matches all names.

    python3 tests/proof/rotations.py                          each way of rotating, 6 rotations: half a minute
    python3 tests/proof/rotations.py --rotations 100

Renamed and made anew, copied and truncated (while the writer pauses), compressed at once and a rotation later, named by date, moved to another
directory; while Pintail follows, and between its runs. Each line is in the output exactly once, and no gap is reported.

Owns: logrotate's configurations, the writer, what may not be so afterwards.
Does not own: other edits, and counting rows (see edits.py).
"""
import interpreter  # noqa: F401  first: it may start this command again under another Python

import collections
import os
import random
import shutil
import signal
import subprocess
import time

import job
from edits import FIRST_LINE, World, append
from oracle import Broken
from process import Pintail, Unexpected

WAYS = {
    "create": "create",
    "copytruncate": "copytruncate",
    "compress": "create\ncompress",
    "delaycompress": "create\ncompress\ndelaycompress",
    "copytruncate, compress": "copytruncate\ncompress",
    "dateext": "create\ndateext\ndateformat -%Y%m%d-%s",
    "olddir": "create\nolddir old",
}


class Rotations(World):
    """A log and what is rotated of it."""

    # copytruncate writes in place: what then looks the same at both ends is the same for whoever reads it.
    may_be_framed = False

    def __init__(self, binary, directory, chance, way):
        super().__init__(binary, directory, chance)
        self.log = self.input / "app.log"
        self.patterns = [f"{self.input}/*"] + [f"{self.input}/old/*"] * (way == "olddir")
        self.by_second, self.rotated_at = way == "dateext", 0
        (self.input / "old").mkdir()
        self.log.write_bytes(self.some())
        self.rules = directory / "logrotate.conf"
        self.rules.write_text(f"{self.log} {{\nrotate 1000\nmissingok\nnotifempty\n{WAYS[way]}\n}}\n")
        # logrotate refuses rules that others may write, and directories as well.
        self.rules.chmod(0o644)
        for path in (self.input, self.input / "old"):
            path.chmod(0o755)

    def files(self, plain=True):
        paths = sorted(path for path in self.input.rglob("*") if path.is_file())
        return [path for path in paths if not plain or path.suffix != ".gz"]

    def pintail(self, follow):
        config = {
            "pipeline.out_path": "out", "pipeline.checkpoint_interval": "100ms", "source.type": "file",
            "source.path": self.patterns, "source.follow": follow, "source.poll_interval": "20ms",
            "transform.threads": 1, "sink.threads": 1, "sink.partition_by": [], "log.format": "json",
        }
        return Pintail(self.binary, config, self.directory)

    def rotate(self):
        # A name by the second is taken once; the clock that logrotate reads lags a few milliseconds behind.
        while self.by_second and int(time.time() - 0.05) <= self.rotated_at:
            time.sleep(0.02)
        command = ["logrotate", "--force", "--state", self.directory / "state", self.rules]
        ended = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PATH": os.environ["PATH"] + ":/usr/sbin"})
        if ended.returncode:
            raise Broken(f"logrotate ended with {ended.returncode}: {ended.stderr}")
        self.rotated_at = int(time.time())
        append(self.log, self.some())

    def follow(self, rotations):
        with self.pintail(True) as pintail:
            self.settle(pintail)
            for _ in range(rotations):
                append(self.log, self.some())
                # What is truncated must have been read, or nothing could tell that it is not lost.
                self.settle(pintail)
                self.rotate()
                time.sleep(self.chance.choice([0, 0.05]))
            self.settle(pintail)
            time.sleep(0.2)
            pintail.signal(signal.SIGTERM)
            if code := pintail.wait():
                raise Broken(f"it ended with {code}:\n{pintail.stderr()[-3000:]}")

    def rotate_at_rest(self, follow):
        append(self.log, self.some())
        self.rotate()
        if follow:
            return self.follow(0)
        with self.pintail(False) as pintail:
            if code := pintail.wait():
                raise Broken(f"it ended with {code}:\n{pintail.stderr()[-3000:]}")


def prove(options, work):
    chance = random.Random(options.seed)
    failed = []
    for way in WAYS:
        world = Rotations(options.pintail, work / way.replace(", ", "-"), chance, way)
        begin = time.monotonic()
        done = 0
        try:
            while done < options.rotations:
                while_followed = chance.randrange(1, 4)
                world.follow(while_followed)
                world.rotate_at_rest(chance.random() < 0.5)
                done += while_followed + 1
                world.check(world.notes(), collections.Counter())
                if set(world.rows()) != set(range(FIRST_LINE, world.next_line)):
                    raise Broken("not every line that was written is in the output")
        except (Broken, Unexpected) as error:
            failed.append(f"{way}, after {done} rotations: {error}")
        print(f"{way:24} {done:4} rotations, {world.next_line - FIRST_LINE} lines, {time.monotonic() - begin:.0f} s", flush=True)
        shutil.rmtree(world.directory)
    return failed


def arguments():
    parser = job.parser(__doc__)
    parser.add_argument("--rotations", type=int, metavar="N", default=6, help="how many at least, each way (%(default)s)")
    return job.parse(parser)


if __name__ == "__main__":
    options = arguments()
    print(f"rotations: --rotations {options.rotations} --seed {options.seed}\n", flush=True)
    job.conclude(prove, options, "rotations")
