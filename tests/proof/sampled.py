"""The binary, and how much memory and how many descriptors it takes.

Owns: looking at both while it runs, and their peaks.
Does not own: what is too much (see small.py, victim.py).
"""
import os
import re
import threading
import time
from contextlib import suppress
from pathlib import Path

from process import Pintail

SAMPLE_SECONDS = 0.02


class Sampled(Pintail):
    """One run that is looked at. `peak` is the greatest resident memory in bytes and the greatest number of descriptors."""

    def __init__(self, binary, config, cwd, **how):
        self.peak = [0, 0]
        super().__init__(binary, config, cwd, **how)

    def start(self):
        super().start()
        self.sampler = threading.Thread(target=self.sample, daemon=True)
        self.sampler.start()
        return self

    def sample(self):
        with suppress(Exception):
            self.find()
            while self.child.poll() is None:
                memory = re.search(r"^VmHWM:\s*(\d+) kB", Path(f"/proc/{self.pid}/status").read_text(), re.MULTILINE)
                self.peak = [max(self.peak[0], int(memory[1]) * 1024 if memory else 0), max(self.peak[1], self.descriptors())]
                time.sleep(SAMPLE_SECONDS)

    def descriptors(self):
        """Returns how many descriptors it has open at this moment."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def wait(self, timeout=60):
        code = super().wait(timeout)
        self.sampler.join(5)
        return code
