"""One dataset of a proof, from its first start to the comparison of all its rows.

Owns: its directory, its settings, its undisturbed end.
Does not own: what is done to it in between.
"""
import random
import shutil
import threading

import oracle
from process import Pintail
from reference import Reference

MULTIPLE = 100_000
"""A dataset ends at a multiple of so many events."""


class Trials:
    """Makes datasets of the same simulated events, also for several threads."""

    def __init__(self, binary, work, seed):
        self.binary, self.work, self.moments, self.made = binary, work, random.Random(seed), 0
        self.events = {"source.type": "simulator", "source.start_time": "2026-01-01T00:00:00Z", "source.seed": seed}
        self.reference, self.lock = Reference(binary, work, self.events), threading.Lock()

    def new(self, directory=None, **settings):
        with self.lock:
            self.made += 1
            directory = directory or self.work / f"trial-{self.made}"
        return Trial(self, directory, {key.replace("__", "."): value for key, value in settings.items()})


class Trial:
    def __init__(self, trials, directory, settings):
        self.trials, self.directory = trials, directory
        self.settings = trials.events | {"pipeline.out_path": "out"} | settings
        directory.mkdir(parents=True, exist_ok=True)
        self.dataset = oracle.Dataset(directory / "out")

    def pintail(self, settings=None, **how):
        """Returns a run to be; `how` is what `process.Pintail` takes."""
        return Pintail(self.trials.binary, self.settings | (settings or {}), self.directory, **how)

    def finish(self):
        """Completes the dataset without disturbance and compares all of it; returns the number of events."""
        end = (self.dataset.next_offset() // MULTIPLE + 1) * MULTIPLE
        self.pintail({"source.rate": 0, "source.limit": end}).run(timeout=600)
        self.dataset.check()
        with self.trials.lock:
            expected = self.trials.reference.sums(0, end)[:2]
        found = self.dataset.sums()
        if found != expected:
            raise oracle.Broken(f"the dataset has {found}, the events 0 to {end} are {expected}")
        self.remove()
        return end

    def remove(self):
        shutil.rmtree(self.directory / "out")
